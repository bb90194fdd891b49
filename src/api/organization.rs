//! Organization: owns repositories; has a creator and managers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The desired state of an Organization.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OrganizationSpec {
    /// The organization's name. Immutable.
    pub name: String,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creator: Option<String>,
    /// Who may change it and its content. Always holds the creator, no doubles, and never nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manager: Option<Vec<String>>,
}

/// What is known of an Organization, computed when it is read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OrganizationStatus {
    /// The organization's name.
    #[serde(default)]
    pub name: String,
    /// The full names of its repositories.
    #[serde(default)]
    pub repos: Vec<String>,
}
