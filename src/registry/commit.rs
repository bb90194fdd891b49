//! The one place that writes to the storage.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use super::{OBJECT_LIMIT, Registry, SERVERS_SHARE};
use crate::api::Object;
use crate::error::Error;
use crate::graph::{Envelope, Key, Record, Revision, encode};
use crate::storage::{CommitError, Expect, ReadError, Write};

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

/// How long a commit is waited for to be seen by everyone.
const ECHO_WAIT: Duration = Duration::from_secs(10);

/// About what an envelope takes at most beside the object, in bytes.
const ENVELOPE_ROOM: usize = 1024;

impl Registry {
    /// Stores an object, and returns when everyone sees it.
    pub(super) async fn store(
        &self,
        key: Key,
        expect: Expect,
        envelope: &Envelope,
        object: &Object,
    ) -> Result<Arc<Record>, Failed> {
        let stored = encode_within(envelope, object, OBJECT_LIMIT + SERVERS_SHARE)?;
        // What can't be read again must never be stored: nobody could start from it.
        let mut record = decode(key.clone(), Revision::default(), &stored)?;
        record.revision = self.commit(key, expect, Some(stored)).await?;
        Ok(Arc::new(record))
    }

    /// Takes an object out, and returns when everyone sees that it is gone.
    pub(super) async fn take_out(&self, key: Key, at: Revision) -> Result<Revision, Failed> {
        self.commit(key, Expect::At(at), None).await
    }

    async fn commit(&self, key: Key, expect: Expect, value: Option<Bytes>) -> Result<Revision, Failed> {
        match self.storage.commit(Write { key, expect, value }).await {
            Ok(commit) => {
                // Made is made: where the storage is slow to show it, the answer is that of the commit.
                let _ = timeout(ECHO_WAIT, self.graph.reached(commit.revision)).await;
                Ok(commit.revision)
            }
            Err(CommitError::Conflict { current }) => {
                // What came first may be committed and not yet published: without it the next decision
                // would be the same. A deletion has left no revision of its own to wait for.
                let first = match current {
                    Some(current) => current,
                    None => self.storage.current().await.map_err(unread)?,
                };
                match timeout(ECHO_WAIT, self.graph.reached(first)).await {
                    Ok(()) => Err(Failed::Overtaken),
                    Err(_) => Err(Failed::Error(Error::Unavailable(
                        "another write came first, and the store is slow to show it; try again".to_owned(),
                    ))),
                }
            }
            Err(error @ CommitError::Busy(_)) => Err(Failed::Error(Error::TooManyRequests(error.to_string()))),
            Err(error @ CommitError::NoSpace { .. }) => {
                Err(Failed::Error(Error::InsufficientStorage(error.to_string())))
            }
            Err(error @ CommitError::TooLarge { .. }) => Err(Failed::Error(Error::TooLarge(error.to_string()))),
            Err(error @ CommitError::Unavailable(_)) => Err(Failed::Error(Error::Unavailable(error.to_string()))),
            Err(error @ CommitError::Unknown(_)) => Err(Failed::Error(Error::OutcomeUnknown(error.to_string()))),
            Err(error @ (CommitError::Refused(_) | CommitError::Stopped(_))) => {
                Err(Failed::Error(Error::internal(error)))
            }
        }
    }
}

pub(super) fn unread(error: ReadError) -> Error {
    match error {
        ReadError::Unavailable(_) => Error::Unavailable(error.to_string()),
        other => Error::internal(other),
    }
}

/// What `object` would be, were it stored: for dry runs, and to check what a client wants stored.
pub(super) fn as_if_stored(
    key: Key,
    revision: Revision,
    envelope: &Envelope,
    object: &Object,
) -> Result<Arc<Record>, Error> {
    let stored = encode_within(envelope, object, OBJECT_LIMIT)?;
    decode(key, revision, &stored).map(Arc::new)
}

/// What `record` would be, were it changed. It may stay as large as it is, be that by what the server added.
pub(super) fn as_if_changed(record: &Record, envelope: &Envelope, object: &Object) -> Result<Arc<Record>, Error> {
    let limit = OBJECT_LIMIT.max(record.json().len() + ENVELOPE_ROOM);
    let stored = encode_within(envelope, object, limit)?;
    decode(record.key.clone(), record.revision, &stored).map(Arc::new)
}

/// Whether an object that is to be made is small enough to be stored.
pub(super) fn check_size(object: &Object) -> Result<(), Error> {
    encode_within(&Envelope::default(), object, OBJECT_LIMIT).map(|_| ())
}

fn encode_within(envelope: &Envelope, object: &Object, limit: usize) -> Result<Bytes, Error> {
    let stored = encode(envelope, object);
    if stored.len() > limit {
        return Err(Error::TooLarge(format!(
            "the object is {} bytes large, and {OBJECT_LIMIT} is the most that is stored: shorten its docs, annotations \
             or lists",
            stored.len()
        )));
    }
    Ok(stored)
}

fn decode(key: Key, revision: Revision, stored: &Bytes) -> Result<Record, Error> {
    Record::decode(key, revision, stored).map_err(Error::internal)
}
