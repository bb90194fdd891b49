//! Answers, as HTTP has them.

use async_graphql::{Response as GraphqlResponse, ServerError, Value};
use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH, RETRY_AFTER, VARY, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde::Serialize;

use super::REVISION;
use super::cache::Answer;
use super::execute::Done;
use super::negotiate::Media;
use crate::error::Error;
use crate::graph::Revision;
use crate::graphql::error::server_error;
use crate::model::{ErrorCode, faults};

/// An answer's body. One that failed before it was executed has no data, not even null.
#[derive(Serialize)]
struct Payload<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a Value>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [ServerError],
}

/// Whether an operation was refused before any of it was executed.
pub(super) fn was_refused(response: &GraphqlResponse) -> bool {
    response.data == Value::Null && !response.errors.is_empty() && response.errors.iter().all(|e| e.path.is_empty())
}

/// The body of an answer.
pub(super) fn body(response: &GraphqlResponse) -> Bytes {
    let data = (!was_refused(response)).then_some(&response.data);
    let body = Payload { data, errors: &response.errors };
    serde_json::to_vec(&body).expect("an answer has only string keys").into()
}

fn errors_only(error: &ServerError) -> Bytes {
    let body = Payload { data: None, errors: std::slice::from_ref(error) };
    serde_json::to_vec(&body).expect("an error has only string keys").into()
}

/// An answer to what was refused before it was executed.
pub(super) fn refused(status: StatusCode, media: Media, error: &ServerError) -> Response {
    let mut response = (status, errors_only(error)).into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media.as_str()));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The sentence of an error, and its code.
pub(super) fn in_words(error: &Error) -> ServerError {
    let message = match error {
        Error::ResourceVersionTooLarge { asked, current } => {
            format!("revision {asked} has not been reached here; the newest is {current}")
        }
        Error::Unauthorized(message) if message == "Unauthorized" => {
            "the token is not one of ours, or no good any more".to_owned()
        }
        other => faults(other).into_iter().map(|fault| fault.message).collect::<Vec<_>>().join("; "),
    };
    server_error(ErrorCode::of(error), message)
}

/// An answer to a request that the door itself refuses.
pub(super) fn failed(error: &Error, media: Media) -> Response {
    let status = match error {
        Error::ResourceVersionTooLarge { .. } => 503,
        other => other.code(),
    };
    if let Error::Internal(cause) = error {
        tracing::error!(%cause, "a GraphQL request failed");
    }
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = refused(status, media, &in_words(error));
    if let Some(wait) = error.retry_after() {
        response.headers_mut().insert(RETRY_AFTER, wait.as_secs().into());
    }
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// An operation's answer that is not kept.
pub(super) fn done(done: &Done, media: Media) -> Response {
    let refused = was_refused(&done.response);
    let status = match (done.limited, refused, media) {
        (true, ..) => StatusCode::TOO_MANY_REQUESTS,
        (false, true, Media::GraphqlResponse) => StatusCode::BAD_REQUEST,
        _ => StatusCode::OK,
    };
    let mut response = (status, body(&done.response)).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media.as_str()));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(REVISION, revision_value(done.revision));
    if done.limited {
        headers.insert(RETRY_AFTER, 60.into());
    }
    response
}

fn revision_value(revision: Revision) -> HeaderValue {
    revision.0.into()
}

/// A whole answer without errors: by GET one that caches may keep, if they ask each time whether it is still right.
pub(super) fn kept(
    answer: &Answer,
    revision: Revision,
    signed_in: bool,
    media: Media,
    method: &Method,
    request: &HeaderMap,
) -> Response {
    let by_get = *method != Method::POST;
    let same = by_get && request.get_all(IF_NONE_MATCH).iter().any(|tags| names(tags, &answer.etag, media));
    let mut response = if same {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let mut response = Response::new(Body::from(answer.body.clone()));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media.as_str()));
        response
    };
    let headers = response.headers_mut();
    headers.insert(REVISION, revision_value(revision));
    if by_get {
        if let Ok(etag) = HeaderValue::from_str(&tag(&answer.etag, media)) {
            headers.insert(ETAG, etag);
        }
        let control = if signed_in { "private, no-cache" } else { "public, no-cache" };
        headers.insert(CACHE_CONTROL, HeaderValue::from_static(control));
        headers.append(VARY, HeaderValue::from_static("Accept, Authorization"));
    } else {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}

/// One strong tag a form: the bytes are the same, but not what they are said to be.
fn tag(etag: &str, media: Media) -> String {
    match media {
        Media::GraphqlResponse => format!("{}-g\"", etag.trim_end_matches('"')),
        _ => etag.to_owned(),
    }
}

fn names(tags: &HeaderValue, etag: &str, media: Media) -> bool {
    let wanted = tag(etag, media);
    let mut tags = tags.to_str().unwrap_or_default().split(',').map(str::trim);
    tags.any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == wanted)
}
