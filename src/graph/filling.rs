//! From a storage's state to the first snapshot: parts of the state are read and decoded at the same time, on all
//! cores, and let go of as they become records.

use super::decoders::{Decoders, Kept};
use super::record::Damaged;
use super::snapshot::Snapshot;
use crate::storage::{Commit, Revision, State};

/// Commits that a thread is given at a time, at most.
const TASK: usize = 4096;

/// What is known so far of a state that is being read.
#[derive(Default)]
pub(super) struct Filling {
    revision: Revision,
    at_ms: i64,
    begun: bool,
    /// What was decoded without a thread: all of a small state.
    small: Kept,
    decoders: Option<Decoders>,
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
        let decoders = self.decoders.get_or_insert_with(Decoders::start);
        let mut commits = part.commits.into_iter();
        loop {
            let task: Vec<Commit> = commits.by_ref().take(TASK).collect();
            if task.is_empty() {
                return Ok(());
            }
            decoders.keep(task);
        }
    }

    /// The snapshot of all that was taken, and who made its records, where those were many.
    ///
    /// # Errors
    /// A record can't be read.
    pub(super) fn finish(self) -> Result<(Snapshot, Option<Decoders>), Damaged> {
        let mut records = self.small.records;
        if let Some(decoders) = &self.decoders {
            records.append(&mut decoders.kept()?);
        }
        Ok((Snapshot::fill(self.revision, self.at_ms, records), self.decoders))
    }
}
