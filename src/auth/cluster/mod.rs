//! Who asks and what they may in a cluster: it trusts whom kube-apiserver's aggregator trusts, asks the cluster
//! whose a token is, and who may do what. Nothing of it is open while the cluster doesn't answer.

mod front_proxy;
mod review;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use futures::{StreamExt as _, TryStreamExt as _};
use http::HeaderMap;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, WatchEvent, WatchParams};
use tracing::{debug, info, warn};

use super::authenticate::{Impersonated, may_not_impersonate, not_believed};
use super::caller::{Caller, Named, Namespaces, SERVICE_ACCOUNT};
use super::certificate::{Authorities, Peer};
use super::rules::{Attributes, forbidden};
use crate::api::{GROUP, VERSION};
use crate::clock::SharedClock;
use crate::error::Error;
use front_proxy::Settings;
pub use front_proxy::{
    NAME as CONFIG_MAP, NAMESPACE as CONFIG_MAP_NAMESPACE, REMOTE_EXTRA, REMOTE_GROUP, REMOTE_UID, REMOTE_USER, REPLICA,
};
pub use review::KEPT as ANSWERS_KEPT;
use review::{About, Decision, Reviews};

/// The verb on repositories that lets whoever may do it see what is private.
pub const VIEW_PRIVATE: &str = "viewprivate";
/// How long a watch of the ConfigMap is left open, in seconds; it is looked at anew after each.
const WATCH_SECONDS: u32 = 290;
/// The pause after the ConfigMap could not be read; twice as long each time, up to the second.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));

/// The cluster, as it knows its users.
#[derive(Debug)]
pub struct Cluster {
    maps: Maps,
    settings: ArcSwap<Settings>,
    /// How other replicas of this server say for whom they ask.
    replicas: ArcSwapOption<Settings>,
    generation: AtomicU64,
    reviews: Reviews,
    namespaces: Namespaces,
    clock: SharedClock,
}

struct Maps(Api<ConfigMap>);

impl std::fmt::Debug for Maps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Maps")
    }
}

impl Cluster {
    /// The cluster of `client`. Waits, for as long as it takes, until it can be read whom it trusts.
    pub async fn open(client: kube::Client, namespaces: Namespaces, clock: SharedClock) -> Arc<Self> {
        let cluster = Self {
            maps: Maps(Api::namespaced(client.clone(), front_proxy::NAMESPACE)),
            settings: ArcSwap::default(),
            replicas: ArcSwapOption::empty(),
            generation: AtomicU64::new(0),
            reviews: Reviews::new(client),
            namespaces,
            clock,
        };
        let mut pause = PAUSES.0;
        while let Err(error) = cluster.read().await {
            warn!(error, wait = ?pause, "whom the cluster trusts can't be read yet");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
        Arc::new(cluster)
    }

    /// Reads the ConfigMap; its version.
    async fn read(&self) -> Result<Option<String>, String> {
        let map = self
            .maps
            .0
            .get(front_proxy::NAME)
            .await
            .map_err(|error| format!("ConfigMap {}/{}: {error}", front_proxy::NAMESPACE, front_proxy::NAME))?;
        self.take(&map)?;
        Ok(map.metadata.resource_version)
    }

    fn take(&self, map: &ConfigMap) -> Result<(), String> {
        let generation = self.generation.fetch_add(1, Ordering::Relaxed) + 1;
        let settings = Settings::read(map, generation)?;
        if settings.trust.proxies.is_none() {
            warn!("the cluster names no front proxy: nobody who asks through kube-apiserver is known");
        }
        self.settings.store(Arc::new(settings));
        Ok(())
    }

    /// Believes the certificates that `authorities` made for replicas of this server, and them alone.
    pub fn trust_replicas(&self, authorities: Authorities) {
        let generation = self.generation.fetch_add(1, Ordering::Relaxed) + 1;
        self.replicas.store(Some(Arc::new(Settings::of_replicas(authorities, generation))));
    }

    /// Keeps up with the ConfigMap, for ever: CAs rotate while the server runs. What can't be read changes nothing.
    pub async fn keep_current(&self) {
        let mut pause = PAUSES.0;
        loop {
            match self.follow().await {
                Ok(()) => pause = PAUSES.0,
                Err(error) => {
                    warn!(error, wait = ?pause, "whom the cluster trusts can't be read; what was read before holds");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSES.1);
                }
            }
        }
    }

    async fn follow(&self) -> Result<(), String> {
        let version = self.read().await?.unwrap_or_default();
        let only =
            WatchParams::default().fields(&format!("metadata.name={}", front_proxy::NAME)).timeout(WATCH_SECONDS);
        let events = self.maps.0.watch(&only, &version).await.map_err(|error| error.to_string())?;
        let mut events = events.boxed();
        while let Some(event) = events.try_next().await.map_err(|error| error.to_string())? {
            match event {
                WatchEvent::Added(map) | WatchEvent::Modified(map) => {
                    self.take(&map)?;
                    info!("whom the cluster trusts has changed");
                }
                WatchEvent::Deleted(_) => return Err("the ConfigMap was deleted".to_owned()),
                WatchEvent::Bookmark(_) => {}
                WatchEvent::Error(status) => return Err(status.message.clone()),
            }
        }
        Ok(())
    }

    /// Who makes a request: whom a front proxy says, whose client certificate it is, whose token; nobody that is
    /// known, where it shows none of these.
    pub(super) async fn authenticate(
        &self,
        peer: Option<&Peer>,
        token: Option<&str>,
        headers: &HeaderMap,
    ) -> Result<Caller, Error> {
        let mut why = None;
        if let Some(peer) = peer {
            let named = |user: &str, groups| {
                Caller::in_cluster(Named { user: user.to_owned(), groups, ..Named::default() }, &self.namespaces)
            };
            let now = self.clock.now();
            if let Some(replicas) = &*self.replicas.load()
                && peer.judge(&replicas.trust, now, named).proxy
            {
                let said = replicas.said(headers).map_err(Error::BadRequest)?;
                return Ok(said.map_or_else(Caller::anonymous, |said| Caller::in_cluster(said, &self.namespaces)));
            }
            let settings = self.settings.load();
            let found = peer.judge(&settings.trust, now, named);
            if found.proxy
                && let Some(said) = settings.said(headers).map_err(Error::BadRequest)?
            {
                return Ok(Caller::in_cluster(said, &self.namespaces));
            }
            if let Some(caller) = found.caller {
                return Ok(caller);
            }
            if !found.proxy {
                debug!(why = &*found.why, "a client certificate is not believed");
                why = Some(found.why);
            }
        }
        match (token, why) {
            (Some(token), _) => match self.reviews.token(token).await? {
                Some(named) if !named.user.is_empty() => Ok(Caller::in_cluster((*named).clone(), &self.namespaces)),
                _ => Err(Error::Unauthorized("Unauthorized".to_owned())),
            },
            (None, Some(why)) => Err(not_believed(&why)),
            (None, None) => Ok(Caller::anonymous()),
        }
    }

    /// Whether `caller` may act as another, for each part of it.
    pub(super) async fn impersonate(&self, caller: &Caller, who: &Impersonated) -> Result<Caller, Error> {
        let account = who.user.strip_prefix(SERVICE_ACCOUNT).and_then(|account| account.split_once(':'));
        let user = match account {
            Some((namespace, name)) => {
                About::Namespaced { verb: "impersonate", resource: "serviceaccounts", namespace, name }
            }
            None => of_core("users", &who.user),
        };
        let asked = [(user, who.user.as_str())].into_iter();
        for (about, name) in asked.chain(who.groups.iter().map(|group| (of_core("groups", group), group.as_str()))) {
            if let Decision::Denied(reason) = self.reviews.may(caller, about).await? {
                let resource = match about {
                    About::Namespaced { resource, .. } | About::Resource { resource, .. } => resource,
                    About::Path { .. } => "",
                };
                return Err(may_not_impersonate(caller, resource, name, &reason));
            }
        }
        let named = Named { user: who.user.clone(), groups: who.groups.clone(), ..Named::default() };
        Ok(Caller::in_cluster(named, &self.namespaces))
    }

    /// The caller with what the cluster lets it see.
    pub(super) async fn with_sight(&self, caller: Caller) -> Result<Caller, Error> {
        if caller.is_administrator() {
            return Ok(caller);
        }
        let about = About::Resource {
            verb: VIEW_PRIVATE,
            group: GROUP,
            version: VERSION,
            resource: "repositories",
            subresource: "",
            name: "",
        };
        Ok(match self.reviews.may(&caller, about).await? {
            Decision::Allowed => caller.viewing_private(),
            Decision::Denied(_) => caller,
        })
    }

    /// Whether the cluster's own rules let `caller` do it.
    pub(super) async fn authorize(&self, caller: &Caller, attributes: &Attributes<'_>) -> Result<(), Error> {
        let Attributes { verb, kind, subresource, name, .. } = *attributes;
        let about = About::Resource {
            verb: verb.as_str(),
            group: GROUP,
            version: VERSION,
            resource: kind.plural(),
            subresource,
            name,
        };
        if caller.is_master() {
            return Ok(());
        }
        match self.reviews.may(caller, about).await? {
            Decision::Allowed => Ok(()),
            Decision::Denied(reason) => Err(forbidden(caller, attributes, &reason)),
        }
    }

    /// Whether the cluster's own rules let `caller` ask for a path that is no resource.
    pub(super) async fn authorize_path(&self, caller: &Caller, verb: &str, path: &str) -> Result<(), Error> {
        if caller.is_master() {
            return Ok(());
        }
        match self.reviews.may(caller, About::Path { verb, path }).await? {
            Decision::Allowed => Ok(()),
            Decision::Denied(reason) => {
                let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
                Err(Error::Forbidden {
                    kind: None,
                    name: String::new(),
                    message: format!("forbidden: User {:?} cannot {verb} path {path:?}{why}", caller.user()),
                })
            }
        }
    }
}

fn of_core<'a>(resource: &'a str, name: &'a str) -> About<'a> {
    About::Resource { verb: "impersonate", group: "", version: "v1", resource, subresource: "", name }
}
