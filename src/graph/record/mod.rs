//! One version of one object: its stored bytes, and a small header and a table of where in them the fields are
//! that lists, selectors, packs and tables need. Nothing is ever serialised again: what is served is copied out
//! of these bytes.
//!
//! A million records are most of what the process takes, so a record is two allocations and its name: the
//! header, and one slice of its bytes with the table behind them.

mod decode;
mod head;
mod render;
mod spans;
mod stored;

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Deserialize;

pub use head::{Field, ImageHead, OrganizationHead, PackHead, RepositoryHead, organization_of};
use spans::{LABEL, OWNER};
pub use stored::{Damaged, Digest, Envelope, encode};

use crate::api::{Kind, Object, Spec};
use crate::storage::{Key, Revision};

/// What is known of the object beside its metadata, by its kind.
#[derive(Debug)]
pub(super) enum Head {
    /// Nothing: the object is gone.
    Gone,
    /// See [`ImageHead`].
    Image {
        built_ms: i64,
        repository_len: u32,
    },
    /// See [`RepositoryHead`].
    Repository {
        downloads: i64,
        private: bool,
    },
    Organization(Box<OrganizationHead>),
    DataPack(Box<PackHead>),
}

/// An entry of `metadata.ownerReferences`.
#[derive(Debug, Clone, Copy)]
pub struct Owner<'a> {
    /// The owner's uid.
    pub uid: &'a str,
    /// Whether the owner's foreground deletion waits for this object.
    pub blocks: bool,
}

/// One version of one object. Within the graph also that there is none from a revision on.
#[derive(Debug)]
pub struct Record {
    /// Its kind and `metadata.name`.
    pub key: Key,
    /// The commit that wrote it.
    pub revision: Revision,
    /// The store's time of that commit, milliseconds since 1970; 0 for what is not stored.
    pub at_ms: i64,
    /// Whether `metadata.deletionTimestamp` is set.
    pub deleting: bool,
    pub(super) head: Head,
    /// The stored form, and the table of [`spans`]. Just as long as they are, and nobody else's: a share of a
    /// row's bytes would keep more.
    bytes: Box<[u8]>,
    object_at: u32,
    /// Where the closing brace of the metadata is.
    metadata_end: u32,
    object_end: u32,
    owners: u32,
    labels: u32,
    pub(super) older: Older,
}

/// What was before a version, as far as the window keeps it. Cut, never changed otherwise: a reader at a revision
/// within the window doesn't get as far as the cut.
#[derive(Default)]
pub(super) struct Older(Mutex<Option<Arc<Record>>>);

impl Older {
    pub(super) fn new(version: Option<Arc<Record>>) -> Self {
        Self(Mutex::new(version))
    }

    pub(super) fn get(&self) -> Option<Arc<Record>> {
        self.0.lock().clone()
    }

    /// Lets go of what was before.
    pub(super) fn cut(&self) {
        // Dropped outside of the lock.
        let _older = self.0.lock().take();
    }
}

impl fmt::Debug for Older {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Older").field(&self.get().map(|version| version.revision)).finish()
    }
}

impl Drop for Older {
    /// One after the other: a key that is written a thousand times a second has a chain too long for recursion.
    fn drop(&mut self) {
        let mut next = self.0.get_mut().take();
        while let Some(mut version) = next.and_then(Arc::into_inner) {
            next = version.older.0.get_mut().take();
        }
    }
}

impl Record {
    /// The absence of `key` since `revision`.
    pub(super) fn gone(key: Key, revision: Revision) -> Self {
        Self {
            key,
            revision,
            at_ms: 0,
            deleting: false,
            head: Head::Gone,
            bytes: Box::default(),
            object_at: 0,
            metadata_end: 0,
            object_end: 0,
            owners: 0,
            labels: 0,
            older: Older::default(),
        }
    }

    /// The version itself, unless it is that there is none.
    pub(super) fn present(self: &Arc<Self>) -> Option<&Arc<Self>> {
        (!matches!(self.head, Head::Gone)).then_some(self)
    }

    /// The version that stood at `revision`, if it is kept.
    pub(super) fn at(self: &Arc<Self>, revision: Revision) -> Option<Arc<Self>> {
        let mut version = Arc::clone(self);
        while version.revision > revision {
            let older = version.older.get()?;
            version = older;
        }
        Some(version)
    }

    fn number(&self, at: usize) -> usize {
        let count = self.first_label() + self.labels as usize * LABEL;
        spans::number(&self.bytes, count, at)
    }

    fn first_owner(&self) -> usize {
        spans::own(self.kind()) * 2
    }

    fn first_label(&self) -> usize {
        self.first_owner() + self.owners as usize * OWNER
    }

    /// The bytes of the string that the numbers from `at` on tell of.
    fn slice(&self, at: usize) -> &[u8] {
        let (start, len) = (self.number(at), self.number(at + 1));
        &self.bytes[start..start + len]
    }

    fn text(&self, at: usize) -> &str {
        // Spans are made from valid UTF-8, at its borders.
        std::str::from_utf8(self.slice(at)).unwrap_or_default()
    }

    /// One of the kind's own strings.
    fn own(&self, which: usize) -> &str {
        self.text(which * 2)
    }

    fn own_bytes(&self, which: usize) -> &[u8] {
        self.slice(which * 2)
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
        self.own(spans::UID)
    }

    /// `metadata.creationTimestamp`, RFC 3339 in UTC to the second, so that its order is that of time.
    #[must_use]
    pub fn created(&self) -> &str {
        self.own(spans::CREATED)
    }

    /// The label `key`.
    #[must_use]
    pub fn label(&self, key: &str) -> Option<&str> {
        self.label_spans().find(|at| self.slice(*at) == key.as_bytes()).map(|at| self.text(at + 2))
    }

    /// All labels.
    pub fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        self.label_spans().map(|at| (self.text(at), self.text(at + 2)))
    }

    fn label_spans(&self) -> impl Iterator<Item = usize> + use<> {
        let first = self.first_label();
        (0..self.labels as usize).map(move |label| first + label * LABEL)
    }

    /// The owner references.
    pub fn owners(&self) -> impl Iterator<Item = Owner<'_>> {
        let first = self.first_owner();
        (0..self.owners as usize).map(move |owner| {
            let at = first + owner * OWNER;
            Owner { uid: self.text(at), blocks: self.number(at + 2) != 0 }
        })
    }

    /// What is stored beside the object, parsed.
    ///
    /// # Panics
    /// Never: decoding has read it before.
    #[must_use]
    pub fn envelope(&self) -> Envelope {
        let stored = &self.bytes[..(self.object_at as usize).saturating_sub(1)];
        serde_json::from_slice(stored).expect("it was read before")
    }

    /// The object's own JSON: no `resourceVersion`, no status.
    #[must_use]
    pub fn json(&self) -> &[u8] {
        &self.bytes[self.object_at as usize..self.object_end as usize]
    }

    /// The bytes from the spec to the end: equal where the content is.
    #[must_use]
    pub fn spec_json(&self) -> &[u8] {
        &self.bytes[self.metadata_end as usize..self.object_end as usize]
    }

    /// The fields of the metadata, without the braces around them.
    fn metadata_fields(&self) -> &[u8] {
        let start = self.object_at as usize + stored::prefix(self.kind()).len();
        &self.bytes[start..self.metadata_end as usize]
    }

    /// About how much memory the record takes, in bytes, beside what the graph's indexes do.
    #[must_use]
    pub fn weight(&self) -> usize {
        const HEADER: usize = 256;
        self.bytes.len() + HEADER
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
        let whole: Whole = serde_json::from_slice(self.json()).expect("it was written from an Object");
        let spec = Spec::from_value(self.kind(), whole.spec).expect("it was written from a Spec");
        Object { metadata: whole.metadata, spec }
    }
}
