//! Durable writes, against a loop that commits the same rows to redb and does nothing else.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use imagehub::api::{ImageSpec, Kind, Spec};
use imagehub::graph::{Envelope, encode};
use redb::{Database, Durability, TableDefinition};

use crate::data::{self, image_name, image_spec};
use crate::measure::{Plan, Side, in_turns};
use crate::report::{Report, Target};
use crate::rows::inside::Inside;

const LOG: TableDefinition<u64, &[u8]> = TableDefinition::new("log");
const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
/// Clients at a time.
const CLIENTS: [usize; 2] = [1, 64];

/// The raw loop's file.
struct Raw {
    db: Database,
    next: u64,
}

impl Raw {
    fn open(dir: &Path) -> Self {
        std::fs::create_dir_all(dir).expect("the directory can be made");
        let path = dir.join("raw.redb");
        let _ = std::fs::remove_file(&path);
        let mut builder = Database::builder();
        builder.set_cache_size(imagehub::storage::embedded::CACHE_BYTES);
        Self { db: builder.create(path).expect("a database"), next: 1 }
    }

    /// Commits `rows`, `batch` at a time, for `time`; rows a second.
    fn run(&mut self, rows: &[Vec<u8>], batch: usize, time: Duration) -> f64 {
        let started = Instant::now();
        let first = self.next;
        while started.elapsed() < time {
            let mut transaction = self.db.begin_write().expect("a transaction");
            transaction.set_durability(Durability::Immediate).expect("it is new");
            transaction.set_quick_repair(true);
            {
                let mut log = transaction.open_table(LOG).expect("a table");
                for _ in 0..batch {
                    let row = &rows[usize::try_from(self.next).unwrap_or(0) % rows.len()];
                    log.insert(self.next, row.as_slice()).expect("a row");
                    self.next += 1;
                }
                let mut meta = transaction.open_table(META).expect("a table");
                meta.insert("highest", &self.next.to_le_bytes()[..]).expect("a row");
            }
            transaction.commit().expect("a commit");
        }
        (self.next - first) as f64 / started.elapsed().as_secs_f64()
    }
}

/// What was written in one turn.
#[derive(Debug, Clone, Copy)]
struct Written {
    /// Creates that were answered, a second.
    creates: f64,
    /// Rows that were committed for them, a second: images, what owns them, and announcements.
    rows: f64,
    /// Rows of a commit, on average.
    batch: f64,
}

/// Makes images, with 1 client and with 64.
pub async fn durable(plan: &Plan, dir: &Path, report: &mut Report) {
    let _ = std::fs::remove_dir_all(dir);
    let inside = Arc::new(Inside::open(&dir.join("ours")).await);
    let mut raw = Raw::open(dir);
    let rows: Vec<Vec<u8>> = (0..1000)
        .map(|number| {
            let (key, object) = data::object(Kind::Image, number);
            let value = encode(&Envelope::default(), &object);
            [&[0; 19][..], key.name.as_bytes(), &value].concat()
        })
        .collect();
    // What a client sends is made before: to make it up is no part of a write.
    let specs: Arc<Vec<ImageSpec>> = (0..1000)
        .map(|number| match Spec::from_value(Kind::Image, image_spec(number, 0)).expect("a spec") {
            Spec::Image(spec) => spec,
            _ => unreachable!("it is an image's"),
        })
        .collect::<Vec<_>>()
        .into();
    let next = Arc::new(AtomicUsize::new(0));
    for clients in CLIENTS {
        let mut turns = Vec::new();
        let pairs = in_turns(plan.pairs, async |side| match side {
            Side::A => {
                let written = create(&inside, clients, &next, &specs, plan.slice).await;
                turns.push(written);
                written.rows
            }
            Side::B => {
                // As many at a time as were observed.
                let batch = turns.last().map_or(1.0, |written| written.batch).round().max(1.0) as usize;
                tokio::task::block_in_place(|| raw.run(&rows, batch, plan.slice))
            }
        })
        .await;
        let (ours, bare) = pairs.means();
        let mean = |of: fn(&Written) -> f64| turns.iter().map(of).sum::<f64>() / turns.len() as f64;
        let (creates, batch) = (mean(|w| w.creates), mean(|w| w.batch));
        let note = format!("{creates:.0} creates/s, {ours:.0} rows/s, raw {bare:.0} rows/s, {batch:.1} a commit");
        let what = format!("durable rows of creates, {clients} client{}", if clients == 1 { "" } else { "s" });
        report.ratio(&what, "a raw redb loop", pairs.ratio(), Target::AtLeast(0.8), &note);
        if clients > 1 {
            report.figure(
                "creates a second in a process, 64 clients",
                "",
                creates,
                "/s",
                Target::AtLeast(10_000.0),
                "no door",
            );
        }
    }
    if let Ok(inside) = Arc::try_unwrap(inside).map_err(|_| ()) {
        inside.close().await;
    }
    let _ = std::fs::remove_dir_all(dir);
}

/// Creates images for `time`.
async fn create(
    inside: &Arc<Inside>,
    clients: usize,
    next: &Arc<AtomicUsize>,
    specs: &Arc<Vec<ImageSpec>>,
    time: Duration,
) -> Written {
    let count = || (inside.registry.graph().revision().0, inside.commits());
    let before = count();
    let started = Instant::now();
    let tasks: Vec<_> = (0..clients)
        .map(|_| {
            let (inside, next, specs) = (Arc::clone(inside), Arc::clone(next), Arc::clone(specs));
            tokio::spawn(async move {
                let mut done = 0_u64;
                while started.elapsed() < time {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    // The tags of a repository are made one after the other by whoever comes.
                    let like = &specs[number % specs.len()];
                    inside.create(Spec::Image(ImageSpec { name: image_name(number), ..like.clone() })).await;
                    done += 1;
                }
                done
            })
        })
        .collect();
    let mut done = 0;
    for task in tasks {
        done += task.await.expect("the client does not panic");
    }
    let seconds = started.elapsed().as_secs_f64();
    let after = count();
    let (rows, commits) = ((after.0 - before.0) as f64, (after.1 - before.1).max(1) as f64);
    Written { creates: done as f64 / seconds, rows: rows / seconds, batch: rows / commits }
}
