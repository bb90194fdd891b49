//! Several servers that are one: which of them is active, and what the others do with requests.

pub mod forward;
pub mod lease;
