//! What moves data out of a directory that is damaged, or from a server that dies meanwhile: either all of it is
//! there, or the command fails and what is there is not taken for whole.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use imagehub::clock::SystemClock;
use imagehub::storage::embedded::{Embedded, FILE, Options};
use imagehub::storage::{Commit, Storage as _};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tokio::process::Command;

use crate::harness::{Launch, Server, image, path, run, within};

/// Flips a byte so often; more by this variable.
const FLIPS: usize = 24;
const FLIPS_VARIABLE: &str = "IMAGEHUB_DAMAGE_FLIPS";

/// What a store holds, without what is superseded.
async fn state(dir: &Path) -> Vec<Commit> {
    let options = Options { history: std::time::Duration::ZERO, ..Options::default() };
    let storage = Embedded::open(dir, options, Arc::new(SystemClock)).expect("it opens");
    storage.compact().await.expect("it is compacted");
    let mut commits = storage.state().await.expect("it reads").commits;
    storage.close();
    // A copy is written at another time.
    for commit in &mut commits {
        commit.at_ms = 0;
    }
    commits.sort_by(|a, b| a.key.cmp(&b.key));
    commits
}

fn utf8(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

#[tokio::test]
async fn a_damaged_directory_is_backed_up_whole_or_not_at_all() {
    let mut server = Launch::default().argument("--demo").start().await;
    server.stop().await;
    let data = server.data_dir();
    let file = data.join(FILE);
    let root = tempfile::tempdir().expect("a directory");
    let copy = root.path().join("copy");
    run(root.path(), &["backup", utf8(&data), utf8(&copy)], &[], "").await.ok();
    let expected = state(&copy).await;
    assert!(expected.len() > 20);
    let good = std::fs::read(&file).expect("the data");

    let flips = std::env::var(FLIPS_VARIABLE).map_or(FLIPS, |n| n.parse().expect("a number"));
    let mut rng = StdRng::seed_from_u64(5);
    // Some where a row surely is.
    let needle = b"\"spec\":";
    let rows: Vec<usize> = (0..good.len() - needle.len()).filter(|at| good[*at..].starts_with(needle)).collect();
    let (mut refused, mut whole) = (0, 0);
    for flip in 0..flips {
        let at = if flip % 2 == 0 { rows[rng.random_range(0..rows.len())] } else { rng.random_range(0..good.len()) };
        let mut bytes = good.clone();
        bytes[at] ^= 1 << rng.random_range(0..8);
        std::fs::write(&file, &bytes).expect("it is written");
        let checked = run(root.path(), &["check", utf8(&data)], &[], "").await;
        assert!(std::fs::read(&file).expect("it is there") == bytes, "byte {at}: check has changed it");
        let out = root.path().join(format!("out{flip}"));
        let ended = run(root.path(), &["backup", utf8(&data), utf8(&out)], &[], "").await;
        assert!(!ended.said.contains("panicked") && !checked.said.contains("panicked"), "byte {at}: {ended:?}");
        if ended.code == Some(0) {
            whole += 1;
            assert!(state(&out).await == expected, "byte {at}: what was written is not what was there");
        } else {
            refused += 1;
            ended.failed_with(1, &[utf8(&data)]);
            assert!(
                ended.said.contains("damaged") || ended.said.contains("no imagehub catalogue"),
                "byte {at}: {ended:?}"
            );
            assert_eq!(checked.code, Some(1), "byte {at}: check sees nothing: {checked:?}");
            let half = run(root.path(), &["check", utf8(&out)], &[], "").await;
            assert_eq!(half.code, Some(1), "byte {at}: what is left is taken for whole: {half:?}");
            assert!(!out.join(FILE).exists(), "byte {at}");
        }
    }
    println!("{refused} were refused, {whole} were whole");
    assert!(refused > flips / 3 && whole > 0, "{refused} were refused, {whole} were whole");
}

/// A server whose export is far larger than what the system keeps for a connection.
async fn large() -> Server {
    let server = Server::start().await;
    let docs = "text ".repeat(60_000);
    for tag in 0..60 {
        let image = image(&format!("large/text:v{tag}"), json!({ "docs": docs }));
        server.admin().post(&path("images", ""), &image).await.expect(201);
    }
    server
}

#[tokio::test]
async fn an_export_whose_server_dies_fails_and_leaves_the_former_one() {
    let mut server = large().await;
    let config = server.data_dir().join("kubeconfig");
    let dir = tempfile::tempdir().expect("a directory");
    let out = dir.path().join("all.yaml");
    std::fs::write(&out, "the former one").expect("a file");
    let part = dir.path().join("all.yaml.part");
    let mut command = Command::new(env!("CARGO_BIN_EXE_imagehub"));
    command.args(["export", "--kubeconfig", utf8(&config), "-o", utf8(&out)]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let child = command.spawn().expect("the program starts");
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw).expect("it runs");
    let begun = async {
        while !part.exists() {
            tokio::task::yield_now().await;
        }
    };
    within("the export to begin", begun).await;
    // It stands still while its server dies.
    kill_process(pid, Signal::STOP).expect("it runs");
    server.kill9().await;
    kill_process(pid, Signal::CONT).expect("it is there");
    let ended = within("its end", child.wait_with_output()).await.expect("it can be waited for");
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains("all.yaml") && !said.contains("panicked"), "{said}");
    assert_eq!(std::fs::read_to_string(&out).expect("it is there"), "the former one");
    assert!(!part.exists());
}
