//! The rows of the table, by what they need.

pub mod gateway;
pub mod import;
pub mod inside;
pub mod reads;
pub mod search;
pub mod start;
pub mod watchers;
pub mod writes;
