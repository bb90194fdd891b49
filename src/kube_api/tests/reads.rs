//! Getting and listing, and what isn't there.

use super::*;
use crate::error::Error;
use crate::kube_api::respond;

#[tokio::test]
async fn objects_lists_and_tables_have_kubes_form() {
    let door = Door::open().await;
    for name in ["a", "b", "c"] {
        door.create(name, json!({ "labels": { "name": name } })).await;
    }
    insta::assert_snapshot!("list", door.get(&format!("{PACKS}?labelSelector=name%3Db")).await.shown());
    let page = door.get(&format!("{PACKS}?limit=2")).await.json();
    assert_eq!(page["metadata"]["remainingItemCount"], 1);
    let token = page["metadata"]["continue"].as_str().unwrap();
    let rest = door.get(&format!("{PACKS}?limit=2&continue={token}")).await.json();
    assert_eq!((&rest["items"][0]["metadata"]["name"], &rest["metadata"]["continue"]), (&json!("c"), &json!("")));
    let table = door.ask("GET", &format!("{PACKS}/a"), TABLE, "").await;
    insta::assert_snapshot!("table", table.shown());
    let metadata = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
    let metadata = door.ask("GET", &format!("{PACKS}?limit=1"), metadata, "").await.json();
    assert_eq!(metadata["items"][0]["kind"], "PartialObjectMetadata");
    let include = door.ask("GET", &format!("{PACKS}/a?includeObject=Foo"), TABLE, "").await.message();
    assert_eq!(include.0, 400);
    assert_eq!(door.get(&format!("{PACKS}/a?includeObject=Foo")).await.status, 200, "it is of tables only");
    let head = door.ask("HEAD", &format!("{PACKS}/a"), "", "").await;
    assert_eq!((head.status.as_u16(), head.body.as_str()), (200, ""));
}

#[tokio::test]
async fn the_options_of_a_list_are_checked_in_kubes_order() {
    let door = Door::open().await;
    door.create("a", json!({})).await;
    let list = async |query: &str| door.get(&format!("{PACKS}?{query}")).await.message();
    for fine in
        ["limit=-1", "limit=0", "resourceVersion=0", "resourceVersion=", "foo=bar", "watch=0", "timeoutSeconds=5"]
    {
        assert_eq!(list(fine).await.0, 200, "{fine}");
    }
    for bad in ["limit=abc", "limit=", "timeoutSeconds=abc", "resourceVersion=abc", "continue=abc", "labelSelector=a+b"]
    {
        assert_eq!(list(bad).await.0, 400, "{bad}");
    }
    assert_eq!(list("fieldSelector=foo%3Dbar").await, (400, "field label not supported: foo".to_owned()));
    let words = "ListOptions.meta.k8s.io \"\" is invalid: [resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden \
                 unless resourceVersion is provided, resourceVersionMatch: Unsupported value: \"Foo\": supported values: \
                 \"Exact\", \"NotOlderThan\", \"\"]";
    assert_eq!(list("resourceVersionMatch=Foo").await, (422, words.to_owned()));
    assert_eq!(list("resourceVersion=abc&resourceVersionMatch=Foo").await.0, 422);
    assert_eq!(list("resourceVersion=0&resourceVersionMatch=Exact").await.0, 422);
    assert_eq!(list("sendInitialEvents=true").await.0, 422);
}

#[test]
fn a_version_that_is_not_reached_is_told_with_a_cause() {
    let answer = respond::error(&Error::ResourceVersionTooLarge { asked: 99, current: 5 });
    assert_eq!((answer.status().as_u16(), &answer.headers()[RETRY_AFTER]), (504, &"1".parse().unwrap()));
    let status = Error::ResourceVersionTooLarge { asked: 99, current: 5 }.status_json();
    assert_eq!(status["message"], "Timeout: Too large resource version: 99, current: 5");
    assert_eq!(status["details"]["causes"][0]["reason"], "ResourceVersionTooLarge");
}

#[tokio::test]
async fn what_is_not_there_is_told_apart() {
    let door = Door::open().await;
    insta::assert_snapshot!("no_object", door.get(&format!("{PACKS}/none")).await.shown());
    insta::assert_snapshot!("no_path", door.get("/apis/imagehub.sealos.io/v1/foos").await.shown());
    for path in ["/foo", "/apis/foo/v1", "/apis/imagehub.sealos.io/v2/datapacks", "//apis"] {
        let answer = door.get(path).await;
        assert_eq!((answer.status.as_u16(), answer.body.as_str()), (404, "404 page not found\n"), "{path}");
    }
    let (code, message) = door.get(&format!("{PACKS}/a/scale")).await.message();
    assert_eq!((code, message.as_str()), (404, "datapacks.imagehub.sealos.io \"a\" not found"));
    insta::assert_snapshot!("no_method", door.ask("OPTIONS", &format!("{PACKS}/a"), "", "").await.shown());
    assert_eq!(door.ask("PUT", PACKS, JSON, "{}").await.status, 405);
    assert_eq!(door.ask("POST", "/version", JSON, "{}").await.status, 405);
    let (code, message) = door.ask("GET", PACKS, "application/vnd.kubernetes.protobuf", "").await.message();
    let words = "only the following media types are accepted: application/json, application/yaml";
    assert_eq!((code, message.as_str()), (406, words));
}

#[tokio::test]
async fn what_is_for_probes_is_plain_text() {
    let door = Door::open().await;
    for path in ["/healthz", "/livez", "/readyz"] {
        let answer = door.get(path).await;
        assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, "ok"));
        assert_eq!(answer.headers[CONTENT_TYPE], "text/plain; charset=utf-8");
    }
}
