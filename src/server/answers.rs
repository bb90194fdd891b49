//! Answers that are made and not yet taken: how much they may take together. What the connection's library has been handed
//! it keeps until the client takes it, so that it is handed no more than a piece at a time.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::{Body, HttpBody};
use axum::response::Response;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::Error;

/// What large answers take at most that are not yet taken, in bytes.
pub const ANSWERS: usize = 256 * 1024 * 1024;
/// From this size on an answer is large, in bytes.
pub const LARGE: usize = 64 * 1024;
/// How much of it the connection gets at a time, in bytes.
const PIECE: usize = 64 * 1024;

/// The large answers of a door.
pub(super) struct Answers {
    /// In KiB.
    room: Arc<Semaphore>,
}

impl Default for Answers {
    fn default() -> Self {
        Self::new(ANSWERS)
    }
}

impl Answers {
    fn new(bytes: usize) -> Self {
        Self { room: Arc::new(Semaphore::new(bytes / 1024)) }
    }

    /// The answer as it is to be sent. One that is made while it is sent is none of these.
    ///
    /// # Errors
    /// There is no room for it.
    pub(super) fn admit(&self, response: Response) -> Result<Response, Error> {
        let Some(left) = response.body().size_hint().exact().filter(|size| *size >= LARGE as u64) else {
            return Ok(response);
        };
        let kib = u32::try_from(left.div_ceil(1024)).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).try_acquire_many_owned(kib).map_err(|_| {
            Error::Unavailable(format!(
                "large answers that their clients have not taken yet take {ANSWERS} bytes, the most there are (limit: answers)"
            ))
        })?;
        Ok(response.map(|body| Body::new(Pieces { body, rest: Bytes::new(), left, _room: room })))
    }
}

/// A body of which only a piece is handed over at a time.
struct Pieces {
    body: Body,
    /// What has come of the body and was not handed over.
    rest: Bytes,
    /// How long all that was not handed over is.
    left: u64,
    _room: OwnedSemaphorePermit,
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        while self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(other) => return Poll::Ready(Some(Ok(other))),
                },
                end => return Poll::Ready(end),
            }
        }
        let length = self.rest.len().min(PIECE);
        let piece = self.rest.split_to(length);
        self.left -= length as u64;
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn a_large_answer_is_handed_over_in_pieces_and_has_its_room_until_its_end() {
        let answers = Answers::new(3 * LARGE);
        let bytes: Bytes = (0..=2 * LARGE).map(|i| i.to_le_bytes()[0]).collect();
        let small = answers.admit(Response::new(Body::from(vec![0; LARGE - 1]))).unwrap();
        let mut first = answers.admit(Response::new(Body::from(bytes.clone()))).unwrap().into_body();
        let refused = answers.admit(Response::new(Body::from(bytes.clone()))).unwrap_err();
        assert!(refused.to_string().contains("(limit: answers)"));
        assert_eq!(first.size_hint().exact(), Some(bytes.len() as u64));
        let mut seen = Vec::new();
        for left in [LARGE + 1, 1, 0] {
            assert!(!first.is_end_stream());
            seen.extend(first.frame().await.unwrap().unwrap().into_data().unwrap());
            assert_eq!(first.size_hint().exact(), Some(left as u64));
        }
        assert!(first.is_end_stream());
        assert_eq!(seen, bytes);
        drop(first);
        answers.admit(Response::new(Body::from(bytes))).unwrap();
        drop(small);
    }
}
