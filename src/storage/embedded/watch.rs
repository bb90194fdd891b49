//! A watcher is a cursor without a queue: it asks for what comes after the last commit it gave out, from
//! memory or from the log, and waits for the signal of a newer one. However slow it is, it costs no memory,
//! and there is no seam between history and live commits where one could be lost or come twice.

use std::sync::Arc;

use futures::stream::{self, BoxStream, StreamExt};
use tokio::sync::watch;

use super::published::Next;
use super::shared::{Shared, Signal};
use crate::storage::{Commit, ReadError, Revision};

struct Cursor {
    shared: Arc<Shared>,
    signal: watch::Receiver<Signal>,
    after: Revision,
    begun: bool,
}

/// The commits after `after`.
pub(super) fn stream(shared: Arc<Shared>, after: Revision) -> BoxStream<'static, Result<Vec<Commit>, ReadError>> {
    let signal = shared.signal.subscribe();
    let cursor = Cursor { shared, signal, after, begun: false };
    stream::unfold(Some(cursor), async |cursor| {
        let mut cursor = cursor?;
        match cursor.next().await {
            Ok(batch) => Some((Ok(batch), Some(cursor))),
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed()
}

impl Cursor {
    async fn next(&mut self) -> Result<Vec<Commit>, ReadError> {
        loop {
            // Marked as seen before looking, so that what comes while looking wakes again.
            self.signal.borrow_and_update();
            self.shared.check_running()?;
            let next = {
                let published = self.shared.published.read();
                if !self.begun && self.after.0 < published.floor {
                    let floor = Revision(published.floor);
                    return Err(ReadError::Compacted { asked: self.after, floor });
                }
                published.next(self.after)
            };
            self.begun = true;
            let batch = match next {
                Next::Commits(batch) => batch,
                Next::InLog(last) => {
                    let (shared, after) = (Arc::clone(&self.shared), self.after);
                    tokio::task::spawn_blocking(move || shared.read_log(after, last))
                        .await
                        .map_err(|error| ReadError::Stopped(error.to_string()))??
                }
                Next::CaughtUp => {
                    // The sender lives as long as `shared`, which this cursor holds.
                    let _ = self.signal.changed().await;
                    continue;
                }
            };
            if let Some(last) = batch.last() {
                self.after = last.revision;
                return Ok(batch);
            }
        }
    }
}
