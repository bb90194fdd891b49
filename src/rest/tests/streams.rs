use std::time::Duration;

use futures::StreamExt as _;
use http_body_util::BodyStream;

use super::*;

/// The events of a stream, as they come.
struct Events {
    body: BodyStream<Body>,
    text: String,
}

/// One event: its name, its id, its data.
#[derive(Debug, PartialEq)]
struct Event(String, String, String);

impl Events {
    async fn open(door: &Door, path: &str, headers: &[(&str, &str)]) -> Self {
        let mut all = vec![("accept", "text/event-stream")];
        all.extend_from_slice(headers);
        let request = request(Method::GET, path, &all, Body::empty());
        let response = door.router.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream; charset=utf-8");
        Self { body: BodyStream::new(response.into_body()), text: String::new() }
    }

    /// The next event; `None` where the stream has ended.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.text = rest;
                let of = |name: &str| {
                    let lines = event.lines().filter_map(|line| line.strip_prefix(name)).map(str::trim_start);
                    lines.collect::<Vec<_>>().join("\n")
                };
                if event.starts_with(':') {
                    continue;
                }
                return Some(Event(of("event:"), of("id:"), of("data:")));
            }
            let frame = self.body.next().await?.unwrap();
            self.text.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
        }
    }

    async fn named(&mut self, name: &str) -> Event {
        let event = self.next().await.unwrap();
        assert_eq!(event.0, name, "{event:?}");
        event
    }

    async fn json(&mut self, name: &str) -> Value {
        serde_json::from_str(&self.named(name).await.2).unwrap()
    }
}

const IMAGE: &str = "/images/labring/nginx/1.24";

#[tokio::test]
async fn an_answer_is_followed_each_that_is_another_once_and_its_end_is_told() {
    let door = Door::open().await;
    let root = door.token("root");
    let mut events = Events::open(&door, IMAGE, &[]).await;
    let first = events.named("put").await;
    assert_eq!(first.2, door.get(IMAGE).await.body);
    door.write(&root, Method::PATCH, "/images/other/redis/7", &json!({ "icon": "x" })).await.ok();
    door.write(&root, Method::PATCH, IMAGE, &json!({ "icon": "1" })).await.ok();
    assert_eq!(events.json("put").await["icon"], "1");

    // Whoever goes on with what it has is told nothing until there is something else.
    let second = door.get(IMAGE).await;
    let last = format!("1.{}", second.etag().trim_matches('"'));
    let mut resumed = Events::open(&door, IMAGE, &[("last-event-id", &last)]).await;
    door.write(&root, Method::PATCH, IMAGE, &json!({ "icon": "2" })).await.ok();
    assert_eq!(resumed.json("put").await["icon"], "2");
    let mut stale = Events::open(&door, IMAGE, &[("last-event-id", &first.1)]).await;
    assert_eq!(stale.json("put").await["icon"], "2");

    // What was between two that are read is not told.
    door.delete(&root, IMAGE, &[]).await;
    assert_eq!(events.json("gone").await["status"], 404);
    assert_eq!(events.next().await, None);
}

#[tokio::test]
async fn lists_and_documentation_are_followed_too() {
    let door = Door::open().await;
    let root = door.token("root");
    let mut list = Events::open(&door, "/repositories/labring/nginx/tags?limit=1", &[]).await;
    assert_eq!(list.json("put").await["items"][0]["tag"], "1.24");
    let mut docs = Events::open(&door, "/images/labring/nginx/1.24/docs", &[]).await;
    assert_eq!(docs.named("put").await.2, "# a newer web server\n");
    let new = json!({ "docs": "one\ntwo", "createdAt": "2025-01-01T00:00:00Z" });
    door.write(&root, Method::PUT, "/images/labring/nginx/1.25", &new).await.ok();
    assert_eq!(list.json("put").await["items"][0]["tag"], "1.25");
    door.write(&root, Method::PATCH, IMAGE, &json!({ "docs": "one\ntwo" })).await.ok();
    assert_eq!(docs.named("put").await.2, "one\ntwo");
}

#[tokio::test]
async fn whoever_waits_gets_the_next_answer_or_304_when_the_time_is_over() {
    let door = Arc::new(Door::open().await);
    let root = door.token("root");
    let first = door.get(IMAGE).await;
    let waiting = {
        let (door, etag) = (Arc::clone(&door), first.etag().to_owned());
        tokio::spawn(async move { door.get_with(IMAGE, &[("if-none-match", &etag), ("prefer", "wait=60")]).await })
    };
    door.write(&root, Method::PATCH, "/images/other/redis/7", &json!({ "icon": "x" })).await.ok();
    door.write(&root, Method::PATCH, IMAGE, &json!({ "icon": "1" })).await.ok();
    let answer = waiting.await.unwrap();
    assert_eq!((answer.status, &answer.json()["icon"]), (200, &json!("1")));
    let second = door.get(IMAGE).await;
    let same = door.get_with(IMAGE, &[("if-none-match", second.etag()), ("prefer", "wait=0")]).await;
    assert_eq!((same.status, same.header("preference-applied")), (304, "wait=0"));
    // Who has none, or another, doesn't wait.
    assert_eq!(door.get_with(IMAGE, &[("prefer", "wait=60")]).await.status, 200);
    assert_eq!(door.get_with(IMAGE, &[("if-none-match", "\"x\""), ("prefer", "wait=60")]).await.status, 200);
}

#[tokio::test]
async fn events_go_on_after_the_last_one_with_nothing_missed_or_doubled() {
    let door = Door::open().await;
    let root = door.token("root");
    let mut events = Events::open(&door, "/events?kind=IMAGE&kind=REPOSITORY", &[]).await;
    let mut last = events.named("sync").await.1;
    let (mut told, mut written) = (Vec::new(), Vec::new());
    for round in 0..5 {
        for i in 0..3 {
            let path = format!("/images/labring/nginx/{round}.{i}");
            let made = door.write(&root, Method::PUT, &path, &json!({})).await.ok();
            written.push(format!("{} {}", made["name"].as_str().unwrap(), made["version"].as_str().unwrap()));
        }
        // One is told, then the connection is lost.
        let Event(_, id, data) = events.named("put").await;
        let data: Value = serde_json::from_str(&data).unwrap();
        told.push(format!("{} {}", data["name"].as_str().unwrap(), data["version"].as_str().unwrap()));
        last = id;
        events = Events::open(&door, "/events?kind=IMAGE&kind=REPOSITORY", &[("last-event-id", &last)]).await;
        events.named("sync").await;
    }
    while told.len() < written.len() {
        let data = events.json("put").await;
        told.push(format!("{} {}", data["name"].as_str().unwrap(), data["version"].as_str().unwrap()));
    }
    assert_eq!(told, written);
    door.delete(&root, "/images/labring/nginx/0.0", &[]).await;
    let gone = events.json("removed").await;
    assert_eq!((&gone["name"], &gone["version"]), (&json!("labring/nginx:0.0"), &Value::Null));
    assert!(!last.is_empty());
}

#[tokio::test]
async fn events_are_those_that_the_caller_may_see_and_asked_for() {
    let door = Door::open().await;
    let (root, alice) = (door.token("root"), door.token("alice"));
    let bearer = format!("Bearer {alice}");
    let mut public = Events::open(&door, "/events", &[]).await;
    let mut hers = Events::open(&door, "/events?organization=acme", &[("authorization", &bearer)]).await;
    public.named("sync").await;
    hers.named("sync").await;
    door.write(&root, Method::PATCH, "/images/acme/secret/1", &json!({ "icon": "x" })).await;
    door.write(&root, Method::PATCH, "/images/acme/secret/1", &json!({ "icon": "y" })).await;
    door.write(&root, Method::PATCH, IMAGE, &json!({ "icon": "z" })).await.ok();
    assert_eq!(public.json("put").await["name"], "labring/nginx:1.24");
    for _ in 0..2 {
        assert_eq!(hers.json("put").await["name"], "acme/secret:1");
    }
}

#[tokio::test]
async fn what_is_no_longer_known_is_a_reset_and_the_stream_goes_on() {
    let door = Door::open().await;
    let root = door.token("root");
    let mut events = Events::open(&door, "/events?kind=IMAGE&since=1", &[]).await;
    events.named("sync").await;
    // All that was made before is still known: it is told. Then what one may see changes.
    let mut names = Vec::new();
    for _ in 0..4 {
        names.push(events.json("put").await["name"].as_str().unwrap().to_owned());
    }
    assert_eq!(names, ["labring/nginx:1.23", "labring/nginx:1.24", "labring/mysql:8.0", "other/redis:7"]);
    door.write(&root, Method::PATCH, "/repositories/other/redis", &json!({ "isPrivate": true })).await.ok();
    let reset = events.json("reset").await;
    assert_eq!(reset["kind"], "IMAGE");
    door.write(&root, Method::PATCH, IMAGE, &json!({ "icon": "z" })).await.ok();
    assert_eq!(events.json("put").await["name"], "labring/nginx:1.24");
}

#[tokio::test]
async fn streams_end_when_the_server_stops_or_the_token_is_taken_back() {
    let door = Door::open().await;
    let alice = door.token("alice");
    let bearer = format!("Bearer {alice}");
    let mut hers = Events::open(&door, "/events", &[("authorization", &bearer)]).await;
    let mut followed = Events::open(&door, "/images/acme/secret/1", &[("authorization", &bearer)]).await;
    let mut public = Events::open(&door, "/events", &[]).await;
    hers.named("sync").await;
    followed.named("put").await;
    public.named("sync").await;
    Users::change(door.dir.path(), |users| users.remove("alice")).unwrap();
    door.tokens.refresh();
    for events in [&mut hers, &mut followed] {
        assert_eq!(events.json("gone").await["code"], "UNAUTHENTICATED");
        assert_eq!(events.next().await, None);
    }
    door.app.stop.cancel();
    public.named("sync").await;
    let ended = tokio::time::timeout(Duration::from_secs(30), public.next()).await;
    assert_eq!(ended.unwrap(), None);
}

#[tokio::test]
async fn a_kind_that_an_id_doesn_t_tell_of_is_read_anew() {
    let door = Door::open().await;
    let last = [("last-event-id", "IMAGE=1")];
    let mut events = Events::open(&door, "/events?kind=IMAGE&kind=REPOSITORY", &last).await;
    let sync = events.named("sync").await.1;
    assert!(sync.starts_with("IMAGE=1,REPOSITORY="), "{sync}");
    let reset = loop {
        let event = events.next().await.unwrap();
        if event.0 == "reset" {
            break event;
        }
    };
    assert_eq!(serde_json::from_str::<Value>(&reset.2).unwrap()["kind"], "REPOSITORY");
}
