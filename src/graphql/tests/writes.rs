use super::*;
use crate::api::Kind;

fn apply(images: &str, dry: bool) -> String {
    format!(
        "mutation {{ applyImages(images: [{images}], dryRun: {dry}) {{ affectedDataPacks results {{ name outcome \
         image {{ name description docs type actions {{ key command }} }} current {{ name }} \
         changes {{ field before after }} userErrors {{ code message path hint }} }} }} }}"
    )
}

#[tokio::test]
async fn many_images_are_applied_each_with_its_outcome() {
    let door = Door::open().await;
    door.hub.create(pack("p", "grid", &["labring/nginx:1.24", "new/app:1"])).await;
    let root = door.token("root");
    let images = r#"
        { name: "new/app:1", description: "new", type: CLOUD_IMAGE, actions: [{ key: "a", command: "run" }] }
        { name: "labring/nginx:1.24", description: null, docs: "longer" }
        { name: "labring/mysql:8.0", size: 5000000000 }
        { name: "labring/mysql:8.0", ifVersion: "3" }
        { name: "labring/nginx:1.23", ifVersion: "0" }
        { name: "no/such:1", ifVersion: "7" }
        { name: "bad/na me:1" }
        { name: "acme/app:1", keywords: ["x"], createdAt: "2024-01-01T00:00:00Z", size: -1 }"#;
    let dry = door.ask_as(&root, &apply(images, true)).await.data();
    assert_eq!(door.ask(r#"{ image(name: "new/app:1") { id } }"#).await.data()["image"], Value::Null);
    let done = door.ask_as(&root, &apply(images, false)).await.data();
    assert_eq!(dry, done, "a dry run says what will be");
    insta::assert_json_snapshot!(done);
    let again = door.ask_as(&root, &apply(r#"{ name: "new/app:1", description: "new" }"#, false)).await.data();
    assert_eq!(again["applyImages"]["results"][0]["outcome"], "UNCHANGED");
}

#[tokio::test]
async fn actions_are_replaced_as_a_whole() {
    let door = Door::open().await;
    let root = door.token("root");
    let first = r#"{ name: "new/app:1", actions: [{ key: "a", command: "run" }, { key: "b" }] }"#;
    door.ask_as(&root, &apply(first, false)).await.data();
    let second = r#"{ name: "new/app:1", actions: [{ key: "a", name: "Run" }] }"#;
    door.ask_as(&root, &apply(second, false)).await.data();
    let stored = door.hub.get(Kind::Image, "new.app.1").await;
    assert_eq!(stored["spec"]["detail"]["actions"], json!({ "a": { "name": "Run" } }));
}

#[tokio::test]
async fn a_version_that_nothing_is_at_is_never_taken_for_none() {
    let door = Door::open().await;
    let root = door.token("root");
    let current = door.ask(r#"{ repository(name: "labring/nginx") { version } }"#).await.data();
    let current = current["repository"]["version"].as_str().unwrap().to_owned();
    for version in ["", "0", "x", &format!("+{current}"), &format!("0{current}")] {
        for write in [
            "updateRepository(name: \"labring/nginx\", isPrivate: true, ifVersion: VERSION)",
            "deleteRepository(name: \"labring/nginx\", ifVersion: VERSION)",
        ] {
            let write = write.replace("VERSION", &json!(version).to_string());
            let done = door.ask_as(&root, &format!("mutation {{ a: {write} {{ userErrors {{ code path }} }} }}")).await;
            let wanted = json!([{ "code": "CONFLICT", "path": ["ifVersion"] }]);
            assert_eq!(done.data()["a"]["userErrors"], wanted, "{write}");
        }
    }
}

#[tokio::test]
async fn who_may_is_told_before_what_is_there() {
    let door = Door::open().await;
    let (alice, bob) = (door.token("alice"), door.token("bob"));
    for operation in [
        r#"deleteImage(name: "acme/secret:TAG") { userErrors { code message } }"#,
        r#"applyImages(images: [{ name: "acme/secret:TAG", ifVersion: "9" }]) { results { userErrors { code message } current { id } } }"#,
        r#"deleteRepository(name: "acme/secretTAG") { userErrors { code message } }"#,
        r#"updateRepository(name: "acme/secretTAG", isPrivate: true) { userErrors { code message } current { id } }"#,
    ] {
        let of = |tag: &str| format!("mutation {{ {} }}", operation.replace("TAG", tag));
        let (there, absent) = (door.ask_as(&bob, &of("1")).await, door.ask_as(&bob, &of("2")).await);
        assert!(there.body.contains("FORBIDDEN"), "{}", there.body);
        let same = |text: &str| {
            text.replace("secret.1", "X").replace("secret.2", "X").replace("secret1", "X").replace("secret2", "X")
        };
        assert_eq!(same(&there.body), same(&absent.body));
        let nobody = door.ask(&of("1")).await;
        assert!(nobody.body.contains("FORBIDDEN"), "{}", nobody.body);
    }
    let deleted = r#"mutation { deleteImage(name: "acme/secret:1") { deletedIds userErrors { code } } }"#;
    let deleted = door.ask_as(&alice, deleted).await.data();
    assert_eq!(deleted["deleteImage"], json!({ "deletedIds": ["Image:acme/secret:1"], "userErrors": [] }));
}

#[tokio::test]
async fn organizations_and_repositories_are_made_changed_and_deleted() {
    let door = Door::open().await;
    let bob = door.token("bob");
    let made = r#"mutation {
      a: createOrganization(name: "bobs") { organization { name managers creator viewerCanManage } userErrors { code } }
      b: createOrganization(name: "bobs") { organization { name } current { name } userErrors { code message path } }
      c: createOrganization(name: "Not.Legal") { userErrors { code path } }
      d: createRepository(name: "bobs/app", isPrivate: true) { repository { name isPrivate } userErrors { code } }
      e: updateRepository(name: "bobs/app", isPrivate: false, ifVersion: "1") { repository { name } current { isPrivate } userErrors { code path hint } }
      f: updateRepository(name: "bobs/app", isPrivate: false) { repository { isPrivate } userErrors { code } }
      g: updateManagers(organization: "bobs", add: ["carol"], remove: ["bob"]) { organization { managers } userErrors { code } }
      h: updateManagers(organization: "acme", add: ["bob"]) { organization { managers } userErrors { code } }
      i: deleteRepository(name: "bobs/app", dryRun: true) { deletedIds affectedDataPacks revision userErrors { code } }
      j: deleteOrganization(name: "bobs", dryRun: true) { deletedIds userErrors { code } }
    }"#;
    insta::assert_json_snapshot!(door.ask_as(&bob, made).await.data());
}

#[tokio::test]
async fn packs_are_shared_by_what_they_name_and_nobody_makes_too_many() {
    let door = Door::open().await;
    let make = |name: &str| {
        format!(
            r#"mutation {{ createDataPack(spec: {{ names: ["{name}"], grain: GRID }}) {{
              existed dataPack {{ name grain entries {{ name image {{ description }} }} }} userErrors {{ code path }} }} }}"#
        )
    };
    let first = door.ask(&make("labring/nginx:1.24")).await.data()["createDataPack"].clone();
    assert_eq!((&first["existed"], &first["dataPack"]["grain"]), (&json!(false), &json!("GRID")));
    let again = door.ask(&make("labring/nginx:1.24")).await.data()["createDataPack"].clone();
    assert_eq!((&again["existed"], &again["dataPack"]["name"]), (&json!(true), &first["dataPack"]["name"]));
    for i in 1..crate::gateway::ANONYMOUS_PACKS {
        assert_eq!(door.ask(&make(&format!("a/b:{i}"))).await.data()["createDataPack"]["existed"], false);
    }
    let refused = door.ask(&make("a/b:last")).await;
    assert_eq!((refused.status.as_u16(), refused.error().0.as_str()), (429, "RATE_LIMITED"));
    assert_eq!(refused.header("retry-after"), "60");
    // Those that are there cost nothing, those who have signed in make more, and a minute later there is room again.
    assert_eq!(door.ask(&make("a/b:1")).await.data()["createDataPack"]["existed"], true);
    let bob = door.token("bob");
    assert_eq!(door.ask_as(&bob, &make("a/b:last")).await.data()["createDataPack"]["existed"], false);
    door.hub.clock.step_ms(60_000);
    assert_eq!(door.ask(&make("a/b:later")).await.data()["createDataPack"]["existed"], false);
    let query =
        r#"mutation { createDataPack(spec: { names: ["a/b:c"], expireTime: "1y" }) { userErrors { code path } } }"#;
    let wrong = door.ask(query).await.data();
    assert_eq!(wrong["createDataPack"]["userErrors"], json!([{ "code": "INVALID", "path": ["spec", "expireTime"] }]));
}
