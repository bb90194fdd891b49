//! The door's answers, by its router: status, headers and bodies.

mod conditions;
mod contract;
mod reads;
mod refusals;
mod relay;
mod streams;
mod writes;

use std::fmt::Write as _;
use std::ops::Deref;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::router;
use crate::auth::users::Users;
use crate::gateway::testing::Scene;
use crate::gateway::{App, Origins, Quota};

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
    status: u16,
    headers: HeaderMap,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn etag(&self) -> &str {
        self.header("etag")
    }

    /// The body of one that is well.
    fn ok(&self) -> Value {
        assert!((200..300).contains(&self.status), "{}: {}", self.status, self.body);
        self.json()
    }

    /// The status and the problem: its code and its places.
    fn problem(&self) -> String {
        assert_eq!(self.header("content-type"), "application/problem+json", "{}", self.body);
        let problem = self.json();
        assert_eq!(problem["status"], self.status);
        assert_eq!(problem["type"], "about:blank");
        let mut text =
            format!("{} {}: {}", self.status, problem["code"].as_str().unwrap(), problem["detail"].as_str().unwrap());
        for error in problem["errors"].as_array().unwrap() {
            let of = |name: &str| error[name].as_str().unwrap_or_default().to_owned();
            let hint = of("hint");
            write!(text, "\n    {}{} {}", of("pointer"), of("parameter"), of("code")).unwrap();
            if !hint.is_empty() {
                write!(text, " ({hint})").unwrap();
            }
        }
        text
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
        Self { router: router(app.clone()).all, app, scene }
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        self.settle();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let body = String::from_utf8_lossy(&bytes).into_owned();
        Answer { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    async fn get(&self, path: &str) -> Answer {
        self.get_with(path, &[]).await
    }

    async fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.send(request(Method::GET, path, headers, Body::empty())).await
    }

    async fn get_as(&self, token: &str, path: &str) -> Answer {
        self.get_with(path, &[("authorization", &format!("Bearer {token}"))]).await
    }

    async fn write(&self, token: &str, method: Method, path: &str, body: &Value) -> Answer {
        self.write_with(token, method, path, body, &[]).await
    }

    async fn write_with(
        &self,
        token: &str,
        method: Method,
        path: &str,
        body: &Value,
        headers: &[(&str, &str)],
    ) -> Answer {
        let media = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
        let mut request = request(method, path, headers, Body::from(body.to_string()));
        request.headers_mut().insert(CONTENT_TYPE, media.parse().unwrap());
        if !token.is_empty() {
            request.headers_mut().insert(AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
        }
        self.send(request).await
    }

    async fn delete(&self, token: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = request(Method::DELETE, path, headers, Body::empty());
        request.headers_mut().insert(AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
        self.send(request).await
    }
}

fn request(method: Method, path: &str, headers: &[(&str, &str)], body: Body) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(format!("/api/v1{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(body).unwrap()
}

fn is(status: StatusCode) -> u16 {
    status.as_u16()
}
