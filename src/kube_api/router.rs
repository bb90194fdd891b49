//! The paths of the Kubernetes door.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Query, Request, State};
use axum::response::Response;
use http::{HeaderMap, Method, StatusCode};
use tokio_util::sync::CancellationToken;

use super::discovery::{self, DiscoveryForm};
use super::relay::Until;
use super::resource::{self, Target};
use super::{openapi, respond, transfer};
use crate::api::{GROUP, Kind, VERSION};
use crate::auth::{Authenticator, Authorizer, Caller, Peer};
use crate::error::Error;
use crate::registry::Registry;
use crate::relay::{Relay, Turn};

/// What the door needs.
#[derive(Debug, Clone)]
pub struct App {
    /// The verbs.
    pub registry: Arc<Registry>,
    /// Who may be who.
    pub authenticator: Authenticator,
    /// Who may do what, beside the manager rules.
    pub authorizer: Authorizer,
    /// Who answers what is asked about resources, where there are several servers; `None`: this one.
    pub relay: Option<Arc<dyn Relay>>,
    /// Whether the server is ready to be sent requests.
    pub ready: tokio::sync::watch::Receiver<bool>,
    /// Cancelled when the server stops: watches end then.
    pub stop: CancellationToken,
}

/// The Kubernetes door. Who asks is whose certificate is the [`Peer`] (in an `Arc`) among a request's extensions, if
/// it has one; without, it is whoever the headers say, or nobody.
pub fn router(app: App) -> Router {
    // Shared as one: it is cloned for each request.
    Router::new().fallback(serve).with_state(Arc::new(app))
}

async fn serve(State(app): State<Arc<App>>, request: Request) -> Response {
    let head = request.method() == Method::HEAD;
    let mut response = match answer(&app, request).await {
        Ok(response) => response,
        Err(error) => respond::error(&error),
    };
    if head {
        *response.body_mut() = axum::body::Body::empty();
    }
    response
}

async fn answer(app: &App, request: Request) -> Result<Response, Error> {
    let mut query = Vec::new();
    if request.uri().query().is_some() {
        let read = Query::<Vec<(String, String)>>::try_from_uri(request.uri());
        Query(query) = read.map_err(|e| Error::BadRequest(format!("the query can't be read: {}", e.body_text())))?;
    }
    let peer = request.extensions().get::<Arc<Peer>>().map(|peer| &**peer);
    let caller = app.authenticator.authenticate(peer, request.headers()).await?;
    let path = request.uri().path();
    if let Some(target) = target(path)? {
        return match &app.relay {
            None => here(app, caller, target, query, request, Until::new(app.stop.clone(), None)).await,
            Some(relay) => match relay.turn(&caller, request).await? {
                Turn::Elsewhere(response) => Ok(response),
                Turn::Here(request, term) => {
                    let until = Until::new(app.stop.clone(), Some(term.stay()));
                    let answer = here(app, caller, target, query, request, until).await;
                    term.holds().and(answer)
                }
            },
        };
    }
    app.authorizer.authorize_path(&caller, request.method(), path).await?;
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Err(if path == transfer::BACKUP || is_document(path) {
            let message = "the server does not allow this method on the requested resource".to_owned();
            Error::MethodNotAllowed { kind: None, message }
        } else {
            Error::NoSuchPath
        });
    }
    if path == transfer::BACKUP {
        return transfer::backup(app, &caller).await;
    }
    document(app, path, request.headers())
}

/// Answers what is asked about a resource.
async fn here(
    app: &App,
    caller: Caller,
    target: Target,
    query: Vec<(String, String)>,
    request: Request,
    until: Until,
) -> Result<Response, Error> {
    let caller = app.authenticator.with_sight(caller).await?;
    Ok(resource::serve(app, caller, target, query, request, until).await)
}

/// What a path names, if it is of a resource.
fn target(path: &str) -> Result<Option<Target>, Error> {
    let Some(rest) = path.strip_prefix("/apis/").and_then(|p| p.strip_prefix(GROUP)).and_then(|p| p.strip_prefix('/'))
    else {
        return Ok(None);
    };
    let Some(rest) = rest.strip_prefix(VERSION).and_then(|p| p.strip_prefix('/')).filter(|p| !p.is_empty()) else {
        return Ok(None);
    };
    let mut parts = rest.strip_suffix('/').unwrap_or(rest).split('/');
    let kind = parts.next().and_then(Kind::from_plural).ok_or(Error::NoSuchPath)?;
    let name = parts.next().map(decode).transpose()?;
    let status = match parts.next() {
        None => false,
        Some("status") if kind.has_status_subresource() => true,
        // Kube's words for a subresource that there isn't.
        Some(_) => return Err(Error::NotFound { kind, name: name.unwrap_or_default() }),
    };
    if parts.next().is_some() {
        return Err(Error::NotFound { kind, name: name.unwrap_or_default() });
    }
    Ok(Some(Target { kind, name, status }))
}

/// A percent-decoded path segment.
fn decode(segment: &str) -> Result<String, Error> {
    let bad = || Error::BadRequest(format!("the path segment {segment:?} is not percent-encoded UTF-8"));
    let bytes = segment.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        if *byte == b'%' {
            let digits = segment.get(at + 1..at + 3).filter(|d| !d.starts_with('+')).ok_or_else(bad)?;
            out.push(u8::from_str_radix(digits, 16).map_err(|_| bad())?);
            at += 3;
        } else {
            out.push(*byte);
            at += 1;
        }
    }
    String::from_utf8(out).map_err(|_| bad())
}

const V3: &str = "/openapi/v3/apis/imagehub.sealos.io/v1";

fn is_document(path: &str) -> bool {
    let path = path.strip_suffix('/').unwrap_or(path);
    matches!(
        path,
        "" | "/api"
            | "/apis"
            | "/apis/imagehub.sealos.io"
            | "/apis/imagehub.sealos.io/v1"
            | "/version"
            | "/openapi/v2"
            | "/openapi/v3"
            | V3
            | "/healthz"
            | "/livez"
            | "/readyz"
    )
}

/// What is served that is no resource: for everybody, as with kube's `system:public-info-viewer` and
/// `system:discovery`.
fn document(app: &App, path: &str, headers: &HeaderMap) -> Result<Response, Error> {
    const JSON: &str = "application/json";
    let accept = headers.get(http::header::ACCEPT).and_then(|v| v.to_str().ok());
    let form = discovery::negotiate_discovery(accept);
    let aggregated = match form {
        DiscoveryForm::Legacy => JSON,
        other => other.content_type(),
    };
    Ok(match path.strip_suffix('/').unwrap_or(path) {
        "" => respond::document(headers, &index(), JSON),
        "/api" => respond::document(headers, discovery::api(form), aggregated),
        "/api/v1" => respond::document(headers, discovery::core_resources(), JSON),
        "/apis" => respond::document(headers, discovery::apis(form), aggregated),
        "/apis/imagehub.sealos.io" => respond::document(headers, discovery::group(), JSON),
        "/apis/imagehub.sealos.io/v1" => respond::document(headers, discovery::resources(), JSON),
        "/version" => respond::document(headers, discovery::version(), JSON),
        "/openapi/v2" => match accept {
            None => respond::document(headers, openapi::v2_document(), JSON),
            Some(accept) if accept.contains("json") || accept.contains("*/*") => {
                respond::document(headers, openapi::v2_document(), JSON)
            }
            Some(accept) if accept.contains(openapi::V2_PROTOBUF) => {
                respond::document(headers, openapi::v2_protobuf(), openapi::V2_PROTOBUF_ANSWER)
            }
            Some(_) => return Err(Error::NotAcceptable("/openapi/v2 is served as application/json".to_owned())),
        },
        "/openapi/v3" => respond::document(headers, openapi::v3_index(), JSON),
        V3 => respond::document(headers, openapi::v3_document(), JSON),
        "/healthz" | "/livez" => respond::plain(StatusCode::OK, "ok"),
        "/readyz" if *app.ready.borrow() => respond::plain(StatusCode::OK, "ok"),
        "/readyz" => respond::plain(StatusCode::SERVICE_UNAVAILABLE, "not ready: starting or stopping"),
        _ => return Err(Error::NoSuchPath),
    })
}

/// What there is, as kube's `/` lists it.
fn index() -> openapi::Document {
    openapi::Document::json(&serde_json::json!({ "paths": [
        "/api", "/api/v1", "/apis", "/apis/imagehub.sealos.io", "/apis/imagehub.sealos.io/v1", "/healthz", "/livez", "/openapi/v2",
        "/openapi/v3", V3, "/readyz", "/version",
    ] }))
}
