//! Where several servers stand for one another: who of them answers a request, at whichever door it comes.

use std::fmt::Debug;
use std::sync::Arc;

use axum::extract::Request;
use axum::response::Response;
use futures::future::BoxFuture;

use crate::auth::Caller;
use crate::error::Error;

/// Knows who answers now.
pub trait Relay: Debug + Send + Sync + 'static {
    /// Whose turn a request is that `caller` makes. It may wait, within a limit, until that is known.
    ///
    /// # Errors
    /// Nobody can answer it now; or it was sent on, and what became of it is not known.
    fn turn<'a>(&'a self, caller: &'a Caller, request: Request) -> BoxFuture<'a, Result<Turn, Error>>;
}

/// Who answers a request.
#[derive(Debug)]
pub enum Turn {
    /// This server, for as long as the term lasts.
    Here(Request, Arc<dyn Term>),
    /// Another one, which has.
    Elsewhere(Response),
}

/// A time during which this server is the one that answers, for one request.
pub trait Term: Debug + Send + Sync {
    /// Whether it still is: what was found or done is told only then.
    ///
    /// # Errors
    /// It is not any more; the words for whoever asked.
    fn holds(&self) -> Result<(), Error>;

    /// What an answer that goes on, a watch, needs of it. The term doesn't wait for that one.
    fn stay(&self) -> Arc<dyn Stay>;
}

/// For how long an answer may go on.
pub trait Stay: Debug + Send + Sync {
    /// Whether it has to end.
    fn is_over(&self) -> bool;

    /// Resolves when it has to end.
    fn over(&self) -> BoxFuture<'_, ()>;
}
