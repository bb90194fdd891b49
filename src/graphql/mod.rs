//! The GraphQL door: the whole catalogue as one graph, at `/graphql`.
//!
//! One request reads one snapshot, as whoever asks sees it; nothing here does I/O to read, and all writes go through
//! `registry`. The library has the schema and executes operations; how they come and what is answered is our own
//! (`transport`). Answers are kept whole (`transport/cache.rs`) for as long as what they were read from stands still.

mod bare;
mod catalog;
mod error;
mod input;
mod limits;
mod mutation;
mod node;
mod page;
mod payload;
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
use tokio::sync::Semaphore;

use crate::gateway::App;
use mutation::MutationRoot;
use query::QueryRoot;
use subscription::SubscriptionRoot;

pub use bare::Bare;
pub use limits::{
    ALIASES, COMPLEXITY, DEPTH, DIRECTIVES, INTROSPECTION, INTROSPECTION_LISTS, Limits, NAME, NESTING, ROOT_FIELDS,
    TOKENS, VALUES,
};
pub use mutation::{APPLIED_IMAGES, CHANGED_MANAGERS};
pub use query::RESOLVED_NAMES;
pub use subscription::LONGEST_SUBSCRIPTION;
pub use transport::{LARGEST_MESSAGE, OPERATIONS, SOCKETS, STREAM_BYTES, STREAMS, TrustedDocuments, router};

type ImagehubSchema = Schema<QueryRoot, MutationRoot, SubscriptionRoot>;

/// What all requests share.
struct Shared {
    app: App,
    /// What one request may ask for.
    limits: Limits,
    schema: ImagehubSchema,
    transport: transport::State,
    /// How many operations that go on there may be, over all connections.
    streams: Arc<Semaphore>,
    /// What they may take together, in KiB.
    stream_room: Arc<Semaphore>,
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
