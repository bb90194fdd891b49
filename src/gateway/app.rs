//! What the doors stand on.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::kept::Answers;
use super::quota::Quota;
use super::rate::Rates;
use super::request::Origins;
use crate::auth::{Authenticator, Authorizer};
use crate::registry::Registry;
use crate::relay::Relay;
use crate::search::Search;

/// What a door needs, whatever its form.
#[derive(Debug, Clone)]
pub struct App {
    /// The verbs.
    pub registry: Arc<Registry>,
    /// Who asks.
    pub authenticator: Authenticator,
    /// Who may, beside the rules of the registry.
    pub authorizer: Authorizer,
    /// What finds repositories by text; `None`: nothing does.
    pub search: Option<Arc<Search>>,
    /// Whether those who have shown nothing may read what is public.
    pub anonymous: bool,
    /// How many requests each client may still make.
    pub rates: Arc<Rates>,
    /// What those who have not signed in may still leave behind.
    pub quota: Arc<Quota>,
    /// The pages of other sites that may ask.
    pub origins: Origins,
    /// Who answers what is written, where there are several servers; `None`: this one.
    pub relay: Option<Arc<dyn Relay>>,
    /// The answers that are kept.
    pub answers: Answers,
    /// Ends the streams.
    pub stop: CancellationToken,
}
