//! An issuer on this machine, for tests: its discovery document and its keys over TLS, with a certificate of a CA that
//! nobody knows. The end-to-end tests compile it for themselves.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{
    BasicConstraints, CertificateParams, IsCa, Issuer as Authority, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256,
};
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

/// How much a PKCS #8 document puts before the PKCS #1 one of an RSA key of 2048 bits, in bytes.
const BEFORE_PKCS1: usize = 26;

/// A key that the issuer signs with, or somebody else.
pub struct Key {
    id: String,
    algorithm: Algorithm,
    signing: EncodingKey,
}

impl Key {
    pub fn ec(id: &str) -> Self {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let signing = EncodingKey::from_ec_der(&pair.serialize_der());
        Self { id: id.to_owned(), algorithm: Algorithm::ES256, signing }
    }

    pub fn rsa(id: &str) -> Self {
        let pair = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
        let signing = EncodingKey::from_rsa_der(&pair.serialize_der()[BEFORE_PKCS1..]);
        Self { id: id.to_owned(), algorithm: Algorithm::RS256, signing }
    }

    /// What the issuer publishes of it.
    pub fn public(&self) -> Value {
        let mut jwk = serde_json::to_value(Jwk::from_encoding_key(&self.signing, self.algorithm).unwrap()).unwrap();
        jwk["kid"] = json!(self.id);
        jwk["use"] = json!("sig");
        jwk
    }

    pub fn sign(&self, claims: &Value) -> String {
        let mut header = Header::new(self.algorithm);
        header.kid = Some(self.id.clone());
        jsonwebtoken::encode(&header, claims, &self.signing).unwrap()
    }
}

/// How the issuer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// It answers.
    Well,
    /// It takes requests and says nothing, until it is well again.
    Silent,
    /// Connections to it end at once.
    Away,
}

/// An issuer whose keys and whose mood a test changes.
pub struct Issuer {
    /// What is in its tokens.
    pub url: String,
    /// The file with its CA.
    pub ca: tempfile::NamedTempFile,
    state: Arc<State>,
}

struct State {
    /// What it calls itself.
    name: String,
    keys: watch::Sender<Value>,
    mood: watch::Sender<Mood>,
    asked: watch::Sender<usize>,
}

impl Issuer {
    pub async fn start(mood: Mood, keys: &[&Key]) -> Self {
        let ca_key = KeyPair::generate().unwrap();
        let mut ca_params = CertificateParams::default();
        ca_params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(ca.path(), ca_params.self_signed(&ca_key).unwrap().pem()).unwrap();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &Authority::new(ca_params, ca_key)).unwrap();

        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let tls = tls.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://localhost:{}/realm", listener.local_addr().unwrap().port());
        let state = Arc::new(State {
            name: url.clone(),
            keys: watch::Sender::new(json!([])),
            mood: watch::Sender::new(mood),
            asked: watch::Sender::new(0),
        });
        tokio::spawn(serve(listener, TlsAcceptor::from(Arc::new(tls)), Arc::clone(&state)));
        let issuer = Self { url, ca, state };
        issuer.publish(keys);
        issuer
    }

    /// These are its keys from now on.
    pub fn publish(&self, keys: &[&Key]) {
        self.publish_set(keys.iter().map(|key| key.public()).collect());
    }

    /// The same for what may be no key.
    pub fn publish_set(&self, keys: Vec<Value>) {
        self.state.keys.send_replace(keys.into());
    }

    pub fn set_mood(&self, mood: Mood) {
        self.state.mood.send_replace(mood);
    }

    /// How many requests have come.
    pub fn asked(&self) -> usize {
        *self.state.asked.borrow()
    }

    /// Waits until so many requests have come.
    pub async fn is_asked(&self, times: usize) {
        self.state.asked.subscribe().wait_for(|asked| *asked >= times).await.unwrap();
    }
}

async fn serve(listener: TcpListener, tls: TlsAcceptor, state: Arc<State>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, state) = (tls.clone(), Arc::clone(&state));
        tokio::spawn(async move {
            if *state.mood.borrow() == Mood::Away {
                return;
            }
            let Ok(stream) = tls.accept(stream).await else { return };
            let service = service_fn(move |request| answer(Arc::clone(&state), request));
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(state: Arc<State>, request: Request<Incoming>) -> io::Result<Response<Full<Bytes>>> {
    state.asked.send_modify(|asked| *asked += 1);
    let mood = *state.mood.subscribe().wait_for(|mood| *mood != Mood::Silent).await.unwrap();
    if mood == Mood::Away {
        // Which ends the connection.
        return Err(io::ErrorKind::ConnectionAborted.into());
    }
    let body = match request.uri().path() {
        "/realm/.well-known/openid-configuration" => {
            json!({ "issuer": state.name, "jwks_uri": format!("{}/keys", state.name) })
        }
        "/realm/keys" => json!({ "keys": *state.keys.borrow() }),
        _ => return Ok(Response::builder().status(404).body(Full::default()).unwrap()),
    };
    Ok(Response::new(Full::from(body.to_string())))
}
