//! The program run to its end, as a command of a shell is.

use std::path::Path;
use std::process::Stdio;

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::within;

/// How a run ended.
#[derive(Debug)]
pub struct Ended {
    /// The exit code; `None` after a signal.
    pub code: Option<i32>,
    /// What it printed.
    pub printed: String,
    /// What it said on standard error.
    pub said: String,
}

impl Ended {
    /// Fails unless it ended with this code and said all of this on standard error.
    #[track_caller]
    pub fn failed_with(&self, code: i32, said: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        for part in said {
            assert!(self.said.contains(part), "{part:?} is not in {}", self.said);
        }
        assert!(!self.said.contains("panicked"), "{}", self.said);
    }

    /// What it printed, if it succeeded.
    #[track_caller]
    pub fn ok(&self) -> &str {
        assert_eq!(self.code, Some(0), "{self:?}");
        &self.printed
    }
}

/// Runs the program in `dir` with `input` on its standard input.
pub async fn run(dir: &Path, arguments: &[&str], environment: &[(&str, &str)], input: &str) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_imagehub"));
    command.args(arguments);
    finish(command, dir, environment, input).await
}

/// The same as a user without any rights, who can use `binary`. `None` where the tests may not do that.
pub async fn run_as_nobody(binary: &Path, dir: &Path, arguments: &[&str]) -> Option<Ended> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let nobody = ["--reuid", "65534", "--regid", "65534", "--clear-groups"];
    let tried = Command::new("setpriv").args(nobody).arg("true").output().await;
    if !tried.is_ok_and(|tried| tried.status.success()) {
        return None;
    }
    let mut command = Command::new("setpriv");
    command.args(nobody).arg(binary).args(arguments);
    Some(finish(command, dir, &[], "").await)
}

async fn finish(mut command: Command, dir: &Path, environment: &[(&str, &str)], input: &str) -> Ended {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("IMAGEHUB_") {
            command.env_remove(name);
        }
    }
    command.envs(environment.iter().copied()).current_dir(dir).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program runs");
    let mut stdin = child.stdin.take().expect("it was piped");
    // One that doesn't want its input may be gone.
    let _ = stdin.write_all(input.as_bytes()).await;
    drop(stdin);
    let what = format!("the end of {:?}", command.as_std());
    let output = within(&what, child.wait_with_output()).await.expect("it can be waited for");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it prints text");
    Ended { code: output.status.code(), printed: text(output.stdout), said: text(output.stderr) }
}
