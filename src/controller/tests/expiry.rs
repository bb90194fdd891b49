use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;

use crate::api::Kind;
use crate::controller::expiry::delete_due;
use crate::graph::Key;
use crate::registry::WriteOptions;
use crate::registry::testing::*;

const HOUR_MS: i64 = 3_600_000;

#[tokio::test]
async fn a_pack_goes_when_its_time_is_over_and_not_before() {
    let hub = Hub::open().await;
    hub.create(pack("p", "base", &[])).await;
    hub.clock.step_ms(2 * HOUR_MS - 1);
    let next = delete_due(&hub.registry).await.unwrap();
    assert_eq!(next.as_millisecond() - 1, hub.registry.store_time_ms());
    assert_eq!(hub.names(&admin(), Kind::DataPack).await, ["p"]);
    hub.clock.step_ms(1);
    assert_eq!(delete_due(&hub.registry).await, None);
    assert_eq!(hub.names(&admin(), Kind::DataPack).await, [""; 0]);
}

#[tokio::test]
async fn a_pack_that_is_renewed_while_it_is_deleted_stays() {
    let hub = Hub::open().await;
    let mut unnamed = pack("", "base", &[]);
    unnamed["metadata"] = json!({});
    let made = hub.create(unnamed.clone()).await;
    hub.clock.step_ms(2 * HOUR_MS);
    let registry = std::sync::Arc::clone(&hub.registry);
    let object = made.object();
    hub.storage.before(made.key.clone(), async move {
        let mut object = object;
        object.metadata = ObjectMeta::default();
        registry.create(&admin(), object, WriteOptions::default()).await.unwrap();
    });
    delete_due(&hub.registry).await;
    assert_eq!(hub.names(&admin(), Kind::DataPack).await, [made.name()]);
}

#[tokio::test]
async fn a_pack_that_can_not_be_deleted_holds_up_no_other() {
    let hub = Hub::open().await;
    let names: Vec<String> = (0..100).map(|i| format!("p{i:03}")).collect();
    for name in &names {
        hub.create(pack(name, "base", &[])).await;
    }
    *hub.storage.refused.lock() = Some(Key::new(Kind::DataPack, "p000"));
    hub.clock.step_ms(2 * HOUR_MS);
    let again = delete_due(&hub.registry).await;
    assert_eq!(hub.names(&admin(), Kind::DataPack).await, ["p000"]);
    assert!(again.is_some(), "it is tried again");
}

#[tokio::test]
async fn a_pack_that_a_finalizer_holds_is_marked_once() {
    let hub = Hub::open().await;
    let mut held = pack("p", "base", &[]);
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    hub.create(held).await;
    hub.clock.step_ms(2 * HOUR_MS);
    delete_due(&hub.registry).await;
    let at = hub.revision();
    assert!(hub.registry.reader(&admin()).visible.get(Kind::DataPack, "p").unwrap().deleting);
    assert_eq!(delete_due(&hub.registry).await, None);
    assert_eq!(hub.revision(), at);
}
