//! The search over repositories: by text, by filters, with facets. It follows the graph by itself, and what it
//! answers is judged anew on the snapshot and by the sight of each request.
//!
//! What it keeps true: *what a caller doesn't see changes nothing of the answer: no hit, no count, no order, no
//! suggestion.* A row's score is a function of that row and the text; no statistics of other documents go into it.
//!
//! Two things are kept for each repository: a small row ([`rows`]), by which all is filtered, counted and sorted,
//! and a document in the inverted index ([`inverted`]), by which text is found. The index lags behind the graph, by
//! [`COMMIT_EVERY`] at most; rows that changed meanwhile are read from the request's snapshot. So filters, counts
//! and lists without a text are exactly those of the snapshot; which rows match a text is as of
//! [`Search::revision`].

mod find;
mod indexer;
mod inverted;
mod query;
mod rows;
mod suggest;
#[cfg(test)]
mod tests;
mod view;
mod words;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::error::Error;
use crate::graph::{Graph, Revision, Visible};
use inverted::Inverted;
use rows::Table;

pub use indexer::{Indexer, SearchError};
pub use query::{
    Cursor, Facet, Facets, Filter, Hit, Hits, MAX_FACET_VALUES, MAX_FILTER_VALUES, MAX_LIMIT, Order, OrderField, Page,
    Query, Suggestion,
};
pub use rows::updated_ms;
pub use suggest::MAX_SUGGESTIONS;
pub use words::{MAX_TEXT, MAX_WORDS, Text};

/// The index is committed this often at most.
pub const COMMIT_EVERY: Duration = Duration::from_millis(200);
/// How long a revision that is asked for is waited for.
pub const REVISION_WAIT: Duration = Duration::from_secs(3);

/// The search.
pub struct Search {
    published: ArcSwap<Published>,
    /// Up to which revision all is searched; `None` until it has been filled.
    told: watch::Sender<Option<Revision>>,
}

impl fmt::Debug for Search {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Search").field("revision", &self.revision()).finish_non_exhaustive()
    }
}

/// Rows and index, as of a revision. It never changes.
struct Published {
    /// `None` until all is there for the first time.
    revision: Option<Revision>,
    /// The filling of the graph that it is of.
    generation: u64,
    table: Table,
    inverted: Inverted,
}

impl Search {
    /// A search over `graph` that has nothing yet, and the one who fills it and keeps it in step, to be run.
    ///
    /// # Errors
    /// The index can't be made: there is no memory or no thread for it.
    pub fn open(graph: Arc<Graph>) -> Result<(Arc<Self>, Indexer), SearchError> {
        let (writer, inverted) = inverted::create()?;
        let published = Published { revision: None, generation: 0, table: Table::default(), inverted };
        let search = Arc::new(Self { published: ArcSwap::from_pointee(published), told: watch::Sender::new(None) });
        let indexer = Indexer::new(graph, Arc::clone(&search), writer);
        Ok((search, indexer))
    }

    /// Whether all has been there once: before, every question is answered 503.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.revision().is_some()
    }

    /// The revision up to which all is searched, once it is ready.
    #[must_use]
    pub fn revision(&self) -> Option<Revision> {
        *self.told.borrow()
    }

    /// Tells how far it has come.
    #[must_use]
    pub fn progress(&self) -> watch::Receiver<Option<Revision>> {
        self.told.subscribe()
    }

    /// Waits until all up to `revision` is searched, [`REVISION_WAIT`] at most.
    ///
    /// # Errors
    /// [`Error::Unavailable`] while it is being filled, [`Error::ResourceVersionTooLarge`] where the revision wasn't
    /// reached in time.
    pub async fn reached(&self, revision: Revision) -> Result<(), Error> {
        self.reached_within(revision, REVISION_WAIT).await
    }

    async fn reached_within(&self, revision: Revision, wait: Duration) -> Result<(), Error> {
        let mut told = self.told.subscribe();
        let there = told.wait_for(|now| now.is_some_and(|now| now >= revision));
        if tokio::time::timeout(wait, there).await.is_ok() {
            return Ok(());
        }
        let current = self.revision().ok_or_else(not_ready)?;
        Err(Error::ResourceVersionTooLarge { asked: revision.0, current: current.0 })
    }

    fn publish(&self, published: Published) {
        let revision = published.revision;
        self.published.store(Arc::new(published));
        self.told.send_replace(revision);
    }
}

impl Published {
    /// Up to which revision `visible` can be searched.
    ///
    /// # Errors
    /// [`Error::Unavailable`] while that is not known.
    fn indexed(&self, visible: &Visible) -> Result<Revision, Error> {
        match self.revision {
            Some(revision) if self.generation == visible.generation() => Ok(revision),
            Some(_) => Err(catching_up()),
            None => Err(not_ready()),
        }
    }
}

fn catching_up() -> Error {
    Error::Unavailable("the search is catching up; try again in a moment".to_owned())
}

fn not_ready() -> Error {
    Error::Unavailable("the search is being filled; try again in a moment".to_owned())
}
