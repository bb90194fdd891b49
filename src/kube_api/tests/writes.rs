//! Creating, changing and deleting.

use super::*;

#[tokio::test]
async fn what_a_write_answers_is_the_object() {
    let door = Door::open().await;
    let created = door.ask("POST", PACKS, JSON, &pack("a", json!({ "finalizers": ["mine"] }))).await;
    insta::assert_snapshot!("created", created.shown());
    let patched = door.ask("PATCH", &format!("{PACKS}/a"), MERGE, r#"{"metadata":{"labels":{"k":"v"}},"zz":1}"#).await;
    insta::assert_snapshot!("patched", patched.shown());
    let same = door.ask("PATCH", &format!("{PACKS}/a"), MERGE, r#"{"metadata":{"labels":{"k":"v"}}}"#).await;
    assert_eq!(same.json()["metadata"]["resourceVersion"], patched.json()["metadata"]["resourceVersion"]);
    let terminating = door.ask("DELETE", &format!("{PACKS}/a"), "", "").await;
    assert_eq!(terminating.json()["metadata"]["deletionTimestamp"], "2025-03-01T00:00:00Z");
    let last = door.ask("PATCH", &format!("{PACKS}/a"), MERGE, r#"{"metadata":{"finalizers":null}}"#).await;
    assert_eq!((last.status.as_u16(), &last.json()["metadata"]["finalizers"]), (200, &Value::Null));
    assert_eq!(door.get(&format!("{PACKS}/a")).await.status, 404);
    door.create("b", json!({})).await;
    insta::assert_snapshot!("deleted", door.ask("DELETE", &format!("{PACKS}/b"), "", "").await.shown());
}

#[tokio::test]
async fn a_dry_run_answers_as_the_write_would_and_stores_nothing() {
    let door = Door::open().await;
    let dry = door.ask("POST", &format!("{PACKS}?dryRun=All"), JSON, &pack("a", json!({}))).await;
    assert_eq!((dry.status.as_u16(), &dry.json()["metadata"]["resourceVersion"]), (201, &Value::Null));
    assert_eq!(door.get(&format!("{PACKS}/a")).await.status, 404);
    door.create("a", json!({})).await;
    assert_eq!(door.ask("DELETE", &format!("{PACKS}/a?dryRun=All"), "", "").await.status, 200);
    assert_eq!(door.ask("DELETE", PACKS, JSON, r#"{"dryRun":["All"]}"#).await.status, 200);
    assert_eq!(door.get(&format!("{PACKS}/a")).await.status, 200);
}

#[tokio::test]
async fn a_body_that_is_no_object_of_the_kind_is_refused_in_kubes_words() {
    let door = Door::open().await;
    let post = async |media: &str, body: &str| door.ask("POST", PACKS, media, body).await.message();
    let unknown_format = "the body of the request was in an unknown format - accepted media types include: \
                          application/json, application/yaml";
    assert_eq!(post("text/plain", "{}").await, (415, unknown_format.to_owned()));
    assert_eq!(post("text/yaml", "{}").await.0, 415);
    assert_eq!(post(JSON, "{").await.0, 400);
    assert_eq!(post(JSON, "[]").await.0, 400);
    let missing = "the object provided is unrecognized (must be of type DataPack): Object 'Kind' is missing";
    assert_eq!(post(JSON, r#"{"metadata":{"name":"a"}}"#).await, (400, missing.to_owned()));
    let version = "the API version in the data () does not match the expected API version (imagehub.sealos.io/v1)";
    assert_eq!(post(JSON, r#"{"kind":"DataPack","metadata":{"name":"a"}}"#).await, (400, version.to_owned()));
    let other = pack("a", json!({})).replace("DataPack", "Image");
    assert_eq!(post(JSON, &other).await.0, 422);
    let set = "resourceVersion should not be set on objects to be created";
    assert_eq!(post(JSON, &pack("a", json!({ "resourceVersion": "5" }))).await, (400, set.to_owned()));
    assert_eq!(door.ask("POST", PACKS, "application/yaml", &pack("yaml", json!({}))).await.status, 201);
}

#[tokio::test]
async fn options_are_checked_as_kube_checks_them() {
    let door = Door::open().await;
    let long = "x".repeat(129);
    let path = format!("{PACKS}?fieldManager={long}&dryRun=Some&fieldValidation=Foo");
    insta::assert_snapshot!("create_options", door.ask("POST", &path, JSON, &pack("a", json!({}))).await.shown());
    door.create("a", json!({})).await;
    let force = door.ask("PATCH", &format!("{PACKS}/a?force=true"), MERGE, "{}").await.message();
    let words = "PatchOptions.meta.k8s.io \"\" is invalid: force: Forbidden: may not be specified for non-apply patch";
    assert_eq!(force, (422, words.to_owned()));
    let delete = async |query: &str, body: &str| {
        door.ask("DELETE", &format!("{PACKS}/a{query}"), if body.is_empty() { "" } else { JSON }, body).await.message()
    };
    assert_eq!(delete("?gracePeriodSeconds=abc", "").await.0, 400);
    assert_eq!(delete("", r#"{"kind":"Pod","apiVersion":"v1"}"#).await.0, 400);
    assert_eq!(delete("?propagationPolicy=Foo", "").await.0, 422);
    assert_eq!(delete("", r#"{"orphanDependents":true,"propagationPolicy":"Orphan"}"#).await.0, 422);
    let (code, message) = delete("", r#"{"preconditions":{"uid":"x"}}"#).await;
    assert_eq!(code, 409);
    assert!(message.contains("the UID in the precondition (x) does not match the UID in record ("), "{message}");
    assert_eq!(delete("", r#"{"preconditions":{"resourceVersion":"1"}}"#).await.0, 409);
    let all = door.ask("DELETE", PACKS, JSON, r#"{"preconditions":{"uid":"x"}}"#).await;
    assert_eq!(all.status, 409, "the precondition holds for each of a collection");
    assert_eq!(door.get(&format!("{PACKS}/a")).await.status, 200);
}

#[tokio::test]
async fn an_update_names_the_object_and_the_version_that_it_is_of() {
    let door = Door::open().await;
    let old = door.create("a", json!({})).await;
    let version = &old["metadata"]["resourceVersion"];
    let put = async |path: &str, name: &str, metadata: Value| {
        door.ask("PUT", &format!("{PACKS}/{path}"), JSON, &pack(name, metadata)).await.message()
    };
    let (code, message) = put("a", "a", json!({})).await;
    assert_eq!(code, 422);
    assert!(message.ends_with("metadata.resourceVersion: Invalid value: 0: must be specified for an update"));
    assert_eq!(put("a", "a", json!({ "resourceVersion": "0" })).await.0, 422);
    let (code, message) = put("a", "a", json!({ "resourceVersion": "1" })).await;
    let modified = "Operation cannot be fulfilled on datapacks.imagehub.sealos.io \"a\": the object has been modified; \
                    please apply your changes to the latest version and try again";
    assert_eq!((code, message.as_str()), (409, modified));
    let (code, message) = put("a", "b", json!({ "resourceVersion": version })).await;
    assert_eq!((code, message.as_str()), (400, "the name of the object (b) does not match the name on the URL (a)"));
    let (code, message) = put("a", "", json!({ "resourceVersion": version })).await;
    let nameless = "the name of the object (a based on URL) was undeterminable: name must be provided";
    assert_eq!((code, message.as_str()), (400, nameless));
    assert_eq!(put("none", "none", json!({ "resourceVersion": version })).await.0, 404);
    assert_eq!(put("a", "a", json!({ "uid": "other" })).await.0, 409);
    let (code, message) =
        put("a", "a", json!({ "resourceVersion": version, "deletionTimestamp": "2020-01-01T00:00:00Z" })).await;
    let immutable = "DataPack.imagehub.sealos.io \"a\" is invalid: metadata.deletionTimestamp: Invalid value: \
                     \"2020-01-01T00:00:00Z\": field is immutable";
    assert_eq!((code, message.as_str()), (422, immutable));
    assert_eq!(
        door.ask("PUT", &format!("{PACKS}/a"), JSON, &old.to_string()).await.json()["metadata"],
        old["metadata"]
    );
}

#[tokio::test]
async fn patches_are_json_and_merge_patches_of_what_may_be_changed() {
    let door = Door::open().await;
    door.create("a", json!({})).await;
    let patch = async |media: &str, body: &str| door.ask("PATCH", &format!("{PACKS}/a"), media, body).await.message();
    let unknown_format = "the body of the request was in an unknown format - accepted media types include: \
                          application/json-patch+json, application/merge-patch+json";
    assert_eq!(patch("application/strategic-merge-patch+json", "{}").await, (415, unknown_format.to_owned()));
    assert_eq!(patch("garbage", "{}").await, (415, unknown_format.to_owned()));
    assert_eq!(patch(JSON, "{}").await.0, 415);
    assert_eq!(patch(JSON_PATCH, "{}").await.0, 400);
    assert_eq!(patch(JSON_PATCH, "[").await.0, 400);
    assert_eq!(patch(MERGE, "[]").await.0, 400);
    for failing in [
        r#"[{"op":"test","path":"/kind","value":"Image"}]"#,
        r#"[{"op":"remove","path":"/metadata/labels/none"}]"#,
        r#"[{"op":"jump","path":"/kind"}]"#,
        r#"[{"op":"remove","path":"kind"}]"#,
    ] {
        let (code, message) = patch(JSON_PATCH, failing).await;
        assert_eq!(code, 422, "{failing}");
        assert!(message.starts_with("DataPack.imagehub.sealos.io \"a\" is invalid: patch: "), "{message}");
    }
    let many = format!("[{}]", vec![r#"{"op":"test","path":"/kind","value":"DataPack"}"#; 10_001].join(","));
    let too_many = "Request entity too large: The allowed maximum operations in a JSON patch is 10000, got 10001";
    assert_eq!(patch(JSON_PATCH, &many).await, (413, too_many.to_owned()));
    let (code, message) = patch(MERGE, r#"{"metadata":{"uid":"x"}}"#).await;
    let immutable =
        "DataPack.imagehub.sealos.io \"a\" is invalid: metadata.uid: Invalid value: \"x\": field is immutable";
    assert_eq!((code, message.as_str()), (422, immutable));
    assert_eq!(patch(MERGE, r#"{"metadata":{"name":"b"}}"#).await.0, 400);
    assert_eq!(patch(MERGE, r#"{"metadata":{"resourceVersion":"1"}}"#).await.0, 409);
    assert_eq!(door.ask("PATCH", &format!("{PACKS}/none"), MERGE, "{}").await.status, 404);
}

#[tokio::test]
async fn a_status_is_written_with_a_version_and_of_the_right_type() {
    let door = Door::open().await;
    let organization = |status: Value, version: &Value| {
        json!({
            "apiVersion": "imagehub.sealos.io/v1", "kind": "Organization", "status": status,
            "metadata": { "name": "org", "resourceVersion": version }, "spec": { "name": "org" },
        })
        .to_string()
    };
    let made = door.ask("POST", ORGANIZATIONS, JSON, &organization(Value::Null, &Value::Null)).await;
    assert_eq!(made.status, 201, "{}", made.body);
    let version = &made.json()["metadata"]["resourceVersion"];
    let path = format!("{ORGANIZATIONS}/org/status");
    assert_eq!(door.ask("PUT", &path, JSON, &organization(json!({}), version)).await.status, 200);
    assert_eq!(door.ask("PUT", &path, JSON, &organization(json!({}), &Value::Null)).await.status, 422);
    assert_eq!(door.ask("PUT", &path, JSON, &organization(json!({}), &"1".into())).await.status, 409);
    assert_eq!(door.ask("PUT", &path, JSON, &organization(json!({ "name": 5 }), version)).await.status, 422);
    assert_eq!(door.ask("PATCH", &path, MERGE, r#"{"status":{"name":5}}"#).await.status, 422);
    let (code, message) = door.ask("PATCH", &path, JSON_PATCH, r#"[{"op":"remove","path":"/none"}]"#).await.message();
    assert_eq!(code, 422);
    assert!(message.starts_with("Organization.imagehub.sealos.io \"org\" is invalid: patch: "), "{message}");
    insta::assert_snapshot!("delete_status", door.ask("DELETE", &path, "", "").await.shown());
}
