//! What the follower, the writers, the readers and the watchers of one store share.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use tokio::sync::{Notify, Semaphore, watch};

use super::host::Host;
use super::nonce::Nonce;
use super::published::Published;
use super::record::Check;
use crate::clock::SharedClock;
use crate::storage::{ReadError, Revision};

/// Requests of writers that are under way at a time.
pub const IN_FLIGHT: usize = 64;
/// Writes that wait for their turn or their answer at most.
pub const QUEUE_WRITES: usize = 1024;

/// What is waited for.
#[derive(Debug, Clone, Default)]
pub(super) struct Signal {
    pub generation: u64,
    pub position: Revision,
    /// Set once, when the store was closed or its follower has failed.
    pub ended: Option<Ended>,
}

#[derive(Debug, Clone)]
pub(super) struct Ended {
    pub reason: Arc<str>,
    pub failed: bool,
}

/// How far the follower has come, for one who waits.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reached {
    /// As far as was asked for.
    There,
    /// It has begun anew.
    Anew,
    /// Not in time.
    Late,
}

pub(super) struct Shared {
    pub host: Host,
    pub clock: SharedClock,
    pub check: Check,
    pub published: RwLock<Published>,
    pub signal: watch::Sender<Signal>,
    pub nonce: Nonce,
    /// Has the follower watch anew at once: it seems to hear nothing.
    pub kick: Notify,
    pub queue: Semaphore,
    pub in_flight: Semaphore,
}

impl Shared {
    pub(super) fn check_running(&self) -> Result<(), ReadError> {
        match &self.signal.borrow().ended {
            Some(ended) => Err(ReadError::Stopped(ended.reason.to_string())),
            None => Ok(()),
        }
    }

    pub(super) fn end(&self, reason: &str, failed: bool) {
        self.signal.send_modify(|signal| {
            signal.ended.get_or_insert_with(|| Ended { reason: reason.into(), failed });
        });
    }

    /// Resolves when the store has ended.
    pub(super) async fn ended(&self) -> Ended {
        let mut signal = self.signal.subscribe();
        // The sender lives as long as self.
        let ended = signal.wait_for(|signal| signal.ended.is_some()).await.ok().and_then(|signal| signal.ended.clone());
        ended.unwrap_or_else(|| Ended { reason: super::CLOSED.into(), failed: false })
    }

    /// Tells those who wait what has been published.
    pub(super) fn announce(&self) {
        let (generation, position) = {
            let published = self.published.read();
            (published.generation, published.position)
        };
        self.signal.send_modify(|signal| {
            signal.generation = generation;
            signal.position = position;
        });
    }

    /// Waits until all up to `revision` is published, as long as the store isn't read anew.
    pub(super) async fn reached(&self, generation: u64, revision: Revision, within: Duration) -> Reached {
        let mut signal = self.signal.subscribe();
        let there =
            signal.wait_for(|now| now.generation != generation || now.position >= revision || now.ended.is_some());
        match tokio::time::timeout(within, there).await {
            Ok(Ok(now)) if now.generation != generation => Reached::Anew,
            Ok(Ok(now)) if now.position >= revision => Reached::There,
            _ => Reached::Late,
        }
    }

    pub(super) fn generation(&self) -> u64 {
        self.published.read().generation
    }

    /// The time that a write is stamped with: that of the clock, never lower than any that was seen.
    pub(super) fn now(&self) -> i64 {
        self.clock.now().as_millisecond().max(self.published.read().at_ms)
    }
}
