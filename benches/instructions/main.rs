//! What `make bench-ci` counts the instructions of: each hot path as one function that callgrind turns its
//! counting on and off at (`scripts/bench-ci`). One thread, a fixed seed and a clock that stands, so that the
//! counts repeat; hashers' own seeds differ from run to run, which many names level out.
//!
//! Run without callgrind it does the same work and prints nothing.

#![allow(missing_docs, reason = "a program, not a library")]

mod memory;

use std::hint::black_box;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use futures::FutureExt as _;
use http::Request;
use http_body_util::BodyExt as _;
use imagehub::api::{FieldSelector, Kind, LabelSelector, Object, Spec};
use imagehub::auth::{Authenticator, Authorizer, Caller, Peer};
use imagehub::clock::ManualClock;
use imagehub::datapack::{Packs, resolve};
use imagehub::graph::{Graph, Record, Window};
use imagehub::kube_api::{self, App};
use imagehub::registry::{Registry, WriteOptions};
use memory::Memory;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

/// Images in the catalogue.
const IMAGES: usize = 1000;
/// Tags of one repository.
const TAGS: usize = 10;
const GROUP: &str = "/apis/imagehub.sealos.io/v1";

/// How often each path is gone.
const TIMES: usize = 200;
/// The same for those that take long.
const FEW: usize = 20;

/// The server without its listeners.
struct World {
    runtime: Runtime,
    registry: Arc<Registry>,
    router: Router,
    packs: Vec<Arc<Record>>,
    next: usize,
}

fn name(number: usize) -> String {
    format!("org{}/repo{}:v1.{}.0", number / 100, number / TAGS, number % TAGS)
}

fn spec(number: usize, edition: usize) -> Value {
    json!({
        "name": name(number), "type": "cluster-image",
        "detail": {
            "keywords": ["Storage", "Kubernetes"], "description": format!("Edition {edition:03} of an image that runs well."),
            "icon": "https://cdn.example.com/icon.svg", "docs": "Install it, and it keeps what it is given. ".repeat(20),
            "url": "https://example.com/", "ID": format!("sha256:{number:064x}"), "arch": "amd64",
            "size": 100_000_000 + number, "creatTime": format!("2025-{:02}-01T12:30:00Z", number % TAGS + 1),
        },
    })
}

fn body(number: usize, edition: usize) -> Value {
    json!({
        "apiVersion": "imagehub.sealos.io/v1", "kind": "Image",
        "metadata": { "name": name(number).replace(['/', ':'], ".") }, "spec": spec(number, edition),
    })
}

fn admin() -> Caller {
    Caller::authenticated("admin", ["system:masters".to_owned()])
}

fn request(method: &str, path: &str, body: impl Into<Body>) -> Request<Body> {
    let request = Request::builder().method(method).uri(format!("{GROUP}/{path}"));
    let media = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    let request = request.header("accept", "application/json").header("content-type", media);
    request.extension(Arc::new(Peer::known(admin()))).body(body.into()).expect("a request")
}

impl World {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let storage = Arc::new(Memory::default());
        let clock = ManualClock::at(jiff::Timestamp::from_second(1_800_000_000).expect("a time"));
        let (graph, writer) =
            runtime.block_on(Graph::open(storage.clone(), Window::default())).expect("an empty storage can be read");
        runtime.spawn(writer.run());
        let registry = Arc::new(Registry::new(storage, graph, Arc::new(Packs::default()), clock));
        let (_, ready) = tokio::sync::watch::channel(true);
        let router = kube_api::router(App {
            registry: Arc::clone(&registry),
            authenticator: Authenticator::local(None, None, registry.clock().clone()),
            authorizer: Authorizer::Rules,
            relay: None,
            ready,
            stop: CancellationToken::new(),
        });
        let mut world = Self { runtime, registry, router, packs: Vec::new(), next: 0 };
        for _ in 0..IMAGES {
            world.create_image();
        }
        for first in 0..FEW {
            let names: Vec<String> = (0..100).map(|i| name((first * 37 + i * 9) % IMAGES)).collect();
            world.packs.push(world.create(json!({ "type": "grid", "names": names }), Kind::DataPack));
        }
        world
    }

    fn create(&self, spec: Value, kind: Kind) -> Arc<Record> {
        let spec = Spec::from_value(kind, spec).expect("a spec");
        let name = spec.name().map(|name| name.replace(['/', ':'], "."));
        let metadata = k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta { name, ..Default::default() };
        let admin = admin();
        let made = self.registry.create(&admin, Object { metadata, spec }, WriteOptions::default());
        self.runtime.block_on(made).expect("the object is made").record
    }

    fn create_image(&mut self) {
        self.create(spec(self.next, 0), Kind::Image);
        self.next += 1;
    }

    /// The bytes of the answer.
    fn ask(&self, request: Request<Body>) -> usize {
        self.runtime.block_on(async {
            let response = self.router.clone().oneshot(request).await.expect("it never fails");
            assert!(response.status().is_success(), "{}", response.status());
            response.into_body().collect().await.expect("a body").to_bytes().len()
        })
    }
}

#[inline(never)]
fn counted_pack_get(world: &World) {
    let path = format!("datapacks/{}", world.packs[0].name());
    for _ in 0..TIMES {
        black_box(world.ask(request("GET", &path, Body::empty())));
    }
}

#[inline(never)]
fn counted_pack_post(world: &World, body: &str) {
    for _ in 0..FEW {
        black_box(world.ask(request("POST", "datapacks", body.to_owned())));
    }
}

#[inline(never)]
fn counted_image_get(world: &World) {
    for number in 0..TIMES {
        let path = format!("images/{}", name(number * 3).replace(['/', ':'], "."));
        black_box(world.ask(request("GET", &path, Body::empty())));
    }
}

#[inline(never)]
fn counted_list_page(world: &World) {
    for _ in 0..FEW {
        black_box(world.ask(request("GET", "images?limit=500", Body::empty())));
    }
}

#[inline(never)]
fn counted_create(world: &mut World) {
    for _ in 0..TIMES {
        world.create_image();
    }
}

#[inline(never)]
fn counted_pack_resolve(world: &World) {
    let visible = world.registry.reader(&admin()).visible;
    for pack in &world.packs {
        black_box(resolve(&visible, pack.pack().expect("a pack")));
    }
}

#[inline(never)]
fn counted_selectors() {
    for _ in 0..TIMES {
        let labels = "organization.imagehub.sealos.io=labring,tag.imagehub.sealos.io in (v1, v2, v3),!deprecated";
        black_box(LabelSelector::parse(black_box(labels)).expect("a selector"));
        black_box(FieldSelector::parse(black_box("metadata.name=labring.nginx.v1")).expect("a selector"));
    }
}

/// An overwrite through the door: parsing, validation, the commit, and the graph's writer.
#[inline(never)]
fn counted_update(world: &World, bodies: &[String]) {
    for (number, body) in bodies.iter().enumerate() {
        let path = format!("images/{}", name(number * 3).replace(['/', ':'], "."));
        black_box(world.ask(request("PATCH", &path, body.clone())));
    }
}

/// The rendering of what a watcher is sent: each event waits when it is asked.
#[inline(never)]
fn counted_watch_events(runtime: &Runtime, body: &mut Body, events: usize) {
    let mut got = 0;
    runtime.block_on(async {
        while got < events {
            let frame = body.frame().await.expect("it goes on").expect("a frame");
            got += frame.data_ref().map_or(0, |data| data.split(|byte| *byte == b'\n').count() - 1);
        }
    });
}

/// What the graph's writer does for a commit: decoding it, applying it, publishing.
#[inline(never)]
fn counted_graph_apply(runtime: &Runtime, graph: &Graph, last: imagehub::storage::Revision) {
    runtime.block_on(graph.reached(last));
}

fn main() {
    let mut world = World::new();
    world.ask(request("GET", &format!("datapacks/{}", world.packs[0].name()), Body::empty()));
    counted_pack_get(&world);

    let names: Vec<String> = (0..100).map(|i| name(i * 7)).collect();
    let pack = json!({
        "apiVersion": "imagehub.sealos.io/v1", "kind": "DataPack", "spec": { "type": "base", "names": names },
    });
    let pack = pack.to_string();
    world.ask(request("POST", "datapacks", pack.clone()));
    counted_pack_post(&world, &pack);
    counted_image_get(&world);
    counted_list_page(&world);
    counted_pack_resolve(&world);
    counted_selectors();
    counted_create(&mut world);

    let path = format!("images?watch=true&resourceVersion={}", world.registry.graph().revision());
    let watch = world.runtime.block_on(world.router.clone().oneshot(request("GET", &path, Body::empty())));
    let mut watch = watch.expect("it never fails").into_body();
    let bodies: Vec<String> = (0..FEW * 2).map(|number| body(number * 3, 1).to_string()).collect();
    counted_update(&world, &bodies);
    counted_watch_events(&world.runtime, &mut watch, bodies.len());
    let more = world.runtime.block_on(async { watch.frame().now_or_never().is_some() });
    assert!(!more, "all events have been sent");

    apply();
}

/// A graph whose storage has commits that it hasn't seen.
fn apply() {
    let world = World::new();
    let storage = Arc::new(Memory::default());
    let runtime = &world.runtime;
    let visible = world.registry.reader(&admin()).visible;
    let all: Vec<_> = (0..IMAGES)
        .map(|number| {
            let record = visible.get(Kind::Image, &name(number).replace(['/', ':'], ".")).expect("it is there");
            (record.key.clone(), imagehub::graph::encode(&record.envelope, &record.object()))
        })
        .collect();
    for (key, value) in &all {
        storage.put(key.clone(), value.clone());
    }
    let (graph, writer) = runtime.block_on(Graph::open(storage.clone(), Window::default())).expect("it can be read");
    let task = runtime.spawn(writer.run());
    // The writer gets to wait for more.
    runtime.block_on(tokio::task::yield_now());
    let mut last = graph.revision();
    for (key, value) in all.iter().step_by(IMAGES / TIMES) {
        last = storage.put(key.clone(), value.clone());
    }
    counted_graph_apply(runtime, &graph, last);
    task.abort();
}
