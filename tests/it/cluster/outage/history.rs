//! Writers and observers over one storage, and what must hold of what they saw.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use imagehub::storage::kubernetes::Kubernetes;
use imagehub::storage::{Commit, CommitError, Expect, ReadError, Revision, Storage as _, Write};
use rand::{RngExt as _, SeedableRng as _};
use tokio::task::JoinHandle;

use super::super::storage::write;

/// How long a write may take in the worst case, with all that is tried to find out what became of it.
const PATIENCE: Duration = Duration::from_mins(2);

/// Writers, on the same keys.
const WRITERS: u64 = 6;
/// Keys in all.
const KEYS: u64 = 8;
/// Observers, each with a watch of its own.
const OBSERVERS: usize = 100;

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
}

/// A write, and what was said of it.
struct Done {
    write: Write,
    said: Result<Commit, CommitError>,
}

/// What a watch gave, without a gap.
struct Piece {
    after: Revision,
    commits: Vec<Commit>,
}

impl Piece {
    fn last(&self) -> Revision {
        self.commits.last().map_or(self.after, |commit| commit.revision)
    }
}

/// What an observer saw: pieces between which it was told that it missed some.
struct Seen(Vec<Piece>);

pub struct Run {
    over: Arc<AtomicBool>,
    writers: Vec<JoinHandle<Vec<Done>>>,
    observers: Vec<JoinHandle<Seen>>,
    stop: tokio::sync::watch::Sender<Option<Revision>>,
}

/// What happened.
#[derive(Debug, Default)]
pub struct Summary {
    pub acknowledged: usize,
    pub refused: usize,
    pub unavailable: usize,
    pub unknown: usize,
    #[expect(dead_code, reason = "it is printed with the rest")]
    pub gaps: usize,
    pub commits: usize,
}

impl Run {
    pub async fn begin(storage: &Arc<Kubernetes>) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let stop = tokio::sync::watch::Sender::new(None);
        let start = storage.state().await.unwrap().revision;
        let observers = (0..OBSERVERS).map(|_| tokio::spawn(observe(Arc::clone(storage), start, stop.subscribe())));
        let observers = observers.collect();
        let writers = (0..WRITERS).map(|seed| tokio::spawn(work(Arc::clone(storage), seed, Arc::clone(&over))));
        let writers = writers.collect();
        Self { over, writers, observers, stop }
    }

    /// Ends the writers, and checks all that was said and seen.
    pub async fn end(self, storage: &Arc<Kubernetes>) -> Summary {
        self.over.store(true, Ordering::SeqCst);
        let mut done = Vec::new();
        for writer in self.writers {
            done.extend(within("a writer ends", writer).await.unwrap());
        }
        let last = loop {
            match storage.current().await {
                Ok(last) => break last,
                Err(ReadError::Unavailable(_)) => tokio::time::sleep(Duration::from_millis(100)).await,
                Err(error) => panic!("{error}"),
            }
        };
        self.stop.send_replace(Some(last));
        let mut seen = Vec::new();
        for observer in self.observers {
            seen.push(within("an observer ends", observer).await.unwrap());
        }
        check(&done, &seen, storage).await
    }
}

async fn work(storage: Arc<Kubernetes>, seed: u64, over: Arc<AtomicBool>) -> Vec<Done> {
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    let (mut known, mut done): (HashMap<u64, Option<Revision>>, Vec<Done>) = (HashMap::new(), Vec::new());
    for number in 0.. {
        if over.load(Ordering::SeqCst) {
            break;
        }
        let key = random.random_range(0..KEYS);
        let at = known.get(&key).copied().flatten();
        let delete = at.is_some() && random.random_bool(0.2);
        let value = format!("{seed}.{number}");
        let next =
            write(&format!("k{key}"), at.map_or(Expect::Absent, Expect::At), (!delete).then_some(value.as_bytes()));
        let said = within("a write is answered", storage.commit(next.clone())).await;
        match &said {
            Ok(commit) => known.insert(key, (!delete).then_some(commit.revision)),
            Err(CommitError::Conflict { current }) => known.insert(key, *current),
            Err(CommitError::Unavailable(_) | CommitError::Unknown(_)) => {
                // It may read what is there, as a controller does that starts over.
                tokio::time::sleep(Duration::from_millis(50)).await;
                let now = storage.get(next.key.clone()).await.ok().flatten();
                known.insert(key, now.map(|commit| commit.revision))
            }
            Err(error) => panic!("{error}"),
        };
        done.push(Done { write: next, said });
        tokio::time::sleep(Duration::from_millis(random.random_range(0..20))).await;
    }
    done
}

async fn observe(
    storage: Arc<Kubernetes>,
    mut after: Revision,
    mut stop: tokio::sync::watch::Receiver<Option<Revision>>,
) -> Seen {
    let mut seen = Seen(vec![Piece { after, commits: Vec::new() }]);
    let mut watch = storage.watch(after);
    loop {
        if stop.borrow_and_update().is_some_and(|last| after >= last) {
            return seen;
        }
        let next = tokio::select! {
            next = watch.next() => next.expect("a watch doesn't end by itself"),
            _ = stop.changed() => continue,
        };
        match next {
            Ok(batch) => {
                after = batch.last().expect("a batch is never empty").revision;
                seen.0.last_mut().expect("there is a piece").commits.extend(batch);
            }
            Err(ReadError::Compacted { floor, .. }) => {
                after = floor;
                seen.0.push(Piece { after, commits: Vec::new() });
                watch = storage.watch(after);
            }
            Err(error) => panic!("{error}"),
        }
    }
}

async fn check(done: &[Done], seen: &[Seen], storage: &Kubernetes) -> Summary {
    let pieces = || seen.iter().flat_map(|seen| &seen.0);
    let mut summary = Summary { gaps: pieces().count() - seen.len(), ..Summary::default() };
    // All that anybody saw is one history.
    let mut history: BTreeMap<Revision, &Commit> = BTreeMap::new();
    for commit in pieces().flat_map(|piece| &piece.commits) {
        let same = history.entry(commit.revision).or_insert(commit);
        assert_eq!(*same, commit, "one revision, two commits");
    }
    summary.commits = history.len();
    for piece in pieces() {
        let whole = history.range((Excluded(piece.after), Included(piece.last()))).map(|(_, commit)| *commit);
        assert!(piece.commits.iter().eq(whole), "a watch between gaps has each commit once and in order");
    }
    assert!(history.values().map(|commit| commit.at_ms).is_sorted(), "times never fall");
    // Whether somebody has watched without a gap from `from` on to `to`.
    let watched = |from: Revision, to: Revision| pieces().any(|piece| piece.after <= from && to <= piece.last());

    let mut given = HashSet::new();
    let values: HashSet<&[u8]> = history.values().filter_map(|commit| commit.value.as_deref()).collect();
    let mut highest: HashMap<&str, &Commit> = HashMap::new();
    let mut maybe_deleted: HashSet<&str> = HashSet::new();
    for Done { write, said } in done {
        match said {
            Ok(commit) => {
                summary.acknowledged += 1;
                assert!(given.insert(commit.revision), "{} is acknowledged twice", commit.revision);
                assert_eq!((&commit.key, &commit.value), (&write.key, &write.value));
                let highest = highest.entry(&commit.key.name).or_insert(commit);
                if highest.revision < commit.revision {
                    *highest = commit;
                }
                let before = Revision(commit.revision.0 - 1);
                if watched(before, commit.revision) {
                    let found = history.get(&commit.revision);
                    let told = Some((&commit.key, &commit.value));
                    let seen = found.map(|found| (&found.key, &found.value));
                    assert_eq!(seen, told, "acknowledged, and not seen by who watched");
                    // Told before the watch had shown it, its time may be that at which the write began; the watch
                    // raises it above the time of what was made before it.
                    assert!(found.is_some_and(|found| commit.at_ms <= found.at_ms), "{found:?} was told as {commit:?}");
                }
                if let Expect::At(at) = write.expect
                    && watched(at, commit.revision)
                {
                    let between = history.range((Excluded(at), Excluded(commit.revision)));
                    let other = between.map(|(_, other)| other).find(|other| other.key == commit.key);
                    assert_eq!(other, None, "{commit:?} was made on {at}");
                }
            }
            Err(CommitError::Unknown(_)) => {
                summary.unknown += 1;
                if write.value.is_none() {
                    maybe_deleted.insert(&write.key.name);
                }
            }
            Err(error) => {
                if matches!(error, CommitError::Unavailable(_)) {
                    summary.unavailable += 1;
                } else {
                    summary.refused += 1;
                }
                if let Some(value) = &write.value {
                    assert!(!values.contains(&**value), "refused and made: {error}: {write:?}");
                }
            }
        }
    }
    for (name, last) in highest {
        let now = storage.get(last.key.clone()).await.unwrap();
        match now {
            Some(now) if now.revision == last.revision => assert_eq!(now.value, last.value, "{name}"),
            Some(now) => assert!(now.revision > last.revision, "{name}: {last:?} is lost, there is {now:?}"),
            None => {
                let mut later = history.range((Excluded(last.revision), Unbounded));
                let deleted = later.any(|(_, commit)| commit.key == last.key && commit.value.is_none());
                assert!(last.value.is_none() || deleted || maybe_deleted.contains(name), "{name}: {last:?} is lost");
            }
        }
    }
    summary
}
