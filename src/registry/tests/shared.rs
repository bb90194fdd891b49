//! Two processes over one storage: what one of them knows may be behind, and it neither refuses nor leaves things as
//! they are on what it knows alone.

use serde_json::json;

use super::super::testing::*;
use super::super::*;

/// Two of them; what the second does is not known to the first until that asks the storage.
async fn behind() -> (Hub, Hub) {
    let (hub, other) = Hub::pair().await;
    for name in ["o/r:1", "o/r:2"] {
        let made = hub.create(image(name, json!({}))).await;
        other.registry.graph().reached(made.revision).await;
    }
    hub.storage.hold();
    (hub, other)
}

#[tokio::test]
async fn a_name_that_another_has_freed_is_free() {
    let (hub, other) = behind().await;
    other.delete(Kind::Image, "o.r.1").await;
    let made = hub.create(image("o/r:1", json!({ "docs": "new" }))).await;
    assert_eq!(hub.get(Kind::Image, "o.r.1").await["metadata"]["resourceVersion"], made.revision.to_string());
}

#[tokio::test]
async fn a_name_that_another_has_taken_is_taken() {
    let (hub, other) = behind().await;
    other.create(image("o/r:3", json!({}))).await;
    let refused = hub.try_create(image("o/r:3", json!({}))).await.unwrap_err();
    assert_eq!(refused.code(), 409, "{refused}");
}

#[tokio::test]
async fn a_version_that_another_has_made_is_no_conflict() {
    let (hub, other) = behind().await;
    let newer = other.merge(Kind::Image, "o.r.1", json!({ "spec": { "detail": { "docs": "d" } } })).await.unwrap();
    let version = newer.record.revision.to_string();
    let put = hub.try_put(Kind::Image, "o.r.1", |i| {
        i["metadata"]["resourceVersion"] = version.clone().into();
        i["spec"]["detail"]["docs"] = "e".into();
    });
    assert!(put.await.unwrap().record.revision > newer.record.revision);
    assert_eq!(hub.get(Kind::Image, "o.r.1").await["spec"]["detail"]["docs"], "e");
}

#[tokio::test]
async fn a_change_back_of_what_another_has_changed_is_made() {
    let (hub, other) = behind().await;
    other.merge(Kind::Image, "o.r.1", json!({ "metadata": { "labels": { "a": "theirs" } } })).await.unwrap();
    // Nothing would change of what is known here.
    hub.merge(Kind::Image, "o.r.1", json!({ "metadata": { "labels": { "a": null } } })).await.unwrap();
    assert_eq!(hub.get(Kind::Image, "o.r.1").await["metadata"]["labels"].get("a"), None);
}

#[tokio::test]
async fn what_another_has_made_can_be_changed_and_deleted() {
    let (hub, other) = behind().await;
    other.create(image("o/r:3", json!({}))).await;
    hub.merge(Kind::Image, "o.r.3", json!({ "spec": { "detail": { "docs": "d" } } })).await.unwrap();
    hub.storage.hold();
    other.create(image("o/r:4", json!({}))).await;
    hub.delete(Kind::Image, "o.r.4").await;
    let gone = hub.read(&admin(), Kind::Image, "o.r.4").await.unwrap_err();
    assert_eq!(gone.code(), 404, "{gone}");
}

#[tokio::test]
async fn what_another_has_deleted_is_not_found() {
    let (hub, other) = behind().await;
    other.delete(Kind::Image, "o.r.2").await;
    let gone = hub.merge(Kind::Image, "o.r.2", json!({ "spec": { "detail": { "docs": "d" } } })).await.unwrap_err();
    assert_eq!(gone.code(), 404, "{gone}");
}
