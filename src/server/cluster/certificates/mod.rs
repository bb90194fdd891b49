//! The certificates of a server in a cluster. Its CAs are in a Secret that the replicas share, and the APIService has
//! them in its `caBundle`; each replica makes for itself what it shows, signed by them. All of it is made anew in good
//! time, without a restart. Or somebody else makes the serving certificate: then that is served, the APIService is
//! left alone, and the CAs are for what replicas show each other.
//!
//! Driven by looks, not by events: each look reads the Secret and the APIService, and does what is to be done. So it
//! may be done by any replica, late, or once more.

mod leaf;
mod mounted;
mod ring;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, PostParams};
use parking_lot::Mutex;
use rustls::ClientConfig;
use tokio::sync::watch;
use tracing::{info, warn};

use super::api_service::{ApiServices, FIELD_MANAGER, Published};
use crate::auth::{Authorities, REPLICA};
use crate::clock::SharedClock;
use crate::server::rotation::Certificates;
use leaf::Leaf;
pub use mounted::Mounted;
pub use ring::Lifetimes;
use ring::Ring;

/// The Secret's name.
pub const SECRET: &str = "imagehub-ca";
/// Its key with the CAs and their keys.
const AUTHORITIES: &str = "authorities.json";
/// Its key with their certificates alone, for clients.
const BUNDLE: &str = "ca.crt";
/// How often the Secret and the APIService are looked at.
const LOOK_EVERY: SignedDuration = SignedDuration::from_secs(5);
/// The pause after a look that failed; twice as long each time, up to the second.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// How often in one look a write is tried that another replica was faster with.
const ATTEMPTS: usize = 5;
/// The most that one look does about the CAs: one comes, signs, and others go.
const STEPS: usize = 4;

/// Who needs certificates, for what.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The server's own namespace.
    pub namespace: String,
    /// The Service that the APIService names.
    pub service: String,
    /// The address at which other replicas and clients reach this one, beside the Service.
    pub address: Option<IpAddr>,
    /// The serving certificate, where somebody else makes it.
    pub mounted: Option<Mounted>,
    /// How long what is good.
    pub lifetimes: Lifetimes,
}

/// The certificates of one replica.
pub struct ReplicaCertificates {
    secrets: Api<Secret>,
    /// None where the APIService is not ours to write.
    api_services: Option<ApiServices>,
    settings: Settings,
    clock: SharedClock,
    serving: Arc<Certificates>,
    forwarding: watch::Sender<Arc<ClientConfig>>,
    held: Mutex<Held>,
}

/// What a replica has now.
#[derive(Debug)]
struct Held {
    ring: Ring,
    leaf: Leaf,
}

impl std::fmt::Debug for ReplicaCertificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReplicaCertificates").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// Where the CAs are kept.
struct Shelf<'a> {
    secrets: &'a Api<Secret>,
    api_services: Option<&'a ApiServices>,
    lifetimes: &'a Lifetimes,
}

impl ReplicaCertificates {
    /// Those of this replica. Waits, for as long as it takes, until the cluster has told or taken the CAs.
    ///
    /// # Errors
    /// A mounted certificate can't be used, which no waiting makes better.
    pub async fn open(client: kube::Client, settings: Settings, clock: SharedClock) -> Result<Arc<Self>, String> {
        let mounted = match &settings.mounted {
            Some(mounted) => Some(mounted.read().await?),
            None => None,
        };
        let secrets = Api::namespaced(client.clone(), &settings.namespace);
        let ours = settings.mounted.is_none();
        let api_services = ours.then(|| ApiServices::new(client, &settings.namespace, &settings.service));
        let shelf = Shelf { secrets: &secrets, api_services: api_services.as_ref(), lifetimes: &settings.lifetimes };
        let names = names(&settings);
        let mut pause = PAUSES.0;
        let (ring, leaf) = loop {
            let now = clock.now();
            let found = async {
                let (ring, unpublished) = shelf.look(now).await?;
                if let Some(error) = unpublished {
                    warn!(error, "kube-apiserver does not yet believe this server");
                }
                let signer = ring.signer().ok_or("no CA signs")?;
                let leaf = Leaf::issue(signer, &names, now, &settings.lifetimes)?;
                Ok::<_, String>((ring, leaf))
            };
            match found.await {
                Ok(found) => break found,
                Err(error) => warn!(error, wait = ?pause, "there are no certificates yet"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        };
        let serving = Certificates::of(match mounted {
            Some(mounted) => mounted,
            None => leaf.serving()?,
        });
        serving.serve_replicas(leaf.serving()?);
        let forwarding = watch::Sender::new(leaf.forwarding(&ring, &clock)?);
        let held = Mutex::new(Held { ring, leaf });
        Ok(Arc::new(Self { secrets, api_services, settings, clock, serving, forwarding, held }))
    }

    /// What new connections are served with.
    #[must_use]
    pub fn serving(&self) -> Arc<Certificates> {
        Arc::clone(&self.serving)
    }

    /// How this replica speaks to another: it shows who it is, and asks for the certificate of [`REPLICA`] whatever
    /// the address. Another one after each change, for connections that are made from then on.
    #[must_use]
    pub fn forwarding(&self) -> watch::Receiver<Arc<ClientConfig>> {
        self.forwarding.subscribe()
    }

    /// The CAs by which other replicas are believed.
    ///
    /// # Errors
    /// One of them can't be used.
    pub fn authorities(&self) -> Result<Authorities, String> {
        let held = self.held.lock();
        let certificates = held.ring.authorities.iter().map(ring::Authority::der).collect::<Result<Vec<_>, _>>()?;
        Authorities::new(certificates)
    }

    /// Keeps all of it fresh, for ever. Tells `trust` by which CAs other replicas are believed: now, and when that
    /// changes.
    pub async fn keep_fresh(&self, trust: impl Fn(Authorities)) {
        let follow = async {
            match &self.settings.mounted {
                Some(mounted) => mounted.follow(&self.serving, &self.clock).await,
                None => std::future::pending().await,
            }
        };
        tokio::join!(follow, self.keep_looking(trust));
    }

    async fn keep_looking(&self, trust: impl Fn(Authorities)) {
        let tell = || match self.authorities() {
            Ok(authorities) => trust(authorities),
            Err(error) => warn!(error, "the CAs of the replicas can't be used"),
        };
        tell();
        let (mut pause, mut said) = (PAUSES.0, None);
        loop {
            let wait = match said {
                None => LOOK_EVERY,
                Some(_) => SignedDuration::try_from(pause).unwrap_or(LOOK_EVERY),
            };
            self.clock.reaches(self.clock.now().checked_add(wait).unwrap_or(Timestamp::MAX)).await;
            let looked = self.look(tell).await;
            pause = if looked.is_ok() { PAUSES.0 } else { (pause * 2).min(PAUSES.1) };
            let error = looked.err();
            // Once, not with each look.
            if let Some(error) = error.as_ref().filter(|error| said.as_ref() != Some(*error)) {
                warn!(error, "the certificates can't be looked after; those in use stay");
            }
            said = error;
        }
    }

    /// One look, and what it asks for.
    pub(super) async fn look(&self, changed: impl FnOnce()) -> Result<(), String> {
        let now = self.clock.now();
        let lifetimes = &self.settings.lifetimes;
        let shelf = Shelf { secrets: &self.secrets, api_services: self.api_services.as_ref(), lifetimes };
        let looked = shelf.look(now).await;
        let (ring, failed) = match looked {
            Ok(looked) => looked,
            // What is to be made anew by what is known is made anew also while the cluster doesn't answer.
            Err(error) => (self.held.lock().ring.clone(), Some(error)),
        };
        let signer = ring.signer().ok_or("no CA signs")?;
        let fresh = if self.held.lock().leaf.is_old(signer, now, lifetimes) {
            Some(Leaf::issue(signer, &names(&self.settings), now, lifetimes)?)
        } else {
            None
        };
        let other = self.held.lock().ring.authorities != ring.authorities;
        if fresh.is_some() || other {
            self.take(ring, fresh)?;
        }
        if other {
            changed();
        }
        failed.map_or(Ok(()), Err)
    }

    fn take(&self, ring: Ring, fresh: Option<Leaf>) -> Result<(), String> {
        let mut held = self.held.lock();
        let leaf = fresh.as_ref().unwrap_or(&held.leaf);
        let forwarding = leaf.forwarding(&ring, &self.clock)?;
        if let Some(fresh) = &fresh {
            self.serving.serve_replicas(fresh.serving()?);
            if self.settings.mounted.is_none() && self.serving.serve(fresh.serving()?) {
                info!("the serving certificate was made anew");
            }
        }
        self.forwarding.send_replace(forwarding);
        held.ring = ring;
        if let Some(fresh) = fresh {
            held.leaf = fresh;
        }
        Ok(())
    }
}

/// What a replica is reached by.
fn names(settings: &Settings) -> Vec<String> {
    let Settings { namespace, service, address, .. } = settings;
    let mut names = vec![
        format!("{service}.{namespace}.svc"),
        format!("{service}.{namespace}.svc.cluster.local"),
        format!("{service}.{namespace}"),
        service.clone(),
        "localhost".to_owned(),
        REPLICA.to_owned(),
    ];
    names.extend(address.map(|address| address.to_string()));
    names
}

impl Shelf<'_> {
    /// Reads the CAs, does about them what is to be done now, and has the APIService know them; or why it doesn't.
    async fn look(&self, now: Timestamp) -> Result<(Ring, Option<String>), String> {
        let Some(api_services) = self.api_services else { return Ok((self.agree(now, None).await?, None)) };
        let (published, unread) = match api_services.read().await {
            Ok(published) => (published, None),
            // Then nobody is taken to know anything.
            Err(error) => (Published::default(), Some(error)),
        };
        let ring = self.agree(now, Some(&published)).await?;
        let unwritten = async || api_services.publish(&published, ring.revision, &ring.bundle()).await.err();
        let why = match unread {
            Some(error) => Some(error),
            None => unwritten().await,
        };
        Ok((ring, why))
    }

    async fn agree(&self, now: Timestamp, published: Option<&Published>) -> Result<Ring, String> {
        for _ in 0..ATTEMPTS {
            let found = self.secrets.get_opt(SECRET).await.map_err(|error| format!("Secret {SECRET}: {error}"))?;
            let mut ring = match &found {
                Some(secret) => read(secret)?,
                None => Ring::default(),
            };
            let mut steps = Vec::new();
            while steps.len() < STEPS {
                // Where nobody but the replicas checks, a CA is known when it is in the Secret.
                let known = published.map_or_else(|| ring.bundle(), |published| published.bundle.clone());
                let Some(step) = ring.next(now, &known, self.lifetimes) else { break };
                ring.apply(step, now, published.map_or(0, |published| published.revision), self.lifetimes)?;
                steps.push(step);
            }
            if steps.is_empty() {
                return Ok(ring);
            }
            match self.write(found, &ring).await {
                Ok(()) => {
                    info!(?steps, revision = ring.revision, "the CAs in the Secret {SECRET} have changed");
                    return Ok(ring);
                }
                // Another replica was faster: what it wrote may be all there was to do.
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => return Err(format!("Secret {SECRET}: {error}")),
            }
        }
        Err(format!("Secret {SECRET}: others change it all the time"))
    }

    async fn write(&self, found: Option<Secret>, ring: &Ring) -> Result<(), kube::Error> {
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        let data = BTreeMap::from([
            (AUTHORITIES.to_owned(), ByteString(ring.write())),
            (BUNDLE.to_owned(), ByteString(ring.bundle().into_bytes())),
        ]);
        if let Some(mut secret) = found {
            // With the version that was read: another's change in between is a conflict.
            secret.data = Some(data);
            self.secrets.replace(SECRET, &params, &secret).await?;
        } else {
            let mut secret = Secret { data: Some(data), ..Secret::default() };
            secret.metadata.name = Some(SECRET.to_owned());
            secret.metadata.labels =
                Some(BTreeMap::from([("app.kubernetes.io/name".to_owned(), "imagehub".to_owned())]));
            self.secrets.create(&params, &secret).await?;
        }
        Ok(())
    }
}

fn read(secret: &Secret) -> Result<Ring, String> {
    let json = secret.data.as_ref().and_then(|data| data.get(AUTHORITIES));
    let read = json.ok_or_else(|| "it is not there".to_owned()).and_then(|json| Ring::read(&json.0));
    read.map_err(|why| {
        format!("{AUTHORITIES} in the Secret {SECRET} can't be used ({why}): delete the Secret to have it made anew")
    })
}

#[cfg(test)]
mod tests;
