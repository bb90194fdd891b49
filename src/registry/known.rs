//! Specs of packs that were posted before: old clients post the same spec for each page that they show.
//! To parse, check and hash a hundred names takes many times what the answer does, so the body's digest
//! leads to the pack's name at once. Only what follows from the body alone is remembered; who may, whether
//! the pack is there and when it goes is looked at each time.

use std::sync::Arc;

use super::create::{lifetime_ms, named_by_spec};
use super::{ATTEMPTS, Registry, WriteOptions, Written, modified};
use crate::api::{Kind, Object, Spec};
use crate::auth::Caller;
use crate::error::Error;
use crate::graph::{Key, Sight};
use crate::registry::commit::Failed;

/// How many bodies are remembered. Each takes about 200 bytes.
const REMEMBERED: u64 = 16_384;

/// The SHA-256 of a body, and of all that decides how it is read.
pub type BodyDigest = [u8; 32];

/// What follows from a body.
#[derive(Debug, Clone)]
struct Known {
    name: Arc<str>,
    lifetime_ms: i64,
    warnings: Arc<[String]>,
}

/// What is remembered.
#[derive(Debug)]
pub(super) struct KnownSpecs(moka::sync::Cache<BodyDigest, Known>);

impl Default for KnownSpecs {
    fn default() -> Self {
        Self(moka::sync::Cache::new(REMEMBERED))
    }
}

/// What is to be remembered of an object, once it has been made.
#[derive(Debug, Clone, Copy)]
pub struct NamedBySpec {
    lifetime_ms: i64,
}

impl NamedBySpec {
    /// That of a DataPack that leaves its name to the server.
    #[must_use]
    pub fn of(object: &Object) -> Option<Self> {
        let Spec::DataPack(spec) = &object.spec else { return None };
        named_by_spec(object).then(|| Self { lifetime_ms: lifetime_ms(spec) })
    }
}

impl Registry {
    /// What creating the object of a body answers, where that body is known and its pack is there.
    ///
    /// # Errors
    /// As for [`create`](Self::create).
    pub async fn create_known(
        &self,
        caller: &Caller,
        body: &BodyDigest,
        options: WriteOptions,
    ) -> Result<Option<Written>, Error> {
        let Some(Known { name, lifetime_ms, warnings }) = self.known.0.get(body) else { return Ok(None) };
        self.authorize_create(caller, Kind::DataPack, "")?;
        for _ in 0..ATTEMPTS {
            let everything = self.reader_for(Sight::Everything).visible;
            let Some(pack) = everything.get(Kind::DataPack, &name).cloned() else { return Ok(None) };
            match self.renew(caller, &pack, lifetime_ms, options).await {
                Ok(mut written) => {
                    written.warnings.extend(warnings.iter().cloned());
                    return Ok(Some(written));
                }
                Err(Failed::Overtaken) => {}
                Err(Failed::Error(error)) => return Err(error),
            }
        }
        Err(modified(&Key::new(Kind::DataPack, name)))
    }

    /// Remembers what a body that made, or found, a pack leads to.
    pub fn remember(&self, body: BodyDigest, object: NamedBySpec, written: &Written) {
        let name = Arc::clone(&written.record.key.name);
        let warnings = written.warnings.as_slice().into();
        self.known.0.insert(body, Known { name, lifetime_ms: object.lifetime_ms, warnings });
    }
}
