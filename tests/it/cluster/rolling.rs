//! Three replicas behind a proxy, and asked directly too, while each in turn is told to stop, or the active one is
//! killed. All that is asked and answered is recorded, and judged as for a server on one machine.

use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::installed::{Installed, until};
use crate::harness::DEADLINE;
use crate::history::checker::{Summary, check};
use crate::history::load::{Door, Failed, Load, Running};
use crate::history::model::{History, Tick};

/// Rounds by default: all three are told to stop, or the active one is killed. `IMAGEHUB_REPLICA_ROUNDS` is the number
/// for a long run.
const ROUNDS: usize = 1;
/// How long a kill and what comes after it take at least in a long run.
const EVERY: Duration = Duration::from_secs(15);
/// How long, in milliseconds, there is load before each.
const CALM: std::ops::Range<u64> = 200..1500;
/// How long observers may take to see the last write.
const PATIENCE: Duration = Duration::from_mins(1);
/// How long who got no answer waits before it asks again.
const AGAIN: Duration = Duration::from_millis(50);

/// A number that an environment variable holds.
pub fn number(variable: &str) -> Option<usize> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|e| panic!("{variable}={text:?}: {e}")))
}

/// Three replicas, and who asks them.
struct Scene {
    installed: Installed,
    running: Running,
    /// Whether a replica is asked directly.
    gates: Vec<watch::Sender<bool>>,
}

impl Scene {
    async fn begin(seed: u64) -> Self {
        let installed = Installed::start(3).await;
        let certificate = Some(("admin.crt", "admin.key"));
        let (mut doors, mut gates) = (Vec::new(), Vec::new());
        for number in 0..2 {
            let client = installed.behind_the_service(certificate).await;
            doors.push(Door::new(&format!("client {number} of the proxy"), client));
        }
        for (number, replica) in installed.replicas.iter().enumerate() {
            let (gate, open) = watch::channel(true);
            let client = installed.direct(replica, certificate).await;
            doors.push(Door::new(&format!("replica {number}"), client).while_open(open));
            gates.push(gate);
        }
        let load = Load { doors, copies: 1, writers: 10, seed, patience: PATIENCE, again: Some(AGAIN) };
        let running = load.begin().await;
        Self { installed, running, gates }
    }

    /// Starts a replica again that is gone.
    async fn back(&self, number: usize) {
        let replica = &self.installed.replicas[number];
        replica.part.start();
        replica.ready().await;
        self.gates[number].send_replace(true);
    }

    async fn finish(mut self) -> (History, Vec<Failed>) {
        self.running.some_load(&CALM).await;
        self.running.finish().await
    }
}

fn judged(history: &History) -> Summary {
    check(history).unwrap_or_else(|broken| panic!("the history breaks promises:\n{}", broken.join("\n")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_replicas_are_restarted_in_turn_no_request_fails_and_all_see_one_history() {
    let rounds = number("IMAGEHUB_REPLICA_ROUNDS").unwrap_or(ROUNDS);
    let mut scene = Scene::begin(5).await;
    let begun = Instant::now();
    for _ in 0..rounds {
        for number in 0..scene.gates.len() {
            scene.running.some_load(&CALM).await;
            let part = &scene.installed.replicas[number].part;
            part.terminate();
            // What is under way at this moment is answered, as is what comes by the proxy.
            scene.gates[number].send_replace(false);
            let ended = tokio::time::timeout(DEADLINE, part.ended()).await;
            assert!(ended.expect("it ends in time"), "it says that something went wrong: {}", part.log());
            scene.back(number).await;
        }
    }
    let took = begun.elapsed();
    let (history, failed) = scene.finish().await;
    assert!(failed.is_empty(), "{} requests failed: {failed:#?}", failed.len());
    let summary = judged(&history);
    println!("{} restarts in {took:.1?}: {summary:?}", rounds * 3);
    assert!(summary.acknowledged > 100, "too little happened to prove anything: {summary:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_of_the_active_replica_fails_only_what_was_under_way_and_all_see_one_history() {
    let rounds = number("IMAGEHUB_REPLICA_ROUNDS");
    let every = if rounds.is_some() { EVERY } else { Duration::ZERO };
    let rounds = rounds.unwrap_or(ROUNDS);
    let mut scene = Scene::begin(6).await;
    let mut kills: Vec<(Tick, Tick)> = Vec::new();
    for _ in 0..rounds {
        let next = Instant::now() + every;
        scene.running.some_load(&CALM).await;
        let active = scene.installed.active().await;
        let replica = &scene.installed.replicas[active];
        let before = scene.running.tick();
        replica.part.kill();
        scene.gates[active].send_replace(false);
        // Whoever is connected to it by the proxy has to hear of its end before it can do better.
        scene.installed.cut_off(replica).await;
        kills.push((before, scene.running.tick()));
        until("another active replica", async || scene.installed.active().await != active).await;
        scene.back(active).await;
        tokio::time::sleep_until(next.into()).await;
    }
    let (history, failed) = scene.finish().await;
    let under_way = |failed: &Failed| kills.iter().any(|kill| failed.invoked < kill.1 && failed.returned > kill.0);
    let others: Vec<_> = failed.iter().filter(|failed| !under_way(failed)).collect();
    assert!(others.is_empty(), "failed, and not under way at a kill ({kills:?}): {others:#?}");
    let summary = judged(&history);
    println!("{rounds} kills, {} requests under way had no answer: {summary:?}", failed.len());
    assert!(summary.acknowledged > 50, "too little happened to prove anything: {summary:?}");
}
