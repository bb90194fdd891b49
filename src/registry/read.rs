//! What one caller reads at one snapshot: objects with their computed status.

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;

use crate::api::Kind;
use crate::datapack::{Packs, write_string, write_tag};
use crate::graph::{Digest, Record, Revision, Visible};

/// What one caller reads at one snapshot.
#[derive(Debug, Clone)]
pub struct Reader {
    /// What the caller sees.
    pub visible: Visible,
    packs: Arc<Packs>,
}

impl Reader {
    pub(super) fn new(visible: Visible, packs: Arc<Packs>) -> Self {
        Self { visible, packs }
    }

    /// Appends the whole object with its computed status, as of `revision`.
    pub fn write_object(&self, out: &mut Vec<u8>, record: &Record, revision: Revision) {
        let status = self.status(record);
        record.write_object(out, revision, status.as_deref());
    }

    /// The whole object with its computed status.
    #[must_use]
    pub fn object(&self, record: &Record) -> Bytes {
        let mut out = Vec::new();
        self.write_object(&mut out, record, record.revision);
        out.into()
    }

    /// The computed status, as JSON, where the kind has one.
    #[must_use]
    pub fn status(&self, record: &Record) -> Option<Vec<u8>> {
        match record.kind() {
            Kind::Image => None,
            Kind::Repository => Some(self.repository_status(record)),
            Kind::Organization => Some(self.organization_status(record)),
            Kind::DataPack => {
                let content = self.packs.content(&self.visible, record);
                let expires = record.pack().and_then(|p| Timestamp::from_millisecond(p.expires_ms).ok());
                let expires = expires.unwrap_or(Timestamp::MAX);
                let mut out = Vec::with_capacity(content.members.len() + 64);
                out.push(b'{');
                out.extend_from_slice(&content.members);
                // To the second, as kube's times; rounded down, so that it is not promised for longer.
                let expires = Timestamp::from_second(expires.as_second()).unwrap_or(expires);
                out.extend_from_slice(format!(r#","expiresAt":"{expires}"}}"#).as_bytes());
                Some(out)
            }
        }
    }

    /// `status.codes` of a pack.
    #[must_use]
    pub fn pack_code(&self, record: &Record) -> i32 {
        self.packs.content(&self.visible, record).code
    }

    fn repository_status(&self, record: &Record) -> Vec<u8> {
        let name = record.repository().map_or("", |r| &r.name);
        let tags = self.visible.tags(name);
        let mut out = Vec::with_capacity(tags.len() * 128 + 128);
        out.extend_from_slice(br#"{"name":"#);
        write_string(&mut out, name);
        let downloads = record.envelope.download_count;
        out.extend_from_slice(format!(r#","downloadCount":{downloads},"tags":["#).as_bytes());
        for (i, tag) in tags.iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            write_tag(&mut out, tag);
        }
        out.push(b']');
        if let Some(latest) = tags.first() {
            out.extend_from_slice(br#","latestTag":"#);
            write_tag(&mut out, latest);
        }
        out.push(b'}');
        out
    }

    fn organization_status(&self, record: &Record) -> Vec<u8> {
        let name = record.organization().map_or("", |o| &o.name);
        let mut out = br#"{"name":"#.to_vec();
        write_string(&mut out, name);
        out.extend_from_slice(br#","repos":["#);
        for (i, repository) in self.visible.repositories(name).enumerate() {
            if i > 0 {
                out.push(b',');
            }
            write_string(&mut out, repository);
        }
        out.extend_from_slice(b"]}");
        out
    }

    /// The digest of what watchers are told of: the computed status, where the reader sees it.
    #[must_use]
    pub fn digest(&self, record: &Record) -> Option<Digest> {
        match record.kind() {
            Kind::Image => None,
            // When it expires is the pack's own, and changes by a commit anyway.
            Kind::DataPack => Some(self.packs.content(&self.visible, record).digest),
            _ if !self.visible.sees(record) => Some(Digest::of(b"")),
            _ => self.status(record).map(|status| Digest::of(&status)),
        }
    }
}
