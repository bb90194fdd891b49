//! The `imagehub` program.

use std::process::ExitCode;

use clap::Parser as _;
use imagehub::cli::{self, Cli};

fn main() -> ExitCode {
    cli::run(Cli::parse())
}
