//! What the controllers commit: what follows from a change elsewhere.

use super::Registry;
use super::commit::Failed;
use super::derive::{derive, image_in_step};
use crate::error::Error;
use crate::graph::{Key, Record, Sight};
use crate::storage::Expect;

impl Registry {
    /// Brings an object in step: its labels, its owner and the announcement of its status. Commits only
    /// where one of them differs. True if it did.
    ///
    /// # Errors
    /// What the storage says, or a conflict, which is to be tried again. That the object is gone is no error.
    pub async fn refresh(&self, key: &Key) -> Result<bool, Error> {
        for _ in 0..super::ATTEMPTS {
            let everything = self.reader_for(Sight::Everything).visible;
            let Some(record) = everything.get(key.kind, &key.name).cloned() else { return Ok(false) };
            if image_in_step(&everything, &record) {
                return Ok(false);
            }
            let old = record.object();
            let mut object = old.clone();
            if !record.deleting {
                derive(&everything, &mut object);
            }
            let mut envelope = record.envelope();
            envelope.announced = self.reader_for(Sight::Public).digest(&record);
            if object == old && envelope == record.envelope() {
                return Ok(false);
            }
            match self.store(record.key.clone(), Expect::At(record.revision), &envelope, &object).await {
                Ok(_) => return Ok(true),
                Err(Failed::Overtaken) => {}
                Err(Failed::Error(error)) => return Err(error),
            }
        }
        Err(super::modified(key))
    }

    /// Takes the reference to an owner out of an object: its owner's deletion orphans it.
    ///
    /// # Errors
    /// What the storage says; a conflict, which is to be tried again.
    pub async fn disown(&self, key: &Key, owner: &str) -> Result<(), Error> {
        self.amend(key, |object| {
            let references = object.metadata.owner_references.get_or_insert_default();
            references.retain(|reference| reference.uid != owner);
            if references.is_empty() {
                object.metadata.owner_references = None;
            }
        })
        .await
    }

    /// Takes a finalizer off an object of this uid; when it was the last one of an object that is being
    /// deleted, takes the object out.
    ///
    /// # Errors
    /// What the storage says; a conflict, which is to be tried again.
    pub async fn finish(&self, record: &Record, finalizer: &str) -> Result<(), Error> {
        let uid = record.uid().to_owned();
        self.amend(&record.key, |object| {
            if object.metadata.uid.as_deref() == Some(&uid)
                && let Some(finalizers) = &mut object.metadata.finalizers
            {
                finalizers.retain(|f| f != finalizer);
                if finalizers.is_empty() {
                    object.metadata.finalizers = None;
                }
            }
        })
        .await
    }

    /// Changes metadata, which nothing derives and nobody validates: the controllers' own.
    async fn amend(&self, key: &Key, change: impl Fn(&mut crate::api::Object)) -> Result<(), Error> {
        for _ in 0..super::ATTEMPTS {
            let everything = self.reader_for(Sight::Everything).visible;
            let Some(record) = everything.get(key.kind, &key.name).cloned() else { return Ok(()) };
            let old = record.object();
            let mut object = old.clone();
            change(&mut object);
            if object == old {
                return Ok(());
            }
            let done = if record.deleting && object.metadata.finalizers.is_none() {
                self.take_out(record.key.clone(), record.revision).await.map(|_| ())
            } else {
                self.store(record.key.clone(), Expect::At(record.revision), &record.envelope(), &object)
                    .await
                    .map(|_| ())
            };
            match done {
                Ok(()) => return Ok(()),
                Err(Failed::Overtaken) => {}
                Err(Failed::Error(error)) => return Err(error),
            }
        }
        Err(super::modified(key))
    }
}
