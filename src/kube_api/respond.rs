//! Answers: bodies in the negotiated form and syntax, compressed where it is worth it.

use std::convert::Infallible;
use std::io::Write as _;
use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::stream;
use http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, IF_NONE_MATCH, RETRY_AFTER, VARY, WARNING,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue, StatusCode};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::negotiate::{Accepted, Form, Syntax};
use super::openapi::Document;
use super::params::Include;
use super::table;
use crate::api::{API_VERSION, GROUP, Kind};
use crate::error::Error;
use crate::graph::Record;
use crate::registry::{List, Reader, Written};

/// From this size on a body is compressed where the client takes gzip: kube-apiserver's own threshold.
const COMPRESS_FROM: usize = 128 * 1024;

/// About how much of a long body is made at a time.
const CHUNK: usize = 64 * 1024;

/// About the size of an object: what a piece of a list has room for from the start.
const ITEM: usize = 2 * 1024;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const YAML: HeaderValue = HeaderValue::from_static("application/yaml");

/// An error as `metav1.Status`. Its cause is logged here, and nowhere else.
pub(super) fn error(error: &Error) -> Response {
    if let Error::Internal(cause) = error {
        tracing::error!(%cause, "a request failed");
    }
    let code = StatusCode::from_u16(error.code()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if matches!(error, Error::NoSuchPath) {
        // Kube's answer where nothing is served at all, so that clients can tell it from an object that isn't there.
        return plain(code, "404 page not found\n");
    }
    let mut response = full(code, JSON, error.status_json().to_string());
    if let Some(wait) = error.retry_after() {
        response.headers_mut().insert(RETRY_AFTER, wait.as_secs().into());
    }
    if matches!(error, Error::Unauthorized(_)) {
        response.headers_mut().insert(http::header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// A line for people and probes.
pub(super) fn plain(status: StatusCode, text: &'static str) -> Response {
    let mut response = full(status, HeaderValue::from_static("text/plain; charset=utf-8"), text);
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn full(status: StatusCode, media: HeaderValue, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, media);
    // Answers are of this caller and this moment.
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// Bytes that are always the same, with their entity tag; 304 for a client that has them.
pub(super) fn document(headers: &HeaderMap, document: &Document, media: &'static str) -> Response {
    let known = headers.get_all(IF_NONE_MATCH).iter().filter_map(|v| v.to_str().ok());
    let known = known
        .flat_map(|v| v.split(','))
        .map(str::trim)
        .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == document.etag);
    let mut response = if known {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        full(StatusCode::OK, HeaderValue::from_static(media), document.bytes.clone())
    };
    let out = response.headers_mut();
    out.insert(VARY, HeaderValue::from_static("Accept"));
    out.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    if let Ok(tag) = HeaderValue::from_str(&document.etag) {
        out.insert(ETAG, tag);
    }
    response
}

/// A success without an object, as kube answers a deletion that is complete.
pub(super) fn deleted(accepted: Accepted, record: &Record) -> Response {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
        "details": {
            "name": record.name(), "group": GROUP, "kind": record.kind().plural(), "uid": record.uid(),
        },
    });
    body(accepted, StatusCode::OK, status.to_string().into_bytes())
}

/// One object.
pub(super) fn object(
    accepted: Accepted,
    include: Include,
    reader: &Reader,
    record: &Record,
    status: StatusCode,
    now: Timestamp,
) -> Response {
    let mut out = Vec::new();
    match accepted.form {
        Form::Object => reader.write_object(&mut out, record, record.revision),
        Form::Metadata => record.write_metadata(&mut out, record.revision),
        Form::Table { beta } => {
            let metadata = json!({ "resourceVersion": record.revision.to_string() }).to_string();
            out.extend_from_slice(table::head(beta, &metadata, &table::definitions(record.kind())).as_bytes());
            table::write_row(&mut out, reader, record, record.revision, include, now);
            out.extend_from_slice(b"]}");
        }
    }
    body(accepted, status, out)
}

/// What a write made, with its warnings.
pub(super) fn written(accepted: Accepted, include: Include, written: &Written, now: Timestamp) -> Response {
    let status = if written.created { StatusCode::CREATED } else { StatusCode::OK };
    let mut response = object(accepted, include, &written.reader, &written.record, status, now);
    warn(&mut response, &written.warnings);
    response
}

/// Adds kube's warning headers (RFC 7234 5.5, code 299).
pub(super) fn warn(response: &mut Response, warnings: &[String]) {
    for warning in warnings {
        let quoted: String = warning
            .chars()
            .filter(|c| !c.is_control())
            .flat_map(|c| {
                let escape = matches!(c, '"' | '\\').then_some('\\');
                escape.into_iter().chain([c])
            })
            .collect();
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
            response.headers_mut().append(WARNING, value);
        }
    }
}

fn body(accepted: Accepted, status: StatusCode, json: Vec<u8>) -> Response {
    if accepted.syntax == Syntax::Yaml {
        let yaml = serde_json::from_slice::<Value>(&json)
            .map_err(Error::internal)
            .and_then(|value| serde_saphyr::to_string(&value).map_err(Error::internal));
        return match yaml {
            Ok(yaml) => full(status, YAML, yaml),
            Err(failed) => error(&failed),
        };
    }
    if !accepted.gzip || json.len() < COMPRESS_FROM {
        return full(status, JSON, json);
    }
    let whole = Bytes::from(json);
    let pieces = (0..whole.len()).step_by(CHUNK).map(move |at| whole.slice(at..whole.len().min(at + CHUNK)));
    compressed(status, pieces)
}

/// A body that is compressed as it is sent.
fn compressed(status: StatusCode, pieces: impl Iterator<Item = Bytes> + Send + 'static) -> Response {
    struct State<I> {
        pieces: I,
        encoder: Option<GzEncoder<Vec<u8>>>,
    }
    let state = State { pieces, encoder: Some(GzEncoder::new(Vec::new(), Compression::fast())) };
    let chunks = stream::unfold(state, |mut state| async move {
        loop {
            let encoder = state.encoder.as_mut()?;
            if let Some(piece) = state.pieces.next() {
                // A Vec takes all.
                let _ = encoder.write_all(&piece);
                let ready = std::mem::take(encoder.get_mut());
                if ready.is_empty() {
                    tokio::task::yield_now().await;
                    continue;
                }
                return Some((Ok::<_, Infallible>(Bytes::from(ready)), state));
            }
            let rest = state.encoder.take()?.finish().unwrap_or_default();
            return Some((Ok(Bytes::from(rest)), state));
        }
    });
    let mut response = full(status, JSON, Body::from_stream(chunks));
    response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    response.headers_mut().insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    response
}

/// A list. Its items are written as they are sent: a list of a million takes no more memory than one of a
/// thousand.
pub(super) fn list(accepted: Accepted, include: Include, kind: Kind, list: List, now: Timestamp) -> Response {
    let mut metadata = json!({ "resourceVersion": list.revision.to_string() });
    if let Some(token) = &list.continue_token {
        metadata["continue"] = token.as_str().into();
    } else if accepted.form == Form::Object {
        // Lists of custom resources have it also where it is empty.
        metadata["continue"] = "".into();
    }
    if let Some(remaining) = list.remaining {
        metadata["remainingItemCount"] = remaining.into();
    }
    let metadata = metadata.to_string();
    let head = match accepted.form {
        Form::Object => {
            format!(r#"{{"apiVersion":"{API_VERSION}","kind":"{}","metadata":{metadata},"items":["#, kind.list_name())
        }
        Form::Metadata => {
            format!(
                r#"{{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","metadata":{metadata},"items":["#
            )
        }
        Form::Table { beta } => table::head(beta, &metadata, &table::definitions(kind)),
    };
    let pieces = Pieces {
        head: Some(head),
        items: list.items.into_iter(),
        reader: list.reader,
        accepted,
        include,
        now,
        first: true,
        done: false,
    };
    if accepted.syntax == Syntax::Yaml {
        return body(accepted, StatusCode::OK, pieces.flatten().collect());
    }
    let mut pieces = pieces.peekable();
    let small = pieces.peek().is_none_or(|first| first.len() < CHUNK);
    if small {
        return body(accepted, StatusCode::OK, pieces.next().map(Vec::from).unwrap_or_default());
    }
    if accepted.gzip {
        return compressed(StatusCode::OK, pieces);
    }
    full(StatusCode::OK, JSON, Body::from_stream(stream::iter(pieces.map(Ok::<_, Infallible>))))
}

/// The pieces of a list's body, each of about [`CHUNK`] bytes; a shorter one is the last.
struct Pieces {
    head: Option<String>,
    items: std::vec::IntoIter<Arc<Record>>,
    reader: Reader,
    accepted: Accepted,
    include: Include,
    now: Timestamp,
    first: bool,
    done: bool,
}

impl Iterator for Pieces {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.done {
            return None;
        }
        let mut out = self.head.take().map(String::into_bytes).unwrap_or_default();
        out.reserve(CHUNK.min(self.items.len() * ITEM) + ITEM);
        while out.len() < CHUNK {
            let Some(record) = self.items.next() else {
                out.extend_from_slice(b"]}");
                self.done = true;
                break;
            };
            if !std::mem::take(&mut self.first) {
                out.push(b',');
            }
            match self.accepted.form {
                Form::Object => self.reader.write_object(&mut out, &record, record.revision),
                Form::Metadata => record.write_metadata(&mut out, record.revision),
                Form::Table { .. } => {
                    table::write_row(&mut out, &self.reader, &record, record.revision, self.include, self.now);
                }
            }
        }
        Some(out.into())
    }
}

/// The objects that a deletecollection deleted, as a list.
pub(super) fn deleted_list(
    accepted: Accepted,
    include: Include,
    kind: Kind,
    reader: Reader,
    items: Vec<Arc<Record>>,
    now: Timestamp,
) -> Response {
    let revision = reader.visible.revision();
    list(accepted, include, kind, List { reader, revision, items, continue_token: None, remaining: None }, now)
}
