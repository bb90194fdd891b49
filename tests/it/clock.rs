//! A clock that is set by hours, both ways, while a server lives by it: packs expire by the store's time, which never
//! goes back; versions and times rise; watches go on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use imagehub::api::{DataPackSpec, FieldSelector, ImageDetail, ImageSpec, Kind, LabelSelector, Object, Spec};
use imagehub::auth::Caller;
use imagehub::clock::{ManualClock, SharedClock};
use imagehub::controller;
use imagehub::datapack::Packs;
use imagehub::graph::{Graph, Revision, Window};
use imagehub::registry::{Registry, Watch, WatchItem, WatchOptions, WatchStart, WriteOptions};
use imagehub::storage::Storage;
use imagehub::storage::embedded::{Embedded, Options};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tokio::task::JoinHandle;

use crate::harness::within;

const HOUR_MS: i64 = 3_600_000;
/// The clock's steps, in hours.
const STEPS: [i64; 14] = [5, -3, 1, -8, 12, -1, -1, 24, -23, 3, -6, 0, 2, 7];

/// A server without doors.
struct Life {
    storage: Arc<Embedded>,
    registry: Arc<Registry>,
    tasks: Vec<JoinHandle<()>>,
}

impl Life {
    async fn begin(dir: &std::path::Path, clock: &Arc<ManualClock>) -> Self {
        let clock: SharedClock = clock.clone();
        let storage = Embedded::open(dir, Options::default(), Arc::clone(&clock)).unwrap();
        let (graph, mut writer) = Graph::open(&*storage, Window::default()).await.unwrap();
        writer.resume_at(clock.now().as_millisecond());
        let registry = Arc::new(Registry::new(storage.clone(), graph, Arc::new(Packs::new(1 << 20)), clock));
        let controllers = controller::run(Arc::clone(&registry));
        let tasks = vec![tokio::spawn(async { drop(writer.run().await) }), tokio::spawn(controllers)];
        Self { storage, registry, tasks }
    }

    async fn end(self) {
        for task in &self.tasks {
            task.abort();
        }
        for task in self.tasks {
            let _ = task.await;
        }
        self.storage.close();
    }

    async fn describe(&self, text: &str) -> Revision {
        let name = "acme.tool.v1";
        let detail = ImageDetail { description: Some(text.to_owned()), ..ImageDetail::default() };
        let spec = ImageSpec { name: "acme/tool:v1".to_owned(), image_type: None, detail: Some(detail) };
        let mut object = object(Some(name.to_owned()), Spec::Image(spec));
        let (caller, now) = (Caller::system(), WriteOptions::default());
        let written = match self.registry.get(&caller, Kind::Image, name, None).await {
            Ok((_, record)) => {
                object.metadata.resource_version = Some(record.revision.to_string());
                self.registry.update(&caller, Kind::Image, name, &object, now).await
            }
            Err(_) => self.registry.create(&caller, object, now).await,
        };
        written.unwrap().record.revision
    }

    /// Makes a pack; answers with when its time is over.
    async fn pack(&self, name: &str, expire_time: &str) -> i64 {
        let spec = DataPackSpec {
            grain: None,
            names: Some(vec!["acme/tool:v1".to_owned()]),
            expire_time: Some(expire_time.to_owned()),
        };
        let pack = object(Some(name.to_owned()), Spec::DataPack(spec));
        let made = self.registry.create(&Caller::system(), pack, WriteOptions::default()).await.unwrap();
        made.record.pack().unwrap().expires_ms
    }

    /// Waits until all whose time is over by the store's time are gone; answers with those that are there.
    async fn packs(&self) -> Vec<String> {
        let mut changes = self.registry.graph().changes(Kind::DataPack);
        let gone = async {
            loop {
                changes.mark_unchanged();
                let visible = self.registry.reader(&Caller::system()).visible;
                let due = self.registry.store_time_ms();
                if visible.expiries().all(|(at, _)| at > due) {
                    return visible.expiries().map(|(_, name)| name.to_string()).collect();
                }
                changes.changed().await.unwrap();
            }
        };
        let mut names: Vec<String> = within("expired packs to go", gone).await;
        names.sort();
        names
    }
}

fn object(name: Option<String>, spec: Spec) -> Object {
    Object { metadata: ObjectMeta { name, ..ObjectMeta::default() }, spec }
}

/// The next change that a watch of images brings.
async fn next(watch: &mut Watch) -> Revision {
    loop {
        let (_, items) = within("an event", watch.next()).await.expect("the watch goes on");
        for item in items {
            match item {
                WatchItem::Event(_, event) => return event.revision,
                WatchItem::Failed(error) => panic!("a watch was ended by a step of the clock: {error}"),
                WatchItem::Existing(_) | WatchItem::Bookmark(..) => {}
            }
        }
    }
}

#[tokio::test]
async fn a_clock_that_is_set_by_hours_both_ways_loses_no_pack_and_ends_no_watch() {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(Timestamp::from_second(1_800_000_000).unwrap());
    let mut life = Life::begin(dir.path(), &clock).await;
    let mut expires = BTreeMap::new();
    let mut last = life.describe("at first").await;
    let mut highest_ms = 0;
    for (step, hours) in STEPS.into_iter().enumerate() {
        let options = WatchOptions {
            labels: LabelSelector::default(),
            fields: FieldSelector::default(),
            start: WatchStart::After(last),
            bookmarks: false,
            initial_end: false,
            lasts: Duration::from_mins(30),
        };
        let mut watch = life.registry.watch(&Caller::system(), Kind::Image, options).await.unwrap();
        let mut commits = life.storage.watch(last);
        for (kind, lifetime) in [("short", "1h"), ("middle", "4h"), ("long", "30h")] {
            let name = format!("{kind}-{step}");
            expires.insert(name.clone(), life.pack(&name, lifetime).await);
        }
        let stored = life.registry.store_time_ms();
        clock.step_ms(hours * HOUR_MS);
        assert!(life.registry.store_time_ms() >= stored, "step {step}: the store's time went back");

        let changed = life.describe(&format!("after step {step}")).await;
        assert!(changed > last, "step {step}");
        assert_eq!(next(&mut watch).await, changed, "step {step}");
        last = changed;
        // Each once, in order, at times that never go back.
        let mut expected = None;
        while expected.is_none_or(|next: u64| next <= last.0) {
            for commit in within("commits", commits.next()).await.unwrap().unwrap() {
                assert!(expected.is_none_or(|next| commit.revision.0 == next), "step {step}: {}", commit.revision);
                assert!(commit.at_ms >= highest_ms, "step {step}: revision {} went back", commit.revision);
                (expected, highest_ms) = (Some(commit.revision.0 + 1), commit.at_ms);
            }
        }
        // A restart, now and then, with a clock that may show less than the store knows.
        if step % 4 == 3 {
            life.end().await;
            life = Life::begin(dir.path(), &clock).await;
            last = life.describe(&format!("after the restart at step {step}")).await;
        }
        let there = life.packs().await;
        let due = life.registry.store_time_ms();
        let alive: Vec<&String> = expires.iter().filter(|(_, at)| **at > due).map(|(name, _)| name).collect();
        assert_eq!(there.iter().collect::<Vec<_>>(), alive, "step {step}");
    }
    assert!(expires.len() > life.packs().await.len(), "some have expired");
    life.end().await;
    let report = imagehub::storage::embedded::check(dir.path()).unwrap();
    assert!(report.is_sound(), "{report}");
}
