//! The door's answers, by its router: status, headers and bodies.

mod reads;
mod relay;
mod search;
mod streams;
mod transport;
mod writes;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::{App, Limits, TrustedDocuments, router};
use crate::auth::users::{Tokens, Users};
use crate::auth::{Authenticator, Authorizer};
use crate::gateway::{Origins, Quota};
use crate::registry::testing::{Hub, image, pack, repository};
use crate::search::{Indexer, Search};

/// A door to a small catalogue, with users: root, an administrator; alice, who manages `acme`; bob.
struct Door {
    hub: Hub,
    app: App,
    router: Router,
    dir: TempDir,
    tokens: Arc<Tokens>,
    indexer: Mutex<Indexer>,
}

/// An answer, its body read to the end.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The data, of an answer without errors.
    fn data(&self) -> Value {
        let json = self.json();
        assert_eq!(json.get("errors"), None, "{json:#}");
        json["data"].clone()
    }

    /// The code and the sentence of the first error.
    fn error(&self) -> (String, String) {
        let error = &self.json()["errors"][0];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (text(&error["extensions"]["code"]), text(&error["message"]))
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

impl Door {
    async fn open() -> Self {
        Self::open_with(|_| {}).await
    }

    async fn open_with(change: impl FnOnce(&mut App)) -> Self {
        let hub = Hub::open().await;
        let dir = TempDir::new().unwrap();
        let now = crate::clock::Clock::now(&*hub.clock);
        Users::change(dir.path(), |users| {
            users.add("root", vec!["system:masters".to_owned()], now)?;
            users.add("alice", vec![], now)?;
            users.add("bob", vec![], now)
        })
        .unwrap();
        let tokens = Arc::new(Tokens::new(dir.path()));
        let (search, indexer) = Search::open(Arc::clone(hub.registry.graph())).unwrap();
        let mut app = App {
            registry: Arc::clone(&hub.registry),
            authenticator: Authenticator::local(Some(Arc::clone(&tokens)), None, hub.clock.clone()),
            authorizer: Authorizer::Rules,
            search: Some(search),
            anonymous: true,
            quota: Arc::new(Quota::default()),
            origins: Origins::None,
            documents: TrustedDocuments::default(),
            relay: None,
            limits: Limits::default(),
            stop: CancellationToken::new(),
        };
        change(&mut app);
        let indexer = Mutex::new(indexer);
        let door = Self { router: router(app.clone()), app, hub, dir, tokens, indexer };
        door.fill().await;
        door
    }

    async fn fill(&self) {
        let organization = json!({
            "kind": "Organization", "metadata": { "name": "acme" },
            "spec": { "name": "acme", "manager": ["alice"] },
        });
        self.hub.create(organization).await;
        self.hub.create(repository("acme/secret", true)).await;
        let detail = |description: &str, arch: &str, keywords: Value| {
            json!({
                "description": description, "arch": arch, "keywords": keywords, "size": 5_000_000_000_i64,
                "creatTime": "2024-05-01T12:00:00Z", "docs": format!("# {description}\n"),
            })
        };
        for (name, detail) in [
            ("acme/secret:1", detail("not for everybody", "amd64", json!(["Storage"]))),
            ("labring/nginx:1.23", detail("a web server", "amd64", json!(["Network"]))),
            ("labring/nginx:1.24", detail("a newer web server", "amd64", json!(["Network"]))),
            ("labring/mysql:8.0", detail("a database", "arm64", json!(["Database", "Storage"]))),
            ("other/redis:7", detail("a cache", "Unkonw", json!(["database"]))),
        ] {
            let mut object = image(name, detail);
            object["spec"]["type"] = "cluster-image".into();
            self.hub.create(object).await;
        }
        // Labels of repositories follow by the controller, which doesn't run here.
        for (name, keywords) in [
            ("labring.nginx", &["Network"][..]),
            ("labring.mysql", &["Database", "Storage"]),
            ("other.redis", &["Database"]),
        ] {
            let label = |value: &mut Value| {
                for keyword in keywords {
                    value["metadata"]["labels"][format!("keyword.imagehub.sealos.io/{keyword}")] = "".into();
                }
            };
            self.hub.try_put(crate::api::Kind::Repository, name, label).await.unwrap();
        }
    }

    fn token(&self, user: &str) -> String {
        let now = crate::clock::Clock::now(&*self.hub.clock);
        let token = Users::change(self.dir.path(), |users| users.issue(user, now)).unwrap();
        self.tokens.refresh();
        token
    }

    /// Brings the search to where the catalogue is.
    fn settle(&self) {
        self.indexer.lock().catch_up().unwrap();
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        self.settle();
        send(&self.router, request).await
    }

    async fn post(&self, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
        let mut request = Request::post("/graphql").header(CONTENT_TYPE, "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(body.into()).unwrap()).await
    }

    async fn get(&self, query: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = Request::get(format!("/graphql?{query}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(Body::empty()).unwrap()).await
    }

    /// What an operation answers somebody who has shown nothing.
    async fn ask(&self, query: &str) -> Answer {
        self.ask_with(query, json!({})).await
    }

    async fn ask_with(&self, query: &str, variables: Value) -> Answer {
        self.post(&[], json!({ "query": query, "variables": variables }).to_string()).await
    }

    async fn ask_as(&self, token: &str, query: &str) -> Answer {
        let bearer = format!("Bearer {token}");
        self.post(&[(AUTHORIZATION.as_str(), &bearer)], json!({ "query": query }).to_string()).await
    }

    async fn ask_for(&self, media: &str, body: &Value) -> Answer {
        self.post(&[(ACCEPT.as_str(), media)], body.to_string()).await
    }
}

async fn send(router: &Router, request: Request<Body>) -> Answer {
    let response = router.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    Answer { status: parts.status, headers: parts.headers, body: String::from_utf8(bytes.to_vec()).unwrap() }
}
