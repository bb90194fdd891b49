//! What one request reads: one snapshot, as whoever asks sees it, and a note of what the answer depends on.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;

use super::work::Work;
use crate::api::Kind;
use crate::auth::Caller;
use crate::error::Error;
use crate::graph::{Record, Revision, Visible, organization_of};
use crate::model::Fault;
use crate::registry::Reader;
use crate::search::Search;

/// From so many organizations on an answer counts as one that depends on all.
const ORGANIZATIONS: usize = 64;

/// What an answer was read from: it is right for as long as the clocks of these stand still.
#[derive(Debug, Default, Clone)]
pub struct Reads {
    kinds: [bool; Kind::ALL.len()],
    organizations: BTreeSet<Arc<str>>,
    /// Up to which revision a text was searched for, where one was.
    searched: Option<Revision>,
}

/// A clock: what it is of, and where it stood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Clock {
    /// All objects of a kind.
    Kind(Kind, Revision),
    /// All that is in an organization.
    Organization(Arc<str>, Revision),
}

impl Clock {
    /// Whether it still stands there.
    #[must_use]
    pub fn stands(&self, visible: &Visible) -> bool {
        match self {
            Self::Kind(kind, at) => visible.clock(*kind) == *at,
            Self::Organization(name, at) => visible.organization_clock(name) == *at,
        }
    }
}

impl Reads {
    fn kind(&mut self, kind: Kind) {
        self.kinds[kind as usize] = true;
    }

    fn organization(&mut self, name: &str) {
        let catalogue = [Kind::Image, Kind::Repository, Kind::Organization];
        if catalogue.iter().all(|kind| self.kinds[*kind as usize]) || self.organizations.contains(name) {
            return;
        }
        if self.organizations.len() >= ORGANIZATIONS {
            for kind in catalogue {
                self.kind(kind);
            }
            self.organizations.clear();
        } else {
            self.organizations.insert(name.into());
        }
    }

    /// Up to which revision a text was searched for, where one was.
    #[must_use]
    pub fn searched(&self) -> Option<Revision> {
        self.searched
    }

    /// Whether the answer may be another once the search has come further, though nothing else changes.
    #[must_use]
    pub fn is_provisional(&self, visible: &Visible) -> bool {
        let clocks = || [Kind::Image, Kind::Repository].map(|kind| visible.clock(kind));
        self.searched.is_some_and(|searched| clocks().iter().any(|clock| *clock > searched))
    }

    /// The clocks of what was read, at the snapshot that it was read from.
    #[must_use]
    pub fn clocks(&self, visible: &Visible) -> Box<[Clock]> {
        let kinds = Kind::ALL.into_iter().filter(|kind| self.kinds[*kind as usize]);
        let kinds = kinds.map(|kind| Clock::Kind(kind, visible.clock(kind)));
        let of = |name: &Arc<str>| Clock::Organization(Arc::clone(name), visible.organization_clock(name));
        kinds.chain(self.organizations.iter().map(of)).collect()
    }
}

/// One snapshot as one caller sees it.
#[derive(Clone)]
pub struct View(Arc<Inner>);

struct Inner {
    reader: Reader,
    caller: Caller,
    reads: Mutex<Reads>,
    work: Work,
    search: Option<Arc<Search>>,
    /// What the search has to have come to for a text.
    demanded: Option<Revision>,
}

/// What is said where a text is to be searched for and nothing does.
pub(super) fn no_search() -> Error {
    Error::Unavailable("this server has no search (--search off): ask without a text".to_owned())
}

impl View {
    /// What `caller` sees by `reader`. Nothing is found by a text: it is of what was written, or is followed.
    #[must_use]
    pub fn new(reader: Reader, caller: Caller) -> Self {
        Self::with_search(reader, caller, None, None)
    }

    /// The same, with what finds repositories by a text, up to the revision that is demanded at least.
    #[must_use]
    pub fn with_search(
        reader: Reader,
        caller: Caller,
        search: Option<Arc<Search>>,
        demanded: Option<Revision>,
    ) -> Self {
        Self(Arc::new(Inner { reader, caller, reads: Mutex::default(), work: Work::default(), search, demanded }))
    }

    /// Waits until the search has come as far as is demanded.
    ///
    /// # Errors
    /// As [`super::reach_search`].
    pub async fn reach_search(&self) -> Result<(), Error> {
        super::reach_search(self.searcher(), self.0.demanded).await
    }

    /// The search, however far it has come.
    #[must_use]
    pub fn searcher(&self) -> Option<&Search> {
        self.0.search.as_deref()
    }

    /// Notes that a text was searched for, up to this revision.
    pub fn searched_at(&self, revision: Revision) {
        let mut reads = self.0.reads.lock();
        reads.searched = Some(reads.searched.map_or(revision, |before| before.min(revision)));
    }

    /// The snapshot.
    #[must_use]
    pub fn visible(&self) -> &Visible {
        &self.0.reader.visible
    }

    /// The same, with what is computed.
    #[must_use]
    pub fn reader(&self) -> &Reader {
        &self.0.reader
    }

    /// Who asks.
    #[must_use]
    pub fn caller(&self) -> &Caller {
        &self.0.caller
    }

    /// What has been read so far.
    #[must_use]
    pub fn reads(&self) -> Reads {
        self.0.reads.lock().clone()
    }

    /// Notes that the answer depends on all objects of a kind.
    pub fn reads_kind(&self, kind: Kind) {
        self.0.reads.lock().kind(kind);
    }

    /// Notes that the answer depends on what is in an organization.
    pub fn reads_organization(&self, name: &str) {
        self.0.reads.lock().organization(name);
    }

    /// Lets others go first, then counts objects that are about to be looked at.
    ///
    /// # Errors
    /// The request looks at too many ([`super::LOOKS`]); those that look at much wait for too long.
    pub async fn looks_at(&self, count: impl FnOnce() -> usize) -> Result<(), Fault> {
        self.0.work.looks_at(count, self.all()).await
    }

    /// Counts text that is read.
    ///
    /// # Errors
    /// As [`View::looks_at`].
    pub fn reads_text(&self, bytes: usize) -> Result<(), Fault> {
        self.0.work.reads(bytes, self.all())
    }

    /// Counts text that goes into the answer.
    ///
    /// # Errors
    /// It is too much ([`super::TEXT_BYTES`]).
    pub fn tells(&self, bytes: usize) -> Result<(), Fault> {
        self.0.work.tells(bytes)
    }

    /// Does what takes a processor's time, after [`View::looks_at`].
    #[must_use]
    pub fn apart<T>(&self, work: impl FnOnce() -> T) -> T {
        self.0.work.apart(work)
    }

    /// How many objects there are.
    fn all(&self) -> usize {
        Kind::ALL.into_iter().map(|kind| self.visible().stored(kind)).sum()
    }

    /// The image of this full name.
    #[must_use]
    pub fn find_image(&self, name: &str) -> Option<&Arc<Record>> {
        self.reads_organization(organization_of(name));
        self.visible().image(name)
    }

    /// The images of these full names, in their order, looked up together.
    #[must_use]
    pub fn find_images<'a>(&'a self, names: &'a [Arc<str>]) -> Vec<Option<&'a Arc<Record>>> {
        for name in names {
            self.reads_organization(organization_of(name));
        }
        self.visible().images(names).into_iter().map(|named| named.record).collect()
    }

    /// The repository of this full name.
    #[must_use]
    pub fn find_repository(&self, name: &str) -> Option<&Arc<Record>> {
        self.reads_organization(organization_of(name));
        self.visible().repository(name)
    }

    /// The organization of this name.
    #[must_use]
    pub fn find_organization(&self, name: &str) -> Option<&Arc<Record>> {
        self.reads_organization(name);
        self.visible().organization(name)
    }

    /// The pack of this name.
    #[must_use]
    pub fn find_pack(&self, name: &str) -> Option<&Arc<Record>> {
        self.reads_kind(Kind::DataPack);
        self.visible().get(Kind::DataPack, name)
    }

    /// Whether the caller is named among the managers of an organization.
    #[must_use]
    pub fn is_manager(&self, organization: &str) -> bool {
        let caller = self.caller();
        let managers = self.visible().organization(organization).and_then(|record| record.organization());
        let me = caller.manager_name();
        caller.is_authenticated() && managers.is_some_and(|of| of.managers.iter().any(|name| **name == *me))
    }

    /// Whether the caller may write what is in an organization, or, not `inside`, the organization itself.
    #[must_use]
    pub fn can_manage(&self, organization: &str, inside: bool) -> bool {
        let caller = self.caller();
        caller.is_administrator() || (inside && caller.is_publisher()) || self.is_manager(organization)
    }
}
