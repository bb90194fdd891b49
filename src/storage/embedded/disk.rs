//! A disk in memory for tests: it knows what was synced and what was not, loses the latter in a crash,
//! fails or is full when told to, and can hold a sync back.

use std::io;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use redb::StorageBackend;

#[derive(Debug, Clone)]
enum Change {
    Len(usize),
    Write(usize, Vec<u8>),
}

/// How a disk is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full {
    /// Of the first write that finds it so, this part of the bytes is taken: none, or one in so many.
    pub(super) part: Option<usize>,
    /// Whether it stays so. Else all that follows goes well.
    pub(super) lasting: bool,
}

#[derive(Debug, Default)]
struct Inner {
    now: Vec<u8>,
    synced: Vec<u8>,
    unsynced: Vec<Change>,
    syncs: u64,
    fail_from_sync: Option<u64>,
    /// Writes, changes of the length, and syncs so far.
    operations: u64,
    full_from: Option<(u64, Full)>,
    broken: bool,
    held: bool,
    stuck: bool,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Disk(Arc<(Mutex<Inner>, Condvar)>);

impl Disk {
    /// The disk after a crash now: of the changes that were not synced, those that `keep` picks by their
    /// number got there.
    pub(super) fn crashed(&self, mut keep: impl FnMut(usize) -> bool) -> Self {
        let inner = self.0.0.lock();
        let mut bytes = inner.synced.clone();
        for (number, change) in inner.unsynced.iter().enumerate() {
            if keep(number) {
                apply(&mut bytes, change);
            }
        }
        let fresh = Inner { now: bytes.clone(), synced: bytes, ..Inner::default() };
        Self(Arc::new((Mutex::new(fresh), Condvar::new())))
    }

    pub(super) fn syncs(&self) -> u64 {
        self.0.0.lock().syncs
    }

    /// The `after`th sync from now on fails, and all that follows.
    pub(super) fn fail_sync(&self, after: u64) {
        let mut inner = self.0.0.lock();
        inner.fail_from_sync = Some(inner.syncs + after);
    }

    /// Writes, changes of the length, and syncs so far.
    pub(super) fn operations(&self) -> u64 {
        self.0.0.lock().operations
    }

    /// The `after`th operation from now on finds the disk full.
    pub(super) fn fill(&self, after: u64, full: Full) {
        let mut inner = self.0.0.lock();
        inner.full_from = Some((inner.operations + after, full));
    }

    /// Lets no sync end until [`release`](Self::release).
    pub(super) fn hold(&self) {
        self.0.0.lock().held = true;
    }

    /// Waits until a sync is held back.
    pub(super) fn wait_stuck(&self) {
        self.0.1.wait_while(&mut self.0.0.lock(), |inner| !inner.stuck);
    }

    pub(super) fn release(&self) {
        self.0.0.lock().held = false;
        self.0.1.notify_all();
    }

    fn change(&self, change: Change) -> io::Result<()> {
        let mut inner = self.0.0.lock();
        inner.check()?;
        let Some(full) = inner.operation() else {
            inner.make(change);
            return Ok(());
        };
        if let (Some(part), Change::Write(offset, data)) = (full.part, change) {
            let taken = data[..data.len() / part].to_vec();
            inner.make(Change::Write(offset, taken));
        }
        Err(io::Error::from_raw_os_error(NO_SPACE))
    }
}

/// ENOSPC.
const NO_SPACE: i32 = 28;

impl Inner {
    fn make(&mut self, change: Change) {
        apply(&mut self.now, &change);
        self.unsynced.push(change);
    }

    /// Counts an operation; how the disk is full, where it finds it so.
    fn operation(&mut self) -> Option<Full> {
        self.operations += 1;
        let (from, full) = self.full_from?;
        if self.operations < from {
            return None;
        }
        self.full_from = full.lasting.then_some((from, Full { part: None, ..full }));
        Some(full)
    }

    fn check(&self) -> io::Result<()> {
        if self.broken { Err(io::Error::other("the disk is broken")) } else { Ok(()) }
    }
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Len(len) => bytes.resize(*len, 0),
        Change::Write(offset, data) => {
            let end = offset + data.len();
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[*offset..end].copy_from_slice(data);
        }
    }
}

fn index(offset: u64) -> usize {
    usize::try_from(offset).unwrap()
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.0.lock().now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let inner = self.0.0.lock();
        inner.check()?;
        let bytes = inner.now.get(index(offset)..index(offset) + out.len());
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Change::Len(index(len)))
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.change(Change::Write(index(offset), data.to_vec()))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut inner = self.0.0.lock();
        while inner.held {
            inner.stuck = true;
            self.0.1.notify_all();
            self.0.1.wait(&mut inner);
        }
        inner.stuck = false;
        inner.check()?;
        inner.syncs += 1;
        if inner.operation().is_some() {
            // What the system could not write it forgets, and the next sync knows nothing of it.
            inner.unsynced.clear();
            return Err(io::Error::from_raw_os_error(NO_SPACE));
        }
        if inner.fail_from_sync.is_some_and(|from| inner.syncs >= from) {
            inner.broken = true;
            return inner.check();
        }
        let inner = &mut *inner;
        for change in inner.unsynced.drain(..) {
            apply(&mut inner.synced, &change);
        }
        Ok(())
    }
}
