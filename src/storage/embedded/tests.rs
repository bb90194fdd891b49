//! What holds of this storage beside the contract: damage, crashes, full disks, and the order of things.

use std::fs;
use std::os::unix::fs::PermissionsExt;
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
use crate::storage::{Expect, Write};

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

fn open(dir: &TempDir) -> Result<Arc<Embedded>, OpenError> {
    Embedded::open(dir.path(), Options::default(), clock())
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
    assert_eq!(storage.compact().await.unwrap(), Revision(0));
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
    assert!((45..=51).contains(&floor.0), "{floor}");
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
    assert_eq!(storage.compact().await.unwrap().0, 2100);
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
    let mut slow = storage.watch(Revision(0));
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
    assert!(seen.iter().zip(1..).all(|(commit, revision)| commit.revision == Revision(revision)));
}

#[tokio::test]
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
    assert_eq!(storage.current().await.unwrap(), Revision(0), "what is not durable is not seen");
    assert_eq!(storage.get(Key::new(Kind::Image, "first")).await.unwrap(), None);
    disk.release();
    first.await.unwrap();
    let made = join_all(waiting).await;
    assert!(made.iter().all(Result::is_ok));
    assert_eq!(storage.current().await.unwrap().0, QUEUE_WRITES as u64 + 1);
}

#[tokio::test]
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
    assert_eq!(storage.get(first.key.clone()).await.unwrap(), Some(first));
    free.store(MIN_FREE_BYTES + (1 << 20), Ordering::SeqCst);
    assert_eq!(storage.commit(create("b")).await.unwrap().revision, Revision(2));
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
            assert!((acknowledged.len() as u64..=acknowledged.len() as u64 + 1).contains(&current));
            let next = storage.commit(create("next")).await.unwrap();
            assert_eq!(next.revision.0, current + 1);
        });
        Ok(())
    });
    result.unwrap();
}

#[tokio::test]
async fn a_new_directory_is_for_its_owner_only() {
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("a/b");
    let storage = Embedded::open(&data, Options::default(), clock()).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&data), 0o700);
    assert_eq!(mode(&data.join(FILE)), 0o600);
    let names: Vec<_> = fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, [FILE]);
    storage.commit(create("a")).await.unwrap();
    let id = storage.store_id();
    drop(storage);
    let storage = Embedded::open(&data, Options::default(), clock()).unwrap();
    assert_eq!((storage.store_id(), storage.epoch()), (id, 1));
}

#[tokio::test]
async fn a_directory_in_use_is_refused_by_open_and_check() {
    let dir = TempDir::new().unwrap();
    let storage = open(&dir).unwrap();
    let error = open(&dir).unwrap_err();
    assert!(matches!(error, OpenError::InUse { .. }), "{error}");
    assert!(error.to_string().contains("in use by another process: stop"), "{error}");
    let error = check(dir.path()).unwrap_err();
    assert!(matches!(error, OpenError::InUse { .. }), "{error}");
    storage.commit(create("a")).await.unwrap();
    drop(storage);
    open(&dir).unwrap();
}

#[test]
fn a_path_that_is_no_directory_and_a_file_that_is_no_catalogue_are_refused() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, b"x").unwrap();
    for result in [Embedded::open(&file, Options::default(), clock()).map(drop), check(&file).map(drop)] {
        assert!(matches!(result, Err(OpenError::NotADirectory { .. })), "{result:?}");
    }
    let below = Embedded::open(&file.join("data"), Options::default(), clock());
    assert!(matches!(below, Err(OpenError::NotADirectory { .. })), "{below:?}");
    assert!(matches!(check(dir.path()), Err(OpenError::Missing { .. })));
    assert!(matches!(check(&dir.path().join("none")), Err(OpenError::Missing { .. })));
    let data = dir.path().join(FILE);
    for foreign in [&b"SQLite format 3\0 and more of it"[..], &vec![7; 100_000], b""] {
        fs::write(&data, foreign).unwrap();
        let error = open(&dir).unwrap_err();
        assert!(matches!(error, OpenError::Foreign { .. } | OpenError::Damaged { .. }), "{error}");
        check(dir.path()).unwrap_err();
        assert_eq!(fs::read(&data).unwrap(), foreign, "it was overwritten");
    }
    fs::remove_file(&data).unwrap();
    let db = redb::Database::create(&data).unwrap();
    let txn = db.begin_write().unwrap();
    txn.open_table(redb::TableDefinition::<u64, u64>::new("other")).unwrap();
    txn.commit().unwrap();
    drop(db);
    let error = open(&dir).unwrap_err();
    assert!(matches!(error, OpenError::Foreign { .. }), "{error}");
}

#[test]
fn a_newer_format_is_named_and_left_alone() {
    let dir = TempDir::new().unwrap();
    drop(open(&dir).unwrap());
    let path = dir.path().join(FILE);
    let db = redb::Database::open(&path).unwrap();
    let txn = db.begin_write().unwrap();
    txn.open_table(tables::META).unwrap().insert("format", &9_u32.to_le_bytes()[..]).unwrap();
    txn.commit().unwrap();
    drop(db);
    for error in [open(&dir).unwrap_err(), check(dir.path()).unwrap_err()] {
        assert!(matches!(error, OpenError::Newer { found: 9, known: 1, .. }), "{error}");
        assert!(error.to_string().contains("has format 9, this imagehub knows formats up to 1"), "{error}");
    }
}

#[test]
fn a_full_disk_at_the_first_start_leaves_nothing_behind() {
    let dir = TempDir::new().unwrap();
    let options = Options { free_space: Some(Arc::new(|| Ok(1))), ..Options::default() };
    let error = Embedded::open(dir.path(), options, clock()).unwrap_err();
    assert!(matches!(error, OpenError::NoSpace { .. }), "{error}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    let full = OpenError::io(dir.path(), io::ErrorKind::StorageFull.into());
    assert!(matches!(full, OpenError::NoSpace { .. }));
    for kind in [io::ErrorKind::PermissionDenied, io::ErrorKind::ReadOnlyFilesystem] {
        assert!(matches!(OpenError::io(dir.path(), kind.into()), OpenError::NotPermitted { .. }));
    }
}

#[test]
fn a_read_only_directory_is_refused_with_what_to_do() {
    let dir = TempDir::new().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o500)).unwrap();
    if fs::write(dir.path().join("probe"), b"").is_ok() {
        return; // The superuser may write anywhere.
    }
    let error = open(&dir).unwrap_err();
    assert!(matches!(error, OpenError::NotPermitted { .. }), "{error}");
}

/// A closed store with some of everything, and the bytes of its file.
async fn sample(dir: &TempDir) -> Vec<u8> {
    let clock = clock();
    let storage = Embedded::open(dir.path(), Options::default(), clock.clone()).unwrap();
    for i in 0..60 {
        let made = storage.commit(create(&format!("org.repo.{i}"))).await.unwrap();
        if i % 3 == 0 {
            storage.commit(update(&made, b"{\"b\":2}")).await.unwrap();
        }
    }
    let gone = storage.commit(create("gone")).await.unwrap();
    storage.commit(Write { value: None, ..update(&gone, b"") }).await.unwrap();
    storage.close();
    fs::read(dir.path().join(FILE)).unwrap()
}

#[tokio::test]
async fn check_says_what_a_store_holds_and_changes_nothing() {
    let dir = TempDir::new().unwrap();
    let bytes = sample(&dir).await;
    let report = check(dir.path()).unwrap();
    assert!(report.is_sound() && report.closed_in_order, "{report}");
    assert_eq!(report.live, [60, 0, 0, 0]);
    assert_eq!((report.oldest, report.highest.0, report.floor.0), (Some(1), 82, 0));
    assert_eq!((report.superseded, report.tombstones, report.live_bytes), (21, 1, 60 * 7));
    let text = report.to_string();
    assert!(text.contains("revisions   1 to 82, the last at 2023-11-14T22:13:20Z"), "{text}");
    assert!(text.contains("60 images, 0 repositories, 0 organizations, 0 datapacks, 420 bytes"), "{text}");
    assert_eq!(fs::read(dir.path().join(FILE)).unwrap(), bytes);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn check_reads_a_store_that_was_not_closed() {
    let dir = TempDir::new().unwrap();
    let storage = open(&dir).unwrap();
    storage.commit(create("a")).await.unwrap();
    // As a kill leaves it: the bytes of the file while it is open.
    let other = TempDir::new().unwrap();
    fs::copy(dir.path().join(FILE), other.path().join(FILE)).unwrap();
    let bytes = fs::read(other.path().join(FILE)).unwrap();
    let report = check(other.path()).unwrap();
    assert!(report.is_sound() && !report.closed_in_order, "{report}");
    assert_eq!(report.live[0], 1);
    assert!(report.to_string().contains("the next start recovers it"), "{report}");
    assert_eq!(fs::read(other.path().join(FILE)).unwrap(), bytes);
    open(&other).unwrap();
}

#[tokio::test]
async fn flipped_bytes_and_truncation_are_damage_or_harmless_and_never_a_panic() {
    let dir = TempDir::new().unwrap();
    let bytes = sample(&dir).await;
    let path = dir.path().join(FILE);
    let expected = open(&dir).unwrap().state().await.unwrap();
    let bytes = if fs::read(&path).unwrap() == bytes { bytes } else { fs::read(&path).unwrap() };
    let mut refused = 0;
    for at in (0..bytes.len()).step_by(bytes.len() / 150) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x41;
        fs::write(&path, &damaged).unwrap();
        let checked = check(dir.path());
        assert_eq!(fs::read(&path).unwrap(), damaged, "check changed the file");
        match open(&dir) {
            // A byte that means nothing, or that redb's other commit slot stands in for.
            Ok(storage) => {
                let state = storage.state().await.unwrap();
                assert_eq!(state.commits, expected.commits, "byte {at} changed what is read");
            }
            Err(error) => {
                refused += 1;
                assert!(matches!(error, OpenError::Damaged { .. } | OpenError::Foreign { .. }), "{error}");
                assert!(checked.is_err() || !checked.unwrap().is_sound(), "check doesn't see byte {at}");
            }
        }
    }
    assert!(refused > 10, "only {refused} of the flips were seen");
    for len in [1, 100, 4096, bytes.len() / 2, bytes.len() - 4096] {
        fs::write(&path, &bytes[..len]).unwrap();
        let error = open(&dir).unwrap_err();
        assert!(matches!(error, OpenError::Damaged { .. } | OpenError::Foreign { .. }), "{len}: {error}");
    }
}

#[tokio::test]
async fn check_lists_the_rows_that_are_damaged() {
    let dir = TempDir::new().unwrap();
    let mut bytes = sample(&dir).await;
    let needle = b"org.repo.59{\"a\":1}";
    let places: Vec<_> = (0..bytes.len() - needle.len()).filter(|at| bytes[*at..].starts_with(needle)).collect();
    assert!(!places.is_empty());
    for at in places {
        bytes[at + needle.len() - 2] = b'9';
    }
    fs::write(dir.path().join(FILE), &bytes).unwrap();
    let report = check(dir.path()).unwrap();
    assert!(!report.is_sound());
    assert_eq!((report.damaged, report.damage.len()), (1, 1), "{report}");
    assert!(report.damage[0].contains("row 80 does not match its checksum"), "{report}");
    let error = open(&dir).unwrap_err();
    assert!(error.to_string().contains("row 80 does not match its checksum"), "{error}");
}
