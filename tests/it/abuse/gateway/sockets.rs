//! Many connections, and connections over which much is asked.

use imagehub::graphql::{LARGEST_MESSAGE, OPERATIONS};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{NOTHING, Others, repeated};
use crate::abuse::Victim;
use crate::abuse::connections::{connections, wanted};
use crate::harness::within;

/// Idle connections; `IMAGEHUB_ABUSE_CONNECTIONS` is the number for a larger round.
const IDLE: u64 = 10_000;
/// How many of them are asked to become `WebSockets`.
const IDLE_SOCKETS: usize = 2000;
/// What an idle connection takes at most, in KiB: what the library reads ahead, and its tasks.
const A_CONNECTION: u64 = 32;

/// A `WebSocket`, by hand: clients would not do what is done here.
struct Socket(TcpStream);

impl Socket {
    /// Opens one, without a word of the protocol.
    async fn open(address: &str) -> Self {
        let mut stream = within("a connection", TcpStream::connect(address)).await.expect("a connection");
        let request = format!(
            "GET /graphql HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.expect("it is sent");
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let read = within("an upgrade", stream.read_u8()).await.expect("an answer");
            answer.push(read);
        }
        assert!(answer.starts_with(b"HTTP/1.1 101"), "{}", answer.escape_ascii());
        Self(stream)
    }

    /// One that may ask.
    async fn ready(address: &str) -> Self {
        let mut socket = Self::open(address).await;
        socket.say(&json!({ "type": "connection_init" })).await;
        assert_eq!(socket.hear().await["type"], "connection_ack");
        socket
    }

    async fn say(&mut self, message: &Value) {
        self.send(&framed(message)).await;
    }

    async fn send(&mut self, bytes: &[u8]) {
        within("what is said", self.0.write_all(bytes)).await.expect("it is taken");
    }

    /// The next frame: its opcode and what is in it.
    async fn frame(&mut self) -> (u8, Vec<u8>) {
        let read = async {
            let (first, second) = (self.0.read_u8().await?, self.0.read_u8().await?);
            let length = match second & 0x7f {
                126 => u64::from(self.0.read_u16().await?),
                127 => self.0.read_u64().await?,
                short => u64::from(short),
            };
            let mut payload = vec![0; usize::try_from(length).expect("a frame that fits")];
            self.0.read_exact(&mut payload).await?;
            Ok::<_, std::io::Error>((first & 0x0f, payload))
        };
        within("a frame", read).await.expect("a frame")
    }

    /// The next message.
    async fn hear(&mut self) -> Value {
        loop {
            let (opcode, payload) = self.frame().await;
            match opcode {
                1 => return serde_json::from_slice(&payload).expect("a message is JSON"),
                9 | 10 => {}
                other => panic!("a frame of the sort {other}: {}", payload.escape_ascii()),
            }
        }
    }

    /// Why it was closed: the code and the reason.
    async fn closed(&mut self) -> (u16, String) {
        loop {
            let (opcode, payload) = self.frame().await;
            if opcode == 8 {
                let code = u16::from_be_bytes([payload[0], payload[1]]);
                return (code, String::from_utf8_lossy(&payload[2..]).into_owned());
            }
        }
    }
}

/// A message in a frame of a client; its mask changes nothing.
fn framed(message: &Value) -> Vec<u8> {
    frame_of(message.to_string().as_bytes())
}

fn frame_of(text: &[u8]) -> Vec<u8> {
    let length = text.len() as u64;
    let head = match u16::try_from(length) {
        Ok(short) if short < 126 => vec![0x81, 0x80 | u8::try_from(short).expect("it is short")],
        Ok(middle) => [&[0x81, 0x80 | 0x7e][..], &middle.to_be_bytes()].concat(),
        Err(_) => [&[0x81, 0x80 | 127][..], &length.to_be_bytes()].concat(),
    };
    [&head[..], &[0; 4], text].concat()
}

fn subscribe(id: &str, query: &str) -> Value {
    json!({ "type": "subscribe", "id": id, "payload": { "query": query } })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_idle_connections_hold_nobody_up() {
    let victim = Victim::start().await;
    let wanted = wanted(IDLE);
    let mut others = Others::begin(&victim);
    let address = victim.server.http_address();
    let mut open = connections(wanted, |_| address.clone()).await;
    others.go_on(50).await;
    // Some have had an answer, and are idle from then on; some become WebSockets that never say who they are.
    let half = open.len() / 2;
    for stream in &mut open[..half] {
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("it is sent");
    }
    for stream in &mut open[..half] {
        let mut answer = [0; 12];
        within("an answer", stream.read_exact(&mut answer)).await.expect("an answer");
        assert_eq!(&answer, b"HTTP/1.1 200");
    }
    others.go_on(50).await;
    open.truncate(open.len() - IDLE_SOCKETS.min(half));
    let mut sockets = Vec::new();
    for _ in 0..IDLE_SOCKETS.min(half) {
        sockets.push(Socket::open(&address).await);
    }
    others.go_on(50).await;
    drop((open, sockets));
    others.end(&victim, NOTHING + wanted * A_CONNECTION / 1024).await;
    victim.is_as_before().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_operations_over_one_socket_are_answered_in_their_turn() {
    /// How many are sent before an answer is read.
    const ROUND: usize = OPERATIONS;
    const ROUNDS: usize = 50;
    let victim = Victim::start().await;
    let mut others = Others::begin(&victim);
    let address = victim.server.http_address();
    let mut socket = Socket::ready(&address).await;
    for round in 0..ROUNDS {
        let operations: Vec<u8> = (0..ROUND)
            .flat_map(|i| framed(&subscribe(&format!("{round}.{i}"), &format!("{{ a{round}: keywords }}"))))
            .collect();
        socket.send(&operations).await;
        let mut over = 0;
        while over < ROUND {
            let told = socket.hear().await;
            match told["type"].as_str() {
                Some("next") => assert!(told["payload"].get("errors").is_none(), "{told}"),
                Some("complete") => over += 1,
                _ => panic!("{told}"),
            }
        }
    }
    // All that the limits refuse, at once: each is answered by its name.
    let aliases = repeated(100, |i| format!("a{i}: keywords"));
    let flood: Vec<u8> =
        (0..1000).flat_map(|i| framed(&subscribe(&i.to_string(), &format!("{{ {aliases} }}")))).collect();
    let (mut reading, mut writing) = tokio::io::split(socket.0);
    let write = tokio::spawn(async move {
        writing.write_all(&flood).await.expect("it is taken");
        writing
    });
    let mut seen = Vec::new();
    let refusal = b"(limit: ";
    let mut refusals = 0;
    while refusals < 1000 {
        within("a refusal", reading.read_buf(&mut seen)).await.expect("it goes on");
        refusals += seen.windows(refusal.len()).filter(|window| *window == refusal).count();
        // The beginning of one may be at the end.
        let begun = (refusal.len() - 1).min(seen.len());
        seen.drain(..seen.len() - begun);
    }
    drop(write.await.expect("all was taken"));
    others.go_on(1).await;
    others.end(&victim, NOTHING).await;
    victim.is_as_before().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_are_too_large_close_the_socket_and_those_that_dont_end_cost_their_length() {
    const SOCKETS: usize = 200;
    const ALLOWED: u64 = NOTHING + 2 * (SOCKETS * LARGEST_MESSAGE) as u64 / (1024 * 1024);
    let victim = Victim::start().await;
    let mut others = Others::begin(&victim);
    let address = victim.server.http_address();
    let query = "x".repeat(LARGEST_MESSAGE);
    for large in [framed(&subscribe("a", &query)), frame_of(&vec![b'['; 3 * 1024 * 1024])] {
        let mut socket = Socket::ready(&address).await;
        // It need not take all of it.
        let _ = socket.0.write_all(&large[..LARGEST_MESSAGE / 2]).await;
        let (code, reason) = socket.closed().await;
        assert_eq!(code, 1009, "{reason}");
        assert!(reason.contains("(limit: message)"), "{reason}");
    }
    let mut open = Vec::new();
    for _ in 0..SOCKETS {
        let mut socket = Socket::ready(&address).await;
        let whole = frame_of(&vec![b' '; LARGEST_MESSAGE]);
        socket.send(&whole[..whole.len() - 1]).await;
        open.push(socket);
    }
    others.go_on(20).await;
    drop(open);
    others.end(&victim, ALLOWED).await;
    victim.is_as_before().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscriptions_with_much_to_remember_take_no_more_than_all_may() {
    const SOCKETS: usize = 24;
    /// What all subscriptions take at most together, in MiB.
    const ALLOWED: u64 = NOTHING + (imagehub::graphql::STREAM_BYTES / (1024 * 1024)) as u64;
    let victim = Victim::start().await;
    let mut others = Others::begin(&victim);
    let address = victim.server.http_address();
    // As long a document as there is, and names as many as fit.
    let fields = repeated(3900, |_| "name".to_owned());
    let wide = format!("subscription {{ images(initial: false) {{ node {{ {fields} }} }} }}");
    let names: Vec<String> = (0..800).map(|i| format!("acme/{}:v{i}", "n".repeat(200))).collect();
    let listed = json!({ "type": "subscribe", "payload": {
        "query": "subscription($names: [ImageName!]) { images(filter: { names: $names }, initial: false) { kind } }",
        "variables": { "names": names, "unknown": "x".repeat(50_000) },
    } });
    let (mut open, mut refused) = (Vec::new(), 0);
    for i in 0..SOCKETS {
        let mut socket = Socket::ready(&address).await;
        for operation in 0..OPERATIONS {
            let id = operation.to_string();
            let mut message = if (i + operation) % 2 == 0 { subscribe(&id, &wide) } else { listed.clone() };
            message["id"] = id.into();
            socket.say(&message).await;
        }
        // One more is too many on a socket; its refusal comes after all others.
        socket.say(&subscribe("more", "{ keywords }")).await;
        loop {
            let told = socket.hear().await;
            let text = told.to_string();
            match (told["type"].as_str(), told["id"].as_str()) {
                (Some("error"), Some("more")) => {
                    assert!(text.contains("(limit: operations)"), "{told}");
                    break;
                }
                // Where some were refused there is room for it.
                (Some("next"), _) => {}
                (Some("complete"), Some("more")) => break,
                (Some("error"), _) => {
                    assert!(text.contains("(limit: stream bytes)"), "{told}");
                    refused += 1;
                }
                _ => panic!("{told}"),
            }
        }
        open.push(socket);
    }
    println!("{refused} of {} were refused", SOCKETS * OPERATIONS);
    assert!(refused > 0, "all subscriptions went on");
    others.go_on(20).await;
    drop(open);
    others.end(&victim, ALLOWED).await;
    victim.is_as_before().await;
}
