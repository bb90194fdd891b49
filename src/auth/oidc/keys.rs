//! The keys of an issuer (RFC 7517), found by its discovery document (OpenID Connect Discovery 1.0, section 4). One task
//! fetches them: at the start, when they are old, and when a token names one that isn't known, for issuers rotate them.
//! Whoever shows a token of a key that is known waits for no fetch.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::{Jwk, PublicKeyUse};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout_at};
use tracing::{info, warn};

use crate::clock::SharedClock;
use crate::error::{Error, causes};

/// At this age the keys are fetched anew: one that the issuer took back is believed no longer.
const FRESH: SignedDuration = SignedDuration::from_mins(15);
/// When they are fetched again after that has failed.
const RETRY: SignedDuration = SignedDuration::from_mins(1);
/// How old keys may become where the issuer can't be reached. Then no token is believed.
const STALE: SignedDuration = SignedDuration::from_hours(24);
/// The least time between two fetches, however many tokens name keys that aren't known.
const PAUSE: SignedDuration = SignedDuration::from_secs(10);
/// How long a fetch may take.
const FETCH_TIME: Duration = Duration::from_secs(5);
/// How many requests wait for a fetch at a time. More are refused: a slow issuer must not hold all that the server has.
pub(super) const WAITING: usize = 64;
/// The largest document that is read, in bytes.
const DOCUMENT_LIMIT: usize = 1024 * 1024;
/// The most keys that are read of an issuer.
const KEYS: usize = 256;

/// What is wrong with the settings, or why there are no keys: a sentence for the person who set the issuer up.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct KeysError(String);

impl KeysError {
    pub(super) fn new(why: impl std::fmt::Display) -> Self {
        Self(why.to_string())
    }
}

/// The keys of one issuer.
pub(super) struct Keys {
    issuer: String,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    state: watch::Sender<State>,
    waiting: Semaphore,
    clock: SharedClock,
}

#[derive(Default)]
struct State {
    keys: HashMap<String, DecodingKey>,
    /// When these were fetched.
    fetched: Option<Timestamp>,
    /// When a fetch ended last, with success or without.
    tried: Option<Timestamp>,
    /// Whether somebody waits for a fetch.
    wanted: bool,
}

/// A key, and the fetch that brought it.
pub(super) struct Found {
    pub(super) key: DecodingKey,
    pub(super) fetched: Timestamp,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

/// As it is sent: a key of a sort that isn't known here is no reason to do without the others (RFC 7517, section 5).
#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Value>,
}

impl Keys {
    pub(super) fn new(issuer: &str, ca_file: Option<&Path>, clock: SharedClock) -> Result<Self, KeysError> {
        let bad = |why: &dyn std::fmt::Display| {
            KeysError::new(format_args!(
                "--oidc-issuer-url {issuer:?}: {why}: want an https URL without a query, as in https://issuer.example"
            ))
        };
        let uri: Uri = issuer.parse().map_err(|error| bad(&error))?;
        if uri.scheme_str() != Some("https") {
            return Err(bad(&"it is not https"));
        }
        if uri.query().is_some() {
            return Err(bad(&"it has a query"));
        }
        let roots = match ca_file {
            Some(file) => roots_of(file)?,
            None => system_roots(),
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let tls = tls.map_err(KeysError::new)?.with_root_certificates(roots).with_no_client_auth();
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_http1();
        let client = Client::builder(TokioExecutor::new()).build(connector.wrap_connector(tcp));
        let (state, waiting) = (watch::Sender::default(), Semaphore::new(WAITING));
        Ok(Self { issuer: issuer.to_owned(), client, state, waiting, clock })
    }

    /// The fetch whose keys are believed now, if any are.
    pub(super) fn fetched(&self) -> Option<Timestamp> {
        self.state.borrow().believed(self.clock.now())
    }

    /// The key called `id`; of an issuer with one key that one, where a token names none. `None` where the issuer has no
    /// such key, or hadn't when it was asked a moment ago.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where the issuer can't be asked.
    pub(super) async fn get(&self, id: &str) -> Result<Option<Found>, Error> {
        let known = self.state.borrow().find(id, self.clock.now());
        if known.is_some() {
            return Ok(known);
        }
        self.renew().await?;
        let (state, now) = (self.state.borrow(), self.clock.now());
        match state.find(id, now) {
            None if state.believed(now).is_none() || state.tried != state.fetched => {
                Err(Error::Unavailable("the keys of the token's issuer can't be had; try again".to_owned()))
            }
            found => Ok(found),
        }
    }

    /// Has the keys fetched and waits for it, unless that was done a moment ago.
    async fn renew(&self) -> Result<(), Error> {
        let Ok(_waits) = self.waiting.try_acquire() else {
            let message = format!("{WAITING} requests wait for the keys of the token's issuer, the most that may");
            return Err(Error::Unavailable(message));
        };
        let mut state = self.state.subscribe();
        let now = self.clock.now();
        self.state.send_if_modified(|state| {
            let lately = state.tried.is_some_and(|tried| now.duration_since(tried).abs() < PAUSE);
            let asks = !lately && !state.wanted;
            state.wanted |= asks;
            asks
        });
        // It lives as long as its sender.
        let _ = state.wait_for(|state| !state.wanted).await;
        Ok(())
    }

    /// Fetches the keys when it is time to, for ever. What can't be fetched changes nothing.
    pub(super) async fn keep_current(&self) {
        let mut wanted = self.state.subscribe();
        loop {
            let fetched = self.fetch().await;
            let now = self.clock.now();
            let next = now.checked_add(if fetched.is_ok() { FRESH } else { RETRY }).unwrap_or(Timestamp::MAX);
            self.state.send_modify(|state| {
                (state.tried, state.wanted) = (Some(now), false);
                match fetched {
                    Ok(keys) => {
                        info!(issuer = self.issuer, keys = keys.len(), "the issuer's keys were fetched");
                        (state.keys, state.fetched) = (keys, Some(now));
                    }
                    Err(error) => {
                        let held = state.believed(now).is_some();
                        let so = if held { "those from before hold" } else { "none of its tokens is believed" };
                        warn!(issuer = self.issuer, %error, so, "the issuer's keys can't be fetched");
                    }
                }
            });
            tokio::select! {
                _ = wanted.wait_for(|state| state.wanted) => {}
                () = self.clock.reaches(next) => {}
            }
        }
    }

    /// Asks the issuer.
    pub(super) async fn fetch(&self) -> Result<HashMap<String, DecodingKey>, KeysError> {
        let until = Instant::now() + FETCH_TIME;
        let at = format!("{}/.well-known/openid-configuration", self.issuer.trim_end_matches('/'));
        let discovery: Discovery = self.document(&at, until).await?;
        if discovery.issuer != self.issuer {
            return Err(KeysError::new(format_args!(
                "{at} is of the issuer {:?}: --oidc-issuer-url must be that, to the letter",
                discovery.issuer
            )));
        }
        let set: KeySet = self.document(&discovery.jwks_uri, until).await?;
        let mut keys = HashMap::new();
        for key in set.keys.into_iter().take(KEYS) {
            let read = serde_json::from_value::<Jwk>(key).map_err(KeysError::new).and_then(|jwk| {
                let signs = jwk.common.public_key_use.as_ref().is_none_or(|used| *used == PublicKeyUse::Signature);
                let key = signs.then(|| DecodingKey::from_jwk(&jwk).map_err(KeysError::new)).transpose()?;
                Ok(key.map(|key| (jwk.common.key_id.unwrap_or_default(), key)))
            });
            match read {
                Ok(key) => keys.extend(key),
                Err(error) => warn!(issuer = self.issuer, %error, "a key of the issuer can't be used"),
            }
        }
        Ok(keys)
    }

    async fn document<T: serde::de::DeserializeOwned>(&self, uri: &str, until: Instant) -> Result<T, KeysError> {
        let bad = |error: &dyn std::fmt::Display| KeysError::new(format_args!("{uri}: {error}"));
        let fetched = async {
            let request = Request::get(uri).header("accept", "application/json").body(Full::default());
            let request = request.map_err(|error| bad(&error))?;
            let response = self.client.request(request).await.map_err(|error| bad(&causes(&error)))?;
            if response.status() != StatusCode::OK {
                return Err(bad(&response.status()));
            }
            let body = Limited::new(response.into_body(), DOCUMENT_LIMIT).collect().await;
            let body = body.map_err(|error| bad(&causes(&*error)))?;
            serde_json::from_slice(&body.to_bytes()).map_err(|error| bad(&error))
        };
        let late = |_| bad(&format_args!("no answer within {FETCH_TIME:?}"));
        timeout_at(until, fetched).await.map_err(late)?
    }
}

impl State {
    /// When the keys were fetched, if they may be believed still.
    fn believed(&self, now: Timestamp) -> Option<Timestamp> {
        self.fetched.filter(|fetched| now.duration_since(*fetched) <= STALE)
    }

    fn find(&self, id: &str, now: Timestamp) -> Option<Found> {
        let fetched = self.believed(now)?;
        let key = match self.keys.get(id) {
            None if id.is_empty() && self.keys.len() == 1 => self.keys.values().next(),
            found => found,
        };
        key.map(|key| Found { key: key.clone(), fetched })
    }
}

fn roots_of(file: &Path) -> Result<RootCertStore, KeysError> {
    let bad =
        |error: &dyn std::fmt::Display| KeysError::new(format_args!("--oidc-ca-file {}: {error}", file.display()));
    let text = std::fs::read(file).map_err(|error| bad(&error))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|error| bad(&format_args!("{error}: want PEM")))?;
        roots.add(certificate).map_err(|_| bad(&"a certificate in it can't be read"))?;
    }
    if roots.is_empty() { Err(bad(&"there is no certificate in it: want PEM")) } else { Ok(roots) }
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
