//! How a commit moves a snapshot on: the object, and every index over it.

use std::cmp::Ordering;
use std::sync::Arc;

use super::entries::{Dependents, Hidden, ImageEntry, ImageParts, OrganizationEntry, RepositoryEntry};
use super::{Snapshot, repository_of};
use crate::api::{Grain, Kind, version_order};
use crate::graph::event::Event;
use crate::graph::record::{Field, Head, Older, Record, organization_of};
use crate::graph::set::Set;
use crate::graph::sight::Change;
use crate::storage::{Key, Revision};

impl Snapshot {
    /// Applies a commit: the object, all indexes, and the event log.
    pub(in crate::graph) fn apply(&mut self, key: &Key, revision: Revision, at_ms: i64, new: Option<Record>) {
        debug_assert!(revision > self.revision);
        let newest = self.table(key.kind).by_name.get(&key.name).cloned();
        let old = newest.as_ref().and_then(Record::present).cloned();
        let mut version = new.unwrap_or_else(|| Record::gone(key.clone(), revision));
        if let Some(newest) = &newest {
            version.key.name = Arc::clone(&newest.key.name);
        }
        self.intern(&mut version);
        version.older = Older::new(newest);
        let version = Arc::new(version);
        let new = version.present().cloned();
        let (key, name) = (&version.key, &version.key.name);
        self.revision = revision;
        self.at_ms = self.at_ms.max(at_ms);

        let table = &mut self.tables[key.kind as usize];
        table.live = table.live + usize::from(new.is_some()) - usize::from(old.is_some());
        table.by_name.insert(Arc::clone(&version));
        table.ordered.insert(Arc::clone(&version));
        if let Some(new) = &new {
            for (label, value) in new.labels() {
                if old.as_ref().is_none_or(|old| old.label(label) != Some(value)) {
                    table.index_label(label, value, name);
                }
            }
        }
        self.index_dependents(key, old.as_deref(), new.as_deref());
        let repositories = touched_repositories(old.as_deref(), new.as_deref());
        let hidden: Vec<Hidden> = repositories.iter().map(|name| self.hidden_of(name)).collect();
        match key.kind {
            Kind::Image => self.index_image(key, old.as_ref(), new.as_ref()),
            Kind::Repository => self.index_repository(key, old.as_ref(), new.as_ref()),
            Kind::Organization => self.index_organization(key, old.as_ref(), new.as_ref()),
            Kind::DataPack => self.index_pack(name, old.as_ref(), new.as_ref()),
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

        for record in old.as_deref().into_iter().chain(new.as_deref()) {
            if let Some(entry) = organization_in(record).and_then(|name| self.organizations.get_mut(name)) {
                entry.changed = revision;
            }
        }

        let previous = std::mem::replace(&mut self.last_of_kind[key.kind as usize], revision);
        let image = new.as_ref().or(old.as_ref()).and_then(|record| record.image());
        let event = Event {
            revision,
            at_ms: self.at_ms,
            key: key.clone(),
            previous,
            hidden: image.is_some_and(|image| self.hidden(image.repository())),
            old,
            version,
            encoded: Default::default(),
            kept: Arc::clone(&self.encoded_bytes),
        };
        self.log_bytes += event.weight();
        self.relabelled[event.key.kind as usize] += usize::from(event.takes_label());
        self.log.push_back(Arc::new(event));
    }

    /// Shares the strings that many packs have.
    fn intern(&self, record: &mut Record) {
        if let Head::DataPack(head) = &mut record.head {
            for image in &mut head.names {
                if let Some(name) = self.images.get(image).and_then(ImageEntry::shared_name) {
                    *image = Arc::clone(name);
                }
            }
        }
    }

    fn hidden_of(&self, repository: &str) -> Hidden {
        self.repositories.get(repository).map_or_else(Hidden::default, RepositoryEntry::hidden)
    }

    fn put_image(&mut self, name: &str, shared: Option<&Arc<str>>, parts: ImageParts) {
        let known = self.images.get(name).and_then(ImageEntry::shared_name).or(shared);
        match parts.entry(|| known.map_or_else(|| name.into(), Arc::clone)) {
            Some(entry) => self.images.insert(entry),
            None => self.images.remove(name),
        }
    }

    fn index_dependents(&mut self, key: &Key, old: Option<&Record>, new: Option<&Record>) {
        let same = |a: &Record, b: &Record| a.owners().map(|o| o.uid).eq(b.owners().map(|o| o.uid));
        if let (Some(old), Some(new)) = (old, new)
            && same(old, new)
        {
            return;
        }
        for owner in old.into_iter().flat_map(Record::owners) {
            if let Some(dependents) = self.dependents.get_mut(owner.uid) {
                dependents.keys.remove(key);
                if dependents.keys.is_empty() {
                    self.dependents.remove(owner.uid);
                }
            }
        }
        for owner in new.into_iter().flat_map(Record::owners) {
            let empty = || Dependents { uid: owner.uid.into(), keys: Set::default() };
            self.dependents.or_insert_with(owner.uid, empty).keys.insert(key.clone());
        }
    }

    fn index_image(&mut self, key: &Key, old: Option<&Arc<Record>>, new: Option<&Arc<Record>>) {
        // spec.name is immutable, but an object can be deleted and made anew under another within one commit's reach.
        let names = |record: Option<&Arc<Record>>| {
            record.and_then(|r| r.image()).map(|head| (head.name().to_owned(), head.repository().to_owned()))
        };
        let (before, after) = (names(old), names(new));
        if before != after
            && let Some((name, repository)) = &before
        {
            self.move_claim(key, name, repository, None);
        }
        if let Some((name, repository)) = after.or(before) {
            self.move_claim(key, &name, &repository, new);
        }
    }

    /// Puts `new` in the place of `key` among those who claim the image `name`.
    fn move_claim(&mut self, key: &Key, name: &str, repository: &str, new: Option<&Arc<Record>>) {
        let revision = self.revision;
        let mut parts = ImageParts::of(self.images.get(name));
        let (before, claims_before) = (parts.claims.first().cloned(), parts.claims.as_slice().len());
        parts.claims.replace(key, new);
        let (after, claims_after) = (parts.claims.first().cloned(), parts.claims.as_slice().len());
        let same_content = match (&before, &after) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b) || a.spec_json() == b.spec_json(),
            (None, None) => true,
            _ => false,
        };
        let packs = (!same_content).then(|| parts.packs.clone());
        self.put_image(name, None, parts);
        for pack in packs.iter().flat_map(Set::iter) {
            self.pack_changed.insert(Arc::clone(pack), revision);
        }

        let entry = self.repositories.or_insert_with(repository, || RepositoryEntry::new(repository));
        entry.images = entry.images + claims_after - claims_before;
        let was_empty = entry.tags.is_empty();
        let same_tags = match (&before, &after) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b) || same_tag(a, b),
            (None, None) => true,
            _ => false,
        };
        if before.is_some() || after.is_some() {
            let mut tags = entry.tags.to_vec();
            if let Some(before) = &before
                && let Some(at) = tags.iter().position(|r| r.revision == before.revision)
            {
                tags.remove(at);
            }
            if let Some(after) = after {
                let at = tags.partition_point(|r| newest_first(r, &after) == Ordering::Less);
                tags.insert(at, after);
            }
            entry.tags = tags.into();
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
        let names = |record: Option<&Arc<Record>>| record.and_then(|r| r.repository()).map(|h| h.name().to_owned());
        let (before, after) = (names(old), names(new));
        if before != after
            && let Some(name) = &before
        {
            self.move_repository_claim(key, name, None);
        }
        if let Some(name) = after.or(before) {
            self.move_repository_claim(key, &name, new);
        }
    }

    fn move_repository_claim(&mut self, key: &Key, name: &str, new: Option<&Arc<Record>>) {
        let revision = self.revision;
        let entry = self.repositories.or_insert_with(name, || RepositoryEntry::new(name));
        let (was_private, downloads, was_there) = (entry.private(), entry.downloads(), !entry.claims.is_empty());
        entry.claims.replace(key, new);
        let flipped = was_private != entry.private();
        if flipped {
            entry.public_since = revision;
        }
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
    fn index_membership(&mut self, repository: &str) {
        let Some(entry) = self.repositories.get(repository) else { return };
        let (member, empty) = (entry.is_member(), entry.is_empty());
        let name = Arc::clone(&entry.name);
        let organization: Arc<str> = organization_of(repository).into();
        let of = self.organizations.entry(Arc::clone(&organization)).or_default();
        if member {
            of.repositories.insert(name);
        } else {
            of.repositories.remove(&name);
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

    pub(super) fn index_organization(&mut self, key: &Key, old: Option<&Arc<Record>>, new: Option<&Arc<Record>>) {
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

    pub(super) fn index_pack(&mut self, name: &Arc<str>, old: Option<&Arc<Record>>, new: Option<&Arc<Record>>) {
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
            let mut parts = ImageParts::of(self.images.get(image));
            parts.packs.remove(name);
            self.put_image(image, Some(image), parts);
            let repository = repository_of(image);
            if let Some(entry) = self.repositories.get_mut(repository) {
                entry.packs.remove(name);
                if entry.is_empty() {
                    self.repositories.remove(repository);
                }
            }
        }
        for image in after.into_iter().flat_map(|pack| &pack.names) {
            let mut parts = ImageParts::of(self.images.get(image));
            parts.packs.insert(Arc::clone(name));
            self.put_image(image, Some(image), parts);
            let repository = repository_of(image);
            let entry = self.repositories.or_insert_with(repository, || RepositoryEntry::new(repository));
            entry.packs.insert(Arc::clone(name));
        }
        if after.is_some() {
            self.pack_changed.insert(Arc::clone(name), self.revision);
        } else {
            self.pack_changed.remove(name);
        }
    }
}

/// The organization that an object is in, or is.
fn organization_in(record: &Record) -> Option<&str> {
    let image = record.image().map(|image| organization_of(image.name()));
    let repository = record.repository().map(|repository| repository.organization());
    image.or(repository).or(record.organization().map(|organization| &*organization.name))
}

/// The repositories that a change of an image or a repository concerns.
fn touched_repositories<'a>(old: Option<&'a Record>, new: Option<&'a Record>) -> Vec<&'a str> {
    let name = |record: &'a Record| {
        let image = record.image().map(|image| image.repository());
        image.or(record.repository().map(|repository| repository.name()))
    };
    let mut names: Vec<_> = old.into_iter().chain(new).filter_map(name).collect();
    names.dedup();
    names
}

/// Whether a repository's status says the same of two versions of one image.
fn same_tag(a: &Record, b: &Record) -> bool {
    a.name() == b.name()
        && a.field(Field::Size) == b.field(Field::Size)
        && a.field(Field::CreatTime) == b.field(Field::CreatTime)
}

/// Newest first: the time it was built (unknown is older than any), then version order of the tag, then
/// the time it was created here, then the name.
pub(super) fn newest_first(a: &Record, b: &Record) -> Ordering {
    let (Some(x), Some(y)) = (a.image(), b.image()) else { return Ordering::Equal };
    y.built_ms()
        .cmp(&x.built_ms())
        .then_with(|| version_order(y.tag(), x.tag()))
        .then_with(|| b.created().cmp(a.created()))
        .then_with(|| b.name().cmp(a.name()))
}
