//! Export, and its way back: what an object carries beside itself, and the verb that puts it where it was.
//! For administrators only. `docs/adr/0013-import-export.md` says why it is so.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::commit::Failed;
use super::create::check;
use super::derive::{complete_managers, derive, owner_name};
use super::list::{List, ListOptions};
use super::{ATTEMPTS, OBJECT_LIMIT, Registry, SERVERS_SHARE, WriteOptions, Written, modified};
use crate::api::{
    Kind, ORGANIZATION_LABEL, Object, REPOSITORY_LABEL, Spec, TAG_LABEL, default_spec, validate_metadata,
    validate_spec, validate_update,
};
use crate::auth::{Caller, Verb};
use crate::error::{Error, FieldError, FieldReason};
use crate::graph::{Envelope, Key, Record, Revision, Sight, Visible, encode};
use crate::storage::{Expect, Write};

/// The annotation in which an exported object carries what is stored beside it, as JSON. It is never stored.
pub const RESTORE_ANNOTATION: &str = "imagehub.sealos.io/restore";

/// What the verb is to the rules: an administrator's, as a subresource.
pub const RESTORE: &str = "restore";

/// What is stored beside an object and can't be worked out again: the content of [`RESTORE_ANNOTATION`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Carried {
    /// The full name of the user who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    creator: Option<Box<str>>,
    /// DataPack: when its expiry began, RFC 3339. A pack keeps the time that it has left by keeping this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expiry_base: Option<String>,
    /// Repository: how often its images were downloaded.
    #[serde(default, skip_serializing_if = "is_zero")]
    download_count: i64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(n: &i64) -> bool {
    *n == 0
}

impl Carried {
    fn of(envelope: &Envelope) -> Self {
        let base = envelope.expiry_base_ms.and_then(|ms| Timestamp::from_millisecond(ms).ok());
        Self {
            creator: envelope.creator.clone(),
            expiry_base: base.map(|base| base.to_string()),
            download_count: envelope.download_count,
        }
    }

    /// Reads what the annotation of `object` says, and takes it off.
    fn take(object: &mut Object) -> Result<(Self, Option<i64>), Error> {
        let bad = |why: &dyn std::fmt::Display| {
            Error::BadRequest(format!(
                "the annotation {RESTORE_ANNOTATION} must be the one that an export has, JSON with creator, expiryBase \
                 and downloadCount: {why}"
            ))
        };
        let text = object.metadata.annotations.as_ref().and_then(|all| all.get(RESTORE_ANNOTATION));
        let text = text.ok_or_else(|| bad(&"there is none"))?;
        if !text.trim_start().starts_with('{') {
            // Serde would take a list of the fields' values as well.
            return Err(bad(&"it is no object"));
        }
        let carried: Self = serde_json::from_str(text).map_err(|e| bad(&e))?;
        drop_annotation(&mut object.metadata);
        if carried.download_count < 0 {
            return Err(bad(&"downloadCount is negative"));
        }
        let base = carried.expiry_base.as_deref().map(str::parse::<Timestamp>).transpose();
        let base = base.map_err(|e| bad(&format_args!("expiryBase: {e}")))?.map(Timestamp::as_millisecond);
        Ok((carried, base))
    }
}

/// Takes the annotation off: whatever door it comes through, it is never stored.
pub(super) fn drop_annotation(metadata: &mut ObjectMeta) {
    if let Some(annotations) = &mut metadata.annotations
        && annotations.remove(RESTORE_ANNOTATION).is_some()
        && annotations.is_empty()
    {
        metadata.annotations = None;
    }
}

/// The object as an export has it: all that restoring it takes, and nothing that is of this store or computed.
///
/// # Panics
/// Never: the annotation's keys are strings.
#[must_use]
pub fn exported(record: &Record) -> Object {
    let mut object = record.object();
    let metadata = &mut object.metadata;
    metadata.managed_fields = None;
    metadata.resource_version = None;
    metadata.self_link = None;
    metadata.namespace = None;
    tidy(metadata);
    let carried = serde_json::to_string(&Carried::of(&record.envelope)).expect("all keys are strings");
    metadata.annotations.get_or_insert_default().insert(RESTORE_ANNOTATION.to_owned(), carried);
    object
}

/// The stored form has no empty ones, so that what is equal is equal in bytes.
fn tidy(metadata: &mut ObjectMeta) {
    metadata.labels.take_if(|all| all.is_empty());
    metadata.annotations.take_if(|all| all.is_empty());
    metadata.finalizers.take_if(|all| all.is_empty());
    metadata.owner_references.take_if(|all| all.is_empty());
}

impl Registry {
    /// What an export of `kind` holds: all that `options` ask for, in order of name. Administrators only.
    ///
    /// # Errors
    /// Forbidden, and those of [`list`](Self::list).
    pub async fn export(&self, caller: &Caller, kind: Kind, options: &ListOptions) -> Result<List, Error> {
        self.authorize(caller, Verb::Create, kind, RESTORE, "")?;
        self.list(caller, kind, options).await
    }

    /// Puts an exported object where it was: with its uid, times, creator and counts; made, or made what it was.
    /// What equals what is there is no new version. Old objects that break the rules of names, and several that claim
    /// one `spec.name` (the oldest is served), are taken as they are, with a warning. A pack whose time is over isn't
    /// stored. Administrators only.
    ///
    /// # Errors
    /// Forbidden; `BadRequest` for an annotation that isn't one; Invalid for all other rules; Conflict where another
    /// object has the name, or it is being deleted; and what the storage says.
    pub async fn restore(&self, caller: &Caller, mut object: Object, options: WriteOptions) -> Result<Written, Error> {
        let kind = object.spec.kind();
        let name = object.metadata.name.clone().unwrap_or_default();
        self.authorize(caller, Verb::Create, kind, RESTORE, &name)?;
        let (carried, base_ms) = Carried::take(&mut object)?;
        normalise(caller, &carried, &mut object);
        let mut warnings = judge(&object)?;
        let key = Key::new(kind, name);
        for _ in 0..ATTEMPTS {
            let owned = self.owners_of_old(caller, &object.spec, options.dry_run, &mut warnings).await?;
            let everything = self.reader_for(Sight::Everything).visible;
            let known = everything.get(kind, &key.name).cloned();
            let mut envelope = Envelope {
                creator: carried.creator.clone(),
                expiry_base_ms: None,
                announced: None,
                download_count: if kind == Kind::Repository { carried.download_count } else { 0 },
            };
            let mut object = object.clone();
            derive(&everything, &mut object);
            if let Some(known) = &known {
                envelope.announced = known.envelope.announced;
                keep_what_is_not_said(known, &mut object)?;
            } else {
                make_what_is_not_said(self.now(), &mut object.metadata);
            }
            if kind == Kind::DataPack {
                let made = object.metadata.creation_timestamp.as_ref().map(|time| time.0.as_millisecond());
                envelope.expiry_base_ms = base_ms.or(made);
            }
            let done =
                |record, created, warnings| Ok(Written { reader: self.reader(caller), record, created, warnings });
            let revision = known.as_ref().map(|known| known.revision);
            // What can't be read must not get as far as the store.
            let draft = draft(key.clone(), revision.unwrap_or_default(), &envelope, &object)?;
            if let Some(known) = known.filter(|known| known.envelope == envelope && known.json() == draft.json()) {
                return done(known, false, warnings);
            }
            if let Some(pack) =
                draft.pack().filter(|pack| revision.is_none() && pack.expires_ms <= self.store_time_ms())
            {
                let at =
                    Timestamp::from_millisecond(pack.expires_ms).map_or_else(|_| String::new(), |at| at.to_string());
                warnings.push(format!("not restored: the pack's time was over at {at}"));
                return done(draft, false, warnings);
            }
            if options.dry_run {
                warnings.extend(other_claims(&everything, &draft));
                return done(draft, revision.is_none(), warnings);
            }
            let expect = revision.map_or(Expect::Absent, Expect::At);
            if revision.is_none() {
                envelope.announced = self.reader_for(Sight::Public).digest(&draft);
            }
            match self.store(key.clone(), expect, &envelope, &object).await {
                Ok(record) => {
                    let stands = !owned || self.has_owner(&record) || record.deleting;
                    if stands || self.owner_stands(caller, &record, false).await? {
                        // Of two at the same time the later one sees the other.
                        let everything = self.reader_for(Sight::Everything).visible;
                        warnings.extend(other_claims(&everything, &record));
                        return done(record, revision.is_none(), warnings);
                    }
                }
                Err(Failed::Overtaken) => {}
                Err(Failed::Error(error)) => return Err(error),
            }
        }
        Err(modified(&key))
    }

    /// The write that makes or restores an Image, where nothing of the name is there yet and its repository stands: what
    /// an offline import of millions commits without waiting until each is published. `None` where
    /// [`create`](Self::create) or [`restore`](Self::restore) has to decide. No other may write to the store meanwhile
    /// but for more of these, each with another `spec.name`.
    ///
    /// # Errors
    /// As those of [`create`](Self::create) and [`restore`](Self::restore), as far as they concern the object alone.
    pub fn draft_image(&self, caller: &Caller, object: &Object) -> Result<Option<Write>, Error> {
        let Spec::Image(spec) = &object.spec else { return Ok(None) };
        let everything = self.reader_for(Sight::Everything).visible;
        let free = everything.image(&spec.name).is_none();
        let owner = owner_name(Kind::Image, &spec.name).and_then(|(_, repository)| everything.repository(repository));
        if !free || owner.is_none_or(|owner| owner.deleting) {
            return Ok(None);
        }
        let mut object = object.clone();
        let annotations = object.metadata.annotations.as_ref();
        let creator = if annotations.is_some_and(|all| all.contains_key(RESTORE_ANNOTATION)) {
            self.authorize(caller, Verb::Create, Kind::Image, RESTORE, "")?;
            let (carried, _) = Carried::take(&mut object)?;
            normalise(caller, &carried, &mut object);
            if !judge(&object)?.is_empty() {
                return Ok(None);
            }
            carried.creator
        } else {
            self.authorize(caller, Verb::Create, Kind::Image, "", "")?;
            self.prepare(caller, &mut object)?;
            check(&object)?;
            Some(caller.user().into())
        };
        let key = Key::new(Kind::Image, object.metadata.name.clone().unwrap_or_default());
        if everything.get(Kind::Image, &key.name).is_some() {
            return Ok(None);
        }
        derive(&everything, &mut object);
        make_what_is_not_said(self.now(), &mut object.metadata);
        let stored = encode(&Envelope { creator, ..Envelope::default() }, &object);
        // Whoever has to decide says what is wrong with it.
        if stored.len() > OBJECT_LIMIT || Record::decode(key.clone(), Revision::default(), &stored).is_err() {
            return Ok(None);
        }
        Ok(Some(Write { key, expect: Expect::Absent, value: Some(stored) }))
    }

    /// Makes the owners that are absent; false where there can be none, since the name is none of ours, or where they
    /// are about to go and the object with them.
    async fn owners_of_old(
        &self,
        caller: &Caller,
        spec: &Spec,
        dry_run: bool,
        warnings: &mut Vec<String>,
    ) -> Result<bool, Error> {
        match self.ensure_owners(caller, spec, dry_run).await {
            Ok(()) => Ok(true),
            Err(Error::Conflict { .. }) => Ok(false),
            Err(error @ (Error::Invalid { .. } | Error::BadRequest(_))) => {
                let warning = format!("it is owned by nothing: {error}");
                if !warnings.contains(&warning) {
                    warnings.push(warning);
                }
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}

/// What the object would be as a record. What can't be read must not get as far as the store.
fn draft(key: Key, revision: Revision, envelope: &Envelope, object: &Object) -> Result<Arc<Record>, Error> {
    // What an export has was stored, with the server's share.
    const LIMIT: usize = OBJECT_LIMIT + SERVERS_SHARE;
    let stored = encode(envelope, object);
    if stored.len() > LIMIT {
        let long = stored.len();
        return Err(Error::TooLarge(format!(
            "the object is {long} bytes large, and {LIMIT} is the most that is stored"
        )));
    }
    let read = Record::decode(key, revision, &stored);
    read.map(Arc::new).map_err(|damaged| Error::BadRequest(format!("the object can't be stored: {damaged}")))
}

/// Sets what follows from the object alone.
fn normalise(caller: &Caller, carried: &Carried, object: &mut Object) {
    let metadata = &mut object.metadata;
    metadata.resource_version = None;
    metadata.namespace = None;
    metadata.self_link = None;
    metadata.managed_fields = None;
    tidy(metadata);
    if metadata.finalizers.is_none() {
        // Nothing would ever finish its deletion.
        metadata.deletion_timestamp = None;
        metadata.deletion_grace_period_seconds = None;
    }
    metadata.uid.take_if(|uid| uid.is_empty());
    // Kube's times are to the second, and the order of records relies on it.
    for time in [&mut metadata.creation_timestamp, &mut metadata.deletion_timestamp].into_iter().flatten() {
        time.0 = Timestamp::from_second(time.0.as_second()).unwrap_or(time.0);
    }
    default_spec(&mut object.spec);
    if let Spec::Organization(spec) = &mut object.spec {
        if spec.creator.as_deref().is_none_or(str::is_empty) {
            let creator = carried.creator.as_deref().map(str::to_owned);
            spec.creator = Some(creator.unwrap_or_else(|| caller.manager_name().to_string()));
        }
        complete_managers(spec);
    }
}

/// Refuses what breaks a rule, but for those of names: what is old may break them, and is reported.
fn judge(object: &Object) -> Result<Vec<String>, Error> {
    let name = object.metadata.name.as_deref().unwrap_or_default();
    let mut metadata = object.metadata.clone();
    if let Some(labels) = &mut metadata.labels {
        // They follow from the name.
        labels.retain(|label, _| ![ORGANIZATION_LABEL, REPOSITORY_LABEL, TAG_LABEL].contains(&label.as_str()));
    }
    let mut fields = validate_metadata(&metadata);
    let of_names = |fault: &FieldError| {
        let named = ["metadata.name", "spec.name", "spec.names", "spec.manager", "spec.creator"];
        let field = fault.field.split('[').next().unwrap_or_default();
        fault.reason == FieldReason::Invalid && named.contains(&field)
    };
    let (old, wrong): (Vec<_>, Vec<_>) = validate_spec(name, &object.spec).into_iter().partition(of_names);
    fields.extend(wrong);
    if fields.is_empty() {
        return Ok(old.into_iter().map(|fault| format!("taken as it is, though {fault}")).collect());
    }
    Err(Error::Invalid { kind: object.spec.kind(), name: name.to_owned(), fields })
}

/// What an object that is made is given where the export doesn't say it.
fn make_what_is_not_said(now: Timestamp, metadata: &mut ObjectMeta) {
    metadata.uid.get_or_insert_with(|| Uuid::new_v4().to_string());
    metadata.creation_timestamp.get_or_insert(Time(now));
    metadata.generation.get_or_insert(1);
}

/// What an object that is there keeps. It must be the same one.
fn keep_what_is_not_said(known: &Record, object: &mut Object) -> Result<(), Error> {
    let conflict =
        |message: String| Err(Error::Conflict { kind: known.kind(), name: known.name().to_owned(), message });
    let metadata = &mut object.metadata;
    let uid = metadata.uid.get_or_insert_with(|| known.uid().to_owned());
    if uid != known.uid() {
        return conflict(format!(
            "another object has this name: its uid is {}, not {uid}; delete it first, or take the annotation \
             {RESTORE_ANNOTATION} off to make that object what this one is",
            known.uid()
        ));
    }
    if known.deleting && metadata.deletion_timestamp.is_none() {
        return conflict("it is being deleted; try again when it is gone".to_owned());
    }
    let old = known.object();
    let fields = validate_update(&old.spec, &object.spec);
    if !fields.is_empty() {
        return Err(Error::Invalid { kind: known.kind(), name: known.name().to_owned(), fields });
    }
    if metadata.creation_timestamp.is_none() {
        metadata.creation_timestamp = old.metadata.creation_timestamp;
    }
    metadata.managed_fields = old.metadata.managed_fields;
    let changed = i64::from(old.spec != object.spec);
    metadata.generation.get_or_insert(old.metadata.generation.unwrap_or(0) + changed);
    Ok(())
}

/// Says so where others claim the same `spec.name`.
fn other_claims(everything: &Visible, record: &Arc<Record>) -> Option<String> {
    let first = match (record.image(), record.repository(), record.organization()) {
        (Some(image), _, _) => everything.image_claims(&image.name),
        (_, Some(repository), _) => everything.repository(&repository.name).map_or(&[][..], std::slice::from_ref),
        (_, _, Some(organization)) => everything.organization(&organization.name).map_or(&[][..], std::slice::from_ref),
        _ => &[],
    };
    let other = first.iter().find(|other| other.name() != record.name())?;
    let age = |record: &Record| (record.created().to_owned(), record.uid().to_owned());
    let oldest = first.iter().chain([record]).min_by_key(|record| age(record))?.name();
    let (kind, other) = (record.kind(), other.name());
    Some(format!("the {kind} {other:?} has the same spec.name; the oldest is served, {oldest:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(annotation: Option<&str>) -> Object {
        let annotations = annotation.map(|text| [(RESTORE_ANNOTATION.to_owned(), text.to_owned())].into());
        let metadata = ObjectMeta { name: Some("a.b".to_owned()), annotations, ..ObjectMeta::default() };
        let spec = Spec::from_value(Kind::Repository, serde_json::json!({ "name": "a/b" })).unwrap();
        Object { metadata, spec }
    }

    #[test]
    fn the_annotation_carries_the_envelope_and_is_taken_off() {
        let envelope = Envelope {
            creator: Some("alice".into()),
            expiry_base_ms: Some(1_700_000_000_123),
            announced: None,
            download_count: 7,
        };
        let text = serde_json::to_string(&Carried::of(&envelope)).unwrap();
        assert_eq!(text, r#"{"creator":"alice","expiryBase":"2023-11-14T22:13:20.123Z","downloadCount":7}"#);
        let mut object = object(Some(&text));
        let (carried, base) = Carried::take(&mut object).unwrap();
        assert_eq!(
            (carried.creator.as_deref(), base, carried.download_count),
            (Some("alice"), Some(1_700_000_000_123), 7)
        );
        assert_eq!(object.metadata.annotations, None);
    }

    #[test]
    fn an_annotation_that_no_export_wrote_is_refused() {
        for bad in [
            None,
            Some(""),
            Some("[]"),
            Some(r#"{"uid":"x"}"#),
            Some(r#"{"downloadCount":-1}"#),
            Some(r#"{"expiryBase":"now"}"#),
        ] {
            assert_eq!(Carried::take(&mut object(bad)).unwrap_err().code(), 400, "{bad:?}");
        }
    }

    #[test]
    fn names_of_the_old_system_are_warned_of_and_all_else_that_is_wrong_is_refused() {
        let with = |name: &str, spec: serde_json::Value| {
            let mut object = object(None);
            object.metadata.name = Some(name.to_owned());
            object.spec = Spec::from_value(Kind::Image, spec).unwrap();
            judge(&object)
        };
        let image = |size| serde_json::json!({ "name": "a/b:c", "detail": { "size": size } });
        assert_eq!(with("a.b.c", image(1)).unwrap(), Vec::<String>::new());
        assert_eq!(with("other", image(1)).unwrap().len(), 1);
        assert_eq!(with("other", serde_json::json!({ "name": "A/b:c" })).unwrap().len(), 1);
        assert_eq!(with("other", image(-1)).unwrap_err().code(), 422);
        assert_eq!(with("O/ther", image(1)).unwrap_err().code(), 422);
        assert_eq!(with("other", serde_json::json!({ "name": "" })).unwrap_err().code(), 422);
    }
}
