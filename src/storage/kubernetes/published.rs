//! What is known of the store: which Records there are, and the commits since it was filled. The follower changes
//! it, batch by batch, before it tells anyone.

use std::collections::{HashMap, VecDeque};

use tracing::{error, warn};
use uuid::Uuid;

use super::record::{Content, Metadata};
use crate::storage::{Commit, Key, Revision, State};

/// Commits that are kept in memory for watchers and for writers who don't know what became of their write.
pub const TAIL_COMMITS: usize = 16_384;
/// Bytes of records in those commits, beside the newest.
pub const TAIL_BYTES: usize = 32 << 20;
/// Commits that a watch is given at a time.
pub const WATCH_BATCH: usize = 256;

/// A commit, and what tells whose it is.
#[derive(Debug)]
struct Entry {
    commit: Commit,
    /// The commit of the key before.
    previous: Option<Revision>,
    mark: Option<Uuid>,
    /// Of a deletion: whether a writer has been told that it was his.
    claimed: bool,
}

/// A Record that is there.
#[derive(Debug)]
struct Known {
    uid: String,
    /// What is served of it: the last commit that could be read. Later nonsense takes it away from nobody.
    served: Option<(Key, Revision)>,
}

/// What a list has found.
#[derive(Debug, Default)]
pub(super) struct Filled {
    pub revision: Revision,
    pub commits: Vec<Commit>,
    known: HashMap<String, Known>,
    pub damaged: HashMap<String, String>,
    /// See [`Published::told`].
    pub told: HashMap<String, String>,
    /// The nonces: name, revision, time.
    pub nonces: Vec<(String, Revision, i64)>,
    at_ms: i64,
}

impl Filled {
    pub(super) fn add(&mut self, metadata: Metadata, content: Content) {
        let revision = match metadata.revision() {
            Ok(revision) => revision,
            Err(why) => {
                self.damaged.insert(metadata.name, why);
                return;
            }
        };
        match content {
            Content::Record { key, at, value, .. } => {
                self.at_ms = self.at_ms.max(at);
                let served = Some((key.clone(), revision));
                self.known.insert(metadata.name, Known { uid: metadata.uid, served });
                self.commits.push(Commit { revision, at_ms: at, key, value: Some(value) });
            }
            Content::Nonce { at, .. } => {
                self.at_ms = self.at_ms.max(at);
                self.nonces.push((metadata.name, revision, at));
            }
            Content::Damaged(why) => {
                self.known.insert(metadata.name.clone(), Known { uid: metadata.uid, served: None });
                self.damaged.insert(metadata.name, why);
            }
        }
    }

    /// To be called when all is added: orders the commits, and has no time fall.
    pub(super) fn finish(&mut self, revision: Revision) {
        self.revision = revision;
        self.commits.sort_unstable_by_key(|commit| commit.revision);
        let mut highest = i64::MIN;
        for commit in &mut self.commits {
            highest = highest.max(commit.at_ms);
            commit.at_ms = highest;
        }
    }
}

/// What happened to an object of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Written,
    Deleted,
}

/// What a deletion has come to.
#[derive(Debug)]
pub(super) enum Claim {
    /// It is made, and the caller's.
    Mine(Commit),
    /// It was made by another.
    Taken,
    /// It isn't seen.
    Unseen,
}

#[derive(Debug, Default)]
pub(super) struct Published {
    /// Raised each time that the store is read anew: what was known before is of another time.
    pub generation: u64,
    /// The state that it was filled with, until somebody takes it.
    pub initial: Option<State>,
    /// All commits after it are in `tail`.
    pub floor: Revision,
    /// All that the host did up to here is known.
    pub position: Revision,
    /// The last commit, or the state that the store was filled with.
    pub highest: Revision,
    /// The highest time of any commit.
    pub at_ms: i64,
    /// Records that can't be read: the name, and why.
    pub damaged: HashMap<String, String>,
    /// Records whose condition says that they can't be: the name, and why.
    pub told: HashMap<String, String>,
    known: HashMap<String, Known>,
    tail: VecDeque<Entry>,
    tail_bytes: usize,
}

impl Published {
    /// Begins anew with what a list has found.
    pub(super) fn fill(&mut self, filled: Filled) {
        for (name, why) in &filled.damaged {
            error!(record = name, "a Record is damaged and kept apart; repair or delete it: {why}");
        }
        *self = Self {
            generation: self.generation + 1,
            initial: Some(State { revision: filled.revision, commits: filled.commits }),
            floor: filled.revision,
            position: filled.revision,
            highest: filled.revision,
            at_ms: self.at_ms.max(filled.at_ms),
            damaged: filled.damaged,
            told: filled.told,
            known: filled.known,
            tail: VecDeque::new(),
            tail_bytes: 0,
        };
    }

    /// Notes what the condition of the Record `name` says is wrong with it.
    pub(super) fn note(&mut self, name: &str, told: Option<String>) {
        match told {
            Some(why) => drop(self.told.insert(name.to_owned(), why)),
            None => drop(self.told.remove(name)),
        }
    }

    /// Applies one event of the host's watch. One that was applied before is passed over.
    pub(super) fn apply(&mut self, change: Change, metadata: Metadata, content: Content) -> Result<(), String> {
        let revision = metadata.revision()?;
        if revision <= self.position {
            return Ok(());
        }
        self.position = revision;
        let name = metadata.name;
        let previous = self.known.get(&name).and_then(|known| known.served.clone());
        if change == Change::Deleted {
            self.known.remove(&name);
            self.damaged.remove(&name);
            self.told.remove(&name);
            if let Some((key, previous)) = previous {
                // What is deleted carries no time of its own.
                let commit = Commit { revision, at_ms: self.at_ms, key, value: None };
                self.push(Entry { commit, previous: Some(previous), mark: None, claimed: false });
            }
            return Ok(());
        }
        match content {
            Content::Record { key, at, mark, value } => {
                if self.damaged.remove(&name).is_some() {
                    warn!(record = name, "the damaged Record is whole again");
                }
                self.at_ms = self.at_ms.max(at);
                self.known.insert(name, Known { uid: metadata.uid, served: Some((key.clone(), revision)) });
                let commit = Commit { revision, at_ms: self.at_ms, key, value: Some(value) };
                self.push(Entry { commit, previous: previous.map(|(_, revision)| revision), mark, claimed: false });
            }
            Content::Nonce { at, .. } => self.at_ms = self.at_ms.max(at),
            Content::Damaged(why) => {
                if self.damaged.get(&name) != Some(&why) {
                    error!(
                        record = name,
                        "a Record was damaged by another hand: what it was is served on until the next start; repair \
                         or delete it: {why}"
                    );
                }
                let known = Known { uid: metadata.uid, served: previous };
                self.known.insert(name.clone(), known);
                self.damaged.insert(name, why);
            }
        }
        Ok(())
    }

    /// Notes that the host has told all up to `revision`.
    pub(super) fn advance(&mut self, revision: Revision) {
        self.position = self.position.max(revision);
    }

    fn push(&mut self, entry: Entry) {
        self.highest = entry.commit.revision;
        self.tail_bytes += bytes_of(&entry);
        self.tail.push_back(entry);
        while self.tail.len() > 1 && (self.tail.len() > TAIL_COMMITS || self.tail_bytes > TAIL_BYTES) {
            if let Some(oldest) = self.tail.pop_front() {
                self.tail_bytes -= bytes_of(&oldest);
                self.floor = oldest.commit.revision;
            }
        }
    }

    fn from(&self, after: Revision) -> impl Iterator<Item = &Entry> {
        self.tail.range(self.tail.partition_point(|entry| entry.commit.revision <= after)..)
    }

    /// The next commits after `after`.
    pub(super) fn next(&self, after: Revision) -> Vec<Commit> {
        self.from(after).take(WATCH_BATCH).map(|entry| entry.commit.clone()).collect()
    }

    /// The commit at `revision`, if it is in memory.
    pub(super) fn at(&self, revision: Revision) -> Option<&Commit> {
        let index = self.tail.binary_search_by_key(&revision, |entry| entry.commit.revision).ok()?;
        self.tail.get(index).map(|entry| &entry.commit)
    }

    /// The commit that the write with this mark made.
    pub(super) fn marked(&self, mark: Uuid) -> Option<&Commit> {
        // A hand that edits a Record leaves the mark as it was: the first is the one.
        self.tail.iter().find(|entry| entry.mark == Some(mark)).map(|entry| &entry.commit)
    }

    /// The deletion of `key` as it was at `at`, for the first who asks for it.
    pub(super) fn claim(&mut self, key: &Key, at: Revision) -> Claim {
        let first = self.tail.partition_point(|entry| entry.commit.revision <= at);
        let found = self
            .tail
            .range_mut(first..)
            .find(|entry| entry.commit.value.is_none() && entry.previous == Some(at) && entry.commit.key == *key);
        match found {
            None => Claim::Unseen,
            Some(entry) if entry.claimed => Claim::Taken,
            Some(entry) => {
                entry.claimed = true;
                Claim::Mine(entry.commit.clone())
            }
        }
    }

    /// The uid of the Record `name`, if it is served as of `at`.
    pub(super) fn uid(&self, name: &str, at: Revision) -> Option<&str> {
        let known = self.known.get(name)?;
        known.served.as_ref().is_some_and(|(_, revision)| *revision == at).then_some(&*known.uid)
    }
}

fn bytes_of(entry: &Entry) -> usize {
    const OVERHEAD: usize = 256;
    entry.commit.value.as_ref().map_or(0, bytes::Bytes::len) + entry.commit.key.name.len() + OVERHEAD
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::json;

    use super::*;
    use crate::api::Kind;

    fn metadata(name: &str, revision: u64) -> Metadata {
        serde_json::from_value(json!({ "name": name, "uid": "u", "resourceVersion": revision.to_string() })).unwrap()
    }

    fn record(name: &str, at: i64, mark: u128) -> Content {
        let key = Key::new(Kind::Image, name);
        Content::Record { key, at, mark: Some(Uuid::from_u128(mark)), value: Bytes::from_static(b"{}") }
    }

    fn filled() -> Published {
        let mut filled = Filled::default();
        filled.add(metadata("images.b", 7), record("b", 90, 1));
        filled.add(metadata("images.a", 5), record("a", 100, 2));
        filled.add(metadata("images.c", 6), Content::Damaged("torn".to_owned()));
        filled.finish(Revision(10));
        let mut published = Published::default();
        published.fill(filled);
        published
    }

    fn apply(published: &mut Published, change: Change, name: &str, revision: u64, content: Content) {
        published.apply(change, metadata(name, revision), content).unwrap();
    }

    fn torn() -> Content {
        Content::Damaged("torn".to_owned())
    }

    #[test]
    fn times_never_fall_in_order_of_revision() {
        let mut published = filled();
        let state = published.initial.take().unwrap();
        let order: Vec<_> = state.commits.iter().map(|c| (c.revision.0, c.at_ms)).collect();
        assert_eq!(order, [(5, 100), (7, 100)]);
        apply(&mut published, Change::Written, "images.d", 11, record("d", 50, 3));
        apply(&mut published, Change::Deleted, "images.d", 12, torn());
        assert_eq!(published.next(Revision(10)).iter().map(|c| c.at_ms).collect::<Vec<_>>(), [100, 100]);
    }

    #[test]
    fn what_is_told_twice_is_applied_once() {
        let mut published = filled();
        for _ in 0..2 {
            apply(&mut published, Change::Written, "images.a", 11, record("a", 101, 3));
        }
        published.advance(Revision(15));
        apply(&mut published, Change::Written, "images.a", 14, record("a", 101, 4));
        assert_eq!(published.next(Revision(10)).len(), 1);
        assert_eq!((published.highest, published.position), (Revision(11), Revision(15)));
    }

    #[test]
    fn a_record_that_turns_to_nonsense_is_served_as_it_was_and_deleted_with_what_it_served() {
        let mut published = filled();
        assert_eq!(published.damaged.len(), 1);
        apply(&mut published, Change::Written, "images.a", 11, torn());
        assert_eq!((published.damaged.len(), published.next(Revision(10)).len()), (2, 0));
        // One that never was anything goes without a word.
        apply(&mut published, Change::Deleted, "images.c", 12, torn());
        assert_eq!((published.damaged.len(), published.next(Revision(10)).len()), (1, 0));
        apply(&mut published, Change::Deleted, "images.a", 13, torn());
        let commits = published.next(Revision(10));
        assert_eq!((commits[0].revision.0, &*commits[0].key.name, &commits[0].value), (13, "a", &None));
        assert!(published.damaged.is_empty());
        apply(&mut published, Change::Written, "images.b", 14, torn());
        apply(&mut published, Change::Written, "images.b", 15, record("b", 101, 3));
        assert!(published.damaged.is_empty());
        assert_eq!(published.next(Revision(13)).len(), 1);
    }

    #[test]
    fn a_deletion_is_the_first_claimants_only() {
        let mut published = filled();
        let key = Key::new(Kind::Image, "a");
        assert!(matches!(published.claim(&key, Revision(5)), Claim::Unseen));
        apply(&mut published, Change::Deleted, "images.a", 11, torn());
        assert!(matches!(published.claim(&key, Revision(4)), Claim::Unseen));
        assert!(matches!(published.claim(&key, Revision(5)), Claim::Mine(commit) if commit.revision.0 == 11));
        assert!(matches!(published.claim(&key, Revision(5)), Claim::Taken));
    }

    #[test]
    fn the_tail_is_bounded_and_its_floor_says_from_where_on_it_is_whole() {
        let mut published = filled();
        for revision in 11..=11 + TAIL_COMMITS as u64 {
            apply(&mut published, Change::Written, "images.a", revision, record("a", 100, u128::from(revision)));
        }
        assert_eq!(published.floor, Revision(11));
        assert_eq!(published.next(Revision(11)).len(), WATCH_BATCH);
        assert!(published.at(Revision(11)).is_none() && published.at(Revision(12)).is_some());
        assert!(published.marked(Uuid::from_u128(12)).is_some_and(|commit| commit.revision.0 == 12));
    }
}
