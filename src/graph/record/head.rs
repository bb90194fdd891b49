//! What is known of an object beside its metadata without parsing it, by its kind.

use std::sync::Arc;

use super::{Head, Record, spans};
use crate::api::{ContentHash, DataPackSpec, GoDuration, Grain};
use crate::graph::Envelope;
use crate::graph::cached::Cached;

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

/// What is known of an Image without parsing it.
#[derive(Debug, Clone, Copy)]
pub struct ImageHead<'a> {
    pub(super) record: &'a Record,
    pub(super) built_ms: i64,
    pub(super) repository_len: u32,
}

/// When an image was built where that is not known: before all that is.
pub(super) const UNKNOWN: i64 = i64::MIN;

impl<'a> ImageHead<'a> {
    /// `spec.name`, org/repo:tag.
    #[must_use]
    pub fn name(&self) -> &'a str {
        self.record.own(spans::NAME)
    }

    /// The same, not looked at as text.
    pub(in crate::graph) fn name_bytes(&self) -> &'a [u8] {
        self.record.own_bytes(spans::NAME)
    }

    /// org/repo of its name.
    #[must_use]
    pub fn repository(&self) -> &'a str {
        self.name().get(..self.repository_len as usize).unwrap_or_default()
    }

    /// The tag of its name.
    #[must_use]
    pub fn tag(&self) -> &'a str {
        self.name().get(self.repository_len as usize + 1..).unwrap_or_default()
    }

    /// When it was built, milliseconds since 1970; `None` where that is not known.
    #[must_use]
    pub fn built_ms(&self) -> Option<i64> {
        (self.built_ms != UNKNOWN).then_some(self.built_ms)
    }

    /// Its size in bytes.
    #[must_use]
    pub fn size(&self) -> i64 {
        let raw = self.record.field(Field::Size).and_then(|raw| std::str::from_utf8(raw).ok());
        raw.and_then(|raw| raw.parse().ok()).unwrap_or(0)
    }
}

/// What is known of a Repository without parsing it.
#[derive(Debug, Clone, Copy)]
pub struct RepositoryHead<'a> {
    record: &'a Record,
    /// `spec.isPrivate`.
    pub private: bool,
    /// How often its images were downloaded.
    pub downloads: i64,
}

impl<'a> RepositoryHead<'a> {
    /// `spec.name`, org/repo.
    #[must_use]
    pub fn name(&self) -> &'a str {
        self.record.own(spans::NAME)
    }

    /// The organization of its name.
    #[must_use]
    pub fn organization(&self) -> &'a str {
        organization_of(self.name())
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

impl PackHead {
    pub(super) fn new(spec: &DataPackSpec, envelope: &Envelope) -> Result<Self, String> {
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

/// The organization in `org/repo` or `org/repo:tag`.
#[must_use]
pub fn organization_of(name: &str) -> &str {
    name.split_once('/').map_or(name, |(organization, _)| organization)
}

impl Record {
    /// What is known of the image, if it is one.
    #[must_use]
    pub fn image(&self) -> Option<ImageHead<'_>> {
        let Head::Image { built_ms, repository_len } = self.head else { return None };
        Some(ImageHead { record: self, built_ms, repository_len })
    }

    /// What is known of the repository, if it is one.
    #[must_use]
    pub fn repository(&self) -> Option<RepositoryHead<'_>> {
        let Head::Repository { downloads, private } = self.head else { return None };
        Some(RepositoryHead { record: self, private, downloads })
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
        self.image()?;
        let raw = self.own_bytes(spans::FIELDS + field as usize);
        (!raw.is_empty()).then_some(raw)
    }
}
