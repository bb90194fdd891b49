//! `imagehub check`.

use std::path::Path;

use crate::storage::embedded;

pub(super) fn run(dir: &Path) -> Result<(), String> {
    let report = embedded::check(dir).map_err(|error| error.to_string())?;
    super::print(&report.to_string());
    if report.is_sound() { Ok(()) } else { Err(format!("{} is damaged", dir.display())) }
}
