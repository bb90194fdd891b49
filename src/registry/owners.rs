//! Whoever writes an Image makes its Organization and its Repository where they are absent, in the same
//! request; whoever writes a Repository makes its Organization.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::commit::Failed;
use super::create::check;
use super::derive::owner_name;
use super::{Registry, WriteOptions};
use crate::api::{Kind, Object, OrganizationSpec, RepositoryName, RepositorySpec, Spec};
use crate::auth::{Attributes, Caller, Verb};
use crate::error::Error;
use crate::graph::{Record, Sight, Visible};

impl Registry {
    /// Makes what owns an object with `spec`, and what owns that, where it is absent. All is checked before
    /// the first is made; on a dry run nothing is.
    pub(super) async fn ensure_owners(&self, caller: &Caller, spec: &Spec, dry_run: bool) -> Result<(), Error> {
        let everything = self.reader_for(Sight::Everything).visible;
        let missing = self.missing_owners(caller, &everything, spec)?;
        if missing.iter().any(|object| object.spec.kind() == Kind::Organization) {
            let attributes = Attributes::new(Verb::Create, Kind::Organization, "");
            self.authorizer.authorize(caller, &attributes).await?;
        }
        if dry_run {
            return Ok(());
        }
        for mut object in missing {
            let kind = object.spec.kind();
            match self.insert(caller, &mut object, WriteOptions::default()).await {
                // Somebody else was quicker.
                Ok(_) => {}
                Err(Error::AlreadyExists { .. } | Error::Invalid { .. })
                    if self.has_owner_of(kind, caller, spec)? => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Whether somebody else has made, under whatever `metadata.name`, the owner of this kind that this request was
    /// about to. Others may be missing still: two images in two repositories of one new organization.
    fn has_owner_of(&self, kind: Kind, caller: &Caller, spec: &Spec) -> Result<bool, Error> {
        let everything = self.reader_for(Sight::Everything).visible;
        Ok(self.missing_owners(caller, &everything, spec)?.iter().all(|missing| missing.spec.kind() != kind))
    }

    /// The owners to be made, the outermost first, prepared and checked.
    pub(super) fn missing_owners(
        &self,
        caller: &Caller,
        everything: &Visible,
        spec: &Spec,
    ) -> Result<Vec<Object>, Error> {
        let kind = spec.kind();
        let Some(name) = spec.name() else { return Ok(Vec::new()) };
        let mut missing = Vec::new();
        let mut owner = owner_name(kind, name);
        while let Some((owner_kind, owner_full)) = owner {
            match named(everything, owner_kind, owner_full) {
                Some(record) if record.deleting => return Err(terminating(kind, name, record)),
                Some(_) => {}
                None => {
                    let object = self.new_owner(caller, owner_kind, owner_full)?;
                    let its_name = object.metadata.name.as_deref().unwrap_or_default();
                    if let Some(holder) = everything.get(owner_kind, its_name) {
                        let seen = self.reader(caller).visible.sees(holder);
                        return Err(squatted(kind, name, owner_full, holder, seen));
                    }
                    missing.push(object);
                }
            }
            owner = owner_name(owner_kind, owner_full);
        }
        missing.reverse();
        Ok(missing)
    }

    fn new_owner(&self, caller: &Caller, kind: Kind, full: &str) -> Result<Object, Error> {
        self.authorize_create(caller, kind, full)?;
        let (name, spec) = if kind == Kind::Organization {
            (
                full.to_owned(),
                Spec::Organization(OrganizationSpec { name: full.to_owned(), creator: None, manager: None }),
            )
        } else {
            let parsed = RepositoryName::parse(full).map_err(|e| Error::BadRequest(e.to_string()))?;
            (parsed.meta_name(), Spec::Repository(RepositorySpec { name: full.to_owned(), is_private: None }))
        };
        let mut object = Object { metadata: ObjectMeta { name: Some(name), ..ObjectMeta::default() }, spec };
        self.prepare(caller, &mut object)?;
        check(&object)?;
        Ok(object)
    }

    /// Whether what owns `record` is absent, or is going.
    pub(super) fn lacks_owner(&self, record: &Record) -> bool {
        let everything = self.reader_for(Sight::Everything).visible;
        owner_of(record).is_some_and(|(kind, full)| named(&everything, kind, full).is_none_or(|owner| owner.deleting))
    }

    /// Whether the owner that `record` names, if it is to have one, is the one that is there.
    pub(super) fn has_owner(&self, record: &Record) -> bool {
        let everything = self.reader_for(Sight::Everything).visible;
        let owns = |(kind, full)| named(&everything, kind, full).is_some_and(|owner| names(record, owner));
        owner_of(record).is_none_or(owns)
    }

    /// Whether the owner that `record` was stored with is still the one that stands, made anew where it
    /// went in between: the garbage collector must not eat what is about to be acknowledged. False when it
    /// has done so already.
    ///
    /// # Errors
    /// What making the owner anew says; for what was just made, Conflict where its owner's deletion has begun in
    /// between: then it is taken out again.
    pub(super) async fn owner_stands(&self, caller: &Caller, record: &Arc<Record>, made: bool) -> Result<bool, Error> {
        let Some((kind, full)) = owner_of(record) else { return Ok(true) };
        let everything = self.reader_for(Sight::Everything).visible;
        if let Some(owner) = named(&everything, kind, full)
            && names(record, owner)
        {
            if made
                && owner.deleting
                && let Ok(_) | Err(Failed::Error(_)) = self.take_out(record.key.clone(), record.revision).await
            {
                return Err(terminating(record.kind(), record.name(), owner));
            }
            // Where it was overtaken somebody has seen it: it is there, and goes with its owner.
            return Ok(true);
        }
        if everything.get(record.kind(), record.name()).is_none() {
            return Ok(false);
        }
        self.ensure_owners(caller, &record.object().spec, false).await?;
        self.refresh(&record.key).await?;
        Ok(self.reader_for(Sight::Everything).visible.get(record.kind(), record.name()).is_some())
    }
}

/// The Repository or Organization of this full name.
fn named<'a>(all: &'a Visible, kind: Kind, full: &str) -> Option<&'a Arc<Record>> {
    match kind {
        Kind::Repository => all.repository(full),
        _ => all.organization(full),
    }
}

/// The kind and the full name of what owns `record`; `None` for what nothing owns, as old data whose name has not the
/// form of one.
fn owner_of(record: &Record) -> Option<(Kind, &str)> {
    let image = record.image().map(|image| image.name());
    owner_name(record.kind(), image.or_else(|| record.repository().map(|repository| repository.name()))?)
}

/// Whether `record` names `owner` as one of its owners.
fn names(record: &Record, owner: &Record) -> bool {
    record.owners().any(|reference| reference.uid == owner.uid())
}

/// Another object has the `metadata.name` that follows from the owner's full name. Which one is for those who see it.
fn squatted(kind: Kind, name: &str, owner: &str, holder: &Record, seen: bool) -> Error {
    let has = match (holder.repository(), holder.organization()) {
        _ if !seen => "another",
        (Some(repository), _) => repository.name(),
        (_, Some(organization)) => &*organization.name,
        _ => "",
    };
    Error::Conflict {
        kind,
        name: name.to_owned(),
        message: format!(
            "its {} {owner} can't be made: {:?}, which would be its metadata.name, is that of {has}; make {owner} under \
             another metadata.name first",
            holder.kind().singular(),
            holder.name()
        ),
    }
}

fn terminating(kind: Kind, name: &str, owner: &Record) -> Error {
    Error::Conflict {
        kind,
        name: name.to_owned(),
        message: format!(
            "its {} {:?} is being deleted; try again when it is gone",
            owner.kind().singular(),
            owner.name()
        ),
    }
}
