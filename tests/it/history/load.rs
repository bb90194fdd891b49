//! The load of a recorded run: writers on a few dozen keys, observers of every kind, and the driver that
//! kills the server under them. What is done to servers elsewhere is up to whoever begins a [`Load`] there.

mod observer;
mod writer;

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::model::{Action, History, Key, Observer, Outcome, Read, Refusal, Seen, Tick, Write};
use crate::harness::{Client, DEADLINE, Launch, Response, Server, Watch, within};
use observer::{Style, Watching, list};
use writer::Writer;

/// The annotation that holds the id of the write.
const MARKER: &str = "test.imagehub.sealos.io/marker";
/// The name of the objects that are written last, in each kind.
const FENCE: [(&str, &str); 4] =
    [("images", "fence.fence.v1"), ("repositories", "fence.fence"), ("organizations", "fence"), ("datapacks", "fence")];

/// What a run does to a server on one machine.
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

/// Who asks, wherever it is.
pub struct Load {
    /// By what they ask: given out in turn.
    pub doors: Vec<Door>,
    /// Observers of each kind that go about it in the same way.
    pub copies: usize,
    /// How many writers write.
    pub writers: u64,
    /// Where all that is random comes from.
    pub seed: u64,
    /// How long observers may take to see the last write.
    pub patience: Duration,
    /// After how long who got no answer, or none but an excuse, asks again; without it, once the driver says that the
    /// server is up again, and excuses are answers.
    pub again: Option<Duration>,
}

/// By what somebody asks.
#[derive(Clone)]
pub struct Door {
    name: Arc<str>,
    client: Client,
    /// Whether it may be used.
    open: Option<watch::Receiver<bool>>,
}

impl Door {
    /// One that may always be used.
    pub fn new(name: &str, client: Client) -> Self {
        Self { name: name.into(), client, open: None }
    }

    /// The same, for use only while this is true.
    pub fn while_open(self, open: watch::Receiver<bool>) -> Self {
        Self { open: Some(open), ..self }
    }

    fn is_open(&self) -> bool {
        self.open.as_ref().is_none_or(|open| *open.borrow())
    }
}

/// A request without an answer, or answered with an excuse: 429 or 5xx.
#[derive(Debug)]
pub struct Failed {
    /// When it was asked.
    pub invoked: Tick,
    /// When it was known to have failed.
    pub returned: Tick,
    /// Where, and what came.
    pub what: String,
}

/// Whether the server is up (and for which time), and whether writers are to stop.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Phase {
    up: Option<u32>,
    stopping: bool,
}

struct Run {
    ticks: AtomicU64,
    phase: watch::Sender<Phase>,
    acknowledged: watch::Sender<u64>,
    again: Option<Duration>,
    failed: Mutex<Vec<Failed>>,
}

impl Run {
    fn tick(&self) -> Tick {
        self.ticks.fetch_add(1, Ordering::SeqCst)
    }

    /// The server's time of being up that is not `after`; none when the run stops first.
    async fn up(&self, after: Option<u32>, until_stopped: bool) -> Option<u32> {
        if let Some(again) = self.again {
            tokio::time::sleep(again).await;
            let phase = *self.phase.borrow();
            return if until_stopped && phase.stopping { None } else { phase.up };
        }
        let mut phase = self.phase.subscribe();
        let ready = |p: &Phase| (until_stopped && p.stopping) || (p.up.is_some() && p.up != after);
        let phase = *phase.wait_for(ready).await.expect("the driver outlives the load");
        if until_stopped && phase.stopping { None } else { phase.up }
    }
}

/// Somebody who asks by one door.
#[derive(Clone)]
struct Asker {
    run: Arc<Run>,
    door: Door,
}

impl Asker {
    /// Waits until the door is open. The moment at which what is asked then begins: whoever closed the door before that
    /// moment is heeded.
    async fn enter(&self) -> Tick {
        loop {
            let invoked = self.run.tick();
            if self.door.is_open() {
                return invoked;
            }
            let mut open = self.door.open.clone().expect("only one that has an end to it can be closed");
            open.wait_for(|open| *open).await.expect("the driver outlives the load");
        }
    }

    /// Asks, and says when the answer came. An error means that there was none.
    async fn ask(
        &self,
        invoked: Tick,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> (Tick, io::Result<Response>) {
        let answer = self.door.client.try_request(method, path, headers, body).await;
        let returned = self.run.tick();
        match &answer {
            Ok(answer) if is_excuse(answer) => self.failed(invoked, returned, &answer.to_string()),
            Ok(_) => {}
            Err(error) => self.failed(invoked, returned, &format!("{path}: {error}")),
        }
        (returned, answer)
    }

    /// Begins a watch. An error means that there was no answer.
    async fn watch(&self, path: &str) -> io::Result<Result<Watch, Response>> {
        let invoked = self.enter().await;
        let answer = self.door.client.try_watch(path).await;
        let returned = self.run.tick();
        match &answer {
            Ok(Err(answer)) if is_excuse(answer) => self.failed(invoked, returned, &answer.to_string()),
            Ok(_) => {}
            Err(error) => self.failed(invoked, returned, &format!("{path}: {error}")),
        }
        answer
    }

    fn failed(&self, invoked: Tick, returned: Tick, what: &str) {
        let what = format!("{}: {what}", self.door.name);
        self.run.failed.lock().push(Failed { invoked, returned, what });
    }
}

fn is_excuse(answer: &Response) -> bool {
    answer.status == 429 || answer.status >= 500
}

/// A load that goes on.
pub struct Running {
    run: Arc<Run>,
    rng: StdRng,
    /// By what the driver itself asks.
    own: Asker,
    observers: Vec<Watching>,
    writers: Vec<JoinHandle<(Vec<Write>, Vec<Read>)>>,
    patience: Duration,
}

impl Load {
    /// Begins; every observer has its first list before any writer writes.
    pub async fn begin(self) -> Running {
        let run = Arc::new(Run {
            ticks: AtomicU64::new(1),
            phase: watch::Sender::new(Phase { up: Some(0), stopping: false }),
            acknowledged: watch::Sender::new(0),
            again: self.again,
            failed: Mutex::default(),
        });
        let mut rng = StdRng::seed_from_u64(self.seed);
        let askers = self.doors.iter().map(|door| Asker { run: Arc::clone(&run), door: door.clone() });
        let askers: Vec<_> = askers.collect();
        let mut turn = askers.iter().cloned().cycle();
        let mut next = || turn.next().expect("there is a door");
        let mut observers = Vec::new();
        for copy in 0..self.copies {
            for (kind, fence) in FENCE {
                for style in Style::ALL {
                    observers.push(Watching::start(next(), kind, fence, style, copy, rng.random()).await);
                }
            }
        }
        let writers = (0..self.writers).map(|_| tokio::spawn(Writer::new(next(), rng.random()).run())).collect();
        let own = askers[0].clone();
        Running { run, rng, own, observers, writers, patience: self.patience }
    }
}

impl Running {
    /// A moment, for the driver to say when it did something.
    pub fn tick(&self) -> Tick {
        self.run.tick()
    }

    /// The server is down: who gets no answer waits.
    pub fn down(&self) {
        self.run.phase.send_replace(Phase { up: None, stopping: false });
    }

    /// The server is up, for its `time`th time.
    pub fn up(&self, time: u32) {
        self.run.phase.send_replace(Phase { up: Some(time), stopping: false });
    }

    /// Waits until a write was acknowledged, and then for a random time more: the random moment is the point.
    pub async fn some_load(&mut self, calm: &std::ops::Range<u64>) {
        let before = *self.run.acknowledged.borrow();
        let mut acknowledged = self.run.acknowledged.subscribe();
        // What is waited for is a lock that writers need: it goes before the sleep.
        let waited = tokio::time::timeout(DEADLINE, acknowledged.wait_for(|&n| n > before)).await.is_ok();
        assert!(waited, "no write was acknowledged in {DEADLINE:?}; the last failures: {:#?}", self.last_failures());
        tokio::time::sleep(Duration::from_millis(self.rng.random_range(calm.clone()))).await;
    }

    fn last_failures(&self) -> Vec<String> {
        const SHOWN: usize = 5;
        self.run.failed.lock().iter().rev().take(SHOWN).map(|failed| failed.what.clone()).collect()
    }

    /// Ends it: all that was recorded, and what failed.
    pub async fn finish(self) -> (History, Vec<Failed>) {
        let Self { run, own, observers, writers, patience, .. } = self;
        run.phase.send_modify(|p| p.stopping = true);
        let mut history = History::default();
        for task in writers {
            let (writes, reads) = task.await.expect("a writer does not panic");
            history.writes.extend(writes);
            history.reads.extend(reads);
        }
        let mut last = Writer::new(own.clone(), 0);
        for kind in ["images", "datapacks"] {
            let name = FENCE.iter().find(|f| f.0 == kind).expect("both kinds have a fence").1;
            let key = Key { kind, name: name.into() };
            within("the last write", async {
                while last.write(key.clone(), Action::Create, None).await.is_err() {
                    run.up(None, false).await;
                }
            })
            .await;
            let written = last.writes.last().map(|write| &write.outcome);
            let there = matches!(written, Some(Outcome::Done(_) | Outcome::Refused(Refusal::Exists)));
            assert!(there, "the last write: {:?}", last.writes.last());
        }
        history.writes.extend(last.writes);

        let patience = tokio::time::Instant::now() + patience;
        for observer in observers {
            history.observers.push(observer.finish(patience).await);
        }
        for (kind, _) in FENCE {
            let step = within("a list", async {
                loop {
                    match list(&own, kind, None).await {
                        Ok(step) => return step,
                        Err(()) => run.up(None, false).await,
                    };
                }
            })
            .await;
            let name = format!("the final list of {kind}");
            history.observers.push(Observer { name, kind, steps: vec![step], finished: true });
        }
        let failed = std::mem::take(&mut *run.failed.lock());
        (history, failed)
    }
}

/// Carries out a plan, and hands back all that was recorded, and the server, still running.
pub async fn run(plan: Plan) -> (History, Server) {
    let mut server = plan.launch.start().await;
    let doors = vec![Door::new("the server", server.admin())];
    let (writers, seed, patience) = (plan.writers, plan.seed, plan.patience);
    let mut running = Load { doors, copies: 1, writers, seed, patience, again: None }.begin().await;
    for round in 1..=plan.kills {
        running.some_load(&plan.calm).await;
        server.kill9().await;
        running.down();
        server.start_again().await;
        running.up(round);
    }
    running.some_load(&plan.calm).await;
    let (history, _) = running.finish().await;
    (history, server)
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
