use serde_json::{Value, json};

use super::super::testing::*;
use super::super::*;

#[tokio::test]
async fn a_put_must_say_which_version_it_was_made_from() {
    let hub = Hub::open().await;
    hub.create(pack("p", "base", &[])).await;
    let without = hub.try_put(Kind::DataPack, "p", |p| p["metadata"]["resourceVersion"] = "".into()).await;
    assert_eq!(without.unwrap_err().code(), 422);
    let other = hub.try_put(Kind::DataPack, "p", |p| p["metadata"]["resourceVersion"] = "1".into()).await;
    assert_eq!(other.unwrap_err().code(), 409);
}

#[tokio::test]
async fn a_put_of_another_incarnation_is_a_conflict() {
    let hub = Hub::open().await;
    hub.create(pack("p", "base", &[])).await;
    let other = hub.try_put(Kind::DataPack, "p", |p| p["metadata"]["uid"] = "other".into()).await;
    assert_eq!(other.unwrap_err().code(), 409);
}

#[tokio::test]
async fn what_never_changes_can_not_be_changed() {
    let hub = Hub::open().await;
    hub.create(image("o/r:1", json!({}))).await;
    for (path, value) in [("/spec/name", "o/r:2")] {
        let refused = hub.try_put(Kind::Image, "o.r.1", |i| *i.pointer_mut(path).unwrap() = value.into()).await;
        let refused = refused.unwrap_err();
        assert_eq!(refused.code(), 422, "{path}");
        assert!(refused.to_string().contains("field is immutable"), "{refused}");
    }
}

#[tokio::test]
async fn only_a_change_of_the_spec_raises_the_generation_and_no_change_is_no_commit() {
    let hub = Hub::open().await;
    let made = hub.create(image("o/r:1", json!({}))).await;
    let same = hub.put(Kind::Image, "o.r.1", |_| {}).await;
    assert_eq!(same.revision, made.revision);
    hub.put(Kind::Image, "o.r.1", |i| i["metadata"]["annotations"] = json!({ "a": "b" })).await;
    assert_eq!(hub.get(Kind::Image, "o.r.1").await["metadata"]["generation"], 1);
    hub.put(Kind::Image, "o.r.1", |i| i["spec"]["detail"]["size"] = 5.into()).await;
    assert_eq!(hub.get(Kind::Image, "o.r.1").await["metadata"]["generation"], 2);
}

#[tokio::test]
async fn a_reapply_keeps_what_it_leaves_empty_and_a_json_patch_clears() {
    let hub = Hub::open().await;
    hub.create(image("o/r:1", json!({ "docs": "d", "icon": "i", "keywords": ["Storage"], "arch": "amd64" }))).await;
    let reapplies = WriteOptions { reapplies: true, ..WriteOptions::default() };
    let put = |i: &mut Value| i["spec"]["detail"] = json!({ "docs": "" });
    hub.put_with(Kind::Image, "o.r.1", reapplies, put).await.unwrap();
    let detail = hub.get(Kind::Image, "o.r.1").await["spec"]["detail"].clone();
    assert_eq!(
        (&detail["docs"], &detail["icon"], &detail["keywords"]),
        (&json!("d"), &json!("i"), &json!(["Storage"]))
    );
    assert_eq!(detail.get("arch"), None);
    let patch = Patch::Json(serde_json::from_value(json!([{ "op": "remove", "path": "/spec/detail/docs" }])).unwrap());
    let options = WriteOptions::default();
    hub.registry.patch(&admin(), Kind::Image, "o.r.1", &patch, FieldValidation::Strict, options).await.unwrap();
    assert_eq!(hub.get(Kind::Image, "o.r.1").await["spec"]["detail"].get("docs"), None);
}

#[tokio::test]
async fn patches_of_different_fields_at_once_are_all_kept() {
    let hub = Hub::open().await;
    hub.create(pack("p", "base", &[])).await;
    let patches = (0..8).map(|i| {
        let patch = json!({ "metadata": { "annotations": { format!("a{i}"): "b" } } });
        hub.merge(Kind::DataPack, "p", patch)
    });
    for patched in futures::future::join_all(patches).await {
        patched.unwrap();
    }
    let annotations = hub.get(Kind::DataPack, "p").await["metadata"]["annotations"].clone();
    assert_eq!(annotations.as_object().unwrap().len(), 8);
}

#[tokio::test]
async fn of_puts_from_one_version_one_is_made() {
    let hub = Hub::open().await;
    hub.create(pack("p", "base", &[])).await;
    let seen = hub.get(Kind::DataPack, "p").await;
    let puts = (0..8).map(|i| {
        let mut value = seen.clone();
        value["metadata"]["annotations"] = json!({ "a": i.to_string() });
        hub.try_put(Kind::DataPack, "p", move |p| p.clone_from(&value))
    });
    let made = futures::future::join_all(puts).await.into_iter().flatten().count();
    assert_eq!(made, 1);
}

#[tokio::test]
async fn a_patch_may_name_the_version_and_the_uid_that_it_is_meant_for() {
    let hub = Hub::open().await;
    hub.create(image("o/r:1", json!({}))).await;
    // A patch of the uid tries to change it, as kube has it.
    for (stale, code) in [(json!({ "resourceVersion": "1" }), 409), (json!({ "uid": "other" }), 422)] {
        let refused = hub.merge(Kind::Image, "o.r.1", json!({ "metadata": stale })).await;
        assert_eq!(refused.unwrap_err().code(), code);
        let patch = Patch::Merge(json!({ "metadata": stale, "status": { "downloadCount": 3 } }));
        let options = WriteOptions::default();
        let refused = hub.registry.patch_status(&admin(), Kind::Repository, "o.r", &patch, options).await;
        assert_eq!(refused.unwrap_err().code(), 409, "{stale}");
    }
}

#[tokio::test]
async fn a_dry_run_answers_with_what_would_be_and_changes_nothing() {
    let hub = Hub::open().await;
    hub.create(image("o/r:1", json!({}))).await;
    let before = hub.revision();
    let dry = WriteOptions { dry_run: true, ..WriteOptions::default() };
    let drafted = hub.put_with(Kind::Image, "o.r.1", dry, |i| i["spec"]["detail"]["size"] = 5.into()).await.unwrap();
    assert_eq!(drafted.record.image().unwrap().size(), 5);
    let status = json!({ "downloadCount": 5 });
    hub.put_status("o.r", status, dry).await.unwrap();
    assert_eq!(hub.revision(), before);
    assert_eq!(hub.get(Kind::Repository, "o.r").await["status"]["downloadCount"], 0);
}

#[tokio::test]
async fn an_organization_is_never_without_its_creator_among_its_managers() {
    let hub = Hub::open().await;
    hub.create(image("o/r:1", json!({}))).await;
    hub.put(Kind::Organization, "o", |o| o["spec"]["manager"] = json!(["alice", "alice"])).await;
    let managers = hub.get(Kind::Organization, "o").await["spec"]["manager"].clone();
    assert_eq!(managers, json!(["alice", "user:system:imagehub"]));
}

#[tokio::test]
async fn a_write_to_status_of_what_is_computed_is_not_kept() {
    let hub = Hub::open().await;
    hub.create(image("o/r:1", json!({}))).await;
    let before = hub.revision();
    hub.put(Kind::Repository, "o.r", |r| r["status"]["downloadCount"] = 9.into()).await;
    let status = json!({ "tags": [], "latestTag": null });
    let options = WriteOptions::default();
    hub.put_status("o.r", status, options).await.unwrap();
    assert_eq!(hub.revision(), before);
    let count = |n: Value| json!({ "downloadCount": n });
    let set = |n| hub.put_status("o.r", count(n), options);
    assert_eq!(set(json!(-1)).await.unwrap_err().code(), 422);
    set(json!(4)).await.unwrap();
    assert_eq!(hub.get(Kind::Repository, "o.r").await["status"]["downloadCount"], 4);
}

#[tokio::test]
async fn the_server_may_add_to_an_object_that_is_as_large_as_allowed() {
    let hub = Hub::open().await;
    hub.create(image("o/r:1", json!({}))).await;
    let fill = |n: usize| json!({ "docs": "x".repeat(n) });
    let mut value = image("o/r:2", fill(0));
    value["metadata"]["finalizers"] = json!(["example.com/hold"]);
    // As large as fits.
    let (mut fits, mut too_large) = (OBJECT_LIMIT - 4096, OBJECT_LIMIT);
    while fits + 1 < too_large {
        let middle = usize::midpoint(fits, too_large);
        value["spec"]["detail"] = fill(middle);
        match hub.dry_create(value.clone()).await {
            Ok(_) => fits = middle,
            Err(error) => {
                assert_eq!(error.code(), 413);
                too_large = middle;
            }
        }
    }
    value["spec"]["detail"] = fill(fits);
    hub.create(value).await;
    assert!(matches!(hub.delete(Kind::Image, "o.r.2").await, Deleted::Terminating(..)));
}

#[test]
fn a_json_patch_that_moves_the_elements_of_arrays_again_and_again_is_too_large() {
    let insert = |count: usize| {
        let operations: Vec<_> = (0..count).map(|_| json!({ "op": "add", "path": "/a/0", "value": 1 })).collect();
        let patch = Patch::Json(serde_json::from_value(json!(operations)).unwrap());
        let mut value = json!({ "a": [] });
        patch.apply(Kind::Image, "a", &mut value).map(|()| value["a"].as_array().map_or(0, Vec::len))
    };
    assert_eq!(insert(4000).unwrap(), 4000);
    let refused = insert(PATCH_OPERATIONS).unwrap_err();
    assert_eq!(refused.code(), 413);
    assert!(refused.to_string().contains("put elements in at the end"), "{refused}");
}
