//! `imagehub check`.

use std::path::Path;

use crate::storage::embedded::{self, expects_panics};

pub(super) fn run(dir: &Path) -> Result<(), String> {
    // What a damaged file does to its reader is told by the report.
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !expects_panics() {
            usual(panic);
        }
    }));
    let report = embedded::check(dir).map_err(|error| error.to_string())?;
    super::print(&report.to_string());
    if report.is_sound() { Ok(()) } else { Err(format!("{} is damaged", dir.display())) }
}
