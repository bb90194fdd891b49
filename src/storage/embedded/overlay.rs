//! A file that redb may write to without changing it: what is written stays in memory. A check can so
//! open a store that needs recovery, and verify it, in a directory that it must not touch.

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;

use parking_lot::Mutex;
use redb::backends::FileBackend;
use redb::{BackendError, StorageBackend};

/// Bytes that are kept together.
const BLOCK: u64 = 4096;

#[derive(Debug)]
struct Scratch {
    len: u64,
    /// How much of the file still shows through where there is no block.
    shows: u64,
    blocks: BTreeMap<u64, Vec<u8>>,
}

#[derive(Debug)]
pub(super) struct Overlay {
    file: FileBackend,
    scratch: Mutex<Scratch>,
}

impl Overlay {
    pub(super) fn new(file: FileBackend) -> io::Result<Self> {
        let len = file.len()?;
        Ok(Self { file, scratch: Mutex::new(Scratch { len, shows: len, blocks: BTreeMap::new() }) })
    }

    fn read_through(&self, scratch: &Scratch, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let shown = usize::try_from(scratch.shows.saturating_sub(offset)).unwrap_or(usize::MAX).min(out.len());
        let (from_file, beyond) = out.split_at_mut(shown);
        if !from_file.is_empty() {
            self.file.read(offset, from_file)?;
        }
        beyond.fill(0);
        let end = offset + out.len() as u64;
        for (&number, block) in scratch.blocks.range(offset / BLOCK..end.div_ceil(BLOCK)) {
            let start = number * BLOCK;
            let (from, to) = (start.max(offset), (start + BLOCK).min(end));
            out[index(from - offset)..index(to - offset)]
                .copy_from_slice(&block[index(from - start)..index(to - start)]);
        }
        Ok(())
    }
}

fn index(offset: u64) -> usize {
    usize::try_from(offset).expect("an offset inside a slice in memory")
}

fn out_of_range(offset: u64, bytes: usize, len: u64) -> io::Result<()> {
    match offset.checked_add(bytes as u64) {
        Some(end) if end <= len => Ok(()),
        _ => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "beyond the end of the file")),
    }
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.scratch.lock().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let scratch = self.scratch.lock();
        out_of_range(offset, out.len(), scratch.len)?;
        self.read_through(&scratch, offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut scratch = self.scratch.lock();
        scratch.len = len;
        scratch.shows = scratch.shows.min(len);
        drop(scratch.blocks.split_off(&len.div_ceil(BLOCK)));
        if let Some(last) = scratch.blocks.get_mut(&(len / BLOCK)) {
            last[index(len % BLOCK)..].fill(0);
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut scratch = self.scratch.lock();
        out_of_range(offset, data.len(), scratch.len)?;
        let end = offset + data.len() as u64;
        for number in offset / BLOCK..end.div_ceil(BLOCK) {
            let start = number * BLOCK;
            let mut block = vec![0; index(BLOCK)];
            self.read_through(&scratch, start, &mut block)?;
            let (from, to) = (start.max(offset), (start + BLOCK).min(end));
            block[index(from - start)..index(to - start)]
                .copy_from_slice(&data[index(from - offset)..index(to - offset)]);
            scratch.blocks.insert(number, block);
        }
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    // A shared lock for each exclusive one: the file is open for reading only, which allows no other, and
    // a shared one is enough to be refused where a server has the store open.
    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}
