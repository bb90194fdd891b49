//! A server in a cluster, which knows its users. Where its data is there, too, one of several replicas is active; one
//! with its data in a directory is alone.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use kube::config::{KubeConfigOptions, Kubeconfig};
use rustls::pki_types::ServerName;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::certificates::{Lifetimes, Mounted, ReplicaCertificates, Settings};
use super::forward::{Credentials, Forward};
use super::lease::{Elector, Identity, Role, Term};
use super::roles;
use crate::auth::{Authenticator, Authorizer, Cluster, Namespaces, REPLICA};
use crate::clock::SharedClock;
use crate::controller;
use crate::graph::Record;
use crate::registry::Registry;
use crate::relay::Relay;
use crate::server::critical::Critical;
use crate::server::{Opened, ServerError, fatal, machine};
use crate::storage::kubernetes::Kubernetes;
use crate::storage::{Revision, Storage};

/// The Lease that says which replica is active.
pub const LEASE: &str = "imagehub";
/// How long a connection to the host cluster may take to be made.
const CONNECT_TIME: Duration = Duration::from_secs(5);

/// Where a server in a cluster keeps its data.
#[derive(Debug, Clone)]
pub enum Keeps {
    /// In the cluster's own storage, as Records.
    Records,
    /// In this directory, a volume of its own: it is the only replica.
    Directory(PathBuf),
}

/// What a server in a cluster is told.
#[derive(Debug, Clone)]
pub struct InCluster {
    /// Where its data is.
    pub keeps: Keeps,
    /// How the cluster is reached from outside of it; `None` inside, where the ServiceAccount says it.
    pub kubeconfig: Option<PathBuf>,
    /// The namespaces that matter.
    pub namespaces: Namespaces,
    /// The Service that leads to the server.
    pub service: String,
    /// Where other replicas reach this one; `None`: where it listens.
    pub advertise: Option<SocketAddr>,
    /// The replica's name; `None`: the host's.
    pub replica: Option<String>,
    /// The certificate to serve with and its key, where somebody else makes them.
    pub mounted: Option<(PathBuf, PathBuf)>,
}

/// A replica that has its data and its certificates, and takes no part in the election yet.
pub(in crate::server) struct Replica {
    client: kube::Client,
    namespaces: Namespaces,
    /// What it takes part with; `None`: there is no other.
    election: Option<Election>,
}

struct Election {
    storage: Arc<Kubernetes>,
    credentials: Credentials,
    identity: Identity,
    clock: SharedClock,
}

/// A replica that takes part in it.
pub(in crate::server) struct Member {
    pub relay: Arc<dyn Relay>,
    /// Gives a term up, so that another takes over.
    pub release: CancellationToken,
}

impl InCluster {
    /// Opens all that the cluster has for a server that listens at `kube`. Waits for what isn't there yet, and the
    /// log says for what.
    pub(in crate::server) async fn open(
        &self,
        kube: SocketAddr,
        clock: &SharedClock,
        tasks: &mut Critical,
    ) -> Result<(Opened, Replica), ServerError> {
        let client = self.client().await?;
        let cluster = Cluster::open(client.clone(), self.namespaces.clone(), Arc::clone(clock)).await;
        tasks.spawn("the look at whom the cluster trusts", {
            let cluster = Arc::clone(&cluster);
            async move { cluster.keep_current().await }
        });
        let address = self.advertise.unwrap_or(kube);
        if address.ip().is_unspecified() && matches!(self.keeps, Keeps::Records) {
            warn!(%address, "other replicas can't reach this one there: set --advertise-address to the Pod's address");
        }
        let certificates = ReplicaCertificates::open(client.clone(), self.settings(address), Arc::clone(clock)).await;
        let certificates = certificates.map_err(fatal)?;
        cluster.trust_replicas(certificates.authorities().map_err(fatal)?);
        tasks.spawn("the rotation of certificates", {
            let (certificates, cluster) = (Arc::clone(&certificates), Arc::clone(&cluster));
            async move { certificates.keep_fresh(|authorities| cluster.trust_replicas(authorities)).await }
        });
        let (storage, close, election) = match &self.keeps {
            Keeps::Directory(dir) => {
                let (storage, close) = machine::open_storage(dir, clock).await?;
                (storage as Arc<dyn Storage>, close, None)
            }
            Keeps::Records => {
                let check = Arc::new(|key: &crate::storage::Key, value: &bytes::Bytes| {
                    let record = Record::decode(key.clone(), Revision::default(), value);
                    record.map(|_| ()).map_err(|error| error.to_string())
                });
                let storage = Kubernetes::open(client.clone(), check, Arc::clone(clock)).await.map_err(fatal)?;
                let closing = Arc::clone(&storage);
                let close: BoxFuture<'static, ()> = Box::pin(async move { closing.close().await });
                let election = Election {
                    storage: Arc::clone(&storage),
                    credentials: Credentials {
                        tls: certificates.forwarding(),
                        server_name: ServerName::try_from(REPLICA).map_err(fatal)?,
                    },
                    identity: Identity { name: self.replica_name(), address: address.to_string() },
                    clock: Arc::clone(clock),
                };
                (storage as Arc<dyn Storage>, close, Some(election))
            }
        };
        let opened = Opened {
            storage,
            certificates: certificates.serving(),
            authenticator: Authenticator::cluster(Arc::clone(&cluster)),
            authorizer: Authorizer::Cluster(cluster),
            close,
        };
        let replica = Replica { client, namespaces: self.namespaces.clone(), election };
        Ok((opened, replica))
    }

    async fn client(&self) -> Result<kube::Client, ServerError> {
        let mut config = match &self.kubeconfig {
            None => kube::Config::incluster().map_err(|error| {
                fatal(format_args!("this is no Pod ({error}): outside of a cluster, name it with --kubeconfig"))
            })?,
            Some(file) => {
                let bad = |error: &dyn std::fmt::Display| fatal(format_args!("{}: {error}", file.display()));
                let kubeconfig = Kubeconfig::read_from(file).map_err(|error| bad(&error))?;
                let options = KubeConfigOptions::default();
                kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|error| bad(&error))?
            }
        };
        config.connect_timeout = Some(CONNECT_TIME);
        // What is tried again, and when, is said where it is known whether anything was done.
        config.default_retry = false;
        info!(api = %config.cluster_url, "the host cluster");
        kube::Client::try_from(config).map_err(fatal)
    }

    fn settings(&self, address: SocketAddr) -> Settings {
        let mounted = self.mounted.clone();
        Settings {
            namespace: self.namespaces.own.clone(),
            service: self.service.clone(),
            address: Some(address.ip()).filter(|ip: &IpAddr| !ip.is_unspecified()),
            mounted: mounted.map(|(certificate, key)| Mounted { certificate, key }),
            lifetimes: Lifetimes::default(),
        }
    }

    fn replica_name(&self) -> String {
        let host = || rustix::system::uname().nodename().to_string_lossy().into_owned();
        self.replica.clone().unwrap_or_else(host)
    }
}

impl Replica {
    /// Takes part in the election, and does what is the active replica's to do while this one is it: always, where
    /// there is no other.
    pub(in crate::server) fn join(
        self,
        registry: &Arc<Registry>,
        stop: CancellationToken,
        end: CancellationToken,
        tasks: &mut Critical,
    ) -> Result<Option<Member>, ServerError> {
        let Self { client, namespaces, election } = self;
        let Some(Election { storage, credentials, identity, clock }) = election else {
            tasks.spawn("the controllers", controller::run(Arc::clone(registry)));
            tasks.spawn("the roles of organizations", roles::run(client, Arc::clone(registry), namespaces));
            return Ok(None);
        };
        let release = CancellationToken::new();
        let (name, own) = (identity.name.clone(), namespaces.own.clone());
        let (elector, roles) = Elector::new(client.clone(), &own, LEASE, identity, clock);
        let relay = Forward::new(&name, roles.clone(), credentials, stop).map_err(fatal)?;
        tasks.spawn("the election", {
            let (registry, release) = (Arc::clone(registry), release.clone());
            let prepare = move |_term: Term| {
                let (registry, storage) = (Arc::clone(&registry), Arc::clone(&storage));
                async move {
                    // Whatever was acknowledged before was committed before this.
                    let newest = storage.current().await.map_err(|error| error.to_string())?;
                    registry.graph().reached(newest).await;
                    Ok(())
                }
            };
            async move { elector.run(prepare, release, end).await }
        });
        tasks.spawn("the controllers", {
            let (registry, roles) = (Arc::clone(registry), roles.clone());
            async move { while_active(roles, || controller::run(Arc::clone(&registry))).await }
        });
        tasks.spawn("the roles of organizations", {
            let (registry, roles) = (Arc::clone(registry), roles.clone());
            async move {
                while_active(roles, || roles::run(client.clone(), Arc::clone(&registry), namespaces.clone())).await;
            }
        });
        Ok(Some(Member { relay: Arc::new(relay), release }))
    }
}

/// Runs what `work` makes whenever this replica is active, from its beginning, and drops it when it no longer is.
async fn while_active<F: Future<Output = ()>>(mut roles: watch::Receiver<Role>, work: impl Fn() -> F) {
    loop {
        let role = roles.borrow_and_update().clone();
        if let Role::Active(term) = role {
            tokio::select! {
                () = work() => return,
                () = term.over() => {}
                () = term.closing() => {}
            }
        }
        if roles.changed().await.is_err() {
            return;
        }
    }
}
