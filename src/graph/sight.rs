//! What callers may see, and since when they have seen it so.

use std::sync::Arc;

use imbl::Vector;

use crate::storage::Revision;

/// Which private repositories, and images of them, a caller sees.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Sight {
    /// All: administrators, and the server's own controllers.
    Everything,
    /// Those of the organizations whose managers have this name among them.
    Manager(Arc<str>),
    /// None.
    Public,
}

/// A change of who sees what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    /// A repository of this organization came to light or went out of it, with what is in it.
    Privacy(Arc<str>),
    /// This manager came to an organization, or left it.
    Manager(Arc<str>),
}

/// The changes of sight within the window, the oldest first. Events don't tell of them: whoever watched
/// from before one that concerns it begins anew.
#[derive(Debug, Clone, Default)]
pub(super) struct SightLog {
    changes: Vector<(Revision, Change)>,
    /// Of changes up to here it is no longer known whom they concerned.
    forgotten: Revision,
}

impl SightLog {
    pub(super) fn push(&mut self, revision: Revision, change: Change) {
        self.changes.push_back((revision, change));
    }

    /// A log of which nothing is known up to `revision`.
    pub(super) fn since(revision: Revision) -> Self {
        Self { changes: Vector::new(), forgotten: revision }
    }

    /// The revision of the newest change.
    pub(super) fn newest(&self) -> Revision {
        self.changes.last().map_or(self.forgotten, |(revision, _)| *revision)
    }

    /// Forgets what was before `floor`.
    pub(super) fn trim(&mut self, floor: Revision) {
        while let Some((revision, _)) = self.changes.front()
            && *revision <= floor
        {
            self.forgotten = *revision;
            self.changes.pop_front();
        }
    }

    /// The revision of the last change that `concerns` the caller, if it came after `since`.
    pub(super) fn last(&self, since: Revision, concerns: impl Fn(&Change) -> bool) -> Option<Revision> {
        let newer = self.changes.iter().rev().take_while(|(revision, _)| *revision > since);
        let known = newer.filter(|(_, change)| concerns(change)).map(|(revision, _)| *revision).next();
        known.or((self.forgotten > since).then_some(self.forgotten))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn privacy(name: &str) -> Change {
        Change::Privacy(name.into())
    }

    #[test]
    fn only_changes_that_concern_the_caller_count() {
        let mut log = SightLog::default();
        log.push(Revision(5), privacy("a"));
        log.push(Revision(9), privacy("b"));
        assert_eq!(log.last(Revision(3), |c| *c == privacy("a")), Some(Revision(5)));
        assert_eq!(log.last(Revision(5), |c| *c == privacy("a")), None);
        assert_eq!(log.last(Revision(5), |_| true), Some(Revision(9)));
    }

    #[test]
    fn what_is_forgotten_concerns_everybody_from_before() {
        let mut log = SightLog::default();
        log.push(Revision(5), privacy("a"));
        log.push(Revision(9), privacy("b"));
        log.trim(Revision(7));
        assert_eq!(log.last(Revision(4), |c| *c == privacy("z")), Some(Revision(5)));
        assert_eq!(log.last(Revision(5), |c| *c == privacy("z")), None);
    }
}
