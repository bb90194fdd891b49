//! imagehub through a real kube-apiserver, under exactly the rights that `deploy/` gives it.

use http::Method;
use serde_json::{Value, json};

use super::installed::{Installed, NAMESPACE, until};
use super::rig::Options;
use crate::harness::{API, image, object, path};
use crate::kubectl::SCRIPTS;

/// The four kinds, dependents first.
const ALL_KINDS: &str = "images,repositories,organizations,datapacks";

/// Deletes all that is in the catalogue.
pub async fn clear(installed: &Installed) {
    let kubectl = installed.cluster.kubectl();
    kubectl.ok(["delete", ALL_KINDS, "--all", "--timeout=30s"]).await;
    until("an empty catalogue", async || kubectl.ok(["get", ALL_KINDS, "-o", "name"]).await.stdout.is_empty()).await;
}

#[tokio::test]
async fn what_people_do_with_kubectl_they_do_through_the_cluster_too() {
    let installed = Installed::start(2).await;
    for (name, script) in SCRIPTS {
        eprintln!("{name}");
        script(installed.cluster.kubectl()).await;
        clear(&installed).await;
    }
}

#[tokio::test]
async fn the_clusters_own_documents_stay_whole_and_show_our_kinds() {
    let installed = Installed::start(1).await;
    let kubectl = installed.cluster.kubectl();
    let has_ours = async |raw: &str, ours: &str| {
        let document = kubectl.ok(["get", "--raw", raw]).await.stdout;
        serde_json::from_str::<Value>(&document).is_ok() && document.contains(ours)
    };
    until("our kinds in the cluster's OpenAPI v2", async || {
        has_ours("/openapi/v2", "/imagehub.sealos.io/v1/images").await
    })
    .await;
    until("our kinds in the cluster's OpenAPI v3", async || {
        has_ours("/openapi/v3", "apis/imagehub.sealos.io/v1").await
    })
    .await;
    let v2 = kubectl.json(["get", "--raw", "/openapi/v2"]).await;
    for path in ["/api/v1/namespaces", "/apis/apps/v1/deployments", "/apis/imagehub.sealos.io/v1/datapacks/{name}"] {
        assert!(v2["paths"].get(path).is_some(), "{path} is not in the cluster's OpenAPI v2");
    }
    let v3 = kubectl.json(["get", "--raw", "/openapi/v3"]).await;
    for path in ["api/v1", "apis/apps/v1", "apis/imagehub.sealos.io/v1"] {
        assert!(v3["paths"].get(path).is_some(), "{path} is not in the cluster's OpenAPI v3: {v3:#}");
    }
    let discovery = kubectl.ok("api-resources --api-group=imagehub.sealos.io -o name").await;
    assert_eq!(discovery.lines().len(), 4, "{discovery}");
    kubectl.ok("explain datapacks.spec.names").await.says(&["KIND:", "DataPack"]);
}

#[tokio::test]
async fn rights_are_the_clusters_and_refusals_are_worded_as_its_own() {
    let installed = Installed::start(1).await;
    let admin = installed.cluster.kubectl();
    admin.ok_with("apply -f -", &image("acme/tool:v1", json!({})).to_string()).await;
    for (user, verb, resource, may) in [
        ("alice", "get", "images", false),
        ("alice", "create", "images", false),
        ("system:serviceaccount:user-system:bob", "get", "images", true),
        ("system:serviceaccount:user-system:bob", "create", "images", true),
        ("system:serviceaccount:user-system:bob", "delete", "organizations", false),
    ] {
        let mut words = vec!["auth", "can-i", verb, resource, "--as", user];
        if user.starts_with("system:serviceaccount") {
            words.extend(["--as-group=system:serviceaccounts", "--as-group=system:serviceaccounts:user-system"]);
        }
        let answer = admin.run(words.as_slice(), "").await;
        assert_eq!(answer.code == Some(0), may, "{user} {verb} {resource}: {answer}");
    }

    // The same denial from kube-apiserver and from a replica that is asked directly.
    let denied = [
        (Method::GET, path("images", ""), "list"),
        (Method::GET, path("images", "acme.tool.v1"), "get"),
        (Method::DELETE, path("organizations", "acme"), "delete"),
        (Method::DELETE, path("datapacks", ""), "deletecollection"),
    ];
    let through = installed.client_as("mallory", &[]);
    installed.cluster.pki.issue("mallory-direct", "mallory", &[], &[], &[]);
    let certificate = Some(("mallory-direct.crt", "mallory-direct.key"));
    let direct = installed.direct(&installed.replicas[0], certificate).await;
    for (method, path, verb) in denied {
        let by_cluster = through.request(method.clone(), &path, &[], bytes::Bytes::new()).await;
        let by_us = direct.request(method, &path, &[], bytes::Bytes::new()).await;
        assert_eq!((by_cluster.status, by_us.status), (403, 403), "{verb}: {}", by_us.text());
        assert_eq!(by_us.json(), by_cluster.json(), "{verb}");
    }
}

#[tokio::test]
async fn the_manager_rules_stand_beside_rbac() {
    let installed = Installed::start(1).await;
    let admin = installed.admin();
    let bobs = |name: &str| {
        let user = format!("system:serviceaccount:user-system:{name}");
        installed.client_as(&user, &["system:serviceaccounts", "system:serviceaccounts:user-system"])
    };
    let (bob, carol) = (bobs("bob"), bobs("carol"));
    // Whoever makes an organization manages it; a ServiceAccount of the users' namespace by its name alone.
    bob.post(&path("images", ""), &image("bobs/tool:v1", json!({}))).await.expect(201);
    let organization = admin.get(&path("organizations", "bobs")).await.ok();
    assert_eq!(organization["spec"]["manager"], json!(["bob"]), "{organization:#}");
    let refused = carol.post(&path("images", ""), &image("bobs/tool:v2", json!({}))).await;
    assert!(refused.text().contains("not among the managers of organization"), "{}", refused.text());
    assert_eq!(refused.status, 403);
    // What is private is seen by managers, and by whoever may view it.
    let secret = object("Repository", "bobs.secret", json!({ "name": "bobs/secret", "isPrivate": true }));
    bob.post(&path("repositories", ""), &secret).await.expect(201);
    bob.get(&path("repositories", "bobs.secret")).await.ok();
    carol.get(&path("repositories", "bobs.secret")).await.refused(404, "NotFound");
    let kubectl = installed.cluster.kubectl();
    kubectl.ok("create clusterrole looks --verb=viewprivate --resource=repositories.imagehub.sealos.io").await;
    kubectl.ok("create clusterrolebinding looks --clusterrole=looks --serviceaccount=user-system:carol").await;
    until("carol's sight", async || carol.get(&path("repositories", "bobs.secret")).await.status == 200).await;
    // The cluster gives managers their organization.
    until("bob's role", async || {
        let patch = json!({ "metadata": { "labels": { "a": "b" } } });
        bob.patch(&path("organizations", "bobs"), crate::harness::MERGE_PATCH, &patch).await.status == 200
    })
    .await;
    let patch = json!({ "metadata": { "labels": { "a": "c" } } });
    let refused = carol.patch(&path("organizations", "bobs"), crate::harness::MERGE_PATCH, &patch).await;
    assert_eq!(refused.status, 403, "{}", refused.text());
}

#[tokio::test]
async fn nobody_speaks_for_others_without_the_front_proxys_certificate() {
    let installed = Installed::start(1).await;
    let replica = &installed.replicas[0];
    let forged = [("x-remote-user", "admin"), ("x-remote-group", "system:masters")];
    let images = path("images", "");
    let ask = async |user: Option<(&str, &str)>, headers: &[(&str, &str)]| {
        let client = installed.direct(replica, user).await;
        client.request(Method::GET, &images, headers, bytes::Bytes::new()).await
    };
    let proxy = Some(("front-proxy-client.crt", "front-proxy-client.key"));
    assert_eq!(ask(proxy, &forged).await.status, 200, "the real one is believed");
    assert_eq!(ask(None, &forged).await.status, 403, "without a certificate they are nobody's words");
    // A certificate of the cluster's own CA, with the front proxy's name.
    installed.cluster.pki.issue("pretender", "front-proxy-client", &[], &[], &[]);
    let refused = ask(Some(("pretender.crt", "pretender.key")), &forged).await;
    assert_eq!(refused.status, 403);
    assert!(refused.text().contains(r#"User \"front-proxy-client\""#), "{}", refused.text());
    let wrong = [("authorization", "Bearer nonsense")];
    assert_eq!(ask(None, &wrong).await.status, 401);
    let token = installed.cluster.kubectl().ok("-n default create token default --audience=elsewhere").await;
    let elsewhere = format!("Bearer {}", token.stdout.trim());
    assert_eq!(ask(None, &[("authorization", &elsewhere)]).await.status, 401, "a token for somebody else");
    let impersonated = [("impersonate-user", "admin"), ("impersonate-group", "system:masters")];
    assert_eq!(ask(None, &impersonated).await.status, 403, "never ignored");
}

/// What belongs to an organization goes with it, in whichever way, or stays without it.
async fn cascades(installed: &Installed) {
    let kubectl = installed.cluster.kubectl();
    for cascade in ["background", "foreground"] {
        kubectl.ok_with("apply -f -", &image("acme/tool:v1", json!({})).to_string()).await;
        kubectl.ok(["delete", "organization", "acme", &format!("--cascade={cascade}"), "--timeout=30s"]).await;
        let left = async || kubectl.ok(["get", ALL_KINDS, "-o", "name"]).await.stdout;
        if cascade == "foreground" {
            // kubectl has waited for the owner's end, and its dependents go before it.
            assert_eq!(left().await, "", "something is left when its owner is gone");
        }
        until(&format!("nothing is left ({cascade})"), async || left().await.is_empty()).await;
    }
    kubectl.ok_with("apply -f -", &image("acme/tool:v1", json!({})).to_string()).await;
    let uid = async |kind: &str, name: &str| {
        let object = installed.admin().get(&path(kind, name)).await.ok();
        (object["metadata"]["uid"].clone(), object["metadata"]["ownerReferences"].clone())
    };
    let (organization, repository) = (uid("organizations", "acme").await, uid("repositories", "acme.tool").await);
    let image_before = uid("images", "acme.tool.v1").await;
    kubectl.ok("delete organization acme --cascade=orphan --timeout=30s").await;
    let left = uid("repositories", "acme.tool").await;
    assert_eq!(left.0, repository.0, "the repository is the one that it was");
    let owners = left.1.as_array().cloned().unwrap_or_default();
    assert!(owners.iter().all(|owner| owner["uid"] != organization.0), "it has its old owner: {owners:?}");
    assert_eq!(uid("images", "acme.tool.v1").await, image_before, "what the repository owns stays as it is");
    kubectl.ok("delete repository acme.tool --cascade=background").await;
    kubectl.ok("wait --for=delete image/acme.tool.v1 --timeout=30s").await;
    clear(installed).await;
}

#[tokio::test]
async fn the_garbage_collector_and_the_namespace_controller_find_their_way() {
    let installed = Installed::start(1).await;
    cascades(&installed).await;
    let kubectl = installed.cluster.kubectl();
    kubectl.ok("create namespace passing").await;
    kubectl.ok("delete namespace passing --timeout=30s").await;
    // The server's own namespace and its rights are untouched by all that.
    kubectl.ok(["-n", NAMESPACE, "get", "serviceaccount", "imagehub"]).await;
    assert!(installed.admin().get(&format!("{API}/images")).await.status == 200);
}

/// As where `--use-service-account-credentials` is not set: then the controllers' rights are given to one user.
#[tokio::test]
async fn the_garbage_collector_finds_its_way_also_as_the_user_of_the_controller_manager() {
    let options = Options { service_account_credentials: false, ..Options::default() };
    let installed = Installed::start_in(options, 1).await;
    let kubectl = installed.cluster.kubectl();
    for role in [
        "generic-garbage-collector",
        "namespace-controller",
        "service-account-controller",
        "clusterrole-aggregation-controller",
    ] {
        let role = format!("--clusterrole=system:controller:{role}");
        let name = role.replace([':', '='], "-").trim_start_matches('-').to_owned();
        kubectl.ok(["create", "clusterrolebinding", &name, &role, "--user=system:kube-controller-manager"]).await;
    }
    cascades(&installed).await;
    kubectl.ok("create namespace passing").await;
    kubectl.ok("delete namespace passing --timeout=30s").await;
}
