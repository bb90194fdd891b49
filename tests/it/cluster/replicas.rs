//! Several replicas, of which any may go at any time: what is asked meanwhile is answered, and nothing that was
//! acknowledged is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::installed::{Installed, Replica, until};
use crate::harness::{Client, DEADLINE, image, object, path, revision};

/// Writers at a time.
const WRITERS: usize = 4;
/// Rounds by default of what is done to replicas; `IMAGEHUB_REPLICA_ROUNDS` is the number for a long run.
const ROUNDS: usize = 1;
/// The load before and after each.
const CALM: Duration = Duration::from_secs(1);

fn rounds() -> usize {
    match std::env::var("IMAGEHUB_REPLICA_ROUNDS") {
        Ok(rounds) => rounds.parse().unwrap_or_else(|e| panic!("IMAGEHUB_REPLICA_ROUNDS={rounds:?}: {e}")),
        Err(_) => ROUNDS,
    }
}

/// What became of the writes.
#[derive(Debug, Default)]
pub struct Tally {
    /// The last number that was acknowledged, by writer, and its version.
    pub acknowledged: Vec<(u64, u64)>,
    pub writes: usize,
    pub reads: usize,
    /// What was neither done nor refused in so many words.
    pub failed: Vec<String>,
    /// Outcomes that are not known.
    pub unknown: usize,
}

/// Writers that count up in an object each, and read it again.
pub struct Load {
    tally: Arc<Mutex<Tally>>,
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Load {
    /// Begins, each writer by the client that `client` gives it.
    pub async fn start(client: impl Fn(usize) -> Client) -> Self {
        let tally = Tally { acknowledged: vec![(0, 0); WRITERS], ..Tally::default() };
        let (tally, stop) = (Arc::new(Mutex::new(tally)), Arc::new(AtomicBool::new(false)));
        let mut tasks = Vec::new();
        for writer in 0..WRITERS {
            let client = client(writer);
            let name = format!("load/w{writer}:v1");
            let made = client.post(&path("images", ""), &image(&name, json!({ "size": 0 }))).await.expect(201);
            tally.lock().acknowledged[writer] = (0, revision(&made));
            let (tally, stop) = (Arc::clone(&tally), Arc::clone(&stop));
            tasks.push(tokio::spawn(async move {
                let mut number = 0;
                while !stop.load(Ordering::Relaxed) {
                    number += 1;
                    step(&client, writer, number, &tally).await;
                }
            }));
        }
        Self { tally, stop, tasks }
    }

    pub async fn finish(self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.expect("a writer does not panic");
        }
        std::mem::take(&mut self.tally.lock())
    }
}

/// Writes `number` into the writer's object, and reads what is there.
async fn step(client: &Client, writer: usize, number: u64, tally: &Mutex<Tally>) {
    let at = path("images", &format!("load.w{writer}.v1"));
    let patch = json!({ "spec": { "detail": { "size": number } } });
    let body = bytes::Bytes::from(patch.to_string());
    let headers = [("content-type", crate::harness::MERGE_PATCH)];
    let answer = client.try_request(http::Method::PATCH, &at, &headers, body).await;
    let least = {
        let mut told = tally.lock();
        told.writes += 1;
        match answer {
            Ok(answer) if answer.status == 200 => {
                let object = answer.json();
                assert_eq!(object["spec"]["detail"]["size"], number, "{object:#}");
                told.acknowledged[writer] = (number, revision(&object));
            }
            Ok(answer) if answer.status == 504 => told.unknown += 1,
            Ok(answer) => told.failed.push(format!("write: {} {}", answer.status, answer.text())),
            Err(error) => told.failed.push(format!("write: {error}")),
        }
        told.acknowledged[writer]
    };
    let answer = client.try_request(http::Method::GET, &at, &[], bytes::Bytes::new()).await;
    let mut told = tally.lock();
    told.reads += 1;
    match answer {
        Ok(answer) if answer.status == 200 => {
            let object = answer.json();
            let read = object["spec"]["detail"]["size"].as_u64().unwrap_or_default();
            if read < least.0 || revision(&object) < least.1 {
                told.failed.push(format!("read {read} after {} was acknowledged", least.0));
            }
        }
        Ok(answer) => told.failed.push(format!("read: {} {}", answer.status, answer.text())),
        Err(error) => told.failed.push(format!("read: {error}")),
    }
}

/// Fails unless each writer's object says what was acknowledged last, or what came after it and is not known.
pub async fn nothing_is_lost(installed: &Installed, tally: &Tally) {
    let admin = installed.admin();
    for (writer, (number, version)) in tally.acknowledged.iter().enumerate() {
        let object = admin.get(&path("images", &format!("load.w{writer}.v1"))).await.ok();
        let read = object["spec"]["detail"]["size"].as_u64().unwrap_or_default();
        assert!(read >= *number && revision(&object) >= *version, "writer {writer}: {number} is lost: {object:#}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_fails_no_request() {
    let installed = Installed::start(3).await;
    // Through the cluster and the stand-in for the Service, and each replica by itself while it is ready.
    let load = Load::start(|_| installed.admin()).await;
    for _ in 0..rounds() {
        for number in 0..installed.replicas.len() {
            tokio::time::sleep(CALM).await;
            let replica = &installed.replicas[number];
            replica.part.terminate();
            let ended = tokio::time::timeout(DEADLINE, replica.part.ended()).await;
            assert!(ended.expect("it ends in time"), "it says that something went wrong: {}", replica.part.log());
            replica.part.start();
            replica.ready().await;
        }
    }
    tokio::time::sleep(CALM).await;
    let tally = load.finish().await;
    assert_eq!((&tally.failed, tally.unknown), (&Vec::new(), 0), "{tally:?}");
    assert!(tally.writes > 100, "too little happened: {tally:?}");
    nothing_is_lost(&installed, &tally).await;
    println!("{} writes, {} reads", tally.writes, tally.reads);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_killed_takes_nothing_with_it_that_was_acknowledged() {
    let installed = Installed::start(3).await;
    let load = Load::start(|_| installed.admin()).await;
    for _ in 0..rounds() {
        tokio::time::sleep(CALM).await;
        let active = installed.active().await;
        installed.replicas[active].part.kill();
        let next = async || installed.active().await != active;
        until("another active replica", next).await;
        tokio::time::sleep(CALM).await;
        installed.replicas[active].part.start();
        installed.replicas[active].ready().await;
    }
    tokio::time::sleep(CALM).await;
    let tally = load.finish().await;
    // What went through the killed process when it was killed has no answer: kube-apiserver says 502 or 503 then.
    let lost: Vec<_> = tally.failed.iter().filter(|failure| failure.starts_with("read ")).collect();
    assert_eq!(lost, Vec::<&String>::new(), "{tally:?}");
    let at_most = rounds() * WRITERS * 4;
    assert!(tally.failed.len() + tally.unknown <= at_most, "more failed than was under way: {tally:?}");
    assert!(tally.writes > 50, "too little happened: {tally:?}");
    nothing_is_lost(&installed, &tally).await;
    println!(
        "{} writes, {} reads, {} unknown, {} cut off",
        tally.writes,
        tally.reads,
        tally.unknown,
        tally.failed.len()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_active_replica_that_was_frozen_past_its_lease_answers_nothing_as_current() {
    let installed = Installed::start(2).await;
    let admin = installed.admin();
    admin
        .post(&path("organizations", ""), &object("Organization", "acme", json!({ "name": "acme" })))
        .await
        .expect(201);
    let frozen = installed.active().await;
    installed.cluster.pki.issue("direct", "admin", &["system:masters"], &[], &[]);
    let certificate = Some(("direct.crt", "direct.key"));
    // A connection that is open before, so that the request is what it wakes to.
    let old = installed.direct(&installed.replicas[frozen], certificate).await;
    old.get(&path("organizations", "acme")).await.ok();
    installed.replicas[frozen].part.freeze();
    let asked = tokio::spawn({
        let old = old.clone();
        async move { old.get(&path("organizations", "acme")).await }
    });
    until("another active replica", async || installed.active().await != frozen).await;
    let new = installed.direct(&installed.replicas[1 - frozen], certificate).await;
    let patch = json!({ "metadata": { "labels": { "while": "frozen" } } });
    let written = new.patch(&path("organizations", "acme"), crate::harness::MERGE_PATCH, &patch).await.ok();
    installed.replicas[frozen].part.wake();
    let answer = asked.await.expect("the question does not panic");
    // It may say that it can't, or send the request on; what it says of the object is not from before.
    if answer.status == 200 {
        assert!(revision(&answer.json()) >= revision(&written), "{:#}", answer.json());
    } else {
        assert_eq!(answer.status, 503, "{}", answer.text());
    }
    let again = old.get(&path("organizations", "acme")).await.ok();
    assert_eq!(again["metadata"]["labels"]["while"], Value::from("frozen"), "{again:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mutation_that_comes_to_a_standby_is_in_what_every_replica_answers_next() {
    let installed = Installed::start(2).await;
    let kubectl = installed.cluster.kubectl();
    kubectl.ok("-n kube-system create serviceaccount publisher").await;
    let account = "--serviceaccount=kube-system:publisher";
    kubectl.ok(format!("create clusterrolebinding publisher --clusterrole=cluster-admin {account}").as_str()).await;
    let token = kubectl.ok("-n kube-system create token publisher").await;
    let bearer = format!("Bearer {}", token.stdout.trim());
    let door =
        |replica: &Replica| Client::plain(&format!("127.0.0.1:{}", replica.http)).with_header("authorization", &bearer);
    let standby = 1 - installed.active().await;
    let query = r#"mutation { applyImages(images: [{ name: "acme/app:1" }]) {
        revision results { outcome userErrors { message } } } }"#;
    let written = door(&installed.replicas[standby]).post("/graphql", &json!({ "query": query })).await.ok();
    let applied = &written["data"]["applyImages"];
    assert_eq!(applied["results"][0]["outcome"], "CREATED", "{written:#}");
    let revision = applied["revision"].as_str().expect("a revision");
    for replica in &installed.replicas {
        let query = json!({ "query": r#"{ image(name: "acme/app:1") { name } }"# });
        let answer = door(replica).with_header("imagehub-min-revision", revision).post("/graphql", &query).await.ok();
        assert_eq!(answer["data"]["image"]["name"], "acme/app:1", "{answer:#}");
    }
    installed.admin().get(&path("images", "acme.app.1")).await.ok();
}
