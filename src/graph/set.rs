//! A persistent ordered set for the indexes: most have one member or a few, a handful have many.

use std::sync::Arc;

use super::chunks::{Chunks, Keyed};
use crate::storage::Key;

/// Up to this many members a set is one sorted slice, copied on each change; beyond it a tree.
const SMALL: usize = 48;

impl Keyed for Arc<str> {
    type Key = Self;

    fn key(&self) -> &Self {
        self
    }
}

impl Keyed for Key {
    type Key = Self;

    fn key(&self) -> &Self {
        self
    }
}

/// An ordered set that is cheap to clone, and small where it has few members.
#[derive(Debug, Clone, Default)]
pub enum Set<T: Keyed<Key = T>> {
    /// No members.
    #[default]
    Empty,
    /// A sorted slice.
    Small(Arc<[T]>),
    /// A tree.
    Large(Arc<Chunks<T>>),
}

impl<T: Keyed<Key = T> + Ord> Set<T> {
    /// A set of `members`, which are in order, each there once.
    pub(super) fn of(members: Vec<T>) -> Self {
        match members.len() {
            0 => Self::Empty,
            len if len <= SMALL => Self::Small(members.into()),
            _ => Self::Large(Arc::new(Chunks::of(members))),
        }
    }

    /// Adds `member`; false where it was one already.
    pub fn insert(&mut self, member: T) -> bool {
        match self {
            Self::Empty => *self = Self::Small(Arc::from([member])),
            Self::Small(slice) => {
                let Err(at) = slice.binary_search(&member) else { return false };
                let members = || slice[..at].iter().chain([&member]).chain(&slice[at..]).cloned();
                *self = if slice.len() < SMALL {
                    Self::Small(members().collect())
                } else {
                    Self::Large(Arc::new(Chunks::of(members().collect())))
                };
            }
            Self::Large(tree) => {
                let before = tree.len();
                let tree = Arc::make_mut(tree);
                tree.insert(member);
                return tree.len() > before;
            }
        }
        true
    }

    /// Takes `member` out.
    pub fn remove(&mut self, member: &T) {
        match self {
            Self::Empty => {}
            Self::Small(slice) => {
                if let Ok(at) = slice.binary_search(member) {
                    *self = Self::of(slice[..at].iter().chain(&slice[at + 1..]).cloned().collect());
                }
            }
            Self::Large(tree) => {
                let tree = Arc::make_mut(tree);
                tree.remove(member);
                // Half of the border, so that a set at the border doesn't change its form each time.
                if tree.len() <= SMALL / 2 {
                    *self = Self::Small(tree.after(None).cloned().collect());
                }
            }
        }
    }

    /// How many members it has.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Empty => 0,
            Self::Small(slice) => slice.len(),
            Self::Large(tree) => tree.len(),
        }
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The members after `after` (all, where it is `None`), in order.
    #[must_use]
    pub fn after<'a>(&'a self, after: Option<&T>) -> Box<dyn Iterator<Item = &'a T> + Send + 'a>
    where
        T: Send + Sync,
    {
        match self {
            Self::Empty => Box::new(std::iter::empty()),
            Self::Small(slice) => {
                let from = after.map_or(0, |t| slice.partition_point(|member| member <= t));
                Box::new(slice[from..].iter())
            }
            Self::Large(tree) => Box::new(tree.after(after)),
        }
    }

    /// All members, in order.
    #[expect(clippy::iter_without_into_iter, reason = "nothing loops over a whole set by reference")]
    #[must_use]
    pub fn iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a T> + Send + 'a>
    where
        T: Send + Sync,
    {
        self.after(None)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::ops::Bound;

    use proptest::prelude::*;

    use super::*;

    impl Keyed for u16 {
        type Key = Self;

        fn key(&self) -> &Self {
            self
        }
    }

    proptest! {
        #[test]
        fn it_holds_what_a_plain_set_holds(steps in prop::collection::vec((any::<bool>(), 0_u16..120), 0..400), from in 0_u16..120) {
            let (mut set, mut model) = (Set::default(), BTreeSet::new());
            for (insert, member) in steps {
                if insert { set.insert(member); model.insert(member); } else { set.remove(&member); model.remove(&member); }
                prop_assert_eq!(set.len(), model.len());
            }
            prop_assert!(set.iter().eq(model.iter()));
            prop_assert!(set.after(Some(&from)).eq(model.range((Bound::Excluded(from), Bound::Unbounded))));
        }
    }
}
