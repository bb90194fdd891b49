//! Packs: what they tell, how soon they tell it, and to whom.

use futures::StreamExt as _;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::harness::{
    Client, JSON_PATCH, MERGE_PATCH, Server, catalogue, catalogue_path, image, name, nameless_pack, names, object,
    path, revision,
};

/// A name that no catalogue has.
const ABSENT: &str = "nobody/nothing:v0";
/// The `creatTime` of an image that doesn't tell it.
const UNKNOWN_TIME: &str = "1970-01-01T00:00:00Z";

/// `spec.name` of the catalogue's images.
fn image_names(catalogue: &[Value]) -> Vec<&str> {
    let images = catalogue.iter().filter(|d| d["kind"] == "Image");
    images.map(|i| i["spec"]["name"].as_str().expect("an image has a name")).collect()
}

/// The order of two tags as versions: runs of digits count as numbers.
fn version_key(tag: &str) -> Vec<(u64, String)> {
    let mut parts = Vec::new();
    let mut rest = tag.trim_start_matches('v');
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let word = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |n| digits + n);
        parts.push((rest[..digits].parse().unwrap_or(0), rest[digits..word].to_owned()));
        rest = &rest[word..];
    }
    parts
}

/// A repository's tags, newest first, from the manifests of its images.
fn expected_tags(repository: &str, images: &[Value]) -> Value {
    let mut tags: Vec<Value> = images
        .iter()
        .filter_map(|image| {
            let (repo, tag) = image["spec"]["name"].as_str()?.split_once(':')?;
            let detail = &image["spec"]["detail"];
            (repo == repository).then(|| {
                json!({
                    "name": tag,
                    "metaName": name(image),
                    "size": detail["size"].as_i64().unwrap_or(0),
                    "creatTime": detail["creatTime"].as_str().unwrap_or(UNKNOWN_TIME),
                })
            })
        })
        .collect();
    tags.sort_by_key(|tag| {
        let time: Timestamp = tag["creatTime"].as_str().expect("set above").parse().expect("a time");
        (time, version_key(tag["name"].as_str().expect("set above")))
    });
    tags.reverse();
    tags.into()
}

/// What a pack tells of one image, from the manifests.
fn expected_entry(grain: &str, image_name: &str, catalogue: &[Value]) -> Value {
    let images: Vec<Value> = catalogue.iter().filter(|d| d["kind"] == "Image").cloned().collect();
    let Some(image) = images.iter().find(|i| i["spec"]["name"] == image_name) else { return json!({}) };
    let (spec, detail) = (&image["spec"], &image["spec"]["detail"]);
    let mut entry = Map::new();
    let mut put = |field: &str, value: Value| {
        entry.insert(field.to_owned(), value);
    };
    put("name", image_name.into());
    put("type", spec["type"].clone());
    let repository = image_name.split_once(':').expect("an image's name has a tag").0;
    if grain != "base" {
        put("repoName", repository.into());
        for field in ["icon", "keywords", "description"] {
            put(field, detail[field].clone());
        }
        put("rating", 0.into());
        put("downloadCount", 0.into());
        put("size", detail["size"].as_i64().unwrap_or(0).into());
    }
    if grain == "detail" {
        for field in ["docs", "ID", "arch"] {
            put(field, detail[field].clone());
        }
        put("tags", expected_tags(repository, &images));
    }
    without_empty(&entry.into())
}

/// An entry without fields that say nothing: whether those are absent or empty is not told apart.
fn without_empty(entry: &Value) -> Value {
    let says = |v: &&Value| !v.is_null() && **v != json!("") && **v != json!([]);
    let fields = entry.as_object().unwrap_or_else(|| panic!("an entry is an object, not {entry}")).iter();
    fields.filter(|(_, v)| says(v)).map(|(k, v)| (k.clone(), v.clone())).collect::<Map<_, _>>().into()
}

/// The entry of an image in a pack whose data is all there.
#[track_caller]
fn entry<'a>(pack: &'a Value, image_name: &str) -> &'a Value {
    assert_eq!(pack["status"]["codes"], 1, "{pack:#}");
    let entry = &pack["status"]["datas"][image_name];
    assert!(entry.is_object(), "no entry for {image_name} in {pack:#}");
    entry
}

async fn create(admin: &Client, plural: &str, object: &Value) -> Value {
    admin.post(&path(plural, ""), object).await.ok()
}

async fn describe(admin: &Client, image: &str, field: &str, text: &str) -> Value {
    let patch = json!({ "spec": { "detail": { field: text } } });
    admin.patch(&path("images", image), MERGE_PATCH, &patch).await.expect(200)
}

#[tokio::test]
async fn one_create_answers_with_all_data_of_each_type() {
    let server = Server::start().await;
    let kubectl = server.kubectl();
    kubectl.ok(["apply", "-f", &catalogue_path().to_string_lossy()]).await;
    let catalogue = catalogue();
    let mut wanted = image_names(&catalogue);
    assert!(!wanted.is_empty(), "the catalogue has no image");
    wanted.push(ABSENT);
    for grain in ["base", "grid", "detail"] {
        let list = wanted.iter().map(|n| format!("  - {n}")).collect::<Vec<_>>().join("\n");
        let manifest =
            format!("apiVersion: imagehub.sealos.io/v1\nkind: DataPack\nspec:\n  type: {grain}\n  names:\n{list}\n");
        let output = kubectl.ok_with("create -f - -o json", &manifest).await;
        let pack: Value = serde_json::from_str(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output}"));
        assert_eq!(pack["status"]["codes"], 1, "{pack:#}");
        let datas = pack["status"]["datas"].as_object().unwrap_or_else(|| panic!("no datas in {pack:#}"));
        assert_eq!(datas.len(), wanted.len(), "one entry for each name: {:?}", datas.keys());
        for image_name in &wanted {
            let expected = expected_entry(grain, image_name, &catalogue);
            assert_eq!(without_empty(&datas[*image_name]), expected, "{image_name} at grain {grain}");
        }
        assert_eq!(datas[ABSENT], json!({}), "an absent image has an entry with nothing in it");
        let read = kubectl.json(&format!("get datapack {} -o json", name(&pack))).await;
        assert_eq!(read["status"]["datas"], pack["status"]["datas"], "a GET tells what the create told");
    }
}

#[tokio::test]
async fn a_changed_image_shows_at_once_and_makes_exactly_one_event() {
    let server = Server::start().await;
    let admin = server.admin();
    create(&admin, "images", &image("acme/tool:v1", json!({ "description": "zero", "docs": "old" }))).await;
    let pack = create(&admin, "datapacks", &nameless_pack("grid", &["acme/tool:v1"])).await;
    let pack_name = name(&pack).to_owned();
    assert_eq!(entry(&pack, "acme/tool:v1")["description"], "zero");

    let from = revision(&pack);
    let selector = format!("?fieldSelector=metadata.name%3D{pack_name}&resourceVersion={from}");
    let mut watch = admin.watch(&format!("{}{selector}", path("datapacks", ""))).await;
    let mut last = from;
    for text in ["one", "two", "three"] {
        describe(&admin, "acme.tool.v1", "description", text).await;
        let read = admin.get(&path("datapacks", &pack_name)).await.expect(200);
        assert_eq!(entry(&read, "acme/tool:v1")["description"], text, "the next GET shows the change");
        let event = watch.expect("MODIFIED", &pack_name).await;
        assert_eq!(entry(&event, "acme/tool:v1")["description"], text, "the next event is that of this change");
        assert!(revision(&event) > last, "versions rise: {} after {last}", revision(&event));
        last = revision(&event);
    }
    // A grid pack does not tell the docs: no event. Nor was any of the changes told twice, else the
    // event of this commit were not the next.
    describe(&admin, "acme.tool.v1", "docs", "new").await;
    let note = json!({ "metadata": { "annotations": { "note": "mine" } } });
    let patched = admin.patch(&path("datapacks", &pack_name), MERGE_PATCH, &note).await.expect(200);
    let event = watch.expect("MODIFIED", &pack_name).await;
    assert_eq!(revision(&event), revision(&patched), "an event that no change explains came first: {event:#}");
    assert_eq!(event["metadata"]["annotations"]["note"], "mine");
    admin.delete(&path("datapacks", &pack_name)).await.expect(200);
    watch.expect("DELETED", &pack_name).await;
}

#[tokio::test]
async fn packs_that_do_not_name_a_changed_image_are_served_from_the_cache() {
    const HITS: &str = "imagehub_pack_cache_hits_total";
    const MISSES: &str = "imagehub_pack_cache_misses_total";
    let server = Server::start().await;
    let admin = server.admin();
    for one in ["acme/changed:v1", "acme/still:v1"] {
        create(&admin, "images", &image(one, json!({ "description": "before" }))).await;
    }
    let changed = create(&admin, "datapacks", &nameless_pack("grid", &["acme/changed:v1"])).await;
    // One pack does not name the image; the other tells its tags, but not those of its repository.
    let mut still = Vec::new();
    for grain in ["grid", "detail"] {
        still.push(create(&admin, "datapacks", &nameless_pack(grain, &["acme/still:v1"])).await);
    }
    for pack in &still {
        admin.get(&path("datapacks", name(pack))).await.expect(200);
    }
    let selector = format!("?fieldSelector=metadata.name%3D{}&resourceVersion={}", name(&changed), revision(&changed));
    let mut watch = admin.watch(&format!("{}{selector}", path("datapacks", ""))).await;
    describe(&admin, "acme.changed.v1", "description", "after").await;
    // With this event the controllers have done all that the change makes them do to packs.
    let event = watch.expect("MODIFIED", name(&changed)).await;
    assert_eq!(entry(&event, "acme/changed:v1")["description"], "after");

    let (hits, misses) = (server.metric(HITS).await, server.metric(MISSES).await);
    for pack in &still {
        let read = admin.get(&path("datapacks", name(pack))).await.expect(200);
        assert_eq!(entry(&read, "acme/still:v1")["description"], "before");
    }
    assert_eq!(server.metric(MISSES).await, misses, "nothing had to be computed again");
    assert_eq!(server.metric(HITS).await, hits + 2, "both packs came from the cache");
}

#[tokio::test]
async fn a_new_tag_shows_in_the_detail_pack_of_its_sibling_newest_first() {
    let server = Server::start().await;
    let admin = server.admin();
    let mut images = Vec::new();
    let mut pack_name: Option<String> = None;
    // Known times come before unknown ones; among equals the version decides, as numbers.
    for (tag, time) in [
        ("v1.9.0", None),
        ("v1.10.0", None),
        ("v0.1.0", Some("2024-05-01T00:00:00Z")),
        ("v2.0.0", Some("2023-05-01T00:00:00Z")),
        ("v2.1.0", Some("2023-05-01T00:00:00Z")),
    ] {
        let new = image(&format!("acme/tool:{tag}"), time.map_or(json!({}), |t| json!({ "creatTime": t, "size": 7 })));
        create(&admin, "images", &new).await;
        images.push(new);
        let pack = match &pack_name {
            None => create(&admin, "datapacks", &nameless_pack("detail", &["acme/tool:v1.9.0"])).await,
            Some(made) => admin.get(&path("datapacks", made)).await.expect(200),
        };
        let tags = &entry(&pack, "acme/tool:v1.9.0")["tags"];
        assert_eq!(*tags, expected_tags("acme/tool", &images), "after {tag} was made");
        pack_name.get_or_insert_with(|| name(&pack).to_owned());
    }
    let order = ["v0.1.0", "v2.1.0", "v2.0.0", "v1.10.0", "v1.9.0"];
    let repository = admin.get(&path("repositories", "acme.tool")).await.expect(200);
    let tags: Vec<_> = repository["status"]["tags"].as_array().unwrap().iter().map(|t| t["name"].clone()).collect();
    assert_eq!(tags, order, "{repository:#}");
    assert_eq!(repository["status"]["latestTag"]["name"], order[0], "{repository:#}");
}

#[tokio::test]
async fn an_absent_image_has_an_empty_entry_until_it_is_made() {
    let server = Server::start().await;
    let admin = server.admin();
    let pack = create(&admin, "datapacks", &nameless_pack("base", &["acme/later:v1"])).await;
    assert_eq!(*entry(&pack, "acme/later:v1"), json!({}));
    create(&admin, "images", &image("acme/later:v1", json!({}))).await;
    let read = admin.get(&path("datapacks", name(&pack))).await.expect(200);
    assert_eq!(entry(&read, "acme/later:v1")["name"], "acme/later:v1");
    admin.delete(&path("images", "acme.later.v1")).await.expect(200);
    let read = admin.get(&path("datapacks", name(&pack))).await.expect(200);
    assert_eq!(*entry(&read, "acme/later:v1"), json!({}));
}

#[tokio::test]
async fn the_same_spec_twice_is_the_same_pack() {
    let server = Server::start().await;
    let admin = server.admin();
    let first = create(&admin, "datapacks", &nameless_pack("grid", &["b/b:1", "a/a:1"])).await;
    let hex = name(&first).strip_prefix("dp-").unwrap_or_else(|| panic!("named by its hash: {}", name(&first)));
    assert!(hex.len() == 40 && hex.bytes().all(|b| b.is_ascii_hexdigit()), "named by its hash: {}", name(&first));
    // The names are a set, and 2h in another form is 2h.
    let mut again = nameless_pack("grid", &["a/a:1", "b/b:1", "a/a:1"]);
    again["spec"]["expireTime"] = "120m".into();
    let again = create(&admin, "datapacks", &again).await;
    assert_eq!(again["metadata"]["uid"], first["metadata"]["uid"], "{again:#}");
    assert_eq!(name(&again), name(&first));
    for other in [nameless_pack("base", &["a/a:1", "b/b:1"]), nameless_pack("grid", &["a/a:1"])] {
        let other = create(&admin, "datapacks", &other).await;
        assert_ne!(other["metadata"]["uid"], first["metadata"]["uid"], "another spec is another pack: {other:#}");
    }
    assert_eq!(names(&admin.get(&path("datapacks", "")).await.expect(200)).len(), 3);
}

#[tokio::test]
async fn a_pack_that_is_wrong_is_refused_with_the_field() {
    let server = Server::start().await;
    let admin = server.admin();
    for (spec, field) in [
        (json!({ "expireTime": "2d" }), "spec.expireTime"),
        (json!({ "expireTime": "-1h" }), "spec.expireTime"),
        (json!({ "names": ["ok/ok:v1", "a/:b"] }), "spec.names[1]"),
        (json!({ "type": "everything" }), "spec.type"),
    ] {
        let answer = admin.post(&path("datapacks", ""), &object("DataPack", "wrong", spec)).await;
        let status = answer.refused(422, "Invalid");
        let causes = status["details"]["causes"].as_array().unwrap_or_else(|| panic!("no causes: {answer}"));
        let fields: Vec<_> = causes.iter().map(|c| c["field"].as_str().unwrap_or_default()).collect();
        assert_eq!(fields, [field], "{answer}");
    }
    let list = admin.get(&path("datapacks", "")).await.expect(200);
    assert!(names(&list).is_empty(), "nothing that was refused is there: {list:#}");
}

#[tokio::test]
async fn a_thousand_names_whose_data_are_too_large_are_told_and_answered_once_they_fit() {
    const NAMES: usize = 1000;
    // With these a detail is a little more than 32 MiB.
    let docs = "d".repeat(32_700);
    let server = Server::start().await;
    let admin = server.admin();
    let of: Vec<String> = (0..NAMES).map(|i| format!("big/r{}:v{}", i / 10, i % 10)).collect();
    let posts = of.iter().map(|name| {
        let (admin, image) = (admin.clone(), image(name, json!({ "docs": docs, "size": 1 })));
        async move { admin.post(&path("images", ""), &image).await.expect(201) }
    });
    futures::stream::iter(posts).buffer_unordered(32).collect::<Vec<_>>().await;
    let of: Vec<&str> = of.iter().map(String::as_str).collect();

    let pack = create(&admin, "datapacks", &nameless_pack("detail", &of)).await;
    let status = &pack["status"];
    assert_eq!((&status["codes"], status.get("datas")), (&json!(3), None), "{status:#}");
    let message = status["message"].as_str().unwrap_or_default();
    for part in ["of 1000 images", "33554432 bytes", "fewer images", "smaller grain than detail"] {
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
    let place = path("datapacks", name(&pack));
    let read = admin.get(&place).await.expect(200);
    assert_eq!(read["status"]["message"], message);
    let list = admin.get(&path("datapacks", "")).await.expect(200);
    assert_eq!(list["items"][0]["status"]["codes"], 3);
    let grid = create(&admin, "datapacks", &nameless_pack("grid", &of)).await;
    assert_eq!(grid["status"]["codes"], 1);
    assert_eq!(grid["status"]["datas"].as_object().map(Map::len), Some(NAMES));
    let mut more = of.clone();
    more.push("big/r0:one-more");
    let refused = admin.post(&path("datapacks", ""), &nameless_pack("grid", &more)).await;
    refused.refused(422, "Invalid");

    for name in &of[..40] {
        describe(&admin, &name.replace(['/', ':'], "."), "docs", "short").await;
    }
    let fits = admin.get(&place).await.expect(200);
    assert_eq!((&fits["status"]["codes"], fits["status"].get("message")), (&json!(1), None));
    assert_eq!(fits["status"]["datas"].as_object().map(Map::len), Some(NAMES));
    assert_eq!(fits["status"]["datas"][of[999]]["docs"], docs);
}

#[tokio::test]
async fn a_pack_goes_when_its_time_is_over() {
    let server = Server::start().await;
    let admin = server.admin();
    let list = admin.get(&path("datapacks", "")).await.expect(200);
    let mut watch = admin.watch(&format!("{}?resourceVersion={}", path("datapacks", ""), revision(&list))).await;
    let spec = json!({ "names": [], "expireTime": "1s" });
    let pack = create(&admin, "datapacks", &object("DataPack", "short", spec)).await;
    assert!(pack["status"]["expiresAt"].is_string(), "{pack:#}");
    watch.expect("ADDED", "short").await;
    watch.expect("DELETED", "short").await;
    admin.get(&path("datapacks", "short")).await.refused(404, "NotFound");
}

#[tokio::test]
async fn what_is_private_is_seen_by_the_administrator_only() {
    let server = Server::start().await;
    let (admin, nobody) = (server.admin(), server.anonymous());
    create(&admin, "organizations", &object("Organization", "secret", json!({ "name": "secret" }))).await;
    let private = object("Repository", "secret.tool", json!({ "name": "secret/tool", "isPrivate": true }));
    create(&admin, "repositories", &private).await;
    create(&admin, "images", &image("secret/tool:v1", json!({ "description": "hidden" }))).await;
    create(&admin, "images", &image("open/tool:v1", json!({ "description": "shown" }))).await;

    let wanted = ["secret/tool:v1", "open/tool:v1"];
    let pack = create(&admin, "datapacks", &nameless_pack("grid", &wanted)).await;
    assert_eq!(entry(&pack, "secret/tool:v1")["description"], "hidden");
    // In both orders of asking, so that neither is given what was kept for the other.
    for _ in 0..2 {
        let seen = nobody.get(&path("datapacks", name(&pack))).await.expect(200);
        assert_eq!(*entry(&seen, "secret/tool:v1"), json!({}), "{seen:#}");
        assert_eq!(entry(&seen, "open/tool:v1")["description"], "shown");
        let all = admin.get(&path("datapacks", name(&pack))).await.expect(200);
        assert_eq!(entry(&all, "secret/tool:v1")["description"], "hidden");
    }

    for (plural, shown, all) in [
        ("images", vec!["open.tool.v1"], vec!["open.tool.v1", "secret.tool.v1"]),
        ("repositories", vec!["open.tool"], vec!["open.tool", "secret.tool"]),
    ] {
        assert_eq!(names(&nobody.get(&path(plural, "")).await.expect(200)), shown);
        assert_eq!(names(&admin.get(&path(plural, "")).await.expect(200)), all);
        let initial = format!(
            "{}?sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true",
            path(plural, "")
        );
        let mut watch = nobody.watch(&initial).await;
        for one in shown {
            watch.expect("ADDED", one).await;
        }
        let end = watch.next().await;
        assert_eq!(end.change, "BOOKMARK", "nothing hidden comes by watch: {:#}", end.object);
        assert_eq!(end.object["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    }
    for (plural, hidden, absent) in
        [("images", "secret.tool.v1", "secret.tool.v9"), ("repositories", "secret.tool", "secret.none")]
    {
        let (one, other) = (nobody.get(&path(plural, hidden)).await, nobody.get(&path(plural, absent)).await);
        one.refused(404, "NotFound");
        assert_eq!(one.text().replace(hidden, absent), other.text(), "hidden and absent look alike");
        assert_eq!(one.headers.get("content-type"), other.headers.get("content-type"));
        assert_eq!(one.status, other.status);
    }
}

#[tokio::test]
async fn nobody_writes_without_a_certificate() {
    let server = Server::start().await;
    let (admin, nobody) = (server.admin(), server.anonymous());
    let there = create(&admin, "images", &image("acme/tool:v1", json!({ "description": "mine" }))).await;
    let one = path("images", "acme.tool.v1");
    nobody.post(&path("images", ""), &image("acme/tool:v2", json!({}))).await.refused(403, "Forbidden");
    nobody.post(&path("datapacks", ""), &nameless_pack("base", &["acme/tool:v1"])).await.refused(403, "Forbidden");
    nobody.put(&one, &there).await.refused(403, "Forbidden");
    nobody.patch(&one, MERGE_PATCH, &json!({ "spec": { "detail": { "icon": "x" } } })).await.refused(403, "Forbidden");
    let test = json!([{ "op": "add", "path": "/metadata/labels/x", "value": "y" }]);
    nobody.patch(&one, JSON_PATCH, &test).await.refused(403, "Forbidden");
    nobody.delete(&one).await.refused(403, "Forbidden");
    nobody.delete(&path("images", "")).await.refused(403, "Forbidden");
    assert_eq!(admin.get(&one).await.expect(200)["metadata"], there["metadata"], "nothing has changed");
}

#[tokio::test]
async fn packs_and_versions_outlive_a_restart() {
    let mut server = Server::start().await;
    let admin = server.admin();
    create(&admin, "images", &image("acme/tool:v1", json!({ "description": "kept" }))).await;
    let pack = create(&admin, "datapacks", &nameless_pack("grid", &["acme/tool:v1"])).await;
    server.restart().await;
    let read = admin.get(&path("datapacks", name(&pack))).await.expect(200);
    assert_eq!(read, pack, "the pack is the same, its data and its version included");
    let selector = format!("{}?resourceVersion={}", path("datapacks", ""), revision(&pack));
    let mut watch = admin.watch(&selector).await;
    let other = create(&admin, "datapacks", &nameless_pack("base", &[])).await;
    assert!(revision(&other) > revision(&pack), "versions go on rising");
    watch.expect("ADDED", name(&other)).await;
}
