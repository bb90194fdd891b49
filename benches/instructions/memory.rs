//! A storage in memory, on the thread that asks.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use imagehub::storage::{Commit, CommitError, Expect, Key, ReadError, Revision, State, Storage, Write};
use parking_lot::Mutex;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio_util::sync::CancellationToken;

#[derive(Default)]
struct Inner {
    revision: u64,
    keys: BTreeMap<Key, Commit>,
    watchers: Vec<UnboundedSender<Commit>>,
}

/// The storage.
#[derive(Default)]
pub struct Memory(Mutex<Inner>);

impl Memory {
    /// Commits without an expectation.
    pub fn put(&self, key: Key, value: Bytes) -> Revision {
        let mut inner = self.0.lock();
        inner.commit(key, Some(value)).revision
    }
}

impl Inner {
    fn commit(&mut self, key: Key, value: Option<Bytes>) -> Commit {
        self.revision += 1;
        let commit = Commit { revision: Revision(self.revision), at_ms: 1_800_000_000_000, key, value };
        if commit.value.is_some() {
            self.keys.insert(commit.key.clone(), commit.clone());
        } else {
            self.keys.remove(&commit.key);
        }
        self.watchers.retain(|watcher| watcher.send(commit.clone()).is_ok());
        commit
    }
}

impl Storage for Memory {
    fn identity(&self) -> imagehub::storage::Identity {
        imagehub::storage::Identity { store_id: uuid::Uuid::nil(), epoch: 1 }
    }

    fn commit(&self, write: Write) -> BoxFuture<'_, Result<Commit, CommitError>> {
        let mut inner = self.0.lock();
        let current = inner.keys.get(&write.key).map(|commit| commit.revision);
        let expected = match write.expect {
            Expect::Absent => None,
            Expect::At(revision) => Some(revision),
        };
        let done = if current == expected {
            Ok(inner.commit(write.key, write.value))
        } else {
            Err(CommitError::Conflict { current })
        };
        Box::pin(async move { done })
    }

    fn get(&self, key: Key) -> BoxFuture<'_, Result<Option<Commit>, ReadError>> {
        let found = self.0.lock().keys.get(&key).cloned();
        Box::pin(async move { Ok(found) })
    }

    fn current(&self) -> BoxFuture<'_, Result<Revision, ReadError>> {
        let revision = Revision(self.0.lock().revision);
        Box::pin(async move { Ok(revision) })
    }

    fn state(&self) -> BoxFuture<'_, Result<State, ReadError>> {
        let inner = self.0.lock();
        let mut commits: Vec<_> = inner.keys.values().cloned().collect();
        commits.sort_by_key(|commit| commit.revision);
        let state = State { revision: Revision(inner.revision), commits };
        Box::pin(async move { Ok(state) })
    }

    fn watch(&self, _after: Revision) -> BoxStream<'static, Result<Vec<Commit>, ReadError>> {
        let (sender, receiver) = unbounded_channel();
        self.0.lock().watchers.push(sender);
        let commits = futures::stream::unfold(receiver, |mut receiver| async move {
            Some((Ok(vec![receiver.recv().await?]), receiver))
        });
        commits.boxed()
    }

    fn stopped(&self) -> BoxFuture<'static, String> {
        let never = CancellationToken::new();
        Box::pin(async move {
            never.cancelled().await;
            String::new()
        })
    }
}
