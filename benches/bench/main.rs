//! `make bench`: every row of the table in docs/performance.md that exists by now, each beside what it is
//! compared with, in turns. Words on the command line choose rows; without them all are measured and the
//! table is written.
//!
//! `BENCH_QUICK=1` is a short run; see `measure::Plan` for the size of each part.

#![expect(clippy::cast_precision_loss, reason = "figures are shown with three digits")]
#![expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "shares of small counts")]
#![allow(missing_docs, reason = "a program, not a library")]

mod bare;
mod client;
mod data;
mod measure;
mod process;
mod report;
mod rows;

use std::path::{Path, PathBuf};

use data::Data;
use measure::Plan;
use process::{Cores, Server};
use report::Report;
use rows::reads::Both;
use rows::{gateway, import, inside, search, start, writes};

/// What can be chosen, in the order in which it is measured.
const ROWS: [&str; 12] = [
    "cold",
    "seen",
    "fan-out",
    "search",
    "durable",
    "import",
    "start",
    "packs",
    "gateway",
    "lists",
    "watchers",
    "overwrites",
];
/// Those that are asked of a server.
const OF_SERVER: [&str; 6] = ["start", "packs", "gateway", "lists", "watchers", "overwrites"];

fn main() {
    // cargo adds `--bench`.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    if let [bare, dir] = words.as_slice()
        && bare == "bare"
    {
        return bare::run(Path::new(dir));
    }
    if let Some(unknown) = words.iter().find(|word| !ROWS.contains(&word.as_str())) {
        eprintln!("there is no row {unknown:?}; there are: {}", ROWS.join(", "));
        std::process::exit(2);
    }
    let root = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    let root = root.join("bench");
    let plan = Plan::from_environment();
    let mut report = Report::default();
    let run = Run { plan: &plan, root: &root, words: &words };
    // Who asks needs little; what is measured in this process may use all cores.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads can be started");
    runtime.block_on(run.inside(&mut report));
    drop(runtime);
    process::bind(Cores::Others);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.expect("threads can be started").block_on(run.outside(&mut report));
    if words.is_empty() {
        report.write(&plan, Path::new("docs/performance.md"));
    } else {
        println!("{}", report.markdown(&plan));
    }
}

struct Run<'a> {
    plan: &'a Plan,
    root: &'a Path,
    words: &'a [String],
}

impl Run<'_> {
    fn wants(&self, row: &str) -> bool {
        self.words.is_empty() || self.words.iter().any(|word| word == row)
    }

    /// What is measured in this process.
    async fn inside(&self, report: &mut Report) {
        let plan = self.plan;
        if self.wants("cold") || self.wants("seen") || self.wants("fan-out") {
            let small = Data::prepare(self.root, plan.small).await;
            let dir = self.root.join("inside");
            if self.wants("cold") {
                // Of the large catalogue: its maps are what makes look-ups dear.
                let large = Data::prepare(self.root, plan.images).await;
                inside::cold(plan, &large, &dir, report).await;
            }
            if self.wants("seen") {
                inside::seen(&small, &dir, report).await;
            }
            if self.wants("fan-out") {
                inside::fan_out(plan, &small, &dir, report).await;
            }
            let _ = std::fs::remove_dir_all(dir);
        }
        if self.wants("search") {
            search::finds(plan, report).await;
        }
        if self.wants("durable") {
            writes::durable(plan, &self.root.join("durable"), report).await;
        }
        if self.wants("import") {
            import::offline(plan, &self.root.join("import"), report);
        }
        if OF_SERVER.iter().any(|row| self.wants(row)) {
            Data::prepare(self.root, plan.images).await;
            Data::prepare(self.root, plan.small).await;
        }
    }

    /// What is asked of a server.
    async fn outside(&self, report: &mut Report) {
        let plan = self.plan;
        if !OF_SERVER.iter().any(|row| self.wants(row)) {
            return;
        }
        let large = Data::prepare(self.root, plan.images).await;
        let dir = self.root.join("large");
        if self.wants("start") {
            start::starts(plan, &large, &dir, report).await;
        }
        if OF_SERVER[1..].iter().any(|row| self.wants(row)) {
            large.copy(&dir);
            let server = Server::start(&dir, Cores::First).await;
            server.settle().await;
            let bare_dir = self.root.join("bare");
            let bare = Server::bare(&bare_dir).await;
            let both = Both { plan, root: self.root, server: &server, bare: &bare };
            if self.wants("packs") {
                both.packs(report).await;
                both.misses(report).await;
            }
            if self.wants("lists") || self.wants("gateway") {
                let small = Data::prepare(self.root, plan.small).await;
                let small_dir = self.root.join("small");
                small.copy(&small_dir);
                let little = Server::start(&small_dir, Cores::First).await;
                little.settle().await;
                if self.wants("gateway") {
                    gateway::rows(&both, &little, &small, report).await;
                }
                if self.wants("lists") {
                    both.lists(&little, report).await;
                }
                little.kill();
                let _ = std::fs::remove_dir_all(small_dir);
            }
            if self.wants("watchers") {
                both.watchers(report).await;
            }
            if self.wants("overwrites") {
                start::overwrites(plan, &server, report).await;
            }
            server.kill();
            bare.kill();
        }
        let _ = std::fs::remove_dir_all(dir);
    }
}
