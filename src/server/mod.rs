//! The process: what starts in which order, what listens, what is critical, and how it stops.
//!
//! Start: the gateway listens (so that `/readyz` says 503), the data directory is opened, the graph is
//! filled, the Kubernetes door listens, the controllers run; then it is ready. Stop: not ready; no more
//! connections, watches end, GOAWAY; what is under way finishes; the storage closes.

mod answers;
mod bare;
mod bodies;
mod cluster;
mod critical;
mod demo;
mod gateway;
mod layers;
mod listen;
pub mod log;
mod machine;
mod metrics;
mod pki;
mod rotation;
mod stall;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::api::Kind;
use crate::auth::{Authenticator, Authorizer, Caller, Oidc, OidcConfig, OrganizationCreators};
use crate::clock::{SharedClock, SystemClock};
use crate::controller;
use crate::datapack::Packs;
use crate::gateway::{Answers, App, Origins, Quota, Rates};
use crate::graph::{Graph, Window};
use crate::graphql;
use crate::kube_api;
use crate::registry::Registry;
use crate::rest;
use crate::search::Search;
use crate::storage::Storage;
use critical::Critical;

pub use answers::ANSWERS;
pub use bare::serve_bare;
pub use bodies::{BODIES, WRITES};
use cluster::Member;
pub use cluster::{InCluster, Keeps};
pub use machine::{Files, Machine};
pub use pki::{PkiError, reachable, token_kubeconfig};

/// How long a start that is told to stop is waited for. What it has written is whole at any moment.
const START_ENDS: Duration = Duration::from_millis(500);

/// How long requests that are under way may take to finish when the server stops.
pub const DRAIN_TIME: Duration = Duration::from_secs(20);

/// How long a replica that is told to stop goes on accepting, while the cluster learns that it is not ready: who
/// has not heard of it yet must not be refused.
pub const SPREAD_TIME: Duration = Duration::from_secs(8);
/// For how long before that ends whoever asks is told to ask elsewhere from now on.
pub const LEAVE_TIME: Duration = Duration::from_secs(4);

/// How a server is to run.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where its data is, and whom it knows.
    pub home: Home,
    /// Where the Kubernetes API listens, with TLS.
    pub kube_listen: SocketAddr,
    /// Where the gateway listens, without.
    pub http_listen: SocketAddr,
    /// An issuer whose tokens are believed, too.
    pub oidc: Option<OidcConfig>,
    /// Who may make an organization.
    pub create_organizations: OrganizationCreators,
    /// What the cache of packs holds at most, in bytes.
    pub pack_cache_bytes: u64,
    /// Whether repositories are found by text.
    pub search: bool,
    /// Who may use the gateway.
    pub gateway: GatewayAccess,
}

/// Who may use the gateway, and how.
#[derive(Debug, Clone)]
pub struct GatewayAccess {
    /// Whether those who have not signed in read what is public.
    pub anonymous: bool,
    /// How many requests a client makes a minute.
    pub request_rate: u32,
    /// The pages of other sites that may ask.
    pub origins: Origins,
    /// The documents that clients name by their hash.
    pub documents: graphql::TrustedDocuments,
}

/// Where a server lives.
#[derive(Debug, Clone)]
pub enum Home {
    /// On one machine.
    Machine(Machine),
    /// In a cluster.
    Cluster(InCluster),
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
    /// Its files, where it lives on one machine.
    pub files: Option<Files>,
}

/// What a home gives a server.
struct Opened {
    storage: Arc<dyn Storage>,
    certificates: Arc<rotation::Certificates>,
    authenticator: Authenticator,
    authorizer: Authorizer,
    /// Ends the storage in order.
    close: BoxFuture<'static, ()>,
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
    // A task of its own: to fill the graph of a large store takes a thread for a while, which hears no signal.
    let mut starting = tokio::spawn(async move { start(&config).await });
    let running = tokio::select! {
        running = &mut starting => running.map_err(fatal)??,
        () = signals.told() => {
            // What has been opened is closed by being dropped, where that is soon. Else the end of the process does it.
            starting.abort();
            let _ = tokio::time::timeout(START_ENDS, starting).await;
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
    storage: Arc<dyn Storage>,
    close: BoxFuture<'static, ()>,
    tasks: Critical,
    member: Option<Member>,
    end: CancellationToken,
    is_ready: watch::Sender<bool>,
    ending: CancellationToken,
    stop: listen::Stop,
}

async fn start(config: &Config) -> Result<Running, ServerError> {
    let started = Instant::now();
    let clock: SharedClock = Arc::new(SystemClock);
    let oidc = config.oidc.clone().map(|oidc| Oidc::new(oidc, Arc::clone(&clock)).map(Arc::new));
    let oidc = oidc.transpose().map_err(fatal)?;
    let http = listen::bind(config.http_listen, "--http-listen").await.map_err(fatal)?;
    let kube = listen::bind(config.kube_listen, "--kube-listen").await.map_err(fatal)?;
    let (http_at, kube_at) = (http.local_addr().map_err(fatal)?, kube.local_addr().map_err(fatal)?);
    warn_of_open_gateway(http_at);

    let mut tasks = Critical::default();
    if let Some(oidc) = oidc.clone() {
        tasks.spawn("the look at the issuer's keys", async move { oidc.keep_current().await });
    }
    let stop = listen::Stop::default();
    let (is_ready, ready_seen) = watch::channel(false);
    let (measured, metrics_seen) = watch::channel(None);
    let (requests, answers) = (metrics::RequestMetrics::default(), Answers::default());
    let gateway = gateway::Gateway { ready: ready_seen.clone(), metrics: metrics_seen };
    let around = |router| layers::around(router, layers::GATEWAY, requests.clone());
    let (opened_gateway, served) = watch::channel(around(gateway.closed()));
    tasks.spawn("the gateway", listen::Door { listener: http, tls: None, served }.serve(stop.clone()));

    let (opened, replica) = match &config.home {
        Home::Machine(machine) => (machine.open(kube_at, &clock, &mut tasks).await?, None),
        Home::Cluster(cluster) => {
            let (opened, replica) = cluster.open(kube_at, &clock, &mut tasks).await?;
            (opened, Some(replica))
        }
    };
    let (graph, mut writer) = Graph::open(Arc::clone(&opened.storage), Window::default()).await.map_err(fatal)?;
    writer.resume_at(clock.now().as_millisecond());
    tasks.spawn_with_reason("the graph's writer", async { format!("the graph can't go on: {}", writer.run().await) });
    let packs = Arc::new(Packs::new(config.pack_cache_bytes));
    let registry = Registry::new(Arc::clone(&opened.storage), graph, packs, clock)
        .with_organization_creators(config.create_organizations)
        .with_authorizer(opened.authorizer.clone());
    let registry = Arc::new(registry);
    measured.send_replace(Some(Arc::new(metrics::all(&registry, &answers, &requests))));

    let (ending, end) = (CancellationToken::new(), CancellationToken::new());
    let search = if config.search { Some(searched(&registry, &mut tasks)?) } else { None };
    let member = if let Some(replica) = replica {
        replica.join(&registry, ending.clone(), end.clone(), &mut tasks)?
    } else {
        tasks.spawn("the controllers", controller::run(Arc::clone(&registry)));
        None
    };
    let authenticator = opened.authenticator.with_oidc(oidc);
    let relay = member.as_ref().map(|member| Arc::clone(&member.relay));
    let app = App {
        registry: Arc::clone(&registry),
        authenticator: authenticator.clone(),
        authorizer: opened.authorizer.clone(),
        search,
        anonymous: config.gateway.anonymous,
        rates: Arc::new(Rates::new(registry.clock().clone(), config.gateway.request_rate)),
        quota: Arc::new(Quota::default()),
        origins: config.gateway.origins.clone(),
        relay: relay.clone(),
        answers,
        stop: ending.clone(),
    };
    let graphql = graphql::router(app.clone(), config.gateway.documents.clone(), graphql::Limits::default());
    let rest = rest::router(app);
    let _closed = opened_gateway.send_replace(around(gateway.open(graphql.clone().merge(rest.all))));
    let app = kube_api::App {
        registry: Arc::clone(&registry),
        authenticator,
        authorizer: opened.authorizer,
        relay,
        ready: ready_seen,
        stop: ending.clone(),
    };
    let router = kube_api::router(app);
    // Where there are several replicas, this is where they send writes on to one another.
    let router = if member.is_some() { graphql.merge(rest.written).merge(router) } else { router };
    let served = listen::always(layers::around(router, "kube", requests.clone()));
    let tls = rotation::tls(opened.certificates);
    tasks.spawn("the Kubernetes door", listen::Door { listener: kube, tls: Some(tls), served }.serve(stop.clone()));
    if let Home::Machine(Machine { demo: true, data_dir }) = &config.home {
        let admin = Caller::authenticated("admin", [crate::auth::MASTERS.to_owned()]);
        let loaded = demo::load(&registry, &admin, &data_dir.join(demo::MARKER)).await;
        let loaded = loaded.map_err(|error| fatal(format_args!("the sample catalogue can't be loaded: {error}")))?;
        info!(objects = loaded, "sample catalogue");
    }

    let files = match &config.home {
        Home::Machine(machine) => Some(machine.announce(kube_at, http_at)?),
        Home::Cluster(_) => None,
    };
    is_ready.send_replace(true);
    let visible = registry.reader(&Caller::system()).visible;
    let ready = Ready {
        took: started.elapsed(),
        counts: Kind::ALL.map(|kind| (kind, visible.stored(kind))),
        kube: kube_at,
        http: http_at,
        files,
    };
    info!(kube = %kube_at, http = %http_at, revision = %visible.revision(), took = ?ready.took, "ready");
    let Opened { storage, close, .. } = opened;
    Ok(Running { ready, storage, close, tasks, member, end, is_ready, ending, stop })
}

/// A search over what the registry has, which fills itself from now on.
fn searched(registry: &Registry, tasks: &mut Critical) -> Result<Arc<Search>, ServerError> {
    let (search, indexer) = Search::open(Arc::clone(registry.graph())).map_err(fatal)?;
    tasks.spawn_with_reason("the search", async { format!("the search can't go on: {}", indexer.run().await) });
    Ok(search)
}

impl Running {
    async fn until_stopped(mut self, signals: &mut Signals) -> Result<(), ServerError> {
        // Whatever of these ends takes the process with it: nothing runs on half alive.
        let ended = tokio::select! {
            () = signals.told() => None,
            reason = self.storage.stopped() => Some(format!("the storage has stopped: {reason}")),
            reason = self.tasks.ended() => Some(reason),
        };
        self.is_ready.send_replace(false);
        if let Some(reason) = ended {
            return Err(ServerError(reason));
        }

        if let Some(member) = &self.member {
            info!("stopping: another replica takes over, and what still comes here is sent on");
            member.release.cancel();
            let spread = async {
                tokio::time::sleep(SPREAD_TIME.saturating_sub(LEAVE_TIME)).await;
                self.stop.leave.cancel();
                tokio::time::sleep(LEAVE_TIME).await;
            };
            tokio::select! {
                () = spread => {}
                () = signals.told() => warn!("told to stop again: not waiting any longer"),
            }
        }
        info!("stopping: requests that are under way finish, watches end");
        self.ending.cancel();
        self.stop.leave.cancel();
        self.stop.drain.cancel();
        self.stop.connections.close();
        tokio::select! {
            () = self.stop.connections.wait() => {}
            () = tokio::time::sleep(DRAIN_TIME) => warn!("some requests did not finish within {DRAIN_TIME:?}"),
            () = signals.told() => warn!("told to stop again: not waiting any longer"),
        }
        self.end.cancel();
        self.tasks.abort();
        drop(self.storage);
        self.close.await;
        info!("stopped");
        Ok(())
    }
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
