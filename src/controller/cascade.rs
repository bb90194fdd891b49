//! What becomes of the objects that a deleted one owned, as kube's garbage collector does it.

use std::sync::Arc;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};

use super::CONCURRENCY;
use crate::api::{API_VERSION, Kind};
use crate::auth::Caller;
use crate::error::Error;
use crate::graph::{Key, Record, Visible};
use crate::registry::{ATTEMPTS, DeleteOptions, FINALIZER_FOREGROUND, FINALIZER_ORPHAN, Propagation, Registry};

/// How the owners of an object stand.
struct Owners {
    /// Some are there, and not about to go.
    solid: bool,
    /// Some are of another group, of which nothing is known here.
    foreign: bool,
    /// The uids of those that are gone.
    gone: Vec<String>,
    /// There are any.
    any: bool,
}

fn owners(all: &Visible, record: &Record) -> Owners {
    let object = record.object();
    let mut owners = Owners { solid: false, foreign: false, gone: Vec::new(), any: false };
    for reference in object.metadata.owner_references.iter().flatten() {
        owners.any = true;
        let Some(kind) = Kind::from_name(&reference.kind).filter(|_| reference.api_version == API_VERSION) else {
            owners.foreign = true;
            continue;
        };
        match all.get(kind, &reference.name).filter(|owner| owner.uid() == reference.uid) {
            Some(owner) => owners.solid |= !waits_for_dependents(owner),
            None => owners.gone.push(reference.uid.clone()),
        }
    }
    owners
}

fn has_finalizer(record: &Record, finalizer: &str) -> bool {
    record.deleting && record.object().metadata.finalizers.iter().flatten().any(|f| f == finalizer)
}

fn waits_for_dependents(record: &Record) -> bool {
    has_finalizer(record, FINALIZER_FOREGROUND)
}

/// Deletes an object whose owners are all gone; lets it go on without those that are, where others stand.
pub(super) async fn collect(registry: &Registry, key: &Key) -> Result<(), Error> {
    let mut done = Ok(());
    for _ in 0..ATTEMPTS {
        done = collect_once(registry, key).await;
        // It was written in between, perhaps only announced: decide again.
        if !matches!(done, Err(Error::Conflict { .. })) {
            break;
        }
    }
    done
}

async fn collect_once(registry: &Registry, key: &Key) -> Result<(), Error> {
    let system = Caller::system();
    let all = registry.reader(&system).visible;
    let Some(record) = all.get(key.kind, &key.name) else { return Ok(()) };
    let owners = owners(&all, record);
    if !owners.any || owners.gone.is_empty() || owners.foreign {
        return Ok(());
    }
    if owners.solid {
        for uid in &owners.gone {
            registry.disown(key, uid).await?;
        }
        return Ok(());
    }
    if record.deleting {
        return Ok(());
    }
    // At this version: a new owner that came in between saves it.
    let options = DeleteOptions {
        uid: Some(record.uid().to_owned()),
        resource_version: Some(record.revision.to_string()),
        ..DeleteOptions::default()
    };
    match registry.delete(&system, key.kind, &key.name, &options).await {
        Ok(_) | Err(Error::NotFound { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Takes a deletion that is under way as far as it can go now.
pub(super) async fn advance(registry: &Registry, key: &Key) -> Result<(), Error> {
    let system = Caller::system();
    let all = registry.reader(&system).visible;
    let Some(record) = all.get(key.kind, &key.name) else { return Ok(()) };
    if has_finalizer(record, FINALIZER_ORPHAN) {
        let steps = dependents(&all, record).map(|dependent| {
            async move { registry.disown(&dependent.key, record.uid()).await.map(|()| false) }.boxed()
        });
        each(steps.collect()).await?;
        return registry.finish(record, FINALIZER_ORPHAN).await;
    }
    if !waits_for_dependents(record) {
        return Ok(());
    }
    let steps = dependents(&all, record).map(|dependent| {
        let all = &all;
        async move { release(registry, all, record, &dependent).await }.boxed()
    });
    if each(steps.collect()).await? { Ok(()) } else { registry.finish(record, FINALIZER_FOREGROUND).await }
}

/// Does all steps, some at a time. True if one said so; an error when all are done, if there was one.
async fn each(steps: Vec<BoxFuture<'_, Result<bool, Error>>>) -> Result<bool, Error> {
    let mut steps = futures::stream::iter(steps).buffer_unordered(CONCURRENCY);
    let (mut any, mut failed) = (false, None);
    while let Some(done) = steps.next().await {
        match done {
            Ok(yes) => any |= yes,
            Err(error) => failed = Some(error),
        }
    }
    failed.map_or(Ok(any), Err)
}

/// Takes `dependent` away from `owner`, which waits for that: deletes it, or lets it go where others own it,
/// too. True if the owner has to wait for it.
async fn release(registry: &Registry, all: &Visible, owner: &Record, dependent: &Record) -> Result<bool, Error> {
    let blocks = dependent.owners().any(|o| o.uid == owner.uid() && o.blocks);
    if dependent.deleting {
        return Ok(blocks);
    }
    // Most have one owner: no need to look for others.
    if dependent.owners().nth(1).is_some() {
        let others = owners(all, dependent);
        if others.solid || others.foreign {
            registry.disown(&dependent.key, owner.uid()).await?;
            return Ok(false);
        }
    }
    let options = DeleteOptions {
        uid: Some(dependent.uid().to_owned()),
        propagation: Some(Propagation::Foreground),
        ..DeleteOptions::default()
    };
    match registry.delete(&Caller::system(), dependent.kind(), dependent.name(), &options).await {
        Ok(_) | Err(Error::NotFound { .. }) => Ok(blocks),
        Err(error) => Err(error),
    }
}

fn dependents<'a>(all: &'a Visible, record: &'a Record) -> impl Iterator<Item = Arc<Record>> + 'a {
    all.dependents(record.uid()).filter_map(|key| all.get(key.kind, &key.name).cloned())
}

/// The keys of those that `record` names as its owners.
pub(super) fn owner_keys(record: &Record) -> Vec<Key> {
    let object = record.object();
    let references = object.metadata.owner_references.unwrap_or_default();
    let ours = references.into_iter().filter(|r| r.api_version == API_VERSION);
    ours.filter_map(|r| Some(Key::new(Kind::from_name(&r.kind)?, r.name))).collect()
}
