//! Linearizable reads of a store that is followed by a watch: write something, and wait until the watch has shown
//! it. What is written is a nonce, a Record of this process that is no part of the catalogue. It also tells a host
//! that was restored from a backup: there it is not as it was left, or its new revision is none.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::host::{Backoff, Failure, Fate};
use super::record::{Content, Item, NONCE_PREFIX, nonce_body};
use super::shared::{Reached, Shared};
use crate::storage::{ReadError, Revision};

/// How long it is tried to write a nonce.
const WRITE_TIME: Duration = Duration::from_secs(10);
/// How long the watch may take to show it.
const ECHO_TIME: Duration = Duration::from_secs(5);
/// How old a nonce is that another process must have left behind, in milliseconds: each writes its own anew whenever
/// a watch begins, about every five minutes. One that is taken from a process that still runs costs it a new list.
pub(super) const ABANDONED_MS: i64 = 3_600_000;

/// The nonce of this process.
pub(super) struct Nonce {
    pub name: String,
    session: Uuid,
    state: Mutex<State>,
    /// One round at a time; whoever waits for a turn may find that the round before has done it for him.
    turn: Mutex<()>,
    begun: AtomicU64,
    done: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    /// Where it is.
    at: Option<Revision>,
    /// The number that it has there.
    count: u64,
    /// The highest number that it was tried to write.
    tried: u64,
}

/// Why a nonce isn't written.
#[derive(Debug)]
pub(super) enum NonceError {
    /// The host is not where it was.
    Rewound(String),
    /// The host can't be asked.
    Failed(Failure),
}

impl Nonce {
    pub(super) fn new() -> Self {
        let session = Uuid::new_v4();
        Self {
            name: format!("{NONCE_PREFIX}{session}"),
            session,
            state: Mutex::default(),
            turn: Mutex::default(),
            begun: AtomicU64::new(0),
            done: AtomicU64::new(0),
        }
    }

    /// Takes over where a list has found it.
    pub(super) async fn found(&self, at: Option<Revision>) {
        let mut state = self.state.lock().await;
        state.at = at;
        // Whatever number it has, it is ours.
        state.count = 0;
    }
}

impl Shared {
    /// Writes the nonce, and answers with its revision: all that was acknowledged before is below it.
    pub(super) async fn write_nonce(&self) -> Result<Revision, NonceError> {
        let nonce = &self.nonce;
        let mut state = nonce.state.lock().await;
        let before = self.published.read().position;
        let deadline = Instant::now() + WRITE_TIME;
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
        loop {
            state.tried += 1;
            let body = nonce_body(&nonce.name, state.tried, self.now(), nonce.session, state.at);
            let answer = match state.at {
                Some(_) => self.host.replace(&nonce.name, body).await,
                None => self.host.create(body).await,
            };
            let failure = match answer.and_then(|body| revision_of(&body)) {
                Ok(at) => {
                    (state.at, state.count) = (Some(at), state.tried);
                    if at <= before {
                        return Err(NonceError::Rewound(format!("its newest revision is {at}, we have seen {before}")));
                    }
                    return Ok(at);
                }
                Err(failure) => failure,
            };
            let pause = match failure.fate(&nonce.name) {
                Fate::Refused => return Err(NonceError::Failed(failure)),
                Fate::Unexpected => match self.found_nonce(&mut state).await {
                    Ok(()) => None,
                    Err(NonceError::Failed(_)) => Some(backoff.pause(None)),
                    Err(rewound) => return Err(rewound),
                },
                Fate::Later(least) => Some(backoff.pause(least)),
                Fate::Unknown => Some(backoff.pause(None)),
            };
            if let Some(pause) = pause {
                if Instant::now() + pause >= deadline {
                    return Err(NonceError::Failed(failure));
                }
                sleep(pause).await;
            }
        }
    }

    /// Looks where the nonce is. It may be ahead of what we know: an attempt that got no answer was made.
    async fn found_nonce(&self, state: &mut State) -> Result<(), NonceError> {
        let body = self.host.get(&self.nonce.name).await.map_err(NonceError::Failed)?;
        let rewound = |what: &str| Err(NonceError::Rewound(format!("our nonce {what}")));
        let Some(body) = body else {
            return if state.at.is_some() { rewound("is gone") } else { Ok(()) };
        };
        let item =
            serde_json::from_slice::<Item<'_>>(&body).map_err(|e| NonceError::Failed(Failure::Lost(e.to_string())))?;
        match (item.content(&self.check), item.metadata.revision()) {
            (Content::Nonce { session, count, .. }, Ok(revision)) if session == Some(self.nonce.session) => {
                if count < state.count || (count == state.count && state.at != Some(revision)) {
                    return rewound("has an older number");
                }
                (state.at, state.count) = (Some(revision), count);
                Ok(())
            }
            _ => rewound("is not ours"),
        }
    }

    /// Waits until all is published that was acknowledged before the call. Concurrent callers share a nonce.
    pub(super) async fn sync(&self) -> Result<(), ReadError> {
        self.check_running()?;
        let nonce = &self.nonce;
        let before = nonce.begun.load(Ordering::SeqCst);
        let _turn = nonce.turn.lock().await;
        if nonce.done.load(Ordering::SeqCst) > before {
            // That round began after we came.
            return Ok(());
        }
        let round = nonce.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let generation = self.generation();
        let ended = self.ended();
        let at = tokio::select! {
            at = self.write_nonce() => at,
            ended = ended => return Err(ReadError::Stopped(ended.reason.to_string())),
        };
        let away = |what: String| ReadError::Unavailable(format!("the host cluster's API {what}"));
        let at = match at {
            Ok(at) => at,
            Err(NonceError::Failed(failure)) => return Err(away(format!("can't be asked: {failure}"))),
            Err(NonceError::Rewound(why)) => {
                self.kick.notify_waiters();
                return Err(away(format!("is not where it was, all is read anew: {why}")));
            }
        };
        match self.reached(generation, at, ECHO_TIME).await {
            Reached::There => {
                nonce.done.store(round, Ordering::SeqCst);
                Ok(())
            }
            Reached::Anew => Err(away("has forgotten what we had seen: all is read anew".to_owned())),
            Reached::Late => {
                self.check_running()?;
                self.kick.notify_waiters();
                Err(away(format!("didn't show us what we wrote within {ECHO_TIME:?}")))
            }
        }
    }
}

/// The revision of the object that an answer has.
pub(super) fn revision_of(body: &[u8]) -> Result<Revision, Failure> {
    let item = serde_json::from_slice::<Item<'_>>(body).map_err(|error| Failure::Lost(error.to_string()))?;
    item.metadata.revision().map_err(Failure::Lost)
}
