//! What readers and watchers see of the store: where each key is, and the newest commits. The committer
//! changes it once a batch, after the batch is durable and before anyone is told of it.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher};

use super::keys::Keys;
use super::tables::Point;
use crate::api::Kind;
use crate::storage::{Commit, Revision};

/// Commits kept in memory for watchers; one further behind reads the log.
pub const TAIL_COMMITS: usize = 4096;
/// Bytes of records in those commits, beside the newest batch.
pub const TAIL_BYTES: usize = 16 << 20;
/// Commits that a watch is given at a time.
pub const WATCH_BATCH: usize = 256;

/// A key, as 128 bits of two keyed hashes. No names are held: a million keys take little more than 24 bytes each. Two
/// names would have to agree in 128 bits under secrets chosen when
/// the process started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct KeyId([u64; 2]);

impl KeyId {
    /// Its first `count` bits, as a number.
    pub(super) fn leading_bits(self, count: u32) -> usize {
        usize::try_from(self.0[0] >> (u64::BITS - count)).expect("few bits are asked for")
    }
}

impl Hash for KeyId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0[0]);
    }
}

/// The hasher of what is a hash already.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// A map by [`KeyId`].
pub(super) type ByKey<V> = HashMap<KeyId, V, BuildHasherDefault<Hashed>>;

/// A set of [`KeyId`]s.
pub(super) type KeySet = HashSet<KeyId, BuildHasherDefault<Hashed>>;

/// The secrets of [`KeyId`]s.
#[derive(Debug, Clone, Default)]
pub(super) struct KeyIds([RandomState; 2]);

impl KeyIds {
    pub(super) fn of(&self, kind: Kind, name: &str) -> KeyId {
        KeyId([self.0[0].hash_one((kind as u8, name)), self.0[1].hash_one((kind as u8, name))])
    }
}

/// What the next commits after a watcher's revision are.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Commits(Vec<Commit>),
    /// There are none yet.
    CaughtUp,
    /// They are no longer in memory: read the log, up to this revision.
    InLog(u64),
}

#[derive(Debug, Default)]
pub(super) struct Published {
    /// Each present key's last commit.
    pub keys: Keys,
    pub highest: Point,
    pub floor: u64,
    /// The newest commits, without a gap, up to `highest`.
    tail: VecDeque<Commit>,
    tail_bytes: usize,
}

impl Published {
    /// Adds a batch, which begins after `highest`.
    pub(super) fn add(&mut self, batch: impl Iterator<Item = (KeyId, Commit)>) {
        let mut newest = 0;
        for (id, commit) in batch {
            if commit.value.is_some() {
                self.keys.insert(id, commit.revision.0);
            } else {
                self.keys.remove(id);
            }
            self.highest = Point { revision: commit.revision.0, at_ms: commit.at_ms };
            self.tail_bytes += bytes_of(&commit);
            self.tail.push_back(commit);
            newest += 1;
        }
        // The newest batch always stays: it may be all that a watcher has yet to see.
        while self.tail.len() > newest && (self.tail.len() > TAIL_COMMITS || self.tail_bytes > TAIL_BYTES) {
            self.tail_bytes -= self.tail.pop_front().map_or(0, |commit| bytes_of(&commit));
        }
    }

    /// The commit at `revision`, if it is in memory.
    pub(super) fn recent(&self, revision: u64) -> Option<&Commit> {
        let first = self.tail.front()?.revision.0;
        self.tail.get(usize::try_from(revision.checked_sub(first)?).ok()?)
    }

    /// What comes after `after`.
    pub(super) fn next(&self, after: Revision) -> Next {
        if after.0 >= self.highest.revision {
            return Next::CaughtUp;
        }
        match self.tail.front() {
            Some(first) if first.revision.0 <= after.0 + 1 => {
                let skip = usize::try_from(after.0 + 1 - first.revision.0).unwrap_or(usize::MAX);
                Next::Commits(self.tail.iter().skip(skip).take(WATCH_BATCH).cloned().collect())
            }
            _ => Next::InLog(self.highest.revision),
        }
    }
}

fn bytes_of(commit: &Commit) -> usize {
    commit.key.name.len() + commit.value.as_ref().map_or(0, bytes::Bytes::len)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::storage::Key;

    fn commit(revision: u64, bytes: usize) -> Commit {
        Commit {
            revision: Revision(revision),
            at_ms: 0,
            key: Key::new(Kind::Image, "a"),
            value: Some(Bytes::from(vec![0; bytes])),
        }
    }

    fn add(published: &mut Published, revisions: std::ops::RangeInclusive<u64>, bytes: usize) {
        let id = KeyIds::default().of(Kind::Image, "a");
        published.add(revisions.map(|revision| (id, commit(revision, bytes))));
    }

    #[test]
    fn the_tail_is_bounded_by_number_and_bytes_and_sends_the_slow_to_the_log() {
        let mut published = Published::default();
        add(&mut published, 1..=10, 1);
        for first in (11..=5000).step_by(10) {
            add(&mut published, first..=first + 9, 1);
        }
        assert_eq!(published.tail.len(), TAIL_COMMITS);
        assert_eq!(published.next(Revision(0)), Next::InLog(5000));
        assert_eq!(published.next(Revision(5000)), Next::CaughtUp);
        assert_eq!(published.next(Revision(9000)), Next::CaughtUp);
        let Next::Commits(commits) = published.next(Revision(4998)) else { panic!() };
        assert_eq!(commits.iter().map(|c| c.revision.0).collect::<Vec<_>>(), [4999, 5000]);
        assert_eq!(published.recent(4999).unwrap().revision.0, 4999);
        assert_eq!(published.recent(1), None);
        add(&mut published, 5001..=5001, TAIL_BYTES);
        assert_eq!(published.tail.len(), 1);
    }
}
