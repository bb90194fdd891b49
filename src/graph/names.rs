//! A persistent map from names, by hash, that takes little more room than what is in it. A tree of hashes
//! (`imbl::HashMap`) has nodes of fixed sizes, of which most of a million entries' are nearly empty.
//!
//! Linear hashing: a bucket is a slice just as long as it has entries, copied on each change of it; when the
//! buckets are full on average, one of them is split in two. So a change costs the same whatever the size,
//! and there is never a moment at which all is moved.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use imbl::Vector;

/// Entries of a bucket, on average, from which on there is one more.
const FILL: usize = 8;

#[derive(Debug, Clone)]
struct Entry<V> {
    /// Half of the name's hash: other names are told from it without a look at them.
    tag: u32,
    name: Arc<str>,
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

impl<V: Clone> Default for Names<V> {
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

fn tag(hash: u64) -> u32 {
    u32::try_from(hash >> 32).unwrap_or_default()
}

impl<V: Clone> Names<V> {
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
        let at = entries.iter().position(|entry| entry.tag == tag(hash) && *entry.name == *name)?;
        Some((bucket, at))
    }

    fn entry(&self, name: &str) -> Option<&Entry<V>> {
        let (bucket, at) = self.find(name, self.hash(name))?;
        self.buckets.get(bucket)?.as_ref()?.get(at)
    }

    fn at_mut(&mut self, (bucket, at): (usize, usize)) -> Option<&mut V> {
        let entries = Arc::make_mut(self.buckets.get_mut(bucket)?.as_mut()?);
        Some(&mut entries.get_mut(at)?.value)
    }

    /// What `name` leads to.
    pub(super) fn get(&self, name: &str) -> Option<&V> {
        self.entry(name).map(|entry| &entry.value)
    }

    /// The name as it is kept here, to be shared.
    pub(super) fn key(&self, name: &str) -> Option<&Arc<str>> {
        self.entry(name).map(|entry| &entry.name)
    }

    /// What `name` leads to, to be changed.
    pub(super) fn get_mut(&mut self, name: &str) -> Option<&mut V> {
        let found = self.find(name, self.hash(name))?;
        self.at_mut(found)
    }

    /// Lets `name` lead to `value`.
    pub(super) fn insert(&mut self, name: Arc<str>, value: V) {
        let hash = self.hash(&name);
        let found = self.find(&name, hash);
        match found.and_then(|found| self.at_mut(found)) {
            Some(there) => *there = value,
            None => {
                self.add(name, hash, value);
            }
        }
    }

    /// What `name` leads to, to be changed; the default, where it leads to nothing yet.
    pub(super) fn or_default(&mut self, name: &Arc<str>) -> &mut V
    where
        V: Default,
    {
        let hash = self.hash(name);
        let found = self.find(name, hash).unwrap_or_else(|| self.add(Arc::clone(name), hash, V::default()));
        self.at_mut(found).expect("it was found there, or put there")
    }

    /// Puts a name in that isn't there, and says where.
    fn add(&mut self, name: Arc<str>, hash: u64, value: V) -> (usize, usize) {
        if self.len >= self.buckets.len() * FILL {
            self.split();
        }
        let bucket = place(hash, self.buckets.len());
        let entry = Entry { tag: tag(hash), name, value };
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

    /// Makes one more bucket, of what belongs there of another.
    fn split(&mut self) {
        let count = self.buckets.len() + 1;
        let from = count - 1 - count.next_power_of_two() / 2;
        self.buckets.push_back(None);
        if count == 1 {
            return;
        }
        let Some(entries) = self.buckets.get_mut(from).and_then(Option::take) else { return };
        let goes = |entry: &&Entry<V>| place(self.hash(&entry.name), count) != from;
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

    proptest! {
        #[test]
        fn it_holds_what_a_plain_map_holds_and_so_do_its_clones(
            steps in prop::collection::vec((0_u8..4, 0_u16..300), 0..1500),
        ) {
            let (mut names, mut model) = (Names::default(), BTreeMap::new());
            let mut before = None;
            for (i, (step, number)) in steps.iter().enumerate() {
                let name: Arc<str> = format!("n{number}").into();
                match step {
                    0 => { names.remove(&name); model.remove(&name); }
                    1 => { *names.or_default(&name) += 1; *model.entry(name).or_default() += 1; }
                    _ => { names.insert(Arc::clone(&name), i); model.insert(name, i); }
                }
                if i == steps.len() / 2 { before = Some((names.clone(), model.clone())); }
            }
            for (names, model) in before.into_iter().chain([(names, model)]) {
                prop_assert_eq!(names.len, model.len());
                for number in 0..300 {
                    let name = format!("n{number}");
                    prop_assert_eq!(names.get(&name), model.get(&*name));
                    prop_assert_eq!(names.key(&name).map(|n| &**n), model.contains_key(&*name).then_some(&*name));
                }
            }
        }
    }

    #[test]
    fn buckets_are_full_on_average() {
        let mut names = Names::default();
        for number in 0..10_000 {
            names.insert(format!("name-{number}").into(), number);
        }
        assert_eq!(names.buckets.len(), 10_000 / FILL);
        assert!(names.buckets.iter().flatten().all(|bucket| bucket.len() < FILL * 8));
        assert!((0..10_000).all(|number| names.get(&format!("name-{number}")) == Some(&number)));
    }
}
