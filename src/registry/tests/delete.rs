use serde_json::json;

use super::super::testing::*;
use super::super::*;

#[tokio::test]
async fn preconditions_are_looked_at() {
    let hub = Hub::open().await;
    let made = hub.create(pack("p", "base", &[])).await;
    let wrong = [
        DeleteOptions { uid: Some("other".to_owned()), ..DeleteOptions::default() },
        DeleteOptions { resource_version: Some("1".to_owned()), ..DeleteOptions::default() },
    ];
    for options in wrong {
        let refused = hub.registry.delete(&admin(), Kind::DataPack, "p", &options).await.unwrap_err();
        assert_eq!(refused.code(), 409);
    }
    let right = DeleteOptions {
        uid: Some(made.uid().to_owned()),
        resource_version: Some(made.revision.to_string()),
        ..DeleteOptions::default()
    };
    hub.registry.delete(&admin(), Kind::DataPack, "p", &right).await.unwrap();
    assert_eq!(hub.registry.delete(&admin(), Kind::DataPack, "p", &right).await.unwrap_err().code(), 404);
}

#[tokio::test]
async fn of_many_who_delete_at_once_one_did_and_the_others_find_nothing() {
    let hub = Hub::open().await;
    hub.create(pack("p", "base", &[])).await;
    let options = DeleteOptions::default();
    let caller = admin();
    let all = (0..8).map(|_| hub.registry.delete(&caller, Kind::DataPack, "p", &options));
    let mut codes: Vec<_> = futures::future::join_all(all)
        .await
        .into_iter()
        .map(|done| done.map_or_else(|error| error.code(), |_| 200))
        .collect();
    codes.sort_unstable();
    assert_eq!(codes, [200, 404, 404, 404, 404, 404, 404, 404]);
}

#[tokio::test]
async fn finalizers_hold_an_object_until_the_last_is_taken_off() {
    let hub = Hub::open().await;
    let mut value = pack("p", "base", &[]);
    value["metadata"]["finalizers"] = json!(["example.com/a", "example.com/b"]);
    hub.create(value).await;
    assert!(matches!(hub.delete(Kind::DataPack, "p").await, Deleted::Terminating(..)));
    let marked = hub.get(Kind::DataPack, "p").await;
    assert_eq!(marked["metadata"]["deletionTimestamp"], "2023-11-14T22:13:20Z");
    assert_eq!(marked["metadata"]["generation"], 2);
    let again = hub.delete(Kind::DataPack, "p").await;
    assert!(
        matches!(again, Deleted::Terminating(_, r) if r.revision.to_string() == marked["metadata"]["resourceVersion"])
    );
    let more = |p: &mut serde_json::Value| {
        p["metadata"]["finalizers"] = json!(["example.com/a", "example.com/b", "example.com/c"]);
    };
    assert_eq!(hub.try_put(Kind::DataPack, "p", more).await.unwrap_err().code(), 422);
    hub.put(Kind::DataPack, "p", |p| p["metadata"]["finalizers"] = json!(["example.com/b"])).await;
    assert_eq!(hub.names(&admin(), Kind::DataPack).await, ["p"]);
    hub.put(Kind::DataPack, "p", |p| p["metadata"]["finalizers"] = json!([])).await;
    assert_eq!(hub.names(&admin(), Kind::DataPack).await, [""; 0]);
}

#[tokio::test]
async fn a_dry_run_deletes_nothing() {
    let hub = Hub::open().await;
    hub.create(pack("p", "base", &[])).await;
    let before = hub.revision();
    let options = DeleteOptions { dry_run: true, ..DeleteOptions::default() };
    let foreground = DeleteOptions { propagation: Some(Propagation::Foreground), ..options.clone() };
    for options in [&options, &foreground] {
        hub.registry.delete(&admin(), Kind::DataPack, "p", options).await.unwrap();
    }
    let list = ListOptions::default();
    hub.registry.delete_collection(&admin(), Kind::DataPack, &list, &options).await.unwrap();
    assert_eq!(hub.revision(), before);
}

#[tokio::test]
async fn a_collection_is_deleted_as_the_selector_says() {
    let hub = Hub::open().await;
    for name in ["o/a:1", "o/a:2", "o/b:1"] {
        hub.create(image(name, json!({}))).await;
    }
    let labels = crate::api::LabelSelector::parse("repository.imagehub.sealos.io=a").unwrap();
    let list = ListOptions { labels, ..ListOptions::default() };
    let (_, gone) =
        hub.registry.delete_collection(&admin(), Kind::Image, &list, &DeleteOptions::default()).await.unwrap();
    assert_eq!(gone.len(), 2);
    assert_eq!(hub.names(&admin(), Kind::Image).await, ["o.b.1"]);
}

#[tokio::test]
async fn nobody_but_administrators_deletes_or_learns_by_trying() {
    let hub = Hub::open().await;
    hub.create(repository("o/r", true)).await;
    for name in ["o.r", "o.absent"] {
        let refused = hub.registry.delete(&public(), Kind::Repository, name, &DeleteOptions::default()).await;
        let refused = refused.unwrap_err();
        assert_eq!(refused.code(), 403);
        let text = refused.to_string().replace(name, "X");
        assert!(text.starts_with("repositories.imagehub.sealos.io \"X\" is forbidden"), "{text}");
    }
}

#[tokio::test]
async fn a_collection_of_hundreds_is_deleted_whole_and_answered_in_order_and_stops_at_the_first_that_fails() {
    let hub = Hub::open().await;
    let names: Vec<String> = (0..150).map(|i| format!("p{i:03}")).collect();
    for name in &names {
        hub.create(pack(name, "base", &[])).await;
    }
    let delete = async |options: &DeleteOptions| {
        hub.registry.delete_collection(&admin(), Kind::DataPack, &ListOptions::default(), options).await
    };
    let (_, record) = hub.registry.get(&admin(), Kind::DataPack, "p003", None).await.unwrap();
    let one = DeleteOptions { uid: Some(record.uid().to_owned()), ..DeleteOptions::default() };
    assert_eq!(delete(&one).await.unwrap_err().code(), 409, "p000 has another uid");
    assert!(hub.names(&admin(), Kind::DataPack).await.len() >= 149, "none but the one that it names");
    let (_, gone) = delete(&DeleteOptions::default()).await.unwrap();
    let gone: Vec<_> = gone.iter().map(|record| record.name().to_owned()).collect();
    assert!(gone.len() >= 149 && gone.is_sorted(), "{gone:?}");
    assert_eq!(hub.names(&admin(), Kind::DataPack).await, [""; 0]);
}
