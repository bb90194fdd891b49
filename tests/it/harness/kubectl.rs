//! kubectl with a home of its own, so that neither a developer's configuration nor an old discovery
//! cache takes part.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use futures::future::join_all;
use parking_lot::Mutex;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::task::JoinHandle;

use super::{path_from, within};

/// Commands that change something.
const WRITES: [&str; 7] = ["annotate", "apply", "create", "delete", "label", "patch", "replace"];

/// kubectl for one server.
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
    home: TempDir,
    beside: Vec<Self>,
    tries: Tries,
}

/// The commands that a kubectl was given which has others beside it, and what came of each for whom: first the one
/// itself, then those beside it.
#[derive(Clone, Default)]
pub struct Tries(Arc<Mutex<Vec<Try>>>);

struct Try {
    command: String,
    outcomes: Vec<Came>,
}

/// What came of a command.
enum Came {
    Known(String),
    /// It goes on yet.
    Running(JoinHandle<String>),
}

impl Tries {
    /// All of them, when those that go on have come to something.
    pub async fn finish(self) -> Vec<(String, Vec<String>)> {
        let tries = std::mem::take(&mut *self.0.lock());
        let mut all = Vec::new();
        for Try { command, outcomes } in tries {
            let mut known = Vec::new();
            for outcome in outcomes {
                known.push(match outcome {
                    Came::Known(outcome) => outcome,
                    Came::Running(task) => within(&command, task).await.expect("it does not panic"),
                });
            }
            all.push((command, known));
        }
        all
    }
}

/// A command line: words separated by spaces, or a slice where an argument has spaces itself.
pub trait Arguments {
    /// The words.
    fn words(&self) -> Vec<String>;
}

impl Arguments for &str {
    fn words(&self) -> Vec<String> {
        self.split_whitespace().map(str::to_owned).collect()
    }
}

impl Arguments for &String {
    fn words(&self) -> Vec<String> {
        self.as_str().words()
    }
}

impl<const N: usize> Arguments for [&str; N] {
    fn words(&self) -> Vec<String> {
        self.iter().map(|&w| w.to_owned()).collect()
    }
}

impl Arguments for &[&str] {
    fn words(&self) -> Vec<String> {
        self.iter().map(|&w| w.to_owned()).collect()
    }
}

/// What a finished kubectl said.
pub struct Output {
    command: String,
    /// The exit code.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Kubectl {
    /// kubectl with the configuration at `kubeconfig`.
    pub fn new(kubeconfig: &Path) -> Self {
        let home = tempfile::tempdir().expect("a temporary directory");
        let (beside, tries) = (Vec::new(), Tries::default());
        Self { program: Self::find(), kubeconfig: kubeconfig.to_owned(), home, beside, tries }
    }

    /// The same, but each command is first tried by the others: as a dry run, where it would change something.
    pub fn beside(mut self, others: Vec<Self>, tries: &Tries) -> Self {
        self.beside = others;
        self.tries = tries.clone();
        self
    }

    /// The program: that of `KUBECTL` or `KUBEBUILDER_ASSETS`.
    pub fn find() -> PathBuf {
        let assets = || path_from("KUBEBUILDER_ASSETS").map(|d| d.join("kubectl"));
        let program = path_from("KUBECTL").or_else(assets);
        let program = program.expect("no kubectl: run make test, or set KUBECTL");
        assert!(program.is_file(), "{} is no file: run make test, or set KUBECTL", program.display());
        program
    }

    /// Runs a command to its end, whatever that is.
    pub async fn run(&self, arguments: impl Arguments, stdin: &str) -> Output {
        let words = arguments.words();
        if self.beside.is_empty() {
            return self.finish(&words, stdin).await;
        }
        let dry = dry(&words);
        let outcomes = join_all(self.beside.iter().map(|other| other.finish(&dry, stdin))).await;
        let output = self.finish(&words, stdin).await;
        let outcomes = std::iter::once(&output).chain(&outcomes).map(|output| Came::Known(output.came())).collect();
        self.tries.0.lock().push(Try { command: words.join(" "), outcomes });
        output
    }

    async fn finish(&self, words: &[String], stdin: &str) -> Output {
        let command = format!("kubectl {}", words.join(" "));
        let mut child = self.spawn(words, Stdio::piped());
        let mut input = child.stdin.take().expect("standard input is piped");
        let finish = async {
            // A command that reads nothing may be gone before all is written: not an error.
            let write = async {
                let _ = input.write_all(stdin.as_bytes()).await;
                drop(input);
            };
            let ((), output) = tokio::join!(write, child.wait_with_output());
            output.expect("kubectl can be waited for")
        };
        let output = within(&command, finish).await;
        Output {
            command,
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Runs a command that must succeed.
    pub async fn ok(&self, arguments: impl Arguments) -> Output {
        self.ok_with(arguments, "").await
    }

    /// Runs a command that must succeed, with this manifest (or anything else) on standard input.
    pub async fn ok_with(&self, arguments: impl Arguments, stdin: &str) -> Output {
        let output = self.run(arguments, stdin).await;
        assert_eq!(output.code, Some(0), "{output}");
        output
    }

    /// Runs a command that must fail, saying `why` on standard error.
    pub async fn fails(&self, arguments: impl Arguments, why: &str) -> Output {
        self.fails_with(arguments, "", why).await
    }

    /// Runs a command that must fail, saying `why` on standard error, with this on standard input.
    pub async fn fails_with(&self, arguments: impl Arguments, stdin: &str, why: &str) -> Output {
        let output = self.run(arguments, stdin).await;
        assert!(output.code.is_some_and(|code| code != 0), "it should fail: {output}");
        assert!(output.stderr.contains(why), "standard error should say {why:?}: {output}");
        output
    }

    /// Runs a command that must succeed and prints JSON.
    pub async fn json(&self, arguments: impl Arguments) -> Value {
        let output = self.ok(arguments).await;
        serde_json::from_str(&output.stdout).unwrap_or_else(|e| panic!("not JSON: {e}: {output}"))
    }

    /// Starts a command that goes on, as `get -w`, to read its lines one by one.
    pub fn follow(&self, arguments: impl Arguments) -> Follow {
        let words = arguments.words();
        if !self.beside.is_empty() {
            let running = |other: &Self| Came::Running(tokio::spawn(begun(other.spawn(&words, Stdio::null()))));
            let outcomes = self.beside.iter().map(running);
            let outcomes = std::iter::once(Came::Known(DONE.to_owned())).chain(outcomes).collect();
            self.tries.0.lock().push(Try { command: words.join(" "), outcomes });
        }
        let mut child = self.spawn(&words, Stdio::null());
        let lines = BufReader::new(child.stdout.take().expect("standard output is piped")).lines();
        let mut stderr = child.stderr.take().expect("standard error is piped");
        let complaints = Arc::new(Mutex::new(String::new()));
        let sink = Arc::clone(&complaints);
        tokio::spawn(async move {
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = stderr.read(&mut buffer).await {
                sink.lock().push_str(&String::from_utf8_lossy(&buffer[..n]));
            }
        });
        Follow { command: format!("kubectl {}", words.join(" ")), lines, complaints, child }
    }

    fn spawn(&self, words: &[String], stdin: Stdio) -> Child {
        let mut cache = OsString::from("--cache-dir=");
        cache.push(self.home.path().join("cache"));
        Command::new(&self.program)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.home.path())
            .env("KUBECONFIG", &self.kubeconfig)
            .env("LC_ALL", "C")
            .arg(cache)
            .args(words)
            .current_dir(self.home.path())
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|e| panic!("{}: {e}", self.program.display()))
    }
}

/// What came of a command that succeeded.
const DONE: &str = "done";

/// The same command, without an effect.
fn dry(words: &[String]) -> Vec<String> {
    let mut words = words.to_vec();
    let writes = words.first().is_some_and(|verb| WRITES.contains(&&**verb));
    if writes && !words.iter().any(|word| word.starts_with("--dry-run")) {
        words.push("--dry-run=server".to_owned());
    }
    words
}

/// What came of a command that goes on: it is well when it says something, or has ended well.
async fn begun(mut child: Child) -> String {
    let mut lines = BufReader::new(child.stdout.take().expect("standard output is piped")).lines();
    if let Ok(Some(_)) = lines.next_line().await {
        return DONE.to_owned();
    }
    let output = child.wait_with_output().await.expect("kubectl can be waited for");
    came(output.status.code(), &String::from_utf8_lossy(&output.stderr))
}

/// What is said of a failure, but for what client-go logs of it with the time.
fn came(code: Option<i32>, stderr: &str) -> String {
    let numbered = |rest: &str| rest.starts_with(|c: char| c.is_ascii_digit());
    let logged = |line: &str| line.strip_prefix('E').is_some_and(numbered);
    let said: Vec<_> = stderr.lines().map(str::trim_end).filter(|line| !line.is_empty() && !logged(line)).collect();
    match code {
        Some(0) => DONE.to_owned(),
        _ if said.is_empty() => format!("exit code {code:?}"),
        _ => said.join("\n"),
    }
}

impl Output {
    fn came(&self) -> String {
        came(self.code, &self.stderr)
    }

    /// The lines of standard output, which must contain all of these.
    #[track_caller]
    pub fn says(&self, all: &[&str]) -> &Self {
        for text in all {
            assert!(self.stdout.contains(text), "standard output should contain {text:?}: {self}");
        }
        self
    }

    /// The non-empty lines of standard output.
    pub fn lines(&self) -> Vec<&str> {
        self.stdout.lines().filter(|l| !l.trim().is_empty()).collect()
    }

    /// A printed table as rows of cells, the header first. For tables whose cells have no spaces.
    pub fn table(&self) -> Vec<Vec<&str>> {
        self.lines().into_iter().map(|l| l.split_whitespace().collect()).collect()
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { command, code, stdout, stderr } = self;
        write!(f, "{command}\nexit code: {code:?}\n--- stdout\n{stdout}\n--- stderr\n{stderr}\n---")
    }
}

/// A kubectl that goes on. Killed when it is dropped.
pub struct Follow {
    command: String,
    lines: Lines<BufReader<ChildStdout>>,
    complaints: Arc<Mutex<String>>,
    child: Child,
}

impl Follow {
    /// The next line.
    pub async fn line(&mut self) -> String {
        match tokio::time::timeout(super::DEADLINE, self.lines.next_line()).await {
            Ok(Ok(Some(line))) => line,
            other => panic!("{}: no line but {other:?}; stderr: {}", self.command, self.complaints.lock()),
        }
    }

    /// The next line that begins with these words; lines before it are passed over.
    pub async fn line_of(&mut self, words: &[&str]) -> String {
        loop {
            let line = self.line().await;
            if line.split_whitespace().zip(words).filter(|(a, b)| a == *b).count() == words.len() {
                return line;
            }
        }
    }

    /// Waits for its end, which must be a success.
    pub async fn success(mut self) {
        let status = within(&self.command, self.child.wait()).await.expect("kubectl can be waited for");
        assert!(status.success(), "{}: {status}; stderr: {}", self.command, self.complaints.lock());
    }
}
