//! The form of an answer, by the Accept header.

use http::HeaderMap;

use crate::gateway::accepted;

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
    let clauses = accepted(headers);
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
    accepted(headers).first().is_some_and(|(range, _)| *range == "text/html")
}

#[cfg(test)]
mod tests {
    use http::header::ACCEPT;

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
}
