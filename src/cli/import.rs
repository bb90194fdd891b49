//! `imagehub import`.

mod documents;
mod manifest;
mod progress;
mod source;
mod spool;
mod target;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use clap::Args as ClapArgs;
use futures::StreamExt as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Failure;
use super::client::{Api, block_on};
use super::export::ORDER;
use crate::api::Kind;
use documents::{Documents, Format};
use manifest::{Manifest, items, manifest, parse, peek};
use progress::Progress;
use spool::{Place, Spool, Spooled};
use target::{Applied, NotDone, Offline, Outcome, Target};

/// Objects written at a time, where nothing else is said.
const PARALLEL: usize = 32;
/// The most.
const MOST_PARALLEL: usize = 1024;
/// Objects written at a time into a directory: enough for whole batches of the store, within its queue.
const PARALLEL_OFFLINE: usize = 768;
/// Documents that are reported one by one; more are counted.
const REPORTED: u64 = 1000;

/// The arguments of `import`.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
What an export has is restored as it was, with uid, times, creator and counts; that takes an administrator. Any other
manifest is made, or made what is there, as by kubectl apply. The same command again goes on where it was stopped.

Examples:
  imagehub import catalogue.yaml.gz
  kubectl get images,repositories -o json | imagehub import -
  imagehub import --offline /var/lib/imagehub catalogue.jsonl.gz")]
pub(super) struct Args {
    /// Files, or directories of them: YAML or JSON, several documents, gzip; - reads standard input
    #[arg(value_name = "FILE|DIR|-", required = true)]
    paths: Vec<PathBuf>,
    /// Which server and user [default: imagehub-data/kubeconfig]
    #[arg(long, value_name = "FILE", long_help = "Which server and user; without it the files of KUBECONFIG")]
    kubeconfig: Option<PathBuf>,
    /// Write into this data directory, which no server may have open
    #[arg(long, value_name = "DIR", conflicts_with = "kubeconfig")]
    offline: Option<PathBuf>,
    /// How many objects are written at a time [default: 32]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=MOST_PARALLEL as u64))]
    parallel: Option<u64>,
    /// Check everything on the server and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Stop at the first document that can't be imported
    #[arg(long)]
    stop_on_error: bool,
}

/// What has been done so far.
#[derive(Debug, Default)]
struct Summary {
    created: u64,
    present: u64,
    failed: u64,
    warned: u64,
    /// Why it ended before its end.
    stopped: Option<String>,
    /// Somebody wanted it to end.
    interrupted: bool,
}

impl Summary {
    fn interrupt(&mut self) {
        self.interrupted = true;
        self.stopped.get_or_insert_with(|| "interrupted".to_owned());
    }
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let files = source::files(&args.paths)?;
    let started = Instant::now();
    let summary = block_on(async {
        let target = match &args.offline {
            None => Target::Server(Arc::new(Api::from_kubeconfig(args.kubeconfig.as_deref())?)),
            Some(dir) => Target::Directory(Arc::new(Offline::open(dir).await?)),
        };
        let mut import = Import { args, files: &files, target, summary: Summary::default() };
        import.run().await?;
        Ok::<_, String>(import.summary)
    })?;
    let Summary { created, present, failed, warned, stopped, interrupted } = summary;
    let dry = if args.dry_run { " (dry run: nothing was written)" } else { "" };
    let took = started.elapsed();
    super::print(&format!(
        "{created} created, {present} were there, {failed} failed, {warned} warnings, {took:.1?}{dry}"
    ));
    match stopped {
        Some(why) => {
            let message = format!("stopped: {why}; the same command goes on where it was");
            Err(if interrupted { Failure::interrupted(message) } else { message.into() })
        }
        None if failed > 0 => Err(format!("{failed} documents could not be imported").into()),
        None => Ok(()),
    }
}

struct Import<'a> {
    args: &'a Args,
    files: &'a [PathBuf],
    target: Target,
    summary: Summary,
}

impl Import<'_> {
    async fn run(&mut self) -> Result<(), String> {
        let folder = self.args.offline.clone().unwrap_or_else(std::env::temp_dir);
        let spools = self.read(&folder).map_err(|e| format!("can't keep what is read in {}: {e}", folder.display()))?;
        // Until here nothing is written, and a signal ends it as it ends any program.
        let mut interrupt = signal(SignalKind::interrupt()).map_err(|e| format!("can't wait for signals: {e}"))?;
        for (kind, spool) in ORDER.into_iter().zip(spools) {
            if self.summary.stopped.is_some() {
                break;
            }
            let written = self.write(kind, spool, &mut interrupt).await;
            written.map_err(|e| format!("can't read back from {}: {e}", folder.display()))?;
        }
        self.end(&mut interrupt).await
    }

    /// Leaves a directory as a server would. What is stopped goes on another time, or a server brings it in step.
    async fn end(&mut self, interrupt: &mut Signal) -> Result<(), String> {
        let (Target::Directory(offline), Some(dir)) = (&self.target, &self.args.offline) else { return Ok(()) };
        if self.summary.stopped.is_none() && !self.args.dry_run {
            tokio::select! {
                done = offline.settle() => done?,
                _ = interrupt.recv() => self.summary.interrupt(),
            }
        }
        if self.summary.stopped.is_some() {
            offline.close();
            return Ok(());
        }
        offline.close_without_history(dir).await
    }

    /// Reads all files, and sorts their documents by phase.
    fn read(&mut self, folder: &Path) -> io::Result<Vec<Spool>> {
        let mut spools = ORDER.iter().map(|_| Spool::new(folder)).collect::<io::Result<Vec<_>>>()?;
        let mut progress = Progress::new("documents read", 0);
        for (index, path) in self.files.iter().enumerate() {
            let file = u32::try_from(index).map_err(io::Error::other)?;
            let mut last = Place { file, number: 0, line: 1 };
            let input = match source::open(path) {
                Ok(input) => input,
                Err(error) => {
                    self.failed(&progress, None, &format!("{}: {error}", shown(path)));
                    continue;
                }
            };
            for document in Documents::new(input) {
                if self.summary.stopped.is_some() {
                    return Ok(spools);
                }
                let document = match document {
                    Ok(document) => document,
                    Err(error) => {
                        let after = format!("{}: after document {}: {error}", shown(path), last.number);
                        self.failed(&progress, None, &after);
                        break;
                    }
                };
                let place = Place { file, number: document.number, line: document.line };
                last = place;
                progress.step();
                if let Some(fault) = document.fault {
                    self.failed(&progress, Some(place), &fault);
                } else if let Some(phase) = peek(document.format, &document.text).map(phase) {
                    spools[phase].add(place, document.format, &document.text)?;
                } else {
                    self.sort(&progress, &mut spools, place, document.format, &document.text)?;
                }
            }
        }
        progress.end();
        Ok(spools)
    }

    /// Parses a document whose kind isn't seen at once: a list, say.
    fn sort(
        &mut self,
        progress: &Progress,
        spools: &mut [Spool],
        place: Place,
        format: Format,
        text: &[u8],
    ) -> io::Result<()> {
        let value = match parse(format, text, place.line) {
            Ok(value) => value,
            Err(why) => {
                self.failed(progress, Some(place), &why);
                return Ok(());
            }
        };
        if value.is_null() {
            return Ok(());
        }
        for item in items(value) {
            match manifest(item) {
                Ok(Manifest { kind, value, .. }) => {
                    spools[phase(kind)].add(place, Format::Json, value.to_string().as_bytes())?;
                }
                Err(why) => self.failed(progress, Some(place), &why),
            }
        }
        Ok(())
    }

    /// Writes the objects of one phase, several at a time.
    async fn write(&mut self, kind: Kind, spool: Spool, interrupt: &mut Signal) -> io::Result<()> {
        let mut progress = Progress::new(kind.plural(), spool.count);
        let default = if self.args.offline.is_some() { PARALLEL_OFFLINE } else { PARALLEL };
        let parallel = self.args.parallel.map_or(default, |n| usize::try_from(n).unwrap_or(MOST_PARALLEL));
        let dry_run = self.args.dry_run;
        let target = self.target.clone();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let documents = spool.into_documents()?.take_while(move |_| !stopped.load(Ordering::Relaxed));
        let writes = futures::stream::iter(documents).map(|document| {
            let target = target.clone();
            async move {
                let document = document?;
                let place = document.place;
                // A task of its own: parsing is work for all cores.
                let done = tokio::spawn(async move { import_one(&target, document, dry_run).await });
                Ok::<_, io::Error>((place, done.await.map_err(io::Error::other)?))
            }
        });
        let mut writes = std::pin::pin!(writes.buffer_unordered(parallel));
        loop {
            tokio::select! {
                next = writes.next() => {
                    let Some(next) = next else { break };
                    let (place, done) = next?;
                    self.took(&mut progress, place, done);
                }
                _ = interrupt.recv() => {
                    if self.summary.interrupted {
                        // What is under way is done, or not; doing it again does no harm.
                        break;
                    }
                    self.summary.interrupt();
                }
            }
            // What is under way ends first.
            stop.store(self.summary.stopped.is_some(), Ordering::Relaxed);
        }
        progress.end();
        Ok(())
    }

    fn took(&mut self, progress: &mut Progress, place: Place, done: Result<Applied, NotDone>) {
        match done {
            Ok((outcome, warnings)) => {
                for warning in warnings {
                    self.summary.warned += 1;
                    if self.summary.warned <= REPORTED {
                        progress.line(&format!("{}: warning: {warning}", self.at(place)));
                    }
                }
                match outcome {
                    Outcome::Created => self.summary.created += 1,
                    Outcome::Present => self.summary.present += 1,
                }
            }
            Err(NotDone::Refused(why)) => self.failed(progress, Some(place), &why),
            Err(NotDone::Fatal(why)) => {
                self.failed(progress, Some(place), &why);
                self.summary.stopped.get_or_insert(why);
            }
        }
        progress.step();
    }

    fn failed(&mut self, progress: &Progress, place: Option<Place>, why: &str) {
        self.summary.failed += 1;
        if self.summary.failed <= REPORTED {
            match place {
                Some(place) => progress.line(&format!("{}: {why}", self.at(place))),
                None => progress.line(why),
            }
        }
        if self.args.stop_on_error {
            self.summary.stopped.get_or_insert_with(|| "a document could not be imported".to_owned());
        }
    }

    fn at(&self, place: Place) -> String {
        let file = self.files.get(place.file as usize).map(|path| shown(path)).unwrap_or_default();
        format!("{file}: document {} (line {})", place.number, place.line)
    }
}

fn shown(path: &Path) -> String {
    if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() }
}

fn phase(kind: Kind) -> usize {
    ORDER.iter().position(|known| *known == kind).unwrap_or_default()
}

async fn import_one(target: &Target, document: Spooled, dry_run: bool) -> Result<Applied, NotDone> {
    let value = parse(document.format, &document.text, document.place.line).map_err(NotDone::Refused)?;
    let manifest = manifest(value).map_err(NotDone::Refused)?;
    let named = |why: String| {
        let name = manifest.name();
        if why.contains(name) { why } else { format!("{} {name}: {why}", manifest.kind) }
    };
    target.apply(&manifest, dry_run).await.map_err(|failure| match failure {
        NotDone::Refused(why) => NotDone::Refused(named(why)),
        fatal @ NotDone::Fatal(_) => fatal,
    })
}
