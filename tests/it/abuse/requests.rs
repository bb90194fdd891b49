//! Requests that are bad in ways that somebody thought of.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};

use super::{Bad, Victim, lines, refusal_fault, sanity_fault, send_all};
use crate::harness::{JSON_PATCH, MERGE_PATCH, image, object, path};

const JSON: &str = "application/json";
const YAML: &str = "application/yaml";
const MIB: usize = 1024 * 1024;

fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned()
}

fn create(media: &str, body: impl Into<Bytes>) -> Bad {
    let body = body.into();
    Bad::new(format!("POST of {media} {:?}", shown(&body)), Method::POST, path("images", "")).body(media, body)
}

/// A good manifest with one place changed.
fn changed(pointer: &str, value: Value) -> Vec<u8> {
    let mut manifest = image("acme/new:v1", json!({ "docs": "d", "keywords": [], "size": 1 }));
    manifest["metadata"]["labels"] = json!({});
    manifest["metadata"]["annotations"] = json!({});
    *manifest.pointer_mut(pointer).unwrap_or_else(|| panic!("no {pointer} in the manifest")) = value;
    manifest.to_string().into_bytes()
}

fn bad_json() -> Vec<Vec<u8>> {
    let good = image("acme/new:v1", json!({ "docs": "d" })).to_string();
    let mut all: Vec<Vec<u8>> = (0..good.len()).step_by(7).map(|end| good.as_bytes()[..end].to_vec()).collect();
    all.extend(
        [
            "null",
            "[]",
            "1",
            "\"text\"",
            "{}",
            "{}{}",
            "\u{feff}{}",
            "{\"a\":1,}",
            "{'a':1}",
            "{a:1}",
            "NaN",
            "\0",
            "{\"kind\":\"Image\"\0}",
            "// no\n{}",
            "{\"\\ud800\":1}",
        ]
        .map(|text| text.as_bytes().to_vec()),
    );
    all.push(good.replace("\"d\"", "\"\u{0}\"").into_bytes());
    all.push(good.replace("\"d\"", "1e999").into_bytes());
    all.push(good.replace("\"d\"", &"9".repeat(10_000)).into_bytes());
    let mut invalid = good.clone().into_bytes();
    let at = good.find("\"d\"").expect("it is in there") + 1;
    invalid[at] = 0xff;
    all.push(invalid);
    all.push("[".repeat(3 * MIB - 1).into_bytes());
    all.push("{\"a\":".repeat(MIB / 2).into_bytes());
    all.push(format!("{{\"spec\":{}{}}}", "[".repeat(MIB), "]".repeat(MIB)).into_bytes());
    all.push(format!("[{}0]", "0,".repeat(MIB)).into_bytes());
    all.push(format!("[{}[]]", "[],".repeat(MIB / 2)).into_bytes());
    all.push(vec![b' '; 2 * MIB]);
    all.push(vec![b'a'; 3 * MIB + 1]);
    all
}

fn bad_objects() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for scalar in [json!(null), json!(5), json!("text"), json!([1]), json!(true)] {
        for place in ["/spec", "/spec/name", "/metadata"] {
            all.push(changed(place, scalar.clone()));
        }
        if !scalar.is_null() {
            let places = ["/spec/detail", "/metadata/labels", "/metadata/annotations"];
            all.extend(places.map(|place| changed(place, scalar.clone())));
        }
    }
    for value in [json!(1), json!("x"), json!({ "a": 1 }), json!([[]]), json!([{}])] {
        all.push(changed("/spec/detail/keywords", value));
    }
    for value in [json!("1"), json!(1e300), json!(-1.5), json!(18_446_744_073_709_551_615_u64), json!([])] {
        all.push(changed("/spec/detail/size", value));
    }
    all.push(changed("/spec/detail/docs", "d".repeat(2 * MIB).into()));
    all.push(changed("/metadata/annotations", json!({ "a": "a".repeat(300 * 1024) })));
    all.push(changed("/metadata/labels", json!({ "a": null, "b": 5 })));
    all.push(changed("/metadata/labels", json!({ "not a label!": "x" })));
    all.push(changed("/metadata/labels", json!({ "a": "x".repeat(64) })));
    all.push(changed("/kind", "Repository".into()));
    all.push(changed("/kind", json!({})));
    all.push(changed("/apiVersion", "v2".into()));
    for name in ["", ".", "..", "a/b", "A", "a b", "acme", "other.new.v1", "\u{0}", "a%00", &"a".repeat(64 * 1024)] {
        all.push(changed("/metadata/name", name.into()));
    }
    let long = format!("acme/{}:v1", "n".repeat(300));
    let names = ["", "a/:b", ":", "/", "a/b", "a/b:", "/b:c", "a//b:c", "a/b:c:d", "../..:x", "a/b:c\n", "ä/b:c"];
    for name in names.into_iter().chain([long.as_str(), "a/b:\u{0}", "a/b:..", "A/B:C d"]) {
        all.push(changed("/spec/name", name.into()));
    }
    all
}

fn bad_yaml() -> Vec<String> {
    let laughs: String = (0..24).fold("a0: &a0 [x,x,x,x]\n".to_owned(), |text, level| {
        format!("{text}a{next}: &a{next} [*a{level},*a{level},*a{level},*a{level}]\n", next = level + 1)
    });
    let merges: String = (0..24).fold("m0: &m0 {a: 1, b: 2}\n".to_owned(), |text, level| {
        format!("{text}m{next}: &m{next} {{<<: [*m{level}, *m{level}], k{level}: *m{level}}}\n", next = level + 1)
    });
    let good =
        "apiVersion: imagehub.sealos.io/v1\nkind: Image\nmetadata: {name: acme.new.v1}\nspec: {name: acme/new:v1}\n";
    vec![
        laughs,
        merges,
        format!("a: &a {}\nb: [{}]\n", "x".repeat(100_000), "*a,".repeat(10_000)),
        format!("[{}]", lines(10_001, |i| format!("&a{i} x,"))),
        "a: &a [*a]".to_owned(),
        "a: *nowhere".to_owned(),
        "\tkind: Image".to_owned(),
        "kind: Image\n\tspec: {}".to_owned(),
        format!("{good}---\n{good}"),
        "---\n".repeat(100_000),
        "[".repeat(MIB),
        "{a: ".repeat(MIB / 4),
        "- ".repeat(MIB),
        lines(2_000, |depth| format!("{}a:\n", " ".repeat(depth))),
        "? ".repeat(MIB),
        "!!python/object/apply:os.system ['true']".to_owned(),
        "!!binary aGVsbG8=".to_owned(),
        "%YAML 9.9\n---\nkind: Image\n".to_owned(),
        format!("{good}  size: .inf\n"),
        good.replace("acme/new:v1", ".nan"),
        good.replace("acme/new:v1", "\"\\0\""),
        good.replace("kind: Image", "kind: Image\nkind: Image\nkind: Repository"),
        "a: |\n \0".to_owned(),
        "\u{feff}".to_owned(),
        "'".repeat(MIB),
        "\"\\x".to_owned(),
        "&".repeat(100_000),
        "a: >99999999999\n".to_owned(),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_bodies_are_refused() {
    let victim = Victim::start().await;
    let mut all: Vec<Bad> = bad_json().into_iter().chain(bad_objects()).map(|body| create(JSON, body)).collect();
    all.extend(bad_yaml().into_iter().map(|text| create(YAML, text)));
    let good = changed("/kind", "Image".into());
    for media in ["text/plain", "application/xml", "nonsense", "a/b/c", "application/vnd.kubernetes.protobuf", ";;;"] {
        all.push(create(media, good.clone()));
    }
    let mut doubled = String::from_utf8(good.clone()).expect("JSON is text");
    doubled.insert_str(1, "\"kind\":\"Image\",");
    let mut strict = create(JSON, doubled);
    strict.path.push_str("?fieldValidation=Strict");
    all.push(strict);
    let mut no_such = create(JSON, good.clone());
    no_such.path.push_str("?fieldValidation=Sloppy");
    all.push(no_such);
    let mut no_such = create(JSON, good);
    no_such.path.push_str("?dryRun=Some");
    all.push(no_such);
    for (time, what) in
        ["2d", "-1h", "9999999h", "1e9h", "", " 2h", "2", "h", "1h1h1", "∞", "0s", "0x1h"].iter().zip(0..)
    {
        let name = if time.is_empty() { ":" } else { "acme/anvil:v1" };
        let pack = object("DataPack", &format!("late-{what}"), json!({ "names": [name], "expireTime": time }));
        let bad = Bad::new(format!("a pack that expires after {time:?}"), Method::POST, path("datapacks", ""));
        all.push(bad.body(JSON, pack.to_string()));
    }
    send_all(&victim, &all, refusal_fault).await;
    victim.is_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_paths_and_queries_are_refused() {
    let victim = Victim::start().await;
    let long = "x".repeat(60_000);
    let mut all = Vec::new();
    for name in
        ["a%2F:b", "..%2f..", "%00", "%zz", "%", "%+1", "%c3%28", "..", "a%20b", "acme.anvil.v1%00", &long[..8000]]
    {
        for method in [Method::GET, Method::PUT, Method::PATCH, Method::DELETE] {
            let bad = Bad::new(
                format!("{method} of the name {:?}", &name[..name.len().min(40)]),
                method,
                path("images", name),
            );
            all.push(bad.body(MERGE_PATCH, "{}"));
        }
    }
    for place in ["/apis/imagehub.sealos.io/v1/nothing", "/apis/imagehub.sealos.io/v2/images", "//", "/apis//v1", "/x"]
    {
        // As kube has it: what nothing serves is told in plain text.
        let answer = Bad::new("", Method::GET, place).send(&victim.admin).await.expect("an answer");
        assert_eq!((answer.status, &*answer.text()), (404, "404 page not found\n"), "{place}");
    }
    let place = path("images", "acme.anvil.v1/status/more");
    all.push(Bad::new("a path that goes on", Method::GET, place));
    let many = "a=b,".repeat(10_000);
    for query in [
        "labelSelector=%21%21%21",
        "labelSelector=a%20in%20(",
        "labelSelector=%3D%3D",
        "labelSelector=a%3Db%3Dc",
        "labelSelector=-a",
        "labelSelector=%00",
        "labelSelector=%ff%fe",
        &format!("labelSelector={}", &long[..30_000]),
        &format!("labelSelector={}!", &many[..40_000]),
        &format!("labelSelector=a%20in%20({}", "(".repeat(10_000)),
        "fieldSelector=spec.docs=x",
        "fieldSelector=metadata.name",
        "fieldSelector=metadata.name%3D%3D%3D%3Da",
        "fieldSelector=%5C",
        &format!("fieldSelector={}", &long[..30_000]),
        "limit=x",
        "limit=99999999999999999999999",
        "resourceVersion=-1",
        "resourceVersion=x",
        "resourceVersion=1e3",
        "resourceVersion=18446744073709551616",
        "resourceVersion=1&resourceVersionMatch=Sometimes",
        "resourceVersionMatch=Exact",
        "resourceVersion=0&resourceVersionMatch=Exact",
        "sendInitialEvents=true",
        "watch=1&sendInitialEvents=true",
        "watch=1&timeoutSeconds=-1",
        "watch=1&timeoutSeconds=99999999999999999999999",
        "watch=1&resourceVersion=-5",
        "watch=1&continue=x",
        "continue=x",
        "continue=%00%ff",
    ] {
        let what = format!("list?{}", &query[..query.len().min(60)]);
        all.push(Bad::new(what, Method::GET, format!("{}?{query}", path("images", ""))));
    }
    for method in ["PUT", "PATCH", "OPTIONS", "TRACE", "BREW", "CONNECT"] {
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        all.push(Bad::new(format!("{method} of a collection"), method, path("images", "")));
    }
    all.push(Bad::new("POST of an object", Method::POST, path("images", "acme.anvil.v1")));
    send_all(&victim, &all, refusal_fault).await;

    // Odd, but some of it is legal, and some is what a server may well ignore.
    let pairs = "limit=1&".repeat(7_000);
    let mut odd = Vec::new();
    for query in [
        "limit=%zz",
        "limit=-1",
        "includeObject=All",
        "labelSelector=a%20in%20()",
        "%zz=%zz&%",
        "limit=1&limit=x&limit=-1",
        "&&&&====&=&",
        "limit=18446744073709551615",
        "resourceVersion=18446744073709551615",
        "watch=false&watch=true",
        &pairs,
        &format!("nothing={long}"),
    ] {
        let what = format!("list?{}", &query[..query.len().min(60)]);
        odd.push(Bad::new(what, Method::GET, format!("{}?{query}", path("images", ""))));
    }
    let clauses = "text/x;q=0.1,".repeat(4_000);
    odd.push(Bad::new("an Accept of 4,000 clauses", Method::GET, path("images", "")).header("accept", clauses));
    let clauses = "application/json;as=Table;v=v9;g=meta.k8s.io,".repeat(1_000);
    odd.push(Bad::new("an Accept of 1,000 tables", Method::GET, path("images", "")).header("accept", clauses.clone()));
    odd.push(Bad::new("the same for discovery", Method::GET, "/apis").header("accept", clauses));
    odd.push(Bad::new("a bad Accept", Method::GET, path("images", "")).header("accept", ";;;,,,=/=;q=q"));
    odd.push(Bad::new("a bad Authorization", Method::GET, path("images", "")).header("authorization", "Bearer \u{e4}"));
    odd.push(Bad::new("many entity tags", Method::GET, "/openapi/v3").header("if-none-match", "\"x\",".repeat(10_000)));
    send_all(&victim, &odd, sanity_fault).await;
    victim.is_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_continue_tokens_are_refused() {
    let victim = Victim::start().await;
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let page = victim.admin.get(&format!("{}?limit=1", path("images", ""))).await.expect(200);
    let token = page["metadata"]["continue"].as_str().expect("there is a next page");
    let mut bad: Vec<String> = vec![
        encode("not json"),
        encode("{}"),
        encode("[]"),
        encode(r#"{"rv":0,"after":"a"}"#),
        encode(r#"{"rv":-2,"after":"a"}"#),
        encode(r#"{"rv":-9223372036854775808,"after":"a"}"#),
        encode(r#"{"rv":9223372036854775808,"after":"a"}"#),
        encode(r#"{"rv":1}"#),
        encode(r#"{"rv":"1","after":"a"}"#),
        encode(r#"{"v":"meta.k8s.io/v1","rv":5,"start":"a"}"#),
        "x".repeat(50_000),
        format!("{token}{token}"),
        token[1..].to_owned(),
    ];
    bad.extend((1..token.len()).map(|end| token[..end].to_owned()));
    let of = |token: &String, kind: &str| {
        let what = format!("the token {:?}", &token[..token.len().min(60)]);
        Bad::new(what, Method::GET, format!("{}?limit=1&continue={token}", path(kind, "")))
    };
    let all: Vec<Bad> = bad.iter().map(|token| of(token, "images")).collect();
    send_all(&victim, &all, refusal_fault).await;
    let odd = [
        encode(r#"{"rv":9223372036854775807,"after":"a"}"#),
        encode(r#"{"rv":1,"after":"a"}"#),
        encode(r#"{"rv":-1,"after":""}"#),
        encode(&json!({ "rv": -1, "after": "\u{0}\u{ffff}" }).to_string()),
        encode(&json!({ "rv": -1, "after": "a".repeat(600), "left": u64::MAX }).to_string()),
        token.to_owned(),
    ];
    let odd: Vec<Bad> = odd.iter().flat_map(|token| [of(token, "images"), of(token, "repositories")]).collect();
    send_all(&victim, &odd, |response| match response.status {
        410 => refusal_fault(response),
        _ => sanity_fault(response),
    })
    .await;
    victim.is_well().await;
}

fn patch(media: &str, body: impl Into<Bytes>) -> Bad {
    let body = body.into();
    let what = format!("PATCH of {media} {:?}", shown(&body));
    Bad::new(what, Method::PATCH, path("images", "acme.anvil.v1")).body(media, body)
}

fn bad_json_patches() -> Vec<Value> {
    let add = |place: &str, value: Value| json!({ "op": "add", "path": place, "value": value });
    let many = |count: usize, operation: Value| Value::Array(vec![operation; count]);
    let doubling = |times: usize| -> Value {
        let mut all = vec![add("/spec/bomb", json!({ "a": "x".repeat(1000) }))];
        all.extend(
            (0..times).map(|i| json!({ "op": "copy", "from": "/spec/bomb", "path": format!("/spec/bomb/{i}") })),
        );
        all.into()
    };
    vec![
        many(10_001, json!({ "op": "test", "path": "/kind", "value": "Image" })),
        doubling(30),
        doubling(9_999),
        many(9_999, json!({ "op": "copy", "from": "", "path": "/spec/bomb" })),
        json!([{ "op": "test", "path": "/spec/name", "value": "other" }]),
        json!([{ "op": "test", "path": "/spec", "value": null }]),
        json!([add("/spec/detail/keywords/-1", json!("x"))]),
        json!([add("/spec/detail/keywords/01", json!("x"))]),
        json!([add("/spec/detail/keywords/99999999999999999999999", json!("x"))]),
        json!([add("/spec/detail/keywords/7", json!("x"))]),
        json!([{ "op": "remove", "path": "/spec/detail/keywords/-" }]),
        json!([{ "op": "remove", "path": "/no/such/place" }]),
        json!([{ "op": "remove", "path": "" }]),
        json!([{ "op": "replace", "path": "", "value": 5 }]),
        json!([{ "op": "replace", "path": "", "value": null }]),
        json!([{ "op": "replace", "path": "/metadata", "value": "scalar" }]),
        json!([{ "op": "replace", "path": "/metadata", "value": null }]),
        json!([{ "op": "replace", "path": "/metadata/name", "value": "other" }]),
        json!([{ "op": "replace", "path": "/metadata/name", "value": null }]),
        json!([{ "op": "replace", "path": "/kind", "value": "Repository" }]),
        json!([{ "op": "replace", "path": "/spec", "value": 5 }]),
        json!([{ "op": "replace", "path": "/spec", "value": null }]),
        json!([{ "op": "replace", "path": "/spec/name", "value": "acme/anvil:v9" }]),
        json!([{ "op": "move", "from": "/spec", "path": "/spec/detail" }]),
        json!([{ "op": "move", "from": "/nothing", "path": "/spec" }]),
        json!([{ "op": "copy", "from": "/spec/detail/keywords/3", "path": "/spec/x" }]),
        json!([add(&"/a".repeat(100_000), json!(1))]),
        json!([add("no-slash", json!(1))]),
        json!([add("/~2", json!(1))]),
        json!([{ "op": "jump", "path": "/" }]),
        json!([{ "path": "/" }]),
        json!([null]),
        json!([[]]),
        json!({ "op": "remove", "path": "/spec" }),
        json!(null),
        json!("text"),
    ]
}

fn bad_merge_patches() -> Vec<Value> {
    vec![
        json!(null),
        json!([]),
        json!(5),
        json!({ "metadata": 5 }),
        json!({ "metadata": [] }),
        json!({ "metadata": { "name": "other" } }),
        json!({ "metadata": { "labels": 5 } }),
        json!({ "metadata": { "labels": { "a": { "b": "c" } } } }),
        json!({ "metadata": { "finalizers": "x" } }),
        json!({ "metadata": { "finalizers": [5] } }),
        json!({ "metadata": { "ownerReferences": [null] } }),
        json!({ "metadata": { "ownerReferences": [{ "kind": 5 }] } }),
        json!({ "metadata": { "resourceVersion": "1" } }),
        json!({ "metadata": { "resourceVersion": 1 } }),
        json!({ "metadata": { "uid": "other" } }),
        json!({ "kind": "Repository" }),
        json!({ "apiVersion": [] }),
        json!({ "spec": 5 }),
        json!({ "spec": null }),
        json!({ "spec": { "name": null } }),
        json!({ "spec": { "name": 5 } }),
        json!({ "spec": { "detail": [] } }),
        json!({ "spec": { "detail": { "keywords": {} } } }),
        json!({ "spec": { "detail": { "docs": "x".repeat(2 * MIB) } } }),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_patches_are_refused() {
    let victim = Victim::start().await;
    let deep = (0..50_000).fold(String::new(), |text, _| text + "{\"a\":");
    let mut all: Vec<Bad> = bad_json_patches().iter().map(|body| patch(JSON_PATCH, body.to_string())).collect();
    all.extend(bad_merge_patches().iter().map(|body| patch(MERGE_PATCH, body.to_string())));
    all.push(patch(MERGE_PATCH, deep));
    all.push(patch(MERGE_PATCH, ""));
    all.push(patch(JSON_PATCH, "[{\"op\":"));
    all.push(patch("application/strategic-merge-patch+json", "{}"));
    all.push(patch("application/json", "{}"));
    for body in
        ["{\"kind\":5}", "[]", "{", "{\"preconditions\":5}", "{\"propagationPolicy\":\"Sideways\"}", "{\"dryRun\":[5]}"]
    {
        let bad = Bad::new(format!("DELETE with {body}"), Method::DELETE, path("images", "acme.anvil.v1"));
        all.push(bad.body(JSON, body));
    }
    send_all(&victim, &all, refusal_fault).await;

    // Nulls everywhere: what can be left out may be taken away. Nothing of it is kept.
    let odd = [
        json!({}),
        json!({ "metadata": null }),
        json!({ "metadata": { "name": null, "uid": null, "labels": null, "creationTimestamp": null } }),
        json!({ "spec": { "detail": null } }),
        json!({ "spec": { "detail": { "docs": null, "keywords": null, "size": null, "creatTime": null } } }),
        json!({ "kind": null, "apiVersion": null }),
        json!({ "spec": { "-": 1, "": 2 } }),
        json!({ "status": { "a": 5 } }),
        json!({ "status": null }),
    ];
    let odd: Vec<Bad> = odd
        .iter()
        .map(|body| {
            let mut bad = patch(MERGE_PATCH, body.to_string());
            bad.path.push_str("?dryRun=All");
            bad
        })
        .collect();
    send_all(&victim, &odd, sanity_fault).await;
    victim.is_well().await;
}
