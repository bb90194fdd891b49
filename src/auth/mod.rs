//! Who asks, and what they may see and do.

mod authenticate;
mod caller;
mod rules;
pub mod users;

pub use authenticate::Authenticator;
pub use caller::{Caller, MASTERS};
pub use rules::{Attributes, OrganizationCreators, Verb, authorize};
