use std::fmt::Write as _;

use super::*;

const RESPONSE: &str = "application/graphql-response+json";

fn hash(document: &str) -> String {
    let digest = <sha2::Sha256 as sha2::Digest>::digest(document);
    digest.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
}

#[tokio::test]
async fn the_form_is_what_is_asked_for_and_faults_of_a_query_are_4xx_in_the_new_one() {
    let door = Door::open().await;
    for (query, data) in [
        ("{ viewer { anonymous } }", true),
        ("{ viewer { ", false),
        ("{ viewer { nosuch } }", false),
        ("query($x: String!) { suggest(text: $x) { text } }", false),
        ("query a { keywords } query b { keywords }", false),
        ("subscription { images { kind } }", false),
    ] {
        let old = door.ask_for("application/json", &json!({ "query": query })).await;
        let new = door.ask_for(RESPONSE, &json!({ "query": query })).await;
        assert_eq!(old.header("content-type"), "application/json; charset=utf-8", "{query}");
        assert_eq!(new.header("content-type"), "application/graphql-response+json; charset=utf-8", "{query}");
        assert_eq!(new.status, if data { 200 } else { 400 }, "{query}");
        assert_eq!(new.json().get("data").is_some(), data, "{query}");
        if !data {
            assert_eq!(new.error().0, "INVALID", "{query}");
        }
    }
    assert_eq!(door.ask_for("text/html", &json!({ "query": "{ keywords }" })).await.status, 406);
}

#[tokio::test]
async fn what_is_no_request_is_refused_with_a_sentence() {
    let door = Door::open().await;
    let mut shown = String::new();
    for body in [
        "",
        "{",
        "[]",
        "[{\"query\":\"{keywords}\"}]",
        "1",
        "{}",
        r#"{"query":1}"#,
        r#"{"query":{}}"#,
        r#"{"query":"{keywords}","operationName":1}"#,
        r#"{"query":"{keywords}","variables":"x"}"#,
        r#"{"query":"{keywords}","variables":[]}"#,
        r#"{"query":"{keywords}","extensions":7}"#,
        r#"{"query":"{keywords}","extensions":{"persistedQuery":{"version":2}}}"#,
        r#"{"query":"{keywords}","documentId":"x"}"#,
    ] {
        let answer = door.post(&[], body.to_owned()).await;
        let (code, message) = answer.error();
        writeln!(shown, "{body}\n    {} {code}: {message}", answer.status.as_u16()).unwrap();
    }
    insta::assert_snapshot!(shown);
    for media in ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin1"] {
        let request = Request::post("/graphql").header(CONTENT_TYPE, media).body(Body::from("{}")).unwrap();
        assert_eq!(door.send(request).await.status, 415, "{media}");
    }
    let request = Request::post("/graphql").body(Body::from(r#"{"query":"{keywords}"}"#)).unwrap();
    assert_eq!(door.send(request).await.status, 415);
    let large = door.post(&[], vec![b' '; crate::gateway::BODY_LIMIT + 1]).await;
    assert_eq!((large.status.as_u16(), large.error().0.as_str()), (413, "LIMIT_EXCEEDED"));
    let put = door.send(Request::put("/graphql").body(Body::empty()).unwrap()).await;
    assert_eq!((put.status.as_u16(), put.header("allow")), (405, "GET, HEAD, POST, OPTIONS"));
}

#[tokio::test]
async fn get_reads_and_never_writes() {
    let door = Door::open().await;
    let read = door.get("query=query+a(%24n%3AInt)%7Bsuggest(text%3A%22n%22%2Cfirst%3A%24n)%7Btext%7D%7D&operationName=a&variables=%7B%22n%22%3A1%7D", &[]).await;
    assert_eq!(read.data(), json!({ "suggest": [{ "text": "labring/nginx" }] }));
    let write = door.get("query=mutation%7BcreateOrganization(name%3A%22x%22)%7Brevision%7D%7D", &[]).await;
    assert_eq!((write.status.as_u16(), write.header("allow")), (405, "POST"));
    for bad in ["variables=%7B&query=%7Bkeywords%7D", "extensions=1&query=%7Bkeywords%7D", "", "query="] {
        assert_eq!(door.get(bad, &[]).await.status, 400, "{bad}");
    }
}

#[tokio::test]
async fn a_document_that_was_sent_once_is_known_by_its_hash() {
    let door = Door::open().await;
    let nobodys = "8b1b9d4f19d2ba8d3b4fb1ae0c0bfbd5cbd2d3a7ae4dc0ed8e6ad8e0cd3f0e0a";
    let by = |hash: &str| json!({ "extensions": { "persistedQuery": { "version": 1, "sha256Hash": hash } } });
    let unknown = door.ask_for("application/json", &by(nobodys)).await;
    assert_eq!(unknown.error(), ("PERSISTED_QUERY_NOT_FOUND".to_owned(), "PersistedQueryNotFound".to_owned()));
    assert_eq!(unknown.status, 200);
    let query = "{ keywords }";
    let is = hash(query);
    let mut whole = by(&is);
    whole["query"] = query.into();
    assert_eq!(door.ask_for("application/json", &by(&is)).await.error().0, "PERSISTED_QUERY_NOT_FOUND");
    door.ask_for("application/json", &whole).await.data();
    let known = door.ask_for("application/json", &by(&is)).await.data();
    assert_eq!(known["keywords"][0], "Kubernetes");
    whole["query"] = "{ viewer { name } }".into();
    assert_eq!(door.ask_for("application/json", &whole).await.error().0, "INVALID");
}

#[tokio::test]
async fn where_only_trusted_documents_are_taken_no_others_are() {
    let trusted = "{ keywords }".to_owned();
    let scene = Scene::open().await;
    let app = scene.app();
    let door = Door::of(scene, app, TrustedDocuments::new([trusted.clone()], true));
    let hash = hash(&trusted);
    let by_id = json!({ "documentId": format!("sha256:{hash}") });
    assert_eq!(door.ask_for("application/json", &by_id).await.data()["keywords"][0], "Kubernetes");
    door.ask(&trusted).await.data();
    assert_eq!(door.ask("{ viewer { name } }").await.error().0, "FORBIDDEN");
    let other = json!({ "documentId": "0".repeat(64) });
    assert_eq!(door.ask_for("application/json", &other).await.error().0, "FORBIDDEN");
}

#[tokio::test]
async fn limits_are_named_in_errors() {
    let door = Door::open().await;
    let aliases = (0..=crate::graphql::ALIASES).map(|i| format!("x{i}: keywords ")).collect::<Vec<_>>().concat();
    let refused = door.ask(&format!("{{ {aliases} }}")).await;
    let (code, message) = refused.error();
    assert_eq!((code.as_str(), message.contains("(limit: ")), ("LIMIT_EXCEEDED", true), "{message}");
    assert_eq!(door.ask(include_str!("introspection.graphql")).await.json().get("errors"), None);
}

#[tokio::test]
async fn a_revision_can_be_demanded_and_what_is_not_reached_is_unavailable() {
    let door = Door::open().await;
    let ask = |revision: String| {
        let body = json!({ "query": "{ keywords }" }).to_string();
        let door = &door;
        async move { door.post(&[("imagehub-min-revision", &revision)], body).await }
    };
    let now = door.ask("{ keywords }").await.header("imagehub-revision").to_owned();
    assert_eq!(ask(now).await.status, 200);
    assert_eq!(ask("x".to_owned()).await.status, 400);
    let late = ask("999999".to_owned()).await;
    assert_eq!((late.status.as_u16(), late.error().0.as_str()), (503, "UNAVAILABLE"));
    assert!(!late.header("retry-after").is_empty());
}

#[tokio::test]
async fn pages_of_other_sites_read_where_they_are_let() {
    let origin = ("origin", "https://store.example");
    let door = Door::open().await;
    let body = json!({ "query": "{ keywords }" }).to_string();
    let plain = door.post(&[origin], body.clone()).await;
    assert_eq!(plain.headers.get("access-control-allow-origin"), None);
    let door = Door::open_with(|app| app.origins = Origins::These(vec![origin.1.to_owned()])).await;
    let let_in = door.post(&[origin], body.clone()).await;
    assert_eq!(let_in.header("access-control-allow-origin"), origin.1);
    assert!(let_in.headers.get_all("vary").iter().any(|value| value == "Origin"));
    assert_eq!(
        door.post(&[("origin", "https://evil.example")], body).await.headers.get("access-control-allow-origin"),
        None
    );
    let preflight = Request::options("/graphql").header(origin.0, origin.1).body(Body::empty()).unwrap();
    let preflight = door.send(preflight).await;
    assert_eq!((preflight.status.as_u16(), preflight.header("access-control-allow-methods")), (204, "GET, POST"));
    assert_eq!(preflight.headers.get("access-control-allow-credentials"), None);
}

#[tokio::test]
async fn those_who_show_nothing_can_be_kept_out() {
    let door = Door::open_with(|app| app.anonymous = false).await;
    let refused = door.ask("{ keywords }").await;
    assert_eq!((refused.status.as_u16(), refused.error().0.as_str()), (401, "UNAUTHENTICATED"));
    let bob = door.token("bob");
    door.ask_as(&bob, "{ keywords }").await.data();
}

#[tokio::test]
async fn a_client_that_has_made_all_of_its_requests_waits_and_others_don_t() {
    let door = Door::open_with(|app| app.rates = Arc::new(Rates::new(app.registry.clock().clone(), 2))).await;
    let bob = door.token("bob");
    for left in [1, 0] {
        let answer = door.ask_as(&bob, "{ keywords }").await;
        assert_eq!((answer.status.as_u16(), answer.header("ratelimit-policy")), (200, "\"requests\";q=2;w=60"));
        assert!(answer.header("ratelimit").starts_with(&format!("\"requests\";r={left};t=")));
    }
    let refused = door.ask_as(&bob, "{ keywords }").await;
    assert_eq!((refused.status.as_u16(), refused.error().0.as_str()), (429, "RATE_LIMITED"));
    assert_eq!((refused.header("retry-after"), refused.header("cache-control")), ("30", "no-store"));
    assert!(refused.header("ratelimit").starts_with("\"requests\";r=0;t="));
    // Whose credentials are no good is nobody in particular.
    let nobody = door.ask_as("nosuch", "{ keywords }").await;
    assert_eq!((nobody.status.as_u16(), nobody.header("ratelimit-policy")), (401, "\"requests\";q=200;w=60"));
    door.ask("{ keywords }").await.data();
}

#[tokio::test]
async fn an_answer_is_compressed_as_its_client_likes_it_and_each_form_has_a_tag() {
    let door = Door::open().await;
    let query = "query=%7B__schema%7Btypes%7Bname%20description%7D%7D%7D";
    let plain = door.get(query, &[]).await;
    assert_eq!((plain.headers.get("content-encoding"), plain.body.len() > 1400), (None, true));
    let etag = plain.header("etag").trim_end_matches('"').to_owned();
    for (accepted, coding) in [("gzip, deflate, br", "br"), ("gzip", "gzip")] {
        let packed = door.get(query, &[("accept-encoding", accepted)]).await;
        assert_eq!(packed.header("content-encoding"), coding);
        assert_eq!(packed.header("etag"), format!("{etag}-{coding}\""));
        let vary: Vec<_> = packed.headers.get_all("vary").iter().collect();
        assert_eq!(vary, ["Accept, Accept-Encoding, Authorization, Origin"]);
        let same = door.get(query, &[("if-none-match", packed.header("etag"))]).await;
        assert_eq!((same.status.as_u16(), same.body.as_str()), (304, ""));
    }
    let posted = json!({ "query": "{ __schema { types { name description } } }" }).to_string();
    let posted = door.post(&[("accept-encoding", "br")], posted).await;
    assert_eq!((posted.header("content-encoding"), posted.headers.get("etag")), ("br", None));
    assert_eq!(
        door.post(&[("accept-encoding", "br")], r#"{"query":"{ keywords }"}"#).await.headers.get("content-encoding"),
        None
    );
}

#[tokio::test]
async fn a_browser_gets_a_page_that_loads_only_what_is_here() {
    let door = Door::open().await;
    let request = Request::get("/graphql").header(ACCEPT, "text/html,*/*").body(Body::empty()).unwrap();
    let page = door.send(request).await;
    assert_eq!((page.status.as_u16(), page.header("content-type")), (200, "text/html; charset=utf-8"));
    let files: Vec<&str> = page.body.split('"').filter(|part| part.starts_with("/graphql/page/")).collect();
    assert_eq!(files.len(), 5);
    assert!(!page.body.contains("//"), "nothing from elsewhere: {}", page.body);
    for file in files {
        let response = door.router.clone().oneshot(Request::get(file).body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), 200, "{file}");
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let mut text = String::new();
        std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&bytes[..]), &mut text).unwrap();
        assert!(text.len() > 100, "{file}");
    }
    let start = include_str!("../page/start.js");
    let mut packed = String::new();
    let bytes: &[u8] = include_bytes!("../page/start.js.gz");
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(bytes), &mut packed).unwrap();
    assert_eq!(packed, start, "gzip -9n start.js");
}
