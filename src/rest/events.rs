//! What happens, as a stream of server-sent events: a cursor a kind into the one log, nothing queued. The id of an event
//! says how far each kind has come, so that whoever goes on there misses nothing and is told nothing twice. Where the log
//! no longer has what came after, or what the caller may see has changed, a `reset` says that all is to be read anew.

use std::collections::VecDeque;

use axum::response::Response;
use bytes::Bytes;
use futures::stream::{self, BoxStream, SelectAll};
use futures::{FutureExt as _, StreamExt as _};
use http::{HeaderMap, Method, StatusCode};
use serde_json::json;
use tokio::time::Instant;

use super::contract::KINDS;
use super::problem::Problem;
use super::serve::{self, Call};
use super::show::Change;
use super::watch::{LAST_EVENT_ID, LONGEST_ID, LONGEST_STREAM, event, not_acceptable, place, streamed};
use super::{EVENT_STREAM, respond};
use crate::api::{FieldSelector, Kind, LabelSelector};
use crate::error::Error;
use crate::gateway::accepted;
use crate::graph::{Record, Revision, organization_of};
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
    fn parse(kinds: &[Kind], id: &str) -> Option<Self> {
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            digits.then(|| text.parse().ok()).flatten().map(Revision)
        };
        if let Some(at) = number(id) {
            return Some(Self(kinds.iter().map(|kind| (*kind, at)).collect()));
        }
        let said: Vec<(&str, &str)> = id.split(',').filter_map(|part| part.split_once('=')).collect();
        let of = |kind: &Kind| {
            let (_, at) = said.iter().find(|(name, _)| *name == word(*kind))?;
            Some((*kind, number(at)?))
        };
        kinds.iter().map(of).collect::<Option<Vec<_>>>().map(Self)
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
    let positions = start(&call, &kinds)?;
    if call.method == Method::HEAD {
        return Ok(respond::empty(StatusCode::OK, now));
    }
    let permit = place(&call)?;
    let organizations = call.params.all("organization");
    let organizations = organizations.map(|all| all.into_iter().map(str::to_owned).collect());
    let begun = positions.clone().unwrap_or_else(|| Positions(kinds.iter().map(|kind| (*kind, now)).collect()));
    let mut following = Following {
        call,
        organizations,
        watches: SelectAll::new(),
        positions: begun.clone(),
        waiting: VecDeque::new(),
        ends: Instant::now() + LONGEST_STREAM,
        over: false,
    };
    for (kind, at) in begun.0 {
        following.begin(kind, at).await?;
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
fn start(call: &Call, kinds: &[Kind]) -> Result<Option<Positions>, Problem> {
    if let Some(id) = call.headers.get(LAST_EVENT_ID) {
        let id = id.to_str().ok().filter(|id| id.len() <= LONGEST_ID);
        let positions = id.and_then(|id| Positions::parse(kinds, id));
        let bad = || Problem::unreadable("Last-Event-ID is no id of an event that this stream told");
        return positions.map(Some).ok_or_else(bad);
    }
    // It is a decimal number.
    Ok(call.params.get("since").and_then(|since| Positions::parse(kinds, since)))
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
                // Not the larger of both: a store that was set back has smaller ones.
                self.positions.0.iter_mut().filter(|(one, _)| *one == kind).for_each(|one| one.1 = now);
                let data = json!({ "kind": word(kind), "revision": now.to_string() }).to_string();
                self.waiting.push_back(event("reset", Some(&self.positions.id()), data.as_bytes()));
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

    fn sync(&self) -> Bytes {
        let now = self.call.view().visible().revision();
        event("sync", Some(&self.positions.id()), json!({ "revision": now.to_string() }).to_string().as_bytes())
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
                    let data = super::read::json(&change);
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
        self.positions.0.iter_mut().filter(|(one, _)| *one == kind).for_each(|one| one.1 = now);
        let data = json!({ "kind": word(kind), "revision": now.to_string() }).to_string();
        self.waiting.push_back(event("reset", Some(&self.positions.id()), data.as_bytes()));
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
        let kinds = [Kind::Image, Kind::DataPack];
        let positions = Positions(vec![(Kind::Image, Revision(7)), (Kind::DataPack, Revision(9))]);
        assert_eq!(positions.id(), "IMAGE=7,DATA_PACK=9");
        assert_eq!(Positions::parse(&kinds, &positions.id()), Some(positions));
        assert_eq!(Positions::parse(&kinds, "8").map(|all| all.id()).as_deref(), Some("IMAGE=8,DATA_PACK=8"));
        for none in ["", "x", "IMAGE=7", "IMAGE=7,DATA_PACK=", "IMAGE=-1,DATA_PACK=2", "99999999999999999999"] {
            assert_eq!(Positions::parse(&kinds, none), None, "{none}");
        }
    }
}
