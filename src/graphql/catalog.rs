//! What clients say of the lists that they want: the schema's filters and orders.

use async_graphql::{Enum, InputObject};

use super::node::ImageType;
use super::scalar::{DateTime, ImageName, RepositoryName};
use crate::gateway;

/// What a list is in the order of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "gateway::OrderField")]
pub(super) enum OrderField {
    /// How well it fits the text, the best first. Repositories with a text only; forward only.
    Relevance,
    /// The name.
    Name,
    /// When it was last written; of a repository, when one of its images was.
    Updated,
    /// How often it was downloaded; of an image, its repository.
    Downloads,
}

/// The order of a list.
#[derive(Debug, Clone, Copy, InputObject)]
pub(super) struct Order {
    /// By what.
    field: OrderField,
    /// Whether the last is the first.
    #[graphql(default = false)]
    descending: bool,
}

/// Which repositories. Within a field: any of the values; keywords: all of them. null among the values stands for those
/// without one.
#[derive(Debug, Clone, Default, InputObject)]
pub(super) struct RepositoryFilter {
    /// By name.
    names: Option<Vec<RepositoryName>>,
    /// In one of these organizations.
    organizations: Option<Vec<String>>,
    /// With all of these keywords, whatever their case.
    keywords: Option<Vec<String>>,
    /// The latest image is of one of these kinds.
    types: Option<Vec<Option<ImageType>>>,
    /// The latest image is built for one of these.
    architectures: Option<Vec<Option<String>>>,
    /// Private ones, or public ones.
    is_private: Option<bool>,
    /// Those of organizations that you are a manager of, or all others.
    managed_by_me: Option<bool>,
    /// Made, or one of their images written, since.
    updated_since: Option<DateTime>,
}

/// Which images. Within a field: any of the values; keywords: all of them. null among the values stands for those without
/// one.
#[derive(Debug, Clone, Default, InputObject)]
pub(super) struct ImageFilter {
    /// By name.
    names: Option<Vec<ImageName>>,
    /// In one of these repositories.
    repositories: Option<Vec<RepositoryName>>,
    /// In one of these organizations.
    organizations: Option<Vec<String>>,
    /// With all of these keywords, whatever their case.
    keywords: Option<Vec<String>>,
    /// Of one of these kinds.
    types: Option<Vec<Option<ImageType>>>,
    /// Built for one of these.
    architectures: Option<Vec<Option<String>>>,
    /// Written since.
    updated_since: Option<DateTime>,
}

impl RepositoryFilter {
    /// All of one organization.
    pub(super) fn of_organization(name: &str) -> Self {
        Self { organizations: Some(vec![name.to_owned()]), ..Self::default() }
    }
}

fn types_of(types: Vec<Option<ImageType>>) -> Vec<Option<crate::api::ImageType>> {
    types.into_iter().map(|one| one.map(Into::into)).collect()
}

impl From<Order> for gateway::Order {
    fn from(order: Order) -> Self {
        Self { field: order.field.into(), descending: order.descending }
    }
}

impl From<RepositoryFilter> for gateway::RepositoryFilter {
    fn from(filter: RepositoryFilter) -> Self {
        Self {
            names: filter.names.map(|names| names.into_iter().map(|name| name.0).collect()),
            organizations: filter.organizations,
            keywords: filter.keywords,
            types: filter.types.map(types_of),
            architectures: filter.architectures,
            is_private: filter.is_private,
            managed_by_me: filter.managed_by_me,
            updated_since: filter.updated_since.map(|since| since.0),
        }
    }
}

impl From<ImageFilter> for gateway::ImageFilter {
    fn from(filter: ImageFilter) -> Self {
        Self {
            names: filter.names.map(|names| names.into_iter().map(|name| name.0).collect()),
            repositories: filter.repositories.map(|names| names.into_iter().map(|name| name.0).collect()),
            organizations: filter.organizations,
            keywords: filter.keywords,
            types: filter.types.map(types_of),
            architectures: filter.architectures,
            updated_since: filter.updated_since.map(|since| since.0),
        }
    }
}
