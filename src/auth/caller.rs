//! Who asks.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, LazyLock};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::clock::SharedClock;
use crate::graph::Sight;

/// Kube's group of administrators.
pub const MASTERS: &str = "system:masters";
/// The group of everybody who has shown who they are.
pub const AUTHENTICATED: &str = "system:authenticated";
/// The group of everybody who has not.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// The user of those who have not.
pub const ANONYMOUS: &str = "system:anonymous";

/// kube-controller-manager's user, where it does not use a service account for each controller. Its garbage
/// collector deletes what has an owner that it cannot see.
const CONTROLLER_MANAGER: &str = "system:kube-controller-manager";
/// The group of kube-system's service accounts.
const KUBE_SYSTEM: &str = "system:serviceaccounts:kube-system";
/// What begins the user names of service accounts, before `NAMESPACE:NAME`.
pub(super) const SERVICE_ACCOUNT: &str = "system:serviceaccount:";

/// Whoever makes a request.
#[derive(Clone)]
pub struct Caller {
    user: Arc<str>,
    groups: Arc<[String]>,
    /// What a cluster says beside, for its own reviews.
    told: Option<Arc<Told>>,
    manager: Arc<str>,
    rank: Rank,
    /// Whether the cluster lets it see what is private.
    views_private: bool,
    end: Option<End>,
}

/// What ends credentials, and all that was begun with them.
#[derive(Clone)]
enum End {
    /// They are taken back: it is cancelled then.
    Revoked(CancellationToken),
    /// Their time is over.
    Expires(Timestamp, SharedClock),
}

impl End {
    const TAKEN_BACK: &str = "the token was taken back";
    const EXPIRED: &str = "the token has expired";
}

/// What is said of a caller beside its name and its groups.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    uid: Option<String>,
    extra: BTreeMap<String, Vec<String>>,
}

/// How far the manager rules concern a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rank {
    /// They do.
    User,
    /// It writes every image and repository: a service account of the server's own namespace.
    Publisher,
    /// They don't, nor do the limits of sight.
    Administrator,
}

/// The namespaces whose service accounts have a part of their own.
#[derive(Debug, Clone)]
pub struct Namespaces {
    /// The server's own: its accounts write every image and repository.
    pub own: String,
    /// The users': their accounts are named in `manager` lists by their name alone.
    pub users: String,
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller").field("user", &self.user).field("groups", &self.groups).finish_non_exhaustive()
    }
}

impl PartialEq for Caller {
    /// Whether both are the same user in the same groups, however they have shown it.
    fn eq(&self, other: &Self) -> bool {
        (&self.user, &self.groups) == (&other.user, &other.groups)
    }
}

impl Eq for Caller {}

/// A cluster's words for whoever makes a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) user: String,
    pub(super) uid: Option<String>,
    pub(super) groups: Vec<String>,
    pub(super) extra: BTreeMap<String, Vec<String>>,
}

impl Caller {
    /// Somebody who has shown that they are `user`, a member of `groups`.
    #[must_use]
    pub fn authenticated(user: &str, groups: impl IntoIterator<Item = String>) -> Self {
        let manager = if user.contains(':') { format!("user:{user}").into() } else { user.into() };
        Self::new(user, groups.into_iter().collect(), manager)
    }

    fn new(user: &str, mut groups: Vec<String>, manager: Arc<str>) -> Self {
        // As kube has it: whoever is known is in this group, whether the front proxy says so or not.
        if !groups.iter().any(|group| group == AUTHENTICATED || group == UNAUTHENTICATED) {
            groups.push(AUTHENTICATED.to_owned());
        }
        let administrator = user == CONTROLLER_MANAGER || groups.iter().any(|g| g == MASTERS || g == KUBE_SYSTEM);
        let rank = if administrator { Rank::Administrator } else { Rank::User };
        Self { user: user.into(), groups: groups.into(), told: None, manager, rank, views_private: false, end: None }
    }

    /// Somebody whom a cluster names.
    pub(super) fn in_cluster(named: Named, namespaces: &Namespaces) -> Self {
        let Named { user, uid, groups, extra } = named;
        if user == ANONYMOUS {
            return Self::anonymous();
        }
        let account = user.strip_prefix(SERVICE_ACCOUNT).and_then(|account| account.split_once(':'));
        let manager = match account {
            Some((namespace, name)) if namespace == namespaces.users => name.into(),
            _ => format!("user:{user}").into(),
        };
        let publishes = account.is_some_and(|(namespace, _)| namespace == namespaces.own);
        let mut caller = Self::new(&user, groups, manager);
        if publishes && caller.rank == Rank::User {
            caller.rank = Rank::Publisher;
        }
        if uid.is_some() || !extra.is_empty() {
            caller.told = Some(Arc::new(Told { uid, extra }));
        }
        caller
    }

    /// The same for credentials that can be taken back: `revoked` is cancelled then.
    #[must_use]
    pub fn until(mut self, revoked: CancellationToken) -> Self {
        self.end = Some(End::Revoked(revoked));
        self
    }

    /// The same for credentials that are good until `expires`.
    pub(super) fn expiring(mut self, expires: Timestamp, clock: SharedClock) -> Self {
        self.end = Some(End::Expires(expires, clock));
        self
    }

    /// The same, who sees what is private.
    pub(super) fn viewing_private(mut self) -> Self {
        self.views_private = true;
        self
    }

    /// Somebody who has shown nothing.
    #[must_use]
    pub fn anonymous() -> Self {
        static NOBODY: LazyLock<Caller> =
            LazyLock::new(|| Caller::new(ANONYMOUS, vec![UNAUTHENTICATED.to_owned()], ANONYMOUS.into()));
        NOBODY.clone()
    }

    /// The server's own controllers and its start-up.
    #[must_use]
    pub fn system() -> Self {
        Self::authenticated("system:imagehub", [MASTERS.to_owned()])
    }

    /// The full user name.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The groups.
    #[must_use]
    pub fn groups(&self) -> &[String] {
        &self.groups
    }

    /// The uid that the cluster knows it by, if it says so.
    #[must_use]
    pub fn uid(&self) -> Option<&str> {
        self.told.as_ref().and_then(|told| told.uid.as_deref())
    }

    /// What the cluster says of it beside.
    #[must_use]
    pub fn extra(&self) -> &BTreeMap<String, Vec<String>> {
        static NONE: BTreeMap<String, Vec<String>> = BTreeMap::new();
        self.told.as_ref().map_or(&NONE, |told| &told.extra)
    }

    /// Whether the rules and the limits of sight don't apply.
    #[must_use]
    pub fn is_administrator(&self) -> bool {
        self.rank == Rank::Administrator
    }

    /// Whether it is one of those whom kube's authorizers never refuse.
    pub(super) fn is_master(&self) -> bool {
        self.groups.iter().any(|group| group == MASTERS)
    }

    /// Whether it writes every image and repository.
    #[must_use]
    pub fn is_publisher(&self) -> bool {
        self.rank != Rank::User
    }

    /// Whether it is known who it is.
    #[must_use]
    pub fn is_authenticated(&self) -> bool {
        self.groups.iter().any(|group| group == AUTHENTICATED)
    }

    /// What the caller sees of a snapshot.
    #[must_use]
    pub fn sight(&self) -> Sight {
        if self.is_administrator() || self.views_private {
            Sight::Everything
        } else if self.is_authenticated() {
            Sight::Manager(self.manager_name())
        } else {
            Sight::Public
        }
    }

    /// How an organization's `manager` list names the caller: a user of a server on one machine by its name, a
    /// service account of the users' namespace by its name alone, any other by `user:` and its full name.
    #[must_use]
    pub fn manager_name(&self) -> Arc<str> {
        Arc::clone(&self.manager)
    }

    /// Resolves when the credentials are good no longer, and says why. Never for those that have no end.
    pub async fn ended(&self) -> &'static str {
        match &self.end {
            Some(End::Revoked(revoked)) => {
                revoked.cancelled().await;
                End::TAKEN_BACK
            }
            Some(End::Expires(expires, clock)) => {
                clock.reaches(*expires).await;
                End::EXPIRED
            }
            None => std::future::pending().await,
        }
    }

    /// The same as a future that stays; `None` for credentials that have no end.
    #[must_use]
    pub fn end(&self) -> Option<BoxFuture<'static, &'static str>> {
        let caller = self.end.is_some().then(|| self.clone())?;
        Some(async move { caller.ended().await }.boxed())
    }

    /// Why the credentials are good no longer, if so.
    #[must_use]
    pub fn has_ended(&self) -> Option<&'static str> {
        match self.end.as_ref()? {
            End::Revoked(revoked) => revoked.is_cancelled().then_some(End::TAKEN_BACK),
            End::Expires(expires, clock) => (clock.now() >= *expires).then_some(End::EXPIRED),
        }
    }

    /// The same user with other credentials' end: what acts for somebody ends with it.
    pub(super) fn ends_with(mut self, other: &Self) -> Self {
        self.end.clone_from(&other.end);
        self
    }
}
