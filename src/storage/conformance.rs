//! The contract of [`Storage`], as cases that every storage is put through, and a comparison with a
//! simple model under random operations. It assumes nothing but the contract: revisions may have gaps,
//! and a storage may keep no history.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use futures::future::{BoxFuture, join_all};
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use proptest::prelude::*;

use super::{Commit, CommitError, Expect, Key, Kind, ORIGIN, ReadError, Revision, Storage, Write};

/// A place for one storage, empty at first.
pub trait Subject: Sync {
    /// Opens the storage in it, again after [`close`](Self::close).
    fn open(&self) -> BoxFuture<'_, Arc<dyn Storage>>;
    /// Closes what was opened.
    fn close(&self, storage: Arc<dyn Storage>) -> BoxFuture<'_, ()>;
    /// Makes the history so far old enough to be forgotten, and has it forgotten, if the storage can.
    fn compact(&self) -> BoxFuture<'_, ()>;
    /// Moves the storage's clock by milliseconds, if it has one of its own.
    fn step_clock(&self, ms: i64);
    /// Whether the storage has a history of its own: it begins at [`ORIGIN`], and what happened before it was opened
    /// can be watched. Without one it knows, after it was opened, only what there is, and a revision at or above all
    /// that were given out before.
    fn has_history(&self) -> bool;
}

/// Where a storage stands that nothing was written to yet.
async fn origin(subject: &dyn Subject, storage: &dyn Storage) -> Revision {
    let origin = storage.state().await.unwrap().revision;
    assert!(if subject.has_history() { origin == ORIGIN } else { origin >= ORIGIN });
    origin
}

/// After opening: `current` is `last`, the highest revision given out before.
async fn check_current(subject: &dyn Subject, storage: &dyn Storage, last: Revision) {
    let current = storage.current().await.unwrap();
    assert!(if subject.has_history() { current == last } else { current >= last }, "{current} after {last}");
}

type Case = for<'a> fn(&'a dyn Subject) -> BoxFuture<'a, ()>;

/// The cases, each with the sentence that it shows.
pub const CASES: &[(&str, Case)] = &[
    ("what is written is what get, state and watch give", |s| what_is_written(s).boxed()),
    ("a write is made only where its expectation holds", |s| expectations(s).boxed()),
    ("what is deleted is gone and can be made again at a higher revision", |s| deletion(s).boxed()),
    ("keys of different kinds are different keys", |s| kinds(s).boxed()),
    ("records are any bytes, of any length up to a megabyte", |s| any_bytes(s).boxed()),
    ("of concurrent writers on one key exactly one wins", |s| one_wins(s).boxed()),
    ("watches during writes see each commit once and in order", |s| watch_during_writes(s).boxed()),
    ("a watch after a revision not yet given out waits for those above it", |s| watch_ahead(s).boxed()),
    ("after reopening everything is there and revisions go on", |s| reopening(s).boxed()),
    ("no revision comes twice though the highest was deleted and forgotten", |s| never_reused(s).boxed()),
    ("compaction keeps the present and says which watches it ends", |s| compaction(s).boxed()),
    ("closing ends watches and refuses reads and writes", |s| closing(s).boxed()),
];

/// Puts storages made by `make` through all [`CASES`].
pub async fn run<S: Subject>(make: impl Fn() -> S) {
    for (sentence, case) in CASES {
        // Shown with the failure.
        println!("{sentence}");
        case(&make()).await;
    }
}

fn image(name: &str) -> Key {
    Key::new(Kind::Image, name)
}

fn write(key: &Key, expect: Expect, value: &[u8]) -> Write {
    Write { key: key.clone(), expect, value: Some(Bytes::copy_from_slice(value)) }
}

fn delete(key: &Key, at: Revision) -> Write {
    Write { key: key.clone(), expect: Expect::At(at), value: None }
}

async fn create(storage: &dyn Storage, name: &str, value: &[u8]) -> Commit {
    storage.commit(write(&image(name), Expect::Absent, value)).await.unwrap()
}

/// The commits that `watch` gives up to and with revision `last`.
async fn through(watch: &mut BoxStream<'static, Result<Vec<Commit>, ReadError>>, last: Revision) -> Vec<Commit> {
    let mut commits: Vec<Commit> = Vec::new();
    while commits.last().is_none_or(|commit| commit.revision < last) {
        let batch = watch.next().await.expect("a watch doesn't end by itself").unwrap();
        assert!(!batch.is_empty(), "a batch is never empty");
        commits.extend(batch);
    }
    commits
}

fn conflict(result: Result<Commit, CommitError>) -> Option<Revision> {
    match result {
        Err(CommitError::Conflict { current }) => current,
        other => panic!("a conflict was expected, not {other:?}"),
    }
}

/// What a reader who starts now knows in the end: the state, and the commits after it.
async fn known(storage: &dyn Storage) -> (BTreeMap<Key, Commit>, Revision) {
    let state = storage.state().await.unwrap();
    let current = storage.current().await.unwrap();
    assert!(state.commits.is_sorted_by_key(|commit| commit.revision), "a state is in order of revision");
    let mut known: BTreeMap<_, _> = state.commits.into_iter().map(|commit| (commit.key.clone(), commit)).collect();
    if current > state.revision {
        for commit in through(&mut storage.watch(state.revision), current).await {
            match commit.value {
                Some(_) => known.insert(commit.key.clone(), commit),
                None => known.remove(&commit.key),
            };
        }
    }
    (known, state.revision)
}

async fn what_is_written(subject: &dyn Subject) {
    let storage = subject.open().await;
    let origin = origin(subject, &*storage).await;
    assert_eq!(storage.current().await.unwrap(), origin);
    assert_eq!(storage.get(image("a")).await.unwrap(), None);
    assert!(storage.state().await.unwrap().commits.is_empty());
    let mut watch = storage.watch(origin);
    let first = create(&*storage, "a", b"one").await;
    assert!(first.revision > origin);
    assert_eq!(first.key, image("a"));
    assert_eq!(first.value.as_deref(), Some(&b"one"[..]));
    let second = storage.commit(write(&image("a"), Expect::At(first.revision), b"two")).await.unwrap();
    assert!(second.revision > first.revision && second.at_ms >= first.at_ms);
    assert_eq!(storage.get(image("a")).await.unwrap().as_ref(), Some(&second));
    assert_eq!(storage.current().await.unwrap(), second.revision);
    assert_eq!(through(&mut watch, second.revision).await, [first, second.clone()]);
    let (known, _) = known(&*storage).await;
    assert_eq!(known.into_values().collect::<Vec<_>>(), [second]);
}

async fn expectations(subject: &dyn Subject) {
    let storage = subject.open().await;
    let key = image("a");
    assert_eq!(conflict(storage.commit(write(&key, Expect::At(Revision(1)), b"x")).await), None);
    let first = create(&*storage, "a", b"one").await;
    let other = create(&*storage, "b", b"other").await;
    assert_eq!(conflict(storage.commit(write(&key, Expect::Absent, b"x")).await), Some(first.revision));
    assert_eq!(conflict(storage.commit(write(&key, Expect::At(other.revision), b"x")).await), Some(first.revision));
    assert_eq!(conflict(storage.commit(delete(&key, other.revision)).await), Some(first.revision));
    assert_eq!(storage.get(key).await.unwrap(), Some(first));
    assert_eq!(storage.current().await.unwrap(), other.revision, "a conflict takes no revision");
}

async fn deletion(subject: &dyn Subject) {
    let storage = subject.open().await;
    let key = image("a");
    let nothing = Write { key: key.clone(), expect: Expect::Absent, value: None };
    assert_eq!(conflict(storage.commit(nothing.clone()).await), None);
    let first = create(&*storage, "a", b"one").await;
    assert_eq!(conflict(storage.commit(nothing).await), Some(first.revision));
    let gone = storage.commit(delete(&key, first.revision)).await.unwrap();
    assert!(gone.revision > first.revision);
    assert_eq!(gone.value, None);
    assert_eq!(storage.get(key.clone()).await.unwrap(), None);
    assert!(known(&*storage).await.0.is_empty());
    assert_eq!(conflict(storage.commit(delete(&key, gone.revision)).await), None);
    assert_eq!(conflict(storage.commit(write(&key, Expect::At(gone.revision), b"x")).await), None);
    let again = create(&*storage, "a", b"again").await;
    assert!(again.revision > gone.revision);
    assert_eq!(through(&mut storage.watch(first.revision), again.revision).await, [gone, again]);
}

async fn kinds(subject: &dyn Subject) {
    let storage = subject.open().await;
    for (number, kind) in (0..).zip(Kind::ALL) {
        storage.commit(write(&Key::new(kind, "same"), Expect::Absent, &[number])).await.unwrap();
    }
    for (number, kind) in (0..).zip(Kind::ALL) {
        let found = storage.get(Key::new(kind, "same")).await.unwrap().unwrap();
        assert_eq!((found.key.kind, found.value.as_deref()), (kind, Some(&[number][..])));
    }
}

async fn any_bytes(subject: &dyn Subject) {
    let storage = subject.open().await;
    let large: Vec<u8> = (0..1_u32 << 20).map(|i| u8::try_from(i * 7 % 251).unwrap()).collect();
    let values: [&[u8]; 4] = [b"", b"\0\xff\xfe", b"{}", &large];
    for (number, value) in values.iter().enumerate() {
        create(&*storage, &format!("r{number}"), value).await;
    }
    subject.close(storage).await;
    let storage = subject.open().await;
    for (number, value) in values.iter().enumerate() {
        let found = storage.get(image(&format!("r{number}"))).await.unwrap().unwrap();
        assert!(found.value.as_deref() == Some(value), "record {number} differs");
    }
}

async fn one_wins(subject: &dyn Subject) {
    let storage = subject.open().await;
    let key = image("contended");
    let mut expect = Expect::Absent;
    for _ in 0..10 {
        let writes = (0..20_u8).map(|writer| storage.commit(write(&key, expect, &[writer])));
        let results = join_all(writes).await;
        let won: Vec<_> = results.iter().filter_map(|result| result.as_ref().ok()).collect();
        assert_eq!(won.len(), 1, "{results:?}");
        let winner = won[0].clone();
        for lost in results.into_iter().filter(Result::is_err) {
            assert_eq!(conflict(lost), Some(winner.revision));
        }
        assert_eq!(storage.get(key.clone()).await.unwrap(), Some(winner.clone()));
        expect = Expect::At(winner.revision);
    }
}

async fn watch_during_writes(subject: &dyn Subject) {
    const WRITERS: usize = 8;
    const WRITES: usize = 40;
    let storage = subject.open().await;
    let origin = origin(subject, &*storage).await;
    let writers = (0..WRITERS).map(|writer| {
        let storage = Arc::clone(&storage);
        tokio::spawn(async move {
            let mut made = Vec::new();
            for number in 0..WRITES {
                made.push(create(&*storage, &format!("w{writer}.{number}"), b"{}").await);
                assert!(storage.current().await.unwrap() >= made[number].revision);
            }
            made
        })
    });
    // Each watcher begins where the one before has come, while the writers write.
    let following = {
        let storage = Arc::clone(&storage);
        tokio::spawn(async move {
            let mut watches = Vec::new();
            let mut first = storage.watch(origin);
            let mut seen = Vec::new();
            while seen.len() < WRITERS * WRITES {
                seen.extend(first.next().await.unwrap().unwrap());
                let after: Revision = seen.last().map(|commit: &Commit| commit.revision).unwrap();
                watches.push((after, storage.watch(after)));
            }
            (seen, watches)
        })
    };
    let mut made: Vec<Commit> = join_all(writers).await.into_iter().flat_map(Result::unwrap).collect();
    made.sort_by_key(|commit| commit.revision);
    let (seen, watches) = following.await.unwrap();
    assert_eq!(seen, made);
    let last = made.last().unwrap().revision;
    for (after, mut watch) in watches {
        let expected: Vec<_> = made.iter().filter(|commit| commit.revision > after).cloned().collect();
        if expected.is_empty() {
            assert!(watch.next().now_or_never().is_none(), "there is nothing after {after}");
        } else {
            assert_eq!(through(&mut watch, last).await, expected, "after {after}");
        }
    }
}

async fn watch_ahead(subject: &dyn Subject) {
    let storage = subject.open().await;
    let first = create(&*storage, "a", b"one").await;
    let mut watch = storage.watch(Revision(first.revision.0 + 1_000));
    assert!(watch.next().now_or_never().is_none());
    create(&*storage, "b", b"two").await;
    assert!(watch.next().now_or_never().is_none());
}

async fn reopening(subject: &dyn Subject) {
    let mut storage = subject.open().await;
    let mut made: Vec<Commit> = Vec::new();
    for round in 0..3 {
        for number in 0..3 {
            made.push(create(&*storage, &format!("{round}.{number}"), b"{}").await);
        }
        let last = made.last().unwrap();
        made.push(storage.commit(delete(&last.key, last.revision)).await.unwrap());
        subject.close(storage).await;
        storage = subject.open().await;
        check_current(subject, &*storage, made.last().unwrap().revision).await;
        assert_eq!(storage.get(image(&format!("{round}.0"))).await.unwrap().as_ref(), made.get(made.len() - 4));
    }
    assert!(made.is_sorted_by_key(|commit| commit.revision));
    assert!(made.is_sorted_by_key(|commit| commit.at_ms));
    if subject.has_history() {
        assert_eq!(through(&mut storage.watch(ORIGIN), made.last().unwrap().revision).await, made);
    } else {
        let below = storage.watch(made[0].revision).next().await;
        assert!(matches!(below, Some(Err(ReadError::Compacted { .. }))), "it can't know what came after: {below:?}");
    }
    assert_eq!(known(&*storage).await.0.len(), 6);
}

async fn never_reused(subject: &dyn Subject) {
    let mut storage = subject.open().await;
    let mut given = HashSet::new();
    let mut last_at = i64::MIN;
    for round in 0..4 {
        let made = create(&*storage, "a", b"{}").await;
        let gone = storage.commit(delete(&made.key, made.revision)).await.unwrap();
        assert!(given.insert(made.revision) && given.insert(gone.revision), "{given:?} in round {round}");
        assert!(made.at_ms >= last_at);
        last_at = gone.at_ms;
        subject.compact().await;
        subject.close(storage).await;
        // However far back the machine's clock is at the next start.
        subject.step_clock(-3_600_000 * 24);
        storage = subject.open().await;
        check_current(subject, &*storage, gone.revision).await;
        assert_eq!(storage.get(image("a")).await.unwrap(), None);
    }
}

async fn compaction(subject: &dyn Subject) {
    let storage = subject.open().await;
    let kept = create(&*storage, "kept", b"{}").await;
    let mut last = create(&*storage, "changed", b"0").await;
    for number in 1..20 {
        last = storage.commit(write(&last.key, Expect::At(last.revision), &[number])).await.unwrap();
    }
    let made = create(&*storage, "gone", b"{}").await;
    let gone = storage.commit(delete(&made.key, made.revision)).await.unwrap();
    let mut open_watch = storage.watch(gone.revision);
    subject.compact().await;
    let (known, floor) = known(&*storage).await;
    assert!(floor <= gone.revision);
    assert_eq!(known.into_values().collect::<Vec<_>>(), [last.clone(), kept.clone()]);
    assert_eq!(storage.get(last.key.clone()).await.unwrap(), Some(last));
    if floor > ORIGIN {
        match storage.watch(Revision(floor.0 - 1)).next().await {
            Some(Err(ReadError::Compacted { asked, floor: said })) => {
                assert_eq!((asked.0, said), (floor.0 - 1, floor));
            }
            other => panic!("a watch below the floor gave {other:?}"),
        }
    }
    let next = create(&*storage, "next", b"{}").await;
    assert_eq!(through(&mut open_watch, next.revision).await, [next]);
}

async fn closing(subject: &dyn Subject) {
    let storage = subject.open().await;
    let origin = origin(subject, &*storage).await;
    create(&*storage, "a", b"{}").await;
    let mut watch = storage.watch(origin);
    assert_eq!(watch.next().await.unwrap().unwrap().len(), 1);
    let mut stopped = storage.stopped();
    subject.close(Arc::clone(&storage)).await;
    assert!(matches!(watch.next().await, Some(Err(ReadError::Stopped(_)))));
    assert!(watch.next().await.is_none());
    assert!(matches!(storage.get(image("a")).await, Err(ReadError::Stopped(_))));
    let refused = storage.commit(write(&image("b"), Expect::Absent, b"{}")).await;
    assert!(matches!(refused, Err(CommitError::Stopped(_))));
    assert!((&mut stopped).now_or_never().is_none(), "nothing has failed");
}

/// A random operation; numbers pick among what there is.
#[derive(Debug, Clone)]
pub enum Op {
    /// Write key `key` with a wrong expectation if `wrong`, or delete it.
    Write {
        /// Which key.
        key: u8,
        /// Whether the expectation is one that doesn't hold.
        wrong: bool,
        /// Whether to delete.
        delete: bool,
        /// The record.
        value: Vec<u8>,
    },
    /// Close and open.
    Reopen,
    /// Forget history.
    Compact,
    /// Begin to watch after the revision at this share of all (in 256ths), and keep the watch.
    Watch(u8),
    /// Read a key.
    Get(u8),
    /// Read the state.
    State,
    /// Move the clock.
    Clock(i64),
}

/// Sequences of up to `most` random operations.
pub fn ops(most: usize) -> impl Strategy<Value = Vec<Op>> {
    let value = proptest::collection::vec(any::<u8>(), 0..40);
    let write = (0_u8..5, proptest::bool::weighted(0.15), proptest::bool::weighted(0.25), value)
        .prop_map(|(key, wrong, delete, value)| Op::Write { key, wrong, delete, value });
    let op = prop_oneof![
        12 => write,
        1 => Just(Op::Reopen),
        1 => Just(Op::Compact),
        2 => any::<u8>().prop_map(Op::Watch),
        2 => (0_u8..5).prop_map(Op::Get),
        1 => Just(Op::State),
        1 => (-400_000_i64..400_000).prop_map(Op::Clock),
    ];
    proptest::collection::vec(op, 1..most)
}

/// The model: all commits, in order.
#[derive(Default)]
struct Model(Vec<Commit>);

impl Model {
    fn at(&self, revision: Revision) -> BTreeMap<Key, Commit> {
        let mut present = BTreeMap::new();
        for commit in self.0.iter().take_while(|commit| commit.revision <= revision) {
            match commit.value {
                Some(_) => present.insert(commit.key.clone(), commit.clone()),
                None => present.remove(&commit.key),
            };
        }
        present
    }

    fn highest(&self) -> Revision {
        self.0.last().map_or(ORIGIN, |commit| commit.revision)
    }

    fn present(&self, key: &Key) -> Option<Commit> {
        self.at(self.highest()).remove(key)
    }

    fn after(&self, revision: Revision) -> Vec<Commit> {
        self.0.iter().filter(|commit| commit.revision > revision).cloned().collect()
    }

    /// What `watch` gives is what came after `after`; it may end only where history was forgotten.
    async fn check_watch(
        &self,
        storage: &dyn Storage,
        mut after: Revision,
        mut watch: BoxStream<'static, Result<Vec<Commit>, ReadError>>,
    ) {
        while after < self.highest() {
            match watch.next().await.expect("a watch doesn't end by itself") {
                Ok(batch) => {
                    assert_eq!(batch[..], self.after(after)[..batch.len()], "after {after}");
                    after = batch.last().expect("a batch is never empty").revision;
                }
                Err(ReadError::Compacted { .. }) => {
                    return assert!(after < storage.state().await.unwrap().revision, "{after} is kept");
                }
                Err(error) => panic!("a watch after {after} ended: {error}"),
            }
        }
        assert!(watch.next().now_or_never().is_none(), "there is nothing more");
    }
}

/// Does `ops` in turn, and compares each answer with the model's.
///
/// # Panics
///
/// Where they differ.
pub async fn agrees_with_the_model(subject: &dyn Subject, ops: &[Op]) {
    let mut model = Model::default();
    let mut storage = subject.open().await;
    let mut watches = Vec::new();
    for op in ops {
        match op {
            Op::Write { key, wrong, delete, value } => {
                let key = image(&format!("k{key}"));
                let current = model.present(&key).map(|commit| commit.revision);
                let expect = match current {
                    Some(at) if !wrong => Expect::At(at),
                    None if *wrong => Expect::At(model.highest()),
                    _ => Expect::Absent,
                };
                let holds = !wrong && (current.is_some() || !delete);
                let value = (!delete).then(|| Bytes::copy_from_slice(value));
                let result = storage.commit(Write { key: key.clone(), expect, value: value.clone() }).await;
                if holds {
                    let commit = result.unwrap();
                    assert!(commit.revision > model.highest());
                    assert!(commit.at_ms >= model.0.last().map_or(i64::MIN, |last| last.at_ms));
                    assert_eq!((&commit.key, &commit.value), (&key, &value));
                    model.0.push(commit);
                } else {
                    assert_eq!(conflict(result), current);
                }
            }
            Op::Reopen => {
                for (after, watch) in std::mem::take(&mut watches) {
                    model.check_watch(&*storage, after, watch).await;
                }
                subject.close(storage).await;
                storage = subject.open().await;
            }
            Op::Compact => subject.compact().await,
            Op::Watch(share) => {
                let after = Revision(model.highest().0 * u64::from(*share) / 255);
                let floor = storage.state().await.unwrap().revision;
                let mut watch = storage.watch(after);
                match watch.next().now_or_never().flatten() {
                    Some(Err(error)) => {
                        assert!(matches!(error, ReadError::Compacted { asked, .. } if asked == after), "{error}");
                        assert!(after < storage.state().await.unwrap().revision);
                    }
                    begun => {
                        // Without a history the state is the newest, and what came before it may still be there.
                        assert!(after >= floor || !subject.has_history(), "a watch below the floor begins");
                        let batch = begun.transpose().unwrap().unwrap_or_default();
                        assert_eq!(batch[..], model.after(after)[..batch.len()]);
                        watches.push((batch.last().map_or(after, |last| last.revision), watch));
                    }
                }
            }
            Op::Get(key) => {
                let key = image(&format!("k{key}"));
                assert_eq!(storage.get(key.clone()).await.unwrap(), model.present(&key));
            }
            Op::State => {
                let state = storage.state().await.unwrap();
                assert!(state.commits.is_sorted_by_key(|commit| commit.revision));
                let present = model.at(state.revision);
                let given: BTreeMap<_, _> = state.commits.into_iter().map(|c| (c.key.clone(), c)).collect();
                assert_eq!(given, present, "the state at {}", state.revision);
            }
            Op::Clock(ms) => subject.step_clock(*ms),
        }
        check_current(subject, &*storage, model.highest()).await;
    }
    for (after, watch) in watches {
        model.check_watch(&*storage, after, watch).await;
    }
    assert_eq!(known(&*storage).await.0, model.at(model.highest()));
    subject.close(storage).await;
}
