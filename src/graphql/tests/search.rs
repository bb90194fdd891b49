//! What the search finds, as this door tells it.

use super::*;
use crate::api::Kind;

fn request(query: &str, headers: &[(&str, &str)]) -> Request<Body> {
    let mut request = Request::post("/graphql").header(CONTENT_TYPE, "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::from(json!({ "query": query }).to_string())).unwrap()
}

impl Door {
    /// An answer of now, though the search may lag behind.
    async fn ask_now(&self, query: &str, headers: &[(&str, &str)]) -> Answer {
        send(&self.router, request(query, headers)).await
    }

    fn revision(&self) -> String {
        self.hub.revision().to_string()
    }
}

const FOUND: &str =
    r#"{ repositories(query: "server") { totalCount nodes { name } facets { organizations { value } } } }"#;

fn found(answer: &Answer) -> (Value, Value) {
    let list = &answer.data()["repositories"];
    (list["totalCount"].clone(), list["nodes"].clone())
}

#[tokio::test]
async fn typos_are_forgiven_and_names_come_before_words() {
    let door = Door::open().await;
    door.hub.create(image("other/web:1", json!({ "description": "nothing much" }))).await;
    for (text, wanted) in [
        ("ngnix", &["labring/nginx"][..]),
        ("web", &["other/web", "labring/nginx"]),
        ("数据库", &["labring/mysql", "other/redis"]),
        ("database mysql", &["labring/mysql"]),
        ("nosuchthing", &[]),
    ] {
        let query = "query($text: String) { repositories(query: $text) { nodes { name } } }";
        let answer = door.ask_with(query, json!({ "text": text })).await.data();
        let nodes = answer["repositories"]["nodes"].as_array().unwrap();
        let names: Vec<&str> = nodes.iter().map(|node| node["name"].as_str().unwrap()).collect();
        assert_eq!(names, wanted, "{text}");
    }
}

#[tokio::test]
async fn lists_without_a_text_are_the_same_with_the_search_and_without() {
    let door = Door::open().await;
    door.hub.create(repository("labring/empty", false)).await;
    door.hub.create(repository("zoo/none", false)).await;
    door.hub
        .put_status("labring.mysql", json!({ "downloadCount": 7 }), crate::registry::WriteOptions::default())
        .await
        .unwrap();
    door.settle();
    let without = door.router_of(|app| app.search = None);
    let tokens = ["root", "alice"].map(|user| format!("Bearer {}", door.token(user)));
    let fields = "totalCount nodes { name updatedAt } pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
        facets { organizations(first: 2) { value count selected } keywords { value count selected }
        types { value count selected } architectures { value count selected } }";
    let filters = [
        "",
        r#"keywords: ["database"]"#,
        r#"keywords: ["Storage", "nosuch"]"#,
        r#"organizations: ["labring", "nosuch"]"#,
        r#"names: ["labring/nginx", "acme/secret", "no/such"]"#,
        r#"types: [CLUSTER_IMAGE], architectures: [null, "arm64"]"#,
        "types: [null]",
        "isPrivate: true",
        "managedByMe: true",
        "managedByMe: false",
        r#"updatedSince: "2000-01-01T00:00:00Z""#,
        r#"updatedSince: "2999-01-01T00:00:00Z""#,
    ];
    for filter in filters {
        for order in ["NAME", "UPDATED", "DOWNLOADS"].into_iter().flat_map(|field| [(field, false), (field, true)]) {
            for page in ["first: 2", "last: 2", "first: 0"] {
                let query = format!(
                    "{{ repositories({page}, filter: {{ {filter} }}, orderBy: {{ field: {}, descending: {} }}) {{ {fields} }} }}",
                    order.0, order.1
                );
                for headers in [&[][..], &[("authorization", tokens[0].as_str())], &[("authorization", &tokens[1])]] {
                    let with = door.ask_now(&query, headers).await;
                    let plain = send(&without, request(&query, headers)).await;
                    assert_eq!(with.body, plain.body, "{query}");
                    // A cursor of the one is one of the other.
                    let cursor = &with.data()["repositories"]["pageInfo"]["endCursor"];
                    let Some(cursor) = cursor.as_str() else { continue };
                    let next = query.replacen(page, &format!("first: 2, after: \"{cursor}\""), 1);
                    let (with, plain) =
                        (door.ask_now(&next, headers).await, send(&without, request(&next, headers)).await);
                    assert_eq!(with.data(), plain.data(), "{next}");
                }
            }
        }
    }
}

#[tokio::test]
async fn what_becomes_private_is_not_counted_from_that_moment_on_though_the_index_has_it() {
    let door = Door::open().await;
    assert_eq!(found(&door.ask(FOUND).await).0, 1);
    door.hub.put(Kind::Repository, "labring.nginx", |object| object["spec"]["isPrivate"] = true.into()).await;
    let hidden = door.ask_now(FOUND, &[]).await;
    assert_eq!(
        hidden.data()["repositories"],
        json!({ "totalCount": 0, "nodes": [], "facets": { "organizations": [] } })
    );
    assert_eq!(door.ask_now(r#"{ suggest(text: "ngi") { text } }"#, &[]).await.data()["suggest"], json!([]));
    let root = format!("Bearer {}", door.token("root"));
    assert_eq!(found(&door.ask_now(FOUND, &[("authorization", &root)]).await).0, 1);
}

#[tokio::test]
async fn what_was_found_before_the_index_had_all_is_not_kept() {
    let door = Door::open().await;
    door.settle();
    let before = door.revision();
    door.hub.create(image("other/fresh:1", json!({ "description": "a server" }))).await;
    let early = door.ask_now(FOUND, &[]).await;
    assert_eq!(found(&early).0, 1);
    assert_eq!(
        (early.header("imagehub-revision"), early.header("imagehub-search-revision")),
        (&*door.revision(), &*before)
    );
    door.settle();
    for _ in 0..2 {
        let late = door.ask_now(FOUND, &[]).await;
        assert_eq!(found(&late).0, 2);
        assert_eq!(late.header("imagehub-search-revision"), door.revision());
    }
    assert_eq!(door.ask("{ repositories { totalCount } }").await.header("imagehub-search-revision"), "");
}

#[tokio::test]
async fn a_demanded_revision_is_waited_for_until_the_index_has_it() {
    let door = Door::open().await;
    door.settle();
    door.hub.create(image("other/fresh:1", json!({ "description": "a server" }))).await;
    let revision = door.revision();
    let headers = [("imagehub-min-revision", revision.as_str())];
    let mut asked = Box::pin(door.ask_now(FOUND, &headers));
    assert!(futures::poll!(&mut asked).is_pending());
    // Lists need no text, and wait for nothing.
    let list = door.ask_now("{ repositories { totalCount } }", &headers).await;
    assert_eq!(list.data()["repositories"]["totalCount"], 4);
    door.settle();
    let answer = asked.await;
    assert_eq!(found(&answer).0, 2);
    assert_eq!(answer.header("imagehub-search-revision"), revision);
}

#[tokio::test]
async fn without_a_search_only_a_text_is_refused() {
    let door = Door::open_with(|app| app.search = None).await;
    for query in [FOUND, r#"{ suggest(text: "x") { text } }"#] {
        let (code, message) = door.ask(query).await.error();
        assert_eq!((code.as_str(), message.contains("--search")), ("UNAVAILABLE", true), "{message}");
    }
    assert_eq!(door.ask("{ repositories { totalCount } }").await.data()["repositories"]["totalCount"], 3);
    assert_eq!(door.ask(r#"{ suggest(text: " ") { text } }"#).await.data()["suggest"], json!([]));
}

#[tokio::test]
async fn a_search_that_is_being_filled_says_so_and_lists_are_there() {
    let door = Door::open().await;
    let (code, message) = door.ask_now(FOUND, &[]).await.error();
    assert_eq!((code.as_str(), message.contains("filled")), ("UNAVAILABLE", true), "{message}");
    assert_eq!(door.ask_now("{ repositories { totalCount } }", &[]).await.data()["repositories"]["totalCount"], 3);
}

#[tokio::test]
async fn a_text_that_is_too_long_is_refused_at_the_limit() {
    let door = Door::open().await;
    let ask = |length: usize| {
        let variables = json!({ "text": "x".repeat(length) });
        let door = &door;
        async move { door.ask_with("query($text: String!) { suggest(text: $text) { text } }", variables).await }
    };
    assert_eq!(ask(crate::search::MAX_TEXT).await.data()["suggest"], json!([]));
    let (code, message) = ask(crate::search::MAX_TEXT + 1).await.error();
    assert_eq!((code.as_str(), message.contains("(limit: text)")), ("LIMIT_EXCEEDED", true), "{message}");
}
