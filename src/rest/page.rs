//! The page that shows what there is: made from the OpenAPI document by a script of our own, in the binary. It loads
//! nothing from anywhere else, and shows nothing that the document doesn't say.

use axum::body::Body;
use axum::extract::Path;
use axum::response::Response;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, StatusCode};

use super::problem::Problem;
use crate::model::ErrorCode;

const PAGE: &str = include_str!("page_files/index.html");
/// What it loads.
const FILES: [(&str, &str, &str); 2] = [
    ("docs.js", "text/javascript; charset=utf-8", include_str!("page_files/docs.js")),
    ("docs.css", "text/css; charset=utf-8", include_str!("page_files/docs.css")),
];
/// What the page may do: nothing that isn't this server's own.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

fn own(media: &'static str, text: &'static str) -> Response {
    let mut response = Response::new(Body::from(text));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

pub(super) async fn page() -> Response {
    own("text/html; charset=utf-8", PAGE)
}

pub(super) async fn file(Path(name): Path<String>) -> Response {
    match FILES.iter().find(|(known, ..)| *known == name) {
        Some((_, media, text)) => own(media, text),
        None => Problem::new(StatusCode::NOT_FOUND, ErrorCode::NotFound, "the page has no such file").into_response(),
    }
}
