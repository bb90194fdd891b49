//! Documents that clients name by their hash: those that the operator trusts, and those that clients have sent before
//! (automatic persisted queries). And what the parser made of those that come often: a frontend asks with the same few.

use std::collections::HashMap;
use std::sync::Arc;

use async_graphql::ServerError;
use async_graphql::parser::parse_query;
use async_graphql::parser::types::ExecutableDocument;
use moka::sync::Cache;
use sha2::{Digest as _, Sha256};

use super::params::Params;
use crate::api::name::hex;
use crate::graphql::error::server_error;
use crate::model::ErrorCode;

/// What the documents that clients have sent take at most, in bytes.
const PERSISTED_BYTES: u64 = 16 * 1024 * 1024;
/// What the parsed ones that are remembered take at most, about, in bytes.
const PARSED_BYTES: u64 = 64 * 1024 * 1024;
/// How much more a document takes at most when it is parsed than as a text: one of fields of a single letter.
const PARSED_WEIGHT: usize = 256;

/// The code that Apollo's clients send the whole document after.
const NOT_FOUND: &str = "PERSISTED_QUERY_NOT_FOUND";

/// The documents that the operator trusts.
#[derive(Debug, Clone, Default)]
pub struct TrustedDocuments {
    by_hash: Arc<HashMap<String, Arc<str>>>,
    only: bool,
}

impl TrustedDocuments {
    /// These documents, and, where they are the `only` ones, no others.
    #[must_use]
    pub fn new(documents: impl IntoIterator<Item = String>, only: bool) -> Self {
        let by_hash = documents.into_iter().map(|document| (hash(&document), Arc::from(document))).collect();
        Self { by_hash: Arc::new(by_hash), only }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_hash.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_hash.is_empty()
    }
}

fn hash(document: &str) -> String {
    hex(&Sha256::digest(document))
}

/// The documents that are known by their hash.
#[derive(Debug)]
pub(super) struct Documents {
    trusted: TrustedDocuments,
    persisted: Cache<String, Arc<str>>,
    parsed: Cache<Arc<str>, Arc<ExecutableDocument>>,
}

/// A document, and whether it is to be kept once it has been found to be one.
pub(super) struct Document {
    pub(super) text: Arc<str>,
    keep_as: Option<String>,
}

impl Documents {
    pub(super) fn new(trusted: TrustedDocuments) -> Self {
        let weigh = |hash: &String, text: &Arc<str>| u32::try_from(hash.len() + text.len()).unwrap_or(u32::MAX);
        let persisted = Cache::builder().max_capacity(PERSISTED_BYTES).weigher(weigh).build();
        let weigh = |text: &Arc<str>, _: &Arc<ExecutableDocument>| {
            u32::try_from(text.len() * PARSED_WEIGHT).unwrap_or(u32::MAX)
        };
        Self { trusted, persisted, parsed: Cache::builder().max_capacity(PARSED_BYTES).weigher(weigh).build() }
    }

    /// The document that a request sends or names.
    pub(super) fn find(&self, params: &Params) -> Result<Document, ServerError> {
        let only = self.trusted.only;
        let found = |text: &Arc<str>| Document { text: Arc::clone(text), keep_as: None };
        let (Some(text), named) = (&params.query, &params.document) else {
            let Some(named) = &params.document else {
                return Err(server_error(ErrorCode::Invalid, "there is no query: send one as a string"));
            };
            if let Some(text) = self.trusted.by_hash.get(named) {
                return Ok(found(text));
            }
            return match self.persisted.get(named).filter(|_| !only) {
                Some(text) => Ok(found(&text)),
                None if only => Err(server_error(ErrorCode::Forbidden, "no trusted document has this hash")),
                None => {
                    // Clients look for just this message, or just this code.
                    let mut error = server_error(ErrorCode::NotFound, "PersistedQueryNotFound");
                    error.extensions.get_or_insert_default().set("code", NOT_FOUND);
                    Err(error)
                }
            };
        };
        let is = (only || named.is_some()).then(|| hash(text));
        if named.is_some() && *named != is {
            return Err(server_error(ErrorCode::Invalid, "the hash that is sent is not the SHA-256 of the query"));
        }
        if only && is.as_ref().is_none_or(|is| !self.trusted.by_hash.contains_key(is)) {
            let message = "only trusted documents are taken here, and this is none of them";
            return Err(server_error(ErrorCode::Forbidden, message));
        }
        Ok(Document { text: Arc::from(text.as_str()), keep_as: named.clone().filter(|_| !only) })
    }

    /// What the parser makes of a document.
    pub(super) fn parse(&self, text: &Arc<str>) -> Result<Arc<ExecutableDocument>, ServerError> {
        let kept = self.parsed.get(text);
        kept.map_or_else(|| Ok(Arc::new(parse_query(text)?)), Ok)
    }

    /// Remembers what the parser made of a document that is within the limits.
    pub(super) fn remember(&self, text: &Arc<str>, parsed: &Arc<ExecutableDocument>) {
        if !self.parsed.contains_key(text) {
            self.parsed.insert(Arc::clone(text), Arc::clone(parsed));
        }
    }

    /// Keeps a document that has been found to be one.
    pub(super) fn keep(&self, document: &Document) {
        if let Some(hash) = &document.keep_as {
            self.persisted.insert(hash.clone(), Arc::clone(&document.text));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_parser_made_of_a_document_is_remembered() {
        let documents = Documents::new(TrustedDocuments::default());
        let parse = |text: &str| documents.parse(&Arc::from(text));
        let first = parse("{ viewer { name } }").unwrap();
        assert!(!Arc::ptr_eq(&first, &parse("{ viewer { name } }").unwrap()), "it isn't yet");
        documents.remember(&Arc::from("{ viewer { name } }"), &first);
        assert!(Arc::ptr_eq(&first, &parse("{ viewer { name } }").unwrap()));
        assert!(!Arc::ptr_eq(&first, &parse("{ viewer { name }}").unwrap()), "another text is another document");
        assert_eq!(parse("{ viewer {").unwrap_err().locations[0].line, 1);
    }

    #[test]
    fn what_is_remembered_of_documents_has_a_limit() {
        let documents = Documents::new(TrustedDocuments::default());
        let name = "a".repeat(4096);
        for number in 0..1000 {
            let text = Arc::from(format!("{{ {name}{number} }}"));
            documents.remember(&text, &documents.parse(&text).unwrap());
        }
        documents.parsed.run_pending_tasks();
        assert!((1..=PARSED_BYTES).contains(&documents.parsed.weighted_size()), "{}", documents.parsed.weighted_size());
    }
}
