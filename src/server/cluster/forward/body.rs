//! The bodies of what is sent on: of a request, kept so that it can be sent again; of an answer, passed on piece by
//! piece.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::error::Error;
use crate::kube_api::BODY_LIMIT;

/// How long a client may take to send a body: as long as where it is not sent on.
const BODY_TIME: Duration = Duration::from_mins(1);

/// A body that is kept.
pub(super) struct Buffered {
    pub(super) bytes: Bytes,
    /// Its share of what may be kept.
    _room: Option<OwnedSemaphorePermit>,
}

impl Buffered {
    /// Reads a body to its end, as far as `room` (of `most` bytes) has room for it.
    ///
    /// # Errors
    /// It is too large, or not complete in time; or too many are kept.
    pub(super) async fn read(
        headers: &HeaderMap,
        body: Body,
        room: &Arc<Semaphore>,
        most: usize,
    ) -> Result<Self, Error> {
        if body.is_end_stream() {
            return Ok(Self { bytes: Bytes::new(), _room: None });
        }
        let announced = headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<u64>().ok());
        if announced.is_some_and(|length| length > BODY_LIMIT as u64) {
            return Err(too_large());
        }
        let read = timeout(BODY_TIME, Self::collect(body, room, most)).await;
        read.unwrap_or_else(|_| {
            Err(Error::BadRequest(format!("the request's body was not complete after {BODY_TIME:?}")))
        })
    }

    async fn collect(mut body: Body, room: &Arc<Semaphore>, most: usize) -> Result<Self, Error> {
        let mut bytes = BytesMut::new();
        let mut kept: Option<OwnedSemaphorePermit> = None;
        while let Some(frame) = body.frame().await {
            let frame =
                frame.map_err(|_| Error::BadRequest("the request's body ended before it was complete".to_owned()))?;
            let Ok(data) = frame.into_data() else { continue };
            if bytes.len() + data.len() > BODY_LIMIT {
                return Err(too_large());
            }
            // No larger than the limit, which fits.
            let size = u32::try_from(data.len()).unwrap_or(u32::MAX);
            let more = Arc::clone(room).try_acquire_many_owned(size).map_err(|_| {
                Error::TooManyRequests(format!(
                    "{most} bytes of requests wait to be passed on, the most there are; nothing was done"
                ))
            })?;
            match &mut kept {
                Some(kept) => kept.merge(more),
                None => kept = Some(more),
            }
            bytes.extend_from_slice(&data);
        }
        Ok(Self { bytes: bytes.freeze(), _room: kept })
    }
}

fn too_large() -> Error {
    Error::TooLarge(format!("the request's body is larger than {BODY_LIMIT} bytes"))
}

/// The body of an answer that is passed on. Nothing of it is kept: a piece is read when the client takes it.
pub(super) struct Answer {
    body: Body,
    /// Whether it is a watch, which may end after any line.
    by_lines: bool,
    /// Whether a line has just ended.
    between_lines: bool,
    /// Resolves when no more of it is waited for.
    ends: BoxFuture<'static, ()>,
    over: bool,
    _exchange: OwnedSemaphorePermit,
}

impl Answer {
    pub(super) fn new(
        body: Body,
        by_lines: bool,
        ends: BoxFuture<'static, ()>,
        exchange: OwnedSemaphorePermit,
    ) -> Self {
        Self { body, by_lines, between_lines: true, ends, over: false, _exchange: exchange }
    }

    /// Ends it before its own end. A watch of which whole lines were sent ends as if it had run out. Anything else must
    /// not look as if it were complete.
    fn cut(&mut self, why: axum::Error) -> Option<Result<Frame<Bytes>, axum::Error>> {
        self.over = true;
        (!self.by_lines || !self.between_lines).then_some(Err(why))
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.over {
            return Poll::Ready(None);
        }
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(last) = frame.data_ref().and_then(|data| data.last()) {
                    self.between_lines = *last == b'\n';
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(self.cut(error)),
            Poll::Ready(None) => {
                self.over = true;
                Poll::Ready(None)
            }
            Poll::Pending => match self.ends.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(self.cut(axum::Error::new("the active replica has changed"))),
                Poll::Pending => Poll::Pending,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.over || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
