//! `imagehub backup`.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args as ClapArgs;
use http_body_util::BodyExt as _;

use super::client::{Api, block_on};
use crate::auth::{Caller, users};
use crate::clock::SystemClock;
use crate::datapack::Packs;
use crate::graph::{Graph, Window};
use crate::kube_api::BACKUP;
use crate::registry::Registry;
use crate::storage::embedded::{self, CopyWriter, Embedded, OpenError, Options};

/// The arguments of `backup`.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
The copy is a data directory: imagehub serve --data-dir OUT starts on it, and raises its revisions above all that
were given out. It holds keys and tokens, and belongs where nobody else reads it.")]
pub(super) struct Args {
    /// The data directory of a server, running or not
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// The directory that the copy is made in: new, or empty
    #[arg(value_name = "OUT")]
    out: PathBuf,
}

pub(super) fn run(args: &Args) -> Result<(), String> {
    let Args { dir, out } = args;
    if !dir.join(embedded::FILE).is_file() {
        return Err(format!("there is no catalogue in {}: no file {} is in it", dir.display(), embedded::FILE));
    }
    match fs::read_dir(out).map(|mut entries| entries.next().is_some()) {
        Ok(true) => {
            return Err(format!("{} is not empty: name a directory that is new, or empty", out.display()));
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(format!("can't read {}: {error}", out.display()));
        }
        Ok(false) | Err(_) => {}
    }
    let mut copy = CopyWriter::create(out).map_err(|e| e.to_string())?;
    block_on(async {
        match Embedded::open(dir, Options::default(), Arc::new(SystemClock)) {
            Ok(storage) => from_store(storage, &mut copy).await,
            Err(OpenError::InUse { .. }) => from_server(dir, &mut copy).await,
            Err(error) => Err(error.to_string()),
        }
    })?;
    copy_files(dir, out).map_err(|(path, error)| format!("can't copy {}: {error}", path.display()))?;
    // Last: a copy that has a catalogue has all.
    let (head, records) = copy.finish().map_err(|e| e.to_string())?;
    super::print(&format!("{records} records at revision {} are in {}", head.revision, out.display()));
    Ok(())
}

/// The copy of a store that no server has open.
async fn from_store(storage: Arc<Embedded>, copy: &mut CopyWriter) -> Result<(), String> {
    let (graph, _writer) = Graph::open(storage.clone(), Window::default()).await.map_err(|e| e.to_string())?;
    let registry = Registry::new(storage.clone(), graph, Arc::new(Packs::new(0)), Arc::new(SystemClock));
    let pieces = registry.backup(&Caller::system()).await.map_err(|e| e.to_string())?;
    for piece in pieces {
        copy.push(&piece).map_err(|e| e.to_string())?;
    }
    storage.close();
    Ok(())
}

/// The copy that a running server sends.
async fn from_server(dir: &Path, copy: &mut CopyWriter) -> Result<(), String> {
    let api = Api::from_kubeconfig(Some(&dir.join("kubeconfig")))?;
    let (_, mut body) = api.stream(BACKUP).await.map_err(|e| format!("the running server gives no backup: {e}"))?;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| format!("the running server's answer ended too soon: {e}"))?;
        if let Ok(data) = frame.into_data() {
            copy.push(&data).map_err(|e| e.to_string())?;
        }
    }
    Ok(())
}

/// Certificates, keys and users: files that are written whole, so that copying them is enough.
fn copy_files(dir: &Path, out: &Path) -> Result<(), (PathBuf, io::Error)> {
    copy_file(&dir.join(users::FILE), &out.join(users::FILE))?;
    let (from, to) = (dir.join("pki"), out.join("pki"));
    let at = |path: &Path| {
        let path = path.to_owned();
        move |error| (path, error)
    };
    let entries = match fs::read_dir(&from) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(at(&from))?,
    };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&to).map_err(at(&to))?;
    for entry in entries {
        let name = entry.map_err(at(&from))?.file_name();
        // What is being written has another name until it is whole.
        if Path::new(&name).extension().is_none_or(|ending| ending != "part") {
            copy_file(&from.join(&name), &to.join(&name))?;
        }
    }
    Ok(())
}

fn copy_file(from: &Path, to: &Path) -> Result<(), (PathBuf, io::Error)> {
    let bytes = match fs::read(from) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        bytes => bytes.map_err(|error| (from.to_owned(), error))?,
    };
    let write = || {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
        file.write_all(&bytes)?;
        file.sync_all()
    };
    write().map_err(|error| (to.to_owned(), error))
}
