//! The stored form of a record: two JSON texts with a line feed between them, the [`Envelope`] and the object
//! (`apiVersion`, `kind`, `metadata` without `resourceVersion`, `spec`; no `status`).

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use crate::api::{API_VERSION, Kind, Object};

/// The first 128 bits of a SHA-256, for telling whether computed content changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest([u8; 16]);

impl Digest {
    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let mut short = [0; 16];
        short.copy_from_slice(&Sha256::digest(bytes)[..16]);
        Self(short)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        let number = (text.len() == 32).then(|| u128::from_str_radix(&text, 16).ok()).flatten();
        number
            .map(|n| Self(n.to_be_bytes()))
            .ok_or_else(|| serde::de::Error::custom(format_args!("{text:?} is not 32 hexadecimal digits")))
    }
}

/// What is stored beside the public object and never shown as its metadata.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// The full name of the user who made the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creator: Option<Box<str>>,
    /// DataPack: when its expiry began, the store's time in milliseconds since 1970.
    #[serde(rename = "expiryBase", default, skip_serializing_if = "Option::is_none")]
    pub expiry_base_ms: Option<i64>,
    /// The digest of the computed status that watchers were last told of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub announced: Option<Digest>,
    /// Repository: how often its images were downloaded.
    #[serde(rename = "downloadCount", default, skip_serializing_if = "is_zero")]
    pub download_count: i64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(n: &i64) -> bool {
    *n == 0
}

/// A stored record that can't be read.
#[derive(Debug, Clone, thiserror::Error)]
#[error("record {kind} {name:?}: {why}")]
pub struct Damaged {
    pub(super) kind: Kind,
    pub(super) name: Arc<str>,
    pub(super) why: String,
}

/// The stored form of `object` with `envelope`.
///
/// # Panics
/// Never: all keys are strings.
#[must_use]
pub fn encode(envelope: &Envelope, object: &Object) -> Bytes {
    // About an object's size, so that it rarely moves while it grows.
    let mut out = Vec::with_capacity(2048);
    serde_json::to_writer(&mut out, envelope).expect("an envelope has only string keys");
    out.push(b'\n');
    serde_json::to_writer(&mut out, object).expect("an object has only string keys, and a Vec takes all");
    out.into()
}

/// What every object of a kind begins with: `metadata` has at least a name, so that the version can be
/// put in right behind it.
pub(super) fn prefix(kind: Kind) -> &'static str {
    debug_assert_eq!(API_VERSION, "imagehub.sealos.io/v1");
    match kind {
        Kind::Image => r#"{"apiVersion":"imagehub.sealos.io/v1","kind":"Image","metadata":{"#,
        Kind::Repository => r#"{"apiVersion":"imagehub.sealos.io/v1","kind":"Repository","metadata":{"#,
        Kind::Organization => r#"{"apiVersion":"imagehub.sealos.io/v1","kind":"Organization","metadata":{"#,
        Kind::DataPack => r#"{"apiVersion":"imagehub.sealos.io/v1","kind":"DataPack","metadata":{"#,
    }
}
