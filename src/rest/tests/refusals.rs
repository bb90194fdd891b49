use super::super::contract::LONGEST_HEADER;
use super::*;
use crate::gateway::Rates;

#[tokio::test]
async fn each_bad_request_has_a_precise_answer() {
    let door = Door::open().await;
    let alice = door.token("alice");
    let mut shown = String::new();
    let mut tell = |what: String, answer: &Answer| {
        writeln!(shown, "{what}\n  {}", answer.problem()).unwrap();
    };
    for path in [
        "/nosuch",
        "",
        "/images/a",
        "/repositories?nosuch=1",
        "/repositories?limit=0",
        "/repositories?limit=101",
        "/repositories?limit=x",
        "/repositories?limit=1&limit=2",
        "/repositories?cursor=x",
        "/repositories?sort=size",
        "/repositories?sort=relevance",
        "/repositories?facets=size",
        "/repositories?private=maybe",
        "/repositories?updatedSince=yesterday",
        "/compare?from=a/b:c",
        "/compare?from=&to=a/b:c",
        "/suggest",
        "/images/%ff/b/c",
        "/datapacks/nosuch",
        "/events?since=x",
    ] {
        tell(format!("GET {path}"), &door.get(path).await);
    }
    let long = "x".repeat(600);
    tell("GET a long text".to_owned(), &door.get(&format!("/repositories?q={long}")).await);
    for (name, value) in [
        ("accept", "text/html"),
        ("authorization", "Bearer nosuch"),
        ("authorization", "Basic eDp5"),
        ("imagehub-min-revision", "-1"),
    ] {
        tell(format!("GET with {name}: {value}"), &door.get_with("/images", &[(name, value)]).await);
    }
    tell("Last-Event-ID".to_owned(), &door.get_with("/events", &[("last-event-id", "x")]).await);
    let image = "/images/acme/app/1";
    for (method, path, body) in [
        (Method::PUT, image, "{"),
        (Method::PUT, image, ""),
        (Method::PUT, image, "[]"),
        (Method::PUT, image, r#"{"icon":"a","icon":"b"}"#),
        (Method::PUT, image, r#"{"icon":1,"size":"x","keywords":[1,"a"],"createdAt":"now","type":"X","nosuch":1}"#),
        (Method::PUT, image, r#"{"name":"acme/other:1"}"#),
        (Method::PUT, image, r#"{"size":-1}"#),
        (Method::PUT, image, r#"{"actions":[{"key":"a"},{"key":"a"},{"name":"b"},3]}"#),
        (Method::PUT, "/images/acme/app/1%2B2", "{}"),
        (Method::PUT, "/images/acme/APP/1", "{}"),
        (Method::PUT, "/images/acme/a%2Fb/1", "{}"),
        (Method::PUT, "/images/labring/app/1", "{}"),
        (Method::PATCH, "/images/acme/nosuch/1", "{}"),
        (Method::PATCH, "/repositories/acme/secret", r#"{"isPrivate":null}"#),
        (Method::PUT, "/repositories/acme/secret", r#"{"isPrivate":"yes"}"#),
        (Method::PUT, "/organizations/acme", r#"{"managers":"alice"}"#),
        (Method::PUT, "/organizations/A_B", "{}"),
        (Method::POST, "/datapacks", "{}"),
        (Method::POST, "/datapacks", r#"{"names":[],"grain":"ALL","more":1}"#),
        (Method::PUT, "/organizations/acme", r#"{"managers":["user:x","a:b"," c"]}"#),
        (Method::POST, "/images", "{"),
        (Method::POST, "/images?dryRun=yes", "[]"),
    ] {
        let bearer = format!("Bearer {alice}");
        let headers = [("content-type", "application/json"), ("authorization", &*bearer)];
        let answer = door.send(request(method.clone(), path, &headers, Body::from(body))).await;
        tell(format!("{method} {path} {body}"), &answer);
    }
    insta::assert_snapshot!(shown);
}

#[tokio::test]
async fn methods_forms_and_sizes_that_are_not_taken_are_told() {
    let door = Door::open().await;
    let alice = door.token("alice");
    for (method, path, allow) in [
        (Method::POST, "/organizations", "GET, HEAD, OPTIONS"),
        (Method::POST, "/images/a/b/c", "GET, HEAD, PUT, PATCH, DELETE, OPTIONS"),
        (Method::DELETE, "/images", "GET, HEAD, POST, OPTIONS"),
        (Method::GET, "/resolve", "POST, OPTIONS"),
        (Method::PUT, "/whoami", "GET, HEAD, OPTIONS"),
        (Method::TRACE, "/openapi.json", "GET, HEAD, OPTIONS"),
    ] {
        let refused = door.send(request(method.clone(), path, &[], Body::empty())).await;
        assert_eq!((refused.status, refused.header("allow")), (405, allow), "{method} {path}");
        assert!(refused.problem().starts_with("405 INVALID"));
    }
    let bearer = format!("Bearer {alice}");
    for media in
        ["", "text/plain", "application/xml", "application/json; charset=latin1", "application/merge-patch+json", "x"]
    {
        let headers = [("content-type", media), ("authorization", &*bearer)];
        let refused = door.send(request(Method::PUT, "/images/acme/app/1", &headers, Body::from("{}"))).await;
        assert!(refused.problem().starts_with("415 INVALID"), "{media}");
    }
    let headers = [("content-type", "application/json"), ("authorization", &*bearer)];
    let large = Body::from(vec![b' '; crate::gateway::BODY_LIMIT + 1]);
    let large = door.send(request(Method::PUT, "/images/acme/app/1", &headers, large)).await;
    assert!(large.problem().starts_with("413 LIMIT_EXCEEDED"));
    let deep = "[".repeat(500);
    let deep = door.send(request(Method::PUT, "/images/acme/app/1", &headers, Body::from(deep))).await;
    assert!(deep.problem().starts_with("400 INVALID"), "{}", deep.body);
    let many: Vec<Value> =
        (0..=super::super::APPLIED_ITEMS).map(|i| json!({ "name": format!("acme/app:{i}") })).collect();
    let many = door.write(&alice, Method::POST, "/images", &json!(many)).await;
    assert!(many.problem().starts_with("422 LIMIT_EXCEEDED"), "{}", many.body);
}

#[tokio::test]
async fn headers_that_are_longer_than_the_document_says_are_refused() {
    let door = Door::open().await;
    let (fits, long) = ("x".repeat(LONGEST_HEADER), "x".repeat(LONGEST_HEADER + 1));
    for name in ["if-match", "if-none-match", "prefer", "last-event-id"] {
        assert_eq!(door.get_with("/images", &[(name, &fits)]).await.status, 200, "{name}");
        let refused = door.get_with("/images", &[(name, &long)]).await;
        let wanted = format!(
            "400 LIMIT_EXCEEDED: {name}: it has 4097 bytes; 4096 is the most (limit: header)\n    {name} LIMIT_EXCEEDED"
        );
        assert_eq!(refused.problem(), wanted);
    }
    for (revision, status) in [("0000000000000000001", 200), ("00000000000000000001", 400), ("", 400)] {
        let answer = door.get_with("/images", &[("imagehub-min-revision", revision)]).await;
        assert_eq!(answer.status, status, "{revision}");
    }
}

#[tokio::test]
async fn those_who_have_shown_nothing_may_read_where_that_is_let_and_write_nothing() {
    let door = Door::open().await;
    for (method, path) in [
        (Method::PUT, "/images/labring/nginx/1.24"),
        (Method::PATCH, "/repositories/labring/nginx"),
        (Method::PUT, "/organizations/new"),
        (Method::POST, "/images"),
    ] {
        let refused = door.write("", method.clone(), path, &json!({})).await;
        assert!(refused.problem().starts_with("401 UNAUTHENTICATED"), "{method} {path}");
    }
    let closed = Door::open_with(|app| app.anonymous = false).await;
    let refused = closed.get("/images").await;
    assert_eq!((refused.status, refused.header("www-authenticate")), (401, "Bearer"));
    assert_eq!(closed.get_as(&closed.token("bob"), "/images").await.status, 200);
}

#[tokio::test]
async fn head_is_get_without_a_body_and_pages_of_other_sites_read_where_they_are_let() {
    let door = Door::open_with(|app| app.origins = Origins::These(vec!["https://store.example".to_owned()])).await;
    for path in ["/images", "/images/labring/nginx/1.24/docs", "/images/no/such/1", "/openapi.json"] {
        let get = door.get(path).await;
        let head = door.send(request(Method::HEAD, path, &[], Body::empty())).await;
        assert_eq!((head.status, head.body.as_str(), head.etag()), (get.status, "", get.etag()), "{path}");
        assert_eq!(head.header("content-type"), get.header("content-type"), "{path}");
    }
    let stream = [("accept", "text/event-stream")];
    assert_eq!(door.send(request(Method::HEAD, "/events", &stream, Body::empty())).await.status, 200);
    assert_eq!(door.send(request(Method::HEAD, "/images", &stream, Body::empty())).await.status, 200);
    let page = door.get_with("/images", &[("origin", "https://store.example")]).await;
    assert_eq!(page.header("access-control-allow-origin"), "https://store.example");
    let other = door.get_with("/images", &[("origin", "https://evil.example")]).await;
    assert_eq!(other.header("access-control-allow-origin"), "");
    let asked = [("origin", "https://store.example"), ("access-control-request-method", "PUT")];
    let asked = door.send(request(Method::OPTIONS, "/images/a/b/c", &asked, Body::empty())).await;
    assert_eq!((asked.status, asked.header("access-control-allow-methods")), (204, asked.header("allow")));
}

#[tokio::test]
async fn a_client_is_told_how_many_requests_are_left_to_it() {
    let door = Door::open_with(|app| app.rates = Arc::new(Rates::new(app.registry.clock().clone(), 60))).await;
    let bob = door.token("bob");
    let first = door.get_as(&bob, "/whoami").await;
    assert_eq!(first.header("ratelimit-policy"), "\"requests\";q=60;w=60");
    assert_eq!(first.header("ratelimit"), "\"requests\";r=59;t=1");
    for _ in 1..60 {
        door.get_as(&bob, "/whoami").await;
    }
    let refused = door.get_as(&bob, "/whoami").await;
    assert_eq!((refused.status, refused.header("retry-after")), (429, "1"));
    assert!(refused.header("ratelimit").starts_with("\"requests\";r=0;t="));
    assert!(refused.problem().starts_with("429 RATE_LIMITED"));
    assert_eq!(door.get("/whoami").await.status, 200);
}

#[tokio::test]
async fn what_is_refused_before_it_is_read_counts_too() {
    let door = Door::open_with(|app| app.rates = Arc::new(Rates::new(app.registry.clock().clone(), 60))).await;
    let bad = [("authorization", "Bearer nosuch")];
    for (left, path, headers, status) in [
        (5999, "/whoami", &bad[..], 401),
        (5998, "/nosuch", &bad[..], 404),
        (5997, "/nosuch", &[], 404),
        (5996, "/resolve", &[], 405),
    ] {
        let answer = door.get_with(path, headers).await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("ratelimit-policy"), "\"requests\";q=6000;w=60");
        assert!(answer.header("ratelimit").starts_with(&format!("\"requests\";r={left};")), "{path}");
    }
    let bob = door.token("bob");
    assert!(door.get_as(&bob, "/nosuch").await.header("ratelimit").starts_with("\"requests\";r=59;"));
}
