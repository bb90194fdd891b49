//! The two contracts, `openapi/imagehub.json` and `schema/imagehub.graphql`, by the tools of others: schemathesis sends
//! what fits them and what doesn't, Spectral reads the document by its rules and those of OWASP, and clients that are made
//! from them compile, and work.
//!
//! schemathesis makes the same requests each time, so many that all of this takes a minute or two. For more:
//! `IMAGEHUB_SCHEMATHESIS_EXAMPLES` (how many an operation, of each phase; 30 without it) and `IMAGEHUB_SCHEMATHESIS_SEED`
//! (what they are made from; 1 without it), as in
//! `IMAGEHUB_SCHEMATHESIS=$(tests/gateway/install-schemathesis) IMAGEHUB_SCHEMATHESIS_EXAMPLES=500 cargo test --test it contract::`.
//! `tests/gateway/hooks.py` says what is made to fit, what is left out, and why; each run tells how much that was, and
//! fails where it is more than the rules allow or where too little of what fits was accepted.

use crate::harness::{Launch, Schemathesis, Scripts, Server};

/// How many examples there are an operation.
const EXAMPLES: u32 = 30;
/// What they are made from.
const SEED: u32 = 1;

fn number(variable: &str, without: u32) -> String {
    let read = |text: String| -> u32 { text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")) };
    std::env::var(variable).map_or(without, read).to_string()
}

/// A server with the sample catalogue, and a token of a user who may make organizations.
async fn served() -> (Server, String) {
    let server = Launch::default().argument("--demo").start().await;
    server.imagehub("user add carol").await;
    let token = server.imagehub("token carol").await.trim().to_owned();
    (server, token)
}

/// Has schemathesis test the contract that `arguments` name, as `token`'s user, or as nobody.
async fn tested(schemathesis: &Schemathesis, arguments: &[&str], token: Option<&str>) {
    let examples = number("IMAGEHUB_SCHEMATHESIS_EXAMPLES", EXAMPLES);
    let seed = number("IMAGEHUB_SCHEMATHESIS_SEED", SEED);
    let mut all = arguments.to_vec();
    all.extend(["--max-examples", examples.as_str(), "--seed", seed.as_str()]);
    schemathesis.finds_nothing(&all, token).await;
}

#[tokio::test]
async fn schemathesis_finds_nothing_in_the_rest_door() {
    let Some(schemathesis) = Schemathesis::find() else { return };
    let (server, token) = served().await;
    let base = format!("http://{}/api/v1", server.http_address());
    tested(&schemathesis, &["imagehub.json", "--url", &base], Some(&token)).await;
    tested(&schemathesis, &["imagehub.json", "--url", &base, "--phases", "examples,coverage"], None).await;
    assert!(!server.log().contains("\"level\":\"ERROR\""), "the server logged an error: {}", server.log());
}

#[tokio::test]
async fn schemathesis_finds_nothing_in_the_graphql_door() {
    let Some(schemathesis) = Schemathesis::find() else { return };
    let (server, token) = served().await;
    let url = format!("http://{}/graphql", server.http_address());
    tested(&schemathesis, &[url.as_str()], Some(&token)).await;
    tested(&schemathesis, &[url.as_str()], None).await;
    assert!(!server.log().contains("\"level\":\"ERROR\""), "the server logged an error: {}", server.log());
}

#[tokio::test]
async fn spectral_finds_nothing_in_the_document() {
    let Some(scripts) = Scripts::find() else { return };
    assert_eq!(scripts.run(&["spectral.mjs", "imagehub.json"]).await, "0 errors, 0 warnings\n");
}

#[tokio::test]
async fn typed_clients_of_both_contracts_compile_and_work() {
    let Some(scripts) = Scripts::find() else { return };
    let types = ["node_modules/openapi-typescript/bin/cli.js", "imagehub.json", "--output", "imagehub.d.ts"];
    scripts.run(&types).await;
    scripts.run(&["node_modules/gql.tada/bin/cli.js", "generate-output"]).await;
    // Each field of each document is one of the schema's.
    scripts.run(&["node_modules/gql.tada/bin/cli.js", "check", "--fail-on-warn"]).await;
    scripts.run(&["node_modules/typescript/bin/tsc", "--project", "tsconfig.json"]).await;
    let (server, token) = served().await;
    let address = server.http_address();
    let base = format!("http://{address}/api/v1");
    assert_eq!(scripts.run(&["built/typed-rest.js", &base, &token]).await, "rest\n");
    let url = format!("http://{address}/graphql");
    assert_eq!(scripts.run(&["built/typed-graphql.js", &url, &token]).await, "graphql\n");
}
