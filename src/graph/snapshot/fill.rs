//! A snapshot of all that a storage has, made at once: each index from sorted runs instead of a change for each
//! object, and on more than one core. What comes out is what applying each commit would make.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::sync::Arc;

use super::Snapshot;
use super::apply::newest_first;
use super::entries::{Claims, Dependents, Hidden, ImageParts, RepositoryEntry};
use super::table::{Labelled, Table};
use crate::api::Kind;
use crate::graph::chunks::Chunks;
use crate::graph::names::Names;
use crate::graph::record::{Record, organization_of};
use crate::graph::set::Set;
use crate::graph::sight::SightLog;
use crate::storage::{Key, Revision};

impl Snapshot {
    /// The state at `revision`, in which each of `records` is its key's only version; `at_ms` is the time of its last
    /// commit.
    pub(in crate::graph) fn fill(revision: Revision, at_ms: i64, records: Vec<Arc<Record>>) -> Self {
        let mut kinds: [Vec<Arc<Record>>; Kind::ALL.len()] = Default::default();
        for record in records {
            kinds[record.kind() as usize].push(record);
        }
        for records in &mut kinds {
            records.sort_by(|a, b| a.key.name.cmp(&b.key.name));
        }
        let mut snapshot =
            Self { revision, at_ms, floor: revision, last_of_kind: [revision; Kind::ALL.len()], ..Self::default() };
        std::thread::scope(|scope| {
            let tables = scope.spawn(|| kinds.each_ref().map(|records| Table::fill(records)));
            snapshot.dependents = dependents(&kinds);
            snapshot.fill_images(&kinds[Kind::Image as usize], &kinds[Kind::Repository as usize]);
            snapshot.tables = tables.join().expect("filling a table does not panic");
        });
        snapshot.fill_organizations();
        for record in &kinds[Kind::Organization as usize] {
            snapshot.index_organization(&record.key, None, Some(record));
        }
        for record in &kinds[Kind::DataPack as usize] {
            snapshot.index_pack(&record.key.name, None, Some(record));
        }
        // Of what was deleted before, and of whom that concerned, nothing is known.
        snapshot.organizations.iter_mut().for_each(|(_, entry)| entry.changed = revision);
        snapshot.sight_log = SightLog::since(revision);
        snapshot
    }

    /// Images and repositories by their full names.
    fn fill_images(&mut self, images: &[Arc<Record>], repositories: &[Arc<Record>]) {
        let mut by_name = Vec::with_capacity(images.len());
        let mut entries = Vec::with_capacity(repositories.len());
        let all = images.iter().chain(repositories);
        grouped(all.map(|record| (repository(record), record)), |group| {
            let (mut images, claims): (Vec<&Arc<Record>>, Vec<&Arc<Record>>) =
                group.iter().copied().partition(|record| record.kind() == Kind::Image);
            images.sort_by(|a, b| name(a).cmp(name(b)));
            let mut tags = Vec::with_capacity(images.len());
            for same in images.chunk_by(|a, b| name(a) == name(b)) {
                let claims = Claims::of(same.iter().map(|record| Arc::clone(record)).collect());
                tags.extend(claims.first().cloned());
                let parts = ImageParts { claims, packs: Set::default() };
                by_name.extend(parts.entry(|| name(same[0]).into()));
            }
            tags.sort_by(|a, b| newest_first(a, b));
            entries.push(RepositoryEntry {
                claims: Claims::of(claims.into_iter().cloned().collect()),
                tags: tags.into(),
                images: images.len(),
                ..RepositoryEntry::new(repository(group[0]))
            });
        });
        self.images = Names::of(by_name);
        self.repositories = Names::of(entries);
    }

    /// The repositories of each organization, and what of them is hidden.
    fn fill_organizations(&mut self) {
        let all: Vec<&RepositoryEntry> = self.repositories.values().collect();
        let mut organizations = Vec::new();
        grouped(all.iter().map(|entry| (organization_of(&entry.name), *entry)), |group| {
            let mut names: Vec<Arc<str>> = group.iter().map(|entry| Arc::clone(&entry.name)).collect();
            names.sort_unstable();
            let mut hidden = Hidden::default();
            for entry in group {
                hidden.exchange(Hidden::default(), entry.hidden());
            }
            organizations.push((Arc::<str>::from(organization_of(&names[0])), Set::of(names), hidden));
        });
        for (name, repositories, hidden) in organizations {
            self.hidden.exchange(Hidden::default(), hidden);
            let entry = self.organizations.entry(name).or_default();
            (entry.repositories, entry.hidden) = (repositories, hidden);
        }
    }
}

/// The full name of an image.
fn name(record: &Record) -> &str {
    record.image().map_or("", |image| image.name())
}

/// The full name of the repository that an image belongs to, or that a repository is.
fn repository(record: &Record) -> &str {
    let of = record.image().map(|image| image.repository());
    of.or(record.repository().map(|repository| repository.name())).unwrap_or_default()
}

impl Table {
    /// The table of `records`, which are in order of name.
    fn fill(records: &[Arc<Record>]) -> Self {
        let mut values: HashMap<Arc<str>, Vec<Labelled>> = HashMap::new();
        let labels = |(at, record): (usize, &'_ Arc<Record>)| {
            let count = record.labels().count();
            (0..count).map(move |label| (index(at), index(label)))
        };
        let all: Vec<(u32, u32)> = records.iter().enumerate().flat_map(labels).collect();
        let label = |(at, label): (u32, u32)| records[at as usize].labels().nth(label as usize).unwrap_or_default();
        grouped(all.into_iter().map(|of| (label(of), of)), |group| {
            let (label, value) = label(group[0]);
            let mut names: Vec<Arc<str>> =
                group.iter().map(|(at, _)| Arc::clone(&records[*at as usize].key.name)).collect();
            names.dedup();
            let labelled = Labelled { value: value.into(), names: Set::of(names) };
            match values.get_mut(label) {
                Some(values) => values.push(labelled),
                None => drop(values.insert(label.into(), vec![labelled])),
            }
        });
        Self {
            by_name: Names::of(records.to_vec()),
            ordered: Chunks::of(records.to_vec()),
            live: records.len(),
            again: imbl::HashMap::default(),
            labels: values.into_iter().map(|(label, values)| (label, Names::of(values))).collect(),
        }
    }
}

/// Who names which object as its owner.
fn dependents(kinds: &[Vec<Arc<Record>>]) -> Names<Dependents> {
    let all = kinds.iter().flatten().enumerate();
    let records: Vec<&Arc<Record>> = kinds.iter().flatten().collect();
    let owners = all.flat_map(|(at, record)| {
        record.owners().enumerate().map(move |(owner, of)| (of.uid, (index(at), index(owner))))
    });
    let mut dependents = Vec::new();
    grouped(owners, |group| {
        let (at, owner) = group[0];
        let uid = records[at as usize].owners().nth(owner as usize).map_or("", |owner| owner.uid);
        let mut keys: Vec<Key> = group.iter().map(|(at, _)| records[*at as usize].key.clone()).collect();
        keys.dedup();
        dependents.push(Dependents { uid: uid.into(), keys: Set::of(keys) });
    });
    Names::of(dependents)
}

fn index(at: usize) -> u32 {
    u32::try_from(at).expect("records and what they have are counted in 32 bits")
}

/// Calls `each` with those of `items` that have the same key, in the order in which they come. Keys are told apart by
/// 128 bits of two keyed hashes, as the storage does: two would have to agree in them under secrets chosen just now.
fn grouped<K: Hash, T>(items: impl Iterator<Item = (K, T)>, mut each: impl FnMut(&[T]))
where
    T: Copy,
{
    let secrets = [RandomState::new(), RandomState::new()];
    let mut hashed: Vec<([u64; 2], T)> =
        items.map(|(key, item)| (secrets.each_ref().map(|secret| secret.hash_one(&key)), item)).collect();
    hashed.sort_by_key(|(hash, _)| *hash);
    let mut group = Vec::new();
    for same in hashed.chunk_by(|a, b| a.0 == b.0) {
        group.clear();
        group.extend(same.iter().map(|(_, item)| *item));
        each(&group);
    }
}
