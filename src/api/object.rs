//! A whole object: metadata and the spec of one of the kinds.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::de::{Error as D, Unexpected};
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::{API_VERSION, DataPackSpec, ImageSpec, Kind, OrganizationSpec, RepositorySpec};

/// The spec of one of the kinds.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
#[expect(missing_docs, reason = "the variants are the kinds")]
pub enum Spec {
    Image(ImageSpec),
    Repository(RepositorySpec),
    Organization(OrganizationSpec),
    DataPack(DataPackSpec),
}

impl Spec {
    /// Reads the spec of a `kind`.
    ///
    /// # Errors
    /// What serde says of a value that isn't one.
    pub fn from_value(kind: Kind, value: Value) -> Result<Self, serde_json::Error> {
        refuse_lists(&value, "spec")?;
        if let Some(detail) = value.get("detail") {
            refuse_lists(detail, "detail")?;
            let actions = detail.get("actions").and_then(Value::as_object);
            actions.into_iter().flatten().try_for_each(|(_, action)| refuse_lists(action, "an action"))?;
        }
        Ok(match kind {
            Kind::Image => Self::Image(serde_json::from_value(value)?),
            Kind::Repository => Self::Repository(serde_json::from_value(value)?),
            Kind::Organization => Self::Organization(serde_json::from_value(value)?),
            Kind::DataPack => Self::DataPack(serde_json::from_value(value)?),
        })
    }

    /// The kind that it is the spec of.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Image(_) => Kind::Image,
            Self::Repository(_) => Kind::Repository,
            Self::Organization(_) => Kind::Organization,
            Self::DataPack(_) => Kind::DataPack,
        }
    }

    /// `spec.name`, where the kind has one.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Image(s) => Some(&s.name),
            Self::Repository(s) => Some(&s.name),
            Self::Organization(s) => Some(&s.name),
            Self::DataPack(_) => None,
        }
    }
}

/// Serde also reads a struct from the list of its fields' values, which is nothing that the API has.
fn refuse_lists(value: &Value, what: &str) -> Result<(), serde_json::Error> {
    if value.is_array() {
        return Err(D::invalid_type(Unexpected::Seq, &format!("{what} to be an object").as_str()));
    }
    Ok(())
}

/// A whole object as it is written: metadata and spec. Status is computed, never part of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// The metadata, without `resourceVersion`: a version is that of a commit, not of content.
    pub metadata: ObjectMeta,
    /// The spec.
    pub spec: Spec,
}

impl Serialize for Object {
    /// `apiVersion`, `kind`, `metadata`, `spec`, in this order: the stored form relies on it.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut s = serializer.serialize_struct("Object", 4)?;
        s.serialize_field("apiVersion", API_VERSION)?;
        s.serialize_field("kind", self.spec.kind().name())?;
        s.serialize_field("metadata", &self.metadata)?;
        s.serialize_field("spec", &self.spec)?;
        s.end()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_list_is_no_spec() {
        for (kind, spec) in [
            (Kind::DataPack, json!([])),
            (Kind::Image, json!(["a/b:c"])),
            (Kind::Image, json!({"name": "a/b:c", "detail": [["k"]]})),
            (Kind::Image, json!({"name": "a/b:c", "detail": {"actions": {"a": ["b"]}}})),
        ] {
            let error = Spec::from_value(kind, spec).unwrap_err().to_string();
            assert!(error.starts_with("invalid type: sequence, expected "), "{error}");
        }
    }
}
