//! Data directories: new, in use, foreign, damaged; and what the check says of them.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;

fn open(dir: &TempDir) -> Result<Arc<Embedded>, OpenError> {
    Embedded::open(dir.path(), Options::default(), clock())
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
    assert_eq!((report.oldest, report.highest.0, report.floor.0), (Some(2), 83, 1));
    assert_eq!((report.superseded, report.tombstones, report.live_bytes), (21, 1, 60 * 7));
    let text = report.to_string();
    assert!(text.contains("revisions   2 to 83, the last at 2023-11-14T22:13:20Z"), "{text}");
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
    assert!(report.damage[0].contains("row 81 does not match its checksum"), "{report}");
    let error = open(&dir).unwrap_err();
    assert!(error.to_string().contains("row 81 does not match its checksum"), "{error}");
}
