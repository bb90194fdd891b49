//! Tests against a real control plane: [`rig::Cluster`] starts etcd, kube-apiserver and kube-controller-manager of
//! `tests/cluster` on loopback, and kills, freezes and cuts off each part. No mock stands in for any of them.

mod contract;
mod damage;
mod outage;
pub mod part;
pub mod pki;
pub mod proxy;
pub mod rig;
mod storage;
