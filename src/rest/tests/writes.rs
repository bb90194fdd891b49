use super::*;

#[tokio::test]
async fn an_image_is_published_replaced_changed_and_deleted() {
    let door = Door::open().await;
    let alice = door.token("alice");
    let path = "/images/acme/app/1.0";
    let body = json!({
        "type": "CLUSTER_IMAGE", "description": "an app", "docs": "# App\n", "keywords": ["Storage"], "size": 12.0,
        "createdAt": "2026-01-02T03:04:05Z",
        "actions": [{ "key": "install", "name": "Install", "type": "cmd", "command": "sealos run" }],
    });
    let made = door.write(&alice, Method::PUT, path, &body).await;
    assert_eq!((made.status, made.header("location")), (201, "/api/v1/images/acme/app/1.0"));
    let read = door.get(path).await;
    assert_eq!((&made.body, made.etag()), (&read.body, read.etag()));
    assert!(
        read.header("imagehub-revision").parse::<u64>().unwrap() >= made.header("imagehub-revision").parse().unwrap()
    );
    let read = read.ok();
    assert_eq!((&read["docs"], &read["size"], &read["docsBytes"]), (&json!("# App\n"), &json!(12), &json!(6)));
    assert_eq!(read["actions"][0]["command"], "sealos run");

    // What was read may be sent back as it is.
    let same = door.write(&alice, Method::PUT, path, &read).await;
    assert_eq!((same.status, same.ok()["version"].clone()), (200, read["version"].clone()));

    let patched = door.write(&alice, Method::PATCH, path, &json!({ "description": null, "icon": "i" })).await.ok();
    assert_eq!(
        (&patched["description"], &patched["icon"], &patched["docs"]),
        (&Value::Null, &json!("i"), &json!("# App\n"))
    );

    let replaced = door.write(&alice, Method::PUT, path, &json!({ "description": "another" })).await.ok();
    assert_eq!((replaced.get("docs"), &replaced["icon"], &replaced["actions"]), (None, &Value::Null, &json!([])));

    assert_eq!(door.write(&alice, Method::PATCH, "/images/acme/app/2.0", &json!({ "icon": "i" })).await.status, 404);
    let gone = door.delete(&alice, path, &[]).await;
    assert_eq!((gone.status, gone.body.as_str()), (204, ""));
    assert_eq!(door.get(path).await.status, 404);
    assert_eq!(door.delete(&alice, path, &[]).await.status, 404);
}

#[tokio::test]
async fn repositories_and_organizations_are_made_and_changed() {
    let door = Door::open().await;
    let (alice, bob) = (door.token("alice"), door.token("bob"));
    let made = door.write(&bob, Method::PUT, "/organizations/bobs", &json!({})).await;
    assert_eq!((made.status, &made.ok()["managers"]), (201, &json!(["bob"])));
    let added = door.write(&bob, Method::PUT, "/organizations/bobs", &json!({ "managers": ["alice"] })).await.ok();
    assert_eq!(added["managers"], json!(["alice", "bob"]), "its creator always is one");
    let path = "/repositories/bobs/tool";
    assert!(door.write(&alice, Method::PUT, path, &json!({})).await.problem().contains("isPrivate is required"));
    let made = door.write(&alice, Method::PUT, path, &json!({ "isPrivate": true })).await;
    assert_eq!((made.status, &made.ok()["isPrivate"]), (201, &json!(true)));
    assert_eq!(door.get(path).await.status, 404);
    let public = door.write(&alice, Method::PATCH, path, &json!({ "isPrivate": false })).await;
    assert_eq!((public.status, &public.ok()["isPrivate"]), (200, &json!(false)));
    assert_eq!(door.get(path).await.ok()["tagCount"], 0);
    assert_eq!(door.delete(&bob, "/organizations/bobs", &[]).await.status, 204);
}

#[tokio::test]
async fn a_dry_run_tells_what_would_be_and_writes_nothing() {
    let door = Door::open().await;
    let alice = door.token("alice");
    let before = door.app.registry.graph().revision();
    let would = door.write(&alice, Method::PUT, "/images/acme/app/1?dryRun=true", &json!({ "icon": "i" })).await;
    assert_eq!((would.status, &would.ok()["icon"], would.etag()), (200, &json!("i"), ""));
    let would = door.delete(&alice, "/repositories/acme/secret?dryRun=true", &[]).await;
    assert_eq!(would.status, 204);
    let items = json!([{ "name": "acme/app:1" }]);
    let would = door.write(&alice, Method::POST, "/images?dryRun=true", &items).await.ok();
    assert_eq!((&would["results"][0]["outcome"], &would["revision"]), (&json!("CREATED"), &Value::Null));
    assert_eq!(door.app.registry.graph().revision(), before);
}

async fn apply(door: &Door, token: &str, media: &str, body: &str) -> Answer {
    let bearer = format!("Bearer {token}");
    let headers = [("content-type", media), ("authorization", &*bearer)];
    door.send(request(Method::POST, "/images", &headers, Body::from(body.to_owned()))).await
}

#[tokio::test]
async fn many_images_are_applied_each_by_itself_in_whatever_form() {
    let door = Door::open().await;
    let alice = door.token("alice");
    let version = door.get_as(&alice, "/images/acme/secret/1").await.ok()["version"].clone();
    let items = json!([
        { "name": "acme/app:1", "icon": "i", "ifVersion": "0" },
        { "name": "acme/app:1" },
        { "name": "acme/secret:1", "description": "new", "ifVersion": version },
        { "name": "acme/secret:1", "description": "newer", "ifVersion": "1" },
        { "name": "labring/nginx:1.24", "icon": "x" },
        { "name": "acme/app:1+2" },
        { "name": "" },
        { "description": 7, "nosuch": 1 },
        "text",
    ]);
    let applied = apply(&door, &alice, "application/json", &items.to_string()).await.ok();
    let mut shown = String::new();
    let tell = |shown: &mut String, applied: &Value| {
        for result in applied["results"].as_array().unwrap() {
            writeln!(shown, "{} {}", result["name"], result["outcome"].as_str().unwrap()).unwrap();
            for error in result["errors"].as_array().unwrap() {
                writeln!(shown, "    {} {}: {} {}", error["pointer"], error["code"], error["detail"], error["hint"])
                    .unwrap();
            }
        }
    };
    tell(&mut shown, &applied);
    let lines = "{\"name\":\"acme/app:2\"}\n\n{\"name\":\"acme/app:1\",\"icon\":\"i\"}\n";
    tell(&mut shown, &apply(&door, &alice, "application/x-ndjson", lines).await.ok());
    let yaml = "# a comment\n---\napiVersion: imagehub.sealos.io/v1\nkind: Image\nmetadata: {name: acme.app.3}\nspec:\n  name: acme/app:3\n  \
                detail: {docs: '# Three'}\n---\nkind: List\napiVersion: v1\nitems:\n- {apiVersion: imagehub.sealos.io/v1, kind: \
                Image, metadata: {name: acme.app.1}, spec: {name: 'acme/app:1', detail: {description: said}}}\n- {apiVersion: \
                imagehub.sealos.io/v1, kind: Repository, metadata: {name: acme.x}, spec: {name: acme/x}}\n";
    tell(&mut shown, &apply(&door, &alice, "application/yaml", yaml).await.ok());
    insta::assert_snapshot!(shown);
    let kept = door.get("/images/acme/app/1").await.ok();
    assert_eq!(
        (&kept["icon"], &kept["description"]),
        (&json!("i"), &json!("said")),
        "a manifest leaves what it doesn't say"
    );
}

#[tokio::test]
async fn a_pack_is_made_once_shared_and_read() {
    let door = Door::open().await;
    let bob = door.token("bob");
    let body = json!({ "names": ["labring/nginx:1.24", "no/such:1"], "grain": "DETAIL" });
    let made = door.write(&bob, Method::POST, "/datapacks", &body).await;
    let name = made.ok()["name"].as_str().unwrap().to_owned();
    assert_eq!((made.status, made.header("location")), (201, &*format!("/api/v1/datapacks/{name}")));
    let known = door.write("", Method::POST, "/datapacks", &body).await;
    assert_eq!((known.status, &known.body), (200, &made.body));
    let read = door.get(&format!("/datapacks/{name}")).await;
    assert_eq!((&read.body, read.etag()), (&made.body, made.etag()));
    assert_eq!(read.ok()["entries"][0]["image"]["docs"], "# a newer web server\n");
    let bad = json!({ "names": ["labring/nginx:1.24", "A/b"], "expireTime": "soon" });
    insta::assert_snapshot!(door.write(&bob, Method::POST, "/datapacks", &bad).await.problem());
}

#[tokio::test]
async fn those_who_have_not_signed_in_make_so_many_packs_a_minute() {
    let door = Door::open_with(|app| app.quota = Arc::new(Quota::new(1))).await;
    let body = |i: u32| json!({ "names": [format!("a/b:{i}")] });
    assert_eq!(door.write("", Method::POST, "/datapacks", &body(1)).await.status, 201);
    let refused = door.write("", Method::POST, "/datapacks", &body(2)).await;
    assert_eq!((refused.status, refused.header("retry-after")), (429, "60"));
    assert!(refused.problem().starts_with("429 RATE_LIMITED"));
    assert_eq!(door.write("", Method::POST, "/datapacks", &body(1)).await.status, 200);
}
