//! From a request's credentials to who asks.

use http::HeaderMap;
use http::header::AUTHORIZATION;

use std::sync::Arc;

use super::caller::{ANONYMOUS, UNAUTHENTICATED};
use super::users::Tokens;
use super::{Caller, users};
use crate::error::Error;

/// What begins the names of kube's impersonation headers.
const IMPERSONATE: &str = "impersonate-";
/// The most groups that a caller is impersonated with.
const IMPERSONATED_GROUPS: usize = 64;

/// Who may be who.
#[derive(Debug, Clone, Default)]
pub struct Authenticator {
    tokens: Option<Arc<Tokens>>,
}

impl Authenticator {
    /// One that knows the local users' tokens.
    #[must_use]
    pub fn new(tokens: Arc<Tokens>) -> Self {
        Self { tokens: Some(tokens) }
    }

    /// Who makes a request that came over a connection whose client certificate is that of `certificate`.
    ///
    /// # Errors
    /// [`Error::Unauthorized`] for credentials that are no good; [`Error::Forbidden`] for a caller that may
    /// not act as another. Neither is ever ignored: the request would be answered as somebody else's.
    pub fn authenticate(&self, certificate: Option<&Caller>, headers: &HeaderMap) -> Result<Caller, Error> {
        let caller = match certificate {
            Some(caller) => caller.clone(),
            None if headers.contains_key(AUTHORIZATION) => {
                let bad = || Error::Unauthorized("Unauthorized".to_owned());
                let token = bearer(headers).ok_or_else(bad)?;
                self.tokens.as_ref().and_then(|tokens| tokens.caller(token)).ok_or_else(bad)?
            }
            None => Caller::anonymous(),
        };
        impersonate(caller, headers)
    }

    /// Ends what was begun with tokens that are taken back, for ever: requests look by themselves, open
    /// watches can't.
    pub async fn watch_tokens(&self) {
        let Some(tokens) = &self.tokens else { return std::future::pending().await };
        loop {
            tokio::time::sleep(users::LOOK_EVERY).await;
            tokens.refresh();
        }
    }
}

/// The one bearer token (RFC 6750) of a request.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (value, None) = (values.next()?.to_str().ok()?, values.next()) else { return None };
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn impersonate(caller: Caller, headers: &HeaderMap) -> Result<Caller, Error> {
    if !headers.keys().any(|name| name.as_str().starts_with(IMPERSONATE)) {
        return Ok(caller);
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
    if !caller.is_administrator() {
        return Err(Error::Forbidden {
            kind: None,
            name: user.clone(),
            message: format!(
                "users {user:?} is forbidden: User {:?} cannot impersonate resource \"users\" in API group \"\" at the \
                 cluster scope",
                caller.user()
            ),
        });
    }
    if user == ANONYMOUS || groups.iter().any(|group| group == UNAUTHENTICATED) {
        return Ok(Caller::anonymous().ends_with(&caller));
    }
    Ok(Caller::authenticated(&user, groups).ends_with(&caller))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    fn authenticate(certificate: Option<&Caller>, headers: &HeaderMap) -> Result<Caller, Error> {
        Authenticator::default().authenticate(certificate, headers)
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
