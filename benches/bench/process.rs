//! The processes that are measured, each pinned to a core of its own choosing: the server, and the bare one.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_setaffinity};
use serde_json::Value;

use crate::measure;

/// How long a server may take to start.
const START_TIME: Duration = Duration::from_mins(10);

/// Where a process may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cores {
    /// On the first core only: what is measured.
    First,
    /// On all but the first: who asks.
    Others,
    All,
}

/// Binds this thread, and what it starts, to `cores`.
pub fn bind(cores: Cores) {
    let count = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let count = count.lines().filter(|line| line.starts_with("processor")).count().max(1);
    let mut set = CpuSet::new();
    for core in 0..count {
        let chosen = match cores {
            Cores::First => core == 0,
            Cores::Others => core > 0 || count == 1,
            Cores::All => true,
        };
        if chosen {
            set.set(core);
        }
    }
    // Where it isn't allowed the figures are noisier, not wrong.
    let _ = sched_setaffinity(None, &set);
}

/// A server that runs.
#[derive(Debug)]
pub struct Server {
    child: Child,
    pub dir: PathBuf,
    pub kube: SocketAddr,
    pub http: SocketAddr,
    /// From its start until it was ready.
    pub took: Duration,
}

impl Server {
    /// Starts the real server on a data directory.
    pub async fn start(dir: &Path, cores: Cores) -> Self {
        Self::start_with(dir, cores, &[]).await
    }

    /// The same with more flags.
    pub async fn start_with(dir: &Path, cores: Cores, flags: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_imagehub"));
        command.args(["serve", "--kube-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"]);
        // No client of a bench is refused for asking too often.
        command.args(["--request-rate", "600000", "--data-dir"]).arg(dir);
        command.args(flags);
        Self::spawn(command, dir, cores).await
    }

    /// Starts the bare server, which has its certificates in `dir`.
    pub async fn bare(dir: &Path) -> Self {
        std::fs::create_dir_all(dir).expect("the bare server's directory can be made");
        let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
        command.arg("bare").arg(dir);
        Self::spawn(command, dir, Cores::First).await
    }

    async fn spawn(mut command: Command, dir: &Path, cores: Cores) -> Self {
        let addresses = dir.join("addresses.json");
        let _ = std::fs::remove_file(&addresses);
        let log = std::fs::File::create(dir.join("server.log")).expect("the log can be made");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let started = Instant::now();
        // A process runs where the thread that starts it does.
        let spawn = std::thread::spawn(move || {
            bind(cores);
            command.spawn().expect("the server can be started")
        });
        let mut child = spawn.join().expect("it does not panic");
        loop {
            let known = std::fs::read(&addresses).ok().and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
            if let Some(known) = known {
                let took = started.elapsed();
                let at = |door: &str| known[door].as_str().and_then(|text| text.parse().ok()).expect("an address");
                return Self { child, dir: dir.to_owned(), kube: at("kube"), http: at("http"), took };
            }
            let log = || std::fs::read_to_string(dir.join("server.log")).unwrap_or_default();
            if let Ok(Some(status)) = child.try_wait() {
                panic!("the server ended ({status}): {}", log());
            }
            assert!(started.elapsed() < START_TIME, "the server is not ready after {START_TIME:?}: {}", log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its CPU time so far, in seconds.
    pub fn seconds(&self) -> f64 {
        measure::process_seconds(self.pid())
    }

    /// Its memory now, in bytes.
    pub fn resident(&self) -> f64 {
        measure::memory(self.pid(), "VmRSS")
    }

    /// Waits until it has nothing to do: no more than a few per cent of a core.
    pub async fn settle(&self) {
        for _ in 0..600 {
            let before = self.seconds();
            tokio::time::sleep(Duration::from_millis(500)).await;
            if self.seconds() - before < 0.02 {
                return;
            }
        }
        eprintln!("the server is still busy after five minutes");
    }

    /// Ends it with SIGKILL.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}
