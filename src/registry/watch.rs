//! Watches: a cursor into the one log of events, and a filter. Nothing is queued for a watcher: what it
//! has not read stays in the log, and when the log has moved on, the watch ends with a 410.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Registry;
use super::read::Reader;
use crate::api::{FieldSelector, Kind, LabelSelector};
use crate::auth::{Caller, Verb};
use crate::error::Error;
use crate::graph::{Event, Graph, Query, Record, Revision, Visible, selects};

/// How many events a watcher reads at a time.
const BATCH: usize = 128;

/// How often a watcher that wants bookmarks gets one.
pub const BOOKMARK_EVERY: Duration = Duration::from_mins(1);

/// Where a watch begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchStart {
    /// With an ADDED event for each object that is there now, or at a later state than this one.
    Existing(Revision),
    /// With what happens after this revision.
    After(Revision),
    /// With what happens from now on.
    Now,
}

/// What a watch asks for.
#[derive(Debug, Clone)]
pub struct WatchOptions {
    /// Only what has these labels.
    pub labels: LabelSelector,
    /// Only what has these fields.
    pub fields: FieldSelector,
    /// Where it begins.
    pub start: WatchStart,
    /// Whether it is told, now and then, how far it has come.
    pub bookmarks: bool,
    /// Whether a bookmark marks the end of what was there at the start.
    pub initial_end: bool,
    /// When it ends.
    pub lasts: Duration,
}

/// What happened, as a watcher with selectors sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are kube's own")]
pub enum EventType {
    Added,
    Modified,
    Deleted,
}

impl EventType {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }
}

/// What a watcher is sent.
#[derive(Debug)]
pub enum WatchItem {
    /// An object that was there at the start.
    Existing(Arc<Record>),
    /// A change, and how this watcher sees it.
    Event(EventType, Arc<Event>),
    /// All events up to this revision have been sent; true for the end of what was there at the start.
    Bookmark(Revision, bool),
    /// The watch can't go on. The last item.
    Failed(Error),
}

/// A watch.
pub struct Watch {
    graph: Arc<Graph>,
    packs: Arc<crate::datapack::Packs>,
    caller: Caller,
    kind: Kind,
    options: WatchOptions,
    changes: tokio::sync::watch::Receiver<Revision>,
    /// What was there at the start, not yet sent, the last first.
    existing: Vec<Arc<Record>>,
    /// Of which filling of the graph it is.
    generation: u64,
    /// All up to here has been sent.
    cursor: Revision,
    initial_end_due: bool,
    next_bookmark: Instant,
    ends: Instant,
    over: bool,
}

impl Registry {
    /// Begins a watch.
    ///
    /// # Errors
    /// Forbidden; Expired where the version is no longer kept; `ResourceVersionTooLarge` where objects of a
    /// version are wanted that isn't reached in time.
    pub async fn watch(&self, caller: &Caller, kind: Kind, options: WatchOptions) -> Result<Watch, Error> {
        self.authorize(caller, Verb::Watch, kind, "", "")?;
        if let WatchStart::Existing(revision) = options.start {
            self.wait_for(revision).await?;
        }
        // First the changes, then the state: what comes in between wakes the watch.
        let mut changes = self.graph.changes(kind);
        changes.mark_unchanged();
        let reader = self.reader(caller);
        let now = reader.visible.revision();
        let (mut existing, mut cursor) = (Vec::new(), now);
        match options.start {
            WatchStart::Existing(_) => {
                let query = Query { kind, after: None, at: now, labels: &options.labels, fields: &options.fields };
                existing = reader.visible.list(query).collect();
                existing.reverse();
            }
            WatchStart::After(revision) => {
                // One of a version that is still to come just waits for it.
                cursor = revision;
                if let Some(error) = check(&reader.visible, kind, reader.visible.generation(), cursor) {
                    return Err(error);
                }
            }
            WatchStart::Now => {}
        }
        // What happened before the watch began must not have to wait for the next change.
        changes.mark_changed();
        let started = Instant::now();
        Ok(Watch {
            graph: Arc::clone(&self.graph),
            packs: Arc::clone(&self.packs),
            caller: caller.clone(),
            kind,
            changes,
            existing,
            generation: reader.visible.generation(),
            cursor,
            initial_end_due: options.initial_end,
            next_bookmark: started + BOOKMARK_EVERY,
            ends: started + options.lasts,
            over: false,
            options,
        })
    }
}

/// Why a watch that has seen all up to `cursor` can't go on.
fn check(visible: &Visible, kind: Kind, generation: u64, cursor: Revision) -> Option<Error> {
    let expired = |message: String| Some(Error::Expired { message, continue_token: None });
    if visible.generation() != generation {
        return expired(format!("too old resource version: {cursor} ({}): all was read anew", visible.floor()));
    }
    if let Some(changed) = visible.sight_changed(kind, cursor) {
        return expired(format!("too old resource version: {cursor} ({changed}): what you may see has changed since"));
    }
    if cursor < visible.floor() && visible.events(kind, cursor, 1).is_none() {
        return expired(format!("too old resource version: {cursor} ({})", visible.floor()));
    }
    None
}

impl Watch {
    /// The next items, never none, with what the caller reads at the snapshot that they are of; `None` when
    /// the watch is over.
    pub async fn next(&mut self) -> Option<(Reader, Vec<WatchItem>)> {
        if self.over {
            return None;
        }
        loop {
            if !self.existing.is_empty() || self.initial_end_due {
                return Some(self.start_items());
            }
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(self.ends) => return self.end(),
                // The sender is the graph's, which we hold.
                _ = self.changes.changed() => {
                    if let Some(items) = self.event_items() {
                        return Some(items);
                    }
                }
                () = tokio::time::sleep_until(self.next_bookmark), if self.options.bookmarks => {
                    self.next_bookmark = Instant::now() + BOOKMARK_EVERY;
                    return Some(self.bookmark());
                }
            }
        }
    }

    /// Ends the watch, with a last bookmark where it wants them.
    pub fn end(&mut self) -> Option<(Reader, Vec<WatchItem>)> {
        if self.over {
            return None;
        }
        self.over = true;
        let started = self.existing.is_empty() && !self.initial_end_due;
        (self.options.bookmarks && started && self.changes.has_changed().is_ok_and(|changed| !changed))
            .then(|| self.bookmark())
    }

    /// Ends the watch, saying why.
    pub fn fail(&mut self, error: Error) -> Option<(Reader, Vec<WatchItem>)> {
        let over = std::mem::replace(&mut self.over, true);
        (!over).then(|| (self.reader(), vec![WatchItem::Failed(error)]))
    }

    /// Who watches.
    #[must_use]
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    fn reader(&self) -> Reader {
        Reader::new(self.graph.visible(self.caller.sight()), Arc::clone(&self.packs))
    }

    fn start_items(&mut self) -> (Reader, Vec<WatchItem>) {
        let reader = self.reader();
        if let Some(error) = check(&reader.visible, self.kind, self.generation, self.cursor) {
            // What the caller may see has changed while it was being sent.
            self.over = true;
            return (reader, vec![WatchItem::Failed(error)]);
        }
        let from = self.existing.len().saturating_sub(BATCH);
        let mut items: Vec<_> = self.existing.drain(from..).rev().map(WatchItem::Existing).collect();
        if self.existing.is_empty() && std::mem::take(&mut self.initial_end_due) {
            items.push(WatchItem::Bookmark(self.cursor, true));
        }
        (reader, items)
    }

    fn event_items(&mut self) -> Option<(Reader, Vec<WatchItem>)> {
        let reader = self.reader();
        if let Some(error) = check(&reader.visible, self.kind, self.generation, self.cursor) {
            self.over = true;
            return Some((reader, vec![WatchItem::Failed(error)]));
        }
        let Some((events, reached)) = reader.visible.events(self.kind, self.cursor, BATCH) else {
            self.over = true;
            let message = format!("too old resource version: {} ({})", self.cursor, reader.visible.floor());
            return Some((reader, vec![WatchItem::Failed(Error::Expired { message, continue_token: None })]));
        };
        if events.len() == BATCH {
            // There may be more: look again without waiting for a change.
            self.changes.mark_changed();
        }
        self.cursor = self.cursor.max(reached);
        let items: Vec<_> = events
            .into_iter()
            .filter_map(|event| Some(WatchItem::Event(self.seen_as(&reader.visible, &event)?, event)))
            .collect();
        (!items.is_empty()).then_some((reader, items))
    }

    /// How this watcher sees an event: an object that comes to match its selectors is ADDED, one that no
    /// longer does is DELETED.
    fn seen_as(&self, visible: &Visible, event: &Event) -> Option<EventType> {
        let matches = |record: &Arc<Record>| {
            selects(&self.options.labels, &self.options.fields, record) && visible.sees_in(event, record)
        };
        match (event.old.as_ref().is_some_and(matches), event.new_record().is_some_and(matches)) {
            (false, true) => Some(EventType::Added),
            (true, true) => Some(EventType::Modified),
            (true, false) => Some(EventType::Deleted),
            (false, false) => None,
        }
    }

    /// Whether the watch has no selectors, so that it sees every event as what it is.
    #[must_use]
    pub fn is_unfiltered(&self) -> bool {
        self.options.labels.is_empty() && self.options.fields.is_empty()
    }

    fn bookmark(&mut self) -> (Reader, Vec<WatchItem>) {
        let reader = self.reader();
        // Where nothing of the kind has happened since, the watcher has come as far as the store has.
        let all_seen = check(&reader.visible, self.kind, self.generation, self.cursor).is_none();
        if all_seen
            && let Some((events, reached)) = reader.visible.events(self.kind, self.cursor, 1)
            && events.is_empty()
        {
            self.cursor = reached;
        }
        (reader, vec![WatchItem::Bookmark(self.cursor, false)])
    }
}
