//! Watch streams: one JSON event a line, or one a WebSocket's frame.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures::future::{BoxFuture, Fuse, OptionFuture};
use futures::{FutureExt, stream};
use http::HeaderValue;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use rand::RngExt as _;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::negotiate::{Accepted, Form};
use super::params::Include;
use super::relay::Until;
use super::table;
use crate::api::{API_VERSION, Kind};
use crate::clock::SharedClock;
use crate::error::Error;
use crate::graph::{Event, Record, Revision, Sight};
use crate::registry::{EventType, Reader, Watch, WatchItem};

/// About how much is written at a time.
const CHUNK: usize = 64 * 1024;

/// What kube calls the bookmark that ends the initial events.
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// How a stream's events are written.
struct Writer {
    kind: Kind,
    form: Form,
    include: Include,
    clock: SharedClock,
    /// A table's columns, for its first event: kube says `null` in the others.
    definitions: Option<String>,
}

/// A watch that is being sent.
pub(super) struct Events {
    watch: Watch,
    writer: Writer,
    until: Until,
    /// Resolves when that is over. One that stays, as the next: to join and leave those who wait, at each of ten
    /// thousand watchers' events, costs more than the event.
    over: Fuse<BoxFuture<'static, ()>>,
    /// Resolves when the watcher's credentials are good no longer, and says why; where that may be.
    ended: Option<Fuse<BoxFuture<'static, &'static str>>>,
    /// What is to be sent next. It is written only when it is: what waits for a slow reader is shared with
    /// all others.
    pending: Option<Batch>,
    /// Until when that waits.
    hold: Option<Instant>,
}

/// Over how long the ends of watches are spread that one change of sight, or a full window, ends: their clients
/// all list again.
const ENDS_SPREAD: Duration = Duration::from_secs(1);

/// Items, and what the caller reads at the snapshot that they are of.
type Batch = (Reader, std::vec::IntoIter<WatchItem>);

impl Events {
    /// The events of `watch`, until it ends or `until` is over.
    pub(super) fn new(
        accepted: Accepted,
        include: Include,
        kind: Kind,
        clock: SharedClock,
        watch: Watch,
        until: Until,
    ) -> Self {
        let definitions = Some(table::definitions(kind));
        let writer = Writer { kind, form: accepted.form, include, clock, definitions };
        let over = until.clone().over_owned().fuse();
        let ended = watch.caller().end().map(FutureExt::fuse);
        Self { watch, writer, until, over, ended, pending: None, hold: None }
    }

    /// The next events, a line each, of about [`CHUNK`] bytes; `None` when it is over. Nothing is lost where
    /// the future is dropped.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        self.wait_out().await;
        let (reader, mut items) = match self.pending.take() {
            // No bookmark: it would say that what is left out here was sent.
            Some(_) if self.until.is_over() => return None,
            Some(pending) => match self.watch.caller().has_ended() {
                Some(why) => self.end_with(why)?,
                None => pending,
            },
            None => {
                let batch = self.batch().await?;
                if matches!(batch.1.as_slice().last(), Some(WatchItem::Failed(Error::Expired { .. }))) {
                    self.hold = Some(Instant::now() + rand::rng().random_range(Duration::ZERO..ENDS_SPREAD));
                    self.pending = Some(batch);
                    self.wait_out().await;
                    self.pending.take()?
                } else {
                    batch
                }
            }
        };
        if let [WatchItem::Event(kind, event)] = items.as_slice()
            && let Some(line) = self.writer.shared_line(&reader, *kind, event)
        {
            // Nearly always: what all watchers share goes out as it is.
            return Some(line);
        }
        let mut out = Vec::new();
        while out.len() < CHUNK
            && let Some(item) = items.next()
        {
            self.writer.write(&mut out, &reader, &item);
        }
        if items.len() > 0 {
            self.pending = Some((reader, items));
        }
        Some(out.into())
    }

    async fn wait_out(&mut self) {
        if let Some(hold) = self.hold {
            tokio::select! {
                () = tokio::time::sleep_until(hold) => {}
                () = self.until.over() => {}
            }
            self.hold = None;
        }
    }

    async fn batch(&mut self) -> Option<Batch> {
        let batch = if self.until.is_over() {
            self.watch.end()
        } else {
            tokio::select! {
                biased;
                Some(why) = OptionFuture::from(self.ended.as_mut()) => return self.end_with(why),
                () = &mut self.over => self.watch.end(),
                batch = self.watch.next() => batch,
            }
        };
        batch.map(|(reader, items)| (reader, items.into_iter()))
    }

    fn end_with(&mut self, why: &str) -> Option<Batch> {
        let failed = self.watch.fail(Error::Unauthorized(why.to_owned()));
        failed.map(|(reader, items)| (reader, items.into_iter()))
    }
}

/// Answers with the events.
pub(super) fn respond(events: Events) -> Response {
    // In a box: it is moved in and out for each chunk.
    let chunks = stream::unfold(Box::new(events), |mut events| async move {
        let chunk = events.next().await?;
        Some((Ok::<_, Infallible>(chunk), events))
    });
    streaming(Body::from_stream(chunks))
}

/// A stream of the one event that says why there is no watch.
pub(super) fn failed(error: &Error) -> Response {
    streaming(Body::from(error_line(error)))
}

/// The event that says why there is no watch.
pub(super) fn error_line(error: &Error) -> Vec<u8> {
    let mut out = Vec::new();
    write_error(&mut out, error);
    out
}

fn streaming(body: Body) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

fn write_error(out: &mut Vec<u8>, error: &Error) {
    begin(out, "ERROR");
    out.extend_from_slice(error.status_json().to_string().as_bytes());
    out.extend_from_slice(
        b"}
",
    );
}

/// What a line begins with, before and behind the event's kind, and what it ends with.
const BEGIN: [&[u8]; 2] = [br#"{"type":""#, br#"","object":"#];
const END: &[u8] = b"}\n";

/// What a line takes beside the stored object at most, in bytes, where it has no status.
const AROUND: usize = 128;

fn begin(out: &mut Vec<u8>, kind: &str) {
    out.extend_from_slice(BEGIN[0]);
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(BEGIN[1]);
}

fn begin_len(kind: EventType) -> usize {
    BEGIN[0].len() + kind.as_str().len() + BEGIN[1].len()
}

/// What an event is to whoever sees all of it.
fn natural(event: &Event) -> EventType {
    match (event.old.is_some(), event.new_record().is_some()) {
        (false, _) => EventType::Added,
        (true, true) => EventType::Modified,
        (true, false) => EventType::Deleted,
    }
}

impl Writer {
    fn write(&mut self, out: &mut Vec<u8>, reader: &Reader, item: &WatchItem) {
        match item {
            WatchItem::Existing(record) => {
                begin(out, EventType::Added.as_str());
                self.write_record(out, reader, record, record.revision);
                out.extend_from_slice(b"}\n");
            }
            WatchItem::Event(kind, event) => self.write_event(out, reader, *kind, event),
            WatchItem::Bookmark(revision, initial_end) => self.write_bookmark(out, *revision, *initial_end),
            WatchItem::Failed(error) => write_error(out, error),
        }
    }

    fn write_event(&mut self, out: &mut Vec<u8>, reader: &Reader, kind: EventType, event: &Event) {
        let natural = natural(event);
        // An object that leaves a selector is told as it last was in it, at the version that took it out.
        let left = (kind == EventType::Deleted && kind != natural).then_some(event.old.as_ref()).flatten();
        if left.is_none()
            && let Some(line) = self.shared_line(reader, natural, event)
        {
            begin(out, kind.as_str());
            out.extend_from_slice(&line[begin_len(natural)..]);
            return;
        }
        begin(out, kind.as_str());
        match left.or(event.record()) {
            Some(record) => self.write_record(out, reader, record, event.revision),
            None => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(END);
    }

    /// The line of an event that is told as the `kind` that it is, made once for all watchers who see the same;
    /// `None` where it is another kind, or another for each of them.
    fn shared_line(&mut self, reader: &Reader, kind: EventType, event: &Event) -> Option<Bytes> {
        let form = match self.form {
            Form::Object => 0,
            Form::Metadata => 1,
            // Ages go on.
            Form::Table { .. } => return None,
        };
        let record = event.record().filter(|_| kind == natural(event))?;
        // Only status depends on the snapshot and on who asks; managers' are made for each.
        let computed = form == 0 && self.kind != Kind::Image;
        let class = match (reader.visible.sight(), record.repository()) {
            _ if !computed => 0,
            // Whoever sees any of its tags sees all. What has the name now may be hidden, though this one wasn't.
            (_, Some(repository)) => u8::from(reader.visible.tags(repository.name()).is_empty()),
            (Sight::Everything, None) => 0,
            (Sight::Public, None) => 1,
            (Sight::Manager(_), None) => return None,
        };
        let of = if computed { reader.visible.revision() } else { Revision::default() };
        Some(event.encoded(form * 2 + usize::from(class), of, || {
            let mut line = Vec::with_capacity(record.json().len() + AROUND);
            begin(&mut line, kind.as_str());
            self.write_record(&mut line, reader, record, event.revision);
            line.extend_from_slice(END);
            line.into()
        }))
    }

    fn write_record(&mut self, out: &mut Vec<u8>, reader: &Reader, record: &Record, revision: Revision) {
        match self.form {
            Form::Object => reader.write_object(out, record, revision),
            // A metadata watch computes no status.
            Form::Metadata => record.write_metadata(out, revision),
            Form::Table { beta } => {
                let metadata = json!({ "resourceVersion": revision.to_string() }).to_string();
                let definitions = self.definitions.take();
                let head = table::head(beta, &metadata, definitions.as_deref().unwrap_or("null"));
                out.extend_from_slice(head.as_bytes());
                table::write_row(out, reader, record, revision, self.include, self.clock.now());
                out.extend_from_slice(b"]}");
            }
        }
    }

    fn write_bookmark(&mut self, out: &mut Vec<u8>, revision: Revision, initial_end: bool) {
        let mut metadata = json!({ "resourceVersion": revision.to_string() });
        if initial_end {
            metadata["annotations"] = json!({ INITIAL_EVENTS_END: "true" });
        }
        let partial = json!({ "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata });
        let object = match self.form {
            Form::Object => json!({ "kind": self.kind.name(), "apiVersion": API_VERSION, "metadata": metadata }),
            Form::Metadata => partial,
            Form::Table { beta } => {
                let version = if beta { "meta.k8s.io/v1beta1" } else { "meta.k8s.io/v1" };
                let definitions = self.definitions.take().and_then(|text| serde_json::from_str::<Value>(&text).ok());
                json!({
                    "kind": "Table", "apiVersion": version, "metadata": { "resourceVersion": revision.to_string() },
                    "columnDefinitions": definitions, "rows": [{ "cells": table::empty_cells(self.kind), "object": partial }],
                })
            }
        };
        begin(out, "BOOKMARK");
        out.extend_from_slice(object.to_string().as_bytes());
        out.extend_from_slice(b"}\n");
    }
}
