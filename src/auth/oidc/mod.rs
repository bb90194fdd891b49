//! Tokens of an OpenID Connect issuer: ID tokens of people, and those that a CI system gives its pipelines, so that a
//! pipeline can be a manager. A token is believed by its signature, issuer, audience and time (OpenID Connect Core
//! 1.0, section 3.1.3.7); its claims are mapped to a user and groups as kube-apiserver's `--oidc-*` flags do it.

mod keys;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, Validation};
use moka::sync::Cache;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use tracing::debug;

use super::Caller;
use crate::clock::SharedClock;
use crate::error::Error;
pub use keys::KeysError;
use keys::{Found, Keys};

/// The signatures that are believed: those that need no shared secret.
const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];
/// The longest token that is looked at, in bytes.
const LONGEST_TOKEN: usize = 16 * 1024;
/// How much the issuer's clock may differ.
const SKEW: SignedDuration = SignedDuration::from_secs(60);
/// The most groups that are taken from one token.
const GROUPS: usize = 256;
/// What the names begin with that kube gives a meaning.
const RESERVED: &str = "system:";
/// How many tokens are remembered with what was found: a client sends the same one with each request.
const REMEMBERED: u64 = 4096;

/// An issuer, and how its tokens are read.
#[derive(Debug, Clone)]
pub struct OidcConfig {
    /// The issuer's URL, as it is in its tokens; its keys are found from there.
    pub issuer: String,
    /// For whom a token must be meant: this server's name at the issuer.
    pub audience: String,
    /// The claim that is the user's name.
    pub username_claim: String,
    /// The claim, a string or a list of them, that has the user's groups.
    pub groups_claim: String,
    /// What is put before names and groups, so that they are nobody else's.
    pub prefix: String,
    /// The CAs that the issuer's certificate is checked with, PEM; without, those of the system.
    pub ca_file: Option<PathBuf>,
}

/// The tokens of one issuer.
pub struct Oidc {
    config: OidcConfig,
    keys: Keys,
    clock: SharedClock,
    remembered: Cache<[u8; 32], Remembered>,
}

#[derive(Debug, Clone)]
struct Remembered {
    caller: Caller,
    /// The fetch that brought the key which signed it: the next may bring others.
    fetched: Timestamp,
}

impl std::fmt::Debug for Oidc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Oidc").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Oidc {
    /// The tokens of `config`'s issuer. None is believed before [`keep_current`](Self::keep_current) runs.
    ///
    /// # Errors
    /// What is wrong with the settings.
    pub fn new(config: OidcConfig, clock: SharedClock) -> Result<Self, KeysError> {
        if config.prefix.starts_with(RESERVED) {
            return Err(KeysError::new(format_args!(
                "--oidc-prefix {:?}: what begins with {RESERVED:?} is given out by no issuer",
                config.prefix
            )));
        }
        let keys = Keys::new(&config.issuer, config.ca_file.as_deref(), Arc::clone(&clock))?;
        Ok(Self { config, keys, clock, remembered: Cache::new(REMEMBERED) })
    }

    /// Keeps up with the issuer's keys, for ever.
    pub async fn keep_current(&self) {
        self.keys.keep_current().await;
    }

    /// Whose token it is; `None` where it is none of this issuer's: somebody else may know it.
    ///
    /// # Errors
    /// [`Error::Unauthorized`] for one of this issuer that is no good, with the reason; [`Error::Unavailable`] where the
    /// issuer's keys can't be had.
    pub async fn caller(&self, token: &str) -> Result<Option<Caller>, Error> {
        if token.len() > LONGEST_TOKEN || unverified_issuer(token).as_deref() != Some(&*self.config.issuer) {
            return Ok(None);
        }
        let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let now = self.clock.now();
        if let Some(Remembered { caller, fetched }) = self.remembered.get(&digest)
            && caller.has_ended().is_none()
            && self.keys.fetched() == Some(fetched)
        {
            return Ok(Some(caller));
        }
        let refuse = |why: &str| Err(Error::Unauthorized(format!("Unauthorized: the token is not believed: {why}")));
        let header = jsonwebtoken::decode_header(token).ok();
        let Some(header) = header.filter(|header| ALGORITHMS.contains(&header.alg)) else {
            return refuse("its header names no signature of a kind that is accepted, such as RS256 or ES256");
        };
        let id = header.kid.unwrap_or_default();
        let Some(Found { key, fetched }) = self.keys.get(&id).await? else {
            return refuse("the issuer has no such key, or had none a moment ago");
        };
        // Times are looked at below, by the clock that all go by.
        let mut validation = Validation::new(header.alg);
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.set_audience(&[&self.config.audience]);
        validation.set_issuer(&[&self.config.issuer]);
        validation.required_spec_claims = HashSet::from(["iss", "aud", "exp", "sub"].map(str::to_owned));
        let claims = match jsonwebtoken::decode::<Map<String, Value>>(token, &key, &validation) {
            Ok(decoded) => decoded.claims,
            Err(error) => {
                debug!(%error, "a token of the issuer is no good");
                return refuse(&self.in_words(&error));
            }
        };
        let expires = match check_times(&claims, now) {
            Ok(expires) => expires,
            Err(why) => return refuse(why),
        };
        let (user, groups) = match self.names(&claims) {
            Ok(names) => names,
            Err(why) => return refuse(&why),
        };
        let caller = Caller::authenticated(&user, groups).expiring(expires, Arc::clone(&self.clock));
        self.remembered.insert(digest, Remembered { caller: caller.clone(), fetched });
        Ok(Some(caller))
    }

    /// What is wrong with a token, as its owner understands it.
    fn in_words(&self, error: &jsonwebtoken::errors::Error) -> String {
        match error.kind() {
            ErrorKind::InvalidSignature => "its signature is not of the issuer's key".to_owned(),
            ErrorKind::InvalidAudience => format!("it is not meant for {:?}, this server", self.config.audience),
            ErrorKind::MissingRequiredClaim(claim) => format!("it has no claim {claim:?} that can be read"),
            ErrorKind::InvalidAlgorithm | ErrorKind::InvalidKeyFormat => {
                "its signature is of another kind than the issuer's key".to_owned()
            }
            _ => error.to_string(),
        }
    }

    /// The user and the groups that claims name.
    fn names(&self, claims: &Map<String, Value>) -> Result<(String, Vec<String>), String> {
        let OidcConfig { username_claim, groups_claim, prefix, .. } = &self.config;
        let user = match claims.get(username_claim) {
            Some(Value::String(user)) if !user.is_empty() => user,
            _ => return Err(format!("it has no text in its claim {username_claim:?}")),
        };
        // As kube-apiserver: an address that nobody has confirmed is nobody's name.
        if username_claim == "email" && claims.get("email_verified").is_some_and(|v| v != &Value::Bool(true)) {
            return Err("its email is not verified".to_owned());
        }
        let text = |value: &Value| value.as_str().map(|group| format!("{prefix}{group}"));
        let groups = match claims.get(groups_claim) {
            None | Some(Value::Null) => Vec::new(),
            Some(one @ Value::String(_)) => text(one).into_iter().collect(),
            Some(Value::Array(many)) if many.len() <= GROUPS => {
                let groups: Option<Vec<_>> = many.iter().map(text).collect();
                groups.ok_or_else(|| format!("its claim {groups_claim:?} has what is no text"))?
            }
            Some(Value::Array(_)) => return Err(format!("its claim {groups_claim:?} has more than {GROUPS} groups")),
            Some(_) => return Err(format!("its claim {groups_claim:?} is neither a text nor a list")),
        };
        let user = format!("{prefix}{user}");
        // Those are the system's own, and its administrators', whatever the issuer says.
        if let Some(name) = [&user].into_iter().chain(&groups).find(|name| name.starts_with(RESERVED)) {
            return Err(format!("it names {name:?}, and what begins with {RESERVED:?} is given out by no issuer"));
        }
        Ok((user, groups))
    }
}

/// The issuer that a token names, before anything of it is believed.
fn unverified_issuer(token: &str) -> Option<String> {
    let mut parts = token.split('.');
    let (_, payload, _, None) = (parts.next()?, parts.next()?, parts.next()?, parts.next()) else { return None };
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
    claims.get("iss")?.as_str().map(str::to_owned)
}

/// When a token ends, if it is good now.
fn check_times(claims: &Map<String, Value>, now: Timestamp) -> Result<Timestamp, &'static str> {
    let at = |claim: &str| -> Result<Option<Timestamp>, &'static str> {
        let Some(value) = claims.get(claim) else { return Ok(None) };
        // RFC 7519, section 2: a number of seconds, maybe with a fraction, which is cut off here.
        #[expect(clippy::cast_possible_truncation, reason = "what is too large for a time is refused next")]
        let seconds = value.as_i64().or_else(|| value.as_f64().map(|seconds| seconds as i64));
        let time = seconds.and_then(|seconds| Timestamp::from_second(seconds).ok());
        time.map(Some).ok_or("one of its times is no time")
    };
    let later = |time: Timestamp| time.checked_add(SKEW).unwrap_or(Timestamp::MAX);
    let expires = later(at("exp")?.ok_or("it never ends")?);
    if now >= expires {
        return Err("it has ended");
    }
    if at("nbf")?.is_some_and(|begins| later(now) < begins) {
        return Err("it has not begun to be good");
    }
    Ok(expires)
}

#[cfg(test)]
mod issuer;
#[cfg(test)]
mod tests;
