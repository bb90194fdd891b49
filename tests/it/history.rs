//! What holds of every history, whatever is asked in which order, and wherever the server is killed:
//! runs under load, recorded by [`load`] and judged by [`checker`].

pub mod checker;
pub mod load;
pub mod model;

use std::time::Duration;

use checker::{NEVER_FINISHED, Summary, check};
use load::{Plan, run};

use crate::harness::{DEADLINE, Launch, other_build};

/// Kills by default; `IMAGEHUB_KILL_ROUNDS` is the number for a long run.
const KILLS: u32 = 50;
/// Kills within which a build that is wrong on purpose must have been caught.
const KILLS_OF_A_BROKEN_BUILD: u32 = 20;

/// The summary of a run that must be without fault.
async fn judged(plan: Plan) -> Summary {
    let (history, mut server) = run(plan).await;
    match check(&history) {
        Ok(summary) => {
            println!("{summary:?}");
            server.stop().await;
            summary
        }
        Err(violations) => panic!("the history breaks promises:\n{}", violations.join("\n")),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_writers_and_observers_agree() {
    let plan = Plan { launch: Launch::default(), kills: 0, calm: 4000..4001, writers: 8, seed: 1, patience: DEADLINE };
    let summary = judged(plan).await;
    assert_eq!(summary.unknown, 0, "nothing disturbed the writers, so each has an answer: {summary:?}");
    assert!(summary.acknowledged > 50 && summary.refused > 50, "too little happened to prove anything: {summary:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_by_kill_9() {
    let kills = match std::env::var("IMAGEHUB_KILL_ROUNDS") {
        Ok(rounds) => rounds.parse().unwrap_or_else(|e| panic!("IMAGEHUB_KILL_ROUNDS={rounds:?}: {e}")),
        Err(_) => KILLS,
    };
    let plan = Plan {
        launch: Launch::default().reserved_ports(),
        kills,
        calm: 1..500,
        writers: 8,
        seed: 2,
        patience: DEADLINE,
    };
    let summary = judged(plan).await;
    let kills = usize::try_from(kills).expect("a number of rounds fits");
    assert!(summary.acknowledged > kills, "too little happened to prove anything: {summary:?}");
    assert!(summary.unknown > 0, "no kill met a write under way: {summary:?}");
}

/// The checker can tell: against a build that acknowledges before its commit is durable it must report.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_that_applies_before_commit_is_caught() {
    let Some(binary) = other_build("IMAGEHUB_BROKEN_BIN") else {
        let required = ["CI", "IMAGEHUB_BROKEN_BIN_REQUIRED"].iter().any(|v| std::env::var_os(v).is_some());
        assert!(!required, "no build that is wrong on purpose: run make test, or set IMAGEHUB_BROKEN_BIN");
        eprintln!("skipped: IMAGEHUB_BROKEN_BIN is not set; make test sets it");
        return;
    };
    let plan = Plan {
        launch: Launch::default().binary(binary).reserved_ports(),
        kills: KILLS_OF_A_BROKEN_BUILD,
        calm: 1..300,
        writers: 8,
        seed: 3,
        patience: Duration::from_secs(5),
    };
    let (history, server) = run(plan).await;
    // Its end, too, may be broken: it is not looked at.
    drop(server);
    let violations = check(&history).expect_err("a build that acknowledges before it commits loses writes");
    println!("caught:\n{}", violations.join("\n"));
    // A slow machine makes observers late, and that alone would catch a build that is right, too.
    let lost = violations.iter().any(|v| !v.contains(NEVER_FINISHED) && !v.starts_with("... and"));
    assert!(lost, "observers were late, but no write was found lost");
}
