//! The client of import, export and backup: the Kubernetes API over TLS, with bounded patience.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, RETRY_AFTER, USER_AGENT, WARNING};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rand::RngExt as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::Value;

use super::kubeconfig;
use crate::error::causes;

/// How often a request that was not done is sent again: it was refused for now (429, 503, 507), or the connection was
/// lost. What is written twice is written once.
pub(super) const RETRIES: u32 = 8;
/// How long it waits before the first time, and at most; doubled each time.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// How long a connection may take to be made.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// How long an answer may take to begin, or the whole of a short one.
const ANSWER_TIME: Duration = Duration::from_mins(1);
/// The largest answer that is read whole, in bytes: an object with a pack's content.
const ANSWER_LIMIT: usize = 64 * 1024 * 1024;

/// Why there is no answer to go on with.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    /// The server can't be reached, or has no more room or patience: to go on would fail as well.
    #[error("{0}")]
    Gone(String),
    /// It refused this request.
    #[error("{message}")]
    Refused {
        /// The status code.
        code: u16,
        /// `reason` of the Status.
        reason: String,
        /// What it says.
        message: String,
    },
}

/// A short answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub code: StatusCode,
    pub warnings: Vec<String>,
    pub body: Bytes,
}

/// The API of one server, as one user.
#[derive(Debug, Clone)]
pub(super) struct Api {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    server: Arc<str>,
    authorization: Option<HeaderValue>,
}

impl Api {
    /// The API that a kubeconfig names.
    pub(super) fn from_kubeconfig(named: Option<&Path>) -> Result<Self, String> {
        let context = kubeconfig::read(&kubeconfig::files(named))?;
        let server = context.server.trim_end_matches('/').to_owned();
        if !server.starts_with("https://") {
            return Err(format!("the kubeconfig's server is {server:?}: only https is supported"));
        }
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&context.authority) {
            let certificate = certificate.map_err(|e| format!("the kubeconfig's certificate-authority: {e}"))?;
            roots.add(certificate).map_err(|e| format!("the kubeconfig's certificate-authority: {e}"))?;
        }
        if roots.is_empty() {
            return Err("the kubeconfig names no certificate-authority to check the server's certificate with".into());
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let tls = tls.map_err(|e| e.to_string())?.with_root_certificates(roots);
        let tls = match context.certificate {
            None => tls.with_no_client_auth(),
            Some((chain, key)) => {
                let bad = |e: &dyn std::fmt::Display| format!("the kubeconfig's client certificate: {e}");
                let chain = CertificateDer::pem_slice_iter(&chain).collect::<Result<_, _>>().map_err(|e| bad(&e))?;
                let key = PrivateKeyDer::from_pem_slice(&key).map_err(|e| bad(&e))?;
                tls.with_client_auth_cert(chain, key).map_err(|e| bad(&e))?
            }
        };
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_TIME));
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_only();
        let connector = match context.tls_server_name {
            Some(name) => {
                let name = ServerName::try_from(name).map_err(|e| format!("tls-server-name: {e}"))?;
                connector.with_server_name_resolver(hyper_rustls::FixedServerNameResolver::new(name))
            }
            None => connector,
        };
        let connector = connector.enable_http1().wrap_connector(tcp);
        let token = context.token.map(|token| HeaderValue::from_str(&format!("Bearer {token}")));
        let mut authorization = token.transpose().map_err(|_| "the kubeconfig's token is no token".to_owned())?;
        if let Some(value) = &mut authorization {
            value.set_sensitive(true);
        }
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self { client, server: server.into(), authorization })
    }

    /// A request with a short answer, sent again where it was not done. What the server refuses is an answer, too,
    /// except that it goes on to refuse for now.
    pub(super) async fn send(&self, method: Method, path: &str, body: Bytes) -> Result<Answer, ClientError> {
        let mut backoff = BACKOFF.0;
        for attempt in 0.. {
            let (why, wait) = match self.once(&method, path, &body).await {
                Ok((code, headers, body)) => {
                    if !matches!(code.as_u16(), 429 | 503 | 507) {
                        return Ok(Answer { code, warnings: warnings(&headers), body });
                    }
                    let said = headers.get(RETRY_AFTER).and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok());
                    let wait = said.map(Duration::from_secs).unwrap_or_default().min(BACKOFF.1);
                    (refusal(code, &body).to_string(), wait)
                }
                Err(why) => (why, Duration::ZERO),
            };
            if attempt == RETRIES {
                return Err(ClientError::Gone(format!("{} did not do it {} times: {why}", self.server, RETRIES + 1)));
            }
            let jitter = rand::rng().random_range(0.5..1.0);
            tokio::time::sleep(backoff.mul_f64(jitter).max(wait)).await;
            backoff = (backoff * 2).min(BACKOFF.1);
        }
        Err(ClientError::Gone("no attempt was made".to_owned()))
    }

    /// A request whose answer is read piece by piece. It is not sent again.
    pub(super) async fn stream(&self, path: &str) -> Result<(HeaderMap, Incoming), ClientError> {
        let sent = self.client.request(self.request(&Method::GET, path, Bytes::new()));
        let response = tokio::time::timeout(ANSWER_TIME, sent).await;
        let response = response.map_err(|_| self.gone(&format!("no answer within {ANSWER_TIME:?}")))?;
        let (head, body) = response.map_err(|e| self.gone(&causes(&e)))?.into_parts();
        if head.status == StatusCode::OK {
            return Ok((head.headers, body));
        }
        let body = Limited::new(body, ANSWER_LIMIT).collect().await.map_err(|e| self.gone(&e.to_string()))?;
        Err(refusal(head.status, &body.to_bytes()))
    }

    fn gone(&self, why: &str) -> ClientError {
        ClientError::Gone(format!("{}: {why}", self.server))
    }

    async fn once(&self, method: &Method, path: &str, body: &Bytes) -> Result<(StatusCode, HeaderMap, Bytes), String> {
        let exchange = async {
            let response = self.client.request(self.request(method, path, body.clone())).await;
            let (head, body) = response.map_err(|e| causes(&e))?.into_parts();
            let body = Limited::new(body, ANSWER_LIMIT).collect().await.map_err(|e| e.to_string())?.to_bytes();
            Ok((head.status, head.headers, body))
        };
        let late = || format!("no answer within {ANSWER_TIME:?}");
        tokio::time::timeout(ANSWER_TIME, exchange).await.unwrap_or_else(|_| Err(late()))
    }

    fn request(&self, method: &Method, path: &str, body: Bytes) -> Request<Full<Bytes>> {
        let host = self.server.trim_start_matches("https://").split('/').next().unwrap_or_default();
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method.clone();
        if let Ok(uri) = format!("{}{path}", self.server).parse() {
            *request.uri_mut() = uri;
        }
        let headers = request.headers_mut();
        if let Ok(host) = HeaderValue::from_str(host) {
            headers.insert(HOST, host);
        }
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("imagehub/", env!("CARGO_PKG_VERSION"))));
        headers.insert(http::header::ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(authorization) = &self.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        request
    }
}

impl Answer {
    /// The body, where it is a success.
    pub(super) fn ok(self) -> Result<Self, ClientError> {
        if self.code.is_success() { Ok(self) } else { Err(refusal(self.code, &self.body)) }
    }
}

/// What a `metav1.Status` says.
fn refusal(code: StatusCode, body: &[u8]) -> ClientError {
    let status: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |field: &str| status[field].as_str().unwrap_or_default().to_owned();
    let message = match text("message") {
        message if message.is_empty() => format!("the server answered {code}"),
        message => message,
    };
    ClientError::Refused { code: code.as_u16(), reason: text("reason"), message }
}

/// The texts of kube's warning headers (RFC 7234 5.5).
fn warnings(headers: &HeaderMap) -> Vec<String> {
    let texts = headers.get_all(WARNING).into_iter().filter_map(|value| std::str::from_utf8(value.as_bytes()).ok());
    let unquoted = texts.filter_map(|text| text.split_once('"').and_then(|(_, rest)| rest.rsplit_once('"')));
    unquoted.map(|(text, _)| text.replace("\\\"", "\"").replace("\\\\", "\\")).collect()
}

/// A value in a query.
pub(super) fn query_value(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// A runtime for a command.
pub(super) fn block_on<T>(work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("no threads can be started: {error}"))?;
    let done = runtime.block_on(work);
    runtime.shutdown_background();
    done
}
