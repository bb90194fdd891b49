//! Answers, as HTTP has them.

use async_graphql::{Response as GraphqlResponse, ServerError, Value};
use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH, RETRY_AFTER, VARY, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde::Serialize;

use super::execute::{Done, Outcome};
use super::negotiate::Media;
use crate::error::Error;
use crate::gateway::{
    Answer, Coding, REVISION, SEARCH_REVISION, TooMany, USUAL_HEADERS, VARY_KEPT, is_tag, names_tag, tag_value,
};
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
pub(in crate::graphql) fn body(response: &GraphqlResponse) -> Bytes {
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
fn done(done: &Done, media: Media) -> Response {
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

/// An answer to a client that has made all of its requests.
pub(super) fn too_many(too_many: &TooMany, media: Option<Media>) -> Response {
    let error = server_error(ErrorCode::RateLimited, &too_many.detail);
    let media = media.filter(|media| *media != Media::EventStream).unwrap_or(Media::Json);
    let mut response = refused(StatusCode::TOO_MANY_REQUESTS, media, &error);
    response.headers_mut().insert(RETRY_AFTER, too_many.wait_seconds.into());
    response
}

/// The answer to what was asked by GET or POST.
pub(super) fn outcome(outcome: Outcome, media: Media, method: &Method, request: &HeaderMap) -> Response {
    match outcome {
        Outcome::Kept { answer, revision, searched, signed_in } => {
            let mut response = kept(&answer, revision, signed_in, media, method, request);
            if let Some(searched) = searched {
                response.headers_mut().insert(SEARCH_REVISION, searched.0.into());
            }
            response
        }
        Outcome::Done(done) => self::done(&done, media),
        Outcome::Refused { status, error } => {
            // Who asks by the older form finds what is wrong with a query in a 200.
            let status = match (status, media) {
                (Some(status), _) => status,
                (None, Media::Json) => StatusCode::OK,
                (None, _) => StatusCode::BAD_REQUEST,
            };
            let mut response = refused(status, media, &error);
            if status == StatusCode::METHOD_NOT_ALLOWED {
                response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
            }
            response
        }
    }
}

fn revision_value(revision: Revision) -> HeaderValue {
    revision.0.into()
}

/// A whole answer without errors: by GET one that caches may keep, if they ask each time whether it is still right.
fn kept(
    answer: &Answer,
    revision: Revision,
    signed_in: bool,
    media: Media,
    method: &Method,
    request: &HeaderMap,
) -> Response {
    let by_get = *method != Method::POST;
    let (body, coding) = answer.body_in(Coding::accepted(request));
    let etag = by_get.then(|| tag(&answer.etag, media));
    let same = etag.as_ref().is_some_and(|etag| names_tag(request, IF_NONE_MATCH, |name| is_tag(name, etag)));
    let mut response = if same {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let mut response = Response::new(Body::from(body.clone()));
        let headers = response.headers_mut();
        headers.reserve(USUAL_HEADERS);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(media.as_str()));
        if let Some(coding) = coding {
            coding.tell(headers);
        }
        response
    };
    let headers = response.headers_mut();
    headers.insert(REVISION, revision_value(revision));
    if let Some(etag) = etag {
        let etag = coding.map_or_else(|| etag.clone(), |coding| coding.tag(&etag));
        headers.insert(ETAG, tag_value(&etag));
        let control = if signed_in { "private, no-cache" } else { "public, no-cache" };
        headers.insert(CACHE_CONTROL, HeaderValue::from_static(control));
        headers.insert(VARY, VARY_KEPT);
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
