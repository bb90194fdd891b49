use serde_json::json;

use crate::api::Kind;
use crate::controller::keeper::Keeper;
use crate::graph::Key;
use crate::registry::testing::*;
use crate::registry::{EventType, WatchStart, WriteOptions};

/// How many events of the kind there were since the last call.
fn count(hub: &Hub, kind: Kind, since: &mut crate::graph::Revision) -> usize {
    hub.events(kind, std::mem::replace(since, hub.revision())).len()
}

#[tokio::test]
async fn each_change_of_what_is_public_is_announced_once() {
    let hub = Hub::open().await;
    let mut keeper = Keeper::new(&hub.registry);
    hub.create(image("o/r:1", json!({}))).await;
    hub.create(pack("p", "detail", &["o/r:1", "o/r:2"])).await;
    keeper.settle().await;
    let mut at = hub.revision();
    keeper.settle().await;
    assert_eq!(hub.revision(), at, "nothing goes on by itself");

    hub.create(image("o/r:2", json!({}))).await;
    keeper.settle().await;
    let mut since = at;
    assert_eq!(count(&hub, Kind::DataPack, &mut since), 1);
    assert_eq!(count(&hub, Kind::Repository, &mut at.clone()), 1, "its tags");
    assert_eq!(count(&hub, Kind::Organization, &mut at.clone()), 0);

    at = hub.revision();
    hub.create(image("o/s:1", json!({}))).await;
    keeper.settle().await;
    assert_eq!(count(&hub, Kind::Organization, &mut at.clone()), 1, "its repositories");
    assert_eq!(count(&hub, Kind::DataPack, &mut at), 0);
}

#[tokio::test]
async fn what_a_write_changes_is_announced_by_its_own_event() {
    let hub = Hub::open().await;
    let mut keeper = Keeper::new(&hub.registry);
    hub.create(image("o/r:1", json!({}))).await;
    hub.create(pack("p", "base", &["o/r:1"])).await;
    keeper.settle().await;
    let mut at = hub.revision();
    hub.put(Kind::DataPack, "p", |p| p["spec"]["names"] = json!(["o/r:2"])).await;
    keeper.settle().await;
    assert_eq!(count(&hub, Kind::DataPack, &mut at), 1);
    for private in [true, false] {
        hub.put(Kind::Repository, "o.r", |r| r["spec"]["isPrivate"] = private.into()).await;
        keeper.settle().await;
        assert_eq!(count(&hub, Kind::Repository, &mut at), 1, "{private}");
    }
    let status = json!({ "downloadCount": 3 });
    let options = WriteOptions::default();
    hub.put_status("o.r", status, options).await.unwrap();
    keeper.settle().await;
    assert_eq!(count(&hub, Kind::Repository, &mut at), 1);
}

#[tokio::test]
async fn what_is_as_it_was_before_the_announcement_is_no_event() {
    let hub = Hub::open().await;
    let mut keeper = Keeper::new(&hub.registry);
    hub.create(image("o/r:1", json!({ "arch": "a" }))).await;
    hub.create(pack("p", "detail", &["o/r:1"])).await;
    keeper.settle().await;
    let mut at = hub.revision();
    for arch in ["b", "a"] {
        hub.put(Kind::Image, "o.r.1", |i| i["spec"]["detail"]["arch"] = arch.into()).await;
    }
    keeper.settle().await;
    assert_eq!(count(&hub, Kind::DataPack, &mut at), 0);
}

#[tokio::test]
async fn a_pack_whose_names_change_away_and_back_announces_what_changed_meanwhile_and_after() {
    let hub = Hub::open().await;
    let mut keeper = Keeper::new(&hub.registry);
    hub.create(image("o/r:1", json!({ "arch": "a" }))).await;
    hub.create(pack("p", "detail", &["o/r:1"])).await;
    keeper.settle().await;
    hub.put(Kind::DataPack, "p", |p| p["spec"]["names"] = json!([])).await;
    hub.put(Kind::Image, "o.r.1", |i| i["spec"]["detail"]["arch"] = "b".into()).await;
    hub.put(Kind::DataPack, "p", |p| p["spec"]["names"] = json!(["o/r:1"])).await;
    keeper.settle().await;
    let mut at = hub.revision();
    // As it was when it was last announced under these names, but not as watchers last saw it.
    hub.put(Kind::Image, "o.r.1", |i| i["spec"]["detail"]["arch"] = "a".into()).await;
    keeper.settle().await;
    assert_eq!(count(&hub, Kind::DataPack, &mut at), 1);
}

#[tokio::test]
async fn nothing_private_is_announced() {
    let hub = Hub::open().await;
    let mut keeper = Keeper::new(&hub.registry);
    hub.create(repository("o/secret", true)).await;
    hub.create(pack("p", "detail", &["o/secret:1"])).await;
    keeper.settle().await;
    let at = hub.revision();
    hub.create(image("o/secret:1", json!({}))).await;
    hub.put(Kind::Image, "o.secret.1", |i| i["spec"]["detail"]["arch"] = "b".into()).await;
    keeper.settle().await;
    for kind in [Kind::DataPack, Kind::Repository, Kind::Organization] {
        assert_eq!(count(&hub, kind, &mut at.clone()), 0, "{kind}");
    }
}

#[tokio::test]
async fn a_start_announces_what_changed_before_the_end_and_nothing_else() {
    let dir = tempfile::TempDir::new().unwrap();
    let hub = Hub::open_in(dir.path()).await;
    hub.create(image("o/r:1", json!({}))).await;
    hub.create(pack("p", "base", &["o/r:1"])).await;
    hub.create(pack("q", "base", &["o/x:1"])).await;
    Keeper::new(&hub.registry).settle().await;
    hub.delete(Kind::Image, "o.r.1").await;
    hub.close();
    let hub = Hub::open_in(dir.path()).await;
    let at = hub.revision();
    Keeper::new(&hub.registry).settle().await;
    let told: Vec<_> = hub.events(Kind::DataPack, at).iter().map(|event| event.key.name.to_string()).collect();
    assert_eq!(told, ["p"]);
}

#[tokio::test]
async fn what_can_not_be_done_holds_up_nothing_else() {
    let hub = Hub::open().await;
    let mut keeper = Keeper::new(&hub.registry);
    hub.create(image("o/bad:1", json!({}))).await;
    hub.create(image("o/good:1", json!({}))).await;
    hub.create(pack("p", "base", &["o/good:2"])).await;
    keeper.settle().await;
    *hub.storage.refused.lock() = Some(Key::new(Kind::Repository, "o.bad"));
    let at = hub.revision();
    hub.create(image("o/bad:2", json!({}))).await;
    hub.create(image("o/good:2", json!({}))).await;
    keeper.settle().await;
    let told = |kind| hub.events(kind, at).iter().map(|event| event.key.name.to_string()).collect::<Vec<_>>();
    assert_eq!(told(Kind::Repository), ["o.good"]);
    assert_eq!(told(Kind::DataPack), ["p"]);
    // And it is done once it can be.
    *hub.storage.refused.lock() = None;
    while told(Kind::Repository) != ["o.good", "o.bad"] {
        keeper.start();
        keeper.wait().await;
    }
}

#[tokio::test]
async fn keywords_of_the_latest_image_are_labels_of_its_repository() {
    let hub = Hub::open().await;
    let mut keeper = Keeper::new(&hub.registry);
    hub.create(image("o/r:1.9", json!({ "keywords": ["storage", "unknown"] }))).await;
    keeper.settle().await;
    let keywords = async || {
        let labels = hub.get(Kind::Repository, "o.r").await["metadata"]["labels"].clone();
        let names = labels.as_object().unwrap().keys().filter_map(|k| k.strip_prefix("keyword.imagehub.sealos.io/"));
        names.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(keywords().await, ["Storage"]);
    hub.create(image("o/r:1.10", json!({ "keywords": ["GPU"] }))).await;
    keeper.settle().await;
    assert_eq!(keywords().await, ["GPU"]);
    hub.delete(Kind::Image, "o.r.1.10").await;
    keeper.settle().await;
    assert_eq!(keywords().await, ["Storage"]);
}

#[tokio::test]
async fn an_announcement_is_a_modification_to_watchers() {
    let hub = Hub::open().await;
    let mut keeper = Keeper::new(&hub.registry);
    hub.create(pack("p", "base", &["o/r:1"])).await;
    keeper.settle().await;
    let mut watch = hub.watch(&public(), Kind::DataPack, WatchStart::Now).await.unwrap();
    hub.create(image("o/r:1", json!({}))).await;
    keeper.settle().await;
    assert_eq!(drain(&mut watch), [format!("{} p", EventType::Modified.as_str())]);
}

#[tokio::test]
async fn images_that_an_older_one_hides_are_counted_while_they_are_there() {
    let hub = Hub::open().await;
    let mut keeper = Keeper::new(&hub.registry);
    let double = |name: &str| {
        let mut old = image("o/r:1", json!({}));
        old["metadata"]["name"] = name.into();
        old["metadata"]["annotations"] = json!({ crate::registry::RESTORE_ANNOTATION: "{}" });
        old
    };
    for (name, hidden) in [("o.r.1", 0), ("o.second", 1), ("o.third", 2)] {
        hub.restore(double(name)).await;
        keeper.settle().await;
        assert_eq!(hub.registry.not_served(), hidden, "{name}");
    }
    // A server that starts sees those that were there before it.
    hub.registry.note_not_served(0);
    keeper = Keeper::new(&hub.registry);
    assert_eq!(hub.registry.not_served(), 2);
    for (name, hidden) in [("o.r.1", 1), ("o.third", 0)] {
        hub.delete(Kind::Image, name).await;
        keeper.settle().await;
        assert_eq!(hub.registry.not_served(), hidden, "{name}");
    }
}
