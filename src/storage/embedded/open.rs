//! Opening a data directory, or making one, without ever overwriting what is there.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use redb::backends::FileBackend;
use redb::{Builder, Database, Durability, ReadableDatabase, ReadableTable, ReadableTableMetadata};
use rustix::fs::{FlockOperation, flock};
use tracing::warn;

use super::error::OpenError;
use super::history::History;
use super::published::{KeyIds, Published};
use super::shared::guarded;
use super::tables::{self, FORMAT, LOG, Meta, MetaError, Point, is_copy, read_meta, write_new};
use super::{CACHE_BYTES, FILE, FreeSpace, Options, row};

/// The data file while it is being made. It gets its name when it is whole, so that a start that was
/// interrupted leaves nothing that looks like a damaged catalogue.
pub(super) const NEW_FILE: &str = "catalog.redb.new";
/// Mode of a directory that is made: the keys of the server will lie in it.
pub(super) const DIR_MODE: u32 = 0o700;
/// Mode of the data file.
const FILE_MODE: u32 = 0o600;

/// What opening reads from the log.
pub(super) struct Loaded {
    pub meta: Meta,
    pub ids: KeyIds,
    pub published: Published,
    pub history: History,
}

/// redb with our settings.
pub(super) fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

/// Opens or makes the data file in `dir`.
pub(super) fn open_dir(dir: &Path, options: &Options, free_space: &FreeSpace) -> Result<Database, OpenError> {
    match fs::metadata(dir) {
        Ok(metadata) if metadata.is_dir() => {}
        Ok(_) => return Err(OpenError::NotADirectory { path: dir.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make_dir(dir)?;
        }
        Err(error) => return Err(OpenError::io(dir, error)),
    }
    let path = dir.join(FILE);
    if exists(&path)? { open_file(&path) } else { create_file(dir, options, free_space) }
}

/// Whether there is a data file that is worth opening.
pub(super) fn exists(path: &Path) -> Result<bool, OpenError> {
    match fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() => {
            Err(OpenError::Foreign { path: path.to_owned(), what: "it is not a file".to_owned() })
        }
        // redb would take an empty file for a new one.
        Ok(metadata) if metadata.len() == 0 => Err(OpenError::damaged(path, "it is empty")),
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(OpenError::io(path, error)),
    }
}

fn make_dir(dir: &Path) -> Result<(), OpenError> {
    DirBuilder::new().recursive(true).mode(DIR_MODE).create(dir).map_err(|error| OpenError::io(dir, error))
}

fn open_file(path: &Path) -> Result<Database, OpenError> {
    guarded(|| builder().open(path))
        .map_err(|panic| OpenError::damaged(path, panic))?
        .map_err(|error| OpenError::database(path, error))
}

fn create_file(dir: &Path, options: &Options, free_space: &FreeSpace) -> Result<Database, OpenError> {
    let path = dir.join(FILE);
    let at_dir = |error| OpenError::io(dir, error);
    let directory = File::open(dir).map_err(at_dir)?;
    // Held while the file is made, so that of two first starts one makes it. A file system that knows no
    // such lock (an error other than this) leaves the two to redb's lock.
    if flock(&directory, FlockOperation::NonBlockingLockExclusive) == Err(rustix::io::Errno::WOULDBLOCK) {
        return Err(OpenError::InUse { dir: dir.to_owned() });
    }
    if exists(&path)? {
        return open_file(&path);
    }
    if (free_space)().is_ok_and(|free| free < options.min_free) {
        return Err(OpenError::NoSpace { path: dir.to_owned(), needed: options.min_free });
    }
    let new = dir.join(NEW_FILE);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at_dir(error)),
        _ => {}
    }
    let made = make_file(&new).and_then(|db| {
        fs::rename(&new, &path).map_err(at_dir)?;
        directory.sync_all().map_err(at_dir)?;
        Ok(db)
    });
    if made.is_err() {
        // Best effort: the next start removes it, too.
        let _ = fs::remove_file(&new);
    }
    made
}

pub(super) fn make_file(path: &Path) -> Result<Database, OpenError> {
    let dir = path.parent().unwrap_or(path);
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(FILE_MODE)
        .open(path)
        .map_err(|error| OpenError::io(dir, error))?;
    let backend = FileBackend::new(file).map_err(|error| OpenError::database(path, error))?;
    let db = builder().create_with_backend(backend).map_err(|error| OpenError::database(path, error))?;
    initialise(&db).map_err(|error| OpenError::any(path, error))?;
    Ok(db)
}

/// Makes the tables of a new store.
pub(super) fn initialise(db: &Database) -> Result<(), redb::Error> {
    let mut txn = db.begin_write()?;
    txn.set_durability(Durability::Immediate)?;
    txn.set_quick_repair(true);
    write_new(&txn)?;
    txn.commit()?;
    Ok(())
}

/// Makes a store that begins as a copy one of its own, before anything is read from it.
pub(super) fn take_over(db: &Database, path: &Path) -> Result<(), OpenError> {
    let taken = guarded(|| {
        let txn = db.begin_read()?;
        let (meta, copied) = (read_meta(&txn)?, is_copy(&txn)?);
        drop(txn);
        if !copied {
            return Ok(());
        }
        let mut txn = db.begin_write()?;
        txn.set_durability(Durability::Immediate)?;
        txn.set_quick_repair(true);
        let raised = tables::take_over(&txn, &meta)?;
        txn.commit()?;
        let (from, to) = (meta.highest.revision, raised.highest.revision);
        warn!(from, to, epoch = raised.epoch, "this data is a copy: its revisions go on above all that were given out");
        Ok(())
    });
    taken.map_err(|panic| OpenError::damaged(path, panic))?.map_err(|error| meta_error(path, error))
}

/// Reads the whole log: where each key is, what compaction may drop; and whether it is whole.
pub(super) fn load(db: &Database, path: &Path, options: &Options, now_ms: i64) -> Result<Loaded, OpenError> {
    guarded(|| scan(db, options, now_ms))
        .map_err(|panic| OpenError::damaged(path, panic))?
        .map_err(|error| meta_error(path, error))
}

pub(super) fn meta_error(path: &Path, error: MetaError) -> OpenError {
    let path = path.to_owned();
    match error {
        MetaError::Empty => OpenError::Foreign { path, what: "it holds nothing".to_owned() },
        MetaError::Foreign => OpenError::Foreign { path, what: "it holds other tables".to_owned() },
        MetaError::Newer(found) => OpenError::Newer { path, found, known: FORMAT },
        MetaError::Damaged(what) => OpenError::Damaged { path, what },
        MetaError::Redb(error) => OpenError::any(&path, error),
    }
}

fn scan(db: &Database, options: &Options, now_ms: i64) -> Result<Loaded, MetaError> {
    let txn = db.begin_read()?;
    let meta = read_meta(&txn)?;
    let log = txn.open_table(LOG)?;
    let ids = KeyIds::default();
    let mut published = Published::default();
    published.highest = meta.highest;
    published.floor = meta.floor.revision;
    let mut history = History::new(options.history, options.history_commits, meta.floor);
    let mut rows = 0;
    let mut last = Point::default();
    for entry in log.iter()? {
        let (revision, bytes) = entry?;
        let revision = revision.value();
        let row = row::decode(revision, bytes.value()).map_err(MetaError::Damaged)?;
        check_order(&meta, last, Point { revision, at_ms: row.at_ms }).map_err(MetaError::Damaged)?;
        last = Point { revision, at_ms: row.at_ms };
        rows += 1;
        let id = ids.of(row.kind, row.name);
        let before = match row.value {
            Some(_) => published.keys.insert(id, revision),
            None => published.keys.remove(&id),
        };
        history.add(last, before, row.value.is_none());
    }
    let whole = last.revision == meta.highest.revision || meta.highest.revision == meta.floor.revision;
    if !whole || rows != log.len()? {
        return Err(MetaError::Damaged(format!(
            "the log ends at row {}, not at {}",
            last.revision, meta.highest.revision
        )));
    }
    history.resume(now_ms);
    Ok(Loaded { meta, ids, published, history })
}

/// Rows come in order, and above the floor none is missing.
pub(super) fn check_order(meta: &Meta, last: Point, row: Point) -> Result<(), String> {
    let Point { revision, at_ms } = row;
    if revision <= last.revision || at_ms < last.at_ms {
        return Err(format!("row {revision} is out of order"));
    }
    let expected = last.revision.max(meta.floor.revision) + 1;
    if revision > expected {
        return Err(format!("row {expected} is missing"));
    }
    if revision > meta.highest.revision {
        return Err(format!("row {revision} is above the highest revision, {}", meta.highest.revision));
    }
    Ok(())
}
