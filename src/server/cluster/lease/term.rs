//! A time during which this replica is the active one, as far as it can know.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// A time during which this replica is the active one. It ends at its local deadline unless that has been put off
/// before, and it never begins again: who was late once has to prepare anew.
///
/// The deadline is on the monotonic clock, which goes on while a process is stopped (`SIGSTOP`, a frozen cgroup): one
/// that wakes late finds its term over. A machine that is suspended as a whole is another matter: Linux's
/// `CLOCK_MONOTONIC`, which std's `Instant` reads, stands still meanwhile, and so do some hypervisors' guests whatever
/// the clock. Woken, such a replica may take its term for good until the deadline, [`super::Timing::deadline`] at
/// most, or until its next renewal is refused. Its writes are refused by their expected revisions all the same; what
/// it may do for so long is answer a read with what was true before.
#[derive(Debug, Clone)]
pub struct Term(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    /// Cancelled when nothing new begins in the term: it is being given up, or it is over.
    closing: CancellationToken,
    /// Cancelled when it is over.
    over: CancellationToken,
    /// Told when the last request is done.
    emptied: Notify,
}

#[derive(Debug)]
struct State {
    deadline: Instant,
    closing: bool,
    over: bool,
    /// How many requests are being answered in it.
    inside: usize,
}

impl State {
    fn holds(&self, now: Instant) -> bool {
        !self.over && now < self.deadline
    }
}

/// A request that is being answered in a term: a term that is given up waits for it.
#[derive(Debug)]
pub struct Inside(Term);

impl Term {
    /// A term that ends at `deadline`.
    #[must_use]
    pub fn until(deadline: Instant) -> Self {
        Self(Arc::new(Inner {
            state: Mutex::new(State { deadline, closing: false, over: false, inside: 0 }),
            closing: CancellationToken::new(),
            over: CancellationToken::new(),
            emptied: Notify::new(),
        }))
    }

    /// Whether this replica still is the active one. The clock is read each time: no task has to run first.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.0.state.lock().holds(Instant::now())
    }

    /// Begins a request in the term; `None` where it is over or being given up.
    #[must_use]
    pub fn enter(&self) -> Option<Inside> {
        let mut state = self.0.state.lock();
        if state.closing || !state.holds(Instant::now()) {
            return None;
        }
        state.inside += 1;
        Some(Inside(self.clone()))
    }

    /// Whether nothing new begins in it.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        let state = self.0.state.lock();
        state.closing || !state.holds(Instant::now())
    }

    /// Resolves when nothing new begins in it: what goes on for long, watches, ends then.
    pub async fn closing(&self) {
        self.0.closing.cancelled().await;
    }

    /// Resolves when it is over.
    pub async fn over(&self) {
        self.0.over.cancelled().await;
    }

    /// Lets nothing new begin. What has begun goes on.
    pub fn close(&self) {
        self.0.state.lock().closing = true;
        self.0.closing.cancel();
    }

    /// Ends it.
    pub fn end(&self) {
        {
            let mut state = self.0.state.lock();
            (state.closing, state.over) = (true, true);
        }
        self.0.closing.cancel();
        self.0.over.cancel();
    }

    /// Resolves when no request is being answered in it. Only of use once it is closed.
    pub(super) async fn emptied(&self) {
        loop {
            let told = self.0.emptied.notified();
            if self.0.state.lock().inside == 0 {
                return;
            }
            told.await;
        }
    }

    /// Puts its end off, to `deadline`. False where it is over: it ends for good then.
    pub(super) fn extend(&self, deadline: Instant) -> bool {
        let mut state = self.0.state.lock();
        if !state.holds(Instant::now()) {
            drop(state);
            self.end();
            return false;
        }
        state.deadline = state.deadline.max(deadline);
        true
    }

    /// Ends it at its deadline, however often that is put off.
    pub(super) async fn run_out(&self) {
        loop {
            let (over, deadline) = {
                let state = self.0.state.lock();
                (state.over, state.deadline)
            };
            if over || Instant::now() >= deadline {
                return self.end();
            }
            tokio::select! {
                () = self.over() => {}
                () = tokio::time::sleep_until(deadline.into()) => {}
            }
        }
    }
}

impl PartialEq for Term {
    /// Whether it is the same one.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Term {}

impl Inside {
    /// The term.
    #[must_use]
    pub fn term(&self) -> &Term {
        &self.0
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let inner = &self.0.0;
        let left = {
            let mut state = inner.state.lock();
            state.inside -= 1;
            state.inside
        };
        if left == 0 {
            inner.emptied.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LONG: Duration = Duration::from_mins(10);

    #[test]
    fn a_term_that_is_past_its_deadline_holds_for_nobody_and_is_not_begun_again() {
        let now = Instant::now();
        let term = Term::until(now);
        assert!(!term.holds());
        assert!(term.enter().is_none());
        assert!(term.is_closing());
        assert!(!term.extend(now + LONG));
        assert!(!term.holds());
    }

    #[test]
    fn a_deadline_is_put_off_and_never_drawn_in() {
        let now = Instant::now();
        let term = Term::until(now + LONG);
        assert!(term.extend(now));
        assert!(term.holds());
    }

    #[tokio::test]
    async fn a_closed_term_lets_nothing_in_and_waits_for_what_is_inside() {
        let term = Term::until(Instant::now() + LONG);
        let first = term.enter().unwrap();
        term.close();
        term.closing().await;
        assert!(term.enter().is_none());
        assert!(term.holds(), "what has begun is still acknowledged");
        let waiting = tokio::spawn({
            let term = term.clone();
            async move { term.emptied().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(first);
        waiting.await.unwrap();
        term.end();
        assert!(!term.holds());
        term.over().await;
    }

    #[tokio::test]
    async fn a_term_that_nobody_renews_runs_out() {
        let term = Term::until(Instant::now() + Duration::from_millis(20));
        term.run_out().await;
        term.over().await;
        assert!(!term.holds());
    }
}
