use super::*;

#[tokio::test]
async fn each_path_reads_what_it_names() {
    let door = Door::open().await;
    let mut shown = String::new();
    for path in [
        "/organizations",
        "/organizations/acme",
        "/repositories?facets=keyword&facets=type",
        "/repositories/labring/nginx",
        "/repositories/labring/nginx/tags?limit=1",
        "/images?sort=-name&limit=2",
        "/images/labring/nginx/1.24",
        "/images/labring/nginx/1.24/docs",
        "/compare?from=labring/nginx:1.23&to=labring/nginx:1.24",
        "/suggest?q=ng",
        "/whoami",
        "/repositories/labring/nginx/feed.atom",
        "/repositories/labring/nginx/badge.svg",
    ] {
        let answer = door.get(path).await;
        let body = if answer.header("content-type").starts_with("application/json") {
            format!("{:#}", answer.json())
        } else {
            answer.body.clone()
        };
        let link = answer.header("link").split("cursor=").next().unwrap();
        writeln!(shown, "== {path}\n{} {} {link}\n{body}", answer.status, answer.header("content-type")).unwrap();
    }
    // Cursors are bound to who asks, and tell nothing here.
    let cursor =
        |line: &str| if line.contains(r#""next": ""#) { r#"  "next": "CURSOR""#.to_owned() } else { line.to_owned() };
    let shown: Vec<String> = shown.lines().map(cursor).collect();
    insta::assert_snapshot!(shown.join("\n"));
}

#[tokio::test]
async fn lists_are_filtered_sorted_and_searched_as_the_other_door_s_are() {
    let door = Door::open().await;
    for (query, names) in [
        ("", "labring/mysql labring/nginx other/redis"),
        ("sort=-name", "other/redis labring/nginx labring/mysql"),
        ("organization=labring", "labring/mysql labring/nginx"),
        ("organization=labring&organization=other&keyword=database", "labring/mysql other/redis"),
        ("keyword=Database&keyword=Storage", "labring/mysql"),
        ("architecture=", "other/redis"),
        ("architecture=arm64&architecture=", "labring/mysql other/redis"),
        ("type=CLUSTER_IMAGE", "labring/mysql labring/nginx other/redis"),
        ("type=CLOUD_IMAGE", ""),
        ("q=nginx", "labring/nginx"),
        ("q=labring/nginx:1.23", "labring/nginx"),
        ("q=web%20server", "labring/nginx"),
        ("name=labring/nginx&name=acme/secret", "labring/nginx"),
        ("private=true", ""),
        ("managed=true", ""),
        ("updatedSince=2100-01-01T00:00:00Z", ""),
    ] {
        let list = door.get(&format!("/repositories?{query}")).await.ok();
        let found: Vec<&str> =
            list["items"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
        assert_eq!(found.join(" "), names, "{query}");
        assert_eq!(list["total"], found.len(), "{query}");
    }
    let matched = door.get("/repositories?q=labring/nginx:1.23").await.ok();
    assert_eq!(matched["items"][0]["matchedImage"]["tag"], "1.23");
}

#[tokio::test]
async fn pages_go_on_where_they_ended_by_link_and_by_cursor() {
    let door = Door::open().await;
    for list in
        ["/images?sort=name", "/repositories?sort=-downloads", "/repositories/labring/nginx/tags?", "/organizations?"]
    {
        let (mut path, mut seen) = (format!("{list}&limit=1"), Vec::new());
        let total = loop {
            let answer = door.get(&path).await;
            let page = answer.ok();
            seen.extend(page["items"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()));
            let Some(next) = page["next"].as_str() else {
                assert_eq!(answer.header("link"), "");
                break page["total"].as_u64().unwrap();
            };
            let link = answer.header("link").to_owned();
            assert!(
                link.starts_with("</api/v1/") && link.ends_with(">; rel=\"next\"") && link.contains(next),
                "{link}"
            );
            path = link.split(['<', '>']).nth(1).unwrap().trim_start_matches("/api/v1").to_owned();
        };
        let mut once = seen.clone();
        once.dedup();
        assert_eq!((once.len() as u64, &once), (total, &seen), "{list}");
    }
}

#[tokio::test]
async fn hidden_and_absent_are_the_same_bytes() {
    let door = Door::open().await;
    for (hidden, absent) in [
        ("/repositories/acme/secret", "/repositories/acme/nothing"),
        ("/repositories/acme/secret/tags", "/repositories/acme/nothing/tags"),
        ("/repositories/acme/secret/feed.atom", "/repositories/acme/nothing/feed.atom"),
        ("/repositories/acme/secret/badge.svg", "/repositories/acme/nothing/badge.svg"),
        ("/images/acme/secret/1", "/images/acme/nothing/1"),
        ("/images/acme/secret/1/docs", "/images/acme/nothing/1/docs"),
        ("/compare?from=acme/secret:1&to=labring/nginx:1.24", "/compare?from=acme/nothing:1&to=labring/nginx:1.24"),
        ("/images?name=acme/secret:1", "/images?name=acme/nothing:1"),
        ("/images?repository=acme/secret", "/images?repository=acme/nothing"),
        ("/repositories?q=secret", "/repositories?q=nosuch"),
        ("/suggest?q=secret", "/suggest?q=nosuch"),
        ("/suggest?q=acme/secret:", "/suggest?q=acme/nosuch:"),
    ] {
        let (one, other) = (door.get(hidden).await, door.get(absent).await);
        assert_eq!((one.status, &one.body), (other.status, &other.body), "{hidden}");
        let names = |answer: &Answer| {
            let mut all: Vec<_> = answer.headers.keys().map(|name| name.as_str().to_owned()).collect();
            all.sort();
            all
        };
        assert_eq!(names(&one), names(&other), "{hidden}");
    }
    let all = door.get("/repositories?facets=organization&facets=keyword").await.body;
    assert!(!all.contains("acme"), "{all}");
    let alice = door.token("alice");
    assert_eq!(door.get_as(&alice, "/images/acme/secret/1").await.ok()["name"], "acme/secret:1");
    assert!(door.get_as(&alice, "/repositories").await.body.contains("acme/secret"));
    // Who may not is told so whether it is there or not.
    let bob = door.token("bob");
    for path in
        ["/images/acme/secret/1", "/images/acme/nothing/1", "/repositories/acme/secret", "/repositories/acme/nothing"]
    {
        for etag in [None, Some(("if-match", "\"x\""))] {
            let refused = door.delete(&bob, path, etag.as_slice()).await;
            assert_eq!(refused.status, is(StatusCode::FORBIDDEN), "{path} {etag:?}");
        }
    }
}

#[tokio::test]
async fn names_are_looked_up_many_at_a_time_and_the_bad_one_is_named() {
    let door = Door::open().await;
    let names = json!({ "names": ["labring/nginx:1.24", "acme/secret:1", "no/such:1"] });
    let entries = door.write("", Method::POST, "/resolve", &names).await.ok();
    assert_eq!(entries["entries"][0]["image"]["tag"], "1.24");
    assert_eq!(entries["entries"][0]["image"].get("docs"), None);
    assert_eq!((&entries["entries"][1]["image"], &entries["entries"][2]["image"]), (&Value::Null, &Value::Null));
    let bad = json!({ "names": ["labring/nginx:1.24", 7, "no name"], "more": 1 });
    insta::assert_snapshot!(door.write("", Method::POST, "/resolve", &bad).await.problem());
    let many: Vec<String> = (0..=1000).map(|i| format!("a/b:{i}")).collect();
    let many = door.write("", Method::POST, "/resolve", &json!({ "names": many })).await;
    assert!(many.problem().starts_with("422 LIMIT_EXCEEDED"), "{}", many.body);
}
