//! Against a real kube-apiserver that has `deploy/base`, with the rights of the ServiceAccount in it:
//! `IMAGEHUB_CLUSTER_KUBECONFIG=an administrator's cargo test --lib in_cluster -- --ignored --test-threads 1`.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::api::{Api, DeleteParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};

use super::api_service::{self, ApiServices};
use super::certificates::{Lifetimes, ReplicaCertificates, SECRET, Settings};
use super::roles;
use crate::api::Kind;
use crate::auth::Namespaces;
use crate::clock::ManualClock;
use crate::registry::testing::Hub;

/// How long the cluster may take for anything.
const PATIENCE: Duration = Duration::from_secs(20);
const NAMESPACE: &str = "imagehub-system";

/// A client of the cluster; as `user`, where there is one.
async fn client(user: Option<&str>) -> kube::Client {
    let path = std::env::var("IMAGEHUB_CLUSTER_KUBECONFIG").expect("IMAGEHUB_CLUSTER_KUBECONFIG names a kubeconfig");
    let kubeconfig = Kubeconfig::read_from(path).unwrap();
    let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    config.auth_info.impersonate = user.map(str::to_owned);
    kube::Client::try_from(config).unwrap()
}

async fn server() -> kube::Client {
    client(Some("system:serviceaccount:imagehub-system:imagehub")).await
}

/// Looks until there is an answer.
async fn eventually<T>(what: &str, look: impl AsyncFn() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn replicas_share_their_cas_and_keep_the_api_service_current() {
    let (admin, server) = (client(None).await, server().await);
    let secrets: Api<Secret> = Api::namespaced(admin.clone(), NAMESPACE);
    let api_services: Api<APIService> = Api::all(admin);
    let _ = secrets.delete(SECRET, &DeleteParams::default()).await;
    let clock = ManualClock::at(Timestamp::now());
    let lifetimes = Lifetimes {
        ca: Duration::from_hours(24 * 40),
        renew_ca_before: Duration::from_hours(24 * 20),
        leaf: Duration::from_hours(24 * 6),
        renew_leaf_before: Duration::from_hours(24 * 2),
        settle: Duration::from_hours(1),
    };
    let open = || {
        let settings = Settings {
            namespace: NAMESPACE.to_owned(),
            service: "imagehub".to_owned(),
            address: None,
            mounted: None,
            lifetimes,
        };
        ReplicaCertificates::open(server.clone(), settings, clock.clone())
    };
    let published = async || {
        let found = api_services.get(api_service::NAME).await.unwrap();
        let bundle = found.spec.unwrap().ca_bundle.map(|bundle| String::from_utf8(bundle.0).unwrap());
        let revision: i64 = found.metadata.annotations.unwrap()[api_service::REVISION].parse().unwrap();
        (bundle.unwrap_or_default(), revision)
    };
    let kept = async || {
        let found = secrets.get(SECRET).await.unwrap();
        String::from_utf8(found.data.unwrap()["ca.crt"].0.clone()).unwrap()
    };

    // Both at once: one CA.
    let (first, second) = tokio::join!(open(), open());
    let (first, second) = (first.unwrap(), second.unwrap());
    for replica in [&first, &second] {
        replica.look(|| {}).await.unwrap();
    }
    assert_eq!(published().await.0, kept().await);
    assert_eq!(kept().await.matches("BEGIN CERTIFICATE").count(), 1);

    // 20 rotations, the replicas taking turns.
    let (mut seen, mut last) = (std::collections::BTreeSet::from([kept().await]), published().await.1);
    for step in 0.. {
        assert!(step < 2000, "{} rotations only", seen.len());
        clock.step_ms(24 * 3600 * 1000);
        let (now, before) = if step % 2 == 0 { (&first, &second) } else { (&second, &first) };
        now.look(|| {}).await.unwrap();
        let (bundle, revision) = published().await;
        assert_eq!(bundle, kept().await);
        assert!(revision >= last, "{revision} after {last}");
        last = revision;
        if bundle.matches("BEGIN CERTIFICATE").count() == 1 && seen.insert(bundle) && seen.len() > 20 {
            before.look(|| {}).await.unwrap();
            break;
        }
    }

    // What another does to the APIService is put right; what is older than it is not written.
    let erase = json!({ "spec": { "caBundle": null } });
    api_services.patch(api_service::NAME, &PatchParams::default(), &Patch::Merge(erase)).await.unwrap();
    assert_eq!(published().await.0, "");
    second.look(|| {}).await.unwrap();
    assert_eq!(published().await, (kept().await, last));
    let old = ApiServices::new(server.clone(), NAMESPACE, "imagehub");
    let read = old.read().await.unwrap();
    assert_eq!(old.publish(&read, last - 1, "old").await, Ok(false));
    old.publish(&read, last + 1, &kept().await).await.unwrap();
    let refused = old.publish(&read, last + 2, "changed since it was read").await.unwrap_err();
    assert!(refused.contains("has been modified"), "{refused}");
    assert_eq!(published().await, (kept().await, last + 1));

    // A Secret that is lost is made anew, and its CA takes the place of the one that is gone.
    secrets.delete(SECRET, &DeleteParams::default()).await.unwrap();
    first.look(|| {}).await.unwrap();
    second.look(|| {}).await.unwrap();
    let (bundle, revision) = published().await;
    assert_eq!(bundle, kept().await);
    assert!(revision > last + 1, "{revision} after {last}");

    // Nonsense in it is said, and what is in use stays.
    let nonsense = json!({ "stringData": { "authorities.json": "{}" } });
    secrets.patch(SECRET, &PatchParams::default(), &Patch::Merge(nonsense)).await.unwrap();
    let said = first.look(|| {}).await.unwrap_err();
    assert!(said.contains("delete the Secret"), "{said}");
    first.authorities().unwrap();
    secrets.delete(SECRET, &DeleteParams::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn an_organizations_managers_have_their_role_for_as_long_as_it_is_there() {
    let (admin, server) = (client(None).await, server().await);
    let all_roles: Api<ClusterRole> = Api::all(admin.clone());
    let all_bindings: Api<ClusterRoleBinding> = Api::all(admin);
    let (role, binding) = ("OrgManagerClusterRole-acme", "OrgManagerClusterRoleBinding-acme");
    let foreign = "OrgManagerClusterRole-foreign";
    for name in [role, foreign, "OrgManagerClusterRole-gone"] {
        let _ = all_roles.delete(name, &DeleteParams::default()).await;
    }
    let _ = all_bindings.delete(binding, &DeleteParams::default()).await;
    let metadata = |name: &str, labels| ObjectMeta { name: Some(name.to_owned()), labels, ..ObjectMeta::default() };
    let ours = std::collections::BTreeMap::from([(roles::MANAGED_BY.0.to_owned(), roles::MANAGED_BY.1.to_owned())]);
    for (name, labels) in [(foreign, None), ("OrgManagerClusterRole-gone", Some(ours))] {
        let made = ClusterRole { metadata: metadata(name, labels), ..ClusterRole::default() };
        all_roles.create(&PostParams::default(), &made).await.unwrap();
    }

    let hub = Hub::open().await;
    let organization = |name: &str| {
        json!({ "apiVersion": "imagehub.sealos.io/v1", "kind": "Organization", "metadata": { "name": name },
            "spec": { "name": name, "manager": ["alice", "user:bob"] } })
    };
    hub.create(organization("acme")).await;
    hub.create(organization("foreign")).await;
    let namespaces = Namespaces { own: NAMESPACE.to_owned(), users: "user-system".to_owned() };
    let running = tokio::spawn(roles::run(server, Arc::clone(&hub.registry), namespaces));

    let subjects = async || -> Option<Vec<String>> {
        let found = all_bindings.get_opt(binding).await.unwrap()?;
        Some(found.subjects.unwrap_or_default().into_iter().map(|subject| subject.name).collect())
    };
    let has = async |wanted: &[&str]| {
        let at_first = subjects().await?;
        wanted.iter().all(|name| at_first.iter().any(|subject| subject == name)).then_some(at_first.len())
    };
    eventually("made", async || has(&["alice", "bob"]).await).await;
    let rules = async || serde_json::to_value(all_roles.get_opt(role).await.unwrap()?.rules).ok();
    let right = rules().await.unwrap();
    assert_eq!(right[0]["resourceNames"], json!(["acme"]));

    // With the organization.
    let change = json!({ "spec": { "manager": ["alice", "user:carol"] } });
    hub.merge(Kind::Organization, "acme", change).await.unwrap();
    eventually("changed", async || has(&["carol"]).await).await;
    assert!(!subjects().await.unwrap().contains(&"bob".to_owned()));

    // Edited and deleted by others.
    let edit = |patch: Value| async { all_roles.patch(role, &PatchParams::default(), &Patch::Merge(patch)).await };
    edit(json!({ "rules": [] })).await.unwrap();
    eventually("repaired", async || rules().await.filter(|found| *found == right)).await;
    all_roles.delete(role, &DeleteParams::default()).await.unwrap();
    eventually("made again", async || rules().await.filter(|found| *found == right)).await;
    let edit = json!({ "subjects": null });
    all_bindings.patch(binding, &PatchParams::default(), &Patch::Merge(edit)).await.unwrap();
    eventually("bound again", async || has(&["alice", "carol"]).await).await;
    all_bindings.delete(binding, &DeleteParams::default()).await.unwrap();
    let wrong = json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": { "name": binding, "labels": { roles::MANAGED_BY.0: roles::MANAGED_BY.1 } },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view" } });
    // Who is faster doesn't matter: if it is the server, this is refused.
    let _ = all_bindings.create(&PostParams::default(), &serde_json::from_value(wrong).unwrap()).await;
    eventually("bound to the right role", async || {
        let found = all_bindings.get_opt(binding).await.unwrap()?;
        (found.role_ref.name == role).then_some(())
    })
    .await;

    // What has our label and no organization goes; what has none of it stays as it is.
    eventually("gone", async || all_roles.get_opt("OrgManagerClusterRole-gone").await.unwrap().is_none().then_some(()))
        .await;
    hub.delete(Kind::Organization, "acme").await;
    eventually("deleted", async || rules().await.is_none().then_some(())).await;
    eventually("unbound", async || subjects().await.is_none().then_some(())).await;
    assert_eq!(all_roles.get(foreign).await.unwrap().rules, None);
    all_roles.delete(foreign, &DeleteParams::default()).await.unwrap();
    let _ = all_bindings.delete("OrgManagerClusterRoleBinding-foreign", &DeleteParams::default()).await;
    running.abort();
}
