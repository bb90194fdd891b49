//! Structured logs: for people on a terminal, JSON otherwise. On standard error, so that standard output
//! is what a command prints.

use std::io::IsTerminal as _;

use tracing::{debug, error};
use tracing_subscriber::EnvFilter;

use crate::storage::embedded::expects_panics;

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
    // Whoever closed standard error doesn't want the log, nor complaints that it can't be written.
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).log_internal_errors(false);
    let started = if std::io::stderr().is_terminal() {
        builder.with_target(false).try_init()
    } else {
        builder.json().flatten_event(true).try_init()
    };
    started.map_err(|error| error.to_string())?;
    std::panic::set_hook(Box::new(|panic| {
        let (text, at) = (panic.payload_as_str().unwrap_or("no message"), panic.location());
        let thread = std::thread::current().name().unwrap_or("unnamed").to_owned();
        if expects_panics() {
            return debug!(panic = text, at = at.map(tracing::field::display), "a panic that is dealt with");
        }
        error!(panic = text, at = at.map(tracing::field::display), thread, "a bug: the program panicked");
    }));
    Ok(())
}
