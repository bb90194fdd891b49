//! The one place that writes to the storage.

use std::sync::Arc;

use bytes::Bytes;

use super::{OBJECT_LIMIT, Registry};
use crate::api::Object;
use crate::error::Error;
use crate::graph::{Envelope, Key, Record, Revision, encode};
use crate::storage::{CommitError, Expect, Write};

/// Why a commit was not made.
pub(super) enum Failed {
    /// Another came first: decide again.
    Overtaken,
    /// It can't be.
    Error(Error),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl Registry {
    /// Stores an object, and returns when everyone sees it.
    pub(super) async fn store(
        &self,
        key: Key,
        expect: Expect,
        envelope: &Envelope,
        object: &Object,
    ) -> Result<Arc<Record>, Failed> {
        let stored = encode_within_limit(envelope, object)?;
        let revision = self.commit(key.clone(), expect, Some(stored.clone())).await?;
        decode(key, revision, &stored).map_err(Failed::Error)
    }

    /// Takes an object out, and returns when everyone sees that it is gone.
    pub(super) async fn take_out(&self, key: Key, at: Revision) -> Result<Revision, Failed> {
        self.commit(key, Expect::At(at), None).await
    }

    async fn commit(&self, key: Key, expect: Expect, value: Option<Bytes>) -> Result<Revision, Failed> {
        match self.storage.commit(Write { key, expect, value }).await {
            Ok(commit) => {
                self.graph.reached(commit.revision).await;
                Ok(commit.revision)
            }
            Err(CommitError::Conflict { current }) => {
                // What came first may be committed and not yet published: without it the next decision
                // would be the same.
                if let Some(current) = current {
                    self.graph.reached(current).await;
                } else {
                    tokio::task::yield_now().await;
                }
                Err(Failed::Overtaken)
            }
            Err(error @ CommitError::Busy(_)) => Err(Failed::Error(Error::TooManyRequests(error.to_string()))),
            Err(error @ CommitError::NoSpace { .. }) => {
                Err(Failed::Error(Error::InsufficientStorage(error.to_string())))
            }
            Err(error @ CommitError::Stopped(_)) => Err(Failed::Error(Error::internal(error))),
        }
    }
}

/// What `object` would be, were it stored: for dry runs.
pub(super) fn as_if_stored(
    key: Key,
    revision: Revision,
    envelope: &Envelope,
    object: &Object,
) -> Result<Arc<Record>, Error> {
    let stored = match encode_within_limit(envelope, object) {
        Ok(stored) => stored,
        Err(Failed::Error(error)) => return Err(error),
        Err(Failed::Overtaken) => return Err(super::modified(&key)),
    };
    decode(key, revision, &stored)
}

/// Whether an object that is to be made is small enough to be stored.
pub(super) fn check_size(object: &Object) -> Result<(), Error> {
    match encode_within_limit(&Envelope::default(), object) {
        Err(Failed::Error(error)) => Err(error),
        Ok(_) | Err(Failed::Overtaken) => Ok(()),
    }
}

fn encode_within_limit(envelope: &Envelope, object: &Object) -> Result<Bytes, Failed> {
    let stored = encode(envelope, object);
    if stored.len() > OBJECT_LIMIT {
        return Err(Failed::Error(Error::TooLarge(format!(
            "the object is {} bytes large, and {OBJECT_LIMIT} is the most that is stored: shorten its docs, annotations \
             or lists",
            stored.len()
        ))));
    }
    Ok(stored)
}

fn decode(key: Key, revision: Revision, stored: &Bytes) -> Result<Arc<Record>, Error> {
    Record::decode(key, revision, stored).map(Arc::new).map_err(Error::internal)
}
