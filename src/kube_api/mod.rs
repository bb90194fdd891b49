//! The Kubernetes wire: discovery, OpenAPI, negotiation, tables, watch streams, Status.

pub mod discovery;
pub mod openapi;
