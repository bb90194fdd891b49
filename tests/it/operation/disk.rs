//! Data directories that are in use, somebody else's, damaged, newer, or full.

use std::path::{Path, PathBuf};
use std::process::Command;

use redb::{Database, TableDefinition};
use serde_json::json;
use tempfile::TempDir;

use super::{FREE, everything, serve};
use crate::harness::{Launch, Server, image, path, run, run_as_nobody};

const MIB: usize = 1024 * 1024;

#[tokio::test]
async fn check_reports_and_a_directory_in_use_is_left_alone() {
    let mut server = Launch::default().argument("--demo").start().await;
    let data = server.data_dir();
    let data = data.to_str().expect("a path in UTF-8");
    let dir = tempfile::tempdir().expect("a directory");
    let before = everything(&server).await;
    run(dir.path(), &serve(&["--data-dir", data]), &[], "").await.failed_with(1, &[data, "in use"]);
    run(dir.path(), &["check", data], &[], "").await.failed_with(1, &[data, "in use"]);
    assert_eq!(everything(&server).await, before, "the server goes on");
    server.stop().await;
    let stopped = run(dir.path(), &["check", data], &[], "").await;
    assert!(stopped.ok().contains("images"), "{stopped:?}");
    server.start_again().await;
    server.kill9().await;
    let killed = run(dir.path(), &["check", data], &[], "").await;
    assert!(killed.ok().contains("images"), "{killed:?}");
    server.start_again().await;
    assert_eq!(everything(&server).await, before);

    let empty = dir.path().to_str().expect("a path in UTF-8");
    run(dir.path(), &["check", empty], &[], "").await.failed_with(1, &["there is no catalogue in"]);
    run(dir.path(), &["check", "nowhere"], &[], "").await.failed_with(1, &["nowhere"]);
}

/// The data directory of a server that was stopped.
async fn stopped() -> (Server, PathBuf) {
    let mut server = Launch::default().argument("--demo").start().await;
    server.stop().await;
    let file = server.data_dir().join("catalog.redb");
    (server, file)
}

#[tokio::test]
async fn what_cannot_be_read_is_told_and_not_overwritten() {
    let (_server, file) = stopped().await;
    let good = std::fs::read(&file).expect("the data");
    let data = file.parent().and_then(Path::to_str).expect("a path in UTF-8").to_owned();
    let half = good[..good.len() / 2].to_vec();
    let mut zeroed = good.clone();
    zeroed[4096..].fill(0);
    let noise: Vec<u8> = (0..200_000_u32).map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
    let cases = [
        ("empty", Vec::new(), "damaged"),
        ("noise", noise, "is no imagehub catalogue"),
        ("text", b"hello\n".repeat(1000), "is no imagehub catalogue"),
        ("half", half, "damaged"),
        ("zeroed", zeroed, "damaged"),
    ];
    for (what, bytes, said) in cases {
        std::fs::write(&file, &bytes).expect("it is written");
        for arguments in [serve(&["--data-dir", &data]), vec!["check", &data]] {
            let ended = run(Path::new("/"), &arguments, &[], "").await;
            assert_eq!(ended.code, Some(1), "{what}: {arguments:?}: {ended:?}");
            assert!(ended.said.contains(said) && ended.said.contains(&data), "{what}: {arguments:?}: {ended:?}");
            assert!(!ended.said.contains("panicked"), "{what}: {ended:?}");
            assert!(std::fs::read(&file).expect("it is there") == bytes, "{what}: {arguments:?}: it was changed");
        }
    }
    std::fs::write(&file, &good).expect("it is written");
    {
        let db = Database::open(&file).expect("it opens");
        let write = db.begin_write().expect("it writes");
        let meta: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
        write.open_table(meta).expect("a table").insert("format", &7_u32.to_le_bytes()[..]).expect("it is put in");
        write.commit().expect("it is committed");
    }
    for arguments in [serve(&["--data-dir", &data]), vec!["check", &data]] {
        let ended = run(Path::new("/"), &arguments, &[], "").await;
        ended.failed_with(1, &[&data, "has format 7", "newer version"]);
    }
}

#[tokio::test]
async fn certificates_that_are_damaged_are_told_by_their_file() {
    let (_server, file) = stopped().await;
    let data = file.parent().and_then(Path::to_str).expect("a path in UTF-8").to_owned();
    for part in ["pki/server.crt", "pki/ca.key", "pki/admin.crt"] {
        let path = Path::new(&data).join(part);
        let good = std::fs::read(&path).expect("it is there");
        std::fs::write(&path, "nonsense").expect("it is written");
        let ended = run(Path::new("/"), &serve(&["--data-dir", &data]), &[], "").await;
        ended.failed_with(1, &[part, "remove it"]);
        std::fs::write(&path, good).expect("it is written");
    }
    let checked = run(Path::new("/"), &["check", &data], &[], "").await;
    assert!(checked.ok().contains("images"), "a start that failed half way leaves the data whole: {checked:?}");
}

#[tokio::test]
async fn a_place_that_may_not_be_written_is_told() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("file"), "mine").expect("a file");
    for place in ["file", "file/below"] {
        run(dir.path(), &serve(&["--data-dir", place]), &[], "").await.failed_with(1, &[place, "is not a directory"]);
    }
    run(dir.path(), &serve(&["--data-dir", "/proc/imagehub"]), &[], "").await.failed_with(1, &["/proc/imagehub"]);
    // Root is let in everywhere.
    let allow = |path: &Path| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("permissions");
    };
    allow(dir.path());
    let binary = dir.path().join("imagehub");
    std::fs::copy(env!("CARGO_BIN_EXE_imagehub"), &binary).expect("a copy");
    allow(&binary);
    let data = dir.path().join("data");
    std::fs::create_dir(&data).expect("a directory");
    allow(&data);
    let flags = [&FREE[..], &["--data-dir", "data"]].concat();
    match run_as_nobody(&binary, dir.path(), &flags).await {
        Some(ended) => ended.failed_with(1, &["data", "can't be read and written", "Permission denied"]),
        None => eprintln!("skipped in part: not root, or no setpriv: nobody else to run it as"),
    }
}

/// A small file system of its own.
struct Disk(TempDir);

impl Disk {
    /// `None` where mounting is not allowed.
    fn of(mib: usize) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a directory");
        let size = format!("size={mib}m,mode=700");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(dir.path()).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(dir)),
            Ok(output) => {
                eprintln!("skipped: no disk to fill: {}", String::from_utf8_lossy(&output.stderr).trim());
                None
            }
            Err(error) => {
                eprintln!("skipped: no disk to fill: mount: {error}");
                None
            }
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a server that has it open may take a moment to end.
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

#[tokio::test]
async fn a_full_disk_refuses_writers_and_serves_readers() {
    let Some(disk) = Disk::of(80) else { return };
    let data = disk.0.path().join("data");
    let mut server = Launch::default().data(&data).start().await;
    let admin = server.admin();
    let make = async |tag: &str| {
        let image = image(&format!("acme/anvil:{tag}"), json!({ "docs": "d".repeat(1000) }));
        admin.post(&path("images", ""), &image).await
    };
    make("v1").await.expect(201);
    let filler = disk.0.path().join("filler");
    std::fs::write(&filler, vec![1; 40 * MIB]).expect("the disk is filled");
    let mut refused = make("v2").await;
    // The server looks at the disk now and then, not at each write.
    for attempt in 3..2000 {
        if refused.status == 507 {
            break;
        }
        refused = make(&format!("v{attempt}")).await;
    }
    let status = refused.refused(507, "InsufficientStorage");
    assert!(status["message"].as_str().is_some_and(|m| m.contains("free")), "{status:#}");
    let patch = json!({ "metadata": { "labels": { "a": "b" } } });
    let place = path("images", "acme.anvil.v1");
    admin.patch(&place, crate::harness::MERGE_PATCH, &patch).await.refused(507, "InsufficientStorage");
    admin.get(&place).await.expect(200);
    assert_eq!(server.http().get("/readyz").await.status, 200, "it can be read");
    let mut watch = admin.watch(&path("images", "")).await;
    watch.next().await;
    std::fs::remove_file(&filler).expect("the disk is freed");
    let freed = async {
        loop {
            let answer = make("late").await;
            if answer.status != 507 {
                break answer;
            }
        }
    };
    crate::harness::within("a write after space was freed", freed).await.expect(201);
    let before = everything(&server).await;
    server.restart().await;
    assert_eq!(everything(&server).await, before);

    // A first start wants room, too.
    server.stop().await;
    std::fs::write(&filler, vec![1; 40 * MIB]).expect("the disk is filled");
    let fresh = disk.0.path().join("fresh");
    let fresh = fresh.to_str().expect("a path in UTF-8");
    let ended = run(Path::new("/"), &serve(&["--data-dir", fresh]), &[], "").await;
    ended.failed_with(1, &[fresh, "too little free space"]);
}
