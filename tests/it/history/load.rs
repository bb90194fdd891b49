//! The load of a recorded run: writers on a few dozen keys, observers of every kind, and the driver that
//! kills the server under them.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::model::{Action, Change, History, Key, Observer, Outcome, Read, Refusal, Seen, Step, Tick, Write};
use crate::harness::{Client, DEADLINE, Launch, MERGE_PATCH, Response, Server, Watch, object, path};

/// The annotation that holds the id of the write.
const MARKER: &str = "test.imagehub.sealos.io/marker";
/// Keys of each of the two kinds that are written.
const KEYS: u64 = 18;
/// Organizations that the images are in.
const ORGANIZATIONS: u64 = 3;
/// The name of the objects that are written last, in each kind.
const FENCE: [(&str, &str); 4] =
    [("images", "fence.fence.v1"), ("repositories", "fence.fence"), ("organizations", "fence"), ("datapacks", "fence")];

/// What a run does.
pub struct Plan {
    /// How the server is started.
    pub launch: Launch,
    /// How often it is killed.
    pub kills: u32,
    /// How long, at least and at most, in milliseconds, there is load before each kill or the end.
    pub calm: std::ops::Range<u64>,
    /// How many writers write.
    pub writers: u64,
    /// Where all that is random comes from.
    pub seed: u64,
    /// How long observers may take to see the last write.
    pub patience: Duration,
}

/// Whether the server is up (and for which time), and whether writers are to stop.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Phase {
    up: Option<u32>,
    stopping: bool,
}

struct Run {
    client: Client,
    ticks: AtomicU64,
    phase: watch::Sender<Phase>,
    acknowledged: watch::Sender<u64>,
}

impl Run {
    fn tick(&self) -> Tick {
        self.ticks.fetch_add(1, Ordering::SeqCst)
    }

    /// The server's time of being up that is not `after`; none when the run stops first.
    async fn up(&self, after: Option<u32>, until_stopped: bool) -> Option<u32> {
        let mut phase = self.phase.subscribe();
        let ready = |p: &Phase| (until_stopped && p.stopping) || (p.up.is_some() && p.up != after);
        let phase = *phase.wait_for(ready).await.expect("the driver outlives the load");
        if until_stopped && phase.stopping { None } else { phase.up }
    }
}

/// Carries out a plan, and hands back all that was recorded, and the server, still running.
pub async fn run(plan: Plan) -> (History, Server) {
    let mut server = plan.launch.start().await;
    let run = Arc::new(Run {
        client: server.admin(),
        ticks: AtomicU64::new(1),
        phase: watch::Sender::new(Phase { up: Some(0), stopping: false }),
        acknowledged: watch::Sender::new(0),
    });
    let mut rng = StdRng::seed_from_u64(plan.seed);

    let mut observers = Vec::new();
    for (kind, fence) in FENCE {
        for style in Style::ALL {
            observers.push(Watching::start(&run, kind, fence, style, rng.random()).await);
        }
    }
    let tasks: Vec<JoinHandle<(Vec<Write>, Vec<Read>)>> =
        (0..plan.writers).map(|_| tokio::spawn(Writer::new(Arc::clone(&run), rng.random()).run())).collect();

    for round in 1..=plan.kills {
        some_load(&run, &plan.calm, &mut rng).await;
        server.kill9().await;
        run.phase.send_replace(Phase { up: None, stopping: false });
        server.start_again().await;
        run.phase.send_replace(Phase { up: Some(round), stopping: false });
    }
    some_load(&run, &plan.calm, &mut rng).await;
    run.phase.send_modify(|p| p.stopping = true);

    let mut history = History::default();
    for task in tasks {
        let (writes, reads) = task.await.expect("a writer does not panic");
        history.writes.extend(writes);
        history.reads.extend(reads);
    }
    let mut last = Writer::new(Arc::clone(&run), 0);
    for kind in ["images", "datapacks"] {
        let name = FENCE.iter().find(|f| f.0 == kind).expect("both kinds have a fence").1;
        let written = last.write(Key { kind, name: name.into() }, Action::Create, None).await;
        assert!(written.is_ok(), "the last write: {:?}", last.writes.last());
    }
    history.writes.extend(last.writes);

    let patience = tokio::time::Instant::now() + plan.patience;
    for observer in observers {
        history.observers.push(observer.finish(patience).await);
    }
    for (kind, _) in FENCE {
        let step = list(&run, kind, None).await.expect("the server is up");
        let name = format!("the final list of {kind}");
        history.observers.push(Observer { name, kind, steps: vec![step], finished: true });
    }
    (history, server)
}

/// Waits until a write was acknowledged, and then for a random time more: the random moment is the point.
async fn some_load(run: &Run, calm: &std::ops::Range<u64>, rng: &mut StdRng) {
    let before = *run.acknowledged.borrow();
    let mut acknowledged = run.acknowledged.subscribe();
    // What is waited for is a lock that writers need: it goes before the sleep.
    let waited = tokio::time::timeout(DEADLINE, acknowledged.wait_for(|&n| n > before)).await.is_ok();
    assert!(waited, "no write was acknowledged in {DEADLINE:?}");
    tokio::time::sleep(Duration::from_millis(rng.random_range(calm.clone()))).await;
}

/// A version as an answer or an event shows it.
fn seen(object: &Value) -> Seen {
    let metadata = &object["metadata"];
    let mut hasher = DefaultHasher::new();
    metadata.to_string().hash(&mut hasher);
    object["spec"].to_string().hash(&mut hasher);
    Seen {
        revision: crate::harness::revision(object),
        marker: metadata["annotations"][MARKER].as_str().and_then(|m| m.parse().ok()),
        content: hasher.finish(),
    }
}

struct Writer {
    run: Arc<Run>,
    rng: StdRng,
    writes: Vec<Write>,
    reads: Vec<Read>,
}

impl Writer {
    fn new(run: Arc<Run>, seed: u64) -> Self {
        Self { run, rng: StdRng::seed_from_u64(seed), writes: Vec::new(), reads: Vec::new() }
    }

    async fn run(mut self) -> (Vec<Write>, Vec<Read>) {
        let mut up = self.run.up(None, true).await;
        while up.is_some() {
            if self.step().await.is_err() {
                up = self.run.up(up, true).await;
            } else if self.run.phase.borrow().stopping {
                break;
            }
        }
        (self.writes, self.reads)
    }

    /// One thing that a client does, at random.
    async fn step(&mut self) -> Result<(), ()> {
        let number = self.rng.random_range(0..KEYS);
        let key = if self.rng.random_bool(0.5) {
            Key { kind: "images", name: format!("history{}.app.v{number}", number % ORGANIZATIONS).into() }
        } else {
            Key { kind: "datapacks", name: format!("history-{number}").into() }
        };
        match self.rng.random_range(0..10) {
            0..3 => self.write(key, Action::Create, None).await,
            3..6 => self.write(key, Action::Patch, None).await,
            6 => self.write(key, Action::Delete(None), None).await,
            7 => self.read(key).await.map(drop),
            8 => match self.read(key.clone()).await? {
                Some((revision, _)) => self.write(key, Action::Delete(Some(revision)), None).await,
                None => Ok(()),
            },
            _ => match self.read(key.clone()).await? {
                Some((revision, object)) => self.write(key, Action::Replace(revision), Some(object)).await,
                None => self.write(key, Action::Create, None).await,
            },
        }
    }

    async fn read(&mut self, key: Key) -> Result<Option<(u64, Value)>, ()> {
        let invoked = self.run.tick();
        let answer = self.run.client.try_request(Method::GET, &path(key.kind, &key.name), &[], Bytes::new()).await;
        let returned = self.run.tick();
        let answer = answer.map_err(drop)?;
        let object = match answer.status {
            200 => Some(answer.json()),
            404 => None,
            429 | 500.. => return Ok(None),
            _ => panic!("an answer that no test expects: {answer}"),
        };
        let found = object.as_ref().map(seen);
        self.reads.push(Read { key, invoked, returned, found });
        Ok(object.map(|o| (crate::harness::revision(&o), o)))
    }

    /// One write, recorded. An error means that there was no answer.
    async fn write(&mut self, key: Key, action: Action, current: Option<Value>) -> Result<(), ()> {
        let invoked = self.run.tick();
        let marker = json!({ "metadata": { "annotations": { MARKER: invoked.to_string() } } });
        let one = path(key.kind, &key.name);
        let (method, path, form, body) = match action {
            Action::Create => {
                let mut new = fresh(&key);
                new["metadata"]["annotations"] = marker["metadata"]["annotations"].clone();
                (Method::POST, path(key.kind, ""), "application/json", new)
            }
            Action::Replace(_) => {
                let mut new = current.expect("a replacement is made from what was read");
                new["metadata"]["annotations"][MARKER] = invoked.to_string().into();
                (Method::PUT, one, "application/json", new)
            }
            Action::Patch => {
                let mut patch = marker;
                if key.kind == "images" {
                    patch["spec"] = json!({ "detail": { "description": format!("written by {invoked}") } });
                }
                (Method::PATCH, one, MERGE_PATCH, patch)
            }
            Action::Delete(None) => (Method::DELETE, one, "application/json", json!({})),
            Action::Delete(Some(revision)) => {
                let options = json!({ "apiVersion": "v1", "kind": "DeleteOptions",
                    "preconditions": { "resourceVersion": revision.to_string() } });
                (Method::DELETE, one, "application/json", options)
            }
        };
        let body = if body == json!({}) { Bytes::new() } else { body.to_string().into() };
        let answer = self.run.client.try_request(method, &path, &[("content-type", form)], body).await;
        let returned = self.run.tick();
        let answered = answer.is_ok();
        let outcome = answer.map_or(Outcome::Unknown, |answer| outcome(action, &answer));
        if matches!(outcome, Outcome::Done(_)) {
            self.run.acknowledged.send_modify(|n| *n += 1);
        }
        self.writes.push(Write { id: invoked, key, action, invoked, returned, outcome });
        answered.then_some(()).ok_or(())
    }
}

/// What a key is created as.
fn fresh(key: &Key) -> Value {
    if key.kind == "datapacks" {
        return object("DataPack", &key.name, json!({ "type": "base", "names": [] }));
    }
    let mut parts = key.name.split('.');
    let mut part = || parts.next().expect("an image's name has three parts");
    let spec = json!({ "name": format!("{}/{}:{}", part(), part(), part()), "detail": { "description": "new" } });
    object("Image", &key.name, spec)
}

fn outcome(action: Action, answer: &Response) -> Outcome {
    match (answer.status, action) {
        (200 | 202, Action::Delete(_)) => Outcome::Done(None),
        (200 | 201, _) => Outcome::Done(Some(seen(&answer.json()))),
        (404, _) => Outcome::Refused(Refusal::Missing),
        (429 | 503, _) => Outcome::Refused(Refusal::Busy),
        (409, _) => Outcome::Refused(match answer.json()["reason"].as_str() {
            Some("AlreadyExists") => Refusal::Exists,
            Some("Conflict") => Refusal::Conflict,
            _ => Refusal::Other(answer.to_string()),
        }),
        (500.., _) => Outcome::Unknown,
        _ => Outcome::Refused(Refusal::Other(answer.to_string())),
    }
}

/// How an observer goes about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    /// Watches as long as it can.
    Steady,
    /// Drops its watch now and then, and goes on from where it was, bookmarks included.
    Restless,
    /// Drops what it knows now and then, and lists again, in pages.
    Forgetful,
}

impl Style {
    const ALL: [Self; 3] = [Self::Steady, Self::Restless, Self::Forgetful];
}

/// An observer at work.
struct Watching {
    name: String,
    kind: &'static str,
    steps: Arc<Mutex<Vec<Step>>>,
    task: JoinHandle<()>,
}

impl Watching {
    /// Starts it, and returns when it has its first list: before any writer writes.
    async fn start(run: &Arc<Run>, kind: &'static str, fence: &'static str, style: Style, seed: u64) -> Self {
        let first = list(run, kind, None).await.expect("the server is up");
        let steps = Arc::new(Mutex::new(vec![first]));
        let task = tokio::spawn(observe(Arc::clone(run), kind, fence, style, seed, Arc::clone(&steps)));
        Self { name: format!("the {style:?} observer of {kind}"), kind, steps, task }
    }

    async fn finish(mut self, until: tokio::time::Instant) -> Observer {
        let finished = match tokio::time::timeout_at(until, &mut self.task).await {
            Ok(Ok(())) => true,
            Ok(Err(panic)) => panic!("{}: {panic}", self.name),
            Err(_) => false,
        };
        self.task.abort();
        let steps = std::mem::take(&mut *self.steps.lock());
        Observer { name: self.name, kind: self.kind, steps, finished }
    }
}

async fn observe(
    run: Arc<Run>,
    kind: &'static str,
    fence: &'static str,
    style: Style,
    seed: u64,
    steps: Arc<Mutex<Vec<Step>>>,
) {
    const PAGE: usize = 7;
    let mut rng = StdRng::seed_from_u64(seed);
    let mut up = run.up(None, false).await;
    let mut position = match steps.lock().first() {
        Some(Step::Listed { revision, .. }) => Some(*revision),
        _ => None,
    };
    loop {
        let from = if let Some(position) = position {
            position
        } else {
            let Ok(listed) = list(&run, kind, (style == Style::Forgetful).then_some(PAGE)).await else {
                up = run.up(up, false).await;
                continue;
            };
            let Step::Listed { revision, items, .. } = &listed else { unreachable!("a list is Listed") };
            let revision = *revision;
            let done = items.iter().any(|(name, _)| &**name == fence);
            steps.lock().push(listed);
            if done {
                return;
            }
            revision
        };
        position = Some(from);
        let bookmarks = style == Style::Restless;
        let asked = format!("{}?resourceVersion={from}&allowWatchBookmarks={bookmarks}", path(kind, ""));
        let mut watch = match run.client.try_watch(&asked).await {
            Ok(Ok(watch)) => watch,
            Ok(Err(answer)) if answer.status == 410 => {
                steps.lock().push(Step::Expired);
                position = None;
                continue;
            }
            refused => {
                if let Ok(Err(answer)) = refused {
                    assert!(answer.status == 429 || answer.status >= 500, "an answer that no test expects: {answer}");
                    // The observer's history ends here unless the server is started again, and the checker
                    // says so; this says why.
                    println!("no watch: {answer}");
                }
                up = run.up(up, false).await;
                continue;
            }
        };
        let enough = if style == Style::Steady { usize::MAX } else { rng.random_range(20..200) };
        match follow(&run, &mut watch, fence, enough, &steps, &mut position).await {
            End::Fence => return,
            End::Broken => up = run.up(up, false).await,
            End::Enough if style == Style::Forgetful => position = None,
            End::Enough | End::Clean | End::Expired => {}
        }
    }
}

/// Why an observer left a watch.
enum End {
    Fence,
    Enough,
    Clean,
    Broken,
    Expired,
}

async fn follow(
    run: &Run,
    watch: &mut Watch,
    fence: &str,
    enough: usize,
    steps: &Mutex<Vec<Step>>,
    position: &mut Option<u64>,
) -> End {
    for _ in 0..enough {
        let event = match watch.try_next().await {
            Ok(Some(event)) => event,
            Ok(None) => return End::Clean,
            Err(_) => return End::Broken,
        };
        let at = run.tick();
        let change = match event.change.as_str() {
            "ADDED" => Change::Added,
            "MODIFIED" => Change::Modified,
            "DELETED" => Change::Deleted,
            "BOOKMARK" => {
                let revision = crate::harness::revision(&event.object);
                *position = Some(revision);
                steps.lock().push(Step::Bookmark { at, revision });
                continue;
            }
            _ if event.object["code"] == 410 => {
                steps.lock().push(Step::Expired);
                *position = None;
                return End::Expired;
            }
            "ERROR" => {
                println!("a watch of {fence}'s kind ended with {}", event.object);
                return End::Broken;
            }
            other => panic!("an event that no test expects: {other} {:#}", event.object),
        };
        let seen = seen(&event.object);
        *position = Some(seen.revision);
        let name: Arc<str> = crate::harness::name(&event.object).into();
        let done = &*name == fence;
        steps.lock().push(Step::Event { at, change, name, seen });
        if done {
            return End::Fence;
        }
    }
    End::Enough
}

/// A consistent list of a kind, in pages where asked. An error means that there was no answer.
async fn list(run: &Run, kind: &'static str, page: Option<usize>) -> Result<Step, ()> {
    'again: loop {
        let invoked = run.tick();
        let (mut items, mut token, mut revision) = (Vec::new(), String::new(), None);
        loop {
            let limit = page.map_or(String::new(), |p| format!("?limit={p}"));
            let more = if token.is_empty() { String::new() } else { format!("&continue={token}") };
            let asked = format!("{}{limit}{more}", path(kind, ""));
            let answer = run.client.try_request(Method::GET, &asked, &[], Bytes::new()).await.map_err(drop)?;
            if answer.status == 410 && !token.is_empty() {
                continue 'again;
            }
            let list = answer.expect(200);
            let this = crate::harness::revision(&list);
            assert_eq!(*revision.get_or_insert(this), this, "all pages are of one version: {asked}");
            let page = list["items"].as_array().unwrap_or_else(|| panic!("no items: {answer}"));
            items.extend(page.iter().map(|o| (Arc::from(crate::harness::name(o)), seen(o))));
            match list["metadata"]["continue"].as_str() {
                Some(next) if !next.is_empty() => next.clone_into(&mut token),
                _ => {
                    let revision = revision.unwrap_or_default();
                    return Ok(Step::Listed { invoked, returned: run.tick(), revision, items });
                }
            }
        }
    }
}
