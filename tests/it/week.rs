//! A week of a server's life by a clock that the test moves: what expires goes, what is superseded is
//! compacted, and nothing grows without bound.

use std::sync::Arc;
use std::time::Duration;

use imagehub::api::{DataPackSpec, Grain, ImageDetail, ImageSpec, Kind, Object, Spec};
use imagehub::auth::Caller;
use imagehub::clock::{Clock as _, ManualClock, SharedClock};
use imagehub::controller;
use imagehub::datapack::Packs;
use imagehub::graph::{Graph, Window};
use imagehub::registry::{Registry, WriteOptions};
use imagehub::storage::Storage;
use imagehub::storage::embedded::{Embedded, Options};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::harness::within;

const STEP: Duration = Duration::from_mins(30);
const STEPS: usize = 7 * 48;
const IMAGES: usize = 10;
const PACKS_A_STEP: usize = 3;
/// Packs live for two hours, so that those of so many steps are there at a time.
const PACKS: usize = PACKS_A_STEP * 5;

fn object(name: Option<String>, spec: Spec) -> Object {
    Object { metadata: ObjectMeta { name, ..ObjectMeta::default() }, spec }
}

fn image(number: usize, description: String) -> Object {
    let detail = ImageDetail { description: Some(description), ..ImageDetail::default() };
    let spec = ImageSpec { name: format!("acme/tool{number}:v1"), image_type: None, detail: Some(detail) };
    object(Some(format!("acme.tool{number}.v1")), Spec::Image(spec))
}

fn pack(step: usize, number: usize) -> Object {
    let names = [step % IMAGES, (step + number + 1) % IMAGES].map(|i| format!("acme/tool{i}:v1"));
    let names = names.into_iter().chain([format!("acme/none:{step}-{number}")]).collect();
    let spec = DataPackSpec { grain: Some(Grain::Grid), names: Some(names), expire_time: Some("2h".to_owned()) };
    object(None, Spec::DataPack(spec))
}

#[tokio::test]
async fn in_a_week_nothing_grows_without_bound() {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(Timestamp::from_second(1_800_000_000).unwrap());
    let shared: SharedClock = clock.clone();
    let storage = Embedded::open(dir.path(), Options::default(), shared.clone()).unwrap();
    let (graph, writer) = Graph::open(storage.clone(), Window::default()).await.unwrap();
    let registry = Arc::new(Registry::new(storage.clone(), Arc::clone(&graph), Arc::new(Packs::new(1 << 20)), shared));
    let writer = tokio::spawn(writer.run());
    let controllers = tokio::spawn(controller::run(Arc::clone(&registry)));
    let caller = Caller::system();
    let now = WriteOptions::default();
    for number in 0..IMAGES {
        registry.create(&caller, image(number, String::new()), now).await.unwrap();
    }
    let mut changes = graph.changes(Kind::DataPack);
    let mut largest = 0;
    for step in 0..STEPS {
        let name = format!("acme.tool{}.v1", step % IMAGES);
        let (_, record) = registry.get(&caller, Kind::Image, &name, None).await.unwrap();
        let mut next = image(step % IMAGES, format!("as of step {step}"));
        next.metadata.resource_version = Some(record.revision.to_string());
        registry.update(&caller, Kind::Image, &name, &next, now).await.unwrap();
        for number in 0..PACKS_A_STEP {
            registry.create(&caller, pack(step, number), now).await.unwrap();
        }
        clock.step_ms(i64::try_from(STEP.as_millis()).unwrap());
        within("expired packs to go", async {
            loop {
                changes.mark_unchanged();
                let visible = registry.reader(&caller).visible;
                let due = clock.now().as_millisecond();
                if visible.expiries().all(|(at, _)| at > due) {
                    break;
                }
                changes.changed().await.unwrap();
            }
        })
        .await;
        let visible = registry.reader(&caller).visible;
        assert!(visible.stored(Kind::DataPack) <= PACKS, "step {step}: {} packs", visible.stored(Kind::DataPack));
        let (events, _) = visible.window_size();
        largest = largest.max(events);
    }
    // The window is five minutes, and a step is thirty: what came after the last step is all that is in it.
    assert!(largest < 100, "{largest} events were kept at once");
    let stats = registry.packs().stats();
    assert!(stats.bytes <= 1 << 20, "{stats:?}");

    clock.step_ms(3_600_000);
    storage.compact().await.unwrap();
    let revision = storage.current().await.unwrap();
    assert!(revision.0 > 5_000 / 3, "the week had {revision} commits");
    controllers.abort();
    writer.abort();
    drop((controllers.await, writer.await, registry, graph));
    storage.close();
    let report = imagehub::storage::embedded::check(dir.path()).unwrap();
    let rows = report.superseded + report.tombstones + report.live.iter().sum::<u64>();
    assert!(rows < 100, "{rows} rows are left of {revision} commits: {report}");
    assert!(report.file_bytes < 8 << 20, "{report}");
}
