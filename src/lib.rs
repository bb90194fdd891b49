//! imagehub: the `imagehub.sealos.io/v1` catalogue as an aggregated Kubernetes API server.
//!
//! The layers, from the bottom up: [`api`] (pure types and rules), [`storage`] (keys, whole objects,
//! revisions), [`graph`] (the catalogue in memory as immutable snapshots), [`model`] (clean
//! names), [`search`] (repositories by text), [`datapack`] (computed answers), [`registry`] (the verbs;
//! the one write path), [`controller`] (what keeps the kinds in step), [`auth`] (who asks), [`relay`]
//! (which of several servers answers), [`gateway`] (what the doors under clean names share), [`graphql`], [`rest`]
//! and [`kube_api`] (the doors) and [`server`] (listeners). Each knows only those under it;
//! `tests/it/layers.rs` keeps it so. See `docs/architecture.md`.

pub mod api;
pub mod auth;
pub mod cli;
pub mod clock;
pub mod controller;
pub mod datapack;
pub mod error;
pub mod gateway;
pub mod graph;
pub mod graphql;
pub mod kube_api;
pub mod model;
pub mod registry;
pub mod relay;
pub mod rest;
pub mod search;
pub mod server;
pub mod storage;
