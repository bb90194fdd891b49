//! Who asks, and what they may see and do.

mod authenticate;
mod caller;
mod rules;

pub use authenticate::authenticate;
pub use caller::{Caller, MASTERS};
pub use rules::{Attributes, Verb, authorize};
