//! The controllers over a whole registry in memory. `settle` does all that is to be done and returns.

mod announce;
mod cascade;
mod expiry;
