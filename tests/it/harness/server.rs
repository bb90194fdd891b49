//! A server of a test's own: the built binary on a data directory that goes with the test.

use std::fs::{File, OpenOptions};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::{Client, DEADLINE, Kubectl, path_from, within};

/// How often readiness is asked for while a server starts.
const POLL: Duration = Duration::from_millis(20);
/// How much of the server's log is shown when a test fails.
const SHOWN_LOG: usize = 16 * 1024;

/// How a server is started. Every test gets what [`Server::start`] does; few need more.
pub struct Launch {
    binary: PathBuf,
    data: Option<PathBuf>,
    arguments: Vec<String>,
    unread: bool,
    kube_port: u16,
    http_port: u16,
}

impl Default for Launch {
    fn default() -> Self {
        Self {
            binary: env!("CARGO_BIN_EXE_imagehub").into(),
            data: None,
            arguments: Vec::new(),
            unread: false,
            kube_port: 0,
            http_port: 0,
        }
    }
}

impl Launch {
    /// Another build of the program.
    pub fn binary(mut self, path: impl Into<PathBuf>) -> Self {
        self.binary = path.into();
        self
    }

    /// A data directory that doesn't go with the test.
    pub fn data(mut self, path: impl Into<PathBuf>) -> Self {
        self.data = Some(path.into());
        self
    }

    /// One more argument of `serve`.
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Nobody reads what it prints and logs: both are closed.
    pub fn unread(mut self) -> Self {
        self.unread = true;
        self
    }

    /// Ports below those that the system gives to outgoing connections. While a server that clients
    /// reconnect to is down, an outgoing connection may otherwise take its port, or even find itself.
    pub fn reserved_ports(mut self) -> Self {
        let free = || loop {
            let port = rand::random_range(10_240..32_000);
            if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
                return port;
            }
        };
        (self.kube_port, self.http_port) = (free(), free());
        self
    }

    /// Starts it on an empty data directory and waits until it is ready.
    pub async fn start(self) -> Server {
        self.start_in(tempfile::tempdir().expect("a temporary directory")).await
    }

    /// Starts it on the data directory `data` in `root`, and waits until it is ready.
    pub async fn start_in(self, root: TempDir) -> Server {
        let mut server = Server { launch: self, root, child: None };
        server.start_again().await;
        server
    }
}

/// A running server. Dropped, it is killed; when its test fails, the end of its log is shown.
pub struct Server {
    launch: Launch,
    root: TempDir,
    child: Option<Child>,
}

impl Server {
    /// A server on an empty data directory, ready.
    pub async fn start() -> Self {
        Launch::default().start().await
    }

    /// The data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.launch.data.clone().unwrap_or_else(|| self.root.path().join("data"))
    }

    /// What the server has logged, over all its starts.
    pub fn log(&self) -> String {
        std::fs::read(self.log_path()).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default()
    }

    /// What the server has printed, over all its starts.
    pub fn printed(&self) -> String {
        std::fs::read_to_string(self.printed_path()).expect("it has printed text")
    }

    /// The ports that it listens on from its next start: those that the system gives it.
    pub fn forget_ports(&mut self) {
        (self.launch.kube_port, self.launch.http_port) = (0, 0);
    }

    /// The administrator's client.
    pub fn admin(&self) -> Client {
        Client::from_kubeconfig(&self.kubeconfig(), false)
    }

    /// A client without a certificate.
    pub fn anonymous(&self) -> Client {
        Client::from_kubeconfig(&self.kubeconfig(), true)
    }

    /// Runs a command of the program on the server's data directory, and gives what it printed.
    pub async fn imagehub(&self, arguments: &str) -> String {
        let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_imagehub"))
            .args(arguments.split_whitespace())
            .arg("--data-dir")
            .arg(self.data_dir())
            .current_dir(self.root.path())
            .output()
            .await
            .expect("the program runs");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "imagehub {arguments}: {:?}\n{error}", output.status);
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// A client with a new token of a local user, who is added if need be.
    pub async fn user(&self, name: &str) -> Client {
        if !self.imagehub("user list").await.lines().any(|line| line.split_whitespace().next() == Some(name)) {
            self.imagehub(&format!("user add {name}")).await;
        }
        let token = self.imagehub(&format!("token {name}")).await;
        self.anonymous().with_header("authorization", &format!("Bearer {}", token.trim()))
    }

    /// A client of the gateway's address, in plain HTTP.
    pub fn http(&self) -> Client {
        Client::plain(&format!("127.0.0.1:{}", self.launch.http_port))
    }

    /// kubectl as the administrator.
    pub fn kubectl(&self) -> Kubectl {
        Kubectl::new(&self.data_dir().join("kubeconfig"))
    }

    /// Where the Kubernetes API listens.
    pub fn kube_address(&self) -> String {
        format!("127.0.0.1:{}", self.launch.kube_port)
    }

    /// Where the gateway listens.
    pub fn http_address(&self) -> String {
        format!("127.0.0.1:{}", self.launch.http_port)
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().and_then(Child::id).expect("the server runs")
    }

    /// The memory that the server's process has now, in MiB; `None` where the system doesn't tell.
    pub fn memory(&self) -> Option<u64> {
        self.memory_as("VmRSS:")
    }

    /// The most that it has had since it started, or since [`Server::forget_peak`], in MiB.
    pub fn peak_memory(&self) -> Option<u64> {
        self.memory_as("VmHWM:")
    }

    /// Lets the peak begin anew, where the system can do that.
    pub fn forget_peak(&self) {
        // Else it is that since the start, which is no lower.
        let _ = std::fs::write(format!("/proc/{}/clear_refs", self.pid()), "5");
    }

    fn memory_as(&self, name: &str) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kib / 1024)
    }

    /// Sends the process a signal.
    pub async fn signal(&self, signal: &str) {
        let pid = self.pid();
        let sent = Command::new("sh").args(["-c", &format!("kill -{signal} {pid}")]).status().await.expect("sh runs");
        assert!(sent.success(), "kill -{signal} {pid}: {sent}");
    }

    /// Waits until the process has ended by itself.
    pub async fn ended(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("the server runs");
        within("the end of the server", child.wait()).await.expect("it can be waited for")
    }

    /// The sum of a metric over its labels; a metric that is not there is a failure.
    pub async fn metric(&self, name: &str) -> u64 {
        let response = self.http().get("/metrics").await;
        assert_eq!(response.status, 200, "{response}");
        let text = response.text();
        let samples: Vec<f64> = text
            .lines()
            .filter_map(|line| line.strip_prefix(name))
            .filter(|rest| rest.starts_with([' ', '{']))
            .map(|rest| {
                let value = rest.rsplit_once('}').map_or(rest, |(_, value)| value);
                let value = value.split_whitespace().next().unwrap_or_default();
                value.parse().unwrap_or_else(|e| panic!("{name}{rest}: {e}"))
            })
            .collect();
        assert!(!samples.is_empty(), "no {name} in /metrics:\n{text}");
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counters are small and positive")]
        let sum = samples.iter().sum::<f64>() as u64;
        sum
    }

    /// Ends it with SIGTERM, and fails unless it exits with code 0.
    pub async fn stop(&mut self) {
        self.signal("TERM").await;
        let status = self.ended().await;
        assert_eq!(status.code(), Some(0), "how the server ended after SIGTERM");
    }

    /// Ends it with SIGKILL, at once.
    pub async fn kill9(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("the server runs");
        child.start_kill().expect("the server can be killed");
        within("the end of the server after SIGKILL", child.wait()).await.expect("it can be waited for")
    }

    /// Stops it and starts it again on the same data and the same addresses.
    pub async fn restart(&mut self) {
        self.stop().await;
        self.start_again().await;
    }

    /// Starts a server that was stopped or killed, on the same data and the same addresses.
    pub async fn start_again(&mut self) {
        assert!(self.child.is_none(), "the server runs already");
        let log = OpenOptions::new().create(true).append(true).open(self.log_path()).expect("a log file");
        let mut child = self.command(&log).spawn().unwrap_or_else(|e| {
            panic!("{}: {e}", self.launch.binary.display());
        });
        let pid = child.id().expect("the server has not been waited for");
        let deadline = Instant::now() + DEADLINE;
        // The one place that polls: there is nothing else that a process starting up could be asked.
        loop {
            if let Some(status) = child.try_wait().expect("it can be waited for") {
                panic!("the server ended while it started: {status}\n{}", self.log());
            }
            let seen = match self.ready(pid).await {
                Ok(()) => break,
                Err(why) => why,
            };
            assert!(Instant::now() < deadline, "not ready after {DEADLINE:?}: {seen}\n{}", self.log());
            tokio::time::sleep(POLL).await;
        }
        self.child = Some(child);
    }

    /// Learns the addresses that this process has written, and asks whether it is ready.
    async fn ready(&mut self, pid: u32) -> Result<(), String> {
        let path = self.data_dir().join("addresses.json");
        let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let addresses: Value = serde_json::from_str(&text).map_err(|e| format!("addresses.json: {e}: {text}"))?;
        if addresses["pid"] != pid {
            return Err(format!("addresses.json is that of another process than {pid}: {addresses}"));
        }
        let port = |field: &str| {
            let port = addresses[field].as_str().and_then(|a| a.strip_prefix("127.0.0.1:"));
            port.and_then(|p| p.parse().ok()).unwrap_or_else(|| panic!("{field:?} in addresses.json: {addresses}"))
        };
        (self.launch.kube_port, self.launch.http_port) = (port("kube"), port("http"));
        let asked = self.http().try_request(http::Method::GET, "/readyz", &[], bytes::Bytes::new()).await;
        match asked {
            Ok(answer) if answer.status == 200 => Ok(()),
            Ok(answer) => Err(answer.to_string()),
            Err(e) => Err(format!("/readyz: {e}")),
        }
    }

    fn command(&self, log: &File) -> Command {
        let mut command = Command::new(&self.launch.binary);
        // What the developer has set for servers of their own is not meant for this one.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("IMAGEHUB_") {
                command.env_remove(name);
            }
        }
        command
            .arg("serve")
            .arg("--data-dir")
            .arg(self.data_dir())
            .args(["--kube-listen", &format!("127.0.0.1:{}", self.launch.kube_port)])
            .args(["--http-listen", &format!("127.0.0.1:{}", self.launch.http_port)])
            .args(&self.launch.arguments)
            .current_dir(self.root.path())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        if self.launch.unread {
            let closed = || std::io::pipe().expect("a pipe").1;
            command.stdout(closed()).stderr(closed());
        } else {
            let printed = OpenOptions::new().create(true).append(true).open(self.printed_path()).expect("a file");
            command.stdout(printed).stderr(log.try_clone().expect("a handle of the log"));
        }
        command
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> String {
        let path = self.data_dir().join("kubeconfig");
        std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }

    fn printed_path(&self) -> PathBuf {
        self.root.path().join("server.out")
    }

    fn log_path(&self) -> PathBuf {
        self.root.path().join("server.log")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let start = log.char_indices().rev().nth(SHOWN_LOG).map_or(0, |(at, _)| at);
            eprintln!("--- the end of the server's log ---\n{}\n--- end ---", &log[start..]);
        }
    }
}

/// The path of another build of the program, given by an environment variable.
pub fn other_build(variable: &str) -> Option<PathBuf> {
    let path = path_from(variable)?;
    assert!(path.is_file(), "{variable} names {}, which is no file", path.display());
    Some(path)
}
