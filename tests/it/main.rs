//! The end-to-end tests: the built binary, driven from outside by kubectl and by an HTTP client. One
//! test binary, so that it links once; [`harness`] starts servers and speaks to them.

#![expect(
    clippy::needless_pass_by_value,
    reason = "manifests and command lines are written where they are handed over"
)]

mod abuse;
mod access;
mod browser;
mod clock;
mod cluster;
mod contract;
mod documents;
mod doors;
mod graphql;
mod harness;
mod history;
mod kubectl;
mod layers;
mod manifests;
mod oidc;
mod operation;
mod pack;
mod rest;
mod settings;
mod sight;
mod transfer;
mod week;
