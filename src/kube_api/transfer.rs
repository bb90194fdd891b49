//! What administrators move data with: lists in the form of an export, and the copy of the whole store.
//!
//! `GET` of a collection with `export=true` (selectors and an exact version as in any list) answers with one object a
//! line, as an export has it, and its revision in the header `imagehub-revision`. `POST` or `PUT` with `restore=true`
//! is the way back. `GET /backup` is a copy of the store in the form of `storage::embedded::backup`.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures::stream;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderName, HeaderValue};

use super::router::App;
use crate::api::Kind;
use crate::auth::Caller;
use crate::error::Error;
use crate::graph::Record;
use crate::registry::{List, ListOptions, exported};

/// The query parameter of a list that is an export.
pub const EXPORT: &str = "export";
/// The header of the revision that an export is of.
pub const REVISION: HeaderName = HeaderName::from_static("imagehub-revision");
/// Where the copy of the store is.
pub const BACKUP: &str = "/backup";

/// About how many bytes of an export are made at a time.
const CHUNK: usize = 64 * 1024;

/// Answers with an export.
pub(super) async fn export(app: &App, caller: &Caller, kind: Kind, options: ListOptions) -> Result<Response, Error> {
    let options = ListOptions { limit: None, continue_token: None, ..options };
    let List { revision, items, .. } = app.registry.export(caller, kind, &options).await?;
    let mut response = streamed("application/x-ndjson", Lines(items.into_iter()));
    response.headers_mut().insert(REVISION, revision.0.into());
    Ok(response)
}

/// Answers with a copy of the store.
pub(super) async fn backup(app: &App, caller: &Caller) -> Result<Response, Error> {
    Ok(streamed("application/octet-stream", app.registry.backup(caller).await?))
}

fn streamed(media: &'static str, pieces: impl Iterator<Item = Bytes> + Send + 'static) -> Response {
    let mut response = Response::new(Body::from_stream(stream::iter(pieces.map(Ok::<_, Infallible>))));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// Exported objects, one a line.
struct Lines(std::vec::IntoIter<Arc<Record>>);

impl Iterator for Lines {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let mut out = Vec::new();
        while out.len() < CHUNK
            && let Some(record) = self.0.next()
        {
            serde_json::to_writer(&mut out, &exported(&record)).expect("an object has only string keys");
            out.push(b'\n');
        }
        (!out.is_empty()).then(|| out.into())
    }
}
