//! Writes under clean names. Everything goes through the registry, as every door's writes do; here is what stands before
//! it: who may is told before what is there, a condition holds at just the version that is changed, and without one
//! whoever comes second decides anew.

use std::collections::HashSet;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::quota::Quota;
use super::view::View;
use crate::api::{self, DataPackSpec, FieldValidation, Kind, Object, Spec, SpecHash};
use crate::auth::{Attributes, Authorizer, Caller, Verb};
use crate::error::Error;
use crate::graph::{Record, Revision, Visible};
use crate::registry::{DeleteOptions, Deleted, Patch, Registry, WriteOptions, Written};

/// How often a write is decided anew when others come first.
const ATTEMPTS: usize = 4;

/// The user whose packs those are that were made for callers who have not signed in.
const GATEWAY_USER: &str = "system:imagehub:gateway";

/// What a request writes with: whoever asks, and the verbs.
#[derive(Debug, Clone, Copy)]
pub struct Writing<'a> {
    /// The verbs.
    pub registry: &'a Arc<Registry>,
    /// What a cluster says, before the rules that the registry has.
    pub authorizer: &'a Authorizer,
    /// Whoever asks.
    pub caller: &'a Caller,
}

/// Finds an object.
pub type Find<'a> = &'a (dyn Fn(&Visible) -> Option<Arc<Record>> + Send + Sync + 'a);
/// Whether what is there, or that nothing is, is as expected.
pub type Expects<'a> = &'a (dyn Fn(&View, Option<&Record>) -> bool + Send + Sync + 'a);
/// What is changed of an object.
pub type Change<'a> = &'a (dyn Fn(&Record) -> Value + Send + Sync + 'a);
/// What is made.
pub type Make<'a> = &'a (dyn Fn() -> Spec + Send + Sync + 'a);

/// What is to become of one object.
pub struct Plan<'a> {
    /// Its kind.
    pub kind: Kind,
    /// Its `metadata.name` where it isn't there yet.
    pub name: String,
    /// The object, if it is there.
    pub find: Find<'a>,
    /// Whether what is there, or that nothing is, is what whoever asks expects; `None`: whatever is there.
    pub expects: Option<Expects<'a>>,
    /// What is changed of it, at just this version, as a merge patch (RFC 7386).
    pub patch: Change<'a>,
    /// What is made where it isn't there; `None`: nothing is.
    pub create: Option<Make<'a>>,
    /// Whether only to tell what would become of it.
    pub dry_run: bool,
}

/// What became of a write.
#[derive(Debug)]
pub struct Applied {
    /// The object before.
    pub before: Option<Arc<Record>>,
    /// The object now.
    pub after: Arc<Record>,
    /// Whether it was made.
    pub created: bool,
}

/// What became of a write, or would become of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Outcome {
    /// It was made.
    Created,
    /// It was changed.
    Changed,
    /// It was that already: nothing was written.
    Unchanged,
    /// It was not: the errors say why.
    Refused,
}

/// What the writes of many images did together.
#[derive(Debug, Default)]
pub struct Tally {
    packs: HashSet<Arc<str>>,
    written: Option<Revision>,
}

impl Tally {
    /// Takes one of them in, of the image of this full name, and tells what became of it.
    pub fn add(&mut self, visible: &Visible, name: &str, applied: &Applied, dry_run: bool) -> Outcome {
        let outcome = applied.outcome();
        if outcome != Outcome::Unchanged {
            self.packs.extend(packs_of_image(visible, name));
            self.written = self.written.max((!dry_run).then_some(applied.after.revision));
        }
        outcome
    }

    /// How many packs' content they touch.
    #[must_use]
    pub fn packs(&self) -> usize {
        self.packs.len()
    }

    /// A state that has them all; `None` where nothing was written.
    #[must_use]
    pub fn revision(&self, writing: &Writing<'_>) -> Option<Revision> {
        self.written.map(|written| writing.now().max(written))
    }
}

impl Applied {
    /// What became of it.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match (self.created, self.is_unchanged()) {
            (true, _) => Outcome::Created,
            (false, true) => Outcome::Unchanged,
            (false, false) => Outcome::Changed,
        }
    }

    /// Whether it was that already.
    #[must_use]
    pub fn is_unchanged(&self) -> bool {
        !self.created && self.before.as_ref().is_some_and(|before| before.spec_json() == self.after.spec_json())
    }
}

impl Writing<'_> {
    /// What the caller sees now, with the writes so far.
    #[must_use]
    pub fn view(&self) -> View {
        View::new(self.registry.reader(self.caller), self.caller.clone())
    }

    async fn may(&self, verb: Verb, kind: Kind, name: &str, spec_name: &str) -> Result<(), Error> {
        let attributes = Attributes { spec_name, ..Attributes::new(verb, kind, name) };
        self.authorizer.authorize(self.caller, &attributes).await
    }

    /// Makes an object.
    ///
    /// # Errors
    /// Those of [`Registry::create`].
    pub async fn create(&self, name: String, spec: Spec, dry_run: bool) -> Result<Written, Error> {
        self.may(Verb::Create, spec.kind(), "", spec.name().unwrap_or_default()).await?;
        let metadata = ObjectMeta { name: Some(name), ..ObjectMeta::default() };
        let options = WriteOptions { dry_run, ..WriteOptions::default() };
        self.registry.create(self.caller, Object { metadata, spec }, options).await
    }

    /// Changes a part of an object.
    ///
    /// # Errors
    /// Those of [`Registry::patch`].
    pub async fn patch(&self, kind: Kind, name: &str, patch: Value, dry_run: bool) -> Result<Written, Error> {
        self.may(Verb::Patch, kind, name, "").await?;
        let options = WriteOptions { dry_run, ..WriteOptions::default() };
        self.registry.patch(self.caller, kind, name, &Patch::Merge(patch), FieldValidation::Strict, options).await
    }

    /// Deletes an object.
    ///
    /// # Errors
    /// Those of [`Registry::delete`].
    pub async fn delete(&self, kind: Kind, name: &str, options: &DeleteOptions) -> Result<Deleted, Error> {
        self.may(Verb::Delete, kind, name, "").await?;
        self.registry.delete(self.caller, kind, name, options).await
    }

    /// Makes or changes an object.
    ///
    /// # Errors
    /// Conflict or `NotFound` where what is there is not what is expected; `NotFound` where nothing is there and nothing is
    /// to be made; those of the verbs.
    pub async fn put(&self, plan: &Plan<'_>) -> Result<Applied, Error> {
        let Plan { kind, dry_run, .. } = *plan;
        for attempt in 1.. {
            let view = self.view();
            let before = (plan.find)(view.visible());
            let fits = plan.expects.is_none_or(|expects| expects(&view, before.as_deref()));
            let name = before.as_ref().map_or(&*plan.name, |before| before.name());
            let done = match (&before, plan.create) {
                _ if !fits => {
                    // Whether the caller may comes first: it doesn't depend on what is there.
                    self.may(Verb::Patch, kind, name, "").await?;
                    self.registry.authorize(self.caller, Verb::Patch, kind, "", name)?;
                    let (name, message) = (name.to_owned(), String::new());
                    return Err(match &before {
                        Some(_) => Error::Conflict { kind, name, message },
                        None => Error::NotFound { kind, name },
                    });
                }
                (Some(before), _) => self.patch(kind, name, (plan.patch)(before), dry_run).await,
                (None, Some(spec)) => self.create(name.to_owned(), spec(), dry_run).await,
                // It may not be changed, or it isn't there: the verb says which.
                (None, None) => self.patch(kind, name, Value::Object(serde_json::Map::new()), dry_run).await,
            };
            match done {
                Ok(written) => return Ok(Applied { before, after: written.record, created: written.created }),
                // Somebody else came first: whether what is there now is as expected is looked at again.
                Err(Error::Conflict { .. } | Error::AlreadyExists { .. }) if attempt < ATTEMPTS => {}
                Err(Error::NotFound { .. }) if before.is_some() && attempt < ATTEMPTS => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::internal("the attempts have no end"))
    }

    /// Keeps a list of names as a pack. Those who have shown nothing make packs, too, so many a minute: the record is the
    /// gateway's.
    ///
    /// # Errors
    /// Invalid; `TooManyRequests` where the quota is used up; those of [`Registry::create`].
    pub async fn create_pack(&self, spec: DataPackSpec, quota: &Quota) -> Result<Written, Error> {
        let object = Object { metadata: ObjectMeta::default(), spec: Spec::DataPack(spec) };
        if self.caller.is_authenticated() {
            self.may(Verb::Create, Kind::DataPack, "", "").await?;
            return self.registry.create(self.caller, object, WriteOptions::default()).await;
        }
        let gateway = Caller::authenticated(GATEWAY_USER, []);
        let Spec::DataPack(spec) = &object.spec else { return Err(Error::internal("it is the spec of a pack")) };
        let mut defaulted = object.spec.clone();
        api::default_spec(&mut defaulted);
        let fields = api::validate_spec("", &defaulted);
        if !fields.is_empty() {
            return Err(Error::Invalid { kind: Kind::DataPack, name: String::new(), fields });
        }
        let name = SpecHash::of(spec).map_err(|error| Error::BadRequest(error.to_string()))?.pack_name();
        let known = self.registry.reader(self.caller).visible.get(Kind::DataPack, &name).is_some();
        if !known && !quota.take(self.registry.clock().now()) {
            return Err(Error::TooManyRequests(format!(
                "{} new packs a minute are made for those who have not signed in: sign in, or use resolve, which makes \
                 none",
                quota.per_minute()
            )));
        }
        self.registry.create(&gateway, object, WriteOptions::default()).await
    }

    /// A state that has all writes so far.
    #[must_use]
    pub fn now(&self) -> Revision {
        self.registry.graph().revision()
    }

    /// A state that has this write, though the storage may be slow to show it.
    #[must_use]
    pub fn with(&self, record: &Record) -> Revision {
        self.now().max(record.revision)
    }
}

/// The packs whose content an image's change can touch: those that name it, and those that tell of its repository's
/// tags.
pub fn packs_of_image<'a>(visible: &'a Visible, name: &'a str) -> impl Iterator<Item = Arc<str>> + 'a {
    let repository = api::split_image_name(name).map_or("", |(org, repo, _)| &name[..=org.len() + repo.len()]);
    let detailed = visible.packs_of_repository(repository).filter(|pack| {
        let pack = visible.get(Kind::DataPack, pack).and_then(|record| record.pack());
        pack.is_some_and(|pack| pack.grain == api::Grain::Detail)
    });
    visible.packs_of_image(name).chain(detailed).cloned()
}

/// The packs whose content a repository's change can touch.
pub fn packs_of_repository<'a>(visible: &'a Visible, name: &'a str) -> impl Iterator<Item = Arc<str>> + 'a {
    visible.packs_of_repository(name).cloned()
}
