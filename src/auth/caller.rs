//! Who asks.

use std::fmt;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::graph::Sight;

/// Kube's group of administrators.
pub const MASTERS: &str = "system:masters";
/// The group of everybody who has shown who they are.
pub const AUTHENTICATED: &str = "system:authenticated";
/// The group of everybody who has not.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// The user of those who have not.
pub const ANONYMOUS: &str = "system:anonymous";

/// Whoever makes a request.
#[derive(Clone)]
pub struct Caller {
    user: Arc<str>,
    groups: Arc<[String]>,
    revoked: Option<CancellationToken>,
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

impl Caller {
    /// Somebody who has shown that they are `user`, a member of `groups`.
    #[must_use]
    pub fn authenticated(user: &str, groups: impl IntoIterator<Item = String>) -> Self {
        let groups = groups.into_iter().chain([AUTHENTICATED.to_owned()]).collect();
        Self { user: user.into(), groups, revoked: None }
    }

    /// The same for credentials that can be taken back: `revoked` is cancelled then.
    #[must_use]
    pub fn until(mut self, revoked: CancellationToken) -> Self {
        self.revoked = Some(revoked);
        self
    }

    /// Somebody who has shown nothing.
    #[must_use]
    pub fn anonymous() -> Self {
        Self { user: ANONYMOUS.into(), groups: Arc::new([UNAUTHENTICATED.to_owned()]), revoked: None }
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

    /// Whether the rules and the limits of sight don't apply.
    #[must_use]
    pub fn is_administrator(&self) -> bool {
        self.groups.iter().any(|group| group == MASTERS)
    }

    /// Whether it is known who it is.
    #[must_use]
    pub fn is_authenticated(&self) -> bool {
        self.groups.iter().any(|group| group == AUTHENTICATED)
    }

    /// What the caller sees of a snapshot.
    #[must_use]
    pub fn sight(&self) -> Sight {
        if self.is_administrator() {
            Sight::Everything
        } else if self.is_authenticated() {
            Sight::Manager(self.manager_name())
        } else {
            Sight::Public
        }
    }

    /// How an organization's `manager` list names the caller: a user of a server on one machine by its
    /// name, any other by `user:` and its full name.
    #[must_use]
    pub fn manager_name(&self) -> Arc<str> {
        if self.user.contains(':') { format!("user:{}", self.user).into() } else { Arc::clone(&self.user) }
    }

    /// Resolves when the credentials are taken back; never for those that can't be.
    pub async fn revoked(&self) {
        match &self.revoked {
            Some(revoked) => revoked.cancelled().await,
            None => std::future::pending().await,
        }
    }

    /// Whether the credentials have been taken back.
    #[must_use]
    pub fn is_revoked(&self) -> bool {
        self.revoked.as_ref().is_some_and(CancellationToken::is_cancelled)
    }

    /// The same user with other credentials' end: what acts for somebody ends with it.
    pub(super) fn ends_with(mut self, other: &Self) -> Self {
        self.revoked.clone_from(&other.revoked);
        self
    }
}
