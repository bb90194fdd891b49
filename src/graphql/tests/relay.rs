//! What is written where several servers stand for one another.

use std::sync::atomic::{AtomicUsize, Ordering};

use axum::response::{IntoResponse as _, Response};
use futures::FutureExt as _;
use futures::future::BoxFuture;

use super::*;
use crate::auth::Caller;
use crate::error::Error;
use crate::relay::{Relay, Stay, Term, Turn};

/// Whose turn it is, as the test says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    Ours,
    /// Ours, but no longer once it is done.
    Lost,
    Theirs,
}

#[derive(Debug)]
struct Replicas {
    whose: Whose,
    asked: AtomicUsize,
}

#[derive(Debug)]
struct OneTerm(bool);

impl Term for OneTerm {
    fn holds(&self) -> Result<(), Error> {
        if self.0 { Ok(()) } else { Err(Error::OutcomeUnknown("the term is over".to_owned())) }
    }

    fn stay(&self) -> Arc<dyn Stay> {
        unreachable!("a mutation doesn't go on")
    }
}

impl Relay for Replicas {
    fn turn<'a>(&'a self, caller: &'a Caller, request: axum::extract::Request) -> BoxFuture<'a, Result<Turn, Error>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        async move {
            if self.whose != Whose::Theirs {
                return Ok(Turn::Here(request, Arc::new(OneTerm(self.whose == Whose::Ours))));
            }
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let told: Response = format!("{} sent {} bytes", caller.user(), body.len()).into_response();
            Ok(Turn::Elsewhere(told))
        }
        .boxed()
    }
}

async fn door(whose: Whose) -> (Door, Arc<Replicas>) {
    let replicas = Arc::new(Replicas { whose, asked: AtomicUsize::new(0) });
    let relay: Arc<dyn Relay> = Arc::clone(&replicas) as _;
    (Door::open_with(|app| app.relay = Some(relay)).await, replicas)
}

const MAKE: &str = r#"mutation { createOrganization(name: "new") { organization { name } } }"#;

#[tokio::test]
async fn what_is_read_is_answered_here_and_what_is_written_by_whose_turn_it_is() {
    let (door, replicas) = door(Whose::Theirs).await;
    let bob = door.token("bob");
    door.ask_as(&bob, "{ organization(name: \"new\") { name } }").await.data();
    // Also what is no request is told here.
    assert_eq!(door.ask_as(&bob, "mutation {").await.error().0, "INVALID");
    assert_eq!(replicas.asked.load(Ordering::Relaxed), 0);
    let told = door.ask_as(&bob, MAKE).await;
    assert_eq!(told.body, format!("bob sent {} bytes", json!({ "query": MAKE }).to_string().len()));
    assert_eq!(replicas.asked.load(Ordering::Relaxed), 1);
    assert_eq!(door.ask(r#"{ organization(name: "new") { name } }"#).await.data()["organization"], Value::Null);
}

#[tokio::test]
async fn what_is_written_here_is_told_only_while_the_term_holds() {
    let (ours, _) = door(Whose::Ours).await;
    let done = ours.ask_as(&ours.token("bob"), MAKE).await.data();
    assert_eq!(done["createOrganization"]["organization"]["name"], "new");
    let (lost, _) = door(Whose::Lost).await;
    let unknown = lost.ask_as(&lost.token("bob"), MAKE).await;
    assert_eq!(unknown.error().0, "UNAVAILABLE");
    assert!(unknown.status.is_server_error(), "{}", unknown.status);
    let ask = (ACCEPT.as_str(), "text/event-stream");
    let streamed = ours.post(&[ask], json!({ "query": MAKE }).to_string()).await;
    assert!(streamed.body.contains("UNAVAILABLE"), "{}", streamed.body);
}
