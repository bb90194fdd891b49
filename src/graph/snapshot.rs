//! The catalogue at one revision: all objects by name, the indexes over them, and the log of recent
//! events. Persistent maps: a snapshot is cheap to clone, and never changes once it is published.
//!
//! What it keeps true: every index is a function of the objects, moved in the same publication as they
//! are. Tables and label indexes hold a superset over the window, so that a list at an older revision
//! finds what has been deleted or relabelled since; whoever reads them verifies each version.

use std::cmp::Ordering;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use imbl::{HashMap, OrdMap, OrdSet, Vector};
use parking_lot::Mutex;

use super::event::Event;
use super::names::Names;
use super::record::{Record, organization_of};
use super::set::Set;
use super::sight::{Change, SightLog};
use crate::api::{Grain, Kind, split_image_name, version_order};
use crate::storage::{Key, Revision};

/// An object, or its absence, from one revision on; behind it what it was before.
#[derive(Debug)]
pub struct Version {
    /// The commit that made it.
    pub revision: Revision,
    /// The object; `None` where the commit deleted it.
    pub record: Option<Arc<Record>>,
    /// What was before, as far as the window keeps it. Cut, never changed otherwise: a reader at a
    /// revision within the window doesn't get as far as the cut.
    older: Mutex<Option<Arc<Version>>>,
}

impl Version {
    /// The version that stood at `revision`, if it is kept.
    fn at(self: &Arc<Self>, revision: Revision) -> Option<Arc<Self>> {
        let mut version = Arc::clone(self);
        while version.revision > revision {
            let older = version.older.lock().clone()?;
            version = older;
        }
        Some(version)
    }

    /// Lets go of what was before.
    pub(super) fn cut(&self) {
        // Dropped outside of the lock.
        let _older = self.older.lock().take();
    }
}

impl Drop for Version {
    /// One after the other: a key that is written a thousand times a second has a chain too long for recursion.
    fn drop(&mut self) {
        let mut next = self.older.get_mut().take();
        while let Some(mut version) = next.and_then(Arc::into_inner) {
            next = version.older.get_mut().take();
        }
    }
}

/// For each value of a label the names that have it.
type Values = HashMap<Arc<str>, Set<Arc<str>>>;

/// The objects of one kind.
#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    by_name: Names<Arc<Version>>,
    ordered: OrdMap<Arc<str>, Arc<Version>>,
    live: usize,
    labels: HashMap<Arc<str>, Values>,
}

/// Who claims a `spec.name`: one object, in all but the rarest cases. The first is the oldest.
#[derive(Debug, Clone, Default)]
pub(super) enum Claims {
    #[default]
    None,
    One(Arc<Record>),
    Many(Arc<[Arc<Record>]>),
}

impl Claims {
    pub(super) fn as_slice(&self) -> &[Arc<Record>] {
        match self {
            Self::None => &[],
            Self::One(record) => std::slice::from_ref(record),
            Self::Many(records) => records,
        }
    }

    fn first(&self) -> Option<&Arc<Record>> {
        self.as_slice().first()
    }

    fn is_empty(&self) -> bool {
        matches!(self, Self::None)
    }

    fn replace(&mut self, key: &Key, new: Option<&Arc<Record>>) {
        let mut all: Vec<_> = self.as_slice().iter().filter(|r| r.key != *key).cloned().chain(new.cloned()).collect();
        all.sort_by(|a, b| (a.created(), a.uid()).cmp(&(b.created(), b.uid())));
        *self = match all.len() {
            0 => Self::None,
            1 => Self::One(all.remove(0)),
            _ => Self::Many(all.into()),
        };
    }
}

#[derive(Debug, Clone, Default)]
pub(super) struct ImageEntry {
    pub(super) claims: Claims,
    /// The packs that name it, whether it exists or not.
    pub(super) packs: Set<Arc<str>>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct RepositoryEntry {
    pub(super) claims: Claims,
    /// The images, one a tag, the newest first.
    pub(super) tags: Arc<Vec<Arc<Record>>>,
    /// The packs that name an image of it.
    pub(super) packs: Set<Arc<str>>,
    /// How many images it has, those included that share a tag.
    images: usize,
}

impl RepositoryEntry {
    /// Whether only managers and administrators see it and its images. So it is also where the
    /// repository is gone and images are left: they must not come to light while a private repository's
    /// deletion is under way, nor after one that orphaned them.
    fn private(&self) -> bool {
        self.claims.first().and_then(|r| r.repository()).is_none_or(|r| r.private)
    }

    fn downloads(&self) -> i64 {
        self.claims.first().map_or(0, |r| r.envelope.download_count)
    }

    fn is_empty(&self) -> bool {
        self.claims.is_empty() && self.tags.is_empty() && self.packs.is_empty()
    }
}

#[derive(Debug, Clone, Default)]
pub(super) struct OrganizationEntry {
    pub(super) claims: Claims,
    /// The repositories that exist or have images.
    pub(super) repositories: Set<Arc<str>>,
    hidden: Hidden,
}

/// How many objects only managers and administrators see: so that they are counted without being looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Hidden {
    images: usize,
    repositories: usize,
}

impl Hidden {
    pub(super) fn of(self, kind: Kind) -> usize {
        match kind {
            Kind::Image => self.images,
            Kind::Repository => self.repositories,
            Kind::Organization | Kind::DataPack => 0,
        }
    }

    fn exchange(&mut self, before: Self, after: Self) {
        self.images = self.images + after.images - before.images;
        self.repositories = self.repositories + after.repositories - before.repositories;
    }
}

impl OrganizationEntry {
    fn managers(&self) -> Vec<Box<str>> {
        let record = self.claims.first().and_then(|record| record.organization());
        record.map_or_else(Vec::new, |record| record.managers.to_vec())
    }
}

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
    repositories: HashMap<Arc<str>, RepositoryEntry>,
    organizations: HashMap<Arc<str>, OrganizationEntry>,
    /// The organizations that each manager is in.
    managed: HashMap<Arc<str>, Set<Arc<str>>>,
    hidden: Hidden,
    dependents: HashMap<Box<str>, Set<Key>>,
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
        self.table(kind).by_name.get(name)?.record.as_ref()
    }

    /// The object as it was at `revision`, which must be in the window.
    pub(super) fn get_at(&self, kind: Kind, name: &str, revision: Revision) -> Option<Arc<Record>> {
        let newest = self.table(kind).by_name.get(name)?;
        if newest.revision <= revision {
            return newest.record.clone();
        }
        newest.at(revision)?.record.clone()
    }

    /// The names of a kind after `after`, in order: a superset of what is and was there over the window.
    pub(super) fn names<'a>(
        &'a self,
        kind: Kind,
        after: Option<&str>,
    ) -> impl Iterator<Item = (&'a Arc<str>, &'a Arc<Version>)> + use<'a> {
        use std::ops::Bound;
        let from: Bound<Arc<str>> = after.map_or(Bound::Unbounded, |name| Bound::Excluded(name.into()));
        self.table(kind).ordered.range((from, Bound::Unbounded))
    }

    /// The names that have, or had within the window, `label` with `value`.
    pub(super) fn labelled(&self, kind: Kind, label: &str, value: &str) -> Option<&Set<Arc<str>>> {
        self.table(kind).labels.get(label)?.get(value)
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

    pub(super) fn organization(&self, name: &str) -> Option<&OrganizationEntry> {
        self.organizations.get(name)
    }

    pub(super) fn dependents(&self, uid: &str) -> Option<&Set<Key>> {
        self.dependents.get(uid)
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

    /// What of a repository is hidden: its images where it is private or absent, and the objects that say so.
    fn hidden_of(&self, repository: &str) -> Hidden {
        let Some(entry) = self.repositories.get(repository) else { return Hidden::default() };
        let private = |record: &&Arc<Record>| record.repository().is_some_and(|r| r.private);
        Hidden {
            images: if entry.private() { entry.images } else { 0 },
            repositories: entry.claims.as_slice().iter().filter(private).count(),
        }
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

    /// Applies a commit: the object, all indexes, and, if `with_event`, the event log.
    pub(super) fn apply(&mut self, key: &Key, revision: Revision, at_ms: i64, new: Option<Record>, with_event: bool) {
        debug_assert!(revision > self.revision);
        let new = new.map(|record| Arc::new(self.intern(record)));
        let table = &mut self.tables[key.kind as usize];
        let newest = table.by_name.get(&key.name).cloned();
        let old = newest.as_ref().and_then(|v| v.record.clone());
        // The same string as the one that is there already.
        let name = new.as_ref().or(old.as_ref()).map_or_else(|| Arc::clone(&key.name), |r| Arc::clone(&r.key.name));
        self.revision = revision;
        self.at_ms = self.at_ms.max(at_ms);
        table.live = table.live + usize::from(new.is_some()) - usize::from(old.is_some());

        let version =
            Arc::new(Version { revision, record: new.clone(), older: Mutex::new(newest.filter(|_| with_event)) });
        if new.is_some() || with_event {
            table.by_name.insert(Arc::clone(&name), Arc::clone(&version));
            table.ordered.insert(Arc::clone(&name), Arc::clone(&version));
        } else {
            table.by_name.remove(&name);
            table.ordered.remove(&name);
        }
        if let Some(new) = &new {
            for (label, value) in new.labels() {
                table.index_label(label, value, &name);
            }
        }
        debug_assert!(with_event || old.is_none(), "a state has each key once");

        self.index_dependents(key, old.as_deref(), new.as_deref());
        let repositories = touched_repositories(old.as_deref(), new.as_deref());
        let hidden: Vec<Hidden> = repositories.iter().map(|name| self.hidden_of(name)).collect();
        match key.kind {
            Kind::Image => self.index_image(key, old.as_ref(), new.as_ref()),
            Kind::Repository => self.index_repository(key, old.as_ref(), new.as_ref()),
            Kind::Organization => self.index_organization(key, old.as_ref(), new.as_ref()),
            Kind::DataPack => self.index_pack(&name, old.as_ref(), new.as_ref()),
        }
        for (repository, before) in repositories.iter().zip(hidden) {
            let after = self.hidden_of(repository);
            if after != before {
                self.hidden.exchange(before, after);
                let organization: Arc<str> = organization_of(repository).into();
                self.organizations.entry(organization).or_default().hidden.exchange(before, after);
                self.drop_empty_organization(organization_of(repository));
            }
        }
        if with_event {
            let previous = std::mem::replace(&mut self.last_of_kind[key.kind as usize], revision);
            let image = version.record.as_ref().or(old.as_ref()).and_then(|record| record.image());
            let event = Event {
                revision,
                at_ms: self.at_ms,
                key: Key { kind: key.kind, name },
                previous,
                hidden: image.is_some_and(|image| self.hidden(&image.repository)),
                old,
                version,
                encoded: Default::default(),
                kept: Arc::clone(&self.encoded_bytes),
            };
            self.log_bytes += event.weight();
            self.log.push_back(Arc::new(event));
        } else {
            self.floor = revision;
            self.last_of_kind[key.kind as usize] = revision;
        }
    }

    /// Drops the oldest events while there are more bytes of them than `budget`, or they are older than
    /// `horizon_ms`. What is before the versions that it answers with is to be cut, once no reader can begin
    /// below the new floor any more.
    #[must_use]
    pub(super) fn trim(&mut self, budget: usize, horizon_ms: i64) -> Vec<Arc<Version>> {
        let mut trimmed = Vec::new();
        while let Some(event) = self.log.front()
            && (self.log_bytes > budget || self.begins_to_age(event) < horizon_ms)
        {
            let event = Arc::clone(event);
            self.log.pop_front();
            self.log_bytes -= event.weight();
            self.floor = event.revision;
            let table = &mut self.tables[event.key.kind as usize];
            let newest = table.by_name.get(&event.key.name).cloned();
            if let Some(old) = &event.old {
                table.unindex_labels(old, event.new_record(), &event.key.name, event.revision);
            }
            if newest.is_some_and(|v| v.revision == event.revision && v.record.is_none()) {
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

    /// Shares the strings that many records have.
    fn intern(&self, mut record: Record) -> Record {
        use super::record::Head;
        if let Some(name) = self.table(record.kind()).by_name.key(&record.key.name) {
            record.key.name = Arc::clone(name);
        }
        match &mut record.head {
            Head::Image(head) => {
                if let Some(name) = self.images.key(&head.name) {
                    head.name = Arc::clone(name);
                }
                if let Some((name, _)) = self.repositories.get_key_value(&*head.repository) {
                    head.repository = Arc::clone(name);
                }
            }
            Head::Repository(head) => {
                if let Some((name, _)) = self.repositories.get_key_value(&*head.name) {
                    head.name = Arc::clone(name);
                }
            }
            Head::Organization(_) => {}
            Head::DataPack(head) => {
                for image in &mut head.names {
                    if let Some(name) = self.images.key(image) {
                        *image = Arc::clone(name);
                    }
                }
            }
        }
        record
    }

    fn index_dependents(&mut self, key: &Key, old: Option<&Record>, new: Option<&Record>) {
        let same = |a: &Record, b: &Record| a.owners().map(|o| o.uid).eq(b.owners().map(|o| o.uid));
        if let (Some(old), Some(new)) = (old, new)
            && same(old, new)
        {
            return;
        }
        for owner in old.into_iter().flat_map(Record::owners) {
            if let Some(set) = self.dependents.get_mut(owner.uid) {
                set.remove(key);
                if set.is_empty() {
                    self.dependents.remove(owner.uid);
                }
            }
        }
        for owner in new.into_iter().flat_map(Record::owners) {
            self.dependents.entry(owner.uid.into()).or_default().insert(key.clone());
        }
    }

    fn index_image(&mut self, key: &Key, old: Option<&Arc<Record>>, new: Option<&Arc<Record>>) {
        // spec.name is immutable, but an object can be deleted and made anew under another within one commit's reach.
        let names = |record: Option<&Arc<Record>>| {
            record.and_then(|r| r.image()).map(|h| (Arc::clone(&h.name), Arc::clone(&h.repository)))
        };
        let (before, after) = (names(old), names(new));
        if before != after
            && let Some((name, repository)) = before
        {
            self.move_claim(key, &name, &repository, None);
        }
        if let Some((name, repository)) = after.or_else(|| names(old)) {
            self.move_claim(key, &name, &repository, new);
        }
    }

    /// Puts `new` in the place of `key` among those who claim the image `name`.
    fn move_claim(&mut self, key: &Key, name: &Arc<str>, repository: &Arc<str>, new: Option<&Arc<Record>>) {
        let revision = self.revision;
        let entry = self.images.or_default(name);
        let (before, claims_before) = (entry.claims.first().cloned(), entry.claims.as_slice().len());
        entry.claims.replace(key, new);
        let (after, claims_after) = (entry.claims.first().cloned(), entry.claims.as_slice().len());
        let same_content = match (&before, &after) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b) || a.spec_json() == b.spec_json(),
            (None, None) => true,
            _ => false,
        };
        let packs = (!same_content).then(|| entry.packs.clone());
        if entry.claims.is_empty() && entry.packs.is_empty() {
            self.images.remove(name);
        }
        for pack in packs.iter().flat_map(Set::iter) {
            self.pack_changed.insert(Arc::clone(pack), revision);
        }

        let entry = self.repositories.entry(Arc::clone(repository)).or_default();
        entry.images = entry.images + claims_after - claims_before;
        let was_empty = entry.tags.is_empty();
        let same_tags = match (&before, &after) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b) || same_tag(a, b),
            (None, None) => true,
            _ => false,
        };
        if before.is_some() || after.is_some() {
            let tags = Arc::make_mut(&mut entry.tags);
            if let Some(before) = &before
                && let Some(at) = tags.iter().position(|r| r.revision == before.revision)
            {
                tags.remove(at);
            }
            if let Some(after) = after {
                let at = tags.partition_point(|r| newest_first(r, &after) == Ordering::Less);
                tags.insert(at, after);
            }
        }
        let packs = (!same_tags).then(|| entry.packs.clone());
        let is_empty = entry.tags.is_empty();
        for pack in packs.iter().flat_map(Set::iter) {
            if self.grain(pack) == Some(Grain::Detail) {
                self.pack_changed.insert(Arc::clone(pack), revision);
            }
        }
        if was_empty != is_empty {
            self.index_membership(repository);
        }
    }

    fn grain(&self, pack: &str) -> Option<Grain> {
        Some(self.get(Kind::DataPack, pack)?.pack()?.grain)
    }

    fn index_repository(&mut self, key: &Key, old: Option<&Arc<Record>>, new: Option<&Arc<Record>>) {
        let names = |record: Option<&Arc<Record>>| record.and_then(|r| r.repository()).map(|h| Arc::clone(&h.name));
        let (before, after) = (names(old), names(new));
        if before != after
            && let Some(name) = before
        {
            self.move_repository_claim(key, &name, None);
        }
        if let Some(name) = after.or_else(|| names(old)) {
            self.move_repository_claim(key, &name, new);
        }
    }

    fn move_repository_claim(&mut self, key: &Key, name: &Arc<str>, new: Option<&Arc<Record>>) {
        let revision = self.revision;
        let entry = self.repositories.entry(Arc::clone(name)).or_default();
        let (was_private, downloads, was_there) = (entry.private(), entry.downloads(), !entry.claims.is_empty());
        entry.claims.replace(key, new);
        let flipped = was_private != entry.private();
        let counted = downloads != entry.downloads();
        let is_there = !entry.claims.is_empty();
        let packs = (flipped || counted).then(|| entry.packs.clone());
        if flipped && (!entry.tags.is_empty() || (was_there && is_there)) {
            self.sight_log.push(revision, Change::Privacy(organization_of(name).into()));
        }
        for pack in packs.iter().flat_map(Set::iter) {
            if flipped || self.grain(pack) != Some(Grain::Base) {
                self.pack_changed.insert(Arc::clone(pack), revision);
            }
        }
        if was_there != is_there {
            self.index_membership(name);
        }
    }

    /// Puts the repository among its organization's, or takes it out, and drops its entry when nothing is in it.
    fn index_membership(&mut self, repository: &Arc<str>) {
        let Some(entry) = self.repositories.get(repository) else { return };
        let member = !(entry.claims.is_empty() && entry.tags.is_empty());
        let empty = entry.is_empty();
        let organization: Arc<str> = organization_of(repository).into();
        let of = self.organizations.entry(Arc::clone(&organization)).or_default();
        if member {
            of.repositories.insert(Arc::clone(repository));
        } else {
            of.repositories.remove(repository);
        }
        self.drop_empty_organization(&organization);
        if empty {
            self.repositories.remove(repository);
        }
    }

    fn drop_empty_organization(&mut self, name: &str) {
        let empty = |entry: &OrganizationEntry| {
            entry.claims.is_empty() && entry.repositories.is_empty() && entry.hidden == Hidden::default()
        };
        if self.organizations.get(name).is_some_and(empty) {
            self.organizations.remove(name);
        }
    }

    fn index_organization(&mut self, key: &Key, old: Option<&Arc<Record>>, new: Option<&Arc<Record>>) {
        let names = |record: Option<&Arc<Record>>| record.and_then(|r| r.organization()).map(|h| Arc::clone(&h.name));
        let (before, after) = (names(old), names(new));
        let moved = before.filter(|before| after.as_ref() != Some(before)).map(|before| (before, None));
        for (name, now) in moved.into_iter().chain(after.map(|after| (after, new))) {
            let entry = self.organizations.entry(Arc::clone(&name)).or_default();
            let had = entry.managers();
            entry.claims.replace(key, now);
            let has = entry.managers();
            for manager in had.iter().filter(|manager| !has.contains(manager)) {
                self.sight_log.push(self.revision, Change::Manager(Arc::from(&**manager)));
                if let Some(organizations) = self.managed.get_mut(&**manager) {
                    organizations.remove(&name);
                    if organizations.is_empty() {
                        self.managed.remove(&**manager);
                    }
                }
            }
            for manager in has.iter().filter(|manager| !had.contains(manager)) {
                let manager: Arc<str> = Arc::from(&**manager);
                self.sight_log.push(self.revision, Change::Manager(Arc::clone(&manager)));
                self.managed.entry(manager).or_default().insert(Arc::clone(&name));
            }
            self.drop_empty_organization(&name);
        }
    }

    fn index_pack(&mut self, name: &Arc<str>, old: Option<&Arc<Record>>, new: Option<&Arc<Record>>) {
        let (before, after) = (old.and_then(|r| r.pack()), new.and_then(|r| r.pack()));
        if let Some(before) = before {
            self.expiries.remove(&(before.expires_ms, Arc::clone(name)));
        }
        if let Some(after) = after {
            self.expiries.insert((after.expires_ms, Arc::clone(name)));
        }
        if let (Some(before), Some(after)) = (before, after)
            && before.content == after.content
        {
            return;
        }
        for image in before.into_iter().flat_map(|pack| &pack.names) {
            if let Some(entry) = self.images.get_mut(image) {
                entry.packs.remove(name);
                if entry.claims.is_empty() && entry.packs.is_empty() {
                    self.images.remove(image);
                }
            }
            let repository = repository_of(image);
            if let Some(entry) = self.repositories.get_mut(repository) {
                entry.packs.remove(name);
                if entry.is_empty() {
                    self.repositories.remove(repository);
                }
            }
        }
        for image in after.into_iter().flat_map(|pack| &pack.names) {
            self.images.or_default(image).packs.insert(Arc::clone(name));
            let repository = repository_of(image);
            if let Some(entry) = self.repositories.get_mut(repository) {
                entry.packs.insert(Arc::clone(name));
            } else {
                self.repositories.entry(repository.into()).or_default().packs.insert(Arc::clone(name));
            }
        }
        if after.is_some() {
            self.pack_changed.insert(Arc::clone(name), self.revision);
        } else {
            self.pack_changed.remove(name);
        }
    }
}

impl Table {
    fn index_label(&mut self, label: &str, value: &str, name: &Arc<str>) {
        let values = match self.labels.get_mut(label) {
            Some(values) => values,
            None => self.labels.entry(label.into()).or_default(),
        };
        match values.get_mut(value) {
            Some(names) => names.insert(Arc::clone(name)),
            None => values.entry(value.into()).or_default().insert(Arc::clone(name)),
        }
    }

    /// Takes out those labels of `old`, which `new` replaced at `revision`, that no version from there on has.
    fn unindex_labels(&mut self, old: &Record, new: Option<&Arc<Record>>, name: &Arc<str>, revision: Revision) {
        // What the next version has, too, is not gone: so nearly always there is nothing to do.
        let has = |record: &Record, label: &str, value: &str| record.label(label) == Some(value);
        let mut gone: Vec<_> = old.labels().filter(|(l, v)| !new.is_some_and(|new| has(new, l, v))).collect();
        let mut version = self.by_name.get(name).cloned();
        while let Some(kept) = version.take().filter(|v| v.revision > revision && !gone.is_empty()) {
            if let Some(record) = &kept.record {
                gone.retain(|(label, value)| !has(record, label, value));
            }
            version.clone_from(&kept.older.lock());
        }
        for (label, value) in gone {
            let Some(values) = self.labels.get_mut(label) else { continue };
            let Some(names) = values.get_mut(value) else { continue };
            names.remove(name);
            if names.is_empty() {
                values.remove(value);
                if values.is_empty() {
                    self.labels.remove(label);
                }
            }
        }
    }
}

/// org/repo of org/repo:tag; the whole of what has no such form, as old data may.
#[must_use]
pub(super) fn repository_of(image: &str) -> &str {
    split_image_name(image).map_or(image, |(organization, repo, _)| &image[..organization.len() + 1 + repo.len()])
}

/// The repositories that a change of an image or a repository concerns.
fn touched_repositories(old: Option<&Record>, new: Option<&Record>) -> Vec<Arc<str>> {
    let name = |record: &Record| {
        let image = record.image().map(|image| &image.repository);
        image.or(record.repository().map(|repository| &repository.name)).cloned()
    };
    let mut names: Vec<_> = old.into_iter().chain(new).filter_map(name).collect();
    names.dedup();
    names
}

/// Whether a repository's status says the same of two versions of one image.
fn same_tag(a: &Record, b: &Record) -> bool {
    use super::record::Field;
    a.name() == b.name()
        && a.field(Field::Size) == b.field(Field::Size)
        && a.field(Field::CreatTime) == b.field(Field::CreatTime)
}

/// Newest first: the time it was built (unknown is older than any), then version order of the tag, then
/// the time it was created here, then the name.
fn newest_first(a: &Record, b: &Record) -> Ordering {
    let (Some(x), Some(y)) = (a.image(), b.image()) else { return Ordering::Equal };
    y.built_ms
        .cmp(&x.built_ms)
        .then_with(|| version_order(y.tag(), x.tag()))
        .then_with(|| b.created().cmp(a.created()))
        .then_with(|| b.name().cmp(a.name()))
}
