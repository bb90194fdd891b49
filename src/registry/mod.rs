//! The verbs on resources. Every door and every controller reads and writes through here, so that
//! defaulting, validation, admission, ownership and preconditions exist once.
//!
//! A verb decides on a snapshot and commits against the revision that it decided on. Where another
//! commit came first it decides again, on a snapshot that has that commit.

mod backup;
mod commit;
mod create;
mod delete;
mod derive;
mod known;
mod list;
mod owners;
mod patch;
mod read;
mod refresh;
mod restore;
mod settle;
mod status;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod update;
mod watch;

use std::hash::RandomState;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use jiff::Timestamp;

use crate::api::{FieldValidation, Kind};
use crate::auth::{Attributes, Authorizer, Caller, OrganizationCreators, Verb, authorize};
use crate::clock::SharedClock;
use crate::datapack::Packs;
use crate::error::Error;
use crate::graph::{Digest, Graph, Key, Record, Revision, Sight};
use crate::storage::Storage;

pub use backup::Backup;
pub use create::GENERATED_NAME_TRIES;
pub use delete::{DeleteOptions, Deleted, FINALIZER_FOREGROUND, FINALIZER_ORPHAN, Propagation};
pub use known::{BodyDigest, NamedBySpec};
pub use list::{List, ListOptions, VersionMatch};
pub use patch::{PATCH_OPERATIONS, Patch};
pub use read::Reader;
pub use restore::{RESTORE, RESTORE_ANNOTATION, exported};
pub use watch::{EventType, Watch, WatchItem, WatchOptions, WatchStart};

/// How often a verb decides anew when other commits come first, before it gives up with a 409.
pub const ATTEMPTS: usize = 16;

/// The largest object that is stored, in bytes of its JSON.
pub const OBJECT_LIMIT: usize = 1024 * 1024;

/// What the server may add to an object of that size, in bytes: labels, owners, the mark of a deletion, what was
/// announced. Were it not for this, what is as large as allowed could never be deleted.
const SERVERS_SHARE: usize = 16 * 1024;

/// How long a read waits for a version that isn't reached yet.
pub const VERSION_WAIT: Duration = Duration::from_secs(3);

/// How many groups of names there are, of which writes to one wait for each other.
const STRIPES: usize = 256;

/// How a write is to be done.
#[derive(Debug, Clone, Copy, Default)]
pub struct WriteOptions {
    /// All is checked and the answer given, but nothing is stored.
    pub dry_run: bool,
    /// The whole manifest is applied again, by a client that works out the difference itself: what it leaves
    /// empty of an image's docs, icon, description and keywords stays what it was.
    pub reapplies: bool,
}

/// What a write answers.
#[derive(Debug)]
pub struct Written {
    /// What the writer sees, with the write in it.
    pub reader: Reader,
    /// The object as it is now.
    pub record: Arc<Record>,
    /// Whether the write made it.
    pub created: bool,
    /// What was accepted though it isn't quite right.
    pub warnings: Vec<String>,
}

/// The verbs.
pub struct Registry {
    storage: Arc<dyn Storage>,
    graph: Arc<Graph>,
    packs: Arc<Packs>,
    clock: SharedClock,
    organization_creators: OrganizationCreators,
    authorizer: Authorizer,
    /// Held while an object that claims a `spec.name` is made, so that two in this process don't both find it free.
    claims: Vec<tokio::sync::Mutex<()>>,
    /// Which of them a name has: seeded, so that nobody finds names that wait for each other.
    stripe_of: RandomState,
    known: known::KnownSpecs,
    /// How many Images are not served, since an older one has their `spec.name`.
    not_served: AtomicUsize,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").field("revision", &self.graph.revision()).finish_non_exhaustive()
    }
}

impl Registry {
    /// The verbs on what `storage` has and `graph` shows.
    #[must_use]
    pub fn new(storage: Arc<dyn Storage>, graph: Arc<Graph>, packs: Arc<Packs>, clock: SharedClock) -> Self {
        let claims = (0..STRIPES).map(|_| tokio::sync::Mutex::new(())).collect();
        Self {
            storage,
            graph,
            packs,
            clock,
            organization_creators: OrganizationCreators::default(),
            authorizer: Authorizer::default(),
            claims,
            stripe_of: RandomState::new(),
            known: known::KnownSpecs::default(),
            not_served: AtomicUsize::default(),
        }
    }

    /// Decides whether `caller` may do it, before anything of the request is looked at.
    ///
    /// # Errors
    /// [`Error::Forbidden`].
    pub fn authorize(
        &self,
        caller: &Caller,
        verb: Verb,
        kind: Kind,
        subresource: &str,
        name: &str,
    ) -> Result<(), Error> {
        let attributes = Attributes { subresource, ..Attributes::new(verb, kind, name) };
        authorize(caller, &attributes, &self.graph.visible(caller.sight()), self.organization_creators)
    }

    /// Decides whether `caller` may make an object of this `spec.name`.
    fn authorize_create(&self, caller: &Caller, kind: Kind, spec_name: &str) -> Result<(), Error> {
        let attributes = Attributes { spec_name, ..Attributes::new(Verb::Create, kind, "") };
        authorize(caller, &attributes, &self.graph.visible(caller.sight()), self.organization_creators)
    }

    /// Says who may make an organization.
    #[must_use]
    pub fn with_organization_creators(mut self, creators: OrganizationCreators) -> Self {
        self.organization_creators = creators;
        self
    }

    /// Says who decides, beside the manager rules, who may make what a write makes on the way. What is asked for
    /// itself is decided at the doors.
    #[must_use]
    pub fn with_authorizer(mut self, authorizer: Authorizer) -> Self {
        self.authorizer = authorizer;
        self
    }

    /// What `caller` sees now.
    #[must_use]
    pub fn reader(&self, caller: &Caller) -> Reader {
        self.reader_for(caller.sight())
    }

    /// What watchers are told of the computed status of `draft` once it is stored, so that its own event
    /// is the announcement, too.
    fn announcement(&self, draft: &Record) -> Option<Digest> {
        // A repository that becomes public shows its tags only when it is stored.
        let public = draft.repository().is_some_and(|repository| !repository.private);
        self.reader_for(if public { Sight::Everything } else { Sight::Public }).digest(draft)
    }

    fn reader_for(&self, sight: Sight) -> Reader {
        Reader::new(self.graph.visible(sight), Arc::clone(&self.packs))
    }

    /// The graph, for those who wait for changes.
    #[must_use]
    pub fn graph(&self) -> &Arc<Graph> {
        &self.graph
    }

    /// The cache of packs, for its counters.
    #[must_use]
    pub fn packs(&self) -> &Packs {
        &self.packs
    }

    /// How many Images are not served, since an older one has their `spec.name`: after races, and in old data.
    #[must_use]
    pub fn not_served(&self) -> usize {
        self.not_served.load(Ordering::Relaxed)
    }

    /// Notes that so many Images are not served: the controllers look.
    pub fn note_not_served(&self, images: usize) {
        self.not_served.store(images, Ordering::Relaxed);
    }

    /// The clock that the verbs go by.
    #[must_use]
    pub fn clock(&self) -> &SharedClock {
        &self.clock
    }

    /// The store's time: never behind that of a commit.
    #[must_use]
    pub fn store_time_ms(&self) -> i64 {
        self.clock.now().as_millisecond().max(self.graph.visible(Sight::Everything).at_ms())
    }

    /// The object, as `caller` sees it.
    ///
    /// # Errors
    /// [`Error::NotFound`], also for what is hidden; [`Error::ResourceVersionTooLarge`] where `at_least` isn't reached
    /// in time.
    pub async fn get(
        &self,
        caller: &Caller,
        kind: Kind,
        name: &str,
        at_least: Option<Revision>,
    ) -> Result<(Reader, Arc<Record>), Error> {
        self.authorize(caller, Verb::Get, kind, "", name)?;
        if let Some(revision) = at_least {
            self.wait_for(revision).await?;
        }
        let reader = self.reader(caller);
        let record = reader.visible.get(kind, name).cloned().ok_or_else(|| not_found(kind, name))?;
        Ok((reader, record))
    }

    /// Waits until `revision` is reached.
    ///
    /// # Errors
    /// [`Error::ResourceVersionTooLarge`] after [`VERSION_WAIT`].
    pub async fn wait_for(&self, revision: Revision) -> Result<(), Error> {
        if self.graph.revision() >= revision {
            return Ok(());
        }
        let reached = tokio::time::timeout(VERSION_WAIT, self.graph.reached(revision)).await;
        reached.map_err(|_| Error::ResourceVersionTooLarge { asked: revision.0, current: self.graph.revision().0 })
    }

    fn now(&self) -> Timestamp {
        let now = self.clock.now();
        // Kube's times are to the second.
        Timestamp::from_second(now.as_second()).unwrap_or(now)
    }
}

fn not_found(kind: Kind, name: &str) -> Error {
    Error::NotFound { kind, name: name.to_owned() }
}

/// Kube's words for a version that is no longer the object's.
fn modified(key: &Key) -> Error {
    Error::Conflict {
        kind: key.kind,
        name: key.name.to_string(),
        message: "the object has been modified; please apply your changes to the latest version and try again"
            .to_owned(),
    }
}

/// How a request's unknown fields are taken, with the default that kube has.
pub const DEFAULT_VALIDATION: FieldValidation = FieldValidation::Warn;
