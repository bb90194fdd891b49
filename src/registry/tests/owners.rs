use serde_json::json;

use super::super::testing::*;
use super::super::*;

fn owner(object: &serde_json::Value) -> (&str, &str) {
    let owner = &object["metadata"]["ownerReferences"][0];
    (owner["kind"].as_str().unwrap(), owner["uid"].as_str().unwrap())
}

#[tokio::test]
async fn an_image_brings_its_repository_and_its_organization() {
    let hub = Hub::open().await;
    let start = hub.revision();
    hub.create(image("o/r:1", json!({}))).await;
    let (organization, repository) = (hub.get(Kind::Organization, "o").await, hub.get(Kind::Repository, "o.r").await);
    assert_eq!(owner(&hub.get(Kind::Image, "o.r.1").await).1, repository["metadata"]["uid"]);
    assert_eq!(owner(&repository).1, organization["metadata"]["uid"]);
    assert_eq!(organization["spec"]["manager"], json!(["user:system:imagehub"]));
    // The owners first.
    let at = |kind| hub.events(kind, start)[0].revision;
    assert!(at(Kind::Organization) < at(Kind::Repository) && at(Kind::Repository) < at(Kind::Image));
}

#[tokio::test]
async fn nothing_is_made_of_an_image_that_is_refused() {
    let hub = Hub::open().await;
    let before = hub.revision();
    let mut bad = image("o/r:1", json!({}));
    bad["metadata"]["name"] = "other.r.1".into();
    assert_eq!(hub.try_create(bad).await.unwrap_err().code(), 422);
    assert_eq!(hub.revision(), before);
}

#[tokio::test]
async fn an_image_whose_repository_is_going_is_refused() {
    let hub = Hub::open().await;
    hub.create(image("o/r:1", json!({}))).await;
    hub.delete_by(Kind::Repository, "o.r", Propagation::Foreground).await;
    assert_eq!(hub.try_create(image("o/r:2", json!({}))).await.unwrap_err().code(), 409);
    assert_eq!(hub.dry_create(image("o/r:2", json!({}))).await.unwrap_err().code(), 409);
}

#[tokio::test]
async fn an_image_whose_repositorys_name_another_one_has_is_refused() {
    let hub = Hub::open().await;
    let mut squatter = repository("o/other", false);
    squatter["metadata"]["name"] = "o.r".into();
    hub.create(squatter).await;
    let before = hub.revision();
    for refused in [hub.dry_create(image("o/r:1", json!({}))).await, hub.try_create(image("o/r:1", json!({}))).await] {
        let refused = refused.unwrap_err();
        assert_eq!(refused.code(), 409, "{refused}");
        assert!(refused.to_string().contains("o/other"), "{refused}");
    }
    assert_eq!(hub.revision(), before);
}

#[tokio::test]
async fn an_image_is_acknowledged_only_with_the_owner_that_stands() {
    let hub = Hub::open().await;
    hub.create(repository("o/r", false)).await;
    let registry = Arc::clone(&hub.registry);
    // Right before the image is stored its repository goes.
    hub.storage.before(Key::new(Kind::Image, "o.r.1"), async move {
        registry.delete(&admin(), Kind::Repository, "o.r", &DeleteOptions::default()).await.unwrap();
    });
    hub.create(image("o/r:1", json!({}))).await;
    let repository = hub.get(Kind::Repository, "o.r").await;
    assert_eq!(owner(&hub.get(Kind::Image, "o.r.1").await).1, repository["metadata"]["uid"]);
}

#[tokio::test]
async fn an_image_stored_while_its_repository_begins_to_go_is_not_acknowledged() {
    let hub = Hub::open().await;
    hub.create(repository("o/r", false)).await;
    let registry = Arc::clone(&hub.registry);
    hub.storage.before(Key::new(Kind::Image, "o.r.1"), async move {
        let options = DeleteOptions { propagation: Some(Propagation::Foreground), ..DeleteOptions::default() };
        registry.delete(&admin(), Kind::Repository, "o.r", &options).await.unwrap();
    });
    assert_eq!(hub.try_create(image("o/r:1", json!({}))).await.unwrap_err().code(), 409);
    assert_eq!(hub.names(&admin(), Kind::Image).await, [""; 0]);
}

#[tokio::test]
async fn a_repository_owned_again_keeps_the_owners_of_other_kinds() {
    let hub = Hub::open().await;
    let mut value = image("o/r:1", json!({}));
    value["metadata"]["ownerReferences"] = json!([{ "apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u" }]);
    hub.create(value).await;
    let read = hub.get(Kind::Image, "o.r.1").await;
    let kinds: Vec<_> = read["metadata"]["ownerReferences"].as_array().unwrap().iter().map(|o| &o["kind"]).collect();
    assert_eq!(kinds, ["Node", "Repository"]);
}

#[tokio::test]
async fn a_change_of_what_goes_with_its_owner_right_then_is_not_acknowledged() {
    let hub = Hub::open().await;
    hub.create(image("o/r:1", json!({}))).await;
    let key = Key::new(Kind::Image, "o.r.1");
    let delete = |kind, name: &'static str| {
        let registry = Arc::clone(&hub.registry);
        async move {
            registry.delete(&admin(), kind, name, &DeleteOptions::default()).await.unwrap();
        }
    };
    // Before it is stored its repository goes; and as soon as it is, the garbage collector takes it.
    hub.storage.before(key.clone(), delete(Kind::Repository, "o.r"));
    hub.storage.after(key, delete(Kind::Image, "o.r.1"));
    let changed = hub.try_put(Kind::Image, "o.r.1", |image| image["spec"]["detail"]["docs"] = "new".into()).await;
    assert_eq!(changed.unwrap_err().code(), 404);
    assert_eq!(hub.names(&admin(), Kind::Image).await, [""; 0]);
}

#[tokio::test]
async fn old_data_whose_name_has_no_repository_in_it_can_be_changed() {
    let hub = Hub::open().await;
    let mut old = image("odd", json!({}));
    old["metadata"]["annotations"] = json!({ RESTORE_ANNOTATION: "{}" });
    hub.restore(old).await;
    hub.put(Kind::Image, "odd", |image| image["spec"]["detail"]["docs"] = "new".into()).await;
    assert_eq!(hub.get(Kind::Image, "odd").await["spec"]["detail"]["docs"], "new");
}
