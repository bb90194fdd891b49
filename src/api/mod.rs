//! The kinds of `imagehub.sealos.io/v1`: their fields, names, defaults and rules. Pure: no I/O, no
//! clock. Field names are those of the manifests that exist, misspelling included.

mod datapack;
pub mod decode;
pub mod duration;
mod image;
mod kind;
pub mod name;
mod object;
mod organization;
mod quote;
mod repository;
pub mod schema;
pub mod selector;
pub mod spec_hash;
pub mod validate;

pub use datapack::{DataPackSpec, DataPackStatus, Grain, PackEntry, code};
pub use decode::{Conformed, FieldValidation, conform, into_object, unknown_fields_outcome};
pub use duration::{DurationError, GoDuration};
pub use image::{Action, DEFAULT_CREAT_TIME, ImageDetail, ImageSpec, ImageType};
pub use kind::Kind;
pub use name::{ImageName, NameError, RepositoryName, split_image_name, version_order};
pub use object::{Object, Spec};
pub use organization::{OrganizationSpec, OrganizationStatus};
pub use repository::{RepositorySpec, RepositoryStatus, Tag};
pub use selector::{FieldSelector, LabelSelector, Requirement, SelectorError};
pub use spec_hash::{
    ContentHash, DEFAULT_EXPIRE_TIME, PACK_NAME_DIGITS, PACK_NAME_PREFIX, SpecHash, SpecHashError,
    is_reserved_pack_name,
};
pub use validate::{default_spec, supported_keyword, validate_metadata, validate_spec, validate_update};

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

/// Property tests that are the same on every run and leave no files behind.
#[cfg(test)]
pub(crate) fn seeded() -> proptest::test_runner::Config {
    use proptest::test_runner::{Config, RngSeed};
    Config { rng_seed: RngSeed::Fixed(20_240_101), failure_persistence: None, ..Config::default() }
}
