//! What a replica does with a request about resources: the active one answers it, for as long as its term holds; the
//! others send it on to that one, over mutual TLS and with the caller's name, and hold it while nobody is active.
//!
//! What is sent again, and what isn't. As long as it is certain that nothing was done (no connection was made, or the
//! other said that it is not active) anything is. Once a request was sent and the answer never came, a read is, and of
//! a write is said that its outcome is unknown. There is one hop at most: who is sent a request and is not active says
//! so, before anything is done, and it is the first one that tries again.
//!
//! A watch has a connection of its own (HTTP/1.1: a slow reader's window stalls nobody else), and ends as if it had run
//! out when the active replica goes away or changes, so that informers go on where they are. Watches over WebSocket are
//! answered by the active one only: a standby says 503, and to try again.

mod body;
mod headers;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, Version};
use http_body_util::Full;
use rand::RngExt as _;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::lease::{Inside, Peer, Role, Term};
use crate::auth::Caller;
use crate::error::{Error, RETRY_AFTER as WAIT, causes};
use crate::relay::{self, Relay, Stay, Turn};
use body::{Answer, Buffered};
use wire::Wire;

/// How long an answer may take to begin. Kube-apiserver's own limit of a request.
const ANSWER_TIME: Duration = Duration::from_mins(1);
/// How long the answer to a read is waited for once another replica is active, and what is left of a watch.
const READ_GRACE: Duration = Duration::from_secs(1);
/// The same for a write: longer than a connection may take to be made, so that what was never sent is known to be so.
const WRITE_GRACE: Duration = Duration::from_secs(4);
/// The same for the rest of an answer that has begun: its content was settled in time.
const REST_GRACE: Duration = Duration::from_secs(10);
/// The pause before a request is sent again: the first, doubled up to the second. A change of roles ends it.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// How much is waited and kept.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How long a request is held in all, from when its body is there.
    pub hold: Duration,
    /// How many requests are held at a time; more are 429.
    pub held: usize,
    /// How many are on their way or being answered by another replica at a time, watches too; more are 429.
    pub exchanges: usize,
    /// How many bytes of bodies are kept at a time, so that they can be sent again; more are 429.
    pub bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { hold: Duration::from_secs(20), held: 4096, exchanges: 16 * 1024, bytes: 64 * 1024 * 1024 }
    }
}

/// How a replica speaks to others.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The certificate that it shows (its common name is [`crate::auth::REPLICA`]), and whom it believes. Looked at for
    /// each request: certificates are made anew while the server runs.
    pub tls: watch::Receiver<Arc<ClientConfig>>,
    /// The name that the others' certificates have to be for, wherever they are.
    pub server_name: ServerName<'static>,
}

/// Sends requests to whoever is active.
#[derive(Debug)]
pub struct Forward {
    me: HeaderValue,
    roles: watch::Receiver<Role>,
    wire: Wire,
    stop: CancellationToken,
    limits: Limits,
    held: Arc<Semaphore>,
    exchanges: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
}

/// A request that is to be sent on.
struct Onward {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
    writes: bool,
}

/// Who answers.
enum Whose {
    Ours(Inside),
    Theirs(Peer),
}

/// What became of a request that was sent on.
enum Sent {
    Answered(Response),
    /// Nothing was done.
    NotDone(String),
    /// Something may have been.
    Unknown(String),
}

impl Forward {
    /// One for the replica `me`, which is what `roles` says. Watches that it passes on end when `stop` is cancelled.
    ///
    /// # Errors
    /// The name can't be written in a header.
    pub fn new(
        me: &str,
        roles: watch::Receiver<Role>,
        credentials: Credentials,
        stop: CancellationToken,
    ) -> Result<Self, String> {
        Self::with_limits(me, roles, credentials, stop, Limits::default())
    }

    /// The same, with other limits.
    ///
    /// # Errors
    /// The name can't be written in a header.
    pub fn with_limits(
        me: &str,
        roles: watch::Receiver<Role>,
        credentials: Credentials,
        stop: CancellationToken,
        limits: Limits,
    ) -> Result<Self, String> {
        let me = HeaderValue::from_str(me)
            .map_err(|_| format!("the replica's name {me:?} can't be written in a header: use letters and digits"))?;
        let room = |size| Arc::new(Semaphore::new(size));
        Ok(Self {
            me,
            roles,
            wire: Wire::new(credentials),
            stop,
            limits,
            held: room(limits.held),
            exchanges: room(limits.exchanges),
            bytes: room(limits.bytes),
        })
    }

    async fn decide(&self, caller: &Caller, request: Request) -> Result<Turn, Error> {
        let mut roles = self.roles.clone();
        let writes = !matches!(*request.method(), Method::GET | Method::HEAD);
        if let Some(inside) = ours(&roles.borrow()) {
            return Ok(here(request, inside, writes));
        }
        if headers::was_forwarded(request.headers()) {
            return Ok(Turn::Elsewhere(not_active()));
        }
        if request.headers().contains_key(UPGRADE) {
            return Err(Error::Unavailable(
                "a watch over WebSocket is answered by the active replica only, and this is another: try again, or \
                 watch over plain HTTP"
                    .to_owned(),
            ));
        }
        let Ok(exchange) = Arc::clone(&self.exchanges).try_acquire_owned() else {
            let most = self.limits.exchanges;
            return Err(Error::TooManyRequests(format!("{most} requests are being passed on, the most there are")));
        };
        let (parts, body) = request.into_parts();
        let watches = is_watch(&parts);
        let headers = headers::onward(&parts.headers, caller, &self.me)?;
        let body = Buffered::read(&parts.headers, body, &self.bytes, self.limits.bytes).await?;
        let onward =
            Onward { method: parts.method.clone(), uri: parts.uri.clone(), headers, body: body.bytes.clone(), writes };
        let until = Instant::now() + self.limits.hold;
        let mut hold = None;
        let mut pause = PAUSES.0;
        loop {
            let peer = match self.whose(&mut roles, until, &mut hold).await? {
                Whose::Ours(inside) => {
                    let request = Request::from_parts(parts, Body::from(body.bytes.clone()));
                    return Ok(here(request, inside, writes));
                }
                Whose::Theirs(peer) => peer,
            };
            let why = match self.send(&peer, &onward).await {
                Sent::Answered(response) => {
                    return Ok(Turn::Elsewhere(self.passed_back(response, &peer, caller, watches, exchange)));
                }
                Sent::Unknown(why) if writes => {
                    return Err(Error::OutcomeUnknown(format!(
                        "the request was sent to the active replica, and no answer came back ({why}): it may have been \
                         done, or not; look before you send it again"
                    )));
                }
                Sent::NotDone(why) | Sent::Unknown(why) => why,
            };
            debug!(peer = peer.name, why, "a request is sent again");
            self.hold(&mut hold)?;
            if Instant::now() + pause >= until {
                return Err(Error::Unavailable(format!(
                    "the active replica can't be asked ({why}), and no other took over within {:?}; nothing was done; \
                     try again",
                    self.limits.hold
                )));
            }
            tokio::select! {
                _ = roles.changed() => {}
                () = sleep(pause.mul_f64(rand::rng().random_range(0.5..=1.0))) => {}
            }
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    /// Waits until somebody is active.
    async fn whose(
        &self,
        roles: &mut watch::Receiver<Role>,
        until: Instant,
        hold: &mut Option<OwnedSemaphorePermit>,
    ) -> Result<Whose, Error> {
        loop {
            {
                let role = roles.borrow_and_update();
                if let Some(inside) = ours(&role) {
                    return Ok(Whose::Ours(inside));
                }
                if let Role::Standby { active: Some(peer) } = &*role {
                    return Ok(Whose::Theirs(peer.clone()));
                }
            }
            self.hold(hold)?;
            match timeout_at(until, roles.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(Error::Unavailable("the server is stopping; ask again".to_owned())),
                Err(_) => {
                    return Err(Error::Unavailable(format!(
                        "no replica was active within {:?}; nothing was done; try again",
                        self.limits.hold
                    )));
                }
            }
        }
    }

    /// Counts a request among those that wait.
    fn hold(&self, hold: &mut Option<OwnedSemaphorePermit>) -> Result<(), Error> {
        if hold.is_none() {
            let permit = Arc::clone(&self.held).try_acquire_owned().map_err(|_| {
                let most = self.limits.held;
                Error::TooManyRequests(format!(
                    "{most} requests wait for a replica to become active, the most there are; nothing was done"
                ))
            })?;
            *hold = Some(permit);
        }
        Ok(())
    }

    async fn send(&self, peer: &Peer, onward: &Onward) -> Sent {
        let path = onward.uri.path_and_query().map_or("/", |path| path.as_str());
        let Ok(uri) = format!("https://{}{path}", peer.address).parse() else {
            return Sent::NotDone(format!("its address {:?} is none", peer.address));
        };
        let mut request = http::Request::new(Full::new(onward.body.clone()));
        *request.method_mut() = onward.method.clone();
        *request.uri_mut() = uri;
        *request.version_mut() = Version::HTTP_11;
        request.headers_mut().clone_from(&onward.headers);
        let grace = if onward.writes { WRITE_GRACE } else { READ_GRACE };
        let answered = tokio::select! {
            answered = timeout(ANSWER_TIME, self.wire.send(request)) => answered,
            () = left(self.roles.clone(), peer.clone(), grace) => {
                return Sent::Unknown("it is not the active one any more".to_owned());
            }
        };
        match answered {
            Ok(Ok(response)) if headers::says_not_active(&response) => {
                Sent::NotDone("it says that it is not active".to_owned())
            }
            Ok(Ok(response)) => Sent::Answered(response.map(Body::new)),
            Ok(Err(error)) if error.is_connect() => Sent::NotDone(causes(&error)),
            Ok(Err(error)) => Sent::Unknown(causes(&error)),
            Err(_) => Sent::Unknown(format!("no answer within {ANSWER_TIME:?}")),
        }
    }

    /// The answer as the client gets it.
    fn passed_back(
        &self,
        response: Response,
        peer: &Peer,
        caller: &Caller,
        watches: bool,
        exchange: OwnedSemaphorePermit,
    ) -> Response {
        let (mut parts, body) = response.into_parts();
        headers::back(&mut parts.headers);
        let by_lines = watches && parts.status == StatusCode::OK && !parts.headers.contains_key(CONTENT_ENCODING);
        let left = left(self.roles.clone(), peer.clone(), if by_lines { READ_GRACE } else { REST_GRACE });
        let (stop, caller) = (self.stop.clone(), caller.clone());
        let ends = async move {
            tokio::select! {
                () = left => {}
                // What the other one doesn't know of.
                _ = caller.ended(), if by_lines => {}
                () = stop.cancelled(), if by_lines => {}
            }
        };
        Response::from_parts(parts, Body::new(Answer::new(body, by_lines, ends.boxed(), exchange)))
    }
}

impl Relay for Forward {
    fn turn<'a>(&'a self, caller: &'a Caller, request: Request) -> BoxFuture<'a, Result<Turn, Error>> {
        self.decide(caller, request).boxed()
    }
}

/// Begins a request here, if this replica is active.
fn ours(role: &Role) -> Option<Inside> {
    match role {
        Role::Active(term) => term.enter(),
        Role::Standby { .. } => None,
    }
}

fn here(request: Request, inside: Inside, writes: bool) -> Turn {
    Turn::Here(request, Arc::new(Answering { inside, writes }))
}

/// Resolves `grace` after another than `peer` became active, or nobody.
async fn left(mut roles: watch::Receiver<Role>, peer: Peer, grace: Duration) {
    let names_it = |role: &Role| matches!(role, Role::Standby { active: Some(active) } if *active == peer);
    // A sender that is gone says nothing any more: the server is at its end.
    let _ = roles.wait_for(|role| !names_it(role)).await;
    sleep(grace).await;
}

/// A request that this replica answers, in its term.
#[derive(Debug)]
struct Answering {
    inside: Inside,
    writes: bool,
}

impl relay::Term for Answering {
    fn holds(&self) -> Result<(), Error> {
        if self.inside.term().holds() {
            Ok(())
        } else if self.writes {
            Err(Error::OutcomeUnknown(
                "this replica ceased to be the active one while it worked on the request: it may have been done, or \
                 not; look before you send it again"
                    .to_owned(),
            ))
        } else {
            let message = "this replica ceased to be the active one while it worked on the request; try again";
            Err(Error::Unavailable(message.to_owned()))
        }
    }

    fn stay(&self) -> Arc<dyn Stay> {
        Arc::new(Staying(self.inside.term().clone()))
    }
}

/// A watch that this replica answers.
#[derive(Debug)]
struct Staying(Term);

impl Stay for Staying {
    fn is_over(&self) -> bool {
        self.0.is_closing()
    }

    fn over(&self) -> BoxFuture<'_, ()> {
        self.0.closing().boxed()
    }
}

/// As kube reads the flag. Where it is spelled in a way that isn't known here, the answer is cut as any other is.
fn is_watch(parts: &Parts) -> bool {
    let flag = |pair: &str| match pair.split_once('=') {
        None => pair == "watch",
        Some((key, value)) => key == "watch" && value != "0" && !value.eq_ignore_ascii_case("false"),
    };
    parts.method == Method::GET && parts.uri.query().unwrap_or_default().split('&').any(flag)
}

/// What a replica that is not active says to another.
fn not_active() -> Response {
    let error = Error::Unavailable("this replica is not the active one; nothing was done".to_owned());
    let mut response = Response::new(Body::from(error.status_json().to_string()));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    let out = response.headers_mut();
    out.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    out.insert(RETRY_AFTER, WAIT.as_secs().into());
    headers::say_not_active(out);
    response
}

#[cfg(test)]
mod tests;
