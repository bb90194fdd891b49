//! Operations over server-sent events, in the distinct connections mode of graphql-sse: each `next` is an answer,
//! `complete` the end.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use async_graphql::ServerError;
use axum::body::Body;
use axum::response::Response;
use bytes::{BufMut as _, Bytes, BytesMut};
use futures::future::ready;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt as _};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, StatusCode};

use super::LAST_WORDS;
use super::execute::{self, Asked, payload};
use super::negotiate::Media;
use super::respond::refused;
use crate::graphql::Shared;
use crate::graphql::error::server_error;
use crate::model::ErrorCode;

/// How often a stream on which nothing happens says that it is there.
const ALIVE_EVERY: Duration = Duration::from_secs(15);

/// The end of a stream that has told all.
const COMPLETE: &[u8] = b"event: complete\ndata:\n\n";

/// Keeps nginx from holding back what comes.
const UNBUFFERED: HeaderName = HeaderName::from_static("x-accel-buffering");

pub(super) fn respond(shared: &Arc<Shared>, asked: &Asked) -> Response {
    let Ok(permit) = Arc::clone(&shared.streams).try_acquire_owned() else {
        let message = format!("{} operations are going on, the most there are (limit: streams)", super::STREAMS);
        return refused(StatusCode::TOO_MANY_REQUESTS, Media::Json, &server_error(ErrorCode::RateLimited, message));
    };
    let caller = asked.caller.clone();
    let answers: BoxStream<'static, Bytes> = match execute::stream(shared, asked) {
        Ok(answers) => answers.map(|response| event(&payload(&response))).boxed(),
        // As EventSource can't read the answer of a request that failed, it is told on the stream.
        Err(error) => stream::iter([event(&errors(&error))]).boxed(),
    };
    // Where the server stops, the stream breaks off instead: it isn't complete, and clients go on elsewhere.
    let stop = shared.app.stop.clone();
    let end =
        stream::once(async move { (!stop.is_cancelled()).then(|| Bytes::from_static(COMPLETE)) }).filter_map(ready);
    let told = alive(answers).chain(end.boxed());
    // What can't end by itself is ended here; subscriptions have said why, or how far they have come.
    let stopped = shared.app.stop.clone();
    let ended = async move {
        tokio::select! {
            _ = caller.ended() => tokio::time::sleep(ALIVE_EVERY).await,
            () = stopped.cancelled() => tokio::time::sleep(LAST_WORDS).await,
        }
    };
    let body = told.take_until(ended).map(move |bytes| {
        let _going_on = &permit;
        Ok::<_, Infallible>(bytes)
    });
    let mut response = Response::new(Body::from_stream(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(Media::EventStream.as_str()));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(UNBUFFERED, HeaderValue::from_static("no"));
    response
}

fn errors(error: &ServerError) -> Bytes {
    payload(&async_graphql::Response::from_errors(vec![error.clone()]))
}

fn event(payload: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(payload.len() + 24);
    out.put_slice(b"event: next\ndata: ");
    // JSON as it is written has no line ends.
    out.put_slice(payload);
    out.put_slice(b"\n\n");
    out.freeze()
}

/// The same with a comment wherever nothing has come for a while.
fn alive(answers: BoxStream<'static, Bytes>) -> impl Stream<Item = Bytes> {
    stream::unfold(answers, |mut answers| async move {
        match tokio::time::timeout(ALIVE_EVERY, answers.next()).await {
            Ok(answer) => answer.map(|answer| (answer, answers)),
            Err(_) => Some((Bytes::from_static(b":\n\n"), answers)),
        }
    })
}
