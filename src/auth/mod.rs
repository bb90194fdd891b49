//! Who asks, and what they may see and do.

mod authenticate;
mod authorize;
mod caller;
mod certificate;
mod cluster;
mod oidc;
mod rules;
pub mod users;

pub use authenticate::Authenticator;
pub use authorize::Authorizer;
pub use caller::{Caller, MASTERS, Namespaces};
pub use certificate::{AskForCertificate, Authorities, Peer};
pub use cluster::{
    ANSWERS_KEPT, CONFIG_MAP, CONFIG_MAP_NAMESPACE, Cluster, REMOTE_EXTRA, REMOTE_GROUP, REMOTE_UID, REMOTE_USER,
    REPLICA, VIEW_PRIVATE,
};
pub use oidc::{KeysError, Oidc, OidcConfig};
pub use rules::{Attributes, OrganizationCreators, Verb, authorize};
