use serde_json::json;

use super::super::testing::*;
use super::super::*;
use crate::api::{FieldSelector, LabelSelector};

async fn with_packs(names: &[&str]) -> Hub {
    let hub = Hub::open().await;
    for name in names {
        hub.create(pack(name, "base", &[])).await;
    }
    hub
}

fn names(list: &List) -> Vec<&str> {
    list.items.iter().map(|r| r.name()).collect()
}

async fn list(hub: &Hub, options: ListOptions) -> Result<List, Error> {
    hub.registry.list(&public(), Kind::DataPack, &options).await
}

#[tokio::test]
async fn pages_together_are_the_list_as_it_was_at_the_first() {
    let hub = with_packs(&["a", "b", "c", "d"]).await;
    let first = list(&hub, ListOptions { limit: Some(2), ..ListOptions::default() }).await.unwrap();
    assert_eq!((names(&first), first.remaining), (vec!["a", "b"], Some(2)));
    hub.delete(Kind::DataPack, "c").await;
    hub.create(pack("cc", "base", &[])).await;
    hub.put(Kind::DataPack, "d", |d| d["spec"]["expireTime"] = "3h".into()).await;
    let continue_token = first.continue_token;
    let second = list(&hub, ListOptions { limit: Some(1), continue_token, ..ListOptions::default() }).await.unwrap();
    assert_eq!((names(&second), second.remaining, second.revision), (vec!["c"], Some(1), first.revision));
    let continue_token = second.continue_token;
    let third = list(&hub, ListOptions { limit: Some(1), continue_token, ..ListOptions::default() }).await.unwrap();
    assert_eq!((names(&third), third.remaining, third.continue_token.clone()), (vec!["d"], None, None));
    assert!(third.items[0].revision <= first.revision);
}

#[tokio::test]
async fn a_limit_of_none_is_no_limit() {
    let hub = with_packs(&["a", "b"]).await;
    let all = list(&hub, ListOptions { limit: Some(0), ..ListOptions::default() }).await.unwrap();
    assert_eq!(names(&all), ["a", "b"]);
}

#[tokio::test]
async fn a_list_at_an_exact_version_finds_by_labels_of_then() {
    let hub = with_packs(&[]).await;
    let mut value = pack("a", "base", &[]);
    value["metadata"]["labels"] = json!({ "team": "red" });
    let at = hub.create(value).await.revision;
    hub.put(Kind::DataPack, "a", |a| a["metadata"]["labels"] = json!({ "team": "blue" })).await;
    hub.create(pack("b", "base", &[])).await;
    let labels = |text| LabelSelector::parse(text).unwrap();
    for (selector, then, now) in [
        ("team=red", vec!["a"], vec![]),
        ("team=blue", vec![], vec!["a"]),
        ("team", vec!["a"], vec!["a"]),
        ("team in (red,blue)", vec!["a"], vec!["a"]),
        ("!team", vec![], vec!["b"]),
        ("team!=red", vec![], vec!["a", "b"]),
    ] {
        let options = ListOptions { labels: labels(selector), ..ListOptions::default() };
        assert_eq!(names(&list(&hub, options.clone()).await.unwrap()), now, "{selector}");
        let options = ListOptions { version: Some((at, VersionMatch::Exact)), ..options };
        assert_eq!(names(&list(&hub, options).await.unwrap()), then, "{selector}");
    }
}

#[tokio::test]
async fn a_list_of_one_name_is_that_object_or_nothing() {
    let hub = with_packs(&["a", "b"]).await;
    for (name, found) in [("a", vec!["a"]), ("x", vec![])] {
        let fields = FieldSelector::parse(&format!("metadata.name={name}")).unwrap();
        let found_now = list(&hub, ListOptions { fields, ..ListOptions::default() }).await.unwrap();
        assert_eq!(names(&found_now), found);
    }
}

#[tokio::test]
async fn a_token_that_is_none_is_a_bad_request() {
    let hub = with_packs(&[]).await;
    for token in ["!", "e30", &"a".repeat(5000)] {
        let options = ListOptions { continue_token: Some(token.to_owned()), ..ListOptions::default() };
        assert_eq!(list(&hub, options).await.unwrap_err().code(), 400);
    }
}

#[tokio::test]
async fn a_list_at_a_version_from_before_the_kept_history_is_expired_and_goes_on_inconsistently() {
    let dir = tempfile::TempDir::new().unwrap();
    let hub = Hub::open_in(dir.path()).await;
    for name in ["a", "b", "c"] {
        hub.create(pack(name, "base", &[])).await;
    }
    let first = list(&hub, ListOptions { limit: Some(1), ..ListOptions::default() }).await.unwrap();
    hub.create(pack("d", "base", &[])).await;
    hub.compact().await;
    hub.close();
    let hub = Hub::open_in(dir.path()).await;
    let continue_token = first.continue_token;
    let expired = list(&hub, ListOptions { continue_token, ..ListOptions::default() }).await.unwrap_err();
    assert_eq!(expired.code(), 410);
    let Error::Expired { continue_token, .. } = expired else { panic!("{expired}") };
    let rest = list(&hub, ListOptions { continue_token, ..ListOptions::default() }).await.unwrap();
    assert_eq!(names(&rest), ["b", "c", "d"]);
}
