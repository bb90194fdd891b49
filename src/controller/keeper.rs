//! Follows the events, works out what they touch, and brings that in step.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tracing::{debug, warn};

use super::{CONCURRENCY, cascade};
use crate::api::{FieldSelector, Grain, Kind, LabelSelector};
use crate::auth::Caller;
use crate::error::Error;
use crate::graph::{Event, Key, Query, Record, Revision, Visible};
use crate::registry::Registry;

/// How long it waits after a step that failed before it does it again, at first and at most.
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
    /// Announcements of packs: one change can touch ten thousand. They yield to all else.
    packs: BTreeSet<Arc<str>>,
}

pub(super) async fn run(registry: &Registry) {
    let system = Caller::system();
    let mut changes = registry.graph().all_changes();
    let mut queue = Queue::default();
    let mut cursors = [Revision::default(); Kind::ALL.len()];
    sweep(&registry.reader(&system).visible, &mut queue, &mut cursors);
    let mut backoff = BACKOFF.0;
    loop {
        changes.mark_unchanged();
        follow(&registry.reader(&system).visible, &mut queue, &mut cursors);
        let work = queue.take();
        if work.is_empty() {
            // The sender is the graph's, which the registry holds.
            let _ = changes.changed().await;
            continue;
        }
        let failed: Vec<Work> = futures::stream::iter(work)
            .map(|work| async move {
                let done = do_it(registry, &work).await;
                match done {
                    Ok(()) => None,
                    Err(error) => {
                        warn!(?work, %error, "a controller's step failed and will be done again");
                        Some(work)
                    }
                }
            })
            .buffer_unordered(CONCURRENCY)
            .filter_map(|failed| async move { failed })
            .collect()
            .await;
        if failed.is_empty() {
            backoff = BACKOFF.0;
        } else {
            queue.urgent.extend(failed);
            tokio::time::sleep(backoff).await;
            backoff = (backoff * 2).min(BACKOFF.1);
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
    /// What is to be done next: all that is urgent, else some packs.
    fn take(&mut self) -> Vec<Work> {
        if !self.urgent.is_empty() {
            return std::mem::take(&mut self.urgent).into_iter().collect();
        }
        let mut work = Vec::new();
        while work.len() < CONCURRENCY
            && let Some(name) = self.packs.pop_first()
        {
            work.push(Work::Refresh(Key { kind: Kind::DataPack, name }));
        }
        work
    }

    fn refresh(&mut self, record: Option<&Arc<Record>>) {
        if let Some(record) = record {
            self.urgent.insert(Work::Refresh(record.key.clone()));
        }
    }
}

/// Notes all that may be out of step: at the start, and when events were missed.
fn sweep(all: &Visible, queue: &mut Queue, cursors: &mut [Revision; Kind::ALL.len()]) {
    *cursors = [all.revision(); Kind::ALL.len()];
    let (labels, fields) = (LabelSelector::default(), FieldSelector::default());
    for kind in Kind::ALL {
        let query = Query { kind, after: None, at: all.revision(), labels: &labels, fields: &fields };
        for record in all.list(query) {
            if kind == Kind::DataPack {
                queue.packs.insert(Arc::clone(&record.key.name));
            } else {
                queue.urgent.insert(Work::Refresh(record.key.clone()));
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
fn follow(all: &Visible, queue: &mut Queue, cursors: &mut [Revision; Kind::ALL.len()]) {
    for kind in Kind::ALL {
        loop {
            let cursor = &mut cursors[kind as usize];
            let Some((events, reached)) = all.events(kind, *cursor, BATCH) else {
                debug!(%kind, "events were missed: looking at all objects");
                return sweep(all, queue, cursors);
            };
            *cursor = reached;
            for event in &events {
                touched(all, event, queue);
            }
            if events.len() < BATCH {
                break;
            }
        }
    }
}

fn touched(all: &Visible, event: &Event, queue: &mut Queue) {
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
        let owners = |record: &Record| record.owners().map(|o| o.uid.to_owned()).collect::<Vec<_>>();
        if new.owners().next().is_some() && old.is_none_or(|old| owners(old) != owners(new)) {
            queue.urgent.insert(Work::Collect(new.key.clone()));
        }
    }
    let Some(either) = new.or(old) else { return };
    if let Some(image) = either.image() {
        report_double(all, &image.name);
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
    } else if made {
        queue.packs.insert(Arc::clone(&either.key.name));
    }
}

fn report_double(all: &Visible, name: &str) {
    if let [first, others @ ..] = all.image_claims(name)
        && !others.is_empty()
    {
        let others: Vec<_> = others.iter().map(|r| r.name()).collect();
        warn!(image = name, served = first.name(), ?others, "several Images have this name; the oldest is served");
    }
}
