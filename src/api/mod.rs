//! The kinds of `imagehub.sealos.io/v1`: their fields, names, defaults and rules. Pure: no I/O, no
//! clock. Field names are those of the manifests that exist, misspelling included.

mod datapack;
pub mod decode;
mod image;
mod kind;
mod object;
mod organization;
mod repository;
pub mod schema;

pub use datapack::{DataPackSpec, DataPackStatus, Grain, PackEntry, code};
pub use image::{Action, DEFAULT_CREAT_TIME, ImageDetail, ImageSpec, ImageType};
pub use kind::Kind;
pub use object::{Object, Spec};
pub use organization::{OrganizationSpec, OrganizationStatus};
pub use repository::{RepositorySpec, RepositoryStatus, Tag};

/// The API group.
pub const GROUP: &str = "imagehub.sealos.io";
/// Its one version.
pub const VERSION: &str = "v1";
/// Group and version, as in `apiVersion`.
pub const API_VERSION: &str = "imagehub.sealos.io/v1";

/// Label with the organization's name, on Image and Repository.
pub const ORGANIZATION_LABEL: &str = "organization.imagehub.sealos.io";
/// Label with the repository's name (without its organization), on Image and Repository.
pub const REPOSITORY_LABEL: &str = "repository.imagehub.sealos.io";
/// Label with the tag, on Image.
pub const TAG_LABEL: &str = "tag.imagehub.sealos.io";
/// Prefix of a Repository's keyword labels, which have an empty value.
pub const KEYWORD_LABEL_PREFIX: &str = "keyword.imagehub.sealos.io/";
/// The keywords that become labels of a Repository, in the form that the label has.
pub const SUPPORTED_KEYWORDS: [&str; 11] = [
    "Kubernetes",
    "Storage",
    "Network",
    "Database",
    "Monitoring",
    "Logging",
    "Dashboard",
    "MQ",
    "Platform",
    "GPU",
    "GitOps",
];
