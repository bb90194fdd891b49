//! What becomes of the objects that a deleted one owned, as kube's garbage collector does it.

use std::sync::Arc;

use crate::api::{API_VERSION, Kind};
use crate::auth::Caller;
use crate::error::Error;
use crate::graph::{Key, Record, Visible};
use crate::registry::{DeleteOptions, FINALIZER_FOREGROUND, FINALIZER_ORPHAN, Propagation, Registry};

/// Whether the object `name` of `kind` is there, with this uid.
fn stands(all: &Visible, kind: &str, name: &str, uid: &str) -> bool {
    let kind = Kind::ALL.into_iter().find(|k| k.name() == kind);
    kind.and_then(|kind| all.get(kind, name)).is_some_and(|record| record.uid() == uid)
}

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
        if reference.api_version != API_VERSION {
            owners.foreign = true;
        } else if stands(all, &reference.kind, &reference.name, &reference.uid) {
            let kind = Kind::ALL.into_iter().find(|k| k.name() == reference.kind);
            let owner = kind.and_then(|kind| all.get(kind, &reference.name));
            owners.solid |= owner.is_some_and(|owner| !waits_for_dependents(owner));
        } else {
            owners.gone.push(reference.uid.clone());
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
        for dependent in dependents(&all, record) {
            registry.disown(&dependent.key, record.uid()).await?;
        }
        return registry.finish(record, FINALIZER_ORPHAN).await;
    }
    if !waits_for_dependents(record) {
        return Ok(());
    }
    let mut blocked = false;
    for dependent in dependents(&all, record) {
        if owners(&all, &dependent).solid {
            registry.disown(&dependent.key, record.uid()).await?;
            continue;
        }
        blocked |= dependent.owners().any(|owner| owner.uid == record.uid() && owner.blocks);
        if waits_for_dependents(&dependent) || dependent.deleting {
            continue;
        }
        let options = DeleteOptions {
            uid: Some(dependent.uid().to_owned()),
            propagation: Some(Propagation::Foreground),
            ..DeleteOptions::default()
        };
        match registry.delete(&system, dependent.kind(), dependent.name(), &options).await {
            Ok(_) | Err(Error::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    if blocked { Ok(()) } else { registry.finish(record, FINALIZER_FOREGROUND).await }
}

fn dependents(all: &Visible, record: &Record) -> Vec<Arc<Record>> {
    all.dependents(record.uid()).filter_map(|key| all.get(key.kind, &key.name).cloned()).collect()
}

/// The keys of those that `record` names as its owners.
pub(super) fn owner_keys(record: &Record) -> Vec<Key> {
    let object = record.object();
    let references = object.metadata.owner_references.unwrap_or_default();
    let ours = references.into_iter().filter(|r| r.api_version == API_VERSION);
    ours.filter_map(|r| Some(Key::new(Kind::ALL.into_iter().find(|k| k.name() == r.kind)?, r.name))).collect()
}
