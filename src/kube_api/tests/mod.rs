//! The door's answers, by its router: status, headers and bodies, as kube-apiserver gives them for custom
//! resources. What differs from it on purpose is in `docs/kube-differences.md`.

mod reads;
mod relayed;
mod watches;
mod writes;

use std::fmt::Write as _;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use http::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WARNING};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::{App, router};
use crate::auth::users::Tokens;
use crate::auth::{Authenticator, Authorizer, Caller, MASTERS, Peer};
use crate::clock::ManualClock;
use crate::datapack::Packs;
use crate::graph::{Graph, Window};
use crate::registry::Registry;
use crate::relay::Relay;
use crate::storage::embedded::{Embedded, Options};

const PACKS: &str = "/apis/imagehub.sealos.io/v1/datapacks";
const ORGANIZATIONS: &str = "/apis/imagehub.sealos.io/v1/organizations";
const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";
const JSON_PATCH: &str = "application/json-patch+json";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

/// A door to an empty catalogue in which it is always the same moment.
struct Door {
    router: Router,
    stop: CancellationToken,
    _dir: TempDir,
}

/// An answer, its body read to the end.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

/// What an administrator's connection begins with.
fn administrator() -> Arc<Peer> {
    Arc::new(Peer::known(Caller::authenticated("admin", [MASTERS.to_owned()])))
}

impl Door {
    async fn open() -> Self {
        Self::with(None).await
    }

    async fn with(relay: Option<Arc<dyn Relay>>) -> Self {
        let dir = TempDir::new().unwrap();
        let clock = ManualClock::at("2025-03-01T00:00:00Z".parse().unwrap());
        let (path, for_storage) = (dir.path().join("data"), Arc::clone(&clock));
        let storage = Embedded::open(&path, Options::default(), for_storage).unwrap();
        let (graph, writer) = Graph::open(storage.clone(), Window::default()).await.unwrap();
        tokio::spawn(writer.run());
        let registry = Arc::new(Registry::new(storage, graph, Arc::new(Packs::new(1 << 20)), clock));
        let stop = CancellationToken::new();
        let authenticator =
            Authenticator::local(Some(Arc::new(Tokens::new(dir.path()))), None, registry.clock().clone());
        let ready = tokio::sync::watch::channel(true).1;
        let router =
            router(App { registry, authenticator, authorizer: Authorizer::Rules, relay, ready, stop: stop.clone() });
        Self { router, stop, _dir: dir }
    }

    /// Answers the administrator.
    async fn send(&self, request: Request<Body>) -> axum::response::Response {
        let (mut parts, body) = request.into_parts();
        parts.extensions.insert(administrator());
        self.router.clone().oneshot(Request::from_parts(parts, body)).await.unwrap()
    }

    async fn ask(&self, method: &str, path: &str, media: &str, body: &str) -> Answer {
        let mut request = Request::builder().method(Method::from_bytes(method.as_bytes()).unwrap()).uri(path);
        // For a request without a body it is what is wanted, else what it is.
        if !media.is_empty() {
            request = request.header(if body.is_empty() { ACCEPT } else { CONTENT_TYPE }, media);
        }
        let response = self.send(request.body(Body::from(body.to_owned())).unwrap()).await;
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Answer { status: parts.status, headers: parts.headers, body: String::from_utf8(bytes.to_vec()).unwrap() }
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "", "").await
    }

    async fn create(&self, name: &str, metadata: Value) -> Value {
        let answer = self.ask("POST", PACKS, JSON, &pack(name, metadata)).await;
        assert_eq!(answer.status, 201, "{}", answer.body);
        answer.json()
    }
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }

    /// The status code and the message, of an answer that is a Status.
    fn message(&self) -> (u16, String) {
        (self.status.as_u16(), self.json()["message"].as_str().unwrap_or_default().to_owned())
    }

    /// All that clients read of it, with what is random left out.
    fn shown(&self) -> String {
        let mut out = format!("{}\n", self.status);
        for name in [CONTENT_TYPE, CACHE_CONTROL, ALLOW, RETRY_AFTER, WARNING] {
            for value in self.headers.get_all(&name) {
                writeln!(out, "{name}: {}", value.to_str().unwrap()).unwrap();
            }
        }
        match serde_json::from_str(&self.body) {
            Ok(value) => writeln!(out, "{:#}", redacted(value)).unwrap(),
            Err(_) => out.push_str(&self.body),
        }
        out
    }
}

/// A pack of no images.
fn pack(name: &str, mut metadata: Value) -> String {
    metadata["name"] = name.into();
    let spec = json!({ "names": [] });
    json!({ "apiVersion": "imagehub.sealos.io/v1", "kind": "DataPack", "metadata": metadata, "spec": spec }).to_string()
}

fn redacted(mut value: Value) -> Value {
    match &mut value {
        Value::Object(fields) => {
            for (name, field) in fields {
                let random = name == "uid" && field.is_string();
                *field = if random { "(uid)".into() } else { redacted(field.take()) };
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| *item = redacted(item.take())),
        _ => {}
    }
    value
}
