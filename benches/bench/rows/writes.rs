//! Durable writes, against a loop that commits the same rows to redb and does nothing else.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use imagehub::api::{Kind, Spec};
use imagehub::graph::{Envelope, encode};
use redb::{Database, Durability, TableDefinition};

use crate::data::{self, TAGS, image_spec};
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
    let next = Arc::new(AtomicUsize::new(0));
    for clients in CLIENTS {
        let mut batch = clients;
        let pairs = in_turns(plan.pairs, async |side| match side {
            Side::A => {
                let (rate, commits) = create(&inside, clients, &next, plan.slice).await;
                // As many at a time as were observed.
                batch = commits;
                rate
            }
            Side::B => tokio::task::block_in_place(|| raw.run(&rows, batch, plan.slice)),
        })
        .await;
        let (ours, bare) = pairs.means();
        let note = format!("{ours:.0}/s, raw {bare:.0}/s with {batch} a commit");
        let what = format!("durable creates, {clients} client{}", if clients == 1 { "" } else { "s" });
        report.ratio(&what, "a raw redb loop", pairs.ratio(), Target::AtLeast(0.8), &note);
        if clients > 1 {
            report.figure(
                "creates a second in a process, 64 clients",
                "",
                ours,
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

/// Creates images for `time`: how many a second, and about how many were under way when one was answered.
async fn create(inside: &Arc<Inside>, clients: usize, next: &Arc<AtomicUsize>, time: Duration) -> (f64, usize) {
    let started = Instant::now();
    let (done, together, answered) =
        (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let last = Arc::new(AtomicU64::new(0));
    let tasks: Vec<_> = (0..clients)
        .map(|_| {
            let (inside, next, done) = (Arc::clone(inside), Arc::clone(next), Arc::clone(&done));
            let (together, answered, last) = (Arc::clone(&together), Arc::clone(&answered), Arc::clone(&last));
            tokio::spawn(async move {
                while started.elapsed() < time {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    // The tags of a repository are made one after the other by whoever comes.
                    let spec = Spec::from_value(Kind::Image, image_spec(number, 0)).expect("a spec");
                    inside.create(spec).await;
                    done.fetch_add(1, Ordering::Relaxed);
                    // Those who are answered within a fifth of a millisecond were committed together.
                    let now = u64::try_from(started.elapsed().as_micros()).unwrap_or(0);
                    let before = last.swap(now, Ordering::Relaxed);
                    if now.saturating_sub(before) > 200 {
                        together.fetch_add(1, Ordering::Relaxed);
                    }
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("the client does not panic");
    }
    let _ = TAGS;
    let rate = done.load(Ordering::Relaxed) as f64 / started.elapsed().as_secs_f64();
    let groups = together.load(Ordering::Relaxed).max(1);
    let batch = usize::try_from(answered.load(Ordering::Relaxed) / groups).unwrap_or(1);
    (rate, batch.clamp(1, clients))
}
