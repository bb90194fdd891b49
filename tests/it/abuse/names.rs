//! Names that are made to collide: with one another, with those that the server derives, with what is somebody else's.

use std::collections::BTreeSet;

use futures::StreamExt as _;
use serde_json::json;

use super::Victim;
use crate::harness::{image, name, nameless_pack, names, object, path, run};

/// Two names of which the server derives the same `metadata.name`: equal but for capitals, which it doesn't keep, and
/// in the ten digits of their hashes that it appends. They are found in a second, so that it must do no harm.
const TWINS: [&str; 2] = ["acme/a.b:cOLlIsiOn-OF-CapiTal-letters-v1x", "acme/a.b:COLlision-OF-cAPitAl-Letters-v1x"];

fn plain(spec_name: &str) -> String {
    let mut image = image(spec_name, json!({}));
    image["metadata"] = json!({});
    image.to_string()
}

#[tokio::test]
async fn names_that_differ_in_where_the_dot_is_are_different_objects() {
    let victim = Victim::start().await;
    let admin = &victim.admin;
    let confusable = [
        "acme/b.c:d",
        "acme/b:c.d",
        "acme/b-c:d",
        "acme/b:c-d",
        "acme/b.c-d:e",
        "acme/b_c:d",
        "acme/b:C.d",
        "acme/b:c_d",
    ];
    let lines = confusable.map(plain).join("\n");
    let config = victim.server.data_dir().join("kubeconfig");
    let words = ["import", "--kubeconfig", config.to_str().expect("text"), "-"];
    let dir = tempfile::tempdir().expect("a directory");
    let ran = run(dir.path(), &words, &[], &lines).await;
    assert!(ran.ok().starts_with("8 created, 0 were there, 0 failed"), "{ran:?}");
    let again = run(dir.path(), &words, &[], &lines).await;
    assert!(again.ok().starts_with("0 created, 8 were there, 0 failed"), "{again:?}");
    let list = admin.get(&path("images", "")).await.expect(200);
    let of = |spec: &str| {
        let items = list["items"].as_array().expect("items");
        let found: Vec<_> = items.iter().filter(|i| i["spec"]["name"] == spec).map(name).collect();
        assert_eq!(found.len(), 1, "{spec}: {found:?}");
        found[0].to_owned()
    };
    assert_eq!(confusable.map(of).into_iter().collect::<BTreeSet<_>>().len(), confusable.len());
    let pack = admin.post(&path("datapacks", ""), &nameless_pack("base", &confusable)).await.expect(201);
    for spec in confusable {
        assert_eq!(pack["status"]["datas"][spec]["name"], spec, "{pack:#}");
    }
    // The same text in metadata.name is the same object, whatever its spec says.
    let mut taken = image("acme/b.c:d", json!({}));
    taken["metadata"]["name"] = of("acme/b:c.d").into();
    admin.post(&path("images", ""), &taken).await.refused(409, "AlreadyExists");
    admin.post(&path("images", ""), &image("ac.me/b:c", json!({}))).await.refused(422, "Invalid");
}

#[tokio::test]
async fn two_names_with_the_same_hash_stay_two_images() {
    let victim = Victim::start().await;
    let config = victim.server.data_dir().join("kubeconfig");
    let words = ["import", "--kubeconfig", config.to_str().expect("text"), "-"];
    let dir = tempfile::tempdir().expect("a directory");
    let ran = run(dir.path(), &words, &[], &TWINS.map(plain).join("\n")).await;
    // Which comes first is chance; the other is told, and neither is changed into the other.
    assert!(ran.printed.starts_with("1 created, 0 were there, 1 failed"), "{ran:?}");
    ran.failed_with(1, &["spec.name", "acme/a.b:"]);
    let list = victim.admin.get(&path("images", "")).await.expect(200);
    let there = |spec: &str| list["items"].as_array().expect("items").iter().any(|i| i["spec"]["name"] == spec);
    let other = TWINS.into_iter().find(|spec| !there(spec)).expect("one of them is not there");
    // Under another metadata.name it can be.
    let mut named = image(other, json!({}));
    named["metadata"]["name"] = "acme.a.b.other".into();
    victim.admin.post(&path("images", ""), &named).await.expect(201);
    let pack = victim.admin.post(&path("datapacks", ""), &nameless_pack("base", &TWINS)).await.expect(201);
    for spec in TWINS {
        assert_eq!(pack["status"]["datas"][spec]["name"], spec, "{pack:#}");
    }
}

#[tokio::test]
async fn nobody_takes_a_name_that_is_somebody_elses() {
    let victim = Victim::start().await;
    let mallory = victim.server.user("mallory").await;
    mallory
        .post(&path("organizations", ""), &object("Organization", "mallory", json!({ "name": "mallory" })))
        .await
        .expect(201);
    for squatter in ["acme.anvil.v3", "acme", "acme.anvil", "mallory", "mallory-acme.x", "malloryacme"] {
        let mut image = image("mallory/x:1", json!({}));
        image["metadata"]["name"] = squatter.into();
        let answer = mallory.post(&path("images", ""), &image).await;
        let status = answer.refused(422, "Invalid");
        assert!(
            status["message"].as_str().is_some_and(|m| m.contains("\"mallory.\"") || m.contains("mallory.")),
            "{answer}"
        );
        let mut repository = object("Repository", squatter, json!({ "name": "mallory/x" }));
        repository["metadata"]["name"] = squatter.into();
        mallory.post(&path("repositories", ""), &repository).await.refused(422, "Invalid");
    }
    mallory.post(&path("images", ""), &image("acme/anvil:v3", json!({}))).await.refused(403, "Forbidden");
    mallory
        .post(&path("organizations", ""), &object("Organization", "mine", json!({ "name": "acme" })))
        .await
        .refused(422, "Invalid");
    let theirs = object("Organization", "acme", json!({ "name": "acme" }));
    mallory.post(&path("organizations", ""), &theirs).await.refused(409, "AlreadyExists");
    // The name that the server gives a spec is that spec's.
    let pack = nameless_pack("base", &["acme/anvil:v2"]);
    let given = victim.admin.post(&path("datapacks", ""), &pack).await.expect(201);
    let given = name(&given).to_owned();
    victim.admin.delete(&path("datapacks", &given)).await.expect(200);
    let other = object("DataPack", &given, json!({ "names": ["mallory/x:1"] }));
    mallory.post(&path("datapacks", ""), &other).await.refused(422, "Invalid");
    victim.admin.delete(&path("organizations", "mallory")).await.expect(200);
}

#[tokio::test]
async fn hundreds_of_names_with_one_beginning_are_found_each() {
    const COUNT: usize = 300;
    let victim = Victim::start().await;
    let beginning = "x".repeat(55);
    let of = |i: usize| format!("acme/{beginning}:{beginning}{i}");
    let posts = (0..COUNT).map(|i| {
        let (admin, image) = (victim.admin.clone(), image(&of(i), json!({})));
        async move { admin.post(&path("images", ""), &image).await.expect(201) }
    });
    futures::stream::iter(posts).buffer_unordered(32).collect::<Vec<_>>().await;
    for i in (0..COUNT).step_by(37) {
        let found = victim.admin.get(&path("images", &of(i).replace(['/', ':'], "."))).await.expect(200);
        assert_eq!(found["spec"]["name"], of(i));
        let selector = format!("?labelSelector=tag.imagehub.sealos.io%3D{beginning}{i}");
        let list = victim.admin.get(&format!("{}{selector}", path("images", ""))).await.expect(200);
        assert_eq!(names(&list).len(), 1, "{list:#}");
    }
    let repository = victim.admin.get(&path("repositories", &format!("acme.{beginning}"))).await.expect(200);
    assert_eq!(repository["status"]["tags"].as_array().map(Vec::len), Some(COUNT));
}
