//! Watches over WebSocket (RFC 6455), as kube-apiserver serves them on the same paths: each event is a text
//! frame. For what runs in a browser and can't read a long answer piece by piece.

use std::time::Duration;

use axum::extract::FromRequestParts as _;
use axum::extract::ws::{Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use http::HeaderMap;
use http::header::{HOST, ORIGIN, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::request::Parts;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::watch::{self, Events};
use crate::error::Error;

/// The most watches over WebSocket at a time. They have left the listener, which counts the others.
const SOCKETS: usize = 4096;
/// The largest message that is read, in bytes: a client has nothing to say but that it is there.
const LARGEST_MESSAGE: usize = 4096;
/// How long a client may take to take one event.
const SEND_TIME: Duration = Duration::from_mins(1);
/// How kube's clients that run in a browser hand over a token: it is no protocol to be chosen.
const BEARER: &str = "base64url.bearer.authorization.k8s.io.";

static ROOM: Semaphore = Semaphore::const_new(SOCKETS);

/// A request that is to become a WebSocket.
pub(super) struct Socket {
    upgrade: WebSocketUpgrade,
    permit: SemaphorePermit<'static>,
}

/// Whether the request asks for a WebSocket.
///
/// # Errors
/// 400 for a handshake that is none; 403 for one from a page of another site: a browser would send its user's
/// certificate along, and let the page read the answer; 429 where there are too many.
pub(super) async fn asked(parts: &mut Parts) -> Result<Option<Socket>, Error> {
    let upgrade = parts.headers.get(UPGRADE).and_then(|v| v.to_str().ok());
    if !upgrade.is_some_and(|v| v.eq_ignore_ascii_case("websocket")) {
        return Ok(None);
    }
    if !same_site(&parts.headers) {
        let message = "a WebSocket is opened from pages of this server's own address only".to_owned();
        return Err(Error::Forbidden { kind: None, name: String::new(), message });
    }
    let wanted = parts.headers.get(SEC_WEBSOCKET_PROTOCOL).and_then(|v| v.to_str().ok()).unwrap_or_default();
    // Events are the same in each: as kube does, the client's own choice is agreed to.
    let protocol = wanted.split(',').map(str::trim).find(|p| !p.is_empty() && !p.starts_with(BEARER));
    let protocol = protocol.map(str::to_owned);
    let upgrade = WebSocketUpgrade::from_request_parts(parts, &()).await;
    let upgrade = upgrade.map_err(|refused| Error::BadRequest(refused.body_text()))?;
    let permit = ROOM.try_acquire().map_err(|_| {
        Error::TooManyRequests(format!("{SOCKETS} watches over WebSocket are open, the most there are"))
    })?;
    let upgrade = upgrade.max_message_size(LARGEST_MESSAGE).max_frame_size(LARGEST_MESSAGE).protocols(protocol);
    Ok(Some(Socket { upgrade, permit }))
}

/// Programs send no origin; a browser's is that of the page.
fn same_site(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(ORIGIN) else { return true };
    let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, authority)| authority);
    origin.is_some() && origin == headers.get(HOST).and_then(|host| host.to_str().ok())
}

/// Answers with the handshake; the events follow.
pub(super) fn respond(socket: Socket, events: Events) -> Response {
    let Socket { upgrade, permit } = socket;
    upgrade.on_upgrade(move |socket| async move {
        send(socket, events).await;
        drop(permit);
    })
}

/// Answers with the handshake; the one event that says why there is no watch follows.
pub(super) fn failed(socket: Socket, error: &Error) -> Response {
    let Socket { upgrade, permit } = socket;
    let lines = watch::error_line(error);
    upgrade.on_upgrade(move |mut socket| async move {
        if send_lines(&mut socket, &lines).await.is_some() {
            close(socket).await;
        }
        drop(permit);
    })
}

async fn send(mut socket: WebSocket, mut events: Events) {
    loop {
        let lines = tokio::select! {
            lines = events.next() => lines,
            said = socket.recv() => match said {
                // Pings are answered where they are read.
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Text(_) | Message::Binary(_))) => continue,
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
            },
        };
        let Some(lines) = lines else { break };
        if send_lines(&mut socket, &lines).await.is_none() {
            return;
        }
    }
    close(socket).await;
}

/// `None` where the client takes no more.
async fn send_lines(socket: &mut WebSocket, lines: &[u8]) -> Option<()> {
    for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let text = Utf8Bytes::try_from(line.to_vec()).ok()?;
        tokio::time::timeout(SEND_TIME, socket.send(Message::Text(text))).await.ok()?.ok()?;
    }
    Some(())
}

async fn close(mut socket: WebSocket) {
    // The client may be gone already.
    let _ = tokio::time::timeout(SEND_TIME, socket.send(Message::Close(None))).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_other_sites_open_none() {
        let headers = |pairs: &[(http::HeaderName, &str)]| -> HeaderMap {
            pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
        };
        assert!(same_site(&headers(&[(HOST, "hub:8443")])));
        assert!(same_site(&headers(&[(HOST, "hub:8443"), (ORIGIN, "https://hub:8443")])));
        assert!(!same_site(&headers(&[(HOST, "hub:8443"), (ORIGIN, "https://evil.example")])));
        assert!(!same_site(&headers(&[(HOST, "hub:8443"), (ORIGIN, "null")])));
    }
}
