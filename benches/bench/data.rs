//! The data that is measured: images, repositories and organizations made from a seed, written into a data
//! directory that is kept for the next run.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use imagehub::api::{Kind, Object, Spec};
use imagehub::clock::SystemClock;
use imagehub::datapack::Packs;
use imagehub::graph::{Envelope, Graph, Key, Window, encode};
use imagehub::registry::Registry;
use imagehub::storage::embedded::{Embedded, Options};
use imagehub::storage::{Expect, Storage, Write};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};

/// Raised when the data made from a seed changes: what was made before is made anew.
const VERSION: u32 = 2;
/// Images of one repository.
pub const TAGS: usize = 10;
/// Repositories of one organization.
pub const REPOSITORIES: usize = 100;
/// Commits under way while the data is written.
const WRITERS: usize = 512;
const WORDS: [&str; 24] = [
    "cluster",
    "image",
    "server",
    "database",
    "network",
    "storage",
    "small",
    "quick",
    "runs",
    "keeps",
    "serves",
    "balances",
    "with",
    "and",
    "of",
    "the",
    "a",
    "for",
    "replicas",
    "behind",
    "a Service",
    "`kubectl`",
    "volume",
    "backup",
];
const KEYWORDS: [&str; 6] = ["Storage", "Network", "Database", "Monitoring", "Logging", "GPU"];

/// Where a set of data is, and what it holds.
#[derive(Debug, Clone)]
pub struct Data {
    /// The data directory. Never served itself: copies of it are.
    pub dir: PathBuf,
    /// How many images it has.
    pub images: usize,
    /// The bytes of all objects' JSON.
    pub json_bytes: u64,
}

/// `org/repo` of repository `number`.
pub fn repository_name(number: usize) -> String {
    format!("org{}/repo{number}", number / REPOSITORIES)
}

/// `org/repo:tag` of image `number`.
pub fn image_name(number: usize) -> String {
    format!("{}:v1.{}.0", repository_name(number / TAGS), number % TAGS)
}

/// The `metadata.name` of an object called `spec_name`.
pub fn meta_name(spec_name: &str) -> String {
    spec_name.replace(['/', ':'], ".")
}

fn uid(kind: Kind, number: usize) -> String {
    format!("00000000-0000-4000-800{}-{number:012x}", kind as u8)
}

/// `length` bytes of text, about.
fn text(rng: &mut SmallRng, length: usize) -> String {
    let mut out = String::with_capacity(length + 16);
    while out.len() < length {
        out.push_str(WORDS[rng.random_range(0..WORDS.len())]);
        out.push(if rng.random_range(0..12) == 0 { '\n' } else { ' ' });
    }
    out
}

/// The spec of image `number`: of 2 KB with its metadata, on average.
pub fn image_spec(number: usize, edition: usize) -> Value {
    let mut rng = SmallRng::seed_from_u64((number as u64) << 8 | edition as u64);
    let docs = rng.random_range(300..900);
    json!({
        "name": image_name(number),
        "type": "cluster-image",
        "detail": {
            "keywords": [KEYWORDS[number / TAGS % KEYWORDS.len()], "Kubernetes"],
            "description": text(&mut rng, 120),
            "icon": format!("https://cdn.example.com/icons/{}.svg", number / TAGS),
            "docs": text(&mut rng, docs),
            "url": "https://example.com/",
            "ID": format!("sha256:{:064x}", rng.random::<u128>()),
            "arch": "amd64",
            "size": rng.random_range(1_000_000..900_000_000_i64),
            "creatTime": format!("2025-{:02}-{:02}T12:30:00Z", number % TAGS + 1, number / TAGS % 28 + 1),
        },
    })
}

fn managed(kind: Kind) -> Value {
    let fields = match kind {
        Kind::Image => json!({ "f:metadata": { "f:labels": { ".": {} } }, "f:spec": { "f:name": {}, "f:type": {},
            "f:detail": { "f:keywords": {}, "f:description": {}, "f:icon": {}, "f:docs": {}, "f:url": {}, "f:ID": {},
            "f:arch": {}, "f:size": {}, "f:creatTime": {} } } }),
        _ => json!({ "f:spec": { "f:name": {} } }),
    };
    json!([{ "manager": "kubectl", "operation": "Apply", "apiVersion": "imagehub.sealos.io/v1",
        "time": "2025-06-01T00:00:00Z", "fieldsType": "FieldsV1", "fieldsV1": fields }])
}

/// Object `number` of `kind`, as it is stored.
pub fn object(kind: Kind, number: usize) -> (Key, Object) {
    let (spec_name, spec, owner) = match kind {
        Kind::Image => {
            let repository = number / TAGS;
            (
                image_name(number),
                image_spec(number, 0),
                Some((Kind::Repository, repository, repository_name(repository))),
            )
        }
        Kind::Repository => {
            let organization = number / REPOSITORIES;
            let name = repository_name(number);
            (
                name.clone(),
                json!({ "name": name }),
                Some((Kind::Organization, organization, format!("org{organization}"))),
            )
        }
        _ => {
            let name = format!("org{number}");
            (name.clone(), json!({ "name": name, "creator": "admin", "manager": ["admin"] }), None)
        }
    };
    let name = meta_name(&spec_name);
    let mut labels = serde_json::Map::new();
    if let Some((organization, rest)) = spec_name.split_once('/') {
        let (repository, tag) = rest.split_once(':').unwrap_or((rest, ""));
        labels.insert(imagehub::api::ORGANIZATION_LABEL.to_owned(), organization.into());
        labels.insert(imagehub::api::REPOSITORY_LABEL.to_owned(), repository.into());
        if !tag.is_empty() {
            labels.insert(imagehub::api::TAG_LABEL.to_owned(), tag.into());
        }
    }
    let mut metadata = json!({
        "name": name, "uid": uid(kind, number), "creationTimestamp": "2025-06-01T00:00:00Z", "generation": 1,
        "labels": labels, "managedFields": managed(kind),
    });
    if let Some((kind, number, name)) = owner {
        metadata["ownerReferences"] = json!([{
            "apiVersion": "imagehub.sealos.io/v1", "kind": kind.name(), "name": meta_name(&name),
            "uid": uid(kind, number), "controller": true, "blockOwnerDeletion": true,
        }]);
    }
    let metadata = serde_json::from_value(metadata).expect("it is metadata");
    let spec = Spec::from_value(kind, spec).expect("it is a spec");
    (Key::new(kind, name), Object { metadata, spec })
}

/// All objects of a catalogue of `images`: owners first.
fn objects(images: usize) -> impl Iterator<Item = (Key, Object)> {
    let repositories = images.div_ceil(TAGS);
    let organizations = repositories.div_ceil(REPOSITORIES);
    let all = |kind, count| (0..count).map(move |number| object(kind, number));
    all(Kind::Organization, organizations).chain(all(Kind::Repository, repositories)).chain(all(Kind::Image, images))
}

impl Data {
    /// The data of `images` images under `root`: what is there, or made now.
    pub async fn prepare(root: &Path, images: usize) -> Self {
        let dir = root.join(format!("images-{images}"));
        let note = dir.join("bench.json");
        let known = std::fs::read(&note).ok().and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
        if let Some(known) = known.filter(|known| known["version"] == VERSION) {
            return Self { dir, images, json_bytes: known["json"].as_u64().unwrap_or_default() };
        }
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).expect("the directory of the data can be made");
        let started = Instant::now();
        eprintln!("making {images} images in {} (once)", dir.display());
        // Without history, first and last: a start reads the state, as it does once all is older than the window.
        let storage = open(&dir, Duration::ZERO);
        let bytes = AtomicU64::new(0);
        let envelope = Envelope { creator: Some("admin".into()), ..Envelope::default() };
        futures::stream::iter(objects(images))
            .map(|(key, object)| {
                let value = encode(&envelope, &object);
                bytes.fetch_add(value.len() as u64, Ordering::Relaxed);
                storage.commit(Write { key, expect: Expect::Absent, value: Some(value) })
            })
            .buffer_unordered(WRITERS)
            .for_each(|done| async { drop(done.expect("the commit is made")) })
            .await;
        storage.compact().await.expect("the store compacts");
        storage.close();
        let storage = open(&dir, Duration::from_hours(24));
        announce(&storage, images).await;
        storage.close();
        let storage = open(&dir, Duration::ZERO);
        storage.compact().await.expect("the store compacts");
        storage.close();
        let json_bytes = bytes.into_inner();
        let known = json!({ "version": VERSION, "json": json_bytes });
        std::fs::write(&note, known.to_string()).expect("the note of the data can be written");
        eprintln!("made in {:.0?}: {} MB of JSON", started.elapsed(), json_bytes >> 20);
        Self { dir, images, json_bytes }
    }

    /// A copy that can be written to, in `to`.
    pub fn copy(&self, to: &Path) {
        let _ = std::fs::remove_dir_all(to);
        std::fs::create_dir_all(to).expect("the directory of the copy can be made");
        for entry in std::fs::read_dir(&self.dir).expect("the data is there").flatten() {
            if entry.path().is_file() {
                std::fs::copy(entry.path(), to.join(entry.file_name())).expect("the data can be copied");
            }
        }
    }
}

fn open(dir: &Path, history: Duration) -> Arc<Embedded> {
    let options = Options { history, ..Options::default() };
    Embedded::open(dir, options, Arc::new(SystemClock)).expect("the store opens")
}

/// Does what the controllers would at the first start: announces every computed status.
async fn announce(storage: &Arc<Embedded>, images: usize) {
    let (graph, writer) = Graph::open(storage.clone(), Window::default()).await.expect("the graph is filled");
    let writer = tokio::spawn(writer.run());
    let registry = Registry::new(storage.clone(), graph, Arc::new(Packs::default()), Arc::new(SystemClock));
    let repositories = images.div_ceil(TAGS);
    let keys = (0..repositories.div_ceil(REPOSITORIES))
        .map(|number| Key::new(Kind::Organization, format!("org{number}")))
        .chain((0..repositories).map(|number| Key::new(Kind::Repository, meta_name(&repository_name(number)))));
    futures::stream::iter(keys)
        .map(|key| {
            let registry = &registry;
            async move { registry.refresh(&key).await }
        })
        .buffer_unordered(WRITERS / 2)
        .for_each(|done| async {
            done.expect("the announcement is made");
        })
        .await;
    writer.abort();
}
