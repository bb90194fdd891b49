//! The bodies of requests that are under way at a door: how much they take together, and when the work on one begins.
//!
//! A body that is still coming has no turn among those that are worked on, however slowly it comes: its turn is waited for
//! at its end. What it has brought so far counts with all the others; where that becomes too much, the body that has been
//! coming longest is given up. Whoever sends without pause is done long before it is the oldest.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::task::AtomicWaker;
use http_body::{Frame, SizeHint};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::Error;

/// The most requests with a body that are worked on at a time: each may take its body's size many times
/// over in memory while it is parsed.
pub const WRITES: usize = 256;

/// How long a request waits for its turn among them.
const TURN_TIME: Duration = Duration::from_secs(5);

/// What the bodies take at most that are coming or are worked on, in bytes, at each door.
pub const BODIES: usize = 256 * 1024 * 1024;

/// The bodies of a door.
pub(super) struct Bodies {
    turns: Arc<Semaphore>,
    turn_time: Duration,
    most: usize,
    coming: Mutex<Coming>,
}

#[derive(Default)]
struct Coming {
    /// What all have brought.
    bytes: usize,
    /// How many there were.
    begun: u64,
    /// Those that are not at their end, in the order in which they began.
    bodies: BTreeMap<u64, Weak<UnderWay>>,
}

/// Why a body was not read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum GivenUp {
    Bytes,
    Turn,
}

/// A request whose body is under way, or which is worked on.
pub(super) struct UnderWay {
    bodies: Arc<Bodies>,
    number: u64,
    bytes: AtomicUsize,
    given_up: Mutex<Option<GivenUp>>,
    turn: Mutex<Option<OwnedSemaphorePermit>>,
    waker: AtomicWaker,
}

impl Default for Bodies {
    fn default() -> Self {
        Self::new(WRITES, BODIES, TURN_TIME)
    }
}

impl Bodies {
    fn new(turns: usize, most: usize, turn_time: Duration) -> Self {
        Self { turns: Arc::new(Semaphore::new(turns)), turn_time, most, coming: Mutex::default() }
    }

    /// A request that begins.
    pub(super) fn begin(self: &Arc<Self>) -> Arc<UnderWay> {
        let mut coming = self.coming.lock();
        let number = coming.begun;
        coming.begun += 1;
        let under_way = Arc::new(UnderWay {
            bodies: Arc::clone(self),
            number,
            bytes: AtomicUsize::new(0),
            given_up: Mutex::new(None),
            turn: Mutex::new(None),
            waker: AtomicWaker::new(),
        });
        coming.bodies.insert(number, Arc::downgrade(&under_way));
        under_way
    }

    /// Counts what a body has brought, and makes room for it.
    fn brought(&self, under_way: &UnderWay, bytes: usize) {
        // What is given up here may be held by nobody else; it ends when the lock is free again.
        let mut ended = Vec::new();
        let mut coming = self.coming.lock();
        under_way.bytes.fetch_add(bytes, Ordering::Relaxed);
        coming.bytes += bytes;
        while coming.bytes > self.most
            && let Some((_, oldest)) = coming.bodies.pop_first()
        {
            let Some(oldest) = oldest.upgrade() else { continue };
            *oldest.given_up.lock() = Some(GivenUp::Bytes);
            coming.bytes -= oldest.bytes.swap(0, Ordering::Relaxed);
            oldest.waker.wake();
            ended.push(oldest);
        }
        if coming.bytes > self.most {
            *under_way.given_up.lock() = Some(GivenUp::Bytes);
        }
    }
}

impl UnderWay {
    /// Waits for the request's turn to be worked on. Without one it is given up.
    pub(super) async fn turn(self: Arc<Self>) {
        self.bodies.coming.lock().bodies.remove(&self.number);
        let turns = Arc::clone(&self.bodies.turns);
        let turn = match Arc::clone(&turns).try_acquire_owned() {
            Ok(turn) => Some(turn),
            Err(_) => {
                tokio::time::timeout(self.bodies.turn_time, turns.acquire_owned()).await.ok().and_then(Result::ok)
            }
        };
        if turn.is_none() {
            self.given_up.lock().get_or_insert(GivenUp::Turn);
        }
        *self.turn.lock() = turn;
    }

    /// Its body, as it is to be read.
    pub(super) fn body(self: &Arc<Self>, body: Body) -> Body {
        Body::new(Watched { body, under_way: Arc::clone(self), turn: None, over: false })
    }

    /// Why it was given up, if it was.
    pub(super) fn given_up(&self) -> Option<Error> {
        let message = match (*self.given_up.lock())? {
            GivenUp::Bytes => format!(
                "the bodies of requests under way take {} bytes, the most there are, and this one has been coming \
                 longest (limit: bodies); send it again, without pauses",
                self.bodies.most
            ),
            GivenUp::Turn => format!(
                "{WRITES} requests are being worked on, and none ended within {:?} (limit: writes); try again",
                self.bodies.turn_time
            ),
        };
        Some(Error::TooManyRequests(message))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut coming = self.bodies.coming.lock();
        coming.bodies.remove(&self.number);
        coming.bytes -= self.bytes.load(Ordering::Relaxed);
    }
}

/// A body that is read as it comes, and ends when its request's turn has come.
struct Watched {
    body: Body,
    under_way: Arc<UnderWay>,
    /// Waits for the turn.
    turn: Option<BoxFuture<'static, ()>>,
    over: bool,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let given_up = || axum::Error::new("the body was given up");
        if self.over {
            return Poll::Ready(None);
        }
        if self.turn.is_none() {
            self.under_way.waker.register(cx.waker());
            if self.under_way.given_up.lock().is_some() {
                self.over = true;
                return Poll::Ready(Some(Err(given_up())));
            }
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    let bytes = frame.data_ref().map_or(0, Bytes::len);
                    self.under_way.bodies.brought(&self.under_way, bytes);
                    return Poll::Ready(Some(Ok(frame)));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => self.turn = Some(Box::pin(Arc::clone(&self.under_way).turn())),
            }
        }
        if let Some(turn) = &mut self.turn {
            ready!(turn.as_mut().poll(cx));
        }
        self.over = true;
        Poll::Ready(self.under_way.given_up.lock().is_some().then(|| Err(given_up())))
    }

    fn is_end_stream(&self) -> bool {
        self.over
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, StreamExt as _};
    use http_body_util::{BodyExt as _, Full};
    use tokio::sync::mpsc;

    use super::*;

    /// A body that brings what it is told to.
    fn told() -> (mpsc::UnboundedSender<usize>, Body) {
        let (tell, told) = mpsc::unbounded_channel();
        let pieces = futures::stream::unfold(told, |mut told: mpsc::UnboundedReceiver<usize>| async move {
            let size = told.recv().await?;
            Some((Ok::<_, axum::Error>(Bytes::from(vec![0; size])), told))
        });
        (tell, Body::from_stream(pieces.boxed()))
    }

    #[tokio::test]
    async fn a_body_that_is_coming_takes_no_turn() {
        let bodies = Arc::new(Bodies::new(1, 100, TURN_TIME));
        let (slow, quick) = (bodies.begin(), bodies.begin());
        let (tell, body) = told();
        let mut coming = slow.body(body);
        tell.send(10).unwrap();
        coming.frame().await.unwrap().unwrap();
        let read = quick.body(Body::new(Full::from("all"))).collect().await.unwrap().to_bytes();
        assert_eq!((&*read, quick.given_up().is_some()), (&b"all"[..], false));
        // The one turn is the quick one's until it has been answered.
        drop(tell);
        assert!(coming.frame().now_or_never().is_none());
        drop(quick);
        assert!(coming.frame().await.is_none());
        assert!(slow.given_up().is_none());
    }

    #[tokio::test]
    async fn where_bodies_become_too_much_the_oldest_that_is_coming_is_given_up() {
        let bodies = Arc::new(Bodies::new(2, 100, TURN_TIME));
        let (done, old, new) = (bodies.begin(), bodies.begin(), bodies.begin());
        done.body(Body::new(Full::from(vec![0; 40]))).collect().await.unwrap();
        let (tell, body) = told();
        let mut coming = old.body(body);
        tell.send(30).unwrap();
        coming.frame().await.unwrap().unwrap();
        assert!(coming.frame().now_or_never().is_none());
        new.body(Body::new(Full::from(vec![0; 31]))).collect().await.unwrap();
        // It is told at once, though nothing comes.
        assert!(coming.frame().await.unwrap().is_err());
        assert!(old.given_up().unwrap().to_string().contains("(limit: bodies)"));
        assert!(new.given_up().is_none() && done.given_up().is_none());
        drop((done, old, new, coming));
        assert_eq!(bodies.coming.lock().bytes, 0);
        assert!(bodies.coming.lock().bodies.is_empty());
    }

    #[tokio::test]
    async fn where_all_is_worked_on_what_comes_is_given_up() {
        let bodies = Arc::new(Bodies::new(2, 100, TURN_TIME));
        let (done, new) = (bodies.begin(), bodies.begin());
        done.body(Body::new(Full::from(vec![0; 90]))).collect().await.unwrap();
        assert!(new.body(Body::new(Full::from(vec![0; 20]))).collect().await.is_err());
        assert!(new.given_up().is_some() && done.given_up().is_none());
    }

    #[tokio::test]
    async fn who_gets_no_turn_is_told() {
        let bodies = Arc::new(Bodies::new(1, 100, Duration::from_millis(1)));
        let (first, second) = (bodies.begin(), bodies.begin());
        Arc::clone(&first).turn().await;
        assert!(second.body(Body::new(Full::from("x"))).collect().await.is_err());
        assert!(second.given_up().unwrap().to_string().contains("(limit: writes)"));
        assert!(first.given_up().is_none());
    }
}
