//! Tests against a real control plane: [`rig::Cluster`] starts etcd, kube-apiserver and kube-controller-manager of
//! `tests/cluster` on loopback, and kills, freezes and cuts off each part. No mock stands in for any of them.

mod aggregated;
mod callers;
mod contract;
mod damage;
pub mod installed;
mod moves;
mod outage;
pub mod part;
mod performance;
pub mod pki;
pub mod proxy;
mod replicas;
mod restarts;
pub mod rig;
mod rolling;
mod rotation;
mod single;
mod storage;
