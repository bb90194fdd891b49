//! The gateway's listener: health, metrics, what there is, and the doors that are not kube's.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry as Metrics;
use serde_json::json;
use tokio::sync::watch;
use tower::ServiceExt as _;

/// Under which paths the doors are.
const DOORS: [&str; 3] = ["/graphql", "/api/v1", "/docs"];

/// What the gateway shows.
#[derive(Clone)]
pub struct Gateway {
    /// Whether the server is ready.
    pub ready: watch::Receiver<bool>,
    /// The metrics, once there is something to measure.
    pub metrics: watch::Receiver<Option<Arc<Metrics>>>,
    /// The doors, once there is something to read.
    pub doors: watch::Receiver<Option<Router>>,
}

/// The gateway's paths.
pub fn router(gateway: Gateway) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/healthz", get(|| async { "ok" }))
        .route("/livez", get(|| async { "ok" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .fallback(door)
        .method_not_allowed_fallback(|| async {
            problem(StatusCode::METHOD_NOT_ALLOWED, "this path takes GET and HEAD only")
        })
        .with_state(gateway)
}

/// An error of the gateway (RFC 9457).
fn problem(status: StatusCode, detail: &str) -> Response {
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

/// Has a door answer. Its paths are no routes here: what these had taken for parameters of their own, the door would take
/// for its own.
async fn door(State(gateway): State<Gateway>, request: Request) -> Response {
    if !is_of_a_door(request.uri().path()) {
        return problem(StatusCode::NOT_FOUND, "nothing is served at this path; GET / lists what is");
    }
    let door = gateway.doors.borrow().clone();
    match door {
        Some(door) => door.oneshot(request).await.unwrap_or_else(|never| match never {}),
        None => problem(StatusCode::SERVICE_UNAVAILABLE, "starting: there is nothing to read yet"),
    }
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
