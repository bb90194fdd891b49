//! The command line: one file a subcommand.

mod backup;
mod check;
mod client;
mod export;
pub mod hash;
mod import;
mod kubeconfig;
mod openapi;
mod serve;
mod user;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The imagehub.sealos.io catalogue: images, repositories and organizations, and DataPacks that are
/// answered in the request that asks for them.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, after_help = "Try it: imagehub serve --demo")]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the server: the Kubernetes API with TLS, and a gateway with health and metrics
    Serve(serve::Args),
    /// Prints the name and the hash that a DataPack's spec has
    Hash {
        /// The manifest, YAML or JSON; - reads standard input
        #[arg(short, long, value_name = "FILE")]
        file: PathBuf,
    },
    /// Says what a data directory holds, and whether all of it can be read; changes nothing
    Check {
        /// The data directory of a server that is not running
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
    /// Writes the catalogue as manifests, with all that an import needs to bring it back
    Export(export::Args),
    /// Reads manifests and makes what they say, or restores what an export has
    Import(import::Args),
    /// Copies the data of a server, running or not, into a new data directory
    Backup(backup::Args),
    /// Adds, lists and removes the users of a server on this machine; works while it runs
    User {
        #[command(subcommand)]
        command: user::Command,
    },
    /// Makes a bearer token for a user, and prints it
    Token(user::TokenArgs),
    /// Writes the API's OpenAPI documents
    Openapi {
        /// The folder that they are written to
        #[arg(value_name = "DIR", default_value = "openapi")]
        dir: PathBuf,
    },
}

/// Runs the command; its exit code is 0 for success, 1 for failure, 2 for a command line that is wrong.
#[must_use]
pub fn run(cli: Cli) -> ExitCode {
    let done = match cli.command {
        Command::Serve(args) => serve::run(args),
        Command::Hash { file } => hash::run(&file).map(|lines| print(&lines)).map_err(|error| error.to_string()),
        Command::Check { dir } => check::run(&dir),
        Command::Export(args) => export::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Backup(args) => backup::run(&args),
        Command::User { command } => user::run(command),
        Command::Token(args) => user::token(&args),
        Command::Openapi { dir } => openapi::run(&dir),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            // Whoever closed standard error doesn't want to know.
            let _ = writeln!(std::io::stderr(), "imagehub: {message}");
            ExitCode::FAILURE
        }
    }
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
    use clap::CommandFactory as _;

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
}
