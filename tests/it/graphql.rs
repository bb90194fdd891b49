//! The GraphQL door of the whole program: the public audits of graphql-http, the clients of graphql-ws and graphql-sse,
//! and the schema that is committed. The packages are those of `tests/gateway/package.json`; where they are not
//! installed (`npm ci --prefix tests/gateway`) the tests that need them say so and end.

use std::path::{Path, PathBuf};

use tokio::process::Command;

use crate::harness::Server;
use crate::harness::run;

fn gateway() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gateway");
    if folder.join("node_modules").is_dir() {
        return Some(folder);
    }
    eprintln!("skipped: no node_modules in {}", folder.display());
    None
}

/// What a script prints; it has to succeed.
async fn node(folder: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("node");
    command.args(arguments).current_dir(folder).kill_on_drop(true);
    let output = command.output().await.unwrap_or_else(|error| panic!("node: {error}"));
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {printed}{said}");
    printed
}

#[tokio::test]
async fn the_audits_of_graphql_http_pass() {
    let Some(folder) = gateway() else { return };
    let server = Server::start().await;
    let url = format!("http://{}/graphql", server.http_address());
    let printed = node(&folder, &["audit.mjs", &url]).await;
    assert!(printed.ends_with("61 of 61\n"), "{printed}");
}

#[tokio::test]
async fn the_clients_of_graphql_ws_and_graphql_sse_follow_and_go_on() {
    let Some(folder) = gateway() else { return };
    let server = Server::start().await;
    server.imagehub("user add carol").await;
    let token = server.imagehub("token carol").await;
    let address = server.http_address();
    let (http, ws) = (format!("http://{address}/graphql"), format!("ws://{address}/graphql"));
    let printed = node(&folder, &["clients.mjs", &http, &ws, token.trim()]).await;
    assert_eq!(printed, "codes\nws\nsse\n");
}

#[tokio::test]
async fn the_schema_that_is_committed_is_the_programs() {
    let dir = tempfile::tempdir().expect("a directory");
    let ended = run(dir.path(), &["graphql-schema"], &[], "").await;
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema/imagehub.graphql");
    let committed = std::fs::read_to_string(&committed).unwrap_or_default();
    assert!(ended.ok() == committed, "schema/imagehub.graphql is not as generated: make openapi");
}
