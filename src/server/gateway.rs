//! The gateway's listener: health, metrics, what there is, and the doors that are not kube's.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::header::CONTENT_TYPE;
use http::{StatusCode, Uri};
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry as Metrics;
use serde_json::json;
use tokio::sync::watch;

/// Under which paths the doors are.
const DOORS: [&str; 3] = ["/graphql", "/api/v1", "/docs"];

/// What the gateway shows.
#[derive(Clone)]
pub struct Gateway {
    /// Whether the server is ready.
    pub ready: watch::Receiver<bool>,
    /// The metrics, once there is something to measure.
    pub metrics: watch::Receiver<Option<Arc<Metrics>>>,
}

impl Gateway {
    /// The paths while there is nothing to read yet.
    pub fn closed(&self) -> Router {
        self.with(Router::new()).fallback(not_yet)
    }

    /// The paths with those of the doors. They are in one router: what another one had taken for parameters of its own,
    /// the doors would take for theirs.
    pub fn open(&self, doors: Router) -> Router {
        self.with(doors).fallback(nothing)
    }

    fn with(&self, doors: Router) -> Router {
        let own = Router::new()
            .route("/", get(index))
            .route("/healthz", get(|| async { "ok" }))
            .route("/livez", get(|| async { "ok" }))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics))
            .method_not_allowed_fallback(|| async {
                problem(StatusCode::METHOD_NOT_ALLOWED, "this path takes GET and HEAD only")
            });
        own.with_state(self.clone()).merge(doors)
    }
}

/// An error of the gateway (RFC 9457).
pub fn problem(status: StatusCode, detail: &str) -> Response {
    let title = status.canonical_reason().unwrap_or_default();
    let body = json!({ "type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail });
    (status, [(CONTENT_TYPE, "application/problem+json")], body.to_string()).into_response()
}

async fn index() -> Json<serde_json::Value> {
    Json(json!({
        "name": "imagehub",
        "version": env!("CARGO_PKG_VERSION"),
        "paths": ["/healthz", "/livez", "/readyz", "/metrics", "/graphql", "/api/v1", "/docs"],
    }))
}

async fn readyz(State(gateway): State<Gateway>) -> Response {
    if *gateway.ready.borrow() {
        "ok".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready: starting or stopping").into_response()
    }
}

/// Whether a path is one of the doors'.
fn is_of_a_door(path: &str) -> bool {
    let under = |door: &str| path.strip_prefix(door).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    DOORS.into_iter().any(under)
}

async fn nothing() -> Response {
    problem(StatusCode::NOT_FOUND, "nothing is served at this path; GET / lists what is")
}

/// The doors' paths before there is a door.
async fn not_yet(uri: Uri) -> Response {
    if !is_of_a_door(uri.path()) {
        return nothing().await;
    }
    problem(StatusCode::SERVICE_UNAVAILABLE, "starting: there is nothing to read yet")
}

async fn metrics(State(gateway): State<Gateway>) -> Response {
    let metrics = gateway.metrics.borrow().clone();
    let mut out = String::new();
    match metrics.map(|metrics| text::encode(&mut out, &metrics)) {
        Some(Ok(())) => {
            ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], out).into_response()
        }
        Some(Err(_)) => problem(StatusCode::INTERNAL_SERVER_ERROR, "the metrics can't be written"),
        None => problem(StatusCode::SERVICE_UNAVAILABLE, "starting: there is nothing to measure yet"),
    }
}
