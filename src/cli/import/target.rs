//! Where an import goes: a server, over its API; or a data directory that no server has open.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use http::{Method, StatusCode};
use parking_lot::Mutex;
use serde_json::Value;

use super::manifest::{Manifest, merged};
use crate::api::decode::{Reading, read_object};
use crate::api::{FieldValidation, Kind, Object};
use crate::auth::{Caller, MASTERS};
use crate::cli::client::{Api, ClientError, RETRIES};
use crate::cli::export::ORDER;
use crate::clock::SystemClock;
use crate::datapack::Packs;
use crate::error::Error;
use crate::graph::{Graph, Key, Query, Window};
use crate::registry::{RESTORE, Registry, WriteOptions};
use crate::storage::embedded::{Embedded, Options};
use crate::storage::{CommitError, Storage as _};

/// How often an object that others change at the same time is read again, before it is given up.
const CONFLICTS: usize = 16;
/// How many objects are brought in step at a time, at the end of an offline import.
const SETTLING: usize = 256;
/// How often all are looked at until nothing changes any more. The second time nothing does.
const SETTLING_ROUNDS: usize = 4;
/// Bytes of history that an offline import keeps in memory: nobody reads it.
const WINDOW_BYTES: usize = 8 << 20;
/// How long a full queue is waited for.
const BUSY: Duration = Duration::from_millis(20);

/// What became of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It was made.
    Created,
    /// It was there, and was changed where it differed.
    Present,
}

/// Why an object is not what it should be.
#[derive(Debug)]
pub(super) enum NotDone {
    /// This one.
    Refused(String),
    /// It would be the same for all that follow.
    Fatal(String),
}

impl From<ClientError> for NotDone {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Gone(why) => Self::Fatal(why),
            ClientError::Refused { code: 401, message, .. } => Self::Fatal(message),
            ClientError::Refused { message, .. } => Self::Refused(message),
        }
    }
}

/// What was done, and what was said to it.
pub(super) type Applied = (Outcome, Vec<String>);

/// Where an import goes.
#[derive(Clone)]
pub(super) enum Target {
    Server(Arc<Api>),
    Directory(Arc<Offline>),
}

impl Target {
    /// Makes what the manifest says, or makes what is there that.
    pub(super) async fn apply(&self, manifest: &Manifest, dry_run: bool) -> Result<Applied, NotDone> {
        match self {
            Self::Server(api) => online(api, manifest, dry_run).await,
            Self::Directory(offline) => offline.apply(manifest, dry_run).await,
        }
    }
}

async fn online(api: &Api, manifest: &Manifest, dry_run: bool) -> Result<Applied, NotDone> {
    let collection = format!("/apis/imagehub.sealos.io/v1/{}", manifest.kind.plural());
    let options = format!("fieldValidation=Strict{}", if dry_run { "&dryRun=All" } else { "" });
    let body = |value: &Value| Bytes::from(value.to_string());
    if manifest.restore {
        let path = format!("{collection}?{RESTORE}=true&{options}");
        let answer = api.send(Method::POST, &path, body(&manifest.value)).await?.ok()?;
        return Ok((outcome(answer.code), answer.warnings));
    }
    let name = crate::cli::client::query_value(manifest.name());
    for _ in 0..CONFLICTS {
        let answer = api.send(Method::POST, &format!("{collection}?{options}"), body(&manifest.value)).await?;
        if answer.code != StatusCode::CONFLICT || name.is_empty() {
            let answer = answer.ok()?;
            return Ok((outcome(answer.code), answer.warnings));
        }
        let refused = answer.ok().err();
        match refused {
            Some(ClientError::Refused { ref reason, .. }) if reason == "AlreadyExists" => {}
            Some(error) => return Err(error.into()),
            None => continue,
        }
        let existing = api.send(Method::GET, &format!("{collection}/{name}"), Bytes::new()).await?;
        if existing.code == StatusCode::NOT_FOUND {
            continue;
        }
        let existing: Value = serde_json::from_slice(&existing.ok()?.body)
            .map_err(|error| NotDone::Refused(format!("the server's answer can't be read: {error}")))?;
        let update = merged(&existing, &manifest.value);
        let answer = api.send(Method::PUT, &format!("{collection}/{name}?{options}"), body(&update)).await?;
        if !matches!(answer.code, StatusCode::CONFLICT | StatusCode::NOT_FOUND) {
            return Ok((Outcome::Present, answer.ok()?.warnings));
        }
    }
    Err(NotDone::Refused(format!("others changed it {CONFLICTS} times while it was imported: import it again")))
}

fn outcome(code: StatusCode) -> Outcome {
    if code == StatusCode::CREATED { Outcome::Created } else { Outcome::Present }
}

/// A data directory that no server has open, with the verbs on it.
pub(super) struct Offline {
    storage: Arc<Embedded>,
    registry: Registry,
    caller: Caller,
    /// Hashes of the names of images that are on their way, or were: of one name only the first takes the short way.
    claimed: Mutex<HashSet<u64>>,
    hasher: RandomState,
}

impl Offline {
    /// Opens `dir`, or makes it. The graph is kept by a task until the storage is closed.
    pub(super) async fn open(dir: &Path) -> Result<Self, String> {
        let storage = Embedded::open(dir, Options::default(), Arc::new(SystemClock)).map_err(|e| e.to_string())?;
        let window = Window { bytes: WINDOW_BYTES, ..Window::default() };
        let (graph, writer) = Graph::open(storage.clone(), window).await.map_err(|e| e.to_string())?;
        tokio::spawn(writer.run());
        let registry = Registry::new(storage.clone(), graph, Arc::new(Packs::new(0)), Arc::new(SystemClock));
        let caller = Caller::authenticated("admin", [MASTERS.to_owned()]);
        Ok(Self { storage, registry, caller, claimed: Mutex::default(), hasher: RandomState::new() })
    }

    async fn apply(&self, manifest: &Manifest, dry_run: bool) -> Result<Applied, NotDone> {
        let options = WriteOptions { dry_run, ..WriteOptions::default() };
        let object = object(manifest.kind, manifest.value.clone())?;
        if manifest.kind == Kind::Image && !dry_run {
            if self.made_at_once(&object).await? {
                return Ok((Outcome::Created, Vec::new()));
            }
            // What others have made on the short way decides, too.
            let current = self.storage.current().await.map_err(|e| NotDone::Fatal(e.to_string()))?;
            self.registry.graph().reached(current).await;
        }
        for _ in 0..CONFLICTS.max(RETRIES as usize) {
            let done = if manifest.restore {
                self.registry.restore(&self.caller, object.clone(), options).await
            } else {
                match self.registry.create(&self.caller, object.clone(), options).await {
                    Err(Error::AlreadyExists { kind, .. }) if kind == manifest.kind => {
                        self.update(manifest, options).await?
                    }
                    done => done,
                }
            };
            match done {
                Ok(written) => {
                    let outcome = if written.created { Outcome::Created } else { Outcome::Present };
                    return Ok((outcome, written.warnings));
                }
                Err(Error::TooManyRequests(_)) => tokio::time::sleep(BUSY).await,
                Err(Error::Conflict { .. }) if !manifest.restore => {}
                Err(error @ (Error::InsufficientStorage(_) | Error::Internal(_))) => {
                    let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
                    return Err(NotDone::Fatal(format!("{error}{}", cause.unwrap_or_default())));
                }
                Err(error) => return Err(NotDone::Refused(error.to_string())),
            }
        }
        Err(NotDone::Refused(format!("it was not done {CONFLICTS} times: import it again")))
    }

    /// Makes an image that is new without waiting until it is published; false where that can't be decided at once.
    async fn made_at_once(&self, object: &Object) -> Result<bool, NotDone> {
        let name = (object.spec.name(), &object.metadata.name);
        let (spec_name, name) = (self.hasher.hash_one(name.0), self.hasher.hash_one(name.1));
        let first = {
            let mut claimed = self.claimed.lock();
            claimed.insert(spec_name) & claimed.insert(name)
        };
        if !first {
            return Ok(false);
        }
        let draft = self.registry.draft_image(&self.caller, object);
        let Some(write) = draft.map_err(|error| NotDone::Refused(error.to_string()))? else { return Ok(false) };
        loop {
            match self.storage.commit(write.clone()).await {
                Ok(_) => return Ok(true),
                Err(CommitError::Conflict { .. }) => return Ok(false),
                Err(CommitError::Busy(_)) => tokio::time::sleep(BUSY).await,
                Err(error) => return Err(NotDone::Fatal(error.to_string())),
            }
        }
    }

    async fn update(
        &self,
        manifest: &Manifest,
        options: WriteOptions,
    ) -> Result<Result<crate::registry::Written, Error>, NotDone> {
        let (kind, name) = (manifest.kind, manifest.name());
        let (reader, record) = match self.registry.get(&self.caller, kind, name, None).await {
            Ok(found) => found,
            Err(error) => return Ok(Err(error)),
        };
        let existing: Value = serde_json::from_slice(&reader.object(&record))
            .map_err(|error| NotDone::Refused(format!("what is stored can't be read: {error}")))?;
        let object = object(kind, merged(&existing, &manifest.value))?;
        Ok(self.registry.update(&self.caller, kind, name, &object, options).await)
    }

    /// Brings all in step that the controllers of a server would, so that its start finds nothing to do.
    pub(super) async fn settle(&self) -> Result<(), String> {
        let current = self.storage.current().await.map_err(|e| e.to_string())?;
        self.registry.graph().reached(current).await;
        for _ in 0..SETTLING_ROUNDS {
            let visible = self.registry.reader(&self.caller).visible;
            let at = visible.revision();
            let (labels, fields) = Default::default();
            let keys = |kind| visible.list(Query { kind, after: None, at, labels: &labels, fields: &fields });
            // Images have no status, and their labels and owners were set when they were written.
            let kinds = ORDER.into_iter().filter(|kind| *kind != Kind::Image).rev();
            let keys: Vec<Key> = kinds.flat_map(|kind| keys(kind).map(|r| r.key.clone()).collect::<Vec<_>>()).collect();
            let steps = futures::stream::iter(keys).map(|key| async move { self.refresh(&key).await });
            let done: Vec<_> = steps.buffer_unordered(SETTLING).collect().await;
            let done = done.into_iter().collect::<Result<Vec<bool>, _>>().map_err(|e| e.to_string())?;
            if !done.contains(&true) {
                break;
            }
        }
        Ok(())
    }

    async fn refresh(&self, key: &Key) -> Result<bool, Error> {
        loop {
            match self.registry.refresh(key).await {
                Err(Error::TooManyRequests(_)) => tokio::time::sleep(BUSY).await,
                done => return done,
            }
        }
    }

    /// Closes the store as it is.
    pub(super) fn close(&self) {
        self.storage.close();
    }

    /// Closes the store. Its history is dropped: nobody has watched, and a server that starts on it needs no more than
    /// the state.
    pub(super) async fn close_without_history(&self, dir: &Path) -> Result<(), String> {
        let before = self.storage.current().await.map_err(|e| e.to_string())?;
        self.storage.close();
        let options = Options { history: Duration::ZERO, ..Options::default() };
        let storage = Embedded::open(dir, options, Arc::new(SystemClock)).map_err(|e| e.to_string())?;
        let after = storage.compact().await.map_err(|e| e.to_string())?;
        debug_assert!(after <= before);
        storage.close();
        Ok(())
    }
}

/// Reads an object as the API does, strictly.
fn object(kind: Kind, value: Value) -> Result<Object, NotDone> {
    let strictly = Reading { validation: FieldValidation::Strict, ..Reading::default() };
    let read = read_object(kind, value, strictly).map_err(|error| NotDone::Refused(error.to_string()))?;
    Ok(read.object)
}
