//! What a request asks for: GraphQL over HTTP, by GET and POST.

use axum::extract::Query;
use http::Uri;
use serde_json::{Map, Value};

use crate::api::decode::parse_json;
use crate::model::sort;

/// What a request asks for.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Params {
    pub(super) query: Option<String>,
    pub(super) operation_name: Option<String>,
    pub(super) variables: Map<String, Value>,
    /// The SHA-256 of the document, in hexadecimal digits, by which it is known.
    pub(super) document: Option<String>,
}

impl Params {
    /// Those of a body.
    ///
    /// # Errors
    /// A sentence for the client.
    pub(super) fn from_body(body: &[u8]) -> Result<Self, String> {
        let (body, _) = parse_json(body).map_err(|error| error.to_string())?;
        Self::from_json(body)
    }

    /// Those of a body, or of a `subscribe` message's payload.
    ///
    /// # Errors
    /// A sentence for the client.
    pub(super) fn from_json(body: Value) -> Result<Self, String> {
        let Value::Object(mut fields) = body else {
            return Err(match body {
                Value::Array(_) => "the body is a list: one request asks one thing, batches are not taken".to_owned(),
                _ => "the body must be a JSON object with a query".to_owned(),
            });
        };
        let extensions = object("extensions", fields.remove("extensions"))?;
        Ok(Self {
            query: text("query", fields.remove("query"))?,
            operation_name: text("operationName", fields.remove("operationName"))?,
            variables: object("variables", fields.remove("variables"))?,
            document: document(text("documentId", fields.remove("documentId"))?, &extensions)?,
        })
    }

    /// Those of a GET.
    ///
    /// # Errors
    /// A sentence for the client.
    pub(super) fn from_uri(uri: &Uri) -> Result<Self, String> {
        let pairs = Query::<Vec<(String, String)>>::try_from_uri(uri);
        let Query(pairs) =
            pairs.map_err(|_| "the query string can't be read: it must be form-urlencoded".to_owned())?;
        let mut params = Self::default();
        let (mut extensions, mut id) = (Map::new(), None);
        for (name, value) in pairs {
            let json = |name: &str| -> Result<Map<String, Value>, String> {
                if value.is_empty() {
                    return Ok(Map::new());
                }
                let value = serde_json::from_str(&value).map_err(|error| format!("{name} is no JSON: {error}"))?;
                object(name, Some(value))
            };
            match &*name {
                "query" => params.query = Some(value).filter(|query| !query.is_empty()),
                "operationName" => params.operation_name = Some(value).filter(|name| !name.is_empty()),
                "variables" => params.variables = json("variables")?,
                "extensions" => extensions = json("extensions")?,
                "documentId" => id = Some(value),
                _ => {}
            }
        }
        params.document = document(id, &extensions)?;
        Ok(params)
    }
}

fn text(name: &str, value: Option<Value>) -> Result<Option<String>, String> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(format!("{name} must be a string, not {}", sort(&other))),
    }
}

fn object(name: &str, value: Option<Value>) -> Result<Map<String, Value>, String> {
    match value {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(fields)) => Ok(fields),
        Some(other) => Err(format!("{name} must be an object, not {}", sort(&other))),
    }
}

/// The hash that names a document: `documentId`, or what Apollo's clients send.
fn document(id: Option<String>, extensions: &Map<String, Value>) -> Result<Option<String>, String> {
    let hash = match (id, extensions.get("persistedQuery")) {
        (Some(id), _) => id.strip_prefix("sha256:").map_or_else(|| id.clone(), str::to_owned),
        (None, None | Some(Value::Null)) => return Ok(None),
        (None, Some(persisted)) => {
            if persisted.get("version").and_then(Value::as_u64) != Some(1) {
                return Err("extensions.persistedQuery.version must be 1".to_owned());
            }
            let hash = persisted.get("sha256Hash").and_then(Value::as_str);
            hash.ok_or("extensions.persistedQuery.sha256Hash must be a string")?.to_owned()
        }
    };
    if hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(Some(hash.to_ascii_lowercase()));
    }
    Err("the hash of a document is the 64 hexadecimal digits of its SHA-256".to_owned())
}
