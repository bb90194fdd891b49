//! Reading the stored form of a record: once, when it comes.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::head::UNKNOWN;
use super::spans::Spans;
use super::stored::prefix;
use super::{Damaged, Envelope, Head, Older, OrganizationHead, PackHead, Record};
use crate::api::{DataPackSpec, Kind};
use crate::graph::snapshot::repository_of;
use crate::storage::{Key, Revision};

/// What is between the fields of the metadata and the spec.
const BEFORE_SPEC: &str = r#"},"spec":"#;

#[derive(Deserialize)]
struct Document<'a> {
    #[serde(borrow)]
    metadata: Metadata<'a>,
    #[serde(borrow)]
    spec: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata<'a> {
    #[serde(borrow, default)]
    uid: &'a str,
    #[serde(borrow, default)]
    creation_timestamp: &'a str,
    #[serde(borrow, default)]
    deletion_timestamp: Option<&'a str>,
    #[serde(borrow, default)]
    labels: Labels<'a>,
    #[serde(borrow, default)]
    owner_references: Vec<OwnerReference<'a>>,
}

/// Labels in the order in which they are written: that of their keys.
#[derive(Default)]
struct Labels<'a>(Vec<(&'a str, &'a str)>);

impl<'de: 'a, 'a> Deserialize<'de> for Labels<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;

        impl<'de> Visitor<'de> for Pairs {
            type Value = Labels<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("labels")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::with_capacity(4);
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Labels(pairs))
            }
        }

        deserializer.deserialize_map(Pairs)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OwnerReference<'a> {
    // Anything that a client says.
    #[serde(borrow)]
    uid: Cow<'a, str>,
    #[serde(default)]
    block_owner_deletion: Option<bool>,
}

#[derive(Deserialize)]
struct ImageDocument<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow, rename = "type")]
    image_type: Option<&'a RawValue>,
    #[serde(borrow, default)]
    detail: DetailDocument<'a>,
}

#[derive(Deserialize, Default)]
struct DetailDocument<'a> {
    #[serde(borrow)]
    keywords: Option<&'a RawValue>,
    #[serde(borrow)]
    description: Option<&'a RawValue>,
    #[serde(borrow)]
    icon: Option<&'a RawValue>,
    #[serde(borrow)]
    docs: Option<&'a RawValue>,
    #[serde(borrow, rename = "ID")]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    arch: Option<&'a RawValue>,
    #[serde(borrow)]
    size: Option<&'a RawValue>,
    #[serde(borrow, rename = "creatTime")]
    creat_time: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct RepositoryDocument<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(rename = "isPrivate", default)]
    is_private: Option<bool>,
}

#[derive(Deserialize)]
struct OrganizationDocument<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(default)]
    manager: Vec<Box<str>>,
}

impl Record {
    /// Reads the stored form of `key`.
    ///
    /// # Errors
    /// What is wrong with it, where [`encode`](super::encode) can't have written it.
    ///
    /// # Panics
    /// Where it is 4 GiB large: storages keep a few MiB at most.
    pub fn decode(key: Key, revision: Revision, stored: &[u8]) -> Result<Self, Damaged> {
        let damaged = |why: String| Damaged { kind: key.kind, name: Arc::clone(&key.name), why };
        let stored = std::str::from_utf8(stored).map_err(|e| damaged(e.to_string()))?;
        let (envelope, object) = stored.split_once('\n').ok_or_else(|| damaged("no envelope".to_owned()))?;
        let object_at = envelope.len() + 1;
        let envelope: Envelope = serde_json::from_str(envelope).map_err(|e| damaged(format!("envelope: {e}")))?;
        if !object.starts_with(prefix(key.kind)) {
            return Err(damaged(format!("it does not begin with {}", prefix(key.kind))));
        }
        let Document { metadata, spec } = serde_json::from_str(object).map_err(|e| damaged(e.to_string()))?;
        let spec = spec.get();
        let before_spec = &stored[..spec.as_ptr() as usize - stored.as_ptr() as usize];
        let Some(before_spec) = before_spec.strip_suffix(BEFORE_SPEC) else {
            return Err(damaged("its spec is not right behind its metadata".to_owned()));
        };

        let mut spans = Spans::new(stored);
        spans.part(metadata.uid);
        spans.part(metadata.creation_timestamp);
        let head = Head::decode(key.kind, &mut spans, spec, &envelope).map_err(damaged)?;
        for owner in &metadata.owner_references {
            spans.text(&owner.uid);
            spans.add(usize::from(owner.block_owner_deletion.unwrap_or(false)));
        }
        for (label, value) in &metadata.labels.0 {
            spans.part(label);
            spans.part(value);
        }
        // Objects are limited to a few MiB before they are stored.
        let small = |n: usize| u32::try_from(n).expect("a record is smaller than 4 GiB");
        Ok(Self {
            revision,
            at_ms: 0,
            head,
            deleting: metadata.deletion_timestamp.is_some(),
            object_at: small(object_at),
            metadata_end: small(before_spec.len()),
            object_end: small(stored.len()),
            owners: small(metadata.owner_references.len()),
            labels: small(metadata.labels.0.len()),
            bytes: spans.finish(),
            older: Older::default(),
            key,
        })
    }
}

impl Head {
    /// Reads the spec, and adds the kind's own strings in it to `spans`.
    fn decode<'a>(kind: Kind, spans: &mut Spans<'a>, spec: &'a str, envelope: &Envelope) -> Result<Self, String> {
        let bad = |e: serde_json::Error| format!("spec: {e}");
        Ok(match kind {
            Kind::Image => {
                let image: ImageDocument = serde_json::from_str(spec).map_err(bad)?;
                let detail = &image.detail;
                spans.text(&image.name);
                for raw in [
                    image.image_type,
                    detail.keywords,
                    detail.description,
                    detail.icon,
                    detail.docs,
                    detail.id,
                    detail.arch,
                    detail.size,
                    detail.creat_time,
                ] {
                    spans.raw(raw);
                }
                let repository_len = repository_of(&image.name).len();
                Self::Image {
                    built_ms: detail.creat_time.and_then(built_ms).unwrap_or(UNKNOWN),
                    repository_len: u32::try_from(repository_len).map_err(|e| format!("spec.name: {e}"))?,
                }
            }
            Kind::Repository => {
                let repository: RepositoryDocument = serde_json::from_str(spec).map_err(bad)?;
                spans.text(&repository.name);
                Self::Repository { private: repository.is_private.unwrap_or(false), downloads: envelope.download_count }
            }
            Kind::Organization => {
                let organization: OrganizationDocument = serde_json::from_str(spec).map_err(bad)?;
                Self::Organization(Box::new(OrganizationHead {
                    name: organization.name.as_ref().into(),
                    managers: organization.manager.into(),
                }))
            }
            Kind::DataPack => {
                let pack: DataPackSpec = serde_json::from_str(spec).map_err(bad)?;
                Self::DataPack(Box::new(PackHead::new(&pack, envelope)?))
            }
        })
    }
}

fn built_ms(raw: &RawValue) -> Option<i64> {
    let text: Cow<'_, str> = serde_json::from_str(raw.get()).ok()?;
    let at: jiff::Timestamp = text.parse().ok()?;
    // 1970, the default, means that it is not known.
    (at != jiff::Timestamp::UNIX_EPOCH).then(|| at.as_millisecond())
}
