//! The process: what starts in which order, what listens, what is critical, and how it stops.
//!
//! Start: the gateway listens (so that `/readyz` says 503), the data directory is opened, the graph is
//! filled, the Kubernetes door listens, the controllers run; then it is ready. Stop: not ready; no more
//! connections, watches end, GOAWAY; what is under way finishes; the storage closes.

mod bare;
mod demo;
mod gateway;
mod layers;
mod listen;
pub mod log;
mod metrics;
mod pki;
mod rotation;
mod stall;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::api::Kind;
use crate::auth::users::Tokens;
use crate::auth::{Authenticator, Authorities, Authorizer, Caller, OrganizationCreators};
use crate::clock::{SharedClock, SystemClock};
use crate::controller;
use crate::datapack::Packs;
use crate::graph::{Graph, GraphError, Window};
use crate::kube_api;
use crate::registry::Registry;
use crate::storage::Storage as _;
use crate::storage::embedded::{Embedded, Options};

pub use bare::serve_bare;
pub use pki::{PkiError, reachable, token_kubeconfig};

/// How long requests that are under way may take to finish when the server stops.
pub const DRAIN_TIME: Duration = Duration::from_secs(20);

/// How a server is to run.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the data is.
    pub data_dir: PathBuf,
    /// Where the Kubernetes API listens, with TLS.
    pub kube_listen: SocketAddr,
    /// Where the gateway listens, without.
    pub http_listen: SocketAddr,
    /// Whether the sample catalogue is loaded into an empty store.
    pub demo: bool,
    /// Who may make an organization.
    pub create_organizations: OrganizationCreators,
    /// What the cache of packs holds at most, in bytes.
    pub pack_cache_bytes: u64,
}

/// What a server that became ready tells the person who started it.
#[derive(Debug)]
pub struct Ready {
    /// From the start to now.
    pub took: Duration,
    /// How many objects there are, by kind.
    pub counts: [(Kind, usize); Kind::ALL.len()],
    /// Where the Kubernetes API listens.
    pub kube: SocketAddr,
    /// Where the gateway listens.
    pub http: SocketAddr,
    /// The administrator's kubeconfig, an absolute path.
    pub kubeconfig: PathBuf,
    /// The data directory, an absolute path.
    pub data_dir: PathBuf,
}

/// Why a server could not start, or ended by itself: a sentence for the person who started it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ServerError(String);

fn fatal(error: impl std::fmt::Display) -> ServerError {
    ServerError(error.to_string())
}

/// Runs a server until it is told to stop by SIGTERM or SIGINT; tells `ready` once when it is.
///
/// # Errors
/// It could not start, or something that it can't be without ended.
pub async fn run(config: Config, ready: impl FnOnce(&Ready)) -> Result<(), ServerError> {
    let mut signals = Signals::new()?;
    raise_file_limit();
    let running = tokio::select! {
        running = start(&config) => running?,
        // What has been opened is closed by being dropped.
        () = signals.told() => {
            info!("stopped before it was ready");
            return Ok(());
        }
    };
    ready(&running.ready);
    running.until_stopped(&mut signals).await
}

/// The signals that end a server.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self, ServerError> {
        let of = |kind| signal(kind).map_err(fatal);
        Ok(Self { terminate: of(SignalKind::terminate())?, interrupt: of(SignalKind::interrupt())? })
    }

    /// Waits for the next one.
    async fn told(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// A server that is ready: the tasks that it can't be without, and what ends them.
struct Running {
    ready: Ready,
    storage: Arc<Embedded>,
    writer: JoinHandle<GraphError>,
    controllers: JoinHandle<()>,
    kube: JoinHandle<()>,
    gateway: JoinHandle<()>,
    tokens: JoinHandle<()>,
    rotation: JoinHandle<()>,
    is_ready: watch::Sender<bool>,
    ending: CancellationToken,
    stop: listen::Stop,
}

async fn start(config: &Config) -> Result<Running, ServerError> {
    let started = Instant::now();
    let clock: SharedClock = Arc::new(SystemClock);
    let http = listen::bind(config.http_listen, "--http-listen").await.map_err(fatal)?;
    let kube = listen::bind(config.kube_listen, "--kube-listen").await.map_err(fatal)?;
    let (http_at, kube_at) = (http.local_addr().map_err(fatal)?, kube.local_addr().map_err(fatal)?);
    warn_of_open_gateway(http_at);

    let stop = listen::Stop::default();
    let (is_ready, ready_seen) = watch::channel(false);
    let (measured, metrics_seen) = watch::channel(None);
    let requests = metrics::RequestMetrics::default();
    let gateway = gateway::router(gateway::Gateway { ready: ready_seen.clone(), metrics: metrics_seen });
    let gateway = layers::around(gateway, "gateway", requests.clone());
    let gateway = tokio::spawn(listen::Door { listener: http, tls: None, router: gateway }.serve(stop.clone()));

    let (dir, for_storage) = (config.data_dir.clone(), Arc::clone(&clock));
    let opening = tokio::task::spawn_blocking(move || Embedded::open(&dir, Options::default(), for_storage));
    let storage = opening.await.map_err(fatal)?.map_err(fatal)?;
    // The lock on the data is ours: now its other files may be touched.
    let pki = pki::prepare(&config.data_dir, kube_at, clock.now()).map_err(fatal)?;
    let certificates = rotation::Certificates::new(&pki).map_err(fatal)?;
    let tls = rotation::tls(Arc::clone(&certificates));
    // When the CA's certificate is made anew it keeps its key, so that what it signed goes on being trusted.
    let authorities = Authorities::new([pki.ca.clone()]).map_err(fatal)?;
    let rotation = tokio::spawn({
        let (dir, clock) = (config.data_dir.clone(), Arc::clone(&clock));
        async move { rotation::keep_fresh(&dir, kube_at, clock, certificates).await }
    });

    let (graph, mut writer) = Graph::open(&*storage, Window::default()).await.map_err(fatal)?;
    writer.resume_at(clock.now().as_millisecond());
    let writer = tokio::spawn(writer.run());
    let packs = Arc::new(Packs::new(config.pack_cache_bytes));
    let registry = Registry::new(storage.clone(), graph, packs, Arc::clone(&clock));
    let registry = Arc::new(registry.with_organization_creators(config.create_organizations));
    measured.send_replace(Some(Arc::new(metrics::all(&registry, &requests))));

    let ending = CancellationToken::new();
    let authenticator = Authenticator::local(Some(Arc::new(Tokens::new(&config.data_dir))), Some(authorities), clock);
    let tokens = tokio::spawn({
        let authenticator = authenticator.clone();
        async move { authenticator.watch_tokens().await }
    });
    let app = kube_api::App {
        registry: Arc::clone(&registry),
        authenticator,
        authorizer: Authorizer::Rules,
        relay: None,
        ready: ready_seen,
        stop: ending.clone(),
    };
    let router = layers::around(kube_api::router(app), "kube", requests);
    let kube = tokio::spawn(listen::Door { listener: kube, tls: Some(tls), router }.serve(stop.clone()));
    let controllers = tokio::spawn(controller::run(Arc::clone(&registry)));
    if config.demo {
        let admin = Caller::authenticated("admin", [crate::auth::MASTERS.to_owned()]);
        let loaded = demo::load(&registry, &admin).await;
        let loaded = loaded.map_err(|error| fatal(format_args!("the sample catalogue can't be loaded: {error}")))?;
        info!(objects = loaded, "sample catalogue");
    }

    let data_dir = std::path::absolute(&config.data_dir).map_err(fatal)?;
    write_addresses(&config.data_dir, kube_at, http_at)?;
    is_ready.send_replace(true);
    let visible = registry.reader(&Caller::system()).visible;
    let ready = Ready {
        took: started.elapsed(),
        counts: Kind::ALL.map(|kind| (kind, visible.stored(kind))),
        kube: kube_at,
        http: http_at,
        kubeconfig: data_dir.join("kubeconfig"),
        data_dir,
    };
    info!(kube = %kube_at, http = %http_at, revision = %visible.revision(), took = ?ready.took, "ready");
    Ok(Running { ready, storage, writer, controllers, kube, gateway, tokens, rotation, is_ready, ending, stop })
}

impl Running {
    async fn until_stopped(mut self, signals: &mut Signals) -> Result<(), ServerError> {
        // Whatever of these ends takes the process with it: nothing runs on half alive.
        let ended = tokio::select! {
            () = signals.told() => None,
            reason = self.storage.stopped() => Some(format!("the storage has stopped: {reason}")),
            end = &mut self.writer => Some(match end {
                Ok(error) => format!("the graph can't go on: {error}"),
                Err(error) => format!("the graph's writer died: {error}"),
            }),
            end = &mut self.controllers => Some(died("the controllers", end)),
            end = &mut self.kube => Some(died("the Kubernetes door", end)),
            end = &mut self.gateway => Some(died("the gateway", end)),
            end = &mut self.rotation => Some(died("the rotation of certificates", end)),
            end = &mut self.tokens => Some(died("the look at the tokens", end)),
        };
        self.is_ready.send_replace(false);
        if let Some(reason) = ended {
            return Err(ServerError(reason));
        }

        info!("stopping: requests that are under way finish, watches end");
        self.ending.cancel();
        self.stop.drain.cancel();
        self.stop.connections.close();
        tokio::select! {
            () = self.stop.connections.wait() => {}
            () = tokio::time::sleep(DRAIN_TIME) => warn!("some requests did not finish within {DRAIN_TIME:?}"),
            () = signals.told() => warn!("told to stop again: not waiting any longer"),
        }
        self.tokens.abort();
        self.rotation.abort();
        self.controllers.abort();
        self.writer.abort();
        let storage = self.storage;
        tokio::task::spawn_blocking(move || storage.close()).await.map_err(fatal)?;
        info!("stopped");
        Ok(())
    }
}

fn died(what: &str, end: Result<(), tokio::task::JoinError>) -> String {
    match end {
        Ok(()) => format!("{what} ended"),
        Err(error) => format!("{what} died: {error}"),
    }
}

/// For scripts: where a server that was given port 0 listens, and which process it is.
fn write_addresses(dir: &Path, kube: SocketAddr, http: SocketAddr) -> Result<(), ServerError> {
    let text = serde_json::json!({
        "kube": kube.to_string(), "http": http.to_string(), "pid": std::process::id(),
    });
    pki::write(&dir.join("addresses.json"), text.to_string().as_bytes()).map_err(fatal)
}

fn warn_of_open_gateway(address: SocketAddr) {
    if !address.ip().is_loopback() {
        warn!(%address, "the gateway has no TLS and listens beyond this machine: put a proxy with TLS in front of it");
    }
}

/// Each connection is an open file; the soft limit that shells set is for programs that use `select`.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        warn!(%error, "the limit of open files can't be raised");
    }
}
