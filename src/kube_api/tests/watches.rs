//! Watches: which events, and in which form.

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::*;

/// A watch that goes on.
struct Stream {
    body: Body,
    read: String,
}

impl Door {
    async fn watch(&self, query: &str, accept: &str) -> Stream {
        let request = Request::builder().uri(format!("{PACKS}?watch=1&{query}")).header(ACCEPT, accept);
        let response = self.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!((response.status().as_u16(), &response.headers()[CONTENT_TYPE]), (200, &JSON.parse().unwrap()));
        Stream { body: response.into_body(), read: String::new() }
    }
}

impl Stream {
    /// The next so many events.
    async fn events(&mut self, count: usize) -> Vec<Value> {
        while self.read.matches('\n').count() < count {
            let frame = self.body.frame().await.expect("the watch goes on").unwrap();
            self.read.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
        }
        let events: Vec<Value> = self.read.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(events.len(), count, "{}", self.read);
        self.read.clear();
        events
    }
}

/// Type, name and a label of each event.
fn brief(events: &[Value]) -> Vec<(&str, &str, &str)> {
    events
        .iter()
        .map(|event| {
            let part = |path: &str| event.pointer(path).and_then(Value::as_str).unwrap_or_default();
            (part("/type"), part("/object/metadata/name"), part("/object/metadata/labels/w"))
        })
        .collect()
}

#[tokio::test]
async fn an_object_enters_and_leaves_a_selector_as_added_and_deleted() {
    let door = Door::open().await;
    let mut watch = door.watch("labelSelector=w%3D1", JSON).await;
    door.create("a", json!({ "labels": { "w": "1" } })).await;
    let mut last = Value::Null;
    for label in ["2", "1"] {
        let body = json!({ "metadata": { "labels": { "w": label } } }).to_string();
        last = door.ask("PATCH", &format!("{PACKS}/a"), MERGE, &body).await.json();
    }
    door.ask("DELETE", &format!("{PACKS}/a"), "", "").await;
    let events = watch.events(4).await;
    let wanted = [("ADDED", "a", "1"), ("DELETED", "a", "1"), ("ADDED", "a", "1"), ("DELETED", "a", "1")];
    assert_eq!(brief(&events), wanted);
    let version =
        |event: &Value| -> u64 { event["object"]["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap() };
    assert_eq!(events[2]["object"]["metadata"]["resourceVersion"], last["metadata"]["resourceVersion"]);
    assert!(version(&events[3]) > version(&events[2]), "a deletion has a version of its own");
}

#[tokio::test]
async fn the_end_of_what_is_there_is_told_to_whom_takes_bookmarks() {
    let door = Door::open().await;
    door.create("a", json!({})).await;
    let all = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    // The older protocol's first watch, too.
    for query in [all, "allowWatchBookmarks=true", "allowWatchBookmarks=true&resourceVersion=0"] {
        let events = door.watch(query, JSON).await.events(2).await;
        assert_eq!(events[0]["type"], "ADDED", "{query}");
        assert_eq!(events[1]["type"], "BOOKMARK", "{query}");
        assert_eq!(events[1]["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true", "{query}");
    }
    let mut quiet = door.watch("sendInitialEvents=true&resourceVersionMatch=NotOlderThan", JSON).await;
    assert_eq!(brief(&quiet.events(1).await), [("ADDED", "a", "")]);
    door.create("b", json!({})).await;
    assert_eq!(brief(&quiet.events(1).await), [("ADDED", "b", "")], "no bookmark in between");
}

#[tokio::test]
async fn what_is_told_of_a_repository_is_for_each_what_it_sees_of_the_one_that_has_its_name_now() {
    let door = Door::open().await;
    let repositories = PACKS.replace("datapacks", "repositories");
    let object = |kind: &str, name: &str, spec: Value| {
        let metadata = json!({ "name": name });
        json!({ "apiVersion": "imagehub.sealos.io/v1", "kind": kind, "metadata": metadata, "spec": spec }).to_string()
    };
    let make = async |private: bool| {
        let body = object("Repository", "acme.app", json!({ "name": "acme/app", "isPrivate": private }));
        assert_eq!(door.ask("POST", &repositories, JSON, &body).await.status, 201);
    };
    make(false).await;
    door.ask("DELETE", &format!("{repositories}/acme.app"), "", "").await;
    make(true).await;
    let secret = object("Image", "acme.app.secret", json!({ "name": "acme/app:secret" }));
    assert_eq!(door.ask("POST", &PACKS.replace("datapacks", "images"), JSON, &secret).await.status, 201);
    for (signed_in, count) in [(true, 3), (false, 2), (true, 3)] {
        let request = Request::builder().uri(format!("{repositories}?watch=1&resourceVersion=1"));
        let request = request.body(Body::empty()).unwrap();
        let response =
            if signed_in { door.send(request).await } else { door.router.clone().oneshot(request).await.unwrap() };
        let events = Stream { body: response.into_body(), read: String::new() }.events(count).await;
        let told: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
        assert_eq!(told, ["ADDED", "DELETED", "ADDED"][..count]);
        assert_eq!(json!(events).to_string().contains("secret"), signed_in, "{events:#?}");
    }
}

#[tokio::test]
async fn a_table_has_its_columns_in_the_first_event_only() {
    let door = Door::open().await;
    door.create("a", json!({})).await;
    let mut watch = door.watch("allowWatchBookmarks=true", TABLE).await;
    let events = watch.events(2).await;
    assert!(events[0]["object"]["columnDefinitions"].is_array());
    assert_eq!(events[0]["object"]["rows"][0]["cells"][0], "a");
    assert_eq!(events[1]["type"], "BOOKMARK");
    assert!(events[1]["object"]["columnDefinitions"].is_null());
    let row = &events[1]["object"]["rows"][0];
    assert_eq!(row["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    assert_eq!(
        row["cells"].as_array().map(Vec::len),
        events[0]["object"]["columnDefinitions"].as_array().map(Vec::len)
    );
}

#[tokio::test]
async fn the_options_of_a_watch_are_checked_in_kubes_order() {
    let door = Door::open().await;
    let watch = async |query: &str| door.get(&format!("{PACKS}?watch=1&{query}")).await.message();
    let prefix = "ListOptions.meta.k8s.io \"\" is invalid: ";
    let requires =
        "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
    let unless = "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is \
                  provided";
    let exact = "resourceVersionMatch: Unsupported value: \"Exact\": supported values: \"NotOlderThan\"";
    assert_eq!(watch("sendInitialEvents=true").await, (422, format!("{prefix}{requires}")));
    assert_eq!(watch("resourceVersionMatch=NotOlderThan").await, (422, format!("{prefix}{unless}")));
    assert_eq!(watch("resourceVersionMatch=Exact").await, (422, format!("{prefix}[{unless}, {exact}]")));
    let both = watch("sendInitialEvents=false&resourceVersionMatch=Exact").await;
    assert_eq!(both, (422, format!("{prefix}[{requires}, {exact}]")));
    for bad in ["resourceVersion=abc", "timeoutSeconds=abc", "timeoutSeconds=-1", "limit=abc", "labelSelector=a+b"] {
        assert_eq!(watch(bad).await.0, 400, "{bad}");
    }
    let yaml = door.ask("GET", &format!("{PACKS}?watch=1"), "application/yaml", "").await.message();
    assert_eq!(yaml, (406, "only the following media types are accepted: application/json;stream=watch".to_owned()));
}

#[tokio::test]
async fn a_watch_that_begins_while_the_server_stops_is_told_to_come_again() {
    let door = Door::open().await;
    door.stop.cancel();
    let answer = door.get(&format!("{PACKS}?watch=1&resourceVersion=1")).await;
    assert_eq!((answer.status.as_u16(), &answer.headers[RETRY_AFTER]), (429, &"1".parse().unwrap()));
}

/// The next frame of a server that is shorter than 64 KiB: what it is, and what is in it.
async fn frame(stream: &mut DuplexStream) -> (u8, Vec<u8>) {
    let mut head = [0; 2];
    stream.read_exact(&mut head).await.unwrap();
    let length = match head[1] {
        126 => usize::from(stream.read_u16().await.unwrap()),
        short => usize::from(short),
    };
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).await.unwrap();
    (head[0], payload)
}

#[tokio::test]
async fn a_watch_over_websocket_has_an_event_in_each_text_frame() {
    const TEXT: u8 = 0x81;
    const CLOSE: u8 = 0x88;
    let door = Door::open().await;
    door.create("a", json!({})).await;
    let (mut client, server) = tokio::io::duplex(1 << 16);
    let router = door.router.clone().layer(axum::Extension(administrator()));
    let service = router.map_request(|request: Request<hyper::body::Incoming>| request.map(Body::new));
    tokio::spawn(async move {
        let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
        let service = TowerToHyperService::new(service);
        builder.serve_connection_with_upgrades(TokioIo::new(server), service).await.unwrap();
    });
    let handshake = format!(
        "GET {PACKS}?watch=1 HTTP/1.1\r\nhost: hub\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: \
         13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-protocol: base64.binary.k8s.io\r\n\r\n"
    );
    client.write_all(handshake.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    assert!(head.contains("sec-websocket-protocol: base64.binary.k8s.io\r\n"), "{head}");
    door.create("b", json!({})).await;
    for name in ["a", "b"] {
        let (kind, payload) = frame(&mut client).await;
        assert_eq!(kind, TEXT);
        assert_eq!(brief(&[serde_json::from_slice(&payload).unwrap()]), [("ADDED", name, "")]);
    }
    door.stop.cancel();
    assert_eq!(frame(&mut client).await.0, CLOSE);
}
