//! What every request passes, in one list, the outermost first. They are around axum's router instead of being layers of it:
//! each of those would cost a box and a clone of all that is inside of it.
//!
//! 1. [`Observed`]: a request id, the access log and the metrics. Outermost, so that it sees every answer,
//!    those of the layers below included.
//! 2. [`catch`]: a panic becomes a 500. Inside of the first, so that it is counted. (The log has it from the
//!    panic's hook, which is there for all threads.)
//! 3. [`bound_answers`]: how much answers take together that are made and not yet taken.
//! 4. [`linger`]: a client whose request is refused before all of it was read gets to read why. Outside of
//!    what refuses.
//! 5. [`bound_bodies`]: how much bodies take together, and how many requests with one are worked on at a time.
//!    Innermost, so that what it turns away is seen by the others.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, ready};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures::FutureExt as _;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Method, StatusCode, Version};
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt as _, Limited};
use prometheus_client::metrics::gauge::Gauge;
use tokio::runtime::Handle;
use tower::Service as _;
use tracing::{Level, info};
use uuid::Uuid;

use super::answers::Answers;
use super::bodies::Bodies;
use super::listen::Respond;
use super::metrics::{RequestLabels, RequestMetrics};
use crate::auth::Verb;
use crate::error::Error;
use crate::kube_api::Labels;

/// How much of a body that nobody wants is read, so that its client gets to read the answer; an HTTP/1 client
/// sends all before it reads, and a connection that is closed meanwhile loses the answer.
const LINGER_BYTES: usize = 16 * 1024 * 1024;

/// How long that may take.
const LINGER_TIME: Duration = Duration::from_secs(5);

/// Kube's header of a request's id: kube-apiserver sends one along, and clients look for it in the answer.
const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");

/// The longest id that is taken from a client.
const LONGEST_ID: usize = 64;

/// The door whose clients are not kube's.
pub const GATEWAY: &str = "gateway";

struct Context {
    door: &'static str,
    metrics: RequestMetrics,
    bodies: Arc<Bodies>,
    answers: Answers,
}

/// A router with the layers around it.
#[derive(Clone)]
pub struct Layered {
    context: Arc<Context>,
    router: Router,
}

/// Puts the layers around `router`.
pub fn around(router: Router, door: &'static str, metrics: RequestMetrics) -> Layered {
    let context = Context { door, metrics, bodies: Arc::default(), answers: Answers::default() };
    Layered { context: Arc::new(context), router }
}

impl Respond for Layered {
    async fn respond(self, request: Request) -> Response {
        let Self { context, router } = self;
        let observed = Observed::new(&context, &request);
        let is_head = *request.method() == Method::HEAD;
        let response = catch(bound_bodies(&context, linger(request), router)).await;
        let mut response = bound_answers(&context, response);
        if is_head {
            // The router has emptied its own answers (RFC 9110 section 9.3.2), not those of the layers.
            *response.body_mut() = Body::empty();
        }
        observed.answered(response)
    }
}

/// A request that is being answered: one less when nobody waits for it any more.
struct InFlight(Gauge<i64>);

impl InFlight {
    fn new(metrics: &RequestMetrics) -> Self {
        metrics.in_flight.inc();
        Self(metrics.in_flight.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// A body that goes on is in flight until it ends. All else is as it was, the length above all: it is told
/// to the client.
struct Counted {
    body: Body,
    _in_flight: InFlight,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A random id (UUID 4), as kube-apiserver gives one to each request.
fn new_id() -> Option<HeaderValue> {
    let id = uuid::Builder::from_random_bytes(rand::random()).into_uuid();
    HeaderValue::from_str(id.hyphenated().encode_lower(&mut Uuid::encode_buffer())).ok()
}

/// What is seen of a request: its id, when it began, and its method and path where they are logged.
struct Observed<'a> {
    context: &'a Context,
    started: Instant,
    id: Option<HeaderValue>,
    logged: Option<(Method, String)>,
    in_flight: InFlight,
}

impl<'a> Observed<'a> {
    fn new(context: &'a Context, request: &Request) -> Self {
        let started = Instant::now();
        let id = request.headers().get(&AUDIT_ID).filter(|id| id.len() <= LONGEST_ID).cloned().or_else(new_id);
        let logged = tracing::enabled!(target: "imagehub::access", Level::INFO)
            .then(|| (request.method().clone(), request.uri().path().to_owned()));
        Self { context, started, id, logged, in_flight: InFlight::new(&context.metrics) }
    }

    /// Measures and logs the answer, and tells the id.
    fn answered(self, mut response: Response) -> Response {
        let Self { context, started, id, logged, in_flight } = self;
        let took = started.elapsed();
        let labels = response.extensions().get::<Labels>().copied();
        let (verb, resource) = labels.map_or(("other", "none"), |labels| (labels.verb.as_str(), labels.kind.plural()));
        let code = response.status().as_u16();
        let watch = labels.is_some_and(|labels| labels.verb == Verb::Watch);
        let of = RequestLabels { door: context.door, verb, resource, code };
        context.metrics.record(&of, (!watch).then_some(took));
        if let Some((method, path)) = logged {
            let shown = id.as_ref().and_then(|id| id.to_str().ok()).unwrap_or_default();
            info!(target: "imagehub::access", door = context.door, %method, path, code, took_us = took.as_micros(), id = shown);
        }
        if let Some(mut id) = id {
            // No two are the same: HTTP/2 need not remember it for the next answer.
            id.set_sensitive(true);
            response.headers_mut().insert(AUDIT_ID, id);
        }
        response.map(|body| Body::new(Counted { body, _in_flight: in_flight }))
    }
}

fn catch(next: impl Future<Output = Response>) -> impl Future<Output = Response> {
    let answered = AssertUnwindSafe(next).catch_unwind();
    answered.map(|answered| answered.unwrap_or_else(|_| plain(&Error::internal("a panic"))))
}

fn bound_answers(context: &Context, response: Response) -> Response {
    // Kube's lists are made while they are sent.
    if context.door != GATEWAY {
        return response;
    }
    context.answers.admit(response).unwrap_or_else(|error| refused(context, &error))
}

fn linger(request: Request) -> Request {
    // On HTTP/2 a stream ends by itself, without the connection.
    if request.version() > Version::HTTP_11 || request.body().is_end_stream() {
        return request;
    }
    request.map(|body| Body::new(Lingering { body, ended: false }))
}

/// A body whose rest is read when it is dropped before its end.
struct Lingering {
    body: Body,
    ended: bool,
}

impl HttpBody for Lingering {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        self.ended = !matches!(frame, Some(Ok(_)));
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        if self.ended || self.body.is_end_stream() {
            return;
        }
        let mut rest = Limited::new(std::mem::take(&mut self.body), LINGER_BYTES);
        if let Ok(runtime) = Handle::try_current() {
            runtime
                .spawn(tokio::time::timeout(LINGER_TIME, async move { while let Some(Ok(_)) = rest.frame().await {} }));
        }
    }
}

async fn bound_bodies(context: &Context, request: Request, mut router: Router) -> Response {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        let Ok(response) = router.call(request).await;
        return response;
    }
    // A future is moved before it is waited for: those that have no body need not be as large as this.
    Box::pin(bound_body(context, request, router)).await
}

async fn bound_body(context: &Context, request: Request, mut router: Router) -> Response {
    let under_way = context.bodies.begin();
    let request = if request.body().is_end_stream() {
        Arc::clone(&under_way).turn().await;
        if let Some(error) = under_way.given_up() {
            return refused(context, &error);
        }
        request
    } else {
        request.map(|body| under_way.body(body))
    };
    let Ok(response) = router.call(request).await;
    // Who read it has only seen that it broke off.
    under_way.given_up().map_or(response, |error| refused(context, &error))
}

/// What is turned away, in the form of its door.
fn refused(context: &Context, error: &Error) -> Response {
    if context.door != GATEWAY {
        return plain(error);
    }
    let status = StatusCode::from_u16(error.code()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    with_wait(super::gateway::problem(status, &error.to_string()), error)
}

fn with_wait(mut response: Response, error: &Error) -> Response {
    if let Some(wait) = error.retry_after() {
        response.headers_mut().insert(RETRY_AFTER, wait.as_secs().into());
    }
    response
}

/// An error in the form that both doors' clients read: `metav1.Status` is JSON.
fn plain(error: &Error) -> Response {
    let code = StatusCode::from_u16(error.code()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    with_wait((code, [(CONTENT_TYPE, "application/json")], error.status_json().to_string()).into_response(), error)
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use http_body_util::BodyExt as _;

    use super::*;

    async fn panics() -> &'static str {
        panic!("on purpose")
    }

    async fn asked(method: Method, path: &str) -> (StatusCode, bool, Bytes) {
        let router = Router::new().route("/panics", get(panics)).route("/", get(|| async { "here" }));
        let layered = around(router, GATEWAY, RequestMetrics::default());
        let request = http::Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        let response = layered.respond(request).await;
        let (status, has_id) = (response.status(), response.headers().contains_key(AUDIT_ID));
        (status, has_id, response.into_body().collect().await.unwrap().to_bytes())
    }

    #[tokio::test]
    async fn each_answer_passes_the_layers_a_panic_and_what_is_nowhere_too() {
        for (path, status) in [("/", 200), ("/none", 404), ("/panics", 500)] {
            let (found, has_id, body) = asked(Method::GET, path).await;
            assert_eq!((found.as_u16(), has_id), (status, true), "{path}");
            assert_eq!(body.is_empty(), status == 404, "{path}: {body:?}");
            let (found, has_id, body) = asked(Method::HEAD, path).await;
            assert_eq!((found.as_u16(), has_id, body.len()), (status, true, 0), "HEAD {path}");
        }
        assert_eq!(asked(Method::POST, "/").await.0, StatusCode::METHOD_NOT_ALLOWED);
    }
}
