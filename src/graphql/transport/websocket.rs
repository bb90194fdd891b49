//! Operations over WebSocket: the graphql-transport-ws protocol. What has happened is read from the one log when the
//! client takes it: nothing is queued for a socket but the message that is being sent.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::FromRequestParts as _;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::{AbortHandle, BoxStream, SelectAll, abortable};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::LAST_WORDS;
use super::execute::{self, Asked};
use super::negotiate::Media;
use super::params::Params;
use super::respond::{refused, was_refused};
use crate::auth::{Caller, Peer};
use crate::graphql::Shared;
use crate::graphql::error::server_error;
use crate::model::ErrorCode;

/// The protocol's name.
const PROTOCOL: &str = "graphql-transport-ws";
/// The most operations that go on over one connection.
pub const OPERATIONS: usize = 64;
/// The largest message of a client, in bytes: what is larger is sent as a POST. Each of the sockets may hold one.
pub const LARGEST_MESSAGE: usize = 256 * 1024;
/// How much is read ahead of a client, in bytes: an idle socket has room for it.
const READ_AHEAD: usize = 8 * 1024;
/// What a client whose message is larger is told.
const TOO_LARGE: Closed = Closed(1009, "Message too big: it has at most 262144 bytes (limit: message)");
/// The longest id of an operation, in bytes.
const LONGEST_ID: usize = 256;
/// How long a client may take to say who it is.
const INIT_TIME: Duration = Duration::from_secs(10);
/// How often a client is asked whether it is there.
const PING_EVERY: Duration = Duration::from_secs(30);
/// How long nothing at all may come from it.
const SILENCE: Duration = Duration::from_secs(90);
/// How long it may take to take one message.
const SEND_TIME: Duration = Duration::from_mins(1);

/// What a client says.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Said {
    ConnectionInit {
        #[serde(default)]
        payload: Option<Map<String, Value>>,
    },
    Ping {
        #[serde(default)]
        payload: Option<Value>,
    },
    Pong {},
    Subscribe {
        id: String,
        payload: Value,
    },
    Complete {
        id: String,
    },
}

/// What an operation has to tell.
enum Told {
    Next(Arc<str>, Bytes),
    Error(Arc<str>, Bytes),
    Complete(Arc<str>),
}

/// Why a connection is closed.
struct Closed(u16, &'static str);

pub(super) async fn upgrade(shared: Arc<Shared>, request: Request<Body>) -> Response {
    let (mut parts, _) = request.into_parts();
    let refuse = |status, code, message: String| refused(status, Media::Json, &server_error(code, message));
    if !shared.app.origins.may_connect(&parts.headers) {
        let message = "a WebSocket is opened from pages of this server's own address, and of those that it is told of";
        return refuse(StatusCode::FORBIDDEN, ErrorCode::Forbidden, message.to_owned());
    }
    let upgrade = match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
        Ok(upgrade) => upgrade,
        Err(rejected) => return refuse(rejected.status(), ErrorCode::Invalid, rejected.body_text()),
    };
    let Ok(permit) = Arc::clone(&shared.sockets).try_acquire_owned() else {
        let message = format!("{} WebSockets are open, the most there are (limit: sockets)", super::SOCKETS);
        return refuse(StatusCode::TOO_MANY_REQUESTS, ErrorCode::RateLimited, message);
    };
    let upgrade =
        upgrade.max_message_size(LARGEST_MESSAGE).max_frame_size(LARGEST_MESSAGE).read_buffer_size(READ_AHEAD);
    let upgrade = upgrade.protocols([PROTOCOL]);
    upgrade.on_upgrade(move |mut socket| async move {
        let (headers, peer) = (parts.headers, parts.extensions.get::<Arc<Peer>>().cloned());
        let Closed(code, reason) = if socket.protocol().is_some() {
            Connection::new(shared, headers, peer).run(&mut socket).await
        } else {
            Closed(4406, "Subprotocol not acceptable")
        };
        let frame = CloseFrame { code, reason: reason.into() };
        // The client may be gone already.
        let _ = tokio::time::timeout(SEND_TIME, socket.send(Message::Close(Some(frame)))).await;
        drop(permit);
    })
}

struct Connection {
    shared: Arc<Shared>,
    headers: HeaderMap,
    peer: Option<Arc<Peer>>,
    caller: Option<Caller>,
    initialised: bool,
    operations: SelectAll<BoxStream<'static, Told>>,
    active: HashMap<Arc<str>, AbortHandle>,
}

impl Connection {
    fn new(shared: Arc<Shared>, headers: HeaderMap, peer: Option<Arc<Peer>>) -> Self {
        let (operations, active) = (SelectAll::new(), HashMap::new());
        Self { shared, headers, peer, caller: None, initialised: false, operations, active }
    }

    async fn run(mut self, socket: &mut WebSocket) -> Closed {
        let init_by = Instant::now() + INIT_TIME;
        let (mut heard, mut ping) = (Instant::now(), tokio::time::interval(PING_EVERY));
        ping.reset();
        let stop = self.shared.app.stop.clone();
        let stopped = async {
            stop.cancelled().await;
            tokio::time::sleep(LAST_WORDS).await;
        };
        tokio::pin!(stopped);
        loop {
            let stopping = stop.is_cancelled();
            if stopping && self.operations.is_empty() {
                return Closed(1001, "the server stops");
            }
            let out = tokio::select! {
                () = stop.cancelled(), if !stopping => None,
                () = &mut stopped => return Closed(1001, "the server stops"),
                () = tokio::time::sleep_until(init_by), if !self.initialised => {
                    return Closed(4408, "Connection initialisation timeout");
                }
                _ = ping.tick() => {
                    if heard.elapsed() > SILENCE {
                        return Closed(1001, "nothing was heard");
                    }
                    Some(Message::Ping(Bytes::new()))
                }
                said = socket.recv() => {
                    heard = Instant::now();
                    match said {
                        Some(Ok(Message::Text(text))) => match self.hear(&text).await {
                            Ok(answer) => answer,
                            Err(closed) => return closed,
                        },
                        Some(Ok(Message::Ping(_) | Message::Pong(_))) => None,
                        Some(Ok(Message::Binary(_))) => return Closed(4400, "Invalid message: it must be text"),
                        Some(Err(error)) if is_too_large(&error) => return TOO_LARGE,
                        Some(Ok(Message::Close(_)) | Err(_)) | None => return Closed(1000, "bye"),
                    }
                }
                told = self.operations.next(), if !self.operations.is_empty() => told.and_then(|told| self.tell(told)),
            };
            // What a client has sent at once is read without waiting: others go first in between.
            tokio::task::yield_now().await;
            if let Some(message) = out {
                match tokio::time::timeout(SEND_TIME, socket.send(message)).await {
                    Ok(Ok(())) => {}
                    _ => return Closed(1001, "messages were not taken"),
                }
            }
        }
    }

    /// What to say to a message.
    async fn hear(&mut self, text: &str) -> Result<Option<Message>, Closed> {
        let said: Said = serde_json::from_str(text).map_err(|_| Closed(4400, "Invalid message received"))?;
        match said {
            Said::ConnectionInit { .. } if self.initialised => Err(Closed(4429, "Too many initialisation requests")),
            Said::ConnectionInit { payload } => {
                self.initialised = true;
                let mut headers = self.headers.clone();
                // Browsers can't set headers of a WebSocket: it is said here.
                let said = payload.unwrap_or_default().into_iter();
                let said = said.filter(|(name, _)| name.eq_ignore_ascii_case("authorization"));
                for (_, value) in said {
                    let value = value.as_str().and_then(|value| HeaderValue::from_str(value).ok());
                    headers.insert(AUTHORIZATION, value.ok_or(Closed(4400, "Invalid message: authorization"))?);
                }
                match super::caller(&self.shared, self.peer.as_deref(), &headers).await {
                    Ok(caller) => self.caller = Some(caller),
                    Err(error) if error.code() == 401 || error.code() == 403 => return Err(Closed(4403, "Forbidden")),
                    Err(_) => return Err(Closed(1013, "who you are can't be told now")),
                }
                Ok(Some(message(&json!({ "type": "connection_ack" }))))
            }
            Said::Ping { payload } => Ok(Some(message(&match payload {
                Some(payload) => json!({ "type": "pong", "payload": payload }),
                None => json!({ "type": "pong" }),
            }))),
            Said::Pong {} => Ok(None),
            Said::Subscribe { id, payload } => self.begin(id.into(), payload),
            Said::Complete { id } => {
                if let Some(operation) = self.active.remove(&*id) {
                    operation.abort();
                }
                Ok(None)
            }
        }
    }

    fn begin(&mut self, id: Arc<str>, payload: Value) -> Result<Option<Message>, Closed> {
        let Some(caller) = self.caller.clone() else { return Err(Closed(4401, "Unauthorized")) };
        if id.is_empty() || id.len() > LONGEST_ID {
            return Err(Closed(4400, "Invalid message: an id has 1 to 256 bytes"));
        }
        if self.active.contains_key(&id) {
            return Err(Closed(4409, "Subscriber for this id already exists"));
        }
        if !payload.get("query").is_some_and(Value::is_string) && payload.get("extensions").is_none() {
            return Err(Closed(4400, "Invalid message: payload.query must be a string"));
        }
        let failed = |error| Ok(Some(frame("error", &id, &serde_json::to_vec(&[error]).unwrap_or_default())));
        if self.active.len() >= OPERATIONS {
            let message = format!("{OPERATIONS} operations go on over a connection at most (limit: operations)");
            return failed(server_error(ErrorCode::LimitExceeded, message));
        }
        if let Err(too_many) = self.shared.app.rates.take(Some(&caller)).1 {
            return failed(server_error(ErrorCode::RateLimited, too_many.detail));
        }
        let Ok(permit) = Arc::clone(&self.shared.streams).try_acquire_owned() else {
            let message = format!("{} operations are going on, the most there are (limit: streams)", super::STREAMS);
            return failed(server_error(ErrorCode::RateLimited, message));
        };
        let params = match Params::from_json(payload) {
            Ok(params) => params,
            Err(message) => return failed(server_error(ErrorCode::Invalid, message)),
        };
        let answers = match execute::stream(&self.shared, &Asked { params, caller, writes: true, demanded: None }) {
            Ok(answers) => answers,
            Err(error) => return failed(error),
        };
        let told_id = Arc::clone(&id);
        let told = answers.scan(false, move |over, response| {
            let told = (!*over).then(|| {
                // An operation that was refused has no end of its own: the error is it.
                *over = was_refused(&response);
                if *over {
                    let errors = serde_json::to_vec(&response.errors).unwrap_or_default();
                    Told::Error(Arc::clone(&told_id), errors.into())
                } else {
                    Told::Next(Arc::clone(&told_id), execute::payload(&response))
                }
            });
            futures::future::ready(told)
        });
        let end = Told::Complete(Arc::clone(&id));
        let told = told.chain(futures::stream::iter([end])).map(move |told| {
            let _going_on = &permit;
            told
        });
        let (told, handle) = abortable(told);
        self.active.insert(id, handle);
        self.operations.push(told.boxed());
        Ok(None)
    }

    /// What an operation has to tell, unless the client has completed it.
    fn tell(&mut self, told: Told) -> Option<Message> {
        match told {
            Told::Next(id, payload) => self.active.contains_key(&id).then(|| frame("next", &id, &payload)),
            Told::Error(id, errors) => self.active.remove(&id).map(|_| frame("error", &id, &errors)),
            // What ends because the server does isn't complete: the client goes on elsewhere.
            Told::Complete(_) if self.shared.app.stop.is_cancelled() => None,
            Told::Complete(id) => self.active.remove(&id).map(|_| message(&json!({ "type": "complete", "id": &*id }))),
        }
    }
}

/// Whether a message was not read because it is too large.
fn is_too_large(error: &axum::Error) -> bool {
    error.to_string().contains("Message too long")
}

fn message(value: &Value) -> Message {
    Message::Text(value.to_string().into())
}

/// A message with a payload that is JSON already.
fn frame(kind: &str, id: &str, payload: &[u8]) -> Message {
    let payload: &RawValue = serde_json::from_slice(payload).unwrap_or(RawValue::NULL);
    let text = json_text(kind, id, payload);
    Message::Text(text.into())
}

fn json_text(kind: &str, id: &str, payload: &RawValue) -> String {
    let id = Value::from(id);
    format!(r#"{{"type":"{kind}","id":{id},"payload":{payload}}}"#)
}
