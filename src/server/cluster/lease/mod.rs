//! Which replica is the active one: a Lease (coordination.k8s.io/v1) in the server's own namespace says so.
//!
//! [`ballot`] has the rules, [`term`] what a holder knows of its own time; here is what asks the cluster. The Lease is
//! polled rather than watched: it is written each second anyway.

mod ballot;
mod term;

use std::future::pending;
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, PostParams};
use rand::RngExt as _;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use uuid::Uuid;

use crate::clock::SharedClock;
use ballot::Ballot;
pub use term::{Inside, Term};

/// The Lease's annotation with the holder's address, `host:port`, where other replicas reach its Kubernetes door.
pub const ADDRESS: &str = "imagehub.sealos.io/address";
/// How long the preparation of a term may take; then another replica gets a chance.
pub const PREPARE_TIME: Duration = Duration::from_secs(10);
/// How long a replica that could not prepare leaves the Lease to others.
pub const ABSTAIN: Duration = Duration::from_secs(6);
/// How long a term that is given up waits for the requests that are being answered in it.
pub const STEP_DOWN_TIME: Duration = Duration::from_secs(5);
/// How long giving the Lease back may take at the very end.
const GIVE_BACK_TIME: Duration = Duration::from_secs(2);

/// The times of an election. Between `deadline` and `lease` lies what clocks may differ in their rates.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// How long others must have seen the Lease unchanged before they take it.
    pub lease: Duration,
    /// How long a holder takes itself for it, from before it sent the write that was confirmed.
    pub deadline: Duration,
    /// How often it is renewed.
    pub renew: Duration,
    /// How long after a failure it is tried again, and how often others look; jittered, down to the half.
    pub retry: Duration,
    /// How long a request may take.
    pub request: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(6),
            deadline: Duration::from_secs(4),
            renew: Duration::from_secs(1),
            retry: Duration::from_millis(500),
            request: Duration::from_millis(1500),
        }
    }
}

/// A replica, as it names itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its name: its Pod's, say. A random part is added for the Lease: a process that was started anew is another.
    pub name: String,
    /// Where others reach its Kubernetes door: `host:port`.
    pub address: String,
}

/// Another replica, as the Lease names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The holder.
    pub name: String,
    /// Where its Kubernetes door is: `host:port`.
    pub address: String,
}

/// What a replica is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// It passes requests on.
    Standby {
        /// To whom; `None` while nobody is known to be active.
        active: Option<Peer>,
    },
    /// It answers them, while the term holds.
    Active(Term),
}

/// What is known of the Lease.
#[derive(Debug, Clone, Default, PartialEq)]
struct View {
    /// The term, where this replica holds it.
    term: Option<Term>,
    /// The other replica that does.
    active: Option<Peer>,
}

/// Takes part in the election.
#[derive(Debug)]
pub struct Elector {
    campaign: Campaign,
    roles: watch::Sender<Role>,
    wants: watch::Sender<bool>,
}

impl Elector {
    /// An elector for the Lease `name` in `namespace`; and what this replica is, which changes while it runs.
    #[must_use]
    pub fn new(
        client: kube::Client,
        namespace: &str,
        name: &str,
        me: Identity,
        clock: SharedClock,
    ) -> (Self, watch::Receiver<Role>) {
        Self::with_timing(client, namespace, name, me, clock, Timing::default())
    }

    /// The same, with other times.
    #[must_use]
    pub fn with_timing(
        client: kube::Client,
        namespace: &str,
        name: &str,
        mut me: Identity,
        clock: SharedClock,
        timing: Timing,
    ) -> (Self, watch::Receiver<Role>) {
        me.name = format!("{}_{}", me.name, Uuid::new_v4());
        let (roles, seen) = watch::channel(Role::Standby { active: None });
        let (wants, wanted) = watch::channel(true);
        let campaign = Campaign {
            leases: Leases(Api::namespaced(client, namespace)),
            name: name.to_owned(),
            ballot: Ballot::new(name, me, timing),
            timing,
            clock,
            view: watch::Sender::new(View::default()),
            wanted,
            failing: false,
        };
        (Self { campaign, roles, wants }, seen)
    }

    /// Takes part until `end` is cancelled. Whenever this replica comes to hold the Lease, `prepare` is run, and only
    /// if it succeeds is the replica active: it is to see to it that this replica knows all that was acknowledged
    /// before. It is dropped where the term ends first.
    ///
    /// When `release` is cancelled, the term is given up: nothing new begins in it, what has begun is finished (within
    /// [`STEP_DOWN_TIME`]), and the Lease is given back, so that another takes it at once. From then on this one is a
    /// standby that knows who is active, for the requests that still come to it. So `end` is for the end of the
    /// process, when nobody asks it any more; what was not given back is then.
    pub async fn run<P, F>(self, prepare: P, release: CancellationToken, end: CancellationToken)
    where
        P: Fn(Term) -> F,
        F: Future<Output = Result<(), String>>,
    {
        let Self { mut campaign, roles, wants } = self;
        let view = campaign.view.subscribe();
        tokio::select! {
            // The clock first: what it ends is not used by the others any more.
            biased;
            () = end.cancelled() => {}
            () = run_out(view.clone()) => {}
            () = conduct(view, &roles, &wants, &prepare, &release) => {}
            () = campaign.run() => {}
        }
        campaign.end_term();
        roles.send_replace(Role::Standby { active: None });
        if timeout(GIVE_BACK_TIME, campaign.give_back()).await.is_err() {
            warn!("the Lease can't be given back; others take over when it has expired");
        }
    }
}

/// Ends terms at their deadlines.
async fn run_out(mut view: watch::Receiver<View>) {
    loop {
        let term = view.borrow_and_update().term.clone();
        let ended = async {
            match term {
                Some(term) if term.holds() => term.run_out().await,
                Some(term) => {
                    term.end();
                    pending().await
                }
                None => pending().await,
            }
        };
        tokio::select! {
            () = ended => {}
            changed = view.changed() => if changed.is_err() {
                return pending().await;
            }
        }
    }
}

/// Makes roles of terms.
async fn conduct<P, F>(
    mut view: watch::Receiver<View>,
    roles: &watch::Sender<Role>,
    wants: &watch::Sender<bool>,
    prepare: &P,
    release: &CancellationToken,
) where
    P: Fn(Term) -> F,
    F: Future<Output = Result<(), String>>,
{
    let mut released = false;
    let mut abstains = None;
    loop {
        let View { term, active } = view.borrow_and_update().clone();
        let term = term.filter(|term| !term.is_closing());
        let waits = Role::Standby { active };
        roles.send_if_modified(|role| {
            let other = *role != waits;
            *role = waits;
            other
        });
        let Some(term) = term else {
            let abstained = async {
                match abstains {
                    Some(until) => tokio::time::sleep_until(until).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                _ = view.changed() => {}
                () = release.cancelled(), if !released => {
                    released = true;
                    abstains = None;
                    wants.send_replace(false);
                }
                () = abstained => {
                    abstains = None;
                    wants.send_replace(true);
                }
            }
            continue;
        };
        info!("this replica holds the Lease; it prepares to be the active one");
        let prepared = tokio::select! {
            () = term.over() => continue,
            () = release.cancelled(), if !released => Err("it is told to stop".to_owned()),
            prepared = timeout(PREPARE_TIME, prepare(term.clone())) => {
                prepared.unwrap_or_else(|_| Err(format!("it took longer than {PREPARE_TIME:?}")))
            }
        };
        if let Err(why) = prepared {
            warn!(why, "this replica can't be the active one; it leaves the Lease to others");
            term.end();
            wants.send_replace(false);
            abstains = Some(tokio::time::Instant::now() + ABSTAIN);
            continue;
        }
        info!("this replica is the active one");
        roles.send_replace(Role::Active(term.clone()));
        tokio::select! {
            () = term.over() => warn!("this replica is not the active one any more: the Lease was not renewed in time"),
            () = release.cancelled(), if !released => {
                released = true;
                term.close();
                roles.send_replace(Role::Standby { active: None });
                tokio::select! {
                    () = term.emptied() => {}
                    () = term.over() => {}
                    () = tokio::time::sleep(STEP_DOWN_TIME) => {
                        warn!("some requests did not finish within {STEP_DOWN_TIME:?}: their outcome is unknown");
                    }
                }
                // One after the other without a pause: no other term begins in between.
                term.end();
                wants.send_replace(false);
            }
        }
    }
}

/// What reads and writes the Lease.
#[derive(Debug)]
struct Campaign {
    leases: Leases,
    name: String,
    ballot: Ballot,
    timing: Timing,
    clock: SharedClock,
    view: watch::Sender<View>,
    /// Whether this replica is to hold the Lease.
    wanted: watch::Receiver<bool>,
    /// Whether the last request failed: it is logged once.
    failing: bool,
}

struct Leases(Api<Lease>);

impl std::fmt::Debug for Leases {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Leases")
    }
}

const POST: PostParams = PostParams { dry_run: false, field_manager: None };

impl Campaign {
    /// For ever.
    async fn run(&mut self) {
        loop {
            let pause = self.round().await;
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                changed = self.wanted.changed() => if changed.is_err() {
                    return pending().await;
                }
            }
        }
    }

    /// Looks at the Lease and writes it, as far as is needed; how long until the next time.
    async fn round(&mut self) -> Duration {
        let retry = jittered(self.timing.retry);
        if self.ballot.is_doubtful() {
            if let Err(error) = self.read().await {
                self.fails("read", &error);
                return retry;
            }
            self.works();
            self.publish();
        }
        let wants = *self.wanted.borrow_and_update();
        let Some(bid) = self.ballot.bid(Instant::now(), wants, self.clock.now()) else {
            // Who doesn't hold it looks at it anew each time.
            self.ballot.doubt();
            return retry;
        };
        match self.write(bid).await {
            Ok(sent) => {
                self.works();
                self.publish();
                if wants {
                    return self.timing.renew.saturating_sub(sent.elapsed());
                }
                info!("the Lease was given back");
            }
            Err(Failed::Conflict) => debug!("another replica has written the Lease"),
            Err(error) => self.fails("written", &error),
        }
        retry
    }

    async fn read(&mut self) -> Result<(), Failed> {
        let lease = self.limited(self.leases.0.get_opt(&self.name)).await?;
        self.ballot.saw(lease, Instant::now());
        Ok(())
    }

    /// When it was sent.
    async fn write(&mut self, bid: Lease) -> Result<Instant, Failed> {
        // Before the request is made: whatever delays it, also a stop of this process, is on our side of the deadline.
        let sent = Instant::now();
        let stored = if bid.metadata.resource_version.is_some() {
            self.limited(self.leases.0.replace(&self.name, &POST, &bid)).await
        } else {
            self.limited(self.leases.0.create(&POST, &bid)).await
        };
        match stored {
            Ok(stored) => {
                self.ballot.wrote(stored, sent, Instant::now());
                Ok(sent)
            }
            Err(error) => {
                // It may have been written all the same.
                self.ballot.doubt();
                Err(error)
            }
        }
    }

    async fn limited<T>(&self, request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Failed> {
        match timeout(self.timing.request, request).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(kube::Error::Api(status))) if status.code == 409 => Err(Failed::Conflict),
            Ok(Err(error)) => Err(Failed::Other(error.to_string())),
            Err(_) => Err(Failed::Other(format!("no answer within {:?}", self.timing.request))),
        }
    }

    fn fails(&mut self, what: &'static str, error: &Failed) {
        if !std::mem::replace(&mut self.failing, true) {
            warn!(error = %error, lease = self.name, "the Lease can't be {what}; trying on");
        }
    }

    fn works(&mut self) {
        if std::mem::replace(&mut self.failing, false) {
            info!(lease = self.name, "the Lease can be read and written again");
        }
    }

    /// Tells what is known. A term begins here, goes on, or ends.
    fn publish(&self) {
        let now = Instant::now();
        let active = self.ballot.other(now);
        let deadline = self.ballot.held(now).filter(|_| *self.wanted.borrow());
        self.view.send_if_modified(|view| {
            let term = view.term.take();
            let term_now = match (term.clone(), deadline) {
                (Some(term), Some(deadline)) if term.extend(deadline) => Some(term),
                (term, deadline) => {
                    if let Some(term) = term {
                        term.end();
                    }
                    deadline.map(Term::until)
                }
            };
            let modified = term != term_now || view.active != active;
            *view = View { term: term_now, active };
            modified
        });
    }

    fn end_term(&self) {
        if let Some(term) = &self.view.borrow().term {
            term.end();
        }
    }

    /// Gives the Lease back, if this replica may hold it.
    async fn give_back(&mut self) {
        loop {
            if self.read().await.is_ok() {
                let Some(bid) = self.ballot.bid(Instant::now(), false, self.clock.now()) else { return };
                if self.write(bid).await.is_ok() {
                    return info!("the Lease was given back");
                }
            }
            tokio::time::sleep(jittered(self.timing.retry)).await;
        }
    }
}

fn jittered(time: Duration) -> Duration {
    time.mul_f64(rand::rng().random_range(0.5..=1.0))
}

/// Why a request was not answered with a Lease.
#[derive(Debug, thiserror::Error)]
enum Failed {
    /// It is another than was expected.
    #[error("it was changed meanwhile")]
    Conflict,
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

#[cfg(test)]
mod tests;
