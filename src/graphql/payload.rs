//! What mutations answer: what became of what was sent, with errors as data.

use async_graphql::{Enum, ID, SimpleObject};

use super::error::UserError;
use super::node::{DataPack, Image, Organization, Repository};
use super::query::FieldChange;
use super::scalar::{ImageName, Revision};
use crate::gateway;

/// What became of a write, or would become of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "gateway::Outcome")]
pub(super) enum Outcome {
    /// It was made.
    Created,
    /// It was changed.
    Changed,
    /// It was that already: nothing was written.
    Unchanged,
    /// It was not: userErrors say why.
    Refused,
}

/// What became of one image.
#[derive(Clone, SimpleObject)]
pub(super) struct ApplyResult {
    /// The name.
    pub(super) name: ImageName,
    /// What became of it.
    pub(super) outcome: Outcome,
    /// The image as it is now, or would be; null where it was refused.
    pub(super) image: Option<Image>,
    /// The image as it is, where it was refused and is yours to see.
    pub(super) current: Option<Image>,
    /// What the write changed.
    pub(super) changes: Vec<FieldChange>,
    /// Why it was refused.
    pub(super) user_errors: Vec<UserError>,
}

/// What became of many images.
#[derive(Clone, SimpleObject)]
pub(super) struct ApplyImagesPayload {
    /// One an image, in their order. One that is refused doesn't hold up the others.
    pub(super) results: Vec<ApplyResult>,
    /// How many packs' content the changes touch.
    pub(super) affected_data_packs: i32,
    /// A state that has the writes; null where nothing was written.
    pub(super) revision: Option<Revision>,
}

/// What became of a deletion.
#[derive(Clone, SimpleObject)]
pub(super) struct DeletePayload {
    /// The ids of what is gone, or would go; what it owns goes after it.
    pub(super) deleted_ids: Vec<ID>,
    /// How many packs' content it touches.
    pub(super) affected_data_packs: i32,
    /// Why it was refused.
    pub(super) user_errors: Vec<UserError>,
    /// A state that has the write; null where nothing was written.
    pub(super) revision: Option<Revision>,
}

/// What became of a repository.
#[derive(Clone, SimpleObject)]
pub(super) struct RepositoryPayload {
    /// The repository as it is now; null where the write was refused.
    pub(super) repository: Option<Repository>,
    /// The repository as it is, where the write was refused and it is yours to see.
    pub(super) current: Option<Repository>,
    /// Why it was refused.
    pub(super) user_errors: Vec<UserError>,
    /// A state that has the write; null where it was refused.
    pub(super) revision: Option<Revision>,
}

/// What became of an organization.
#[derive(Clone, SimpleObject)]
pub(super) struct OrganizationPayload {
    /// The organization as it is now; null where the write was refused.
    pub(super) organization: Option<Organization>,
    /// The organization as it is, where the write was refused.
    pub(super) current: Option<Organization>,
    /// Why it was refused.
    pub(super) user_errors: Vec<UserError>,
    /// A state that has the write; null where it was refused.
    pub(super) revision: Option<Revision>,
}

/// What became of a pack.
#[derive(Clone, SimpleObject)]
pub(super) struct DataPackPayload {
    /// The pack; null where it was refused.
    pub(super) data_pack: Option<DataPack>,
    /// Whether it was there: packs are shared by what they name.
    pub(super) existed: bool,
    /// Why it was refused.
    pub(super) user_errors: Vec<UserError>,
    /// A state that has the pack; null where it was refused.
    pub(super) revision: Option<Revision>,
}
