//! The GraphQL door of the whole program: the public audits of graphql-http, the clients of graphql-ws and graphql-sse,
//! and the schema that is committed.

use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{Launch, Scripts, Server, run};

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
        assert!(follower.succeeded().await, "{sort}");
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
