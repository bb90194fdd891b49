//! What is asked of the search, and what it answers.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

use super::words::Text;
use crate::api::ImageType;
use crate::error::Error;
use crate::graph::{Record, Revision, Sight};

/// The most hits of one answer.
pub const MAX_LIMIT: usize = 100;
/// The most values of one facet, besides those that are filtered by.
pub const MAX_FACET_VALUES: usize = 100;
/// The most values of one part of a filter.
pub const MAX_FILTER_VALUES: usize = 1000;
/// The longest cursor that is read, in bytes.
const LONGEST_CURSOR: usize = 4096;

/// Which repositories are wanted, in which order, and how many.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// What they are searched by. Without it all match.
    pub text: Option<Text>,
    /// Which of those that match are wanted.
    pub filter: Filter,
    /// Their order.
    pub order: Order,
    /// Which of them.
    pub page: Page,
    /// How many values a facet has at most, of those that are not filtered by.
    pub facet_values: usize,
}

/// Which repositories are wanted: within a part any of the values, but of the keywords all. An absent part wants
/// all; `None` as a value wants those without one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Full names, `org/repo`.
    pub names: Option<Vec<String>>,
    /// Names of organizations.
    pub organizations: Option<Vec<String>>,
    /// Supported keywords, in the form of their list. All of them.
    pub keywords: Vec<String>,
    /// Types of the latest image.
    pub types: Option<Vec<Option<ImageType>>>,
    /// Architectures of the latest image.
    pub architectures: Option<Vec<Option<String>>>,
    /// Whether they are private.
    pub is_private: Option<bool>,
    /// Whether this manager is among those of their organization.
    pub managed_by: Option<(String, bool)>,
    /// Not updated before this, milliseconds since 1970.
    pub updated_since_ms: Option<i64>,
}

impl Filter {
    /// Checks that no part has more values than are looked at.
    ///
    /// # Errors
    /// `BadRequest`, with the part and the limit.
    pub(super) fn check(&self) -> Result<(), Error> {
        let length = |part: &Option<Vec<String>>| part.as_ref().map_or(0, Vec::len);
        let parts = [
            ("names", length(&self.names)),
            ("organizations", length(&self.organizations)),
            ("keywords", self.keywords.len()),
            ("types", self.types.as_ref().map_or(0, Vec::len)),
            ("architectures", self.architectures.as_ref().map_or(0, Vec::len)),
        ];
        match parts.into_iter().find(|(_, length)| *length > MAX_FILTER_VALUES) {
            Some((part, length)) => Err(Error::BadRequest(format!(
                "the filter {part} has {length} values; at most {MAX_FILTER_VALUES} are looked at"
            ))),
            None => Ok(()),
        }
    }

    pub(super) fn name_set(&self) -> Option<HashSet<&str>> {
        self.names.as_ref().map(|names| names.iter().map(String::as_str).collect())
    }
}

/// By what hits are sorted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OrderField {
    /// The best match first, among equals the most popular one. Without a text: the most popular first.
    #[default]
    Relevance,
    /// The full name.
    Name,
    /// When they last got something new.
    Updated,
    /// How often they were downloaded.
    Downloads,
}

/// The order of hits. The name decides among equals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Order {
    /// By what.
    pub field: OrderField,
    /// The greatest first. Relevance has one direction.
    pub descending: bool,
}

/// Which hits, in their order.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// How many at most.
    pub limit: usize,
    /// Only those after this one.
    pub after: Option<Cursor>,
    /// Only those before this one.
    pub before: Option<Cursor>,
    /// The last of them, not the first.
    pub last: bool,
}

/// The place of a hit in the order. What is added or taken away elsewhere doesn't move it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    pub(super) first: i64,
    pub(super) second: i64,
    pub(super) name: Arc<str>,
    /// Of which question and viewer it is.
    of: [u8; 8],
}

impl Cursor {
    pub(super) fn new(first: i64, second: i64, name: Arc<str>, of: [u8; 8]) -> Self {
        Self { first, second, name, of }
    }

    /// Where it is: two numbers and a name, for doors with cursors of their own. [`Query::cursor`] goes back there.
    #[must_use]
    pub fn place(&self) -> (i64, i64, &Arc<str>) {
        (self.first, self.second, &self.name)
    }

    /// The cursor as clients get it.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut bytes = self.of.to_vec();
        bytes.extend_from_slice(&self.first.to_be_bytes());
        bytes.extend_from_slice(&self.second.to_be_bytes());
        bytes.extend_from_slice(self.name.as_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads what [`encode`](Self::encode) wrote. Whether it belongs to the question is looked at when it is used.
    ///
    /// # Errors
    /// `BadRequest` where it is none.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let read = || {
            let bytes = (text.len() <= LONGEST_CURSOR).then(|| URL_SAFE_NO_PAD.decode(text).ok()).flatten()?;
            let (of, rest) = bytes.split_first_chunk::<8>()?;
            let (first, rest) = rest.split_first_chunk::<8>()?;
            let (second, name) = rest.split_first_chunk::<8>()?;
            let name = std::str::from_utf8(name).ok()?.into();
            Some(Self { first: i64::from_be_bytes(*first), second: i64::from_be_bytes(*second), name, of: *of })
        };
        read().ok_or_else(|| Error::BadRequest("the cursor is none that this server gave out".to_owned()))
    }
}

impl Query {
    /// What a cursor is bound to: the text, the filter, the order and what the viewer sees.
    pub(super) fn binding(&self, sight: &Sight) -> [u8; 8] {
        let text = self.text.as_ref().map(Text::as_str);
        let digest = Sha256::digest(format!("{:?}", (text, &self.filter, self.order, sight)));
        let mut short = [0; 8];
        short.copy_from_slice(&digest[..8]);
        short
    }

    /// The cursor at a [`place`](Cursor::place) in this query's order, for whoever has `sight`.
    #[must_use]
    pub fn cursor(&self, sight: &Sight, (first, second, name): (i64, i64, Arc<str>)) -> Cursor {
        Cursor::new(first, second, name, self.binding(sight))
    }

    /// Checks the cursors and the filter.
    pub(super) fn check(&self, sight: &Sight) -> Result<[u8; 8], Error> {
        self.filter.check()?;
        let binding = self.binding(sight);
        let cursors = [&self.page.after, &self.page.before];
        if cursors.into_iter().flatten().any(|cursor| cursor.of != binding) {
            let why = "the cursor is of another query, order or viewer; begin without one";
            return Err(Error::BadRequest(why.to_owned()));
        }
        Ok(binding)
    }
}

/// Where a row stands in the order that is asked for: the least first.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rank<'a> {
    pub(super) first: i64,
    pub(super) second: i64,
    pub(super) begins: u128,
    pub(super) name: &'a Arc<str>,
}

impl Rank<'_> {
    /// Compares two ranks; `names_backwards` where the order is that of names, descending.
    pub(super) fn compare(&self, other: &Rank<'_>, names_backwards: bool) -> Ordering {
        let names = || self.begins.cmp(&other.begins).then_with(|| self.name.cmp(other.name));
        let numbers = (self.first, self.second).cmp(&(other.first, other.second));
        numbers.then_with(|| if names_backwards { names().reverse() } else { names() })
    }
}

/// What was found.
#[derive(Debug, Clone)]
pub struct Hits {
    /// How many there are, on all pages.
    pub total: usize,
    /// Those of the page, in the order asked for.
    pub hits: Vec<Hit>,
    /// Whether there are some after those of the page.
    pub has_next: bool,
    /// Whether there are some before.
    pub has_previous: bool,
    /// How the hits are spread.
    pub facets: Facets,
    /// Up to which revision the text was searched. What is told of each hit is that of the snapshot.
    pub indexed: Revision,
    /// Whether nothing matched as it was written, and these only do with a typo forgiven.
    pub forgiven: bool,
}

/// A repository that was found.
#[derive(Debug, Clone)]
pub struct Hit {
    /// The repository, as the snapshot has it.
    pub repository: Arc<Record>,
    /// The image that the text names by its tag.
    pub matched_image: Option<Arc<Record>>,
    /// Its place in the order.
    pub cursor: Cursor,
}

/// How hits are spread. Each facet counts what would be found without the filter by it (but for keywords, all of
/// which are asked for), so that it says what another choice would give.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facets {
    /// By organization: the most frequent ones, and those that are filtered by.
    pub organizations: Vec<Facet>,
    /// By supported keyword, likewise.
    pub keywords: Vec<Facet>,
    /// By the latest image's type.
    pub types: Vec<Facet>,
    /// By the latest image's architecture, likewise.
    pub architectures: Vec<Facet>,
}

/// A value, and how many hits have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facet {
    /// The value; `None` for "has none".
    pub value: Option<Arc<str>>,
    /// How many.
    pub count: usize,
    /// Whether it is filtered by.
    pub selected: bool,
}

/// Something whose name is like what was typed.
#[derive(Debug, Clone)]
pub struct Suggestion {
    /// The full name: `org` or `org/repo`.
    pub text: Arc<str>,
    /// The organization or repository.
    pub node: Arc<Record>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written_and_nothing_else_is_one() {
        let cursor = Cursor::new(-5, i64::MAX, "labring/redis".into(), [7; 8]);
        assert_eq!(Cursor::parse(&cursor.encode()).unwrap(), cursor);
        for text in ["", "x", "AAAA", "数据", &"A".repeat(LONGEST_CURSOR + 4)] {
            assert!(Cursor::parse(text).is_err(), "{text}");
        }
    }
}
