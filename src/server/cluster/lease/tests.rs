//! Electors around an API of a Lease in memory. (Against a real kube-apiserver: `tests/`.)

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::*;
use crate::clock::ManualClock;

/// Quick, but no quicker than a machine that is busy with other tests.
const QUICK: Timing = Timing {
    lease: Duration::from_millis(1500),
    deadline: Duration::from_secs(1),
    renew: Duration::from_millis(50),
    retry: Duration::from_millis(20),
    request: Duration::from_millis(400),
};

/// As much of an API server as a Lease needs.
#[derive(Debug, Default)]
struct Host {
    lease: Mutex<Option<Value>>,
    version: Mutex<u64>,
    down: Mutex<bool>,
}

impl Host {
    /// One with a Lease that nobody holds.
    fn new() -> Arc<Self> {
        let host = Arc::new(Self::default());
        host.store(json!({ "metadata": { "name": "imagehub" } }));
        host
    }

    fn store(&self, mut lease: Value) -> Value {
        let mut version = self.version.lock();
        *version += 1;
        lease["metadata"]["resourceVersion"] = version.to_string().into();
        lease["metadata"]["uid"] = "1".into();
        *self.lease.lock() = Some(lease.clone());
        lease
    }

    fn answer(&self, method: &Method, body: &[u8]) -> (u16, Value) {
        let refused = |code: u16, reason: &str| {
            (
                code,
                json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": reason }),
            )
        };
        if *self.down.lock() {
            return refused(500, "InternalError");
        }
        let there = self.lease.lock().clone();
        match (method.as_str(), there) {
            ("GET", Some(there)) => (200, there),
            ("GET" | "PUT", None) => refused(404, "NotFound"),
            ("POST", Some(_)) => refused(409, "AlreadyExists"),
            (_, there) => {
                let sent: Value = serde_json::from_slice(body).unwrap();
                let there = there.map(|there| there["metadata"]["resourceVersion"].clone()).unwrap_or_default();
                if sent["metadata"]["resourceVersion"] == there {
                    (200, self.store(sent))
                } else {
                    refused(409, "Conflict")
                }
            }
        }
    }

    fn client(self: &Arc<Self>) -> kube::Client {
        let host = Arc::clone(self);
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let host = Arc::clone(&host);
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
                let (code, answer) = host.answer(&parts.method, &body);
                let answer = Full::new(Bytes::from(answer.to_string()));
                Ok::<_, Infallible>(Response::builder().status(code).body(answer).unwrap())
            }
        });
        kube::Client::new(service, "imagehub-system")
    }

    fn holder(&self) -> Option<String> {
        Some(self.lease.lock().as_ref()?["spec"]["holderIdentity"].as_str()?.to_owned())
    }
}

struct Replica {
    roles: watch::Receiver<Role>,
    release: CancellationToken,
    end: CancellationToken,
    task: JoinHandle<()>,
}

impl Replica {
    fn start<F>(host: &Arc<Host>, name: &str, prepare: impl Fn(Term) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        let me = Identity { name: name.to_owned(), address: format!("{name}:8443") };
        let clock = ManualClock::at("2025-03-01T00:00:00Z".parse().unwrap());
        let (elector, roles) = Elector::with_timing(host.client(), "imagehub-system", "imagehub", me, clock, QUICK);
        let (release, end) = (CancellationToken::new(), CancellationToken::new());
        let task = tokio::spawn(elector.run(prepare, release.clone(), end.clone()));
        Self { roles, release, end, task }
    }

    fn ready(host: &Arc<Host>, name: &str) -> Self {
        Self::start(host, name, |_| async { Ok(()) })
    }

    async fn active(&mut self) -> Term {
        let role = self.roles.wait_for(|role| matches!(role, Role::Active(term) if term.holds())).await.unwrap();
        match &*role {
            Role::Active(term) => term.clone(),
            Role::Standby { .. } => unreachable!(),
        }
    }

    /// Whom it passes requests on to.
    async fn passes_to(&mut self, address: &str) {
        let named = |role: &Role| matches!(role, Role::Standby { active: Some(peer) } if peer.address == address);
        self.roles.wait_for(named).await.unwrap();
    }

    async fn idle(&mut self) {
        self.roles.wait_for(|role| matches!(role, Role::Standby { .. })).await.unwrap();
    }
}

#[tokio::test]
async fn one_is_active_and_the_others_know_where() {
    let host = Host::new();
    let mut a = Replica::ready(&host, "a");
    let term = a.active().await;
    let mut b = Replica::ready(&host, "b");
    b.passes_to("a:8443").await;
    assert!(host.holder().unwrap().starts_with("a_"));
    assert!(term.holds());
}

#[tokio::test]
async fn a_term_that_is_given_up_finishes_its_requests_and_another_takes_over_at_once() {
    let host = Host::new();
    let mut a = Replica::ready(&host, "a");
    let term = a.active().await;
    let mut b = Replica::ready(&host, "b");
    b.passes_to("a:8443").await;
    let request = term.enter().unwrap();
    a.release.cancel();
    a.idle().await;
    term.closing().await;
    assert!(term.holds(), "the request that has begun is acknowledged");
    assert!(host.holder().unwrap().starts_with("a_"));
    drop(request);
    b.active().await;
    assert!(!term.holds());
    a.passes_to("b:8443").await;
}

#[tokio::test]
async fn a_replica_is_not_active_before_it_has_prepared() {
    let host = Host::new();
    let go = Arc::new(Notify::new());
    let mut a = Replica::start(&host, "a", {
        let go = Arc::clone(&go);
        move |_| {
            let go = Arc::clone(&go);
            async move {
                go.notified().await;
                Ok(())
            }
        }
    });
    let mut b = Replica::ready(&host, "b");
    // Whichever of them holds it first: b has nothing to wait for.
    if tokio::time::timeout(QUICK.deadline, b.active()).await.is_err() {
        assert!(host.holder().unwrap().starts_with("a_"), "and it is renewed meanwhile");
        assert!(matches!(*a.roles.borrow(), Role::Standby { active: None }));
        go.notify_one();
        a.active().await;
    }
}

#[tokio::test]
async fn one_that_cannot_prepare_leaves_it_to_another() {
    let host = Host::new();
    let failed = Arc::new(Notify::new());
    let _a = Replica::start(&host, "a", {
        let failed = Arc::clone(&failed);
        move |_| {
            failed.notify_one();
            async { Err("the storage is not there".to_owned()) }
        }
    });
    failed.notified().await;
    let mut b = Replica::ready(&host, "b");
    b.active().await;
}

#[tokio::test]
async fn without_an_answer_a_term_ends_at_its_deadline_and_a_new_one_begins_with_one() {
    let host = Host::new();
    let mut a = Replica::ready(&host, "a");
    let term = a.active().await;
    *host.down.lock() = true;
    term.over().await;
    assert!(!term.holds());
    a.idle().await;
    *host.down.lock() = false;
    assert!(a.active().await != term);
}

#[tokio::test]
async fn a_lease_that_another_holds_after_all_ends_the_term() {
    let host = Host::new();
    let mut a = Replica::ready(&host, "a");
    let term = a.active().await;
    host.store(json!({
        "metadata": { "name": "imagehub", "annotations": { ADDRESS: "c:8443" } },
        "spec": { "holderIdentity": "c_1" },
    }));
    term.over().await;
    a.passes_to("c:8443").await;
    // c never renews it.
    a.active().await;
}

#[tokio::test]
async fn the_end_gives_it_back() {
    let host = Host::new();
    let mut a = Replica::ready(&host, "a");
    let term = a.active().await;
    a.end.cancel();
    a.task.await.unwrap();
    assert!(!term.holds());
    assert_eq!(host.holder(), None);
}

#[tokio::test]
async fn one_that_is_told_to_stop_takes_it_no_more() {
    let host = Host::new();
    let mut a = Replica::ready(&host, "a");
    a.active().await;
    a.release.cancel();
    let mut b = Replica::ready(&host, "b");
    b.active().await;
    b.end.cancel();
    b.task.await.unwrap();
    a.roles.wait_for(|role| *role == Role::Standby { active: None }).await.unwrap();
    tokio::time::sleep(QUICK.retry * 5).await;
    assert_eq!(host.holder(), None);
    a.end.cancel();
    a.task.await.unwrap();
}
