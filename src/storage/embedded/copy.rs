//! A new store made of a copy of another. A store that begins as a copy is marked: who opens it raises its epoch and
//! its highest revision first (`tables::take_over`).

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use redb::{Database, Durability};

use super::FILE;
use super::backup::{Decoder, Head, Item};
use super::error::OpenError;
use super::open::{DIR_MODE, NEW_FILE, exists, make_file};
use super::tables::{FORMAT, LOG, Meta, Point, write_copy};

/// Bytes of rows written in one transaction.
const BATCH_BYTES: usize = 16 << 20;

/// Why no copy was made.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The directory can't be written, or has a store already.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// There is a store already.
    #[error("{} is there already: name a directory that is new, or empty", .0.display())]
    Exists(PathBuf),
    /// What came is not a whole backup.
    #[error("what came is not a whole backup: {0}")]
    Bad(String),
}

/// A store that is being made of a backup, piece by piece. Unless it is finished, nothing stays.
#[derive(Debug)]
pub struct CopyWriter {
    dir: PathBuf,
    db: Option<Database>,
    decoder: Decoder,
    head: Option<Head>,
    batch: Vec<(u64, Vec<u8>)>,
    batch_bytes: usize,
    records: u64,
}

impl CopyWriter {
    /// Begins a store in `dir`, which is made where it is absent.
    ///
    /// # Errors
    /// There is a store already, or the directory can't be written.
    pub fn create(dir: &Path) -> Result<Self, CopyError> {
        let made = DirBuilder::new().recursive(true).mode(DIR_MODE).create(dir);
        made.map_err(|error| OpenError::io(dir, error))?;
        if exists(&dir.join(FILE))? {
            return Err(CopyError::Exists(dir.join(FILE)));
        }
        let new = dir.join(NEW_FILE);
        // Of a copy that was cut off.
        let _ = fs::remove_file(&new);
        Ok(Self {
            dir: dir.to_owned(),
            db: Some(make_file(&new)?),
            decoder: Decoder::default(),
            head: None,
            batch: Vec::new(),
            batch_bytes: 0,
            records: 0,
        })
    }

    /// Takes the next piece.
    ///
    /// # Errors
    /// It is not what a backup has there, or can't be written.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), CopyError> {
        self.decoder.push(bytes);
        while let Some(item) = self.decoder.next().map_err(CopyError::Bad)? {
            match item {
                Item::Head(head) => self.head = Some(head),
                Item::Record(revision, row) => {
                    self.records += 1;
                    self.batch_bytes += row.len();
                    self.batch.push((revision, row));
                    if self.batch_bytes >= BATCH_BYTES {
                        self.write(false)?;
                    }
                }
                Item::End => {}
            }
        }
        Ok(())
    }

    /// Ends it: the store is there, whole, or the error says why not.
    ///
    /// # Errors
    /// The backup is not whole, or can't be written.
    pub fn finish(mut self) -> Result<(Head, u64), CopyError> {
        let Some(head) = self.head.filter(|_| self.decoder.is_whole()) else {
            return Err(CopyError::Bad("it ended too soon".to_owned()));
        };
        self.write(true)?;
        drop(self.db.take());
        let at = |error| OpenError::io(&self.dir, error);
        fs::rename(self.dir.join(NEW_FILE), self.dir.join(FILE)).map_err(at)?;
        File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(at)?;
        Ok((head, self.records))
    }

    fn write(&mut self, last: bool) -> Result<(), CopyError> {
        let path = self.dir.join(NEW_FILE);
        let Some(db) = &self.db else { return Ok(()) };
        let batch = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        let head = self.head.filter(|_| last);
        let write = || -> Result<(), redb::Error> {
            let mut txn = db.begin_write()?;
            txn.set_durability(Durability::Immediate)?;
            txn.set_quick_repair(true);
            {
                let mut log = txn.open_table(LOG)?;
                for (revision, row) in batch {
                    log.insert(revision, row.as_slice())?;
                }
            }
            if let Some(head) = head {
                let point = Point { revision: head.revision.0, at_ms: head.at_ms };
                let Head { store_id, epoch, .. } = head;
                write_copy(&txn, &Meta { format: FORMAT, store_id, epoch, highest: point, floor: point })?;
            }
            txn.commit()?;
            Ok(())
        };
        write().map_err(|error| OpenError::any(&path, error).into())
    }
}

impl Drop for CopyWriter {
    fn drop(&mut self) {
        if self.db.take().is_some() {
            let _ = fs::remove_file(self.dir.join(NEW_FILE));
        }
    }
}
