//! Replicas in this process, with TLS between them; a test says which of them is active.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use futures::StreamExt as _;
use http_body_util::BodyExt as _;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;

use super::super::super::listen::{Door, Stop, always};
use super::*;
use crate::auth::{AskForCertificate, Peer as Shown, REPLICA};
use crate::kube_api::BODY_LIMIT;

const NAME: &str = "replicas.imagehub.internal";
const LONG: Duration = Duration::from_mins(10);

/// A CA, and what it signs.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    fn pair(&self, common_name: &str) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([NAME.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, common_name);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
    }

    fn server(&self) -> Arc<ServerConfig> {
        let (chain, key) = self.pair("server");
        let config = ServerConfig::builder().with_client_cert_verifier(Arc::new(AskForCertificate::default()));
        Arc::new(config.with_single_cert(chain, key).unwrap())
    }

    fn client(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let (chain, key) = self.pair(REPLICA);
        let config = ClientConfig::builder().with_root_certificates(roots);
        Arc::new(config.with_client_auth_cert(chain, key).unwrap())
    }

    fn credentials(&self) -> Credentials {
        Credentials {
            tls: watch::Sender::new(self.client()).subscribe(),
            server_name: ServerName::try_from(NAME).unwrap(),
        }
    }
}

fn at(address: SocketAddr) -> Role {
    Role::Standby { active: Some(Peer { name: address.to_string(), address: address.to_string() }) }
}

fn nobody() -> Role {
    Role::Standby { active: None }
}

fn active() -> (Role, Term) {
    let term = Term::until(std::time::Instant::now() + LONG);
    (Role::Active(term.clone()), term)
}

/// What the replicas serve.
#[derive(Default)]
struct Service {
    /// How many requests it has begun.
    begun: AtomicUsize,
    /// What `/slow` waits for.
    go: Notify,
    /// What `/slow` tells when it begins.
    slow: Notify,
    /// What `/stream` sends.
    lines: tokio::sync::Mutex<Option<mpsc::Receiver<Bytes>>>,
    /// How many pieces `/flood` has made.
    flood: Arc<AtomicUsize>,
}

impl Service {
    async fn answer(&self, request: Request) -> Response {
        self.begun.fetch_add(1, Ordering::SeqCst);
        let (parts, body) = request.into_parts();
        match parts.uri.path() {
            "/slow" => {
                self.slow.notify_one();
                self.go.notified().await;
                Response::new(Body::from("done"))
            }
            "/stream" => {
                let lines = self.lines.lock().await.take().unwrap();
                let lines = futures::stream::unfold(lines, |mut lines| async move {
                    let line = lines.recv().await?;
                    Some((Ok::<_, Infallible>(line), lines))
                });
                Response::new(Body::from_stream(lines))
            }
            "/flood" => {
                let made = Arc::clone(&self.flood);
                let pieces = futures::stream::repeat_with(move || {
                    made.fetch_add(1, Ordering::SeqCst);
                    Ok::<_, Infallible>(Bytes::from(vec![b'\n'; PIECE]))
                });
                Response::new(Body::from_stream(pieces.take(FLOOD)))
            }
            _ => {
                let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
                let headers: Vec<String> =
                    parts.headers.iter().map(|(name, value)| format!("{name}: {}", text(value))).collect();
                let body = body.collect().await.unwrap().to_bytes();
                let shown = parts.extensions.get::<Arc<Shown>>().is_some();
                let text = format!(
                    "{} {} certificate:{shown} body:{}\n{}",
                    parts.method,
                    parts.uri,
                    String::from_utf8_lossy(&body),
                    headers.join("\n")
                );
                let mut response = Response::new(Body::from(text));
                response.headers_mut().insert("keep-alive", HeaderValue::from_static("timeout=5"));
                response
            }
        }
    }
}

const PIECE: usize = 64 * 1024;
const FLOOD: usize = 1024;

/// A replica: the toy service behind a relay.
struct Replica {
    role: watch::Sender<Role>,
    service: Arc<Service>,
    router: Router,
    stop: CancellationToken,
    /// Takes the caller's token back.
    revoked: CancellationToken,
}

impl Replica {
    fn new(name: &str, credentials: Credentials, limits: Limits) -> Self {
        let (role, roles) = watch::channel(nobody());
        let (stop, revoked) = (CancellationToken::new(), CancellationToken::new());
        let caller = Caller::authenticated("alice", ["dev".to_owned()]).until(revoked.clone());
        let relay = Forward::with_limits(name, roles, credentials, stop.clone(), limits).unwrap();
        let (relay, service) = (Arc::new(relay), Arc::new(Service::default()));
        let serving = Arc::clone(&service);
        let router = Router::new().fallback(move |request: Request| {
            let (relay, service, caller) = (Arc::clone(&relay), Arc::clone(&serving), caller.clone());
            async move {
                let answer = match relay.turn(&caller, request).await {
                    Ok(Turn::Elsewhere(response)) => Ok(response),
                    Ok(Turn::Here(request, term)) => {
                        let answer = service.answer(request).await;
                        term.holds().map(|()| answer)
                    }
                    Err(error) => Err(error),
                };
                answer.unwrap_or_else(|error| {
                    let mut response = Response::new(Body::from(error.to_string()));
                    *response.status_mut() = StatusCode::from_u16(error.code()).unwrap();
                    response
                })
            }
        });
        Self { role, service, router, stop, revoked }
    }

    /// Serves it with TLS; where.
    async fn listen(&self, authority: &Authority) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let door = Door { listener, tls: Some(authority.server()), served: always(self.router.clone()) };
        tokio::spawn(door.serve(Stop::default()));
        address
    }

    async fn ask(&self, method: &str, path: &str, body: &str) -> Response {
        let request = Request::builder().method(method).uri(path).body(Body::from(body.to_owned())).unwrap();
        self.router.clone().oneshot(request).await.unwrap()
    }

    fn asked(
        &self,
        method: &'static str,
        path: &'static str,
        body: &'static str,
    ) -> tokio::task::JoinHandle<(u16, String)> {
        let router = self.router.clone();
        tokio::spawn(async move {
            let request = Request::builder().method(method).uri(path).body(Body::from(body)).unwrap();
            read(router.oneshot(request).await.unwrap()).await
        })
    }
}

async fn read(response: Response) -> (u16, String) {
    let code = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (code, String::from_utf8(body.to_vec()).unwrap())
}

/// A standby, and another replica that listens.
async fn two(limits: Limits) -> (Replica, Replica, SocketAddr) {
    let authority = Authority::new();
    let standby = Replica::new("a", authority.credentials(), limits);
    let other = Replica::new("b", authority.credentials(), Limits::default());
    let address = other.listen(&authority).await;
    (standby, other, address)
}

#[tokio::test]
async fn a_standby_sends_requests_on_with_the_callers_name_and_its_own_certificate() {
    let (standby, other, address) = two(Limits::default()).await;
    other.role.send_replace(active().0);
    standby.role.send_replace(at(address));
    let request = Request::builder().method("PUT").uri("/echo?a=b%20c").header("x-remote-user", "root");
    let request = request.header("authorization", "Bearer x").body(Body::from("hello")).unwrap();
    let response = standby.router.clone().oneshot(request).await.unwrap();
    assert!(!response.headers().contains_key("keep-alive"));
    let (code, text) = read(response).await;
    assert_eq!(code, 200);
    assert!(text.starts_with("PUT /echo?a=b%20c certificate:true body:hello\n"), "{text}");
    for wanted in ["x-remote-user: alice", "x-remote-group: dev", "x-imagehub-forwarded-by: a", "content-length: 5"] {
        assert!(text.lines().any(|line| line == wanted), "{wanted}: {text}");
    }
    assert!(!text.contains("root") && !text.contains("Bearer"), "{text}");
    assert_eq!(standby.service.begun.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_request_is_held_while_nobody_is_active_and_answered_by_who_becomes_it() {
    let (standby, other, address) = two(Limits::default()).await;
    let elsewhere = standby.asked("POST", "/echo", "one");
    tokio::task::yield_now().await;
    assert!(!elsewhere.is_finished());
    // It is named before it has prepared: it says so, and is asked again.
    standby.role.send_replace(at(address));
    while !elsewhere.is_finished() && other.service.begun.load(Ordering::SeqCst) == 0 {
        other.role.send_replace(active().0);
        tokio::task::yield_now().await;
    }
    let (code, text) = elsewhere.await.unwrap();
    assert!(code == 200 && text.contains("body:one"), "{code} {text}");
    assert_eq!(other.service.begun.load(Ordering::SeqCst), 1);

    standby.role.send_replace(nobody());
    let here = standby.asked("POST", "/echo", "two");
    tokio::task::yield_now().await;
    standby.role.send_replace(active().0);
    let (code, text) = here.await.unwrap();
    assert!(code == 200 && text.contains("certificate:false body:two"), "{code} {text}");
}

#[tokio::test]
async fn what_was_sent_on_is_not_sent_on_again() {
    let authority = Authority::new();
    let limits = Limits { hold: Duration::from_millis(300), ..Limits::default() };
    let standby = Replica::new("a", authority.credentials(), limits);
    let other = Replica::new("b", authority.credentials(), Limits::default());
    let third = Replica::new("c", authority.credentials(), Limits::default());
    third.role.send_replace(active().0);
    standby.role.send_replace(at(other.listen(&authority).await));
    other.role.send_replace(at(third.listen(&authority).await));
    let (code, text) = read(standby.ask("POST", "/echo", "x").await).await;
    assert_eq!(code, 503, "{text}");
    assert!(text.contains("it says that it is not active"), "{text}");
    assert_eq!(third.service.begun.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_request_is_held_no_longer_than_the_limit() {
    let limits = Limits { hold: Duration::from_millis(10), ..Limits::default() };
    let (standby, ..) = two(limits).await;
    let (code, text) = read(standby.ask("GET", "/echo", "").await).await;
    assert_eq!(code, 503);
    assert!(text.starts_with("no replica was active within 10ms"), "{text}");
}

#[tokio::test]
async fn no_more_is_held_than_there_is_room_for() {
    let limits = Limits { held: 1, bytes: 8, ..Limits::default() };
    let (standby, ..) = two(limits).await;
    let held = standby.asked("GET", "/echo", "");
    while standby.ask("GET", "/echo", "").now_or_never().is_none() {
        tokio::task::yield_now().await;
    }
    let (code, text) = read(standby.ask("GET", "/echo", "").await).await;
    assert!(code == 429 && text.starts_with("1 requests wait"), "{code} {text}");
    let (code, text) = read(standby.ask("POST", "/echo", "123456789").await).await;
    assert!(code == 429 && text.starts_with("8 bytes of requests"), "{code} {text}");
    let large = "x".repeat(BODY_LIMIT + 1);
    let unlimited = two(Limits::default()).await.0;
    let (code, _) = read(unlimited.ask("POST", "/echo", &large).await).await;
    assert_eq!(code, 413);
    standby.role.send_replace(active().0);
    assert_eq!(held.await.unwrap().0, 200);
}

/// Accepts connections and reads a request from each, then closes it, or answers what `script` says.
async fn scripted(authority: &Authority, script: Vec<Option<&'static str>>) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = TlsAcceptor::from(authority.server());
    let served = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&served);
    tokio::spawn(async move {
        for answer in script {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = acceptor.accept(stream).await.unwrap();
            let mut start = [0; 64];
            let _ = stream.read(&mut start).await.unwrap();
            counter.fetch_add(1, Ordering::SeqCst);
            if let Some(answer) = answer {
                stream.write_all(answer.as_bytes()).await.unwrap();
                stream.flush().await.unwrap();
            }
        }
        std::future::pending::<()>().await;
    });
    (address, served)
}

#[tokio::test]
async fn a_write_that_is_cut_in_flight_is_unknown_and_sent_once() {
    let authority = Authority::new();
    let standby = Replica::new("a", authority.credentials(), Limits::default());
    let (address, served) = scripted(&authority, vec![None, None]).await;
    standby.role.send_replace(at(address));
    let (code, text) = read(standby.ask("POST", "/echo", "x").await).await;
    assert_eq!(code, 504, "{text}");
    assert!(text.contains("it may have been done, or not"), "{text}");
    assert_eq!(served.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_read_that_is_cut_is_sent_again() {
    let authority = Authority::new();
    let standby = Replica::new("a", authority.credentials(), Limits::default());
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let (address, served) = scripted(&authority, vec![None, Some(answer)]).await;
    standby.role.send_replace(at(address));
    assert_eq!(read(standby.ask("GET", "/echo", "").await).await, (200, "ok".to_owned()));
    assert_eq!(served.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn who_is_not_there_is_asked_again_writes_too() {
    let (standby, other, address) = two(Limits::default()).await;
    other.role.send_replace(active().0);
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    standby.role.send_replace(at(free));
    let request = standby.asked("POST", "/echo", "x");
    tokio::task::yield_now().await;
    standby.role.send_replace(at(address));
    assert_eq!(request.await.unwrap().0, 200);
}

#[tokio::test]
async fn a_frozen_replica_is_given_up_once_another_is_active() {
    let authority = Authority::new();
    let standby = Replica::new("a", authority.credentials(), Limits::default());
    let other = Replica::new("b", authority.credentials(), Limits::default());
    other.role.send_replace(active().0);
    let address = other.listen(&authority).await;
    let frozen = Replica::new("c", authority.credentials(), Limits::default());
    frozen.role.send_replace(active().0);
    standby.role.send_replace(at(frozen.listen(&authority).await));
    let read_there = standby.asked("GET", "/slow", "");
    frozen.service.slow.notified().await;
    standby.role.send_replace(at(address));
    other.service.go.notify_one();
    assert_eq!(read_there.await.unwrap(), (200, "done".to_owned()));
}

#[tokio::test]
async fn what_was_found_or_done_after_the_deadline_is_not_told() {
    let (standby, ..) = two(Limits::default()).await;
    for (method, wanted) in [("GET", 503), ("POST", 504)] {
        let (role, term) = active();
        standby.role.send_replace(role);
        let request = standby.asked(method, "/slow", "");
        standby.service.slow.notified().await;
        term.end();
        standby.service.go.notify_one();
        assert_eq!(request.await.unwrap().0, wanted);
        // The term is over, though nobody has said so: nothing begins in it.
        assert!(standby.ask("GET", "/echo", "").now_or_never().is_none());
    }
}

#[tokio::test]
async fn a_watch_ends_cleanly_when_another_becomes_active_or_its_token_ends_or_the_server_stops() {
    let ends: [fn(&Replica); 3] =
        [|at| drop(at.role.send_replace(nobody())), |at| at.revoked.cancel(), |at| at.stop.cancel()];
    for end in ends {
        let (standby, other, address) = two(Limits::default()).await;
        other.role.send_replace(active().0);
        standby.role.send_replace(at(address));
        let (lines, receiver) = mpsc::channel(1);
        *other.service.lines.lock().await = Some(receiver);
        let mut body = standby.ask("GET", "/stream?watch=true", "").await.into_body();
        lines.send(Bytes::from("{}\n")).await.unwrap();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "{}\n");
        // The other one says nothing any more, as if it were frozen.
        end(&standby);
        assert!(body.frame().await.is_none());
    }
}

#[tokio::test]
async fn what_is_cut_within_a_line_or_is_no_watch_does_not_look_complete() {
    let authority = Authority::new();
    let standby = Replica::new("a", authority.credentials(), Limits::default());
    let half = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\n{}\n{\r\n";
    let whole = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\n{}\n\r\n";
    let (address, _) = scripted(&authority, vec![Some(half), Some(whole), Some(whole)]).await;
    standby.role.send_replace(at(address));
    for (path, fails) in [("/x?watch=1", true), ("/x?watch=1", false), ("/x?watch=false", true)] {
        let body = standby.ask("GET", path, "").await.into_body();
        assert_eq!(body.collect().await.is_err(), fails, "{path}");
    }
}

#[tokio::test]
async fn what_a_slow_reader_does_not_take_is_not_made() {
    let (standby, other, address) = two(Limits::default()).await;
    other.role.send_replace(active().0);
    standby.role.send_replace(at(address));
    let mut body = standby.ask("GET", "/flood?watch=true", "").await.into_body();
    body.frame().await.unwrap().unwrap();
    // Time for more, were there room; in how much of it more is made doesn't matter.
    sleep(Duration::from_millis(200)).await;
    let made = other.service.flood.load(Ordering::SeqCst);
    assert!(made < FLOOD / 2, "{made} pieces of {PIECE} bytes");
    let rest = body.collect().await.unwrap().to_bytes().len();
    assert!(rest > (FLOOD - made) * PIECE);
}

#[tokio::test]
async fn new_certificates_are_used_and_a_strangers_is_not_believed() {
    let (old, new) = (Authority::new(), Authority::new());
    let limits = Limits { hold: Duration::from_millis(200), ..Limits::default() };
    let tls = watch::Sender::new(old.client());
    let credentials = Credentials { tls: tls.subscribe(), ..old.credentials() };
    let standby = Replica::new("a", credentials.clone(), limits);
    let other = Replica::new("b", new.credentials(), Limits::default());
    other.role.send_replace(active().0);
    standby.role.send_replace(at(other.listen(&new).await));
    let (code, text) = read(standby.ask("POST", "/echo", "x").await).await;
    assert!(code == 503 && text.contains("invalid peer certificate"), "{code} {text}");
    tls.send_replace(new.client());
    assert_eq!(standby.ask("POST", "/echo", "x").await.status(), 200);

    let named_otherwise = Credentials { server_name: ServerName::try_from("other.internal").unwrap(), ..credentials };
    let wrong = Replica::new("c", named_otherwise, limits);
    wrong.role.send_replace(standby.role.borrow().clone());
    let (code, text) = read(wrong.ask("GET", "/echo", "").await).await;
    assert!(code == 503 && text.contains("invalid peer certificate"), "{code} {text}");
    assert_eq!(other.service.begun.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_web_socket_is_for_the_active_one() {
    let (standby, other, address) = two(Limits::default()).await;
    other.role.send_replace(active().0);
    standby.role.send_replace(at(address));
    let request = Request::builder().uri("/x?watch=true").header("upgrade", "websocket").body(Body::empty()).unwrap();
    assert_eq!(standby.router.clone().oneshot(request).await.unwrap().status(), 503);
}
