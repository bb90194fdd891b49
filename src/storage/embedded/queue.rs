//! The bounded queue between those who write and the committer thread.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use crate::storage::{Commit, CommitError, Revision, Write};

/// Writes that may wait; one more is [`CommitError::Busy`].
pub const QUEUE_WRITES: usize = 1024;
/// Bytes of writes that may wait, and so the most that one write may have.
pub const QUEUE_BYTES: usize = 64 << 20;
/// Writes taken into one commit.
pub const BATCH_WRITES: usize = 256;
/// Bytes of writes taken into one commit; a single write may have more.
pub const BATCH_BYTES: usize = 8 << 20;

/// A write that waits for its answer.
pub(super) struct Pending {
    pub write: Write,
    pub reply: oneshot::Sender<Result<Commit, CommitError>>,
}

impl Pending {
    fn bytes(&self) -> usize {
        self.write.key.name.len() + self.write.value.as_ref().map_or(0, bytes::Bytes::len)
    }
}

/// What the committer has to do next.
pub(super) enum Work {
    Writes(Vec<Pending>),
    Compact(oneshot::Sender<Revision>),
    /// Nothing came in the time given.
    Idle,
    /// No more will come.
    Closed,
}

#[derive(Default)]
struct State {
    writes: VecDeque<Pending>,
    bytes: usize,
    compact: VecDeque<oneshot::Sender<Revision>>,
    closed: Option<String>,
}

#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    more: Condvar,
}

impl Queue {
    /// Puts a write in the queue, or answers at once why not.
    pub(super) fn push(&self, pending: Pending) -> Result<(), CommitError> {
        let mut state = self.state.lock();
        if let Some(reason) = &state.closed {
            return Err(CommitError::Stopped(reason.clone()));
        }
        let bytes = pending.bytes();
        if state.writes.len() >= QUEUE_WRITES || state.bytes.saturating_add(bytes) > QUEUE_BYTES {
            return Err(CommitError::Busy(QUEUE_WRITES));
        }
        state.bytes += bytes;
        state.writes.push_back(pending);
        drop(state);
        self.more.notify_one();
        Ok(())
    }

    /// Asks for a compaction of all that is due; dropped unanswered when the storage has stopped.
    pub(super) fn compact(&self) -> oneshot::Receiver<Revision> {
        let (reply, answer) = oneshot::channel();
        let mut state = self.state.lock();
        if state.closed.is_none() {
            state.compact.push_back(reply);
            self.more.notify_one();
        }
        answer
    }

    /// Takes what waits, waiting for `wait` at most.
    pub(super) fn take(&self, wait: Duration) -> Work {
        let mut state = self.state.lock();
        if state.idle() {
            self.more.wait_while_for(&mut state, |state| state.idle(), wait);
        }
        if state.closed.is_some() {
            return Work::Closed;
        }
        if let Some(reply) = state.compact.pop_front() {
            return Work::Compact(reply);
        }
        let mut batch = Vec::with_capacity(state.writes.len().min(BATCH_WRITES));
        let mut bytes = 0_usize;
        while batch.len() < BATCH_WRITES
            && let Some(next) = state.writes.front().map(Pending::bytes)
            && (batch.is_empty() || bytes + next <= BATCH_BYTES)
        {
            bytes += next;
            batch.extend(state.writes.pop_front());
        }
        state.bytes -= bytes;
        if batch.is_empty() { Work::Idle } else { Work::Writes(batch) }
    }

    /// Refuses what comes from now on, and what still waits, with `reason`. The first reason stays.
    pub(super) fn close(&self, reason: &str) {
        let mut state = self.state.lock();
        let reason = state.closed.get_or_insert_with(|| reason.to_owned()).clone();
        let waiting = std::mem::take(&mut state.writes);
        state.compact.clear();
        drop(state);
        self.more.notify_all();
        for pending in waiting {
            // Who asked may have gone: then nobody waits for the answer.
            let _ = pending.reply.send(Err(CommitError::Stopped(reason.clone())));
        }
    }
}

impl State {
    fn idle(&self) -> bool {
        self.writes.is_empty() && self.compact.is_empty() && self.closed.is_none()
    }
}
