//! A whole object: metadata and the spec of one of the kinds.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
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
