//! The GraphQL door: the whole catalogue as one graph, at `/graphql`.
//!
//! One request reads one snapshot, as whoever asks sees it; nothing here does I/O to read, and all writes go through
//! `registry`. The library has the schema and executes operations; how they come and what is answered is our own
//! (`transport`). Answers are kept whole (`transport/cache.rs`) for as long as what they were read from stands still.

mod catalog;
mod error;
mod limits;
mod mutation;
mod node;
mod page;
mod query;
mod scalar;
mod subscription;
#[cfg(test)]
mod tests;
mod transport;
mod view;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_graphql::{SDLExportOptions, Schema};
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::auth::{Authenticator, Authorizer};
use crate::registry::Registry;
use crate::relay::Relay;
use crate::search::Search;
use mutation::MutationRoot;
use query::QueryRoot;
use subscription::SubscriptionRoot;

pub use catalog::FILTER_VALUES;
pub use limits::{ALIASES, COMPLEXITY, DEPTH, DIRECTIVES, INTROSPECTION_LISTS, Limits, ROOT_FIELDS, TOKENS};
pub use mutation::{APPLIED_IMAGES, CHANGED_MANAGERS};
pub use page::{LONGEST_PAGE, PAGE};
pub use query::RESOLVED_NAMES;
pub use subscription::LONGEST_SUBSCRIPTION;
pub use transport::{
    BODY_LIMIT, MIN_REVISION, OPERATIONS, Origins, REVISION, SEARCH_REVISION, SOCKETS, STREAMS, TrustedDocuments,
    router,
};

/// The user whose packs those are that were made for callers who have not signed in.
const GATEWAY_USER: &str = "system:imagehub:gateway";

/// How many new packs a minute are made for those who have not signed in.
pub const ANONYMOUS_PACKS: u32 = 60;

type ImagehubSchema = Schema<QueryRoot, MutationRoot, SubscriptionRoot>;

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
    /// The pages of other sites that may ask.
    pub origins: Origins,
    /// The documents that clients name instead of sending them.
    pub documents: TrustedDocuments,
    /// Who answers what is written, where there are several servers; `None`: this one.
    pub relay: Option<Arc<dyn Relay>>,
    /// What one request may ask for.
    pub limits: Limits,
    /// Ends the streams.
    pub stop: CancellationToken,
}

/// What all requests share.
struct Shared {
    app: App,
    schema: ImagehubSchema,
    transport: transport::State,
    quota: Quota,
    /// How many operations that go on there may be, over all connections.
    streams: Arc<Semaphore>,
    sockets: Arc<Semaphore>,
}

/// What a request is answered with beside its data.
#[derive(Debug, Clone, Default)]
struct Answered(Arc<AtomicBool>);

impl Answered {
    /// It was refused because there were too many.
    fn limited(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_limited(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// How many new packs may still be made in this minute.
#[derive(Debug)]
struct Quota {
    per_minute: u32,
    /// The minute, and how many were made in it.
    made: Mutex<(i64, u32)>,
}

impl Quota {
    fn new(per_minute: u32) -> Self {
        Self { per_minute, made: Mutex::new((i64::MIN, 0)) }
    }

    fn per_minute(&self) -> u32 {
        self.per_minute
    }

    fn take(&self, now: Timestamp) -> bool {
        let minute = now.as_second().div_euclid(60);
        let mut made = self.made.lock();
        if made.0 != minute {
            *made = (minute, 0);
        }
        let free = made.1 < self.per_minute;
        made.1 += u32::from(free);
        free
    }
}

fn schema() -> ImagehubSchema {
    Schema::build(QueryRoot, MutationRoot, SubscriptionRoot)
        // Ours come first, and say more; this one stays as a net.
        .limit_recursive_depth(64)
        .register_output_type::<node::Node>()
        .finish()
}

/// The schema as clients' tools read it: `schema/imagehub.graphql`.
#[must_use]
pub fn sdl() -> String {
    let sdl = schema().sdl_with_options(SDLExportOptions::new().use_space_ident().include_specified_by());
    let mut text = "# Written by `imagehub graphql-schema`; the program's own types are the source.\n\n".to_owned();
    for line in sdl.trim().lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
