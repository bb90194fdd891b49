//! The OpenAPI documents of the kube door, v3 and Swagger 2.0, rendered once from the schemas of the api
//! types. They have the form that kube-apiserver gives a CRD: `kubectl explain` reads the schemas, and
//! `kubectl apply` looks for `fieldValidation` among the parameters of PATCH. An invalid Swagger document
//! would break `/openapi/v2` of a whole cluster, so its structure is tested.

mod operations;
mod protobuf;
mod schemas;

use std::sync::OnceLock;

use bytes::Bytes;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::api::name::hex;
use crate::api::{GROUP, VERSION};

/// Bytes that are served as they are, with what names their content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// The body, JSON.
    pub bytes: Bytes,
    /// The SHA-256 of the bytes, in upper-case hexadecimal: equal on every replica of one version.
    pub hash: String,
    /// The same as an entity tag, quoted.
    pub etag: String,
}

impl Document {
    /// A document of these bytes.
    #[must_use]
    pub fn new(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let hash = hex(&Sha256::digest(&bytes)).to_ascii_uppercase();
        let etag = format!("\"{hash}\"");
        Self { bytes, hash, etag }
    }

    /// A document of this value as compact JSON, its keys in the order of the alphabet.
    #[must_use]
    pub fn json(value: &Value) -> Self {
        Self::new(value.to_string())
    }
}

/// The two forms of one description.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Swagger 2.0.
    V2,
    /// OpenAPI 3.0.
    V3,
}

impl Form {
    /// A reference to the schema of this name.
    fn reference(self, name: &str) -> Value {
        match self {
            Self::V2 => json!({ "$ref": format!("#/definitions/{name}") }),
            Self::V3 => json!({ "$ref": format!("#/components/schemas/{name}") }),
        }
    }
}

/// `/openapi/v3`: where the document of each group version is. The hash in the address makes it one that
/// can be kept for ever.
#[must_use]
pub fn v3_index() -> &'static Document {
    static DOCUMENT: OnceLock<Document> = OnceLock::new();
    DOCUMENT.get_or_init(|| {
        let path = format!("apis/{GROUP}/{VERSION}");
        let address = format!("/openapi/v3/{path}?hash={}", v3_document().hash);
        Document::json(&json!({ "paths": { path: { "serverRelativeURL": address } } }))
    })
}

/// `/openapi/v3/apis/imagehub.sealos.io/v1`: OpenAPI 3.0.
#[must_use]
pub fn v3_document() -> &'static Document {
    static DOCUMENT: OnceLock<Document> = OnceLock::new();
    DOCUMENT.get_or_init(|| Document::json(&v3()))
}

/// `/openapi/v2`: Swagger 2.0.
#[must_use]
pub fn v2_document() -> &'static Document {
    static DOCUMENT: OnceLock<Document> = OnceLock::new();
    DOCUMENT.get_or_init(|| Document::json(&v2()))
}

/// The media type that kubectl asks for `/openapi/v2` in.
pub const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

/// The media type that it is answered in: with a `.` for the `@`, which no media type has (kube-openapi does the same).
pub const V2_PROTOBUF_ANSWER: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// The schemas of `/openapi/v2` as protobuf, for kubectl: it has no paths.
#[must_use]
pub fn v2_protobuf() -> &'static Document {
    static DOCUMENT: OnceLock<Document> = OnceLock::new();
    DOCUMENT.get_or_init(|| Document::new(protobuf::document()))
}

/// The files of the generated folder `openapi/`, by their path in it.
///
/// # Panics
/// Never: a JSON value can always be written.
#[must_use]
pub fn render_all() -> Vec<(&'static str, Bytes)> {
    [("kube/v2.json", v2()), ("kube/v3.json", v3())]
        .into_iter()
        .map(|(path, document)| (path, Bytes::from(format!("{document:#}\n"))))
        .collect()
}

fn info() -> Value {
    json!({
        "title": "imagehub",
        "description": "The catalogue of cluster images: images, repositories, organizations and computed DataPacks.",
        "version": VERSION,
        "license": { "name": "Apache-2.0" },
    })
}

const TOKEN: &str = "Bearer Token authentication";

fn v2() -> Value {
    json!({
        "swagger": "2.0",
        "info": info(),
        "paths": operations::paths(Form::V2),
        "definitions": schemas::all(Form::V2),
        "securityDefinitions": {
            "BearerToken": { "description": TOKEN, "type": "apiKey", "name": "authorization", "in": "header" },
        },
        "security": [{ "BearerToken": [] }],
    })
}

fn v3() -> Value {
    json!({
        "openapi": "3.0.0",
        "info": info(),
        "paths": operations::paths(Form::V3),
        "components": {
            "schemas": schemas::all(Form::V3),
            "securitySchemes": {
                "BearerToken": { "description": TOKEN, "type": "apiKey", "name": "authorization", "in": "header" },
            },
        },
        "security": [{ "BearerToken": [] }],
    })
}

#[cfg(test)]
mod tests;
