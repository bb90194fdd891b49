//! DataPacks go when their time is over.

use futures::StreamExt;
use jiff::Timestamp;
use tracing::{debug, warn};

use super::CONCURRENCY;
use crate::api::Kind;
use crate::auth::Caller;
use crate::error::Error;
use crate::registry::{DeleteOptions, Registry};

/// Deletes each pack when it expires, for ever.
pub(super) async fn run(registry: &Registry) {
    let mut changes = registry.graph().changes(Kind::DataPack);
    let system = Caller::system();
    loop {
        changes.mark_unchanged();
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
        let failed = futures::stream::iter(due)
            .map(|record| {
                let system = &system;
                async move {
                    // At the version that expired: what was renewed in between stays.
                    let options = DeleteOptions {
                        resource_version: Some(record.revision.to_string()),
                        ..DeleteOptions::default()
                    };
                    match registry.delete(system, Kind::DataPack, record.name(), &options).await {
                        Ok(_) => debug!(pack = record.name(), "expired"),
                        Err(Error::NotFound { .. } | Error::Conflict { .. }) => {}
                        Err(error) => {
                            warn!(pack = record.name(), %error, "an expired pack can't be deleted yet");
                            return true;
                        }
                    }
                    false
                }
            })
            .buffer_unordered(CONCURRENCY)
            .any(|failed| async move { failed })
            .await;
        let wait = match next {
            _ if failed => Timestamp::from_millisecond(now + 1_000).ok(),
            next => next,
        };
        match wait {
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
