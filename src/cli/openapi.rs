//! `imagehub openapi`.

use std::fs;
use std::path::Path;

use bytes::Bytes;

use crate::kube_api::openapi;
use crate::rest;

pub(super) fn run(dir: &Path) -> Result<(), String> {
    let rest = ("imagehub.json", Bytes::from(rest::document()));
    for (name, bytes) in openapi::render_all().into_iter().chain([rest]) {
        let path = dir.join(name);
        let written = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&path, bytes));
        written.map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}
