//! DataPacks go when their time is over.

use futures::StreamExt;
use jiff::Timestamp;
use tracing::{debug, warn};

use super::CONCURRENCY;
use crate::api::Kind;
use crate::auth::Caller;
use crate::error::Error;
use crate::graph::Record;
use crate::registry::{DeleteOptions, Registry};

/// How long a pack that could not be deleted waits, in milliseconds.
const RETRY_MS: i64 = 1_000;

/// Deletes each pack when it expires, for ever.
pub(super) async fn run(registry: &Registry) {
    let mut changes = registry.graph().changes(Kind::DataPack);
    loop {
        changes.mark_unchanged();
        match delete_due(registry).await {
            Some(at) => {
                tokio::select! {
                    () = registry.clock().reaches(at) => {}
                    _ = changes.changed() => {}
                }
            }
            None => {
                // The sender is the graph's, which the registry holds.
                let _ = changes.changed().await;
            }
        }
    }
}

/// Deletes what has expired. Answers with when there is more to be done.
pub(super) async fn delete_due(registry: &Registry) -> Option<Timestamp> {
    let system = Caller::system();
    let reader = registry.reader(&system);
    let now = registry.store_time_ms();
    let mut due = Vec::new();
    let mut next = None;
    for (at, name) in reader.visible.expiries() {
        let Some(record) = reader.visible.get(Kind::DataPack, name) else { continue };
        if record.deleting {
            // A finalizer holds it: whoever set that one decides.
        } else if at <= now {
            due.push(record.clone());
        } else {
            next = Timestamp::from_millisecond(at).ok();
            break;
        }
    }
    // All are tried: one that can't be deleted doesn't hold the others.
    let failed = futures::stream::iter(due)
        .map(|record| async move { !delete(registry, &record).await })
        .buffer_unordered(CONCURRENCY)
        .fold(false, |any, failed| async move { any | failed })
        .await;
    if failed { Timestamp::from_millisecond(now.saturating_add(RETRY_MS)).ok() } else { next }
}

/// Deletes a pack at the version that expired: what was renewed in between stays. False where it is to be
/// tried again.
async fn delete(registry: &Registry, record: &Record) -> bool {
    let options = DeleteOptions {
        uid: Some(record.uid().to_owned()),
        resource_version: Some(record.revision.to_string()),
        ..DeleteOptions::default()
    };
    match registry.delete(&Caller::system(), Kind::DataPack, record.name(), &options).await {
        Ok(_) => debug!(pack = record.name(), "expired"),
        Err(Error::NotFound { .. } | Error::Conflict { .. }) => {}
        Err(error) => {
            warn!(pack = record.name(), %error, "an expired pack can't be deleted yet");
            return false;
        }
    }
    true
}
