//! The headers of what goes from one replica to another, and back.

use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE,
    TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use crate::auth::{Caller, REMOTE_EXTRA, REMOTE_GROUP, REMOTE_UID, REMOTE_USER};
use crate::error::Error;

/// Which replica has sent a request on. One that has this is not sent on again.
const FORWARDED_BY: HeaderName = HeaderName::from_static("x-imagehub-forwarded-by");
/// In an answer to a request that was sent on: this replica is not active either, and nothing was done.
const NOT_ACTIVE: HeaderName = HeaderName::from_static("x-imagehub-not-active");

/// Those that are of one connection (RFC 9110 7.6.1, and what is older).
const OF_A_CONNECTION: [HeaderName; 9] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];
/// Those of a request that say who asks, or are made anew.
const LEFT_OUT: [HeaderName; 5] = [AUTHORIZATION, COOKIE, CONTENT_LENGTH, EXPECT, HOST];
/// What those begin with that say who asks.
const IDENTITIES: [&str; 2] = ["impersonate-", "x-remote-"];

/// Whether another replica has sent the request on.
pub(super) fn was_forwarded(headers: &HeaderMap) -> bool {
    headers.contains_key(FORWARDED_BY)
}

/// Whether an answer is of a replica that is not active.
pub(super) fn says_not_active<T>(response: &Response<T>) -> bool {
    response.status() == StatusCode::SERVICE_UNAVAILABLE && response.headers().contains_key(NOT_ACTIVE)
}

pub(super) fn say_not_active(headers: &mut HeaderMap) {
    headers.insert(NOT_ACTIVE, HeaderValue::from_static("true"));
}

/// Takes out what is of a connection, also what it names itself.
fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&OF_A_CONNECTION) {
        headers.remove(name);
    }
}

/// The headers with which replica `me` sends a request of `caller` on. What the client sent of who it is, or claims to
/// be, stays here: it was judged here, and the other believes what this one says.
///
/// # Errors
/// The caller has a name, or a group and so on, that can't be written in a header as it is.
pub(super) fn onward(sent: &HeaderMap, caller: &Caller, me: &HeaderValue) -> Result<HeaderMap, Error> {
    let mut out = sent.clone();
    strip(&mut out);
    for name in &LEFT_OUT {
        out.remove(name);
    }
    let claims: Vec<HeaderName> =
        out.keys().filter(|name| IDENTITIES.iter().any(|prefix| name.as_str().starts_with(prefix))).cloned().collect();
    for name in claims {
        out.remove(name);
    }
    out.insert(FORWARDED_BY, me.clone());
    if caller.user().is_empty() {
        return Err(Error::Unauthorized("the user has no name".to_owned()));
    }
    out.insert(REMOTE_USER, value("user name", caller.user())?);
    if let Some(uid) = caller.uid() {
        out.insert(REMOTE_UID, value("uid", uid)?);
    }
    for group in caller.groups() {
        out.append(REMOTE_GROUP, value("group", group)?);
    }
    for (key, values) in caller.extra() {
        let name =
            HeaderName::try_from(format!("{REMOTE_EXTRA}{}", escape(key))).map_err(|_| unfit("extra key", key))?;
        for extra in values {
            out.append(&name, value("extra value", extra)?);
        }
    }
    Ok(out)
}

/// The headers of an answer that is passed back.
pub(super) fn back(headers: &mut HeaderMap) {
    strip(headers);
    headers.remove(NOT_ACTIVE);
}

/// A text as a header that is read as the same text: HTTP takes white space off both ends.
fn value(what: &str, text: &str) -> Result<HeaderValue, Error> {
    let trimmed = text.trim_matches([' ', '\t']);
    HeaderValue::from_bytes(text.as_bytes())
        .ok()
        .filter(|_| trimmed.len() == text.len())
        .ok_or_else(|| unfit(what, text))
}

fn unfit(what: &str, text: &str) -> Error {
    Error::BadRequest(format!(
        "the caller's {what} {text:?} can't be passed to the active replica: it must not begin or end with white space, \
         and have no control characters"
    ))
}

/// An extra key as the end of a header's name. Capitals too are escaped: header names have none.
fn escape(key: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._~".contains(&byte);
    key.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02x}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    fn sent_on(pairs: &[(&'static str, &str)], user: &str, groups: &[&str]) -> Result<HeaderMap, Error> {
        let caller = Caller::authenticated(user, groups.iter().map(|group| (*group).to_owned()));
        onward(&headers(pairs), &caller, &HeaderValue::from_static("b"))
    }

    #[test]
    fn what_a_client_claims_of_itself_stays_behind() {
        let out = sent_on(
            &[
                ("authorization", "Bearer x"),
                ("cookie", "a=b"),
                ("impersonate-user", "root"),
                ("impersonate-extra-scope", "all"),
                ("x-remote-user", "root"),
                ("x-remote-group", "system:masters"),
                ("x-remote-uid", "0"),
                ("x-remote-extra-scope", "all"),
                ("x-imagehub-forwarded-by", "nobody"),
                ("connection", "close, x-secret"),
                ("x-secret", "1"),
                ("transfer-encoding", "chunked"),
                ("upgrade", "h2c"),
                ("content-length", "3"),
                ("host", "hub"),
                ("accept", "application/json"),
                ("audit-id", "7"),
            ],
            "alice",
            &["dev", "ops"],
        );
        let want = [
            ("accept", "application/json"),
            ("audit-id", "7"),
            ("x-imagehub-forwarded-by", "b"),
            ("x-remote-group", "dev"),
            ("x-remote-group", "ops"),
            ("x-remote-group", "system:authenticated"),
            ("x-remote-user", "alice"),
        ];
        let out = out.unwrap();
        let mut out: Vec<_> = out.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        out.sort_unstable();
        assert_eq!(out, want);
    }

    #[test]
    fn names_arrive_as_they_are_or_not_at_all() {
        assert_eq!(sent_on(&[], "Zoë", &[]).unwrap()[REMOTE_USER].as_bytes(), "Zoë".as_bytes());
        for bad in [" alice", "alice ", "alice\t", "al\nice", "alice\0"] {
            assert!(matches!(sent_on(&[], bad, &[]), Err(Error::BadRequest(_))), "{bad:?}");
            assert!(matches!(sent_on(&[], "alice", &[bad]), Err(Error::BadRequest(_))), "{bad:?}");
        }
        assert!(matches!(sent_on(&[], "", &[]), Err(Error::Unauthorized(_))));
    }

    #[test]
    fn keys_are_escaped_so_that_capitals_survive() {
        assert_eq!(escape("example.com/Scope"), "example.com%2f%53cope");
        assert_eq!(escape("100%é"), "100%25%c3%a9");
    }
}
