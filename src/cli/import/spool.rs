//! The documents of an import by phase, on disk: what owns comes before what is owned, in whatever order it was read,
//! and the memory stays small.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::documents::Format;

/// Where a document came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// The index of its file.
    pub file: u32,
    /// Which document of the file it is, from 1.
    pub number: u64,
    /// The line of the file that it begins on, from 1.
    pub line: u64,
}

/// A document, not parsed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Spooled {
    pub place: Place,
    pub format: Format,
    pub text: Vec<u8>,
}

/// The documents of one phase.
pub(super) struct Spool {
    file: BufWriter<File>,
    pub count: u64,
}

impl Spool {
    /// An empty one: a file in `dir` that has no name any more, so that nothing stays of it.
    pub(super) fn new(dir: &Path) -> io::Result<Self> {
        let name = format!(".imagehub-import-{:016x}", rand::random::<u64>());
        let path = dir.join(name);
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        std::fs::remove_file(&path)?;
        Ok(Self { file: BufWriter::with_capacity(1 << 20, file), count: 0 })
    }

    /// Adds a document.
    pub(super) fn add(&mut self, place: Place, format: Format, text: &[u8]) -> io::Result<()> {
        let mut head = [0; HEAD];
        head[..4].copy_from_slice(&place.file.to_le_bytes());
        head[4..12].copy_from_slice(&place.number.to_le_bytes());
        head[12..20].copy_from_slice(&place.line.to_le_bytes());
        head[20] = u8::from(format == Format::Json);
        head[21..].copy_from_slice(&(text.len() as u64).to_le_bytes());
        self.count += 1;
        self.file.write_all(&head)?;
        self.file.write_all(text)
    }

    /// Reads them in the order in which they were added.
    pub(super) fn into_documents(self) -> io::Result<impl Iterator<Item = io::Result<Spooled>>> {
        let mut file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.seek(SeekFrom::Start(0))?;
        let mut input = BufReader::with_capacity(1 << 20, file);
        Ok((0..self.count).map(move |_| read(&mut input)))
    }
}

/// Bytes before a document's text.
const HEAD: usize = 29;

fn read(input: &mut impl Read) -> io::Result<Spooled> {
    let mut head = [0; HEAD];
    input.read_exact(&mut head)?;
    let number = |at: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&head[at..at + 8]);
        u64::from_le_bytes(bytes)
    };
    let mut file = [0; 4];
    file.copy_from_slice(&head[..4]);
    let place = Place { file: u32::from_le_bytes(file), number: number(4), line: number(12) };
    let mut text = vec![0; usize::try_from(number(21)).map_err(io::Error::other)?];
    input.read_exact(&mut text)?;
    Ok(Spooled { place, format: if head[20] == 1 { Format::Json } else { Format::Yaml }, text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_is_read_in_order_and_no_file_stays() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::new(dir.path()).unwrap();
        let place = |number| Place { file: 3, number, line: number * 10 };
        for number in 1..=100 {
            spool.add(place(number), Format::Yaml, format!("a: {number}").as_bytes()).unwrap();
        }
        spool.add(place(101), Format::Json, b"").unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        let all: Vec<_> = spool.into_documents().unwrap().collect::<io::Result<_>>().unwrap();
        assert_eq!(all.len(), 101);
        assert_eq!(all[41], Spooled { place: place(42), format: Format::Yaml, text: b"a: 42".to_vec() });
        assert_eq!(all[100].format, Format::Json);
    }
}
