//! What keeps the kinds in step: labels, owners, announcements of computed status, cascading deletion and
//! expiry. Driven by the graph's events; at the start, and when events were missed, by one look at all.
//!
//! Every step is idempotent and decided on what is there when it is done, so that it can be done twice,
//! late, or again after a restart.

mod cascade;
mod expiry;
mod keeper;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::registry::Registry;

/// How many commits a controller has under way at a time. Small: users' writes share the queue.
pub const CONCURRENCY: usize = 32;

/// Runs all controllers, for ever.
pub async fn run(registry: Arc<Registry>) {
    tokio::join!(keeper::run(&registry), expiry::run(&registry));
}
