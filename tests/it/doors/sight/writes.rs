//! Writes of those who may not: what they are told is the same of what is hidden and of what isn't there, whatever they say
//! of what they expect; and nothing is written.

use super::*;
use crate::harness::{JSON_PATCH, MERGE_PATCH};

/// A write: its method, its path, its media type, its body.
type Write = (&'static str, &'static str, &'static str, &'static str);

/// Of REST, each also as a dry run.
const REST: [Write; 11] = [
    ("PUT", "/images/ORG/NAME/v1", JSON, r#"{ "description": "mine" }"#),
    ("PATCH", "/images/ORG/NAME/v1", MERGE_PATCH, r#"{ "description": "mine" }"#),
    ("PATCH", "/images/ORG/NAME/v1", MERGE_PATCH, r#"{ "size": "no number" }"#),
    ("DELETE", "/images/ORG/NAME/v1", JSON, ""),
    ("PUT", "/repositories/ORG/NAME", JSON, r#"{ "isPrivate": true }"#),
    ("PATCH", "/repositories/ORG/NAME", MERGE_PATCH, r#"{ "isPrivate": false }"#),
    ("DELETE", "/repositories/ORG/NAME", JSON, ""),
    ("POST", "/images", JSON, r#"[{ "name": "ORG/NAME:v1", "icon": "x" }, { "name": "ORG/NAME:v2" }]"#),
    ("POST", "/images", JSON, r#"[{ "name": "ORG/NAME:v1", "ifVersion": "0" }, { "name": "ORG/NAME:v1" }]"#),
    ("POST", "/images", "application/x-ndjson", r#"{ "name": "ORG/NAME:v1", "ifVersion": "7", "docs": "x" }"#),
    (
        "POST",
        "/images",
        "application/yaml",
        "{ apiVersion: imagehub.sealos.io/v1, kind: Image, metadata: { name: ORG.NAME.v1 }, spec: { name: 'ORG/NAME:v1' } }",
    ),
];

const GRAPHQL: [&str; 10] = [
    r#"applyImages(images: [{ name: "ORG/NAME:v1", icon: "x" }], dryRun: true) { affectedDataPacks results { outcome current { name } changes { field } userErrors { code message path } } }"#,
    r#"applyImages(images: [{ name: "ORG/NAME:v1", ifVersion: "0" }, { name: "ORG/NAME:v2" }]) { revision results { outcome current { name } userErrors { code message path } } }"#,
    r#"deleteImage(name: "ORG/NAME:v1", dryRun: true) { deletedIds affectedDataPacks userErrors { code message } }"#,
    r#"deleteImage(name: "ORG/NAME:v1", ifVersion: "7") { deletedIds affectedDataPacks userErrors { code message } }"#,
    r#"createRepository(name: "ORG/NAME", isPrivate: false) { repository { name } current { name } userErrors { code message } }"#,
    r#"updateRepository(name: "ORG/NAME", isPrivate: false) { repository { name } current { name } userErrors { code message } }"#,
    r#"updateRepository(name: "ORG/NAME", isPrivate: false, ifVersion: "7") { current { name } userErrors { code message } }"#,
    r#"deleteRepository(name: "ORG/NAME", dryRun: true) { deletedIds affectedDataPacks userErrors { code message } }"#,
    r#"deleteRepository(name: "ORG/NAME") { deletedIds affectedDataPacks userErrors { code message } }"#,
    r#"deleteRepository(name: "ORG/NAME", ifVersion: "7") { deletedIds userErrors { code message } }"#,
];

/// Of kube, each also as a dry run. UID and VERSION are the hidden object's.
const KUBE: [Write; 12] = [
    (
        "POST",
        "/images",
        JSON,
        r#"{ "apiVersion": "imagehub.sealos.io/v1", "kind": "Image", "metadata": { "name": "ORG.NAME.v1" }, "spec": { "name": "ORG/NAME:v1" } }"#,
    ),
    (
        "POST",
        "/images",
        JSON,
        r#"{ "apiVersion": "imagehub.sealos.io/v1", "kind": "Image", "metadata": { "generateName": "ORG.NAME" }, "spec": { "name": "ORG/NAME:v1" } }"#,
    ),
    (
        "POST",
        "/repositories",
        JSON,
        r#"{ "apiVersion": "imagehub.sealos.io/v1", "kind": "Repository", "metadata": { "name": "ORG.NAME" }, "spec": { "name": "ORG/NAME" } }"#,
    ),
    (
        "PUT",
        "/images/ORG.NAME.v1",
        JSON,
        r#"{ "apiVersion": "imagehub.sealos.io/v1", "kind": "Image", "metadata": { "name": "ORG.NAME.v1", "resourceVersion": "VERSION" }, "spec": { "name": "ORG/NAME:v1" } }"#,
    ),
    ("PATCH", "/images/ORG.NAME.v1", MERGE_PATCH, r#"{ "metadata": { "labels": { "mine": "yes" } } }"#),
    (
        "PATCH",
        "/images/ORG.NAME.v1",
        JSON_PATCH,
        r#"[{ "op": "test", "path": "/spec/detail/docs", "value": "classified" }]"#,
    ),
    (
        "DELETE",
        "/images/ORG.NAME.v1",
        JSON,
        r#"{ "apiVersion": "v1", "kind": "DeleteOptions", "preconditions": { "uid": "UID" } }"#,
    ),
    ("DELETE", "/images?fieldSelector=metadata.name%3DORG.NAME.v1", JSON, ""),
    (
        "PUT",
        "/repositories/ORG.NAME",
        JSON,
        r#"{ "apiVersion": "imagehub.sealos.io/v1", "kind": "Repository", "metadata": { "name": "ORG.NAME" }, "spec": { "name": "ORG/NAME" } }"#,
    ),
    ("PATCH", "/repositories/ORG.NAME", MERGE_PATCH, r#"{ "spec": { "isPrivate": false } }"#),
    ("PATCH", "/repositories/ORG.NAME/status", MERGE_PATCH, r#"{ "status": { "downloadCount": 7 } }"#),
    ("DELETE", "/repositories/ORG.NAME", JSON, ""),
];

/// The same with a question more.
fn with(path: &str, parameter: &str) -> String {
    format!("{path}{}{parameter}", if path.contains('?') { '&' } else { '?' })
}

/// What there is of the hidden image.
async fn there(scene: &Scene, organization: &str) -> Value {
    scene.server.admin().get(&path("images", &format!("{organization}.secret.v1"))).await.expect(200)
}

/// Has all who may not do it do it, of the hidden one and of the absent one.
async fn refused(scene: &Scene, organization: &str, what: &str, write: impl AsyncFn(&Who, &str) -> Response) {
    for who in scene.callers.iter().filter(|who| !who.sees(organization)) {
        let (same, [secret, absent]) = alike(async |name: &str| write(who, name).await).await;
        assert!(same, "{}: {what}\n{secret}\n{absent}", who.name);
    }
}

#[tokio::test]
async fn who_may_not_write_is_not_told_what_is_there_by_rest() {
    let scene = Scene::open().await;
    for organization in ORGANIZATIONS {
        let before = there(&scene, organization).await;
        let image = format!("/api/v1/images/{organization}/secret/v1");
        let tag = scene.who("administrator").http.get(&image).await.headers["etag"].to_str().expect("text").to_owned();
        for (method, path, media, body) in REST {
            for path in [path.to_owned(), with(path, "dryRun=true")] {
                for condition in
                    [None, Some(("if-match", &*tag)), Some(("if-match", "*")), Some(("if-none-match", "*"))]
                {
                    let ask = async |who: &Who, name: &str| {
                        let put = |text: &str| text.replace("ORG", organization).replace("NAME", name);
                        let mut headers = vec![("content-type", media)];
                        headers.extend(condition);
                        let method = method.parse().expect("a method");
                        let path = format!("/api/v1{}", put(&path));
                        let answer = who.http.request(method, &path, &headers, put(body).into()).await;
                        let written = ["CREATED", "CHANGED"].iter().any(|outcome| answer.text().contains(outcome));
                        let refused = matches!(answer.status, 401 | 403 | 422) || answer.text().contains("REFUSED");
                        assert!(refused && !written, "{}: {answer}", who.name);
                        answer
                    };
                    refused(&scene, organization, &format!("{method} {path} {condition:?} {body}"), ask).await;
                }
            }
        }
        assert_eq!(there(&scene, organization).await, before);
    }
}

#[tokio::test]
async fn who_may_not_write_is_not_told_what_is_there_by_graphql() {
    let scene = Scene::open().await;
    for organization in ORGANIZATIONS {
        let before = there(&scene, organization).await;
        for mutation in GRAPHQL {
            let ask = async |who: &Who, name: &str| {
                let query = format!("mutation {{ {mutation} }}").replace("ORG", organization).replace("NAME", name);
                let answer = who.http.post("/graphql", &json!({ "query": query })).await;
                let text = answer.text();
                assert!(
                    ["FORBIDDEN", "UNAUTHENTICATED"].iter().any(|code| text.contains(code)),
                    "{}: {answer}",
                    who.name
                );
                answer
            };
            refused(&scene, organization, mutation, ask).await;
        }
        assert_eq!(there(&scene, organization).await, before);
    }
}

#[tokio::test]
async fn who_may_not_write_is_not_told_what_is_there_by_kube() {
    let scene = Scene::open().await;
    for organization in ORGANIZATIONS {
        let before = there(&scene, organization).await;
        let of_it = |field: &str| before["metadata"][field].as_str().expect("it is text").to_owned();
        let (uid, version) = (of_it("uid"), of_it("resourceVersion"));
        for (method, at, media, body) in KUBE {
            for at in [at.to_owned(), with(at, "dryRun=All")] {
                let ask = async |who: &Who, name: &str| {
                    let put = |text: &str| text.replace("ORG", organization).replace("NAME", name);
                    let body = put(body).replace("UID", &uid).replace("VERSION", &version);
                    let method = method.parse().expect("a method");
                    who.kube.request(method, &put(&path(&at[1..], "")), &[("content-type", media)], body.into()).await
                };
                refused(&scene, organization, &format!("{method} {at} {body}"), ask).await;
            }
        }
        assert_eq!(there(&scene, organization).await, before);
    }
}

#[tokio::test]
async fn who_may_write_is_told() {
    let scene = Scene::open().await;
    for who in scene.callers.iter().filter(|who| who.sees("acme")) {
        let rest = async |name: &str| who.http.delete(&format!("/api/v1/images/acme/{name}/v1?dryRun=true")).await;
        let kube = async |name: &str| {
            who.kube.delete(&format!("{}?dryRun=All", path("images", &format!("acme.{name}.v1")))).await
        };
        let query = r#"mutation { deleteImage(name: "acme/NAME:v1", dryRun: true) { deletedIds affectedDataPacks } }"#;
        let graphql =
            async |name: &str| who.http.post("/graphql", &json!({ "query": query.replace("NAME", name) })).await;
        let (by_rest, answers) = alike(rest).await;
        assert_eq!((by_rest, answers.map(|answer| answer.status)), (false, [204, 404]), "{}", who.name);
        let (by_kube, answers) = alike(kube).await;
        assert_eq!((by_kube, answers.map(|answer| answer.status)), (false, [200, 404]), "{}", who.name);
        let (by_graphql, [answer, _]) = alike(graphql).await;
        assert!(!by_graphql && answer.text().contains(r#""affectedDataPacks":1"#), "{}: {answer}", who.name);
    }
}
