//! The search, in this process: how long a question takes, and how long it takes until there are answers.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _};
use imagehub::api::{Kind, Object, Spec};
use imagehub::graph::{Envelope, Graph, Key, Revision, Sight, Window, encode};
use imagehub::search::{Filter, Order, OrderField, Page, Query, Search, Text};
use imagehub::storage::{Commit, CommitError, Identity, ReadError, State, Storage, Write};
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};

use crate::data::{REPOSITORIES, TAGS};
use crate::measure::{Plan, memory, quantile};
use crate::report::{Report, Target};

/// Different words in the catalogue's text, some far more frequent than others.
const WORDS: u32 = 30_000;
/// Questions of each sort.
const QUESTIONS: usize = 300;
const KEYWORDS: [&str; 6] = ["Storage", "Network", "Database", "Monitoring", "Logging", "GPU"];
const ARCHITECTURES: [&str; 4] = ["amd64", "arm64", "Unkonw", ""];
const CHINESE: [&str; 8] = ["数据库", "对象存储", "微服务网关", "日志采集", "备份", "分布式", "监控告警", "消息队列"];

/// A storage that has a state, gives it away once, and is never written.
struct Shelf {
    revision: Revision,
    commits: Mutex<Vec<Commit>>,
}

impl Storage for Shelf {
    fn commit(&self, _: Write) -> BoxFuture<'_, Result<Commit, CommitError>> {
        async { Err(CommitError::NoSpace { free: 0, needed: 1 }) }.boxed()
    }

    fn get(&self, _: Key) -> BoxFuture<'_, Result<Option<Commit>, ReadError>> {
        async { Ok(None) }.boxed()
    }

    fn current(&self) -> BoxFuture<'_, Result<Revision, ReadError>> {
        async { Ok(self.revision) }.boxed()
    }

    fn state(&self) -> BoxFuture<'_, Result<State, ReadError>> {
        async { Ok(State { revision: self.revision, commits: std::mem::take(&mut *self.commits.lock()) }) }.boxed()
    }

    fn watch(&self, _: Revision) -> BoxStream<'static, Result<Vec<Commit>, ReadError>> {
        futures::stream::pending().boxed()
    }

    fn identity(&self) -> Identity {
        Identity { store_id: uuid::Uuid::nil(), epoch: 1 }
    }

    fn stopped(&self) -> BoxFuture<'static, String> {
        futures::future::pending().boxed()
    }
}

/// A word that can be pronounced, of the number: `kobare`.
fn word(number: u32) -> String {
    const CONSONANTS: &[u8] = b"bcdfghklmnprstvz";
    const VOWELS: &[u8] = b"aeiou";
    let mut rest = number + 80;
    let mut word = String::new();
    while rest > 0 {
        word.push(char::from(CONSONANTS[rest as usize % CONSONANTS.len()]));
        rest /= CONSONANTS.len() as u32;
        word.push(char::from(VOWELS[rest as usize % VOWELS.len()]));
        rest /= VOWELS.len() as u32;
    }
    word
}

/// A word as texts have them: the tenth is as frequent as ten others together, about.
fn any_word(rng: &mut SmallRng) -> String {
    let share: f64 = rng.random();
    word((f64::from(WORDS).powf(share) - 1.0) as u32)
}

fn text(rng: &mut SmallRng, words: usize) -> String {
    let mut text = String::new();
    for _ in 0..words {
        if rng.random_range(0..20) == 0 {
            text.push_str(CHINESE[rng.random_range(0..CHINESE.len())]);
        } else {
            text.push_str(&any_word(rng));
        }
        text.push(' ');
    }
    text
}

fn name(number: usize) -> String {
    let (first, second) = (number as u32 * 7919 % 2000, number as u32 * 104_729 % WORDS);
    format!("org{}/{}-{}-{number}", number / REPOSITORIES, word(first), word(second))
}

fn commit(revision: usize, kind: Kind, metadata: &Value, spec: Value, downloads: i64) -> Commit {
    let metadata = serde_json::from_value(metadata.clone()).expect("it is metadata");
    let object = Object { metadata, spec: Spec::from_value(kind, spec).expect("it is a spec") };
    let envelope = Envelope { download_count: downloads, ..Envelope::default() };
    let name = object.metadata.name.clone().expect("it has a name");
    let value = Some(encode(&envelope, &object));
    Commit { revision: Revision(revision as u64), at_ms: 1, key: Key::new(kind, name), value }
}

fn catalogue(repositories: usize) -> Vec<Commit> {
    let mut rng = SmallRng::seed_from_u64(11);
    let mut commits = Vec::new();
    for number in 0..repositories {
        let full = name(number);
        let keyword = KEYWORDS[rng.random_range(0..KEYWORDS.len())];
        let created = format!("2025-{:02}-{:02}T12:00:00Z", rng.random_range(1..13), rng.random_range(1..29));
        let metadata = |name: &str| {
            json!({ "name": name.replace(['/', ':'], "."), "uid": name, "creationTimestamp": created,
                "labels": { format!("keyword.imagehub.sealos.io/{keyword}"): "" } })
        };
        let downloads = i64::from(rng.random_range(0..1000_u32).pow(2));
        let spec = json!({ "name": full, "isPrivate": rng.random_range(0..20) == 0 });
        commits.push(commit(commits.len() + 1, Kind::Repository, &metadata(&full), spec, downloads));
        let image = format!("{full}:v1.0.0");
        let docs = rng.random_range(40..160);
        let spec = json!({ "name": image, "type": "cluster-image", "detail": {
            "keywords": [keyword, any_word(&mut rng)], "description": text(&mut rng, 16), "docs": text(&mut rng, docs),
            "arch": ARCHITECTURES[rng.random_range(0..ARCHITECTURES.len())],
        } });
        commits.push(commit(commits.len() + 1, Kind::Image, &metadata(&image), spec, 0));
    }
    commits
}

fn query(text: &str) -> Query {
    let page = Page { limit: 20, ..Page::default() };
    Query { text: Text::parse(text).expect("it is short"), page, facet_values: 20, ..Query::default() }
}

/// A question of each sort.
fn questions(rng: &mut SmallRng, repositories: usize) -> Vec<(&'static str, Query)> {
    let any = name(rng.random_range(0..repositories));
    let (_, repo) = any.split_once('/').expect("it has an organization");
    let mut typo = repo.split('-').nth(1).unwrap_or(repo).to_owned();
    typo.insert(3, 'x');
    let order = |field, descending| Query { order: Order { field, descending }, ..query("") };
    let filter = Filter {
        keywords: vec!["Database".to_owned()],
        architectures: Some(vec![Some("amd64".to_owned()), None]),
        ..Filter::default()
    };
    let frequent = format!("{} {}", word(rng.random_range(0..4)), word(rng.random_range(0..4)));
    vec![
        ("a name", query(repo)),
        ("a name with a tag", query(&format!("{any}:v1.0.0"))),
        ("a letter", query(&repo[..1])),
        ("a beginning", query(&repo[..4])),
        ("two frequent words", query(&frequent)),
        ("two words", query(&format!("{} {}", any_word(rng), any_word(rng)))),
        ("a keyword", query("database")),
        ("Chinese", query(CHINESE[rng.random_range(0..CHINESE.len())])),
        ("a typo", query(&typo)),
        ("nothing, by name", order(OrderField::Name, false)),
        ("nothing, by downloads", order(OrderField::Downloads, true)),
        ("nothing, by update, filtered", Query { filter, ..order(OrderField::Updated, true) }),
    ]
}

/// How long questions take, of each sort, one after the other on one core.
pub async fn finds(plan: &Plan, report: &mut Report) {
    let repositories = plan.images.div_ceil(TAGS);
    let commits = catalogue(repositories);
    let shelf = Shelf { revision: Revision(commits.len() as u64), commits: Mutex::new(commits) };
    let (graph, _writer) = Graph::open(Arc::new(shelf), Window::default()).await.expect("the graph is filled");
    let before = memory(std::process::id(), "VmRSS");
    let started = Instant::now();
    let (search, indexer) = Search::open(Arc::clone(&graph)).expect("an index can be made");
    let running = tokio::spawn(indexer.run());
    while search.reached(graph.revision()).await.is_err() {}
    let ready = started.elapsed();
    let grown = (memory(std::process::id(), "VmRSS") - before) / 1e6;
    let note = format!("{grown:.0} MB more memory, {:.1} KB a repository", grown * 1e3 / repositories as f64);
    let what = format!("search over {repositories} repositories ready");
    report.figure(&what, "", ready.as_secs_f64(), "s", Target::AtMost(60.0), &note);

    let visible = graph.visible(Sight::Public);
    let mut rng = SmallRng::seed_from_u64(12);
    let mut all = Vec::new();
    let mut sorts: Vec<(&str, Vec<f64>)> = Vec::new();
    for round in 0..=QUESTIONS {
        for (sort, query) in questions(&mut rng, repositories) {
            let started = Instant::now();
            black_box(search.find(&visible, &query).expect("it is ready"));
            let took = started.elapsed().as_secs_f64() * 1e3;
            // The first round warms up.
            if round == 0 {
                sorts.push((sort, Vec::new()));
                continue;
            }
            all.push(took);
            if let Some((_, times)) = sorts.iter_mut().find(|(name, _)| *name == sort) {
                times.push(took);
            }
        }
    }
    let each = sorts.iter_mut().map(|(sort, times)| {
        let (median, p99) = (quantile(times, 0.5), quantile(times, 0.99));
        (p99, format!("{sort} {median:.1}/{p99:.1}"))
    });
    let each: Vec<(f64, String)> = each.collect();
    let shown: Vec<&str> = each.iter().map(|(_, text)| text.as_str()).collect();
    let note =
        format!("p99 of all; median {:.2} ms; median/p99 of each sort: {}", quantile(&mut all, 0.5), shown.join(", "));
    let what = format!("find with facets over {repositories} repositories, one core");
    report.figure(&what, "", quantile(&mut all, 0.99), "ms", Target::AtMost(10.0), &note);
    running.abort();
}
