use serde_json::json;

use super::super::testing::*;
use super::super::*;

#[tokio::test]
async fn the_server_sets_what_is_its_own() {
    let hub = Hub::open().await;
    let mut value = image("o/r:1", json!({}));
    value["metadata"]["uid"] = "mine".into();
    value["metadata"]["generation"] = 7.into();
    value["metadata"]["namespace"] = "old".into();
    let record = hub.create(value).await;
    let read = hub.get(Kind::Image, "o.r.1").await;
    assert_ne!(read["metadata"]["uid"], "mine");
    assert_eq!(read["metadata"]["generation"], 1);
    assert_eq!(read["metadata"]["creationTimestamp"], "2023-11-14T22:13:20Z");
    assert_eq!(read["metadata"].get("namespace"), None);
    assert_eq!(read["metadata"]["resourceVersion"], record.revision.to_string());
    assert_eq!(read["metadata"]["labels"]["tag.imagehub.sealos.io"], "1");
}

#[tokio::test]
async fn a_name_is_given_once() {
    let hub = Hub::open().await;
    hub.create(image("o/r:1", json!({}))).await;
    assert_eq!(hub.try_create(image("o/r:1", json!({}))).await.unwrap_err().code(), 409);
}

#[tokio::test]
async fn the_second_who_claims_a_full_name_is_told_who_has_it() {
    let hub = Hub::open().await;
    hub.create(image("o/r:1", json!({}))).await;
    let mut second = image("o/r:1", json!({}));
    second["metadata"]["name"] = "o.another".into();
    let refused = hub.try_create(second).await.unwrap_err();
    assert_eq!(refused.code(), 422);
    assert!(refused.to_string().contains("o.r.1"), "{refused}");
}

#[tokio::test]
async fn of_many_who_claim_a_full_name_at_once_one_has_it() {
    let hub = Hub::open().await;
    let claims = (0..8).map(|i| {
        let mut value = image("o/r:1", json!({}));
        value["metadata"]["name"] = format!("o.r{i}").into();
        hub.try_create(value)
    });
    let made = futures::future::join_all(claims).await.into_iter().flatten().count();
    assert_eq!(made, 1);
    assert_eq!(hub.names(&admin(), Kind::Repository).await, ["o.r"]);
}

#[tokio::test]
async fn a_generated_name_begins_as_asked() {
    let hub = Hub::open().await;
    let mut value = pack("", "base", &[]);
    value["metadata"] = json!({ "generateName": "mine-" });
    let record = hub.create(value).await;
    assert_eq!(record.name().len(), "mine-".len() + 5);
    assert!(record.name().starts_with("mine-"));
}

#[tokio::test]
async fn a_pack_without_a_name_is_shared_by_those_who_want_the_same() {
    let hub = Hub::open().await;
    let unnamed = |names: &[&str]| {
        let mut value = pack("", "grid", names);
        value["metadata"] = json!({});
        value
    };
    let first = hub.try_create(unnamed(&["o/a:1", "o/b:1"])).await.unwrap();
    let second = hub.try_create(unnamed(&["o/b:1", "o/a:1", "o/a:1"])).await.unwrap();
    assert!(first.created && !second.created);
    assert_eq!(first.record.name(), second.record.name());
    assert_eq!(first.record.revision, second.record.revision, "more than half of its time is left");
    // Begun anew once less than half is left.
    hub.clock.step_ms(3_700_000);
    let third = hub.try_create(unnamed(&["o/a:1", "o/b:1"])).await.unwrap();
    assert!(third.record.revision > first.record.revision);
    assert_eq!(third.record.uid(), first.record.uid());
    let expires = |written: &Written| written.record.pack().unwrap().expires_ms;
    assert_eq!(expires(&third) - expires(&first), 3_700_000);
}

#[tokio::test]
async fn many_who_want_the_same_pack_at_once_share_one() {
    let hub = Hub::open().await;
    let mut value = pack("", "grid", &["o/a:1"]);
    value["metadata"] = json!({});
    let all = futures::future::join_all((0..8).map(|_| hub.try_create(value.clone()))).await;
    let uids: std::collections::BTreeSet<_> =
        all.into_iter().map(|written| written.unwrap().record.uid().to_owned()).collect();
    assert_eq!(uids.len(), 1);
}

#[tokio::test]
async fn a_dry_run_checks_all_and_stores_nothing() {
    let hub = Hub::open().await;
    let before = hub.revision();
    let drafted = hub.dry_create(image("o/r:1", json!({}))).await.unwrap();
    assert_eq!(drafted.record.image().map(|i| i.name()), Some("o/r:1"));
    assert_eq!(hub.dry_create(image("o/r:", json!({}))).await.unwrap_err().code(), 422);
    assert_eq!(hub.revision(), before);
    hub.create(image("o/r:1", json!({}))).await;
    assert_eq!(hub.dry_create(image("o/r:1", json!({}))).await.unwrap_err().code(), 409);
}

#[tokio::test]
async fn what_could_not_be_read_again_is_never_stored() {
    let hub = Hub::open().await;
    hub.create(pack("p", "base", &[])).await;
    let strange = json!([{ "apiVersion": "v1", "kind": "Node", "name": "n", "uid": "a\"b\\c\u{7}" }]);
    hub.put(Kind::DataPack, "p", |p| p["metadata"]["ownerReferences"] = strange.clone()).await;
    // The graph goes on, and what is told is what was written.
    hub.create(pack("q", "base", &[])).await;
    assert_eq!(hub.get(Kind::DataPack, "p").await["metadata"]["ownerReferences"], strange);
    let everything = hub.registry.reader(&admin()).visible;
    assert_eq!(everything.dependents("a\"b\\c\u{7}").count(), 1);
    assert!(!hub.writer_ended());
}

#[tokio::test]
async fn empty_lists_and_maps_are_as_good_as_none() {
    let hub = Hub::open().await;
    let mut value = pack("p", "base", &[]);
    value["metadata"]["labels"] = json!({});
    value["metadata"]["finalizers"] = json!([]);
    value["metadata"]["ownerReferences"] = json!([]);
    let made = hub.create(value).await;
    let again = hub.put(Kind::DataPack, "p", |p| p["metadata"]["annotations"] = json!({})).await;
    assert_eq!(made.revision, again.revision);
}
