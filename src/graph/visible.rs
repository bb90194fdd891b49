//! What one caller sees of a snapshot. There is no other way to read one: what is hidden from the caller
//! is absent here, for every verb and every door.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::event::Event;
use super::record::{Record, organization_of};
use super::set::Set;
use super::sight::{Change, Sight};
use super::snapshot::{RepositoryEntry, Snapshot, repository_of};
use crate::api::{FieldSelector, Kind, LabelSelector, Requirement};
use crate::storage::{Key, Revision};

/// A snapshot as one caller sees it.
#[derive(Debug, Clone)]
pub struct Visible {
    snapshot: Arc<Snapshot>,
    sight: Sight,
}

/// What a list asks for.
#[derive(Debug, Clone, Copy)]
pub struct Query<'a> {
    /// The kind.
    pub kind: Kind,
    /// Only names after this one.
    pub after: Option<&'a str>,
    /// The state at this revision, which must be in the window.
    pub at: Revision,
    /// Only what has these labels.
    pub labels: &'a LabelSelector,
    /// Only what has these fields.
    pub fields: &'a FieldSelector,
}

/// What the full name of an image leads to.
#[derive(Debug, Clone, Copy)]
pub struct NamedImage<'a> {
    /// The name, org/repo:tag.
    pub name: &'a str,
    /// org/repo of it.
    pub repository: &'a str,
    /// The oldest image that has it.
    pub record: Option<&'a Arc<Record>>,
    /// The oldest repository that has that one's.
    pub of: Option<&'a Arc<Record>>,
}

impl Query<'_> {
    /// Whether the selectors match `record`.
    #[must_use]
    pub fn selects(&self, record: &Record) -> bool {
        selects(self.labels, self.fields, record)
    }
}

/// Whether the selectors match `record`.
#[must_use]
pub fn selects(labels: &LabelSelector, fields: &FieldSelector, record: &Record) -> bool {
    fields.matches(record.name()) && labels.matches(|key| record.label(key))
}

impl Visible {
    pub(super) fn new(snapshot: Arc<Snapshot>, sight: Sight) -> Self {
        Self { snapshot, sight }
    }

    /// Whose view it is.
    #[must_use]
    pub fn sight(&self) -> &Sight {
        &self.sight
    }

    /// The revision of the snapshot.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.snapshot.revision
    }

    /// How often everything was read anew. Nothing can go on from one to the next, whatever the revisions are.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.snapshot.generation
    }

    /// The store's time of its last commit, milliseconds since 1970.
    #[must_use]
    pub fn at_ms(&self) -> i64 {
        self.snapshot.at_ms
    }

    /// The oldest revision that lists and watches can start at.
    #[must_use]
    pub fn floor(&self) -> Revision {
        self.snapshot.floor
    }

    /// How many events the window holds, and about how many bytes they keep.
    #[must_use]
    pub fn window_size(&self) -> (usize, usize) {
        (self.snapshot.log.len(), self.snapshot.log_bytes)
    }

    /// How many objects of `kind` there are, whoever may see them: for the operator's metrics.
    #[must_use]
    pub fn stored(&self, kind: Kind) -> usize {
        self.snapshot.live(kind)
    }

    /// The revision after `since` at which what the caller sees of `kind` last changed in a way that events
    /// don't tell of: watches from before it must begin anew.
    #[must_use]
    pub fn sight_changed(&self, kind: Kind, since: Revision) -> Option<Revision> {
        if self.sight == Sight::Everything || !matches!(kind, Kind::Image | Kind::Repository) {
            return None;
        }
        self.snapshot.sight_log.last(since, |change| match change {
            Change::Privacy(organization) => !self.manages(organization),
            Change::Manager(name) => matches!(&self.sight, Sight::Manager(manager) if manager == name),
        })
    }

    /// The revision of the last commit that can have changed what anybody sees of `kind`, the changes of sight
    /// included: what was computed of the kind at the same one is still right.
    #[must_use]
    pub fn clock(&self, kind: Kind) -> Revision {
        let last = self.snapshot.last_of_kind[kind as usize];
        match kind {
            Kind::Image | Kind::Repository => last.max(self.snapshot.sight_log.newest()),
            Kind::Organization | Kind::DataPack => last,
        }
    }

    /// The same for all that is in one organization, itself included; 0 where there is nothing of this name. It
    /// doesn't depend on who asks.
    #[must_use]
    pub fn organization_clock(&self, organization: &str) -> Revision {
        self.snapshot.organization(organization).map_or(Revision::default(), |entry| entry.changed)
    }

    /// Whether the caller is among the managers of an organization.
    #[must_use]
    pub fn manages(&self, organization: &str) -> bool {
        let Sight::Manager(manager) = &self.sight else { return self.sight == Sight::Everything };
        let claims = self.snapshot.organization(organization).map(|entry| entry.claims.as_slice());
        let record = claims.and_then(|claims| claims.first()).and_then(|record| record.organization());
        record.is_some_and(|record| record.managers.iter().any(|name| **name == **manager))
    }

    /// Whether the repository of this full name, and what is in it, is hidden from the caller.
    fn hides(&self, repository: &str) -> bool {
        self.sight != Sight::Everything
            && self.snapshot.hidden(repository)
            && !self.manages(organization_of(repository))
    }

    /// The organization of a private repository's image of this full name, where there is such an image.
    #[must_use]
    pub fn private_organization<'a>(&self, image: &'a str) -> Option<&'a str> {
        let there = self.snapshot.image(image).is_some_and(|entry| !entry.claims().is_empty());
        (there && self.snapshot.hidden(repository_of(image))).then(|| organization_of(image))
    }

    /// The same snapshot as somebody else sees it.
    #[must_use]
    pub fn seen_with(&self, sight: Sight) -> Self {
        Self { snapshot: Arc::clone(&self.snapshot), sight }
    }

    /// Whether the caller sees this version of an object.
    #[must_use]
    pub fn sees(&self, record: &Record) -> bool {
        if self.sight == Sight::Everything {
            return true;
        }
        if let Some(image) = record.image() {
            // A build that is wrong on purpose: the table of sight must refuse it.
            if cfg!(feature = "broken-sight-check") {
                return true;
            }
            return !self.hides(image.repository());
        }
        record.repository().is_none_or(|r| !r.private || self.manages(r.organization()))
    }

    /// Whether the caller, who sees this version of an object now, saw it at `at`. Where a repository is gone and another
    /// has its name, nothing tells of a change of sight; what the first one hid stays hidden.
    fn saw(&self, record: &Record, at: Revision) -> bool {
        let Some(image) = record.image().filter(|_| at < self.snapshot.revision) else { return true };
        let entry = self.snapshot.repository(image.repository());
        self.manages(organization_of(image.repository())) || entry.is_some_and(|entry| entry.public_since <= at)
    }

    /// Whether the caller is told of `record`, the old or the new object of `event`.
    #[must_use]
    pub fn sees_in(&self, event: &Event, record: &Record) -> bool {
        match record.image() {
            Some(image) => !event.hidden || self.manages(organization_of(image.repository())),
            None => self.sees(record),
        }
    }

    /// The object now.
    #[must_use]
    pub fn get(&self, kind: Kind, name: &str) -> Option<&Arc<Record>> {
        self.snapshot.get(kind, name).filter(|record| self.sees(record))
    }

    /// The oldest image that has this full name.
    #[must_use]
    pub fn image(&self, name: &str) -> Option<&Arc<Record>> {
        self.image_claims(name).first()
    }

    /// All images that have this full name, the oldest first: one, but for races and old data.
    #[must_use]
    pub fn image_claims(&self, name: &str) -> &[Arc<Record>] {
        if self.hides(repository_of(name)) {
            return &[];
        }
        match self.snapshot.image(name) {
            Some(entry) => entry.claims(),
            None => &[],
        }
    }

    /// What the full names of images lead to, looked up together: see [`Names::get_each`](super::names::Names).
    #[must_use]
    pub fn images<'a>(&'a self, names: &'a [Arc<str>]) -> Vec<NamedImage<'a>> {
        // Names are mostly in order: those of one repository come together, and it is looked up once.
        let mut repositories: Vec<&str> = Vec::with_capacity(names.len());
        let mut of = Vec::with_capacity(names.len());
        for name in names {
            let repository = repository_of(name);
            if repositories.last() != Some(&repository) {
                repositories.push(repository);
            }
            of.push(repositories.len() - 1);
        }
        let entries = self.snapshot.repositories_of(&repositories);
        let images: Vec<&str> = names.iter().map(|name| &**name).collect();
        let images = self.snapshot.images_of(&images);
        let shown: Vec<(bool, Option<&Arc<Record>>)> = repositories
            .iter()
            .zip(entries)
            .map(|(name, entry)| {
                let private = entry.is_none_or(RepositoryEntry::private);
                let hides = private && self.sight != Sight::Everything && !self.manages(organization_of(name));
                let record = entry.and_then(|entry| entry.claims.as_slice().first());
                (!hides, record.filter(|record| self.sees(record)))
            })
            .collect();
        let each = names.iter().zip(of).zip(images);
        each.map(|((name, of), image)| {
            let (shown, repository) = shown[of];
            let record = image.filter(|_| shown).and_then(|entry| entry.claims().first());
            NamedImage { name, repository: repositories[of], record, of: repository }
        })
        .collect()
    }

    /// The oldest repository that has this full name.
    #[must_use]
    pub fn repository(&self, name: &str) -> Option<&Arc<Record>> {
        let record = self.snapshot.repository(name)?.claims.as_slice().first()?;
        self.sees(record).then_some(record)
    }

    /// The oldest organization that has this name.
    #[must_use]
    pub fn organization(&self, name: &str) -> Option<&Arc<Record>> {
        self.snapshot.organization(name)?.claims.as_slice().first()
    }

    /// The images of the repository of this full name, one a tag, the newest first.
    #[must_use]
    pub fn tags(&self, repository: &str) -> &[Arc<Record>] {
        match self.snapshot.repository(repository) {
            Some(entry) if !self.hides(repository) => &entry.tags,
            _ => &[],
        }
    }

    /// The full names of the repositories of an organization, in order.
    pub fn repositories(&self, organization: &str) -> impl Iterator<Item = &Arc<str>> {
        let all = self.snapshot.organization(organization).map(|entry| &entry.repositories);
        all.into_iter().flat_map(Set::iter).filter(|name| self.repository(name).is_some())
    }

    /// Whether anything of the organization is left: a repository, or an image.
    #[must_use]
    pub fn organization_has_content(&self, organization: &str) -> bool {
        self.snapshot.organization(organization).is_some_and(|entry| !entry.repositories.is_empty())
    }

    /// Who names the object of this uid as its owner. For the controllers, which see everything.
    pub fn dependents(&self, uid: &str) -> impl Iterator<Item = &Key> {
        self.snapshot.dependents(uid).into_iter().flat_map(Set::iter)
    }

    /// The packs that name the image of this full name.
    pub fn packs_of_image(&self, name: &str) -> impl Iterator<Item = &Arc<str>> {
        self.snapshot.image(name).into_iter().flat_map(|entry| entry.packs().iter())
    }

    /// The packs that name an image of the repository of this full name.
    pub fn packs_of_repository(&self, name: &str) -> impl Iterator<Item = &Arc<str>> {
        self.snapshot.repository(name).into_iter().flat_map(|entry| entry.packs.iter())
    }

    /// The revision of the last change of what the pack's content is made from.
    #[must_use]
    pub fn pack_changed(&self, name: &str) -> Revision {
        self.snapshot.pack_changed(name)
    }

    /// When packs go (the store's time in ms), the earliest first.
    pub fn expiries(&self) -> impl Iterator<Item = (i64, &Arc<str>)> {
        self.snapshot.expiries().iter().map(|(at, name)| (*at, name))
    }

    /// The objects that `query` asks for, in order of name. Whoever asks for an older revision checks
    /// that it is not below the [`floor`](Self::floor) of the graph, now and when the list is done.
    pub fn list<'a>(&'a self, query: Query<'a>) -> impl Iterator<Item = Arc<Record>> + 'a {
        let kind = query.kind;
        let lookup = move |name: &Arc<str>| {
            if query.at >= self.snapshot.revision {
                self.snapshot.get(kind, name).cloned()
            } else {
                self.snapshot.get_at(kind, name, query.at)
            }
        };
        let found: Box<dyn Iterator<Item = Arc<Record>> + 'a> = match self.candidates(&query) {
            Some(names) => Box::new(names.filter_map(move |name| lookup(&name))),
            None => Box::new(self.snapshot.newest(kind, query.after).filter_map(move |version| {
                if version.revision <= query.at { version.present().cloned() } else { lookup(&version.key.name) }
            })),
        };
        found.filter(move |record| query.selects(record) && self.sees(record) && self.saw(record, query.at))
    }

    /// The newest versions of all objects of a kind.
    #[cfg(test)]
    pub(super) fn newest(&self, kind: Kind) -> impl Iterator<Item = &Arc<Record>> {
        self.snapshot.newest(kind, None).filter_map(Record::present)
    }

    /// How many objects `query` asks for.
    #[must_use]
    pub fn count(&self, query: Query<'_>) -> usize {
        let all = query.labels.is_empty() && query.fields.is_empty() && query.after.is_none();
        if all && query.at >= self.snapshot.revision {
            let hidden = match &self.sight {
                Sight::Everything => 0,
                Sight::Public => self.snapshot.hidden_from_public(query.kind),
                Sight::Manager(name) => {
                    let shown = self.snapshot.shown_to_manager(name, query.kind);
                    self.snapshot.hidden_from_public(query.kind) - shown
                }
            };
            return self.snapshot.live(query.kind) - hidden;
        }
        self.count_labelled(query).unwrap_or_else(|| self.list(query).count())
    }

    /// How many objects have a label, where the index tells without a look at each: all that `query` asks for is
    /// one label's value, and nothing of the kind is hidden from the caller.
    fn count_labelled(&self, query: Query<'_>) -> Option<usize> {
        let Query { kind, after: None, at, labels, fields } = query else { return None };
        let [Requirement::Eq { key, value }] = labels.requirements() else { return None };
        let hidden = self.sight != Sight::Everything && self.snapshot.hidden_from_public(kind) > 0;
        if hidden || at < self.snapshot.revision || !fields.is_empty() {
            return None;
        }
        let Some(names) = self.snapshot.labelled(kind, key, value) else { return Some(0) };
        // The index keeps those that had the value within the window: nearly always there are none of the kind.
        (self.snapshot.relabelled[kind as usize] == 0).then_some(names.len())
    }

    /// The names among which all are that `query` asks for, from the index that leaves the fewest; `None`
    /// where no index applies.
    fn candidates<'a>(&'a self, query: &Query<'a>) -> Option<Box<dyn Iterator<Item = Arc<str>> + 'a>> {
        if let Some(name) = query.fields.exact_name() {
            let wanted = query.after.is_none_or(|after| name > after).then(|| Arc::from(name));
            return Some(Box::new(wanted.into_iter()));
        }
        let mut best: Option<(usize, Vec<&'a Set<Arc<str>>>)> = None;
        for requirement in query.labels.requirements() {
            let sets: Vec<&Set<Arc<str>>> = match requirement {
                Requirement::Eq { key, value } => self.snapshot.labelled(query.kind, key, value).into_iter().collect(),
                Requirement::In { key, values } => {
                    values.iter().filter_map(|value| self.snapshot.labelled(query.kind, key, value)).collect()
                }
                Requirement::Exists { key } => match self.snapshot.label_values(query.kind, key) {
                    // A label with many values is one that most objects have: the table itself is as good.
                    Some(values) if values.len() > 64 => continue,
                    values => values.into_iter().flat_map(|values| values.values().map(|value| &value.names)).collect(),
                },
                _ => continue,
            };
            let size = sets.iter().map(|set| set.len()).sum();
            if best.as_ref().is_none_or(|(smallest, _)| size < *smallest) {
                best = Some((size, sets));
            }
        }
        let after: Option<Arc<str>> = query.after.map(Arc::from);
        let (_, sets) = best?;
        Some(match sets.as_slice() {
            [] => Box::new(std::iter::empty()),
            [one] => Box::new(one.after(after.as_ref()).cloned()),
            many => {
                let merged: BTreeSet<&Arc<str>> = many.iter().flat_map(|set| set.after(after.as_ref())).collect();
                Box::new(merged.into_iter().cloned())
            }
        })
    }

    /// The events of `kind` after `after`, in order, `limit` at most, and the revision up to which they are
    /// all; `None` where the window no longer has them.
    #[must_use]
    pub fn events(&self, kind: Kind, after: Revision, limit: usize) -> Option<(Vec<Arc<Event>>, Revision)> {
        let last = self.snapshot.last_of_kind[kind as usize];
        if last <= after {
            return Some((Vec::new(), self.revision().max(after)));
        }
        let log = &self.snapshot.log;
        // An idle kind's watcher may be far behind the floor and yet have missed nothing: then the next event
        // of its kind says that the one before it is not newer than what the watcher has seen.
        let mut gap = after < self.floor();
        let from = match log.binary_search_by(|event| event.revision.cmp(&after)) {
            Ok(found) => found + 1,
            Err(next) => next,
        };
        let mut found = Vec::new();
        for event in log.focus().narrow(from..log.len()) {
            if event.key.kind == kind {
                if gap && event.previous > after {
                    return None;
                }
                gap = false;
                found.push(Arc::clone(event));
            }
            if found.len() >= limit {
                return Some((found, event.revision));
            }
        }
        if gap { None } else { Some((found, self.revision())) }
    }

    /// The events of one object after `after`, in order, `limit` at most, and the revision up to which they are
    /// all; `None` where the window no longer has them. Nothing else that happened is looked at, as a rule.
    #[must_use]
    pub fn events_of(
        &self,
        kind: Kind,
        name: &str,
        after: Revision,
        limit: usize,
    ) -> Option<(Vec<Arc<Event>>, Revision)> {
        let now = self.revision().max(after);
        // Each event has the version before it: from the newest back to one that was there at `after`.
        let mut found = Vec::new();
        let mut version = self.snapshot.get(kind, name).map(|record| record.revision);
        while let Some(revision) = version {
            if revision <= after {
                found.reverse();
                return Some((found, now));
            }
            let Ok(at) = self.snapshot.log.binary_search_by(|event| event.revision.cmp(&revision)) else { break };
            let event = &self.snapshot.log[at];
            if found.len() == limit {
                break;
            }
            found.push(Arc::clone(event));
            version = event.old.as_ref().map(|record| record.revision);
        }
        // It is gone, was gone in between, or changed very often: the log itself says.
        if after < self.floor() {
            return None;
        }
        let log = &self.snapshot.log;
        let from = log.binary_search_by(|event| event.revision.cmp(&after)).map_or_else(|next| next, |at| at + 1);
        let of = |event: &&Arc<Event>| event.key.kind == kind && *event.key.name == *name;
        let found: Vec<_> = log.focus().narrow(from..log.len()).into_iter().filter(of).take(limit).cloned().collect();
        let reached = if found.len() == limit { found.last().map_or(now, |event| event.revision) } else { now };
        Some((found, reached))
    }
}
