//! How things are compared: two of them measured in turns, A B B A, and the ratio of their costs.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

/// How often the pairs are drawn again for the interval.
const DRAWS: usize = 4000;

/// What is run, and for how long.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Pairs of measurements.
    pub pairs: usize,
    /// How long each lasts.
    pub slice: Duration,
    /// Images in the large catalogue.
    pub images: usize,
    /// Images in the small one.
    pub small: usize,
    /// Watchers.
    pub watchers: usize,
    /// Packs that name one image.
    pub packs: usize,
    /// How long images are overwritten, a thousand times a second.
    pub overwrite: Duration,
    /// Starts that are timed.
    pub starts: usize,
}

fn number(variable: &str) -> Option<usize> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is {text:?}; it must be a number")))
}

impl Plan {
    /// What the environment says: `BENCH_QUICK=1`, and each size by its own variable.
    pub fn from_environment() -> Self {
        let quick = std::env::var_os("BENCH_QUICK").is_some_and(|v| v != "0");
        let pick = |variable, full, short| number(variable).unwrap_or(if quick { short } else { full });
        Self {
            pairs: pick("BENCH_PAIRS", 15, 4),
            slice: Duration::from_millis(pick("BENCH_SLICE_MS", 2000, 500) as u64),
            images: pick("BENCH_IMAGES", 1_000_000, 100_000),
            small: pick("BENCH_SMALL", 10_000, 10_000),
            watchers: pick("BENCH_WATCHERS", 10_000, 2_000),
            packs: pick("BENCH_PACKS", 10_000, 2_000),
            overwrite: Duration::from_secs(pick("BENCH_OVERWRITE_SECONDS", 600, 10) as u64),
            starts: pick("BENCH_STARTS", 3, 1),
        }
    }
}

/// A ratio, with the interval that it is in with 95 % confidence.
#[derive(Debug, Clone, Copy)]
pub struct Ratio {
    pub mean: f64,
    pub low: f64,
    pub high: f64,
}

impl Ratio {
    /// The geometric mean of `ratios`, and its interval by bootstrap.
    pub fn of(ratios: &[f64]) -> Self {
        let logs: Vec<f64> = ratios.iter().map(|ratio| ratio.ln()).collect();
        let count = logs.len();
        let mean = |logs: &mut dyn Iterator<Item = f64>| (logs.sum::<f64>() / count as f64).exp();
        let mut rng = SmallRng::seed_from_u64(1);
        let mut draws: Vec<f64> =
            (0..DRAWS).map(|_| mean(&mut (0..count).map(|_| logs[rng.random_range(0..count)]))).collect();
        draws.sort_by(f64::total_cmp);
        let at = |share: f64| draws[((DRAWS - 1) as f64 * share) as usize];
        Self { mean: mean(&mut logs.iter().copied()), low: at(0.025), high: at(0.975) }
    }
}

/// Pairs of costs, measured in turns.
#[derive(Debug, Clone, Default)]
pub struct Pairs(pub Vec<(f64, f64)>);

impl Pairs {
    /// A divided by B.
    pub fn ratio(&self) -> Ratio {
        Ratio::of(&self.0.iter().map(|(a, b)| a / b).collect::<Vec<_>>())
    }

    /// The mean of A, and that of B.
    pub fn means(&self) -> (f64, f64) {
        let count = self.0.len() as f64;
        let sum = self.0.iter().fold((0.0, 0.0), |sum, pair| (sum.0 + pair.0, sum.1 + pair.1));
        (sum.0 / count, sum.1 / count)
    }
}

/// Which of two things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    A,
    B,
}

/// Measures A B, B A, A B... `pairs` times. The first pair is thrown away: it warms up.
pub async fn in_turns(pairs: usize, mut cost: impl AsyncFnMut(Side) -> f64) -> Pairs {
    let mut all = Vec::new();
    for pair in 0..=pairs {
        let (first, second) = if pair % 2 == 0 { (Side::A, Side::B) } else { (Side::B, Side::A) };
        let x = cost(first).await;
        let y = cost(second).await;
        if pair > 0 {
            all.push(if first == Side::A { (x, y) } else { (y, x) });
        }
    }
    Pairs(all)
}

/// The value below which `share` of `values` are.
pub fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(((values.len().saturating_sub(1)) as f64 * share).round() as usize).copied().unwrap_or(f64::NAN)
}

/// The CPU time of this thread, in seconds.
pub fn thread_seconds() -> f64 {
    schedstat("/proc/thread-self/schedstat").unwrap_or(0.0)
}

/// The CPU time of a process, user and system, in seconds, that of threads which have ended included; to a tick, which
/// is a hundredth of a second.
pub fn process_seconds(pid: u32) -> f64 {
    const TICKS: f64 = 100.0;
    // After the name, which may have any character, in parentheses; see proc_pid_stat(5).
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(f64::NAN);
    (ticks(11) + ticks(12)) / TICKS
}

fn schedstat(path: &str) -> Option<f64> {
    let text = std::fs::read_to_string(path).ok()?;
    Some(text.split(' ').next()?.parse::<f64>().ok()? / 1e9)
}

/// A field of `/proc/PID/status` that is in kB, in bytes.
pub fn memory(pid: u32, field: &str) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<f64>().ok());
    kilobytes.unwrap_or(f64::NAN) * 1024.0
}
