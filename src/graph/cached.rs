//! A place beside a record for what a layer above has made of it.

use std::any::Any;
use std::sync::{Arc, Weak};

use arc_swap::ArcSwapOption;

use crate::storage::Revision;

/// What was made of a record last, as long as whoever made it keeps it, and of which state of what it is made
/// from. It saves the way through a cache that is keyed by just that.
#[derive(Debug, Default)]
pub struct Cached(ArcSwapOption<Made>);

#[derive(Debug)]
struct Made {
    of: Revision,
    what: Weak<dyn Any + Send + Sync>,
}

impl Cached {
    /// What was made of the state `of`, if it is still there.
    #[must_use]
    pub fn get<T: Any + Send + Sync>(&self, of: Revision) -> Option<Arc<T>> {
        let made = self.0.load();
        let made = made.as_ref().filter(|made| made.of == of)?;
        made.what.upgrade()?.downcast().ok()
    }

    /// Notes what was made of the state `of`.
    pub fn set<T: Any + Send + Sync>(&self, of: Revision, what: &Arc<T>) {
        let what: Arc<dyn Any + Send + Sync> = Arc::clone(what) as _;
        self.0.store(Some(Arc::new(Made { of, what: Arc::downgrade(&what) })));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_kept_elsewhere_and_of_that_state_is_found() {
        let cached = Cached::default();
        let made = Arc::new("x".to_owned());
        cached.set(Revision(3), &made);
        assert_eq!(cached.get::<String>(Revision(3)).as_ref(), Some(&made));
        assert_eq!(cached.get::<String>(Revision(4)), None);
        drop(made);
        assert_eq!(cached.get::<String>(Revision(3)), None);
    }
}
