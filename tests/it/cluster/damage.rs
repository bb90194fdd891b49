//! Records that a hand has broken: kept apart and reported, and the rest is served.

use http::Method;
use imagehub::api::{Kind, Object, Spec};
use imagehub::graph::{Envelope, Graph, Sight, Window, encode};
use imagehub::storage::{CommitError, Expect, ReadError, Storage as _};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;

use super::rig::{Cluster, RECORDS};
use super::storage::{open, readable, write};
use crate::harness::{DEADLINE, Kubectl, within};

fn image(name: &str) -> Vec<u8> {
    let metadata = ObjectMeta {
        name: Some(name.to_owned()),
        uid: Some(format!("uid-of-{name}")),
        creation_timestamp: serde_json::from_value(json!("2024-01-01T00:00:00Z")).unwrap(),
        ..ObjectMeta::default()
    };
    let spec =
        Spec::from_value(Kind::Image, json!({ "name": name.replacen('.', "/", 1).replacen('.', ":", 1) })).unwrap();
    encode(&Envelope::default(), &Object { metadata, spec }).to_vec()
}

/// Waits until `holds`, which nothing tells of.
pub async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let waited = async {
        while !holds() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    assert!(tokio::time::timeout(DEADLINE, waited).await.is_ok(), "{what}: not after {DEADLINE:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_a_hand_breaks_is_kept_apart_and_the_rest_is_served() {
    let cluster = Cluster::shared().await;
    cluster.install_records().await;
    cluster.delete_records().await;
    let kubectl = cluster.kubectl();
    let storage = open(cluster.client().await, readable()).await;
    let a = storage.commit(write("o.a.1", Expect::Absent, Some(&image("o.a.1")))).await.unwrap();
    let b = storage.commit(write("o.b.1", Expect::Absent, Some(&image("o.b.1")))).await.unwrap();
    let (graph, writer) = Graph::open(storage.clone(), Window::default()).await.unwrap();
    let writer = tokio::spawn(writer.run());

    // The schema refuses what has not even the right types.
    let wrong = r#"{"spec":{"at":"noon"}}"#;
    kubectl.fails(["patch", "record", "images.o.a.1", "--type=merge", "-p", wrong], "spec.at").await;
    let nonsense = r#"{"spec":{"value":"{}\n{\"apiVersion\":"}}"#;
    kubectl.ok(["patch", "record", "images.o.a.1", "--type=merge", "-p", nonsense]).await;
    let misnamed = json!({
        "apiVersion": "store.imagehub.sealos.io/v1", "kind": "Record", "metadata": { "name": "images.o.c.1" },
        "spec": { "kind": "Image", "name": "o.d.1", "at": 1, "value": String::from_utf8(image("o.d.1")).unwrap() },
    });
    kubectl.ok_with("create -f -", &misnamed.to_string()).await;
    eventually("both are noticed", || storage.damaged_records() == 2).await;
    let names: Vec<_> = storage.damaged(10).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["images.o.a.1", "images.o.c.1"]);
    for (name, why) in [("images.o.a.1", "does not begin with"), ("images.o.c.1", "images.o.d.1")] {
        kubectl.ok(["wait", "--for=condition=Readable=false", &format!("record/{name}"), "--timeout=30s"]).await;
        let record = kubectl.json(["get", "record", name, "-o", "json"]).await;
        let message = record["status"]["conditions"][0]["message"].as_str().unwrap_or_default();
        assert!(message.contains(why), "{message}");
    }

    // The rest goes on, and what was is served as it was.
    let b2 = storage.commit(write("o.b.1", Expect::At(b.revision), Some(&image("o.b.1")))).await.unwrap();
    within("the graph has the write", graph.reached(b2.revision)).await;
    let all = graph.visible(Sight::Everything);
    assert_eq!(all.get(Kind::Image, "o.a.1").map(|record| record.revision), Some(a.revision));
    assert!(all.get(Kind::Image, "o.d.1").is_none());

    // Others than the administrator don't even see Records.
    let alice = Kubectl::new(&cluster.kubeconfig_of("alice", &["developers"]));
    alice.fails("get records", "User \"alice\" cannot list resource \"records\"").await;

    // Nobody writes over it, and whoever tries is told what is to be done.
    for expect in [Expect::At(a.revision), Expect::Absent] {
        let refused = storage.commit(write("o.a.1", expect, Some(&image("o.a.1")))).await;
        assert!(matches!(&refused, Err(CommitError::Refused(why)) if why.contains("damaged")), "{refused:?}");
    }
    let read = storage.get(a.key.clone()).await;
    assert!(matches!(&read, Err(ReadError::Damaged(_))), "{read:?}");

    // Who starts now has the rest.
    let second = open(cluster.client().await, readable()).await;
    assert_eq!(second.damaged_records(), 2);
    let state = second.state().await.unwrap();
    assert_eq!(state.commits, [b2]);
    second.close().await;

    // Repaired by hand it is whole again.
    let repaired = json!({ "spec": { "value": String::from_utf8(image("o.a.1")).unwrap() } }).to_string();
    kubectl.ok(["patch", "record", "images.o.a.1", "--type=merge", "-p", &*repaired]).await;
    kubectl.ok("wait --for=condition=Readable record/images.o.a.1 --timeout=30s").await;
    eventually("one is left", || storage.damaged_records() == 1).await;

    // Deleted by hand it is gone for everybody, and can be made again.
    kubectl.ok("delete record images.o.a.1 images.o.c.1").await;
    eventually("they are gone", || storage.damaged_records() == 0).await;
    let again = storage.commit(write("o.a.1", Expect::Absent, Some(&image("o.a.1")))).await.unwrap();
    within("the graph has the write", graph.reached(again.revision)).await;
    assert!(!writer.is_finished(), "the graph goes on");

    // A hand that changes it into another that can be read is a write like any other.
    let text = String::from_utf8(image("o.a.1")).unwrap().replace("uid-of-o.a.1", "another");
    let patch = json!({ "spec": { "value": text } }).to_string();
    kubectl.ok(["patch", "record", "images.o.a.1", "--type=merge", "-p", &*patch]).await;
    eventually("the edit is served", || {
        let all = graph.visible(Sight::Everything);
        all.get(Kind::Image, "o.a.1").is_some_and(|record| record.uid() == "another")
    })
    .await;
    storage.close().await;
    assert!(cluster.ok(Method::GET, RECORDS, None).await["items"].is_array());
}
