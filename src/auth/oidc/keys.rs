//! The keys of an issuer (RFC 7517), found by its discovery document (OpenID Connect Discovery 1.0, section 4), and
//! fetched anew when a token names one that isn't known, or when they are old: issuers rotate them.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::{JwkSet, PublicKeyUse};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Deserialize;
use tracing::{info, warn};

use crate::clock::SharedClock;
use crate::error::Error;

/// From this age on the keys are fetched anew when one is used: one that the issuer took back is believed no longer.
const FRESH: SignedDuration = SignedDuration::from_mins(15);
/// How old keys may become where the issuer can't be reached. Then no token is believed.
const STALE: SignedDuration = SignedDuration::from_hours(24);
/// The least time between two fetches, whoever asks for whatever key.
const PAUSE: SignedDuration = SignedDuration::from_secs(10);
/// How long a fetch may take.
const FETCH_TIME: Duration = Duration::from_secs(5);
/// The largest document that is read, in bytes.
const DOCUMENT_LIMIT: usize = 1024 * 1024;
/// The most keys that are read of an issuer.
const KEYS: usize = 256;

/// Why there are no keys: a sentence for the person who set the issuer up.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct KeysError(String);

fn failed(why: impl std::fmt::Display) -> KeysError {
    KeysError(why.to_string())
}

/// The keys of one issuer.
pub(super) struct Keys {
    issuer: String,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    known: ArcSwap<Known>,
    /// When it was fetched last, with success or without; held while it is.
    last: tokio::sync::Mutex<Option<Timestamp>>,
    clock: SharedClock,
}

#[derive(Default)]
struct Known {
    keys: HashMap<String, DecodingKey>,
    fetched: Option<Timestamp>,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

impl Keys {
    pub(super) fn new(issuer: &str, ca_file: Option<&Path>, clock: SharedClock) -> Result<Self, KeysError> {
        let uri: Uri = issuer.parse().map_err(|error| failed(format_args!("the issuer {issuer:?}: {error}")))?;
        if uri.scheme_str() != Some("https") || uri.host().is_none() || uri.query().is_some() {
            return Err(failed(format_args!("the issuer {issuer:?} must be an https URL without a query")));
        }
        let roots = match ca_file {
            Some(file) => roots_of(file)?,
            None => system_roots(),
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let tls = tls.map_err(failed)?.with_root_certificates(roots).with_no_client_auth();
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_http1();
        let client = Client::builder(TokioExecutor::new()).build(connector.wrap_connector(tcp));
        Ok(Self {
            issuer: issuer.to_owned(),
            client,
            known: ArcSwap::default(),
            last: tokio::sync::Mutex::new(None),
            clock,
        })
    }

    /// The key called `id`. Of an issuer with one key, that one, where a token names none.
    pub(super) async fn get(&self, id: &str) -> Result<Option<DecodingKey>, Error> {
        let known = self.known.load_full();
        let (found, age) = (known.find(id), self.age(&known));
        if found.is_none() || age.is_none_or(|age| age > FRESH) {
            self.fetch().await;
        }
        let known = self.known.load_full();
        if self.age(&known).is_none_or(|age| age > STALE) {
            return Err(Error::Unavailable("the keys of the token's issuer can't be had; try again".to_owned()));
        }
        Ok(known.find(id).cloned())
    }

    /// Whether the issuer still has the key called `id`, as far as is known.
    pub(super) async fn has(&self, id: &str) -> bool {
        let known = self.known.load_full();
        if self.age(&known).is_none_or(|age| age > FRESH) {
            self.fetch().await;
        }
        let known = self.known.load();
        known.find(id).is_some() && self.age(&known).is_some_and(|age| age <= STALE)
    }

    fn age(&self, known: &Known) -> Option<SignedDuration> {
        known.fetched.map(|fetched| self.clock.now().duration_since(fetched))
    }

    /// Fetches the keys, unless somebody did a moment ago. What can't be fetched changes nothing.
    async fn fetch(&self) {
        let mut last = self.last.lock().await;
        let now = self.clock.now();
        if last.is_some_and(|last| now.duration_since(last).abs() < PAUSE) {
            return;
        }
        *last = Some(now);
        match self.fetch_now().await {
            Ok(keys) => {
                info!(issuer = self.issuer, keys = keys.len(), "the issuer's keys were fetched");
                self.known.store(Arc::new(Known { keys, fetched: Some(now) }));
            }
            Err(error) => warn!(issuer = self.issuer, %error, "the issuer's keys can't be fetched"),
        }
    }

    async fn fetch_now(&self) -> Result<HashMap<String, DecodingKey>, KeysError> {
        let at = format!("{}/.well-known/openid-configuration", self.issuer.trim_end_matches('/'));
        let discovery: Discovery = self.document(&at).await?;
        if discovery.issuer != self.issuer {
            return Err(failed(format_args!("{at} is of the issuer {:?}", discovery.issuer)));
        }
        let set: JwkSet = self.document(&discovery.jwks_uri).await?;
        let mut keys = HashMap::new();
        for jwk in set.keys.iter().take(KEYS) {
            if jwk.common.public_key_use.as_ref().is_some_and(|used| *used != PublicKeyUse::Signature) {
                continue;
            }
            match DecodingKey::from_jwk(jwk) {
                Ok(key) => {
                    keys.insert(jwk.common.key_id.clone().unwrap_or_default(), key);
                }
                // Of a kind that isn't known here.
                Err(error) => warn!(issuer = self.issuer, %error, "a key of the issuer can't be used"),
            }
        }
        Ok(keys)
    }

    async fn document<T: serde::de::DeserializeOwned>(&self, uri: &str) -> Result<T, KeysError> {
        let bad = |error: &dyn std::fmt::Display| failed(format_args!("{uri}: {error}"));
        let fetched = async {
            let request = Request::get(uri).header("accept", "application/json").body(Full::default());
            let response = self.client.request(request.map_err(|e| bad(&e))?).await.map_err(|e| bad(&e))?;
            if response.status() != StatusCode::OK {
                return Err(bad(&response.status()));
            }
            let body = Limited::new(response.into_body(), DOCUMENT_LIMIT).collect().await.map_err(|e| bad(&e))?;
            serde_json::from_slice(&body.to_bytes()).map_err(|e| bad(&e))
        };
        tokio::time::timeout(FETCH_TIME, fetched).await.map_err(|_| bad(&"no answer in time"))?
    }
}

impl Known {
    fn find(&self, id: &str) -> Option<&DecodingKey> {
        match self.keys.get(id) {
            None if id.is_empty() && self.keys.len() == 1 => self.keys.values().next(),
            found => found,
        }
    }
}

fn roots_of(file: &Path) -> Result<RootCertStore, KeysError> {
    let bad = |error: &dyn std::fmt::Display| failed(format_args!("{}: {error}", file.display()));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|e| bad(&e))? {
        roots.add(certificate.map_err(|e| bad(&e))?).map_err(|e| bad(&e))?;
    }
    if roots.is_empty() { Err(bad(&"there is no certificate in it")) } else { Ok(roots) }
}

fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    for error in found.errors {
        warn!(%error, "some of the system's CAs can't be read");
    }
    roots.add_parsable_certificates(found.certs);
    roots
}
