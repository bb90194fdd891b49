//! Follows the graph and keeps rows and index in step with it.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use tantivy::TantivyError;
use tokio::time::Instant;
use tracing::{debug, info};

use super::inverted::Writer;
use super::rows::{ImageText, Row, Table};
use super::view::touched;
use super::{COMMIT_EVERY, Published, Search};
use crate::api::{FieldSelector, Kind, LabelSelector};
use crate::graph::{Graph, Query, Revision, Sight, Visible};
use crate::model::ImageView;

/// How many events are looked at in one go; where there are more, they are followed in several.
const BATCH: usize = 10_000;

/// Rows of repositories that are gone are kept, so many of them, for requests that still read an older snapshot.
const SPARE_ROWS: usize = 1024;

/// Why the search can't go on.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// The index can't be written.
    #[error("the search index can't be written: {0}")]
    Index(#[from] TantivyError),
    /// The one who writes it panicked.
    #[error("the search index's writer died: {0}")]
    Died(String),
}

/// The one who fills the search and keeps it in step.
pub struct Indexer {
    graph: Arc<Graph>,
    search: Arc<Search>,
    writer: Writer,
    table: Table,
    /// Rows of repositories that are gone, the longest gone first.
    spare: VecDeque<u32>,
    /// Up to where the events are followed, and of which filling of the graph; `None` until all objects were looked at.
    reached: Option<(u64, Revision)>,
}

impl Indexer {
    pub(super) fn new(graph: Arc<Graph>, search: Arc<Search>, writer: Writer) -> Self {
        Self { graph, search, writer, table: Table::default(), spare: VecDeque::new(), reached: None }
    }

    /// Fills the search and keeps it in step, for ever. What it does takes a processor's time: it is done among the
    /// blocking tasks.
    pub async fn run(mut self) -> SearchError {
        let started = Instant::now();
        let mut changes = self.graph.all_changes();
        loop {
            changes.mark_unchanged();
            let begun = Instant::now();
            let filled = self.reached.is_some();
            let step = tokio::task::spawn_blocking(move || {
                let done = self.catch_up();
                (self, done)
            });
            match step.await {
                Ok((indexer, Ok(()))) => self = indexer,
                Ok((_, Err(error))) => return error.into(),
                Err(error) => return SearchError::Died(error.to_string()),
            }
            if !filled {
                info!(repositories = self.table.len(), took = ?started.elapsed(), "the search is ready");
            }
            tokio::time::sleep_until(begun + COMMIT_EVERY).await;
            // The sender is the graph's, which is held here.
            let _ = changes.changed().await;
        }
    }

    /// Brings rows and index to where the graph is, and publishes them.
    ///
    /// # Errors
    /// The index can't be written.
    pub fn catch_up(&mut self) -> Result<(), TantivyError> {
        let all = self.graph.visible(Sight::Everything);
        // What the graph read anew has no events since what was before.
        let reached = self.reached.filter(|(generation, _)| *generation == all.generation());
        match reached.and_then(|(_, reached)| touched(&all, reached, BATCH)) {
            Some(names) => {
                for name in names {
                    self.index(&all, &name)?;
                }
            }
            None => self.sweep(&all)?,
        }
        let (generation, revision) = (all.generation(), all.revision());
        self.reached = Some((generation, revision));
        let inverted = self.writer.publish()?;
        let table = self.table.clone();
        self.search.publish(Published { revision: Some(revision), generation, table, inverted });
        Ok(())
    }

    /// Looks at all repositories: at the start, and when events were missed.
    fn sweep(&mut self, all: &Visible) -> Result<(), TantivyError> {
        debug!("looking at all repositories");
        let (labels, fields) = (LabelSelector::default(), FieldSelector::default());
        let query = Query { kind: Kind::Repository, after: None, at: all.revision(), labels: &labels, fields: &fields };
        for record in all.list(query) {
            if let Some(repository) = record.repository() {
                self.index(all, repository.name())?;
            }
        }
        let gone = |row: &Row| row.there && all.repository(&row.name).is_none();
        let gone: BTreeSet<_> =
            self.table.iter().filter(|(_, row)| gone(row)).map(|(_, row)| Arc::clone(&row.name)).collect();
        for name in gone {
            self.index(all, &name)?;
        }
        Ok(())
    }

    /// Brings one repository in step.
    fn index(&mut self, all: &Visible, name: &str) -> Result<(), TantivyError> {
        let record = all.repository(name);
        let row = record.and_then(|record| Row::of(all, record, &mut self.table.values));
        let Some(row) = row else {
            if let Some(number) = self.table.retire(name, all.revision()) {
                self.writer.remove(number);
                self.spare.push_back(number);
            }
            return Ok(());
        };
        let latest = row.latest;
        let (table, spare) = (&mut self.table, &mut self.spare);
        let gone = |number: u32, table: &Table| table.get(number).is_some_and(|row| !row.there);
        // Those that came back are not spare any more.
        while spare.front().is_some_and(|number| !gone(*number, table)) {
            spare.pop_front();
        }
        let free = if spare.len() > SPARE_ROWS && table.find(name).is_none() { spare.pop_front() } else { None };
        let (number, old) = table.put(row, || free);
        if old.is_some_and(|old| old.latest == latest) {
            return Ok(());
        }
        self.writer.remove(number);
        let image = all.tags(name).first().and_then(|image| ImageView::of(image));
        let text = image.as_ref().map(ImageText::of).unwrap_or_default();
        self.writer.add(number, name, &text)
    }
}
