use serde_json::{Value, json};

use crate::api::{API_VERSION, Kind};
use crate::controller::keeper::Keeper;
use crate::registry::Propagation;
use crate::registry::testing::*;

async fn with_images() -> Hub {
    let hub = Hub::open().await;
    for name in ["o/r:1", "o/r:2", "o/s:1"] {
        hub.create(image(name, json!({}))).await;
    }
    hub
}

async fn all(hub: &Hub) -> Vec<String> {
    let mut names = hub.names(&admin(), Kind::Organization).await;
    names.extend(hub.names(&admin(), Kind::Repository).await);
    names.extend(hub.names(&admin(), Kind::Image).await);
    names.extend(hub.names(&admin(), Kind::DataPack).await);
    names
}

fn owned_by(mut object: Value, owners: &[&Value]) -> Value {
    let owners = owners.iter().map(|owner| {
        json!({
            "apiVersion": API_VERSION, "kind": owner["kind"], "name": owner["metadata"]["name"],
            "uid": owner["metadata"]["uid"], "blockOwnerDeletion": true,
        })
    });
    object["metadata"]["ownerReferences"] = owners.collect();
    object
}

#[tokio::test]
async fn what_an_owner_owned_goes_after_it() {
    let hub = with_images().await;
    let mut keeper = Keeper::new(&hub.registry);
    hub.delete(Kind::Organization, "o").await;
    keeper.settle().await;
    assert_eq!(all(&hub).await, [""; 0]);
}

#[tokio::test]
async fn in_the_foreground_what_an_owner_owns_goes_before_it() {
    let hub = with_images().await;
    let mut keeper = Keeper::new(&hub.registry);
    let at = hub.revision();
    hub.delete_by(Kind::Organization, "o", Propagation::Foreground).await;
    keeper.settle().await;
    assert_eq!(all(&hub).await, [""; 0]);
    let gone = |kind| {
        let events = hub.events(kind, at);
        events.iter().filter(|e| e.new_record().is_none()).map(|e| e.revision).collect::<Vec<_>>()
    };
    assert!(gone(Kind::Image).iter().max() < gone(Kind::Repository).iter().max());
    assert!(gone(Kind::Repository).iter().max() < gone(Kind::Organization).iter().max());
}

#[tokio::test]
async fn orphans_stay_and_have_no_owner() {
    let hub = with_images().await;
    let mut keeper = Keeper::new(&hub.registry);
    hub.delete_by(Kind::Repository, "o.r", Propagation::Orphan).await;
    keeper.settle().await;
    assert_eq!(all(&hub).await, ["o", "o.s", "o.r.1", "o.r.2", "o.s.1"]);
    assert_eq!(hub.get(Kind::Image, "o.r.1").await["metadata"].get("ownerReferences"), None);
    // A repository made anew takes them in.
    let made = hub.create(repository("o/r", false)).await;
    keeper.settle().await;
    assert_eq!(hub.get(Kind::Image, "o.r.1").await["metadata"]["ownerReferences"][0]["uid"], made.uid());
}

#[tokio::test]
async fn a_start_finishes_what_was_under_way() {
    for propagation in [Propagation::Background, Propagation::Foreground, Propagation::Orphan] {
        let dir = tempfile::TempDir::new().unwrap();
        let hub = Hub::open_in(dir.path()).await;
        hub.create(image("o/r:1", json!({}))).await;
        hub.delete_by(Kind::Repository, "o.r", propagation).await;
        hub.close();
        let hub = Hub::open_in(dir.path()).await;
        Keeper::new(&hub.registry).settle().await;
        let left: &[&str] = if propagation == Propagation::Orphan { &["o", "o.r.1"] } else { &["o"] };
        assert_eq!(all(&hub).await, left, "{propagation:?}");
    }
}

#[tokio::test]
async fn a_foreground_deletion_waits_for_what_finalizers_hold() {
    let hub = with_images().await;
    let mut keeper = Keeper::new(&hub.registry);
    hub.put(Kind::Image, "o.r.1", |i| i["metadata"]["finalizers"] = json!(["example.com/hold"])).await;
    hub.delete_by(Kind::Repository, "o.r", Propagation::Foreground).await;
    keeper.settle().await;
    assert_eq!(all(&hub).await, ["o", "o.r", "o.s", "o.r.1", "o.s.1"]);
    hub.put(Kind::Image, "o.r.1", |i| i["metadata"]["finalizers"] = json!([])).await;
    keeper.settle().await;
    assert_eq!(all(&hub).await, ["o", "o.s", "o.s.1"]);
}

#[tokio::test]
async fn a_foreground_deletion_goes_on_when_what_it_waited_for_is_no_longer_its_own() {
    let hub = with_images().await;
    let mut keeper = Keeper::new(&hub.registry);
    let owner = hub.get(Kind::Repository, "o.r").await;
    let mut value = owned_by(pack("p", "base", &[]), &[&owner]);
    value["metadata"]["finalizers"] = json!(["example.com/hold"]);
    hub.create(value).await;
    hub.delete_by(Kind::Repository, "o.r", Propagation::Foreground).await;
    keeper.settle().await;
    assert_eq!(all(&hub).await, ["o", "o.r", "o.s", "o.s.1", "p"]);
    hub.put(Kind::DataPack, "p", |p| p["metadata"]["ownerReferences"] = json!([])).await;
    keeper.settle().await;
    assert_eq!(all(&hub).await, ["o", "o.s", "o.s.1", "p"]);
}

#[tokio::test]
async fn what_has_another_owner_is_let_go() {
    for propagation in [Propagation::Background, Propagation::Foreground] {
        let hub = with_images().await;
        let mut keeper = Keeper::new(&hub.registry);
        let owners = [hub.get(Kind::Repository, "o.r").await, hub.get(Kind::Image, "o.s.1").await];
        hub.create(owned_by(pack("p", "base", &[]), &[&owners[0], &owners[1]])).await;
        hub.delete_by(Kind::Repository, "o.r", propagation).await;
        keeper.settle().await;
        let left = hub.get(Kind::DataPack, "p").await["metadata"]["ownerReferences"].clone();
        assert_eq!(left.as_array().unwrap().len(), 1, "{propagation:?}");
        assert_eq!(left[0]["kind"], "Image");
        hub.delete(Kind::Image, "o.s.1").await;
        keeper.settle().await;
        assert_eq!(hub.names(&admin(), Kind::DataPack).await, [""; 0]);
    }
}

#[tokio::test]
async fn what_an_owner_of_another_group_has_is_not_ours_to_delete() {
    for propagation in [Propagation::Background, Propagation::Foreground] {
        let hub = with_images().await;
        let mut keeper = Keeper::new(&hub.registry);
        let mut value = owned_by(pack("p", "base", &[]), &[&hub.get(Kind::Repository, "o.r").await]);
        let foreign = json!({ "apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u" });
        value["metadata"]["ownerReferences"].as_array_mut().unwrap().push(foreign);
        hub.create(value).await;
        hub.delete_by(Kind::Repository, "o.r", propagation).await;
        keeper.settle().await;
        assert_eq!(hub.names(&admin(), Kind::DataPack).await, ["p"], "{propagation:?}");
        assert_eq!(hub.names(&admin(), Kind::Repository).await, ["o.s"]);
    }
}

#[tokio::test]
async fn what_names_an_owner_that_never_was_is_collected() {
    let hub = Hub::open().await;
    let mut keeper = Keeper::new(&hub.registry);
    let ghost = json!({ "kind": "Image", "metadata": { "name": "o.r.1", "uid": "ghost" } });
    hub.create(owned_by(pack("p", "base", &[]), &[&ghost])).await;
    keeper.settle().await;
    assert_eq!(hub.names(&admin(), Kind::DataPack).await, [""; 0]);
}

#[tokio::test]
async fn owners_in_a_circle_go_together() {
    let hub = Hub::open().await;
    let mut keeper = Keeper::new(&hub.registry);
    for name in ["a", "b"] {
        hub.create(pack(name, "base", &[])).await;
    }
    for (name, owner) in [("a", "b"), ("b", "a")] {
        let owner = hub.get(Kind::DataPack, owner).await;
        hub.put(Kind::DataPack, name, |p| *p = owned_by(p.clone(), &[&owner])).await;
    }
    keeper.settle().await;
    assert_eq!(hub.names(&admin(), Kind::DataPack).await, ["a", "b"]);
    hub.delete(Kind::DataPack, "a").await;
    keeper.settle().await;
    assert_eq!(hub.names(&admin(), Kind::DataPack).await, [""; 0]);
}

#[tokio::test]
async fn very_many_dependents_go_too() {
    let hub = Hub::open().await;
    let mut keeper = Keeper::new(&hub.registry);
    for i in 0..150 {
        hub.create(image(&format!("o/r:{i}"), json!({}))).await;
    }
    hub.delete_by(Kind::Organization, "o", Propagation::Foreground).await;
    keeper.settle().await;
    assert_eq!(all(&hub).await, [""; 0]);
}
