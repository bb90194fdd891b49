//! What a request says of itself that no door reads in its own way: who asks, the revision that it demands, its body,
//! the forms that it takes, the page that it comes from.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_ENCODING, HOST, HeaderName, ORIGIN};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

use crate::auth::{Authenticator, Caller, Peer};
use crate::error::Error;
use crate::graph::Revision;
use crate::registry::Registry;
use crate::search::Search;

/// The largest body, in bytes.
pub const BODY_LIMIT: usize = 3 * 1024 * 1024;
/// How long a body may take to come.
pub const BODY_TIME: Duration = Duration::from_mins(1);
/// The most clauses of an Accept or Accept-Encoding header that are looked at.
const CLAUSES: usize = 32;
/// The most digits of a revision.
pub const REVISION_DIGITS: usize = 19;
/// The most entity tags of a header that are looked at.
const TAGS: usize = 32;
/// The longest entity tag of a condition, in characters between its quotes.
const LONGEST_TAG: usize = 64;

/// The header that tells the revision that an answer was read at.
pub const REVISION: HeaderName = HeaderName::from_static("imagehub-revision");
/// The header that tells the revision up to which a text was searched for.
pub const SEARCH_REVISION: HeaderName = HeaderName::from_static("imagehub-search-revision");
/// The header that demands a revision, or a later one.
pub const MIN_REVISION: HeaderName = HeaderName::from_static("imagehub-min-revision");

/// What kept answers differ by: their form, who asks, and whose page asks.
pub const VARY_KEPT: HeaderValue = HeaderValue::from_static("Accept, Accept-Encoding, Authorization, Origin");
/// What other answers differ by.
pub const VARY_OTHERS: HeaderValue = HeaderValue::from_static("Accept, Authorization, Origin");
/// How many headers most answers have room for: a map that grows while they are written is filled twice.
pub const USUAL_HEADERS: usize = 12;

/// Who asks. Those who have shown nothing are somebody only where that is let.
///
/// # Errors
/// [`Error::Unauthorized`]; what the authenticator says.
pub async fn caller(
    authenticator: &Authenticator,
    anonymous: bool,
    peer: Option<&Peer>,
    headers: &HeaderMap,
) -> Result<Caller, Error> {
    let caller = authenticator.authenticate(peer, headers).await?;
    if !caller.is_authenticated() && !anonymous {
        return Err(Error::Unauthorized("sign in: send Authorization: Bearer and a token".to_owned()));
    }
    authenticator.with_sight(caller).await
}

/// Waits for the revision that a request demands.
///
/// # Errors
/// `BadRequest` for what is no revision; `ResourceVersionTooLarge` for one that isn't reached in time.
pub async fn reach(registry: &Arc<Registry>, headers: &HeaderMap) -> Result<Option<Revision>, Error> {
    let Some(value) = headers.get(&MIN_REVISION) else { return Ok(None) };
    let revision = value.to_str().ok();
    let revision = revision.filter(|text| text.len() <= REVISION_DIGITS && text.bytes().all(|b| b.is_ascii_digit()));
    let revision = revision.and_then(|text| text.parse().ok()).ok_or_else(|| {
        Error::BadRequest(format!("{MIN_REVISION} must be a revision that an answer gave, a decimal number"))
    })?;
    let revision = Revision(revision);
    registry.wait_for(revision).await?;
    Ok(Some(revision))
}

/// Waits until a text is searched for up to the revision that a request demands.
///
/// # Errors
/// [`Error::Unavailable`] where there is no search, or none yet; `ResourceVersionTooLarge` where it doesn't come so far
/// in time.
pub async fn reach_search(search: Option<&Search>, demanded: Option<Revision>) -> Result<(), Error> {
    let search = search.ok_or_else(super::view::no_search)?;
    match demanded {
        Some(demanded) => search.reached(demanded).await,
        None => Ok(()),
    }
}

/// The whole body.
///
/// # Errors
/// A status and a sentence for the client: compressed, too large, too slow, broken off.
pub async fn read_body(headers: &HeaderMap, body: Body) -> Result<Bytes, (StatusCode, String)> {
    if headers.get(CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
        let message = "a body is taken as it is: send it without Content-Encoding";
        return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, message.to_owned()));
    }
    let too_large = || (StatusCode::PAYLOAD_TOO_LARGE, format!("a body has at most {BODY_LIMIT} bytes (limit: body)"));
    if body.size_hint().lower() > BODY_LIMIT as u64 {
        return Err(too_large());
    }
    let Ok(read) = tokio::time::timeout(BODY_TIME, Limited::new(body, BODY_LIMIT).collect()).await else {
        return Err((StatusCode::REQUEST_TIMEOUT, format!("the body did not come within {BODY_TIME:?}")));
    };
    match read {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
        Err(_) => Err((StatusCode::BAD_REQUEST, "the body broke off".to_owned())),
    }
}

/// The media ranges that a client takes, each with its quality in thousandths; none where it doesn't say.
#[must_use]
pub fn accepted(headers: &HeaderMap) -> Vec<(&str, u32)> {
    clauses(headers, ACCEPT).collect()
}

/// What a header lists that a client takes, each with its quality in thousandths.
pub(super) fn clauses(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = (&str, u32)> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).take(CLAUSES).map(clause)
}

fn clause(text: &str) -> (&str, u32) {
    let mut parts = text.split(';').map(str::trim);
    let range = parts.next().unwrap_or_default();
    let quality = parts.find_map(|part| part.strip_prefix("q=")).map_or(Some(1.0), |q| q.parse::<f32>().ok());
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is from 0 to 1000")]
    let quality = (quality.unwrap_or(0.0).clamp(0.0, 1.0) * 1000.0) as u32;
    (range, quality)
}

/// Whether a header of entity tags, `If-None-Match` or `If-Match`, names one that `is` so. `*` names each.
#[must_use]
pub fn names_tag(headers: &HeaderMap, header: HeaderName, is: impl Fn(&str) -> bool) -> bool {
    let values = headers.get_all(header).into_iter().filter_map(|value| value.to_str().ok());
    let mut tags = values.flat_map(|value| value.split(',')).take(TAGS).map(str::trim);
    tags.any(|tag| tag == "*" || is(tag))
}

/// Whether a header of entity tags is `*`, or entity tags, as RFC 9110 section 8.8.3 has them, without a comma; not more
/// and not longer ones than are looked at.
#[must_use]
pub fn are_tags(value: &HeaderValue) -> bool {
    let inner = |b: u8| matches!(b, b'!' | b'#'..=b'+' | b'-'..=b'~');
    let is_tag = |tag: &str| {
        let quoted = tag.strip_prefix("W/").unwrap_or(tag).strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
        quoted.is_some_and(|tag| tag.len() <= LONGEST_TAG && tag.bytes().all(inner))
    };
    let are = |value: &str| value.split(',').count() <= TAGS && value.split(',').map(str::trim).all(is_tag);
    value.to_str().is_ok_and(|value| value.trim() == "*" || are(value))
}

/// The pages of other sites that may ask.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Origins {
    /// None: pages of this server's own address only.
    #[default]
    None,
    /// All: what is public is public, and no cookie is anybody's identity.
    All,
    /// Those of these origins, as in `https://hub.example`.
    These(Vec<String>),
}

impl Origins {
    /// What an answer to a page of another site says of who may read it.
    #[must_use]
    pub fn allowed(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let origin = headers.get(ORIGIN)?;
        match self {
            Self::None => None,
            Self::All => Some(HeaderValue::from_static("*")),
            Self::These(these) => these.iter().any(|one| one.as_bytes() == origin.as_bytes()).then(|| origin.clone()),
        }
    }

    /// Whether a page may open a WebSocket, which browsers let pages of every site do.
    #[must_use]
    pub fn may_connect(&self, headers: &HeaderMap) -> bool {
        let Some(origin) = headers.get(ORIGIN) else { return true };
        let authority =
            origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, authority)| authority);
        let own = authority.is_some() && authority == headers.get(HOST).and_then(|host| host.to_str().ok());
        own || self.allowed(headers).is_some()
    }
}

#[cfg(test)]
mod tests {
    use http::header::IF_NONE_MATCH;

    use super::*;

    #[test]
    fn pages_of_other_sites_connect_where_they_are_let() {
        let page = HeaderMap::from_iter([
            (HOST, HeaderValue::from_static("hub:8080")),
            (ORIGIN, HeaderValue::from_static("https://store.example")),
        ]);
        assert!(!Origins::None.may_connect(&page));
        assert!(Origins::All.may_connect(&page));
        assert!(Origins::These(vec!["https://store.example".to_owned()]).may_connect(&page));
        assert!(!Origins::These(vec!["https://store.example.evil".to_owned()]).may_connect(&page));
        assert!(Origins::None.may_connect(&HeaderMap::new()));
    }

    #[test]
    fn what_has_no_quotes_is_no_entity_tag() {
        for tags in ["*", "\"\"", "\"a\"", "W/\"a\"", " \"a-gzip\" , W/\"b\""] {
            assert!(are_tags(&HeaderValue::from_static(tags)), "{tags}");
        }
        for none in ["", "a", "\"", "\"a", "w/\"a\"", "*, \"a\"", "\"a\",", "\"a b\"", "\"a\"b\"", "W/"] {
            assert!(!are_tags(&HeaderValue::from_static(none)), "{none}");
        }
        let of = |text: String| are_tags(&HeaderValue::from_str(&text).unwrap());
        let (longest, longer) = ("a".repeat(LONGEST_TAG), "a".repeat(LONGEST_TAG + 1));
        assert!(of(format!("\"{longest}\"")) && !of(format!("\"{longer}\"")));
        assert!(of(vec!["\"a\""; TAGS].join(",")) && !of(vec!["\"a\""; TAGS + 1].join(",")));
    }

    #[test]
    fn entity_tags_are_read_from_all_their_headers() {
        let mut headers = HeaderMap::new();
        let names = |headers: &HeaderMap, wanted: &str| names_tag(headers, IF_NONE_MATCH, |tag| tag == wanted);
        assert!(!names(&headers, "\"a\""));
        headers.append(IF_NONE_MATCH, HeaderValue::from_static("\"a\", \"b\""));
        headers.append(IF_NONE_MATCH, HeaderValue::from_static("\"c\""));
        assert!(names(&headers, "\"b\"") && names(&headers, "\"c\"") && !names(&headers, "\"d\""));
        headers.append(IF_NONE_MATCH, HeaderValue::from_static("*"));
        assert!(names(&headers, "\"d\""));
    }
}
