//! Several candidates around one Lease, with a network that delays and loses what it likes, clocks that are set
//! differently and run at different rates, and processes that freeze.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use proptest::prelude::*;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::{Ballot, Identity, Timing};

/// How long a simulation goes on, in ms.
const LASTS: u64 = 120_000;

/// What the network and the machines are like.
#[derive(Debug, Clone, Copy)]
struct Weather {
    /// The longest that a request, or an answer, may take, in ms.
    slow: u64,
    /// In how many of a hundred cases it takes so long.
    storms: u64,
    /// Whether candidates freeze and give up, and somebody deletes the Lease.
    faults: bool,
}

#[derive(Debug)]
struct Candidate {
    ballot: Ballot,
    /// What its monotonic clock shows at the start.
    base: Instant,
    /// How fast that runs, in percent.
    rate: u64,
    /// How far its wall clock is off.
    wall: SignedDuration,
    wants: bool,
    /// Until when nothing of it runs.
    frozen: u64,
    /// The request whose answer it waits for.
    waits_for: Option<u64>,
}

impl Candidate {
    fn local(&self, now: u64) -> Instant {
        self.base + Duration::from_micros(now * 10 * self.rate)
    }

    fn holds(&self, now: u64) -> bool {
        self.wants && self.ballot.held(self.local(now)).is_some()
    }
}

#[derive(Debug, Clone, PartialEq)]
enum What {
    /// It looks what is to be done.
    Wake,
    /// A request reaches the API: a read, or a write.
    Arrives(u64, Option<Box<Lease>>, Instant),
    /// Its answer comes back: what was read, or stored; `Err`: the write was refused.
    Answered(u64, Result<Option<Box<Lease>>, ()>, Option<Instant>),
    /// It waits no longer for an answer.
    GivesUp(u64),
}

struct World {
    random: StdRng,
    weather: Weather,
    timing: Timing,
    now: u64,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    events: Vec<Option<(usize, What)>>,
    lease: Option<Lease>,
    version: u64,
    candidates: Vec<Candidate>,
    /// Who held it at the end of each event at which somebody did.
    holders: Vec<usize>,
}

impl World {
    fn new(seed: u64, count: usize, weather: Weather, timing: Timing) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let origin = Instant::now() + Duration::from_hours(1);
        let candidates = (0..count)
            .map(|n| {
                let name = format!("replica-{n}");
                let me = Identity { address: format!("{name}:8443"), name };
                Candidate {
                    ballot: Ballot::new("imagehub", me, timing),
                    base: origin + Duration::from_millis(random.random_range(0..1_000_000)),
                    rate: random.random_range(90..=110),
                    wall: SignedDuration::from_secs(random.random_range(-600..=600)),
                    wants: true,
                    frozen: 0,
                    waits_for: None,
                }
            })
            .collect();
        let mut world = Self {
            random,
            weather,
            timing,
            now: 0,
            queue: BinaryHeap::new(),
            events: Vec::new(),
            lease: None,
            version: 0,
            candidates,
            holders: Vec::new(),
        };
        for candidate in 0..count {
            let after = world.random.random_range(0..500);
            world.after(after, candidate, What::Wake);
        }
        world
    }

    fn after(&mut self, ms: u64, candidate: usize, what: What) {
        self.queue.push(Reverse((self.now + ms, self.events.len() as u64)));
        self.events.push(Some((candidate, what)));
    }

    fn delay(&mut self) -> u64 {
        if self.random.random_range(0..100) < self.weather.storms {
            self.random.random_range(0..=self.weather.slow)
        } else {
            self.random.random_range(1..20)
        }
    }

    fn ms(time: Duration) -> u64 {
        u64::try_from(time.as_millis()).unwrap()
    }

    /// Runs to the end. `Err`: two held it at once, and when.
    fn run(&mut self) -> Result<(), u64> {
        while let Some(Reverse((at, event))) = self.queue.pop() {
            if at > LASTS {
                break;
            }
            self.now = at;
            let event = usize::try_from(event).unwrap();
            let (candidate, what) = self.events[event].take().unwrap();
            let frozen = self.candidates[candidate].frozen;
            if frozen > at && !matches!(what, What::Arrives(..)) {
                self.after(frozen - at, candidate, what);
                continue;
            }
            self.happens(candidate, what);
            if self.weather.faults {
                self.fault();
            }
            let holders: Vec<_> = (0..self.candidates.len()).filter(|n| self.candidates[*n].holds(at)).collect();
            if holders.len() > 1 {
                return Err(at);
            }
            self.holders.extend(holders);
        }
        Ok(())
    }

    fn fault(&mut self) {
        let victim = self.random.random_range(0..self.candidates.len());
        match self.random.random_range(0..400) {
            0 => self.candidates[victim].frozen = self.now + self.random.random_range(0..15_000),
            1 => self.candidates[victim].wants = false,
            2 => self.lease = None,
            3..20 => self.candidates[victim].wants = true,
            _ => {}
        }
    }

    fn happens(&mut self, n: usize, what: What) {
        let (retry, renew) = (Self::ms(self.timing.retry), Self::ms(self.timing.renew));
        let now = self.candidates[n].local(self.now);
        match what {
            What::Wake => {
                let candidate = &mut self.candidates[n];
                let wall = Timestamp::UNIX_EPOCH + SignedDuration::from_millis(i64::try_from(self.now).unwrap());
                let wall = wall + candidate.wall;
                let write = match candidate.ballot.bid(now, candidate.wants, wall) {
                    Some(bid) => Some(Box::new(bid)),
                    None if candidate.ballot.is_doubtful() => None,
                    None => {
                        self.candidates[n].ballot.doubt();
                        return self.after(retry, n, What::Wake);
                    }
                };
                let request = self.events.len() as u64;
                self.candidates[n].waits_for = Some(request);
                let way = self.delay();
                self.after(way, n, What::Arrives(request, write, now));
                self.after(Self::ms(self.timing.request), n, What::GivesUp(request));
            }
            What::Arrives(request, None, _) => {
                let back = self.delay();
                let read = self.lease.clone().map(Box::new);
                self.after(back, n, What::Answered(request, Ok(read), None));
            }
            What::Arrives(request, Some(mut lease), sent) => {
                let expected = lease.metadata.resource_version.take();
                let there = self.lease.as_ref().and_then(|lease| lease.metadata.resource_version.clone());
                let answer = if expected == there {
                    self.version += 1;
                    lease.metadata.resource_version = Some(self.version.to_string());
                    self.lease = Some((*lease).clone());
                    Ok(Some(lease))
                } else {
                    Err(())
                };
                let back = self.delay();
                self.after(back, n, What::Answered(request, answer, Some(sent)));
            }
            What::Answered(request, answer, sent) => {
                let candidate = &mut self.candidates[n];
                if candidate.waits_for != Some(request) {
                    return;
                }
                candidate.waits_for = None;
                let next = match (answer, sent) {
                    (Ok(Some(stored)), Some(sent)) => {
                        candidate.ballot.wrote(*stored, sent, now);
                        renew
                    }
                    (Ok(read), _) => {
                        candidate.ballot.saw(read.map(|lease| *lease), now);
                        0
                    }
                    (Err(()), _) => {
                        candidate.ballot.doubt();
                        retry
                    }
                };
                self.after(next, n, What::Wake);
            }
            What::GivesUp(request) => {
                let candidate = &mut self.candidates[n];
                if candidate.waits_for == Some(request) {
                    candidate.waits_for = None;
                    candidate.ballot.doubt();
                    self.after(retry, n, What::Wake);
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn never_do_two_hold_it_at_once(
        seed: u64, count in 2_usize..=3, slow in 0_u64..12_000, storms in 0_u64..60,
    ) {
        let weather = Weather { slow, storms, faults: true };
        let mut world = World::new(seed, count, weather, Timing::default());
        prop_assert_eq!(world.run(), Ok(()));
    }
}

#[test]
fn in_fair_weather_the_first_one_keeps_it() {
    let weather = Weather { slow: 0, storms: 0, faults: false };
    let mut world = World::new(1, 3, weather, Timing::default());
    assert_eq!(world.run(), Ok(()));
    let first = world.holders[0];
    assert!(world.holders.iter().all(|holder| *holder == first));
    assert!(world.holders.len() > 300, "from about its seventh second on: {}", world.holders.len());
}

#[test]
fn the_simulation_finds_two_where_a_holder_believes_for_too_long() {
    let timing = Timing { deadline: Duration::from_secs(9), ..Timing::default() };
    let weather = Weather { slow: 5_000, storms: 20, faults: true };
    let found = (0..100).filter(|seed| World::new(*seed, 2, weather, timing).run().is_err()).count();
    assert!(found > 0);
}
