//! What a candidate makes of what it sees of the Lease, and what it would write. No I/O and no clock of its own, so
//! that every order of events can be tried.
//!
//! Why no two hold it at once. A holder believes in its term until a deadline that it counts from before it *sent* the
//! write that won or renewed it. Another takes a held Lease only after it has seen it unchanged for longer than that,
//! counted from when it *received* it, and only by replacing the very version that it saw. So between the holder's
//! write and the other's lies more than the holder's whole term, each measured by one machine's monotonic clock. What
//! the Lease says of times is written for people, and never read.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};

use super::{ADDRESS, Identity, Peer, Timing};

/// The longest time that a Lease may ask for in its own `leaseDurationSeconds`, in seconds: whatever was written into
/// it, it can be taken some time.
const LONGEST_DURATION: i32 = 60;

/// The holder of a Lease that was made anew. It is none, but only time tells that there isn't one still.
const NOBODY: &str = "nobody";

/// One candidate's view.
#[derive(Debug)]
pub(super) struct Ballot {
    name: String,
    me: Identity,
    timing: Timing,
    seen: Option<Seen>,
    /// Whether the Lease may be another by now than what was seen last.
    doubtful: bool,
    /// Until when this candidate holds it, by its last write that was confirmed.
    held: Option<Instant>,
}

/// The Lease as it was seen last.
#[derive(Debug)]
struct Seen {
    /// `None`: there was none.
    lease: Option<Lease>,
    /// Since when it is known to have been like this.
    since: Instant,
}

impl Ballot {
    /// That of `me`, about the Lease `name`.
    pub(super) fn new(name: &str, me: Identity, timing: Timing) -> Self {
        Self { name: name.to_owned(), me, timing, seen: None, doubtful: true, held: None }
    }

    /// Whether the Lease has to be read before anything is decided.
    pub(super) fn is_doubtful(&self) -> bool {
        self.doubtful
    }

    /// Something may have been written since: by others, or by a request of ours whose outcome is unknown.
    pub(super) fn doubt(&mut self) {
        self.doubtful = true;
    }

    /// Notes what was read; `at` is when it had been received.
    pub(super) fn saw(&mut self, lease: Option<Lease>, at: Instant) {
        self.doubtful = false;
        if holder(lease.as_ref()) != Some(&*self.me.name) {
            self.held = None;
        }
        match &mut self.seen {
            Some(seen) if version(seen.lease.as_ref()) == version(lease.as_ref()) => seen.lease = lease,
            seen => *seen = Some(Seen { lease, since: at }),
        }
    }

    /// Notes what was stored by a write of ours that was confirmed; `sent` is from before it was sent.
    pub(super) fn wrote(&mut self, stored: Lease, sent: Instant, at: Instant) {
        self.saw(Some(stored), at);
        if self.seen.as_ref().and_then(|seen| holder(seen.lease.as_ref())) == Some(&*self.me.name) {
            self.held = Some(sent + self.timing.deadline);
        }
    }

    /// Until when it is held, if it is at `now`.
    pub(super) fn held(&self, now: Instant) -> Option<Instant> {
        self.held.filter(|deadline| now < *deadline)
    }

    /// What is to be written at `now`, in the place of exactly what was seen. `wants`: whether this candidate wants to
    /// hold it; where it doesn't and does, it gives it back. `wall` is written down for people.
    pub(super) fn bid(&mut self, now: Instant, wants: bool, wall: Timestamp) -> Option<Lease> {
        if !wants {
            // From here on: another may take it as soon as what is written now arrives, whenever its answer comes.
            self.held = None;
        }
        let seen = self.seen.as_ref().filter(|_| !self.doubtful)?;
        let mut lease = seen.lease.clone().unwrap_or_else(|| Lease {
            metadata: ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() },
            ..Lease::default()
        });
        let wall = Some(MicroTime(wall));
        let spec = lease.spec.get_or_insert_default();
        match holder(seen.lease.as_ref()) {
            Some(name) if name == self.me.name => {
                spec.renew_time = wall;
                if !wants {
                    spec.holder_identity = None;
                    lease.metadata.annotations.get_or_insert_default().remove(ADDRESS);
                    return Some(lease);
                }
            }
            _ if !wants => return None,
            // It was given back: there is nobody to wait for.
            None if seen.lease.is_some() => take(&self.me, spec, wall),
            // That there is none says nothing of whoever held the one before: somebody may have deleted it a moment
            // ago. One is made that nobody holds, to be waited for as for any other.
            None => {
                spec.holder_identity = Some(NOBODY.to_owned());
                return Some(lease);
            }
            Some(_) => {
                if now.saturating_duration_since(seen.since) < self.patience(seen) {
                    return None;
                }
                take(&self.me, spec, wall);
            }
        }
        spec.lease_duration_seconds = Some(seconds(self.timing.lease));
        let annotations = lease.metadata.annotations.get_or_insert_default();
        annotations.insert(ADDRESS.to_owned(), self.me.address.clone());
        Some(lease)
    }

    /// How long the Lease has to be seen unchanged: also what a replica of another version asks for in it.
    fn patience(&self, seen: &Seen) -> Duration {
        let asked = seen.lease.as_ref().and_then(|lease| lease.spec.as_ref()?.lease_duration_seconds).unwrap_or(0);
        self.timing.lease.max(Duration::from_secs(u64::try_from(asked.clamp(0, LONGEST_DURATION)).unwrap_or(0)))
    }

    /// The other replica that holds it at `now`, as far as is known.
    pub(super) fn other(&self, now: Instant) -> Option<Peer> {
        let seen = self.seen.as_ref()?;
        let name = holder(seen.lease.as_ref()).filter(|name| *name != self.me.name)?;
        if !self.doubtful && now.saturating_duration_since(seen.since) >= self.patience(seen) {
            return None;
        }
        let address = seen.lease.as_ref()?.metadata.annotations.as_ref()?.get(ADDRESS)?;
        Some(Peer { name: name.to_owned(), address: address.clone() })
    }
}

fn take(me: &Identity, spec: &mut LeaseSpec, wall: Option<MicroTime>) {
    spec.holder_identity = Some(me.name.clone());
    spec.acquire_time.clone_from(&wall);
    spec.renew_time = wall;
    spec.lease_transitions = Some(spec.lease_transitions.unwrap_or(0).saturating_add(1));
}

fn holder(lease: Option<&Lease>) -> Option<&str> {
    lease?.spec.as_ref()?.holder_identity.as_deref().filter(|holder| !holder.is_empty())
}

/// What tells one state of the Lease from another. The uid too: a Lease that was made anew is another.
fn version(lease: Option<&Lease>) -> Option<(Option<&str>, Option<&str>)> {
    lease.map(|lease| (lease.metadata.uid.as_deref(), lease.metadata.resource_version.as_deref()))
}

fn seconds(time: Duration) -> i32 {
    // At least 1: the API refuses 0.
    i32::try_from(time.as_secs().max(1)).unwrap_or(i32::MAX)
}

#[cfg(test)]
#[path = "simulation.rs"]
mod simulation;

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(name: &str) -> Identity {
        Identity { name: name.to_owned(), address: format!("{name}:8443") }
    }

    /// `lease`, as the API stores it as its version `version`.
    fn stored(mut lease: Lease, version: u64) -> Lease {
        lease.metadata.resource_version = Some(version.to_string());
        lease.metadata.uid = Some("1".to_owned());
        lease
    }

    fn ballot(name: &str) -> Ballot {
        Ballot::new("imagehub", identity(name), Timing::default())
    }

    const EPOCH: Timestamp = Timestamp::UNIX_EPOCH;

    /// The Lease as `name` holds it.
    fn held_by(name: &str, at: Instant) -> Lease {
        let mut other = ballot(name);
        other.saw(Some(stored(Lease::default(), 1)), at);
        stored(other.bid(at, true, EPOCH).unwrap(), 2)
    }

    #[test]
    fn nothing_is_written_before_it_was_read() {
        assert_eq!(ballot("a").bid(Instant::now(), true, EPOCH), None);
    }

    #[test]
    fn one_that_was_given_back_is_taken_at_once() {
        let now = Instant::now();
        let mut a = ballot("a");
        a.saw(Some(stored(Lease::default(), 7)), now);
        let bid = a.bid(now, true, EPOCH).unwrap();
        assert_eq!(holder(Some(&bid)), Some("a"));
        assert_eq!(bid.metadata.annotations.as_ref().unwrap()[ADDRESS], "a:8443");
        assert_eq!(bid.metadata.resource_version.as_deref(), Some("7"), "in the place of what was seen");
        a.wrote(stored(bid, 8), now, now);
        assert_eq!(a.held(now), Some(now + Timing::default().deadline));
    }

    #[test]
    fn one_that_another_holds_is_taken_once_it_was_seen_unchanged_for_its_duration() {
        let (now, timing) = (Instant::now(), Timing::default());
        let mut a = ballot("a");
        let lease = held_by("b", now);
        a.saw(Some(lease.clone()), now);
        assert_eq!(a.other(now), Some(Peer { name: "b".to_owned(), address: "b:8443".to_owned() }));
        let just_before = now + timing.lease.checked_sub(Duration::from_millis(1)).unwrap();
        a.saw(Some(lease.clone()), just_before);
        assert_eq!(a.bid(just_before, true, EPOCH), None);
        a.saw(Some(stored(lease.clone(), 3)), just_before);
        assert_eq!(a.bid(now + timing.lease, true, EPOCH), None, "it was renewed");
        let expired = just_before + timing.lease;
        let bid = a.bid(expired, true, EPOCH).unwrap();
        assert_eq!(holder(Some(&bid)), Some("a"));
        assert_eq!(bid.spec.unwrap().lease_transitions, Some(2));
        assert_eq!(a.other(expired), None);
    }

    #[test]
    fn where_there_is_none_one_is_made_that_nobody_holds_and_waited_for() {
        let (now, timing) = (Instant::now(), Timing::default());
        let mut a = ballot("a");
        a.saw(None, now);
        let made = a.bid(now, true, EPOCH).unwrap();
        assert_eq!((made.metadata.name.as_deref(), &made.metadata.resource_version), (Some("imagehub"), &None));
        a.wrote(stored(made, 1), now, now);
        assert_eq!(a.held(now), None);
        assert_eq!(a.bid(now, true, EPOCH), None);
        assert_eq!(a.other(now), None);
        assert_eq!(holder(a.bid(now + timing.lease, true, EPOCH).as_ref()), Some("a"));
    }

    #[test]
    fn a_replica_of_another_version_is_waited_for_as_long_as_it_asks() {
        let now = Instant::now();
        let mut lease = held_by("b", now);
        lease.spec.as_mut().unwrap().lease_duration_seconds = Some(15);
        let mut a = ballot("a");
        a.saw(Some(lease.clone()), now);
        assert_eq!(a.bid(now + Duration::from_secs(14), true, EPOCH), None);
        assert!(a.bid(now + Duration::from_secs(15), true, EPOCH).is_some());
        lease.spec.as_mut().unwrap().lease_duration_seconds = Some(i32::MAX);
        a.saw(Some(lease), now);
        assert!(a.bid(now + Duration::from_mins(2), true, EPOCH).is_some(), "but not for ever");
    }

    #[test]
    fn it_is_held_from_before_the_request_was_sent_and_until_another_is_seen() {
        let (now, timing) = (Instant::now(), Timing::default());
        let mut a = ballot("a");
        a.saw(Some(stored(Lease::default(), 1)), now);
        let bid = stored(a.bid(now, true, EPOCH).unwrap(), 2);
        // The answer took three seconds.
        let came = now + Duration::from_secs(3);
        a.wrote(bid, now, came);
        assert_eq!(a.held(came), Some(now + timing.deadline));
        assert_eq!(a.held(now + timing.deadline), None);
        a.saw(Some(held_by("b", came)), came);
        assert_eq!(a.held(came), None);
    }

    #[test]
    fn who_does_not_want_it_gives_it_back_and_takes_none() {
        let now = Instant::now();
        let mut a = ballot("a");
        a.saw(Some(held_by("a", now)), now);
        let bid = a.bid(now, false, EPOCH).unwrap();
        assert_eq!(holder(Some(&bid)), None);
        assert!(!bid.metadata.annotations.as_ref().unwrap().contains_key(ADDRESS));
        a.wrote(stored(bid, 3), now, now);
        assert_eq!(a.held(now), None);
        assert_eq!(a.bid(now, false, EPOCH), None);
    }

    #[test]
    fn what_others_wrote_into_it_stays() {
        let now = Instant::now();
        let mut lease = held_by("b", now);
        lease.metadata.labels = Some([("team".to_owned(), "hub".to_owned())].into());
        let mut a = ballot("a");
        a.saw(Some(lease.clone()), now);
        let bid = a.bid(now + Timing::default().lease, true, EPOCH).unwrap();
        assert_eq!(bid.metadata.labels, lease.metadata.labels);
    }
}
