//! Documents and variables that nobody writes by hand.

use futures::StreamExt as _;
use imagehub::graphql::{ALIASES, DEPTH, DIRECTIVES, INTROSPECTION_LISTS, NAME, NESTING, ROOT_FIELDS, TOKENS, VALUES};
use serde_json::{Value, json};

use super::{AT_A_TIME, GRAPHQL_RESPONSE, NOTHING, Others, Sent, flood, repeated};
use crate::abuse::Victim;

const MIB: usize = 1024 * 1024;
/// What a body may have beside what fills it: names and brackets.
const AROUND: usize = 1024;
/// How much more memory the server may have while as many bodies of 3 MiB are worked on as a flood has under way, in MiB:
/// each in the pieces in which it came, in one piece, and parsed.
const BODIES_AT_WORK: u64 = NOTHING + 3 * 3 * AT_A_TIME as u64;

fn doubling(on: &str, last: &str) -> String {
    let each = repeated(60, |i| format!("fragment f{i} on {on} {{ ...f{} ...f{} }}", i + 1, i + 1));
    format!("{each} fragment f60 on {on} {{ {last} }}")
}

fn nested(levels: usize, open: &str, inner: &str, close: &str) -> String {
    format!("{}{inner}{}", open.repeat(levels), close.repeat(levels))
}

fn aliases_and_fields() -> Vec<Sent> {
    let alias = |field: &'static str| move |i: usize| format!("a{i}: {field}");
    vec![
        Sent::over(
            "aliases",
            "an alias more",
            format!("{{ image(name: \"a/b:c\") {{ {} }} }}", repeated(ALIASES + 1, alias("docs"))),
        ),
        Sent::over(
            "aliases",
            "1,000 aliases of docs",
            format!("{{ image(name: \"a/b:c\") {{ {} }} }}", repeated(1000, alias("docs"))),
        ),
        Sent::over("root fields", "600 lists", format!("{{ {} }}", repeated(600, alias("images{totalCount}")))),
        Sent::over(
            "root fields",
            "a field more",
            format!("{{ {} }}", repeated(ROOT_FIELDS + 1, |_| "keywords".to_owned())),
        ),
        Sent::over(
            "root fields",
            "300 mutations",
            format!("mutation {{ {} }}", repeated(300, alias("deleteImage(name: \"acme/anvil:v1\") { revision }"))),
        ),
        Sent::over("tokens", "100,000 aliases", format!("{{ {} }}", repeated(100_000, alias("keywords")))),
        Sent::over("tokens", "a token more", format!("{{ {} }}", repeated(TOKENS - 1, |_| "keywords".to_owned()))),
        Sent::over(
            "tokens",
            "1,500,000 commas and a million braces",
            format!("{}{}", ",".repeat(1_500_000), "{".repeat(MIB)),
        ),
    ]
}

fn depths() -> Vec<Sent> {
    let node = |levels| nested(levels, "latestImage { repository { ", "name", " } }");
    let list = nested(5, "tags(first: 100) { nodes { repository { ", "name", " } } }");
    vec![
        Sent::over("depth", "a level more", format!("{{ repository(name: \"a/b\") {{ {} }} }}", node(DEPTH / 2))),
        Sent::over("nesting", "300 levels", format!("{{ repository(name: \"a/b\") {{ {} }} }}", node(150))),
        Sent::over(
            "complexity",
            "lists of lists",
            format!(
                "{{ repositories(first: 100) {{ nodes {{ {} }} }} }}",
                nested(2, "tags(first: 100) { nodes { repository { ", "name", " } } }")
            ),
        ),
        Sent::over(
            "depth",
            "lists of lists of lists",
            format!("{{ repositories(first: 100) {{ nodes {{ {list} }} }} }}"),
        ),
        Sent::over("nesting", "a level more of fragments", nested(NESTING + 1, "{ ... ", "keywords", "}")),
        Sent::over("nesting", "1,300 fragments", nested(1300, "{ ... ", "keywords", "}")),
        Sent::over(
            "nesting",
            "a list of lists",
            format!("{{ resolve(names: {}) {{ name }} }}", nested(1900, "[", "", "]")),
        ),
        Sent::over(
            "nesting",
            "an object of objects",
            format!("{{ images(filter: {}) {{ totalCount }} }}", nested(900, "{a: ", "1", "}")),
        ),
        Sent::over("tokens", "a million brackets", format!("{{ a(b: {}", "[".repeat(MIB))),
    ]
}

fn directives() -> Vec<Sent> {
    let skip = "@skip(if: false)";
    vec![
        Sent::over(
            "directives",
            "a directive more",
            format!("{{ keywords {} }}", repeated(DIRECTIVES + 1, |_| skip.to_owned())),
        ),
        Sent::over(
            "directives",
            "500 directives of one field",
            format!("{{ keywords {} }}", repeated(500, |_| skip.to_owned())),
        ),
        Sent::over("directives", "unknown ones", format!("{{ keywords {} }}", repeated(1900, |i| format!("@x{i}")))),
        Sent::over(
            "directives",
            "of the operation",
            format!("query {} {{ keywords }}", repeated(1900, |_| "@x".to_owned())),
        ),
        Sent::over(
            "directives",
            "of variables",
            format!("query($a: Int {}) {{ keywords }}", repeated(1900, |_| "@x".to_owned())),
        ),
        Sent::over("tokens", "a million directives", format!("{{ keywords {} }}", "@x".repeat(MIB))),
    ]
}

fn introspections() -> Vec<Sent> {
    let fields = |levels| nested(levels, "fields { type { ", "name", " } }");
    let whole = include_str!("../../../../src/graphql/tests/introspection.graphql");
    let types = repeated(9, |i| format!("a{i}: __schema {{ types {{ ...FullType }} }}"));
    vec![
        Sent::over(
            "introspection",
            "fields of fields",
            format!("{{ __type(name: \"Query\") {{ {} }} }}", fields(INTROSPECTION_LISTS + 1)),
        ),
        Sent::over("introspection", "of all types", format!("{{ __schema {{ types {{ {} }} }} }}", fields(6))),
        Sent::over("introspection cost", "ten whole ones", whole.replacen("__schema", &format!("{types} __schema"), 1)),
        Sent::over(
            "introspection cost",
            "names of all fields",
            format!("{{ __schema {{ types {{ fields {{ {} }} }} }} }}", repeated(3900, |_| "name".to_owned())),
        ),
        Sent::over(
            "root fields",
            "many",
            format!("{{ {} }}", repeated(300, |i| format!("a{i}: __schema {{ types {{ name }} }}"))),
        ),
    ]
}

fn fragments() -> Vec<Sent> {
    let image = doubling("Image", "name");
    let facets = doubling("RepositoryFacets", "...nowhere");
    let query = |document: String| json!({ "query": document });
    let cycle = "{ image(name: \"a/b:c\") { ...f } } fragment f on Image { repository { latestImage { ...f ...f } } }";
    let ring = repeated(400, |i| format!("fragment f{i} on Image {{ ...f{} }}", (i + 1) % 400));
    let chain = repeated(480, |i| format!("fragment f{i} on Image {{ ...f{} }}", i + 1));
    vec![
        Sent::over("complexity", "that double each other", format!("{{ image(name: \"a/b:c\") {{ ...f0 }} }} {image}")),
        Sent::over(
            "complexity",
            "where none is asked for",
            format!("{{ images(first: 0) {{ nodes {{ ...f0 }} }} }} {image}"),
        ),
        Sent::over("complexity", "of no names", format!("{{ resolve(names: []) {{ image {{ ...f0 }} }} }} {image}")),
        Sent::over("complexity", "without a field", format!("{{ repositories {{ facets {{ ...f0 }} }} }} {facets}")),
        Sent::refused("a cycle", &query(cycle.to_owned()), "INVALID", ""),
        Sent::refused("a ring", &query(format!("{{ image(name: \"a/b:c\") {{ ...f0 }} }} {ring}")), "INVALID", ""),
        Sent::refused("a chain", &query(format!("{{ image(name: \"a/b:c\") {{ ...f0 }} }} {chain}")), "INVALID", ""),
        Sent::refused("not used", &query(format!("{{ keywords }} {image}")), "INVALID", ""),
    ]
}

fn texts() -> Vec<Sent> {
    let long = "x".repeat(MIB);
    let query = |document: String| json!({ "query": document });
    let operations = repeated(600, |i| format!("query a{i} {{ keywords }}"));
    vec![
        Sent::over("name", "a name more", format!("{{ {} }}", "a".repeat(NAME + 1))),
        Sent::over("name", "a name of 1 MiB", format!("{{ {long} }}")),
        Sent::over("name", "a number of 1 MiB", format!("{{ images(first: {}) {{ totalCount }} }}", "9".repeat(MIB))),
        Sent::refused(
            "nothing of it known",
            &query(format!("{{ {} }}", repeated(3900, |i| format!("naem{i}")))),
            "LIMIT_EXCEEDED",
            "root fields",
        ),
        Sent::refused(
            "nothing of it known below",
            &query(format!("{{ viewer {{ {} }} }}", repeated(3900, |i| format!("naem{i}")))),
            "INVALID",
            "naem",
        ),
        Sent::refused("no document", &query("!".repeat(2 * MIB)), "LIMIT_EXCEEDED", "(limit: tokens)"),
        Sent::refused(
            "a string of 2 MiB",
            &query(format!("{{ keywords \"{}\" }}", "x".repeat(2 * MIB))),
            "INVALID",
            "",
        ),
        Sent::refused(
            "a string that doesn't end",
            &query(format!("{{ a(b: \"{}", "\\\"".repeat(MIB / 2))),
            "INVALID",
            "",
        ),
        Sent::over("text", "a text of 2 MiB", format!("{{ suggest(text: \"{}\") {{ text }} }}", "x".repeat(2 * MIB))),
        Sent::refused("many operations", &query(operations), "INVALID", "operationName"),
        Sent::refused(
            "a batch",
            &Value::Array(vec![json!({ "query": "{ keywords }" }); 10_000]),
            "INVALID",
            "batches are not taken",
        ),
        Sent::refused(
            "batches in batches",
            &serde_json::from_str(&nested(60, "[", "", "]")).expect("JSON"),
            "INVALID",
            "batches are not taken",
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_of_documents_are_refused_by_the_limits_that_they_are_over() {
    let victim = Victim::start().await;
    let mut others = Others::begin(&victim);
    for of in [aliases_and_fields, depths, directives, introspections, fragments, texts] {
        flood(&victim, &of(), 10).await;
    }
    others.go_on(1).await;
    others.end(&victim, NOTHING).await;
    victim.is_as_before().await;
}

/// A request whose variables are `filler`, of no use.
fn variables(what: &str, filler: &str, says: &str) -> Sent {
    let body = format!("{{\"query\":\"{{ keywords }}\",\"variables\":{{\"x\":{filler}}}}}");
    let code = if says.contains("limit: ") { "LIMIT_EXCEEDED" } else { "INVALID" };
    Sent { what: what.to_owned(), body: body.into(), refusal: (code, says.to_owned()) }
}

fn giants() -> Vec<Sent> {
    let most = 3 * MIB - AROUND;
    let of_names = |count: usize| {
        let query = "query($names: [ImageName!]!) { resolve(names: $names) { name } }";
        json!({ "query": query, "variables": { "names": vec!["a/b:c"; count] } })
    };
    let of_text = "query($text: String!) { suggest(text: $text) { text } }";
    let text = json!({ "query": of_text, "variables": { "text": "x".repeat(most) } });
    vec![
        variables("numbers", &format!("[{}0]", "0,".repeat(most / 2)), "it has more than 250000 values"),
        variables("lists", &format!("[{}[]]", "[],".repeat(most / 3)), "it has more than 250000 values"),
        variables("objects", &format!("[{}0]", "{\"a\":0},".repeat(60_000)), "(limit: values)"),
        variables("a value more", &format!("[{}0]", "0,".repeat(VALUES)), "(limit: values)"),
        variables("lists in lists", &nested(most / 2, "[", "", "]"), "levels deep"),
        variables("objects in objects", &nested(most / 6, "{\"a\":", "0", "}"), "levels deep"),
        variables("a list that doesn't end", &"[".repeat(most), "levels deep"),
        variables("a number of 2 MiB", &"9".repeat(2 * MIB), "not valid JSON"),
        variables("more than a body may have", &format!("\"{}\"", "x".repeat(3 * MIB)), "(limit: body)"),
        Sent::refused("100,000 names", &of_names(100_000), "LIMIT_EXCEEDED", "(limit: values)"),
        Sent::refused("20,000 names", &of_names(20_000), "LIMIT_EXCEEDED", "(limit: "),
        Sent::refused("a text of 3 MB", &text, "LIMIT_EXCEEDED", "(limit: text)"),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn giant_variables_are_refused_and_not_kept() {
    let victim = Victim::start().await;
    let mut others = Others::begin(&victim);
    flood(&victim, &giants(), 5).await;
    // What no operation has is not looked at, and doesn't stay.
    let client = victim.server.http();
    let unknown = json!({ "query": "{ keywords }", "variables": { "x": "x".repeat(3 * MIB - AROUND) } });
    let headers = [("content-type", "application/json"), ("accept", GRAPHQL_RESPONSE)];
    let body = bytes::Bytes::from(unknown.to_string());
    for _ in 0..4 {
        let asked = (0..AT_A_TIME).map(|_| client.request(http::Method::POST, "/graphql", &headers, body.clone()));
        for answer in futures::future::join_all(asked).await {
            assert_eq!(answer.ok()["data"]["keywords"][0], "Kubernetes");
        }
    }
    others.go_on(1).await;
    others.end(&victim, BODIES_AT_WORK).await;
    victim.is_as_before().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn documents_that_are_to_be_remembered_push_out_one_another() {
    /// Together 160 MiB; 16 MiB of them are kept.
    const DOCUMENTS: usize = 160;
    let victim = Victim::start().await;
    let others = Others::begin(&victim);
    let client = victim.server.http();
    let each = (0..DOCUMENTS).map(|i| {
        let document = format!("{{ keywords }} # {i} {}", "x".repeat(MIB));
        let hash = <sha2::Sha256 as sha2::Digest>::digest(&document);
        let hash = hash.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
        let known = json!({ "persistedQuery": { "version": 1, "sha256Hash": hash } });
        let client = client.clone();
        async move { client.post("/graphql", &json!({ "query": document, "extensions": known })).await.ok() }
    });
    let answers: Vec<Value> = futures::stream::iter(each).buffer_unordered(8).collect().await;
    assert!(answers.iter().all(|answer| answer["data"]["keywords"][0] == "Kubernetes"));
    others.end(&victim, NOTHING).await;
    victim.is_as_before().await;
}
