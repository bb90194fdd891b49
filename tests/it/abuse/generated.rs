//! Requests that are bad in ways that nobody thought of: good ones, changed at random. Each is a dry run, so
//! that one that is still good changes nothing either.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::Method;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::json;

use super::{Bad, Victim, sanity_fault, send_all};
use crate::harness::{JSON_PATCH, MERGE_PATCH, image, nameless_pack, path};

/// How many of each sort by default; `IMAGEHUB_ABUSE_ROUNDS` is the number for a long run.
const ROUNDS: usize = 300;
const SEED: u64 = 0x1a6e_4b0b;

/// What often breaks readers.
const PIECES: [&str; 36] = [
    "null",
    "[]",
    "{}",
    "[[[[",
    "{\"a\":",
    "\"",
    "\\",
    "\\u0000",
    "\\ud800",
    "\0",
    "-0",
    "-1",
    "1e400",
    "0x10",
    "9223372036854775808",
    "18446744073709551616",
    "true",
    ",",
    ":",
    "~",
    "&a ",
    "*a",
    "<<: *a",
    "!!int ",
    "|\n",
    "? ",
    "%",
    "%00",
    "%zz",
    "\u{feff}",
    "\u{202e}",
    "../",
    "metadata",
    "spec",
    "status",
    "kind",
];

fn rounds() -> usize {
    match std::env::var("IMAGEHUB_ABUSE_ROUNDS") {
        Ok(rounds) => rounds.parse().unwrap_or_else(|e| panic!("IMAGEHUB_ABUSE_ROUNDS={rounds:?}: {e}")),
        Err(_) => ROUNDS,
    }
}

/// The text with a few changes.
fn mutated(rng: &mut StdRng, good: &[u8]) -> Vec<u8> {
    let mut bytes = good.to_vec();
    for _ in 0..rng.random_range(1..5) {
        let at = rng.random_range(0..=bytes.len());
        let end = rng.random_range(at..=bytes.len().min(at + 40));
        match rng.random_range(0..6) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..end)),
            2 => {
                let piece = PIECES[rng.random_range(0..PIECES.len())];
                drop(bytes.splice(at..end, piece.bytes()));
            }
            3 => {
                let again = bytes[at..end].to_vec();
                drop(bytes.splice(at..at, again));
            }
            4 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = rng.random();
                }
            }
            _ => {
                let piece = PIECES[rng.random_range(0..PIECES.len())];
                drop(bytes.splice(at..at, piece.bytes()));
            }
        }
    }
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_changed_at_random_are_survived() {
    let victim = Victim::start().await;
    let mut rng = StdRng::seed_from_u64(SEED);
    let detail =
        json!({ "docs": "# Text", "keywords": ["Database", "GPU"], "size": 10, "creatTime": "2020-01-01T00:00:00Z" });
    let manifest = image("acme/anvil:v3", detail.clone()).to_string();
    let yaml = "apiVersion: imagehub.sealos.io/v1\nkind: Image\nmetadata:\n  name: acme.anvil.v3\n  labels: &l {a: b}\n  \
                annotations: *l\nspec:\n  name: acme/anvil:v3\n  detail: {docs: |\n    text\n  , keywords: [Database]}\n";
    let pack = nameless_pack("detail", &["acme/anvil:v1", "a/b:c"]).to_string();
    let merge = json!({ "metadata": { "labels": { "a": null } }, "spec": { "detail": detail } }).to_string();
    let steps = json!([
        { "op": "add", "path": "/spec/detail/keywords/-", "value": "GPU" },
        { "op": "copy", "from": "/spec/detail", "path": "/metadata/annotations" },
        { "op": "test", "path": "/kind", "value": "Image" },
        { "op": "move", "from": "/spec/detail/docs", "path": "/spec/detail/icon" },
        { "op": "remove", "path": "/spec/detail/keywords/0" },
    ])
    .to_string();
    let object = path("images", "acme.anvil.v1");
    let seeds: [(Method, String, &str, &str); 6] = [
        (Method::POST, path("images", ""), "application/json", &manifest),
        (Method::POST, path("images", ""), "application/yaml", yaml),
        (Method::POST, path("datapacks", ""), "application/json", &pack),
        (Method::PUT, object.clone(), "application/json", &manifest),
        (Method::PATCH, object.clone(), MERGE_PATCH, &merge),
        (Method::PATCH, object, JSON_PATCH, &steps),
    ];
    let mut all = Vec::new();
    for (method, place, media, good) in &seeds {
        for _ in 0..rounds() {
            let body = mutated(&mut rng, good.as_bytes());
            let what = format!("{method} of {:?}", String::from_utf8_lossy(&body));
            all.push(Bad::new(what, method.clone(), format!("{place}?dryRun=All")).body(media, Bytes::from(body)));
        }
    }
    send_all(&victim, &all, sanity_fault).await;
    victim.is_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queries_changed_at_random_are_survived() {
    let victim = Victim::start().await;
    let mut rng = StdRng::seed_from_u64(SEED + 1);
    let token = URL_SAFE_NO_PAD.encode(json!({ "rv": -1, "after": "acme.anvil.v1", "left": 1 }).to_string());
    let good = [
        "limit=1&labelSelector=a,!b,c=d,e!=f,g%20in%20(h,i),j%20notin%20(k)".to_owned(),
        "fieldSelector=metadata.name=acme.anvil.v1,metadata.name!=b&includeObject=Object".to_owned(),
        format!("limit=1&continue={token}"),
        "resourceVersion=1&resourceVersionMatch=NotOlderThan".to_owned(),
        "watch=1&timeoutSeconds=0&resourceVersion=0&allowWatchBookmarks=true&x=".to_owned(),
    ];
    let mut all = Vec::new();
    for good in &good {
        for _ in 0..rounds() {
            let changed = mutated(&mut rng, good.as_bytes());
            // What can't stand in a request's line at all is for the tests of connections.
            let plain = |b: u8| b.is_ascii_graphic() && !b"\"<>#".contains(&b);
            let query: String = changed
                .into_iter()
                .map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02x}") })
                .collect();
            // A watch would wait for what doesn't come.
            let query = query.replace("watch", "wait");
            all.push(Bad::new(format!("list?{query}"), Method::GET, format!("{}?{query}", path("images", ""))));
        }
    }
    // Versions that are yet to come are waited for, which takes its time.
    all.retain(|bad| !bad.path.contains("resourceVersion=9") && !bad.path.contains("resourceVersion=18"));
    send_all(&victim, &all, |response| match response.status {
        410 => super::refusal_fault(response),
        _ => sanity_fault(response),
    })
    .await;
    victim.is_well().await;
}
