//! The audits, linters and clients of others that the gateway's doors are tested with: scripts of `tests/gateway`, with the
//! npm packages that `tests/gateway/install` puts into the folder that `IMAGEHUB_GATEWAY_CLIENTS` names, and schemathesis,
//! which `tests/gateway/install-schemathesis` puts into that of `IMAGEHUB_SCHEMATHESIS`. `make test` sets both; without one
//! of them the tests that need it say so and end.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use super::{path_from, within};

/// How long the longest of the scripts may take, each on a loaded machine.
const LONGEST: Duration = Duration::from_mins(5);
/// What is copied of `tests/gateway`, by what it ends in.
const COPIED: [&str; 5] = ["json", "mjs", "py", "toml", "ts"];

/// The file `name` of the repository.
fn of_repository(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// A directory with what `tests/gateway` has, and the contracts that are committed.
fn folder() -> TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let scripts = std::fs::read_dir(of_repository("tests/gateway")).expect("it is there");
    let scripts = scripts.map(|file| file.expect("it can be listed").path());
    let copied = |file: &PathBuf| file.extension().is_some_and(|end| COPIED.iter().any(|one| end == *one));
    let contracts = ["openapi/imagehub.json", "schema/imagehub.graphql"].map(of_repository);
    for file in scripts.filter(copied).chain(contracts) {
        let name = file.file_name().expect("it is a file's path");
        std::fs::copy(&file, dir.path().join(name)).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    }
    dir
}

fn packages(variable: &str, inner: &str, installer: &str) -> Option<PathBuf> {
    let Some(folder) = path_from(variable) else {
        eprintln!("skipped: {variable} is not set; make test sets it");
        return None;
    };
    let inner = folder.join(inner);
    assert!(inner.is_dir(), "there is no {}: run {installer}", inner.display());
    Some(folder)
}

async fn ended(what: &str, mut command: Command) -> Output {
    let done = tokio::time::timeout(LONGEST, command.kill_on_drop(true).output()).await;
    let done = done.unwrap_or_else(|_| panic!("{what}: nothing after {LONGEST:?}"));
    done.unwrap_or_else(|error| panic!("{what}: {error}"))
}

/// The scripts beside the npm packages.
pub struct Scripts(TempDir);

impl Scripts {
    pub fn find() -> Option<Self> {
        let packages = packages("IMAGEHUB_GATEWAY_CLIENTS", "node_modules", "tests/gateway/install")?;
        let dir = folder();
        std::os::unix::fs::symlink(packages.join("node_modules"), dir.path().join("node_modules")).expect("a link");
        Some(Self(dir))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("node");
        command.args(arguments).current_dir(self.0.path()).kill_on_drop(true);
        command
    }

    /// What a script prints; it has to succeed.
    pub async fn run(&self, arguments: &[&str]) -> String {
        let output = ended(arguments[0], self.command(arguments)).await;
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {printed}{said}");
        printed
    }

    /// A script that goes on.
    pub fn follow(&self, arguments: &[&str]) -> Follower {
        let mut child = self.command(arguments).stdout(Stdio::piped()).spawn().expect("node runs");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        Follower { child, lines }
    }
}

/// A client that goes on over restarts.
pub struct Follower {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Follower {
    /// What it prints next; `None` at its end.
    pub async fn line(&mut self) -> Option<String> {
        within("what a client is told", self.lines.next_line()).await.expect("it prints text")
    }

    /// Whether it ended well.
    pub async fn succeeded(mut self) -> bool {
        within("the end of a client", self.child.wait()).await.expect("it ends").success()
    }
}

/// schemathesis beside its hooks.
pub struct Schemathesis {
    packages: PathBuf,
    dir: TempDir,
}

impl Schemathesis {
    pub fn find() -> Option<Self> {
        let packages = packages("IMAGEHUB_SCHEMATHESIS", "schemathesis", "tests/gateway/install-schemathesis")?;
        Some(Self { packages, dir: folder() })
    }

    /// Tests a contract with requests that fit it and such that don't; there must be nothing to find. The same arguments
    /// make the same requests. What it knows as a token it also leaves out, where there must be one.
    pub async fn finds_nothing(&self, arguments: &[&str], token: Option<&str>) {
        let settings = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gateway/schemathesis.toml");
        let mut settings = std::fs::read_to_string(settings).expect("it is there");
        let header = token.map(|token| format!("authorization: Bearer {token}"));
        let mut arguments = arguments.to_vec();
        match (token, !arguments[0].starts_with("http")) {
            (Some(token), true) => {
                settings.extend(["\n[auth.openapi.bearer]\nbearer = \"", token, "\"\n"]);
            }
            _ => arguments.extend(header.iter().flat_map(|header| ["--header", header.as_str()])),
        }
        std::fs::write(self.dir.path().join("schemathesis.toml"), settings).expect("a file");
        let mut command = Command::new("python3");
        command
            .args(["-m", "schemathesis.cli", "run", "--no-color", "--continue-on-failure"])
            .args(["--generation-database", "none"])
            .args(&arguments)
            .env(
                "PYTHONPATH",
                std::env::join_paths([self.packages.as_path(), self.dir.path()]).expect("no path has a colon"),
            )
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("SCHEMATHESIS_HOOKS", "hooks")
            .current_dir(self.dir.path());
        let output = ended("schemathesis", command).await;
        let printed = String::from_utf8_lossy(&output.stdout);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "schemathesis {arguments:?}: {printed}{said}");
        eprintln!("{printed}");
    }
}
