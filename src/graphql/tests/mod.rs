//! The door's answers, by its router: status, headers and bodies.

mod reads;
mod relay;
mod search;
mod streams;
mod transport;
mod writes;

use std::ops::Deref;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::{Limits, TrustedDocuments, router};
use crate::auth::users::Users;
use crate::gateway::testing::Scene;
use crate::gateway::{Answers, App, Origins, Rates};
use crate::registry::testing::{image, pack, repository};

/// A door to a small catalogue.
struct Door {
    scene: Scene,
    app: App,
    router: Router,
}

impl Deref for Door {
    type Target = Scene;

    fn deref(&self) -> &Scene {
        &self.scene
    }
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
        let scene = Scene::open().await;
        let mut app = scene.app();
        change(&mut app);
        Self::of(scene, app, TrustedDocuments::default())
    }

    fn of(scene: Scene, app: App, documents: TrustedDocuments) -> Self {
        Self { router: router(app.clone(), documents, Limits::default()), app, scene }
    }

    /// The same door with nothing kept.
    fn fresh(&self) -> Router {
        self.router_of(|app| app.answers = Answers::default())
    }

    /// The same door with another in its place.
    fn router_of(&self, change: impl FnOnce(&mut App)) -> Router {
        let mut app = self.app.clone();
        change(&mut app);
        router(app, TrustedDocuments::default(), Limits::default())
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
    Answer { status: parts.status, headers: parts.headers, body: String::from_utf8_lossy(&bytes).into_owned() }
}
