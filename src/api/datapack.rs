//! DataPack: a computed answer, the data of a list of images at one of three grains.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ImageType, Tag};

/// The values of `status.codes`. 0 and 2 meant "pending" and "running" where packs were computed later.
pub mod code {
    /// All data is there.
    pub const OK: i32 = 1;
    /// The data can't be given; `status.message` says why.
    pub const ERROR: i32 = 3;
}

/// How much is told of each image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Grain {
    /// Name and type.
    #[default]
    Base,
    /// What a card in a store shows.
    Grid,
    /// Everything.
    Detail,
}

impl Grain {
    /// The word in `spec.type`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Grid => "grid",
            Self::Detail => "detail",
        }
    }
}

/// The desired state of a DataPack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DataPackSpec {
    /// How much is told of each image: base, grid or detail. Defaults to base.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub grain: Option<Grain>,
    /// The images, each org/repo:tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names: Option<Vec<String>>,
    /// How long the pack is kept, as a Go duration. Defaults to 2h.
    #[serde(rename = "expireTime", default, skip_serializing_if = "Option::is_none")]
    pub expire_time: Option<String>,
}

/// What is known of a DataPack, computed when it is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DataPackStatus {
    /// 1: all data is there. 3: it can't be given, see message.
    pub codes: i32,
    /// The data, by image name. A name with no image has an entry with nothing in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datas: Option<BTreeMap<String, PackEntry>>,
    /// A digest of datas.
    #[serde(rename = "contentDigest", default, skip_serializing_if = "Option::is_none")]
    pub content_digest: Option<String>,
    /// When the pack goes, RFC 3339.
    #[serde(rename = "expiresAt", default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub expires_at: Option<String>,
    /// With code 3: why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// What a DataPack tells of one image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PackEntry {
    /// The image's full name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What kind of image it is.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub image_type: Option<ImageType>,
    /// grid, detail: the repository's full name.
    #[serde(rename = "repoName", default, skip_serializing_if = "Option::is_none")]
    pub repo_name: Option<String>,
    /// grid, detail: the address of an icon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icon: Option<String>,
    /// grid, detail: the keywords.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keywords: Option<Vec<String>>,
    /// grid, detail: always 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rating: Option<i64>,
    /// grid, detail: the repository's download count.
    #[serde(rename = "downloadCount", default, skip_serializing_if = "Option::is_none")]
    pub download_count: Option<i64>,
    /// grid, detail: the size in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<i64>,
    /// grid, detail: the description.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// detail: the documentation, in Markdown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub docs: Option<String>,
    /// detail: the image's ID.
    #[serde(rename = "ID", default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// detail: the architecture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arch: Option<String>,
    /// detail: the repository's images, the newest first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<Tag>>,
}
