//! The storage in the cluster that the server runs in: a Record of one custom resource for each object, whole, as a
//! string. A revision is the host's resourceVersion of the Record.
//!
//! One task (`follow`) reads all Records and then watches them; what it has seen is `published`, and a watch of ours
//! is a cursor into it. A write is a conditional request to the host and is answered when the watch has shown it
//! (`write`). The host may be away at any time: nothing here stops for it. What can't be done answers so, and what
//! may have been done says that it may ([`CommitError::Unknown`]). That a read is current is shown by writing a nonce
//! and waiting for the watch to show it (`nonce`).
//!
//! There is no history: a start reads the present, and when the host no longer has what came after a point, watches
//! end with [`ReadError::Compacted`] and [`state`](Storage::state) gives the newest.

pub mod condition;
pub mod crd;
mod follow;
mod host;
mod nonce;
mod published;
mod record;
mod shared;
mod watch;
mod write;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use parking_lot::{Mutex, RwLock};
use serde::Deserialize;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tracing::warn;
use uuid::Uuid;

pub use published::{TAIL_BYTES, TAIL_COMMITS, WATCH_BATCH};
pub use record::{Check, VALUE_LIMIT};
pub use shared::{IN_FLIGHT, QUEUE_WRITES};

use super::{Commit, CommitError, Identity, Key, ReadError, Revision, State, Storage, Write};
use crate::clock::SharedClock;
use host::{Backoff, Failure, Host};
use nonce::Nonce;
use published::Published;
use shared::{Shared, Signal};

const CLOSED: &str = "it was closed";
/// How long closing takes at most, where the host doesn't answer.
const CLOSE_TIME: Duration = Duration::from_secs(2);
/// The longest pause between two looks for the definition of Records.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Why the storage can't be opened. That the host isn't there is no reason: it is waited for.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The host has another kind of that name.
    #[error(
        "the cluster's {} is not ours ({what}): install the one in deploy/crd, which needs the other to be gone",
        crd::CRD_NAME
    )]
    Foreign {
        /// How that was seen.
        what: String,
    },
    /// It was closed while it was being opened.
    #[error("the storage was closed before it was filled")]
    Closed,
}

/// The storage in a cluster.
pub struct Kubernetes {
    shared: Arc<Shared>,
    follower: Mutex<Option<JoinHandle<()>>>,
    store_id: Uuid,
}

#[derive(Deserialize)]
struct Definition {
    metadata: DefinitionMetadata,
    #[serde(default)]
    spec: DefinitionSpec,
}

#[derive(Deserialize)]
struct DefinitionMetadata {
    uid: Uuid,
}

#[derive(Default, Deserialize)]
struct DefinitionSpec {
    #[serde(default)]
    scope: String,
    #[serde(default)]
    versions: Vec<DefinitionVersion>,
}

#[derive(Deserialize)]
struct DefinitionVersion {
    name: String,
    #[serde(default)]
    served: bool,
}

impl Kubernetes {
    /// Opens the storage in the cluster that `client` speaks to, and returns when all Records are read. A host that is
    /// slow, absent, or not yet set up is waited for, and the log says what is waited for. `check` says whether a
    /// record can be read: what it refuses is kept apart.
    ///
    /// # Errors
    ///
    /// [`OpenError`], where waiting can't help.
    pub async fn open(client: kube::Client, check: Check, clock: SharedClock) -> Result<Arc<Self>, OpenError> {
        let shared = Arc::new(Shared {
            host: Host(client),
            clock,
            check,
            published: RwLock::new(Published::default()),
            signal: tokio::sync::watch::Sender::new(Signal::default()),
            nonce: Nonce::new(),
            kick: Notify::new(),
            queue: Semaphore::new(QUEUE_WRITES),
            in_flight: Semaphore::new(IN_FLIGHT),
        });
        let store_id = identity(&shared.host).await?;
        let following = Arc::clone(&shared);
        let follower = tokio::spawn(async move {
            // A panic in it is a bug; the store must not look as if it went on.
            let task = tokio::spawn(follow::follow(Arc::clone(&following)));
            let stop = task.abort_handle();
            tokio::select! {
                ended = task => if let Err(error) = ended {
                    following.end(&format!("the task that follows the host cluster ended: {error}"), true);
                },
                () = condition::tell(&following) => {}
                _ = following.ended() => stop.abort(),
            }
        });
        let opened = Arc::new(Self { shared: Arc::clone(&shared), follower: Mutex::new(Some(follower)), store_id });
        let mut signal = shared.signal.subscribe();
        // The sender lives as long as `shared`.
        let filled = signal.wait_for(|signal| signal.generation > 0 || signal.ended.is_some()).await;
        if filled.is_ok_and(|signal| signal.ended.is_none()) { Ok(opened) } else { Err(OpenError::Closed) }
    }

    /// How many Records are kept apart because they can't be read.
    #[must_use]
    pub fn damaged_records(&self) -> usize {
        self.shared.published.read().damaged.len()
    }

    /// Up to `most` of them: the name of the Record, and what is wrong with it.
    #[must_use]
    pub fn damaged(&self, most: usize) -> Vec<(String, String)> {
        let published = self.shared.published.read();
        let mut all: Vec<_> = published.damaged.iter().map(|(name, why)| (name.clone(), why.clone())).collect();
        all.sort_unstable();
        all.truncate(most);
        all
    }

    /// Ends the store in order: watches end, reads and writes are refused. A last nonce keeps the store's time, so that
    /// it doesn't fall though all that had it may have been deleted.
    pub async fn close(&self) {
        let last = timeout(CLOSE_TIME, self.shared.write_nonce()).await;
        if !matches!(last, Ok(Ok(_))) {
            warn!("the host cluster didn't take our last nonce");
        }
        self.end();
        let follower = self.follower.lock().take();
        if let Some(follower) = follower {
            // Its panics are caught inside.
            let _ = follower.await;
        }
    }

    fn end(&self) {
        self.shared.end(CLOSED, false);
    }
}

impl Drop for Kubernetes {
    fn drop(&mut self) {
        self.end();
    }
}

impl fmt::Debug for Kubernetes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kubernetes").field("store_id", &self.store_id).finish_non_exhaustive()
    }
}

/// The id of the store: that of the definition of its kind. With the definition all Records go, too.
async fn identity(host: &Host) -> Result<Uuid, OpenError> {
    let mut backoff = Backoff::new(Duration::from_millis(100), LONGEST_PAUSE);
    let mut said: Option<(String, Instant)> = None;
    loop {
        let why = match host.definition().await.map(|body| serde_json::from_slice::<Definition>(&body)) {
            Ok(Ok(definition)) => {
                let Definition { metadata, spec } = definition;
                if spec.scope != "Cluster" {
                    return Err(OpenError::Foreign { what: format!("its scope is {:?}", spec.scope) });
                }
                if !spec.versions.iter().any(|version| version.name == crd::VERSION && version.served) {
                    return Err(OpenError::Foreign { what: format!("it doesn't serve {}", crd::VERSION) });
                }
                return Ok(metadata.uid);
            }
            Ok(Err(error)) => format!("the definition of Records can't be read: {error}"),
            Err(Failure::Answer { code: 404, .. }) => format!("{} is not installed: install deploy/crd", crd::CRD_NAME),
            Err(failure) => format!("the host cluster's API doesn't give {}: {failure}", crd::CRD_NAME),
        };
        if said.as_ref().is_none_or(|(before, at)| *before != why || at.elapsed() > Duration::from_mins(1)) {
            warn!("waiting for the host cluster: {why}");
            said = Some((why, Instant::now()));
        }
        sleep(backoff.pause(None)).await;
    }
}

impl Storage for Kubernetes {
    fn commit(&self, write: Write) -> BoxFuture<'_, Result<Commit, CommitError>> {
        Box::pin(async move { self.shared.commit(&write).await })
    }

    fn get(&self, key: Key) -> BoxFuture<'_, Result<Option<Commit>, ReadError>> {
        Box::pin(async move { self.shared.get(&key).await })
    }

    fn current(&self) -> BoxFuture<'_, Result<Revision, ReadError>> {
        Box::pin(async move {
            self.shared.sync().await?;
            Ok(self.shared.published.read().highest)
        })
    }

    fn state(&self) -> BoxFuture<'_, Result<State, ReadError>> {
        Box::pin(async move {
            self.shared.check_running()?;
            if let Some(state) = self.shared.published.write().initial.take() {
                return Ok(state);
            }
            tokio::select! {
                filled = follow::list_patiently(&self.shared) => {
                    Ok(State { revision: filled.revision, commits: filled.commits })
                }
                ended = self.shared.ended() => Err(ReadError::Stopped(ended.reason.to_string())),
            }
        })
    }

    fn watch(&self, after: Revision) -> BoxStream<'static, Result<Vec<Commit>, ReadError>> {
        watch::stream(Arc::clone(&self.shared), after)
    }

    fn identity(&self) -> Identity {
        Identity { store_id: self.store_id, epoch: 0 }
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn damaged_records(&self) -> usize {
        Self::damaged_records(self)
    }

    fn stopped(&self) -> BoxFuture<'static, String> {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            let ended = shared.ended().await;
            // Closed in order: nothing has failed, and never will.
            if ended.failed { ended.reason.to_string() } else { std::future::pending().await }
        })
    }
}
