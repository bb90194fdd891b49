//! All doors side by side over one catalogue, in this process: who is told what, through whatever is kept or goes on.

mod mixing;
mod socket;
mod streams;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{HeaderMap, Request};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::sync::watch;
use tower::ServiceExt as _;

use crate::api::Kind;
use crate::auth::users::Users;
use crate::auth::{Authenticator, Authorizer};
use crate::clock::Clock as _;
use crate::error::Error;
use crate::gateway::testing::{Scene, app};
use crate::graphql;
use crate::kube_api;
use crate::registry::Registry;
use crate::rest;
use crate::search::Search;

/// Where kube's door has its kinds.
const KUBE: &str = "/apis/imagehub.sealos.io/v1";

/// What a request says of who asks.
type Headers = Vec<(&'static str, String)>;

/// The doors to the small catalogue of the scene, in which there is one user more, carol.
struct Doors {
    scene: Scene,
    router: Router,
}

/// The three doors over what `registry` has.
fn router(registry: &Arc<Registry>, authenticator: &Authenticator, search: Option<Arc<Search>>) -> Router {
    let app = app(registry, authenticator.clone(), search);
    let stop = app.stop.clone();
    let graphql = graphql::router(app.clone(), graphql::TrustedDocuments::default(), graphql::Limits::default());
    let rest = rest::router(app);
    let kube = kube_api::router(kube_api::App {
        registry: Arc::clone(registry),
        authenticator: authenticator.clone(),
        authorizer: Authorizer::Rules,
        relay: None,
        ready: watch::channel(true).1,
        stop,
    });
    graphql.merge(rest.all).merge(kube)
}

impl Doors {
    async fn open() -> Self {
        let scene = Scene::open().await;
        let now = scene.hub.clock.now();
        Users::change(scene.dir.path(), |users| users.add("carol", vec![], now)).unwrap();
        let router = router(&scene.hub.registry, &scene.authenticator(), Some(Arc::clone(&scene.search)));
        Self { scene, router }
    }

    /// The header that says who asks; none for nobody.
    fn bearer(&self, user: &str) -> Headers {
        match user {
            "" => vec![],
            user => vec![("authorization", format!("Bearer {}", self.scene.token(user)))],
        }
    }

    /// Changes an object, though the controllers may write it, too.
    async fn put(&self, kind: Kind, name: &str, change: impl Fn(&mut Value)) {
        loop {
            match self.scene.hub.try_put(kind, name, &change).await {
                Ok(_) => return,
                Err(Error::Conflict { .. }) => {}
                Err(error) => panic!("{kind} {name}: {error}"),
            }
        }
    }

    /// Makes a repository private, or public.
    async fn hide(&self, name: &str, private: bool) {
        self.put(Kind::Repository, name, |object| object["spec"]["isPrivate"] = private.into()).await;
    }

    /// Says who manages an organization, beside its creator.
    async fn manage(&self, organization: &str, managers: &[&str]) {
        self.put(Kind::Organization, organization, |object| object["spec"]["manager"] = json!(managers)).await;
    }
}

/// An answer, its body read to the end.
#[derive(Debug, Clone, PartialEq)]
struct Answer {
    status: u16,
    headers: HeaderMap,
    body: String,
}

async fn ask(router: &Router, request: Request<Body>) -> Answer {
    let (parts, body) = router.clone().oneshot(request).await.unwrap().into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    Answer { status: parts.status.as_u16(), headers: parts.headers, body: String::from_utf8_lossy(&bytes).into_owned() }
}

/// What of a body is there already, of one that goes on.
async fn ask_now(router: &Router, request: Request<Body>) -> Answer {
    use futures::FutureExt as _;
    let (parts, mut body) = router.clone().oneshot(request).await.unwrap().into_parts();
    let mut text = String::new();
    // All that is there, however much that is.
    while let Some(Some(frame)) = tokio::task::unconstrained(body.frame()).now_or_never() {
        let data = frame.unwrap().into_data().unwrap_or_default();
        text.push_str(&String::from_utf8_lossy(&data));
    }
    Answer { status: parts.status.as_u16(), headers: parts.headers, body: text }
}

/// How long a test waits for what should come at once.
const DEADLINE: Duration = Duration::from_secs(30);
