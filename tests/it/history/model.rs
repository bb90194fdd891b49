//! A recorded history: what writers asked and were answered, and what observers saw, each with the
//! tick of one counter at which it began and ended.

use std::fmt;
use std::sync::Arc;

/// A resourceVersion.
pub type Revision = u64;
/// A moment, by the one counter of a run.
pub type Tick = u64;

/// An object: its plural kind and its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The kind's plural name.
    pub kind: &'static str,
    /// The object's `metadata.name`.
    pub name: Arc<str>,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)
    }
}

/// One version of an object, as somebody was shown it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Its resourceVersion.
    pub revision: Revision,
    /// The id of the write that made it; none where no writer of the test did.
    pub marker: Option<u64>,
    /// A digest of metadata and spec.
    pub content: u64,
}

/// What a write asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Create it, where it is absent.
    Create,
    /// Replace the version named.
    Replace(Revision),
    /// Patch whatever version there is.
    Patch,
    /// Delete it; only the version named, where one is.
    Delete(Option<Revision>),
}

/// What a write was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was done. A delete is not told its revision.
    Done(Option<Seen>),
    /// It was not done.
    Refused(Refusal),
    /// There was no answer: it may have been done, once.
    Unknown,
}

/// Why a write was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The object exists.
    Exists,
    /// The object does not exist.
    Missing,
    /// The object is not at the version named.
    Conflict,
    /// Not now: no statement about the object.
    Busy,
    /// Anything else, which no test expects.
    Other(String),
}

/// A write. Its `id` is in the content that it wrote, and no other write has it.
#[derive(Debug, Clone)]
pub struct Write {
    /// The marker that it wrote.
    pub id: u64,
    /// What it wrote to.
    pub key: Key,
    /// What it asked for.
    pub action: Action,
    /// When it was asked.
    pub invoked: Tick,
    /// When the outcome was known.
    pub returned: Tick,
    /// What came of it.
    pub outcome: Outcome,
}

/// A GET of one object.
#[derive(Debug, Clone)]
pub struct Read {
    /// What was read.
    pub key: Key,
    /// When it was asked.
    pub invoked: Tick,
    /// When it was answered.
    pub returned: Tick,
    /// The version that was answered; none for a 404.
    pub found: Option<Seen>,
}

/// How an object changed, as a watch says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Added,
    Modified,
    Deleted,
}

/// What an observer went through.
#[derive(Debug, Clone)]
pub enum Step {
    /// A consistent list of the whole kind.
    Listed {
        /// When it was asked.
        invoked: Tick,
        /// When it was answered.
        returned: Tick,
        /// The list's resourceVersion.
        revision: Revision,
        /// Its items.
        items: Vec<(Arc<str>, Seen)>,
    },
    /// An event of the watch that goes on from the last list, event or bookmark.
    Event {
        /// When it was read.
        at: Tick,
        /// What changed.
        change: Change,
        /// The object's name.
        name: Arc<str>,
        /// The object.
        seen: Seen,
    },
    /// A bookmark: all up to this revision has been told.
    Bookmark {
        /// When it was read.
        at: Tick,
        /// The revision.
        revision: Revision,
    },
    /// The server said 410: what comes next is a list.
    Expired,
}

/// Everything that one observer of one kind went through.
#[derive(Debug, Clone)]
pub struct Observer {
    /// For messages.
    pub name: String,
    /// The kind that it observes.
    pub kind: &'static str,
    /// In the order in which it happened.
    pub steps: Vec<Step>,
    /// Whether it saw the last write of the run; one that did not has been waited for in vain.
    pub finished: bool,
}

/// A run.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// All writes.
    pub writes: Vec<Write>,
    /// All reads of single objects.
    pub reads: Vec<Read>,
    /// All observers, the reader of the final state among them.
    pub observers: Vec<Observer>,
}
