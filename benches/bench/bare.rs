//! What the server is compared with: handlers that do nothing, behind the same listener.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Path as UrlPath, State};
use axum::response::Response;
use axum::routing::{get, put};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use imagehub::api::{Kind, Spec};
use imagehub::auth::Caller;
use parking_lot::RwLock;
use tokio::sync::watch;

use crate::data::{image_name, image_spec};
use crate::rows::inside::{self, Inside};
use crate::rows::reads::SMALL_PACK;

/// The largest body that it is given.
const BODY_LIMIT: usize = 64 * 1024 * 1024;

struct Bare {
    bytes: RwLock<Bytes>,
    events: watch::Sender<Bytes>,
    /// A catalogue with one pack, for what is a path and the cache and nothing else.
    inside: Inside,
    caller: Caller,
}

/// Serves for ever.
pub fn run(dir: &Path) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads can be started");
    let events = watch::Sender::new(Bytes::new());
    let _entered = runtime.enter();
    let inside = runtime.block_on(catalogue(&dir.join("cached")));
    let bare = Arc::new(Bare { bytes: RwLock::new(Bytes::new()), events, inside, caller: inside::admin() });
    let router = Router::new()
        .route("/bytes", get(bytes).post(answer))
        .route("/cached/{plural}/{name}", get(cached))
        .route("/set", put(set))
        .route("/stream", get(stream).post(emit))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .with_state(bare);
    let served = runtime.block_on(imagehub::server::serve_bare(dir, ([127, 0, 0, 1], 0).into(), router));
    panic!("the bare server ended: {served:?}");
}

fn json(body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The bytes that were set.
async fn bytes(State(bare): State<Arc<Bare>>) -> Response {
    json(bare.bytes.read().clone())
}

/// The same as an answer to a body, which is read.
async fn answer(State(bare): State<Arc<Bare>>, _body: Bytes) -> Response {
    json(bare.bytes.read().clone())
}

/// The images of one small pack, and the pack, called `p`.
async fn catalogue(dir: &Path) -> Inside {
    let _ = std::fs::remove_dir_all(dir);
    let inside = Inside::open(dir).await;
    for number in 0..SMALL_PACK {
        inside.create(Spec::from_value(Kind::Image, image_spec(number, 0)).expect("a spec")).await;
    }
    let names: Vec<String> = (0..SMALL_PACK).map(image_name).collect();
    inside.pack("p", &names).await;
    inside
}

/// A pack out of the cache, by its path.
async fn cached(State(bare): State<Arc<Bare>>, UrlPath((plural, name)): UrlPath<(String, String)>) -> Response {
    let Some(kind) = Kind::from_plural(&plural) else { return json("{}") };
    match bare.inside.registry.get(&bare.caller, kind, &name, None).await {
        Ok((reader, record)) => json(reader.object(&record)),
        Err(_) => json("{}"),
    }
}

async fn set(State(bare): State<Arc<Bare>>, body: Bytes) -> StatusCode {
    *bare.bytes.write() = body;
    StatusCode::NO_CONTENT
}

/// What is emitted from now on.
async fn stream(State(bare): State<Arc<Bare>>) -> Response {
    let mut events = bare.events.subscribe();
    events.mark_unchanged();
    json(Body::from_stream(futures::stream::unfold(events, |mut events| async move {
        events.changed().await.ok()?;
        let bytes = events.borrow_and_update().clone();
        Some((Ok::<_, Infallible>(bytes), events))
    })))
}

async fn emit(State(bare): State<Arc<Bare>>, body: Bytes) -> StatusCode {
    bare.events.send_replace(body);
    StatusCode::NO_CONTENT
}
