//! Making an object.

use std::collections::BTreeMap;
use std::hash::BuildHasher as _;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use rand::RngExt as _;
use uuid::Uuid;

use super::commit::{Failed, as_if_stored, check_size};
use super::derive::{complete_managers, derive};
use super::{ATTEMPTS, Registry, WriteOptions, Written, modified};
use crate::api::{
    DataPackSpec, GoDuration, Kind, Object, Spec, SpecHash, default_spec, validate_metadata, validate_spec,
};
use crate::auth::Caller;
use crate::error::{Error, FieldError, FieldReason};
use crate::graph::{Envelope, Key, Record, Revision, Sight, Visible};
use crate::storage::Expect;

/// How many random names are tried for a `generateName`, as kube-apiserver does, before a 409.
pub const GENERATED_NAME_TRIES: usize = 8;

/// The longest `generateName` that is not cut, so that a name stays a legal one.
const LONGEST_PREFIX: usize = 253 - RANDOM_CHARACTERS;
const RANDOM_CHARACTERS: usize = 5;
/// Kube's alphabet of random names: no vowels, so that no words come out.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

impl Registry {
    /// Makes `object`. A DataPack with neither name nor generateName is named by its spec; where the same
    /// spec is there already, that one is the answer.
    ///
    /// # Errors
    /// Forbidden, `AlreadyExists`, Invalid with every field that is wrong, Conflict while its organization or
    /// repository is being deleted, and what the storage says.
    pub async fn create(&self, caller: &Caller, mut object: Object, options: WriteOptions) -> Result<Written, Error> {
        let kind = object.spec.kind();
        self.authorize_create(caller, kind, object.spec.name().unwrap_or_default())?;
        self.prepare(caller, &mut object)?;
        if named_by_spec(&object) {
            return self.create_by_spec(caller, object, options).await;
        }
        let generated = object.metadata.name.is_none().then(|| object.metadata.generate_name.clone()).flatten();
        let tries = if generated.is_some() { GENERATED_NAME_TRIES } else { 1 };
        let mut taken = None;
        for _ in 0..tries {
            if let Some(prefix) = &generated {
                object.metadata.name = Some(generate_name(prefix));
            }
            match self.create_named(caller, object.clone(), options).await {
                Err(error @ Error::AlreadyExists { .. }) => taken = Some(error),
                done => return done,
            }
        }
        Err(taken.unwrap_or_else(|| Error::internal("no name was tried")))
    }

    /// Sets what a client can't, and what it may leave out.
    pub(super) fn prepare(&self, caller: &Caller, object: &mut Object) -> Result<(), Error> {
        let metadata = &mut object.metadata;
        if metadata.resource_version.as_deref().is_some_and(|v| !v.is_empty()) {
            return Err(Error::BadRequest("resourceVersion should not be set on objects to be created".to_owned()));
        }
        metadata.resource_version = None;
        // Cluster-scoped kinds have none; manifests of the old system carry one.
        metadata.namespace = None;
        metadata.self_link = None;
        metadata.managed_fields = None;
        super::restore::drop_annotation(metadata);
        metadata.deletion_timestamp = None;
        metadata.deletion_grace_period_seconds = None;
        for text in [&mut metadata.name, &mut metadata.generate_name] {
            if text.as_deref().is_some_and(str::is_empty) {
                *text = None;
            }
        }
        metadata.uid = Some(Uuid::new_v4().to_string());
        metadata.creation_timestamp = Some(Time(self.now()));
        metadata.generation = Some(1);
        drop_empty(metadata);
        default_spec(&mut object.spec);
        if let Spec::Organization(spec) = &mut object.spec {
            if spec.creator.as_deref().is_none_or(str::is_empty) || !caller.is_administrator() {
                spec.creator = Some(caller.manager_name().to_string());
            }
            complete_managers(spec);
        }
        Ok(())
    }

    async fn create_by_spec(
        &self,
        caller: &Caller,
        mut object: Object,
        options: WriteOptions,
    ) -> Result<Written, Error> {
        let Spec::DataPack(spec) = &object.spec else { return Err(Error::internal("only packs are named by spec")) };
        let faults = validate_spec("", &object.spec);
        if !faults.is_empty() {
            return Err(Error::Invalid { kind: Kind::DataPack, name: String::new(), fields: faults });
        }
        let hash = SpecHash::of(spec).map_err(|error| Error::BadRequest(error.to_string()))?;
        let name = hash.pack_name();
        let lifetime = lifetime_ms(spec);
        object.metadata.name = Some(name.clone());
        for _ in 0..ATTEMPTS {
            if let Some(known) = self.reader_for(Sight::Everything).visible.get(Kind::DataPack, &name).cloned() {
                match self.renew(caller, &known, lifetime, options).await {
                    Ok(written) => return Ok(written),
                    Err(Failed::Overtaken) => continue,
                    Err(Failed::Error(error)) => return Err(error),
                }
            }
            match self.create_named(caller, object.clone(), options).await {
                Err(Error::AlreadyExists { .. }) => {}
                done => return done,
            }
        }
        Err(modified(&Key::new(Kind::DataPack, name)))
    }

    /// Answers with the pack that is there, its expiry begun anew once less than half is left.
    pub(super) async fn renew(
        &self,
        caller: &Caller,
        known: &Arc<Record>,
        lifetime_ms: i64,
        options: WriteOptions,
    ) -> Result<Written, Failed> {
        let now = self.store_time_ms();
        let left = known.pack().map_or(0, |pack| pack.expires_ms.saturating_sub(now));
        let mut record = Arc::clone(known);
        if left < lifetime_ms / 2 && !known.deleting {
            let envelope = Envelope { expiry_base_ms: Some(now), ..known.envelope.clone() };
            let object = known.object();
            record = if options.dry_run {
                as_if_stored(known.key.clone(), known.revision, &envelope, &object)?
            } else {
                self.store(known.key.clone(), Expect::At(known.revision), &envelope, &object).await?
            };
        }
        Ok(Written { reader: self.reader(caller), record, created: false, warnings: Vec::new() })
    }

    async fn create_named(&self, caller: &Caller, object: Object, options: WriteOptions) -> Result<Written, Error> {
        let key = Key::new(object.spec.kind(), object.metadata.name.as_deref().unwrap_or_default());
        let mut settling = self.settling(key);
        loop {
            let answer = self.create_once(caller, object.clone(), options).await;
            if settling.is_settled(&answer).await? {
                return answer;
            }
        }
    }

    async fn create_once(&self, caller: &Caller, object: Object, options: WriteOptions) -> Result<Written, Error> {
        check(&object)?;
        let everything = self.reader_for(Sight::Everything).visible;
        Self::refuse_if_taken(&everything, &object)?;
        // What can't be stored must be known before its owners are made for it.
        let mut draft = object.clone();
        derive(&everything, &mut draft);
        check_size(&draft)?;
        drop(everything);
        for _ in 0..ATTEMPTS {
            self.ensure_owners(caller, &object.spec, options.dry_run).await?;
            let record = self.insert(caller, object.clone(), options).await?;
            if options.dry_run || self.owner_stands(caller, &record, true).await? {
                return Ok(Written { reader: self.reader(caller), record, created: true, warnings: Vec::new() });
            }
        }
        Err(modified(&Key::new(object.spec.kind(), object.metadata.name.unwrap_or_default())))
    }

    /// Stores a prepared and checked object under its name.
    pub(super) async fn insert(
        &self,
        caller: &Caller,
        mut object: Object,
        options: WriteOptions,
    ) -> Result<Arc<Record>, Error> {
        let kind = object.spec.kind();
        let key = Key::new(kind, object.metadata.name.clone().unwrap_or_default());
        let _alone = match object.spec.name() {
            Some(name) => Some(self.claim(name).await),
            None => None,
        };
        for _ in 0..ATTEMPTS {
            // Again: somebody else may have made the organization in between, and manage it.
            self.authorize_create(caller, kind, object.spec.name().unwrap_or_default())?;
            let everything = self.reader_for(Sight::Everything).visible;
            Self::refuse_if_taken(&everything, &object)?;
            derive(&everything, &mut object);
            let mut envelope = Envelope { creator: Some(caller.user().into()), ..Envelope::default() };
            if kind == Kind::DataPack {
                envelope.expiry_base_ms = Some(self.store_time_ms());
            }
            let draft = as_if_stored(key.clone(), Revision::default(), &envelope, &object)?;
            if options.dry_run {
                return Ok(draft);
            }
            envelope.announced = self.announcement(&draft);
            match self.store(key.clone(), Expect::Absent, &envelope, &object).await {
                Ok(record) => return Ok(record),
                Err(Failed::Overtaken) => {}
                Err(Failed::Error(error)) => return Err(error),
            }
        }
        Err(modified(&key))
    }

    /// Held while a `spec.name` is claimed.
    async fn claim(&self, name: &str) -> tokio::sync::MutexGuard<'_, ()> {
        let stripes = self.claims.len() as u64;
        let stripe = usize::try_from(self.stripe_of.hash_one(name) % stripes).unwrap_or(0);
        self.claims[stripe].lock().await
    }

    /// Names are unique, and no two objects of a kind claim one `spec.name`.
    fn refuse_if_taken(everything: &Visible, object: &Object) -> Result<(), Error> {
        let kind = object.spec.kind();
        let name = object.metadata.name.as_deref().unwrap_or_default();
        if everything.get(kind, name).is_some() {
            return Err(Error::AlreadyExists { kind, name: name.to_owned() });
        }
        let spec_name = object.spec.name().unwrap_or_default();
        let holder = match kind {
            Kind::Image => everything.image(spec_name),
            Kind::Repository => everything.repository(spec_name),
            Kind::Organization => everything.organization(spec_name),
            Kind::DataPack => None,
        };
        let Some(holder) = holder else { return Ok(()) };
        let message = format!(
            "Duplicate value: {spec_name:?}: the {kind} {:?} has this name; change that one, or choose another name",
            holder.name()
        );
        let field = FieldError { field: "spec.name".to_owned(), reason: FieldReason::Duplicate, message };
        Err(Error::field(kind, name, field))
    }
}

/// Whether it is a DataPack that leaves its name to the server.
pub(super) fn named_by_spec(object: &Object) -> bool {
    let absent = |text: &Option<String>| text.as_deref().is_none_or(str::is_empty);
    matches!(object.spec, Spec::DataPack(_)) && absent(&object.metadata.name) && absent(&object.metadata.generate_name)
}

/// The stored form has no empty lists and maps, so that what is equal is equal in bytes.
pub(super) fn drop_empty(metadata: &mut ObjectMeta) {
    for map in [&mut metadata.labels, &mut metadata.annotations] {
        if map.as_ref().is_some_and(BTreeMap::is_empty) {
            *map = None;
        }
    }
    if metadata.finalizers.as_ref().is_some_and(Vec::is_empty) {
        metadata.finalizers = None;
    }
    if metadata.owner_references.as_ref().is_some_and(Vec::is_empty) {
        metadata.owner_references = None;
    }
}

/// All that can be checked without a snapshot.
pub(super) fn check(object: &Object) -> Result<(), Error> {
    let name = object.metadata.name.as_deref().unwrap_or_default();
    let mut fields = validate_metadata(&object.metadata);
    if object.metadata.name.is_none() {
        fields.retain(|f| f.field != "metadata.name");
        fields.insert(0, FieldError::required("metadata.name", "name or generateName is required"));
    }
    fields.extend(validate_spec(name, &object.spec));
    if fields.is_empty() {
        return Ok(());
    }
    Err(Error::Invalid { kind: object.spec.kind(), name: name.to_owned(), fields })
}

pub(super) fn lifetime_ms(spec: &DataPackSpec) -> i64 {
    let text = spec.expire_time.as_deref().unwrap_or(crate::api::DEFAULT_EXPIRE_TIME);
    GoDuration::parse(text).map_or(0, GoDuration::as_millis)
}

fn generate_name(prefix: &str) -> String {
    let mut rng = rand::rng();
    let cut = prefix.char_indices().map(|(i, c)| i + c.len_utf8()).take_while(|end| *end <= LONGEST_PREFIX).last();
    let mut name = prefix[..cut.unwrap_or(0)].to_owned();
    name.extend((0..RANDOM_CHARACTERS).map(|_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())])));
    name
}
