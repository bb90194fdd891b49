//! A watcher is a cursor into the commits that are in memory, without a queue. Who has fallen behind them, or
//! began before the store was read anew, is told so.

use std::sync::Arc;

use futures::stream::{self, BoxStream, StreamExt};
use tokio::sync::watch;

use super::shared::{Shared, Signal};
use crate::storage::{Commit, ReadError, Revision};

struct Cursor {
    shared: Arc<Shared>,
    signal: watch::Receiver<Signal>,
    generation: u64,
    after: Revision,
}

/// The commits after `after`.
pub(super) fn stream(shared: Arc<Shared>, after: Revision) -> BoxStream<'static, Result<Vec<Commit>, ReadError>> {
    let (signal, generation) = (shared.signal.subscribe(), shared.generation());
    let cursor = Cursor { shared, signal, generation, after };
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
            let batch = {
                let published = self.shared.published.read();
                if published.generation != self.generation || self.after < published.floor {
                    return Err(ReadError::Compacted { asked: self.after, floor: published.floor });
                }
                published.next(self.after)
            };
            if let Some(last) = batch.last() {
                self.after = last.revision;
                return Ok(batch);
            }
            // The sender lives as long as `shared`, which this cursor holds.
            let _ = self.signal.changed().await;
        }
    }
}
