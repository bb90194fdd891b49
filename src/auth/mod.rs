//! Who asks, and what they may see and do.

mod caller;
mod rules;

pub use caller::Caller;
pub use rules::{Attributes, Verb, authorize};
