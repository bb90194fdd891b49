//! Operations executed and nothing else: what `make bench` compares the door with.

use std::sync::Arc;

use async_graphql::{Request, Variables};
use bytes::Bytes;
use serde_json::Value;

use super::view::View;
use super::{Answered, Limits, Shared, TrustedDocuments, transport};
use crate::auth::Caller;
use crate::gateway::App;

/// The schema over a catalogue: no HTTP, no limits, nothing kept.
pub struct Bare {
    shared: Arc<Shared>,
}

impl Bare {
    /// Over what `app` stands on.
    #[must_use]
    pub fn new(app: App) -> Self {
        Self { shared: Arc::new(Shared::new(app, TrustedDocuments::default(), Limits::default())) }
    }

    /// Parses, validates and executes an operation, and writes its answer.
    pub async fn execute(&self, caller: &Caller, query: &str, variables: Value) -> Bytes {
        let App { registry, search, .. } = &self.shared.app;
        let view = View::with_search(registry.reader(caller), caller.clone(), search.clone(), None);
        let request = Request::new(query).variables(Variables::from_json(variables));
        let request = request.data(view).data(Arc::clone(&self.shared)).data(Answered::default());
        transport::body(&self.shared.schema.execute(request).await)
    }
}
