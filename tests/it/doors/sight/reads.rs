//! What is read under clean names.

use super::*;

/// GETs of REST in which the name of a repository stands.
const NAMED: [&str; 16] = [
    "/repositories/ORG/NAME",
    "/repositories/ORG/NAME/tags",
    "/repositories/ORG/NAME/tags?limit=1",
    "/repositories/ORG/NAME/feed.atom",
    "/repositories/ORG/NAME/badge.svg",
    "/repositories?name=ORG/NAME&facets=keyword",
    "/repositories?q=ORG/NAME&facets=keyword&facets=organization",
    "/repositories?q=ORG/NAME:v1",
    "/images/ORG/NAME/v1",
    "/images/ORG/NAME/v1/docs",
    "/images?repository=ORG/NAME",
    "/images?name=ORG/NAME:v1",
    "/compare?from=acme/open:v1&to=ORG/NAME:v1",
    "/compare?from=ORG/NAME:v1&to=acme/open:v1",
    "/suggest?q=ORG/NAME",
    "/suggest?q=ORG/NAME:v",
];

/// The same of GraphQL.
const ASKED: [&str; 13] = [
    r#"{ repository(name: "ORG/NAME") { name } }"#,
    r#"{ image(name: "ORG/NAME:v1") { name docs } }"#,
    r#"{ node(id: "Repository:ORG/NAME") { id } }"#,
    r#"{ node(id: "Image:ORG/NAME:v1") { id } }"#,
    r#"{ nodes(ids: ["Repository:ORG/NAME", "Image:ORG/NAME:v1"]) { id } }"#,
    r#"{ resolve(names: ["ORG/NAME:v1"]) { image { name } } }"#,
    r#"{ compare(from: "acme/open:v1", to: "ORG/NAME:v1") { docsDiff } }"#,
    r#"{ compare(from: "ORG/NAME:v1", to: "acme/open:v1") { changes { field before } } }"#,
    r#"{ suggest(text: "ORG/NAME") { text } }"#,
    r#"{ repositories(query: "ORG/NAME") { totalCount nodes { name } facets { keywords { value count } } } }"#,
    r#"{ repositories(query: "ORG/NAME:v1") { totalCount edges { matchedImage { name } } } }"#,
    r#"{ repositories(filter: { names: ["ORG/NAME"] }) { totalCount nodes { name } } }"#,
    r#"{ images(filter: { repositories: ["ORG/NAME"] }) { totalCount nodes { name } } }"#,
];

/// What has no name in it, and must not show anything of what is hidden.
const WHOLE: [&str; 8] = [
    "/organizations",
    "/organizations/acme",
    "/repositories?facets=keyword&facets=organization&facets=type&facets=architecture",
    "/repositories?q=image&facets=keyword",
    "/repositories?private=true",
    "/images",
    "/images?sort=-updated&organization=acme",
    "/suggest?q=acme",
];
const ALL: &str = r#"{ images { totalCount nodes { name } } repositories { totalCount nodes { name }
    facets { keywords { value count } organizations { value count } } }
    organization(name: "acme") { repositories { totalCount nodes { name } } } }"#;

fn put(template: &str, organization: &str, name: &str) -> String {
    template.replace("ORG", organization).replace("NAME", name)
}

async fn get(client: &Client, path: &str, headers: &[(&str, &str)]) -> Response {
    let headers = [&[("accept", "*/*")][..], headers].concat();
    client.request(Method::GET, path, &headers, Bytes::new()).await
}

/// The entity tag of what somebody sees who sees all.
async fn tag(scene: &Scene, path: &str) -> String {
    let answer = get(&scene.who("administrator").http, path, NOTHING).await;
    answer.headers.get("etag").unwrap_or_else(|| panic!("{answer}")).to_str().expect("it is text").to_owned()
}

/// A GET in all its forms: also that of somebody who has the tag of what they may not see.
async fn look(scene: &Scene, template: &str, organization: &str) {
    let secret = put(template, organization, SECRET);
    let tag = tag(scene, &secret).await;
    let forms = [
        (Method::GET, vec![]),
        (Method::HEAD, vec![]),
        (Method::GET, vec![("if-none-match", &*tag)]),
        (Method::HEAD, vec![("if-none-match", &*tag)]),
        (Method::GET, vec![("if-none-match", "*")]),
        (Method::GET, vec![("if-none-match", &*tag), ("prefer", "wait=0")]),
        (Method::GET, vec![("accept-encoding", "gzip")]),
    ];
    for who in &scene.callers {
        for (method, headers) in &forms {
            let headers = [&[("accept", "*/*")][..], headers].concat();
            let ask = async |name: &str| {
                who.http.request(method.clone(), &put(template, organization, name), &headers, Bytes::new()).await
            };
            let (same, [secret, absent]) = alike(ask).await;
            assert_eq!(same, !who.sees(organization), "{}: {headers:?} {secret}\n{absent}", who.name);
            let unseen = !who.sees(organization) && headers.contains(&("if-none-match", &*tag));
            assert!(!unseen || secret.status != 304, "{} is told that a tag is right: {secret}", who.name);
        }
        // Where there is nothing to be followed.
        let ask = async |name: &str| {
            get(&who.http, &put(template, organization, name), &[("accept", "text/event-stream")]).await
        };
        if !who.sees(organization) && !template.contains('?') {
            let (same, [secret, absent]) = alike(ask).await;
            assert!(same && secret.status >= 400, "{}: {secret}\n{absent}", who.name);
        }
    }
}

#[tokio::test]
async fn what_is_hidden_is_as_what_is_not_there_at_every_path() {
    let scene = Scene::open().await;
    for organization in ORGANIZATIONS {
        for path in NAMED {
            look(&scene, &format!("/api/v1{path}"), organization).await;
        }
    }
}

#[tokio::test]
async fn what_is_hidden_is_as_what_is_not_there_in_every_field() {
    let scene = Scene::open().await;
    for organization in ORGANIZATIONS {
        for query in ASKED {
            look(&scene, &format!("/graphql?query={}", percent_encoded(query)), organization).await;
            for who in &scene.callers {
                let ask = async |name: &str| {
                    who.http.post("/graphql", &json!({ "query": put(query, organization, name) })).await
                };
                let (same, [secret, absent]) = alike(ask).await;
                assert_eq!(same, !who.sees(organization), "{}: {query}\n{secret}\n{absent}", who.name);
            }
        }
    }
}

#[tokio::test]
async fn lists_counts_facets_and_suggestions_have_what_the_caller_sees_and_nothing_else() {
    let scene = Scene::open().await;
    let mut tags = Vec::new();
    for path in WHOLE {
        tags.push(tag(&scene, &format!("/api/v1{path}")).await);
    }
    for who in scene.callers.iter().filter(|who| who.good) {
        let sees = who.sees("acme");
        let mut all = String::new();
        for (path, tag) in WHOLE.iter().zip(&tags) {
            let path = format!("/api/v1{path}");
            all += &get(&who.http, &path, NOTHING).await.expect(200).to_string();
            let known = get(&who.http, &path, &[("if-none-match", tag)]).await;
            assert!(sees || known.status == 200, "{}: {known}", who.name);
        }
        all += &who.http.post("/graphql", &json!({ "query": ALL })).await.expect(200).to_string();
        for word in HIDDEN {
            assert_eq!(all.contains(word), sees, "{}: {word} in {all}", who.name);
        }
        let count = match (who.sees("ghost"), sees) {
            (true, _) => 3,
            (false, true) => 2,
            (false, false) => 1,
        };
        let data = who.http.post("/graphql", &json!({ "query": ALL })).await.expect(200);
        assert_eq!(data["data"]["images"]["totalCount"], count, "{}: {data}", who.name);
        assert_eq!(data["data"]["repositories"]["totalCount"], count, "{}: {data}", who.name);
    }
}

#[tokio::test]
async fn a_cursor_is_of_whoever_was_given_it() {
    let scene = Scene::open().await;
    let manager = &scene.who("manager").http;
    let list = "/api/v1/repositories?sort=-name&limit=1";
    let cursor = get(manager, list, NOTHING).await.expect(200)["next"].as_str().expect("there is more").to_owned();
    let at = format!("{list}&cursor={cursor}");
    get(manager, &at, NOTHING).await.expect(200);
    let order = "orderBy: { field: NAME, descending: true }, first: 1";
    let query = format!(r#"{{ repositories({order}, after: "{cursor}") {{ nodes {{ name }} }} }}"#);
    for who in scene.callers.iter().filter(|who| who.good && !who.sees("acme")) {
        for answer in [get(&who.http, &at, NOTHING).await, who.http.post("/graphql", &json!({ "query": query })).await]
        {
            let text = answer.text();
            assert!(text.contains("CURSOR_INVALID") && !text.contains(SECRET), "{}: {answer}", who.name);
        }
    }
}
