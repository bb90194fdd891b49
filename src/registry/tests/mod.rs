//! The verbs, over a real storage in memory.

mod cache;
mod create;
mod delete;
mod list;
mod owners;
mod shared;
mod sight;
mod update;
mod watch;
