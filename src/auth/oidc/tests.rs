use std::net::SocketAddr;

use axum::Router;
use axum::routing::get;
use jsonwebtoken::{EncodingKey, Header};
use parking_lot::Mutex;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::clock::ManualClock;

const NOW: i64 = 1_800_000_000;

/// An issuer on this machine, whose keys a test changes.
struct Issuer {
    url: String,
    ca: tempfile::NamedTempFile,
    keys: Arc<Mutex<Value>>,
    fetched: Arc<Mutex<usize>>,
}

struct Key {
    id: &'static str,
    pair: KeyPair,
}

impl Key {
    fn new(id: &'static str) -> Self {
        Self { id, pair: KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap() }
    }

    fn public(&self) -> Value {
        // An uncompressed point: 04, then x and y.
        let point = self.pair.public_key_raw();
        let part = |range: std::ops::Range<usize>| URL_SAFE_NO_PAD.encode(&point[range]);
        json!({ "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": self.id,
            "x": part(1..33), "y": part(33..65) })
    }

    fn sign(&self, claims: &Value) -> String {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(self.id.to_owned());
        let key = EncodingKey::from_ec_der(&self.pair.serialize_der());
        jsonwebtoken::encode(&header, claims, &key).unwrap()
    }
}

impl Issuer {
    async fn start() -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
        let ca = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(ca.path(), certificate.pem()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let der = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let tls = tls.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], der).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at: SocketAddr = listener.local_addr().unwrap();
        let url = format!("https://localhost:{}/realm", at.port());
        let (keys, fetched) = (Arc::new(Mutex::new(json!([]))), Arc::new(Mutex::new(0)));
        let discovery = json!({ "issuer": url, "jwks_uri": format!("{url}/keys") }).to_string();
        let (shown, count) = (Arc::clone(&keys), Arc::clone(&fetched));
        let router =
            Router::new().route("/realm/.well-known/openid-configuration", get(async move || discovery.clone())).route(
                "/realm/keys",
                get(async move || {
                    *count.lock() += 1;
                    json!({ "keys": *shown.lock() }).to_string()
                }),
            );
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, router) = (acceptor.clone(), router.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = hyper_util::service::TowerToHyperService::new(router);
                    let io = hyper_util::rt::TokioIo::new(stream);
                    let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
                });
            }
        });
        Self { url, ca, keys, fetched }
    }

    fn oidc(&self, clock: &Arc<ManualClock>) -> Oidc {
        self.with_prefix("ci:", clock)
    }

    fn with_prefix(&self, prefix: &str, clock: &Arc<ManualClock>) -> Oidc {
        let config = OidcConfig {
            issuer: self.url.clone(),
            audience: "imagehub".to_owned(),
            username_claim: "sub".to_owned(),
            groups_claim: "groups".to_owned(),
            prefix: prefix.to_owned(),
            ca_file: Some(self.ca.path().to_owned()),
        };
        Oidc::new(config, Arc::clone(clock) as SharedClock).unwrap()
    }

    fn claims(&self) -> Value {
        json!({ "iss": self.url, "aud": ["other", "imagehub"], "sub": "repo:acme/app", "exp": NOW + 600, "iat": NOW,
            "groups": ["builders"] })
    }
}

fn clock() -> Arc<ManualClock> {
    ManualClock::at(Timestamp::from_second(NOW).unwrap())
}

#[tokio::test]
async fn a_pipeline_is_known_by_its_token_until_that_ends() {
    let (issuer, clock, key) = (Issuer::start().await, clock(), Key::new("one"));
    *issuer.keys.lock() = json!([key.public()]);
    let oidc = issuer.oidc(&clock);
    let token = key.sign(&issuer.claims());
    let caller = oidc.caller(&token).await.unwrap().unwrap();
    assert_eq!(caller.user(), "ci:repo:acme/app");
    assert_eq!(caller.groups(), ["ci:builders", "system:authenticated"]);
    assert_eq!(&*caller.manager_name(), "user:ci:repo:acme/app");
    assert!(!caller.is_administrator());
    clock.step_ms((600 + 60) * 1000);
    caller.revoked().await;
    let error = oidc.caller(&token).await.unwrap_err();
    assert!(error.to_string().ends_with("it has ended"), "{error}");
}

#[tokio::test]
async fn what_the_issuer_did_not_sign_for_us_is_refused_with_the_reason() {
    let (issuer, clock, key) = (Issuer::start().await, clock(), Key::new("one"));
    *issuer.keys.lock() = json!([key.public()]);
    let oidc = issuer.oidc(&clock);
    let with = |claim: &str, value: Value| {
        let mut claims = issuer.claims();
        claims[claim] = value;
        claims
    };
    let stranger = Key::new("one");
    let unknown = Key::new("two");
    for (token, why) in [
        (stranger.sign(&issuer.claims()), "InvalidSignature"),
        (unknown.sign(&issuer.claims()), "no such key"),
        (key.sign(&with("aud", json!("other"))), "InvalidAudience"),
        (key.sign(&with("exp", json!(NOW - 61))), "it has ended"),
        (key.sign(&with("exp", json!("soon"))), "exp"),
        (key.sign(&with("nbf", json!(NOW + 61))), "not begun"),
        (key.sign(&with("sub", json!(7))), "sub"),
        (key.sign(&with("groups", json!([7]))), "is no text"),
    ] {
        let error = oidc.caller(&token).await.unwrap_err();
        assert_eq!(error.code(), 401);
        assert!(error.to_string().contains(why), "{error}: {why}");
    }
    // Signed with a secret that everybody knows, or not at all.
    let shared = EncodingKey::from_secret(b"imagehub");
    let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &issuer.claims(), &shared).unwrap();
    assert_eq!(oidc.caller(&token).await.unwrap_err().code(), 401);
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let none = format!("{}.{}.", part(&json!({ "alg": "none" })), part(&issuer.claims()));
    assert_eq!(oidc.caller(&none).await.unwrap_err().code(), 401);
    // Those of others are left to others.
    assert_eq!(oidc.caller(&key.sign(&with("iss", json!("https://elsewhere.example")))).await.unwrap(), None);
    assert_eq!(oidc.caller("imagehub_id_secret").await.unwrap(), None);
}

#[tokio::test]
async fn no_issuer_makes_administrators() {
    let (issuer, clock, key) = (Issuer::start().await, clock(), Key::new("one"));
    *issuer.keys.lock() = json!([key.public()]);
    let oidc = issuer.with_prefix("", &clock);
    for (claim, value) in [("groups", json!(["a", "system:masters"])), ("sub", json!("system:admin"))] {
        let mut claims = issuer.claims();
        claims[claim] = value;
        let error = oidc.caller(&key.sign(&claims)).await.unwrap_err();
        assert!(error.to_string().contains("given out by no issuer"), "{error}");
    }
    assert_eq!(oidc.caller(&key.sign(&issuer.claims())).await.unwrap().unwrap().user(), "repo:acme/app");
}

#[tokio::test]
async fn keys_are_fetched_anew_when_the_issuer_rotates_them_and_not_more_often() {
    let (issuer, clock) = (Issuer::start().await, clock());
    let (first, second) = (Key::new("first"), Key::new("second"));
    *issuer.keys.lock() = json!([first.public()]);
    let oidc = issuer.oidc(&clock);
    let mut claims = issuer.claims();
    claims["exp"] = json!(NOW + 7200);
    let (old, new) = (first.sign(&claims), second.sign(&claims));
    assert!(oidc.caller(&old).await.unwrap().is_some());
    *issuer.keys.lock() = json!([first.public(), second.public()]);
    for _ in 0..3 {
        assert_eq!(oidc.caller(&new).await.unwrap_err().code(), 401, "a moment ago there was no such key");
    }
    assert_eq!(*issuer.fetched.lock(), 1);
    clock.step_ms(11_000);
    assert!(oidc.caller(&new).await.unwrap().is_some());
    assert_eq!(*issuer.fetched.lock(), 2);
    // What the first key signed is believed for as long as the issuer has it.
    *issuer.keys.lock() = json!([second.public()]);
    clock.step_ms(16 * 60 * 1000);
    assert_eq!(oidc.caller(&old).await.unwrap_err().code(), 401);
    assert!(oidc.caller(&new).await.unwrap().is_some());
}

#[test]
fn an_issuer_must_be_reached_by_tls() {
    for issuer in ["http://issuer.example", "issuer.example", "https://issuer.example/?x=1", ""] {
        assert!(Keys::new(issuer, None, clock() as SharedClock).is_err(), "{issuer}");
    }
}
