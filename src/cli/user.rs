//! `imagehub user` and `imagehub token`.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use crate::auth::users::{Users, UsersError};
use crate::clock::{Clock as _, SystemClock};
use crate::server::token_kubeconfig;

/// The commands of `user`.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Add a user, and write a kubeconfig with a token for it
    #[command(after_help = "\
Examples:
  imagehub user add alice
  imagehub user add bob --group dev -o /home/bob/.kube/config
  imagehub user add ops --group system:masters    another administrator")]
    Add {
        /// The user's name
        name: String,
        /// A group that the user is in; may be repeated. system:masters makes an administrator
        #[arg(long = "group", value_name = "GROUP")]
        groups: Vec<String>,
        /// Where the kubeconfig goes; - is standard output [default: NAME.kubeconfig]
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
        #[command(flatten)]
        data: DataDir,
    },
    /// List the users
    List {
        #[command(flatten)]
        data: DataDir,
    },
    /// Remove a user and take its tokens back
    #[command(after_help = "\
It takes effect at once: the tokens are no good any more, and open watches end. \
Organizations that name the user as a manager still do.

Examples:
  imagehub user remove alice")]
    Remove {
        /// The user's name
        name: String,
        #[command(flatten)]
        data: DataDir,
    },
}

/// Which server.
#[derive(Debug, Args)]
pub(super) struct DataDir {
    /// The server's data directory
    #[arg(long, env = "IMAGEHUB_DATA_DIR", value_name = "DIR", default_value = "imagehub-data")]
    data_dir: PathBuf,
}

/// The arguments of `token`.
#[derive(Debug, Args)]
#[command(after_help = "\
The user has to be there already; the token is beside those that it has. It is printed once and \
stored as a hash only.

Examples:
  curl -H \"Authorization: Bearer $(imagehub token alice)\" ...")]
pub(super) struct TokenArgs {
    /// The user's name
    name: String,
    #[command(flatten)]
    data: DataDir,
}

pub(super) fn run(command: Command) -> Result<(), String> {
    match command {
        Command::Add { name, groups, output, data } => add(&name, groups, output, &data.data_dir),
        Command::List { data } => list(&data.data_dir),
        Command::Remove { name, data } => {
            change(&data.data_dir, |users| users.remove(&name))?;
            super::print(&format!("user {name} removed; organizations that name it as a manager still do"));
            Ok(())
        }
    }
}

pub(super) fn token(args: &TokenArgs) -> Result<(), String> {
    let token = change(&args.data.data_dir, |users| users.issue(&args.name, SystemClock.now()))?;
    super::print(&token);
    Ok(())
}

fn change<T>(dir: &Path, change: impl FnOnce(&mut Users) -> Result<T, UsersError>) -> Result<T, String> {
    if !dir.is_dir() {
        return Err(format!(
            "there is no data directory {}: start the server once, or name its directory with --data-dir",
            dir.display()
        ));
    }
    Users::change(dir, change).map_err(|error| error.to_string())
}

fn add(name: &str, groups: Vec<String>, output: Option<PathBuf>, dir: &Path) -> Result<(), String> {
    // The kubeconfig is made before the user is stored: who has no credentials is no user.
    let written = change(dir, |users| {
        let now = SystemClock.now();
        users.add(name, groups, now)?;
        let token = users.issue(name, now)?;
        let refused = |error: &dyn std::fmt::Display| {
            UsersError::Refused(format!("the kubeconfig of {name} can't be made ({error}): start the server once"))
        };
        let kubeconfig = token_kubeconfig(dir, name, &token).map_err(|error| refused(&error))?;
        let path = output.unwrap_or_else(|| PathBuf::from(format!("{name}.kubeconfig")));
        if path == Path::new("-") {
            super::print(&kubeconfig);
            return Ok(None);
        }
        write_private(&path, &kubeconfig).map_err(|source| match source.kind() {
            std::io::ErrorKind::AlreadyExists => UsersError::Refused(format!(
                "there is a file {} already, and it is left as it is: move it away, or name another with --output",
                path.display()
            )),
            _ => UsersError::Io { path: path.clone(), source },
        })?;
        Ok(Some(path))
    })?;
    if let Some(path) = written {
        super::print(&format!("user {name} added; its kubeconfig, with a token in it, is {}", path.display()));
    }
    Ok(())
}

/// Writes a new file that only its owner reads; one that is there stays as it is.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn list(dir: &Path) -> Result<(), String> {
    let users = Users::read(dir).map_err(|error| error.to_string())?;
    let mut out = format!("{:<24} {:<8} {:<22} {}\n", "NAME", "TOKENS", "ADDED", "GROUPS");
    for (name, user) in &users.users {
        let added = user.created.split('.').next().unwrap_or_default();
        let line = format!("{name:<24} {:<8} {added:<22} {}", user.tokens.len(), user.groups.join(","));
        out.push_str(line.trim_end());
        out.push('\n');
    }
    super::print(&out);
    Ok(())
}
