//! Pages in a browser: those of `web-examples`, and the two that the gateway has of its own. What they need and what they
//! show is in `tests/gateway/browser.mjs`.

use axum::Router;
use axum::response::{Html, IntoResponse as _, Response};
use http::{StatusCode, Uri};
use tokio::net::TcpListener;

use crate::harness::{Launch, Scripts};

async fn page(uri: Uri) -> Response {
    let file = format!("{}/web-examples{}", env!("CARGO_MANIFEST_DIR"), uri.path());
    let page = tokio::fs::read_to_string(file).await.map(Html);
    page.map_err(|_| StatusCode::NOT_FOUND).into_response()
}

#[tokio::test]
async fn the_pages_show_what_is_there_and_complain_of_nothing() {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        eprintln!("skipped: npm has the browser for Linux on x86-64 only");
        return;
    }
    let Some(scripts) = Scripts::find() else { return };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let pages = format!("http://{}", listener.local_addr().expect("it has one"));
    let serving = tokio::spawn(axum::serve(listener, Router::new().fallback(page)).into_future());
    let server = Launch::default().argument("--demo").argument("--allow-origin").argument(&pages).start().await;
    server.imagehub("user add carol").await;
    let token = server.imagehub("token carol").await;
    let gateway = format!("http://{}", server.http_address());
    assert_eq!(scripts.run(&["browser.mjs", &pages, &gateway, token.trim()]).await, "browser\n");
    serving.abort();
}
