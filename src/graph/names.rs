//! A persistent map from names, by hash, that takes little more room than what is in it. A tree of hashes
//! (`imbl::HashMap`) has nodes of fixed sizes, of which most of a million entries' are nearly empty. The values
//! know their names, so that these are not kept twice.
//!
//! Linear hashing: a bucket is a slice just as long as it has entries, copied on each change of it; when the
//! buckets are full on average, one of them is split in two. So a change costs the same whatever the size,
//! and there is never a moment at which all is moved.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use imbl::Vector;

/// Entries of a bucket, on average, from which on there is one more.
const FILL: usize = 8;

/// What is found by a name that it has itself, and keeps.
pub(super) trait Named: Clone {
    /// The name.
    fn name(&self) -> &str;

    /// The name's bytes, where to get at them is less work than to get the name.
    fn name_bytes(&self) -> &[u8] {
        self.name().as_bytes()
    }
}

#[derive(Debug, Clone)]
struct Entry<V> {
    /// The name's hash: other names are told from it without a look at them.
    hash: u64,
    value: V,
}

/// A bucket; none is an empty one.
type Bucket<V> = Option<Arc<[Entry<V>]>>;

/// A map from names that is cheap to clone. It never gets fewer buckets.
#[derive(Debug, Clone)]
pub(super) struct Names<V> {
    buckets: Vector<Bucket<V>>,
    len: usize,
    hasher: RandomState,
}

impl<V> Default for Names<V> {
    fn default() -> Self {
        Self { buckets: Vector::new(), len: 0, hasher: RandomState::new() }
    }
}

/// The bucket, of `count`, that a hash belongs to: those up to the last power of two by all its bits, and those
/// that have been split since by one more.
fn place(hash: u64, count: usize) -> usize {
    let whole = count.next_power_of_two();
    // The cut is meant: the low bits choose.
    #[expect(clippy::cast_possible_truncation, reason = "only the low bits are looked at")]
    let hash = hash as usize;
    let at = hash & (whole - 1);
    if at < count { at } else { at & (whole / 2 - 1) }
}

impl<V: Named> Names<V> {
    /// A map of `values`, of which no two have one name.
    pub(super) fn of(values: Vec<V>) -> Self {
        let mut names = Self { len: values.len(), ..Self::default() };
        let count = values.len().div_ceil(FILL);
        let placed = values.into_iter().map(|value| {
            let hash = names.hash(value.name());
            (place(hash, count), Entry { hash, value })
        });
        let mut placed: Vec<(usize, Entry<V>)> = placed.collect();
        placed.sort_unstable_by_key(|(bucket, _)| *bucket);
        let mut placed = placed.into_iter().peekable();
        let mut entries = Vec::new();
        for bucket in 0..count {
            while let Some((_, entry)) = placed.next_if(|(of, _)| *of == bucket) {
                entries.push(entry);
            }
            names.buckets.push_back((!entries.is_empty()).then(|| entries.drain(..).collect()));
        }
        names
    }

    fn hash(&self, name: &str) -> u64 {
        self.hasher.hash_one(name)
    }

    /// The bucket, and where in it `name` is.
    fn find(&self, name: &str, hash: u64) -> Option<(usize, usize)> {
        if self.buckets.is_empty() {
            return None;
        }
        let bucket = place(hash, self.buckets.len());
        let entries = self.buckets.get(bucket)?.as_ref()?;
        let at = entries.iter().position(|entry| entry.hash == hash && entry.value.name_bytes() == name.as_bytes())?;
        Some((bucket, at))
    }

    fn at_mut(&mut self, (bucket, at): (usize, usize)) -> Option<&mut V> {
        let entries = Arc::make_mut(self.buckets.get_mut(bucket)?.as_mut()?);
        Some(&mut entries.get_mut(at)?.value)
    }

    /// What `name` leads to.
    pub(super) fn get(&self, name: &str) -> Option<&V> {
        let (bucket, at) = self.find(name, self.hash(name))?;
        Some(&self.buckets.get(bucket)?.as_ref()?.get(at)?.value)
    }

    /// What each of `names` leads to. A look-up is a chain of reads that each wait for memory; here all chains take
    /// their steps together, so that the processor waits for many at once.
    pub(super) fn get_each(&self, names: &[&str]) -> Vec<Option<&V>> {
        if self.is_empty() {
            return vec![None; names.len()];
        }
        let hashes: Vec<u64> = names.iter().map(|name| self.hash(name)).collect();
        let bucket = |hash: &u64| self.buckets.get(place(*hash, self.buckets.len())).and_then(Option::as_deref);
        let buckets: Vec<&[Entry<V>]> = hashes.iter().map(|hash| bucket(hash).unwrap_or_default()).collect();
        let candidates = buckets.iter().zip(&hashes).map(|(entries, hash)| {
            // Without a way out in between: where it would be can't be foreseen, and a wrong guess ends the overlap.
            let at = |found, (at, entry): (usize, &Entry<V>)| if entry.hash == *hash { at } else { found };
            entries.get(entries.iter().enumerate().fold(usize::MAX, at))
        });
        let candidates: Vec<Option<&Entry<V>>> = candidates.collect();
        let found: Vec<&[u8]> =
            candidates.iter().map(|entry| entry.map_or(&[][..], |e| e.value.name_bytes())).collect();
        let each = names.iter().zip(candidates).zip(found);
        each.map(|((name, entry), found)| {
            let entry = entry?;
            // Two names may have one hash; then the other is looked for in the common way.
            if found == name.as_bytes() { Some(&entry.value) } else { self.get(name) }
        })
        .collect()
    }

    /// What `name` leads to, to be changed; its name stays.
    pub(super) fn get_mut(&mut self, name: &str) -> Option<&mut V> {
        let found = self.find(name, self.hash(name))?;
        self.at_mut(found)
    }

    /// Lets the name of `value` lead to it.
    pub(super) fn insert(&mut self, value: V) {
        let hash = self.hash(value.name());
        let found = self.find(value.name(), hash);
        match found {
            Some(found) => *self.at_mut(found).expect("it was found there") = value,
            None => {
                self.add(hash, value);
            }
        }
    }

    /// What `name` leads to, to be changed; what `make` makes, where it leads to nothing yet.
    pub(super) fn or_insert_with(&mut self, name: &str, make: impl FnOnce() -> V) -> &mut V {
        let hash = self.hash(name);
        let found = self.find(name, hash).unwrap_or_else(|| self.add(hash, make()));
        self.at_mut(found).expect("it was found there, or put there")
    }

    /// Puts a value in whose name isn't there, and says where.
    fn add(&mut self, hash: u64, value: V) -> (usize, usize) {
        if self.len >= self.buckets.len() * FILL {
            self.split();
        }
        let bucket = place(hash, self.buckets.len());
        let entry = Entry { hash, value };
        let Some(entries) = self.buckets.get_mut(bucket) else { return (bucket, 0) };
        let at = entries.as_ref().map_or(0, |entries| entries.len());
        *entries = Some(entries.iter().flat_map(|entries| entries.iter()).cloned().chain([entry]).collect());
        self.len += 1;
        (bucket, at)
    }

    /// Lets `name` lead to nothing.
    pub(super) fn remove(&mut self, name: &str) {
        let Some((bucket, at)) = self.find(name, self.hash(name)) else { return };
        let Some(bucket) = self.buckets.get_mut(bucket) else { return };
        let rest = bucket.iter().flat_map(|entries| entries.iter()).enumerate().filter(|(i, _)| *i != at);
        let rest: Vec<Entry<V>> = rest.map(|(_, entry)| entry.clone()).collect();
        *bucket = (!rest.is_empty()).then(|| rest.into());
        self.len -= 1;
    }

    /// How many names lead to something.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Whether none does.
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All that names lead to, in no order.
    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.buckets.iter().flatten().flat_map(|bucket| bucket.iter()).map(|entry| &entry.value)
    }

    /// Makes one more bucket, of what belongs there of another.
    fn split(&mut self) {
        let count = self.buckets.len() + 1;
        let from = count - 1 - count.next_power_of_two() / 2;
        self.buckets.push_back(None);
        if count == 1 {
            return;
        }
        let Some(entries) = self.buckets.get_mut(from).and_then(Option::take) else { return };
        let goes = |entry: &&Entry<V>| place(entry.hash, count) != from;
        let part = |part: Vec<&Entry<V>>| (!part.is_empty()).then(|| part.into_iter().cloned().collect());
        let (moved, stay): (Vec<_>, Vec<_>) = entries.iter().partition(goes);
        let (moved, stay) = (part(moved), part(stay));
        self.buckets.set(from, stay);
        self.buckets.set(count - 1, moved);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone, PartialEq)]
    struct Numbered(String, usize);

    impl Named for Numbered {
        fn name(&self) -> &str {
            &self.0
        }
    }

    proptest! {
        #[test]
        fn it_holds_what_a_plain_map_holds_and_so_do_its_clones(
            at_once in 0_usize..300,
            steps in prop::collection::vec((0_u8..4, 0_u16..300), 0..1500),
        ) {
            let first = (0..at_once).map(|number| Numbered(format!("n{number}"), number));
            let mut names = Names::of(first.clone().collect());
            let mut model: BTreeMap<String, Numbered> = first.map(|value| (value.0.clone(), value)).collect();
            let mut before = None;
            for (i, (step, number)) in steps.iter().enumerate() {
                let name = format!("n{number}");
                let new = || Numbered(name.clone(), 0);
                match step {
                    0 => { names.remove(&name); model.remove(&name); }
                    1 => {
                        names.or_insert_with(&name, new).1 += 1;
                        model.entry(name.clone()).or_insert_with(new).1 += 1;
                    }
                    _ => {
                        names.insert(Numbered(name.clone(), i));
                        model.insert(name.clone(), Numbered(name, i));
                    }
                }
                if i == steps.len() / 2 { before = Some((names.clone(), model.clone())); }
            }
            for (names, model) in before.into_iter().chain([(names, model)]) {
                prop_assert_eq!(names.len(), model.len());
                prop_assert_eq!(names.values().count(), model.len());
                let all: Vec<String> = (0..300).map(|number| format!("n{number}")).collect();
                let all: Vec<&str> = all.iter().map(String::as_str).collect();
                for (name, found) in all.iter().zip(names.get_each(&all)) {
                    prop_assert_eq!(names.get(name), model.get(*name));
                    prop_assert_eq!(found, model.get(*name));
                }
            }
        }
    }

    #[test]
    fn buckets_are_full_on_average() {
        let value = |number| Numbered(format!("name-{number}"), number);
        let mut names = Names::default();
        for number in 0..10_000 {
            names.insert(value(number));
        }
        for names in [names, Names::of((0..10_000).map(value).collect())] {
            assert_eq!(names.buckets.len(), 10_000 / FILL);
            assert!(names.buckets.iter().flatten().all(|bucket| bucket.len() < FILL * 8));
            assert!((0..10_000).all(|number| names.get(&format!("name-{number}")) == Some(&value(number))));
        }
    }
}
