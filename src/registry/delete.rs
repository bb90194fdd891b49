//! Deleting objects: preconditions, finalizers, and what becomes of those that they own.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::commit::Failed;
use super::list::ListOptions;
use super::read::Reader;
use super::{ATTEMPTS, Registry, modified, not_found};
use crate::api::{Kind, Object};
use crate::auth::{Caller, Verb};
use crate::error::Error;
use crate::graph::{Key, Record};
use crate::storage::Expect;

/// Kube's finalizer of an owner that goes after those it owns.
pub const FINALIZER_FOREGROUND: &str = "foregroundDeletion";
/// Kube's finalizer of an owner that lets go of those it owns first.
pub const FINALIZER_ORPHAN: &str = "orphan";

/// What becomes of the objects that the deleted one owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// They go after it.
    Background,
    /// They go before it.
    Foreground,
    /// They stay, without an owner.
    Orphan,
}

impl Propagation {
    /// The propagation of this name, as kube writes it.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "Background" => Some(Self::Background),
            "Foreground" => Some(Self::Foreground),
            "Orphan" => Some(Self::Orphan),
            _ => None,
        }
    }
}

/// How to delete.
#[derive(Debug, Clone, Default)]
pub struct DeleteOptions {
    /// The uid that the object must have.
    pub uid: Option<String>,
    /// The version that the object must be at.
    pub resource_version: Option<String>,
    /// What becomes of those that it owns; background, where it isn't said.
    pub propagation: Option<Propagation>,
    /// All is checked and the answer given, but nothing is deleted.
    pub dry_run: bool,
}

/// What a deletion came to.
#[derive(Debug)]
pub enum Deleted {
    /// It is gone.
    Gone(Arc<Record>),
    /// It goes when its finalizers are done.
    Terminating(Reader, Arc<Record>),
}

impl Registry {
    /// Deletes an object, or marks it as being deleted where finalizers hold it.
    ///
    /// # Errors
    /// Forbidden, `NotFound`, Conflict where a precondition doesn't hold, and what the storage says.
    pub async fn delete(
        &self,
        caller: &Caller,
        kind: Kind,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<Deleted, Error> {
        self.authorize(caller, Verb::Delete, kind, "", name)?;
        let mut settling = self.settling(Key::new(kind, name));
        loop {
            let answer = self.delete_once(caller, kind, name, options).await;
            if settling.is_settled(&answer).await? {
                return answer;
            }
        }
    }

    async fn delete_once(
        &self,
        caller: &Caller,
        kind: Kind,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<Deleted, Error> {
        for _ in 0..ATTEMPTS {
            let reader = self.reader(caller);
            let record = reader.visible.get(kind, name).cloned().ok_or_else(|| not_found(kind, name))?;
            check_preconditions(&record, options)?;
            let object = record.object();
            let finalizers = finalizers(&object, options.propagation);
            let done = if finalizers.is_empty() {
                if options.dry_run {
                    return Ok(Deleted::Gone(record));
                }
                self.take_out(record.key.clone(), record.revision).await.map(|_| Deleted::Gone(Arc::clone(&record)))
            } else {
                let object = self.terminating(object, finalizers);
                if options.dry_run {
                    let draft =
                        super::commit::as_if_stored(record.key.clone(), record.revision, &record.envelope, &object)?;
                    return Ok(Deleted::Terminating(reader, draft));
                }
                if object == record.object() {
                    return Ok(Deleted::Terminating(reader, record));
                }
                self.store(record.key.clone(), Expect::At(record.revision), &record.envelope, &object)
                    .await
                    .map(|record| Deleted::Terminating(self.reader(caller), record))
            };
            match done {
                Ok(deleted) => return Ok(deleted),
                Err(Failed::Overtaken) => {}
                Err(Failed::Error(error)) => return Err(error),
            }
        }
        Err(modified(&Key::new(kind, name)))
    }

    fn terminating(&self, mut object: Object, finalizers: Vec<String>) -> Object {
        if object.metadata.deletion_timestamp.is_none() {
            object.metadata.deletion_timestamp = Some(Time(self.now()));
            object.metadata.deletion_grace_period_seconds = Some(0);
            object.metadata.generation = Some(object.metadata.generation.unwrap_or(0) + 1);
        }
        object.metadata.finalizers = Some(finalizers);
        object
    }

    /// Deletes all objects that `list` selects, and answers with them as they were.
    ///
    /// # Errors
    /// As for one; those before the one that failed are deleted.
    pub async fn delete_collection(
        &self,
        caller: &Caller,
        kind: Kind,
        list: &ListOptions,
        options: &DeleteOptions,
    ) -> Result<(Reader, Vec<Arc<Record>>), Error> {
        self.authorize(caller, Verb::DeleteCollection, kind, "", "")?;
        let found = self.list(caller, kind, list).await?;
        // All or, where one may not be deleted, none.
        for record in &found.items {
            self.authorize(caller, Verb::Delete, kind, "", record.name())?;
        }
        let mut deleted = Vec::with_capacity(found.items.len());
        for record in found.items {
            // Without a precondition of the caller's: the one that was listed, not one made anew under its name.
            let uid = options.uid.clone().or_else(|| Some(record.uid().to_owned()));
            let one = DeleteOptions { uid, ..options.clone() };
            match self.delete(caller, kind, record.name(), &one).await {
                Ok(_) => deleted.push(record),
                // Somebody else was quicker, or made it anew.
                Err(Error::NotFound { .. }) => {}
                Err(Error::Conflict { .. }) if options.uid.is_none() && options.resource_version.is_none() => {}
                Err(error) => return Err(error),
            }
        }
        Ok((found.reader, deleted))
    }
}

fn check_preconditions(record: &Record, options: &DeleteOptions) -> Result<(), Error> {
    let conflict = |message| Error::Conflict { kind: record.kind(), name: record.name().to_owned(), message };
    if let Some(uid) = &options.uid
        && uid != record.uid()
    {
        return Err(conflict(format!(
            "the UID in the precondition ({uid}) does not match the UID in record ({}). The object might have been \
             deleted and then recreated",
            record.uid()
        )));
    }
    if let Some(version) = &options.resource_version
        && *version != record.revision.to_string()
    {
        return Err(conflict(format!(
            "the ResourceVersion in the precondition ({version}) does not match the ResourceVersion in record ({}). The \
             object might have been modified",
            record.revision
        )));
    }
    Ok(())
}

/// The finalizers that the object has once it is being deleted.
fn finalizers(object: &Object, propagation: Option<Propagation>) -> Vec<String> {
    let mut finalizers = object.metadata.finalizers.clone().unwrap_or_default();
    let ours = match propagation {
        None => return finalizers,
        Some(Propagation::Background) => None,
        Some(Propagation::Foreground) => Some(FINALIZER_FOREGROUND),
        Some(Propagation::Orphan) => Some(FINALIZER_ORPHAN),
    };
    finalizers.retain(|f| Some(f.as_str()) == ours || (f != FINALIZER_FOREGROUND && f != FINALIZER_ORPHAN));
    if let Some(ours) = ours
        && !finalizers.iter().any(|f| f == ours)
    {
        finalizers.push(ours.to_owned());
    }
    finalizers
}
