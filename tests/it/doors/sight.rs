//! Who sees what at the doors under clean names: what is hidden from somebody is for them as what isn't there, byte for
//! byte, wherever its name can stand, and is in no list, count, facet or suggestion; who may see it sees it.

use hyper::Method;
use hyper::body::Bytes;
use serde_json::json;

use crate::harness::{Client, Response, Server};

/// A private repository and one that isn't there. No typo makes one of the other.
const SECRET: &str = "secret";
const ABSENT: &str = "absent";
/// What only the private repository's image says.
const HIDDEN: [&str; 3] = [SECRET, "classified", "Storage"];

/// GETs of REST in which the name of a repository stands.
const NAMED: [&str; 13] = [
    "/repositories/acme/NAME",
    "/repositories/acme/NAME/tags",
    "/repositories/acme/NAME/feed.atom",
    "/repositories/acme/NAME/badge.svg",
    "/repositories?name=acme/NAME&facets=keyword",
    "/repositories?q=NAME&facets=keyword&facets=organization",
    "/repositories?q=acme/NAME:v1",
    "/images/acme/NAME/v1",
    "/images/acme/NAME/v1/docs",
    "/images?repository=acme/NAME",
    "/images?name=acme/NAME:v1",
    "/compare?from=acme/open:v1&to=acme/NAME:v1",
    "/suggest?q=acme/NAME",
];

/// The same of GraphQL.
const ASKED: [&str; 11] = [
    r#"{ repository(name: "acme/NAME") { name } }"#,
    r#"{ image(name: "acme/NAME:v1") { name docs } }"#,
    r#"{ node(id: "Repository:acme/NAME") { id } }"#,
    r#"{ node(id: "Image:acme/NAME:v1") { id } }"#,
    r#"{ nodes(ids: ["Repository:acme/NAME", "Image:acme/NAME:v1"]) { id } }"#,
    r#"{ resolve(names: ["acme/NAME:v1"]) { name image { name } } }"#,
    r#"{ compare(from: "acme/open:v1", to: "acme/NAME:v1") { docsDiff } }"#,
    r#"{ suggest(text: "acme/NAME") { text } }"#,
    r#"{ repositories(query: "NAME") { totalCount nodes { name } facets { keywords { value count } } } }"#,
    r#"{ repositories(filter: { names: ["acme/NAME"] }) { totalCount nodes { name } } }"#,
    r#"{ images(filter: { repositories: ["acme/NAME"] }) { totalCount nodes { name } } }"#,
];

/// What has no name in it, and must not show anything of what is hidden.
const WHOLE: [&str; 6] = [
    "/organizations",
    "/organizations/acme",
    "/repositories?facets=keyword&facets=organization&facets=type&facets=architecture",
    "/repositories?q=image&facets=keyword",
    "/images",
    "/suggest?q=acme",
];
const ALL: &str = r#"{ images { totalCount nodes { name } } repositories { totalCount nodes { name }
    facets { keywords { value count } organizations { value count } } }
    organization(name: "acme") { repositories { totalCount nodes { name } } } }"#;

async fn ask(client: &Client, query: &str) -> Response {
    client.post("/graphql", &json!({ "query": query })).await
}

/// What was answered, for comparison.
fn shown(response: &Response, name: &str) -> (u16, String, String) {
    let media = response.headers.get("content-type").map_or("", |media| media.to_str().expect("it is text"));
    (response.status, media.to_owned(), response.text().replace(name, SECRET))
}

#[tokio::test]
async fn what_is_hidden_is_as_what_is_not_there_at_every_path_and_field() {
    let server = Server::start().await;
    server.imagehub("user add root --group system:masters").await;
    for user in ["alice", "bob"] {
        server.imagehub(&format!("user add {user}")).await;
    }
    let bearer = async |user: &str| format!("Bearer {}", server.imagehub(&format!("token {user}")).await.trim());
    let alice = server.http().with_header("authorization", &bearer("alice").await);
    alice.put("/api/v1/organizations/acme", &json!({ "managers": ["alice"] })).await.expect(201);
    alice.put("/api/v1/repositories/acme/secret", &json!({ "isPrivate": true })).await.expect(201);
    let image = |description: &str, keyword: &str| json!({ "description": format!("an image, {description}"), "keywords": [keyword], "docs": description });
    alice.put("/api/v1/images/acme/secret/v1", &image("classified", "Storage")).await.expect(201);
    let last = alice.put("/api/v1/images/acme/open/v1", &image("shown", "Network")).await;
    last.expect(201);
    // The search has it, too.
    let revision = last.headers["imagehub-revision"].to_str().expect("it is text");
    let now = server.http().with_header("imagehub-min-revision", revision);
    let of = async |user: &str| now.with_header("authorization", &bearer(user).await);
    let callers = [
        ("administrator", of("root").await, true),
        ("manager", of("alice").await, true),
        ("other user", of("bob").await, false),
        ("anonymous", now.clone(), false),
    ];
    for (who, client, sees) in &callers {
        for path in NAMED {
            let any = [("accept", "*/*")];
            let of = async |name: &str| {
                let path = format!("/api/v1{}", path.replace("NAME", name));
                client.request(Method::GET, &path, &any, Bytes::new()).await
            };
            let (secret, absent) = (of(SECRET).await, of(ABSENT).await);
            let same = shown(&secret, SECRET) == shown(&absent, ABSENT);
            assert_eq!(same, !sees, "{who}: {secret}\n{absent}");
        }
        let resolve = async |name: &str| {
            let body = Bytes::from(json!({ "names": [format!("acme/{name}:v1")] }).to_string());
            client.request(Method::POST, "/api/v1/resolve", &[("content-type", "application/json")], body).await
        };
        let (secret, absent) = (resolve(SECRET).await, resolve(ABSENT).await);
        assert_eq!(shown(&secret, SECRET) == shown(&absent, ABSENT), !sees, "{who}: {secret}\n{absent}");
        for query in ASKED {
            let of = async |name: &str| ask(client, &query.replace("NAME", name)).await;
            let (secret, absent) = (of(SECRET).await, of(ABSENT).await);
            let same = shown(&secret, SECRET) == shown(&absent, ABSENT);
            assert_eq!(same, !sees, "{who}: {query}\n{secret}\n{absent}");
        }
        let mut all = String::new();
        for path in WHOLE {
            all += &client.get(&format!("/api/v1{path}")).await.expect(200).to_string();
        }
        all += &ask(client, ALL).await.expect(200).to_string();
        for word in HIDDEN {
            assert_eq!(all.contains(word), *sees, "{who}: {word} in {all}");
        }
        let counts = if *sees { r#""totalCount":2"# } else { r#""totalCount":1"# };
        assert_eq!(all.matches(counts).count(), 3, "{who}: {all}");
    }
}
