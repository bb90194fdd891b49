//! What the indexes of a snapshot lead to.

use std::sync::Arc;

use crate::api::Kind;
use crate::graph::names::Named;
use crate::graph::record::Record;
use crate::graph::set::Set;
use crate::storage::{Key, Revision};

/// Who claims a `spec.name`: one object, in all but the rarest cases. The first is the oldest.
#[derive(Debug, Clone, Default)]
pub(in crate::graph) enum Claims {
    #[default]
    None,
    One(Arc<Record>),
    Many(Arc<[Arc<Record>]>),
}

impl Claims {
    /// The claims of `all`.
    pub(super) fn of(mut all: Vec<Arc<Record>>) -> Self {
        all.sort_by(|a, b| (a.created(), a.uid()).cmp(&(b.created(), b.uid())));
        match all.len() {
            0 => Self::None,
            1 => Self::One(all.remove(0)),
            _ => Self::Many(all.into()),
        }
    }

    pub(in crate::graph) fn as_slice(&self) -> &[Arc<Record>] {
        match self {
            Self::None => &[],
            Self::One(record) => std::slice::from_ref(record),
            Self::Many(records) => records,
        }
    }

    pub(super) fn first(&self) -> Option<&Arc<Record>> {
        self.as_slice().first()
    }

    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::None)
    }

    pub(super) fn replace(&mut self, key: &Key, new: Option<&Arc<Record>>) {
        *self = Self::of(self.as_slice().iter().filter(|r| r.key != *key).cloned().chain(new.cloned()).collect());
    }
}

/// What is known of the full name of an image.
#[derive(Debug, Clone)]
pub(in crate::graph) enum ImageEntry {
    /// One image has it, and no pack names it, as it is with most.
    Plain(Arc<Record>),
    Other(Arc<OtherImage>),
}

#[derive(Debug, Clone)]
pub(in crate::graph) struct OtherImage {
    name: Arc<str>,
    claims: Claims,
    packs: Set<Arc<str>>,
}

static NO_PACKS: Set<Arc<str>> = Set::Empty;

impl ImageEntry {
    /// The images, the oldest first.
    pub(in crate::graph) fn claims(&self) -> &[Arc<Record>] {
        match self {
            Self::Plain(record) => std::slice::from_ref(record),
            Self::Other(other) => other.claims.as_slice(),
        }
    }

    /// The packs that name it, whether it exists or not.
    pub(in crate::graph) fn packs(&self) -> &Set<Arc<str>> {
        match self {
            Self::Plain(_) => &NO_PACKS,
            Self::Other(other) => &other.packs,
        }
    }

    /// The name, to be shared by the packs that have it.
    pub(super) fn shared_name(&self) -> Option<&Arc<str>> {
        match self {
            Self::Plain(_) => None,
            Self::Other(other) => Some(&other.name),
        }
    }
}

impl Named for ImageEntry {
    fn name(&self) -> &str {
        match self {
            Self::Plain(record) => record.image().map_or("", |image| image.name()),
            Self::Other(other) => &other.name,
        }
    }

    fn name_bytes(&self) -> &[u8] {
        match self {
            Self::Plain(record) => record.image().map_or(&[], |image| image.name_bytes()),
            Self::Other(other) => other.name.as_bytes(),
        }
    }
}

/// What an [`ImageEntry`] is made of, to be changed.
#[derive(Debug, Default)]
pub(super) struct ImageParts {
    pub(super) claims: Claims,
    pub(super) packs: Set<Arc<str>>,
}

impl ImageParts {
    pub(super) fn of(entry: Option<&ImageEntry>) -> Self {
        match entry {
            None => Self::default(),
            Some(ImageEntry::Plain(record)) => Self { claims: Claims::One(Arc::clone(record)), packs: Set::Empty },
            Some(ImageEntry::Other(other)) => Self { claims: other.claims.clone(), packs: other.packs.clone() },
        }
    }

    /// The entry; none, if nothing is in it.
    pub(super) fn entry(self, name: impl FnOnce() -> Arc<str>) -> Option<ImageEntry> {
        match self {
            Self { claims: Claims::None, packs } if packs.is_empty() => None,
            Self { claims: Claims::One(record), packs } if packs.is_empty() => Some(ImageEntry::Plain(record)),
            Self { claims, packs } => Some(ImageEntry::Other(Arc::new(OtherImage { name: name(), claims, packs }))),
        }
    }
}

/// What is known of the full name of a repository.
#[derive(Debug, Clone)]
pub(in crate::graph) struct RepositoryEntry {
    pub(super) name: Arc<str>,
    pub(in crate::graph) claims: Claims,
    /// The images, one a tag, the newest first.
    pub(in crate::graph) tags: Arc<[Arc<Record>]>,
    /// The packs that name an image of it.
    pub(in crate::graph) packs: Set<Arc<str>>,
    /// How many images it has, those included that share a tag.
    pub(super) images: usize,
    /// Since when everybody sees it, where everybody does.
    pub(in crate::graph) public_since: Revision,
}

impl Named for RepositoryEntry {
    fn name(&self) -> &str {
        &self.name
    }
}

impl RepositoryEntry {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            claims: Claims::default(),
            tags: Arc::default(),
            packs: Set::default(),
            images: 0,
            public_since: Revision::default(),
        }
    }

    /// Whether only managers and administrators see it and its images. So it is also where the
    /// repository is gone and images are left: they must not come to light while a private repository's
    /// deletion is under way, nor after one that orphaned them.
    pub(in crate::graph) fn private(&self) -> bool {
        self.claims.first().and_then(|r| r.repository()).is_none_or(|r| r.private)
    }

    pub(super) fn downloads(&self) -> i64 {
        self.claims.first().and_then(|r| r.repository()).map_or(0, |r| r.downloads)
    }

    /// Whether it is one of its organization's: whether it exists or has images.
    pub(super) fn is_member(&self) -> bool {
        !(self.claims.is_empty() && self.tags.is_empty())
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.is_member() && self.packs.is_empty()
    }

    /// What of it is hidden: its images where it is private or absent, and the objects that say so.
    pub(super) fn hidden(&self) -> Hidden {
        let private = |record: &&Arc<Record>| record.repository().is_some_and(|r| r.private);
        Hidden {
            images: if self.private() { self.images } else { 0 },
            repositories: self.claims.as_slice().iter().filter(private).count(),
        }
    }
}

/// What is known of the name of an organization.
#[derive(Debug, Clone, Default)]
pub(in crate::graph) struct OrganizationEntry {
    pub(in crate::graph) claims: Claims,
    /// The repositories that exist or have images.
    pub(in crate::graph) repositories: Set<Arc<str>>,
    pub(in crate::graph) hidden: Hidden,
    /// The last commit of the organization itself, of one of its repositories or of an image of one.
    pub(in crate::graph) changed: Revision,
}

impl OrganizationEntry {
    pub(super) fn managers(&self) -> Vec<Box<str>> {
        let record = self.claims.first().and_then(|record| record.organization());
        record.map_or_else(Vec::new, |record| record.managers.to_vec())
    }
}

/// How many objects only managers and administrators see: so that they are counted without being looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::graph) struct Hidden {
    images: usize,
    repositories: usize,
}

impl Hidden {
    pub(in crate::graph) fn of(self, kind: Kind) -> usize {
        match kind {
            Kind::Image => self.images,
            Kind::Repository => self.repositories,
            Kind::Organization | Kind::DataPack => 0,
        }
    }

    pub(super) fn exchange(&mut self, before: Self, after: Self) {
        self.images = self.images + after.images - before.images;
        self.repositories = self.repositories + after.repositories - before.repositories;
    }
}

/// Who names the object of this uid as its owner.
#[derive(Debug, Clone)]
pub(in crate::graph) struct Dependents {
    pub(super) uid: Box<str>,
    pub(in crate::graph) keys: Set<Key>,
}

impl Named for Dependents {
    fn name(&self) -> &str {
        &self.uid
    }
}
