//! The tasks that a server can't be without: when one of them ends, the process does, with the reason.

use std::any::Any;
use std::panic::AssertUnwindSafe;

use futures::FutureExt as _;
use tokio::task::JoinSet;

/// Those that run.
#[derive(Debug, Default)]
pub struct Critical(JoinSet<String>);

impl Critical {
    /// Runs `task`, which `name` says in a sentence's beginning ("the gateway"), and which never ends if all is well.
    pub fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.spawn_with_reason(name, async move {
            task.await;
            format!("{name} ended")
        });
    }

    /// The same for a task that says itself why it ended.
    pub fn spawn_with_reason(&mut self, name: &'static str, task: impl Future<Output = String> + Send + 'static) {
        self.0.spawn(async move {
            let ended = AssertUnwindSafe(task).catch_unwind().await;
            ended.unwrap_or_else(|panic| format!("{name} died: {}", message(&*panic)))
        });
    }

    /// Waits until one of them has ended: why.
    pub async fn ended(&mut self) -> String {
        match self.0.join_next().await {
            Some(Ok(reason)) => reason,
            Some(Err(error)) => error.to_string(),
            None => std::future::pending().await,
        }
    }

    /// Ends them all.
    pub fn abort(&mut self) {
        self.0.abort_all();
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_ends_says_what_it_was() {
        let mut critical = Critical::default();
        critical.spawn("the idler", std::future::pending());
        critical.spawn("the gateway", async {});
        assert_eq!(critical.ended().await, "the gateway ended");
        critical.spawn("the writer", async { panic!("no more paper") });
        assert_eq!(critical.ended().await, "the writer died: no more paper");
        critical.spawn_with_reason("the reader", async { "all is read".to_owned() });
        assert_eq!(critical.ended().await, "all is read");
    }
}
