use std::time::Duration;

use futures::FutureExt as _;
use tokio::time::timeout;

use super::super::testing::*;
use super::super::*;
use crate::api::{FieldSelector, LabelSelector};

#[tokio::test]
async fn a_watch_from_a_lists_version_brings_each_change_once_and_in_order() {
    let hub = Hub::open().await;
    hub.create(pack("a", "base", &[])).await;
    let start = hub.revision();
    let mut watch = hub.watch(&public(), Kind::DataPack, WatchStart::After(start)).await.unwrap();
    hub.create(pack("b", "base", &[])).await;
    hub.put(Kind::DataPack, "a", |a| a["spec"]["expireTime"] = "3h".into()).await;
    assert_eq!(drain(&mut watch), ["ADDED b", "MODIFIED a"]);
    hub.delete(Kind::DataPack, "b").await;
    assert_eq!(drain(&mut watch), ["DELETED b"]);
    assert_eq!(drain(&mut watch), [""; 0]);
    let mut late = hub.watch(&public(), Kind::DataPack, WatchStart::After(start)).await.unwrap();
    assert_eq!(drain(&mut late), ["ADDED b", "MODIFIED a", "DELETED b"]);
}

#[tokio::test]
async fn a_watch_list_brings_what_is_there_then_its_mark_then_what_comes() {
    let hub = Hub::open().await;
    for name in ["a", "b"] {
        hub.create(pack(name, "base", &[])).await;
    }
    let mut options = watch_options(WatchStart::Existing(hub.revision()));
    options.initial_end = true;
    let mut watch = hub.registry.watch(&public(), Kind::DataPack, options).await.unwrap();
    let at = hub.revision();
    hub.create(pack("c", "base", &[])).await;
    assert_eq!(drain(&mut watch), ["ADDED a", "ADDED b", &format!("BOOKMARK {at} true"), "ADDED c"]);
}

#[tokio::test]
async fn an_object_that_leaves_a_selector_is_deleted_to_the_watcher_and_one_that_enters_added() {
    let hub = Hub::open().await;
    let label = |value: &'static str| {
        move |a: &mut serde_json::Value| a["metadata"]["labels"] = serde_json::json!({ "team": value })
    };
    hub.create(pack("a", "base", &[])).await;
    let mut options = watch_options(WatchStart::Now);
    options.labels = LabelSelector::parse("team=red").unwrap();
    let mut watch = hub.registry.watch(&public(), Kind::DataPack, options).await.unwrap();
    hub.put(Kind::DataPack, "a", label("red")).await;
    hub.put(Kind::DataPack, "a", |a| a["spec"]["expireTime"] = "3h".into()).await;
    hub.put(Kind::DataPack, "a", label("blue")).await;
    hub.delete(Kind::DataPack, "a").await;
    assert_eq!(drain(&mut watch), ["ADDED a", "MODIFIED a", "DELETED a"]);
}

#[tokio::test]
async fn those_who_see_only_what_is_public_are_told_of_an_image_deleted_right_before_its_repository() {
    let hub = Hub::open().await;
    hub.create(image("o/r:1", serde_json::json!({}))).await;
    let mut watch = hub.watch(&public(), Kind::Image, WatchStart::Existing(hub.revision())).await.unwrap();
    assert_eq!(drain(&mut watch), ["ADDED o.r.1"]);
    hub.delete(Kind::Image, "o.r.1").await;
    hub.delete(Kind::Repository, "o.r").await;
    assert_eq!(drain(&mut watch), ["DELETED o.r.1"]);
}

#[tokio::test]
async fn images_of_a_repository_that_was_private_until_it_went_are_never_told_of() {
    let hub = Hub::open().await;
    hub.create(repository("o/r", true)).await;
    let start = hub.revision();
    hub.create(image("o/r:1", serde_json::json!({}))).await;
    hub.delete(Kind::Image, "o.r.1").await;
    hub.delete(Kind::Repository, "o.r").await;
    hub.create(repository("o/r", false)).await;
    let mut watch = hub.watch(&public(), Kind::Image, WatchStart::After(start)).await.unwrap();
    assert_eq!(drain(&mut watch), [""; 0]);
    let mut watch = hub.watch(&public(), Kind::Repository, WatchStart::After(start)).await.unwrap();
    assert_eq!(drain(&mut watch), ["ADDED o.r"]);
}

#[tokio::test]
async fn a_watch_of_images_ends_at_once_when_their_repository_becomes_private() {
    let hub = Hub::open().await;
    hub.create(image("o/r:1", serde_json::json!({}))).await;
    let mut watch = hub.watch(&public(), Kind::Image, WatchStart::Now).await.unwrap();
    assert_eq!(drain(&mut watch), [""; 0]);
    hub.put(Kind::Repository, "o.r", |r| r["spec"]["isPrivate"] = true.into()).await;
    let (_, items) = timeout(Duration::from_secs(5), watch.next()).await.expect("it is woken").unwrap();
    assert!(matches!(&items[..], [WatchItem::Failed(error)] if error.code() == 410), "{items:?}");
    assert!(watch.next().await.is_none());
}

#[tokio::test]
async fn a_watch_of_everything_goes_on_when_a_repository_becomes_private() {
    let hub = Hub::open().await;
    hub.create(image("o/r:1", serde_json::json!({}))).await;
    let mut watch = hub.watch(&admin(), Kind::Repository, WatchStart::Now).await.unwrap();
    hub.put(Kind::Repository, "o.r", |r| r["spec"]["isPrivate"] = true.into()).await;
    assert_eq!(drain(&mut watch), ["MODIFIED o.r"]);
}

#[tokio::test]
async fn a_watch_from_before_a_change_of_sight_must_begin_anew() {
    let hub = Hub::open().await;
    hub.create(image("o/r:1", serde_json::json!({}))).await;
    let before = hub.revision();
    hub.put(Kind::Repository, "o.r", |r| r["spec"]["isPrivate"] = true.into()).await;
    for kind in [Kind::Image, Kind::Repository] {
        let refused = hub.watch(&public(), kind, WatchStart::After(before)).await.map(|_| ()).unwrap_err();
        assert_eq!(refused.code(), 410);
    }
    assert!(hub.watch(&public(), Kind::DataPack, WatchStart::After(before)).await.is_ok());
}

#[tokio::test]
async fn a_watch_from_before_the_kept_history_goes_on_only_where_it_has_missed_nothing() {
    let dir = tempfile::TempDir::new().unwrap();
    let hub = Hub::open_in(dir.path()).await;
    hub.create(pack("a", "base", &[])).await;
    hub.create(pack("b", "base", &[])).await;
    let missed_one = hub.revision();
    hub.delete(Kind::DataPack, "b").await;
    hub.create(image("o/r:1", serde_json::json!({}))).await;
    hub.compact().await;
    hub.close();
    let hub = Hub::open_in(dir.path()).await;
    let refused = hub.watch(&public(), Kind::DataPack, WatchStart::After(missed_one)).await.map(|_| ());
    assert_eq!(refused.unwrap_err().code(), 410, "the deletion of b would never be told");
    let mut watch = hub.watch(&public(), Kind::DataPack, WatchStart::After(hub.revision())).await.unwrap();
    hub.create(pack("c", "base", &[])).await;
    assert_eq!(drain(&mut watch), ["ADDED c"]);
}

#[tokio::test]
async fn a_restart_does_not_end_a_watch_within_the_kept_history() {
    let dir = tempfile::TempDir::new().unwrap();
    let hub = Hub::open_in(dir.path()).await;
    hub.create(pack("a", "base", &[])).await;
    let start = hub.revision();
    hub.delete(Kind::DataPack, "a").await;
    hub.create(pack("b", "base", &[])).await;
    hub.close();
    let hub = Hub::open_in(dir.path()).await;
    let mut watch = hub.watch(&public(), Kind::DataPack, WatchStart::After(start)).await.unwrap();
    assert_eq!(drain(&mut watch), ["DELETED a", "ADDED b"]);
}

#[tokio::test]
async fn a_bookmark_of_a_quiet_kind_says_how_far_the_store_has_come() {
    let hub = Hub::open().await;
    let mut options = watch_options(WatchStart::Now);
    options.bookmarks = true;
    let mut watch = hub.registry.watch(&public(), Kind::Organization, options).await.unwrap();
    assert_eq!(drain(&mut watch), [""; 0]);
    hub.create(pack("a", "base", &[])).await;
    let (_, items) = watch.end().unwrap();
    assert!(matches!(&items[..], [WatchItem::Bookmark(at, false)] if *at == hub.revision()), "{items:?}");
}

#[tokio::test]
async fn a_watch_that_is_over_ends_with_a_bookmark_unless_there_is_more_to_tell() {
    let hub = Hub::open().await;
    let mut options = watch_options(WatchStart::Now);
    options.bookmarks = true;
    let mut told = hub.registry.watch(&public(), Kind::DataPack, options.clone()).await.unwrap();
    assert_eq!(drain(&mut told), [""; 0]);
    let start = hub.revision();
    let mut over = hub.registry.watch(&public(), Kind::DataPack, options).await.unwrap();
    assert_eq!(drain(&mut over), [""; 0]);
    let (_, items) = over.end().unwrap();
    assert!(matches!(&items[..], [WatchItem::Bookmark(at, false)] if *at == start), "{items:?}");
    assert!(over.next().await.is_none() && over.end().is_none());
    hub.create(pack("a", "base", &[])).await;
    assert!(told.end().is_none(), "a is not told yet");
}

/// A watch of one object.
async fn of_one(hub: &Hub, caller: &Caller, kind: Kind, name: &str, bookmarks: bool) -> Watch {
    let mut options = watch_options(WatchStart::Now);
    options.fields = FieldSelector::parse(&format!("metadata.name={name}")).unwrap();
    options.bookmarks = bookmarks;
    hub.registry.watch(caller, kind, options).await.unwrap()
}

#[tokio::test]
async fn a_watch_of_one_object_brings_all_its_changes_and_sleeps_while_others_change() {
    let hub = Hub::open().await;
    let mut watch = of_one(&hub, &public(), Kind::DataPack, "a", false).await;
    assert_eq!(drain(&mut watch), [""; 0]);
    hub.create(pack("b", "base", &[])).await;
    assert!(watch.next().now_or_never().is_none());
    hub.create(pack("a", "base", &[])).await;
    hub.put(Kind::DataPack, "a", |a| a["spec"]["expireTime"] = "3h".into()).await;
    assert_eq!(drain(&mut watch), ["ADDED a", "MODIFIED a"]);
    for _ in 0..2 {
        hub.delete(Kind::DataPack, "a").await;
        hub.put(Kind::DataPack, "b", |b| b["spec"]["expireTime"] = "3h".into()).await;
        hub.create(pack("a", "base", &[])).await;
    }
    hub.delete(Kind::DataPack, "b").await;
    assert_eq!(drain(&mut watch), ["DELETED a", "ADDED a", "DELETED a", "ADDED a"]);
}

#[tokio::test]
async fn a_watch_of_one_object_ends_at_once_when_it_may_no_longer_be_seen() {
    let hub = Hub::open().await;
    hub.create(image("o/r:1", serde_json::json!({}))).await;
    let mut watch = of_one(&hub, &public(), Kind::Image, "o.r.1", false).await;
    assert_eq!(drain(&mut watch), [""; 0]);
    hub.put(Kind::Repository, "o.r", |r| r["spec"]["isPrivate"] = true.into()).await;
    let (_, items) = timeout(Duration::from_secs(5), watch.next()).await.expect("it is woken").unwrap();
    assert!(matches!(&items[..], [WatchItem::Failed(error)] if error.code() == 410), "{items:?}");
}

#[tokio::test]
async fn a_bookmark_of_a_watch_of_one_object_says_how_far_the_store_has_come_unless_there_is_more_to_tell() {
    let hub = Hub::open().await;
    let mut watch = of_one(&hub, &public(), Kind::DataPack, "a", true).await;
    let mut more = of_one(&hub, &public(), Kind::DataPack, "b", true).await;
    assert_eq!((drain(&mut watch).len(), drain(&mut more).len()), (0, 0));
    hub.create(pack("b", "base", &[])).await;
    let (_, items) = watch.end().unwrap();
    assert!(matches!(&items[..], [WatchItem::Bookmark(at, false)] if *at == hub.revision()), "{items:?}");
    assert!(more.end().is_none(), "b is not told yet");
}
