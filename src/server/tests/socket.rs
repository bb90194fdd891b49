//! A subscription by WebSocket (graphql-transport-ws), by a client that has no more than it takes.

use futures::StreamExt as _;
use futures::stream::{BoxStream, unfold};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::*;

const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;
const MASKED: u8 = 0x80;
/// Says that the length comes in two bytes.
const TWO_BYTES: u8 = 0x7e;

/// Sends a message, in a frame whose mask is 0.
async fn say(stream: &mut DuplexStream, message: &Value) {
    let text = message.to_string();
    let length = u16::try_from(text.len()).unwrap();
    let mut frame = vec![TEXT, MASKED | TWO_BYTES];
    frame.extend(length.to_be_bytes());
    frame.extend([0; 4]);
    frame.extend(text.as_bytes());
    stream.write_all(&frame).await.unwrap();
}

/// The next message; `None` where the server closes, or is gone.
async fn hear(stream: &mut DuplexStream) -> Option<String> {
    loop {
        let kind = stream.read_u8().await.ok()?;
        let length = match stream.read_u8().await.ok()? {
            127 => usize::try_from(stream.read_u64().await.ok()?).unwrap(),
            TWO_BYTES => usize::from(stream.read_u16().await.ok()?),
            short => usize::from(short),
        };
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).await.ok()?;
        match kind {
            TEXT => return Some(String::from_utf8(payload).unwrap()),
            CLOSE => return None,
            _ => {}
        }
    }
}

/// What a subscription tells; 401 where who asks is not believed. The token is in the first message, where browsers have
/// it.
pub(super) async fn subscribe(router: &Router, headers: &Headers, document: &str) -> (u16, BoxStream<'static, String>) {
    let (mut client, server) = tokio::io::duplex(1 << 16);
    let service = router.clone().map_request(|request: Request<hyper::body::Incoming>| request.map(Body::new));
    tokio::spawn(async move {
        let builder = auto::Builder::new(TokioExecutor::new());
        // It ends with the client.
        let _ = builder.serve_connection_with_upgrades(TokioIo::new(server), TowerToHyperService::new(service)).await;
    });
    let mut handshake = "GET /graphql HTTP/1.1\r\nhost: hub\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         sec-websocket-protocol: graphql-transport-ws\r\n"
        .to_owned();
    let mut payload = json!({});
    for (name, value) in headers {
        match *name {
            "authorization" => payload["Authorization"] = value.as_str().into(),
            name => handshake.extend([name, ": ", value, "\r\n"]),
        }
    }
    client.write_all(format!("{handshake}\r\n").as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
    say(&mut client, &json!({ "type": "connection_init", "payload": payload })).await;
    if hear(&mut client).await.is_none() {
        return (401, futures::stream::empty().boxed());
    }
    say(&mut client, &json!({ "type": "subscribe", "id": "1", "payload": { "query": document } })).await;
    let messages = unfold(Some(client), |client| async move {
        let mut client = client?;
        let message = hear(&mut client).await?;
        let over = [r#""type":"complete""#, r#""type":"error""#].iter().any(|word| message.contains(word));
        Some((message, (!over).then_some(client)))
    });
    (200, messages.boxed())
}
