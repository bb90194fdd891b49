//! The catalogue at one revision: all objects by name, the indexes over them, and the log of recent
//! events. Persistent maps: a snapshot is cheap to clone, and never changes once it is published.
//!
//! What it keeps true: every index is a function of the objects, moved in the same publication as they
//! are. Tables and label indexes hold a superset over the window, so that a list at an older revision
//! finds what has been deleted or relabelled since; whoever reads them verifies each version.

mod apply;
mod entries;
mod fill;
mod table;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use imbl::{HashMap, OrdSet, Vector};

use super::event::Event;
use super::names::Names;
use super::record::Record;
use super::set::Set;
use super::sight::SightLog;
use crate::api::{Kind, split_image_name};
use crate::storage::{Key, Revision};
pub(super) use entries::RepositoryEntry;
use entries::{Dependents, Hidden, ImageEntry, OrganizationEntry};
use table::{Table, Values};

/// One state of the catalogue.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    pub(super) revision: Revision,
    /// Raised when everything was read anew: what was known before says nothing of what is known since.
    pub(super) generation: u64,
    pub(super) at_ms: i64,
    /// All events after this revision are in `log`.
    pub(super) floor: Revision,
    pub(super) log: Vector<Arc<Event>>,
    pub(super) log_bytes: usize,
    /// How many events of each kind took a label from an object: only by these do indexes have more than there is.
    pub(super) relabelled: [usize; Kind::ALL.len()],
    /// How many bytes of encodings the events of the log keep.
    encoded_bytes: Arc<AtomicUsize>,
    pub(super) sight_log: SightLog,
    /// Up to which revision events are older than their time says, by how many milliseconds: those of before
    /// the start, which don't age while nobody is there to miss them.
    pub(super) resumed: (Revision, i64),
    /// The last commit of each kind.
    pub(super) last_of_kind: [Revision; Kind::ALL.len()],
    tables: [Table; Kind::ALL.len()],
    images: Names<ImageEntry>,
    repositories: Names<RepositoryEntry>,
    organizations: HashMap<Arc<str>, OrganizationEntry>,
    /// The organizations that each manager is in.
    managed: HashMap<Arc<str>, Set<Arc<str>>>,
    hidden: Hidden,
    dependents: Names<Dependents>,
    pack_changed: HashMap<Arc<str>, Revision>,
    expiries: OrdSet<(i64, Arc<str>)>,
}

impl Snapshot {
    fn table(&self, kind: Kind) -> &Table {
        &self.tables[kind as usize]
    }

    pub(super) fn live(&self, kind: Kind) -> usize {
        self.table(kind).live
    }

    /// The object now.
    pub(super) fn get(&self, kind: Kind, name: &str) -> Option<&Arc<Record>> {
        self.table(kind).by_name.get(name)?.present()
    }

    /// The object as it was at `revision`, which must be in the window.
    pub(super) fn get_at(&self, kind: Kind, name: &str, revision: Revision) -> Option<Arc<Record>> {
        let newest = self.table(kind).by_name.get(name)?;
        if newest.revision <= revision {
            return newest.present().cloned();
        }
        newest.at(revision)?.present().cloned()
    }

    /// The newest versions of a kind with names after `after`, in order: of a superset of what is and was there over
    /// the window.
    pub(super) fn newest<'a>(
        &'a self,
        kind: Kind,
        after: Option<&str>,
    ) -> impl Iterator<Item = &'a Arc<Record>> + use<'a> {
        self.table(kind).ordered.after(after.map(Arc::from).as_ref())
    }

    /// The names that have, or had within the window, `label` with `value`.
    pub(super) fn labelled(&self, kind: Kind, label: &str, value: &str) -> Option<&Set<Arc<str>>> {
        Some(&self.table(kind).labels.get(label)?.get(value)?.names)
    }

    /// The values that `label` has, or had within the window, with their names.
    pub(super) fn label_values(&self, kind: Kind, label: &str) -> Option<&Values> {
        self.table(kind).labels.get(label)
    }

    pub(super) fn image(&self, name: &str) -> Option<&ImageEntry> {
        self.images.get(name)
    }

    pub(super) fn repository(&self, name: &str) -> Option<&RepositoryEntry> {
        self.repositories.get(name)
    }

    /// [`image`](Self::image) of each of `names`.
    pub(super) fn images_of(&self, names: &[&str]) -> Vec<Option<&ImageEntry>> {
        self.images.get_each(names)
    }

    /// [`repository`](Self::repository) of each of `names`.
    pub(super) fn repositories_of(&self, names: &[&str]) -> Vec<Option<&RepositoryEntry>> {
        self.repositories.get_each(names)
    }

    pub(super) fn organization(&self, name: &str) -> Option<&OrganizationEntry> {
        self.organizations.get(name)
    }

    pub(super) fn dependents(&self, uid: &str) -> Option<&Set<Key>> {
        Some(&self.dependents.get(uid)?.keys)
    }

    /// How many objects of `kind` are hidden from the public.
    pub(super) fn hidden_from_public(&self, kind: Kind) -> usize {
        self.hidden.of(kind)
    }

    /// How many of those the manager of this name sees.
    pub(super) fn shown_to_manager(&self, manager: &str, kind: Kind) -> usize {
        let organizations = self.managed.get(manager).into_iter().flat_map(Set::iter);
        organizations.filter_map(|name| self.organizations.get(name)).map(|entry| entry.hidden.of(kind)).sum()
    }

    /// Whether the repository of this name, and its images, are seen by managers and administrators only.
    pub(super) fn hidden(&self, repository: &str) -> bool {
        self.repositories.get(repository).is_none_or(RepositoryEntry::private)
    }

    /// The revision of the last change of what the pack's content is made from.
    pub(super) fn pack_changed(&self, name: &str) -> Revision {
        self.pack_changed.get(name).copied().unwrap_or_default()
    }

    /// When packs go, the earliest first.
    pub(super) fn expiries(&self) -> &OrdSet<(i64, Arc<str>)> {
        &self.expiries
    }

    /// Drops the oldest events while there are more bytes of them than `budget`, or they are older than
    /// `horizon_ms`. What is before the versions that it answers with is to be cut, once no reader can begin
    /// below the new floor any more.
    #[must_use]
    pub(super) fn trim(&mut self, budget: usize, horizon_ms: i64) -> Vec<Arc<Record>> {
        let mut trimmed = Vec::new();
        while let Some(event) = self.log.front()
            && (self.log_bytes > budget || self.begins_to_age(event) < horizon_ms)
        {
            let event = Arc::clone(event);
            self.log.pop_front();
            self.log_bytes -= event.weight();
            self.relabelled[event.key.kind as usize] -= usize::from(event.takes_label());
            self.floor = event.revision;
            let table = &mut self.tables[event.key.kind as usize];
            let newest = table.by_name.get(&event.key.name).cloned();
            if let Some(old) = &event.old {
                table.unindex_labels(old, event.new_record(), &event.key.name);
            }
            if newest.is_some_and(|v| v.revision == event.revision && v.present().is_none()) {
                table.by_name.remove(&event.key.name);
                table.ordered.remove(&event.key.name);
            }
            trimmed.push(Arc::clone(&event.version));
        }
        self.sight_log.trim(self.floor);
        trimmed
    }

    /// When an event began to age.
    fn begins_to_age(&self, event: &Event) -> i64 {
        let (revision, pause) = self.resumed;
        if event.revision <= revision { event.at_ms.saturating_add(pause) } else { event.at_ms }
    }
}

/// org/repo of org/repo:tag; the whole of what has no such form, as old data may.
#[must_use]
pub fn repository_of(image: &str) -> &str {
    split_image_name(image).map_or(image, |(organization, repo, _)| &image[..organization.len() + 1 + repo.len()])
}
