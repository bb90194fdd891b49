//! The GraphQL door of the whole program: the public audits of graphql-http, the clients of graphql-ws and graphql-sse,
//! and the schema that is committed. The packages are those that `tests/gateway/install` puts into the folder that
//! `IMAGEHUB_GATEWAY_CLIENTS` names; `make test` sets it, and without it the tests that need them say so and end.

use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::harness::{Launch, Server, path_from, run, within};

/// The scripts beside the packages.
struct Scripts(TempDir);

impl Scripts {
    fn find() -> Option<Self> {
        let Some(folder) = path_from("IMAGEHUB_GATEWAY_CLIENTS") else {
            eprintln!("skipped: IMAGEHUB_GATEWAY_CLIENTS is not set; make test sets it");
            return None;
        };
        let packages = folder.join("node_modules");
        assert!(packages.is_dir(), "there is no {}: run tests/gateway/install", packages.display());
        let dir = tempfile::tempdir().expect("a directory");
        std::os::unix::fs::symlink(packages, dir.path().join("node_modules")).expect("a link");
        for file in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gateway")).expect("it is there")
        {
            let file = file.expect("it can be listed").path();
            if file.extension().is_some_and(|extension| extension == "mjs") {
                std::fs::copy(&file, dir.path().join(file.file_name().expect("a file's name"))).expect("a copy");
            }
        }
        Some(Self(dir))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("node");
        command.args(arguments).current_dir(self.0.path()).kill_on_drop(true);
        command
    }

    /// What a script prints; it has to succeed.
    async fn run(&self, arguments: &[&str]) -> String {
        let done = within(arguments[0], self.command(arguments).output()).await;
        let output = done.unwrap_or_else(|error| panic!("node: {error}"));
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {printed}{said}");
        printed
    }

    fn follow(&self, arguments: &[&str]) -> Follower {
        let mut child = self.command(arguments).stdout(Stdio::piped()).spawn().expect("node runs");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        Follower { child, lines }
    }
}

/// A client that goes on over restarts.
struct Follower {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Follower {
    async fn line(&mut self) -> Option<String> {
        within("what a client is told", self.lines.next_line()).await.expect("it prints text")
    }
}

async fn token(server: &Server) -> String {
    server.imagehub("user add carol").await;
    server.imagehub("token carol").await.trim().to_owned()
}

/// Writes an image by GraphQL.
async fn publish(server: &Server, token: &str, image: &str) {
    let query =
        "mutation($name: ImageName!, $text: String!) { applyImages(images: [{ name: $name, description: $text }])
        { results { outcome userErrors { message } } } }";
    let body = json!({ "query": query, "variables": { "name": image, "text": image } });
    let client = server.http().with_header("authorization", &format!("Bearer {token}"));
    let answer: Value = client.post("/graphql", &body).await.ok();
    assert_eq!(answer["data"]["applyImages"]["results"][0]["outcome"], "CREATED", "{answer}");
}

#[tokio::test]
async fn the_audits_of_graphql_http_pass() {
    let Some(scripts) = Scripts::find() else { return };
    let server = Server::start().await;
    let url = format!("http://{}/graphql", server.http_address());
    let printed = scripts.run(&["audit.mjs", &url]).await;
    assert!(printed.ends_with("61 of 61\n"), "{printed}");
}

#[tokio::test]
async fn the_clients_of_graphql_ws_and_graphql_sse_follow_and_go_on() {
    let Some(scripts) = Scripts::find() else { return };
    let server = Server::start().await;
    let token = token(&server).await;
    let address = server.http_address();
    let (http, ws) = (format!("http://{address}/graphql"), format!("ws://{address}/graphql"));
    let printed = scripts.run(&["clients.mjs", &http, &ws, &token]).await;
    assert_eq!(printed, "ws\nsse\ncodes\n");
}

#[tokio::test]
async fn subscriptions_go_on_over_a_restart_with_nothing_missed_or_doubled() {
    let Some(scripts) = Scripts::find() else { return };
    let mut server = Launch::default().reserved_ports().start().await;
    let token = token(&server).await;
    let address = server.http_address();
    let mut followers = Vec::new();
    for (sort, url) in [("ws", format!("ws://{address}/graphql")), ("sse", format!("http://{address}/graphql"))] {
        let mut follower = scripts.follow(&["follow.mjs", sort, &url, &token]);
        assert_eq!(follower.line().await.as_deref(), Some("ready"), "{sort}");
        followers.push((sort, follower));
    }
    let mut told = Vec::new();
    for round in ["a", "b", "c"] {
        for number in 0..4 {
            let name = format!("follow/{round}:{number}");
            publish(&server, &token, &name).await;
            told.push(format!("Image:{name}"));
        }
        match round {
            "a" => server.restart().await,
            // One that has no time to say how far it has come.
            "b" => {
                server.kill9().await;
                server.start_again().await;
            }
            _ => {}
        }
    }
    publish(&server, &token, "follow/c:end").await;
    told.push("Image:follow/c:end".to_owned());
    for (sort, mut follower) in followers {
        let mut lines = Vec::new();
        while let Some(line) = follower.line().await {
            // It says so again where it had to begin anew.
            if line != "ready" {
                lines.push(line);
            }
        }
        assert!(within("the end of a client", follower.child.wait()).await.expect("it ends").success(), "{sort}");
        // What was there where it began anew came in the order of names.
        lines.sort();
        let mut wanted = told.clone();
        wanted.sort();
        assert_eq!(lines, wanted, "{sort}");
    }
}

#[tokio::test]
async fn the_schema_that_is_committed_is_the_programs() {
    let dir = tempfile::tempdir().expect("a directory");
    let ended = run(dir.path(), &["graphql-schema"], &[], "").await;
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema/imagehub.graphql");
    let committed = std::fs::read_to_string(&committed).unwrap_or_default();
    assert!(ended.ok() == committed, "schema/imagehub.graphql is not as generated: make openapi");
}
