//! One version of one object: its JSON bytes and a small header that says where in them the fields
//! are that lists, selectors, packs and tables need. Nothing is ever serialised again: what is served
//! is copied out of these bytes.
//!
//! The stored form of a record is two JSON texts with a line feed between them: the [`Envelope`] and
//! the object (`apiVersion`, `kind`, `metadata` without `resourceVersion`, `spec`; no `status`).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use super::cached::Cached;
use crate::api::{API_VERSION, ContentHash, DataPackSpec, GoDuration, Grain, Kind, Object, Spec};
use crate::storage::{Key, Revision};

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
    kind: Kind,
    name: Arc<str>,
    why: String,
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

/// A piece of a record's JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Span {
    start: u32,
    len: u32,
}

impl Span {
    /// Where `part`, a slice of `whole`, is in it.
    fn of(whole: &str, part: &str) -> Self {
        let start = part.as_ptr() as usize - whole.as_ptr() as usize;
        // Objects are limited to a few MiB before they are stored.
        let small = |n: usize| u32::try_from(n).expect("an object is smaller than 4 GiB");
        Self { start: small(start), len: small(part.len()) }
    }

    fn raw(whole: &str, part: Option<&RawValue>) -> Self {
        part.map_or_else(Self::default, |raw| Self::of(whole, raw.get()))
    }
}

impl Text {
    fn of(whole: &str, raw: Cow<'_, str>) -> Self {
        match raw {
            Cow::Borrowed(part) => Self::At(Span::of(whole, non_empty(whole, part))),
            Cow::Owned(text) => Self::Escaped(text.into()),
        }
    }
}

/// The fields of an image that packs and tables copy, as raw JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of spec.type and spec.detail")]
#[repr(u8)]
pub enum Field {
    Type,
    Keywords,
    Description,
    Icon,
    Docs,
    Id,
    Arch,
    Size,
    CreatTime,
}

const FIELDS: usize = 9;

/// What is known of an Image without parsing it.
#[derive(Debug)]
pub struct ImageHead {
    /// `spec.name`, org/repo:tag.
    pub name: Arc<str>,
    /// org/repo of it.
    pub repository: Arc<str>,
    /// When it was built, milliseconds since 1970; `None` where that is not known.
    pub built_ms: Option<i64>,
    /// Its size in bytes.
    pub size: i64,
    fields: [Span; FIELDS],
}

impl ImageHead {
    /// The tag of its name.
    #[must_use]
    pub fn tag(&self) -> &str {
        self.name.get(self.repository.len() + 1..).unwrap_or_default()
    }
}

/// What is known of a Repository without parsing it.
#[derive(Debug)]
pub struct RepositoryHead {
    /// `spec.name`, org/repo.
    pub name: Arc<str>,
    /// `spec.isPrivate`.
    pub private: bool,
}

impl RepositoryHead {
    /// The organization of its name.
    #[must_use]
    pub fn organization(&self) -> &str {
        organization_of(&self.name)
    }
}

/// What is known of an Organization without parsing it.
#[derive(Debug)]
pub struct OrganizationHead {
    /// `spec.name`.
    pub name: Arc<str>,
    /// `spec.manager`.
    pub managers: Box<[Box<str>]>,
}

/// What is known of a DataPack without parsing it.
#[derive(Debug)]
pub struct PackHead {
    /// `spec.type`.
    pub grain: Grain,
    /// `spec.names`, sorted, no doubles.
    pub names: Box<[Arc<str>]>,
    /// The hash of what decides its content.
    pub content: ContentHash,
    /// When it goes, the store's time in milliseconds since 1970.
    pub expires_ms: i64,
    /// The answer to it that is for everybody, of the last change of what it is made from.
    pub answer: Cached,
}

/// What is known of the object beside its metadata, by its kind.
#[derive(Debug)]
#[expect(missing_docs, reason = "the variants are the kinds")]
pub enum Head {
    Image(Box<ImageHead>),
    Repository(RepositoryHead),
    Organization(OrganizationHead),
    DataPack(Box<PackHead>),
}

/// The organization in `org/repo` or `org/repo:tag`.
#[must_use]
pub fn organization_of(name: &str) -> &str {
    name.split_once('/').map_or(name, |(organization, _)| organization)
}

/// An entry of `metadata.ownerReferences`.
#[derive(Debug, Clone, Copy)]
pub struct Owner<'a> {
    /// The owner's uid.
    pub uid: &'a str,
    /// Whether the owner's foreground deletion waits for this object.
    pub blocks: bool,
}

/// One version of one object.
#[derive(Debug)]
pub struct Record {
    /// Its kind and `metadata.name`.
    pub key: Key,
    /// The commit that wrote it.
    pub revision: Revision,
    /// What is stored beside it.
    pub envelope: Envelope,
    /// Its fields, by kind.
    pub head: Head,
    /// Whether `metadata.deletionTimestamp` is set.
    pub deleting: bool,
    /// Just as long as it is, and nobody else's: a share of a row's bytes would keep more.
    json: Box<[u8]>,
    metadata_end: u32,
    uid: Span,
    created: Span,
    labels: Box<[(Span, Span)]>,
    owners: Box<[(Text, bool)]>,
}

/// A string of the record.
#[derive(Debug)]
enum Text {
    /// As it is in the JSON.
    At(Span),
    /// One that is written with escapes there.
    Escaped(Box<str>),
}

#[derive(Deserialize)]
struct Document<'a> {
    #[serde(borrow)]
    metadata: &'a RawValue,
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
    labels: BTreeMap<&'a str, &'a str>,
    #[serde(borrow, default)]
    owner_references: Vec<OwnerReference<'a>>,
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
    /// What is wrong with it, where [`encode`] can't have written it.
    pub fn decode(key: Key, revision: Revision, stored: &Bytes) -> Result<Self, Damaged> {
        Self::take(key, revision, stored.clone())
    }

    /// The same for bytes that nobody else has, as a rule: then they become the record's without being copied.
    /// At a start a copy of each would leave as much memory in holes as all records take.
    ///
    /// # Errors
    /// As for [`decode`](Self::decode).
    pub(super) fn take(key: Key, revision: Revision, stored: Bytes) -> Result<Self, Damaged> {
        let damaged = |why: String| Damaged { kind: key.kind, name: Arc::clone(&key.name), why };
        let split = stored.iter().position(|b| *b == b'\n').ok_or_else(|| damaged("no envelope".to_owned()))?;
        let envelope: Envelope =
            serde_json::from_slice(&stored[..split]).map_err(|e| damaged(format!("envelope: {e}")))?;
        let mut json = Vec::from(stored);
        json.drain(..=split);
        let json = json.into_boxed_slice();
        let text = std::str::from_utf8(&json).map_err(|e| damaged(e.to_string()))?;
        if !text.starts_with(prefix(key.kind)) {
            return Err(damaged(format!("it does not begin with {}", prefix(key.kind))));
        }
        let document: Document = serde_json::from_str(text).map_err(|e| damaged(e.to_string()))?;
        let raw = document.metadata.get();
        let metadata: Metadata = serde_json::from_str(raw).map_err(|e| damaged(format!("metadata: {e}")))?;
        let head = Head::decode(key.kind, text, document.spec, &envelope).map_err(damaged)?;
        let metadata_span = Span::of(text, raw);
        Ok(Self {
            revision,
            head,
            deleting: metadata.deletion_timestamp.is_some(),
            metadata_end: metadata_span.start + metadata_span.len - 1,
            uid: Span::of(text, non_empty(text, metadata.uid)),
            created: Span::of(text, non_empty(text, metadata.creation_timestamp)),
            labels: metadata.labels.iter().map(|(k, v)| (Span::of(text, k), Span::of(text, v))).collect(),
            owners: metadata
                .owner_references
                .into_iter()
                .map(|o| (Text::of(text, o.uid), o.block_owner_deletion.unwrap_or(false)))
                .collect(),
            envelope,
            json,
            key,
        })
    }

    fn slice(&self, span: Span) -> &[u8] {
        &self.json[span.start as usize..(span.start + span.len) as usize]
    }

    fn text(&self, span: Span) -> &str {
        // Spans are made from the text of valid UTF-8, at its borders.
        std::str::from_utf8(self.slice(span)).unwrap_or_default()
    }

    /// The object's kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.key.kind
    }

    /// `metadata.name`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.key.name
    }

    /// `metadata.uid`.
    #[must_use]
    pub fn uid(&self) -> &str {
        self.text(self.uid)
    }

    /// `metadata.creationTimestamp`, RFC 3339 in UTC to the second, so that its order is that of time.
    #[must_use]
    pub fn created(&self) -> &str {
        self.text(self.created)
    }

    /// The label `key`.
    #[must_use]
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels.iter().find(|(k, _)| self.text(*k) == key).map(|(_, v)| self.text(*v))
    }

    /// All labels.
    pub fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        self.labels.iter().map(|(k, v)| (self.text(*k), self.text(*v)))
    }

    /// The owner references.
    pub fn owners(&self) -> impl Iterator<Item = Owner<'_>> {
        self.owners.iter().map(|(uid, blocks)| {
            let uid = match uid {
                Text::At(span) => self.text(*span),
                Text::Escaped(text) => text,
            };
            Owner { uid, blocks: *blocks }
        })
    }

    /// The object's own JSON: no `resourceVersion`, no status.
    #[must_use]
    pub fn json(&self) -> &[u8] {
        &self.json
    }

    /// The bytes from the spec to the end: equal where the content is.
    #[must_use]
    pub fn spec_json(&self) -> &[u8] {
        &self.json[self.metadata_end as usize..]
    }

    /// About how much memory the record takes, in bytes.
    #[must_use]
    pub fn weight(&self) -> usize {
        const HEADER: usize = 512;
        self.json.len() + HEADER
    }

    /// The whole object, parsed.
    ///
    /// # Panics
    /// Never: decoding has read it before.
    #[must_use]
    pub fn object(&self) -> Object {
        #[derive(Deserialize)]
        struct Whole {
            metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
            spec: serde_json::Value,
        }
        let whole: Whole = serde_json::from_slice(&self.json).expect("it was written from an Object");
        let spec = Spec::from_value(self.kind(), whole.spec).expect("it was written from a Spec");
        Object { metadata: whole.metadata, spec }
    }

    /// What is known of the image, if it is one.
    #[must_use]
    pub fn image(&self) -> Option<&ImageHead> {
        if let Head::Image(head) = &self.head { Some(head) } else { None }
    }

    /// What is known of the repository, if it is one.
    #[must_use]
    pub fn repository(&self) -> Option<&RepositoryHead> {
        if let Head::Repository(head) = &self.head { Some(head) } else { None }
    }

    /// What is known of the organization, if it is one.
    #[must_use]
    pub fn organization(&self) -> Option<&OrganizationHead> {
        if let Head::Organization(head) = &self.head { Some(head) } else { None }
    }

    /// What is known of the pack, if it is one.
    #[must_use]
    pub fn pack(&self) -> Option<&PackHead> {
        if let Head::DataPack(head) = &self.head { Some(head) } else { None }
    }

    /// A field of an image as raw JSON, if it is there.
    #[must_use]
    pub fn field(&self, field: Field) -> Option<&[u8]> {
        let span = self.image()?.fields[field as usize];
        (span.len > 0).then(|| self.slice(span))
    }

    /// Appends the object as clients see it at `revision`: with its version, and `status` where it has one.
    pub fn write_object(&self, out: &mut Vec<u8>, revision: Revision, status: Option<&[u8]>) {
        let prefix = prefix(self.kind()).as_bytes();
        out.reserve(self.json.len() + status.map_or(0, <[u8]>::len) + 64);
        out.extend_from_slice(prefix);
        write_version(out, revision);
        out.extend_from_slice(&self.json[prefix.len()..self.json.len() - 1]);
        if let Some(status) = status {
            out.extend_from_slice(br#","status":"#);
            out.extend_from_slice(status);
        }
        out.push(b'}');
    }

    /// Appends the object's metadata at `revision` as `PartialObjectMetadata`.
    pub fn write_metadata(&self, out: &mut Vec<u8>, revision: Revision) {
        let start = prefix(self.kind()).len();
        out.reserve(self.metadata_end as usize + 64);
        out.extend_from_slice(br#"{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"#);
        write_version(out, revision);
        out.extend_from_slice(&self.json[start..self.metadata_end as usize]);
        out.extend_from_slice(b"}}");
    }
}

fn write_version(out: &mut Vec<u8>, revision: Revision) {
    // What a dry run would have made has none.
    if revision == Revision::default() {
        return;
    }
    out.extend_from_slice(br#""resourceVersion":""#);
    out.extend_from_slice(revision.to_string().as_bytes());
    out.extend_from_slice(br#"","#);
}

/// An absent field's default is a string from elsewhere: its span is the empty one at the start.
fn non_empty<'a>(text: &'a str, part: &'a str) -> &'a str {
    if part.is_empty() { &text[..0] } else { part }
}

/// What every object of a kind begins with: `metadata` has at least a name, so that the version can be
/// put in right behind it.
fn prefix(kind: Kind) -> &'static str {
    debug_assert_eq!(API_VERSION, "imagehub.sealos.io/v1");
    match kind {
        Kind::Image => r#"{"apiVersion":"imagehub.sealos.io/v1","kind":"Image","metadata":{"#,
        Kind::Repository => r#"{"apiVersion":"imagehub.sealos.io/v1","kind":"Repository","metadata":{"#,
        Kind::Organization => r#"{"apiVersion":"imagehub.sealos.io/v1","kind":"Organization","metadata":{"#,
        Kind::DataPack => r#"{"apiVersion":"imagehub.sealos.io/v1","kind":"DataPack","metadata":{"#,
    }
}

impl Head {
    fn decode(kind: Kind, text: &str, spec: &RawValue, envelope: &Envelope) -> Result<Self, String> {
        let spec = spec.get();
        let bad = |e: serde_json::Error| format!("spec: {e}");
        Ok(match kind {
            Kind::Image => {
                let image: ImageDocument = serde_json::from_str(spec).map_err(bad)?;
                let repository = super::snapshot::repository_of(&image.name);
                let detail = &image.detail;
                let span = |raw| Span::raw(text, raw);
                Self::Image(Box::new(ImageHead {
                    repository: repository.into(),
                    built_ms: detail.creat_time.and_then(built_ms),
                    size: detail.size.and_then(|raw| raw.get().parse().ok()).unwrap_or(0),
                    fields: [
                        span(image.image_type),
                        span(detail.keywords),
                        span(detail.description),
                        span(detail.icon),
                        span(detail.docs),
                        span(detail.id),
                        span(detail.arch),
                        span(detail.size),
                        span(detail.creat_time),
                    ],
                    name: image.name.as_ref().into(),
                }))
            }
            Kind::Repository => {
                let repository: RepositoryDocument = serde_json::from_str(spec).map_err(bad)?;
                Self::Repository(RepositoryHead {
                    name: repository.name.as_ref().into(),
                    private: repository.is_private.unwrap_or(false),
                })
            }
            Kind::Organization => {
                let organization: OrganizationDocument = serde_json::from_str(spec).map_err(bad)?;
                Self::Organization(OrganizationHead {
                    name: organization.name.as_ref().into(),
                    managers: organization.manager.into(),
                })
            }
            Kind::DataPack => {
                let pack: DataPackSpec = serde_json::from_str(spec).map_err(bad)?;
                Self::DataPack(Box::new(PackHead::new(&pack, envelope)?))
            }
        })
    }
}

impl PackHead {
    fn new(spec: &DataPackSpec, envelope: &Envelope) -> Result<Self, String> {
        let expire = spec.expire_time.as_deref().unwrap_or(crate::api::DEFAULT_EXPIRE_TIME);
        let lifetime = GoDuration::parse(expire).map_err(|e| format!("spec.expireTime: {e}"))?;
        let mut names: Vec<Arc<str>> = spec.names.iter().flatten().map(|n| Arc::from(n.as_str())).collect();
        names.sort_unstable();
        names.dedup();
        Ok(Self {
            grain: spec.grain.unwrap_or_default(),
            content: ContentHash::of(spec),
            names: names.into(),
            expires_ms: envelope.expiry_base_ms.unwrap_or(0).saturating_add(lifetime.as_millis()),
            answer: Cached::default(),
        })
    }
}

fn built_ms(raw: &RawValue) -> Option<i64> {
    let text: Cow<'_, str> = serde_json::from_str(raw.get()).ok()?;
    let at: jiff::Timestamp = text.parse().ok()?;
    // 1970, the default, means that it is not known.
    (at != jiff::Timestamp::UNIX_EPOCH).then(|| at.as_millisecond())
}
