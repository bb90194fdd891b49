//! What a server answers that is one of several, in its term.

use axum::extract::Request as Asked;
use axum::response::Response;
use futures::FutureExt as _;
use futures::future::BoxFuture;

use super::*;
use crate::error::Error;
use crate::relay::{Stay, Term, Turn};

/// A server whose turn it is until a token is cancelled; what the others would do is said in a word.
#[derive(Debug, Clone)]
struct Until(CancellationToken);

impl Relay for Until {
    fn turn<'a>(&'a self, _caller: &'a Caller, request: Asked) -> BoxFuture<'a, Result<Turn, Error>> {
        let turn = if request.headers().contains_key("elsewhere") {
            Turn::Elsewhere(Response::new(Body::from("elsewhere")))
        } else {
            Turn::Here(request, Arc::new(self.clone()))
        };
        async move { Ok(turn) }.boxed()
    }
}

impl Term for Until {
    fn holds(&self) -> Result<(), Error> {
        if self.0.is_cancelled() { Err(Error::OutcomeUnknown("too late".to_owned())) } else { Ok(()) }
    }

    fn stay(&self) -> Arc<dyn Stay> {
        Arc::new(self.clone())
    }
}

impl Stay for Until {
    fn is_over(&self) -> bool {
        self.0.is_cancelled()
    }

    fn over(&self) -> BoxFuture<'_, ()> {
        self.0.cancelled().boxed()
    }
}

#[tokio::test]
async fn a_watch_ends_cleanly_with_the_term() {
    let term = CancellationToken::new();
    let door = Door::with(Some(Arc::new(Until(term.clone())))).await;
    let request = Request::builder().uri(format!("{PACKS}?watch=1")).body(Body::empty()).unwrap();
    let response = door.send(request).await;
    door.create("a", json!({})).await;
    let mut body = response.into_body();
    body.frame().await.unwrap().unwrap();
    term.cancel();
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn what_was_done_when_the_term_was_over_is_not_acknowledged() {
    let term = CancellationToken::new();
    let door = Door::with(Some(Arc::new(Until(term.clone())))).await;
    term.cancel();
    let answer = door.ask("POST", PACKS, JSON, &pack("a", json!({}))).await;
    assert_eq!(answer.message(), (504, "too late".to_owned()));
    assert_eq!(answer.json()["reason"], "Timeout");
    assert!(!answer.headers.contains_key(RETRY_AFTER), "clients would send it again");
}

#[tokio::test]
async fn another_answers_for_resources_and_for_nothing_else() {
    let door = Door::with(Some(Arc::new(Until(CancellationToken::new())))).await;
    let ask = async |path: &str| {
        let request = Request::builder().uri(path).header("elsewhere", "1").body(Body::empty()).unwrap();
        door.send(request).await.into_body().collect().await.unwrap().to_bytes()
    };
    assert_eq!(ask(PACKS).await, "elsewhere");
    for path in ["/apis", "/openapi/v2", "/readyz"] {
        assert_ne!(ask(path).await, "elsewhere");
    }
}
