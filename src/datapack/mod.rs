//! DataPacks: the answer to a spec, computed from a snapshot, and the cache of answers.
//!
//! An entry of the cache is immutable: its key has the revision of the last change of what it was made
//! from, which the graph's writer moves in the same publication as the change. Nothing is invalidated, so
//! nothing old can be put back; what is out of date is no longer asked for, and goes by age and size.

mod content;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use crate::api::{ContentHash, Kind};
use crate::graph::{Digest, PackHead, Record, Revision, Sight, Visible};

pub(crate) use content::write_string;
pub use content::{CONTENT_LIMIT, write_tag};

/// What the cache holds at most, in bytes of content.
pub const CACHE_BYTES: u64 = 256 * 1024 * 1024;

/// One in so many answers is looked up in the cache though it is at hand: its policy goes by what is asked for.
const TOLD_EVERY: u64 = 16;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    content: ContentHash,
    /// Of which filling of the graph `changed` is.
    generation: u64,
    changed: Revision,
    /// The organizations whose private images are in the content, of those that the pack names.
    shown: Shown,
}

/// Which of the private images that a pack names are shown.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Shown {
    None,
    Of(Arc<[Box<str>]>),
}

/// The computed part of a pack's status, without what is the pack's own (when it expires).
#[derive(Debug)]
pub struct Content {
    /// The members of the status object: `"codes":1,"contentDigest":"…","datas":{…}`.
    pub members: Bytes,
    /// What tells one content from another.
    pub digest: Digest,
    /// `status.codes`.
    pub code: i32,
    /// The organizations of those images that it names and doesn't show, because they are private; sorted.
    hidden: Box<[Box<str>]>,
}

/// What the cache did, since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheStats {
    /// Answers that were there.
    pub hits: u64,
    /// Answers that were computed.
    pub misses: u64,
    /// Answers that went for want of room, or of age.
    pub evictions: u64,
    /// Answers that are there.
    pub entries: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// The cache of answers.
#[derive(Debug)]
pub struct Packs {
    cache: moka::sync::Cache<Key, Arc<Content>>,
    hits: AtomicU64,
    misses: AtomicU64,
    evictions: Arc<AtomicU64>,
}

impl Default for Packs {
    fn default() -> Self {
        Self::new(CACHE_BYTES)
    }
}

impl Packs {
    /// A cache of at most `bytes` bytes of content.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        /// What an entry takes beside its content, about.
        const OVERHEAD: usize = 256;
        let evictions = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&evictions);
        let cache = moka::sync::Cache::builder()
            .max_capacity(bytes)
            .weigher(|_, content: &Arc<Content>| u32::try_from(content.members.len() + OVERHEAD).unwrap_or(u32::MAX))
            .eviction_listener(move |_, _, _| {
                counter.fetch_add(1, Ordering::Relaxed);
            })
            .build();
        Self { cache, hits: AtomicU64::new(0), misses: AtomicU64::new(0), evictions }
    }

    /// The content of the pack `record`, as whoever `visible` was made for sees it now. Concurrent misses
    /// compute it once.
    ///
    /// # Panics
    /// Never: callers give a DataPack's record.
    #[must_use]
    pub fn content(&self, visible: &Visible, record: &Record) -> Arc<Content> {
        let pack = record.pack().expect("the record is a DataPack's");
        let changed = visible.pack_changed(record.name());
        // The slot beside the record is of its own content and of this change, whoever asks. Now and then the
        // cache itself is asked, so that it knows what is in use.
        let asked = self.hits.load(Ordering::Relaxed);
        if !asked.is_multiple_of(TOLD_EVERY)
            && let Some(content) = pack.answer.get::<Content>(changed)
        {
            self.hits.fetch_add(1, Ordering::Relaxed);
            return content;
        }
        // Changes are followed for the content that the pack has now. A record that was replaced or deleted
        // since (a list at an older revision, a DELETED event) is answered without the cache.
        let now = visible.get(Kind::DataPack, record.name()).and_then(|record| record.pack());
        if now.is_none_or(|now| now.content != pack.content) {
            self.misses.fetch_add(1, Ordering::Relaxed);
            return Arc::new(resolve(visible, pack));
        }
        let key = |shown| Key { content: pack.content, generation: visible.generation(), changed, shown };
        // What is for everybody is computed first, and says whether somebody may see more. Most packs name
        // nothing private: then there is one answer for all.
        let public = visible.seen_with(Sight::Public);
        let content = self.get_or(key(Shown::None), || resolve(&public, pack));
        if content.hidden.is_empty() {
            pack.answer.set(changed, &content);
            return content;
        }
        let shown: Vec<Box<str>> =
            content.hidden.iter().filter(|organization| visible.manages(organization)).cloned().collect();
        if shown.is_empty() {
            return content;
        }
        self.get_or(key(Shown::Of(shown.into())), || resolve(visible, pack))
    }

    fn get_or(&self, key: Key, compute: impl FnOnce() -> Content) -> Arc<Content> {
        if let Some(content) = self.cache.get(&key) {
            self.hits.fetch_add(1, Ordering::Relaxed);
            return content;
        }
        let mut computed = false;
        let content = self.cache.get_with(key, || {
            computed = true;
            Arc::new(compute())
        });
        // Whoever waited for another's computation was served from the cache, too.
        let counter = if computed { &self.misses } else { &self.hits };
        counter.fetch_add(1, Ordering::Relaxed);
        content
    }

    /// What the cache did.
    #[must_use]
    pub fn stats(&self) -> CacheStats {
        CacheStats {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            evictions: self.evictions.load(Ordering::Relaxed),
            entries: self.cache.entry_count(),
            bytes: self.cache.weighted_size(),
        }
    }
}

/// Computes the content of a pack, without the cache.
#[must_use]
pub fn resolve(visible: &Visible, pack: &PackHead) -> Content {
    content::compute(visible, pack)
}
