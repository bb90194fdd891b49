//! What happens, as a stream of server-sent events: a cursor a kind into the one log, nothing queued. The id of an event
//! says how far each kind has come, so that whoever goes on there misses nothing and is told nothing twice. Where the log
//! no longer has what came after, or what the caller may see has changed, a `reset` says that all is to be read anew.

use std::collections::VecDeque;

use axum::response::Response;
use bytes::Bytes;
use futures::stream::{self, BoxStream, SelectAll};
use futures::{FutureExt as _, StreamExt as _};
use http::{HeaderMap, Method, StatusCode};
use tokio::time::Instant;

use super::answers::{Change, Moment};
use super::contract::KINDS;
use super::problem::Problem;
use super::read::json;
use super::serve::{self, Call};
use super::watch::{LAST_EVENT_ID, LONGEST_ID, LONGEST_STREAM, event, not_acceptable, place, streamed};
use super::{EVENT_STREAM, respond};
use crate::api::{FieldSelector, Kind, LabelSelector};
use crate::error::Error;
use crate::gateway::{REVISION_DIGITS, accepted};
use crate::graph::{Record, Revision, organization_of};
use crate::model::{ErrorCode, Fault};
use crate::registry::{EventType, Reader, WatchItem, WatchOptions, WatchStart};

/// The kinds by the words of [`KINDS`].
const ORDER: [Kind; 4] = [Kind::Image, Kind::Repository, Kind::Organization, Kind::DataPack];

fn word(kind: Kind) -> &'static str {
    ORDER.iter().position(|one| *one == kind).map_or("", |at| KINDS[at])
}

/// How far each kind that is followed has come.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Positions(Vec<(Kind, Revision)>);

impl Positions {
    fn id(&self) -> String {
        let parts: Vec<String> = self.0.iter().map(|(kind, at)| format!("{}={at}", word(*kind))).collect();
        parts.join(",")
    }

    /// Those that an id says, or one revision for all; `None` for what is neither.
    fn parse(id: &str) -> Option<Self> {
        let number = |text: &str| {
            let digits = (1..=REVISION_DIGITS).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
            digits.then(|| text.parse().ok()).flatten().map(Revision)
        };
        if let Some(at) = number(id) {
            return Some(Self(ORDER.map(|kind| (kind, at)).to_vec()));
        }
        let of = |part: &str| {
            let (name, at) = part.split_once('=')?;
            let kind = ORDER.into_iter().find(|kind| word(*kind) == name)?;
            Some((kind, number(at)?))
        };
        let said = id.split(',').map(of).collect::<Option<Vec<_>>>()?;
        (said.len() <= ORDER.len()).then_some(Self(said))
    }

    fn of(&self, kind: Kind) -> Option<Revision> {
        self.0.iter().find(|(one, _)| *one == kind).map(|(_, at)| *at)
    }

    fn set(&mut self, kind: Kind, at: Revision) {
        for position in self.0.iter_mut().filter(|(one, _)| *one == kind) {
            position.1 = position.1.max(at);
        }
    }
}

type Told = (Kind, Reader, Vec<WatchItem>);

struct Following {
    call: Call,
    organizations: Option<Vec<String>>,
    watches: SelectAll<BoxStream<'static, Told>>,
    positions: Positions,
    waiting: VecDeque<Bytes>,
    ends: Instant,
    over: bool,
}

/// Answers a request for what happens.
pub(super) async fn answer(call: Call) -> Result<Response, Problem> {
    if !takes_events(&call.headers) {
        return Err(not_acceptable(EVENT_STREAM));
    }
    let wanted = call.params.all("kind");
    let follows = |word: &str| wanted.as_ref().is_none_or(|wanted| wanted.contains(&word));
    let kinds: Vec<Kind> = ORDER.into_iter().filter(|kind| follows(word(*kind))).collect();
    let now = call.view().visible().revision();
    let started = start(&call)?;
    if call.method == Method::HEAD {
        return Ok(respond::empty(StatusCode::OK, now));
    }
    let permit = place(&call)?;
    let organizations = call.params.all("organization");
    let organizations = organizations.map(|all| all.into_iter().map(str::to_owned).collect());
    let at = |kind: Kind| started.as_ref().map_or(Some(now), |started| started.of(kind));
    let mut following = Following {
        call,
        organizations,
        watches: SelectAll::new(),
        positions: Positions(kinds.iter().map(|kind| (*kind, at(*kind).unwrap_or(now))).collect()),
        waiting: VecDeque::new(),
        ends: Instant::now() + LONGEST_STREAM,
        over: false,
    };
    for kind in kinds {
        match at(kind) {
            Some(at) => following.begin(kind, at).await?,
            // The id is of a stream that this kind was no part of.
            None => following.begin_anew(kind, now).await?,
        }
    }
    // First: the client knows where it is before anything happens.
    let sync = following.sync();
    following.waiting.push_front(sync);
    let events = stream::unfold(following, |mut following| async move { Some((following.next().await?, following)) });
    Ok(streamed(events.boxed(), now, permit))
}

fn takes_events(headers: &HeaderMap) -> bool {
    let clauses = accepted(headers);
    let fits = |range: &str| matches!(range, "text/event-stream" | "text/*" | "*/*");
    clauses.is_empty() || clauses.iter().any(|(range, quality)| *quality > 0 && fits(range))
}

/// Where the stream goes on; `None`: from now on.
fn start(call: &Call) -> Result<Option<Positions>, Problem> {
    if let Some(id) = call.headers.get(LAST_EVENT_ID) {
        let id = id.to_str().ok().filter(|id| id.len() <= LONGEST_ID);
        let positions = id.and_then(Positions::parse);
        let bad = || {
            let message = "it is no id of an event that a stream told, nor a revision";
            let fault = Fault::new(ErrorCode::Invalid, message);
            Problem::parameter(StatusCode::BAD_REQUEST, LAST_EVENT_ID.as_str(), fault)
        };
        return positions.map(Some).ok_or_else(bad);
    }
    // It is a decimal number.
    Ok(call.params.get("since").and_then(Positions::parse))
}

impl Following {
    /// Follows a kind from `at` on, or, where that can't be, from now on with a reset.
    async fn begin(&mut self, kind: Kind, at: Revision) -> Result<(), Problem> {
        let registry = &self.call.shared.app.registry;
        let options = |at| WatchOptions {
            labels: LabelSelector::default(),
            fields: FieldSelector::default(),
            start: WatchStart::After(at),
            bookmarks: true,
            initial_end: false,
            lasts: LONGEST_STREAM,
        };
        let watch = match registry.watch(&self.call.caller, kind, options(at)).await {
            Err(Error::Expired { .. }) => {
                let now = self.call.view().visible().revision();
                let watch = registry.watch(&self.call.caller, kind, options(now)).await?;
                self.reset(kind, now);
                watch
            }
            watch => watch?,
        };
        let told = stream::unfold(watch, move |mut watch| async move {
            let (reader, items) = watch.next().await?;
            Some(((kind, reader, items), watch))
        });
        self.watches.push(told.boxed());
        Ok(())
    }

    /// Says that a kind is to be read anew, and goes on from `now`.
    fn reset(&mut self, kind: Kind, now: Revision) {
        // Not the larger of both: a store that was set back has smaller ones.
        self.positions.0.iter_mut().filter(|(one, _)| *one == kind).for_each(|one| one.1 = now);
        let data = json(&Moment { revision: now.to_string(), kind: Some(kind.into()) });
        self.waiting.push_back(event("reset", Some(&self.positions.id()), &data));
    }

    fn sync(&self) -> Bytes {
        let now = self.call.view().visible().revision();
        let data = json(&Moment { revision: now.to_string(), kind: None });
        event("sync", Some(&self.positions.id()), &data)
    }

    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Some(event);
            }
            if self.over {
                return None;
            }
            let (caller, stop) = (self.call.caller.clone(), self.call.shared.app.stop.clone());
            let told = tokio::select! {
                biased;
                why = caller.ended() => {
                    self.over = true;
                    return Some(event("gone", None, &serve::ended(why).json()));
                }
                told = self.watches.next() => told?,
                // What has happened, then how far that is: the client goes on there at the server that comes after.
                () = stop.cancelled() => if let Some(told) = self.watches.next().now_or_never().flatten() {
                    told
                } else {
                    self.over = true;
                    return Some(self.sync());
                },
                () = tokio::time::sleep_until(self.ends) => {
                    self.over = true;
                    return Some(self.sync());
                }
            };
            if let Err(problem) = self.take(told).await {
                self.over = true;
                return Some(event("gone", None, &problem.json()));
            }
        }
    }

    async fn take(&mut self, (kind, reader, items): Told) -> Result<(), Problem> {
        for item in items {
            match item {
                WatchItem::Existing(_) => {}
                WatchItem::Bookmark(at, _) => {
                    self.positions.set(kind, at);
                    let sync = self.sync();
                    self.waiting.push_back(sync);
                }
                WatchItem::Event(happened, told) => {
                    self.positions.set(kind, told.revision);
                    let Some(record) = told.record() else { continue };
                    let Some(name) = self.wanted(record) else { continue };
                    let gone = happened == EventType::Deleted;
                    let change = Change {
                        revision: told.revision.to_string(),
                        kind: kind.into(),
                        name: name.to_owned(),
                        version: (!gone).then(|| told.revision.to_string()),
                    };
                    let word = if gone { "removed" } else { "put" };
                    let data = json(&change);
                    self.waiting.push_back(event(word, Some(&self.positions.id()), &data));
                }
                // The last item of its watch, which ends.
                WatchItem::Failed(Error::Expired { .. }) => {
                    let at = reader.visible.revision();
                    // It is too old by definition: what comes is a reset.
                    self.begin_anew(kind, at).await?;
                }
                WatchItem::Failed(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    async fn begin_anew(&mut self, kind: Kind, now: Revision) -> Result<(), Problem> {
        self.reset(kind, now);
        self.begin(kind, now).await
    }

    /// The full name of what an event is about, if it is wanted.
    fn wanted<'a>(&self, record: &'a Record) -> Option<&'a str> {
        let image = record.image().map(|image| image.name());
        let name = image.or_else(|| record.repository().map(|repository| repository.name()));
        let name = name.or_else(|| record.organization().map(|organization| &*organization.name));
        let Some(organizations) = &self.organizations else { return Some(name.unwrap_or(record.name())) };
        name.filter(|name| organizations.iter().any(|one| one == organization_of(name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_says_how_far_each_kind_has_come() {
        let positions = Positions(vec![(Kind::Image, Revision(7)), (Kind::DataPack, Revision(9))]);
        assert_eq!(positions.id(), "IMAGE=7,DATA_PACK=9");
        assert_eq!((positions.of(Kind::DataPack), positions.of(Kind::Repository)), (Some(Revision(9)), None));
        assert_eq!(Positions::parse(&positions.id()), Some(positions));
        let all = Positions::parse("8").unwrap();
        assert!(ORDER.into_iter().all(|kind| all.of(kind) == Some(Revision(8))));
        for none in ["", "x", "IMAGE", "IMAGE=7,", "IMAGE=7,DATA_PACK=", "IMAGE=-1", "PACK=1", "00000000000000000001"] {
            assert_eq!(Positions::parse(none), None, "{none}");
        }
        assert_eq!(Positions::parse(&["IMAGE=1"; 5].join(",")), None);
    }
}
