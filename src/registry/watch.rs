//! Watches: a cursor into the one log of events, and a filter. Nothing is queued for a watcher: what it
//! has not read stays in the log, and when the log has moved on, the watch ends with a 410.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use super::Registry;
use super::read::Reader;
use crate::api::{FieldSelector, Kind, LabelSelector};
use crate::auth::{Caller, Verb};
use crate::error::Error;
use crate::graph::{Changes, Event, Graph, Key, Query, Record, Revision, Visible, selects};

/// How many events a watcher reads at a time.
const BATCH: usize = 128;

/// How often a watcher that wants bookmarks gets one.
pub const BOOKMARK_EVERY: Duration = Duration::from_mins(1);

/// How often a watcher of one object, which sleeps while others change, notes how far it has come: it must not fall
/// behind the window for having had nothing to do.
const LOOK_EVERY: Duration = Duration::from_secs(10);

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
    changes: Changes,
    /// The one name that it is about, if its selector names one.
    name: Option<Arc<str>>,
    /// What was there at the start, not yet sent, the last first.
    existing: Vec<Arc<Record>>,
    /// Of which filling of the graph it is.
    generation: u64,
    /// All up to here has been sent.
    cursor: Revision,
    initial_end_due: bool,
    next_bookmark: Instant,
    next_look: Instant,
    ends: Instant,
    /// Set to the first of these. One timer that stays: most wake-ups are for events.
    timer: Pin<Box<Sleep>>,
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
        let name = options.fields.exact_name().map(Arc::<str>::from);
        let mut changes = match &name {
            Some(name) => self.graph.changes_of(Key { kind, name: Arc::clone(name) }),
            None => self.graph.changes_of_kind(kind),
        };
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
        let mut watch = Watch {
            graph: Arc::clone(&self.graph),
            packs: Arc::clone(&self.packs),
            caller: caller.clone(),
            kind,
            changes,
            name,
            existing,
            generation: reader.visible.generation(),
            cursor,
            initial_end_due: options.initial_end,
            next_bookmark: started + BOOKMARK_EVERY,
            next_look: started + LOOK_EVERY,
            ends: started + options.lasts,
            timer: Box::pin(sleep_until(started + options.lasts)),
            over: false,
            options,
        };
        watch.set_timer();
        Ok(watch)
    }
}

/// Why a watch of a kind that has seen all up to `cursor` can't go on.
fn check(visible: &Visible, kind: Kind, generation: u64, cursor: Revision) -> Option<Error> {
    let missed = || cursor < visible.floor() && visible.events(kind, cursor, 1).is_none();
    check_view(visible, kind, generation, cursor).or_else(|| missed().then(|| too_old(visible, cursor)))
}

/// Whether all was read anew, or what the caller sees has changed since.
fn check_view(visible: &Visible, kind: Kind, generation: u64, cursor: Revision) -> Option<Error> {
    let expired = |message: String| Some(Error::Expired { message, continue_token: None });
    if visible.generation() != generation {
        return expired(format!("too old resource version: {cursor} ({}): all was read anew", visible.floor()));
    }
    let changed = visible.sight_changed(kind, cursor)?;
    expired(format!("too old resource version: {cursor} ({changed}): what you may see has changed since"))
}

fn too_old(visible: &Visible, cursor: Revision) -> Error {
    let message = format!("too old resource version: {cursor} ({})", visible.floor());
    Error::Expired { message, continue_token: None }
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
                () = self.timer.as_mut() => {
                    let now = Instant::now();
                    if now >= self.ends {
                        return self.end();
                    }
                    let bookmark = self.options.bookmarks && now >= self.next_bookmark;
                    if bookmark {
                        self.next_bookmark = now + BOOKMARK_EVERY;
                    }
                    if now >= self.next_look {
                        self.next_look = now + LOOK_EVERY;
                    }
                    self.set_timer();
                    let seen = self.bookmark();
                    if bookmark {
                        return Some(seen);
                    }
                }
                () = self.changes.changed() => {
                    if let Some(items) = self.event_items() {
                        return Some(items);
                    }
                }
            }
        }
    }

    fn set_timer(&mut self) {
        let bookmark = self.options.bookmarks.then_some(self.next_bookmark);
        let look = self.name.is_some().then_some(self.next_look);
        let first = [bookmark, look].into_iter().flatten().fold(self.ends, Instant::min);
        self.timer.as_mut().reset(first);
    }

    /// Ends the watch, with a last bookmark where it wants them.
    pub fn end(&mut self) -> Option<(Reader, Vec<WatchItem>)> {
        if self.over {
            return None;
        }
        self.over = true;
        let started = self.existing.is_empty() && !self.initial_end_due;
        (self.options.bookmarks && started && !self.changes.has_changed()).then(|| self.bookmark())
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
        if let Some(error) = check_view(&reader.visible, self.kind, self.generation, self.cursor) {
            self.over = true;
            return Some((reader, vec![WatchItem::Failed(error)]));
        }
        let found = match &self.name {
            Some(name) => reader.visible.events_of(self.kind, name, self.cursor, BATCH),
            None => reader.visible.events(self.kind, self.cursor, BATCH),
        };
        let Some((events, reached)) = found else {
            self.over = true;
            let error = too_old(&reader.visible, self.cursor);
            return Some((reader, vec![WatchItem::Failed(error)]));
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
        // Before the snapshot: all up to there has been looked at.
        let quiet = self.changes.quiet_until(&self.graph);
        let reader = self.reader();
        if self.name.is_some() {
            if let Some(quiet) = quiet
                && check_view(&reader.visible, self.kind, self.generation, self.cursor).is_none()
            {
                self.cursor = self.cursor.max(quiet);
            }
        } else if check(&reader.visible, self.kind, self.generation, self.cursor).is_none()
            // Where nothing of the kind has happened since, the watcher has come as far as the store has.
            && let Some((events, reached)) = reader.visible.events(self.kind, self.cursor, 1)
            && events.is_empty()
        {
            self.cursor = reached;
        }
        (reader, vec![WatchItem::Bookmark(self.cursor, false)])
    }
}
