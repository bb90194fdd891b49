//! The bounded queue between those who write and the committer thread.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};
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

/// Writes are no longer waited for when none has come for this part of the time: one in so many.
const GATHER_GAPS: u32 = 8;

/// What the committer waits for before it begins with the writes that are there: a transaction costs the same
/// whether it has one write or a hundred, and whoever was just answered may be about to write again.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Gather {
    /// So many writes are all that can be expected.
    pub writes: usize,
    /// For so long at most.
    pub time: Duration,
}

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
    /// With fewer writes than that the committer, which gathers, is not woken.
    wanted: usize,
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
        let enough = state.writes.len() >= state.wanted;
        drop(state);
        if enough {
            self.more.notify_one();
        }
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

    /// How many writes wait.
    pub(super) fn waiting(&self) -> usize {
        self.state.lock().writes.len()
    }

    /// Takes what waits, waiting for `wait` at most; of writes as many as `gather` says, if they come as fast.
    pub(super) fn take(&self, wait: Duration, gather: Gather) -> Work {
        let mut state = self.state.lock();
        if state.idle() {
            self.more.wait_while_for(&mut state, |state| state.idle(), wait);
        }
        self.gather(&mut state, gather);
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

    /// Waits for more writes, while they come.
    fn gather(&self, state: &mut MutexGuard<'_, State>, gather: Gather) {
        let wanted = gather.writes.min(BATCH_WRITES);
        let until = Instant::now() + gather.time;
        state.wanted = wanted;
        while !state.writes.is_empty() && state.closed.is_none() && state.writes.len() < wanted {
            let before = state.writes.len();
            let left = until.saturating_duration_since(Instant::now());
            self.more.wait_for(state, left.min(gather.time / GATHER_GAPS));
            if state.writes.len() == before || left.is_zero() {
                break;
            }
        }
        state.wanted = 0;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Kind;
    use crate::storage::{Expect, Key};

    fn push(queue: &Queue, name: &str) {
        let write = Write { key: Key::new(Kind::Image, name), expect: Expect::Absent, value: None };
        assert!(queue.push(Pending { write, reply: oneshot::channel().0 }).is_ok());
    }

    fn taken(queue: &Queue, gather: Gather) -> usize {
        match queue.take(Duration::ZERO, gather) {
            Work::Writes(batch) => batch.len(),
            Work::Compact(_) | Work::Idle | Work::Closed => 0,
        }
    }

    #[test]
    fn writes_that_are_expected_are_waited_for_and_share_a_batch_with_those_that_are_there() {
        let queue = Queue::default();
        push(&queue, "a");
        std::thread::scope(|scope| {
            // So long that a thread surely comes within an eighth of it.
            let taken = scope.spawn(|| taken(&queue, Gather { writes: 3, time: Duration::from_mins(10) }));
            push(&queue, "b");
            push(&queue, "c");
            assert_eq!(taken.join().unwrap(), 3);
        });
    }

    #[test]
    fn what_does_not_come_is_not_waited_for_and_nothing_is_where_nothing_is() {
        let queue = Queue::default();
        let gather = Gather { writes: 3, time: Duration::from_millis(8) };
        assert_eq!(taken(&queue, gather), 0);
        push(&queue, "a");
        assert_eq!(taken(&queue, gather), 1);
        push(&queue, "a");
        assert_eq!(taken(&queue, Gather::default()), 1);
        queue.close("it ended");
        assert!(matches!(queue.take(Duration::from_mins(10), gather), Work::Closed));
    }
}
