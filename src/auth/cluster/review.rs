//! What the cluster is asked: who a token is of (TokenReview), and whether somebody may do something
//! (SubjectAccessReview). Its answers are kept as long as kube's own delegating servers keep them.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::api::{Api, PostParams};
use moka::future::Cache;
use sha2::{Digest as _, Sha256};
use tracing::warn;

use crate::auth::Caller;
use crate::auth::caller::Named;
use crate::error::Error;

/// How long answers are kept: what kube's delegated authentication and authorization have by default.
pub const KEPT: Duration = Duration::from_secs(10);
/// The most answers that are kept, of each sort.
const ANSWERS: u64 = 10_000;
/// How often the cluster is asked, when it fails to answer.
const TRIES: u32 = 3;
/// How long it may take to answer.
const ANSWER_TIME: Duration = Duration::from_secs(5);
/// The first pause between tries; the next is twice as long.
const PAUSE: Duration = Duration::from_millis(100);
/// The longest token that is passed on, in bytes.
const LONGEST_TOKEN: usize = 64 * 1024;

/// What the cluster was asked, and answered.
pub(super) struct Reviews {
    client: kube::Client,
    tokens: Cache<[u8; 32], Option<Arc<Named>>>,
    access: Cache<[u8; 32], Decision>,
}

/// Whether somebody may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Decision {
    Allowed,
    /// Not, with the cluster's reason, often empty.
    Denied(Arc<str>),
}

/// What is asked about.
#[derive(Debug, Clone, Copy)]
pub(super) enum About<'a> {
    /// A verb on a resource.
    Resource { verb: &'a str, group: &'a str, version: &'a str, resource: &'a str, subresource: &'a str, name: &'a str },
    /// A verb on a namespaced resource of the core group.
    Namespaced { verb: &'a str, resource: &'a str, namespace: &'a str, name: &'a str },
    /// A method on a path.
    Path { verb: &'a str, path: &'a str },
}

impl Reviews {
    pub(super) fn new(client: kube::Client) -> Self {
        Self {
            client,
            tokens: Cache::builder().max_capacity(ANSWERS).time_to_live(KEPT).build(),
            access: Cache::builder().max_capacity(ANSWERS).time_to_live(KEPT).build(),
        }
    }

    /// Who `token` is of; `None` where it is no good.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where the cluster doesn't answer.
    pub(super) async fn token(&self, token: &str) -> Result<Option<Arc<Named>>, Error> {
        if token.is_empty() || token.len() > LONGEST_TOKEN {
            return Ok(None);
        }
        // The token itself is not kept.
        let key: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let review = async {
            let spec = TokenReviewSpec { token: token.to_owned(), audiences: None };
            let review = TokenReview { spec, ..TokenReview::default() };
            let api: Api<TokenReview> = Api::all(self.client.clone());
            let reviewed = ask("TokenReview", || api.create(&POST, &review)).await?;
            let status = reviewed.status.unwrap_or_default();
            let user = status.user.filter(|_| status.authenticated == Some(true));
            Ok(user.map(|user| {
                Arc::new(Named {
                    user: user.username.unwrap_or_default(),
                    uid: user.uid.filter(|uid| !uid.is_empty()),
                    groups: user.groups.unwrap_or_default(),
                    extra: user.extra.unwrap_or_default(),
                })
            }))
        };
        // Whoever comes while it is being asked waits for the same answer.
        self.tokens.try_get_with(key, review).await.map_err(|error: Arc<Error>| (*error).clone())
    }

    /// Whether `caller` may.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where the cluster doesn't answer: nothing is open then.
    pub(super) async fn may(&self, caller: &Caller, about: About<'_>) -> Result<Decision, Error> {
        let spec = spec(caller, about);
        let text = serde_json::to_vec(&spec).map_err(Error::internal)?;
        let key: [u8; 32] = Sha256::digest(&text).into();
        let review = async {
            let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
            let api: Api<SubjectAccessReview> = Api::all(self.client.clone());
            let reviewed = ask("SubjectAccessReview", || api.create(&POST, &review)).await?;
            let status = reviewed.status.unwrap_or_default();
            if status.allowed && status.denied != Some(true) {
                return Ok(Decision::Allowed);
            }
            if let Some(error) = status.evaluation_error.filter(|error| !error.is_empty()) {
                warn!(error, "the cluster could not evaluate all of an access review");
            }
            Ok(Decision::Denied(status.reason.unwrap_or_default().into()))
        };
        self.access.try_get_with(key, review).await.map_err(|error: Arc<Error>| (*error).clone())
    }
}

impl std::fmt::Debug for Reviews {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reviews").finish_non_exhaustive()
    }
}

const POST: PostParams = PostParams { dry_run: false, field_manager: None };

fn spec(caller: &Caller, about: About<'_>) -> SubjectAccessReviewSpec {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let mut spec = SubjectAccessReviewSpec {
        user: some(caller.user()),
        groups: Some(caller.groups().to_vec()),
        uid: caller.uid().map(str::to_owned),
        extra: (!caller.extra().is_empty()).then(|| caller.extra().clone()),
        ..SubjectAccessReviewSpec::default()
    };
    match about {
        About::Resource { verb, group, version, resource, subresource, name } => {
            spec.resource_attributes = Some(ResourceAttributes {
                verb: some(verb),
                group: some(group),
                version: some(version),
                resource: some(resource),
                subresource: some(subresource),
                name: some(name),
                ..ResourceAttributes::default()
            });
        }
        About::Namespaced { verb, resource, namespace, name } => {
            spec.resource_attributes = Some(ResourceAttributes {
                verb: some(verb),
                version: some("v1"),
                resource: some(resource),
                namespace: some(namespace),
                name: some(name),
                ..ResourceAttributes::default()
            });
        }
        About::Path { verb, path } => {
            spec.non_resource_attributes = Some(NonResourceAttributes { verb: some(verb), path: some(path) });
        }
    }
    spec
}

/// Asks up to [`TRIES`] times, where what went wrong may be over at once.
async fn ask<T, F>(what: &'static str, request: impl Fn() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, kube::Error>>,
{
    let mut pause = PAUSE;
    let mut tries = 1;
    loop {
        let failed = match tokio::time::timeout(ANSWER_TIME, request()).await {
            Ok(Ok(answer)) => return Ok(answer),
            // The server itself is not allowed to ask, say: asking again changes nothing.
            Ok(Err(kube::Error::Api(status))) if status.code < 500 && status.code != 429 => {
                warn!(what, error = status.message, "the cluster refuses to be asked");
                return Err(Error::Unavailable(format!("the cluster refuses a {what}; its reason is in the log")));
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {ANSWER_TIME:?}"),
        };
        if tries == TRIES {
            warn!(what, error = failed, "the cluster can't be asked");
            return Err(Error::Unavailable(format!("the cluster did not answer a {what}; try again")));
        }
        tries += 1;
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
}
