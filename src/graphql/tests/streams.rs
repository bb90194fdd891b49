use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::api::Kind;

/// A stream of events, read piece by piece.
struct Events {
    body: Body,
    text: String,
    /// Whether it said that it is at its end.
    complete: bool,
}

impl Door {
    async fn follow(&self, headers: &[(&str, &str)], query: &str) -> Events {
        let mut request =
            Request::post("/graphql").header(CONTENT_TYPE, "application/json").header(ACCEPT, "text/event-stream");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = Body::from(json!({ "query": query }).to_string());
        let response = self.router.clone().oneshot(request.body(body).unwrap()).await.unwrap();
        assert_eq!(response.status(), 200);
        Events { body: response.into_body(), text: String::new(), complete: false }
    }
}

impl Events {
    /// The next event: its answer, or `None` for the end.
    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.text = rest;
                if event.starts_with(':') {
                    continue;
                }
                let data = event.strip_prefix("event: next\ndata: ");
                self.complete = data.is_none();
                return data.map(|data| serde_json::from_str(data).unwrap());
            }
            let frame = tokio::time::timeout(Duration::from_secs(30), self.body.frame()).await.expect("an event");
            let bytes: Bytes = frame?.unwrap().into_data().unwrap();
            self.text.push_str(std::str::from_utf8(&bytes).unwrap());
        }
    }

    async fn data(&mut self) -> Value {
        let event = self.next().await.expect("it goes on");
        assert_eq!(event.get("errors"), None, "{event:#}");
        event["data"].clone()
    }

    /// The next event, which says where the stream is.
    async fn sync(&mut self) -> String {
        let change = self.data().await["images"].clone();
        assert_eq!(change["kind"], "SYNC", "{change}");
        change["revision"].as_str().unwrap_or_default().to_owned()
    }

    async fn code(&mut self) -> String {
        let event = self.next().await.expect("it says why it ends");
        event["errors"][0]["extensions"]["code"].as_str().unwrap_or_default().to_owned()
    }
}

const IMAGES: &str =
    "subscription { images(filter: { organizations: [\"labring\"] }) { kind revision id node { tag } } }";

#[tokio::test]
async fn a_subscription_tells_what_is_there_and_what_happens_and_goes_on_at_a_revision() {
    let door = Door::open().await;
    let mut events = door.follow(&[], IMAGES).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        let change = events.data().await["images"].clone();
        assert_eq!(change["kind"], "PUT");
        ids.push(change["id"].as_str().unwrap().to_owned());
    }
    ids.sort();
    assert_eq!(ids, ["Image:labring/mysql:8.0", "Image:labring/nginx:1.23", "Image:labring/nginx:1.24"]);
    let sync = events.data().await["images"].clone();
    assert_eq!((&sync["kind"], &sync["id"]), (&json!("SYNC"), &Value::Null));
    door.hub.create(image("other/redis:9", json!({}))).await;
    door.hub.create(image("labring/nginx:2", json!({}))).await;
    let made = events.data().await["images"].clone();
    assert_eq!((&made["kind"], &made["node"]["tag"]), (&json!("PUT"), &json!("2")));
    drop(events);
    // While nobody looked.
    let root = door.token("root");
    door.ask_as(&root, r#"mutation { deleteImage(name: "labring/nginx:2") { deletedIds } }"#).await.data();
    let query = format!(
        "subscription {{ images(since: {}, filter: {{ organizations: [\"labring\"] }}) {{ kind id }} }}",
        made["revision"]
    );
    let mut events = door.follow(&[], &query).await;
    events.sync().await;
    assert_eq!(events.data().await["images"], json!({ "kind": "REMOVED", "id": "Image:labring/nginx:2" }));
}

#[tokio::test]
async fn a_subscription_ends_with_its_token_saying_why() {
    let door = Door::open().await;
    let bob = format!("Bearer {}", door.token("bob"));
    let mut events = door.follow(&[("authorization", &bob)], "subscription { images(initial: false) { kind } }").await;
    events.sync().await;
    Users::change(door.dir.path(), |users| users.remove("bob")).unwrap();
    door.tokens.refresh();
    assert_eq!(events.code().await, "UNAUTHENTICATED");
    assert_eq!(events.next().await, None);
}

#[tokio::test]
async fn a_subscription_ends_when_what_may_be_seen_changes() {
    let door = Door::open().await;
    let alice = format!("Bearer {}", door.token("alice"));
    let mut events =
        door.follow(&[("authorization", &alice)], "subscription { images(initial: false) { kind } }").await;
    events.sync().await;
    let remove = |value: &mut Value| value["spec"]["manager"] = json!(["bob"]);
    door.hub.try_put(Kind::Organization, "acme", remove).await.unwrap();
    assert_eq!(events.code().await, "REVISION_EXPIRED");
    assert_eq!(events.next().await, None);
}

#[tokio::test]
async fn nobody_is_told_of_what_is_hidden() {
    let door = Door::open().await;
    let mut events = door.follow(&[], "subscription { images(initial: false) { kind id } }").await;
    events.sync().await;
    door.hub.create(image("acme/secret:2", json!({}))).await;
    door.hub.create(image("labring/nginx:3", json!({}))).await;
    assert_eq!(events.data().await["images"]["id"], "Image:labring/nginx:3");
}

#[tokio::test]
async fn a_list_of_names_is_followed_and_what_is_refused_is_told_on_the_stream() {
    let door = Door::open().await;
    let query = r#"subscription { dataPack(of: { spec: { names: ["labring/nginx:1.24", "a/b:1"] } }) {
        expired changedNames entries { name image { description } } } }"#;
    let mut events = door.follow(&[], query).await;
    let first = events.data().await["dataPack"].clone();
    assert_eq!(first["changedNames"], json!(["labring/nginx:1.24", "a/b:1"]));
    door.hub.create(image("a/b:1", json!({ "description": "new" }))).await;
    let next = events.data().await["dataPack"].clone();
    assert_eq!(next["entries"], json!([{ "name": "a/b:1", "image": { "description": "new" } }]));
    let none = r#"subscription { dataPack(of: { name: "none" }) { expired } }"#;
    let mut events = door.follow(&[], none).await;
    assert_eq!(events.code().await, "NOT_FOUND");
    assert_eq!(events.next().await, None);
    assert!(events.complete);
    let mut events = door.follow(&[], "subscription { nosuch }").await;
    assert_eq!(events.code().await, "INVALID");
    assert_eq!(events.next().await, None);
    door.hub.create(pack("p", "base", &["labring/nginx:1.24"])).await;
    let mut events =
        door.follow(&[], r#"subscription { dataPack(of: { name: "p" }) { expired dataPack { name } } }"#).await;
    assert_eq!(events.data().await["dataPack"], json!({ "expired": false, "dataPack": { "name": "p" } }));
    let delete = crate::registry::DeleteOptions::default();
    door.hub.registry.delete(&crate::auth::Caller::system(), Kind::DataPack, "p", &delete).await.unwrap();
    assert_eq!(events.data().await["dataPack"], json!({ "expired": true, "dataPack": null }));
    assert_eq!(events.next().await, None);
}

#[tokio::test]
async fn streams_break_off_when_the_server_stops_and_say_how_far_they_have_come() {
    let door = Door::open().await;
    let mut events = door.follow(&[], "subscription { images(initial: false) { kind id revision } }").await;
    // Where it is, before anything happens.
    assert_eq!(events.sync().await, door.hub.revision().to_string());
    door.hub.create(image("labring/nginx:2", json!({}))).await;
    door.app.stop.cancel();
    assert_eq!(events.data().await["images"]["id"], "Image:labring/nginx:2");
    let last = events.data().await["images"].clone();
    assert_eq!((&last["kind"], &last["revision"]), (&json!("SYNC"), &json!(door.hub.revision().to_string())));
    assert_eq!(events.next().await, None);
    assert!(!events.complete);
}
