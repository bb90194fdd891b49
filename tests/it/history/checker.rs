//! The judge of a recorded [`History`]. It knows nothing of the server but its promises:
//!
//! - a revision is given out once, and every write's is above all that anybody knew before it began;
//! - each key is linearizable in the order of revisions: a write happened to the version that it named,
//!   a read sees what was current at some moment between its beginning and its end, and so does a
//!   refusal, which says something of the object, too;
//! - each observer sees every change of its kind once, in order, over reconnects and restarts, and all
//!   see the same content for the same revision;
//! - nothing that was acknowledged, or that anybody saw, is ever gone; what was refused never shows;
//!   what has no known outcome happened at most once.
//!
//! An object that no writer of the test wrote (one that the server's own controllers change) is held to
//! the promises about revisions and observers only.

mod deletes;
#[cfg(test)]
mod tests;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Bound::{Excluded, Included};
use std::sync::Arc;

use super::model::{Action, Change, History, Key, Observer, Outcome, Refusal, Revision, Seen, Step, Tick, Write};

/// How a violation is worded that may only mean that the machine is slow.
pub const NEVER_FINISHED: &str = "never saw the last write";
/// How many violations are reported: one defect makes many.
const REPORTED: usize = 20;

/// What was judged, so that a test can see that it was not nothing.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Writes that were acknowledged.
    pub acknowledged: usize,
    /// Writes that were refused.
    pub refused: usize,
    /// Writes whose outcome is not known.
    pub unknown: usize,
    /// Those of them that turned out to have happened.
    pub unknown_done: usize,
    /// Different revisions known.
    pub revisions: usize,
    /// Events over all observers.
    pub events: usize,
    /// How often an observer was told 410.
    pub expired: usize,
}

/// Judges a history.
///
/// # Errors
/// Every broken promise, in words, up to a number.
pub fn check(history: &History) -> Result<Summary, Vec<String>> {
    let mut judge = Judge::new(history);
    judge.gather();
    judge.covered();
    judge.markers();
    judge.deletes();
    judge.writes();
    judge.reads();
    for observer in &history.observers {
        judge.observer(observer);
    }
    if judge.violations.is_empty() {
        return Ok(judge.summary());
    }
    let more = judge.violations.len().saturating_sub(REPORTED);
    judge.violations.truncate(REPORTED);
    if more > 0 {
        judge.violations.push(format!("... and {more} more"));
    }
    Err(judge.violations)
}

/// One revision, as the first who knew of it said.
struct Commit {
    key: Key,
    deleted: bool,
    marker: Option<u64>,
    content: u64,
    by: String,
}

struct Judge<'a> {
    history: &'a History,
    violations: Vec<String>,
    commits: BTreeMap<Revision, Commit>,
    by_kind: HashMap<&'static str, BTreeSet<Revision>>,
    by_key: HashMap<Key, BTreeSet<Revision>>,
    /// Revisions by the tick at which somebody knew them; each the highest so far.
    known: Vec<(Tick, Revision)>,
    /// Revisions of writes by the tick at which they began; each the lowest of all that began later.
    begun: Vec<(Tick, Revision)>,
    /// Stretches (from, to] of revisions that some observer of the kind saw whole, merged.
    stretches: HashMap<&'static str, Vec<(Revision, Revision)>>,
    /// What writes made, by the marker.
    made: HashMap<u64, Revision>,
    owned: HashSet<Key>,
}

impl<'a> Judge<'a> {
    fn new(history: &'a History) -> Self {
        Self {
            history,
            violations: Vec::new(),
            commits: BTreeMap::new(),
            by_kind: HashMap::new(),
            by_key: HashMap::new(),
            known: Vec::new(),
            begun: Vec::new(),
            stretches: HashMap::new(),
            made: HashMap::new(),
            owned: history.writes.iter().map(|w| w.key.clone()).collect(),
        }
    }

    fn broken(&mut self, message: String) {
        self.violations.push(message);
    }

    /// Somebody says that `seen` is a version of `key`: all who speak of one revision must agree.
    fn claim(&mut self, key: &Key, deleted: bool, seen: Seen, by: impl Fn() -> String) {
        let Seen { revision, marker, content } = seen;
        if let Some(first) = self.commits.get(&revision) {
            if first.key != *key || first.deleted != deleted {
                let what = |deleted| if deleted { "the end of" } else { "a version of" };
                let message = format!(
                    "revision {revision} is {} {} to {} but {} {key} to {}",
                    what(first.deleted),
                    first.key,
                    first.by,
                    what(deleted),
                    by(),
                );
                self.broken(message);
            } else if first.marker != marker || first.content != content {
                let message = format!(
                    "revision {revision} of {key} has two contents: {} saw marker {:?} (digest {:x}), {} saw \
                     {marker:?} ({content:x})",
                    first.by,
                    first.marker,
                    first.content,
                    by(),
                );
                self.broken(message);
            }
            return;
        }
        self.by_kind.entry(key.kind).or_default().insert(revision);
        self.by_key.entry(key.clone()).or_default().insert(revision);
        self.commits.insert(revision, Commit { key: key.clone(), deleted, marker, content, by: by() });
    }

    /// Puts together what all knew: commits, and who knew which revision when.
    fn gather(&mut self) {
        let history = self.history;
        for write in &history.writes {
            if let Outcome::Done(Some(seen)) = write.outcome {
                self.claim(&write.key, false, seen, || format!("the answer to {}", describe(write)));
                self.known.push((write.returned, seen.revision));
            }
        }
        for read in &history.reads {
            if let Some(seen) = read.found {
                self.claim(&read.key, false, seen, || format!("a read at {}", read.invoked));
                self.known.push((read.returned, seen.revision));
            }
        }
        for observer in &history.observers {
            for step in &observer.steps {
                match step {
                    Step::Listed { returned, revision, items, .. } => {
                        self.known.push((*returned, *revision));
                        for (name, seen) in items {
                            let key = Key { kind: observer.kind, name: Arc::clone(name) };
                            self.claim(&key, false, *seen, || format!("a list of {}", observer.name));
                        }
                    }
                    Step::Event { at, change, name, seen } => {
                        self.known.push((*at, seen.revision));
                        let key = Key { kind: observer.kind, name: Arc::clone(name) };
                        self.claim(&key, *change == Change::Deleted, *seen, || observer.name.clone());
                    }
                    Step::Bookmark { at, revision } => self.known.push((*at, *revision)),
                    Step::Expired => {}
                }
            }
        }
        self.known.sort_unstable();
        let mut highest = 0;
        for (_, revision) in &mut self.known {
            highest = highest.max(*revision);
            *revision = highest;
        }
    }

    /// The stretches of revisions in which nothing can have happened that is not known.
    fn covered(&mut self) {
        for observer in &self.history.observers {
            let stretches = self.stretches.entry(observer.kind).or_default();
            let mut stretch: Option<(Revision, Revision)> = None;
            for step in &observer.steps {
                match step {
                    Step::Listed { revision, .. } => stretches.extend(stretch.replace((*revision, *revision))),
                    Step::Event { seen: Seen { revision, .. }, .. } | Step::Bookmark { revision, .. } => {
                        if let Some((_, to)) = &mut stretch {
                            *to = (*to).max(*revision);
                        }
                    }
                    Step::Expired => stretches.extend(stretch.take()),
                }
            }
            stretches.extend(stretch);
        }
        for stretches in self.stretches.values_mut() {
            stretches.retain(|(from, to)| from < to);
            stretches.sort_unstable();
            let mut merged: Vec<(Revision, Revision)> = Vec::new();
            for &(from, to) in stretches.iter() {
                match merged.last_mut() {
                    Some(last) if from <= last.1 => last.1 = last.1.max(to),
                    _ => merged.push((from, to)),
                }
            }
            *stretches = merged;
        }
    }

    /// Whether everything of the kind in (from, to] is known. What was before the first list is nothing:
    /// observers begin before the writers do.
    fn is_covered(&self, kind: &str, from: Revision, to: Revision) -> bool {
        let stretches = self.stretches.get(kind).map_or(&[][..], Vec::as_slice);
        let from = stretches.first().map_or(from, |first| from.max(first.0));
        from >= to || stretches.iter().any(|&(a, b)| a <= from && to <= b)
    }

    /// Every version was made by a write that may have made it, and no write made two.
    fn markers(&mut self) {
        let history = self.history;
        let mut writes: HashMap<u64, &Write> = HashMap::new();
        for write in &history.writes {
            if writes.insert(write.id, write).is_some() {
                self.broken(format!("two writes have the id {}: the test is wrong", write.id));
            }
        }
        let mut broken = Vec::new();
        for (&revision, commit) in &self.commits {
            if commit.deleted || !self.owned.contains(&commit.key) {
                continue;
            }
            let Some(write) = commit.marker.and_then(|m| writes.get(&m)) else {
                broken.push(format!("revision {revision} of {} has content that nobody wrote", commit.key));
                continue;
            };
            match &write.outcome {
                _ if write.key != commit.key => {
                    broken.push(format!("revision {revision} of {} has what {} wrote", commit.key, describe(write)));
                }
                Outcome::Refused(why) => {
                    broken.push(format!("{} was refused ({why:?}) but made revision {revision}", describe(write)));
                }
                Outcome::Done(Some(seen)) if seen.revision != revision => broken.push(format!(
                    "{} was acknowledged as revision {} but its content is also revision {revision}",
                    describe(write),
                    seen.revision,
                )),
                Outcome::Done(_) | Outcome::Unknown => match self.made.entry(write.id) {
                    Entry::Vacant(entry) => {
                        entry.insert(revision);
                    }
                    Entry::Occupied(first) => broken.push(format!(
                        "{} happened twice, as revision {} and {revision}",
                        describe(write),
                        first.get(),
                    )),
                },
            }
        }
        self.violations.append(&mut broken);
        let begun = history.writes.iter().filter_map(|w| Some((w.invoked, *self.made.get(&w.id)?)));
        self.begun = begun.collect();
        self.sort_begun();
    }

    fn sort_begun(&mut self) {
        self.begun.sort_unstable();
        let mut lowest = Revision::MAX;
        for (_, revision) in self.begun.iter_mut().rev() {
            lowest = lowest.min(*revision);
            *revision = lowest;
        }
    }

    /// The highest revision that anybody knew before `tick`.
    fn floor(&self, tick: Tick) -> Revision {
        let before = self.known.partition_point(|&(at, _)| at < tick);
        before.checked_sub(1).map_or(0, |last| self.known[last].1)
    }

    /// The lowest revision of a write that began after `tick`.
    fn ceiling(&self, tick: Tick) -> Revision {
        let next = self.begun.partition_point(|&(at, _)| at <= tick);
        self.begun.get(next).map_or(Revision::MAX, |&(_, revision)| revision)
    }

    fn before(&self, key: &Key, revision: Revision) -> Option<Revision> {
        self.by_key.get(key)?.range(..revision).next_back().copied()
    }

    fn is_live(&self, revision: Option<Revision>) -> bool {
        revision.is_some_and(|r| !self.commits[&r].deleted)
    }

    /// The states of a key that were current at some revision in [from, to]: the revision that began
    /// each, none for "never written".
    fn states(&self, key: &Key, from: Revision, to: Revision) -> Vec<Option<Revision>> {
        let first = self.by_key.get(key).and_then(|r| r.range(..=from).next_back().copied());
        let later = self.by_key.get(key).into_iter().flat_map(|r| r.range((Excluded(from), Included(to.max(from)))));
        std::iter::once(first).chain(later.map(|&r| Some(r))).collect()
    }

    /// Whether what is known of the key tells its states in [from, to] for certain.
    fn knows(&self, key: &Key, from: Revision) -> bool {
        let last = self.by_key.get(key).and_then(|r| r.range(..=from).next_back().copied()).unwrap_or(0);
        self.is_covered(key.kind, last, from)
    }

    fn writes(&mut self) {
        for write in &self.history.writes {
            match (&write.outcome, self.made.get(&write.id).copied()) {
                (Outcome::Refused(why), _) => self.refusal(write, why),
                (_, Some(revision)) => self.made(write, revision),
                _ => {}
            }
        }
    }

    /// A write that happened: above all that was known, and to the version that it named.
    fn made(&mut self, write: &Write, revision: Revision) {
        let floor = self.floor(write.invoked);
        if revision <= floor {
            self.broken(format!(
                "{} became revision {revision}, though revision {floor} was known before it began",
                describe(write),
            ));
        }
        let before = self.before(&write.key, revision);
        if !self.is_covered(write.key.kind, before.unwrap_or(0), revision) {
            return;
        }
        let live = self.is_live(before);
        let held = match write.action {
            Action::Create => !live,
            Action::Replace(expected) => live && before == Some(expected),
            Action::Patch => live,
            Action::Delete(_) => false,
        };
        if !held {
            let was = before.map_or("never written".to_owned(), |b| {
                format!("at revision {b}{}", if live { "" } else { ", deleted" })
            });
            self.broken(format!("{} became revision {revision}, but the object was {was}", describe(write)));
        }
    }

    /// A refusal must have been true at some moment while the write was under way.
    fn refusal(&mut self, write: &Write, why: &Refusal) {
        let (from, to) = (self.floor(write.invoked), self.ceiling(write.returned) - 1);
        if let Refusal::Other(what) = why {
            self.broken(format!("{} was refused for a reason that no test expects: {what}", describe(write)));
        }
        if !self.knows(&write.key, from) {
            return;
        }
        let states = self.states(&write.key, from, to);
        let (possible, claim) = match (why, write.action) {
            (Refusal::Exists, _) => (states.iter().any(|&s| self.is_live(s)), "exists"),
            (Refusal::Missing, _) => (states.iter().any(|&s| !self.is_live(s)), "does not exist"),
            (Refusal::Conflict, Action::Replace(expected) | Action::Delete(Some(expected))) => {
                (states.iter().any(|&s| s != Some(expected)), "is not at the version named")
            }
            _ => (true, ""),
        };
        if !possible {
            self.broken(format!(
                "{} was refused because the object {claim}; it was never so between revision {from} and {to}",
                describe(write),
            ));
        }
    }

    fn reads(&mut self) {
        for read in &self.history.reads {
            let (from, to) = (self.floor(read.invoked), self.ceiling(read.returned) - 1);
            if !self.knows(&read.key, from) {
                continue;
            }
            let states = self.states(&read.key, from, to);
            let possible = match read.found {
                Some(seen) => states.contains(&Some(seen.revision)),
                None => states.iter().any(|&s| !self.is_live(s)),
            };
            if !possible {
                let found = read.found.map_or("nothing".to_owned(), |s| format!("revision {}", s.revision));
                self.broken(format!(
                    "a read of {} at {} to {} found {found}; between revision {from} and {to} it was {states:?}",
                    read.key, read.invoked, read.returned,
                ));
            }
        }
    }

    /// One observer: everything once, in order, and as all others saw it.
    fn observer(&mut self, observer: &Observer) {
        let Observer { name: who, kind, .. } = observer;
        let mut state: HashMap<Arc<str>, Seen> = HashMap::new();
        let mut position: Option<Revision> = None;
        for step in &observer.steps {
            match step {
                Step::Listed { invoked, revision, items, .. } => {
                    let floor = self.floor(*invoked);
                    if *revision < floor {
                        self.broken(format!("{who} listed revision {revision}, though {floor} was known before"));
                    }
                    self.list(observer, *revision, items);
                    state = items.iter().cloned().collect();
                    position = Some(*revision);
                }
                Step::Event { change, name, seen, .. } => {
                    let Some(last) = position else {
                        self.broken(format!("{who} saw revision {} without a list: the test is wrong", seen.revision));
                        continue;
                    };
                    if seen.revision <= last {
                        self.broken(format!("{who} saw revision {} of {name} after {last}", seen.revision));
                    }
                    self.missed(observer, last, seen.revision - 1);
                    position = Some(last.max(seen.revision));
                    let had = match change {
                        Change::Deleted => state.remove(name),
                        _ => state.insert(Arc::clone(name), *seen),
                    };
                    let fits = match (change, had) {
                        (Change::Added, had) => had.is_none(),
                        (Change::Modified, had) => had.is_some(),
                        (Change::Deleted, had) => had.is_some_and(|had| had.marker == seen.marker),
                    };
                    if !fits {
                        let revision = seen.revision;
                        self.broken(format!(
                            "{who} saw {kind}/{name} {change:?} at revision {revision}, having {had:?}"
                        ));
                    }
                }
                Step::Bookmark { revision, .. } => {
                    let last = position.unwrap_or(0);
                    if *revision < last {
                        self.broken(format!("{who} saw a bookmark of revision {revision} after {last}"));
                    }
                    self.missed(observer, last, *revision);
                    position = Some(last.max(*revision));
                }
                Step::Expired => position = None,
            }
        }
        if !observer.finished {
            self.broken(format!("{who} {NEVER_FINISHED}; it came to revision {position:?}"));
        }
    }

    /// Nothing of the kind may be in (from, to].
    fn missed(&mut self, observer: &Observer, from: Revision, to: Revision) {
        let Some(revisions) = self.by_kind.get(observer.kind).filter(|_| from < to) else { return };
        let missed: Vec<Revision> = revisions.range((Excluded(from), Included(to))).copied().collect();
        for revision in missed {
            let commit = &self.commits[&revision];
            let (who, key, by) = (&observer.name, &commit.key, &commit.by);
            self.broken(format!("{who} missed revision {revision} of {key}, known from {by}"));
        }
    }

    /// A list is the state at its revision.
    fn list(&mut self, observer: &Observer, at: Revision, items: &[(Arc<str>, Seen)]) {
        let who = &observer.name;
        let listed: HashMap<&str, Revision> = items.iter().map(|(n, s)| (&**n, s.revision)).collect();
        if listed.len() != items.len() {
            self.broken(format!("{who} listed an object twice at revision {at}"));
        }
        let mut broken = Vec::new();
        for (key, revisions) in self.by_key.iter().filter(|(key, _)| key.kind == observer.kind) {
            let last = revisions.range(..=at).next_back().copied();
            let expected = last.filter(|r| !self.commits[r].deleted);
            let got = listed.get(&*key.name).copied();
            // Where no observer was, an end may have gone unseen.
            let seen_to = self.stretches.get(key.kind).and_then(|s| s.last()).map_or(0, |&(_, to)| to);
            let unseen_end = got.is_none() && !self.is_covered(key.kind, expected.unwrap_or(0), at.min(seen_to));
            if got != expected && !unseen_end {
                broken.push(format!("{who} listed {key} as {got:?} at revision {at}; it was {expected:?}"));
            }
        }
        self.violations.append(&mut broken);
    }

    fn summary(&self) -> Summary {
        let writes = &self.history.writes;
        let count = |f: fn(&Outcome) -> bool| writes.iter().filter(|w| f(&w.outcome)).count();
        let steps = || self.history.observers.iter().flat_map(|o| &o.steps);
        Summary {
            acknowledged: count(|o| matches!(o, Outcome::Done(_))),
            refused: count(|o| matches!(o, Outcome::Refused(_))),
            unknown: count(|o| matches!(o, Outcome::Unknown)),
            unknown_done: writes
                .iter()
                .filter(|w| w.outcome == Outcome::Unknown && self.made.contains_key(&w.id))
                .count(),
            revisions: self.commits.len(),
            events: steps().filter(|s| matches!(s, Step::Event { .. })).count(),
            expired: steps().filter(|s| matches!(s, Step::Expired)).count(),
        }
    }
}

fn describe(write: &Write) -> String {
    let Write { id, key, action, invoked, returned, .. } = write;
    format!("write {id} ({action:?} of {key} at {invoked} to {returned})")
}
