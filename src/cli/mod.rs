//! The command line: one file a subcommand.

mod backup;
mod check;
mod client;
mod completions;
mod config;
mod export;
pub mod hash;
mod import;
mod kubeconfig;
mod man;
mod manifests;
mod openapi;
mod serve;
mod user;

use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

/// The imagehub.sealos.io catalogue: images, repositories and organizations, and DataPacks that are
/// answered in the request that asks for them.
#[derive(Debug, Parser)]
#[command(
    version,
    max_term_width = 100,
    disable_help_subcommand = true,
    after_help = "\
Examples:
  imagehub serve --demo          try it, with a sample catalogue
  imagehub serve --help          the flags of one command
  imagehub user add alice        a user, and a kubeconfig for it
  imagehub hash -f pack.yaml     the name of a pack without one"
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

// In the order of --help: what runs, who uses it, what is in it and how it moves, what only prints.
#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server
    Serve(Box<serve::Args>),
    /// Add, list and remove the users of a server on this machine
    User {
        #[command(subcommand)]
        command: user::Command,
    },
    /// Make a bearer token for a user, and print it
    Token(user::TokenArgs),
    /// Write the catalogue as manifests that an import brings back
    Export(export::Args),
    /// Make what manifests say, or restore what an export has
    Import(import::Args),
    /// Copy the data of a server, running or not, to a new directory
    Backup(backup::Args),
    /// Check a data directory that no server uses
    #[command(after_help = "\
It says what the directory holds and whether all of it can be read, and changes nothing. \
The exit code is 1 where something is damaged.

Examples:
  imagehub check imagehub-data")]
    Check {
        /// The data directory of a server that is not running
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
    /// Print the name and the hash of a DataPack's spec
    #[command(after_help = "\
Examples:
  imagehub hash -f pack.yaml
  kubectl get datapack NAME -o json | imagehub hash -f -")]
    Hash {
        /// The manifest, YAML or JSON; - reads standard input
        #[arg(short, long, value_name = "FILE")]
        file: PathBuf,
    },
    /// Write the API's OpenAPI documents
    Openapi {
        /// The folder that they are written to
        #[arg(value_name = "DIR", default_value = "openapi")]
        dir: PathBuf,
    },
    /// Print the manifests that run imagehub in a cluster
    Manifests(manifests::Args),
    /// Print a script that completes imagehub's commands in a shell
    Completions(completions::Args),
    /// Print the manual pages, or write them to a folder
    Man(man::Args),
}

impl Cli {
    /// Reads the command line, the environment and, for `serve`, the file that `--config` names. Asked for
    /// help or told something wrong, it prints that and ends the process, with code 0 or 2.
    #[must_use]
    pub fn read() -> Self {
        let words: Vec<OsString> = std::env::args_os().collect();
        Self::try_read(&words).unwrap_or_else(|error| error.exit())
    }

    fn try_read(words: &[OsString]) -> Result<Self, clap::Error> {
        let matches = Self::command().try_get_matches_from(words)?;
        let file = match matches.subcommand() {
            Some(("serve", serve)) => serve.get_one::<PathBuf>("config"),
            _ => None,
        };
        let Some(file) = file else { return Self::from_arg_matches(&matches) };
        let wrong = |message| clap::Error::raw(ErrorKind::ValueValidation, format!("{message}\n"));
        let settings = config::read(file, &serve_command()).map_err(wrong)?;
        let command = Self::command().mut_subcommand("serve", |serve| settings.become_defaults(serve));
        Self::from_arg_matches(&command.try_get_matches_from(words)?)
    }
}

/// `serve` with its flags, as clap knows it.
fn serve_command() -> clap::Command {
    <serve::Args as clap::Args>::augment_args(clap::Command::new("serve"))
}

/// The exit code of a failure.
const FAILED: u8 = 1;
/// That of a command that was interrupted, as a shell gives it: 128 and the number of SIGINT.
const INTERRUPTED: u8 = 130;

/// Why a command failed: a sentence for the person at the command line, and the exit code.
#[derive(Debug)]
struct Failure {
    message: String,
    code: u8,
}

impl Failure {
    /// Somebody wanted it to end.
    fn interrupted(message: String) -> Self {
        Self { message, code: INTERRUPTED }
    }
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Self { message, code: FAILED }
    }
}

/// Runs the command; its exit code is 0 for success, 1 for failure, 2 for a command line that is wrong, 130 for what was
/// interrupted and goes on another time.
#[must_use]
pub fn run(cli: Cli) -> ExitCode {
    match done(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { message, code }) => {
            // Whoever closed standard error doesn't want to know.
            let _ = writeln!(std::io::stderr(), "imagehub: {message}");
            code.into()
        }
    }
}

fn done(cli: Cli) -> Result<(), Failure> {
    match cli.command {
        Command::Serve(args) => serve::run(*args)?,
        Command::Hash { file } => print(&hash::run(&file).map_err(|error| error.to_string())?),
        Command::Check { dir } => check::run(&dir)?,
        Command::Export(args) => export::run(&args)?,
        Command::Import(args) => import::run(&args)?,
        Command::Backup(args) => backup::run(&args)?,
        Command::User { command } => user::run(command)?,
        Command::Token(args) => user::token(&args)?,
        Command::Openapi { dir } => openapi::run(&dir)?,
        Command::Manifests(args) => manifests::run(&args)?,
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args)?,
    }
    Ok(())
}

/// Prints on standard output. A reader that has seen enough (`| head`) is no failure.
fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ =
        out.write_all(text.as_bytes()).and_then(|()| if text.ends_with('\n') { Ok(()) } else { out.write_all(b"\n") });
    let _ = out.flush();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_of_serve_is_also_a_variable() {
        let cli = Cli::command();
        let serve = cli.find_subcommand("serve").unwrap();
        for flag in serve.get_arguments().filter(|a| a.get_id() != "help") {
            let wanted = format!("IMAGEHUB_{}", flag.get_id().as_str().to_uppercase());
            assert_eq!(flag.get_env().and_then(|v| v.to_str()), Some(wanted.as_str()), "{}", flag.get_id());
        }
    }

    #[test]
    fn each_command_is_told_in_one_line_of_a_terminal() {
        for command in Cli::command().get_subcommands() {
            let about = command.get_about().unwrap_or_else(|| panic!("{} is not told", command.get_name())).to_string();
            assert!(about.len() <= 64 && !about.ends_with('.'), "{}: {about}", command.get_name());
        }
    }

    #[test]
    fn examples_are_not_broken_by_a_terminal_of_80_columns() {
        fn look(command: &clap::Command) {
            let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let examples = after.split_once("Examples:").map_or("", |(_, examples)| examples);
            for line in examples.lines() {
                assert!(line.len() <= 80, "{}: {line}", command.get_name());
            }
            command.get_subcommands().for_each(look);
        }
        look(&Cli::command());
    }

    #[test]
    fn each_flag_of_serve_is_in_a_group_and_examples_come_last() {
        for flag in serve_command().get_arguments() {
            let heading = flag.get_help_heading().unwrap_or("none");
            assert!(
                ["Data", "Listening", "Access", "Cluster", "Operation"].contains(&heading),
                "{}: {heading}",
                flag.get_id()
            );
        }
        let help = serve_command().render_help().to_string();
        let at = |text: &str| help.find(text).unwrap_or_else(|| panic!("no {text} in {help}"));
        assert!(at("Data:") < at("Listening:") && at("Listening:") < at("Access:"));
        assert!(at("Access:") < at("Cluster:") && at("Cluster:") < at("Operation:"));
        assert!(at("Operation:") < at("Examples:"), "{help}");
    }
}
