//! A small HTTP/1 client over TLS: it shows the tests exactly what was answered, and hides nothing by
//! retrying. A request is sent again only when it is certain that not a byte of it was sent.

use std::fmt::Write as _;
use std::io;
use std::sync::Arc;

use base64::Engine as _;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{DEADLINE, within};

/// The media type of a merge patch.
pub const MERGE_PATCH: &str = "application/merge-patch+json";
/// The media type of a JSON patch.
pub const JSON_PATCH: &str = "application/json-patch+json";

/// A caller of one address, with or without a client certificate. Clones share their connections.
#[derive(Clone)]
pub struct Client(Arc<Caller>);

struct Caller {
    address: String,
    tls: Option<TlsConnector>,
    /// Sent with every request.
    headers: Vec<(String, String)>,
    idle: Mutex<Vec<SendRequest<Full<Bytes>>>>,
}

/// A connection's two directions.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// What was answered.
pub struct Response {
    /// What was asked: method and path.
    pub asked: String,
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

impl Client {
    /// Speaks plain HTTP.
    pub fn plain(address: &str) -> Self {
        Self::new(address, None)
    }

    /// Speaks as the user of a kubeconfig, or as nobody who only trusts its certificate authority.
    pub fn from_kubeconfig(kubeconfig: &str, anonymous: bool) -> Self {
        let config: Value = serde_saphyr::from_str(kubeconfig).expect("the kubeconfig is YAML");
        let pem = |value: &Value, field: &str| {
            let text = value[field].as_str().unwrap_or_else(|| panic!("no {field} in the kubeconfig: {config:#}"));
            base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_else(|e| panic!("{field}: {e}"))
        };
        let cluster = &config["clusters"][0]["cluster"];
        let server = cluster["server"].as_str().expect("the kubeconfig names a server");
        let address = server.strip_prefix("https://").unwrap_or_else(|| panic!("the server is {server}, not https"));

        let mut roots = rustls::RootCertStore::empty();
        let authority = pem(cluster, "certificate-authority-data");
        for certificate in CertificateDer::pem_slice_iter(&authority) {
            roots.add(certificate.expect("a certificate")).expect("a root");
        }
        let tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider has the default versions")
            .with_root_certificates(roots);
        let tls = if anonymous {
            tls.with_no_client_auth()
        } else {
            let user = &config["users"][0]["user"];
            let chain = pem(user, "client-certificate-data");
            let chain = CertificateDer::pem_slice_iter(&chain).collect::<Result<_, _>>().expect("certificates");
            let key = PrivateKeyDer::from_pem_slice(&pem(user, "client-key-data")).expect("a key");
            tls.with_client_auth_cert(chain, key).expect("the certificate fits its key")
        };
        Self::new(address.trim_end_matches('/'), Some(TlsConnector::from(Arc::new(tls))))
    }

    fn new(address: &str, tls: Option<TlsConnector>) -> Self {
        Self(Arc::new(Caller { address: address.to_owned(), tls, headers: Vec::new(), idle: Mutex::default() }))
    }

    /// The same, with a header on every request.
    pub fn with_header(&self, name: &str, value: &str) -> Self {
        let Caller { address, tls, headers, .. } = &*self.0;
        let headers = headers.iter().cloned().chain([(name.to_owned(), value.to_owned())]).collect();
        Self(Arc::new(Caller { address: address.clone(), tls: tls.clone(), headers, idle: Mutex::default() }))
    }

    /// A GET of JSON.
    pub async fn get(&self, path: &str) -> Response {
        self.request(Method::GET, path, &[], Bytes::new()).await
    }

    /// A POST of JSON.
    pub async fn post(&self, path: &str, body: &Value) -> Response {
        self.request(Method::POST, path, JSON_BODY, body.to_string().into()).await
    }

    /// A PUT of JSON.
    pub async fn put(&self, path: &str, body: &Value) -> Response {
        self.request(Method::PUT, path, JSON_BODY, body.to_string().into()).await
    }

    /// A PATCH of `form` [`MERGE_PATCH`] or [`JSON_PATCH`].
    pub async fn patch(&self, path: &str, form: &str, body: &Value) -> Response {
        self.request(Method::PATCH, path, &[("content-type", form)], body.to_string().into()).await
    }

    /// A DELETE; options go in the query.
    pub async fn delete(&self, path: &str) -> Response {
        self.request(Method::DELETE, path, &[], Bytes::new()).await
    }

    /// Any request. Fails the test when there is no answer.
    pub async fn request(&self, method: Method, path: &str, headers: &[(&str, &str)], body: Bytes) -> Response {
        let asked = format!("{method} {path}");
        self.try_request(method, path, headers, body).await.unwrap_or_else(|e| panic!("{asked}: no answer: {e}"))
    }

    /// Any request.
    ///
    /// # Errors
    /// There was no whole answer: whether the request was carried out is not known.
    pub async fn try_request(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> io::Result<Response> {
        let asked = format!("{method} {path}");
        let exchange = async {
            let (response, connection) = self.send(&method, path, headers, &body).await?;
            let (head, body) = response.into_parts();
            let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
            self.0.idle.lock().push(connection);
            Ok(Response { asked: asked.clone(), status: head.status.as_u16(), headers: head.headers, body })
        };
        tokio::time::timeout(DEADLINE, exchange).await.unwrap_or_else(|_| {
            Err(io::Error::new(io::ErrorKind::TimedOut, format!("{asked}: no answer after {DEADLINE:?}")))
        })
    }

    /// A watch that must begin: `path` with its query, without `watch=`.
    pub async fn watch(&self, path: &str) -> Watch {
        match self.try_watch(path).await {
            Ok(Ok(watch)) => watch,
            Ok(Err(refused)) => panic!("no watch: {refused}"),
            Err(e) => panic!("watch {path}: no answer: {e}"),
        }
    }

    /// A watch, or the answer that refuses it.
    ///
    /// # Errors
    /// There was no answer.
    pub async fn try_watch(&self, path: &str) -> io::Result<Result<Watch, Response>> {
        let path = format!("{path}{}watch=1", if path.contains('?') { '&' } else { '?' });
        let nothing = Bytes::new();
        let started = self.send(&Method::GET, &path, &[], &nothing);
        let (response, connection) = tokio::time::timeout(DEADLINE, started)
            .await
            .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "the watch did not begin")))?;
        let (head, body) = response.into_parts();
        if head.status == http::StatusCode::OK {
            return Ok(Ok(Watch { asked: path, body, read: Vec::new(), _connection: connection }));
        }
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        let asked = format!("GET {path}");
        Ok(Err(Response { asked, status: head.status.as_u16(), headers: head.headers, body }))
    }

    async fn send(
        &self,
        method: &Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &Bytes,
    ) -> io::Result<(http::Response<Incoming>, SendRequest<Full<Bytes>>)> {
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, &self.0.address);
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("accept")) {
            request = request.header(header::ACCEPT, "application/json");
        }
        let always = self.0.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in headers.iter().copied().chain(always) {
            request = request.header(name, value);
        }
        let mut request = request.body(Full::new(body.clone())).map_err(io::Error::other)?;
        loop {
            let idle = self.0.idle.lock().pop();
            let fresh = idle.is_none();
            let mut connection = match idle {
                Some(connection) => connection,
                None => self.connect().await?,
            };
            if connection.ready().await.is_err() {
                if fresh {
                    return Err(io::Error::new(io::ErrorKind::ConnectionReset, "closed before the request"));
                }
                continue;
            }
            match connection.try_send_request(request).await {
                Ok(response) => return Ok((response, connection)),
                Err(mut error) => match error.take_message() {
                    Some(unsent) if !fresh => request = unsent,
                    _ => return Err(io::Error::other(error.into_error())),
                },
            }
        }
    }

    async fn connect(&self) -> io::Result<SendRequest<Full<Bytes>>> {
        let (sender, connection) = http1::handshake(TokioIo::new(self.raw().await?)).await.map_err(io::Error::other)?;
        // It ends when the sender and the body are dropped; how it ends is told to the request itself.
        tokio::spawn(connection);
        Ok(sender)
    }

    /// A connection, with TLS where the address has it, over which nothing has been said.
    ///
    /// # Errors
    /// There is none.
    pub async fn raw(&self) -> io::Result<Box<dyn Connection>> {
        let tcp = TcpStream::connect(&self.0.address).await?;
        tcp.set_nodelay(true)?;
        Ok(match &self.0.tls {
            None => Box::new(tcp),
            Some(tls) => {
                let host = self.0.address.rsplit_once(':').map_or(&*self.0.address, |(host, _)| host);
                let host = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
                Box::new(tls.connect(host, tcp).await?)
            }
        })
    }
}

const JSON_BODY: &[(&str, &str)] = &[("content-type", "application/json")];

impl Response {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("the answer is not JSON: {e}: {self}"))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body, when the status code is this one.
    #[track_caller]
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self}");
        self.json()
    }

    /// The body of a success, 200 or 201.
    #[track_caller]
    pub fn ok(&self) -> Value {
        assert!(matches!(self.status, 200 | 201), "{self}");
        self.json()
    }

    /// The `metav1.Status` of a refusal: its code and reason are checked, on the wire and in the body.
    #[track_caller]
    pub fn refused(&self, code: u16, reason: &str) -> Value {
        let status = self.expect(code);
        let said = (status["kind"].as_str(), status["code"].as_u64(), status["reason"].as_str());
        assert_eq!(said, (Some("Status"), Some(code.into()), Some(reason)), "{self}");
        assert!(status["message"].as_str().is_some_and(|m| !m.is_empty()), "a refusal without a reason: {self}");
        status
    }
}

impl std::fmt::Display for Response {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const SHOWN: usize = 4000;
        let mut text = self.text();
        if let Some((end, _)) = text.char_indices().nth(SHOWN) {
            text.truncate(end);
            write!(text, "... ({} bytes)", self.body.len())?;
        }
        write!(f, "{} answered {}: {text}", self.asked, self.status)
    }
}

/// A watch in progress. It has a connection of its own, closed when it is dropped.
pub struct Watch {
    asked: String,
    body: Incoming,
    read: Vec<u8>,
    _connection: SendRequest<Full<Bytes>>,
}

/// One event of a watch.
#[derive(Debug, Clone)]
pub struct Event {
    /// ADDED, MODIFIED, DELETED, BOOKMARK or ERROR.
    pub change: String,
    /// The object, or the Status of an ERROR.
    pub object: Value,
}

impl Watch {
    /// The next event; the test fails when none comes or the watch ends.
    pub async fn next(&mut self) -> Event {
        let asked = self.asked.clone();
        match within(&format!("the next event of {asked}"), self.try_next()).await {
            Ok(Some(event)) => event,
            Ok(None) => panic!("the watch {asked} has ended"),
            Err(e) => panic!("the watch {asked} broke off: {e}"),
        }
    }

    /// The next event, which must be this change of the object of this name.
    pub async fn expect(&mut self, change: &str, name: &str) -> Value {
        let event = self.next().await;
        let got = (event.change.as_str(), event.object["metadata"]["name"].as_str().unwrap_or("nothing"));
        assert_eq!(got, (change, name), "the watch {} brought {:#}", self.asked, event.object);
        event.object
    }

    /// The next event, or `None` when the server has ended the watch. Not limited in time.
    ///
    /// # Errors
    /// The connection broke off, or what came is not an event.
    pub async fn try_next(&mut self) -> io::Result<Option<Event>> {
        loop {
            if let Some(end) = self.read.iter().position(|&b| b == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                if line.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                let mut event: Value = serde_json::from_slice(&line)?;
                let Some(change) = event["type"].as_str().map(str::to_owned) else {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, format!("not an event: {event}")));
                };
                return Ok(Some(Event { change, object: event["object"].take() }));
            }
            match self.body.frame().await {
                None if self.read.is_empty() => return Ok(None),
                None => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "half an event")),
                Some(frame) => {
                    if let Ok(data) = frame.map_err(io::Error::other)?.into_data() {
                        self.read.extend_from_slice(&data);
                    }
                }
            }
        }
    }
}
