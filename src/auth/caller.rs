//! Who asks.

use std::sync::Arc;

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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    user: Arc<str>,
    groups: Arc<[String]>,
}

impl Caller {
    /// Somebody who has shown that they are `user`, a member of `groups`.
    #[must_use]
    pub fn authenticated(user: &str, groups: impl IntoIterator<Item = String>) -> Self {
        let groups = groups.into_iter().chain([AUTHENTICATED.to_owned()]).collect();
        Self { user: user.into(), groups }
    }

    /// Somebody who has shown nothing.
    #[must_use]
    pub fn anonymous() -> Self {
        Self { user: ANONYMOUS.into(), groups: Arc::new([UNAUTHENTICATED.to_owned()]) }
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
        if self.is_administrator() { Sight::Everything } else { Sight::Public }
    }

    /// How an organization's `manager` list names the caller: a user of a server on one machine by its
    /// name, any other by `user:` and its full name.
    #[must_use]
    pub fn manager_name(&self) -> String {
        if self.user.contains(':') { format!("user:{}", self.user) } else { self.user.to_string() }
    }
}
