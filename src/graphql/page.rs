//! Connections: the pages of lists, as Relay has them.

use std::sync::Arc;

use async_graphql::{ComplexObject, Object, Result, SimpleObject};

use super::error::fail;
use super::node::{Image, Organization, Repository};
use super::view::{Nodes as _, View};
use crate::api::Kind;
use crate::gateway::{self, FacetField, Facets, Found, ImageQuery, LONGEST_PAGE, Page, PageArgs, RepositoryQuery};
use crate::graph::Record;
use crate::model::ErrorCode;

/// Where a page is in its connection.
#[derive(Debug, Clone, SimpleObject)]
pub(super) struct PageInfo {
    /// Whether there is more after it.
    has_next_page: bool,
    /// Whether there is more before it.
    has_previous_page: bool,
    /// The cursor of its first edge.
    start_cursor: Option<String>,
    /// The cursor of its last edge.
    end_cursor: Option<String>,
}

/// An image in a list.
#[derive(Clone, SimpleObject)]
pub(super) struct ImageEdge {
    /// Its place in the list.
    cursor: String,
    /// The image.
    node: Image,
}

/// A page of images.
#[derive(Clone, SimpleObject)]
pub(super) struct ImageConnection {
    /// The images with their places.
    edges: Vec<ImageEdge>,
    /// The images.
    nodes: Vec<Image>,
    /// Where the page is in the list.
    page_info: PageInfo,
    /// How many there are in the list.
    total_count: i32,
}

impl PageInfo {
    fn of<T>(page: &Page<T>) -> Self {
        Self {
            has_next_page: page.after,
            has_previous_page: page.before,
            start_cursor: page.items.first().map(|(cursor, _)| cursor.clone()),
            end_cursor: page.items.last().map(|(cursor, _)| cursor.clone()),
        }
    }
}

fn count(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

fn images_of(view: &View, page: Page<Arc<Record>>) -> ImageConnection {
    let (page_info, total_count) = (PageInfo::of(&page), count(page.total));
    let edge = |(cursor, record): (String, Arc<Record>)| ImageEdge { cursor, node: view.image_of(&record) };
    let edges: Vec<_> = page.items.into_iter().map(edge).collect();
    let nodes = edges.iter().map(|edge| edge.node.clone()).collect();
    ImageConnection { edges, nodes, page_info, total_count }
}

/// A repository's images, the newest first.
pub(super) fn tags(view: &View, repository: &str, args: &PageArgs) -> Result<ImageConnection> {
    Ok(images_of(view, gateway::tags(view, repository, args)?))
}

/// The images that `query` asks for.
pub(super) async fn image_connection(view: &View, query: &ImageQuery, args: &PageArgs) -> Result<ImageConnection> {
    view.looks_at(|| query.breadth(view)).await?;
    Ok(images_of(view, view.apart(|| gateway::images(view, query, args))?))
}

/// A repository in a list.
#[derive(Clone, SimpleObject)]
pub(super) struct RepositoryEdge {
    /// Its place in the list.
    cursor: String,
    /// The repository.
    node: Repository,
    /// The image that the text named, as in `org/repo:tag`.
    matched_image: Option<Image>,
}

/// A page of repositories.
#[derive(Clone, SimpleObject)]
#[graphql(complex)]
pub(super) struct RepositoryConnection {
    /// The repositories with their places.
    edges: Vec<RepositoryEdge>,
    /// The repositories.
    nodes: Vec<Repository>,
    /// Where the page is in the list.
    page_info: PageInfo,
    /// How many there are in the list.
    total_count: i32,
    #[graphql(skip)]
    facets: RepositoryFacets,
}

#[ComplexObject]
impl RepositoryConnection {
    /// What there is to choose from, with counts.
    async fn facets(&self) -> &RepositoryFacets {
        &self.facets
    }
}

/// The repositories that `query` asks for.
pub(super) async fn repository_connection(
    view: &View,
    query: RepositoryQuery,
    args: &PageArgs,
) -> Result<RepositoryConnection> {
    view.looks_at(|| query.breadth(view)).await?;
    let (page, facets) = view.apart(|| gateway::repositories(view, query, args))?;
    let (page_info, total_count) = (PageInfo::of(&page), count(page.total));
    let edge = |(cursor, found): (String, Found)| RepositoryEdge {
        cursor,
        node: view.repository_of(&found.record),
        matched_image: found.matched.as_ref().map(|record| view.image_of(record)),
    };
    let edges: Vec<_> = page.items.into_iter().map(edge).collect();
    let nodes = edges.iter().map(|edge| edge.node.clone()).collect();
    Ok(RepositoryConnection { edges, nodes, page_info, total_count, facets: RepositoryFacets(facets) })
}

/// A value to choose.
#[derive(Debug, Clone, PartialEq, Eq, SimpleObject)]
pub(super) struct Facet {
    /// The value; null for those that have none.
    value: Option<String>,
    /// How many repositories of the list have it, the choice among this facet's own values left aside (but for keywords,
    /// of which all that are chosen must be there).
    count: i32,
    /// Whether it is chosen.
    selected: bool,
}

/// What there is to choose from: each counts what you see, the most frequent first.
#[derive(Clone)]
pub(super) struct RepositoryFacets(Facets);

impl RepositoryFacets {
    async fn count(&self, field: FacetField, first: usize) -> Result<Vec<Facet>> {
        self.0.look(field).await?;
        let found = self.0.of(field, first).into_iter();
        let facet =
            |facet: gateway::Facet| Facet { value: facet.value, count: count(facet.count), selected: facet.selected };
        Ok(found.map(facet).collect())
    }
}

fn facet_size(first: i32) -> Result<usize> {
    match usize::try_from(first) {
        Ok(size) if size <= LONGEST_PAGE => Ok(size),
        Ok(_) => {
            let message = format!("first is {first}; a facet has at most {LONGEST_PAGE} values (limit: page size)");
            Err(fail(ErrorCode::LimitExceeded, message))
        }
        Err(_) => Err(fail(ErrorCode::Invalid, format!("first is {first}; it can't be negative"))),
    }
}

/// What there is to choose from. Each facet leaves its own filter aside.
#[Object]
impl RepositoryFacets {
    /// Organizations.
    async fn organizations(
        &self,
        #[graphql(default = 20, desc = "So many, at most 100.")] first: i32,
    ) -> Result<Vec<Facet>> {
        self.count(FacetField::Organization, facet_size(first)?).await
    }

    /// Keywords. All that are chosen must be there, so that these counts follow their own filter, too.
    async fn keywords(
        &self,
        #[graphql(default = 20, desc = "So many, at most 100.")] first: i32,
    ) -> Result<Vec<Facet>> {
        self.count(FacetField::Keyword, facet_size(first)?).await
    }

    /// What kind of image the latest one is.
    async fn types(&self) -> Result<Vec<Facet>> {
        self.count(FacetField::Type, LONGEST_PAGE).await
    }

    /// What the latest image is built for.
    async fn architectures(&self) -> Result<Vec<Facet>> {
        self.count(FacetField::Architecture, LONGEST_PAGE).await
    }
}

/// An organization in a list.
#[derive(Clone, SimpleObject)]
pub(super) struct OrganizationEdge {
    /// Its place in the list.
    cursor: String,
    /// The organization.
    node: Organization,
}

/// A page of organizations.
#[derive(Clone, SimpleObject)]
pub(super) struct OrganizationConnection {
    /// The organizations with their places.
    edges: Vec<OrganizationEdge>,
    /// The organizations.
    nodes: Vec<Organization>,
    /// Where the page is in the list.
    page_info: PageInfo,
    /// How many there are in the list.
    total_count: i32,
}

/// The organizations, all or those that the caller is a manager of, in order of name.
pub(super) async fn organization_connection(
    view: &View,
    mine: bool,
    args: &PageArgs,
) -> Result<OrganizationConnection> {
    view.looks_at(|| view.visible().stored(Kind::Organization)).await?;
    let page = view.apart(|| gateway::organizations(view, mine, args))?;
    let (page_info, total_count) = (PageInfo::of(&page), count(page.total));
    let edge =
        |(cursor, record): (String, Arc<Record>)| OrganizationEdge { cursor, node: view.organization_of(&record) };
    let edges: Vec<_> = page.items.into_iter().map(edge).collect();
    let nodes = edges.iter().map(|edge| edge.node.clone()).collect();
    Ok(OrganizationConnection { edges, nodes, page_info, total_count })
}
