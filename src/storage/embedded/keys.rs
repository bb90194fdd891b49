//! Where each key's last commit is. A hash table of a million entries is up to half empty, which would be the largest
//! part of it: here the entries lie in order in many short runs, each hardly longer than what is in it.

use super::published::KeyId;

/// How many runs there are. A key is found by the first bits of its hash, so that all are about as long.
const RUNS: usize = 1 << 12;
/// Room for so many is made at a time, at least; otherwise for an eighth more.
const FIRST_ROOM: usize = 4;

#[derive(Debug, Clone, Copy)]
struct Entry {
    id: KeyId,
    revision: u64,
}

/// The last commit's revision of each key that is present.
#[derive(Debug)]
pub(super) struct Keys {
    runs: Box<[Vec<Entry>]>,
}

impl Default for Keys {
    fn default() -> Self {
        Self { runs: (0..RUNS).map(|_| Vec::new()).collect() }
    }
}

impl Keys {
    fn find(&self, id: KeyId) -> (usize, Result<usize, usize>) {
        let run = id.leading_bits(RUNS.ilog2());
        (run, self.runs[run].binary_search_by_key(&id, |entry| entry.id))
    }

    pub(super) fn get(&self, id: KeyId) -> Option<u64> {
        let (run, found) = self.find(id);
        found.ok().map(|at| self.runs[run][at].revision)
    }

    /// Notes that the key's last commit is at `revision`, and says where it was before.
    pub(super) fn insert(&mut self, id: KeyId, revision: u64) -> Option<u64> {
        let (run, found) = self.find(id);
        let entries = &mut self.runs[run];
        match found {
            Ok(at) => Some(std::mem::replace(&mut entries[at].revision, revision)),
            Err(at) => {
                if entries.len() == entries.capacity() {
                    entries.reserve_exact((entries.len() / 8).max(FIRST_ROOM));
                }
                entries.insert(at, Entry { id, revision });
                None
            }
        }
    }

    /// Notes that the key is absent, and says where it was before.
    pub(super) fn remove(&mut self, id: KeyId) -> Option<u64> {
        let (run, found) = self.find(id);
        let entries = &mut self.runs[run];
        let entry = entries.remove(found.ok()?);
        if entries.len() * 2 < entries.capacity() {
            entries.shrink_to_fit();
        }
        Some(entry.revision)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::super::published::KeyIds;
    use super::*;
    use crate::api::Kind;

    proptest! {
        #[test]
        fn it_holds_what_a_plain_map_holds(steps in prop::collection::vec((any::<bool>(), 0_u16..2000), 0..4000)) {
            let ids = KeyIds::default();
            let (mut keys, mut model) = (Keys::default(), HashMap::new());
            for (revision, (removes, name)) in steps.into_iter().enumerate() {
                let (id, revision) = (ids.of(Kind::Image, &name.to_string()), revision as u64);
                let (before, was) = if removes {
                    (keys.remove(id), model.remove(&name))
                } else {
                    (keys.insert(id, revision), model.insert(name, revision))
                };
                prop_assert_eq!(before, was);
            }
            for name in 0..2000 {
                prop_assert_eq!(keys.get(ids.of(Kind::Image, &name.to_string())), model.get(&name).copied());
            }
        }
    }

    #[test]
    fn a_run_has_little_room_that_is_empty() {
        let (ids, mut keys) = (KeyIds::default(), Keys::default());
        let all: Vec<KeyId> = (0..400_000).map(|n| ids.of(Kind::Image, &n.to_string())).collect();
        for id in &all {
            keys.insert(*id, 1);
        }
        let room: usize = keys.runs.iter().map(Vec::capacity).sum();
        assert!(room < all.len() * 9 / 8 + RUNS * FIRST_ROOM, "{room}");
        for id in all {
            keys.remove(id);
        }
        assert_eq!(keys.runs.iter().map(Vec::capacity).sum::<usize>(), 0);
    }
}
