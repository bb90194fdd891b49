//! The page to try queries on: `GraphiQL` 3.9.0 and React 18.3.1 as their packages have them, but for the fonts, in the
//! binary. It loads nothing from anywhere else.

use axum::body::Body;
use axum::extract::Path;
use axum::response::{IntoResponse as _, Response};
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, StatusCode};

/// The page itself.
const PAGE: &str = include_str!("../page/index.html");
/// What it loads, by name; the large ones are compressed as they are.
const FILES: [(&str, &str, &[u8]); 5] = [
    ("graphiql.js", "text/javascript", include_bytes!("../page/graphiql.min.js.gz")),
    ("graphiql.css", "text/css", include_bytes!("../page/graphiql.min.css.gz")),
    ("react.js", "text/javascript", include_bytes!("../page/react.production.min.js.gz")),
    ("react-dom.js", "text/javascript", include_bytes!("../page/react-dom.production.min.js.gz")),
    ("start.js", "text/javascript", include_bytes!("../page/start.js.gz")),
];
/// What the page may do: nothing that isn't this server's own. `GraphiQL` sets styles of elements.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self'; \
                      img-src 'self' data:; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

pub(super) fn page() -> Response {
    let mut response = Response::new(Body::from(PAGE));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

pub(super) async fn file(Path(name): Path<String>) -> Response {
    let Some((_, media, bytes)) = FILES.iter().find(|(known, ..)| *known == name) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let mut response = Response::new(Body::from(*bytes));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
