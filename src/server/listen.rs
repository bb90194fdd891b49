//! Accepting connections: how many, how slowly they may go, and how they end.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use http::header::CONNECTION;
use http::{HeaderValue, Request, StatusCode, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service as _;
use tracing::{debug, warn};

use super::stall::Hurried;
use crate::auth::Peer;

/// The most connections of one listener. The next one waits in the system's queue until one ends.
pub const CONNECTIONS: usize = 32_768;
/// How long a client may take for the TLS handshake.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// How long a client may take to send a request's headers; also how long an idle HTTP/1 connection is kept,
/// and how long a connection may go without a first request.
const HEADER_TIME: Duration = Duration::from_secs(90);
/// How long a client may take nothing of what it is sent: what waits for it keeps an old state in memory.
const STALL_TIME: Duration = Duration::from_mins(2);
/// The most bytes of an HTTP/1 request's headers, and of what is read ahead.
const HTTP1_BUFFER: usize = 64 * 1024;
/// The most bytes of an HTTP/2 request's headers.
const HTTP2_HEADERS: u32 = 64 * 1024;
/// The most requests at a time on an HTTP/2 connection: kube-apiserver's own limit.
const HTTP2_STREAMS: u32 = 250;
/// How often a silent HTTP/2 connection is asked whether it is still there, and how long the answer may take.
const HTTP2_PING: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(20));
/// How long accepting waits after the system refused a connection (too many open files, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A socket that listens, for a flag that names its address.
///
/// # Errors
/// What the system says, with the flag.
pub async fn bind(address: SocketAddr, flag: &str) -> io::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let advice = match error.kind() {
            io::ErrorKind::AddrInUse => {
                "another program, perhaps another imagehub, listens there: stop it, or choose another"
            }
            io::ErrorKind::AddrNotAvailable => "this machine doesn't have that address: choose one that it has",
            io::ErrorKind::PermissionDenied => "ports below 1024 need a privilege: choose another",
            _ => "choose another",
        };
        io::Error::new(error.kind(), format!("can't listen on {address} ({error}): {advice} address with {flag}"))
    })
}

/// What answers requests: a `tower::Service` that is always ready, never fails, and need not put each answer's future into
/// a box.
pub trait Respond: Clone + Send + Sync + 'static {
    /// The answer to a request.
    fn respond(self, request: Request<Body>) -> impl Future<Output = Response> + Send;
}

impl Respond for Router {
    async fn respond(mut self, request: Request<Body>) -> Response {
        let Ok(response) = self.call(request).await;
        response
    }
}

/// A listener, and what it serves.
pub struct Door<R> {
    /// The listening socket.
    pub listener: TcpListener,
    /// For a door with TLS.
    pub tls: Option<Arc<ServerConfig>>,
    /// What is served, now.
    pub served: watch::Receiver<R>,
}

/// What is served all the time.
pub fn always<R: Respond>(served: R) -> watch::Receiver<R> {
    watch::channel(served).1
}

/// How doors stop.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    /// Clients should ask elsewhere: each is told at its next answer. An HTTP/1 connection that is closed while it is
    /// idle may just be bringing a request, which then fails (RFC 9112 section 9.6); one that was told is not used again.
    pub leave: CancellationToken,
    /// No more connections; those that are there finish what they are at.
    pub drain: CancellationToken,
    /// Every connection is a task here.
    pub connections: TaskTracker,
}

impl<R: Respond> Door<R> {
    /// Accepts connections until `stop` drains.
    pub async fn serve(self, stop: Stop) {
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        let acceptor = self.tls.map(TlsAcceptor::from);
        let mut refused = false;
        loop {
            // First the room, then the connection: what there is no room for waits in the system's queue.
            let accepted = async {
                let permit = Arc::clone(&room).acquire_owned().await;
                (permit, self.listener.accept().await)
            };
            let (permit, accepted) = tokio::select! {
                () = stop.drain.cancelled() => return,
                accepted = accepted => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    refused = false;
                    let (acceptor, served, ending) = (acceptor.clone(), self.served.clone(), stop.clone());
                    stop.connections.spawn(async move {
                        connection(stream, acceptor, served, &ending).await;
                        drop(permit);
                    });
                }
                // That of one client, which is gone again.
                Err(error) if is_of_the_client(&error) => debug!(%error, "a connection ended before it began"),
                Err(error) => {
                    // Once, not ten times a second for as long as it lasts.
                    if !std::mem::replace(&mut refused, true) {
                        warn!(%error, "connections can't be accepted");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

fn is_of_the_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

async fn connection<R: Respond>(
    stream: TcpStream,
    acceptor: Option<TlsAcceptor>,
    served: watch::Receiver<R>,
    stop: &Stop,
) {
    // Answers are written whole; waiting to fill a packet only delays them.
    let _ = stream.set_nodelay(true);
    let stream = Hurried::new(stream, STALL_TIME);
    let Some(acceptor) = acceptor else { return serve(stream, served, None, stop).await };
    let shake = tokio::select! {
        shake = tokio::time::timeout(HANDSHAKE_TIME, acceptor.accept(stream)) => shake,
        () = stop.drain.cancelled() => return,
    };
    let stream = match shake {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return debug!(%error, "a TLS handshake failed"),
        Err(_) => return debug!("a TLS handshake took too long"),
    };
    let peer = stream.get_ref().1.peer_certificates().map(|chain| Arc::new(Peer::new(chain)));
    serve(stream, served, peer, stop).await;
}

/// Serves a connection; `peer` is what its client has shown, if anything.
async fn serve<R: Respond>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    served: watch::Receiver<R>,
    peer: Option<Arc<Peer>>,
    stop: &Stop,
) {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .max_buf_size(HTTP1_BUFFER)
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(HTTP2_STREAMS)
        .max_header_list_size(HTTP2_HEADERS)
        .keep_alive_interval(HTTP2_PING.0)
        .keep_alive_timeout(HTTP2_PING.1);
    let (begun, http2) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (seen, spoken, leave) = (Arc::clone(&begun), Arc::clone(&http2), stop.leave.clone());
    let service = service_fn(move |request: Request<Incoming>| {
        let of_http2 = request.version() == Version::HTTP_2;
        seen.store(true, Ordering::Relaxed);
        spoken.store(of_http2, Ordering::Relaxed);
        let mut request = request.map(Body::new);
        if let Some(peer) = &peer {
            request.extensions_mut().insert(Arc::clone(peer));
        }
        let (served, leave) = (served.borrow().clone(), leave.clone());
        async move {
            let mut response = served.respond(request).await;
            if leave.is_cancelled() && !of_http2 && response.status() != StatusCode::SWITCHING_PROTOCOLS {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response)
        }
    });
    // A watch may be upgraded to a WebSocket.
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(connection);
    // The library's own limits begin once it knows which version of HTTP is spoken.
    let first_due = tokio::time::sleep(HEADER_TIME);
    tokio::pin!(first_due);
    let (mut leaving, mut draining, mut first_waited_for) = (false, false, true);
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    debug!(error, "a connection failed");
                }
                return;
            }
            // A connection of HTTP/2 is left without a loss (GOAWAY, RFC 9113 section 6.8).
            () = stop.leave.cancelled(), if !leaving => {
                leaving = true;
                if http2.load(Ordering::Relaxed) {
                    connection.as_mut().graceful_shutdown();
                }
            }
            () = stop.drain.cancelled(), if !draining => {
                draining = true;
                connection.as_mut().graceful_shutdown();
            }
            () = first_due.as_mut(), if first_waited_for => {
                first_waited_for = false;
                if !begun.load(Ordering::Relaxed) {
                    return debug!("a connection brought no request");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// Sends a request, and reads what comes of it up to the body's end.
    async fn ask(stream: &mut TcpStream) -> String {
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"here") {
            assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "it ended: {}", answer.escape_ascii());
        }
        String::from_utf8(answer).unwrap()
    }

    #[tokio::test]
    async fn who_asks_a_server_that_leaves_is_answered_and_told_to_go() {
        let listener = bind("127.0.0.1:0".parse().unwrap(), "--listen").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), Stop::default());
        let served = always(Router::new().route("/", get(async || "here")));
        let door = tokio::spawn(Door { listener, tls: None, served }.serve(stop.clone()));
        let mut stream = TcpStream::connect(address).await.unwrap();
        assert!(!ask(&mut stream).await.contains("connection: close"));
        stop.leave.cancel();
        // It is answered, and hears of it; who comes anew is, too.
        for mut stream in [stream, TcpStream::connect(address).await.unwrap()] {
            assert!(ask(&mut stream).await.contains("connection: close"));
            assert_eq!(stream.read(&mut [0]).await.unwrap(), 0, "the connection ends");
        }
        stop.drain.cancel();
        door.await.unwrap();
    }
}
