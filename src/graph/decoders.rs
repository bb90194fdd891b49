//! Threads that make records: those of a large state when the graph is filled, and from then on those of each commit.
//!
//! glibc gives each thread an arena of its own, in which what the thread allocates lies, whoever frees it. Were the
//! records of later commits made by other threads than those they replace, the holes that these leave would be of use to
//! nobody: with a million images, of which each was overwritten once, the process took 1.6 times the memory. As it is,
//! a hole is filled by one of the next records.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use tokio::sync::oneshot;

use super::record::{Damaged, Head, Record};
use crate::storage::Commit;

/// Jobs that wait for a thread, at most: more would only be in memory.
const WAITING: usize = 2;

enum Job {
    /// Some of a state, to be kept until it is asked for.
    Keep(Vec<Commit>),
    /// What was kept is asked for.
    Give(oneshot::Sender<Result<Vec<Arc<Record>>, Damaged>>),
    /// Commits, to be answered at once.
    Decode(Vec<Commit>, oneshot::Sender<Result<Vec<Option<Record>>, Damaged>>),
}

/// The threads. They end when this is dropped.
pub(super) struct Decoders {
    threads: Vec<SyncSender<Job>>,
    /// Whose turn it is.
    next: usize,
}

impl Decoders {
    /// As many as there are cores.
    pub(super) fn start() -> Self {
        let count = thread::available_parallelism().map_or(1, usize::from);
        let start = |_| {
            let (jobs, waiting) = sync_channel(WAITING);
            thread::spawn(move || work(&waiting));
            jobs
        };
        Self { threads: (0..count).map(start).collect(), next: 0 }
    }

    fn turn(&mut self) -> usize {
        self.next = (self.next + 1) % self.threads.len();
        self.next
    }

    fn send(&self, thread: usize, job: Job) {
        self.threads[thread].send(job).expect("decoding does not panic");
    }

    /// Has some of a state decoded. Blocks while all are busy.
    pub(super) fn keep(&mut self, commits: Vec<Commit>) {
        let thread = self.turn();
        self.send(thread, Job::Keep(commits));
    }

    /// All that was decoded since it was last asked for.
    ///
    /// # Errors
    /// A record can't be read.
    pub(super) fn kept(&self) -> Result<Vec<Arc<Record>>, Damaged> {
        let asked = (0..self.threads.len()).map(|thread| {
            let (give, given) = oneshot::channel();
            self.send(thread, Job::Give(give));
            given
        });
        let asked: Vec<_> = asked.collect();
        let mut all = Vec::new();
        for given in asked {
            let given = futures::executor::block_on(given);
            all.append(&mut given.expect("decoding does not panic")?);
        }
        Ok(all)
    }

    /// The record of each of `commits`, in their order; none where one was deleted.
    ///
    /// # Errors
    /// A record can't be read.
    pub(super) async fn decode(&mut self, commits: &[Commit]) -> Result<Vec<Option<Record>>, Damaged> {
        let shares = commits.len().min(self.threads.len());
        let answers: Vec<_> = (0..shares)
            .map(|share| {
                let (tell, told) = oneshot::channel();
                let share = commits.iter().skip(share).step_by(shares).cloned().collect();
                let thread = self.turn();
                self.send(thread, Job::Decode(share, tell));
                told
            })
            .collect();
        let mut parts = Vec::with_capacity(shares);
        for told in answers {
            parts.push(told.await.expect("decoding does not panic")?.into_iter());
        }
        Ok((0..commits.len()).filter_map(|at| parts[at % shares].next()).collect())
    }
}

/// Decodes what comes until nobody can send more.
fn work(jobs: &Receiver<Job>) {
    let mut kept = Ok(Kept::default());
    while let Ok(job) = jobs.recv() {
        // Whoever has asked may have gone.
        match job {
            Job::Keep(commits) => {
                if let Ok(all) = &mut kept
                    && let Err(error) = all.add(commits)
                {
                    kept = Err(error);
                }
            }
            Job::Give(give) => {
                let kept = std::mem::replace(&mut kept, Ok(Kept::default()));
                let _ = give.send(kept.map(|kept| kept.records));
            }
            Job::Decode(commits, tell) => {
                let _ = tell.send(commits.iter().map(decode).collect());
            }
        }
    }
}

/// The record that a commit wrote; none where it deleted one.
pub(super) fn decode(commit: &Commit) -> Result<Option<Record>, Damaged> {
    let Some(stored) = commit.value.as_deref() else { return Ok(None) };
    let mut record = Record::decode(commit.key.clone(), commit.revision, stored)?;
    record.at_ms = commit.at_ms;
    Ok(Some(record))
}

/// Records of a state.
#[derive(Default)]
pub(super) struct Kept {
    pub(super) records: Vec<Arc<Record>>,
    /// The names of images that packs have, each once.
    names: HashSet<Arc<str>>,
}

impl Kept {
    pub(super) fn add(&mut self, commits: Vec<Commit>) -> Result<(), Damaged> {
        for commit in commits {
            let Some(mut record) = decode(&commit)? else { continue };
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::json;

    use super::super::tests::stored;
    use super::*;
    use crate::api::Kind;
    use crate::storage::{Key, Revision};

    fn commit(number: u64, value: Option<Bytes>) -> Commit {
        Commit { revision: Revision(number), at_ms: 0, key: Key::new(Kind::Image, format!("i{number}")), value }
    }

    fn image(number: u64) -> Commit {
        let metadata = json!({ "name": format!("i{number}"), "uid": "u", "creationTimestamp": "2024-01-01T00:00:00Z" });
        commit(number, Some(stored(Kind::Image, metadata, json!({ "name": format!("o/r:{number}") })).1))
    }

    #[test]
    fn records_come_in_the_order_of_their_commits_and_damage_is_told() {
        let mut decoders = Decoders::start();
        for count in [1, 2, 3, 7, 100] {
            let commits: Vec<_> = (1..=count).map(|n| if n % 5 == 3 { commit(n, None) } else { image(n) }).collect();
            let records = futures::executor::block_on(decoders.decode(&commits)).unwrap();
            let revisions: Vec<_> = records.iter().map(|r| r.as_ref().map(|r| r.revision.0)).collect();
            let wanted: Vec<_> = (1..=count).map(|n| (n % 5 != 3).then_some(n)).collect();
            assert_eq!(revisions, wanted);
        }
        decoders.keep(vec![image(1), image(2)]);
        decoders.keep(vec![image(3)]);
        assert_eq!(decoders.kept().unwrap().len(), 3);
        assert_eq!(decoders.kept().unwrap().len(), 0);
        let torn = commit(9, Some(Bytes::from_static(b"torn")));
        assert!(futures::executor::block_on(decoders.decode(&[image(1), torn.clone()])).is_err());
        decoders.keep(vec![torn]);
        assert!(decoders.kept().is_err());
        assert_eq!(decoders.kept().unwrap().len(), 0, "it goes on");
    }
}
