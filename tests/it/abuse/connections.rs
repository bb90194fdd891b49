//! Connections that are not used as they should be.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Victim, lines};
use crate::harness::{Client, Connection, DEADLINE, image, path, within};

const IMAGES: &str = "/apis/imagehub.sealos.io/v1/images";
/// Idle connections; `IMAGEHUB_ABUSE_CONNECTIONS` is the number for a larger round.
const IDLE: u64 = 5_000;
/// How long nothing has to come until it is believed that nothing will. Nothing depends on it but the time
/// that the tests take.
const SILENCE: Duration = Duration::from_millis(300);

/// Sends bytes and, at the same time, reads what comes, until the other side closes or is silent: one that
/// expects more closes only after minutes. A refusal to take all of them is no failure.
async fn exchange(client: &Client, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let (mut reading, mut writing) = tokio::io::split(client.raw().await?);
    let write = async {
        let _ = writing.write_all(bytes).await;
        let _ = writing.flush().await;
    };
    tokio::pin!(write);
    let (mut answer, mut piece, mut sent, mut silences) = (Vec::new(), vec![0; 16 * 1024], false, 0);
    while silences < if sent { 1 } else { 10 } {
        tokio::select! {
            () = &mut write, if !sent => sent = true,
            read = tokio::time::timeout(SILENCE, reading.read(&mut piece)) => match read {
                Ok(Ok(length)) if length > 0 => answer.extend_from_slice(&piece[..length]),
                Err(_) => silences += 1,
                // An error is as good an end as any.
                Ok(_) => break,
            },
        }
    }
    Ok(answer)
}

/// The status code of an HTTP/1 answer, or `None` where there is none.
fn code(answer: &[u8]) -> Option<u16> {
    let line = answer.strip_prefix(b"HTTP/1.1 ").or_else(|| answer.strip_prefix(b"HTTP/1.0 "))?;
    std::str::from_utf8(line.get(..3)?).ok()?.parse().ok()
}

/// A 4xx, or a connection that was closed without a word.
fn is_refusal(answer: &[u8]) -> bool {
    answer.is_empty() || code(answer).is_some_and(|code| (400..500).contains(&code))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_http_is_refused() {
    let victim = Victim::start().await;
    let mut rng = StdRng::seed_from_u64(7);
    let noise: Vec<u8> = (0..100_000).map(|_| rng.random()).collect();
    let head = format!("GET {IMAGES} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n");
    let mut all: Vec<(&str, Vec<u8>)> = vec![
        ("noise", noise),
        ("a line that doesn't end", vec![b'G'; 200_000]),
        ("a path that doesn't end", [b"GET /".as_slice(), &[b'x'; 200_000]].concat()),
        ("a header that doesn't end", [head.as_bytes(), b"X: ", &[b'x'; 200_000]].concat()),
        ("a path of 70,000 bytes", format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(70_000)).into_bytes()),
        ("HTTP/9", format!("GET {IMAGES} HTTP/9.9\r\nHost: x\r\n\r\n").into_bytes()),
        ("a header without a name", format!("{head}: x\r\n\r\n").into_bytes()),
        ("a NUL in a header", format!("{head}X: a\0b\r\n\r\n").into_bytes()),
        ("a NUL in the path", b"GET /a\0b HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ("two lengths", format!("{head}Content-Length: 1\r\nContent-Length: 2\r\n\r\nab").into_bytes()),
        ("a negative length", format!("{head}Content-Length: -1\r\n\r\n").into_bytes()),
        ("a length beyond all", format!("{head}Content-Length: 99999999999999999999999\r\n\r\n").into_bytes()),
        ("bad chunks", format!("POST {IMAGES} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n").into_bytes()),
        ("a chunk beyond all", format!("POST {IMAGES} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n").into_bytes()),
        ("unknown coding", format!("POST {IMAGES} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: rot13\r\n\r\n").into_bytes()),
    ];
    let flood = lines(50_000, |i| format!("X-{i}: y\r\n"));
    all.push(("50,000 headers", format!("{head}{flood}\r\n").into_bytes()));
    let flood = "Accept: application/json;as=Table\r\n".repeat(300);
    all.push(("300 headers of one name", format!("{head}{flood}\r\n").into_bytes()));
    for (client, door) in [(victim.admin.clone(), "kube"), (victim.server.http(), "gateway")] {
        for (what, bytes) in &all {
            let answer = exchange(&client, bytes).await.unwrap_or_else(|e| panic!("{door}: {what}: {e}"));
            assert!(is_refusal(&answer), "{door}: {what}: {:?}", String::from_utf8_lossy(&answer));
        }
    }
    // Plain HTTP where TLS is spoken, TLS where it isn't, and half a handshake.
    let plain = Client::plain(&victim.server.kube_address());
    let answer = exchange(&plain, format!("{head}\r\n").as_bytes()).await.expect("it connects");
    assert!(code(&answer).is_none_or(|code| code == 400), "{answer:?}");
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    for client in [&plain, &victim.server.http()] {
        let answer = exchange(client, hello).await.expect("it connects");
        assert!(code(&answer).is_none_or(|code| code == 400), "{answer:?}");
    }
    victim.is_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_of_100_mb_are_refused_and_not_kept() {
    const PIECE: usize = 64 * 1024;
    const PIECES: usize = 100 * 1024 * 1024 / PIECE;
    let victim = Victim::start().await;
    let piece = vec![b' '; PIECE];
    let chunk = [format!("{PIECE:x}\r\n").as_bytes(), &piece, b"\r\n"].concat();
    let announced = format!("Content-Length: {}", PIECE * PIECES);
    let cases = [
        (victim.admin.clone(), &*announced, &piece, 413),
        (victim.admin.clone(), "Transfer-Encoding: chunked", &chunk, 413),
        (victim.server.anonymous(), &*announced, &piece, 403),
        (victim.server.anonymous(), "Transfer-Encoding: chunked", &chunk, 403),
    ];
    for (client, header, piece, expected) in cases {
        let mut connections = Vec::new();
        for _ in 0..4 {
            connections.push(client.raw().await.expect("a connection"));
        }
        let answers = connections.into_iter().map(|connection| async move {
            let (mut reading, mut writing) = tokio::io::split(connection);
            let head =
                format!("POST {IMAGES} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{header}\r\n\r\n");
            let write = async {
                writing.write_all(head.as_bytes()).await?;
                for _ in 0..PIECES {
                    writing.write_all(piece).await?;
                }
                writing.flush().await
            };
            let read = async {
                let mut answer = vec![0; 12];
                reading.read_exact(&mut answer).await.map(|_| answer)
            };
            // Whether all of it is taken is the server's affair; that there is an answer is not.
            let answer = tokio::select! {
                answer = read => answer,
                error = async { let _ = write.await; std::future::pending().await } => error,
            };
            answer
        });
        let answers = within("the answers to bodies of 100 MB", futures::future::join_all(answers)).await;
        for answer in answers {
            let answer = answer.unwrap_or_else(|e| panic!("{header}: no answer: {e}"));
            assert_eq!(code(&answer), Some(expected), "{header}: {:?}", String::from_utf8_lossy(&answer));
        }
    }
    // A body that is sent whole before anybody reads: the refusal arrives all the same.
    let large = vec![b' '; 8 * 1024 * 1024];
    let headers = [("content-type", "application/json")];
    // By a client of its own: its library may keep a connection for ever whose answer came before all was sent.
    let client = victim.server.admin();
    let answer = client.request(Method::POST, &path("images", ""), &headers, large.into()).await;
    answer.refused(413, "RequestEntityTooLarge");
    victim.is_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_stop_half_way_hold_nobody_up() {
    let victim = Victim::start().await;
    let body = image("acme/half:v1", json!({})).to_string();
    let whole = format!(
        "POST {IMAGES} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len() + 1
    );
    let mut open: Vec<Box<dyn Connection>> = Vec::new();
    for end in (1..=whole.len()).step_by(9) {
        for keep in [true, false] {
            let mut connection = victim.admin.raw().await.expect("a connection");
            connection.write_all(&whole.as_bytes()[..end]).await.expect("it is sent");
            connection.flush().await.expect("it is sent");
            if keep {
                open.push(connection);
            }
        }
    }
    // All that are open wait for the rest; others are served.
    victim.is_well().await;
    drop(open);
    in_flight_is(&victim, 1).await;
    victim.is_well().await;
}

/// Waits until so many requests are being answered, the one that asks included.
async fn in_flight_is(victim: &Victim, wanted: u64) {
    let settled = async {
        while victim.server.metric("imagehub_requests_in_flight").await != wanted {
            tokio::task::yield_now().await;
        }
    };
    within(&format!("requests in flight to be {wanted}"), settled).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_that_are_dropped_leave_nothing_behind() {
    let victim = Victim::start().await;
    for _ in 0..5 {
        let mut watches = Vec::new();
        for kind in ["images", "repositories", "organizations", "datapacks"] {
            for _ in 0..15 {
                watches.push(victim.admin.watch(&path(kind, "")).await);
            }
        }
        in_flight_is(&victim, 61).await;
        drop(watches);
        in_flight_is(&victim, 1).await;
    }
    victim.is_well().await;
}

/// Makes images whose lists are long: `count` of `size` bytes.
async fn long_list(client: &Client, count: usize, size: usize) {
    let docs: String = (0..size).map(|i| char::from(b'a' + u8::try_from(i % 26).expect("a letter"))).collect();
    for i in 0..count {
        client
            .post(&path("images", ""), &image(&format!("large/text:v{i}"), json!({ "docs": docs })))
            .await
            .expect(201);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_that_do_not_read_cost_little() {
    const READERS: usize = 150;
    let mut victim = Victim::start().await;
    long_list(&victim.admin, 30, 200_000).await;
    victim.before = super::state(&victim.admin).await;
    let before = victim.server.memory();
    let mut open = Vec::new();
    for query in ["", "?watch=1"] {
        for _ in 0..READERS {
            let mut connection = victim.admin.raw().await.expect("a connection");
            let request = format!("GET {IMAGES}{query} HTTP/1.1\r\nHost: x\r\n\r\n");
            connection.write_all(request.as_bytes()).await.expect("it is sent");
            connection.flush().await.expect("it is sent");
            open.push(connection);
        }
    }
    // Each has begun to be answered: what comes now goes to all of the watches.
    for connection in &mut open {
        let mut first = [0; 12];
        within("the beginning of an answer", connection.read_exact(&mut first)).await.expect("an answer");
        assert_eq!(code(&first), Some(200));
    }
    for i in 0..60 {
        let patch = json!({ "metadata": { "annotations": { "round": i.to_string() } } });
        let place = path("images", &format!("large.text.v{}", i % 30));
        victim.admin.patch(&place, crate::harness::MERGE_PATCH, &patch).await.expect(200);
    }
    if let (Some(before), Some(now)) = (before, victim.server.memory()) {
        // 150 lists of 6 MB and 150 watches of 18 MB: 3.6 GB if they were kept for their readers.
        println!("memory: {before} MiB without slow readers, {now} MiB with");
        assert!(now < before + 2 * super::MEMORY, "{before} MiB without slow readers, {now} MiB with them");
    }
    drop(open);
    in_flight_is(&victim, 1).await;
    for image in 0..30 {
        let patch = json!({ "metadata": { "annotations": null } });
        let place = path("images", &format!("large.text.v{image}"));
        victim.admin.patch(&place, crate::harness::MERGE_PATCH, &patch).await.expect(200);
    }
    assert!(!victim.server.log().contains("panicked"));
}

/// How many connections to open: so many, or what the environment says, as far as this process may have open files.
pub fn wanted(idle: u64) -> u64 {
    let wanted: u64 = match std::env::var("IMAGEHUB_ABUSE_CONNECTIONS") {
        Ok(number) => number.parse().unwrap_or_else(|e| panic!("IMAGEHUB_ABUSE_CONNECTIONS={number:?}: {e}")),
        Err(_) => idle,
    };
    let limit = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let files = if raised.is_ok() { limit.maximum } else { limit.current };
    // The server may have as many, and has some open.
    wanted.min(files.unwrap_or(u64::MAX).saturating_sub(100))
}

/// Opens so many connections, over which nothing is said, to the addresses that `to` tells.
pub async fn connections(wanted: u64, to: impl Fn(u64) -> String) -> Vec<TcpStream> {
    println!("{wanted} connections");
    let mut open = Vec::new();
    for i in 0..wanted {
        open.push(within("a connection", TcpStream::connect(to(i))).await.expect("a connection"));
    }
    open
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_idle_connections_hold_nobody_up() {
    let victim = Victim::start().await;
    let wanted = wanted(IDLE);
    let (kube, gateway) = (victim.server.kube_address(), victim.server.http_address());
    let open = connections(wanted, |i| if i % 2 == 0 { kube.clone() } else { gateway.clone() }).await;
    victim.is_well().await;
    drop(open);
    victim.is_well().await;
}

// HTTP/2, by hand: no client would send this.

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a frame is short").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The header block of a GET, without a table.
fn get(place: &str) -> Vec<u8> {
    let length = u8::try_from(place.len()).expect("a short path");
    let mut block = vec![0x82, 0x87, 0x04, length];
    block.extend_from_slice(place.as_bytes());
    block.extend_from_slice(b"\x01\x01x");
    block
}

fn opened() -> Vec<u8> {
    [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()
}

/// Frames on streams 1, 3, 5 and so on.
fn streams(count: u32, of: impl Fn(u32) -> Vec<u8>) -> Vec<u8> {
    let frames: Vec<u8> = (0..count).flat_map(|i| of(i * 2 + 1)).collect();
    [opened(), frames].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http2_out_of_order_is_refused() {
    let victim = Victim::start().await;
    let mut rng = StdRng::seed_from_u64(9);
    let noise: Vec<u8> = (0..50_000).map(|_| rng.random()).collect();
    let list = get(IMAGES);
    let whole = END_STREAM | END_HEADERS;
    let watch = get("/apis/imagehub.sealos.io/v1/images?watch=1");
    let endless: Vec<u8> = (0..5_000).flat_map(|_| frame(CONTINUATION, 0, 1, &[0x40; 1000])).collect();
    // One entry of the table, and then many references to it.
    let bomb = [vec![0x40, 0x01, b'x', 0x7f, 0x81, 0x1e], vec![b'y'; 4000], vec![0xbe; 12_000]].concat();
    let stalled = [PREFACE, &frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0])].concat();
    let zero_window: Vec<u8> = (0..200).flat_map(|i| frame(HEADERS, whole, i * 2 + 1, &list)).collect();
    let attacks: Vec<(&str, Vec<u8>)> = vec![
        ("noise after the preface", [PREFACE, &noise].concat()),
        ("noise after the settings", [opened(), noise].concat()),
        ("half a preface", PREFACE[..20].to_vec()),
        ("a frame of 16 MB", [opened(), vec![0xff, 0xff, 0xff, DATA, 0, 0, 0, 0, 1]].concat()),
        ("a stream of an even number", [opened(), frame(HEADERS, whole, 2, &list)].concat()),
        ("data on no stream", [opened(), frame(DATA, 0, 7, b"x")].concat()),
        ("an endless header block", [opened(), frame(HEADERS, 0, 1, &list), endless].concat()),
        ("a header block that grows", [opened(), frame(HEADERS, whole, 1, &bomb)].concat()),
        (
            "streams reset at once",
            streams(20_000, |id| [frame(HEADERS, whole, id, &list), frame(RST_STREAM, 0, id, &[0, 0, 0, 8])].concat()),
        ),
        (
            "watches reset at once",
            streams(5_000, |id| [frame(HEADERS, whole, id, &watch), frame(RST_STREAM, 0, id, &[0, 0, 0, 8])].concat()),
        ),
        ("too many streams", streams(3_000, |id| frame(HEADERS, whole, id, &watch))),
        ("streams with bodies that don't come", streams(240, |id| frame(HEADERS, END_HEADERS, id, &list))),
        ("settings again and again", [opened(), frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 1]).repeat(20_000)].concat()),
        ("pings again and again", [opened(), frame(PING, 0, 0, &[0; 8]).repeat(20_000)].concat()),
        (
            "empty data again and again",
            [opened(), frame(HEADERS, END_HEADERS, 1, &list), frame(DATA, 0, 1, b"").repeat(20_000)].concat(),
        ),
        ("a window beyond all", [opened(), frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]).repeat(3)].concat()),
        ("no window for the answers", [stalled, zero_window].concat()),
    ];
    for (what, bytes) in &attacks {
        for client in [victim.admin.clone(), victim.server.http()] {
            let attack = exchange(&client, bytes);
            let ended = tokio::time::timeout(DEADLINE, attack).await;
            ended.unwrap_or_else(|_| panic!("{what}: still going on")).unwrap_or_else(|e| panic!("{what}: {e}"));
        }
        victim.server.anonymous().get("/version").await.expect(200);
    }
    in_flight_is(&victim, 1).await;
    victim.is_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_tells_its_length() {
    let victim = Victim::start().await;
    let answer = victim.admin.request(Method::GET, &path("images", "acme.anvil.v1"), &[], Bytes::new()).await;
    let length = answer.headers.get("content-length").and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok());
    assert_eq!(length, Some(answer.body.len()), "{answer}");
}
