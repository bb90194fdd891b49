//! A write, until it is known what became of it.
//!
//! The host may be away for a moment at any point. A write that got no answer is sent again: it says at which version
//! the Record must be, so that it can't be made twice, and it carries a mark that no other write has. When an attempt
//! then finds the Record not as expected, the earlier one may have been made, and the watch, which shows every
//! commit, tells by the mark. A deletion carries none: the first who asks for the deletion of that version has it.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::host::{Backoff, Failure, Fate};
use super::nonce::revision_of;
use super::published::Claim;
use super::record::{Content, Item, VALUE_LIMIT, body_of, name_of};
use super::shared::{QUEUE_WRITES, Reached, Shared};
use crate::storage::{Commit, CommitError, Expect, Key, ReadError, Revision, Write};

/// How long a write is tried, and it is tried to find out what became of it.
const OUTCOME_TIME: Duration = Duration::from_secs(20);
/// How long a write that is made waits to be shown by the watch, before it is answered without.
const ECHO_TIME: Duration = Duration::from_secs(5);
/// Pauses between attempts.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A write under way.
struct Attempts<'a> {
    shared: &'a Shared,
    write: &'a Write,
    name: String,
    mark: Uuid,
    at_ms: i64,
    body: Vec<u8>,
    uid: Option<String>,
    /// When the store was read when it began: what came before is seen no more after it was read anew.
    generation: u64,
    /// Why an attempt got no answer.
    lost: Option<String>,
}

impl Shared {
    pub(super) async fn commit(&self, write: &Write) -> Result<Commit, CommitError> {
        self.check_running().map_err(stopped)?;
        let Ok(_waiting) = self.queue.try_acquire() else { return Err(CommitError::Busy(QUEUE_WRITES)) };
        let ended = self.ended();
        tokio::select! {
            made = self.try_commit(write) => made,
            ended = ended => Err(CommitError::Stopped(ended.reason.to_string())),
        }
    }

    async fn try_commit(&self, write: &Write) -> Result<Commit, CommitError> {
        let name = name_of(&write.key);
        let (mark, at_ms, generation) = (Uuid::new_v4(), self.now(), self.generation());
        let (mut body, mut uid) = (Vec::new(), None);
        match (&write.value, write.expect) {
            (None, Expect::Absent) => return Err(self.conflict(&name).await),
            (None, Expect::At(at)) => uid = self.published.read().uid(&name, at).map(str::to_owned),
            (Some(value), expect) => {
                let replaces = if let Expect::At(at) = expect { Some(at) } else { None };
                body = body_of(&name, &write.key, value, at_ms, mark, replaces)
                    .map_err(|bytes| CommitError::TooLarge { bytes, limit: VALUE_LIMIT })?;
            }
        }
        Attempts { shared: self, write, name, mark, at_ms, body, uid, generation, lost: None }.run().await
    }

    /// Why a write that found the Record `name` not as expected can't be made.
    async fn conflict(&self, name: &str) -> CommitError {
        let deadline = Instant::now() + OUTCOME_TIME;
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        let body = loop {
            let failure = match self.host.get(name).await {
                Ok(None) => return CommitError::Conflict { current: None },
                Ok(Some(body)) => break body,
                Err(failure) => failure,
            };
            let pause = backoff.pause(None);
            if Instant::now() + pause >= deadline {
                return CommitError::Unavailable(failure.to_string());
            }
            sleep(pause).await;
        };
        let damaged =
            |why: String| CommitError::Refused(format!("the Record {name} is damaged; repair or delete it: {why}"));
        let item: Item<'_> = match serde_json::from_slice(&body) {
            Ok(item) => item,
            Err(error) => return damaged(error.to_string()),
        };
        match (item.content(&self.check), item.metadata.revision()) {
            (Content::Damaged(why), _) | (_, Err(why)) => damaged(why),
            (_, Ok(revision)) => CommitError::Conflict { current: Some(revision) },
        }
    }

    /// The record of `key` now.
    pub(super) async fn get(&self, key: &Key) -> Result<Option<Commit>, ReadError> {
        self.check_running()?;
        let name = name_of(key);
        let deadline = Instant::now() + OUTCOME_TIME;
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        let body = loop {
            let failure = match self.host.get(&name).await {
                Ok(None) => return Ok(None),
                Ok(Some(body)) => break body,
                Err(failure) => failure,
            };
            self.check_running()?;
            let pause = backoff.pause(None);
            if matches!(failure.fate(&name), Fate::Refused) || Instant::now() + pause >= deadline {
                return Err(ReadError::Unavailable(failure.to_string()));
            }
            sleep(pause).await;
        };
        let damaged = |why: String| ReadError::Damaged(format!("the Record {name}: {why}"));
        let item: Item<'_> = serde_json::from_slice(&body).map_err(|error| damaged(error.to_string()))?;
        let revision = item.metadata.revision().map_err(damaged)?;
        match item.content(&self.check) {
            Content::Record { key, at, value, .. } => {
                // The time is that of the watch, where it was raised above an earlier commit's.
                let at_ms = self.published.read().at(revision).map_or(at, |commit| commit.at_ms);
                Ok(Some(Commit { revision, at_ms, key, value: Some(value) }))
            }
            Content::Nonce { .. } => Err(damaged("it is a nonce".to_owned())),
            Content::Damaged(why) => Err(damaged(why)),
        }
    }
}

fn stopped(error: ReadError) -> CommitError {
    match error {
        ReadError::Stopped(reason) => CommitError::Stopped(reason),
        other => CommitError::Unavailable(other.to_string()),
    }
}

impl Attempts<'_> {
    async fn run(mut self) -> Result<Commit, CommitError> {
        let deadline = Instant::now() + OUTCOME_TIME;
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        loop {
            let failure = match self.attempt().await {
                Ok(body) => return self.made(&body).await,
                Err(failure) => failure,
            };
            let pause = match failure.fate(&self.name) {
                Fate::Unexpected if self.lost.is_some() => return self.resolve().await,
                Fate::Unexpected => return Err(self.shared.conflict(&self.name).await),
                Fate::Refused if self.lost.is_none() => return Err(CommitError::Refused(failure.to_string())),
                Fate::Refused => return Err(self.unknown(&failure.to_string())),
                Fate::Later(least) => backoff.pause(least),
                Fate::Unknown => {
                    self.lost = Some(failure.to_string());
                    backoff.pause(None)
                }
            };
            if Instant::now() + pause >= deadline {
                return Err(match self.lost {
                    Some(_) => self.unknown(&failure.to_string()),
                    None => CommitError::Unavailable(failure.to_string()),
                });
            }
            sleep(pause).await;
        }
    }

    async fn attempt(&self) -> Result<Bytes, Failure> {
        let host = &self.shared.host;
        let _permit = self.shared.in_flight.acquire().await.map_err(|error| Failure::NotSent(error.to_string()))?;
        match (&self.write.value, self.write.expect) {
            (Some(_), Expect::Absent) => host.create(self.body.clone()).await,
            (Some(_), Expect::At(_)) => host.replace(&self.name, self.body.clone()).await,
            (None, Expect::At(at)) => host.delete(&self.name, at, self.uid.as_deref()).await,
            (None, Expect::Absent) => Err(Failure::NotSent("there is nothing to delete".to_owned())),
        }
    }

    fn unknown(&self, why: &str) -> CommitError {
        let first = self.lost.as_deref().unwrap_or(why);
        CommitError::Unknown(if first == why { why.to_owned() } else { format!("{first}; then {why}") })
    }

    /// The answer to a write that is made.
    async fn made(self, body: &[u8]) -> Result<Commit, CommitError> {
        let shared = self.shared;
        if let (None, Expect::At(at)) = (&self.write.value, self.write.expect) {
            return self.deleted(at).await;
        }
        let revision = revision_of(body).map_err(|failure| self.unknown(&failure.to_string()))?;
        let echo = shared.reached(self.generation, revision, ECHO_TIME).await;
        if echo == Reached::Late {
            shared.kick.notify_waiters();
        }
        let shown = shared.published.read().at(revision).cloned();
        // Made is made, whether the watch shows it in time or not.
        let Write { key, value, .. } = self.write;
        Ok(shown.unwrap_or_else(|| Commit { revision, at_ms: self.at_ms, key: key.clone(), value: value.clone() }))
    }

    /// The answer to a deletion that is made. The host's doesn't say at which revision.
    async fn deleted(&self, at: Revision) -> Result<Commit, CommitError> {
        let shared = self.shared;
        let mut signal = shared.signal.subscribe();
        let deadline = Instant::now() + OUTCOME_TIME;
        loop {
            signal.borrow_and_update();
            let (claim, generation) = {
                let mut published = shared.published.write();
                (published.claim(&self.write.key, at), published.generation)
            };
            match claim {
                Claim::Mine(commit) => return Ok(commit),
                Claim::Taken => return Err(CommitError::Conflict { current: None }),
                // It is made, but nobody can say any more at which revision, or that it wasn't another's.
                Claim::Unseen if generation != self.generation => {
                    return Err(self.unknown("it is gone, and all was read anew before its deletion was shown"));
                }
                Claim::Unseen => {}
            }
            let half = Instant::now() + ECHO_TIME;
            tokio::select! {
                _ = signal.changed() => {}
                () = tokio::time::sleep_until(half.min(deadline)) => shared.kick.notify_waiters(),
            }
            if Instant::now() >= deadline {
                return Err(self.unknown("the watch didn't show the deletion"));
            }
        }
    }

    /// The answer where an attempt got none, and a later one finds the Record not as expected.
    async fn resolve(&self) -> Result<Commit, CommitError> {
        let shared = self.shared;
        // All that has happened to the Record by now is to be seen.
        if let Err(error) = shared.sync().await {
            return Err(self.unknown(&error.to_string()));
        }
        let found = {
            let mut published = shared.published.write();
            if published.generation != self.generation {
                return Err(self.unknown("all has been read anew since"));
            }
            match (&self.write.value, self.write.expect) {
                (None, Expect::At(at)) => match published.claim(&self.write.key, at) {
                    Claim::Mine(commit) => Some(commit),
                    Claim::Taken | Claim::Unseen => None,
                },
                _ => published.marked(self.mark).cloned(),
            }
        };
        match (found, self.write.expect) {
            (Some(commit), _) => Ok(commit),
            // It was at that version once, and never will be again: the lost attempt can't be made any more.
            (None, Expect::At(_)) => Err(shared.conflict(&self.name).await),
            // It can, should the Record that is there be deleted before the host gives it up.
            (None, Expect::Absent) => Err(self.unknown("another has made the Record")),
        }
    }
}
