//! The form of an answer, by the Accept header; and the pages of other sites that may read it.

use http::header::{ACCEPT, HOST, ORIGIN};
use http::{HeaderMap, HeaderValue};

/// The most clauses of an Accept header that are looked at.
const CLAUSES: usize = 32;

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Media {
    /// `application/json`: what is wrong with a query is 200.
    Json,
    /// `application/graphql-response+json`: it is 4xx.
    GraphqlResponse,
    /// `text/event-stream`: the operation goes on.
    EventStream,
}

impl Media {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Json => "application/json; charset=utf-8",
            Self::GraphqlResponse => "application/graphql-response+json; charset=utf-8",
            Self::EventStream => "text/event-stream; charset=utf-8",
        }
    }
}

/// The form that the client wants most; `None` where we have none that it takes.
pub(super) fn media(headers: &HeaderMap) -> Option<Media> {
    let values: Vec<&str> = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let clauses: Vec<(&str, u32)> =
        values.iter().flat_map(|value| value.split(',')).take(CLAUSES).map(clause).collect();
    if clauses.is_empty() {
        return Some(Media::Json);
    }
    let mut best: Option<(Media, u32)> = None;
    for (range, quality) in clauses {
        let media = match range {
            "application/json" | "*/*" | "application/*" => Media::Json,
            "application/graphql-response+json" => Media::GraphqlResponse,
            "text/event-stream" => Media::EventStream,
            _ => continue,
        };
        if quality > 0 && best.is_none_or(|(_, best)| quality > best) {
            best = Some((media, quality));
        }
    }
    best.map(|(media, _)| media)
}

/// Whether a browser asks for a page.
pub(super) fn wants_page(headers: &HeaderMap) -> bool {
    let first = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).and_then(|value| value.split(',').next());
    first.is_some_and(|first| clause(first).0 == "text/html")
}

/// A media range and its quality, in thousandths.
fn clause(text: &str) -> (&str, u32) {
    let mut parts = text.split(';').map(str::trim);
    let range = parts.next().unwrap_or_default();
    let quality = parts.find_map(|part| part.strip_prefix("q=")).map_or(Some(1.0), |q| q.parse::<f32>().ok());
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is from 0 to 1000")]
    let quality = (quality.unwrap_or(0.0).clamp(0.0, 1.0) * 1000.0) as u32;
    (range, quality)
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
    pub(super) fn allowed(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let origin = headers.get(ORIGIN)?;
        match self {
            Self::None => None,
            Self::All => Some(HeaderValue::from_static("*")),
            Self::These(these) => these.iter().any(|one| one.as_bytes() == origin.as_bytes()).then(|| origin.clone()),
        }
    }

    /// Whether a page may open a WebSocket, which browsers let pages of every site do.
    pub(super) fn may_connect(&self, headers: &HeaderMap) -> bool {
        let Some(origin) = headers.get(ORIGIN) else { return true };
        let authority =
            origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, authority)| authority);
        let own = authority.is_some() && authority == headers.get(HOST).and_then(|host| host.to_str().ok());
        own || self.allowed(headers).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(accept: &str) -> Option<Media> {
        media(&HeaderMap::from_iter([(ACCEPT, accept.parse().unwrap())]))
    }

    #[test]
    fn the_form_is_what_the_client_wants_most() {
        assert_eq!(media(&HeaderMap::new()), Some(Media::Json));
        assert_eq!(of("*/*"), Some(Media::Json));
        assert_eq!(of("application/graphql-response+json, application/json;q=0.9"), Some(Media::GraphqlResponse));
        assert_eq!(of("application/graphql-response+json;q=0.5, application/json"), Some(Media::Json));
        assert_eq!(of("text/event-stream"), Some(Media::EventStream));
        assert_eq!(of("text/html"), None);
        assert_eq!(of("application/json;q=0"), None);
    }

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
}
