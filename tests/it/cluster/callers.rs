//! Who may see and do what through a real kube-apiserver, under the roles in `deploy/`: the same table of callers as on
//! one machine, and the same things that people do with kubectl, done by each of them.

use std::fmt::Write as _;

use serde_json::json;

use super::aggregated::clear;
use super::installed::{Installed, deploy, until};
use crate::access::{Cast, look_at_all, scene};
use crate::harness::{Kubectl, MERGE_PATCH, Tries, image, path};
use crate::kubectl::SCRIPTS;

/// A right that RBAC gives to nobody without credentials, and without which kubectl knows no kinds.
const DISCOVERY: &str = "create clusterrolebinding everybody-discovers --clusterrole=system:discovery \
                         --group=system:unauthenticated";
/// The script that applies a whole catalogue, which is not always the same one.
const OF_A_CATALOGUE: &str = "the_catalogue_is_applied_once_and_a_second_time_nothing_changes";

/// Waits until a manager has the right to their organization, which the server gives by a role.
async fn manages(kubectl: &Kubectl, organization: &str) {
    let can = format!("auth can-i delete organizations.imagehub.sealos.io/{organization}");
    until("a manager's right", async || kubectl.run(&can, "").await.code == Some(0)).await;
}

/// Has everybody read what is public.
async fn open_to_the_public(installed: &Installed) {
    let component = deploy("components/public/rbac.yaml").display().to_string();
    installed.cluster.kubectl().ok(["apply", "--server-side", "-f", &component]).await;
    let public = path("images", "");
    until("the public's right", async || installed.anonymous().get(&public).await.status == 200).await;
}

#[tokio::test]
async fn each_caller_sees_and_does_through_the_cluster_what_the_rules_say() {
    let installed = Installed::start(1).await;
    open_to_the_public(&installed).await;
    let nobody = installed.anonymous();
    let by = |token: &str| nobody.with_header("authorization", &format!("Bearer {token}"));
    let revoked = by(&installed.token("carol").await);
    revoked.get(&path("images", "")).await.ok();
    let (alice, bob) = (by(&installed.token("alice").await), by(&installed.token("bob").await));
    let full = |name: &str| format!("system:serviceaccount:user-system:{name}");
    let cast = Cast {
        admin: installed.admin(),
        alice: alice.clone(),
        bob,
        revoked: revoked.clone(),
        anonymous: nobody.clone(),
        full_names: [full("alice"), full("bob")],
    };
    let callers = scene(cast).await;
    installed.cluster.kubectl().ok("-n user-system delete serviceaccount carol").await;
    until("the end of a token", async || revoked.get(&path("images", "")).await.status == 401).await;
    let (organization, label) = (path("organizations", "acme"), json!({ "metadata": { "labels": { "a": "b" } } }));
    until("the manager's right to the organization", async || {
        alice.patch(&format!("{organization}?dryRun=All"), MERGE_PATCH, &label).await.status == 200
    })
    .await;
    // The role of users has no deletecollection: who manages something still deletes one by one.
    let callers: Vec<_> = callers
        .into_iter()
        .map(|who| if who.name == "administrator" { who } else { who.without_collections() })
        .collect();
    let wrong = look_at_all(&callers).await;
    assert!(wrong.0.is_empty(), "{}", wrong.0);
}

#[tokio::test]
async fn what_people_do_with_kubectl_a_user_of_the_cluster_does_in_an_organization_of_their_own() {
    let installed = Installed::start(1).await;
    let alice = installed.kubectl_of("alice").await;
    for (name, script) in SCRIPTS {
        eprintln!("{name}");
        // Theirs from the start, so that the scripts need not wait for the role that comes with it.
        alice.ok_with("create -f -", &image("acme/start:v1", json!({})).to_string()).await;
        manages(&alice, "acme").await;
        alice.ok("delete image acme.start.v1").await;
        alice.ok("delete repository acme.start").await;
        script(installed.kubectl_of("alice").await).await;
        clear(&installed).await;
    }
}

#[tokio::test]
async fn what_others_may_of_what_people_do_with_kubectl_and_what_they_are_told() {
    let installed = Installed::start(1).await;
    // Without the component for it, nobody without credentials is let in.
    let nobody = installed.kubectl_of_nobody();
    let told = nobody.fails("get --raw /apis/imagehub.sealos.io/v1/images", "Forbidden").await;
    let denial = r#"User "system:anonymous" cannot list resource "images" in API group "imagehub.sealos.io""#;
    assert!(told.stderr.contains(denial), "{told}");
    open_to_the_public(&installed).await;
    installed.cluster.kubectl().ok(DISCOVERY).await;
    let mut table = String::new();
    for (name, script) in SCRIPTS.iter().filter(|(name, _)| *name != OF_A_CATALOGUE) {
        let tries = Tries::default();
        let others = vec![installed.kubectl_of("bob").await, installed.kubectl_of_nobody()];
        script(installed.cluster.kubectl().beside(others, &tries)).await;
        let _ = writeln!(table, "# {name}");
        for (command, outcomes) in tries.finish().await {
            add(&mut table, &command, &outcomes);
        }
        clear(&installed).await;
    }
    insta::assert_snapshot!("who_may_what", table);
}

/// A command and what came of it, once where it is the same for all.
fn add(table: &mut String, command: &str, outcomes: &[String]) {
    let command = command.split_whitespace().collect::<Vec<_>>().join(" ");
    let _ = writeln!(table, "kubectl {command}");
    if outcomes.iter().all(|outcome| *outcome == outcomes[0]) {
        add_outcome(table, "all", &outcomes[0]);
        return;
    }
    for (who, outcome) in ["administrator", "other user", "anonymous"].iter().zip(outcomes) {
        add_outcome(table, who, outcome);
    }
}

fn add_outcome(table: &mut String, who: &str, outcome: &str) {
    let mut lines = outcome.lines();
    let _ = writeln!(table, "    {who}: {}", lines.next().unwrap_or_default());
    for line in lines {
        let _ = writeln!(table, "        {line}");
    }
}
