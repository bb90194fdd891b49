//! Who asks: connections with TLS and the administrator's certificate, or without both to the gateway, over HTTP/1.1 by
//! hand (so that it costs little) and over HTTP/2.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::process::Server;

/// Connections of a load over HTTP/1.1.
const CONNECTIONS: usize = 16;
/// Connections of a load over HTTP/2, and requests at a time on each.
const H2: (usize, usize) = (2, 16);
/// Streams of one connection that stay open.
pub const STREAMS: usize = 200;

/// The version of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Http {
    One,
    Two,
}

impl Http {
    pub fn name(self) -> &'static str {
        match self {
            Self::One => "HTTP/1.1",
            Self::Two => "HTTP/2",
        }
    }
}

/// What is asked.
#[derive(Debug, Clone)]
pub struct Ask {
    pub method: Method,
    pub path: String,
    pub body: Bytes,
}

impl Ask {
    pub fn get(path: impl Into<String>) -> Self {
        Self { method: Method::GET, path: path.into(), body: Bytes::new() }
    }

    pub fn post(path: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self { method: Method::POST, path: path.into(), body: body.into() }
    }

    /// A merge patch.
    pub fn patch(path: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self { method: Method::PATCH, path: path.into(), body: body.into() }
    }

    /// The media type of the body.
    fn media(&self) -> &'static str {
        if self.method == Method::PATCH { "application/merge-patch+json" } else { "application/json" }
    }

    pub fn put(path: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self { method: Method::PUT, path: path.into(), body: body.into() }
    }
}

/// What of a body is another number of as many digits in each request.
pub const NUMBER: &str = "########";

/// The numbers so far.
static NUMBERS: AtomicU64 = AtomicU64::new(0);

/// A connection, with TLS or without.
trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

/// How a server is reached.
#[derive(Clone)]
pub struct Client {
    address: SocketAddr,
    tls: Option<Arc<rustls::ClientConfig>>,
}

impl Client {
    /// As the administrator of `server`.
    pub fn new(server: &Server) -> Self {
        Self { address: server.kube, tls: Some(Arc::new(tls(&server.dir))) }
    }

    /// As somebody who has shown nothing, at the gateway.
    pub fn of_gateway(server: &Server) -> Self {
        Self { address: server.http, tls: None }
    }

    async fn connect(&self, http: Http) -> Box<dyn Socket> {
        let stream = TcpStream::connect(self.address).await.expect("the server listens");
        stream.set_nodelay(true).expect("a socket has no delay");
        let Some(tls) = &self.tls else { return Box::new(stream) };
        let mut tls = rustls::ClientConfig::clone(tls);
        tls.alpn_protocols = vec![if http == Http::One { b"http/1.1".to_vec() } else { b"h2".to_vec() }];
        let name = ServerName::try_from("localhost").expect("a name");
        Box::new(TlsConnector::from(Arc::new(tls)).connect(name, stream).await.expect("the handshake succeeds"))
    }

    /// A connection over HTTP/2.
    pub async fn h2(&self) -> SendRequest<Full<Bytes>> {
        let stream = TokioIo::new(self.connect(Http::Two).await);
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.timer(TokioTimer::new());
        let (sender, connection) = builder.handshake(stream).await.expect("the handshake succeeds");
        tokio::spawn(connection);
        sender
    }

    /// One answer, whole.
    pub async fn ask(&self, ask: &Ask) -> (u16, Bytes) {
        let mut sender = self.h2().await;
        let response = sender.send_request(request(ask)).await.expect("an answer");
        let status = response.status().as_u16();
        (status, response.into_body().collect().await.expect("a body").to_bytes())
    }

    /// One answer that is a success, parsed.
    pub async fn json(&self, ask: &Ask) -> Value {
        let (status, body) = self.ask(ask).await;
        assert!(
            (200..300).contains(&status),
            "{} {}: {status} {}",
            ask.method,
            ask.path,
            String::from_utf8_lossy(&body)
        );
        serde_json::from_slice(&body).unwrap_or_default()
    }

    /// Opens the connections of a load.
    pub async fn load(&self, http: Http, ask: &Ask) -> Load {
        let mut load = Load { http, ask: ask.clone(), one: Vec::new(), two: Vec::new() };
        match http {
            Http::One => {
                for _ in 0..CONNECTIONS {
                    load.one.push(self.connect(http).await);
                }
            }
            Http::Two => {
                for _ in 0..H2.0 {
                    load.two.push(self.h2().await);
                }
            }
        }
        load
    }
}

/// A request over HTTP/2.
pub fn request(ask: &Ask) -> Request<Full<Bytes>> {
    let builder = Request::builder().method(&ask.method).uri(format!("https://localhost{}", ask.path));
    let builder = if ask.body.is_empty() { builder } else { builder.header("content-type", ask.media()) };
    builder.body(Full::new(ask.body.clone())).expect("a request")
}

/// Connections that ask the same again and again, each when it has its answer.
pub struct Load {
    http: Http,
    ask: Ask,
    one: Vec<Box<dyn Socket>>,
    two: Vec<SendRequest<Full<Bytes>>>,
}

impl Load {
    /// Asks for `time`, and says what `server`'s CPU time for a request was, in seconds.
    pub async fn cost(&mut self, server: &Server, time: Duration) -> f64 {
        let before = server.seconds();
        let requests = self.run(time).await;
        (server.seconds() - before) / requests as f64
    }

    /// Asks for `time`, and says how often.
    pub async fn run(&mut self, time: Duration) -> u64 {
        let count = AtomicU64::new(0);
        let until = Instant::now() + time;
        match self.http {
            Http::One => {
                let text = head(&self.ask);
                let ask = [text.as_bytes(), &self.ask.body].concat();
                futures::future::join_all(self.one.iter_mut().map(|stream| one(&mut **stream, &ask, until, &count)))
                    .await;
            }
            Http::Two => {
                let tasks = self.two.iter().flat_map(|sender| std::iter::repeat_n(sender, H2.1));
                let tasks = tasks.map(|sender| two(sender.clone(), &self.ask, until, &count));
                futures::future::join_all(tasks).await;
            }
        }
        count.into_inner()
    }
}

fn head(ask: &Ask) -> String {
    let body = if ask.body.is_empty() {
        String::new()
    } else {
        format!("content-type: {}\r\ncontent-length: {}\r\n", ask.media(), ask.body.len())
    };
    format!("{} {} HTTP/1.1\r\nhost: localhost\r\n{body}\r\n", ask.method, ask.path)
}

async fn one(stream: &mut dyn Socket, ask: &[u8], until: Instant, count: &AtomicU64) {
    let mut ask = ask.to_vec();
    let number = ask.windows(NUMBER.len()).position(|bytes| bytes == NUMBER.as_bytes());
    let mut buffer = vec![0; 64 * 1024];
    while Instant::now() < until {
        if let Some(at) = number {
            let next = NUMBERS.fetch_add(1, Ordering::Relaxed);
            ask[at..at + NUMBER.len()].copy_from_slice(format!("{next:08}").as_bytes());
        }
        stream.write_all(&ask).await.expect("the server reads");
        stream.flush().await.expect("the server reads");
        let mut have = 0;
        let mut length = Length::Unknown;
        while !length.is_whole(&buffer[..have]) {
            if have == buffer.len() {
                buffer.resize(buffer.len() * 2, 0);
            }
            let read = stream.read(&mut buffer[have..]).await.expect("the server answers");
            assert!(read > 0, "the server closed the connection");
            have += read;
            if matches!(length, Length::Unknown)
                && let Some(end) = buffer[..have].windows(4).position(|four| four == b"\r\n\r\n")
            {
                length = Length::of(&buffer[..end]);
            }
        }
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// How long an answer is, as far as that is known.
enum Length {
    Unknown,
    /// With its head.
    Bytes(usize),
    /// Until the last chunk, which has nothing in it.
    Chunked,
}

impl Length {
    fn of(head: &[u8]) -> Self {
        let text = String::from_utf8_lossy(head);
        assert!(text.starts_with("HTTP/1.1 2"), "{text}");
        let mut lines = text.lines().filter_map(|line| line.split_once(": "));
        match lines.find(|(name, _)| name.eq_ignore_ascii_case("content-length")) {
            Some((_, length)) => Self::Bytes(head.len() + 4 + length.parse::<usize>().expect("a length")),
            None => Self::Chunked,
        }
    }

    fn is_whole(&self, answer: &[u8]) -> bool {
        match self {
            Self::Unknown => false,
            Self::Bytes(length) => answer.len() >= *length,
            Self::Chunked => answer.ends_with(b"\r\n0\r\n\r\n"),
        }
    }
}

async fn two(mut sender: SendRequest<Full<Bytes>>, ask: &Ask, until: Instant, count: &AtomicU64) {
    while Instant::now() < until {
        let response = sender.send_request(request(ask)).await.expect("an answer");
        assert!(response.status().is_success(), "{} {}: {}", ask.method, ask.path, response.status());
        drain(response.into_body()).await;
        count.fetch_add(1, Ordering::Relaxed);
    }
}

async fn drain(mut body: Incoming) {
    while let Some(frame) = body.frame().await {
        frame.expect("a frame");
    }
}

fn tls(dir: &Path) -> rustls::ClientConfig {
    let read = |file: &str| std::fs::read(dir.join("pki").join(file)).unwrap_or_else(|e| panic!("{file}: {e}"));
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&read("ca.crt")).expect("a certificate")).expect("a root");
    let certificate = CertificateDer::from_pem_slice(&read("admin.crt")).expect("a certificate");
    let key = PrivateKeyDer::from_pem_slice(&read("admin.key")).expect("a key");
    rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has the default versions")
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![certificate], key)
        .expect("the certificate fits its key")
}
