//! A persistent ordered sequence that takes little more room than what is in it: a tree of slices, each just as
//! long as it has members. An ordinary tree (`imbl::OrdMap`) that was filled in order is half empty.

use std::ops::Bound;
use std::sync::Arc;

use imbl::OrdMap;

/// Members of a slice at most: as many are copied when one of them changes.
const CHUNK: usize = 32;
/// A slice that gets shorter than this is put together with the next one, where both fit into one.
const SHORT: usize = CHUNK / 4;

/// What is in the order of a key that it has itself.
pub trait Keyed: Clone {
    /// What the order is of.
    type Key: Ord + Clone;

    /// Its key.
    fn key(&self) -> &Self::Key;
}

/// A sequence in the order of its members' keys, each there once; cheap to clone.
#[derive(Debug, Clone)]
pub struct Chunks<T: Keyed> {
    /// By a key that is above all of the slice before, and not above any of its own.
    chunks: OrdMap<T::Key, Arc<[T]>>,
    len: usize,
}

impl<T: Keyed> Default for Chunks<T> {
    fn default() -> Self {
        Self { chunks: OrdMap::new(), len: 0 }
    }
}

impl<T: Keyed> Chunks<T> {
    /// A sequence of `members`, which are in order.
    pub(super) fn of(members: Vec<T>) -> Self {
        let len = members.len();
        let mut chunks = OrdMap::new();
        let mut members = members.into_iter();
        loop {
            let chunk: Arc<[T]> = members.by_ref().take(CHUNK).collect::<Vec<_>>().into();
            let Some(first) = chunk.first() else { return Self { chunks, len } };
            chunks.insert(first.key().clone(), chunk);
        }
    }

    /// Puts `member` in, in the place of the one with its key.
    pub(super) fn insert(&mut self, member: T) {
        let (of, chunk) = if let Some((of, chunk)) = self.chunks.get_prev(member.key()) {
            (of.clone(), Arc::clone(chunk))
        } else if let Some((of, _)) = self.chunks.get_min() {
            // Before all that is there: the first slice begins with it from now on.
            let of = of.clone();
            let chunk = self.chunks.remove(&of).unwrap_or_default();
            (member.key().clone(), chunk)
        } else {
            (member.key().clone(), Arc::default())
        };
        match chunk.binary_search_by(|there| there.key().cmp(member.key())) {
            Ok(at) => {
                // So that it is changed in place where nobody else has it.
                drop(chunk);
                if let Some(chunk) = self.chunks.get_mut(&of) {
                    Arc::make_mut(chunk)[at] = member;
                }
            }
            Err(at) => {
                self.len += 1;
                if chunk.len() < CHUNK {
                    let longer = chunk[..at].iter().chain([&member]).chain(&chunk[at..]).cloned().collect();
                    self.chunks.insert(of, longer);
                } else if at == chunk.len() {
                    // As when all comes in order: what is full stays so.
                    self.chunks.insert(member.key().clone(), Arc::from([member]));
                } else {
                    let mut members: Vec<T> =
                        chunk[..at].iter().chain([&member]).chain(&chunk[at..]).cloned().collect();
                    let rest: Arc<[T]> = members.split_off(CHUNK / 2).into();
                    self.chunks.insert(of, members.into());
                    self.chunks.insert(rest[0].key().clone(), rest);
                }
            }
        }
    }

    /// Takes the member with `key` out.
    pub(super) fn remove(&mut self, key: &T::Key) {
        let Some((of, chunk)) = self.chunks.get_prev(key) else { return };
        let Ok(at) = chunk.binary_search_by(|there| there.key().cmp(key)) else { return };
        let (of, chunk) = (of.clone(), Arc::clone(chunk));
        self.len -= 1;
        let mut rest: Vec<T> = chunk[..at].iter().chain(&chunk[at + 1..]).cloned().collect();
        if rest.is_empty() {
            self.chunks.remove(&of);
            return;
        }
        if rest.len() < SHORT {
            let next = self.chunks.range((Bound::Excluded(of.clone()), Bound::Unbounded)).next();
            if let Some((next, chunk)) = next
                && rest.len() + chunk.len() <= CHUNK
            {
                rest.extend(chunk.iter().cloned());
                let next = next.clone();
                self.chunks.remove(&next);
            }
        }
        self.chunks.insert(of, rest.into());
    }

    /// How many members it has.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The members after `after` (all, where it is `None`), in order.
    pub(super) fn after<'a>(&'a self, after: Option<&T::Key>) -> impl Iterator<Item = &'a T> + use<'a, T> {
        let from = after.and_then(|after| self.chunks.get_prev(after));
        let from = from.map_or(Bound::Unbounded, |(of, _)| Bound::Included(of.clone()));
        let after = after.cloned();
        self.chunks.range((from, Bound::Unbounded)).enumerate().flat_map(move |(i, (_, chunk))| {
            let skipped = match &after {
                Some(after) if i == 0 => chunk.partition_point(|member| member.key() <= after),
                _ => 0,
            };
            &chunk[skipped..]
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    impl Keyed for (u16, usize) {
        type Key = u16;

        fn key(&self) -> &u16 {
            &self.0
        }
    }

    proptest! {
        #[test]
        fn it_holds_what_a_plain_map_holds_and_so_do_its_clones(
            at_once in 0_u16..200,
            steps in prop::collection::vec((0_u8..5, 0_u16..300), 0..1000),
            from in 0_u16..310,
        ) {
            let mut chunks = Chunks::of((100..100 + at_once).map(|key| (key, 0)).collect());
            let mut model: BTreeMap<u16, usize> = (100..100 + at_once).map(|key| (key, 0)).collect();
            let mut before = None;
            for (i, (step, key)) in steps.iter().enumerate() {
                if *step < 2 { chunks.remove(key); model.remove(key); } else { chunks.insert((*key, i)); model.insert(*key, i); }
                if i == steps.len() / 2 { before = Some((chunks.clone(), model.clone())); }
            }
            for (chunks, model) in before.into_iter().chain([(chunks, model)]) {
                prop_assert_eq!(chunks.len(), model.len());
                prop_assert!(chunks.after(None).copied().eq(model.iter().map(|(k, v)| (*k, *v))));
                let rest = model.range((Bound::Excluded(from), Bound::Unbounded)).map(|(k, v)| (*k, *v));
                prop_assert!(chunks.after(Some(&from)).copied().eq(rest));
                prop_assert!(chunks.chunks.values().all(|chunk| (1..=CHUNK).contains(&chunk.len())));
            }
        }
    }

    #[test]
    fn slices_are_full_where_members_came_in_order() {
        let mut chunks = Chunks::default();
        for key in 0..1000 {
            chunks.insert((key, 0));
        }
        assert_eq!(chunks.chunks.len(), 1000_usize.div_ceil(CHUNK));
    }
}
