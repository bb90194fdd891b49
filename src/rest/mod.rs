//! The REST door: the catalogue as resources under `/api/v1`, for clients that are made from its OpenAPI document.
//!
//! What there is stands in `contract`; the router, the checks of queries and `openapi/imagehub.json` are made from it. A
//! GET reads one snapshot, as whoever asks sees it, and is answered from the kept answers where what it was read from
//! stands still. Its `ETag` is the digest of the answer. Whoever has it can wait until it changes, or follow it.
//! All writes go through `registry`. Each refusal is a problem (RFC 9457).

mod answers;
mod apply;
mod contract;
mod events;
mod feed;
mod input;
mod openapi;
mod page;
mod problem;
mod query;
mod read;
mod respond;
mod serve;
mod show;
#[cfg(test)]
mod tests;
mod watch;
mod write;

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::gateway::App;

pub use apply::APPLIED_ITEMS;
pub use contract::BASE;
pub use openapi::document;
pub use read::ANSWER_LIMIT;
pub use serve::{Doors, router};
pub use watch::{LONGEST_STREAM, LONGEST_WAIT, STREAMS};

/// The media type of most answers.
const JSON: &str = "application/json; charset=utf-8";
/// The media type of answers that go on.
const EVENT_STREAM: &str = "text/event-stream; charset=utf-8";

/// What all requests share.
struct Shared {
    app: App,
    /// How many answers that go on, or wait, there may be.
    streams: Arc<Semaphore>,
}
