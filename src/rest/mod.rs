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
mod rate;
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
use tokio_util::sync::CancellationToken;

use crate::auth::{Authenticator, Authorizer};
use crate::gateway::{Answers, Origins, Quota};
use crate::registry::Registry;
use crate::relay::Relay;
use crate::search::Search;
use rate::Rates;

pub use apply::APPLIED_ITEMS;
pub use contract::BASE;
pub use openapi::document;
pub use rate::{CLIENTS, MOST_REQUESTS, REQUESTS};
pub use read::ANSWER_LIMIT;
pub use serve::{Doors, router};
pub use watch::{LONGEST_STREAM, LONGEST_WAIT, STREAMS};

/// The media type of most answers.
const JSON: &str = "application/json; charset=utf-8";
/// The media type of answers that go on.
const EVENT_STREAM: &str = "text/event-stream; charset=utf-8";

/// What the door needs.
#[derive(Debug, Clone)]
pub struct App {
    /// The verbs.
    pub registry: Arc<Registry>,
    /// Who asks.
    pub authenticator: Authenticator,
    /// Who may, beside the rules of the registry.
    pub authorizer: Authorizer,
    /// What finds repositories by text; `None`: nothing does.
    pub search: Option<Arc<Search>>,
    /// Whether those who have shown nothing may read what is public.
    pub anonymous: bool,
    /// How many requests a client makes a minute, at most [`MOST_REQUESTS`].
    pub requests: u32,
    /// What those who have not signed in may still leave behind.
    pub quota: Arc<Quota>,
    /// Who answers what is written, where there are several servers; `None`: this one.
    pub relay: Option<Arc<dyn Relay>>,
    /// The pages of other sites that may ask.
    pub origins: Origins,
    /// Ends the streams.
    pub stop: CancellationToken,
}

/// What all requests share.
struct Shared {
    app: App,
    answers: Answers,
    /// How many answers that go on, or wait, there may be.
    streams: Arc<Semaphore>,
    rates: Rates,
}
