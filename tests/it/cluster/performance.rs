//! Figures of the server in a cluster, each beside the same request to a plain custom resource of the same schema:
//! `make bench-cluster`.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use http::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::installed::{Installed, until};
use crate::harness::{Client, MERGE_PATCH, image, object, path};

/// Images of each kind.
const IMAGES: usize = 10_000;
/// How often each pair is measured.
const PAIRS: usize = 5;
/// How long each measurement lasts.
const SLICE: Duration = Duration::from_secs(1);
/// Requests under way at a time, where many are.
const MANY: usize = 16;
/// The group of the custom resource.
const PLAIN: &str = "/apis/plain.test.imagehub/v1/images";

/// One of the two that are compared.
#[derive(Clone)]
struct Side {
    client: Client,
    at: &'static str,
    version: &'static str,
}

fn meta_name(number: usize) -> String {
    format!("org{}.repo{}.v{}", number / 100, number / 10, number % 10)
}

impl Side {
    fn body(&self, number: usize) -> Value {
        let name = format!("org{}/repo{}:v{}", number / 100, number / 10, number % 10);
        let detail = json!({
            "docs": "a few words of what it is and does, ".repeat(20), "description": "an image", "arch": "amd64",
            "keywords": ["Storage", "Kubernetes"], "size": 123_456_789, "ID": format!("sha256:{number:064x}"),
        });
        let mut image = image(&name, detail);
        image["apiVersion"] = self.version.into();
        image
    }

    async fn ask(&self, verb: &str, number: usize) {
        let one = format!("{}/{}", self.at, meta_name(number % IMAGES));
        // Made under names of their own, which the deletions take again.
        let fresh = IMAGES + number;
        let response = match verb {
            "get" => self.client.get(&one).await,
            "list of 500" => self.client.get(&format!("{}?limit=500", self.at)).await,
            "list by name" => {
                let name = meta_name(number % IMAGES);
                self.client.get(&format!("{}?fieldSelector=metadata.name%3D{name}", self.at)).await
            }
            "create" => self.client.post(self.at, &self.body(fresh)).await,
            "merge patch" => {
                let patch = json!({ "metadata": { "annotations": { "count": number.to_string() } } });
                self.client.patch(&one, MERGE_PATCH, &patch).await
            }
            "delete" => self.client.delete(&format!("{}/{}", self.at, meta_name(fresh))).await,
            other => unreachable!("{other}"),
        };
        assert!(matches!(response.status, 200 | 201), "{verb}: {response}");
    }

    /// How many requests a second are answered, and how many were: `from` is the first number.
    async fn rate(&self, verb: &'static str, at_a_time: usize, from: usize) -> (f64, usize) {
        let (started, mut next) = (Instant::now(), from);
        let mut tasks = JoinSet::new();
        while started.elapsed() < SLICE {
            while tasks.len() < at_a_time {
                let (side, number) = (self.clone(), next);
                next += 1;
                tasks.spawn(async move { side.ask(verb, number).await });
            }
            tasks.join_next().await.expect("there is one").expect("a request does not panic");
        }
        while let Some(done) = tasks.join_next().await {
            done.expect("a request does not panic");
        }
        #[expect(clippy::cast_precision_loss, reason = "counts are small")]
        let rate = (next - from) as f64 / started.elapsed().as_secs_f64();
        (rate, next - from)
    }

    async fn fill(&self) -> Duration {
        let started = Instant::now();
        let mut tasks = JoinSet::new();
        for number in 0..IMAGES {
            if tasks.len() == MANY {
                tasks.join_next().await.expect("there is one").expect("a request does not panic");
            }
            let side = self.clone();
            tasks.spawn(async move { assert_eq!(side.client.post(side.at, &side.body(number)).await.status, 201) });
        }
        while let Some(done) = tasks.join_next().await {
            done.expect("a request does not panic");
        }
        started.elapsed()
    }
}

/// The schema of Image as a custom resource can have it.
fn definition() -> Value {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi/kube/v3.json");
    let document: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let mut spec = document["components"]["schemas"]["io.sealos.imagehub.v1.Image"]["properties"]["spec"].clone();
    structural(&mut spec);
    let schema = json!({ "type": "object", "properties": { "spec": spec } });
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": "images.plain.test.imagehub" },
        "spec": {
            "group": "plain.test.imagehub", "scope": "Cluster",
            "names": { "kind": "Image", "listKind": "ImageList", "plural": "images", "singular": "image" },
            "versions": [{
                "name": "v1", "served": true, "storage": true, "schema": { "openAPIV3Schema": schema },
            }],
        },
    })
}

/// Takes out of a schema what a custom resource must not have.
fn structural(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            fields.retain(|name, _| !name.starts_with("x-kubernetes-group"));
            fields.values_mut().for_each(structural);
        }
        Value::Array(all) => all.iter_mut().for_each(structural),
        _ => {}
    }
}

fn mean(all: &[f64]) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "counts are small")]
    let count = all.len() as f64;
    (all.iter().map(|x| x.ln()).sum::<f64>() / count).exp()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it measures: make bench-cluster"]
async fn verbs_beside_those_of_a_plain_custom_resource() {
    let installed = Installed::start(2).await;
    let admin = installed.admin();
    installed
        .cluster
        .ok(Method::POST, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", Some(definition()))
        .await;
    until("the custom resource", async || admin.get(PLAIN).await.status == 200).await;
    let ours =
        Side { client: admin.clone(), at: "/apis/imagehub.sealos.io/v1/images", version: "imagehub.sealos.io/v1" };
    let plain = Side { client: admin.clone(), at: PLAIN, version: "plain.test.imagehub/v1" };
    let mut out = String::from("| what | imagehub | custom resource | ratio |\n|---|---|---|---|\n");
    let mut row = |what: &str, ours: String, plain: &str, ratio: &str| {
        eprintln!("  {what} | {ours} | {plain} | {ratio}");
        writeln!(out, "| {what} | {ours} | {plain} | {ratio} |").expect("a String takes all");
    };

    let (plain_took, ours_took) = (plain.fill().await, ours.fill().await);
    let rate = |took: Duration| format!("{:.0}/s", f64::from(u32::try_from(IMAGES).unwrap()) / took.as_secs_f64());
    let ratio = plain_took.as_secs_f64() / ours_took.as_secs_f64();
    row("10,000 creates, 16 at a time", rate(ours_took), &rate(plain_took), &format!("{ratio:.2}"));

    let (mut counts, mut deleted) = ([0, 0], [0, 0]);
    for verb in ["get", "list by name", "list of 500", "merge patch", "create", "delete"] {
        for at_a_time in [1, MANY] {
            let mut rates = [Vec::new(), Vec::new()];
            for pair in 0..=PAIRS {
                for (which, side) in if pair % 2 == 0 { [(0, &ours), (1, &plain)] } else { [(1, &plain), (0, &ours)] } {
                    let from = if verb == "delete" { deleted[which] } else { counts[which] };
                    if verb == "delete" {
                        // Made for it, unmeasured.
                        while counts[which] < deleted[which] + 2500 {
                            side.ask("create", counts[which]).await;
                            counts[which] += 1;
                        }
                    }
                    let (rate, made) = side.rate(verb, at_a_time, from).await;
                    match verb {
                        "create" => counts[which] += made,
                        "delete" => deleted[which] += made,
                        _ => {}
                    }
                    if pair > 0 {
                        rates[which].push(rate);
                    }
                }
            }
            let [ours, plain] = rates.each_ref().map(|rates| mean(rates));
            let what = format!("{verb}, {at_a_time} at a time");
            row(&what, format!("{ours:.0}/s"), &format!("{plain:.0}/s"), &format!("{:.2}", ours / plain));
        }
    }

    for names in [10, 100] {
        let mut times = Vec::new();
        for round in 0..20 {
            let all: Vec<String> = (0..names)
                .map(|n| (n * 97 + round * 13) % IMAGES)
                .map(|n| format!("org{}/repo{}:v{}", n / 100, n / 10, n % 10))
                .collect();
            let pack = object("DataPack", &format!("pack-{names}-{round}"), json!({ "type": "grid", "names": all }));
            let started = Instant::now();
            let made = admin.post(&path("datapacks", ""), &pack).await.expect(201);
            times.push(started.elapsed().as_secs_f64() * 1e3);
            assert_eq!(made["status"]["codes"], 1);
        }
        times.sort_by(f64::total_cmp);
        let shown = format!("{:.1} ms, the slowest {:.1} ms", times[times.len() / 2], times[times.len() - 1]);
        row(&format!("from creating a pack of {names} names to its data"), shown, "", "");
    }

    let active = &installed.replicas[installed.active().await];
    let memory = active.part.resident() / (1 << 20);
    row("memory of the active replica", format!("{memory} MiB"), "", "");
    active.part.kill();
    let started = Instant::now();
    active.part.start();
    active.ready().await;
    row("start of a replica, to ready", format!("{:.2} s", started.elapsed().as_secs_f64()), "", "");

    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/performance.md");
    let text = std::fs::read_to_string(&file).unwrap();
    let (begin, end) = ("<!-- measured in a cluster: begin -->\n", "<!-- measured in a cluster: end -->");
    let (before, rest) = text.split_once(begin).expect("the file has the mark where the table begins");
    let (_, after) = rest.split_once(end).expect("the file has the mark where the table ends");
    let date = jiff::Zoned::now().strftime("%Y-%m-%d").to_string();
    let head = format!("Measured {date}; two replicas, one etcd without fsync, {PAIRS} pairs of {SLICE:?}.\n\n");
    std::fs::write(&file, format!("{before}{begin}{head}{out}{end}{after}")).unwrap();
}
