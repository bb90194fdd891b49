//! The table: on the terminal as rows are measured, and into docs/performance.md at the end.

use std::fmt::Write as _;
use std::path::Path;

use crate::measure::{Plan, Ratio};

const BEGIN: &str = "<!-- measured: begin -->";
const END: &str = "<!-- measured: end -->";

/// What a figure is to be.
#[derive(Debug, Clone, Copy)]
pub enum Target {
    AtLeast(f64),
    AtMost(f64),
    /// Whatever it is: it is only told.
    Reported,
}

/// A line of the table.
#[derive(Debug, Clone)]
struct Row {
    what: String,
    against: String,
    measured: String,
    target: String,
    /// `None` where there is no target.
    met: Option<bool>,
}

/// The table.
#[derive(Debug, Default)]
pub struct Report {
    rows: Vec<Row>,
}

impl Report {
    /// A ratio with its interval: the worse end must meet the target.
    pub fn ratio(&mut self, what: &str, against: &str, ratio: Ratio, target: Target, note: &str) {
        let Ratio { mean, low, high } = ratio;
        let (shown, met) = match target {
            Target::AtLeast(least) => (format!("≥ {least:.2}"), Some(low >= least)),
            Target::AtMost(most) => (format!("≤ {most:.2}"), Some(high <= most)),
            Target::Reported => (String::new(), None),
        };
        self.push(what, against, format!("{mean:.3} ({low:.3} to {high:.3}){}", noted(note)), shown, met);
    }

    /// A single figure, in a unit.
    pub fn figure(&mut self, what: &str, against: &str, figure: f64, unit: &str, target: Target, note: &str) {
        let (shown, met) = match target {
            Target::AtLeast(least) => (format!("≥ {least} {unit}"), Some(figure >= least)),
            Target::AtMost(most) => (format!("≤ {most} {unit}"), Some(figure <= most)),
            Target::Reported => (String::new(), None),
        };
        self.push(what, against, format!("{figure:.2} {unit}{}", noted(note)), shown, met);
    }

    fn push(&mut self, what: &str, against: &str, measured: String, target: String, met: Option<bool>) {
        let row = Row { what: what.to_owned(), against: against.to_owned(), measured, target, met };
        eprintln!("  {} | {} | {} | {} | {}", row.what, row.against, row.measured, row.target, verdict(row.met));
        self.rows.push(row);
    }

    /// The table as Markdown, with how it was measured.
    pub fn markdown(&self, plan: &Plan) -> String {
        let mut out = format!(
            "Measured {} on {}; {} images, {} pairs of {:?}.\n\n| what | against | measured | target | met |\n|---|---|---|---|---|\n",
            jiff::Zoned::now().strftime("%Y-%m-%d"),
            machine(),
            plan.images,
            plan.pairs,
            plan.slice,
        );
        for Row { what, against, measured, target, met } in &self.rows {
            let _ = writeln!(out, "| {what} | {against} | {measured} | {target} | {} |", verdict(*met));
        }
        out
    }

    /// Puts the table between the marks in `path`.
    pub fn write(&self, plan: &Plan, path: &Path) {
        let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let (before, rest) = text.split_once(BEGIN).expect("the file has the mark where the table begins");
        let (_, after) = rest.split_once(END).expect("the file has the mark where the table ends");
        let table = self.markdown(plan);
        std::fs::write(path, format!("{before}{BEGIN}\n{table}{END}{after}")).expect("the file can be written");
    }
}

fn noted(note: &str) -> String {
    if note.is_empty() { String::new() } else { format!("; {note}") }
}

fn verdict(met: Option<bool>) -> &'static str {
    match met {
        Some(true) => "yes",
        Some(false) => "**no**",
        None => "",
    }
}

/// The processor, its cores and the memory.
fn machine() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| cpu.lines().find(|l| l.starts_with(name)).and_then(|l| l.split_once(": "));
    let model = field("model name").map_or("an unknown processor", |(_, model)| model.trim());
    let cores = cpu.lines().filter(|line| line.starts_with("processor")).count();
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kilobytes = memory.split_whitespace().nth(1).and_then(|text| text.parse::<u64>().ok()).unwrap_or_default();
    format!("{model}, {cores} cores, {} GB", kilobytes >> 20)
}
