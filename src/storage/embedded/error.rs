//! Why a data directory could not be opened, in a sentence for the person who started the server.

use std::io;
use std::path::{Path, PathBuf};

use redb::{DatabaseError, StorageError};

/// Why a data directory could not be opened. Nothing in it was overwritten.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error(
        "the data directory {} is in use by another process: stop the imagehub that has it open, or name another \
         directory", .dir.display()
    )]
    InUse {
        /// The directory.
        dir: PathBuf,
    },
    /// A later version of the program wrote it.
    #[error(
        "{} has format {found}, this imagehub knows formats up to {known}: start the newer version that wrote it",
        .path.display()
    )]
    Newer {
        /// The data file.
        path: PathBuf,
        /// The format it has.
        found: u32,
        /// The newest format known here.
        known: u32,
    },
    /// The path of the directory is something else.
    #[error("{} is not a directory: name a directory for the data, or a path where one can be made", .path.display())]
    NotADirectory {
        /// The path.
        path: PathBuf,
    },
    /// There is no store to check.
    #[error("there is no catalogue in {}: no file {} is in it", .dir.display(), super::FILE)]
    Missing {
        /// The directory.
        dir: PathBuf,
    },
    /// Its permissions, or a read-only file system, forbid it.
    #[error(
        "{} can't be read and written ({source}): give the server's user the right to, or name another directory",
        .path.display()
    )]
    NotPermitted {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is too little space to begin.
    #[error(
        "too little free space for the data in {} ({needed} bytes must be free): free some, or name another directory",
        .path.display()
    )]
    NoSpace {
        /// The file or directory.
        path: PathBuf,
        /// Bytes that must be free.
        needed: u64,
    },
    /// It is a file of another program.
    #[error("{} is no imagehub catalogue ({what}): name another directory, or move the file away", .path.display())]
    Foreign {
        /// The data file.
        path: PathBuf,
        /// How that was seen.
        what: String,
    },
    /// It does not read as it was written.
    #[error(
        "{} is damaged ({what}). Nothing was changed: put a backup in its place, or move it away to begin with an \
         empty catalogue", .path.display()
    )]
    Damaged {
        /// The data file.
        path: PathBuf,
        /// What was found.
        what: String,
    },
    /// The system failed in another way.
    #[error("{} can't be opened: {source}", .path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl OpenError {
    pub(super) fn damaged(path: &Path, what: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), what: what.into() }
    }

    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Self::NotPermitted { path, source },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::NoSpace { path, needed: super::MIN_FREE_BYTES }
            }
            io::ErrorKind::NotADirectory => Self::NotADirectory { path },
            // redb says so of a file without its magic number, and of an empty one.
            io::ErrorKind::InvalidData => Self::Foreign { path, what: source.to_string() },
            io::ErrorKind::UnexpectedEof => Self::damaged(&path, "it is shorter than it says"),
            _ => Self::Io { path, source },
        }
    }

    pub(super) fn database(path: &Path, error: DatabaseError) -> Self {
        match error {
            DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
                Self::InUse { dir: path.parent().unwrap_or(path).to_owned() }
            }
            DatabaseError::Storage(error) => Self::storage(path, error),
            DatabaseError::UpgradeRequired(_) => {
                Self::Foreign { path: path.to_owned(), what: "its database format is older than any of ours".into() }
            }
            other => Self::damaged(path, other.to_string()),
        }
    }

    pub(super) fn storage(path: &Path, error: StorageError) -> Self {
        match error {
            StorageError::Io(source) => Self::io(path, source),
            StorageError::Corrupted(what) => Self::damaged(path, what),
            other => Self::damaged(path, other.to_string()),
        }
    }

    pub(super) fn any(path: &Path, error: redb::Error) -> Self {
        match error {
            redb::Error::Io(source) => Self::io(path, source),
            redb::Error::DatabaseAlreadyOpen => Self::database(path, DatabaseError::DatabaseAlreadyOpen),
            other => Self::damaged(path, other.to_string()),
        }
    }
}
