use super::*;

const IMAGE: &str = "/images/labring/nginx/1.24";

#[tokio::test]
async fn whoever_has_an_answer_gets_304_until_it_is_another() {
    let door = Door::open().await;
    let root = door.token("root");
    let first = door.get(IMAGE).await;
    for tag in [first.etag().to_owned(), format!("\"x\", W/{}", first.etag()), "*".to_owned()] {
        let same = door.get_with(IMAGE, &[("if-none-match", &tag)]).await;
        assert_eq!((same.status, same.body.as_str(), same.etag()), (304, "", first.etag()), "{tag}");
    }
    // What is written elsewhere changes nothing, but the revision.
    door.write(&root, Method::PATCH, "/images/other/redis/7", &json!({ "icon": "i" })).await.ok();
    let same = door.get_with(IMAGE, &[("if-none-match", first.etag())]).await;
    assert_eq!(same.status, 304);
    assert_ne!(same.header("imagehub-revision"), first.header("imagehub-revision"));
    door.write(&root, Method::PATCH, IMAGE, &json!({ "icon": "i" })).await.ok();
    let other = door.get_with(IMAGE, &[("if-none-match", first.etag())]).await;
    assert_eq!(other.status, 200);
    assert_ne!(other.etag(), first.etag());
    assert_eq!(first.header("cache-control"), "public, no-cache");
    assert_eq!(door.get_as(&root, IMAGE).await.header("cache-control"), "private, no-cache");
    // One that is made, one that is kept, a refusal, and a write.
    let kept = door.get(IMAGE).await;
    let none = door.get("/images/acme/none/1").await;
    let written = door.write(&root, Method::PATCH, IMAGE, &json!({ "icon": "j" })).await;
    for (answer, varies) in [
        (&first, "Accept, Accept-Encoding, Authorization, Origin"),
        (&kept, "Accept, Accept-Encoding, Authorization, Origin"),
        (&none, "Accept, Authorization, Origin"),
        (&written, "Origin"),
    ] {
        let vary: Vec<_> = answer.headers.get_all("vary").iter().collect();
        assert_eq!(vary, [varies], "{}", answer.status);
    }
}

#[tokio::test]
async fn an_answer_that_is_compressed_has_a_tag_of_its_own_and_is_the_same_to_conditions() {
    let door = Door::open().await;
    let root = door.token("root");
    let docs = "all work and no play ".repeat(2000);
    door.write(&root, Method::PATCH, IMAGE, &json!({ "docs": docs })).await.ok();
    let plain = door.get(IMAGE).await;
    let packed = door.get_with(IMAGE, &[("accept-encoding", "gzip")]).await;
    assert_eq!(packed.header("content-encoding"), "gzip");
    assert!(packed.etag().ends_with("-gzip\"") && packed.etag() != plain.etag());
    let headers = [("if-none-match", packed.etag()), ("accept-encoding", "gzip")];
    let same = door.get_with(IMAGE, &headers).await;
    assert_eq!((same.status, same.etag()), (304, packed.etag()));
    let changed =
        door.write_with(&root, Method::PATCH, IMAGE, &json!({ "icon": "i" }), &[("if-match", packed.etag())]).await;
    assert_eq!(changed.status, 200);
}

#[tokio::test]
async fn what_is_not_as_it_was_read_is_not_written() {
    let door = Door::open().await;
    let root = door.token("root");
    let old = door.get(IMAGE).await.etag().to_owned();
    door.write_with(&root, Method::PATCH, IMAGE, &json!({ "icon": "1" }), &[("if-match", &old)]).await.ok();
    for (method, body) in [(Method::PUT, json!({})), (Method::PATCH, json!({ "icon": "2" }))] {
        let refused = door.write_with(&root, method, IMAGE, &body, &[("if-match", &old)]).await;
        assert!(refused.problem().starts_with("412 CONFLICT"), "{}", refused.body);
    }
    assert_eq!(door.delete(&root, IMAGE, &[("if-match", &old)]).await.status, 412);
    assert_eq!(door.get(IMAGE).await.ok()["icon"], "1");

    let only_new = [("if-none-match", "*")];
    assert_eq!(door.write_with(&root, Method::PUT, IMAGE, &json!({}), &only_new).await.status, 412);
    let new = "/images/labring/nginx/1.25";
    assert_eq!(door.write_with(&root, Method::PUT, new, &json!({}), &[("if-match", "*")]).await.status, 412);
    assert_eq!(door.write_with(&root, Method::PUT, new, &json!({}), &only_new).await.status, 201);
    let repository = "/repositories/labring/nginx";
    let before = door.get(repository).await.etag().to_owned();
    let private = json!({ "isPrivate": true });
    assert_eq!(door.write_with(&root, Method::PUT, repository, &private, &[("if-match", &before)]).await.status, 200);
    assert_eq!(door.write_with(&root, Method::PUT, repository, &private, &[("if-match", &before)]).await.status, 412);
    let current = door.get_as(&root, IMAGE).await.etag().to_owned();
    assert_eq!(door.delete(&root, IMAGE, &[("if-match", &current)]).await.status, 204);
}

#[tokio::test]
async fn a_condition_that_nothing_can_meet_is_told_and_not_taken_for_one_that_isn_t_met() {
    let door = Door::open().await;
    let root = door.token("root");
    let tag = door.get(IMAGE).await.etag().trim_matches('"').to_owned();
    for header in ["if-match", "if-none-match"] {
        for method in [Method::PUT, Method::PATCH, Method::DELETE] {
            let refused = door.write_with(&root, method, IMAGE, &json!({}), &[(header, &tag)]).await;
            let wanted = format!("400 INVALID: {header}: it must be * or entity tags");
            assert!(refused.problem().starts_with(&wanted), "{}", refused.body);
        }
        // Caches send what they have kept, whatever it is.
        assert_eq!(door.get_with(IMAGE, &[(header, &tag)]).await.status, 200);
    }
}

#[tokio::test]
async fn a_revision_that_is_demanded_is_in_the_answer() {
    let door = Door::open().await;
    let root = door.token("root");
    let written = door.write(&root, Method::PATCH, IMAGE, &json!({ "icon": "i" })).await;
    let read = door.get_with(IMAGE, &[("imagehub-min-revision", written.header("imagehub-revision"))]).await;
    assert_eq!(read.ok()["icon"], "i");
    assert_eq!(door.get_with(IMAGE, &[("imagehub-min-revision", "x")]).await.status, 400);
}
