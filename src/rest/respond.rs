//! Answers, as HTTP has them: entity tags, one strong one an encoding; 304 before anything is written; gzip where it is
//! worth it; who may keep them.

use std::io::Write as _;

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, IF_NONE_MATCH, LINK, LOCATION, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::gateway::{Answer, REVISION, SEARCH_REVISION, names_tag};
use crate::graph::Revision;

/// From this size on a body is compressed where the client takes gzip, in bytes.
const COMPRESS_FROM: usize = 8 * 1024;

/// What a tag of a compressed answer ends in, before the quote.
const GZIP: &str = "-gzip";

/// What a request says that decides the form of its answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Told<'a> {
    pub(super) signed_in: bool,
    pub(super) headers: &'a HeaderMap,
}

/// Whether `tag`, as a client sent it, names the answer with the tag `etag`, in whatever encoding.
pub(super) fn is_tag(tag: &str, etag: &str) -> bool {
    let tag = tag.strip_prefix("W/").unwrap_or(tag);
    let plain = tag.strip_suffix('"').map(|tag| tag.strip_suffix(GZIP).unwrap_or(tag));
    plain.is_some() && plain == etag.strip_suffix('"')
}

/// Whether the client has this answer.
pub(super) fn has(headers: &HeaderMap, etag: &str) -> bool {
    names_tag(headers, IF_NONE_MATCH, |tag| is_tag(tag, etag))
}

fn takes_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|clause| {
        let (coding, quality) = clause.split_once(';').unwrap_or((clause, ""));
        let refused = quality.trim().strip_prefix("q=").and_then(|q| q.parse::<f32>().ok()) == Some(0.0);
        matches!(coding.trim(), "gzip" | "x-gzip" | "*") && !refused
    })
}

fn compressed(body: &[u8]) -> Option<Bytes> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    encoder.write_all(body).ok()?;
    encoder.finish().ok().map(Bytes::from)
}

/// The answer to a GET: 304 for a client that has it.
pub(super) fn read(
    answer: &Answer,
    media: &'static str,
    revision: Revision,
    searched: Option<Revision>,
    told: Told<'_>,
) -> Response {
    let packs = answer.body.len() >= COMPRESS_FROM && takes_gzip(told.headers);
    let etag = if packs { format!("{}{GZIP}\"", answer.etag.trim_end_matches('"')) } else { answer.etag.clone() };
    let mut response = if has(told.headers, &answer.etag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let packed = packs.then(|| compressed(&answer.body)).flatten();
        let mut response = Response::new(Body::from(packed.clone().unwrap_or_else(|| answer.body.clone())));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if packed.is_some() {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        if let Some(link) = &answer.link {
            headers.insert(LINK, link.clone());
        }
        response
    };
    let headers = response.headers_mut();
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        headers.insert(ETAG, etag);
    }
    let control = if told.signed_in { "private, no-cache" } else { "public, no-cache" };
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(control));
    headers.append(VARY, HeaderValue::from_static("Accept, Accept-Encoding, Authorization"));
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
    if let Some(etag) = etag.and_then(|etag| HeaderValue::from_str(etag).ok()) {
        headers.insert(ETAG, etag);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_names_its_answer_in_each_encoding() {
        for (tag, is) in [
            ("\"a\"", true),
            ("W/\"a\"", true),
            ("\"a-gzip\"", true),
            ("\"b\"", false),
            ("a", false),
            ("\"a-br\"", false),
            ("", false),
        ] {
            assert_eq!(is_tag(tag, "\"a\""), is, "{tag}");
        }
    }

    #[test]
    fn gzip_is_taken_unless_it_is_refused() {
        let takes = |value: &'static str| {
            takes_gzip(&HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static(value))]))
        };
        assert!(takes("gzip") && takes("br, gzip;q=0.5") && takes("*"));
        assert!(!takes("br") && !takes("gzip;q=0") && !takes(""));
    }
}
