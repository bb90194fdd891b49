//! Whole answers, kept. An entry says which clocks it was read at; it is given again only where all of them still stand
//! there in the snapshot of the request, so that nothing is ever invalidated, and what was written elsewhere in the
//! catalogue costs nothing. Who asks is in the key.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;
use moka::sync::Cache;
use sha2::{Digest as _, Sha256};

use super::view::{Clock, Reads};
use crate::api::name::hex;
use crate::auth::Caller;
use crate::graph::{Revision, Visible};
use crate::search::Search;

/// What all answers of a door take at most, in bytes.
pub const ANSWER_BYTES: u64 = 64 * 1024 * 1024;
/// The largest answer that is kept, in bytes.
pub const LARGEST_ANSWER: usize = 1024 * 1024;

/// What an answer is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key([u8; 32]);

/// A whole answer without errors.
#[derive(Debug)]
pub struct Answer {
    /// The filling of the graph that the clocks are of.
    generation: u64,
    clocks: Box<[Clock]>,
    /// Up to which revision a text was searched for, where one was.
    searched: Option<Revision>,
    /// Whether it may be another once the search has come further, though no clock moves.
    provisional: bool,
    /// The body.
    pub body: Bytes,
    /// A digest of it, in quotes.
    pub etag: String,
    /// The Link header that goes with it.
    pub link: Option<HeaderValue>,
}

/// The answers that are kept.
#[derive(Debug)]
pub struct Answers(Cache<Key, Arc<Answer>>);

impl Key {
    /// Of what `parts` say, asked by `caller` with what it sees.
    #[must_use]
    pub fn new(parts: &[&[u8]], caller: &Caller, visible: &Visible) -> Self {
        let mut hasher = Sha256::new();
        let mut part = |bytes: &[u8]| {
            hasher.update((bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        part(&(parts.len() as u64).to_le_bytes());
        for one in parts {
            part(one);
        }
        part(caller.user().as_bytes());
        part(format!("{:?}", visible.sight()).as_bytes());
        part(&[
            u8::from(caller.is_authenticated()),
            u8::from(caller.is_administrator()),
            u8::from(caller.is_publisher()),
        ]);
        for group in caller.groups() {
            part(group.as_bytes());
        }
        Self(hasher.finalize().into())
    }
}

impl Answer {
    /// One that was read from what `reads` says of what `visible` shows.
    #[must_use]
    pub fn new(reads: &Reads, visible: &Visible, body: Bytes, link: Option<HeaderValue>) -> Self {
        let etag = Self::tag(&body);
        Self {
            generation: visible.generation(),
            clocks: reads.clocks(visible),
            searched: reads.searched(),
            provisional: reads.is_provisional(visible),
            body,
            etag,
            link,
        }
    }

    /// One that is the same whatever the catalogue is.
    #[must_use]
    pub fn fixed(body: Bytes) -> Self {
        let etag = Self::tag(&body);
        Self { generation: 0, clocks: Box::default(), searched: None, provisional: false, body, etag, link: None }
    }

    /// The same without its body: enough to tell whether it still stands, for those who wait until it doesn't.
    #[must_use]
    pub fn mark(&self) -> Self {
        Self {
            generation: self.generation,
            clocks: self.clocks.clone(),
            searched: self.searched,
            provisional: self.provisional,
            body: Bytes::new(),
            etag: self.etag.clone(),
            link: None,
        }
    }

    /// The entity tag of a body.
    #[must_use]
    pub fn tag(body: &[u8]) -> String {
        format!("\"{}\"", hex(&Sha256::digest(body)[..16]))
    }

    /// Whether it is still right for what `visible` shows.
    #[must_use]
    pub fn stands(&self, visible: &Visible) -> bool {
        !self.provisional
            && self.generation == visible.generation()
            && self.clocks.iter().all(|clock| clock.stands(visible))
    }

    /// Whether it may be another once the search has come further.
    #[must_use]
    pub fn is_provisional(&self) -> bool {
        self.provisional
    }

    /// Up to which revision a text was searched for, where one was: at least. An answer that stands would be the same by
    /// a search that has come further since.
    #[must_use]
    pub fn searched(&self, search: Option<&Search>) -> Option<Revision> {
        let told = self.searched?;
        let now = search.filter(|_| !self.provisional).and_then(Search::revision);
        Some(now.map_or(told, |now| now.max(told)))
    }
}

impl Default for Answers {
    fn default() -> Self {
        let weigh = |_: &Key, answer: &Arc<Answer>| u32::try_from(answer.body.len() + 256).unwrap_or(u32::MAX);
        Self(Cache::builder().max_capacity(ANSWER_BYTES).weigher(weigh).build())
    }
}

impl Answers {
    /// The answer, if it is still right for what `visible` shows.
    #[must_use]
    pub fn get(&self, key: &Key, visible: &Visible) -> Option<Arc<Answer>> {
        self.0.get(key).filter(|answer| answer.stands(visible))
    }

    /// Keeps an answer, unless it is very large, or may be another soon.
    pub fn put(&self, key: Key, answer: &Arc<Answer>) {
        if !answer.provisional && answer.body.len() <= LARGEST_ANSWER {
            self.0.insert(key, Arc::clone(answer));
        }
    }
}
