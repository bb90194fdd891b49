//! The files of an import: names, directories, standard input; gzip, noticed by its first bytes.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

/// The endings of the files that are read from a directory.
const ENDINGS: [&str; 5] = ["yaml", "yml", "json", "jsonl", "ndjson"];
/// How deep directories are followed.
const MAX_FOLDERS: usize = 32;
/// How many times its length a compressed file may grow, beyond [`GROWTH_FREE`]. Manifests grow ten to fifty times.
const MAX_GROWTH: u64 = 200;
/// Bytes that a compressed file may grow to whatever its length.
const GROWTH_FREE: u64 = 64 * 1024 * 1024;
/// Bytes read at a time.
const BUFFER: usize = 256 * 1024;

/// The files that `named` means, in order: a file as it is, those of a directory and its directories by name.
pub(super) fn files(named: &[PathBuf]) -> Result<Vec<PathBuf>, String> {
    let mut files = Vec::new();
    for path in named {
        if path != Path::new("-") && fs::metadata(path).is_ok_and(|metadata| metadata.is_dir()) {
            let before = files.len();
            folder(path, 0, &mut files)?;
            if files.len() == before {
                return Err(format!("{} has no files that end with .{}", path.display(), ENDINGS.join(", .")));
            }
        } else {
            files.push(path.clone());
        }
    }
    Ok(files)
}

fn folder(path: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), String> {
    let at = |error: io::Error| format!("can't read {}: {error}", path.display());
    if depth > MAX_FOLDERS {
        return Err(format!("{} is more than {MAX_FOLDERS} directories deep", path.display()));
    }
    let mut entries = fs::read_dir(path).and_then(Iterator::collect::<io::Result<Vec<_>>>).map_err(at)?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        // What a link points to counts, but for directories: no circle.
        if entry.file_type().map_err(at)?.is_dir() {
            folder(&path, depth + 1, files)?;
        } else if is_manifest(&path) && fs::metadata(&path).is_ok_and(|metadata| metadata.is_file()) {
            files.push(path);
        }
    }
    Ok(())
}

fn is_manifest(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    name.rsplit_once('.').is_some_and(|(_, ending)| ENDINGS.contains(&ending))
}

/// Opens a file, `-` for standard input; decompresses what is compressed.
pub(super) fn open(path: &Path) -> io::Result<Box<dyn BufRead>> {
    if path == Path::new("-") { expand(io::stdin()) } else { expand(File::open(path)?) }
}

fn expand(input: impl Read + 'static) -> io::Result<Box<dyn BufRead>> {
    let mut input = BufReader::with_capacity(BUFFER, input);
    // Of a pipe, the first read may bring one byte only: a buffer of one is filled up by chaining.
    let mut first = [0; 2];
    let mut have = 0;
    while have < first.len() {
        match input.read(&mut first[have..])? {
            0 => break,
            read => have += read,
        }
    }
    let whole = io::Cursor::new(first[..have].to_vec()).chain(input);
    if first[..have] != [0x1f, 0x8b] {
        return Ok(Box::new(BufReader::with_capacity(BUFFER, whole)));
    }
    let counted = Counted { input: whole, read: 0 };
    let bounded = Bounded { input: MultiGzDecoder::new(counted), written: 0 };
    Ok(Box::new(BufReader::with_capacity(BUFFER, bounded)))
}

/// Counts the compressed bytes.
struct Counted<R> {
    input: R,
    read: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(out)?;
        self.read += read as u64;
        Ok(read)
    }
}

/// Ends what grows out of all proportion.
struct Bounded<R> {
    input: MultiGzDecoder<Counted<R>>,
    written: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(out).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => io::Error::new(error.kind(), "its gzip data ends too soon"),
            _ => io::Error::new(error.kind(), format!("its gzip data can't be read: {error}")),
        })?;
        self.written += read as u64;
        if self.written > GROWTH_FREE.saturating_add(self.input.get_ref().read.saturating_mul(MAX_GROWTH)) {
            let why = format!("its gzip data grows to more than {MAX_GROWTH} times its length: decompress it by hand");
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn read(bytes: Vec<u8>) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        expand(io::Cursor::new(bytes))?.read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn what_is_compressed_is_noticed_by_its_first_bytes() {
        for plain in [&b""[..], b"\x1f", b"a: 1\n"] {
            assert_eq!(read(plain.to_vec()).unwrap(), plain);
            assert_eq!(read(gzip(plain)).unwrap(), plain);
        }
        let two = [gzip(b"a"), gzip(b"b")].concat();
        assert_eq!(read(two).unwrap(), b"ab");
    }

    #[test]
    fn what_is_cut_off_or_grows_without_end_is_an_error() {
        let whole = gzip(b"some manifest that is long enough");
        assert!(read(whole[..whole.len() - 4].to_vec()).unwrap_err().to_string().contains("ends too soon"));
        let bomb = gzip(&vec![b' '; 100 << 20]);
        let error = read(bomb).unwrap_err().to_string();
        assert!(error.contains("more than 200 times"), "{error}");
    }

    #[test]
    fn a_directory_is_read_in_order_of_name_and_only_manifests() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.yaml", "a.JSON", "c.txt", "d/x.yml.gz", "README"] {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let found = files(&[dir.path().to_owned()]).unwrap();
        let names: Vec<_> = found.iter().map(|p| p.strip_prefix(dir.path()).unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["a.JSON", "b.yaml", "d/x.yml.gz"]);
        let empty = tempfile::tempdir().unwrap();
        assert!(files(&[empty.path().to_owned()]).unwrap_err().contains("has no files"));
    }
}
