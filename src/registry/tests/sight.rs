use serde_json::{Value, json};

use super::super::testing::*;
use super::super::*;
use crate::api::LabelSelector;

async fn with_private_and_public() -> Hub {
    let hub = Hub::open().await;
    hub.create(repository("o/secret", true)).await;
    hub.create(image("o/secret:1", json!({ "keywords": ["Storage"] }))).await;
    hub.create(image("o/open:1", json!({ "keywords": ["Storage"] }))).await;
    hub
}

#[tokio::test]
async fn hidden_and_absent_look_alike() {
    let hub = with_private_and_public().await;
    for (kind, hidden, absent) in
        [(Kind::Image, "o.secret.1", "o.absent.1"), (Kind::Repository, "o.secret", "o.absent")]
    {
        let a = hub.read(&public(), kind, hidden).await.unwrap_err().status_json().to_string();
        let b = hub.read(&public(), kind, absent).await.unwrap_err().status_json().to_string();
        assert_eq!(a.replace(hidden, ""), b.replace(absent, ""));
        assert!(hub.read(&admin(), kind, hidden).await.is_ok());
    }
}

#[tokio::test]
async fn lists_and_their_counts_leave_out_what_is_hidden() {
    let hub = with_private_and_public().await;
    assert_eq!(hub.names(&public(), Kind::Image).await, ["o.open.1"]);
    assert_eq!(hub.names(&admin(), Kind::Image).await, ["o.open.1", "o.secret.1"]);
    hub.create(image("o/open:2", json!({}))).await;
    let labels = LabelSelector::parse("organization.imagehub.sealos.io=o").unwrap();
    for labels in [labels, LabelSelector::default()] {
        let options = ListOptions { labels, limit: Some(1), ..ListOptions::default() };
        let page = hub.registry.list(&public(), Kind::Image, &options).await.unwrap();
        assert_eq!(page.remaining, Some(1));
        let page = hub.registry.list(&admin(), Kind::Image, &options).await.unwrap();
        assert_eq!(page.remaining, Some(2));
    }
}

#[tokio::test]
async fn a_list_ends_at_a_change_of_sight_and_goes_on_without_what_is_hidden_now() {
    let hub = Hub::open().await;
    for name in ["o/a:1", "o/b:1", "o/c:1"] {
        hub.create(image(name, json!({}))).await;
    }
    let first = ListOptions { limit: Some(1), ..ListOptions::default() };
    let page = hub.registry.list(&public(), Kind::Image, &first).await.unwrap();
    hub.put(Kind::Repository, "o.b", |r| r["spec"]["isPrivate"] = true.into()).await;
    let next = |continue_token| ListOptions { continue_token, ..ListOptions::default() };
    let expired = hub.registry.list(&public(), Kind::Image, &next(page.continue_token)).await.unwrap_err();
    let Error::Expired { continue_token, .. } = expired else { panic!("{expired}") };
    let rest = hub.registry.list(&public(), Kind::Image, &next(continue_token)).await.unwrap();
    assert_eq!(rest.items.iter().map(|r| r.name()).collect::<Vec<_>>(), ["o.c.1"]);
}

#[tokio::test]
async fn an_organization_and_a_pack_say_of_what_is_private_what_they_say_of_what_is_absent() {
    let hub = with_private_and_public().await;
    hub.create(pack("p", "detail", &["o/secret:1", "o/absent:1", "o/open:1"])).await;
    let seen = hub.read(&public(), Kind::Organization, "o").await.unwrap();
    assert_eq!(seen["status"]["repos"], json!(["o/open"]));
    assert_eq!(hub.get(Kind::Organization, "o").await["status"]["repos"], json!(["o/open", "o/secret"]));
    let datas = hub.datas(&public(), "p").await;
    assert_eq!(datas["o/secret:1"], json!({}));
    assert_eq!(datas["o/absent:1"], json!({}));
    assert_eq!(datas["o/open:1"]["name"], "o/open:1");
    assert_eq!(hub.datas(&admin(), "p").await["o/secret:1"]["name"], "o/secret:1");
}

#[tokio::test]
async fn images_whose_repository_is_gone_stay_hidden_until_it_is_there_again() {
    let hub = Hub::open().await;
    hub.create(image("o/r:1", json!({}))).await;
    hub.create(pack("p", "base", &["o/r:1"])).await;
    assert_eq!(hub.datas(&public(), "p").await["o/r:1"]["name"], "o/r:1");
    hub.delete(Kind::Repository, "o.r").await;
    assert_eq!(hub.names(&public(), Kind::Image).await, [""; 0]);
    assert_eq!(hub.datas(&public(), "p").await["o/r:1"], json!({}));
    hub.create(repository("o/r", false)).await;
    assert_eq!(hub.names(&public(), Kind::Image).await, ["o.r.1"]);
    assert_eq!(hub.datas(&public(), "p").await["o/r:1"]["name"], "o/r:1");
}

#[tokio::test]
async fn an_image_never_makes_a_private_repository_public() {
    let hub = with_private_and_public().await;
    hub.create(image("o/secret:2", json!({}))).await;
    assert_eq!(hub.get(Kind::Repository, "o.secret").await["spec"]["isPrivate"], true);
    assert_eq!(hub.names(&public(), Kind::Image).await, ["o.open.1"]);
}

#[tokio::test]
async fn what_an_event_told_before_a_repository_became_private_is_not_told_again() {
    let hub = Hub::open().await;
    hub.create(image("o/r:1", json!({}))).await;
    let start = hub.revision();
    hub.create(pack("p", "base", &["o/r:1"])).await;
    let event = hub.events(Kind::DataPack, start).remove(0);
    let told = || {
        let reader = hub.registry.reader(&public());
        let bytes = event.encoded(1, reader.visible.revision(), || reader.object(event.record().unwrap()));
        String::from_utf8(bytes.to_vec()).unwrap()
    };
    assert!(told().contains(r#""name":"o/r:1""#));
    hub.put(Kind::Repository, "o.r", |r| r["spec"]["isPrivate"] = true.into()).await;
    assert!(told().contains(r#""o/r:1":{}"#), "{}", told());
}

#[tokio::test]
async fn what_a_private_repository_had_stays_hidden_when_its_name_is_a_public_ones() {
    let hub = Hub::open().await;
    hub.create(repository("o/r", true)).await;
    let at = hub.create(image("o/r:1", json!({}))).await.revision;
    hub.delete(Kind::Image, "o.r.1").await;
    hub.delete(Kind::Repository, "o.r").await;
    hub.create(repository("o/r", false)).await;
    let later = hub.create(image("o/r:2", json!({}))).await.revision;
    hub.delete(Kind::Image, "o.r.2").await;
    for (at, caller, wanted) in [
        (at, admin(), vec!["o.r.1"]),
        (at, public(), vec![]),
        (later, admin(), vec!["o.r.2"]),
        (later, public(), vec!["o.r.2"]),
    ] {
        let options = ListOptions { version: Some((at, VersionMatch::Exact)), ..ListOptions::default() };
        let list = hub.registry.list(&caller, Kind::Image, &options).await.unwrap();
        assert_eq!(list.items.iter().map(|r| r.name()).collect::<Vec<_>>(), wanted, "{caller:?} at {at}");
    }
}

/// What `caller` is told that makes an object, with the names that were asked for left out.
async fn refusal(hub: &Hub, caller: &Caller, value: Value, named: &str) -> String {
    let refused = hub.create_as(caller, value).await.unwrap_err();
    refused.status_json().to_string().replace(named, "")
}

#[tokio::test]
async fn what_an_organization_left_behind_is_told_by_no_refusal() {
    let hub = Hub::open().await;
    hub.create(repository("gone/secret", true)).await;
    hub.create(image("gone/secret:1", json!({}))).await;
    hub.delete(Kind::Organization, "gone").await;
    let bob = Caller::authenticated("bob", []);
    let makes: [fn(&str) -> Value; 2] =
        [|name| image(&format!("gone/{name}:1"), json!({})), |name| repository(&format!("gone/{name}"), false)];
    for make in makes {
        let secret = refusal(&hub, &bob, make("secret"), "secret").await;
        assert_eq!(secret, refusal(&hub, &bob, make("absent"), "absent").await);
        assert!(secret.contains("Forbidden"), "{secret}");
    }
}

#[tokio::test]
async fn whose_a_name_is_that_is_taken_is_for_those_who_see_it() {
    let hub = Hub::open().await;
    // Names of old data have no rule.
    let mut old = repository("o/secret", true);
    old["metadata"]["name"] = "bobs.tool".into();
    old["metadata"]["annotations"] = json!({ RESTORE_ANNOTATION: "{}" });
    hub.restore(old).await;
    let bob = Caller::authenticated("bob", []);
    for (caller, told) in [(admin(), true), (bob, false)] {
        let refused = refusal(&hub, &caller, image("bobs/tool:1", json!({})), "").await;
        assert_eq!(refused.contains("secret"), told, "{refused}");
        assert!(refused.contains("bobs.tool"), "{refused}");
    }
}
