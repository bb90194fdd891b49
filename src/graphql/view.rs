//! What one request reads: one snapshot, as whoever asks sees it, and a note of what the answer depends on.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;

use super::node::{DataPack, Image, Node, Organization, Repository};
use crate::api::Kind;
use crate::auth::Caller;
use crate::error::Error;
use crate::graph::{Record, Revision, Visible, organization_of};
use crate::registry::Reader;
use crate::search::Search;

/// From so many organizations on an answer counts as one that depends on all.
const ORGANIZATIONS: usize = 64;

/// What an answer was read from: it is right for as long as the clocks of these stand still.
#[derive(Debug, Default, Clone)]
pub(super) struct Reads {
    kinds: [bool; Kind::ALL.len()],
    organizations: BTreeSet<Arc<str>>,
    /// Up to which revision a text was searched for, where one was.
    searched: Option<Revision>,
}

/// A clock: what it is of, and where it stood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Clock {
    /// All objects of a kind.
    Kind(Kind, Revision),
    /// All that is in an organization.
    Organization(Arc<str>, Revision),
}

impl Clock {
    /// Whether it still stands there.
    pub(super) fn stands(&self, visible: &Visible) -> bool {
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
    pub(super) fn searched(&self) -> Option<Revision> {
        self.searched
    }

    /// Whether the answer may be another once the search has come further, though nothing else changes.
    pub(super) fn is_provisional(&self, visible: &Visible) -> bool {
        let clocks = || [Kind::Image, Kind::Repository].map(|kind| visible.clock(kind));
        self.searched.is_some_and(|searched| clocks().iter().any(|clock| *clock > searched))
    }

    /// The clocks of what was read, at the snapshot that it was read from.
    pub(super) fn clocks(&self, visible: &Visible) -> Box<[Clock]> {
        let kinds = Kind::ALL.into_iter().filter(|kind| self.kinds[*kind as usize]);
        let kinds = kinds.map(|kind| Clock::Kind(kind, visible.clock(kind)));
        let of = |name: &Arc<str>| Clock::Organization(Arc::clone(name), visible.organization_clock(name));
        kinds.chain(self.organizations.iter().map(of)).collect()
    }
}

/// One snapshot as one caller sees it.
#[derive(Clone)]
pub(super) struct View(Arc<Inner>);

struct Inner {
    reader: Reader,
    caller: Caller,
    reads: Mutex<Reads>,
    search: Option<Arc<Search>>,
    /// What the search has to have come to for a text.
    demanded: Option<Revision>,
}

impl View {
    /// One that finds nothing by a text: of what was written, or is followed.
    pub(super) fn new(reader: Reader, caller: Caller) -> Self {
        Self::with_search(reader, caller, None, None)
    }

    /// One that searches, up to the revision that is demanded at least.
    pub(super) fn with_search(
        reader: Reader,
        caller: Caller,
        search: Option<Arc<Search>>,
        demanded: Option<Revision>,
    ) -> Self {
        Self(Arc::new(Inner { reader, caller, reads: Mutex::default(), search, demanded }))
    }

    /// The search, whether it has come far enough or not.
    pub(super) fn searcher(&self) -> Option<&Search> {
        self.0.search.as_deref()
    }

    /// The search, once it has come as far as is demanded.
    pub(super) async fn search(&self) -> Result<&Search, Error> {
        let none = || Error::Unavailable("this server has no search (--search off): ask without a text".to_owned());
        let search = self.searcher().ok_or_else(none)?;
        if let Some(demanded) = self.0.demanded {
            search.reached(demanded).await?;
        }
        Ok(search)
    }

    /// Notes that a text was searched for, up to this revision.
    pub(super) fn searched_at(&self, revision: Revision) {
        let mut reads = self.0.reads.lock();
        reads.searched = Some(reads.searched.map_or(revision, |before| before.min(revision)));
    }

    pub(super) fn visible(&self) -> &Visible {
        &self.0.reader.visible
    }

    pub(super) fn reader(&self) -> &Reader {
        &self.0.reader
    }

    pub(super) fn caller(&self) -> &Caller {
        &self.0.caller
    }

    /// What has been read so far.
    pub(super) fn reads(&self) -> Reads {
        self.0.reads.lock().clone()
    }

    /// Notes that the answer depends on all objects of a kind.
    pub(super) fn reads_kind(&self, kind: Kind) {
        self.0.reads.lock().kind(kind);
    }

    /// Notes that the answer depends on what is in an organization.
    pub(super) fn reads_organization(&self, name: &str) {
        self.0.reads.lock().organization(name);
    }

    /// The image of this full name.
    pub(super) fn image(&self, name: &str) -> Option<Image> {
        self.reads_organization(organization_of(name));
        Some(self.image_of(self.visible().image(name)?))
    }

    pub(super) fn image_of(&self, record: &Arc<Record>) -> Image {
        Image { view: self.clone(), record: Arc::clone(record) }
    }

    /// The repository of this full name.
    pub(super) fn repository(&self, name: &str) -> Option<Repository> {
        self.reads_organization(organization_of(name));
        Some(self.repository_of(self.visible().repository(name)?))
    }

    pub(super) fn repository_of(&self, record: &Arc<Record>) -> Repository {
        Repository { view: self.clone(), record: Arc::clone(record) }
    }

    /// The organization of this name.
    pub(super) fn organization(&self, name: &str) -> Option<Organization> {
        self.reads_organization(name);
        Some(self.organization_of(self.visible().organization(name)?))
    }

    pub(super) fn organization_of(&self, record: &Arc<Record>) -> Organization {
        Organization { view: self.clone(), record: Arc::clone(record) }
    }

    /// The pack of this name.
    pub(super) fn pack(&self, name: &str) -> Option<DataPack> {
        self.reads_kind(Kind::DataPack);
        Some(self.pack_of(self.visible().get(Kind::DataPack, name)?))
    }

    pub(super) fn pack_of(&self, record: &Arc<Record>) -> DataPack {
        DataPack { view: self.clone(), record: Arc::clone(record) }
    }

    /// What has this global id. What is no id has none.
    pub(super) fn node(&self, id: &str) -> Option<Node> {
        let (kind, name) = id.split_once(':')?;
        match kind {
            "Image" => self.image(name).map(Node::Image),
            "Repository" => self.repository(name).map(Node::Repository),
            "Organization" => self.organization(name).map(Node::Organization),
            "DataPack" => self.pack(name).map(Node::DataPack),
            _ => None,
        }
    }

    /// Whether the caller is named among the managers of an organization.
    pub(super) fn is_manager(&self, organization: &str) -> bool {
        let caller = self.caller();
        let managers = self.visible().organization(organization).and_then(|record| record.organization());
        let me = caller.manager_name();
        caller.is_authenticated() && managers.is_some_and(|of| of.managers.iter().any(|name| **name == *me))
    }

    /// Whether the caller may write what is in an organization, or, not `inside`, the organization itself.
    pub(super) fn can_manage(&self, organization: &str, inside: bool) -> bool {
        let caller = self.caller();
        caller.is_administrator() || (inside && caller.is_publisher()) || self.is_manager(organization)
    }
}
