//! Connections to other replicas.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::Error;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tower::{BoxError, Service};

use super::Credentials;

/// How long a connection may take to be made, its TLS too: a replica that is frozen accepts, and says nothing.
const CONNECT_TIME: Duration = Duration::from_secs(3);
/// How many connections that are not in use are kept to a replica.
const IDLE: usize = 64;
/// How long. Less than the other side keeps them, so that none is closed while a request is on its way.
const IDLE_TIME: Duration = Duration::from_secs(30);

type Requests = Client<Connector, Full<Bytes>>;

/// Makes the connections, and keeps those that are not in use.
pub(super) struct Wire {
    credentials: Credentials,
    /// The client with the settings that it was made with.
    current: Mutex<Option<(Arc<ClientConfig>, Requests)>>,
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Wire")
    }
}

impl Wire {
    pub(super) fn new(credentials: Credentials) -> Self {
        Self { credentials, current: Mutex::new(None) }
    }

    /// Sends a request.
    ///
    /// # Errors
    /// There was no connection (`is_connect`), or it ended before the answer began.
    pub(super) async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Error> {
        let client = self.client();
        client.request(request).await
    }

    /// The client; a new one where the certificates are. The connections of the old one end with its last request.
    fn client(&self) -> Requests {
        let tls = Arc::clone(&self.credentials.tls.borrow());
        let mut current = self.current.lock();
        if let Some((made_with, client)) = &*current
            && Arc::ptr_eq(made_with, &tls)
        {
            return client.clone();
        }
        let client = self.make(&tls);
        *current = Some((tls, client.clone()));
        client
    }

    fn make(&self, tls: &ClientConfig) -> Requests {
        let mut tls = tls.clone();
        // The connector sets its own, and panics on others.
        tls.alpn_protocols.clear();
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_only()
            .with_server_name_resolver(FixedServerNameResolver::new(self.credentials.server_name.clone()))
            .enable_http1()
            .wrap_connector(tcp);
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE_TIME).pool_max_idle_per_host(IDLE);
        builder.build(Connector(https))
    }
}

/// Connects within [`CONNECT_TIME`], or not.
#[derive(Clone)]
struct Connector(HttpsConnector<HttpConnector>);

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<TokioIo<TcpStream>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.0.call(uri);
        Box::pin(async move {
            match timeout(CONNECT_TIME, connecting).await {
                Ok(connected) => connected,
                Err(_) => Err(format!("no connection within {CONNECT_TIME:?}").into()),
            }
        })
    }
}
