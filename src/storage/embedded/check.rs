//! What a data directory holds, and whether it is whole, without changing a byte in it.

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use redb::backends::FileBackend;
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, StorageError};
use uuid::Uuid;

use super::error::OpenError;
use super::open::{builder, check_order, exists, meta_error};
use super::overlay::Overlay;
use super::published::{ByKey, KeyIds};
use super::shared::guarded;
use super::tables::{LOG, Meta, MetaError, Point, read_meta};
use super::{FILE, row};
use crate::api::Kind;

/// Damaged rows that are listed; more are counted.
pub const LISTED_DAMAGE: usize = 20;

/// What [`check`] found.
#[derive(Debug, Clone)]
pub struct Report {
    /// The data file.
    pub path: PathBuf,
    /// Its length in bytes.
    pub file_bytes: u64,
    /// The version of its form.
    pub format: u32,
    /// The id that the store was given when it was made.
    pub store_id: Uuid,
    /// How often an older copy was put in its place, plus 1.
    pub epoch: u64,
    /// Whether the server that had it open last closed it. If not, the next start recovers by itself.
    pub closed_in_order: bool,
    /// The revision of the oldest row, if there is any.
    pub oldest: Option<u64>,
    /// The highest revision given out, and its time in ms since 1970.
    pub highest: (u64, i64),
    /// The compaction floor (a watch can begin from it on), and its time in ms since 1970.
    pub floor: (u64, i64),
    /// Records present, by kind, each at the kind's number.
    pub live: [u64; Kind::ALL.len()],
    /// Bytes of the records present.
    pub live_bytes: u64,
    /// Rows that later ones superseded: the history.
    pub superseded: u64,
    /// Rows that record a deletion.
    pub tombstones: u64,
    /// Rows that do not read as they were written.
    pub damaged: u64,
    /// What is wrong with the first [`LISTED_DAMAGE`] of them.
    pub damage: Vec<String>,
    /// What is wrong with the pages of the database, if anything is.
    pub pages: Option<String>,
}

impl Report {
    /// Whether nothing is damaged.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.damaged == 0 && self.pages.is_none()
    }
}

/// Reads the store in `dir` whole and says what it holds. The directory isn't modified; a server can't
/// open it at the same time.
///
/// # Errors
///
/// [`OpenError`] where there is no store, a server has it open, or it is too damaged to be read at all.
pub fn check(dir: &Path) -> Result<Report, OpenError> {
    match std::fs::metadata(dir) {
        Ok(metadata) if !metadata.is_dir() => return Err(OpenError::NotADirectory { path: dir.to_owned() }),
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(OpenError::io(dir, error)),
        _ => {}
    }
    let path = dir.join(FILE);
    if !exists(&path)? {
        return Err(OpenError::Missing { dir: dir.to_owned() });
    }
    guarded(|| examine(&path)).map_err(|panic| OpenError::damaged(&path, panic))?
}

fn examine(path: &Path) -> Result<Report, OpenError> {
    let closed_in_order = match builder().open_read_only(path) {
        Ok(_) => true,
        Err(DatabaseError::RepairAborted) => false,
        Err(error) => return Err(OpenError::database(path, error)),
    };
    let at_path = |error| OpenError::io(path, error);
    let file = File::open(path).map_err(at_path)?;
    let file_bytes = file.metadata().map_err(at_path)?.len();
    let backend = FileBackend::new(file).map_err(|error| OpenError::database(path, error))?;
    let overlay = Overlay::new(backend).map_err(at_path)?;
    let mut db = builder().create_with_backend(overlay).map_err(|error| OpenError::database(path, error))?;

    let txn = db.begin_read().map_err(|error| OpenError::any(path, error.into()))?;
    let meta = read_meta(&txn).map_err(|error| meta_error(path, error))?;
    drop(txn);
    let point = |point: Point| (point.revision, point.at_ms);
    let mut report = Report {
        path: path.to_owned(),
        file_bytes,
        format: meta.format,
        store_id: meta.store_id,
        epoch: meta.epoch,
        closed_in_order,
        oldest: None,
        highest: point(meta.highest),
        floor: point(meta.floor),
        live: [0; Kind::ALL.len()],
        live_bytes: 0,
        superseded: 0,
        tombstones: 0,
        damaged: 0,
        damage: Vec::new(),
        pages: None,
    };
    let rows = guarded(|| read_rows(&db, &meta, &mut report));
    report.pages = match rows {
        Ok(Ok(())) => None,
        Ok(Err(MetaError::Redb(error))) => Some(error.to_string()),
        Ok(Err(error)) => Some(format!("{error:?}")),
        Err(panic) => Some(panic),
    };
    let pages = guarded(|| db.check_integrity()).unwrap_or_else(|panic| Err(StorageError::Corrupted(panic).into()));
    match pages {
        Ok(true) => {}
        Ok(false) => drop(report.pages.get_or_insert_with(|| "its list of free pages was wrong".to_owned())),
        Err(error) => drop(report.pages.get_or_insert_with(|| error.to_string())),
    }
    Ok(report)
}

fn read_rows(db: &Database, meta: &Meta, report: &mut Report) -> Result<(), MetaError> {
    let ids = KeyIds::default();
    let mut present = ByKey::<(Kind, u64)>::default();
    let mut last = Point::default();
    let txn = db.begin_read()?;
    for entry in txn.open_table(LOG)?.iter()? {
        let (revision, bytes) = entry?;
        let revision = revision.value();
        report.oldest.get_or_insert(revision);
        let row = match row::decode(revision, bytes.value()) {
            Ok(row) => row,
            Err(what) => {
                report.damaged(what);
                // Its time is unknown; it isn't missing, too.
                last.revision = revision;
                continue;
            }
        };
        let at = Point { revision, at_ms: row.at_ms };
        if let Err(what) = check_order(meta, last, at) {
            report.damaged(what);
        }
        last = at;
        let id = ids.of(row.kind, row.name);
        report.tombstones += u64::from(row.value.is_none());
        let before = match row.value {
            Some(value) => present.insert(id, (row.kind, value.len() as u64)),
            None => present.remove(&id),
        };
        report.superseded += u64::from(before.is_some());
    }
    if last.revision < meta.highest.revision && meta.highest.revision != meta.floor.revision {
        report.damaged(format!("rows {} to {} are missing", last.revision + 1, meta.highest.revision));
    }
    for (kind, bytes) in present.into_values() {
        report.live[kind as usize] += 1;
        report.live_bytes += bytes;
    }
    Ok(())
}

impl Report {
    fn damaged(&mut self, what: String) {
        self.damaged += 1;
        if self.damage.len() < LISTED_DAMAGE {
            self.damage.push(what);
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (highest, highest_at) = self.highest;
        let (floor, floor_at) = self.floor;
        writeln!(f, "{}: format {}, {} bytes", self.path.display(), self.format, self.file_bytes)?;
        writeln!(f, "store       {}, epoch {}", self.store_id, self.epoch)?;
        write!(f, "revisions   ")?;
        match self.oldest {
            Some(oldest) => writeln!(f, "{oldest} to {highest}, the last at {}", Time(highest_at))?,
            None => writeln!(f, "no rows, {highest} given out")?,
        }
        write!(f, "history     after revision {floor}")?;
        match floor {
            0 => writeln!(f, ", the beginning")?,
            _ => writeln!(f, " of {}", Time(floor_at))?,
        }
        write!(f, "records     ")?;
        for kind in Kind::ALL {
            write!(f, "{} {}, ", self.live[kind as usize], kind.plural())?;
        }
        writeln!(f, "{} bytes", self.live_bytes)?;
        writeln!(f, "superseded  {} rows, and {} tombstones", self.superseded, self.tombstones)?;
        if !self.closed_in_order {
            writeln!(f, "closed      no: the server ended without closing it; the next start recovers it by itself")?;
        }
        if let Some(pages) = &self.pages {
            writeln!(f, "pages       DAMAGED: {pages}")?;
        }
        if self.damaged > 0 {
            writeln!(f, "rows        {} DAMAGED:", self.damaged)?;
            for what in &self.damage {
                writeln!(f, "            {what}")?;
            }
            if self.damaged > self.damage.len() as u64 {
                writeln!(f, "            and more")?;
            }
        }
        f.write_str(if self.is_sound() {
            "sound       yes: every row reads as it was written"
        } else {
            "sound       no: put a backup in its place"
        })
    }
}

/// A time in ms since 1970, for people.
struct Time(i64);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Timestamp::from_millisecond(self.0) {
            Ok(time) => time.fmt(f),
            Err(_) => write!(f, "{} ms since 1970", self.0),
        }
    }
}
