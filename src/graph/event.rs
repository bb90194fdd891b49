//! The log of what happened, one for all watchers.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::record::Record;
use super::snapshot::Version;
use super::visible::Visible;
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
    /// The object before, if it was there.
    pub old: Option<Arc<Record>>,
    pub(super) version: Arc<Version>,
    /// Image: whether its repository was private, or absent, when it happened. What is true of it when a
    /// watcher reads the event is another matter: the repository may be gone by then.
    pub(super) hidden: bool,
    encoded: [OnceLock<(Revision, Bytes)>; ENCODINGS],
    /// How many bytes of encodings all events of the log keep.
    kept: Arc<AtomicUsize>,
}

/// How many bytes of encoded events are kept at most, about. What is over it is encoded for each watcher anew.
pub const ENCODED_BYTES: usize = 64 * 1024 * 1024;

/// How many encodings of an event are kept: each form for each sight.
pub const ENCODINGS: usize = 4;

impl Drop for Event {
    fn drop(&mut self) {
        let kept: usize = self.encoded.iter().filter_map(OnceLock::get).map(|(_, bytes)| bytes.len()).sum();
        self.kept.fetch_sub(kept, Ordering::Relaxed);
    }
}

/// What an event is made of.
pub(super) struct Happened {
    pub(super) revision: Revision,
    pub(super) at_ms: i64,
    pub(super) key: Key,
    pub(super) previous: Revision,
    pub(super) old: Option<Arc<Record>>,
    pub(super) version: Arc<Version>,
    pub(super) hidden: bool,
}

impl Event {
    pub(super) fn new(happened: Happened, kept: Arc<AtomicUsize>) -> Self {
        let Happened { revision, at_ms, key, previous, old, version, hidden } = happened;
        Self { revision, at_ms, key, previous, old, version, hidden, encoded: Default::default(), kept }
    }

    /// The object after, if it is there.
    #[must_use]
    pub fn new_record(&self) -> Option<&Arc<Record>> {
        self.version.record.as_ref()
    }

    /// The object that watchers are sent: the new one, or the last one that was.
    #[must_use]
    pub fn record(&self) -> Option<&Arc<Record>> {
        self.new_record().or(self.old.as_ref())
    }

    /// What the window's budget counts for it: the old version that only the log keeps, and itself.
    pub(super) fn weight(&self) -> usize {
        const OVERHEAD: usize = 256;
        self.old.as_ref().map_or(0, |old| old.weight()) + OVERHEAD
    }

    /// The event's bytes in encoding `which` (below [`ENCODINGS`]), made once for all watchers who see what
    /// `visible` shows: after a change of sight they are made anew.
    pub fn encoded(&self, which: usize, visible: &Visible, make: impl FnOnce() -> Bytes) -> Bytes {
        let sight = visible.sight_changed();
        let slot = &self.encoded[which];
        if slot.get().is_none() && self.kept.load(Ordering::Relaxed) >= ENCODED_BYTES {
            return make();
        }
        let mut make = Some(make);
        let (made_at, bytes) = slot.get_or_init(|| {
            let bytes = make.take().map(|make| make()).unwrap_or_default();
            self.kept.fetch_add(bytes.len(), Ordering::Relaxed);
            (sight, bytes)
        });
        match make {
            Some(make) if *made_at != sight => make(),
            _ => bytes.clone(),
        }
    }
}
