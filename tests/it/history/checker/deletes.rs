//! Which delete ended which object.

use std::collections::BTreeMap;

use super::super::model::{Action, Key, Outcome, Revision, Write};
use super::{Judge, describe};

impl Judge<'_> {
    /// Deletes are not told their revision: each acknowledged one must be one of the key's ends, and each
    /// end must be one of the deletes. (A matching that serves the one side and another that serves the
    /// other make one that serves both.)
    pub(super) fn deletes(&mut self) {
        let history = self.history;
        let mut by_key: BTreeMap<&Key, (Vec<&Write>, Vec<Revision>)> = BTreeMap::new();
        for write in &history.writes {
            let (deletes, _) = by_key.entry(&write.key).or_default();
            if matches!(write.action, Action::Delete(_)) && !matches!(write.outcome, Outcome::Refused(_)) {
                deletes.push(write);
            }
        }
        for (&revision, commit) in self.commits.iter().filter(|(_, c)| c.deleted) {
            if let Some((_, ends)) = by_key.get_mut(&commit.key) {
                ends.push(revision);
            }
        }
        let last = self.commits.last_key_value().map_or(0, |(&r, _)| r);
        let (mut broken, mut begun) = (Vec::new(), Vec::new());
        for (key, (deletes, ends)) in by_key {
            let mut ends_of: Vec<Vec<usize>> = Vec::new();
            let mut deletes_of: Vec<Vec<usize>> = vec![Vec::new(); ends.len()];
            for (delete, write) in deletes.iter().enumerate() {
                let (low, high) = self.window(write);
                let (first, end) = (ends.partition_point(|&r| r <= low), ends.partition_point(|&r| r < high));
                let named = |at: &usize| match write.action {
                    Action::Delete(Some(expected)) => self.before(key, ends[*at]) == Some(expected),
                    _ => true,
                };
                let possible: Vec<usize> = (first..end.max(first)).filter(named).collect();
                for &at in &possible {
                    deletes_of[at].push(delete);
                }
                ends_of.push(if matches!(write.outcome, Outcome::Done(_)) { possible } else { Vec::new() });
            }
            for at in unmatched(&deletes_of, deletes.len()) {
                broken.push(format!("revision {} is the end of {key}, but nobody deleted it", ends[at]));
            }
            for delete in unmatched(&ends_of, ends.len()) {
                let write = deletes[delete];
                let (low, high) = self.window(write);
                if matches!(write.outcome, Outcome::Done(_)) && self.is_covered(key.kind, low, high.min(last)) {
                    let what = describe(write);
                    broken.push(format!("{what} was acknowledged, but the object was not deleted then"));
                }
            }
            for (end, deletes_of) in ends.iter().zip(&deletes_of) {
                let earliest = deletes_of.iter().map(|&d| deletes[d].invoked).min();
                begun.extend(earliest.map(|invoked| (invoked, *end)));
            }
        }
        self.violations.append(&mut broken);
        self.begun.append(&mut begun);
        self.sort_begun();
    }

    /// The revisions between which a delete, exclusively, was done.
    fn window(&self, write: &Write) -> (Revision, Revision) {
        let high = match write.outcome {
            Outcome::Done(_) => self.ceiling(write.returned),
            _ => Revision::MAX,
        };
        (self.floor(write.invoked), high)
    }
}

/// Those on the left for which no maximum matching has a partner on the right: `partners` lists, for
/// each on the left, whom it may have.
fn unmatched(partners: &[Vec<usize>], right: usize) -> Vec<usize> {
    fn place(left: usize, partners: &[Vec<usize>], taken: &mut [Option<usize>], tried: &mut [bool]) -> bool {
        for &partner in &partners[left] {
            if std::mem::replace(&mut tried[partner], true) {
                continue;
            }
            let free = taken[partner].is_none_or(|other| place(other, partners, taken, tried));
            if free {
                taken[partner] = Some(left);
                return true;
            }
        }
        false
    }
    let mut taken = vec![None; right];
    (0..partners.len()).filter(|&left| !place(left, partners, &mut taken, &mut vec![false; right])).collect()
}
