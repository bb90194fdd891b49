//! Requests and answers that are sent and taken slowly, or not at all.

use std::io::Write as _;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::Method;
use imagehub::gateway::BODY_LIMIT;
use imagehub::server::{ANSWERS, BODIES, WRITES};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{NOTHING, Others};
use crate::abuse::Victim;
use crate::harness::{Client, Connection, within};

const MIB: usize = 1024 * 1024;
/// The paths that take bodies, with the token of somebody who may write.
const TAKE: [&str; 3] = ["/graphql", "/api/v1/images", "/api/v1/resolve"];

async fn token(victim: &Victim) -> String {
    victim.server.imagehub("user add carol").await;
    let token = victim.server.imagehub("token carol").await;
    format!("Bearer {}", token.trim())
}

fn head(path: &str, token: &str, length: usize) -> String {
    let headers = format!("Authorization: {token}\r\nContent-Type: application/json\r\nContent-Length: {length}");
    format!("POST {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n\r\n")
}

/// Opens a connection and sends this over it.
async fn begin(client: &Client, bytes: &[u8]) -> Box<dyn Connection> {
    let mut connection = within("a connection", client.raw()).await.expect("a connection");
    within("what is sent", connection.write_all(bytes)).await.expect("it is sent");
    connection.flush().await.expect("it is sent");
    connection
}

/// The status code of the answer that comes over a connection, and all of it.
async fn answered(connection: &mut Box<dyn Connection>) -> (u16, String) {
    let mut answer = String::new();
    let read = async {
        loop {
            let mut piece = [0; 4096];
            let length = connection.read(&mut piece).await.expect("an answer");
            assert_ne!(length, 0, "it ended: {answer}");
            answer.push_str(std::str::from_utf8(&piece[..length]).expect("it is text"));
            let Some((head, body)) = answer.split_once("\r\n\r\n") else { continue };
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if length.and_then(|length| length.parse().ok()) == Some(body.len()) {
                return answer;
            }
        }
    };
    let answer = within("an answer", read).await;
    let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    (code, answer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_come_slowly_take_nobodys_turn() {
    /// More than are worked on at a time, at each path.
    const SLOW: usize = WRITES + 50;
    let victim = Victim::start().await;
    let token = token(&victim).await;
    let client = victim.server.http();
    let mut others = Others::begin(&victim);
    let mut open = Vec::new();
    for path in TAKE {
        for _ in 0..SLOW {
            open.push(begin(&client, format!("{}{{", head(path, &token, 1000)).as_bytes()).await);
        }
    }
    others.go_on(50).await;
    // A byte each: it is still no turn.
    for connection in &mut open {
        connection.write_all(b" ").await.expect("it is taken");
    }
    others.go_on(50).await;
    drop(open);
    others.end(&victim, NOTHING).await;
    victim.is_as_before().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_bodies_that_stop_before_their_end_are_given_up_where_they_become_too_much() {
    /// What all bodies take together, and half as much again.
    const HALVES: usize = 3;
    /// How much more memory the server may have, in MiB: what bodies may take together, in pieces that are as long as the
    /// network makes them.
    const ALLOWED: u64 = NOTHING + (BODIES / MIB) as u64;
    let victim = Victim::start().await;
    let token = token(&victim).await;
    let client = victim.server.http();
    let mut others = Others::begin(&victim);
    let piece = vec![b' '; BODY_LIMIT - 1];
    let count = BODIES / BODY_LIMIT * HALVES / 2;
    let mut open = Vec::new();
    for i in 0..count {
        let path = TAKE[i % TAKE.len()];
        open.push(begin(&client, &[head(path, &token, BODY_LIMIT).as_bytes(), &piece].concat()).await);
    }
    others.go_on(20).await;
    // The first was given up for those that came after it.
    let (code, answer) = answered(&mut open[0]).await;
    assert_eq!(code, 429, "{answer}");
    assert!(answer.contains("(limit: bodies)") && answer.contains("retry-after: "), "{answer}");
    // The last is still waited for.
    let last = open.last_mut().expect("there are some");
    last.write_all(b" ").await.expect("it is taken");
    let (code, answer) = answered(last).await;
    assert_eq!(code, 400, "{answer}");
    others.go_on(20).await;
    drop(open);
    others.end(&victim, ALLOWED).await;
    victim.is_as_before().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_that_come_slowly_hold_nobody_up() {
    const CONNECTIONS: usize = 1000;
    /// What a connection reads ahead of its headers at most, in KiB, twice: the buffer grows.
    const READ_AHEAD: u64 = 2 * 64;
    const ALLOWED: u64 = NOTHING + CONNECTIONS as u64 * READ_AHEAD / 1024;
    let victim = Victim::start().await;
    let client = victim.server.http();
    let mut others = Others::begin(&victim);
    let long = format!("POST /graphql HTTP/1.1\r\nHost: x\r\nX-Long: {}", "x".repeat(60_000));
    let mut open = Vec::new();
    for i in 0..CONNECTIONS {
        let end = if i % 2 == 0 { long.len() } else { i % 50 };
        open.push(begin(&client, &long.as_bytes()[..end]).await);
    }
    others.go_on(50).await;
    drop(open);
    others.end(&victim, ALLOWED).await;
    victim.is_as_before().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_over_their_limit_and_compressed_ones_are_refused() {
    let victim = Victim::start().await;
    let token = token(&victim).await;
    // A client of its own each time: its library may keep a connection whose answer came before all was sent.
    let client = || victim.server.http().with_header("authorization", &token);
    let others = Others::begin(&victim);
    // 160 MiB of spaces, were it unpacked.
    let mut bomb = GzEncoder::new(Vec::new(), Compression::fast());
    for _ in 0..8 {
        bomb.write_all(&vec![b' '; MIB]).expect("a Vec takes all");
    }
    let bomb = bomb.finish().expect("a Vec takes all").repeat(20);
    let json = ("content-type", "application/json");
    for path in TAKE {
        for coding in ["gzip", "deflate", "br", "zstd", "gzip, gzip"] {
            let headers = [json, ("content-encoding", coding)];
            let answer = client().request(Method::POST, path, &headers, bomb.clone().into()).await;
            assert_eq!(answer.status, 415, "{path} {coding}: {answer}");
            assert!(answer.text().contains("Content-Encoding"), "{answer}");
        }
        let answer = client().request(Method::POST, path, &[json], Bytes::from(vec![b' '; BODY_LIMIT + 1])).await;
        assert!(answer.status == 413 && answer.text().contains("(limit: body)"), "{path}: {answer}");
    }
    // What is announced is refused before it is sent.
    for path in TAKE {
        let mut connection = begin(&victim.server.http(), head(path, &token, 100 * MIB).as_bytes()).await;
        let (code, answer) = answered(&mut connection).await;
        assert!(code == 413, "{path}: {answer}");
    }
    // Many small things in a body that isn't large.
    let many = |media: &'static str, body: String| {
        let client = client();
        async move { client.request(Method::POST, "/api/v1/images", &[("content-type", media)], body.into()).await }
    };
    for (media, body) in [
        ("application/json", format!("[{}{{}}]", "{},".repeat(100_000))),
        ("application/x-ndjson", "{}\n".repeat(MIB - 1)),
        ("application/yaml", "a\n---\n".repeat(MIB / 2 - 1)),
    ] {
        let answer = many(media, body).await;
        assert!((400..500).contains(&answer.status), "{media}: {answer}");
        assert!(answer.text().contains("(limit: images)"), "{media}: {answer}");
    }
    others.end(&victim, NOTHING).await;
    victim.is_as_before().await;
}

/// An image with a documentation of this length.
async fn documented(victim: &Victim, count: usize, size: usize) {
    let docs: String = (0..size).map(|i| char::from(b'a' + u8::try_from(i % 26).expect("a letter"))).collect();
    for i in 0..count {
        let manifest = crate::harness::image(&format!("large/text:v{i}"), json!({ "docs": docs }));
        victim.admin.post(&crate::harness::path("images", ""), &manifest).await.expect(201);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_nobody_takes_are_not_kept_for_them() {
    const READERS: usize = 150;
    /// How much documentation there is, in MiB: less than an answer's limit, more than is kept of answers.
    const DOCS: usize = 6;
    let mut victim = Victim::start().await;
    documented(&victim, 30, DOCS * MIB / 30).await;
    victim.before = super::super::state(&victim.admin).await;
    let mut others = Others::begin(&victim);
    let client = victim.server.http();
    let mut open = Vec::new();
    for i in 0..READERS {
        let query = format!("{{ a{i}: images(first: 100) {{ nodes {{ docs }} }} }}");
        let body = json!({ "query": query }).to_string();
        let request = format!(
            "POST /graphql HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        open.push(begin(&client, request.as_bytes()).await);
    }
    // Each has begun to be answered, or has been refused.
    let mut codes = Vec::new();
    for connection in &mut open {
        let mut first = [0; 12];
        within("the beginning of an answer", connection.read_exact(&mut first)).await.expect("an answer");
        codes.push(String::from_utf8_lossy(&first[9..]).into_owned());
    }
    let taken = codes.iter().filter(|code| *code == "200").count();
    println!("{taken} of {READERS} are answered");
    assert!(codes.iter().all(|code| matches!(code.as_str(), "200" | "503")), "{codes:?}");
    others.go_on(20).await;
    drop(open);
    others.end(&victim, NOTHING + (ANSWERS / MIB) as u64).await;
    victim.is_as_before().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_nobody_reads_cost_little() {
    const STREAMS: usize = 300;
    let mut victim = Victim::start().await;
    documented(&victim, 10, 200_000).await;
    victim.before = super::super::state(&victim.admin).await;
    let mut others = Others::begin(&victim);
    let client = victim.server.http();
    let query = json!({ "query": "subscription { images(initial: true) { kind node { name docs } } }" }).to_string();
    let subscribe = format!(
        "POST /graphql HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{query}",
        query.len()
    );
    let follow = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n");
    let requests = [
        subscribe,
        follow("/api/v1/events?since=1"),
        follow("/api/v1/images/large/text/v0"),
        follow("/api/v1/images?limit=100"),
    ];
    let mut open = Vec::new();
    for i in 0..STREAMS {
        open.push(begin(&client, requests[i % requests.len()].as_bytes()).await);
    }
    for connection in &mut open {
        let mut first = [0; 12];
        within("the beginning of a stream", connection.read_exact(&mut first)).await.expect("an answer");
        assert_eq!(&first[9..], b"200");
    }
    for i in 0..40 {
        let patch = json!({ "metadata": { "annotations": { "round": i.to_string() } } });
        let place = crate::harness::path("images", &format!("large.text.v{}", i % 10));
        victim.admin.patch(&place, crate::harness::MERGE_PATCH, &patch).await.expect(200);
    }
    others.go_on(20).await;
    drop(open);
    others.end(&victim, NOTHING).await;
    victim.before = super::super::state(&victim.admin).await;
    victim.is_as_before().await;
}
