//! How much one request makes the server look at. What the fields of a query cost is known before it is executed; how long
//! the lists are that they go through is known when each is about to be: it says so before.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit};

use crate::model::{ErrorCode, Fault};

/// The most objects that a request looks at. Where the catalogue has more, it looks at all of them [`ROUNDS`] times.
pub const LOOKS: usize = 1_000_000;
/// How often a request looks at a whole catalogue that is larger than [`LOOKS`].
pub const ROUNDS: usize = 2;
/// Who looks at more than this waits for its turn: only half of the processors do such work, so that whoever asks for
/// little is answered meanwhile.
pub const LIGHT: usize = 50_000;
/// How long a request waits for its turn.
const TURN_TIME: Duration = Duration::from_secs(10);
/// The most bytes of text, documentation above all, that an answer has.
pub const TEXT_BYTES: usize = 32 * 1024 * 1024;
/// Reading so much text counts as looking at an object.
const TEXT_A_LOOK: usize = 1024;

/// The turns of those who look at much, over all doors: the processors are there for all of them.
static TURNS: LazyLock<Semaphore> =
    LazyLock::new(|| Semaphore::new(std::thread::available_parallelism().map_or(1, |n| (n.get() / 2).max(1))));

/// What a request has looked at so far.
#[derive(Debug, Default)]
pub(super) struct Work {
    looks: AtomicUsize,
    text: AtomicUsize,
    turn: OnceCell<SemaphorePermit<'static>>,
}

impl Work {
    /// Lets others go first, then counts objects that are about to be looked at, of `all` that there are.
    pub(super) async fn looks_at(&self, count: impl FnOnce() -> usize, all: usize) -> Result<(), Fault> {
        tokio::task::yield_now().await;
        // Lists of one request are asked for all at once: each sees here what the others came to.
        self.turn().await?;
        self.count(self.apart(count), all)?;
        self.turn().await
    }

    /// Waits for the request's turn, where it looks at much.
    async fn turn(&self) -> Result<(), Fault> {
        if self.looks.load(Ordering::Relaxed) > LIGHT {
            self.turn.get_or_try_init(turn).await?;
        }
        Ok(())
    }

    fn count(&self, count: usize, all: usize) -> Result<(), Fault> {
        let looks = self.looks.fetch_add(count, Ordering::Relaxed).saturating_add(count);
        let most = LOOKS.max(all.saturating_mul(ROUNDS));
        if looks > most {
            let message =
                format!("the request looks at more than {most} objects, the most that one does (limit: looks)");
            return Err(Fault::new(ErrorCode::LimitExceeded, message));
        }
        Ok(())
    }

    /// Counts text that is read.
    pub(super) fn reads(&self, bytes: usize, all: usize) -> Result<(), Fault> {
        self.count(bytes / TEXT_A_LOOK, all)
    }

    /// Counts text that goes into the answer.
    pub(super) fn tells(&self, bytes: usize) -> Result<(), Fault> {
        let text = self.text.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if text > TEXT_BYTES {
            let message = format!("the answer has more than {TEXT_BYTES} bytes of text (limit: text bytes)");
            return Err(Fault::new(ErrorCode::LimitExceeded, message));
        }
        Ok(())
    }

    /// Does what takes a processor's time. The thread's other tasks go on elsewhere meanwhile, where it may be long.
    pub(super) fn apart<T>(&self, work: impl FnOnce() -> T) -> T {
        let threads = || Handle::try_current().is_ok_and(|of| of.runtime_flavor() == RuntimeFlavor::MultiThread);
        if self.turn.initialized() && threads() { tokio::task::block_in_place(work) } else { work() }
    }
}

async fn turn() -> Result<SemaphorePermit<'static>, Fault> {
    let turn = tokio::time::timeout(TURN_TIME, TURNS.acquire()).await;
    turn.ok().and_then(Result::ok).ok_or_else(|| {
        let message = format!("requests that look at much wait, and none ended within {TURN_TIME:?} (limit: turns)");
        Fault::new(ErrorCode::Unavailable, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_looks_at_so_many_or_at_all_of_them_twice() {
        let work = Work::default();
        work.looks_at(|| LIGHT, 10).await.unwrap();
        assert!(!work.turn.initialized());
        work.looks_at(|| LOOKS - LIGHT, 10).await.unwrap();
        assert!(work.turn.initialized());
        let refused = work.looks_at(|| 1, 10).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::LimitExceeded);
        assert!(refused.message.ends_with("looks at more than 1000000 objects, the most that one does (limit: looks)"));
        // Its turn may be the only one.
        drop(work);
        let work = Work::default();
        work.looks_at(|| 2 * LOOKS, LOOKS).await.unwrap();
        work.looks_at(|| 1, LOOKS).await.unwrap_err();
    }

    #[test]
    fn text_is_counted_as_it_is_read_and_as_it_is_told() {
        let work = Work::default();
        work.tells(TEXT_BYTES).unwrap();
        assert!(work.tells(1).unwrap_err().message.contains("(limit: text bytes)"));
        work.reads(LOOKS * TEXT_A_LOOK, 0).unwrap();
        assert!(work.reads(TEXT_A_LOOK, 0).unwrap_err().message.contains("(limit: looks)"));
    }
}
