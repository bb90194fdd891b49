//! The one thread that writes: it takes what waits, decides, commits once, and tells.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use redb::Durability;
use tokio::sync::oneshot;

use super::history::History;
use super::published::{ByKey, KeyId};
use super::queue::{Gather, Pending, Work};
use super::shared::{Shared, guarded};
use super::tables::{LOG, Point, write_points};
use super::{CLOSED, FreeSpace, row};
use crate::clock::SharedClock;
use crate::storage::{Commit, CommitError, Expect, Revision};

/// How long the thread waits for a write before it looks whether compaction is due.
const TICK: Duration = Duration::from_secs(1);
/// How long it waits for a write before the next step of a compaction that is due.
const IDLE: Duration = Duration::from_millis(20);
/// How long writes wait for others at most, to share their transaction.
const LONGEST_GATHER: Duration = Duration::from_millis(4);
/// Rows dropped in one transaction. 100,000 at a time stalled writes for seconds.
const STEP_ROWS: usize = 500;
/// Rows due to be dropped from which on each batch of writes drops a step of them, idle or not.
const BEHIND_ROWS: usize = 5_000;
/// Bytes that a row takes beside its own, at most, on the way to the disk: pages that are copied.
const ROW_OVERHEAD: u64 = 512;

/// One write that holds.
struct Made {
    id: KeyId,
    commit: Commit,
    before: Option<u64>,
}

/// Who waits, and for what.
type Reply = (oneshot::Sender<Result<Commit, CommitError>>, Result<Commit, CommitError>);

/// A batch that was decided.
#[derive(Default)]
struct Batch {
    made: Vec<Made>,
    replies: Vec<Reply>,
}

/// What a transaction compacts.
#[derive(Clone, Copy)]
struct Compaction {
    floor: Point,
    rows: usize,
}

pub(super) struct Committer {
    pub shared: Arc<Shared>,
    pub history: History,
    pub clock: SharedClock,
    pub free_space: FreeSpace,
    pub min_free: u64,
    /// The last commit that is written.
    pub written: Point,
    /// Only in the build that is broken on purpose: commits that were acknowledged but not yet written.
    pub unwritten: Vec<Commit>,
}

/// Of what is kept free, deletions leave this part: one in so many.
const DELETIONS_SHARE: u64 = 4;

impl Committer {
    /// Works until the queue is closed or a commit fails.
    pub(super) fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        match guarded(|| self.work()) {
            Ok(Ok(())) => {}
            Ok(Err(reason)) => shared.end(&reason, true),
            Err(panic) => shared.end(&format!("writing to {} panicked: {panic}", shared.path.display()), true),
        }
    }

    fn work(&mut self) -> Result<(), String> {
        let (mut wait, mut gather) = (TICK, Gather::default());
        loop {
            match self.shared.queue.take(wait, gather) {
                Work::Writes(batch) => gather = self.commit(batch)?,
                Work::Idle => {
                    self.step(self.now_ms())?;
                }
                Work::Compact(reply) => {
                    let now = self.now_ms();
                    while self.step(now)? {}
                    // Who asked may have gone.
                    let _ = reply.send(Revision(self.history.floor().revision));
                }
                Work::Closed => {
                    let late = std::mem::take(&mut self.unwritten);
                    return if late.is_empty() { Ok(()) } else { self.write(&late, None) };
                }
            }
            wait = if self.due(self.now_ms(), 1).is_some_and(|due| due.rows > 0) { IDLE } else { TICK };
        }
    }

    /// The store's time: never lower than that of the last commit, even if the clock steps back.
    fn now_ms(&self) -> i64 {
        self.clock.now().as_millisecond().max(self.shared.published.read().highest.at_ms)
    }

    /// Makes one batch, and says what the next may wait for: those who are answered now, and half of the time that
    /// the transaction took. Then a wait that brings all of them together is shorter than the transaction that it
    /// saves.
    fn commit(&mut self, pending: Vec<Pending>) -> Result<Gather, String> {
        let started = Instant::now();
        let answered = pending.len();
        let now = self.now_ms();
        let pending = self.refuse_without_space(pending);
        let batch = self.decide(pending, now);
        let result = if batch.made.is_empty() { Ok(()) } else { self.make(&batch.made, now) };
        if let Err(reason) = &result {
            // Its outcome is unknown. The end comes first: nobody hears of it and can write on.
            self.shared.end(reason, true);
        }
        let gather = Gather {
            writes: answered + self.shared.queue.waiting(),
            time: (started.elapsed() / 2).min(LONGEST_GATHER),
        };
        for (reply, answer) in batch.replies {
            let answer = match &result {
                Ok(()) => answer,
                Err(reason) => Err(CommitError::Stopped(reason.clone())),
            };
            let _ = reply.send(answer);
        }
        result.map(|()| gather)
    }

    /// Re-checks each expectation against what is committed and the batch so far.
    fn decide(&self, pending: Vec<Pending>, now: i64) -> Batch {
        let published = self.shared.published.read();
        let mut highest = published.highest.revision;
        let mut batch = Batch::default();
        // Where the keys are that the batch has written: (as a record, as a row of the log).
        let mut written = ByKey::<Option<u64>>::default();
        for Pending { write, reply } in pending {
            let id = self.shared.ids.of(write.key.kind, &write.key.name);
            let current = written.get(&id).copied().unwrap_or_else(|| published.keys.get(id));
            let holds = match write.expect {
                // There is nothing to delete where nothing is.
                Expect::Absent => current.is_none() && write.value.is_some(),
                Expect::At(revision) => current == Some(revision.0),
            };
            if !holds {
                let current = current.map(Revision);
                batch.replies.push((reply, Err(CommitError::Conflict { current })));
                continue;
            }
            highest += 1;
            let commit = Commit { revision: Revision(highest), at_ms: now, key: write.key, value: write.value };
            written.insert(id, commit.value.is_some().then_some(highest));
            batch.replies.push((reply, Ok(commit.clone())));
            batch.made.push(Made { id, commit, before: current });
        }
        batch
    }

    /// Makes a batch durable, and then hands it to readers and watchers.
    fn make(&mut self, made: &[Made], now: i64) -> Result<(), String> {
        let commits: Vec<_> = made.iter().map(|made| made.commit.clone()).collect();
        if cfg!(feature = "broken-apply-before-commit") {
            // Wrong on purpose: told first, and written only with the batch after.
            self.publish(made);
            let late = std::mem::replace(&mut self.unwritten, commits);
            return if late.is_empty() { Ok(()) } else { self.write(&late, None) };
        }
        let compaction = self.due(now, BEHIND_ROWS).filter(|due| due.rows >= BEHIND_ROWS);
        let compaction = compaction.map(|due| Compaction { rows: STEP_ROWS, ..due });
        self.write(&commits, compaction)?;
        if let Some(compaction) = compaction {
            self.compacted(compaction);
        }
        self.publish(made);
        Ok(())
    }

    fn publish(&mut self, made: &[Made]) {
        let mut published = self.shared.published.write();
        published.add(made.iter().map(|made| (made.id, made.commit.clone())));
        let highest = published.highest.revision;
        drop(published);
        for Made { commit, before, .. } in made {
            let at = Point { revision: commit.revision.0, at_ms: commit.at_ms };
            self.history.add(at, *before, commit.value.is_none());
        }
        self.shared.signal.send_modify(|signal| signal.highest = highest);
    }

    /// What is due to be compacted, counting `most` rows at most.
    fn due(&self, now: i64, most: usize) -> Option<Compaction> {
        let highest = self.shared.published.read().highest.revision;
        let floor = self.history.due_floor(now, highest).unwrap_or_else(|| self.history.floor());
        let rows = self.history.droppable(floor.revision, most);
        (rows > 0 || floor != self.history.floor()).then_some(Compaction { floor, rows })
    }

    /// One step of compaction; whether there was anything to do.
    fn step(&mut self, now: i64) -> Result<bool, String> {
        let Some(compaction) = self.due(now, STEP_ROWS) else { return Ok(false) };
        self.write(&[], Some(compaction))?;
        self.compacted(compaction);
        Ok(true)
    }

    fn compacted(&mut self, compaction: Compaction) {
        self.history.compacted(compaction.floor, compaction.rows);
        self.shared.published.write().floor = compaction.floor.revision;
    }

    /// One durable transaction.
    fn write(&mut self, commits: &[Commit], compaction: Option<Compaction>) -> Result<(), String> {
        if let Some(last) = commits.last() {
            self.written = Point { revision: last.revision.0, at_ms: last.at_ms };
        }
        let path = &self.shared.path;
        self.transaction(commits, compaction).map_err(|error| format!("a commit to {} failed: {error}", path.display()))
    }

    fn transaction(&self, commits: &[Commit], compaction: Option<Compaction>) -> Result<(), redb::Error> {
        let mut txn = self.shared.begin_write()?;
        txn.set_durability(Durability::Immediate)?;
        // A killed store of any size opens at once.
        txn.set_quick_repair(true);
        {
            let mut log = txn.open_table(LOG)?;
            for commit in commits {
                // Encoded where it is stored: the record is copied once.
                let mut row = log.insert_reserve(commit.revision.0, row::len(commit))?;
                row::encode(commit, row.as_mut());
            }
            for revision in self.history.first(compaction.map_or(0, |compaction| compaction.rows)) {
                log.remove(revision)?;
            }
        }
        // The floor is moved with, or before, the first row that is dropped under it: the state at the
        // former floor is not whole any more.
        write_points(&txn, self.written, compaction.map(|compaction| compaction.floor))?;
        txn.commit()?;
        self.shared.commits.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Refuses what there is too little space for. Deletions may take of what is kept free: a store that is
    /// full is emptied by them.
    fn refuse_without_space(&self, pending: Vec<Pending>) -> Vec<Pending> {
        // Where the free space can't be read the commit itself will show.
        let Ok(free) = (self.free_space)() else { return pending };
        let bytes = |pending: &Pending| ROW_OVERHEAD + pending.write.value.as_ref().map_or(0, bytes::Bytes::len) as u64;
        let all = pending.iter().map(bytes).sum::<u64>();
        let for_all = all.saturating_add(self.min_free);
        if free >= for_all {
            return pending;
        }
        let for_deletions = (pending.len() as u64 * ROW_OVERHEAD).saturating_add(self.min_free / DELETIONS_SHARE);
        let (kept, refused): (Vec<_>, Vec<_>) =
            pending.into_iter().partition(|one| one.write.value.is_none() && free >= for_deletions);
        for one in refused {
            let needed = if one.write.value.is_none() { for_deletions } else { for_all };
            // Who asked may have gone, here and below.
            let _ = one.reply.send(Err(CommitError::NoSpace { free, needed }));
        }
        kept
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        // Whatever ended the thread, nothing waits for it in vain. After a failure this reason comes second.
        self.shared.queue.close(CLOSED);
    }
}
