//! One replica that keeps its data in a volume, and knows nobody but whom the cluster knows.

use serde_json::json;

use super::installed::{Installed, until};
use crate::harness::{MERGE_PATCH, image, path};

#[tokio::test]
async fn one_replica_keeps_its_data_in_a_volume_and_has_the_clusters_users_and_rights() {
    let installed = Installed::single().await;
    let replica = &installed.replicas[0];
    let groups = ["system:serviceaccounts", "system:serviceaccounts:user-system"];
    let bob = installed.client_as("system:serviceaccount:user-system:bob", &groups);
    bob.post(&path("images", ""), &image("bobs/tool:v1", json!({}))).await.expect(201);
    // Rights are the cluster's, and the server gives managers the role of their organization.
    installed.direct(replica, None).await.get(&path("images", "")).await.refused(403, "Forbidden");
    until("bob's role", async || {
        let patch = json!({ "metadata": { "labels": { "a": "b" } } });
        bob.patch(&path("organizations", "bobs"), MERGE_PATCH, &patch).await.status == 200
    })
    .await;
    let kubectl = installed.cluster.kubectl();
    let definitions = kubectl.ok("get crd -o name").await.stdout;
    assert_eq!(definitions, "", "nothing of the catalogue is in the cluster");
    kubectl.fails("-n imagehub-system get lease imagehub", "not found").await;

    replica.part.kill();
    replica.part.start();
    replica.ready().await;
    until("the image, after a kill", async || bob.get(&path("images", "bobs.tool.v1")).await.status == 200).await;
}
