//! Until when a watch is sent.

use std::sync::Arc;

use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use crate::relay::Stay;

/// Until when a watch is sent: until the server stops, or is not the one that answers any more.
#[derive(Debug, Clone)]
pub(super) struct Until {
    stop: CancellationToken,
    stay: Option<Arc<dyn Stay>>,
}

impl Until {
    pub(super) fn new(stop: CancellationToken, stay: Option<Arc<dyn Stay>>) -> Self {
        Self { stop, stay }
    }

    pub(super) fn is_over(&self) -> bool {
        self.stop.is_cancelled() || self.stay.as_ref().is_some_and(|stay| stay.is_over())
    }

    /// The same as [`over`](Self::over), to be kept.
    pub(super) fn over_owned(self) -> BoxFuture<'static, ()> {
        Box::pin(async move { self.over().await })
    }

    pub(super) async fn over(&self) {
        match &self.stay {
            None => self.stop.cancelled().await,
            Some(stay) => tokio::select! {
                () = self.stop.cancelled() => {}
                () = stay.over() => {}
            },
        }
    }
}
