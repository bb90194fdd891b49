//! All doors of the whole program side by side: what is written at one is in the next read at each other that demands
//! its revision, and once in all that was being followed.

mod sight;

use hyper::Method;
use hyper::body::Bytes;
use serde_json::{Value, json};

use crate::harness::{Client, Launch, MERGE_PATCH, Server, nameless_pack, path, revision, run};
use crate::rest::Events;

/// Who writes and reads at each door.
struct Doors {
    server: Server,
    kube: Client,
    http: Client,
}

fn description(text: &str) -> Value {
    json!({ "description": text })
}

fn manifest(tag: &str, text: &str) -> Value {
    json!({
        "apiVersion": "imagehub.sealos.io/v1", "kind": "Image", "metadata": { "name": format!("doors.app.{tag}") },
        "spec": { "name": format!("doors/app:{tag}"), "detail": description(text) },
    })
}

impl Doors {
    /// Asks GraphQL, and answers the data with the revision of the answer.
    async fn graphql(&self, query: &str, demanded: Option<u64>) -> (Value, u64) {
        let body = Bytes::from(json!({ "query": query }).to_string());
        let demanded = demanded.map(|revision| revision.to_string());
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(demanded.iter().map(|revision| ("imagehub-min-revision", revision.as_str())));
        let answer = self.http.request(Method::POST, "/graphql", &headers, body).await;
        let json = answer.ok();
        assert!(json.get("errors").is_none(), "{json}");
        let told = answer.headers["imagehub-revision"].to_str().expect("it is text");
        (json["data"].clone(), told.parse().expect("a number"))
    }

    /// Makes an image by the door that its tag names, or changes it; answers the revision.
    async fn write(&self, door: &str, text: &str, is_new: bool) -> u64 {
        let name = path("images", &format!("doors.app.{door}"));
        match door {
            "kube" if is_new => revision(&self.kube.post(&path("images", ""), &manifest(door, text)).await.ok()),
            "kube" => {
                let patch = json!({ "spec": { "detail": description(text) } });
                revision(&self.kube.patch(&name, MERGE_PATCH, &patch).await.ok())
            }
            "graphql" => {
                let query = format!(
                    r#"mutation {{ applyImages(images: [{{ name: "doors/app:{door}", description: "{text}" }}])
                       {{ results {{ outcome userErrors {{ message }} }} }} }}"#
                );
                let (data, told) = self.graphql(&query, None).await;
                let wanted = if is_new { "CREATED" } else { "CHANGED" };
                assert_eq!(data["applyImages"]["results"][0]["outcome"], wanted, "{data}");
                told
            }
            "rest" => {
                let answer = self.http.put("/api/v1/images/doors/app/rest", &description(text)).await;
                assert_eq!(answer.status, if is_new { 201 } else { 200 }, "{answer}");
                answer.headers["imagehub-revision"].to_str().expect("it is text").parse().expect("a number")
            }
            _ => {
                let file = self.server.data_dir().with_file_name("import.json");
                std::fs::write(&file, manifest(door, text).to_string()).expect("a file");
                let (config, file) = (self.server.data_dir().join("kubeconfig"), file.display().to_string());
                let words = ["import", "--kubeconfig", &config.display().to_string(), &file];
                run(&self.server.data_dir(), &words, &[], "").await.ok();
                revision(&self.kube.get(&name).await.ok())
            }
        }
    }

    /// What each door says of an image's description when `demanded` is demanded.
    async fn read(&self, tag: &str, demanded: u64) -> [Value; 3] {
        let list = format!(
            "{}?resourceVersion={demanded}&resourceVersionMatch=NotOlderThan&fieldSelector=metadata.name=doors.app.{tag}",
            path("images", "")
        );
        let kube = self.kube.get(&list).await.ok()["items"][0]["spec"]["detail"]["description"].clone();
        let query = format!(r#"{{ image(name: "doors/app:{tag}") {{ description }} }}"#);
        let graphql = self.graphql(&query, Some(demanded)).await.0["image"]["description"].clone();
        let text = demanded.to_string();
        let headers = [("imagehub-min-revision", text.as_str())];
        let image = format!("/api/v1/images/doors/app/{tag}");
        let rest = self.http.request(Method::GET, &image, &headers, Bytes::new()).await.ok()["description"].clone();
        [kube, graphql, rest]
    }
}

#[tokio::test]
async fn what_is_written_at_one_door_is_in_the_next_read_and_once_in_each_stream_of_all_others() {
    let server = Server::start().await;
    server.user("alice").await;
    let bearer = format!("Bearer {}", server.imagehub("token alice").await.trim());
    let (kube, http) = (server.admin(), server.http().with_header("authorization", &bearer));
    let doors = Doors { server, kube, http };
    // Hers from the start.
    let founded = doors.http.put("/api/v1/organizations/doors", &json!({ "managers": ["alice"] })).await;
    founded.ok();
    let since = founded.headers["imagehub-revision"].to_str().expect("it is text");

    let mut watch = doors.kube.watch(&format!("{}?watch=1&resourceVersion=1", path("images", ""))).await;
    let mut events = Events::open(&doors.server, "/api/v1/events?kind=IMAGE", None);
    events.named("sync").await;
    let mut changes = Events::subscribed(
        &doors.server,
        &format!(r#"subscription {{ images(since: "{since}") {{ kind revision node {{ name description }} }} }}"#),
    );

    let (mut told, mut last) = (Vec::new(), 0);
    for is_new in [true, false] {
        for door in ["kube", "graphql", "rest", "import"] {
            let text = format!("{door} {is_new}");
            let at = doors.write(door, &text, is_new).await;
            assert!(at > last, "{door}: revisions rise");
            last = at;
            assert_eq!(doors.read(door, at).await, [json!(text), json!(text), json!(text)], "{door}");
            told.push((format!("doors/app:{door}"), text));
        }
    }
    let (mut by_kube, mut by_rest, mut by_graphql) = (Vec::new(), Vec::new(), Vec::new());
    let pair = |name: &Value, text: &Value| {
        (name.as_str().expect("a name").to_owned(), text.as_str().unwrap_or_default().to_owned())
    };
    while by_kube.len() < told.len() {
        let object = watch.next().await.object;
        by_kube.push(pair(&object["spec"]["name"], &object["spec"]["detail"]["description"]));
    }
    while by_rest.len() < told.len() {
        let (name, _, data) = events.next().await.expect("the stream goes on");
        if name == "put" {
            by_rest.push(pair(&data["name"], &data["image"]["description"]));
        }
    }
    while by_graphql.len() < told.len() {
        let (_, _, data) = changes.next().await.expect("the stream goes on");
        let change = &data["data"]["images"];
        if change["kind"] != "SYNC" {
            by_graphql.push(pair(&change["node"]["name"], &change["node"]["description"]));
        }
    }
    assert_eq!(by_kube, told);
    assert_eq!(
        by_rest.iter().map(|(name, _)| name).collect::<Vec<_>>(),
        told.iter().map(|(n, _)| n).collect::<Vec<_>>()
    );
    assert_eq!(by_graphql, told);
}

/// What the frontend of the system before this one did for its store page, by kube's API: a list of repositories by
/// keyword, the names of their latest images, a pack of these, and its data.
async fn page_of_before(kube: &Client, keyword: &str, limit: usize) -> Vec<Value> {
    let list = format!("{}?labelSelector=keyword.imagehub.sealos.io/{keyword}&limit={limit}", path("repositories", ""));
    let repositories = kube.get(&list).await.ok();
    let name = |one: &Value| {
        let (repository, tag) = (&one["spec"]["name"], &one["status"]["latestTag"]["name"]);
        format!("{}:{}", repository.as_str().expect("a name"), tag.as_str().expect("a tag"))
    };
    let names: Vec<String> = repositories["items"].as_array().expect("a list").iter().map(name).collect();
    let wanted: Vec<&str> = names.iter().map(String::as_str).collect();
    let pack = kube.post(&path("datapacks", ""), &nameless_pack("grid", &wanted)).await.ok();
    names.iter().map(|name| pack["status"]["datas"][name].clone()).collect()
}

#[tokio::test]
async fn one_query_draws_the_store_page_that_took_a_list_a_pack_and_a_poll() {
    let server = Launch::default().argument("--demo").start().await;
    let alice = server.user("alice").await;
    let bearer = format!("Bearer {}", server.imagehub("token alice").await.trim());
    let before = page_of_before(&alice, "Database", 3).await;
    assert_eq!(before.len(), 3, "{before:?}");
    let query = r#"{ repositories(filter: { keywords: ["Database"] }, first: 3) { nodes {
        name downloadCount latestImage { name icon keywords size description type } } } }"#;
    let answer =
        server.http().with_header("authorization", &bearer).post("/graphql", &json!({ "query": query })).await.ok();
    let nodes = answer["data"]["repositories"]["nodes"].as_array().unwrap_or_else(|| panic!("{answer}"));
    let now: Vec<Value> = nodes
        .iter()
        .map(|node| {
            let image = &node["latestImage"];
            let sort = image["type"].as_str().map(|sort| sort.to_lowercase().replace('_', "-"));
            json!({
                "name": image["name"], "type": sort, "repoName": node["name"], "icon": image["icon"],
                "keywords": image["keywords"], "downloadCount": node["downloadCount"], "size": image["size"],
                "description": image["description"],
            })
        })
        .collect();
    assert_eq!(nodes.len(), before.len());
    for (before, now) in before.iter().zip(&now) {
        for (field, value) in before.as_object().expect("data") {
            // It was always 0.
            if field == "rating" {
                continue;
            }
            let of_now = now.get(field).unwrap_or_else(|| panic!("the page lacks {field}: {before}"));
            // What an image doesn't say is "" or 0 there, and nothing here.
            assert!(
                of_now == value || (of_now.is_null() && (value == "" || *value == 0)),
                "{field}: {value} before, {of_now} now"
            );
        }
    }
}
