//! Answers, as HTTP has them: entity tags, one strong one a coding; 304 before anything is written; compressed where it
//! is worth it; who may keep them.

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH, LINK, LOCATION, VARY, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::gateway::{
    Answer, Coding, REVISION, SEARCH_REVISION, USUAL_HEADERS, VARY_KEPT, is_tag, names_tag, tag_value,
};
use crate::graph::Revision;

/// What a request says that decides the form of its answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Told<'a> {
    pub(super) signed_in: bool,
    pub(super) headers: &'a HeaderMap,
}

/// Whether the client has this answer.
pub(super) fn has(headers: &HeaderMap, etag: &str) -> bool {
    names_tag(headers, IF_NONE_MATCH, |tag| is_tag(tag, etag))
}

/// The answer to a GET: 304 for a client that has it.
pub(super) fn read(
    answer: &Answer,
    media: &'static str,
    revision: Revision,
    searched: Option<Revision>,
    told: Told<'_>,
) -> Response {
    let (body, coding) = answer.body_in(Coding::accepted(told.headers));
    let etag = coding.map_or_else(|| answer.etag_value.clone(), |coding| tag_value(&coding.tag(&answer.etag)));
    let mut response = if has(told.headers, &answer.etag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let mut response = Response::new(Body::from(body.clone()));
        let headers = response.headers_mut();
        headers.reserve(USUAL_HEADERS);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if let Some(coding) = coding {
            coding.tell(headers);
        }
        if let Some(link) = &answer.link {
            headers.insert(LINK, link.clone());
        }
        response
    };
    let headers = response.headers_mut();
    headers.insert(ETAG, etag);
    let control = if told.signed_in { "private, no-cache" } else { "public, no-cache" };
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(control));
    headers.insert(VARY, VARY_KEPT);
    headers.insert(REVISION, revision.0.into());
    if let Some(searched) = searched {
        headers.insert(SEARCH_REVISION, searched.0.into());
    }
    response
}

/// The answer to a write: what was written, as a GET would show it.
pub(super) fn written(status: StatusCode, body: Bytes, etag: Option<&str>, revision: Revision) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(super::JSON));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REVISION, revision.0.into());
    if let Some(etag) = etag {
        headers.insert(ETAG, tag_value(etag));
    }
    response
}

/// An answer without a body.
pub(super) fn empty(status: StatusCode, revision: Revision) -> Response {
    let mut response = status.into_response();
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().insert(REVISION, revision.0.into());
    response
}

/// Says where what was made is.
pub(super) fn at(mut response: Response, location: &str) -> Response {
    if let Ok(location) = HeaderValue::from_str(location) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}
