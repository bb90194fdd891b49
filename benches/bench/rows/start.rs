//! Starting with all the data, and the memory that it takes.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::client::{Ask, Client};
use crate::data::Data;
use crate::measure::{Plan, memory, quantile};
use crate::process::{Cores, Server};
use crate::report::{Report, Target};
use crate::rows::reads::{GROUP, overwrite, pack, spread};

/// Overwrites a second.
const RATE: u32 = 1000;
/// Overwrites under way at a time.
const UNDER_WAY: usize = 64;

/// A server that has just started and has answered a list and a pack, and how long that took.
async fn started(plan: &Plan, dir: &Path, flags: &[&str]) -> (Server, Duration) {
    let started = Instant::now();
    let server = Server::start_with(dir, Cores::All, flags).await;
    let client = Client::new(&server);
    let list = client.json(&Ask::get(format!("{GROUP}/images?limit=500"))).await;
    assert_eq!(list["items"].as_array().map(Vec::len), Some(500));
    let body = pack(&spread(plan.images, 100, 5), "detail").to_string();
    let made = client.json(&Ask::post(format!("{GROUP}/datapacks"), body)).await;
    assert_eq!(made["status"]["codes"], 1);
    let took = started.elapsed();
    eprintln!("  ready after {:.1?}, a list and a pack after {took:.1?}", server.took);
    (server, took)
}

/// Starts after SIGKILL, with the data in the page cache.
pub async fn starts(plan: &Plan, data: &Data, dir: &Path, report: &mut Report) {
    data.copy(dir);
    let mut times = Vec::new();
    for round in 0..=plan.starts {
        let (server, took) = started(plan, dir, &[]).await;
        // The first is not after a kill.
        if round > 0 {
            times.push(took.as_secs_f64());
        }
        server.kill();
    }
    // What the search takes its own row tells.
    let (server, _) = started(plan, dir, &["--search", "off"]).await;
    server.settle().await;
    let (resident, peak) = (server.resident(), memory(server.pid(), "VmHWM"));
    server.kill();
    let note = format!("the slowest of {}, {} images", times.len(), plan.images);
    report.figure(
        "start after kill -9, to a list and a pack",
        "",
        quantile(&mut times, 1.0),
        "s",
        Target::AtMost(10.0),
        &note,
    );
    let bytes = data.json_bytes as f64;
    let note = |bytes: f64| format!("{:.0} MB", bytes / 1e6);
    report.figure(
        "resident memory",
        "bytes of the objects' JSON",
        resident / bytes,
        "×",
        Target::AtMost(1.35),
        &note(resident),
    );
    report.figure(
        "the most during the start",
        "bytes of the objects' JSON",
        peak / bytes,
        "×",
        Target::AtMost(1.6),
        &note(peak),
    );
}

/// Memory after many overwrites, against before.
pub async fn overwrites(plan: &Plan, server: &Server, report: &mut Report) {
    let client = Client::new(server);
    let sender = client.h2().await;
    server.settle().await;
    let before = server.resident();
    let mut tick = tokio::time::interval(Duration::from_secs(1) / RATE);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
    let until = Instant::now() + plan.overwrite;
    let mut tasks = tokio::task::JoinSet::new();
    let mut written = 0_usize;
    while Instant::now() < until {
        tick.tick().await;
        while tasks.len() >= UNDER_WAY {
            tasks.join_next().await;
        }
        let sender = sender.clone();
        let number = written.wrapping_mul(7919) % plan.images;
        tasks.spawn(async move { overwrite(&sender, number, number % 200 + 1).await });
        written += 1;
    }
    while tasks.join_next().await.is_some() {}
    server.settle().await;
    let after = server.resident();
    let rate = written as f64 / plan.overwrite.as_secs_f64();
    let note = format!("{:?} at {rate:.0} a second, {:.0} MB after", plan.overwrite, after / 1e6);
    report.figure("resident memory after overwrites", "before", after / before, "×", Target::AtMost(1.1), &note);
}
