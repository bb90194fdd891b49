//! Answers that a snapshot alone must not give. Where another process may write to the storage, a snapshot can be
//! behind it: then "there is none", "it is another version" and "nothing changes" are only said once the storage
//! has been asked, too.

use super::commit::unread;
use super::{ATTEMPTS, Registry, Written, modified};
use crate::error::Error;
use crate::graph::{Key, Revision, Sight};

/// Something that a verb answers.
pub(super) trait Decided {
    /// Whether it says that the object stays at `seen`: nothing was written.
    fn is_unchanged(&self, seen: Option<Revision>) -> bool;
}

impl Decided for Written {
    fn is_unchanged(&self, seen: Option<Revision>) -> bool {
        Some(self.record.revision) == seen
    }
}

impl Decided for super::Deleted {
    fn is_unchanged(&self, seen: Option<Revision>) -> bool {
        matches!(self, Self::Terminating(_, record) if Some(record.revision) == seen)
    }
}

/// A verb's decision about one key.
#[derive(Debug)]
pub(super) struct Settling<'a> {
    registry: &'a Registry,
    key: Key,
    /// The revision of the key's object in the snapshot before the verb decided.
    seen: Option<Revision>,
    tries: usize,
}

impl Registry {
    /// A decision about `key` that is about to be made.
    pub(super) fn settling(&self, key: Key) -> Settling<'_> {
        let mut settling = Settling { registry: self, key, seen: None, tries: 0 };
        settling.look();
        settling
    }
}

impl Settling<'_> {
    fn look(&mut self) {
        if self.registry.storage.is_shared() {
            let everything = self.registry.reader_for(Sight::Everything).visible;
            self.seen = everything.get(self.key.kind, &self.key.name).map(|record| record.revision);
        }
    }

    /// Whether `answer` may be given. If not, the verb is to decide again, from a newer snapshot: it refused, or left
    /// things as they are, while the storage has another version.
    ///
    /// # Errors
    /// The storage can't be read; or the object changed so often that no decision held.
    pub(super) async fn is_settled<T: Decided>(&mut self, answer: &Result<T, Error>) -> Result<bool, Error> {
        let doubtful = match answer {
            Ok(decided) => decided.is_unchanged(self.seen),
            Err(error) => matches!(error.code(), 404 | 409 | 422),
        };
        if !doubtful || !self.registry.storage.is_shared() {
            return Ok(true);
        }
        let stored = self.registry.storage.get(self.key.clone()).await.map_err(unread)?;
        let stored = stored.filter(|commit| commit.value.is_some()).map(|commit| commit.revision);
        if stored == self.seen {
            return Ok(true);
        }
        self.tries += 1;
        if self.tries == ATTEMPTS {
            return Err(modified(&self.key));
        }
        let newest = match stored {
            Some(revision) => revision,
            // A deletion has left no revision of its own to wait for.
            None => self.registry.storage.current().await.map_err(unread)?,
        };
        self.registry.wait_for(newest).await?;
        self.look();
        Ok(false)
    }
}
