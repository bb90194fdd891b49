use proptest::prelude::*;

use super::*;
use crate::api::Kind;
use crate::model::{Clean, MAPPING};

#[tokio::test]
async fn one_query_draws_a_store_page() {
    let door = Door::open().await;
    let answer = door.ask(r#"{ repositories(first: 2, filter: { keywords: ["storage"] }) { totalCount } }"#).await;
    assert_eq!(answer.data(), json!({ "repositories": { "totalCount": 1 } }), "the private one is not counted");
    let page = door
        .ask(
            r"{
              repositories(first: 2) {
                totalCount
                pageInfo { hasNextPage hasPreviousPage }
                nodes {
                  id name isPrivate downloadCount keywords viewerCanManage
                  organization { name }
                  latestImage { name tag type description architecture size createdAt runCommand iconUrl docsBytes }
                  tags { totalCount nodes { tag } }
                }
                facets {
                  organizations { value count selected }
                  keywords { value count }
                  types { value count }
                  architectures { value count }
                }
              }
            }",
        )
        .await;
    insta::assert_json_snapshot!(page.data());
}

#[tokio::test]
async fn pages_go_on_where_they_were_and_cursors_are_of_one_list() {
    let door = Door::open().await;
    let all = door.ask("{ images { totalCount nodes { name } } }").await.data();
    assert_eq!(all["images"]["totalCount"], 4);
    let mut seen = Vec::new();
    let mut after = Value::Null;
    for _ in 0..4 {
        let query =
            "query($after: String) { images(first: 1, after: $after) { nodes { name } pageInfo { endCursor } } }";
        let page = door.ask_with(query, json!({ "after": after })).await.data();
        seen.push(page["images"]["nodes"][0].clone());
        after = page["images"]["pageInfo"]["endCursor"].clone();
    }
    assert_eq!(json!(seen), all["images"]["nodes"]);
    let query = "query($c: String) { repositories(after: $c) { totalCount } }";
    let (code, message) = door.ask_with(query, json!({ "c": after })).await.error();
    assert_eq!((code.as_str(), message.contains("another list")), ("CURSOR_INVALID", true), "{message}");
    for bad in ["", "x", "!", "AAAA", &"A".repeat(2000)] {
        assert_eq!(door.ask_with(query, json!({ "c": bad })).await.error().0, "CURSOR_INVALID", "{bad}");
    }
    // Another viewer's is none of this one's.
    let alice = door.token("alice");
    let page = door.ask_as(&alice, "{ images(first: 1) { pageInfo { endCursor } } }").await.data();
    let query = format!("{{ images(after: {}) {{ totalCount }} }}", page["images"]["pageInfo"]["endCursor"]);
    assert_eq!(door.ask(&query).await.error().0, "CURSOR_INVALID");
    let back = door.ask("{ images(last: 1) { nodes { name } pageInfo { hasPreviousPage hasNextPage } } }").await.data();
    assert_eq!(back["images"]["nodes"][0]["name"], "other/redis:7");
    assert_eq!(back["images"]["pageInfo"], json!({ "hasPreviousPage": true, "hasNextPage": false }));
    for (args, code) in [("first: 101", "LIMIT_EXCEEDED"), ("first: -1", "INVALID"), ("first: 1, last: 1", "INVALID")] {
        assert_eq!(door.ask(&format!("{{ images({args}) {{ totalCount }} }}")).await.error().0, code, "{args}");
    }
}

#[tokio::test]
async fn tags_page_in_their_own_order() {
    let door = Door::open().await;
    let query = r#"query($a: String) { repository(name: "labring/nginx") { tags(first: 1, after: $a) {
        totalCount nodes { tag } pageInfo { endCursor hasNextPage hasPreviousPage } } } }"#;
    let first = door.ask_with(query, json!({})).await.data()["repository"]["tags"].clone();
    assert_eq!((&first["nodes"][0]["tag"], &first["pageInfo"]["hasNextPage"]), (&json!("1.24"), &json!(true)));
    let after = json!({ "a": first["pageInfo"]["endCursor"] });
    let second = door.ask_with(query, after).await.data()["repository"]["tags"].clone();
    assert_eq!((&second["nodes"][0]["tag"], &second["pageInfo"]["hasNextPage"]), (&json!("1.23"), &json!(false)));
}

#[tokio::test]
async fn what_is_hidden_and_what_is_absent_are_answered_alike() {
    let door = Door::open().await;
    let query = |organization: &str, repository: &str| {
        format!(
            r#"{{
              node(id: "Repository:{organization}/{repository}") {{ id }}
              nodes(ids: ["Image:{organization}/{repository}:1"]) {{ id }}
              image(name: "{organization}/{repository}:1") {{ id }}
              repository(name: "{organization}/{repository}") {{ id }}
              resolve(names: ["{organization}/{repository}:1"]) {{ image {{ id }} }}
              compare(from: "{organization}/{repository}:1", to: "labring/nginx:1.23") {{ docsDiff }}
              repositories(query: "{repository}") {{ totalCount facets {{ organizations {{ value }} }} }}
              suggest(text: "{organization}/{repository}") {{ text }}
              organization(name: "{organization}") {{ repositories {{ totalCount }} }}
            }}"#
        )
    };
    let (hidden, absent) = (door.ask(&query("acme", "secret")).await, door.ask(&query("acme", "nosuch")).await);
    assert_eq!(hidden.data(), absent.data());
    assert_eq!(hidden.body, absent.body);
    let alice = door.token("alice");
    let seen = door.ask_as(&alice, &query("acme", "secret")).await.data();
    assert_eq!(seen["image"]["id"], "Image:acme/secret:1");
    assert_eq!(seen["organization"]["repositories"]["totalCount"], 1);
    let bob = door.token("bob");
    assert_eq!(door.ask_as(&bob, &query("acme", "secret")).await.body, absent.body);
}

#[tokio::test]
async fn facets_leave_their_own_filter_aside_and_count_what_is_unset() {
    let door = Door::open().await;
    let query = r#"{ repositories(filter: { architectures: [null, "amd64"], organizations: ["labring"] }) {
        nodes { name } facets { architectures { value count selected } organizations { value count selected } } } }"#;
    let page = door.ask(query).await.data()["repositories"].clone();
    assert_eq!(page["nodes"], json!([{ "name": "labring/nginx" }]));
    assert_eq!(
        page["facets"],
        json!({
            "architectures": [
                { "value": "amd64", "count": 1, "selected": true },
                { "value": "arm64", "count": 1, "selected": false },
                { "value": null, "count": 0, "selected": true },
            ],
            "organizations": [
                { "value": "labring", "count": 1, "selected": true },
                { "value": "other", "count": 1, "selected": false },
            ],
        })
    );
}

#[tokio::test]
async fn a_text_finds_names_first_and_a_whole_name_finds_its_tag() {
    let door = Door::open().await;
    let query = r#"{ repositories(query: "labring/nginx:1.23") { edges { node { name } matchedImage { name } } } }"#;
    let found = door.ask(query).await.data()["repositories"]["edges"].clone();
    let wanted = json!([{ "node": { "name": "labring/nginx" }, "matchedImage": { "name": "labring/nginx:1.23" } }]);
    assert_eq!(found, wanted);
    let query = r#"{ repositories(query: "web server", last: 1) { totalCount } }"#;
    assert_eq!(door.ask(query).await.error().0, "INVALID");
    let found = door.ask(r#"{ repositories(query: "web server") { nodes { name } } }"#).await.data();
    assert_eq!(found["repositories"]["nodes"], json!([{ "name": "labring/nginx" }]));
    let suggested = door.ask(r#"{ suggest(text: "la") { text node { __typename id } } }"#).await.data();
    insta::assert_json_snapshot!(suggested);
}

#[tokio::test]
async fn names_resolve_and_versions_compare() {
    let door = Door::open().await;
    let query = r#"{
      resolve(names: ["labring/nginx:1.24", "no/such:1", "acme/secret:1"]) { name image { tag } }
      compare(from: "labring/nginx:1.23", to: "labring/nginx:1.24") { changes { field before after } docsDiff }
    }"#;
    insta::assert_json_snapshot!(door.ask(query).await.data());
}

#[tokio::test]
async fn numbers_beyond_32_bits_are_numbers() {
    let door = Door::open().await;
    let answer = door.ask(r#"{ image(name: "labring/mysql:8.0") { size } }"#).await;
    assert_eq!(answer.body, r#"{"data":{"image":{"size":5000000000}}}"#);
}

#[tokio::test]
async fn the_viewer_is_who_the_token_says() {
    let door = Door::open().await;
    let query =
        "{ viewer { name groups anonymous administrator canCreateOrganizations organizations { nodes { name } } } }";
    let nobody = door.ask(query).await.data();
    let nothing = json!({ "name": null, "groups": ["system:unauthenticated"], "anonymous": true, "administrator": false,
        "canCreateOrganizations": false, "organizations": { "nodes": [] } });
    assert_eq!(nobody["viewer"], nothing);
    let alice = door.token("alice");
    let viewer = door.ask_as(&alice, query).await.data();
    let wanted = json!({ "name": "alice", "groups": ["system:authenticated"], "anonymous": false, "administrator": false,
        "canCreateOrganizations": true, "organizations": { "nodes": [{ "name": "acme" }] } });
    assert_eq!(viewer["viewer"], wanted);
    let root = door.token("root");
    assert_eq!(door.ask_as(&root, query).await.data()["viewer"]["administrator"], true);
    let bad = door.ask_as("no-such-token", query).await;
    assert_eq!((bad.status.as_u16(), bad.error().0.as_str()), (401, "UNAUTHENTICATED"));
    assert_eq!(bad.header("www-authenticate"), "Bearer");
}

#[test]
fn every_clean_name_is_in_the_schema() {
    let sdl = crate::graphql::sdl();
    let fields = |of: &str| -> Vec<String> {
        let start = sdl.lines().position(|line| line.starts_with(&format!("type {of} "))).expect(of);
        let body = sdl.lines().skip(start).take_while(|line| *line != "}");
        let name = |line: &str| line.trim().split(['(', ':']).next().unwrap_or_default().to_owned();
        body.filter(|line| line.starts_with("  ") && !line.starts_with("   ")).map(name).collect()
    };
    for line in MAPPING {
        let Clean::Path(path) = line.clean else { continue };
        let mut of = line.kind.name();
        for part in path.split('.') {
            let part = part.trim_end_matches("[]");
            assert!(fields(of).iter().any(|field| field == part), "{of} has no {part}: {path}");
            of = match part {
                "tags" | "latestImage" | "image" => "Image",
                "repository" | "repositories" => "Repository",
                "entries" => "Entry",
                "actions" => "Action",
                _ => of,
            };
        }
    }
    assert_eq!(Kind::ALL.len(), 4);
}

#[test]
fn everything_in_the_schema_is_described() {
    let sdl = crate::graphql::sdl();
    // The roots speak for themselves.
    let sdl = sdl.split_once("schema {").map_or("", |(types, _)| types);
    assert!(sdl.contains("type Query"));
    let lines: Vec<&str> = sdl.lines().collect();
    for (i, line) in lines.iter().enumerate() {
        let defines = ["type ", "input ", "enum ", "interface ", "scalar "].iter().any(|word| line.starts_with(word));
        let member = line.starts_with("  ") && !line.starts_with("   ") && line.trim().starts_with(char::is_alphabetic);
        if defines || (member && lines[i - 1].trim() != "\"\"\"" && !in_text(&lines[..i])) {
            assert!(lines[i - 1].trim().ends_with("\"\"\""), "{line:?} is not described, after {:?}", lines[i - 1]);
        }
    }
}

/// Whether the next line is in a description.
fn in_text(before: &[&str]) -> bool {
    before.iter().filter(|line| line.trim() == "\"\"\"").count() % 2 == 1
}

#[tokio::test]
async fn an_answer_is_kept_until_something_that_it_was_read_from_changes() {
    let door = Door::open().await;
    let query = "query=%7B+repository(name%3A%22labring%2Fnginx%22)%7BlatestImage%7Btag+description%7D%7D%7D";
    let first = door.get(query, &[]).await;
    assert_eq!((first.status.as_u16(), first.header("cache-control")), (200, "public, no-cache"));
    let etag = first.header("etag").to_owned();
    // Something unrelated.
    door.hub.create(image("other/redis:8", json!({}))).await;
    let same = door.get(query, &[("if-none-match", &etag)]).await;
    assert_eq!((same.status.as_u16(), same.body.as_str()), (304, ""));
    assert_ne!(same.header("imagehub-revision"), first.header("imagehub-revision"));
    // A newer tag.
    door.hub.create(image("labring/nginx:1.25", json!({ "creatTime": "2025-01-01T00:00:00Z" }))).await;
    let new = door.get(query, &[("if-none-match", &etag)]).await;
    assert_eq!(new.status, 200);
    assert_eq!(new.data()["repository"]["latestImage"]["tag"], "1.25");
    let alice = format!("Bearer {}", door.token("alice"));
    assert_eq!(door.get(query, &[("authorization", &alice)]).await.header("cache-control"), "private, no-cache");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..crate::api::seeded() })]

    /// Whoever asks what in whatever order between whatever changes: the answer is the one that a door without anything
    /// kept gives.
    #[test]
    fn callers_answers_never_mix(steps in proptest::collection::vec((0..4usize, 0..6usize, 0..7usize), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let door = Door::open().await;
            let tokens = ["alice", "bob", "root"].map(|user| door.token(user));
            let queries = [
                "{ viewer { name administrator organizations { nodes { name } } } }",
                r#"{ repository(name: "acme/secret") { name viewerCanManage latestImage { tag } } }"#,
                "{ repositories { totalCount nodes { name isPrivate viewerCanManage } } }",
                r#"{ resolve(names: ["acme/secret:1", "labring/nginx:1.24"]) { image { name description } } }"#,
                "{ images { totalCount } organizations(managedByMe: true) { totalCount } }",
                r#"{ organization(name: "acme") { managers repositories { totalCount } } }"#,
            ];
            for (who, what, change) in steps {
                match change {
                    0 => drop(door.hub.try_put(Kind::Repository, "acme.secret", |object| {
                        let private = object["spec"]["isPrivate"].as_bool().unwrap();
                        object["spec"]["isPrivate"] = (!private).into();
                    }).await),
                    1 => drop(door.hub.try_put(Kind::Organization, "acme", |object| {
                        let managers = object["spec"]["manager"].as_array_mut().unwrap();
                        match managers.iter().position(|name| name == "bob") {
                            Some(at) => drop(managers.remove(at)),
                            None => managers.push("bob".into()),
                        }
                    }).await),
                    _ => {}
                }
                let body = json!({ "query": queries[what] }).to_string();
                let bearer = tokens.get(who).map(|token| format!("Bearer {token}"));
                let headers: Vec<(&str, &str)> = bearer.iter().map(|bearer| ("authorization", bearer.as_str())).collect();
                let kept = door.post(&headers, body.clone()).await;
                let mut request = Request::post("/graphql").header(CONTENT_TYPE, "application/json");
                for (name, value) in &headers {
                    request = request.header(*name, *value);
                }
                let fresh = door.fresh();
                let wanted = send(&fresh, request.body(Body::from(body)).unwrap()).await;
                assert_eq!(kept.body, wanted.body, "{} {}", who, queries[what]);
            }
        });
    }
}
