//! What the committer thread, the readers and the watchers of one store share.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use bytes::Bytes;
use parking_lot::RwLock;
use redb::{Database, ReadTransaction, ReadableDatabase, WriteTransaction};
use tokio::sync::watch;

use super::published::{KeyIds, KeySet, Published, WATCH_BATCH};
use super::queue::Queue;
use super::tables::{LOG, MetaError, Point, read_floor};
use super::{CLOSED, row};
use crate::storage::{Commit, Key, ReadError, Revision, State};

/// Bytes of records read from the log at a time for a watcher; a single record may have more.
const LOG_READ_BYTES: usize = 1 << 20;
/// Bytes of records in a part of a state; the last one comes on top.
const STATE_READ_BYTES: usize = 1 << 20;
/// Times that a read looks again when compaction took the record that it had looked up.
const GET_TRIES: usize = 16;

/// What watchers wait for.
#[derive(Debug, Clone, Default)]
pub(super) struct Signal {
    pub highest: u64,
    /// Set once, when the storage has failed or was closed.
    pub ended: Option<Ended>,
}

#[derive(Debug, Clone)]
pub(super) struct Ended {
    pub reason: Arc<str>,
    pub failed: bool,
}

pub(super) struct Shared {
    /// What to call the store in messages.
    pub path: PathBuf,
    /// Taken out when the store is closed, so that no reader keeps the file locked.
    db: RwLock<Option<Database>>,
    pub ids: KeyIds,
    pub published: RwLock<Published>,
    pub queue: Queue,
    pub signal: watch::Sender<Signal>,
    /// How many durable transactions the committer has made since the store was opened.
    pub commits: AtomicU64,
}

impl Shared {
    pub(super) fn new(path: PathBuf, db: Database, ids: KeyIds, published: Published) -> Self {
        let signal = watch::Sender::new(Signal { highest: published.highest.revision, ended: None });
        let published = RwLock::new(published);
        Self {
            path,
            db: RwLock::new(Some(db)),
            ids,
            published,
            queue: Queue::default(),
            signal,
            commits: AtomicU64::new(0),
        }
    }

    pub(super) fn begin_write(&self) -> Result<WriteTransaction, redb::Error> {
        let db = self.db.read();
        Ok(db.as_ref().ok_or(redb::Error::DatabaseClosed)?.begin_write()?)
    }

    fn begin_read(&self) -> Result<ReadTransaction, redb::Error> {
        let db = self.db.read();
        Ok(db.as_ref().ok_or(redb::Error::DatabaseClosed)?.begin_read()?)
    }

    /// Ends everything: writes are refused, watches end, the file is let go unless it has `failed`, where
    /// the committer may still be in it.
    pub(super) fn end(&self, reason: &str, failed: bool) {
        self.queue.close(reason);
        self.signal.send_modify(|signal| {
            signal.ended.get_or_insert_with(|| Ended { reason: reason.into(), failed });
        });
    }

    /// Closes the file. The committer must have ended.
    pub(super) fn close_file(&self) {
        let db = self.db.write().take();
        // Closing after a failed write may find the same damage that a read would.
        drop(catch_unwind(AssertUnwindSafe(|| drop(db))));
    }

    pub(super) fn check_running(&self) -> Result<(), ReadError> {
        match &self.signal.borrow().ended {
            Some(ended) => Err(ReadError::Stopped(ended.reason.to_string())),
            None => Ok(()),
        }
    }

    /// The record of `key` now.
    pub(super) fn get(&self, key: &Key) -> Result<Option<Commit>, ReadError> {
        let id = self.ids.of(key.kind, &key.name);
        for _ in 0..GET_TRIES {
            self.check_running()?;
            let revision = {
                let published = self.published.read();
                let Some(revision) = published.keys.get(id) else { return Ok(None) };
                if let Some(commit) = published.recent(revision) {
                    return Ok(Some(commit.clone()));
                }
                revision
            };
            let found = self.read(|txn| {
                let log = txn.open_table(LOG)?;
                let Some(bytes) = log.get(revision)? else { return Ok(None) };
                let row = row::decode(revision, bytes.value()).map_err(ReadError::Damaged)?;
                Ok(Some(row.to_commit(revision)))
            })?;
            match found {
                Some(commit) if commit.key == *key => return Ok(Some(commit)),
                Some(commit) => {
                    let what = format!("row {revision} is of {}, not of {}", commit.key.name, key.name);
                    return Err(ReadError::Damaged(what));
                }
                // Superseded and compacted since it was looked up: look again.
                None => {}
            }
        }
        Err(ReadError::Damaged(format!("the row of {} {} is missing", key.kind, key.name)))
    }

    /// The state at the floor, in one transaction, the newest rows first, in parts: as long as `take` wants more.
    pub(super) fn state(&self, mut take: impl FnMut(State) -> bool) -> Result<(), ReadError> {
        self.check_running()?;
        self.read(|txn| {
            let floor = floor(txn)?;
            let log = txn.open_table(LOG)?;
            let mut part = Part::new(floor.revision);
            // Keys that were written after the floor. From the newest on: the first row of a key is the one that counts.
            let mut seen = KeySet::default();
            for entry in log.range(..=floor.revision)?.rev() {
                let (revision, bytes) = entry?;
                let revision = revision.value();
                let row = row::decode(revision, bytes.value()).map_err(ReadError::Damaged)?;
                let id = self.ids.of(row.kind, row.name);
                let newest = self.published.read().keys.get(id);
                let counts = match newest {
                    Some(newest) if newest <= floor.revision => newest == revision,
                    _ => seen.insert(id) && row.value.is_some(),
                };
                if counts && part.add(revision, &row) && !take(part.take()) {
                    return Ok(());
                }
            }
            take(part.take());
            Ok(())
        })
    }

    /// The commits after `after`, up to `last`, as many as are read at a time.
    pub(super) fn read_log(&self, after: Revision, last: u64) -> Result<Vec<Commit>, ReadError> {
        self.read(|txn| {
            let floor = floor(txn)?.revision;
            if after.0 < floor {
                return Err(ReadError::Compacted { asked: after, floor: Revision(floor) }.into());
            }
            let log = txn.open_table(LOG)?;
            let mut commits = Vec::new();
            let mut bytes_read = 0;
            for (entry, expected) in log.range(after.0 + 1..=last)?.zip(after.0 + 1..) {
                let (revision, bytes) = entry?;
                if revision.value() != expected {
                    break;
                }
                bytes_read += bytes.value().len();
                if !commits.is_empty() && (bytes_read > LOG_READ_BYTES || commits.len() >= WATCH_BATCH) {
                    return Ok(commits);
                }
                let row = row::decode(expected, bytes.value()).map_err(ReadError::Damaged)?;
                commits.push(row.to_commit(expected));
            }
            if commits.is_empty() {
                return Err(ReadError::Damaged(format!("row {} is missing from the log", after.0 + 1)).into());
            }
            Ok(commits)
        })
    }

    /// Reads in one transaction. redb may panic on a damaged file: that is damage, too.
    fn read<T>(&self, read: impl FnOnce(&ReadTransaction) -> Result<T, Failed>) -> Result<T, ReadError> {
        guarded(|| {
            let txn = self.begin_read()?;
            read(&txn)
        })
        .unwrap_or_else(|panic| Err(ReadError::Damaged(panic).into()))
        .map_err(|failed| failed.0)
    }
}

/// A part of a state: its records are in one allocation, which goes when they have all been taken over.
struct Part {
    floor: u64,
    rows: Vec<(Commit, usize)>,
    bytes: Vec<u8>,
}

impl Part {
    fn new(floor: u64) -> Self {
        Self { floor, rows: Vec::new(), bytes: Vec::new() }
    }

    /// Adds a record; whether the part is full.
    fn add(&mut self, revision: u64, row: &row::Row<'_>) -> bool {
        self.bytes.extend_from_slice(row.value.unwrap_or_default());
        self.rows.push((row.without_value(revision), self.bytes.len()));
        self.bytes.len() >= STATE_READ_BYTES
    }

    /// What was added, and begins anew.
    fn take(&mut self) -> State {
        let fresh = Self {
            floor: self.floor,
            rows: Vec::with_capacity(self.rows.len()),
            bytes: Vec::with_capacity(self.bytes.capacity()),
        };
        let Self { floor, rows, bytes } = std::mem::replace(self, fresh);
        let bytes = Bytes::from(bytes);
        let mut start = 0;
        let commits = rows.into_iter().map(|(commit, end)| {
            let value = Some(bytes.slice(start..end));
            start = end;
            Commit { value, ..commit }
        });
        State { revision: Revision(floor), commits: commits.collect() }
    }
}

/// A [`ReadError`] that redb's errors turn into.
struct Failed(ReadError);

impl From<ReadError> for Failed {
    fn from(error: ReadError) -> Self {
        Self(error)
    }
}

impl<E: Into<redb::Error>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self(match error.into() {
            redb::Error::DatabaseClosed => ReadError::Stopped(CLOSED.to_owned()),
            other => ReadError::Damaged(other.to_string()),
        })
    }
}

fn floor(txn: &ReadTransaction) -> Result<Point, ReadError> {
    read_floor(txn).map_err(|error| match error {
        MetaError::Redb(redb::Error::DatabaseClosed) => ReadError::Stopped(CLOSED.to_owned()),
        MetaError::Redb(error) => ReadError::Damaged(error.to_string()),
        MetaError::Damaged(what) => ReadError::Damaged(what),
        MetaError::Empty | MetaError::Foreign | MetaError::Newer(_) => {
            ReadError::Damaged("its table meta is not what it was".to_owned())
        }
    })
}

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Whether a panic of this thread would be caught and told as damage of the data file: no bug, and nothing
/// for a panic's hook to print.
#[must_use]
pub fn expects_panics() -> bool {
    GUARDED.get()
}

/// Runs `body`; the error is the message of its panic.
pub(super) fn guarded<T>(body: impl FnOnce() -> T) -> Result<T, String> {
    let before = GUARDED.replace(true);
    let done = catch_unwind(AssertUnwindSafe(body));
    GUARDED.set(before);
    done.map_err(|panic| {
        let message = panic.downcast_ref::<String>().map(String::as_str);
        message.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic while it was read").to_owned()
    })
}
