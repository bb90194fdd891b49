//! kube-apiserver and etcd restarted again and again under writers and watchers of the server itself: what it
//! acknowledged is there, and each watcher's history is complete and single, or it was told 410.
//!
//! They ask two replicas, the active one and the other, at their own ports: by kube-apiserver they would see its
//! restarts, and not what the server makes of them.

use std::time::Duration;

use super::installed::Installed;
use super::rig::Options;
use super::rolling::number;
use crate::history::checker::check;
use crate::history::load::{Door, Load};

/// Restarts by default: two of kube-apiserver and one of etcd. `IMAGEHUB_HOST_RESTART_ROUNDS` is the number for a long
/// run; with 25, they are 20 and 5.
const ROUNDS: usize = 3;
/// Observers of each of four kinds in each of three ways: 24 by default, 108 in a long run.
const COPIES: (usize, usize) = (2, 9);
/// Of how many restarts one is that of etcd, and which.
const ETCD: (usize, usize) = (5, 2);
/// How long, in milliseconds, there is load before each.
const CALM: std::ops::Range<u64> = 200..1500;
/// How long observers may take to see the last write.
const PATIENCE: Duration = Duration::from_mins(1);
/// How long who got no answer waits before it asks again.
const AGAIN: Duration = Duration::from_millis(50);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarts_of_the_host_lose_nothing_that_was_acknowledged_and_no_watcher_misses_anything() {
    let rounds = number("IMAGEHUB_HOST_RESTART_ROUNDS");
    let copies = if rounds.is_some() { COPIES.1 } else { COPIES.0 };
    let rounds = rounds.unwrap_or(ROUNDS);
    // Without kube-controller-manager, which has no part in it.
    let options = Options { controllers: false, service_account_credentials: false };
    let installed = Installed::start_in(options, 2).await;
    let certificate = Some(("admin.crt", "admin.key"));
    let mut doors = Vec::new();
    for (number, replica) in installed.replicas.iter().enumerate() {
        doors.push(Door::new(&format!("replica {number}"), installed.direct(replica, certificate).await));
    }
    let load = Load { doors, copies, writers: 8, seed: 4, patience: PATIENCE, again: Some(AGAIN) };
    let mut running = load.begin().await;
    let cluster = &installed.cluster;
    for round in 0..rounds {
        running.some_load(&CALM).await;
        let part = if round % ETCD.0 == ETCD.1 { &cluster.etcd } else { &cluster.api };
        part.kill();
        part.start();
        cluster.ready().await;
        installed.replicas.iter().for_each(|replica| replica.part.check());
    }
    running.some_load(&CALM).await;
    let (history, failed) = running.finish().await;
    let summary =
        check(&history).unwrap_or_else(|broken| panic!("the history breaks promises:\n{}", broken.join("\n")));
    println!("{rounds} restarts, {} requests failed meanwhile; {summary:?}", failed.len());
    assert!(summary.acknowledged > 100, "too little happened to prove anything: {summary:?}");
}
