//! From a request to its answer: the path, the method, who asks, the query; then what it is about.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{FromRequestParts as _, RawPathParams};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, any_service, get};
use futures::FutureExt as _;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ALLOW, IF_MATCH, IF_NONE_MATCH, VARY,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use tokio::sync::Semaphore;

use super::contract::{BASE, Endpoint, LONGEST_HEADER, ROUTES, Route, query};
use super::problem::Problem;
use super::query::Params;
use super::{Shared, apply, events, openapi, page, read, respond, watch, write};
use crate::auth::{Caller, Peer};
use crate::error::Error;
use crate::gateway::{self, App, View, Writing};
use crate::model::{ErrorCode, Fault};
use crate::relay::Turn;

/// How long a browser may go by what it was told of who may ask.
const PREFLIGHT_SECONDS: &str = "600";
const EXPOSED: &str = "imagehub-revision, imagehub-search-revision, etag, link, location, retry-after, ratelimit, ratelimit-policy, \
                       preference-applied";
const TAKEN: &str =
    "authorization, content-type, imagehub-min-revision, if-match, if-none-match, prefer, last-event-id";

/// The door's paths.
#[derive(Debug, Clone)]
pub struct Doors {
    /// All under `/api/v1`, and the page that shows them at `/docs`: for clients.
    pub all: Router,
    /// Those that are written to: where replicas send on to one another what they are asked for.
    pub written: Router,
}

/// The door's paths.
pub fn router(app: App) -> Doors {
    let streams = Arc::new(Semaphore::new(watch::STREAMS));
    let shared = Arc::new(Shared { app, streams });
    let (mut all, mut written) = (Router::new(), Router::new());
    for route in &ROUTES {
        let path = format!("{BASE}{}", route.path);
        let method = answering(&shared, Some(route));
        if route.methods.iter().any(|method| writes(route.endpoint, method)) {
            written = written.route(&path, method.clone());
        }
        all = all.route(&path, method);
    }
    let nowhere = answering(&shared, None);
    let all = all
        .route(BASE, nowhere.clone())
        .route(&format!("{BASE}/"), nowhere.clone())
        .route(&format!("{BASE}/{{*path}}"), nowhere)
        .route("/docs", get(page::page))
        .route("/docs/{file}", get(page::file));
    Doors { all, written }
}

/// What answers at a route, with every method. A handler of axum's would put a larger future into its box.
fn answering(shared: &Arc<Shared>, route: Option<&'static Route>) -> MethodRouter {
    let shared = Arc::clone(shared);
    any_service(tower::service_fn(move |request| answer(Arc::clone(&shared), route, request).map(Ok::<_, Infallible>)))
}

/// Whether a request of this method writes.
fn writes(endpoint: Endpoint, method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD) && endpoint != Endpoint::Resolve
}

/// A request that is being answered.
pub(super) struct Call {
    pub(super) shared: Arc<Shared>,
    pub(super) endpoint: Endpoint,
    pub(super) method: Method,
    /// What the path's parameters are.
    pub(super) names: Vec<String>,
    pub(super) params: Params,
    pub(super) caller: Caller,
    pub(super) headers: HeaderMap,
    pub(super) uri: Uri,
}

impl Call {
    /// What the caller sees now.
    pub(super) fn view(&self) -> View {
        let App { registry, search, .. } = &self.shared.app;
        View::with_search(registry.reader(&self.caller), self.caller.clone(), search.clone(), None)
    }

    /// What the caller writes with.
    pub(super) fn writing(&self) -> Writing<'_> {
        let App { registry, authorizer, .. } = &self.shared.app;
        Writing { registry, authorizer, caller: &self.caller }
    }

    fn name(&self, at: usize) -> &str {
        self.names.get(at).map_or("", String::as_str)
    }

    /// The full name of the image that the path names.
    pub(super) fn image_name(&self) -> String {
        format!("{}/{}:{}", self.name(0), self.name(1), self.name(2))
    }

    /// The full name of the repository that the path names.
    pub(super) fn repository_name(&self) -> String {
        format!("{}/{}", self.name(0), self.name(1))
    }

    /// The first name of the path: an organization's, or a pack's.
    pub(super) fn first_name(&self) -> &str {
        self.name(0)
    }

    /// Whether only to tell what would become of it.
    pub(super) fn dry_run(&self) -> bool {
        self.params.flag("dryRun") == Some(true)
    }
}

async fn answer(shared: Arc<Shared>, route: Option<&'static Route>, request: Request<Body>) -> Response {
    let app = &shared.app;
    let allowed = app.origins.allowed(request.headers());
    let mut response = if let (&Method::OPTIONS, Some(route)) = (request.method(), route) {
        preflight(&shared, route, request.headers())
    } else {
        let peer = request.extensions().get::<Arc<Peer>>().cloned();
        let caller = gateway::caller(&app.authenticator, app.anonymous, peer.as_deref(), request.headers());
        let caller = Box::pin(caller).await;
        let (rate, taken) = app.rates.take(caller.as_ref().ok());
        let mut response = match (taken, route, &caller) {
            (Err(too_many), ..) => Problem::too_many(too_many.detail, too_many.wait_seconds).into_response(),
            // What is kept is answered without room for all that other answers may have to wait for.
            (Ok(()), Some(route), Ok(caller))
                if let Some(kept) = watch::recalled(&shared, route.endpoint, caller, &request) =>
            {
                kept
            }
            (Ok(()), ..) => {
                let asked = Box::pin(asked(&shared, route, caller, request));
                asked.await.unwrap_or_else(Problem::into_response)
            }
        };
        rate.tell(response.headers_mut());
        response
    };
    let headers = response.headers_mut();
    headers.entry(VARY).or_insert(HeaderValue::from_static("Origin"));
    if let Some(origin) = allowed {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
    }
    response
}

/// The methods of a path, as an Allow header has them.
fn methods(route: &Route) -> String {
    let mut all = Vec::new();
    for method in route.methods {
        all.push(method.as_str());
        if *method == Method::GET {
            all.push("HEAD");
        }
    }
    all.push("OPTIONS");
    all.join(", ")
}

/// Answers a request that is counted. What isn't there isn't, whoever asks.
async fn asked(
    shared: &Arc<Shared>,
    route: Option<&'static Route>,
    caller: Result<Caller, Error>,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let Some(route) = route else {
        let detail = format!("nothing is served at this path; {BASE}/openapi.json tells what is");
        return Err(Problem::new(StatusCode::NOT_FOUND, ErrorCode::NotFound, detail));
    };
    let method = request.method();
    let read = if *method == Method::HEAD { Method::GET } else { method.clone() };
    if !route.methods.contains(&read) {
        return Err(Problem::method(&methods(route)));
    }
    let caller = caller?;
    // RFC 9110 section 15.5.2. A pack that nobody in particular makes is shared, and has its quota.
    if writes(route.endpoint, &read) && !caller.is_authenticated() && route.endpoint != Endpoint::Packs {
        return Err(Error::Unauthorized("sign in: send Authorization: Bearer and a token".to_owned()).into());
    }
    match &shared.app.relay {
        Some(relay) if writes(route.endpoint, &read) => match relay.turn(&caller, request).await? {
            Turn::Elsewhere(response) => Ok(response),
            Turn::Here(request, term) => {
                let (parts, body) = request.into_parts();
                let answered = here(shared, route.endpoint, &read, caller, parts, body).await;
                // What was done is told only while it is this server's to tell.
                term.holds()?;
                answered
            }
        },
        _ => {
            let (parts, body) = request.into_parts();
            here(shared, route.endpoint, &read, caller, parts, body).await
        }
    }
}

/// Answers a request that is this server's to answer; `read` is its method, GET for HEAD.
async fn here(
    shared: &Arc<Shared>,
    endpoint: Endpoint,
    read: &Method,
    caller: Caller,
    mut parts: Parts,
    body: Body,
) -> Result<Response, Problem> {
    bounded(&parts.headers)?;
    let names = RawPathParams::from_request_parts(&mut parts, &()).await;
    let names = names.map_err(|_| Problem::unreadable("the path is not percent-encoded UTF-8"))?;
    let names = names.iter().map(|(_, value)| value.to_owned()).collect();
    let params = Params::read(&parts.uri, query(endpoint, read))?;
    let demanded = gateway::reach(&shared.app.registry, &parts.headers).await?;
    if params.get("q").is_some_and(|text| !text.trim().is_empty()) {
        gateway::reach_search(shared.app.search.as_deref(), demanded).await?;
    }
    let (method, headers, uri) = (parts.method, parts.headers, parts.uri);
    let call = Call { shared: Arc::clone(shared), endpoint, method, names, params, caller, headers, uri };
    match (endpoint, read.as_str()) {
        (Endpoint::OpenApi, _) => Ok(openapi::answer(&call)),
        (Endpoint::Events, _) => events::answer(call).await,
        (_, "GET") => watch::answer(call).await,
        (Endpoint::Images, _) => apply::answer(&call, body).await,
        (Endpoint::Resolve, _) => read::resolve(&call, body).await,
        (Endpoint::Packs, _) => write::pack(&call, body).await,
        (_, "DELETE") => write::delete(&call).await,
        (_, verb) => write::put(&call, body, verb == "PUT").await,
    }
}

/// Refuses headers that are longer than the document says.
pub(super) fn bounded(headers: &HeaderMap) -> Result<(), Problem> {
    // None is longer, as a rule: then nothing has to be looked up by its name.
    if headers.values().all(|value| value.len() <= LONGEST_HEADER) {
        return Ok(());
    }
    for name in [gateway::MIN_REVISION, IF_MATCH, IF_NONE_MATCH, watch::PREFER, watch::LAST_EVENT_ID] {
        let longest = headers.get_all(&name).iter().map(HeaderValue::len).max().unwrap_or_default();
        if longest > LONGEST_HEADER {
            let message = format!("it has {longest} bytes; {LONGEST_HEADER} is the most (limit: header)");
            let fault = Fault::new(ErrorCode::LimitExceeded, message);
            return Err(Problem::parameter(StatusCode::BAD_REQUEST, name.as_str(), fault));
        }
    }
    Ok(())
}

fn preflight(shared: &Shared, route: &Route, headers: &HeaderMap) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let all = HeaderValue::from_str(&methods(route)).unwrap_or(HeaderValue::from_static("GET"));
    response.headers_mut().insert(ALLOW, all.clone());
    if shared.app.origins.allowed(headers).is_some() {
        response.headers_mut().insert(ACCESS_CONTROL_ALLOW_METHODS, all);
        let wanted: [(HeaderName, &str); 2] =
            [(ACCESS_CONTROL_ALLOW_HEADERS, TAKEN), (ACCESS_CONTROL_MAX_AGE, PREFLIGHT_SECONDS)];
        for (name, value) in wanted {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
    }
    response
}

/// The whole body, of those who may write at all: others don't get to send one.
pub(super) async fn body(call: &Call, body: Body, kind: Option<crate::api::Kind>) -> Result<bytes::Bytes, Problem> {
    if let Some(kind) = kind
        && !call.caller.is_authenticated()
    {
        call.shared.app.registry.authorize(&call.caller, crate::auth::Verb::Create, kind, "", "")?;
    }
    gateway::read_body(&call.headers, body).await.map_err(|(status, detail)| {
        let too_large = status == StatusCode::PAYLOAD_TOO_LARGE;
        let code = if too_large { ErrorCode::LimitExceeded } else { ErrorCode::Invalid };
        Problem::new(status, code, detail)
    })
}

/// The error of a token that is no good any more.
pub(super) fn ended(why: &str) -> Problem {
    Error::Unauthorized(why.to_owned()).into()
}

/// What is said of who may keep an answer.
pub(super) fn told(call: &Call) -> respond::Told<'_> {
    respond::Told { signed_in: call.caller.is_authenticated(), headers: &call.headers }
}
