//! Who observes a kind: lists, watches, and goes on after whatever happens, all of it recorded.

use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::task::JoinHandle;

use super::super::model::{Change, Observer, Step};
use super::{Asker, Run, is_excuse, seen};
use crate::harness::{Watch, path};

/// How an observer goes about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// Watches as long as it can.
    Steady,
    /// Drops its watch now and then, and goes on from where it was, bookmarks included.
    Restless,
    /// Drops what it knows now and then, and lists again, in pages.
    Forgetful,
}

impl Style {
    pub(super) const ALL: [Self; 3] = [Self::Steady, Self::Restless, Self::Forgetful];
}

/// An observer at work.
pub(super) struct Watching {
    name: String,
    kind: &'static str,
    steps: Arc<Mutex<Vec<Step>>>,
    task: JoinHandle<()>,
}

impl Watching {
    /// Starts it, and returns when it has its first list: before any writer writes.
    pub(super) async fn start(
        asker: Asker,
        kind: &'static str,
        fence: &'static str,
        style: Style,
        copy: usize,
        seed: u64,
    ) -> Self {
        let first = list(&asker, kind, None).await.expect("the server is up");
        let steps = Arc::new(Mutex::new(vec![first]));
        let name = format!("the {style:?} observer {copy} of {kind}, by {}", asker.door.name);
        let task = tokio::spawn(observe(asker, kind, fence, style, seed, Arc::clone(&steps)));
        Self { name, kind, steps, task }
    }

    pub(super) async fn finish(mut self, until: tokio::time::Instant) -> Observer {
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
    asker: Asker,
    kind: &'static str,
    fence: &'static str,
    style: Style,
    seed: u64,
    steps: Arc<Mutex<Vec<Step>>>,
) {
    const PAGE: usize = 7;
    let mut rng = StdRng::seed_from_u64(seed);
    let run = Arc::clone(&asker.run);
    let mut up = run.up(None, false).await;
    let mut position = match steps.lock().first() {
        Some(Step::Listed { revision, .. }) => Some(*revision),
        _ => None,
    };
    loop {
        let from = if let Some(position) = position {
            position
        } else {
            let Ok(listed) = list(&asker, kind, (style == Style::Forgetful).then_some(PAGE)).await else {
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
        let mut watch = match asker.watch(&asked).await {
            Ok(Ok(watch)) => watch,
            Ok(Err(answer)) if answer.status == 410 => {
                steps.lock().push(Step::Expired);
                position = None;
                continue;
            }
            refused => {
                if let Ok(Err(answer)) = refused {
                    assert!(is_excuse(&answer), "an answer that no test expects: {answer}");
                    if run.again.is_none() {
                        // The observer's history ends here unless the server is started again, and the checker
                        // says so; this says why.
                        println!("no watch: {answer}");
                    }
                }
                up = run.up(up, false).await;
                continue;
            }
        };
        let enough = if style == Style::Steady { usize::MAX } else { rng.random_range(20..200) };
        match follow(&run, &mut watch, fence, enough, &steps, &mut position).await {
            End::Fence => return,
            End::Broken => up = run.up(up, false).await,
            // Where another may take over, it is not asked for all the time until it has.
            End::Clean if run.again.is_some() => up = run.up(up, false).await,
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

/// A consistent list of a kind, in pages where asked. An error means that there was no answer, or an excuse.
pub(super) async fn list(asker: &Asker, kind: &'static str, page: Option<usize>) -> Result<Step, ()> {
    'again: loop {
        let invoked = asker.enter().await;
        let (mut items, mut token, mut revision) = (Vec::new(), String::new(), None);
        loop {
            let limit = page.map_or(String::new(), |p| format!("?limit={p}"));
            let more = if token.is_empty() { String::new() } else { format!("&continue={token}") };
            let asked = format!("{}{limit}{more}", path(kind, ""));
            // The door may be closed between two pages.
            let page_invoked = asker.enter().await;
            let (_, answer) = asker.ask(page_invoked, Method::GET, &asked, &[], Bytes::new()).await;
            let answer = answer.map_err(drop)?;
            if is_excuse(&answer) {
                return Err(());
            }
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
                    return Ok(Step::Listed { invoked, returned: asker.run.tick(), revision, items });
                }
            }
        }
    }
}
