//! How far an import is: a bar on a terminal, lines elsewhere.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often a line is written where there is no terminal.
const EVERY: Duration = Duration::from_secs(10);

/// How far a phase is.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    what: &'static str,
    all: u64,
    done: u64,
    started: Instant,
    told: Instant,
}

impl Progress {
    /// A phase of `all` objects.
    pub(super) fn new(what: &'static str, all: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let form = "{msg} {bar:30} {human_pos} of {human_len}, {per_sec}, {eta} left";
            let style = ProgressStyle::with_template(form).unwrap_or_else(|_| ProgressStyle::default_bar());
            let bar = ProgressBar::with_draw_target(Some(all), ProgressDrawTarget::stderr()).with_style(style);
            bar.with_message(what)
        });
        let now = Instant::now();
        Self { bar, what, all, done: 0, started: now, told: now }
    }

    /// One more is done.
    pub(super) fn step(&mut self) {
        self.done += 1;
        if let Some(bar) = &self.bar {
            return bar.inc(1);
        }
        if self.told.elapsed() >= EVERY {
            self.told = Instant::now();
            self.line(&format!("{} of {} {}, {}", self.done, self.all, self.what, self.rate()));
        }
    }

    /// The phase is over.
    pub(super) fn end(self) {
        match &self.bar {
            Some(bar) => bar.finish_and_clear(),
            None if self.all > 0 => self.line(&format!("{} {}, {}", self.done, self.what, self.rate())),
            None => {}
        }
    }

    /// A line beside the bar.
    pub(super) fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            // Whoever closed standard error doesn't want to know.
            None => drop(writeln!(std::io::stderr(), "{text}")),
        }
    }

    fn rate(&self) -> String {
        let took = self.started.elapsed().as_secs_f64().max(0.001);
        #[expect(clippy::cast_precision_loss, reason = "a rate that people read")]
        let rate = self.done as f64 / took;
        format!("{rate:.0} a second")
    }
}
