//! The storage `kubernetes` keeps the contract of storages, against the real host.

use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use imagehub::clock::{ManualClock, SystemClock};
use imagehub::graph::Record;
use imagehub::storage::kubernetes::{Check, Kubernetes};
use imagehub::storage::{Expect, Key, Revision, Storage, Write};
use jiff::Timestamp;
use parking_lot::Mutex;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::contract::conformance::{self, Subject};
use super::rig::Cluster;
use crate::harness::within;

/// Takes any bytes.
pub fn anything() -> Check {
    Arc::new(|_, _| Ok(()))
}

/// Takes what the graph can decode.
pub fn readable() -> Check {
    Arc::new(|key, value| Record::decode(key.clone(), Revision(1), value).map(|_| ()).map_err(|e| e.to_string()))
}

/// A storage on the system's clock.
pub async fn open(client: kube::Client, check: Check) -> Arc<Kubernetes> {
    let opened = Kubernetes::open(client, check, Arc::new(SystemClock));
    within("the storage opens", opened).await.expect("it opens")
}

/// A write of the image `name`.
pub fn write(name: &str, expect: Expect, value: Option<&[u8]>) -> Write {
    let key = Key::new(imagehub::api::Kind::Image, name);
    Write { key, expect, value: value.map(bytes::Bytes::copy_from_slice) }
}

/// All Records of a cluster, none at first.
struct Place {
    cluster: Arc<Cluster>,
    clock: Arc<ManualClock>,
    opened: Mutex<Option<Arc<Kubernetes>>>,
    begun: Mutex<bool>,
}

impl Place {
    fn of(cluster: &Arc<Cluster>) -> Self {
        let clock = ManualClock::at(Timestamp::from_second(1_700_000_000).unwrap());
        Self { cluster: Arc::clone(cluster), clock, opened: Mutex::default(), begun: Mutex::default() }
    }
}

impl Subject for Place {
    fn open(&self) -> BoxFuture<'_, Arc<dyn Storage>> {
        async {
            if !std::mem::replace(&mut *self.begun.lock(), true) {
                self.cluster.delete_records().await;
            }
            let clock = Arc::clone(&self.clock);
            let opened = Kubernetes::open(self.cluster.client().await, anything(), clock);
            let opened = within("the storage opens", opened).await.unwrap();
            *self.opened.lock() = Some(Arc::clone(&opened));
            opened as Arc<dyn Storage>
        }
        .boxed()
    }

    fn close(&self, storage: Arc<dyn Storage>) -> BoxFuture<'_, ()> {
        async {
            let opened = self.opened.lock().take().unwrap();
            opened.close().await;
            drop(storage);
        }
        .boxed()
    }

    fn compact(&self) -> BoxFuture<'_, ()> {
        // There is no history to be forgotten.
        async {}.boxed()
    }

    fn step_clock(&self, ms: i64) {
        self.clock.step_ms(ms);
    }

    fn has_history(&self) -> bool {
        false
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_keeps_the_contract_and_agrees_with_the_model() {
    const CASES: u32 = 12;
    const OPS: usize = 40;
    let cluster = Cluster::shared().await;
    cluster.install_records().await;
    conformance::run(|| Place::of(&cluster)).await;
    let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let runtime = tokio::runtime::Handle::current();
    let result = tokio::task::block_in_place(|| {
        runner.run(&conformance::ops(OPS), |ops| {
            runtime.block_on(conformance::agrees_with_the_model(&Place::of(&cluster), &ops));
            Ok(())
        })
    });
    result.unwrap();
}
