//! The contract of a storage, `src/storage/conformance.rs`, as this binary compiles it for itself: the library has it
//! for its own tests only.

pub use imagehub::api::Kind;
pub use imagehub::storage::*;

#[path = "../../../src/storage/conformance.rs"]
pub mod conformance;
