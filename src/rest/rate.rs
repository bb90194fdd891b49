//! How many requests a client makes: a bucket that refills, one a user. The headers are those of
//! draft-ietf-httpapi-ratelimit-headers.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use http::{HeaderMap, HeaderName, HeaderValue};
use moka::sync::Cache;

use super::problem::Problem;
use crate::auth::Caller;
use crate::clock::SharedClock;

/// How many requests a client makes a minute, on average and at once at most. Those who have not signed in are one client
/// together, with [`ANONYMOUS_SHARE`] times as many.
pub const REQUESTS: i64 = 6000;
/// How many clients' worth of requests those have who have not signed in.
pub const ANONYMOUS_SHARE: i64 = 100;
/// How many clients are remembered at most; who is forgotten has a full bucket.
pub const CLIENTS: u64 = 100_000;

/// The time in which a bucket fills, in milliseconds.
const WINDOW_MS: i64 = 60_000;

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const RATE: HeaderName = HeaderName::from_static("ratelimit");

/// All clients' buckets.
pub(super) struct Rates {
    clock: SharedClock,
    /// When each client's bucket is full again, microseconds since 1970 (the generic cell rate algorithm).
    full_at: Cache<Arc<str>, Arc<AtomicI64>>,
}

/// What is left to a client after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rate {
    quota: i64,
    left: i64,
    /// In how many seconds the bucket is full again.
    full_in: i64,
}

impl Rates {
    pub(super) fn new(clock: SharedClock) -> Self {
        Self { clock, full_at: Cache::builder().max_capacity(CLIENTS).build() }
    }

    /// Takes one request of a client's.
    pub(super) fn take(&self, caller: &Caller) -> Result<Rate, Problem> {
        let signed_in = caller.is_authenticated();
        let quota = if signed_in { REQUESTS } else { REQUESTS * ANONYMOUS_SHARE };
        let user: Arc<str> = caller.user().into();
        let bucket = self.full_at.get_with(user, Arc::default);
        let now = self.clock.now().as_microsecond();
        let (window, one) = (WINDOW_MS * 1000, WINDOW_MS * 1000 / quota);
        let full_at = |full: i64| full.max(now) + one;
        let taken = bucket.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full| {
            Some(full_at(full)).filter(|full| full - now <= window)
        });
        let seconds = |micros: i64| micros.max(0).div_euclid(1_000_000) + 1;
        match taken {
            Ok(before) => {
                let spent = full_at(before) - now;
                Ok(Rate { quota, left: (window - spent) / one, full_in: seconds(spent) })
            }
            Err(full) => {
                let detail = format!("a client makes {quota} requests a minute at most (limit: requests)");
                let wait = seconds(full_at(full) - now - window);
                Err(Problem::too_many(detail, u64::try_from(wait).unwrap_or(1)))
            }
        }
    }
}

impl Rate {
    /// Tells the client.
    pub(super) fn tell(self, headers: &mut HeaderMap) {
        let Self { quota, left, full_in } = self;
        let told = [
            (POLICY, format!("\"requests\";q={quota};w={}", WINDOW_MS / 1000)),
            (RATE, format!("\"requests\";r={left};t={full_in}")),
        ];
        for (name, value) in told {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(name, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::clock::ManualClock;

    #[test]
    fn a_client_that_has_spent_its_requests_waits_and_others_don_t() {
        let clock = ManualClock::at(Timestamp::from_second(1_700_000_000).unwrap());
        let rates = Rates::new(clock.clone());
        let (alice, bob) = (Caller::authenticated("alice", []), Caller::authenticated("bob", []));
        let first = rates.take(&alice).unwrap();
        assert_eq!((first.quota, first.left), (REQUESTS, REQUESTS - 1));
        for _ in 1..REQUESTS {
            rates.take(&alice).unwrap();
        }
        assert!(rates.take(&alice).is_err());
        assert!(rates.take(&bob).is_ok());
        clock.step_ms(1000);
        for _ in 0..REQUESTS / 60 {
            rates.take(&alice).unwrap();
        }
        assert!(rates.take(&alice).is_err());
    }
}
