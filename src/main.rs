//! The `imagehub` program.

use std::process::ExitCode;

use imagehub::cli::{self, Cli};

fn main() -> ExitCode {
    cli::run(Cli::read())
}
