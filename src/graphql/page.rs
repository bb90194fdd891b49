//! Connections: keyset cursors, which go on where they were though the list changes meanwhile.

#![expect(clippy::unused_async, reason = "the library has resolvers be async, whether they wait or not")]

use std::borrow::Cow;
use std::cmp::Ordering;
use std::sync::Arc;

use async_graphql::{ComplexObject, Object, Result, SimpleObject};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::catalog::{self, FacetField, ImageQuery, RepositoryQuery};
use super::error::{fail, refuse};
use super::node::{Image, Organization, Repository};
use super::view::View;
use crate::api::{Kind, version_order};
use crate::graph::Record;
use crate::model::ErrorCode;
use crate::search::Facets;

/// How many nodes a page has where it isn't said.
pub const PAGE: usize = 20;
/// How many nodes a page has at most.
pub const LONGEST_PAGE: usize = 100;
/// The longest cursor that is read, in bytes.
const LONGEST_CURSOR: usize = 1024;

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

/// The arguments of a connection.
#[derive(Debug, Default, Clone)]
pub(super) struct PageArgs {
    pub(super) first: Option<i32>,
    pub(super) after: Option<String>,
    pub(super) last: Option<i32>,
    pub(super) before: Option<String>,
}

/// The place of an element in the order of its list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Key {
    /// Of two numbers, then a name.
    Ranked(i64, i64, Arc<str>),
    /// Of a repository's tags: when it was built, the tag, when it was made, the object's name.
    Tag(Option<i64>, String, String, String),
}

/// The same in a cursor.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Wire<'a> {
    Ranked(i64, i64, Cow<'a, str>),
    Tag(Option<i64>, Cow<'a, str>, Cow<'a, str>, Cow<'a, str>),
}

impl Key {
    fn to_wire(&self) -> Wire<'_> {
        match self {
            Self::Ranked(a, b, name) => Wire::Ranked(*a, *b, Cow::Borrowed(name)),
            Self::Tag(built, tag, created, name) => {
                Wire::Tag(*built, Cow::Borrowed(tag), Cow::Borrowed(created), Cow::Borrowed(name))
            }
        }
    }

    fn of_wire(wire: Wire<'_>) -> Self {
        match wire {
            Wire::Ranked(a, b, name) => Self::Ranked(a, b, name.into()),
            Wire::Tag(built, tag, created, name) => {
                Self::Tag(built, tag.into_owned(), created.into_owned(), name.into_owned())
            }
        }
    }

    fn of_tag(record: &Record) -> Self {
        let image = record.image();
        let (built, tag) = image.map_or((None, ""), |image| (image.built_ms(), image.tag()));
        Self::Tag(built, tag.to_owned(), record.created().to_owned(), record.name().to_owned())
    }

    fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Ranked(a1, b1, c1), Self::Ranked(a2, b2, c2)) => (a1, b1, c1).cmp(&(a2, b2, c2)),
            // The order of the graph: the newest first.
            (Self::Tag(b1, t1, c1, n1), Self::Tag(b2, t2, c2, n2)) => {
                b2.cmp(b1).then_with(|| version_order(t2, t1)).then_with(|| (c2, n2).cmp(&(c1, n1)))
            }
            // Cursors are bound to their list.
            _ => Ordering::Equal,
        }
    }
}

/// An element with its place.
pub(super) struct Placed<T> {
    pub(super) key: Key,
    pub(super) what: T,
}

/// A page, and what was around it.
struct Page<T> {
    items: Vec<(String, T)>,
    info: PageInfo,
    total: i32,
}

/// What a cursor is of: cursors of other lists, orders or viewers are refused.
pub(super) struct Binding([u8; 8]);

impl Binding {
    fn new(view: &View, list: &impl std::fmt::Debug) -> Self {
        let audience = (view.caller().user(), view.visible().sight());
        let digest = Sha256::digest(format!("{audience:?} {list:?}"));
        let mut short = [0; 8];
        short.copy_from_slice(&digest[..8]);
        Self(short)
    }

    fn cursor(&self, key: &Key) -> String {
        let mut bytes = self.0.to_vec();
        serde_json::to_writer(&mut bytes, &key.to_wire()).expect("a key has no keys but strings, and a Vec takes all");
        URL_SAFE_NO_PAD.encode(bytes)
    }

    fn key(&self, field: &str, cursor: &str) -> Result<Key> {
        let bad = |why: &str| fail(ErrorCode::CursorInvalid, format!("{field}: {why}"));
        let none = || bad("this is no cursor that this server gave");
        if cursor.len() > LONGEST_CURSOR {
            return Err(none());
        }
        let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| none())?;
        let (binding, key) = bytes.split_at_checked(self.0.len()).ok_or_else(none)?;
        if binding != self.0 {
            return Err(bad("this cursor is of another list, another filter or order, or another viewer"));
        }
        serde_json::from_slice(key).map(Key::of_wire).map_err(|_| none())
    }
}

enum Cut {
    First(usize),
    Last(usize),
}

fn cut(args: &PageArgs) -> Result<Cut> {
    let size = |field: &str, n: i32| {
        let size = usize::try_from(n);
        let size = size.map_err(|_| fail(ErrorCode::Invalid, format!("{field} is {n}; it can't be negative")))?;
        if size > LONGEST_PAGE {
            let message = format!("{field} is {n}; a page has at most {LONGEST_PAGE} nodes (limit: page size)");
            return Err(fail(ErrorCode::LimitExceeded, message));
        }
        Ok(size)
    };
    match (args.first, args.last) {
        (Some(_), Some(_)) => Err(fail(ErrorCode::Invalid, "say first or last, not both")),
        (None, None) => Ok(Cut::First(PAGE)),
        (Some(first), None) => Ok(Cut::First(size("first", first)?)),
        (None, Some(last)) => Ok(Cut::Last(size("last", last)?)),
    }
}

/// The page of `all` that `args` ask for. Only the page itself is sorted.
fn page<T>(all: Vec<Placed<T>>, descending: bool, binding: &Binding, args: &PageArgs) -> Result<Page<T>> {
    let cut = cut(args)?;
    let after = args.after.as_deref().map(|cursor| binding.key("after", cursor)).transpose()?;
    let before = args.before.as_deref().map(|cursor| binding.key("before", cursor)).transpose()?;
    let compare = |a: &Key, b: &Key| if descending { b.compare(a) } else { a.compare(b) };
    let total = all.len();
    let (mut left, mut right) = (0, 0);
    let mut inside = Vec::with_capacity(total);
    for item in all {
        if after.as_ref().is_some_and(|after| compare(&item.key, after) != Ordering::Greater) {
            left += 1;
        } else if before.as_ref().is_some_and(|before| compare(&item.key, before) != Ordering::Less) {
            right += 1;
        } else {
            inside.push(item);
        }
    }
    match cut {
        Cut::First(size) if size < inside.len() => {
            if size > 0 {
                inside.select_nth_unstable_by(size - 1, |a, b| compare(&a.key, &b.key));
            }
            right += inside.len() - size;
            inside.truncate(size);
        }
        Cut::Last(size) if size < inside.len() => {
            let drop = inside.len() - size;
            inside.select_nth_unstable_by(drop, |a, b| compare(&a.key, &b.key));
            left += drop;
            inside.drain(..drop);
        }
        _ => {}
    }
    inside.sort_by(|a, b| compare(&a.key, &b.key));
    let items = inside.into_iter().map(|item| (binding.cursor(&item.key), item.what)).collect();
    Ok(Page::new(items, left, right, total))
}

impl<T> Page<T> {
    fn new(items: Vec<(String, T)>, left: usize, right: usize, total: usize) -> Self {
        let info = PageInfo {
            has_next_page: right > 0,
            has_previous_page: left > 0,
            start_cursor: items.first().map(|(cursor, _)| cursor.clone()),
            end_cursor: items.last().map(|(cursor, _)| cursor.clone()),
        };
        Self { items, info, total: i32::try_from(total).unwrap_or(i32::MAX) }
    }
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

fn images_of(page: Page<Image>) -> ImageConnection {
    let edges: Vec<_> = page.items.into_iter().map(|(cursor, node)| ImageEdge { cursor, node }).collect();
    let nodes = edges.iter().map(|edge| edge.node.clone()).collect();
    ImageConnection { edges, nodes, page_info: page.info, total_count: page.total }
}

/// A repository's images: they lie in order, so nothing is sorted or looked at beside the page.
pub(super) fn tags(view: &View, repository: &str, args: &PageArgs) -> Result<ImageConnection> {
    let all = view.visible().tags(repository);
    let binding = Binding::new(view, &("tags", repository));
    let cut = cut(args)?;
    let (mut start, mut end) = (0, all.len());
    if let Some(after) = &args.after {
        let key = binding.key("after", after)?;
        start = all.partition_point(|record| Key::of_tag(record).compare(&key) != Ordering::Greater);
    }
    if let Some(before) = &args.before {
        let key = binding.key("before", before)?;
        end = all.partition_point(|record| Key::of_tag(record).compare(&key) == Ordering::Less).max(start);
    }
    match cut {
        Cut::First(size) => end = end.min(start + size),
        Cut::Last(size) => start = start.max(end.saturating_sub(size)),
    }
    let items = all[start..end].iter().map(|record| (binding.cursor(&Key::of_tag(record)), view.image_of(record)));
    Ok(images_of(Page::new(items.collect(), start, all.len() - end, all.len())))
}

/// The images that `query` asks for.
pub(super) fn image_connection(view: &View, query: &ImageQuery, args: &PageArgs) -> Result<ImageConnection> {
    let binding = Binding::new(view, &("images", query));
    let all = catalog::images(view, query);
    let all = all.into_iter().map(|Placed { key, what }| Placed { key, what: view.image_of(&what) }).collect();
    Ok(images_of(page(all, query.order.descending, &binding, args)?))
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
    if query.by_relevance() && (args.last.is_some() || args.before.is_some()) {
        return Err(fail(ErrorCode::Invalid, "a list by RELEVANCE is paged forward only: use first and after"));
    }
    if query.has_text() {
        // Up to where the request demands.
        view.search().await.map_err(|error| refuse(&error))?;
    }
    let binding = Binding::new(view, &("repositories", &query));
    let edge = |cursor: String, record: &Arc<Record>, matched: Option<&Arc<Record>>| RepositoryEdge {
        cursor,
        node: view.repository_of(record),
        matched_image: matched.map(|record| view.image_of(record)),
    };
    let (page, counted) = if let Some(hits) = catalog::searched(view, &query, asked(&binding, args)?)? {
        let edges = hits.hits.iter().map(|hit| {
            let (first, second, name) = hit.cursor.place();
            let cursor = binding.cursor(&Key::Ranked(first, second, Arc::clone(name)));
            edge(cursor, &hit.repository, hit.matched_image.as_ref())
        });
        (RepositoryPage::new(edges.collect(), hits.has_previous, hits.has_next, hits.total), Some(hits.facets))
    } else {
        let page = page(catalog::repositories(view, &query), query.is_backwards(), &binding, args)?;
        let edges = page.items.into_iter().map(|(cursor, record)| edge(cursor, &record, None)).collect();
        (RepositoryPage { edges, info: page.info, total: page.total }, None)
    };
    let RepositoryPage { edges, info, total } = page;
    let nodes = edges.iter().map(|edge| edge.node.clone()).collect();
    let facets = RepositoryFacets { view: view.clone(), query: Arc::new(query), counted: counted.map(Arc::new) };
    Ok(RepositoryConnection { edges, nodes, page_info: info, total_count: total, facets })
}

struct RepositoryPage {
    edges: Vec<RepositoryEdge>,
    info: PageInfo,
    total: i32,
}

impl RepositoryPage {
    fn new(edges: Vec<RepositoryEdge>, before: bool, after: bool, total: usize) -> Self {
        let info = PageInfo {
            has_next_page: after,
            has_previous_page: before,
            start_cursor: edges.first().map(|edge| edge.cursor.clone()),
            end_cursor: edges.last().map(|edge| edge.cursor.clone()),
        };
        Self { edges, info, total: i32::try_from(total).unwrap_or(i32::MAX) }
    }
}

/// The page that `args` ask for, in the words of the search.
fn asked(binding: &Binding, args: &PageArgs) -> Result<catalog::Page> {
    let (limit, last) = match cut(args)? {
        Cut::First(size) => (size, false),
        Cut::Last(size) => (size, true),
    };
    Ok(catalog::Page {
        limit,
        last,
        after: args.after.as_deref().map(|cursor| binding.key("after", cursor)).transpose()?,
        before: args.before.as_deref().map(|cursor| binding.key("before", cursor)).transpose()?,
    })
}

/// A value to choose.
#[derive(Debug, Clone, PartialEq, Eq, SimpleObject)]
pub(super) struct Facet {
    /// The value; null for those that have none.
    pub(super) value: Option<String>,
    /// How many repositories of the list have it, the choice among this facet's own values left aside (but for keywords,
    /// of which all that are chosen must be there).
    pub(super) count: i32,
    /// Whether it is chosen.
    pub(super) selected: bool,
}

/// What there is to choose from: each counts what you see, the most frequent first.
#[derive(Clone)]
pub(super) struct RepositoryFacets {
    view: View,
    query: Arc<RepositoryQuery>,
    /// Where the search has found the list, it has counted, too.
    counted: Option<Arc<Facets>>,
}

impl RepositoryFacets {
    fn count(&self, field: FacetField, first: usize) -> Vec<Facet> {
        match &self.counted {
            Some(facets) => catalog::told(facets, field, first),
            None => catalog::facet(&self.view, &self.query, field, first),
        }
    }
}

fn facet_size(first: i32) -> Result<usize> {
    match cut(&PageArgs { first: Some(first), ..PageArgs::default() })? {
        Cut::First(size) | Cut::Last(size) => Ok(size),
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
        Ok(self.count(FacetField::Organization, facet_size(first)?))
    }

    /// Keywords. All that are chosen must be there, so that these counts follow their own filter, too.
    async fn keywords(
        &self,
        #[graphql(default = 20, desc = "So many, at most 100.")] first: i32,
    ) -> Result<Vec<Facet>> {
        Ok(self.count(FacetField::Keyword, facet_size(first)?))
    }

    /// What kind of image the latest one is.
    async fn types(&self) -> Vec<Facet> {
        self.count(FacetField::Type, LONGEST_PAGE)
    }

    /// What the latest image is built for.
    async fn architectures(&self) -> Vec<Facet> {
        self.count(FacetField::Architecture, LONGEST_PAGE)
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
pub(super) fn organization_connection(view: &View, mine: bool, args: &PageArgs) -> Result<OrganizationConnection> {
    view.reads_kind(Kind::Organization);
    let binding = Binding::new(view, &("organizations", mine));
    let all = catalog::organizations(view, mine);
    let page = page(all, false, &binding, args)?;
    let edge =
        |(cursor, record): (String, Arc<Record>)| OrganizationEdge { cursor, node: view.organization_of(&record) };
    let edges: Vec<_> = page.items.into_iter().map(edge).collect();
    let nodes = edges.iter().map(|edge| edge.node.clone()).collect();
    Ok(OrganizationConnection { edges, nodes, page_info: page.info, total_count: page.total })
}
