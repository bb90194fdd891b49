//! Packs: one record for all, and for each what they see.

use std::collections::BTreeSet;

use super::*;

/// The names of the scene's pack: of a hidden, an absent and a public image.
const NAMES: [&str; 3] = ["acme/secret:v1", "acme/absent:v1", "acme/open:v1"];

/// The entries of these names in a pack, or in what one would have, by each door.
async fn entries(who: &Who) -> Vec<(&'static str, [Value; 3])> {
    let by_name = |pack: &Value| {
        let datas = &pack["status"]["datas"];
        NAMES.map(|name| datas[name].clone())
    };
    let listed = |entries: &Value| {
        let all = entries.as_array().unwrap_or_else(|| panic!("{}: {entries}", who.name));
        let of = |name: &str| all.iter().find(|entry| entry["name"] == name).map(|entry| entry["image"].clone());
        NAMES.map(|name| of(name).unwrap_or_else(|| panic!("{}: {entries}", who.name)))
    };
    let kube = who.kube.get(&path("datapacks", "three")).await.expect(200);
    let mut all = vec![("kube", by_name(&kube))];
    let list = who.kube.get(&path("datapacks", "")).await.expect(200);
    let three = list["items"].as_array().expect("a list").iter().find(|pack| pack["metadata"]["name"] == "three");
    all.push(("kube's list", by_name(three.expect("it is there"))));
    if who.signed_in {
        let mut nameless = object("DataPack", "", json!({ "type": "grid", "names": NAMES }));
        nameless["metadata"] = json!({});
        all.push(("kube's answer", by_name(&who.kube.post(&path("datapacks", ""), &nameless).await.ok())));
    }
    all.push(("REST", listed(&who.http.get("/api/v1/datapacks/three").await.expect(200)["entries"])));
    for (what, path) in [("REST's answer", "/api/v1/datapacks"), ("REST without a pack", "/api/v1/resolve")] {
        all.push((what, listed(&who.http.post(path, &json!({ "names": NAMES })).await.ok()["entries"])));
    }
    let fields = "name image { description docs }";
    for (what, query) in [
        ("GraphQL", format!(r#"{{ dataPack(name: "three") {{ entries {{ {fields} }} }} }}"#)),
        ("GraphQL without a pack", format!("{{ resolve(names: {}) {{ {fields} }} }}", json!(NAMES))),
        (
            "GraphQL's answer",
            format!(
                "mutation {{ createDataPack(spec: {{ names: {} }}) {{ dataPack {{ entries {{ {fields} }} }} }} }}",
                json!(NAMES)
            ),
        ),
    ] {
        let answer = who.http.post("/graphql", &json!({ "query": query })).await.expect(200);
        let data = &answer["data"];
        let found = [&data["dataPack"]["entries"], &data["resolve"], &data["createDataPack"]["dataPack"]["entries"]];
        let found = found.into_iter().find(|entries| entries.is_array());
        all.push((what, listed(found.unwrap_or_else(|| panic!("{}: {answer}", who.name)))));
    }
    all
}

#[tokio::test]
async fn a_packs_hidden_entries_are_as_those_of_images_that_are_not_there() {
    let scene = Scene::open().await;
    // Once more in the other order: what one was told is kept by then.
    for who in scene.callers.iter().chain(scene.callers.iter().rev()).filter(|who| who.good) {
        for (what, [secret, absent, open]) in entries(who).await {
            assert_eq!(secret == absent, !who.sees("acme"), "{} by {what}: {secret}", who.name);
            assert_eq!(secret.to_string().contains("classified"), who.sees("acme"), "{} by {what}: {secret}", who.name);
            assert!(open.to_string().contains("shown"), "{} by {what}: {open}", who.name);
        }
    }
}

#[tokio::test]
async fn the_digest_of_a_pack_is_of_what_the_caller_sees() {
    let scene = Scene::open().await;
    let query = json!({ "query": r#"{ dataPack(name: "three") { contentDigest } }"# });
    let mut digests = BTreeSet::new();
    for who in scene.callers.iter().filter(|who| who.good) {
        let kube = who.kube.get(&path("datapacks", "three")).await.expect(200)["status"]["contentDigest"].clone();
        let rest = who.http.get("/api/v1/datapacks/three").await.expect(200)["contentDigest"].clone();
        let graphql = who.http.post("/graphql", &query).await.expect(200)["data"]["dataPack"]["contentDigest"].clone();
        assert!(kube.is_string() && kube == rest && kube == graphql, "{}: {kube} {rest} {graphql}", who.name);
        digests.insert((who.sees("acme"), kube.to_string()));
    }
    assert_eq!(digests.len(), 2, "{digests:?}");
}
