//! A whole registry for tests: storage, graph with its writer, a clock that stands still, and no doors.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use jiff::Timestamp;
use parking_lot::Mutex;
use redb::backends::InMemoryBackend;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::*;
use crate::api::decode::{Reading, read_object};
use crate::api::{FieldSelector, LabelSelector, Object};
use crate::clock::ManualClock;
use crate::graph::{Event, Window};
use crate::storage::embedded::{Embedded, Options};
use crate::storage::{Commit, CommitError, ReadError, State, Write};

/// A storage that refuses what a test wants refused.
pub(crate) struct Faulty {
    inner: Arc<Embedded>,
    /// Every write of this key fails, for want of space.
    pub(crate) refused: Mutex<Option<Key>>,
    /// Done once, right before a write of this key.
    before: Mutex<HashMap<Key, BoxFuture<'static, ()>>>,
    /// Done once, right after a write of this key, before anybody hears of it.
    after: Mutex<HashMap<Key, BoxFuture<'static, ()>>>,
    /// Whether another process writes to it, too.
    shared: bool,
    /// Whether the graph hears of nothing for now.
    held: watch::Sender<bool>,
}

impl Faulty {
    fn new(inner: Arc<Embedded>, shared: bool) -> Arc<Self> {
        let (refused, before, after) = (Mutex::default(), Mutex::default(), Mutex::default());
        Arc::new(Self { inner, refused, before, after, shared, held: watch::Sender::new(false) })
    }

    /// Has the graph hear of no commit until the storage is asked for a record, or refuses a write.
    pub(crate) fn hold(&self) {
        self.held.send_replace(true);
    }

    /// Has `doing` done right before the next write of `key`.
    pub(crate) fn before(&self, key: Key, doing: impl Future<Output = ()> + Send + 'static) {
        self.before.lock().insert(key, doing.boxed());
    }

    /// Has `doing` done right after the next write of `key`, before the writer hears of it.
    pub(crate) fn after(&self, key: Key, doing: impl Future<Output = ()> + Send + 'static) {
        self.after.lock().insert(key, doing.boxed());
    }
}

impl Storage for Faulty {
    fn commit(&self, write: Write) -> BoxFuture<'_, Result<Commit, CommitError>> {
        async move {
            if self.refused.lock().as_ref() == Some(&write.key) {
                return Err(CommitError::NoSpace { free: 0, needed: 1 });
            }
            let before = self.before.lock().remove(&write.key);
            if let Some(before) = before {
                before.await;
            }
            let after = self.after.lock().remove(&write.key);
            let done = self.inner.commit(write).await;
            if done.is_err() {
                self.held.send_replace(false);
            }
            if let Some(after) = after {
                after.await;
            }
            done
        }
        .boxed()
    }

    fn get(&self, key: Key) -> BoxFuture<'_, Result<Option<Commit>, ReadError>> {
        self.held.send_replace(false);
        self.inner.get(key)
    }

    fn current(&self) -> BoxFuture<'_, Result<Revision, ReadError>> {
        self.inner.current()
    }

    fn state(&self) -> BoxFuture<'_, Result<State, ReadError>> {
        self.inner.state()
    }

    fn watch(&self, after: Revision) -> BoxStream<'static, Result<Vec<Commit>, ReadError>> {
        let held = self.held.subscribe();
        let when_told = move |batch| {
            let mut held = held.clone();
            async move {
                // The sender ends with the storage, and the test with it.
                let _ = held.wait_for(|held| !held).await;
                batch
            }
        };
        self.inner.watch(after).then(when_told).boxed()
    }

    fn is_shared(&self) -> bool {
        self.shared
    }

    fn identity(&self) -> crate::storage::Identity {
        self.inner.identity()
    }

    fn stopped(&self) -> BoxFuture<'static, String> {
        self.inner.stopped()
    }
}

/// A registry with all that it stands on.
pub(crate) struct Hub {
    pub(crate) registry: Arc<Registry>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) storage: Arc<Faulty>,
    writer: JoinHandle<crate::graph::GraphError>,
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.writer.abort();
    }
}

pub(crate) fn admin() -> Caller {
    Caller::system()
}

pub(crate) fn public() -> Caller {
    Caller::anonymous()
}

/// An Image of this full name.
#[expect(clippy::needless_pass_by_value, reason = "tests write it as json!")]
pub(crate) fn image(name: &str, detail: Value) -> Value {
    json!({ "kind": "Image", "metadata": { "name": name.replace(['/', ':'], ".") }, "spec": { "name": name, "detail": detail } })
}

/// A Repository of this full name.
pub(crate) fn repository(name: &str, private: bool) -> Value {
    json!({
        "kind": "Repository", "metadata": { "name": name.replace('/', ".") },
        "spec": { "name": name, "isPrivate": private },
    })
}

/// A DataPack with this name.
pub(crate) fn pack(name: &str, grain: &str, names: &[&str]) -> Value {
    json!({ "kind": "DataPack", "metadata": { "name": name }, "spec": { "type": grain, "names": names } })
}

fn parse(value: Value) -> Object {
    let kind = value["kind"].as_str().and_then(Kind::from_name).unwrap();
    read_object(kind, value, Reading::default()).unwrap().object
}

impl Hub {
    /// One in memory.
    pub(crate) async fn open() -> Self {
        let clock = ManualClock::at(Timestamp::from_second(1_700_000_000).unwrap());
        let storage = Embedded::open_with_backend(InMemoryBackend::new(), Options::default(), clock.clone()).unwrap();
        Self::start(storage, clock, Window::default()).await
    }

    /// One in a directory, to be opened again.
    pub(crate) async fn open_in(dir: &Path) -> Self {
        let clock = ManualClock::at(Timestamp::from_second(1_700_000_000).unwrap());
        let storage = Embedded::open(dir, Options::default(), clock.clone()).unwrap();
        Self::start(storage, clock, Window::default()).await
    }

    /// Two processes over one storage.
    pub(crate) async fn pair() -> (Self, Self) {
        let clock = ManualClock::at(Timestamp::from_second(1_700_000_000).unwrap());
        let storage = Embedded::open_with_backend(InMemoryBackend::new(), Options::default(), clock.clone()).unwrap();
        let open = async || {
            let shared = Faulty::new(Arc::clone(&storage), true);
            Self::over(shared, clock.clone(), Window::default()).await
        };
        (open().await, open().await)
    }

    async fn start(inner: Arc<Embedded>, clock: Arc<ManualClock>, window: Window) -> Self {
        Self::over(Faulty::new(inner, false), clock, window).await
    }

    async fn over(storage: Arc<Faulty>, clock: Arc<ManualClock>, window: Window) -> Self {
        let (graph, writer) = Graph::open(storage.clone(), window).await.unwrap();
        let writer = tokio::spawn(writer.run());
        let registry = Registry::new(storage.clone(), graph, Arc::new(Packs::default()), clock.clone());
        Self { registry: Arc::new(registry), clock, storage, writer }
    }

    /// Ends it, with nothing left open.
    pub(crate) fn close(self) {
        self.writer.abort();
        self.storage.inner.close();
    }

    /// Drops the history before now, and ends it.
    pub(crate) async fn compact(&self) {
        self.clock.step_ms(i64::try_from(crate::storage::embedded::HISTORY.as_millis()).unwrap() + 1);
        self.storage.inner.compact().await.unwrap();
    }

    /// The server that runs without waiting for anybody's commands has stopped.
    pub(crate) fn writer_ended(&self) -> bool {
        self.writer.is_finished()
    }

    pub(crate) async fn try_create(&self, value: Value) -> Result<Written, Error> {
        self.create_as(&admin(), value).await
    }

    pub(crate) async fn create_as(&self, caller: &Caller, value: Value) -> Result<Written, Error> {
        self.registry.create(caller, parse(value), WriteOptions::default()).await
    }

    pub(crate) async fn create(&self, value: Value) -> Arc<Record> {
        self.try_create(value).await.unwrap().record
    }

    /// Puts what an export has where it was.
    pub(crate) async fn restore(&self, value: Value) -> Arc<Record> {
        self.registry.restore(&admin(), parse(value), WriteOptions::default()).await.unwrap().record
    }

    pub(crate) async fn dry_create(&self, value: Value) -> Result<Written, Error> {
        self.registry.create(&admin(), parse(value), WriteOptions { dry_run: true, ..WriteOptions::default() }).await
    }

    /// What the caller reads of it.
    pub(crate) async fn read(&self, caller: &Caller, kind: Kind, name: &str) -> Result<Value, Error> {
        let (reader, record) = self.registry.get(caller, kind, name, None).await?;
        Ok(serde_json::from_slice(&reader.object(&record)).unwrap())
    }

    pub(crate) async fn get(&self, kind: Kind, name: &str) -> Value {
        self.read(&admin(), kind, name).await.unwrap()
    }

    /// A pack's data as the caller reads them, which must be those that are computed without the cache.
    pub(crate) async fn datas(&self, caller: &Caller, name: &str) -> Value {
        let (reader, record) = self.registry.get(caller, Kind::DataPack, name, None).await.unwrap();
        let read: Value = serde_json::from_slice(&reader.object(&record)).unwrap();
        let computed = crate::datapack::resolve(&reader.visible, record.pack().unwrap());
        let computed: Value = serde_json::from_slice(&[b"{", &computed.members[..], b"}"].concat()).unwrap();
        assert_eq!(read["status"]["datas"], computed["datas"], "the cache gave something old");
        read["status"]["datas"].clone()
    }

    /// Changes the object by a PUT.
    pub(crate) async fn try_put(&self, kind: Kind, name: &str, change: impl Fn(&mut Value)) -> Result<Written, Error> {
        self.put_with(kind, name, WriteOptions::default(), change).await
    }

    pub(crate) async fn put_with(
        &self,
        kind: Kind,
        name: &str,
        options: WriteOptions,
        change: impl Fn(&mut Value),
    ) -> Result<Written, Error> {
        let mut value = self.get(kind, name).await;
        change(&mut value);
        self.registry.update(&admin(), kind, name, &parse(value), options).await
    }

    pub(crate) async fn put(&self, kind: Kind, name: &str, change: impl Fn(&mut Value)) -> Arc<Record> {
        self.try_put(kind, name, change).await.unwrap().record
    }

    pub(crate) async fn merge(&self, kind: Kind, name: &str, patch: Value) -> Result<Written, Error> {
        let patch = Patch::Merge(patch);
        self.registry.patch(&admin(), kind, name, &patch, FieldValidation::Strict, WriteOptions::default()).await
    }

    pub(crate) async fn delete(&self, kind: Kind, name: &str) -> Deleted {
        self.registry.delete(&admin(), kind, name, &DeleteOptions::default()).await.unwrap()
    }

    pub(crate) async fn delete_by(&self, kind: Kind, name: &str, propagation: Propagation) -> Deleted {
        let options = DeleteOptions { propagation: Some(propagation), ..DeleteOptions::default() };
        self.registry.delete(&admin(), kind, name, &options).await.unwrap()
    }

    /// Writes the status of a repository.
    pub(crate) async fn put_status(&self, name: &str, status: Value, options: WriteOptions) -> Result<Written, Error> {
        let version = self.get(Kind::Repository, name).await["metadata"]["resourceVersion"].clone();
        let version = version.as_str();
        self.registry.update_status(&admin(), Kind::Repository, name, version, &status, options).await
    }

    /// The names of what the caller lists.
    pub(crate) async fn names(&self, caller: &Caller, kind: Kind) -> Vec<String> {
        let list = self.registry.list(caller, kind, &ListOptions::default()).await.unwrap();
        list.items.iter().map(|r| r.name().to_owned()).collect()
    }

    pub(crate) fn revision(&self) -> Revision {
        self.registry.graph().revision()
    }

    pub(crate) async fn watch(&self, caller: &Caller, kind: Kind, start: WatchStart) -> Result<Watch, Error> {
        self.registry.watch(caller, kind, watch_options(start)).await
    }

    /// All events of `kind` after `after`, whoever may see them.
    pub(crate) fn events(&self, kind: Kind, after: Revision) -> Vec<Arc<Event>> {
        self.registry.reader(&admin()).visible.events(kind, after, usize::MAX).unwrap().0
    }
}

pub(crate) fn watch_options(start: WatchStart) -> WatchOptions {
    WatchOptions {
        labels: LabelSelector::default(),
        fields: FieldSelector::default(),
        start,
        bookmarks: false,
        initial_end: false,
        lasts: Duration::from_mins(30),
    }
}

/// What a watch brings now, without waiting for more: `ADDED name`, `ERROR code`.
pub(crate) fn drain(watch: &mut Watch) -> Vec<String> {
    let mut told = Vec::new();
    while let Some(Some((_, items))) = watch.next().now_or_never() {
        for item in items {
            told.push(match item {
                WatchItem::Existing(record) => format!("ADDED {}", record.name()),
                WatchItem::Event(kind, event) => format!("{} {}", kind.as_str(), event.key.name),
                WatchItem::Bookmark(revision, end) => format!("BOOKMARK {revision} {end}"),
                WatchItem::Failed(error) => format!("ERROR {}", error.code()),
            });
        }
    }
    told
}
