//! Where objects are kept: one key a commit, compare-and-swap by revision, one sequence of revisions
//! for all kinds. Storage is dumb: it knows no semantics, relates no two keys, and lists only one
//! consistent state. What must hold of every storage is the module `conformance`, run against each.

#[cfg(test)]
pub mod conformance;
pub mod embedded;
pub mod kubernetes;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use uuid::Uuid;

use crate::api::Kind;

/// A point in the one sequence of commits: positive, rising, never given out twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Revision(pub u64);

/// What an empty store stands at, as etcd does: a list of nothing has a version, too, and 0 would mean "any".
pub const ORIGIN: Revision = Revision(1);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a record is stored under: its kind and its `metadata.name`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The kind.
    pub kind: Kind,
    /// The object's `metadata.name`.
    pub name: Arc<str>,
}

impl Key {
    /// The key of `kind` `name`.
    pub fn new(kind: Kind, name: impl Into<Arc<str>>) -> Self {
        Self { kind, name: name.into() }
    }
}

/// What a write expects of the key before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// There is no record.
    Absent,
    /// The record's last commit is this one.
    At(Revision),
}

/// One commit to be made.
#[derive(Debug, Clone)]
pub struct Write {
    /// What to write.
    pub key: Key,
    /// What must be true before.
    pub expect: Expect,
    /// The whole new record, or `None` to delete it.
    pub value: Option<Bytes>,
}

/// One commit that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Its revision.
    pub revision: Revision,
    /// The store's time of it, milliseconds since 1970, never lower than that of an earlier commit in the same state
    /// or watch. The answer to a write that was made while the store was away may say an earlier one.
    pub at_ms: i64,
    /// What was written.
    pub key: Key,
    /// The whole record, or `None` where it was deleted.
    pub value: Option<Bytes>,
}

/// Why a write was not made, or may not have been.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CommitError {
    /// The expectation does not hold; nothing was written.
    #[error("the record is at revision {current:?}, not where the write expected it")]
    Conflict {
        /// Where the record is now.
        current: Option<Revision>,
    },
    /// The queue of writes is full; nothing was written.
    #[error("too many writes are waiting ({0} at most); try again")]
    Busy(usize),
    /// Too little space is left; nothing was written.
    #[error("too little free space for a write: {free} bytes, at least {needed} are kept free")]
    NoSpace {
        /// Bytes free.
        free: u64,
        /// Bytes that must stay free.
        needed: u64,
    },
    /// It is larger than the storage can keep; nothing was written.
    #[error("the record takes {bytes} bytes in the store, which keeps {limit} at most")]
    TooLarge {
        /// Bytes that it takes, as it is stored.
        bytes: usize,
        /// The most that it may take.
        limit: usize,
    },
    /// The store is away for now; nothing was written.
    #[error("the store can't be reached: {0}")]
    Unavailable(String),
    /// The store refuses it, and will again; nothing was written.
    #[error("the store refuses the write: {0}")]
    Refused(String),
    /// It may have been written or not, or may yet be: the store was asked, and did not answer in time.
    #[error("it is not known whether the write was made: {0}")]
    Unknown(String),
    /// The commit failed or its outcome is unknown: the storage has stopped for good.
    #[error("the storage has stopped: {0}")]
    Stopped(String),
}

/// Why a read or a watch ended.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// The history asked for has been compacted away.
    #[error("revision {asked} is older than the oldest kept, {floor}")]
    Compacted {
        /// The revision asked for.
        asked: Revision,
        /// The oldest from which a watch can go on.
        floor: Revision,
    },
    /// The storage has stopped for good.
    #[error("the storage has stopped: {0}")]
    Stopped(String),
    /// What is stored can't be read.
    #[error("the stored data is damaged: {0}")]
    Damaged(String),
    /// The store is away for now.
    #[error("the store can't be reached: {0}")]
    Unavailable(String),
}

/// One consistent state of all keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// The revision it is the state of: a watch after it sees all that came later.
    pub revision: Revision,
    /// Each present key's last commit at that revision, in order of revision. No tombstones.
    pub commits: Vec<Commit>,
}

/// Which store it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The id that the store was given when it was made.
    pub store_id: Uuid,
    /// Raised when an older copy of it was put in its place.
    pub epoch: u64,
}

/// A place to keep records. See the module `conformance` for the whole contract, as tests.
pub trait Storage: Send + Sync + 'static {
    /// Makes one commit if `write.expect` holds, durably, and answers with it. To delete with
    /// [`Expect::Absent`] is a conflict always: there is nothing to delete. A write whose future is
    /// dropped may be made all the same.
    fn commit(&self, write: Write) -> BoxFuture<'_, Result<Commit, CommitError>>;

    /// The record now: linearizable.
    fn get(&self, key: Key) -> BoxFuture<'_, Result<Option<Commit>, ReadError>>;

    /// The highest revision given out: linearizable.
    fn current(&self) -> BoxFuture<'_, Result<Revision, ReadError>>;

    /// A consistent state to start from. It is the oldest state whose later history is kept whole, so
    /// that a watch after it brings the kept history, too; a storage without history gives the newest.
    fn state(&self) -> BoxFuture<'_, Result<State, ReadError>>;

    /// The same state in parts, so that it need not be in memory twice while it is read. Each part says of which
    /// revision it is, all of one and the same; there is at least one. The keys come in any order, each once.
    fn state_in_parts(&self) -> BoxStream<'_, Result<State, ReadError>> {
        futures::stream::once(self.state()).boxed()
    }

    /// All commits after `after`, in order of revision, each once, in batches that are never empty;
    /// it goes on until it is dropped, or ends with an error. After a revision that is not yet given out
    /// it waits for the ones above it.
    fn watch(&self, after: Revision) -> BoxStream<'static, Result<Vec<Commit>, ReadError>>;

    /// Which store it is.
    fn identity(&self) -> Identity;

    /// How many records are there that can't be read, and are kept apart: what they may own must not be taken for
    /// ownerless.
    fn damaged_records(&self) -> usize {
        0
    }

    /// Whether another process may write to it: then what a snapshot shows may be overtaken, and nothing is
    /// refused on a snapshot alone.
    fn is_shared(&self) -> bool {
        false
    }

    /// Resolves, with the reason, when the storage has failed and stopped for good: the process must end.
    fn stopped(&self) -> BoxFuture<'static, String>;
}
