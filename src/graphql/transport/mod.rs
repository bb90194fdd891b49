//! GraphQL over HTTP, WebSocket and server-sent events, as their specifications have it.
//!
//! Nothing here is anybody's identity but the Authorization header, or what `connection_init` says in its place; a POST
//! must be `application/json`, which no page of another site can send without asking first. Behind TLS, where replicas
//! send mutations on to one another, it may also be a client certificate: that a browser would show one by itself changes
//! nothing, since pages of other sites are not let read, nor write.

mod documents;
mod execute;
mod graphiql;
mod negotiate;
mod params;
mod respond;
mod sse;
mod websocket;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any_service, get};
use futures::FutureExt as _;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ALLOW, CONTENT_TYPE, UPGRADE, VARY,
};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use tokio::sync::Semaphore;

use super::error::server_error;
use super::{Limits, Shared};
use crate::auth::{Caller, Peer};
use crate::error::Error;
use crate::gateway::{self, App};
use crate::model::ErrorCode;
use crate::relay::{Relay, Turn};
use execute::{Asked, Outcome};
use negotiate::Media;
use params::Params;
use respond::refused;

pub use documents::TrustedDocuments;
pub(super) use respond::body;
pub use websocket::{LARGEST_MESSAGE, OPERATIONS};

/// The most connections by `WebSocket` at a time: they have left the listener, which counts the others.
pub const SOCKETS: usize = 4096;
/// The most operations that go on at a time, over all connections.
pub const STREAMS: usize = 16_384;
/// What the subscriptions that go on take at most together, in bytes: their documents and variables, above all.
pub const STREAM_BYTES: usize = 512 * 1024 * 1024;
/// How long an operation may take to tell how far it has come when the server stops.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How long a browser may go by what it was told of who may ask.
const PREFLIGHT_SECONDS: &str = "600";

/// What pages of other sites may read of an answer's headers.
const EXPOSED: &str = "imagehub-revision, imagehub-search-revision, etag, retry-after, ratelimit, ratelimit-policy";

const METHODS: &str = "GET, HEAD, POST, OPTIONS";

/// What the transport keeps.
pub(super) struct State {
    documents: documents::Documents,
}

impl Shared {
    pub(super) fn new(app: App, documents: TrustedDocuments, limits: Limits) -> Self {
        Self {
            app,
            limits,
            schema: super::schema(),
            transport: State { documents: documents::Documents::new(documents) },
            streams: Arc::new(Semaphore::new(STREAMS)),
            stream_room: Arc::new(Semaphore::new(STREAM_BYTES / 1024)),
            sockets: Arc::new(Semaphore::new(SOCKETS)),
        }
    }
}

/// The door's paths: `/graphql` and what its page loads. `documents` are those that clients name instead of sending them;
/// `limits` is what one request may ask for.
pub fn router(app: App, documents: TrustedDocuments, limits: Limits) -> Router {
    let shared = Arc::new(Shared::new(app, documents, limits));
    let all = tower::service_fn(move |request| answer(Arc::clone(&shared), request).map(Ok::<_, Infallible>));
    Router::new().route("/graphql", any_service(all)).route("/graphql/page/{file}", get(graphiql::file))
}

async fn answer(shared: Arc<Shared>, request: Request<Body>) -> Response {
    let headers = request.headers();
    let allowed = shared.app.origins.allowed(headers);
    let mut response = match *request.method() {
        Method::OPTIONS => preflight(&shared, headers),
        Method::GET | Method::HEAD if headers.contains_key(UPGRADE) => {
            Box::pin(websocket::upgrade(shared, request)).await
        }
        Method::GET | Method::HEAD if request.uri().query().is_none() && negotiate::wants_page(headers) => {
            graphiql::page()
        }
        Method::GET | Method::HEAD | Method::POST => operate(&shared, request).await,
        _ => {
            let error = server_error(ErrorCode::Invalid, format!("/graphql takes {METHODS}"));
            let mut response = refused(StatusCode::METHOD_NOT_ALLOWED, Media::Json, &error);
            response.headers_mut().insert(ALLOW, HeaderValue::from_static(METHODS));
            response
        }
    };
    let headers = response.headers_mut();
    headers.entry(VARY).or_insert(HeaderValue::from_static("Origin"));
    if let Some(origin) = allowed {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
    }
    response
}

fn preflight(shared: &Shared, headers: &HeaderMap) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(METHODS));
    if shared.app.origins.allowed(headers).is_some() {
        let wanted = "authorization, content-type, imagehub-min-revision, if-none-match";
        for (name, value) in [
            (ACCESS_CONTROL_ALLOW_METHODS, "GET, POST"),
            (ACCESS_CONTROL_ALLOW_HEADERS, wanted),
            (ACCESS_CONTROL_MAX_AGE, PREFLIGHT_SECONDS),
        ] {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
    }
    response
}

/// Counts a request, and answers it.
async fn operate(shared: &Arc<Shared>, request: Request<Body>) -> Response {
    let peer = request.extensions().get::<Arc<Peer>>().cloned();
    // A future is moved before it is waited for: what is needed for a part of the way is apart.
    let caller = Box::pin(caller(shared, peer.as_deref(), request.headers())).await;
    let (rate, taken) = shared.app.rates.take(caller.as_ref().ok());
    let mut response = match taken {
        Ok(()) => counted(shared, caller, request).await,
        Err(too_many) => respond::too_many(&too_many, negotiate::media(request.headers())),
    };
    rate.tell(response.headers_mut());
    response
}

async fn counted(shared: &Arc<Shared>, caller: Result<Caller, Error>, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let headers = &parts.headers;
    let Some(media) = negotiate::media(headers) else {
        let message = "answers are application/json, application/graphql-response+json or text/event-stream";
        return refused(StatusCode::NOT_ACCEPTABLE, Media::Json, &server_error(ErrorCode::Invalid, message));
    };
    // What is refused before there is a stream is JSON.
    let form = if media == Media::EventStream { Media::Json } else { media };
    let posted = parts.method == Method::POST;
    if posted && !is_json(headers) {
        let message = "a POST to /graphql is Content-Type: application/json";
        let error = server_error(ErrorCode::Invalid, message);
        return refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, form, &error);
    }
    let caller = match caller {
        Ok(caller) => caller,
        Err(error) => return respond::failed(&error, form),
    };
    let demanded = match gateway::reach(&shared.app.registry, headers).await {
        Ok(demanded) => demanded,
        Err(error) => return respond::failed(&error, form),
    };
    let mut sent = bytes::Bytes::new();
    if posted {
        match gateway::read_body(headers, body).await {
            Ok(body) => sent = body,
            Err((status, message)) => {
                let code =
                    if status == StatusCode::PAYLOAD_TOO_LARGE { ErrorCode::LimitExceeded } else { ErrorCode::Invalid };
                return refused(status, form, &server_error(code, message));
            }
        }
    }
    let reader = shared.app.registry.reader(&caller);
    let line = parts.uri.query().unwrap_or_default().as_bytes();
    let words = if posted { [b"graphql body".as_slice(), &sent] } else { [b"graphql line".as_slice(), line] };
    let words = gateway::Question::new(&words, &caller, &reader.visible);
    if media != Media::EventStream
        && let Some(words) = &words
        && let Some(outcome) = execute::recall(shared, words, &reader.visible, &caller)
    {
        return respond::outcome(outcome, media, &parts.method, headers);
    }
    let view = execute::view_of(shared, reader, &caller, demanded);
    let params = if posted { Params::from_body(&sent) } else { Params::from_uri(&parts.uri) };
    let params = match params {
        Ok(params) => params,
        Err(message) => return refused(StatusCode::BAD_REQUEST, form, &server_error(ErrorCode::Invalid, message)),
    };
    let asked = Asked { params, caller, writes: posted, demanded };
    if media == Media::EventStream {
        return sse::respond(shared, &asked);
    }
    let outcome = if let Some(relay) = &shared.app.relay
        && posted
        && execute::is_mutation(shared, &asked)
    {
        let request = Request::from_parts(parts.clone(), Body::from(sent));
        match Box::pin(in_turn(shared, &**relay, &asked, request)).await {
            Ok(Done::Here(outcome)) => outcome,
            Ok(Done::Elsewhere(response)) => return response,
            Err(error) => return respond::failed(&error, form),
        }
    } else {
        Box::pin(execute::execute(shared, &asked, view)).await
    };
    if let (Outcome::Kept { answer, .. }, Some(words)) = (&outcome, words) {
        shared.app.answers.note(words, answer);
    }
    respond::outcome(outcome, media, &parts.method, headers)
}
/// What became of a mutation where there are several servers.
enum Done {
    Here(Outcome),
    Elsewhere(Response),
}

/// Executes a mutation, or has it executed by the server whose turn it is.
async fn in_turn(
    shared: &Arc<Shared>,
    relay: &dyn Relay,
    asked: &Asked,
    request: Request<Body>,
) -> Result<Done, Error> {
    match relay.turn(&asked.caller, request).await? {
        Turn::Elsewhere(response) => Ok(Done::Elsewhere(response)),
        Turn::Here(_, term) => {
            let view = execute::view(shared, &asked.caller, asked.demanded);
            let outcome = execute::execute(shared, asked, view).await;
            term.holds()?;
            Ok(Done::Here(outcome))
        }
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(CONTENT_TYPE) else { return false };
    // What nearly all send need not be parsed.
    if value == "application/json" {
        return true;
    }
    let value = value.to_str().unwrap_or_default();
    let Ok(mime) = value.parse::<mime::Mime>() else { return false };
    let utf8 = mime.get_param(mime::CHARSET).is_none_or(|charset| charset == mime::UTF_8);
    mime.essence_str() == "application/json" && utf8
}

/// Who asks.
async fn caller(shared: &Shared, peer: Option<&Peer>, headers: &HeaderMap) -> Result<Caller, Error> {
    gateway::caller(&shared.app.authenticator, shared.app.anonymous, peer, headers).await
}
