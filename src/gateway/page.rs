//! Pages: keyset cursors, which go on where they were though the list changes meanwhile.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::catalog::{self, Found, ImageQuery, RepositoryQuery};
use super::facets::Facets;
use super::view::View;
use crate::api::{Kind, version_order};
use crate::graph::{Record, organization_of};
use crate::model::{ErrorCode, Fault};

type Result<T> = std::result::Result<T, Fault>;

/// How many nodes a page has where it isn't said.
pub const PAGE: usize = 20;
/// How many nodes a page has at most.
pub const LONGEST_PAGE: usize = 100;
/// The longest cursor that is read, in bytes.
pub const LONGEST_CURSOR: usize = 1024;

/// Which page of a list.
#[derive(Debug, Default, Clone)]
pub struct PageArgs {
    /// So many from the beginning.
    pub first: Option<i32>,
    /// Only what comes after this cursor.
    pub after: Option<String>,
    /// So many from the end.
    pub last: Option<i32>,
    /// Only what comes before this cursor.
    pub before: Option<String>,
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
#[derive(Debug)]
pub struct Page<T> {
    /// What is on it, each with its cursor.
    pub items: Vec<(String, T)>,
    /// Whether there is more before it.
    pub before: bool,
    /// Whether there is more after it.
    pub after: bool,
    /// How many there are in the list.
    pub total: usize,
}

/// What a cursor is of: cursors of other lists, orders or viewers are refused.
struct Binding([u8; 8]);

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
        let bad = |why: &str| Fault::new(ErrorCode::CursorInvalid, why).at([field]);
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

/// How much of a list a page has.
#[derive(Debug, Clone, Copy)]
pub(super) enum Cut {
    First(usize),
    Last(usize),
}

/// The part of a list that a page is.
#[derive(Debug)]
pub(super) struct Span {
    pub(super) cut: Cut,
    pub(super) after: Option<Key>,
    pub(super) before: Option<Key>,
}

impl Span {
    fn new(args: &PageArgs, binding: &Binding) -> Result<Self> {
        let key = |field: &str, cursor: &Option<String>| {
            cursor.as_deref().map(|cursor| binding.key(field, cursor)).transpose()
        };
        Ok(Self { cut: cut(args)?, after: key("after", &args.after)?, before: key("before", &args.before)? })
    }
}

fn cut(args: &PageArgs) -> Result<Cut> {
    let size = |field: &str, n: i32| {
        let size = usize::try_from(n);
        let size = size.map_err(|_| Fault::new(ErrorCode::Invalid, format!("{field} is {n}; it can't be negative")))?;
        if size > LONGEST_PAGE {
            let message = format!("{field} is {n}; a page has at most {LONGEST_PAGE} nodes (limit: page size)");
            return Err(Fault::new(ErrorCode::LimitExceeded, message));
        }
        Ok(size)
    };
    match (args.first, args.last) {
        (Some(_), Some(_)) => Err(Fault::new(ErrorCode::Invalid, "say first or last, not both")),
        (None, None) => Ok(Cut::First(PAGE)),
        (Some(first), None) => Ok(Cut::First(size("first", first)?)),
        (None, Some(last)) => Ok(Cut::Last(size("last", last)?)),
    }
}

/// The page of `all` that `span` is. Only the page itself is sorted.
fn page<T>(all: Vec<Placed<T>>, descending: bool, binding: &Binding, span: &Span) -> Page<T> {
    let Span { cut, after, before } = span;
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
    match *cut {
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
    Page::new(items, left, right, total)
}

impl<T> Page<T> {
    fn new(items: Vec<(String, T)>, left: usize, right: usize, total: usize) -> Self {
        Self { items, before: left > 0, after: right > 0, total }
    }
}

/// A repository's images: they lie in order, so nothing is sorted or looked at beside the page.
///
/// # Errors
/// A page that is too long; a cursor that is none of this list.
pub fn tags(view: &View, repository: &str, args: &PageArgs) -> Result<Page<Arc<Record>>> {
    view.reads_organization(organization_of(repository));
    let all = view.visible().tags(repository);
    let binding = Binding::new(view, &("tags", repository));
    let Span { cut, after, before } = Span::new(args, &binding)?;
    let (mut start, mut end) = (0, all.len());
    if let Some(key) = after {
        start = all.partition_point(|record| Key::of_tag(record).compare(&key) != Ordering::Greater);
    }
    if let Some(key) = before {
        end = all.partition_point(|record| Key::of_tag(record).compare(&key) == Ordering::Less).max(start);
    }
    match cut {
        Cut::First(size) => end = end.min(start + size),
        Cut::Last(size) => start = start.max(end.saturating_sub(size)),
    }
    let items = all[start..end].iter().map(|record| (binding.cursor(&Key::of_tag(record)), Arc::clone(record)));
    Ok(Page::new(items.collect(), start, all.len() - end, all.len()))
}

/// The images that `query` asks for.
///
/// # Errors
/// As [`tags`].
pub fn images(view: &View, query: &ImageQuery, args: &PageArgs) -> Result<Page<Arc<Record>>> {
    let binding = Binding::new(view, &("images", query));
    let span = Span::new(args, &binding)?;
    Ok(page(catalog::images(view, query), query.order.descending, &binding, &span))
}

/// The repositories that `query` asks for, and what there is to choose from.
///
/// # Errors
/// As [`tags`]; a list by relevance that is to be paged backward; a text where no search has an answer.
pub fn repositories(view: &View, query: RepositoryQuery, args: &PageArgs) -> Result<(Page<Found>, Facets)> {
    if query.by_relevance() && (args.last.is_some() || args.before.is_some()) {
        return Err(Fault::new(ErrorCode::Invalid, "a list by RELEVANCE is paged forward only: use first and after"));
    }
    let binding = Binding::new(view, &("repositories", &query));
    let span = Span::new(args, &binding)?;
    let query = Arc::new(query);
    let Some(hits) = catalog::searched(view, &query, &span)? else {
        let found = catalog::repositories(view, &query).into_iter();
        let found = found.map(|Placed { key, what }| Placed { key, what: Found { record: what, matched: None } });
        let page = page(found.collect(), query.is_backwards(), &binding, &span);
        return Ok((page, Facets::new(view, &query, None)));
    };
    let found = hits.hits.into_iter().map(|hit| {
        let (first, second, name) = hit.cursor.place();
        let cursor = binding.cursor(&Key::Ranked(first, second, Arc::clone(name)));
        (cursor, Found { record: hit.repository, matched: hit.matched_image })
    });
    let page = Page { items: found.collect(), before: hits.has_previous, after: hits.has_next, total: hits.total };
    Ok((page, Facets::new(view, &query, Some(hits.facets))))
}

/// The organizations, all or those that the caller is a manager of, in order of name.
///
/// # Errors
/// As [`tags`].
pub fn organizations(view: &View, mine: bool, args: &PageArgs) -> Result<Page<Arc<Record>>> {
    view.reads_kind(Kind::Organization);
    let binding = Binding::new(view, &("organizations", mine));
    let span = Span::new(args, &binding)?;
    Ok(page(catalog::organizations(view, mine), false, &binding, &span))
}
