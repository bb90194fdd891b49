//! The search over a whole registry, without a door.

mod index;
mod model;
mod quality;
mod questions;

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::api::Kind;
use crate::graph::{Key, Sight, Visible};
use crate::registry::WriteOptions;
use crate::registry::testing::{Hub, image, repository};

/// A registry, and the search over it.
struct Shelf {
    hub: Hub,
    search: Arc<Search>,
    indexer: Indexer,
}

impl Shelf {
    async fn open() -> Self {
        let hub = Hub::open().await;
        let (search, indexer) = Search::open(Arc::clone(hub.registry.graph())).unwrap();
        Self { hub, search, indexer }
    }

    /// Brings the search to where the registry is.
    fn catch_up(&mut self) {
        self.indexer.catch_up().unwrap();
    }

    fn see(&self, sight: Sight) -> Visible {
        self.hub.registry.graph().visible(sight)
    }

    /// An image, and its repository's labels as the controllers make them.
    async fn add(&self, name: &str, detail: Value) {
        self.hub.create(image(name, detail)).await;
        let repository = name.split(':').next().unwrap().replace('/', ".");
        self.hub.registry.refresh(&Key::new(Kind::Repository, repository)).await.unwrap();
    }

    async fn downloads(&self, repository: &str, count: i64) {
        let name = repository.replace('/', ".");
        self.hub.put_status(&name, json!({ "downloadCount": count }), WriteOptions::default()).await.unwrap();
    }

    async fn hide(&self, repository: &str, private: bool) {
        let name = repository.replace('/', ".");
        self.hub.put(Kind::Repository, &name, |value| value["spec"]["isPrivate"] = private.into()).await;
    }

    fn find(&self, sight: Sight, query: &Query) -> Hits {
        self.search.find(&self.see(sight), query).unwrap()
    }

    /// What everybody finds by a text, in order.
    fn found(&self, text: &str) -> Vec<String> {
        names(&self.find(Sight::Public, &by(text)))
    }

    fn suggested(&self, text: &str) -> Vec<String> {
        let text = Text::parse(text).unwrap().unwrap();
        let found = self.search.suggest(&self.see(Sight::Public), &text, 8).unwrap();
        found.into_iter().map(|suggestion| suggestion.text.to_string()).collect()
    }
}

/// A query by text.
fn by(text: &str) -> Query {
    Query { text: Text::parse(text).unwrap(), ..all() }
}

/// A query for all.
fn all() -> Query {
    Query { page: Page { limit: MAX_LIMIT, ..Page::default() }, facet_values: MAX_FACET_VALUES, ..Query::default() }
}

fn names(hits: &Hits) -> Vec<String> {
    hits.hits.iter().map(|hit| hit.repository.repository().unwrap().name().to_owned()).collect()
}

fn shown(facets: &[Facet]) -> Vec<(Option<&str>, usize)> {
    facets.iter().map(|facet| (facet.value.as_deref(), facet.count)).collect()
}

fn manager(name: &str) -> Sight {
    Sight::Manager(name.into())
}
