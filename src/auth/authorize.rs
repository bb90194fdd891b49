//! Whether somebody may do something at all, asked at the doors before the manager rules: in a cluster RBAC says so.

use std::sync::Arc;

use super::caller::Caller;
use super::cluster::Cluster;
use super::rules::Attributes;
use crate::error::Error;

/// The paths that everybody may ask for, known or not: who probes shows no credentials.
const OPEN_PATHS: [&str; 3] = ["/healthz", "/livez", "/readyz"];

/// Who decides, beside the manager rules.
#[derive(Debug, Clone, Default)]
pub enum Authorizer {
    /// Nobody: a server on one machine has only the manager rules.
    #[default]
    Rules,
    /// The cluster.
    Cluster(Arc<Cluster>),
}

impl Authorizer {
    /// Whether `caller` may do it. What asks the cluster is boxed: on one machine requests needn't have the room for it.
    ///
    /// # Errors
    /// [`Error::Forbidden`], in RBAC's words; [`Error::Unavailable`] where the cluster doesn't answer.
    pub async fn authorize(&self, caller: &Caller, attributes: &Attributes<'_>) -> Result<(), Error> {
        match self {
            Self::Rules => Ok(()),
            Self::Cluster(cluster) => Box::pin(cluster.authorize(caller, attributes)).await,
        }
    }

    /// Whether `caller` may ask for a path that is no resource, with an HTTP method.
    ///
    /// # Errors
    /// As [`authorize`](Self::authorize).
    pub async fn authorize_path(&self, caller: &Caller, method: &http::Method, path: &str) -> Result<(), Error> {
        match self {
            Self::Cluster(cluster) if !OPEN_PATHS.contains(&path) => {
                Box::pin(cluster.authorize_path(caller, &method.as_str().to_ascii_lowercase(), path)).await
            }
            _ => Ok(()),
        }
    }
}
