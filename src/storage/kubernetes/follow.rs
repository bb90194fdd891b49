//! The follower: fills the store with one consistent list, then keeps it filled with one watch at a time, each of
//! which begins where the one before has come to. When the host no longer has what came after that, or is not
//! where it was, all is read anew, and everybody is told.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use futures::StreamExt as _;
use http_body_util::BodyExt as _;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info, warn};

use super::host::{Backoff, Failure, Status};
use super::nonce::{ABANDONED_MS, NonceError};
use super::published::{Change, Filled};
use super::record::{Item, Metadata};
use super::shared::Shared;
use crate::storage::Revision;

/// How many Records are asked for at a time.
const PAGE: usize = 500;
/// How many at least, when pages are too large.
const SMALLEST_PAGE: usize = 8;
/// How long a watch may be silent: the host sends a bookmark each minute.
const SILENCE: Duration = Duration::from_secs(90);
/// Bytes of one event at most: a Record with all that the host writes beside it.
const LINE_LIMIT: usize = 8 << 20;
/// Pauses between attempts to reach the host.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A watch that lasted so long has been a good one: the next pause is the first again.
const GOOD: Duration = Duration::from_secs(10);

/// How a watch ended.
enum End {
    /// The next one can begin where it came to.
    Broken(String),
    /// The host ended it in order.
    Over,
    /// All has to be read anew.
    Lost(String),
}

/// One line of a watch.
#[derive(Deserialize)]
struct Event<'a> {
    #[serde(rename = "type", borrow)]
    kind: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(Deserialize)]
struct Page<'a> {
    metadata: PageMetadata,
    #[serde(borrow, default)]
    items: Vec<Item<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageMetadata {
    #[serde(default, rename = "continue")]
    token: String,
    #[serde(default)]
    resource_version: String,
}

/// Pauses that are told of, once each time that the reason changes and about once a minute.
struct Patience {
    backoff: Backoff,
    said: Option<(String, Instant)>,
}

impl Patience {
    fn new() -> Self {
        Self { backoff: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE), said: None }
    }

    async fn pause(&mut self, what: &str, why: String, least: Option<Duration>) {
        const SAY_AGAIN: Duration = Duration::from_mins(1);
        if self.said.as_ref().is_none_or(|(said, at)| *said != why || at.elapsed() > SAY_AGAIN) {
            warn!("{what}: {why}; trying again");
            self.said = Some((why, Instant::now()));
        }
        sleep(self.backoff.pause(least)).await;
    }
}

/// Follows the host until it is aborted.
pub(super) async fn follow(shared: Arc<Shared>) {
    loop {
        let filled = list_patiently(&shared).await;
        let nonce = filled.nonces.iter().find(|(name, ..)| *name == shared.nonce.name).map(|(_, at, _)| *at);
        let abandoned: Vec<_> = filled.nonces.iter().filter(|(name, ..)| *name != shared.nonce.name).cloned().collect();
        shared.nonce.found(nonce).await;
        info!(
            revision = filled.revision.0,
            records = filled.commits.len(),
            damaged = filled.damaged.len(),
            "read all Records of the host cluster"
        );
        let before = shared.published.read().highest;
        if filled.revision < before {
            warn!(
                revision = filled.revision.0,
                before = before.0,
                "the host cluster is at an older revision than it was: it was restored from a backup. All watches end"
            );
        }
        shared.published.write().fill(filled);
        shared.announce();
        let why = keep_watching(&shared, abandoned).await;
        warn!("all Records have to be read anew, and all watches end: {why}");
    }
}

/// Reads all Records, however long the host takes to be there.
pub(super) async fn list_patiently(shared: &Shared) -> Filled {
    let mut patience = Patience::new();
    loop {
        match list(shared).await {
            Ok(filled) => return filled,
            // Compacted while it was being read: a new list begins at a newer state.
            Err(failure) if failure.is_gone() => debug!("a list took too long to be read: it begins anew"),
            Err(failure) => {
                let least = if let Failure::Answer { retry_after, .. } = &failure { *retry_after } else { None };
                patience.pause("the Records can't be listed", explain(&failure), least).await;
            }
        }
    }
}

/// What a failed list or watch means, for the log.
fn explain(failure: &Failure) -> String {
    match failure {
        Failure::Answer { code: 404, .. } => {
            format!("the host serves no {}: install deploy/crd", super::crd::CRD_NAME)
        }
        Failure::Answer { code: 401 | 403, .. } => format!("{failure}: check the ServiceAccount and its ClusterRole"),
        other => other.to_string(),
    }
}

async fn list(shared: &Shared) -> Result<Filled, Failure> {
    let mut filled = Filled::default();
    let (mut token, mut revision) = (String::new(), None);
    let mut limit = PAGE;
    loop {
        let body = match shared.host.page(limit, &token).await {
            Err(Failure::TooLarge) if limit > SMALLEST_PAGE => {
                limit = (limit / 4).max(SMALLEST_PAGE);
                continue;
            }
            body => body?,
        };
        let page: Page<'_> = serde_json::from_slice(&body).map_err(|error| Failure::Lost(error.to_string()))?;
        // All pages are of the state of the first.
        if revision.is_none() {
            let parsed = page.metadata.resource_version.parse().ok().filter(|revision| *revision > 0);
            revision = Some(parsed.ok_or_else(|| Failure::Lost("the list has no resourceVersion".to_owned()))?);
        }
        for item in page.items {
            let content = item.content(&shared.check);
            if let Some(why) = item.told() {
                filled.told.insert(item.metadata.name.clone(), why);
            }
            filled.add(item.metadata, content);
        }
        token = page.metadata.token;
        if token.is_empty() {
            filled.finish(Revision(revision.unwrap_or_default()));
            return Ok(filled);
        }
    }
}

/// Watches until all has to be read anew, and says why.
async fn keep_watching(shared: &Arc<Shared>, mut abandoned: Vec<(String, Revision, i64)>) -> String {
    let mut patience = Patience::new();
    loop {
        // A host that was restored from a backup would let a watch begin after a revision that it doesn't have,
        // and keep silent about all that happens until it has it.
        match shared.write_nonce().await {
            Ok(_) => {}
            Err(NonceError::Rewound(why)) => return format!("the host cluster was restored from a backup: {why}"),
            Err(NonceError::Failed(failure)) => {
                patience.pause("the host cluster's API can't be written to", explain(&failure), None).await;
                continue;
            }
        }
        sweep(shared, std::mem::take(&mut abandoned));
        let begun = Instant::now();
        let end = tokio::select! {
            end = watch(shared) => end,
            () = shared.kick.notified() => End::Broken("it seems to hear nothing".to_owned()),
        };
        if begun.elapsed() >= GOOD {
            patience = Patience::new();
        }
        match end {
            End::Over => {}
            End::Broken(why) => patience.pause("the watch of the Records ended", why, None).await,
            End::Lost(why) => return why,
        }
    }
}

/// Deletes the nonces that other processes have left behind. That it fails doesn't matter: the next start tries again.
fn sweep(shared: &Arc<Shared>, mut nonces: Vec<(String, Revision, i64)>) {
    let now = shared.now();
    nonces.retain(|(_, _, at)| at.saturating_add(ABANDONED_MS) < now);
    if nonces.is_empty() {
        return;
    }
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        for (name, at, _) in nonces {
            if let Err(failure) = shared.host.delete(&name, at, None).await {
                debug!(nonce = name, "an abandoned nonce stays: {failure}");
            }
        }
    });
}

async fn watch(shared: &Shared) -> End {
    let after = shared.published.read().position;
    let answer = match shared.host.watch(after).await {
        Ok(answer) => answer,
        Err(failure) if failure.is_gone() => {
            return End::Lost(format!("revision {after} is no longer kept by the host"));
        }
        Err(failure) => return End::Broken(explain(&failure)),
    };
    let mut chunks = answer.into_body().into_data_stream();
    let mut buffer = BytesMut::new();
    loop {
        match timeout(SILENCE, chunks.next()).await {
            Err(_) => return End::Broken(format!("silent for {SILENCE:?}")),
            Ok(None) if buffer.is_empty() => return End::Over,
            Ok(None) => return End::Broken("it ended within an event".to_owned()),
            Ok(Some(Err(error))) => return End::Broken(error.to_string()),
            Ok(Some(Ok(chunk))) => buffer.extend_from_slice(&chunk),
        }
        let end = apply(shared, &mut buffer);
        shared.announce();
        if let Err(end) = end {
            return end;
        }
        if buffer.len() > LINE_LIMIT {
            return End::Lost(format!("an event of more than {LINE_LIMIT} bytes"));
        }
    }
}

/// Applies the whole lines in `buffer`, and takes them out.
fn apply(shared: &Shared, buffer: &mut BytesMut) -> Result<(), End> {
    let Some(last) = buffer.iter().rposition(|byte| *byte == b'\n') else { return Ok(()) };
    let lines = buffer.split_to(last + 1);
    for line in lines[..].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        // What can't be understood is read anew, from where we are.
        let broken = |what: String| End::Broken(format!("an event that can't be read: {what}"));
        let event: Event<'_> = serde_json::from_slice(line).map_err(|error| broken(error.to_string()))?;
        let object = event.object.get();
        let change = match event.kind {
            "ADDED" | "MODIFIED" => Change::Written,
            "DELETED" => Change::Deleted,
            "BOOKMARK" => {
                let bookmark: Bookmark = serde_json::from_str(object).map_err(|error| broken(error.to_string()))?;
                shared.published.write().advance(bookmark.metadata.revision().map_err(broken)?);
                continue;
            }
            "ERROR" => {
                let status: Status = serde_json::from_str(object).unwrap_or_default();
                return Err(match status.code {
                    410 => End::Lost(status.message),
                    _ => End::Broken(format!("{} {}", status.code, status.message)),
                });
            }
            other => {
                debug!("a watch event of the unknown type {other:?} is passed over");
                continue;
            }
        };
        let item: Item<'_> = serde_json::from_str(object).map_err(|error| broken(error.to_string()))?;
        let (content, told) = (item.content(&shared.check), item.told());
        let mut published = shared.published.write();
        published.note(&item.metadata.name, told);
        published.apply(change, item.metadata, content).map_err(broken)?;
    }
    Ok(())
}

#[derive(Deserialize)]
struct Bookmark {
    metadata: Metadata,
}
