//! Changing an object.

use std::sync::Arc;

use super::commit::{Failed, as_if_changed};
use super::create::drop_empty;
use super::derive::{complete_managers, derive, keep_what_is_left_empty};
use super::read::Reader;
use super::{ATTEMPTS, Registry, WriteOptions, Written, modified, not_found};
use crate::api::{Kind, Object, Spec, default_spec, validate_metadata, validate_spec, validate_update};
use crate::auth::{Caller, Verb};
use crate::error::{Error, FieldError, FieldReason};
use crate::graph::{Envelope, Key, Record, Sight};
use crate::storage::Expect;

/// What a request wants an object to become.
pub(super) struct Proposed {
    pub(super) object: Object,
    /// Whether docs, icon, description and keywords that are left empty stay what they were.
    pub(super) keep_empty: bool,
    /// Whether the version it was made from must be said.
    pub(super) version_required: bool,
    pub(super) warnings: Vec<String>,
}

/// What a change comes to.
enum Outcome {
    /// Nothing: the object is that already.
    Unchanged,
    /// A new version.
    Store(Box<(Envelope, Object)>),
    /// It was being deleted, and nothing holds it any more: what it last is.
    TakeOut(Box<(Envelope, Object)>),
}

impl Registry {
    /// Replaces an object.
    ///
    /// # Errors
    /// Forbidden, `NotFound`, Conflict where its version or uid is another, Invalid, and what the storage says.
    pub async fn update(
        &self,
        caller: &Caller,
        kind: Kind,
        name: &str,
        object: &Object,
        options: WriteOptions,
    ) -> Result<Written, Error> {
        self.authorize(caller, Verb::Update, kind, "", name)?;
        self.change(caller, kind, name, options, |_, _| {
            Ok(Proposed { object: object.clone(), keep_empty: true, version_required: true, warnings: Vec::new() })
        })
        .await
    }

    /// Has `propose` say what the object should become, and stores that; again, from the object as it is
    /// then, where another write comes first.
    pub(super) async fn change(
        &self,
        caller: &Caller,
        kind: Kind,
        name: &str,
        options: WriteOptions,
        propose: impl Fn(&Reader, &Arc<Record>) -> Result<Proposed, Error>,
    ) -> Result<Written, Error> {
        let mut settling = self.settling(Key::new(kind, name));
        loop {
            let answer = self.change_once(caller, kind, name, options, &propose).await;
            if settling.is_settled(&answer).await? {
                return answer;
            }
        }
    }

    async fn change_once(
        &self,
        caller: &Caller,
        kind: Kind,
        name: &str,
        options: WriteOptions,
        propose: &impl Fn(&Reader, &Arc<Record>) -> Result<Proposed, Error>,
    ) -> Result<Written, Error> {
        for _ in 0..ATTEMPTS {
            let reader = self.reader(caller);
            let record = reader.visible.get(kind, name).cloned().ok_or_else(|| not_found(kind, name))?;
            let mut proposed = propose(&reader, &record)?;
            let warnings = std::mem::take(&mut proposed.warnings);
            let outcome = self.decide(&record, proposed)?;
            if !record.deleting && self.lacks_owner(&record) {
                self.ensure_owners(caller, &record.object().spec, options.dry_run).await?;
                if !options.dry_run {
                    continue;
                }
            }
            let done = |record| Ok(Written { reader: self.reader(caller), record, created: false, warnings });
            match outcome {
                Outcome::Unchanged => return done(record),
                Outcome::Store(new) if options.dry_run => {
                    let (envelope, object) = *new;
                    return done(as_if_changed(&record, &envelope, &object)?);
                }
                Outcome::Store(new) => {
                    let (envelope, object) = *new;
                    match self.store(record.key.clone(), Expect::At(record.revision), &envelope, &object).await {
                        // Gone with its owner as soon as it was stored: decide again, on what is there now.
                        Ok(record) if !self.owner_stands(caller, &record, false).await? => {}
                        Ok(record) => return done(record),
                        Err(Failed::Overtaken) => {}
                        Err(Failed::Error(error)) => return Err(error),
                    }
                }
                Outcome::TakeOut(last) => {
                    let (envelope, object) = *last;
                    let last = as_if_changed(&record, &envelope, &object)?;
                    if options.dry_run {
                        return done(last);
                    }
                    match self.take_out(record.key.clone(), record.revision).await {
                        Ok(_) => return done(last),
                        Err(Failed::Overtaken) => {}
                        Err(Failed::Error(error)) => return Err(error),
                    }
                }
            }
        }
        Err(modified(&Key::new(kind, name)))
    }

    fn decide(&self, record: &Arc<Record>, proposed: Proposed) -> Result<Outcome, Error> {
        let old = record.object();
        let Proposed { object: mut new, keep_empty, version_required, .. } = proposed;
        check_identity(record, &old, &new, version_required)?;
        keep_server_fields(&old, &mut new);
        if keep_empty {
            keep_what_is_left_empty(&old.spec, &mut new.spec);
        }
        default_spec(&mut new.spec);
        if let (Spec::Organization(old), Spec::Organization(new)) = (&old.spec, &mut new.spec) {
            if new.creator.as_deref().is_none_or(str::is_empty) {
                new.creator.clone_from(&old.creator);
            }
            complete_managers(new);
        }
        check_change(record, &old, &new)?;
        derive(&self.reader_for(Sight::Everything).visible, &mut new);

        let mut envelope = record.envelope.clone();
        let spec_changed = old.spec != new.spec;
        if spec_changed {
            new.metadata.generation = Some(old.metadata.generation.unwrap_or(0) + 1);
            if record.kind() == Kind::DataPack {
                envelope.expiry_base_ms = Some(self.store_time_ms());
            }
        }
        if record.deleting && new.metadata.finalizers.as_ref().is_none_or(Vec::is_empty) {
            return Ok(Outcome::TakeOut(Box::new((envelope, new))));
        }
        if new == old && envelope == record.envelope {
            return Ok(Outcome::Unchanged);
        }
        let draft = as_if_changed(record, &envelope, &new)?;
        if spec_changed {
            envelope.announced = self.announcement(&draft);
        }
        Ok(Outcome::Store(Box::new((envelope, new))))
    }
}

/// The name, the uid and the version that a write names must be the object's.
fn check_identity(record: &Record, old: &Object, new: &Object, version_required: bool) -> Result<(), Error> {
    let (kind, name) = (record.kind(), record.name());
    let given = new.metadata.name.as_deref().unwrap_or_default();
    if given.is_empty() {
        return Err(Error::BadRequest(format!(
            "the name of the object ({name} based on URL) was undeterminable: name must be provided"
        )));
    }
    if given != name {
        return Err(Error::BadRequest(format!(
            "the name of the object ({given}) does not match the name on the URL ({name})"
        )));
    }
    let uid = new.metadata.uid.as_deref().filter(|uid| !uid.is_empty() && Some(*uid) != old.metadata.uid.as_deref());
    // Of an object that was sent whole the uid is a precondition; a patch of it tries to change it.
    if let Some(uid) = uid.filter(|_| version_required) {
        return Err(Error::Conflict {
            kind,
            name: name.to_owned(),
            message: format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {}", record.uid()),
        });
    }
    // Kube takes 0 for none.
    match new.metadata.resource_version.as_deref().filter(|v| !v.is_empty() && *v != "0") {
        None if version_required => {
            let field = FieldError::invalid("metadata.resourceVersion", 0, "must be specified for an update");
            return Err(Error::field(kind, name, field));
        }
        None => {}
        Some(version) => {
            let Ok(version) = version.parse::<u64>() else {
                let field = FieldError::invalid("metadata.resourceVersion", version, "must be a decimal number");
                return Err(Error::field(kind, name, field));
            };
            if version != record.revision.0 {
                return Err(modified(&record.key));
            }
        }
    }
    let mut fields = Vec::new();
    let immutable = |field: &str, value: &str| FieldError::invalid(field, value, "field is immutable");
    if let Some(uid) = uid {
        fields.push(immutable("metadata.uid", uid));
    }
    // Left out they stay; only a deletion sets them.
    let (before, after) = (&old.metadata, &new.metadata);
    if let Some(time) =
        after.deletion_timestamp.as_ref().filter(|_| after.deletion_timestamp != before.deletion_timestamp)
    {
        fields.push(immutable("metadata.deletionTimestamp", &time.0.to_string()));
    }
    if let Some(seconds) = after.deletion_grace_period_seconds
        && before.deletion_grace_period_seconds != Some(seconds)
    {
        fields.push(FieldError::new(
            "metadata.deletionGracePeriodSeconds",
            FieldReason::Invalid,
            format!("Invalid value: {seconds}: field is immutable"),
        ));
    }
    if fields.is_empty() { Ok(()) } else { Err(Error::Invalid { kind, name: name.to_owned(), fields }) }
}

/// What no write changes stays what it was.
fn keep_server_fields(old: &Object, new: &mut Object) {
    let (old, new) = (&old.metadata, &mut new.metadata);
    new.resource_version = None;
    new.namespace = None;
    new.self_link = None;
    new.uid.clone_from(&old.uid);
    new.creation_timestamp.clone_from(&old.creation_timestamp);
    new.deletion_timestamp.clone_from(&old.deletion_timestamp);
    new.deletion_grace_period_seconds = old.deletion_grace_period_seconds;
    new.generation = old.generation;
    new.generate_name.clone_from(&old.generate_name);
    new.managed_fields.clone_from(&old.managed_fields);
    super::restore::drop_annotation(new);
    drop_empty(new);
}

fn check_change(record: &Record, old: &Object, new: &Object) -> Result<(), Error> {
    let name = record.name();
    let mut fields = validate_metadata(&new.metadata);
    fields.extend(validate_spec(name, &new.spec));
    // What was accepted once, by other rules, doesn't stand in the way of another change.
    if !fields.is_empty() {
        let mut before = validate_metadata(&old.metadata);
        before.extend(validate_spec(name, &old.spec));
        fields.retain(|fault| !before.contains(fault));
    }
    fields.extend(validate_update(&old.spec, &new.spec));
    if record.deleting {
        let had = old.metadata.finalizers.as_deref().unwrap_or_default();
        let added: Vec<_> = new.metadata.finalizers.iter().flatten().filter(|f| !had.contains(f)).collect();
        if !added.is_empty() {
            let added: Vec<String> = added.iter().map(|finalizer| format!("{finalizer:?}")).collect();
            fields.push(FieldError::forbidden(
                "metadata.finalizers",
                format_args!(
                    "no new finalizers can be added if the object is being deleted, found new finalizers \
                     []string{{{}}}",
                    added.join(", ")
                ),
            ));
        }
    }
    if fields.is_empty() {
        return Ok(());
    }
    Err(Error::Invalid { kind: record.kind(), name: name.to_owned(), fields })
}
