//! A persistent ordered set for the indexes: most have one member or a few, a handful have many.

use std::ops::Bound;
use std::sync::Arc;

use imbl::OrdSet;

/// Up to this many members a set is one sorted slice, copied on each change; beyond it a tree.
const SMALL: usize = 48;

/// An ordered set that is cheap to clone, and small where it has few members.
#[derive(Debug, Clone)]
pub enum Set<T: Ord + Clone> {
    /// A sorted slice.
    Small(Arc<[T]>),
    /// A tree.
    Large(OrdSet<T>),
}

impl<T: Ord + Clone> Default for Set<T> {
    fn default() -> Self {
        Self::Small(Arc::from([]))
    }
}

impl<T: Ord + Clone> Set<T> {
    /// Adds `member`.
    pub fn insert(&mut self, member: T) {
        match self {
            Self::Small(slice) => {
                let Err(at) = slice.binary_search(&member) else { return };
                if slice.len() < SMALL {
                    *slice = slice[..at].iter().cloned().chain([member]).chain(slice[at..].iter().cloned()).collect();
                } else {
                    let mut tree: OrdSet<T> = slice.iter().cloned().collect();
                    tree.insert(member);
                    *self = Self::Large(tree);
                }
            }
            Self::Large(tree) => {
                tree.insert(member);
            }
        }
    }

    /// Takes `member` out.
    pub fn remove(&mut self, member: &T) {
        match self {
            Self::Small(slice) => {
                if let Ok(at) = slice.binary_search(member) {
                    *slice = slice[..at].iter().chain(&slice[at + 1..]).cloned().collect();
                }
            }
            Self::Large(tree) => {
                tree.remove(member);
                // Half of the border, so that a set at the border doesn't change its form each time.
                if tree.len() <= SMALL / 2 {
                    *self = Self::Small(tree.iter().cloned().collect());
                }
            }
        }
    }

    /// How many members it has.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
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
            Self::Small(slice) => {
                let from = after.map_or(0, |t| slice.partition_point(|member| member <= t));
                Box::new(slice[from..].iter())
            }
            Self::Large(tree) => match after {
                None => Box::new(tree.iter()),
                Some(after) => Box::new(tree.range((Bound::Excluded(after.clone()), Bound::Unbounded))),
            },
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

    use proptest::prelude::*;

    use super::*;

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
