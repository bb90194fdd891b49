//! Whole answers, kept. An entry says which clocks it was read at; it is given again only where all of them still stand
//! there in the snapshot of the request, so that nothing is ever invalidated, and what was written elsewhere in the
//! catalogue costs nothing. Who asks is in the key.

use std::sync::Arc;

use bytes::Bytes;
use moka::sync::Cache;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use crate::api::name::hex;
use crate::auth::Caller;
use crate::graph::Visible;
use crate::graphql::view::{Clock, Reads};

/// What all answers take at most, in bytes.
pub(super) const ANSWER_BYTES: u64 = 64 * 1024 * 1024;
/// The largest answer that is kept, in bytes.
const LARGEST: usize = 1024 * 1024;

/// What an answer is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key([u8; 32]);

/// A whole answer without errors.
#[derive(Debug)]
pub(super) struct Answer {
    /// The filling of the graph that the clocks are of.
    generation: u64,
    clocks: Box<[Clock]>,
    /// Whether a text was searched for.
    pub(super) searched: bool,
    pub(super) body: Bytes,
    pub(super) etag: String,
}

/// The answers that are kept.
#[derive(Debug)]
pub(super) struct Answers(Cache<Key, Arc<Answer>>);

impl Key {
    /// Of `document` with these variables, asked by `caller` with what it sees.
    pub(super) fn new(
        document: &str,
        operation: Option<&str>,
        variables: &Map<String, Value>,
        caller: &Caller,
        visible: &Visible,
    ) -> Self {
        let mut hasher = Sha256::new();
        let mut part = |bytes: &[u8]| {
            hasher.update((bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        part(document.as_bytes());
        part(operation.unwrap_or_default().as_bytes());
        // In the order of their names.
        part(serde_json::to_string(variables).unwrap_or_default().as_bytes());
        part(caller.user().as_bytes());
        part(format!("{:?}", visible.sight()).as_bytes());
        part(&[
            u8::from(caller.is_authenticated()),
            u8::from(caller.is_administrator()),
            u8::from(caller.is_publisher()),
            u8::from(operation.is_some()),
        ]);
        for group in caller.groups() {
            part(group.as_bytes());
        }
        Self(hasher.finalize().into())
    }
}

impl Answer {
    pub(super) fn new(reads: &Reads, visible: &Visible, body: Bytes) -> Self {
        let digest = Sha256::digest(&body);
        let etag = hex(&digest[..16]);
        Self {
            generation: visible.generation(),
            clocks: reads.clocks(visible),
            searched: reads.searched().is_some(),
            body,
            etag: format!("\"{etag}\""),
        }
    }
}

impl Answers {
    pub(super) fn new() -> Self {
        let weigh = |_: &Key, answer: &Arc<Answer>| u32::try_from(answer.body.len() + 256).unwrap_or(u32::MAX);
        Self(Cache::builder().max_capacity(ANSWER_BYTES).weigher(weigh).build())
    }

    /// The answer, if it is still right for what `visible` shows.
    pub(super) fn get(&self, key: &Key, visible: &Visible) -> Option<Arc<Answer>> {
        let stands = |answer: &Arc<Answer>| {
            answer.generation == visible.generation() && answer.clocks.iter().all(|clock| clock.stands(visible))
        };
        self.0.get(key).filter(stands)
    }

    pub(super) fn put(&self, key: Key, answer: &Arc<Answer>) {
        if answer.body.len() <= LARGEST {
            self.0.insert(key, Arc::clone(answer));
        }
    }
}
