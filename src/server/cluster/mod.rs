//! Several servers that are one, in a cluster: what it gives them, which of them is active, and what the others do
//! with requests.

pub mod api_service;
pub mod certificates;
pub mod forward;
mod home;
#[cfg(test)]
mod in_cluster;
pub mod lease;
pub mod roles;

pub(super) use home::Member;
pub use home::{InCluster, Keeps};
