//! One program of the control plane, as a child process.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};

/// How often it is looked whether it has ended.
const POLL: Duration = Duration::from_millis(20);
/// How much of a log is shown when something fails.
const SHOWN_LOG: usize = 8 * 1024;

/// A program, running or not. Dropped, it is killed, also when the test panics.
pub struct Part {
    name: &'static str,
    program: PathBuf,
    arguments: Vec<String>,
    dir: PathBuf,
    child: Mutex<Option<Child>>,
}

impl Part {
    /// The program `name` in the folder `programs`, not started; its log is in `dir`.
    pub fn new(name: &'static str, programs: &Path, dir: &Path, arguments: Vec<String>) -> Self {
        Self { name, program: programs.join(name), arguments, dir: dir.to_owned(), child: Mutex::default() }
    }

    /// Starts it, if it isn't running.
    pub fn start(&self) {
        let mut child = self.child.lock();
        if child.is_some() {
            return;
        }
        let log = OpenOptions::new().create(true).append(true).open(self.log_path()).expect("its log can be written");
        let started = Command::new(&self.program)
            .args(&self.arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", &self.dir)
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|e| panic!("{}: {e}", self.program.display()));
        *child = Some(started);
    }

    /// Ends it with SIGKILL.
    pub fn kill(&self) {
        if let Some(mut child) = self.child.lock().take() {
            // One that has ended by itself can't be killed any more.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Tells it to end, with SIGTERM.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Waits until it has ended by itself; whether it was with success.
    pub async fn ended(&self) -> bool {
        loop {
            let ended = self.child.lock().as_mut().and_then(|child| child.try_wait().ok().flatten());
            if let Some(status) = ended {
                self.child.lock().take();
                return status.success();
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Stops it with SIGSTOP: it is there and does nothing.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
        let pid = self.child.lock().as_ref().map(Child::id).expect("it is running");
        let stopped = |task: std::io::Result<std::fs::DirEntry>| {
            let stat = task.and_then(|task| std::fs::read_to_string(task.path().join("stat"))).unwrap_or_default();
            stat.rsplit(')').next().is_none_or(|rest| rest.trim_start().starts_with('T'))
        };
        // The signal is on its way to other processors' threads for a moment yet.
        while !std::fs::read_dir(format!("/proc/{pid}/task")).is_ok_and(|mut tasks| tasks.all(stopped)) {
            std::thread::yield_now();
        }
    }

    /// Wakes it with SIGCONT.
    pub fn wake(&self) {
        self.signal(Signal::CONT);
    }

    /// Fails with the end of its log if it has ended by itself.
    pub fn check(&self) {
        let ended = self.child.lock().as_mut().and_then(|child| child.try_wait().ok().flatten());
        if let Some(status) = ended {
            panic!("{} has ended: {status}; its log's end:\n{}", self.name, self.log());
        }
    }

    /// The memory that it has, in bytes.
    pub fn resident(&self) -> u64 {
        let pid = self.child.lock().as_ref().map(Child::id).expect("it is running");
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()).unwrap_or_default() << 10
    }

    /// The end of its log.
    pub fn log(&self) -> String {
        let log = std::fs::read(self.log_path()).unwrap_or_default();
        String::from_utf8_lossy(&log[log.len().saturating_sub(SHOWN_LOG)..]).into_owned()
    }

    fn log_path(&self) -> PathBuf {
        self.dir.join(format!("{}.log", self.name))
    }

    fn signal(&self, signal: Signal) {
        let child = self.child.lock();
        let child = child.as_ref().unwrap_or_else(|| panic!("{} is not running", self.name));
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a process has a positive id");
        kill_process(pid, signal).unwrap_or_else(|e| panic!("{}: {e}", self.name));
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.kill();
    }
}
