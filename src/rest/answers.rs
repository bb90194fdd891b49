//! What answers are made of beside the kinds themselves: pages and facets, comparisons, suggestions, results of writes,
//! changes.

use serde::Serialize;
use utoipa::ToSchema;

use super::show::{Image, Organization, Repository};
use crate::gateway::{self, Outcome};
use crate::{api, model};

/// A field that differs between two images, or is changed by a write.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct FieldChange {
    /// The field.
    field: &'static str,
    /// What it was; null for nothing. What is long is cut, and says how long it is.
    #[schema(required = true)]
    before: Option<String>,
    /// What it is; null for nothing.
    #[schema(required = true)]
    after: Option<String>,
}

impl From<model::FieldChange> for FieldChange {
    fn from(change: model::FieldChange) -> Self {
        Self { field: change.field, before: change.before, after: change.after }
    }
}

/// Two images side by side.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Comparison {
    /// The one that it was.
    pub(super) from: Image,
    /// The one that it is.
    pub(super) to: Image,
    /// The fields that differ.
    pub(super) changes: Vec<FieldChange>,
    /// How the documentation differs: a unified diff without its head, empty where it doesn't.
    #[schema(max_length = 8_388_608)]
    pub(super) docs_diff: String,
}

/// A page of images.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct ImagePage {
    /// The images.
    #[schema(max_items = 100)]
    pub(super) items: Vec<Image>,
    /// How many there are in the list.
    pub(super) total: usize,
    /// Where the next page begins: its `cursor`; null for the last one.
    #[schema(required = true)]
    pub(super) next: Option<String>,
}

/// A page of repositories.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct RepositoryPage {
    /// The repositories.
    #[schema(max_items = 100)]
    pub(super) items: Vec<Repository>,
    /// How many there are in the list.
    pub(super) total: usize,
    /// Where the next page begins: its `cursor`; null for the last one.
    #[schema(required = true)]
    pub(super) next: Option<String>,
    /// What there is to choose from, where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) facets: Option<Facets>,
}

/// What there is to choose from, the most frequent first.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub(super) struct Facets {
    /// Organizations.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_items = 100)]
    pub(super) organization: Option<Vec<Facet>>,
    /// Keywords. All that are chosen must be there, so that these counts follow their own filter, too.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_items = 100)]
    pub(super) keyword: Option<Vec<Facet>>,
    /// What kind of image the latest one is.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    #[schema(max_items = 100)]
    pub(super) sort: Option<Vec<Facet>>,
    /// What the latest image is built for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_items = 100)]
    pub(super) architecture: Option<Vec<Facet>>,
}

/// A value to choose.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct Facet {
    /// The value; null for those that have none.
    #[schema(required = true)]
    value: Option<String>,
    /// How many repositories of the list have it, the choice among this facet's own values left aside.
    count: usize,
    /// Whether it is chosen.
    selected: bool,
}

impl From<gateway::Facet> for Facet {
    fn from(facet: gateway::Facet) -> Self {
        Self { value: facet.value, count: facet.count, selected: facet.selected }
    }
}

/// A page of organizations.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct OrganizationPage {
    /// The organizations, in order of name.
    #[schema(max_items = 100)]
    pub(super) items: Vec<Organization>,
    /// How many there are in the list.
    pub(super) total: usize,
    /// Where the next page begins: its `cursor`; null for the last one.
    #[schema(required = true)]
    pub(super) next: Option<String>,
}

/// What a name is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum Kind {
    Image,
    Repository,
    Organization,
    DataPack,
}

impl From<api::Kind> for Kind {
    fn from(kind: api::Kind) -> Self {
        match kind {
            api::Kind::Image => Self::Image,
            api::Kind::Repository => Self::Repository,
            api::Kind::Organization => Self::Organization,
            api::Kind::DataPack => Self::DataPack,
        }
    }
}

/// What a text may be the beginning of.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct Suggestion {
    /// The whole text: a full name.
    pub(super) text: String,
    /// What it names.
    pub(super) kind: Kind,
}

/// What a text may be the beginning of, the best first.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct Suggestions {
    /// The suggestions.
    #[schema(max_items = 100)]
    pub(super) items: Vec<Suggestion>,
}

/// Who you are, as the server takes you.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Whoami {
    /// Your user name; null for those who have shown nothing.
    #[schema(required = true)]
    pub(super) name: Option<String>,
    /// The groups that you are in, at most 1000 of them.
    #[schema(max_items = 1000)]
    pub(super) groups: Vec<String>,
    /// Whether you have shown nothing.
    pub(super) anonymous: bool,
    /// Whether you may do everything.
    pub(super) administrator: bool,
    /// Whether you may make an organization, and become its manager.
    pub(super) can_create_organizations: bool,
    /// The organizations that you are a manager of, at most 100 of them.
    #[schema(max_items = 100)]
    pub(super) organizations: Vec<String>,
}

/// What became of one of many images.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct Applied {
    /// The name; null where there is none.
    #[schema(required = true)]
    pub(super) name: Option<String>,
    /// What became of it.
    pub(super) outcome: Outcome,
    /// The version that it has now; null where it was refused, or would be made.
    #[schema(required = true)]
    pub(super) version: Option<String>,
    /// What the write changed.
    pub(super) changes: Vec<FieldChange>,
    /// What was taken though it isn't quite right.
    pub(super) warnings: Vec<String>,
    /// Why it was refused.
    pub(super) errors: Vec<super::problem::ProblemItem>,
}

/// What became of many images.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct AppliedMany {
    /// One an image, in their order. One that is refused doesn't hold up the others.
    #[schema(max_items = 1000)]
    pub(super) results: Vec<Applied>,
    /// How many packs' content the changes touch.
    pub(super) affected_data_packs: usize,
    /// A state that has the writes; null where nothing was written.
    #[schema(required = true)]
    pub(super) revision: Option<String>,
}

/// Something happened.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Change {
    /// The state that has it.
    pub(super) revision: String,
    /// What it happened to.
    pub(super) kind: Kind,
    /// Its full name.
    pub(super) name: String,
    /// The version that it has now; null where it is gone.
    #[schema(required = true)]
    pub(super) version: Option<String>,
}

/// Where a stream of changes is.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct Moment {
    /// All up to this state has been told, or what is to be read anew.
    pub(super) revision: String,
    /// What is to be read anew; absent where nothing is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) kind: Option<Kind>,
}
