//! Structured logs: for people on a terminal, JSON otherwise. On standard error, so that standard output
//! is what a command prints.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// What is logged where nothing else is said: all that is worth a line, but not each request.
pub const DEFAULT_FILTER: &str = "info,imagehub::access=warn";

/// Begins to log what `filter` says.
///
/// # Errors
/// The filter is none, with what would be one.
pub fn start(filter: &str) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter).map_err(|error| {
        format!(
            "--log {filter:?} is no filter ({error}): want a level, or targets with levels, as in {DEFAULT_FILTER:?}"
        )
    })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = if std::io::stderr().is_terminal() {
        builder.with_target(false).try_init()
    } else {
        builder.json().flatten_event(true).try_init()
    };
    started.map_err(|error| error.to_string())
}
