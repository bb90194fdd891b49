//! GET: answered at once, waited for until it changes (`Prefer: wait`), or followed (`Accept: text/event-stream`). The
//! kept answers say what an answer was read from; it is made anew only where that has moved.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::{BufMut as _, Bytes, BytesMut};
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt as _};
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, IF_NONE_MATCH, VARY};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::contract::Endpoint;
use super::problem::Problem;
use super::read::{self, Made};
use super::serve::{self, Call};
use super::{EVENT_STREAM, Shared, respond};
use crate::auth::Caller;
use crate::gateway::{Answer, App, Key, MIN_REVISION, Question, REVISION, VARY_OTHERS, View, accepted};
use crate::graph::Revision;
use crate::model::ErrorCode;

/// The most answers that go on or wait at a time.
pub const STREAMS: usize = 16_384;
/// The longest that an answer is waited for.
pub const LONGEST_WAIT: Duration = Duration::from_mins(1);
/// How long an answer is followed at most; whoever follows goes on at its last event.
pub const LONGEST_STREAM: Duration = Duration::from_hours(24);
/// How often a stream on which nothing happens says that it is there.
const ALIVE_EVERY: Duration = Duration::from_secs(15);
/// The longest Last-Event-ID that is read, in bytes.
pub(super) const LONGEST_ID: usize = 256;

pub(super) const PREFER: HeaderName = HeaderName::from_static("prefer");
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
pub(super) const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Keeps nginx from holding back what comes.
const UNBUFFERED: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Whether a client takes `media`, and whether it would rather follow; `None` where it takes neither.
fn follows(headers: &HeaderMap, media: &str) -> Option<bool> {
    let clauses = accepted(headers);
    if clauses.is_empty() {
        return Some(false);
    }
    let essence = media.split(';').next().unwrap_or(media);
    let sort = essence.split_once('/').map_or("", |(sort, _)| sort);
    let quality = |wanted: &dyn Fn(&str) -> Option<u8>| {
        // The range that says most decides.
        let fitting = clauses.iter().filter_map(|(range, quality)| Some((wanted(range)?, *quality)));
        fitting.max_by_key(|(fits, _)| *fits).map_or(0, |(_, quality)| quality)
    };
    let plain = quality(&|range| match range {
        "*/*" => Some(0),
        _ if range == essence => Some(2),
        _ => range.strip_suffix("/*").filter(|of| *of == sort).map(|_| 1),
    });
    let stream = quality(&|range| (range == "text/event-stream").then_some(0));
    match (plain, stream) {
        (0, 0) => None,
        (plain, stream) => Some(stream > plain),
    }
}

/// How long the client would wait, where it has an answer already.
fn wait(headers: &HeaderMap) -> Option<Duration> {
    if !headers.contains_key(IF_NONE_MATCH) {
        return None;
    }
    let values = headers.get_all(PREFER).into_iter().filter_map(|value| value.to_str().ok());
    let mut preferences = values.flat_map(|value| value.split([',', ';'])).map(str::trim);
    let seconds = preferences.find_map(|one| one.strip_prefix("wait=")?.trim_matches('"').parse::<u64>().ok())?;
    Some(Duration::from_secs(seconds).min(LONGEST_WAIT))
}

/// What a GET of `uri` asks.
fn asked(uri: &Uri) -> [&[u8]; 2] {
    [b"rest", uri.path_and_query().map_or("", |path| path.as_str()).as_bytes()]
}

/// The answer to a plain GET that was asked in just these words before, where it still stands: nobody has to read them.
pub(super) fn recalled(
    shared: &Shared,
    endpoint: Endpoint,
    caller: &Caller,
    request: &Request<Body>,
) -> Option<Response> {
    let (headers, media) = (request.headers(), endpoint.media());
    let plain = |range: &HeaderValue| range == "*/*" || (range == "application/json" && media == super::JSON);
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    // One look at each: a look by name would hash the name.
    let has_wishes = headers.keys().any(|name| *name == PREFER || *name == MIN_REVISION);
    if !reads || has_wishes || !headers.get_all(ACCEPT).iter().all(plain) || serve::bounded(headers).is_err() {
        return None;
    }
    let App { registry, search, answers, .. } = &shared.app;
    let visible = registry.reader(caller).visible;
    let question = Question::new(&asked(request.uri()), caller, &visible)?;
    let answer = answers.recall(&question, &visible)?;
    let told = respond::Told { signed_in: caller.is_authenticated(), headers };
    Some(respond::read(&answer, media, visible.revision(), answer.searched(search.as_deref()), told))
}

/// The answer now: the one that is kept, or one that is made, and kept.
fn current(call: &Call, view: &View) -> Result<Arc<Answer>, Problem> {
    let (answers, asked) = (&call.shared.app.answers, asked(&call.uri));
    let key = Key::new(&asked, &call.caller, view.visible());
    let note = |answer: &Arc<Answer>| {
        if let Some(question) = Question::new(&asked, &call.caller, view.visible()) {
            answers.note(question, answer);
        }
    };
    if let Some(answer) = answers.get(&key, view.visible()) {
        note(&answer);
        return Ok(answer);
    }
    let Made { body, link } = read::read(call, view)?;
    let answer = Arc::new(Answer::new(&view.reads(), view.visible(), body, link));
    answers.put(key, &answer);
    note(&answer);
    Ok(answer)
}

/// A place among the answers that go on.
pub(super) fn place(call: &Call) -> Result<OwnedSemaphorePermit, Problem> {
    Arc::clone(&call.shared.streams).try_acquire_owned().map_err(|_| {
        Problem::too_many(format!("{STREAMS} answers go on or wait, the most there are (limit: streams)"), 1)
    })
}

/// Answers a GET.
pub(super) async fn answer(call: Call) -> Result<Response, Problem> {
    let media = call.endpoint.media();
    let follows = follows(&call.headers, media).ok_or_else(|| not_acceptable(media))?;
    let view = call.view();
    let (answer, revision) = (current(&call, &view)?, view.visible().revision());
    // Whoever goes on doesn't hold the snapshot that it began with.
    drop(view);
    if follows && call.method != Method::HEAD {
        let permit = place(&call)?;
        return Ok(follow(call, answer, revision, permit));
    }
    let waits = wait(&call.headers).filter(|_| respond::has(&call.headers, &answer.etag));
    let search = call.shared.app.search.as_deref();
    let Some(time) = waits else {
        return Ok(respond::read(&answer, media, revision, answer.searched(search), serve::told(&call)));
    };
    let permit = place(&call)?;
    let mark = answer.mark();
    drop(answer);
    let (answer, revision) = changed(&call, &mark, time).await?;
    drop(permit);
    let searched = answer.searched(call.shared.app.search.as_deref());
    let mut response = respond::read(&answer, media, revision, searched, serve::told(&call));
    let applied = HeaderValue::from_str(&format!("wait={}", time.as_secs()));
    response.headers_mut().extend(applied.ok().map(|applied| (PREFERENCE_APPLIED, applied)));
    Ok(response)
}

pub(super) fn not_acceptable(media: &str) -> Problem {
    let essence = media.split(';').next().unwrap_or(media);
    let detail = format!("answers here are {essence}, or text/event-stream for those who follow it");
    Problem::new(StatusCode::NOT_ACCEPTABLE, ErrorCode::Invalid, detail)
}

/// Waits until the answer is another one than `known`, or the time is over.
async fn changed(call: &Call, known: &Answer, time: Duration) -> Result<(Arc<Answer>, Revision), Problem> {
    let ends = Instant::now() + time;
    // Many wait: none holds a body meanwhile.
    let mut seen = Arc::new(known.mark());
    let mut changes = call.shared.app.registry.graph().all_changes();
    // What happened since it was read must not have to wait for the next change.
    changes.mark_changed();
    // What a text finds may be another, too, once the search has come further.
    let mut search = call.shared.app.search.as_ref().map(|search| search.progress());
    loop {
        let revision = tokio::select! {
            biased;
            why = call.caller.ended() => return Err(serve::ended(why)),
            () = call.shared.app.stop.cancelled() => return Ok((seen, call.view().visible().revision())),
            () = tokio::time::sleep_until(ends) => return Ok((seen, call.view().visible().revision())),
            changed = async {
                match &mut search {
                    Some(search) if seen.is_provisional() => tokio::select! {
                        changed = changes.changed() => changed,
                        changed = search.changed() => changed,
                    },
                    _ => changes.changed().await,
                }
            } => {
                if changed.is_err() {
                    return Ok((seen, call.view().visible().revision()));
                }
                let view = call.view();
                if seen.stands(view.visible()) {
                    continue;
                }
                let answer = current(call, &view)?;
                if answer.etag == seen.etag {
                    seen = Arc::new(answer.mark());
                    continue;
                }
                seen = answer;
                view.visible().revision()
            }
        };
        return Ok((seen, revision));
    }
}

/// One event of a stream. Data may have lines.
pub(super) fn event(name: &str, id: Option<&str>, data: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(data.len() + 96);
    if let Some(id) = id {
        out.put_slice(b"id: ");
        out.put_slice(id.as_bytes());
        out.put_slice(b"\n");
    }
    out.put_slice(b"event: ");
    out.put_slice(name.as_bytes());
    for line in data.split(|byte| *byte == b'\n') {
        out.put_slice(b"\ndata: ");
        // It would end the line, too.
        out.extend(line.iter().copied().filter(|byte| *byte != b'\r'));
    }
    out.put_slice(b"\n\n");
    out.freeze()
}

/// The id of an event: the state, and the answer's tag.
fn id(revision: Revision, answer: &Answer) -> String {
    format!("{revision}.{}", answer.etag.trim_matches('"'))
}

/// An answer that is followed: each that is another than the one before is told. What was between two that are read is
/// not.
struct Followed {
    call: Call,
    /// The one that was told last; whether it is still to be told.
    seen: Arc<Answer>,
    due: Option<Revision>,
    ends: Instant,
    over: bool,
}

fn follow(call: Call, answer: Arc<Answer>, revision: Revision, permit: OwnedSemaphorePermit) -> Response {
    let last = call.headers.get(LAST_EVENT_ID).and_then(|id| id.to_str().ok()).filter(|id| id.len() <= LONGEST_ID);
    let known = last.and_then(|id| id.split_once('.')).is_some_and(|(_, tag)| tag == answer.etag.trim_matches('"'));
    let (due, seen) = if known { (None, Arc::new(answer.mark())) } else { (Some(revision), answer) };
    let followed = Followed { call, seen, due, ends: Instant::now() + LONGEST_STREAM, over: false };
    let events = stream::unfold(followed, |mut followed| async move { Some((followed.next().await?, followed)) });
    streamed(events.boxed(), revision, permit)
}

impl Followed {
    /// Tells the answer, and keeps what is needed of it.
    fn put(&mut self, revision: Revision) -> Bytes {
        let told = event("put", Some(&id(revision, &self.seen)), &self.seen.body);
        self.seen = Arc::new(self.seen.mark());
        told
    }

    async fn next(&mut self) -> Option<Bytes> {
        if self.over {
            return None;
        }
        if let Some(revision) = self.due.take() {
            return Some(self.put(revision));
        }
        loop {
            let left = self.ends.saturating_duration_since(Instant::now());
            if left.is_zero() || self.call.shared.app.stop.is_cancelled() {
                return None;
            }
            match changed(&self.call, &self.seen, left.min(LONGEST_WAIT)).await {
                Ok((answer, revision)) => {
                    let same = answer.etag == self.seen.etag;
                    self.seen = answer;
                    if !same {
                        return Some(self.put(revision));
                    }
                }
                // Whoever follows comes again.
                Err(problem) if problem.is_unavailable() => return None,
                // It is gone, or not to be seen any more; or the token isn't good any more.
                Err(problem) => {
                    self.over = true;
                    return Some(event("gone", None, &problem.json()));
                }
            }
        }
    }
}

/// A stream of events as an answer, with a comment wherever nothing has come for a while.
pub(super) fn streamed(
    events: BoxStream<'static, Bytes>,
    revision: Revision,
    permit: OwnedSemaphorePermit,
) -> Response {
    let body = alive(events).map(move |bytes| {
        let _going_on = &permit;
        Ok::<_, Infallible>(bytes)
    });
    let mut response = Response::new(Body::from_stream(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(EVENT_STREAM));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(VARY, VARY_OTHERS);
    headers.insert(UNBUFFERED, HeaderValue::from_static("no"));
    headers.insert(REVISION, revision.0.into());
    response
}

fn alive(events: BoxStream<'static, Bytes>) -> impl Stream<Item = Bytes> {
    stream::unfold(events, |mut events| async move {
        match tokio::time::timeout(ALIVE_EVERY, events.next()).await {
            Ok(event) => event.map(|event| (event, events)),
            Err(_) => Some((Bytes::from_static(b":\n\n"), events)),
        }
    })
}

#[cfg(test)]
mod tests {
    use http::header::ACCEPT;

    use super::*;

    fn of(accept: &'static str, media: &str) -> Option<bool> {
        follows(&HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]), media)
    }

    #[test]
    fn who_asks_for_events_follows_and_who_takes_nothing_of_ours_is_refused() {
        let json = "application/json; charset=utf-8";
        assert_eq!(follows(&HeaderMap::new(), json), Some(false));
        for plain in
            ["*/*", "application/json", "application/*", "text/html, */*;q=0.1", "text/event-stream;q=0.1, */*"]
        {
            assert_eq!(of(plain, json), Some(false), "{plain}");
        }
        assert_eq!(of("text/event-stream", json), Some(true));
        assert_eq!(of("text/event-stream, application/json;q=0.5", json), Some(true));
        for none in ["text/html", "application/json;q=0", "application/json;q=0, */*", "text/*"] {
            assert_eq!(of(none, json), None, "{none}");
        }
        assert_eq!(of("text/*", "text/markdown; charset=utf-8"), Some(false));
    }

    #[test]
    fn a_wait_is_for_whoever_has_an_answer_and_has_an_end() {
        let mut headers = HeaderMap::from_iter([(PREFER, HeaderValue::from_static("respond-async, wait=5"))]);
        assert_eq!(wait(&headers), None);
        headers.insert(IF_NONE_MATCH, HeaderValue::from_static("\"a\""));
        assert_eq!(wait(&headers), Some(Duration::from_secs(5)));
        headers.insert(PREFER, HeaderValue::from_static("wait=86400"));
        assert_eq!(wait(&headers), Some(LONGEST_WAIT));
        headers.insert(PREFER, HeaderValue::from_static("wait=-1"));
        assert_eq!(wait(&headers), None);
    }

    #[test]
    fn data_of_several_lines_is_one_event() {
        assert_eq!(event("put", Some("1.a"), b"a\r\nb"), "id: 1.a\nevent: put\ndata: a\ndata: b\n\n");
    }
}
