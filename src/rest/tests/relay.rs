//! What is written where several servers stand for one another.

use axum::response::{IntoResponse as _, Response};
use futures::FutureExt as _;
use futures::future::BoxFuture;

use super::*;
use crate::auth::Caller;
use crate::error::Error;
use crate::relay::{Relay, Stay, Term, Turn};

/// Whose turn it is, as the test says: ours for a term that holds or doesn't, or another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    Ours { holds: bool },
    Theirs,
}

#[derive(Debug)]
struct OneTerm(bool);

impl Term for OneTerm {
    fn holds(&self) -> Result<(), Error> {
        if self.0 { Ok(()) } else { Err(Error::OutcomeUnknown("the term is over".to_owned())) }
    }

    fn stay(&self) -> Arc<dyn Stay> {
        unreachable!("a write doesn't go on")
    }
}

impl Relay for Whose {
    fn turn<'a>(&'a self, caller: &'a Caller, request: axum::extract::Request) -> BoxFuture<'a, Result<Turn, Error>> {
        async move {
            if let Self::Ours { holds } = self {
                return Ok(Turn::Here(request, Arc::new(OneTerm(*holds))));
            }
            let told: Response = format!("{} {}", caller.user(), request.uri()).into_response();
            Ok(Turn::Elsewhere(told))
        }
        .boxed()
    }
}

#[tokio::test]
async fn what_is_read_is_answered_here_and_what_is_written_by_whose_turn_it_is() {
    let image = "/images/acme/app/1";
    let door = Door::open_with(|app| app.relay = Some(Arc::new(Whose::Theirs))).await;
    let alice = door.token("alice");
    let sent_on = door.write(&alice, Method::PUT, image, &json!({})).await;
    assert_eq!(sent_on.body, "alice /api/v1/images/acme/app/1");
    assert_eq!(door.get(image).await.status, 404);
    door.write("", Method::POST, "/resolve", &json!({ "names": [] })).await.ok();

    let door = Door::open_with(|app| app.relay = Some(Arc::new(Whose::Ours { holds: true }))).await;
    assert_eq!(door.write(&door.token("alice"), Method::PUT, image, &json!({})).await.status, 201);
    let door = Door::open_with(|app| app.relay = Some(Arc::new(Whose::Ours { holds: false }))).await;
    let unknown = door.write(&door.token("alice"), Method::PUT, image, &json!({})).await;
    assert!(unknown.problem().starts_with("504 UNAVAILABLE"), "{}", unknown.body);
}
