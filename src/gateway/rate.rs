//! How many requests a client makes: a bucket that refills, one a user. The headers are those of
//! draft-ietf-httpapi-ratelimit-headers.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use http::{HeaderMap, HeaderName, HeaderValue};
use moka::sync::Cache;

use crate::auth::Caller;
use crate::clock::SharedClock;

/// How many requests a client makes a minute where the server isn't told (`--request-rate`): on average, and at once at
/// most. Those who have not signed in, or not well, are one client together, with [`ANONYMOUS_SHARE`] times as many.
pub const REQUESTS: u32 = 6000;
/// The most that it can be told: one a microsecond, of all who have not signed in.
pub const MOST_REQUESTS: u32 = 600_000;
/// How many clients' worth of requests those have who have not signed in.
pub const ANONYMOUS_SHARE: i64 = 100;
/// How many clients are remembered at most; who is forgotten has a full bucket.
pub const CLIENTS: u64 = 100_000;

/// The time in which a bucket fills, in milliseconds.
const WINDOW_MS: i64 = 60_000;

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const RATE: HeaderName = HeaderName::from_static("ratelimit");

/// All clients' buckets.
#[derive(Debug)]
pub struct Rates {
    clock: SharedClock,
    /// How many requests a client makes a minute.
    requests: i64,
    /// When each client's bucket is full again, microseconds since 1970 (the generic cell rate algorithm).
    full_at: Cache<Arc<str>, Arc<AtomicI64>>,
    /// The same of those who have not signed in.
    anonymous: Arc<AtomicI64>,
    /// What is told of the rate of a client, and of theirs.
    policies: [HeaderValue; 2],
}

/// What is left to a client after a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rate {
    policy: HeaderValue,
    left: i64,
    /// In how many seconds the bucket is full again.
    full_in: i64,
}

/// A client has made all of its requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TooMany {
    /// A sentence for the client.
    pub detail: String,
    /// In how many seconds it may make another.
    pub wait_seconds: u64,
}

impl Rates {
    /// So many requests a minute, at most [`MOST_REQUESTS`].
    #[must_use]
    pub fn new(clock: SharedClock, requests: u32) -> Self {
        let requests = i64::from(requests.clamp(1, MOST_REQUESTS));
        let policies = [requests, requests * ANONYMOUS_SHARE].map(policy);
        let full_at = Cache::builder().max_capacity(CLIENTS).build();
        Self { clock, requests, full_at, anonymous: Arc::default(), policies }
    }

    /// Takes one request of a client's, `None` for one whose credentials are no good: what is left to it, and how long
    /// to wait where nothing was.
    pub fn take(&self, caller: Option<&Caller>) -> (Rate, Result<(), TooMany>) {
        let [of_one, of_all] = &self.policies;
        let (quota, policy, bucket) = if let Some(caller) = caller.filter(|caller| caller.is_authenticated()) {
            let user = caller.user();
            let bucket = self.full_at.get(user).unwrap_or_else(|| self.full_at.get_with(user.into(), Arc::default));
            (self.requests, of_one, bucket)
        } else {
            (self.requests * ANONYMOUS_SHARE, of_all, Arc::clone(&self.anonymous))
        };
        let policy = policy.clone();
        let now = self.clock.now().as_microsecond();
        let (window, one) = (WINDOW_MS * 1000, WINDOW_MS * 1000 / quota);
        let full_at = |full: i64| full.max(now) + one;
        let taken = bucket.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full| {
            Some(full_at(full)).filter(|full| full - now <= window)
        });
        // In whole seconds, the last of which is begun.
        let seconds = |micros: i64| (micros + 999_999).div_euclid(1_000_000).max(1);
        match taken {
            Ok(before) => {
                let spent = full_at(before) - now;
                (Rate { policy, left: (window - spent) / one, full_in: seconds(spent) }, Ok(()))
            }
            Err(full) => {
                let detail = format!("a client makes {quota} requests a minute at most (limit: requests)");
                let wait = seconds(full_at(full) - now - window);
                let too_many = TooMany { detail, wait_seconds: u64::try_from(wait).unwrap_or(1) };
                (Rate { policy, left: 0, full_in: seconds(full - now) }, Err(too_many))
            }
        }
    }
}

/// What is told of a rate.
fn policy(quota: i64) -> HeaderValue {
    let policy = format!("\"requests\";q={quota};w={}", WINDOW_MS / 1000);
    HeaderValue::try_from(policy).expect("it has no control characters")
}

impl Rate {
    /// Tells the client, if the answer doesn't: one that another replica gave tells what it has counted.
    pub fn tell(self, headers: &mut HeaderMap) {
        headers.entry(POLICY).or_insert(self.policy);
        let (mut left, mut full_in) = (itoa::Buffer::new(), itoa::Buffer::new());
        let told = ["\"requests\";r=", left.format(self.left), ";t=", full_in.format(self.full_in)];
        if let Ok(rate) = HeaderValue::try_from(told.concat()) {
            headers.entry(RATE).or_insert(rate);
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
        let rates = Rates::new(clock.clone(), 60);
        let (alice, bob) = (Caller::authenticated("alice", []), Caller::authenticated("bob", []));
        let (first, taken) = rates.take(Some(&alice));
        assert!(taken.is_ok());
        assert_eq!((first.policy.as_bytes(), first.left), (&b"\"requests\";q=60;w=60"[..], 59));
        let mut told = HeaderMap::new();
        first.tell(&mut told);
        assert_eq!(told[RATE], "\"requests\";r=59;t=1");
        for _ in 1..60 {
            assert!(rates.take(Some(&alice)).1.is_ok());
        }
        let (last, refused) = rates.take(Some(&alice));
        assert_eq!((refused.is_err(), last.left), (true, 0));
        assert!(rates.take(Some(&bob)).1.is_ok());
        clock.step_ms(1000);
        assert!(rates.take(Some(&alice)).1.is_ok());
        assert!(rates.take(Some(&alice)).1.is_err());
        let policy = rates.take(Some(&Caller::anonymous())).0.policy;
        assert_eq!(policy, "\"requests\";q=6000;w=60");
    }
}
