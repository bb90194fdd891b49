//! `imagehub check DIR`: what a data directory holds, and whether it is whole.

use std::path::Path;

use crate::storage::embedded::{self, OpenError};

/// The text for standard output, and whether the store is sound (the exit code says it, too). The
/// directory isn't modified.
///
/// # Errors
///
/// [`OpenError`]'s sentence is for standard error: there is no store, a server has it open, or it is too
/// damaged to be read at all.
pub fn report(dir: &Path) -> Result<(String, bool), OpenError> {
    let report = embedded::check(dir)?;
    Ok((report.to_string(), report.is_sound()))
}
