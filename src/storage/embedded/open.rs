//! Opening a data directory, or making one, without ever overwriting what is there.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::ops::RangeInclusive;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::thread;

use redb::backends::FileBackend;
use redb::{Builder, Database, Durability, ReadOnlyTable, ReadableDatabase, ReadableTable, ReadableTableMetadata};
use rustix::fs::{FlockOperation, flock};
use tracing::warn;

use super::error::OpenError;
use super::history::History;
use super::published::{KeyId, KeyIds, Published};
use super::shared::guarded;
use super::tables::{self, FORMAT, LOG, Meta, MetaError, Point, is_copy, read_meta, write_new};
use super::{CACHE_BYTES, FILE, FreeSpace, Options, row};

/// The data file while it is being made. It gets its name when it is whole, so that a start that was
/// interrupted leaves nothing that looks like a damaged catalogue.
pub(super) const NEW_FILE: &str = "catalog.redb.new";
/// Mode of a directory that is made: the keys of the server will lie in it.
pub(super) const DIR_MODE: u32 = 0o700;
/// Rows from which on a log is read on all cores.
const PARALLEL_ROWS: u64 = 16 * 1024;
/// Parts of a log that each of the threads reads, about: what is read of one is in memory until its turn comes.
const PARTS_A_THREAD: usize = 16;
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

/// What opening needs of a row.
struct Seen {
    at: Point,
    id: KeyId,
    tombstone: bool,
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
    read_all(db, &log, &ids, |seen| {
        check_order(&meta, last, seen.at)?;
        last = seen.at;
        rows += 1;
        let before = if seen.tombstone {
            published.keys.remove(seen.id)
        } else {
            published.keys.insert(seen.id, seen.at.revision)
        };
        history.add(seen.at, before, seen.tombstone);
        Ok(())
    })?;
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

/// Calls `each` for every row in order. A large log is read and verified on all cores, in ranges of revisions.
fn read_all(
    db: &Database,
    log: &ReadOnlyTable<u64, &'static [u8]>,
    ids: &KeyIds,
    mut each: impl FnMut(Seen) -> Result<(), String>,
) -> Result<(), MetaError> {
    let (Some(first), Some(last)) = (log.first()?, log.last()?) else { return Ok(()) };
    let (first, last) = (first.0.value(), last.0.value());
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let parts = if log.len()? < PARALLEL_ROWS { 1 } else { threads * PARTS_A_THREAD };
    let width = (last - first) / parts as u64 + 1;
    let part = |number: usize| {
        let start = first.saturating_add(width.saturating_mul(number as u64));
        start..=start.saturating_add(width - 1).min(last)
    };
    thread::scope(|scope| {
        let readers: Vec<_> = (0..threads.min(parts))
            .map(|reader| {
                let (sender, receiver) = sync_channel(1);
                scope.spawn(move || {
                    for number in (reader..parts).step_by(threads) {
                        let read = guarded(|| read_part(db, part(number), ids));
                        let read = read.unwrap_or_else(|panic| Err(MetaError::Damaged(panic)));
                        if sender.send(read).is_err() {
                            return;
                        }
                    }
                });
                receiver
            })
            .collect();
        for number in 0..parts {
            let read = readers[number % threads].recv().expect("each part is read, or says why it can't be");
            for seen in read? {
                each(seen).map_err(MetaError::Damaged)?;
            }
        }
        Ok(())
    })
}

fn read_part(db: &Database, part: RangeInclusive<u64>, ids: &KeyIds) -> Result<Vec<Seen>, MetaError> {
    let mut seen = Vec::new();
    if part.is_empty() {
        return Ok(seen);
    }
    let log = db.begin_read()?.open_table(LOG)?;
    for entry in log.range(part)? {
        let (revision, bytes) = entry?;
        let revision = revision.value();
        let row = row::decode(revision, bytes.value()).map_err(MetaError::Damaged)?;
        let at = Point { revision, at_ms: row.at_ms };
        seen.push(Seen { at, id: ids.of(row.kind, row.name), tombstone: row.value.is_none() });
    }
    Ok(seen)
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
