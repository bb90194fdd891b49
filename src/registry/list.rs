//! Lists: selectors, pages and versions.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::Registry;
use super::read::Reader;
use crate::api::{FieldSelector, Kind, LabelSelector};
use crate::auth::{Caller, Verb};
use crate::error::Error;
use crate::graph::{Query, Record, Revision};

/// How a list's `resourceVersion` is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VersionMatch {
    /// The state now, or a later one.
    NotOlderThan,
    /// The state at just that revision.
    Exact,
}

/// What a list asks for.
#[derive(Debug, Clone, Default)]
pub struct ListOptions {
    /// Only what has these labels.
    pub labels: LabelSelector,
    /// Only what has these fields.
    pub fields: FieldSelector,
    /// At most so many; `None` for all.
    pub limit: Option<usize>,
    /// Where an earlier page ended.
    pub continue_token: Option<String>,
    /// The version, and how it is meant; `None` for the newest.
    pub version: Option<(Revision, VersionMatch)>,
}

/// One page.
#[derive(Debug)]
pub struct List {
    /// What the caller sees; the items' statuses are of its snapshot.
    pub reader: Reader,
    /// The version of the list.
    pub revision: Revision,
    /// The objects, in order of name.
    pub items: Vec<Arc<Record>>,
    /// Where the next page begins, if there is one.
    pub continue_token: Option<String>,
    /// How many objects come after this page, if there is a next one.
    pub remaining: Option<u64>,
}

/// What a continue token says. Clients take it as it is.
#[derive(Debug, Serialize, Deserialize)]
struct Token {
    /// The revision of the first page; -1 to go on at the newest, inconsistently.
    rv: i64,
    /// The last name of the page before.
    after: String,
    /// How many objects came after the page before, if that is still known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    left: Option<u64>,
}

/// The longest continue token that is read, in bytes.
const LONGEST_TOKEN: usize = 1024;

impl Token {
    fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).expect("a token has only string keys"))
    }

    fn decode(text: &str) -> Result<Self, Error> {
        let bad = |why: &str| Error::BadRequest(format!("continue key is not valid: {why}"));
        if text.len() > LONGEST_TOKEN {
            return Err(bad("it is too long to be one that this server gave"));
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| bad("it is not base64url"))?;
        let token: Self = serde_json::from_slice(&bytes).map_err(|_| bad("it is not one that this server gave"))?;
        if token.rv < -1 || token.rv == 0 {
            return Err(bad("its version is out of range"));
        }
        Ok(token)
    }
}

impl Registry {
    /// The objects that `options` ask for, as `caller` sees them.
    ///
    /// # Errors
    /// Forbidden; `BadRequest` for a continue token that isn't one; Expired for a version that is no longer
    /// kept, with a token that goes on inconsistently; `ResourceVersionTooLarge`.
    pub async fn list(&self, caller: &Caller, kind: Kind, options: &ListOptions) -> Result<List, Error> {
        self.authorize(caller, Verb::List, kind, "", "")?;
        let token = options.continue_token.as_deref().map(Token::decode).transpose()?;
        let exact = match (&token, options.version) {
            (Some(token), _) => u64::try_from(token.rv).ok().map(Revision),
            (None, Some((revision, VersionMatch::Exact))) => Some(revision),
            (None, _) => None,
        };
        let at_least = exact.or(options.version.map(|(revision, _)| revision));
        if let Some(revision) = at_least {
            self.wait_for(revision).await?;
        }
        let reader = self.reader(caller);
        let at = exact.unwrap_or_else(|| reader.visible.revision());
        // Sight is that of today: of a state from before it changed nothing is shown any more.
        if exact.is_some() && reader.visible.sight_changed(kind, at).is_some() {
            return Err(expired(token.as_ref()));
        }
        let after = token.as_ref().map(|token| token.after.as_str());
        let list = Self::page(reader, kind, options, at, after, token.as_ref().and_then(|token| token.left));
        // The window moves while the list is made: what it was made of must have been there to the end.
        if at < self.graph.visible(caller.sight()).floor() && exact.is_some() {
            return Err(expired(token.as_ref()));
        }
        Ok(list)
    }

    fn page(
        reader: Reader,
        kind: Kind,
        options: &ListOptions,
        at: Revision,
        after: Option<&str>,
        left: Option<u64>,
    ) -> List {
        let query = Query { kind, after, at, labels: &options.labels, fields: &options.fields };
        let mut items = Vec::new();
        let mut more = false;
        {
            let mut found = reader.visible.list(query);
            let limit = options.limit.unwrap_or(usize::MAX);
            for record in found.by_ref() {
                if items.len() == limit {
                    more = true;
                    break;
                }
                items.push(record);
            }
            drop(found);
        }
        let (mut continue_token, mut remaining) = (None, None);
        if more && let Some(last) = items.last() {
            let shown = items.len() as u64;
            // The first page counts, the others subtract.
            let rest = match left {
                Some(left) => left.saturating_sub(shown),
                None => count_after(&reader, query, last.name(), items.len()),
            };
            remaining = Some(rest);
            let rv = i64::try_from(at.0).unwrap_or(i64::MAX);
            continue_token = Some(Token { rv, after: last.name().to_owned(), left: remaining }.encode());
        }
        List { revision: at, items, continue_token, remaining, reader }
    }
}

fn count_after(reader: &Reader, query: Query<'_>, last: &str, shown: usize) -> u64 {
    if query.after.is_none() {
        let all = reader.visible.count(query);
        return (all - shown.min(all)) as u64;
    }
    reader.visible.count(Query { after: Some(last), ..query }) as u64
}

fn expired(token: Option<&Token>) -> Error {
    let Some(token) = token else {
        return Error::Expired {
            message: "The resourceVersion for the provided list is too old.".to_owned(),
            continue_token: None,
        };
    };
    let fresh = Token { rv: -1, after: token.after.clone(), left: None };
    Error::Expired {
        message: "The provided continue parameter is too old to display a consistent list result. You can start a new \
                  list without the continue parameter, or use the continue token in this response to retrieve the \
                  remainder of the results. Continuing with the provided token results in an inconsistent list - \
                  objects that were created, modified, or deleted between the time the first chunk was returned and \
                  now may show up in the list."
            .to_owned(),
        continue_token: Some(fresh.encode()),
    }
}
