//! A disk that is full in the middle of a commit, at each of its steps: a write that is taken in part, a length that
//! can't grow, a sync that fails for want of space. The free space is asked before, but others write, too.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::*;
use crate::storage::embedded::disk::Full;

/// So many rounds for each step; the default is one.
const ROUNDS: &str = "IMAGEHUB_DISK_ROUNDS";

fn rounds() -> u64 {
    std::env::var(ROUNDS).map_or(1, |n| n.parse().unwrap_or_else(|e| panic!("{ROUNDS}={n:?}: {e}")))
}

/// What a store is given to do.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// The object of this number becomes so many bytes large.
    Put(u8, usize),
    Delete(u8),
    Compact,
}

/// Small ones, large ones for which the file must grow, and a history that is dropped.
const STEPS: [Step; 11] = [
    Step::Put(0, 20),
    Step::Put(1, 300_000),
    Step::Put(0, 2_000),
    Step::Put(2, 1_200_000),
    Step::Delete(1),
    Step::Compact,
    Step::Put(3, 10_000),
    Step::Put(2, 30),
    Step::Put(4, 1_600_000),
    Step::Compact,
    Step::Put(0, 1),
];

/// What is there: the revision and the value of each object.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Model {
    highest: u64,
    objects: BTreeMap<u8, (u64, Bytes)>,
}

impl Model {
    fn key(number: u8) -> Key {
        Key::new(Kind::Image, format!("k{number}"))
    }

    /// The write of a step, and what is there when it is made.
    fn write(&self, step: Step) -> Option<(Write, Self)> {
        let mut after = self.clone();
        after.highest += 1;
        let (number, value) = match step {
            Step::Put(number, size) => (number, Some(Bytes::from(vec![b'0' + number; size]))),
            Step::Delete(number) => (number, None),
            Step::Compact => return None,
        };
        let before = self.objects.get(&number);
        let expect = before.map_or(Expect::Absent, |(revision, _)| Expect::At(Revision(*revision)));
        match &value {
            Some(value) => after.objects.insert(number, (after.highest, value.clone())),
            None => after.objects.remove(&number),
        };
        Some((Write { key: Self::key(number), expect, value }, after))
    }

    /// What a store holds.
    async fn of(storage: &Embedded) -> Self {
        let mut model = Self { highest: storage.current().await.unwrap().0, ..Self::default() };
        for number in 0..5 {
            if let Some(commit) = storage.get(Self::key(number)).await.unwrap() {
                model.objects.insert(number, (commit.revision.0, commit.value.unwrap()));
            }
        }
        model
    }
}

/// How far a store came: what it acknowledged, and what would be there were the step done at which it stopped.
struct Reached {
    acknowledged: Model,
    perhaps: Model,
    /// Why it stopped.
    stopped: Option<String>,
}

async fn work(storage: &Embedded, clock: &ManualClock) -> Reached {
    let mut acknowledged = Model { highest: ORIGIN.0, ..Model::default() };
    for step in STEPS {
        let failed = if let Some((write, after)) = acknowledged.write(step) {
            match storage.commit(write).await {
                Ok(commit) => {
                    assert_eq!(commit.revision.0, after.highest);
                    acknowledged = after;
                    None
                }
                Err(CommitError::Stopped(reason)) => Some((reason, after)),
                Err(other) => panic!("{step:?}: {other}"),
            }
        } else {
            clock.step_ms(i64::try_from(HISTORY.as_millis()).unwrap() + 1);
            match storage.compact().await {
                Ok(_) => None,
                Err(ReadError::Stopped(reason)) => Some((reason, acknowledged.clone())),
                Err(other) => panic!("{step:?}: {other}"),
            }
        };
        if let Some((reason, perhaps)) = failed {
            return Reached { acknowledged, perhaps, stopped: Some(reason) };
        }
    }
    Reached { perhaps: acknowledged.clone(), acknowledged, stopped: None }
}

fn random(rng: &mut StdRng) -> Full {
    Full { part: [None, Some(1), Some(2), Some(100)][rng.random_range(0..4)], lasting: rng.random() }
}

fn started(disk: &Disk, clock: &Arc<ManualClock>) -> Result<Arc<Embedded>, OpenError> {
    Embedded::open_with_backend(disk.clone(), Options::default(), clock.clone())
}

/// The disk as the process leaves it, and as a power failure may.
fn left(disk: &Disk, rng: &mut StdRng) -> [Disk; 3] {
    let kept: u64 = rng.random();
    let some = move |number: usize| kept.rotate_right(u32::try_from(number % 64).unwrap()) & 1 == 1;
    [disk.crashed(|_| true), disk.crashed(|_| false), disk.crashed(some)]
}

#[tokio::test]
#[cfg_attr(feature = "broken-apply-before-commit", ignore = "that build acknowledges what it has not written")]
async fn a_disk_that_is_full_in_the_middle_of_a_commit_loses_nothing_that_was_acknowledged() {
    let (disk, now) = (Disk::default(), clock());
    let storage = started(&disk, &now).unwrap();
    let before = disk.operations();
    assert_eq!(work(&storage, &now).await.stopped, None);
    let operations = disk.operations() - before;
    drop(storage);
    assert!(operations > 50, "{operations} operations are no test");

    for (round, step) in (0..rounds()).flat_map(|round| (1..=operations).map(move |step| (round, step))) {
        let mut rng = StdRng::seed_from_u64(round * 10_000 + step);
        let full = random(&mut rng);
        let at = format!("round {round}, step {step} of {operations}, {full:?}");
        let (disk, clock) = (Disk::default(), clock());
        let storage = started(&disk, &clock).unwrap();
        disk.fill(step, full);
        let reached = work(&storage, &clock).await;
        let reason = reached.stopped.unwrap_or_else(|| panic!("{at}: it went on"));
        assert!(storage.stopped().await.contains("No space left"), "{at}: {reason}");
        assert!(matches!(storage.commit(create("more")).await, Err(CommitError::Stopped(_))), "{at}");
        storage.close();
        for disk in left(&disk, &mut rng) {
            let storage = started(&disk, &clock).unwrap_or_else(|e| panic!("{at}: {e}"));
            let found = Model::of(&storage).await;
            let known = found == reached.acknowledged || found == reached.perhaps;
            assert!(
                known,
                "{at}: revision {} was acknowledged, {} is there",
                reached.acknowledged.highest, found.highest
            );
            let next = storage.commit(create("next")).await.unwrap();
            assert_eq!(next.revision.0, found.highest + 1, "{at}");
        }
    }
}

#[tokio::test]
#[cfg_attr(feature = "broken-apply-before-commit", ignore = "that build acknowledges what it has not written")]
async fn a_start_on_a_full_disk_says_so_and_changes_nothing() {
    // One that was killed, so that a start has something to put in order, and one that is not there yet.
    let (disk, now) = (Disk::default(), clock());
    let storage = started(&disk, &now).unwrap();
    let made = work(&storage, &now).await.acknowledged;
    let killed = disk.crashed(|_| true);
    drop(storage);
    for (found, expected) in [(killed, Some(made)), (Disk::default(), None)] {
        let whole = found.crashed(|_| true);
        drop(started(&whole, &now).unwrap());
        let mut refused = 0;
        for step in 1..=whole.operations() {
            let mut rng = StdRng::seed_from_u64(step);
            let full = random(&mut rng);
            let at = format!("step {step} of {}, {full:?}", whole.operations());
            let disk = found.crashed(|_| true);
            disk.fill(step, full);
            match started(&disk, &now) {
                // What it could not write when it was closed is no matter.
                Ok(storage) => drop(storage),
                Err(error) => {
                    assert!(matches!(error, OpenError::NoSpace { .. }), "{at}: {error}");
                    refused += 1;
                }
            }
            for disk in left(&disk, &mut rng) {
                // A new store gets its name when it is whole: one that is half made is never opened.
                let Some(expected) = &expected else { continue };
                let storage = started(&disk, &now).unwrap_or_else(|e| panic!("{at}: {e}"));
                assert!(Model::of(&storage).await == *expected, "{at}");
            }
        }
        assert!(refused > 2, "{refused} of {} steps were refused", whole.operations());
    }
}
