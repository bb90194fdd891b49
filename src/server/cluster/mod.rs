//! Several servers that are one: which of them is active, and what the others do with requests.

pub mod api_service;
pub mod certificates;
pub mod roles;

#[cfg(test)]
mod in_cluster;
