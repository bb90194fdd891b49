//! `imagehub openapi`.

use std::fs;
use std::path::Path;

use crate::kube_api::openapi;

pub(super) fn run(dir: &Path) -> Result<(), String> {
    for (name, bytes) in openapi::render_all() {
        let path = dir.join(name);
        let written = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&path, bytes));
        written.map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}
