//! The whole catalogue in memory, as immutable snapshots. One task, the [`Writer`], applies the
//! storage's commits in order of revision, publishes a snapshot, and then wakes those who wait: whoever
//! is woken for a revision sees a snapshot that has it. [`Visible`] is the only public reader.

mod cached;
mod changes;
mod chunks;
mod decoders;
mod event;
mod filling;
mod names;
mod record;
mod set;
mod sight;
mod snapshot;
#[cfg(test)]
mod tests;
mod visible;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::watch;

use crate::api::Kind;
use crate::storage::{Commit, ReadError, Storage};
pub use crate::storage::{Key, Revision};

pub use cached::Cached;
pub use changes::Changes;
use decoders::Decoders;
pub use event::{ENCODINGS, Event};
use filling::Filling;
pub use record::{
    Damaged, Digest, Envelope, Field, ImageHead, OrganizationHead, Owner, PackHead, Record, RepositoryHead, encode,
    organization_of,
};
pub use set::Set;
pub use sight::Sight;
use snapshot::Snapshot;
pub use snapshot::repository_of;
pub use visible::{NamedImage, Query, Visible, selects};

/// How much history is kept in memory, for watches to resume and lists to go on.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// At most so long.
    pub age: Duration,
    /// At most so many bytes of versions that are no longer current.
    pub bytes: usize,
}

impl Default for Window {
    fn default() -> Self {
        Self { age: Duration::from_mins(5), bytes: 150_000_000 }
    }
}

/// Why the graph can't be filled, or can't go on.
#[derive(Debug, Clone, thiserror::Error)]
pub enum GraphError {
    /// The storage can't be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A record in it can't be.
    #[error("{0}; nothing was changed; restore a copy of the data, or take the record out")]
    Damaged(#[from] Damaged),
    /// The storage's watch ended.
    #[error("the storage's watch ended")]
    Ended,
}

/// The catalogue.
#[derive(Debug)]
pub struct Graph {
    current: ArcSwap<Snapshot>,
    /// The revision published, for those who wait for their own write.
    published: watch::Sender<Revision>,
    /// The same, but only moved when an object of the kind changes, for watchers.
    changed: [watch::Sender<Revision>; Kind::ALL.len()],
    /// The same for those who wait for one object.
    named: [changes::Named; Kind::ALL.len()],
    /// Moved when somebody may see what they didn't, or no longer what they did.
    sight: watch::Sender<Revision>,
}

/// The one who writes the graph.
pub struct Writer {
    graph: Arc<Graph>,
    window: Window,
    storage: Arc<dyn Storage>,
    commits: BoxStream<'static, Result<Vec<Commit>, ReadError>>,
    /// Who makes the records; nobody else does where there were few at the start.
    decoders: Option<Decoders>,
}

impl Graph {
    /// Fills a graph with all that `storage` has. The graph is complete when this returns; it goes on
    /// only while the writer runs.
    ///
    /// # Errors
    /// The storage or a record in it can't be read.
    pub async fn open(storage: Arc<dyn Storage>, window: Window) -> Result<(Arc<Self>, Writer), GraphError> {
        let target = storage.current().await?;
        let (snapshot, decoders) = filled(&*storage).await?;
        let revision = snapshot.revision;
        let graph = Arc::new(Self {
            published: watch::Sender::new(revision),
            changed: std::array::from_fn(|_| watch::Sender::new(revision)),
            named: Default::default(),
            sight: watch::Sender::new(revision),
            current: ArcSwap::from_pointee(snapshot),
        });
        let commits = storage.watch(revision);
        let mut writer = Writer { graph: Arc::clone(&graph), window, storage, commits, decoders };
        while graph.revision() < target {
            writer.step().await?;
        }
        Ok((graph, writer))
    }

    /// The highest revision that is published.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.current.load().revision
    }

    /// What whoever has `sight` sees now.
    #[must_use]
    pub fn visible(&self, sight: Sight) -> Visible {
        Visible::new(self.current.load_full(), sight)
    }

    /// Waits until `revision` is published. Never returns if the writer has ended: then the process ends, too.
    pub async fn reached(&self, revision: Revision) {
        let mut published = self.published.subscribe();
        // The sender lives as long as self.
        let _ = published.wait_for(|now| *now >= revision).await;
    }

    /// Tells of changes of `kind`: the value is the revision of the last one published.
    #[must_use]
    pub fn changes(&self, kind: Kind) -> watch::Receiver<Revision> {
        self.changed[kind as usize].subscribe()
    }

    /// The same, with what [`Changes`] knows.
    #[must_use]
    pub fn changes_of_kind(&self, kind: Kind) -> Changes {
        Changes::of_kind(self.changes(kind))
    }

    /// Tells of the changes of one object, whether it is there yet or not.
    #[must_use]
    pub fn changes_of(self: &Arc<Self>, key: Key) -> Changes {
        Changes::of_object(self, key)
    }

    /// Tells of every change.
    #[must_use]
    pub fn all_changes(&self) -> watch::Receiver<Revision> {
        self.published.subscribe()
    }
}

impl Writer {
    /// Applies what the storage brings, for ever. A critical task.
    ///
    /// # Errors
    /// The storage's watch ended, or brought what can't be read.
    pub async fn run(mut self) -> GraphError {
        loop {
            if let Err(error) = self.step().await {
                return error;
            }
        }
    }

    /// Says what time it is, on the store's clock in milliseconds, when the graph begins to be kept: what it holds
    /// did not age since its last commit, so that being stopped expires no watch.
    pub fn resume_at(&mut self, now_ms: i64) {
        let mut snapshot = Snapshot::clone(&self.graph.current.load());
        snapshot.resumed = (snapshot.revision, now_ms.saturating_sub(snapshot.at_ms).max(0));
        self.graph.current.store(Arc::new(snapshot));
    }

    /// Reads everything anew: the storage no longer has what came after the last commit, or that was undone. Nothing is
    /// known of what happened in between, so all watches end, and older versions are gone.
    async fn begin_anew(&mut self) -> Result<(), GraphError> {
        let (mut snapshot, decoders) = filled(&*self.storage).await?;
        self.decoders = decoders;
        let before = self.graph.current.load_full();
        snapshot.generation = before.generation + 1;
        snapshot.at_ms = snapshot.at_ms.max(before.at_ms);
        snapshot.resumed = (snapshot.revision, before.resumed.1);
        let revision = snapshot.revision;
        self.commits = self.storage.watch(revision);
        self.graph.current.store(Arc::new(snapshot));
        for sender in &self.graph.changed {
            sender.send_replace(revision);
        }
        self.graph.named.iter().for_each(|named| named.tell_all(revision));
        self.graph.published.send_replace(revision);
        Ok(())
    }

    async fn step(&mut self) -> Result<(), GraphError> {
        let commits = match self.commits.next().await.ok_or(GraphError::Ended)? {
            Err(ReadError::Compacted { .. }) => return self.begin_anew().await,
            commits => commits?,
        };
        let mut snapshot = Snapshot::clone(&self.graph.current.load());
        let mut changed = [None; Kind::ALL.len()];
        let keys: Vec<_> = commits.iter().map(|commit| (commit.key.clone(), commit.revision)).collect();
        let sight = snapshot.sight_log.newest();
        let records = match &mut self.decoders {
            Some(decoders) => decoders.decode(&commits).await?,
            None => commits.iter().map(decoders::decode).collect::<Result<_, _>>()?,
        };
        for (commit, record) in commits.into_iter().zip(records) {
            changed[commit.key.kind as usize] = Some(commit.revision);
            snapshot.apply(&commit.key, commit.revision, commit.at_ms, record);
        }
        let age = i64::try_from(self.window.age.as_millis()).unwrap_or(i64::MAX);
        let horizon = snapshot.at_ms.saturating_sub(age);
        let trimmed = snapshot.trim(self.window.bytes, horizon);
        let revision = snapshot.revision;
        let sight_changed = snapshot.sight_log.newest() > sight;
        if sight_changed {
            // A change of sight has no event of these kinds, but their watchers must look.
            changed[Kind::Image as usize] = Some(revision);
            changed[Kind::Repository as usize] = Some(revision);
        }
        self.graph.current.store(Arc::new(snapshot));
        // Only now: whoever misses what is cut sees, when it looks again, that the floor is above it.
        for version in trimmed {
            version.older.cut();
        }
        for (key, revision) in keys {
            self.graph.named[key.kind as usize].tell(&key.name, revision);
        }
        if sight_changed {
            self.graph.sight.send_replace(revision);
        }
        // First these: whoever reads its own write may look at once for the event of it.
        for (sender, revision) in self.graph.changed.iter().zip(changed) {
            if let Some(revision) = revision {
                sender.send_replace(revision);
            }
        }
        self.graph.published.send_replace(revision);
        Ok(())
    }
}

/// A snapshot of all that `storage` has, and who has made the records in it.
async fn filled(storage: &dyn Storage) -> Result<(Snapshot, Option<Decoders>), GraphError> {
    let mut filling = Filling::default();
    let mut parts = storage.state_in_parts();
    while let Some(part) = parts.next().await {
        filling.take(part?)?;
    }
    Ok(filling.finish()?)
}
