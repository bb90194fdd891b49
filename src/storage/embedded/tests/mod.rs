//! What holds of this storage beside the contract: crashes, full disks and queues, the order of things.

mod directory;
mod full;

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures::future::join_all;
use futures::{FutureExt, StreamExt};
use jiff::Timestamp;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use tempfile::TempDir;

use super::disk::Disk;
use super::*;
use crate::api::Kind;
use crate::clock::ManualClock;
use crate::storage::conformance::{self, Subject};
use crate::storage::{Expect, ORIGIN, Write};

fn clock() -> Arc<ManualClock> {
    ManualClock::at(Timestamp::from_second(1_700_000_000).unwrap())
}

fn create(name: &str) -> Write {
    let value = Some(Bytes::from_static(b"{\"a\":1}"));
    Write { key: Key::new(Kind::Image, name), expect: Expect::Absent, value }
}

fn update(commit: &Commit, value: &'static [u8]) -> Write {
    Write { key: commit.key.clone(), expect: Expect::At(commit.revision), value: Some(Bytes::from_static(value)) }
}

/// A place in a directory or, without one, in memory.
struct Place {
    dir: Option<TempDir>,
    disk: Disk,
    clock: Arc<ManualClock>,
    opened: Mutex<Option<Arc<Embedded>>>,
}

impl Place {
    fn on_disk() -> Self {
        Self { dir: Some(TempDir::new().unwrap()), ..Self::in_memory() }
    }

    fn in_memory() -> Self {
        Self { dir: None, disk: Disk::default(), clock: clock(), opened: Mutex::default() }
    }
}

impl Subject for Place {
    fn open(&self) -> BoxFuture<'_, Arc<dyn Storage>> {
        let clock = Arc::clone(&self.clock);
        let opened = match &self.dir {
            Some(dir) => Embedded::open(dir.path(), Options::default(), clock),
            None => Embedded::open_with_backend(self.disk.clone(), Options::default(), clock),
        };
        let opened = opened.unwrap();
        *self.opened.lock() = Some(Arc::clone(&opened));
        Box::pin(async { opened as Arc<dyn Storage> })
    }

    fn close(&self, storage: Arc<dyn Storage>) -> BoxFuture<'_, ()> {
        self.opened.lock().take().unwrap().close();
        Box::pin(async { drop(storage) })
    }

    fn compact(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.clock.step_ms(i64::try_from(HISTORY.as_millis()).unwrap());
            let opened = self.opened.lock().clone().unwrap();
            opened.compact().await.unwrap();
        })
    }

    fn step_clock(&self, ms: i64) {
        self.clock.step_ms(ms);
    }

    fn has_history(&self) -> bool {
        true
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_keeps_the_contract() {
    conformance::run(Place::on_disk).await;
}

fn agrees_with_the_model(cases: u32, ops: usize, place: impl Fn() -> Place) {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let result = runner.run(&conformance::ops(ops), |ops| {
        runtime.block_on(conformance::agrees_with_the_model(&place(), &ops));
        Ok(())
    });
    result.unwrap();
}

#[test]
fn it_agrees_with_the_model_in_memory() {
    agrees_with_the_model(150, 60, Place::in_memory);
}

#[test]
fn it_agrees_with_the_model_on_a_disk() {
    agrees_with_the_model(8, 40, Place::on_disk);
}

#[tokio::test]
async fn times_never_go_back_though_the_clock_does() {
    let (disk, clock) = (Disk::default(), clock());
    let storage = Embedded::open_with_backend(disk.clone(), Options::default(), clock.clone()).unwrap();
    let first = storage.commit(create("a")).await.unwrap();
    clock.step_ms(-60_000);
    let second = storage.commit(create("b")).await.unwrap();
    assert_eq!(second.at_ms, first.at_ms);
    storage.close();
    let storage = Embedded::open_with_backend(disk, Options::default(), clock.clone()).unwrap();
    assert_eq!(storage.commit(create("c")).await.unwrap().at_ms, first.at_ms);
    clock.step_ms(60_001);
    assert_eq!(storage.commit(create("d")).await.unwrap().at_ms, first.at_ms + 1);
}

#[tokio::test]
async fn a_restart_expires_no_watch_however_long_it_was_down() {
    let (disk, clock) = (Disk::default(), clock());
    let storage = Embedded::open_with_backend(disk.clone(), Options::default(), clock.clone()).unwrap();
    let first = storage.commit(create("a")).await.unwrap();
    let second = storage.commit(update(&first, b"2")).await.unwrap();
    storage.close();
    clock.step_ms(3_600_000);
    let storage = Embedded::open_with_backend(disk, Options::default(), clock.clone()).unwrap();
    let third = storage.commit(update(&second, b"3")).await.unwrap();
    assert_eq!(storage.compact().await.unwrap(), ORIGIN);
    let mut watch = storage.watch(first.revision);
    let mut seen = watch.next().await.unwrap().unwrap();
    seen.extend(watch.next().now_or_never().flatten().transpose().unwrap().unwrap_or_default());
    assert_eq!(seen, [second.clone(), third.clone()]);
    clock.step_ms(300_000);
    assert_eq!(storage.compact().await.unwrap(), third.revision);
    let ended = storage.watch(first.revision).next().await.unwrap();
    assert!(matches!(ended, Err(ReadError::Compacted { .. })), "{ended:?}");
}

#[tokio::test]
async fn history_is_kept_by_number_when_the_clock_stands() {
    let options = Options { history_commits: 100, ..Options::default() };
    let storage = Embedded::open_with_backend(Disk::default(), options, clock()).unwrap();
    let mut last = storage.commit(create("a")).await.unwrap();
    for _ in 0..150 {
        last = storage.commit(update(&last, b"x")).await.unwrap();
    }
    let floor = storage.compact().await.unwrap();
    assert!((46..=52).contains(&floor.0), "{floor}");
    assert_eq!(storage.state().await.unwrap().revision, floor);
}

#[tokio::test]
async fn a_large_history_is_compacted_in_steps_and_reads_back() {
    let (disk, clock) = (Disk::default(), clock());
    let storage = Embedded::open_with_backend(disk.clone(), Options::default(), clock.clone()).unwrap();
    let mut present = join_all((0..700).map(|i| storage.commit(create(&format!("k{i}"))))).await;
    for value in [&b"2"[..], b"3"] {
        let writes = present.iter().map(|made| storage.commit(update(made.as_ref().unwrap(), value)));
        present = join_all(writes).await;
    }
    let present: Vec<_> = present.into_iter().map(Result::unwrap).collect();
    clock.step_ms(300_000);
    // 1,400 rows, 500 a step.
    let syncs = disk.syncs();
    assert_eq!(storage.compact().await.unwrap().0, ORIGIN.0 + 2100);
    assert!(disk.syncs() - syncs >= 3);
    assert_eq!(storage.state().await.unwrap().commits, present);
    storage.close();
    let storage = Embedded::open_with_backend(disk, Options::default(), clock).unwrap();
    assert_eq!(storage.state().await.unwrap().commits, present);
    assert_eq!(storage.get(present[7].key.clone()).await.unwrap().as_ref(), Some(&present[7]));
}

#[tokio::test]
async fn a_watcher_that_fell_out_of_memory_reads_the_log_and_misses_nothing() {
    let storage = Embedded::open_with_backend(Disk::default(), Options::default(), clock()).unwrap();
    let mut slow = storage.watch(ORIGIN);
    storage.commit(create("first")).await.unwrap();
    let mut seen = slow.next().await.unwrap().unwrap();
    for round in 0..6 {
        let made = join_all((0..1000).map(|i| storage.commit(create(&format!("{round}.{i}"))))).await;
        assert!(made.iter().all(Result::is_ok));
    }
    assert!(storage.shared.published.read().recent(2).is_none());
    while seen.len() < 6001 {
        seen.extend(slow.next().await.unwrap().unwrap());
    }
    assert!(seen.iter().zip(2..).all(|(commit, revision)| commit.revision == Revision(revision)));
}

#[tokio::test]
#[cfg_attr(feature = "broken-apply-before-commit", ignore = "nothing waits for the disk in that build")]
async fn a_full_queue_is_busy_at_once_and_what_waited_is_made() {
    let disk = Disk::default();
    let storage = Embedded::open_with_backend(disk.clone(), Options::default(), clock()).unwrap();
    disk.hold();
    let mut first = storage.commit(create("first"));
    assert!((&mut first).now_or_never().is_none());
    disk.wait_stuck();
    let mut waiting: Vec<_> = (0..QUEUE_WRITES).map(|i| storage.commit(create(&format!("w{i}")))).collect();
    for write in &mut waiting {
        assert!(write.now_or_never().is_none());
    }
    assert!(matches!(storage.commit(create("more")).now_or_never(), Some(Err(CommitError::Busy(QUEUE_WRITES)))));
    assert_eq!(storage.current().await.unwrap(), ORIGIN, "what is not durable is not seen");
    assert_eq!(storage.get(Key::new(Kind::Image, "first")).await.unwrap(), None);
    disk.release();
    first.await.unwrap();
    let made = join_all(waiting).await;
    assert!(made.iter().all(Result::is_ok));
    assert_eq!(storage.current().await.unwrap().0, ORIGIN.0 + QUEUE_WRITES as u64 + 1);
}

#[tokio::test]
#[cfg_attr(feature = "broken-apply-before-commit", ignore = "nothing waits for the disk in that build")]
async fn a_queue_full_of_bytes_is_busy() {
    let disk = Disk::default();
    let storage = Embedded::open_with_backend(disk.clone(), Options::default(), clock()).unwrap();
    disk.hold();
    let mut first = storage.commit(create("first"));
    assert!((&mut first).now_or_never().is_none());
    disk.wait_stuck();
    let mut large = create("large");
    large.value = Some(Bytes::from(vec![0; QUEUE_BYTES]));
    assert!(matches!(storage.commit(large).now_or_never(), Some(Err(CommitError::Busy(_)))));
    disk.release();
    first.await.unwrap();
}

#[tokio::test]
async fn too_little_space_refuses_writes_until_there_is_more() {
    let free = Arc::new(AtomicU64::new(MIN_FREE_BYTES + (1 << 20)));
    let reading = Arc::clone(&free);
    let options =
        Options { free_space: Some(Arc::new(move || Ok(reading.load(Ordering::SeqCst)))), ..Options::default() };
    let storage = Embedded::open_with_backend(Disk::default(), options, clock()).unwrap();
    let first = storage.commit(create("a")).await.unwrap();
    let mut large = create("large");
    large.value = Some(Bytes::from(vec![0; 2 << 20]));
    assert!(matches!(storage.commit(large).await, Err(CommitError::NoSpace { .. })), "it would go below the minimum");
    free.store(MIN_FREE_BYTES - 1, Ordering::SeqCst);
    let error = storage.commit(create("b")).await.unwrap_err();
    assert!(matches!(error, CommitError::NoSpace { free, .. } if free == MIN_FREE_BYTES - 1), "{error}");
    assert_eq!(storage.get(first.key.clone()).await.unwrap().as_ref(), Some(&first));
    // A deletion makes room in the end, so that it is made while any is left.
    let gone = Write { key: first.key.clone(), expect: Expect::At(first.revision), value: None };
    assert_eq!(storage.commit(gone).await.unwrap().revision, Revision(3));
    free.store(1 << 20, Ordering::SeqCst);
    let none = Write { key: first.key, expect: Expect::Absent, value: None };
    assert!(matches!(storage.commit(none).await, Err(CommitError::NoSpace { .. })));
    free.store(MIN_FREE_BYTES + (1 << 20), Ordering::SeqCst);
    assert_eq!(storage.commit(create("b")).await.unwrap().revision, Revision(4));
}

#[tokio::test]
async fn a_failed_commit_stops_the_storage_and_acknowledges_nothing() {
    // A commit syncs twice: each may fail.
    for failing in [1, 2] {
        let (disk, clock) = (Disk::default(), clock());
        let storage = Embedded::open_with_backend(disk.clone(), Options::default(), clock.clone()).unwrap();
        let first = storage.commit(create("a")).await.unwrap();
        let mut watch = storage.watch(first.revision);
        let stopped = storage.stopped();
        disk.fail_sync(failing);
        let results = join_all((0..5).map(|i| storage.commit(create(&format!("b{i}"))))).await;
        for result in results {
            assert!(matches!(result, Err(CommitError::Stopped(_))), "{result:?}");
        }
        let reason = stopped.await;
        assert!(reason.contains("the disk is broken"), "{reason}");
        assert!(matches!(watch.next().await, Some(Err(ReadError::Stopped(_)))));
        assert!(matches!(storage.get(first.key.clone()).await, Err(ReadError::Stopped(_))));
        assert!(matches!(storage.current().await, Err(ReadError::Stopped(_))));
        assert!(matches!(storage.commit(create("c")).await, Err(CommitError::Stopped(_))));
        storage.close();
        let storage = Embedded::open_with_backend(disk.crashed(|_| false), Options::default(), clock).unwrap();
        assert_eq!(storage.get(first.key.clone()).await.unwrap(), Some(first));
    }
}

#[test]
fn after_a_crash_at_any_moment_every_acknowledged_write_is_there() {
    // How many syncs go well, and which of the changes after the last one reach the disk.
    let crashes = (1_u64..24, any::<u64>());
    let config = Config { cases: 60, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let result = runner.run(&crashes, |(syncs, kept)| {
        runtime.block_on(async {
            let (disk, clock) = (Disk::default(), clock());
            let storage = Embedded::open_with_backend(disk.clone(), Options::default(), clock.clone()).unwrap();
            disk.fail_sync(syncs);
            let mut acknowledged = Vec::new();
            for number in 0.. {
                match storage.commit(create(&format!("k{number}"))).await {
                    Ok(commit) => acknowledged.push(commit),
                    Err(CommitError::Stopped(_)) => break,
                    Err(other) => panic!("{other}"),
                }
            }
            let after = disk.crashed(|number| kept.rotate_right(u32::try_from(number % 64).unwrap()) & 1 == 1);
            drop(storage);
            let storage = Embedded::open_with_backend(after, Options::default(), clock).unwrap();
            for commit in &acknowledged {
                assert_eq!(storage.get(commit.key.clone()).await.unwrap().as_ref(), Some(commit));
            }
            // The one of unknown outcome is there whole or not at all.
            let current = storage.current().await.unwrap().0;
            let made = current - ORIGIN.0;
            assert!((acknowledged.len() as u64..=acknowledged.len() as u64 + 1).contains(&made));
            let next = storage.commit(create("next")).await.unwrap();
            assert_eq!(next.revision.0, current + 1);
        });
        Ok(())
    });
    result.unwrap();
}
