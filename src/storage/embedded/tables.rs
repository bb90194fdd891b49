//! The two tables, and what `meta` holds.
//!
//! `log`: revision -> row (see [`row`](super::row)). `meta`, all integers little-endian:
//!
//! | key | value |
//! |---|---|
//! | `format` | u32, the version of the whole form: 1 |
//! | `store_id` | 16 random bytes, given when the store was made |
//! | `epoch` | u64, 1 in a new store; raised when an older copy of the store is put in its place |
//! | `highest` | u64, the highest revision given out, then i64, its time in ms |
//! | `floor` | u64, the compaction floor, then i64, the time of that commit in ms; 0 before the first |
//! | `copy` | only in a backup: u64, the revision that it is of |
//!
//! `highest` is kept apart from the log because the last row may be a tombstone that compaction drops:
//! neither revisions nor times go back then. A backup holds the records of one revision, `highest` and `floor` at it,
//! and `copy`. Whoever opens it first takes it over, in one transaction: `copy` goes, `epoch` is raised, and so are
//! `highest` and `floor`, by [`RESTORED_STEP`], above any revision that the store it is a copy of can have given out
//! since. Rows keep their revisions. With the floor there, whoever comes with an older revision, or with one given out
//! after the backup, is told that it is compacted, and lists anew.

use redb::{ReadTransaction, ReadableTable, TableDefinition, TableError, WriteTransaction};
use uuid::Uuid;

use crate::storage::ORIGIN;

/// The log: revision -> row.
pub(super) const LOG: TableDefinition<u64, &[u8]> = TableDefinition::new("log");
/// What holds for the whole store.
pub(super) const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
/// The format that is written and the newest that is read.
pub(super) const FORMAT: u32 = 1;

/// How far the revisions of a restored copy are raised. The store it is a copy of may have gone on: at 20,000 commits
/// a second, without a pause, it reaches this after a year and a half. There is room for 9,000 such steps below 2^53,
/// up to which clients that read versions as floating-point numbers still tell them apart.
pub const RESTORED_STEP: u64 = 1_000_000_000_000;
/// The key that marks a copy.
const COPY: &str = "copy";

/// A revision and the store's time of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Point {
    pub revision: u64,
    pub at_ms: i64,
}

impl Point {
    fn to_bytes(self) -> [u8; 16] {
        let mut out = [0; 16];
        out[..8].copy_from_slice(&self.revision.to_le_bytes());
        out[8..].copy_from_slice(&self.at_ms.to_le_bytes());
        out
    }

    fn from_bytes(bytes: [u8; 16]) -> Self {
        let (revision, at_ms) = bytes.split_at(8);
        Self {
            revision: u64::from_le_bytes(*revision.first_chunk().expect("half of 16")),
            at_ms: i64::from_le_bytes(*at_ms.first_chunk().expect("half of 16")),
        }
    }
}

/// The table `meta`, read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Meta {
    pub format: u32,
    pub store_id: Uuid,
    pub epoch: u64,
    pub highest: Point,
    pub floor: Point,
}

/// What is wrong with `meta`.
#[derive(Debug)]
pub(super) enum MetaError {
    /// There are no tables at all.
    Empty,
    /// There are tables, but not ours.
    Foreign,
    /// Its format is newer than [`FORMAT`].
    Newer(u32),
    /// A value is missing or has the wrong length.
    Damaged(String),
    /// redb could not read it.
    Redb(redb::Error),
}

impl<E: Into<redb::Error>> From<E> for MetaError {
    fn from(error: E) -> Self {
        Self::Redb(error.into())
    }
}

/// Reads `meta`.
pub(super) fn read_meta(txn: &ReadTransaction) -> Result<Meta, MetaError> {
    let table = match txn.open_table(META) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => {
            let none = txn.list_tables()?.next().is_none() && txn.list_multimap_tables()?.next().is_none();
            return Err(if none { MetaError::Empty } else { MetaError::Foreign });
        }
        Err(TableError::Storage(error)) => return Err(error.into()),
        Err(_) => return Err(MetaError::Foreign),
    };
    let format = u32::from_le_bytes(value(&table, "format")?);
    if format > FORMAT {
        return Err(MetaError::Newer(format));
    }
    Ok(Meta {
        format,
        store_id: Uuid::from_bytes(value(&table, "store_id")?),
        epoch: u64::from_le_bytes(value(&table, "epoch")?),
        highest: Point::from_bytes(value(&table, "highest")?),
        floor: Point::from_bytes(value(&table, "floor")?),
    })
}

/// Reads the floor alone.
pub(super) fn read_floor(txn: &ReadTransaction) -> Result<Point, MetaError> {
    Ok(Point::from_bytes(value(&txn.open_table(META)?, "floor")?))
}

/// Writes what changes: the highest revision and, where it moves, the floor.
pub(super) fn write_points(txn: &WriteTransaction, highest: Point, floor: Option<Point>) -> Result<(), redb::Error> {
    let mut table = txn.open_table(META)?;
    table.insert("highest", &highest.to_bytes()[..])?;
    if let Some(floor) = floor {
        table.insert("floor", &floor.to_bytes()[..])?;
    }
    Ok(())
}

/// Makes both tables of a new store.
pub(super) fn write_new(txn: &WriteTransaction) -> Result<(), redb::Error> {
    txn.open_table(LOG)?;
    let mut table = txn.open_table(META)?;
    table.insert("format", &FORMAT.to_le_bytes()[..])?;
    table.insert("store_id", &Uuid::new_v4().as_bytes()[..])?;
    table.insert("epoch", &1_u64.to_le_bytes()[..])?;
    let origin = Point { revision: ORIGIN.0, ..Point::default() };
    table.insert("highest", &origin.to_bytes()[..])?;
    table.insert("floor", &origin.to_bytes()[..])?;
    Ok(())
}

/// Writes the `meta` of a copy.
pub(super) fn write_copy(txn: &WriteTransaction, meta: &Meta) -> Result<(), redb::Error> {
    let mut table = txn.open_table(META)?;
    table.insert("store_id", &meta.store_id.as_bytes()[..])?;
    table.insert("epoch", &meta.epoch.to_le_bytes()[..])?;
    table.insert("highest", &meta.highest.to_bytes()[..])?;
    table.insert("floor", &meta.floor.to_bytes()[..])?;
    table.insert(COPY, &meta.highest.revision.to_le_bytes()[..])?;
    Ok(())
}

/// Whether the store is a copy that nobody has opened yet.
pub(super) fn is_copy(txn: &ReadTransaction) -> Result<bool, MetaError> {
    Ok(txn.open_table(META)?.get(COPY)?.is_some())
}

/// Makes a copy a store of its own; what it is then.
pub(super) fn take_over(txn: &WriteTransaction, meta: &Meta) -> Result<Meta, redb::Error> {
    let highest = Point { revision: meta.highest.revision.saturating_add(RESTORED_STEP), ..meta.highest };
    let raised = Meta { epoch: meta.epoch.saturating_add(1), highest, floor: highest, ..*meta };
    write_copy(txn, &raised)?;
    txn.open_table(META)?.remove(COPY)?;
    Ok(raised)
}

fn value<const N: usize>(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
    key: &'static str,
) -> Result<[u8; N], MetaError> {
    let guard = table.get(key)?.ok_or_else(|| MetaError::Damaged(format!("its table meta lacks {key:?}")))?;
    guard
        .value()
        .try_into()
        .map_err(|_| MetaError::Damaged(format!("its table meta has {key:?} with a length other than {N}")))
}
