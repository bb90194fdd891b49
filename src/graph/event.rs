//! The log of what happened, one for all watchers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwapOption;
use bytes::Bytes;

use super::record::Record;
use crate::storage::{Key, Revision};

/// One commit, as watchers are told of it.
#[derive(Debug)]
pub struct Event {
    /// Its revision: the version of the object in it.
    pub revision: Revision,
    /// The store's time of it, milliseconds since 1970.
    pub at_ms: i64,
    /// What it is about.
    pub key: Key,
    /// The event of the same kind before this one: whoever has seen that has missed nothing.
    pub previous: Revision,
    /// Whether it is about an image of a repository that only managers and administrators saw then. What was
    /// told to others must also be told to be gone, and what was not must not, whatever became of the
    /// repository since.
    pub(super) hidden: bool,
    /// The object before, if it was there.
    pub old: Option<Arc<Record>>,
    /// The object after, or that there is none.
    pub(super) version: Arc<Record>,
    pub(super) encoded: [ArcSwapOption<Encoded>; ENCODINGS],
    /// How many bytes of encodings all events of the log keep.
    pub(super) kept: Arc<AtomicUsize>,
}

/// How many bytes of encoded events are kept at most, about. What is over it is encoded for each watcher anew.
pub const ENCODED_BYTES: usize = 64 * 1024 * 1024;

impl Drop for Event {
    fn drop(&mut self) {
        for slot in &self.encoded {
            forget(&self.kept, slot.swap(None));
        }
    }
}

fn forget(kept: &AtomicUsize, encoded: Option<Arc<Encoded>>) {
    kept.fetch_sub(encoded.map_or(0, |encoded| encoded.bytes.len()), Ordering::Relaxed);
}

/// The bytes of an event, and the snapshot that they were made from.
#[derive(Debug)]
pub(super) struct Encoded {
    of: Revision,
    bytes: Bytes,
}

/// How many encodings of an event are kept: each form for each sight.
pub const ENCODINGS: usize = 4;

impl Event {
    /// The object after, if it is there.
    #[must_use]
    pub fn new_record(&self) -> Option<&Arc<Record>> {
        self.version.present()
    }

    /// The object that watchers are sent: the new one, or the last one that was.
    #[must_use]
    pub fn record(&self) -> Option<&Arc<Record>> {
        self.new_record().or(self.old.as_ref())
    }

    /// Whether an object has lost a label by it, or a label's value.
    pub(super) fn takes_label(&self) -> bool {
        let new = self.new_record();
        let kept = |(label, value): (&str, &str)| new.is_some_and(|new| new.label(label) == Some(value));
        self.old.as_ref().is_some_and(|old| !old.labels().all(kept))
    }

    /// What the window's budget counts for it: the old version that only the log keeps, and itself.
    pub(super) fn weight(&self) -> usize {
        const OVERHEAD: usize = 256;
        self.old.as_ref().map_or(0, |old| old.weight()) + OVERHEAD
    }

    /// The event's bytes in encoding `which` (below [`ENCODINGS`]), made once for all watchers who see the
    /// snapshot of revision `of`: a computed status is of one snapshot, and so is what may be seen of it.
    pub fn encoded(&self, which: usize, of: Revision, make: impl FnOnce() -> Bytes) -> Bytes {
        let slot = &self.encoded[which];
        if let Some(encoded) = slot.load().as_ref().filter(|encoded| encoded.of == of) {
            return encoded.bytes.clone();
        }
        let bytes = make();
        if self.kept.fetch_add(bytes.len(), Ordering::Relaxed) < ENCODED_BYTES {
            forget(&self.kept, slot.swap(Some(Arc::new(Encoded { of, bytes: bytes.clone() }))));
        } else {
            self.kept.fetch_sub(bytes.len(), Ordering::Relaxed);
        }
        bytes
    }
}
