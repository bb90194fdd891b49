//! From a request's credentials to who asks.

use std::sync::Arc;

use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::caller::{ANONYMOUS, UNAUTHENTICATED};
use super::certificate::{Authorities, Found, Peer, Trust};
use super::cluster::Cluster;
use super::oidc::Oidc;
use super::users::Tokens;
use super::{Caller, users};
use crate::clock::SharedClock;
use crate::error::Error;

/// What begins the names of kube's impersonation headers.
const IMPERSONATE: &str = "impersonate-";
/// The most groups that a caller is impersonated with.
const IMPERSONATED_GROUPS: usize = 64;

/// Who may be who.
#[derive(Debug, Clone)]
pub struct Authenticator {
    who: Who,
    oidc: Option<Arc<Oidc>>,
}

#[derive(Debug, Clone)]
enum Who {
    /// The users of a server on one machine.
    Local { tokens: Option<Arc<Tokens>>, trust: Arc<Trust>, clock: SharedClock },
    /// Those of a cluster.
    Cluster(Arc<Cluster>),
}

impl Authenticator {
    /// One that knows the local users' tokens, and believes the client certificates of `authorities`.
    #[must_use]
    pub fn local(tokens: Option<Arc<Tokens>>, authorities: Option<Authorities>, clock: SharedClock) -> Self {
        let trust = Arc::new(Trust { clients: authorities, ..Trust::default() });
        Self { who: Who::Local { tokens, trust, clock }, oidc: None }
    }

    /// One that knows whom the cluster knows.
    #[must_use]
    pub fn cluster(cluster: Arc<Cluster>) -> Self {
        Self { who: Who::Cluster(cluster), oidc: None }
    }

    /// The same, that knows the tokens of an OpenID Connect issuer, too.
    #[must_use]
    pub fn with_oidc(mut self, oidc: Option<Arc<Oidc>>) -> Self {
        self.oidc = oidc;
        self
    }

    /// Who makes a request that came over a connection at whose beginning `peer` was shown.
    ///
    /// # Errors
    /// [`Error::Unauthorized`] for credentials that are no good; [`Error::Forbidden`] for a caller that may
    /// not act as another. Neither is ever ignored: the request would be answered as somebody else's.
    /// [`Error::Unavailable`] where the cluster can't be asked.
    pub async fn authenticate(&self, peer: Option<&Peer>, headers: &HeaderMap) -> Result<Caller, Error> {
        // What is no bearer token is as good as an empty one.
        let token = headers.contains_key(AUTHORIZATION).then(|| bearer(headers).unwrap_or_default());
        let caller = match (&self.who, self.issued(peer, token).await?) {
            (_, Some(caller)) => caller,
            (Who::Local { tokens, trust, clock }, None) => {
                let named = |user: &str, groups: Vec<String>| Caller::authenticated(user, groups);
                let found = peer.map(|peer| peer.judge(trust, clock.now(), named));
                match (found, token) {
                    (Some(Found { caller: Some(caller), .. }), _) => caller,
                    (_, Some(token)) => {
                        let bad = || Error::Unauthorized("Unauthorized".to_owned());
                        tokens.as_ref().and_then(|tokens| tokens.caller(token)).ok_or_else(bad)?
                    }
                    (Some(Found { why, .. }), None) => return Err(not_believed(&why)),
                    (None, None) => Caller::anonymous(),
                }
            }
            (Who::Cluster(cluster), None) => Box::pin(cluster.authenticate(peer, token, headers)).await?,
        };
        let Some(who) = impersonated(headers)? else { return Ok(caller) };
        let as_other = match &self.who {
            Who::Cluster(cluster) => Box::pin(cluster.impersonate(&caller, &who)).await?,
            Who::Local { .. } if !caller.is_administrator() => {
                return Err(may_not_impersonate(&caller, "users", &who.user, ""));
            }
            Who::Local { .. } if who.is_anonymous() => Caller::anonymous(),
            Who::Local { .. } => Caller::authenticated(&who.user, who.groups),
        };
        Ok(as_other.ends_with(&caller))
    }

    /// Whose token it is, where the issuer gave it out. A certificate comes before tokens.
    async fn issued(&self, peer: Option<&Peer>, token: Option<&str>) -> Result<Option<Caller>, Error> {
        match (&self.oidc, peer, token) {
            (Some(oidc), None, Some(token)) => Box::pin(oidc.caller(token)).await,
            _ => Ok(None),
        }
    }

    /// The caller with all that it may see.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where the cluster can't be asked: less is never shown instead.
    pub async fn with_sight(&self, caller: Caller) -> Result<Caller, Error> {
        match &self.who {
            Who::Local { .. } => Ok(caller),
            Who::Cluster(cluster) => Box::pin(cluster.with_sight(caller)).await,
        }
    }

    /// Ends what was begun with tokens that are taken back, for ever: requests look by themselves, open
    /// watches can't.
    pub async fn watch_tokens(&self) {
        let Who::Local { tokens: Some(tokens), .. } = &self.who else { return std::future::pending().await };
        loop {
            tokio::time::sleep(users::LOOK_EVERY).await;
            tokens.refresh();
        }
    }
}

/// A client certificate is of nobody: a sentence for its owner.
pub(super) fn not_believed(why: &str) -> Error {
    Error::Unauthorized(format!("Unauthorized: the client certificate is not believed: {why}"))
}

/// The one bearer token (RFC 6750) of a request.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (value, None) = (values.next()?.to_str().ok()?, values.next()) else { return None };
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Whom a request's headers ask to act as.
#[derive(Debug)]
pub(super) struct Impersonated {
    pub(super) user: String,
    pub(super) groups: Vec<String>,
}

impl Impersonated {
    fn is_anonymous(&self) -> bool {
        self.user == ANONYMOUS || self.groups.iter().any(|group| group == UNAUTHENTICATED)
    }
}

fn impersonated(headers: &HeaderMap) -> Result<Option<Impersonated>, Error> {
    if !headers.keys().any(|name| name.as_str().starts_with(IMPERSONATE)) {
        return Ok(None);
    }
    let text = |name: &str| {
        let values = headers.get_all(name).into_iter();
        values.map(|v| v.to_str().map(str::to_owned)).collect::<Result<Vec<_>, _>>()
    };
    let unreadable = |_| Error::BadRequest("an Impersonate-* header is not text".to_owned());
    let users = text("impersonate-user").map_err(unreadable)?;
    let groups = text("impersonate-group").map_err(unreadable)?;
    let user = match users.as_slice() {
        [user] if !user.is_empty() => user.clone(),
        _ => {
            return Err(Error::BadRequest(
                "requested impersonation without a user: set Impersonate-User once beside the other Impersonate-* headers"
                    .to_owned(),
            ));
        }
    };
    if groups.len() > IMPERSONATED_GROUPS {
        return Err(Error::BadRequest(format!("at most {IMPERSONATED_GROUPS} Impersonate-Group headers are taken")));
    }
    Ok(Some(Impersonated { user, groups }))
}

/// Kube's words for a caller that may not act as `name`.
pub(super) fn may_not_impersonate(caller: &Caller, resource: &str, name: &str, reason: &str) -> Error {
    let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    Error::Forbidden {
        kind: None,
        name: name.to_owned(),
        message: format!(
            "{resource} {name:?} is forbidden: User {:?} cannot impersonate resource {resource:?} in API group \"\" at \
             the cluster scope{why}",
            caller.user()
        ),
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    fn authenticate(certificate: Option<&Caller>, headers: &HeaderMap) -> Result<Caller, Error> {
        let clock = crate::clock::ManualClock::at(jiff::Timestamp::UNIX_EPOCH);
        let peer = certificate.cloned().map(Peer::known);
        let authenticator = Authenticator::local(None, None, clock);
        authenticator.authenticate(peer.as_ref(), headers).now_or_never().expect("nobody is asked")
    }

    fn administrator() -> Caller {
        Caller::authenticated("admin", ["system:masters".to_owned()])
    }

    #[test]
    fn nobody_is_taken_for_anonymous_who_shows_a_token_that_is_no_good() {
        let refused = authenticate(None, &headers(&[("authorization", "Bearer x")])).unwrap_err();
        assert_eq!(refused.code(), 401);
        assert_eq!(authenticate(None, &HeaderMap::new()).unwrap(), Caller::anonymous());
    }

    #[test]
    fn an_administrator_acts_as_another_and_nobody_else_does() {
        let as_alice = headers(&[("impersonate-user", "alice"), ("impersonate-group", "dev")]);
        let alice = authenticate(Some(&administrator()), &as_alice).unwrap();
        assert_eq!((alice.user(), alice.is_administrator(), alice.is_authenticated()), ("alice", false, true));
        assert_eq!(alice.groups(), ["dev", "system:authenticated"]);
        assert_eq!(authenticate(None, &as_alice).unwrap_err().code(), 403);
        assert_eq!(authenticate(Some(&alice), &as_alice).unwrap_err().code(), 403);
    }

    #[test]
    fn impersonation_is_never_ignored() {
        for bad in [
            headers(&[("impersonate-group", "dev")]),
            headers(&[("impersonate-uid", "1")]),
            headers(&[("impersonate-user", "")]),
            headers(&[("impersonate-extra-scopes", "x")]),
        ] {
            assert_eq!(authenticate(Some(&administrator()), &bad).unwrap_err().code(), 400, "{bad:?}");
        }
    }

    #[test]
    fn anonymous_is_impersonated_as_what_it_is() {
        let as_nobody = headers(&[("impersonate-user", "system:anonymous")]);
        assert_eq!(authenticate(Some(&administrator()), &as_nobody).unwrap(), Caller::anonymous());
    }
}
