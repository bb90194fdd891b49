//! Repository: owns its images.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The desired state of a Repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RepositorySpec {
    /// The repository's full name, org/repo. Immutable.
    pub name: String,
    /// Whether only the organization's managers and administrators see it. Defaults to false.
    #[serde(rename = "isPrivate", default, skip_serializing_if = "Option::is_none")]
    pub is_private: Option<bool>,
}

/// What is known of a Repository, computed when it is read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RepositoryStatus {
    /// The repository's full name.
    #[serde(default)]
    pub name: String,
    /// How often its images were downloaded.
    #[serde(rename = "downloadCount", default)]
    pub download_count: i64,
    /// Its images, the newest first.
    #[serde(default)]
    pub tags: Vec<Tag>,
    /// The first of the tags.
    #[serde(rename = "latestTag", default, skip_serializing_if = "Option::is_none")]
    pub latest_tag: Option<Tag>,
}

/// One image of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Tag {
    /// The tag.
    pub name: String,
    /// The Image's metadata.name.
    #[serde(rename = "metaName")]
    pub meta_name: String,
    /// The image's size in bytes.
    pub size: i64,
    /// When the image was built, RFC 3339.
    #[serde(rename = "creatTime")]
    #[schemars(extend("format" = "date-time"))]
    pub creat_time: String,
}
