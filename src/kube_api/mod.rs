//! The Kubernetes wire: discovery, OpenAPI, negotiation, tables, watch streams, Status.

mod body;
pub mod discovery;
mod negotiate;
pub mod openapi;
mod params;
mod relay;
mod resource;
mod respond;
mod router;
mod table;
mod transfer;
mod watch;
mod websocket;

#[cfg(test)]
mod tests;

pub use body::BODY_LIMIT;
pub use resource::Labels;
pub use router::{App, router};
pub use transfer::{BACKUP, EXPORT, REVISION};
