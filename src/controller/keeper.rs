//! Follows the events, works out what they touch, and brings that in step.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::{CONCURRENCY, cascade};
use crate::api::{FieldSelector, Grain, Kind, LabelSelector};
use crate::auth::Caller;
use crate::error::Error;
use crate::graph::{Event, Key, Query, Record, Revision, Visible};
use crate::registry::Registry;

/// How long a step that failed waits until it is done again, at first and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(10));

/// How many events are looked at before work is done.
const BATCH: usize = 1024;

/// Something to be done about an object. In this order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Work {
    /// Labels, owner, announcement.
    Refresh(Key),
    /// Its owners may be gone.
    Collect(Key),
    /// Its deletion may go on.
    Advance(Key),
}

/// What is to be done. Sets: whatever happens to an object while it waits is done once. Their size is
/// bounded by the number of objects.
#[derive(Debug, Default)]
struct Queue {
    urgent: BTreeSet<Work>,
    /// What was urgent when the last round began: done first, so that what comes doesn't overtake it for ever.
    round: BTreeSet<Work>,
    /// Announcements of packs: one change can touch ten thousand. They yield to all else, but one is always
    /// under way.
    packs: BTreeSet<Arc<str>>,
    /// What is under way; true where it is to be done once more.
    under_way: BTreeMap<Work, bool>,
    /// What failed, by when it is done again, and how long it will wait if it fails once more.
    failed: BTreeMap<Work, (Instant, Duration)>,
}

/// The names that several Images claim, after races and in old data, and how many of each are not served, since an
/// older one is.
#[derive(Debug, Default)]
struct Doubles(BTreeMap<Arc<str>, usize>);

/// Follows the events and does what they ask for.
pub(super) struct Keeper<'a> {
    registry: &'a Registry,
    changes: watch::Receiver<Revision>,
    queue: Queue,
    doubles: Doubles,
    cursors: [Revision; Kind::ALL.len()],
    running: FuturesUnordered<BoxFuture<'a, (Work, Result<(), Error>)>>,
}

pub(super) async fn run(registry: &Registry) {
    let mut keeper = Keeper::new(registry);
    loop {
        keeper.start();
        keeper.wait().await;
    }
}

impl<'a> Keeper<'a> {
    /// One that has all objects still to look at.
    pub(super) fn new(registry: &'a Registry) -> Self {
        let mut keeper = Self {
            registry,
            changes: registry.graph().all_changes(),
            queue: Queue::default(),
            doubles: Doubles::default(),
            cursors: Default::default(),
            running: FuturesUnordered::new(),
        };
        let all = registry.reader(&Caller::system()).visible;
        sweep(&all, &mut keeper.queue, &mut keeper.doubles, &mut keeper.cursors);
        registry.note_not_served(keeper.doubles.not_served());
        keeper
    }

    /// Notes what has happened, and begins as much of what is to be done as may be under way.
    pub(super) fn start(&mut self) {
        self.changes.mark_unchanged();
        let all = self.registry.reader(&Caller::system()).visible;
        follow(&all, &mut self.queue, &mut self.doubles, &mut self.cursors);
        self.registry.note_not_served(self.doubles.not_served());
        self.queue.retry(Instant::now());
        while self.running.len() < CONCURRENCY
            && let Some(work) = self.queue.take()
        {
            let registry = self.registry;
            self.running.push(
                async move {
                    let done = do_it(registry, &work).await;
                    (work, done)
                }
                .boxed(),
            );
        }
    }

    /// Waits until something is done, has happened, or is to be tried again.
    pub(super) async fn wait(&mut self) {
        let again = self.queue.failed.values().map(|(at, _)| *at).min();
        tokio::select! {
            Some((work, done)) = self.running.next() => self.queue.done(work, done),
            // The sender is the graph's, which the registry holds.
            _ = self.changes.changed() => {}
            () = tokio::time::sleep_until(again.unwrap_or_else(Instant::now)), if again.is_some() => {}
        }
    }

    /// Does all that is to be done now, but for what fails.
    #[cfg(test)]
    pub(super) async fn settle(&mut self) {
        loop {
            self.start();
            if self.running.is_empty() {
                return;
            }
            self.wait().await;
        }
    }
}

async fn do_it(registry: &Registry, work: &Work) -> Result<(), Error> {
    match work {
        Work::Refresh(key) => registry.refresh(key).await.map(|_| ()),
        Work::Collect(key) => cascade::collect(registry, key).await,
        Work::Advance(key) => cascade::advance(registry, key).await,
    }
}

impl Queue {
    /// What is to be done next: what is urgent, else a pack; and a pack where none is under way.
    fn take(&mut self) -> Option<Work> {
        let pack = |work: &Work| matches!(work, Work::Refresh(key) if key.kind == Kind::DataPack);
        if (self.urgent.is_empty() && self.round.is_empty()) || !self.under_way.keys().any(pack) {
            while let Some(name) = self.packs.pop_first() {
                if let Some(work) = self.begin(Work::Refresh(Key { kind: Kind::DataPack, name })) {
                    return Some(work);
                }
            }
        }
        loop {
            if self.round.is_empty() {
                self.round = std::mem::take(&mut self.urgent);
            }
            let work = self.round.pop_first()?;
            if let Some(work) = self.begin(work) {
                return Some(work);
            }
        }
    }

    /// Notes that it is under way. Nothing, where it is already: then it will be done once more.
    fn begin(&mut self, work: Work) -> Option<Work> {
        if let Some(again) = self.under_way.get_mut(&work) {
            *again = true;
            return None;
        }
        self.under_way.insert(work.clone(), false);
        Some(work)
    }

    fn done(&mut self, work: Work, done: Result<(), Error>) {
        let again = self.under_way.remove(&work).unwrap_or(false);
        match done {
            Ok(()) => {
                self.failed.remove(&work);
                if again {
                    self.add(work);
                }
            }
            Err(error) => {
                // Only this waits; the others go on.
                let pause = self.failed.get(&work).map_or(BACKOFF.0, |(_, pause)| *pause);
                warn!(?work, %error, ?pause, "a controller's step failed and will be done again");
                self.failed.insert(work, (Instant::now() + pause, (pause * 2).min(BACKOFF.1)));
            }
        }
    }

    fn add(&mut self, work: Work) {
        match work {
            Work::Refresh(Key { kind: Kind::DataPack, name }) => self.packs.insert(name),
            work => self.urgent.insert(work),
        };
    }

    /// Takes up again what has waited long enough.
    fn retry(&mut self, now: Instant) {
        let due: Vec<_> = self.failed.iter().filter(|(_, (at, _))| *at <= now).map(|(work, _)| work.clone()).collect();
        for work in due {
            // How long it waits if it fails again is kept; that it is due is not.
            if let Some((at, _)) = self.failed.get_mut(&work) {
                *at = now + BACKOFF.1;
            }
            self.add(work);
        }
    }

    fn refresh(&mut self, record: Option<&Arc<Record>>) {
        if let Some(record) = record {
            self.add(Work::Refresh(record.key.clone()));
        }
    }
}

/// Notes all that may be out of step: at the start, and when events were missed.
fn sweep(all: &Visible, queue: &mut Queue, doubles: &mut Doubles, cursors: &mut [Revision; Kind::ALL.len()]) {
    *cursors = [all.revision(); Kind::ALL.len()];
    let before: Vec<_> = doubles.0.keys().cloned().collect();
    for name in &before {
        doubles.look(all, name);
    }
    let (labels, fields) = (LabelSelector::default(), FieldSelector::default());
    for kind in Kind::ALL {
        let query = Query { kind, after: None, at: all.revision(), labels: &labels, fields: &fields };
        for record in all.list(query) {
            if kind == Kind::DataPack {
                queue.packs.insert(Arc::clone(&record.key.name));
            } else {
                queue.urgent.insert(Work::Refresh(record.key.clone()));
            }
            if let Some(image) = record.image() {
                doubles.look(all, &image.name);
            }
            if record.owners().next().is_some() {
                queue.urgent.insert(Work::Collect(record.key.clone()));
            }
            if record.deleting {
                queue.urgent.insert(Work::Advance(record.key.clone()));
            }
        }
    }
}

/// Notes what the events since the last look touch.
fn follow(all: &Visible, queue: &mut Queue, doubles: &mut Doubles, cursors: &mut [Revision; Kind::ALL.len()]) {
    for kind in Kind::ALL {
        loop {
            let cursor = &mut cursors[kind as usize];
            if all.revision() < *cursor {
                debug!("the store was set back: looking at all objects");
                return sweep(all, queue, doubles, cursors);
            }
            let Some((events, reached)) = all.events(kind, *cursor, BATCH) else {
                debug!(%kind, "events were missed: looking at all objects");
                return sweep(all, queue, doubles, cursors);
            };
            *cursor = reached;
            for event in &events {
                touched(all, event, queue, doubles);
            }
            if events.len() < BATCH {
                break;
            }
        }
    }
}

fn touched(all: &Visible, event: &Event, queue: &mut Queue, doubles: &mut Doubles) {
    let (old, new) = (event.old.as_ref(), event.new_record());
    let (made, gone) = (old.is_none(), new.is_none());
    if let (Some(old), true) = (old, gone) {
        queue.urgent.extend(all.dependents(old.uid()).cloned().map(Work::Collect));
        // An owner may wait for it to be gone.
        queue.urgent.extend(cascade::owner_keys(old).into_iter().map(Work::Advance));
    }
    if let Some(new) = new {
        if new.deleting {
            queue.urgent.insert(Work::Advance(new.key.clone()));
        }
        let owners = |record: &Record| record.owners().map(|o| (o.uid.to_owned(), o.blocks)).collect::<Vec<_>>();
        if old.is_none_or(|old| owners(old) != owners(new)) {
            if new.owners().next().is_some() {
                queue.urgent.insert(Work::Collect(new.key.clone()));
            }
            // An owner may have waited for just this one.
            queue.urgent.extend(old.into_iter().flat_map(|old| cascade::owner_keys(old)).map(Work::Advance));
        }
    }
    let Some(either) = new.or(old) else { return };
    if let Some(image) = either.image() {
        doubles.look(all, &image.name);
        queue.refresh(all.repository(&image.repository));
        queue.packs.extend(all.packs_of_image(&image.name).cloned());
        let detail = |name: &&Arc<str>| {
            all.get(Kind::DataPack, name).and_then(|r| r.pack()).is_some_and(|pack| pack.grain == Grain::Detail)
        };
        queue.packs.extend(all.packs_of_repository(&image.repository).filter(detail).cloned());
    } else if let Some(repository) = either.repository() {
        let same = |old: &Record, new: &Record| {
            let private = |r: &Record| r.repository().is_some_and(|r| r.private);
            private(old) == private(new) && old.envelope.download_count == new.envelope.download_count
        };
        if let (Some(old), Some(new)) = (old, new)
            && same(old, new)
        {
            return;
        }
        queue.refresh(new);
        queue.refresh(all.organization(repository.organization()));
        queue.packs.extend(all.packs_of_repository(&repository.name).cloned());
        if made {
            for image in all.tags(&repository.name) {
                queue.refresh(Some(image));
            }
        }
    } else if let (Some(organization), true) = (either.organization(), made) {
        queue.refresh(new);
        for name in all.repositories(&organization.name) {
            queue.refresh(all.repository(name));
        }
    } else if let Some(new) = new {
        // It may have been written on what was no longer so when it was stored.
        let content = |record: &Record| record.pack().map(|pack| pack.content);
        if old.is_none_or(|old| content(old) != content(new)) {
            queue.packs.insert(Arc::clone(&new.key.name));
        }
    }
}

impl Doubles {
    /// Looks who claims `name` now; a new double is logged.
    fn look(&mut self, all: &Visible, name: &Arc<str>) {
        let [served, others @ ..] = all.image_claims(name) else {
            self.0.remove(name);
            return;
        };
        if others.is_empty() {
            self.0.remove(name);
            return;
        }
        let before = self.0.insert(Arc::clone(name), others.len());
        if before.is_none_or(|before| before < others.len()) {
            let others: Vec<_> = others.iter().map(|r| r.name()).collect();
            warn!(
                image = &**name,
                served = served.name(),
                ?others,
                "several Images have this name; the oldest is served"
            );
        }
    }

    fn not_served(&self) -> usize {
        self.0.values().sum()
    }
}
