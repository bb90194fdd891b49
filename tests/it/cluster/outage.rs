//! The host away, cut off, killed, set back: nothing acknowledged is lost, nothing comes twice, and what isn't known
//! is said to be.

mod history;

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use imagehub::clock::SystemClock;
use imagehub::graph::{Graph, Sight, Window};
use imagehub::storage::kubernetes::Kubernetes;
use imagehub::storage::{Commit, CommitError, Expect, ReadError, Storage as _};
use rand::{RngExt as _, SeedableRng as _};

use super::damage::eventually;
use super::proxy::Proxy;
use super::rig::{Cluster, Options};
use super::storage::{anything, open, write};
use crate::harness::within;

/// Without kube-controller-manager, which has no part in it.
const BARE: Options = Options { controllers: false, service_account_credentials: false };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_waits_for_a_host_that_is_not_there_or_not_set_up() {
    let cluster = Cluster::new(BARE);
    let client = cluster.client().await;
    let opening = tokio::spawn(Kubernetes::open(client, anything(), Arc::new(SystemClock)));
    cluster.etcd.start();
    cluster.api.start();
    cluster.ready().await;
    assert!(!opening.is_finished(), "Records are not installed yet");
    cluster.install_records().await;
    let storage = within("it opens", opening).await.unwrap().unwrap();
    storage.commit(write("a", Expect::Absent, Some(b"1"))).await.unwrap();
    // It doesn't stop because its host does.
    cluster.api.kill();
    let reading = {
        let storage = storage.clone();
        tokio::spawn(async move { storage.get(write("a", Expect::Absent, None).key).await })
    };
    cluster.api.start();
    cluster.ready().await;
    assert!(within("it is read", reading).await.unwrap().unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_lost_is_found_out_and_nothing_is_done_twice() {
    const ROUNDS: u32 = 12;
    let cluster = Cluster::shared().await;
    cluster.install_records().await;
    cluster.delete_records().await;
    let proxy = Proxy::to(cluster.api_port()).await;
    let storage = open(cluster.client_through(proxy.port()).await, anything()).await;
    let mut watch = storage.watch(storage.state().await.unwrap().revision);
    let mut random = rand::rngs::StdRng::seed_from_u64(3);
    let (mut made, mut seen): (Vec<Commit>, Vec<Commit>) = (Vec::new(), Vec::new());
    let mut last: Option<Commit> = None;
    for round in 0..ROUNDS {
        // The request has passed, or is about to, and the answer has not.
        let delay = Duration::from_millis(80);
        proxy.delay(delay);
        let next = match &last {
            Some(commit) if round % 3 == 2 => write("a", Expect::At(commit.revision), None),
            Some(commit) => write("a", Expect::At(commit.revision), Some(format!("{round}").as_bytes())),
            None => write("a", Expect::Absent, Some(format!("{round}").as_bytes())),
        };
        let deleted = next.value.is_none();
        let committing = {
            let storage = storage.clone();
            tokio::spawn(async move { storage.commit(next).await })
        };
        tokio::time::sleep(delay.mul_f64(random.random_range(0.5..2.5))).await;
        if round % 4 == 3 {
            proxy.silence()
        } else {
            proxy.cut()
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        proxy.open();
        let commit = within("the write is answered", committing).await.unwrap().unwrap();
        last = (!deleted).then(|| commit.clone());
        made.push(commit);
    }
    while seen.len() < made.len() {
        seen.extend(within("the watch goes on", watch.next()).await.unwrap().unwrap());
    }
    assert_eq!(seen, made);
    storage.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_has_forgotten_or_was_set_back_ends_watches_and_all_is_read_anew() {
    let cluster = Cluster::start(BARE).await;
    cluster.install_records().await;
    let proxy = Proxy::to(cluster.api_port()).await;
    let storage = open(cluster.client_through(proxy.port()).await, anything()).await;
    let (graph, writer) = Graph::open(storage.clone(), Window::default()).await.unwrap();
    let writer = tokio::spawn(writer.run());
    let generation = || graph.visible(Sight::Everything).generation();

    // Forgotten: what happens while we are cut off is compacted away.
    proxy.cut();
    let other = open(cluster.client().await, anything()).await;
    let mut last = other.commit(write("a", Expect::Absent, Some(b"0"))).await.unwrap();
    for _ in 0..5 {
        last = other.commit(write("a", Expect::At(last.revision), Some(b"0"))).await.unwrap();
    }
    let gone = other.commit(write("a", Expect::At(last.revision), None)).await.unwrap();
    cluster.compact_etcd().await;
    cluster.api.kill();
    cluster.api.start();
    cluster.ready().await;
    let mut watch = storage.watch(graph.revision());
    proxy.open();
    let ended = within("the watch ends", watch.next()).await;
    assert!(matches!(ended, Some(Err(ReadError::Compacted { .. }))), "{ended:?}");
    eventually("the graph is filled anew", || generation() > 0 && graph.revision() >= gone.revision).await;

    // Set back: etcd's folder as it was, and then as it was before that.
    let kept = tempfile::tempdir().unwrap();
    stop(&cluster);
    copy(&cluster.etcd_dir(), kept.path());
    start(&cluster).await;
    let mut last =
        within("a write after the outage", storage.commit(write("b", Expect::Absent, Some(b"0")))).await.unwrap();
    for _ in 0..150 {
        last = storage.commit(write("b", Expect::At(last.revision), Some(b"0"))).await.unwrap();
    }
    let mut watch = storage.watch(last.revision);
    let before = generation();
    stop(&cluster);
    std::fs::remove_dir_all(cluster.etcd_dir()).unwrap();
    copy(kept.path(), &cluster.etcd_dir());
    start(&cluster).await;
    let ended = within("the watch ends", watch.next()).await;
    assert!(matches!(ended, Some(Err(ReadError::Compacted { .. }))), "{ended:?}");
    eventually("the graph is filled anew", || generation() > before).await;
    eventually("the graph is where the host is", || graph.revision() < last.revision).await;
    assert!(graph.visible(Sight::Everything).get(imagehub::api::Kind::Image, "b").is_none());
    // It goes on from there.
    let made = within("a write", storage.commit(write("b", Expect::Absent, Some(b"1")))).await.unwrap();
    assert_eq!(storage.get(made.key.clone()).await.unwrap(), Some(made));
    assert!(!writer.is_finished());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_while_the_host_is_killed() {
    const ROUNDS: u32 = 5;
    let rounds = match std::env::var("IMAGEHUB_HOST_KILL_ROUNDS") {
        Ok(rounds) => rounds.parse().unwrap_or_else(|e| panic!("IMAGEHUB_HOST_KILL_ROUNDS={rounds:?}: {e}")),
        Err(_) => ROUNDS,
    };
    let cluster = Cluster::start(BARE).await;
    cluster.install_records().await;
    let storage = open(cluster.client().await, anything()).await;
    let run = history::Run::begin(&storage).await;
    let mut random = rand::rngs::StdRng::seed_from_u64(7);
    for round in 0..rounds {
        tokio::time::sleep(Duration::from_millis(random.random_range(200..1500))).await;
        // etcd each fifth time, the freezing of kube-apiserver each fifth, else a kill of that.
        match round % 5 {
            2 => {
                cluster.api.freeze();
                tokio::time::sleep(Duration::from_secs(2)).await;
                cluster.api.wake();
            }
            4 => {
                cluster.etcd.kill();
                tokio::time::sleep(Duration::from_millis(500)).await;
                cluster.etcd.start();
            }
            _ => {
                cluster.api.kill();
                cluster.api.start();
            }
        }
        cluster.ready().await;
    }
    let summary = run.end(&storage).await;
    println!("{summary:?}");
    assert!(summary.acknowledged > 50, "too little happened to prove anything: {summary:?}");
    let refused = storage.commit(write("x".repeat(300).as_str(), Expect::Absent, Some(&vec![0xff; 2 << 20]))).await;
    assert!(matches!(&refused, Err(CommitError::TooLarge { .. })), "{refused:?}");
}

fn stop(cluster: &Cluster) {
    cluster.api.kill();
    cluster.etcd.kill();
}

async fn start(cluster: &Cluster) {
    cluster.etcd.start();
    cluster.api.start();
    cluster.ready().await;
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
