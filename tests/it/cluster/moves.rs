//! A catalogue moves from a machine into the cluster, and back.

use serde_json::json;

use super::installed::Installed;
use crate::harness::{Server, catalogue_path, object, path, run};

#[tokio::test]
async fn a_catalogue_moves_from_a_machine_into_the_cluster_and_back() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let imagehub = async |words: &str, input: &str| {
        let words: Vec<&str> = words.split_whitespace().collect();
        run(dir.path(), &words, &[], input).await.ok().to_owned()
    };
    let machine = Server::start().await;
    let admin = machine.admin();
    let secret = object("Repository", "labring.secret", json!({ "name": "labring/secret", "isPrivate": true }));
    admin.post(&path("repositories", ""), &secret).await.expect(201);
    let local = machine.data_dir().join("kubeconfig").display().to_string();
    imagehub(&format!("import --kubeconfig {local} {}", catalogue_path().display()), "").await;
    let exported = imagehub(&format!("export --kubeconfig {local}"), "").await;
    assert!(exported.lines().count() > 4, "{exported}");

    let installed = Installed::start(2).await;
    let cluster = installed.cluster.kubeconfig().display().to_string();
    imagehub(&format!("import --kubeconfig {cluster} -"), &exported).await;
    let there = imagehub(&format!("export --kubeconfig {cluster}"), "").await;
    assert_eq!(there, exported, "the cluster has what the machine had");

    let back = Server::start().await;
    let local = back.data_dir().join("kubeconfig").display().to_string();
    imagehub(&format!("import --kubeconfig {local} -"), &there).await;
    assert_eq!(imagehub(&format!("export --kubeconfig {local}"), "").await, exported, "and back");
}
