//! What every request passes, in one list, the outermost first:
//!
//! 1. [`observe`]: a request id, the access log and the metrics. Outermost, so that it sees every answer,
//!    those of the layers below included.
//! 2. [`catch`]: a panic becomes a 500 and a line in the log. Inside of the first, so that it is counted.
//! 3. [`bound_writes`]: how many requests with a body are worked on at a time. Innermost, so that what it
//!    turns away is seen by the others.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use futures::FutureExt as _;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use tokio::sync::Semaphore;
use tracing::{error, info};
use uuid::Uuid;

use super::metrics::{RequestLabels, RequestMetrics};
use crate::auth::Verb;
use crate::error::Error;
use crate::kube_api::Labels;

/// The most requests with a body that are worked on at a time: each may take its body's size many times
/// over in memory while it is parsed.
pub const WRITES: usize = 256;

/// How long a request waits for its turn among them.
const TURN_TIME: Duration = Duration::from_secs(5);

/// Kube's header of a request's id: kube-apiserver sends one along, and clients look for it in the answer.
const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");

/// The longest id that is taken from a client.
const LONGEST_ID: usize = 64;

#[derive(Clone)]
struct Context {
    door: &'static str,
    metrics: RequestMetrics,
    writes: Arc<Semaphore>,
}

/// Puts the layers around `router`.
pub fn around(router: Router, door: &'static str, metrics: RequestMetrics) -> Router {
    let context = Context { door, metrics, writes: Arc::new(Semaphore::new(WRITES)) };
    router
        .layer(from_fn_with_state(context.clone(), bound_writes))
        .layer(from_fn_with_state(context.clone(), catch))
        .layer(from_fn_with_state(context, observe))
}

async fn observe(State(context): State<Context>, request: Request, next: Next) -> Response {
    /// One less when the answer is there, or nobody waits for it any more.
    struct InFlight(RequestMetrics);
    impl Drop for InFlight {
        fn drop(&mut self) {
            self.0.in_flight.dec();
        }
    }
    let started = Instant::now();
    let id = request.headers().get(&AUDIT_ID).filter(|id| id.len() <= LONGEST_ID).cloned();
    let id = id.or_else(|| HeaderValue::from_str(&Uuid::new_v4().to_string()).ok());
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    context.metrics.in_flight.inc();
    let guard = InFlight(context.metrics.clone());
    let mut response = next.run(request).await;
    let took = started.elapsed();
    let labels = response.extensions().get::<Labels>().copied();
    let (verb, resource) = labels.map_or(("other", "none"), |labels| (labels.verb.as_str(), labels.kind.plural()));
    let code = response.status().as_u16();
    let watch = labels.is_some_and(|labels| labels.verb == Verb::Watch);
    let of = RequestLabels { door: context.door, verb, resource, code };
    context.metrics.record(&of, (!watch).then_some(took));
    let shown = id.as_ref().and_then(|id| id.to_str().ok()).unwrap_or_default();
    info!(target: "imagehub::access", door = context.door, %method, path, code, took_us = took.as_micros(), id = shown);
    if let Some(id) = id {
        response.headers_mut().insert(AUDIT_ID, id);
    }
    // A body that goes on is in flight until it ends.
    response.map(|body| {
        axum::body::Body::new(http_body_util::BodyExt::map_frame(body, move |frame| {
            let _alive = &guard;
            frame
        }))
    })
}

async fn catch(State(context): State<Context>, request: Request, next: Next) -> Response {
    match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => response,
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
            error!(door = context.door, panic = text, "a request's handler panicked");
            plain(&Error::internal("a panic"))
        }
    }
}

async fn bound_writes(State(context): State<Context>, request: Request, next: Next) -> Response {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return next.run(request).await;
    }
    match tokio::time::timeout(TURN_TIME, context.writes.acquire()).await {
        Ok(_turn) => next.run(request).await,
        Err(_) => plain(&Error::TooManyRequests(format!(
            "{WRITES} requests are being worked on, and none ended within {TURN_TIME:?}; try again"
        ))),
    }
}

/// An error in the form that both doors' clients read: `metav1.Status` is JSON.
fn plain(error: &Error) -> Response {
    let code = StatusCode::from_u16(error.code()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (code, [(CONTENT_TYPE, "application/json")], error.status_json().to_string()).into_response();
    if let Some(wait) = error.retry_after() {
        response.headers_mut().insert(RETRY_AFTER, wait.as_secs().into());
    }
    response
}
