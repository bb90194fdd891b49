//! The REST door of the whole program, beside the Kubernetes door: what is written at one is at once at the other, and in
//! what is followed there, over restarts of the server.

use std::process::Stdio;

use hyper::Method;
use hyper::body::Bytes;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::harness::{MERGE_PATCH, Server, path, within};

const IMAGE: &str = "/api/v1/images/acme/app/1.0";

/// Events that curl reads.
pub struct Events {
    lines: Lines<BufReader<ChildStdout>>,
    _curl: Child,
}

/// One event: its name, its id, its data.
pub type Event = (String, String, Value);

impl Events {
    pub fn open(server: &Server, path: &str, last: Option<&str>) -> Self {
        let header = last.map(|last| format!("last-event-id: {last}"));
        let more: Vec<&str> = header.iter().flat_map(|header| ["-H", header]).collect();
        Self::read(&format!("http://{}{path}", server.http_address()), &more)
    }

    /// What a GraphQL subscription tells.
    pub fn subscribed(server: &Server, query: &str) -> Self {
        let body = json!({ "query": query }).to_string();
        let url = format!("http://{}/graphql", server.http_address());
        Self::read(&url, &["-H", "content-type: application/json", "-d", &body])
    }

    /// What curl reads with these arguments, too.
    pub fn read(url: &str, more: &[&str]) -> Self {
        let mut curl = Command::new("curl");
        curl.args(["-sN", "-H", "accept: text/event-stream"]).args(more).arg(url);
        let mut curl = curl.stdout(Stdio::piped()).kill_on_drop(true).spawn().expect("curl runs");
        let lines = BufReader::new(curl.stdout.take().expect("it is piped")).lines();
        Self { lines, _curl: curl }
    }

    pub async fn next(&mut self) -> Option<Event> {
        let (mut name, mut id, mut data) = (String::new(), String::new(), String::new());
        while let Some(line) = within("an event", self.lines.next_line()).await.expect("curl prints text") {
            match line.split_once(": ") {
                Some(("event", value)) => value.clone_into(&mut name),
                Some(("id", value)) => value.clone_into(&mut id),
                Some(("data", value)) => data.push_str(value),
                _ if line.is_empty() && !name.is_empty() => {
                    return Some((name, id, serde_json::from_str(&data).expect("data is JSON")));
                }
                _ => {}
            }
        }
        None
    }

    pub async fn named(&mut self, wanted: &str) -> Event {
        let event = self.next().await.expect("the stream goes on");
        assert_eq!(event.0, wanted, "{event:?}");
        event
    }
}

async fn bearer(server: &Server, user: &str) -> String {
    server.user(user).await;
    format!("Bearer {}", server.imagehub(&format!("token {user}")).await.trim())
}

#[tokio::test]
async fn an_image_that_is_published_with_one_request_is_kubes_at_once_and_the_other_way_round() {
    let server = Server::start().await;
    let token = bearer(&server, "ci").await;
    let rest = server.http().with_header("authorization", &token);
    let published =
        rest.put(IMAGE, &json!({ "type": "CLUSTER_IMAGE", "description": "an app", "docs": "# App" })).await;
    assert_eq!(published.status, 201, "{published}");
    let kube = server.admin().get(&path("images", "acme.app.1.0")).await.ok();
    assert_eq!(kube["spec"]["detail"]["docs"], "# App");
    assert_eq!(kube["metadata"]["resourceVersion"], published.json()["version"]);
    let organization = server.admin().get(&path("organizations", "acme")).await.ok();
    assert_eq!(organization["spec"]["manager"], json!(["ci"]));

    let etag = published.headers["etag"].to_str().expect("it is text").to_owned();
    let waiting = {
        let (client, etag) = (server.http(), etag.clone());
        tokio::spawn(async move {
            let headers = [("if-none-match", &*etag), ("prefer", "wait=30")];
            client.request(Method::GET, IMAGE, &headers, Bytes::new()).await
        })
    };
    let patch = json!({ "spec": { "detail": { "description": "kube's" } } });
    let patched = server.admin().patch(&path("images", "acme.app.1.0"), MERGE_PATCH, &patch).await.ok();
    let answer = waiting.await.expect("the request was not given up");
    assert_eq!(answer.ok()["description"], "kube's");
    let demanded = [("imagehub-min-revision", patched["metadata"]["resourceVersion"].as_str().expect("a version"))];
    let read = server.http().request(Method::GET, IMAGE, &demanded, Bytes::new()).await;
    assert_eq!(read.ok()["description"], "kube's");
    let stale = [("if-match", &*etag), ("content-type", "application/json")];
    let refused = rest.request(Method::PUT, IMAGE, &stale, Bytes::from("{}")).await;
    assert_eq!(refused.expect(412)["code"], "CONFLICT");
}

#[tokio::test]
async fn the_pages_of_both_doors_have_all_that_they_load() {
    let server = Server::start().await;
    let http = server.http();
    let get =
        async |path: &str, accept: &str| http.request(Method::GET, path, &[("accept", accept)], Bytes::new()).await;
    for page in ["/docs", "/graphql"] {
        let html = get(page, "text/html").await;
        assert_eq!(html.status, 200, "{html}");
        let text = html.text();
        let files: Vec<&str> = ["src=\"", "href=\""]
            .iter()
            .flat_map(|attribute| text.split(attribute).skip(1).filter_map(|rest| rest.split('"').next()))
            .filter(|file| file.starts_with('/'))
            .collect();
        assert!(!files.is_empty(), "{text}");
        for file in files {
            let file = get(file, "text/html, */*;q=0.5").await;
            assert_eq!(file.status, 200, "{file}");
        }
        assert_eq!(get(&format!("{page}/nosuch"), "*/*").await.status, 404);
    }
    assert_eq!(get("/docsx", "*/*").await.status, 404);
}

#[tokio::test]
async fn what_kubectl_takes_is_taken_and_each_has_its_result() {
    let server = Server::start().await;
    let token = bearer(&server, "ci").await;
    let manifest = "apiVersion: imagehub.sealos.io/v1\nkind: Image\nmetadata: {name: acme.app.1}\nspec: {name: 'acme/app:1'}\n---\n\
                    apiVersion: imagehub.sealos.io/v1\nkind: Image\nmetadata: {name: acme.app.x}\nspec: {name: 'acme/app:x+y'}\n";
    let headers = [("authorization", &*token), ("content-type", "application/yaml")];
    let applied = server.http().request(Method::POST, "/api/v1/images", &headers, Bytes::from(manifest)).await.ok();
    assert_eq!(applied["results"][0]["outcome"], "CREATED");
    assert_eq!(applied["results"][1]["outcome"], "REFUSED");
    server.admin().get(&path("images", "acme.app.1")).await.ok();
}

#[tokio::test]
async fn events_go_on_over_a_restart_with_nothing_missed_or_doubled() {
    let mut server = Server::start().await;
    let admin = server.admin();
    let manifest = |i: usize| {
        json!({
            "apiVersion": "imagehub.sealos.io/v1", "kind": "Image", "metadata": { "name": format!("acme.app.{i}") },
            "spec": { "name": format!("acme/app:{i}") },
        })
    };
    let images = path("images", "");
    let mut events = Events::open(&server, "/api/v1/events?kind=IMAGE", None);
    let (_, mut last, _) = events.named("sync").await;
    let mut told = Vec::new();
    for i in 0..3 {
        admin.post(&images, &manifest(i)).await.ok();
        let (_, id, data) = events.named("put").await;
        told.push(data["name"].as_str().expect("a name").to_owned());
        last = id;
    }
    server.stop().await;
    // The stream says how far it has come, and ends.
    while let Some((name, id, _)) = events.next().await {
        assert_eq!(name, "sync");
        last = id;
    }
    server.start_again().await;
    let admin = server.admin();
    for i in 3..6 {
        admin.post(&images, &manifest(i)).await.ok();
    }
    let mut events = Events::open(&server, "/api/v1/events?kind=IMAGE", Some(&last));
    events.named("sync").await;
    for _ in 3..6 {
        told.push(events.named("put").await.2["name"].as_str().expect("a name").to_owned());
    }
    let wanted: Vec<String> = (0..6).map(|i| format!("acme/app:{i}")).collect();
    assert_eq!(told, wanted);
}
