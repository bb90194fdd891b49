//! Time, injected: no code but the start-up in `server` picks the system's clock.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use tokio::sync::watch;

/// Where the time comes from.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The time now, UTC.
    fn now(&self) -> Timestamp;

    /// Resolves once [`now`](Self::now) is at least `at`.
    fn reaches(&self, at: Timestamp) -> BoxFuture<'static, ()>;
}

/// How long the system's clock is slept on at a time: it can be set, and a sleep doesn't notice.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// A shared clock, as the layers hold it.
pub type SharedClock = Arc<dyn Clock>;

/// The machine's own clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn reaches(&self, at: Timestamp) -> BoxFuture<'static, ()> {
        async move {
            loop {
                let left = at.as_millisecond().saturating_sub(Timestamp::now().as_millisecond());
                let Ok(left @ 1..) = u64::try_from(left) else { return };
                tokio::time::sleep(Duration::from_millis(left).min(LONGEST_SLEEP)).await;
            }
        }
        .boxed()
    }
}

/// A clock that a test sets. It never moves by itself.
#[derive(Debug)]
pub struct ManualClock(watch::Sender<i64>);

impl ManualClock {
    /// A clock that stands at `at` (millisecond precision).
    #[must_use]
    pub fn at(at: Timestamp) -> Arc<Self> {
        Arc::new(Self(watch::Sender::new(at.as_millisecond())))
    }

    /// Moves the clock by `by` milliseconds, backwards if negative.
    pub fn step_ms(&self, by: i64) {
        self.0.send_modify(|now| *now = now.saturating_add(by));
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millisecond(*self.0.borrow()).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    fn reaches(&self, at: Timestamp) -> BoxFuture<'static, ()> {
        let mut now = self.0.subscribe();
        async move {
            // A clock that is gone stands still for ever.
            if now.wait_for(|now| *now >= at.as_millisecond()).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
        .boxed()
    }
}
