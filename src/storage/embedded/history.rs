//! What compaction may drop, and how far: kept by the committer, rebuilt from the log at opening.

use std::collections::VecDeque;
use std::time::Duration;

use super::tables::Point;

/// How many parts the history window is cut into: the floor moves by whole parts.
const PARTS: u32 = 64;

/// The end of one part of the history.
#[derive(Debug, Clone, Copy)]
struct Part {
    /// Its last commit.
    last: Point,
    /// From when the age of its last commit counts.
    counts_from: i64,
    /// When its first commit was made, and which it is.
    begun: Point,
}

/// The superseded rows and the times of commits since the floor.
#[derive(Debug)]
pub(super) struct History {
    window_ms: i64,
    most_commits: u64,
    /// (revision that superseded, revision superseded), in order of the former. A tombstone supersedes
    /// itself, after the row before it: were it dropped first, a crash would bring that row back.
    superseded: VecDeque<(u64, u64)>,
    parts: VecDeque<Part>,
    floor: Point,
}

impl History {
    pub(super) fn new(window: Duration, most_commits: u64, floor: Point) -> Self {
        let window_ms = i64::try_from(window.as_millis()).unwrap_or(i64::MAX);
        Self { window_ms, most_commits, superseded: VecDeque::new(), parts: VecDeque::new(), floor }
    }

    /// Takes note of the commit `at`, which superseded the row `before`.
    pub(super) fn add(&mut self, at: Point, before: Option<u64>, tombstone: bool) {
        if let Some(before) = before {
            self.superseded.push_back((at.revision, before));
        }
        if tombstone {
            self.superseded.push_back((at.revision, at.revision));
        }
        if at.revision <= self.floor.revision {
            return;
        }
        let part = Part { last: at, counts_from: at.at_ms, begun: at };
        match self.parts.back_mut() {
            Some(back)
                if at.at_ms.saturating_sub(back.begun.at_ms) <= self.window_ms / i64::from(PARTS)
                    && at.revision - back.begun.revision < self.most_commits / u64::from(PARTS) =>
            {
                back.last = at;
                back.counts_from = at.at_ms;
            }
            _ => self.parts.push_back(part),
        }
    }

    /// Lets the ages of what was read at opening count on from `now_ms`: time in which the store was
    /// closed makes nothing older, so that no watch expires by it.
    pub(super) fn resume(&mut self, now_ms: i64) {
        let Some(last) = self.parts.back() else { return };
        let closed_for = now_ms.saturating_sub(last.last.at_ms).max(0);
        for part in &mut self.parts {
            part.counts_from = part.counts_from.saturating_add(closed_for);
        }
    }

    /// Where the floor may be now, if above where it is.
    pub(super) fn due_floor(&self, now_ms: i64, highest: u64) -> Option<Point> {
        let due = |part: &&Part| {
            now_ms.saturating_sub(part.counts_from) >= self.window_ms
                || highest - part.last.revision >= self.most_commits
        };
        self.parts.iter().take_while(due).last().map(|part| part.last)
    }

    /// How many rows can be dropped with the floor at `floor`, up to `most`.
    pub(super) fn droppable(&self, floor: u64, most: usize) -> usize {
        self.superseded.iter().take(most).take_while(|(at, _)| *at <= floor).count()
    }

    /// The first `count` rows to drop.
    pub(super) fn first(&self, count: usize) -> impl Iterator<Item = u64> {
        self.superseded.iter().take(count).map(|(_, row)| *row)
    }

    /// The first `dropped` rows are gone, and the floor is there.
    pub(super) fn compacted(&mut self, floor: Point, dropped: usize) {
        self.superseded.drain(..dropped);
        self.floor = floor;
        while self.parts.front().is_some_and(|part| part.last.revision <= floor.revision) {
            self.parts.pop_front();
        }
    }

    /// Where the floor is.
    pub(super) fn floor(&self) -> Point {
        self.floor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(revision: u64, at_ms: i64) -> Point {
        Point { revision, at_ms }
    }

    #[test]
    fn the_floor_follows_the_window_and_the_time_closed_does_not_count() {
        let mut history = History::new(Duration::from_mins(1), 1000, Point::default());
        history.add(point(1, 0), None, false);
        history.add(point(2, 30_000), Some(1), false);
        assert_eq!(history.due_floor(59_999, 2), None);
        assert_eq!(history.due_floor(60_000, 2), Some(point(1, 0)));
        history.resume(1_000_000);
        assert_eq!(history.due_floor(1_000_000, 2), None);
        assert_eq!(history.due_floor(1_030_000, 2), Some(point(1, 0)));
        assert_eq!(history.due_floor(1_060_000, 2), Some(point(2, 30_000)));
    }

    #[test]
    fn the_floor_moves_by_count_when_the_clock_stands() {
        let mut history = History::new(Duration::from_mins(1), 128, Point::default());
        for revision in 1..=1000 {
            history.add(point(revision, 5), None, false);
        }
        let floor = history.due_floor(5, 1000).unwrap();
        assert!((860..=872).contains(&floor.revision), "{floor:?}");
        history.compacted(floor, 0);
        assert!(history.parts.len() <= 65, "{}", history.parts.len());
    }

    #[test]
    fn a_tombstone_is_dropped_after_what_it_superseded() {
        let mut history = History::new(Duration::ZERO, 128, Point::default());
        history.add(point(1, 0), None, false);
        history.add(point(2, 0), Some(1), true);
        assert_eq!(history.first(history.droppable(2, 500)).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(history.droppable(1, 500), 0);
    }
}
