//! The default storage: an append-only log in one redb file. The log is the history.
//!
//! One thread writes (`committer`): it takes what waits in a bounded queue, decides on each write
//! against what is committed and the batch so far, and commits once. Then, in this order: the commit is
//! durable, readers and watchers have it, it is acknowledged. When a commit fails its outcome is unknown:
//! nothing in it is acknowledged, and the storage has stopped for good; the next start finds out.
//!
//! The forms of the rows and of the tables are described in the modules `row` and `tables`. At opening the whole
//! log is read once, each row's checksum verified, and the map from keys to revisions built. A clean
//! [`state`](Storage::state) is the one at the compaction floor; the log after it is the history.

pub mod backup;
mod check;
mod committer;
mod copy;
#[cfg(test)]
mod disk;
mod error;
mod history;
mod keys;
mod open;
mod overlay;
mod published;
mod queue;
mod row;
mod shared;
mod tables;
#[cfg(test)]
mod tests;
mod watch;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use parking_lot::Mutex;
use redb::{Database, ReadableDatabase, StorageBackend};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

pub use check::{LISTED_DAMAGE, Report, check};
pub use copy::{CopyError, CopyWriter};
pub use error::OpenError;
pub use published::{TAIL_BYTES, TAIL_COMMITS, WATCH_BATCH};
pub use queue::{BATCH_BYTES, BATCH_WRITES, QUEUE_BYTES, QUEUE_WRITES};
pub use shared::expects_panics;
pub use tables::RESTORED_STEP;

use super::{Commit, CommitError, Identity, Key, ReadError, Revision, State, Storage, Write};
use crate::clock::SharedClock;
use committer::Committer;
use queue::Pending;
use shared::{Shared, guarded};
use tables::{Meta, MetaError};

/// The name of the data file in the data directory.
pub const FILE: &str = "catalog.redb";
/// redb's own cache. It is small: the graph is the cache.
pub const CACHE_BYTES: usize = 32 << 20;
/// Bytes that stay free on the file system of the data directory.
pub const MIN_FREE_BYTES: u64 = 64 << 20;
/// How long history is kept.
pub const HISTORY: Duration = Duration::from_mins(5);
/// Commits of history that are kept at most, however recent: a burst, or a clock that stands, fills
/// neither the disk nor the memory.
pub const HISTORY_COMMITS: u64 = 1_000_000;

/// Parts of a state that are read before they are asked for.
const PARTS_AHEAD: usize = 2;

const CLOSED: &str = "it was closed";

/// Reads how many bytes are free for the data.
pub type FreeSpace = Arc<dyn Fn() -> io::Result<u64> + Send + Sync>;

/// How a store is kept. The default is what the constants of this module say.
#[derive(Clone)]
pub struct Options {
    /// How long history is kept: the age of a commit on the store's clock from which on compaction may
    /// take what it superseded. Time in which the store is closed doesn't count.
    pub history: Duration,
    /// Commits of history that are kept at most.
    pub history_commits: u64,
    /// Bytes that must stay free after a batch of writes; with fewer it is refused.
    pub min_free: u64,
    /// Where the free space is read; `None`: of the data directory's file system.
    pub free_space: Option<FreeSpace>,
}

impl Options {
    /// Takes the reading of the free space out, or that of `otherwise`.
    fn with_free_space(self, otherwise: impl FnOnce() -> FreeSpace) -> (Self, FreeSpace) {
        let free_space = self.free_space.unwrap_or_else(otherwise);
        (Self { free_space: None, ..self }, free_space)
    }
}

impl Default for Options {
    fn default() -> Self {
        Self { history: HISTORY, history_commits: HISTORY_COMMITS, min_free: MIN_FREE_BYTES, free_space: None }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("history", &self.history)
            .field("history_commits", &self.history_commits)
            .field("min_free", &self.min_free)
            .finish_non_exhaustive()
    }
}

/// The storage in a data directory of this machine.
pub struct Embedded {
    shared: Arc<Shared>,
    committer: Mutex<Option<JoinHandle<()>>>,
    store_id: Uuid,
    epoch: u64,
}

impl Embedded {
    /// Opens the store in `dir`, or makes one where there is none. It reads the whole log, so call it
    /// where blocking is allowed.
    ///
    /// # Errors
    ///
    /// [`OpenError`] says what is wrong and what to do; nothing is overwritten.
    pub fn open(dir: &Path, options: Options, clock: SharedClock) -> Result<Arc<Self>, OpenError> {
        let (options, free_space) = options.with_free_space(|| {
            let dir = dir.to_owned();
            Arc::new(move || {
                let stat = rustix::fs::statvfs(&dir)?;
                Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
            })
        });
        let db = open::open_dir(dir, &options, &free_space)?;
        Self::start(db, dir.join(FILE), &options, free_space, clock)
    }

    /// Opens the store in `backend`, or makes one if that is empty: for tests of what a disk can do.
    /// Without [`Options::free_space`] the space is endless.
    ///
    /// # Errors
    ///
    /// As [`Embedded::open`].
    pub fn open_with_backend(
        backend: impl StorageBackend,
        options: Options,
        clock: SharedClock,
    ) -> Result<Arc<Self>, OpenError> {
        let path = PathBuf::from(FILE);
        let (options, free_space) = options.with_free_space(|| Arc::new(|| Ok(u64::MAX)));
        let db = guarded(|| open::builder().create_with_backend(backend))
            .map_err(|panic| OpenError::damaged(&path, panic))?
            .map_err(|error| OpenError::database(&path, error))?;
        let read = db.begin_read().map_err(|error| OpenError::any(&path, error.into()))?;
        if matches!(tables::read_meta(&read), Err(MetaError::Empty)) {
            open::initialise(&db).map_err(|error| OpenError::any(&path, error))?;
        }
        drop(read);
        Self::start(db, path, &options, free_space, clock)
    }

    fn start(
        db: Database,
        path: PathBuf,
        options: &Options,
        free_space: FreeSpace,
        clock: SharedClock,
    ) -> Result<Arc<Self>, OpenError> {
        open::take_over(&db, &path)?;
        let loaded = open::load(&db, &path, options, clock.now().as_millisecond())?;
        let written = loaded.meta.highest;
        let shared = Arc::new(Shared::new(path, db, loaded.ids, loaded.published));
        let committer = Committer {
            shared: Arc::clone(&shared),
            history: loaded.history,
            clock,
            free_space,
            min_free: options.min_free,
            written,
            unwritten: Vec::new(),
        };
        let thread = thread::Builder::new()
            .name("storage-commit".to_owned())
            .spawn(|| committer.run())
            .map_err(|source| OpenError::Io { path: shared.path.clone(), source })?;
        let Meta { store_id, epoch, .. } = loaded.meta;
        Ok(Arc::new(Self { shared, committer: Mutex::new(Some(thread)), store_id, epoch }))
    }

    /// The id that the store was given when it was made.
    #[must_use]
    pub fn store_id(&self) -> Uuid {
        self.store_id
    }

    /// The store's epoch: raised when an older copy of it was put in its place.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// How many durable transactions were made since the store was opened: writes that wait at the same time share
    /// one.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.shared.commits.load(Ordering::Relaxed)
    }

    /// Compacts all that is due by now, and answers with the floor. It happens by itself, too.
    ///
    /// # Errors
    ///
    /// [`ReadError::Stopped`].
    pub async fn compact(&self) -> Result<Revision, ReadError> {
        let answer = self.shared.queue.compact();
        match answer.await {
            Ok(floor) => Ok(floor),
            Err(_) => Err(ReadError::Stopped(self.reason())),
        }
    }

    /// Ends the store in order: what is being committed is finished, what waits is refused, watches end,
    /// the file is free for another. It blocks for about the time of one commit. Dropping does the same.
    pub fn close(&self) {
        self.shared.end(CLOSED, false);
        if let Some(thread) = self.committer.lock().take() {
            // Its panics are caught inside.
            let _ = thread.join();
        }
        self.shared.close_file();
    }

    fn reason(&self) -> String {
        self.shared.signal.borrow().ended.as_ref().map_or_else(|| CLOSED.to_owned(), |ended| ended.reason.to_string())
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embedded")
            .field("path", &self.shared.path)
            .field("store_id", &self.store_id)
            .finish_non_exhaustive()
    }
}

impl Storage for Embedded {
    fn commit(&self, write: Write) -> BoxFuture<'_, Result<Commit, CommitError>> {
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            self.shared.queue.push(Pending { write, reply })?;
            answer.await.unwrap_or_else(|_| Err(CommitError::Stopped(self.reason())))
        })
    }

    fn get(&self, key: Key) -> BoxFuture<'_, Result<Option<Commit>, ReadError>> {
        // Read in place: a record is a page or two, as a rule in memory, which is cheaper than to hand it
        // to another thread.
        Box::pin(async move { self.shared.get(&key) })
    }

    fn current(&self) -> BoxFuture<'_, Result<Revision, ReadError>> {
        Box::pin(async move {
            self.shared.check_running()?;
            Ok(Revision(self.shared.published.read().highest.revision))
        })
    }

    fn state(&self) -> BoxFuture<'_, Result<State, ReadError>> {
        Box::pin(async move {
            let mut parts = self.state_in_parts();
            let mut state = State { revision: Revision::default(), commits: Vec::new() };
            while let Some(part) = parts.next().await {
                let part = part?;
                state.revision = part.revision;
                state.commits.extend(part.commits);
            }
            state.commits.sort_unstable_by_key(|commit| commit.revision);
            Ok(state)
        })
    }

    fn state_in_parts(&self) -> BoxStream<'_, Result<State, ReadError>> {
        let shared = Arc::clone(&self.shared);
        let (sender, receiver) = mpsc::channel(PARTS_AHEAD);
        let reading = tokio::task::spawn_blocking(move || {
            let done = shared.state(|part| sender.blocking_send(Ok(part)).is_ok());
            if let Err(error) = done {
                // Where nobody waits for it any more, nobody need know.
                let _ = sender.blocking_send(Err(error));
            }
        });
        let parts = futures::stream::unfold((receiver, Some(reading)), async |(mut receiver, mut reading)| {
            if let Some(part) = receiver.recv().await {
                return Some((part, (receiver, reading)));
            }
            let ended = reading.take()?.await.err()?;
            Some((Err(ReadError::Stopped(ended.to_string())), (receiver, None)))
        });
        parts.boxed()
    }

    fn watch(&self, after: Revision) -> BoxStream<'static, Result<Vec<Commit>, ReadError>> {
        watch::stream(Arc::clone(&self.shared), after)
    }

    fn identity(&self) -> Identity {
        Identity { store_id: self.store_id, epoch: self.epoch }
    }

    fn stopped(&self) -> BoxFuture<'static, String> {
        let mut signal = self.shared.signal.subscribe();
        Box::pin(async move {
            let ended = signal.wait_for(|signal| signal.ended.is_some()).await;
            match ended.ok().and_then(|signal| signal.ended.clone()) {
                Some(ended) if ended.failed => ended.reason.to_string(),
                // Closed in order: nothing has failed, and never will.
                _ => std::future::pending().await,
            }
        })
    }
}
