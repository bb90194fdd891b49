//! What is measured in this process: the graph, the registry and the storage, without a door.

use std::collections::HashMap;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use imagehub::api::{FieldSelector, Kind, LabelSelector, Object, Spec};
use imagehub::auth::Caller;
use imagehub::clock::{SharedClock, SystemClock};
use imagehub::controller;
use imagehub::datapack::{Packs, resolve};
use imagehub::graph::{Graph, Window};
use imagehub::registry::{Registry, WatchOptions, WatchStart, WriteOptions};
use imagehub::storage::embedded::{Embedded, Options};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::json;

use crate::data::{self, Data, image_name, image_spec};
use crate::measure::{Plan, Side, in_turns, quantile, thread_seconds};
use crate::report::{Report, Target};

/// Names of a cold pack.
const NAMES: usize = 100;
/// Different packs that are resolved in turn.
const PACKS: usize = 200;
/// Writes whose way to a watcher is timed.
const TIMED: usize = 2000;

/// The layers up to the registry, on a data directory.
pub struct Inside {
    pub registry: Arc<Registry>,
    storage: Arc<Embedded>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Inside {
    pub async fn open(dir: &Path) -> Self {
        std::fs::create_dir_all(dir).expect("the directory can be made");
        let clock: SharedClock = Arc::new(SystemClock);
        let storage = Embedded::open(dir, Options::default(), Arc::clone(&clock)).expect("the store opens");
        let (graph, writer) = Graph::open(storage.clone(), Window::default()).await.expect("the graph is filled");
        let registry = Arc::new(Registry::new(storage.clone(), graph, Arc::new(Packs::default()), clock));
        let writer = tokio::spawn(async move {
            let error = writer.run().await;
            eprintln!("the graph's writer ended: {error}");
        });
        let controllers = tokio::spawn(controller::run(Arc::clone(&registry)));
        Self { registry, storage, tasks: vec![writer, controllers] }
    }

    pub async fn close(self) {
        for task in &self.tasks {
            task.abort();
        }
        let storage = self.storage;
        tokio::task::spawn_blocking(move || storage.close()).await.expect("closing does not panic");
    }

    pub async fn create(&self, spec: Spec) {
        let object = Object { metadata: named(&spec), spec };
        self.registry.create(&admin(), object, WriteOptions::default()).await.expect("the object is made");
    }

    async fn overwrite(&self, number: usize, edition: usize) -> u64 {
        let spec = Spec::from_value(Kind::Image, image_spec(number, edition)).expect("a spec");
        let name = data::meta_name(&image_name(number));
        let (_, record) = self.registry.get(&admin(), Kind::Image, &name, None).await.expect("it is there");
        let mut object = Object { metadata: named(&spec), spec };
        object.metadata.resource_version = Some(record.revision.to_string());
        let options = WriteOptions::default();
        let written = self.registry.update(&admin(), Kind::Image, &name, &object, options).await;
        written.expect("the image is overwritten").record.revision.0
    }
}

pub fn admin() -> Caller {
    Caller::authenticated("admin", ["system:masters".to_owned()])
}

fn named(spec: &Spec) -> ObjectMeta {
    ObjectMeta { name: spec.name().map(data::meta_name), ..Default::default() }
}

fn pack_of(names: &[String], grain: &str) -> Spec {
    Spec::from_value(Kind::DataPack, json!({ "type": grain, "names": names, "expireTime": "24h" })).expect("a spec")
}

/// Packs of a hundred names that nobody has asked for, against looking the names up and copying the bytes.
pub async fn cold(plan: &Plan, data: &Data, dir: &Path, report: &mut Report) {
    data.copy(dir);
    let inside = Inside::open(dir).await;
    let mut rng = SmallRng::seed_from_u64(5);
    let mut packs = Vec::new();
    for _ in 0..PACKS {
        let names: Vec<String> = (0..NAMES).map(|_| image_name(rng.random_range(0..data.images))).collect();
        let object = Object { metadata: ObjectMeta::default(), spec: pack_of(&names, "grid") };
        let written = inside.registry.create(&admin(), object, WriteOptions::default()).await.expect("a pack");
        packs.push(written.record);
    }
    let visible = inside.registry.reader(&admin()).visible;
    // As bare as can be: a hash map of the catalogue's size from names to the bytes of their entries.
    let entries: HashMap<Box<str>, Bytes> = (0..data.images)
        .map(|number| {
            let name = image_name(number);
            let length = 420 + number % 128;
            (name.into_boxed_str(), Bytes::from(vec![b'x'; length]))
        })
        .collect();
    let resolved: usize = packs.iter().map(|p| resolve(&visible, p.pack().expect("a pack")).members.len()).sum();
    let copied: usize =
        packs.iter().flat_map(|p| &p.pack().expect("a pack").names).map(|name| entries[&**name].len()).sum();
    let scale = resolved as f64 / copied as f64;
    let pairs = in_turns(plan.pairs, async |side| {
        let (before, until) = (thread_seconds(), Instant::now() + plan.slice / 4);
        let mut count = 0_usize;
        while Instant::now() < until {
            for record in &packs {
                let pack = record.pack().expect("a pack");
                if side == Side::A {
                    black_box(resolve(&visible, pack));
                } else {
                    let mut out = Vec::new();
                    for name in &pack.names {
                        out.extend_from_slice(&entries[&**name]);
                    }
                    black_box(Bytes::from(out));
                }
            }
            count += packs.len();
        }
        (thread_seconds() - before) / count as f64
    })
    .await;
    let (ours, bare) = pairs.means();
    let note = format!(
        "{:.1} µs for {:.1} KB, bare {:.1} µs for {:.1} KB",
        ours * 1e6,
        resolved as f64 / PACKS as f64 / 1e3,
        bare * 1e6,
        resolved as f64 / PACKS as f64 / 1e3 / scale
    );
    report.ratio("cold DataPack of 100 names", "hash look-ups and copying", pairs.ratio(), Target::AtMost(2.0), &note);
    drop(visible);
    inside.close().await;
}

/// How much later than its acknowledgement a watcher sees a write.
pub async fn seen(data: &Data, dir: &Path, report: &mut Report) {
    data.copy(dir);
    let inside = Inside::open(dir).await;
    let options = WatchOptions {
        labels: LabelSelector::default(),
        fields: FieldSelector::default(),
        start: WatchStart::Now,
        bookmarks: false,
        initial_end: false,
        lasts: Duration::from_hours(1),
    };
    let mut watch = inside.registry.watch(&admin(), Kind::Image, options).await.expect("a watch");
    let watcher = tokio::spawn(async move {
        let mut seen = HashMap::new();
        while seen.len() < TIMED
            && let Some((_, items)) = watch.next().await
        {
            let now = Instant::now();
            for item in items {
                if let imagehub::registry::WatchItem::Event(_, event) = item {
                    seen.insert(event.revision.0, now);
                }
            }
        }
        seen
    });
    let mut acknowledged = HashMap::new();
    let caller = admin();
    for i in 0..TIMED {
        let number = i * 31 % data.images;
        let revision = inside.overwrite(number, i % 200 + 1).await;
        acknowledged.insert(revision, Instant::now());
        let name = data::meta_name(&image_name(number));
        let now = inside.registry.get(&caller, Kind::Image, &name, None).await.expect("it is there");
        assert!(now.1.revision.0 >= revision, "a client reads what it wrote");
        tokio::time::sleep(Duration::from_micros(500)).await;
    }
    let seen = watcher.await.expect("the watcher does not panic");
    let mut late: Vec<f64> = acknowledged
        .iter()
        .map(|(revision, at)| {
            seen.get(revision).map_or(f64::INFINITY, |s| s.saturating_duration_since(*at).as_secs_f64() * 1e3)
        })
        .collect();
    let note = format!("p99 of {TIMED}; median {:.3} ms; the writer itself always", quantile(&mut late, 0.5));
    report.figure(
        "write acknowledged, to visible to a watcher",
        "",
        quantile(&mut late, 0.99),
        "ms",
        Target::AtMost(1.0),
        &note,
    );
    inside.close().await;
}

/// What the change of an image that very many packs name does to others' writes.
pub async fn fan_out(plan: &Plan, data: &Data, dir: &Path, report: &mut Report) {
    data.copy(dir);
    let inside = Arc::new(Inside::open(dir).await);
    let makers = (0..64).map(|maker| {
        let inside = Arc::clone(&inside);
        let (packs, images) = (plan.packs, data.images);
        tokio::spawn(async move {
            for i in (maker..packs).step_by(64) {
                inside.create(pack_of(&[image_name(0), image_name(i % (images - 1) + 1)], "base")).await;
            }
        })
    });
    for maker in makers.collect::<Vec<_>>() {
        maker.await.expect("the packs are made");
    }
    let mut calm = Vec::new();
    let mut worst = Vec::new();
    let mut edition = 1;
    for round in 0..=plan.pairs {
        let mut times = [Vec::new(), Vec::new()];
        for (phase, times) in times.iter_mut().enumerate() {
            let until = Instant::now() + plan.slice;
            if phase == 1 {
                let inside = Arc::clone(&inside);
                tokio::spawn(async move { inside.overwrite(0, edition).await });
                edition = edition % 200 + 1;
            }
            let mut number = 1;
            while Instant::now() < until {
                number = (number + 101) % data.images.max(2);
                let started = Instant::now();
                if number > 0 {
                    inside.overwrite(number, edition).await;
                    edition = edition % 200 + 1;
                }
                times.push(started.elapsed().as_secs_f64() * 1e3);
            }
        }
        if round > 0 {
            let [before, after] = &mut times;
            calm.push(quantile(before, 0.99));
            worst.push(quantile(after, 0.99) - quantile(before, 0.99));
        }
    }
    let note = format!(
        "p99 of writes in the {:?} after it less p99 before, the median of {} changes (the worst {:.1} ms); p99 before {:.1} ms",
        plan.slice,
        worst.len(),
        quantile(&mut worst, 1.0),
        quantile(&mut calm, 0.5)
    );
    let what = format!("change of an image that {} packs name", plan.packs);
    report.figure(&what, "delay of other writers", quantile(&mut worst, 0.5), "ms", Target::AtMost(20.0), &note);
    if let Ok(inside) = Arc::try_unwrap(inside).map_err(|_| ()) {
        inside.close().await;
    }
}
