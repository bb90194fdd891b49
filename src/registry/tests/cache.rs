//! Every way in which what a pack is made from can change. `Hub::datas` compares what the cache gives with
//! what is computed without it.

use serde_json::{Value, json};

use super::super::testing::*;
use super::super::*;

/// Does `change` to a catalogue with packs of all grains, and says how their data change, as the public and
/// the administrator read them.
async fn around(change: impl AsyncFn(&Hub)) -> [(Value, Value); 6] {
    let hub = Hub::open().await;
    hub.create(image("o/r:1", json!({ "size": 1, "docs": "d" }))).await;
    hub.create(image("o/r:2", json!({ "size": 2 }))).await;
    let grains = ["base", "grid", "detail"];
    for grain in grains {
        hub.create(pack(grain, grain, &["o/r:1", "o/x:9"])).await;
        // The same content under another name.
        hub.create(pack(&format!("{grain}2"), grain, &["o/x:9", "o/r:1"])).await;
    }
    let read = async || {
        let mut all = Vec::new();
        for caller in [public(), admin()] {
            for grain in grains {
                let datas = hub.datas(&caller, grain).await;
                assert_eq!(datas, hub.datas(&caller, &format!("{grain}2")).await);
                all.push(datas);
            }
        }
        all
    };
    let before = read().await;
    change(&hub).await;
    let after = read().await;
    let mut pairs = before.into_iter().zip(after);
    std::array::from_fn(|_| pairs.next().unwrap())
}

fn changed(pairs: &[(Value, Value); 6]) -> [bool; 6] {
    pairs.each_ref().map(|(before, after)| before != after)
}

const ALL: [bool; 6] = [true; 6];
const NONE: [bool; 6] = [false; 6];
const DETAIL: [bool; 6] = [false, false, true, false, false, true];
const GRID_AND_DETAIL: [bool; 6] = [false, true, true, false, true, true];
const PUBLIC: [bool; 6] = [true, true, true, false, false, false];

#[tokio::test]
async fn an_image_that_is_changed_changes_the_packs_that_name_it() {
    let pairs = around(async |hub| {
        hub.put(Kind::Image, "o.r.1", |i| i["spec"]["detail"]["description"] = "new".into()).await;
    });
    assert_eq!(changed(&pairs.await), GRID_AND_DETAIL);
}

#[tokio::test]
async fn an_image_that_comes_changes_the_packs_that_name_it() {
    let pairs = around(async |hub| drop(hub.create(image("o/x:9", json!({}))).await)).await;
    assert_eq!(changed(&pairs), ALL);
}

#[tokio::test]
async fn an_image_that_goes_changes_the_packs_that_name_it() {
    assert_eq!(changed(&around(async |hub| drop(hub.delete(Kind::Image, "o.r.1").await)).await), ALL);
}

#[tokio::test]
async fn an_image_that_goes_and_comes_again_is_there_as_it_came() {
    let pairs = around(async |hub| {
        hub.delete(Kind::Image, "o.r.1").await;
        hub.create(image("o/r:1", json!({ "size": 7, "docs": "d" }))).await;
    });
    assert_eq!(changed(&pairs.await), GRID_AND_DETAIL);
}

#[tokio::test]
async fn a_sibling_tag_changes_only_what_tells_of_tags() {
    let came = around(async |hub| drop(hub.create(image("o/r:3", json!({}))).await)).await;
    assert_eq!(changed(&came), DETAIL);
    let went = around(async |hub| drop(hub.delete(Kind::Image, "o.r.2").await)).await;
    assert_eq!(changed(&went), DETAIL);
    let built = |i: &mut Value| i["spec"]["detail"]["creatTime"] = "2024-05-01T12:00:00Z".into();
    let rose = around(async |hub| drop(hub.put(Kind::Image, "o.r.2", built).await)).await;
    assert_eq!(changed(&rose), DETAIL);
    let told = |i: &mut Value| i["spec"]["detail"]["description"] = "no tag tells of it".into();
    let told = around(async |hub| drop(hub.put(Kind::Image, "o.r.2", told).await)).await;
    assert_eq!(changed(&told), NONE);
}

#[tokio::test]
async fn a_repository_that_becomes_private_changes_what_the_public_reads() {
    let private = |r: &mut Value| r["spec"]["isPrivate"] = true.into();
    assert_eq!(changed(&around(async |hub| drop(hub.put(Kind::Repository, "o.r", private).await)).await), PUBLIC);
}

#[tokio::test]
async fn a_repository_that_goes_alone_changes_what_the_public_reads() {
    assert_eq!(changed(&around(async |hub| drop(hub.delete(Kind::Repository, "o.r").await)).await), PUBLIC);
}

#[tokio::test]
async fn a_repository_that_goes_and_comes_again_changes_nothing() {
    let pairs = around(async |hub| {
        hub.delete(Kind::Repository, "o.r").await;
        hub.datas(&public(), "base").await;
        hub.create(repository("o/r", false)).await;
    });
    assert_eq!(changed(&pairs.await), NONE);
}

#[tokio::test]
async fn downloads_change_what_tells_of_them() {
    let pairs = around(async |hub| {
        let status = json!({ "downloadCount": 5 });
        let options = WriteOptions::default();
        hub.put_status("o.r", status, options).await.unwrap();
    });
    assert_eq!(changed(&pairs.await), GRID_AND_DETAIL);
}

#[tokio::test]
async fn what_is_not_told_of_changes_nothing() {
    let pairs = around(async |hub| {
        hub.put(Kind::Image, "o.r.1", |i| i["metadata"]["annotations"] = json!({ "a": "b" })).await;
        hub.put(Kind::Organization, "o", |o| o["spec"]["manager"] = json!(["alice"])).await;
        hub.create(image("o/other:1", json!({}))).await;
    });
    assert_eq!(changed(&pairs.await), NONE);
}

#[tokio::test]
async fn a_pack_is_computed_only_when_what_it_is_made_from_changes() {
    let hub = Hub::open().await;
    hub.create(image("o/r:1", json!({}))).await;
    hub.create(pack("p", "grid", &["o/r:1"])).await;
    let misses = || hub.registry.packs().stats().misses;
    hub.get(Kind::DataPack, "p").await;
    let before = misses();
    hub.get(Kind::DataPack, "p").await;
    hub.create(image("o/r:2", json!({}))).await;
    hub.get(Kind::DataPack, "p").await;
    assert_eq!(misses(), before);
    hub.put(Kind::Image, "o.r.1", |i| i["spec"]["detail"]["description"] = "new".into()).await;
    hub.get(Kind::DataPack, "p").await;
    assert_eq!(misses(), before + 1);
}

#[tokio::test]
async fn a_pack_made_anew_under_its_name_is_another() {
    let hub = Hub::open().await;
    hub.create(image("o/r:1", json!({}))).await;
    hub.create(image("o/r:2", json!({}))).await;
    hub.create(pack("p", "base", &["o/r:1"])).await;
    hub.datas(&public(), "p").await;
    hub.delete(Kind::DataPack, "p").await;
    hub.create(pack("p", "base", &["o/r:2"])).await;
    assert_eq!(hub.datas(&public(), "p").await["o/r:2"]["name"], "o/r:2");
    hub.put(Kind::DataPack, "p", |p| p["spec"]["names"] = json!(["o/r:1"])).await;
    assert_eq!(hub.datas(&public(), "p").await["o/r:1"]["name"], "o/r:1");
    hub.delete(Kind::Image, "o.r.1").await;
    assert_eq!(hub.datas(&public(), "p").await, json!({ "o/r:1": {} }));
}
