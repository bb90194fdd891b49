//! From a storage's state to the first snapshot: parts of the state are read and decoded at the same time, on all
//! cores, and let go of as they become records.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use parking_lot::Mutex;

use super::record::{Damaged, Head, Record};
use super::snapshot::Snapshot;
use crate::storage::{Commit, Revision, State};

/// Commits that a thread is given at a time, at most.
const TASK: usize = 4096;
/// Tasks that wait for a thread, at most: more would only be in memory.
const WAITING: usize = 2;

/// Records of a state, decoded.
#[derive(Default)]
struct Decoded {
    records: Vec<Arc<Record>>,
    /// The names of images that packs have, each once.
    names: HashSet<Arc<str>>,
}

impl Decoded {
    fn add(&mut self, commits: Vec<Commit>) -> Result<(), Damaged> {
        for commit in commits {
            let Some(stored) = commit.value else { continue };
            let mut record = Record::decode(commit.key, commit.revision, &stored)?;
            record.at_ms = commit.at_ms;
            if let Head::DataPack(pack) = &mut record.head {
                for name in &mut pack.names {
                    match self.names.get(&**name) {
                        Some(known) => *name = Arc::clone(known),
                        None => drop(self.names.insert(Arc::clone(name))),
                    }
                }
            }
            self.records.push(Arc::new(record));
        }
        Ok(())
    }
}

/// What is known so far of a state that is being read.
#[derive(Default)]
pub(super) struct Filling {
    revision: Revision,
    at_ms: i64,
    begun: bool,
    /// What was decoded without a thread: all of a small state.
    small: Decoded,
    threads: Option<Threads>,
}

impl Filling {
    /// Takes a part of the state.
    ///
    /// # Errors
    /// A record in it can't be read.
    pub(super) fn take(&mut self, part: State) -> Result<(), Damaged> {
        self.revision = part.revision;
        self.at_ms = part.commits.iter().map(|commit| commit.at_ms).fold(self.at_ms, i64::max);
        let first = !std::mem::replace(&mut self.begun, true);
        if first && part.commits.len() < TASK {
            return self.small.add(part.commits);
        }
        let threads = self.threads.get_or_insert_with(Threads::start);
        let mut commits = part.commits.into_iter();
        while !commits.as_slice().is_empty() {
            // It fails only where all threads have ended for an error, which is told in the end.
            let _ = threads.tasks.send(commits.by_ref().take(TASK).collect());
        }
        Ok(())
    }

    /// The snapshot of all that was taken.
    ///
    /// # Errors
    /// A record can't be read.
    pub(super) fn finish(self) -> Result<Snapshot, Damaged> {
        let mut records = self.small.records;
        if let Some(Threads { tasks, threads }) = self.threads {
            drop(tasks);
            for thread in threads {
                records.append(&mut thread.join().expect("decoding does not panic")?.records);
            }
        }
        Ok(Snapshot::fill(self.revision, self.at_ms, records))
    }
}

struct Threads {
    tasks: SyncSender<Vec<Commit>>,
    threads: Vec<JoinHandle<Result<Decoded, Damaged>>>,
}

impl Threads {
    fn start() -> Self {
        let (tasks, waiting) = sync_channel(WAITING);
        let waiting = Arc::new(Mutex::new(waiting));
        let count = thread::available_parallelism().map_or(1, usize::from);
        let start = |_: usize| {
            let waiting = Arc::clone(&waiting);
            thread::spawn(move || decode(&waiting))
        };
        Self { tasks, threads: (0..count).map(start).collect() }
    }
}

/// Decodes what comes until there is no more.
fn decode(waiting: &Mutex<Receiver<Vec<Commit>>>) -> Result<Decoded, Damaged> {
    let mut decoded = Decoded::default();
    loop {
        let Ok(task) = waiting.lock().recv() else { return Ok(decoded) };
        decoded.add(task)?;
    }
}
