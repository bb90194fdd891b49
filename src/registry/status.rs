//! Writing `/status`: all of it is computed but a repository's count of downloads.

use serde_json::Value;

use super::commit::{Failed, as_if_changed};
use super::patch::Patch;
use super::{ATTEMPTS, Registry, WriteOptions, Written, modified, not_found};
use crate::api::{Kind, conform};
use crate::auth::{Caller, Verb};
use crate::error::{Error, FieldError};
use crate::graph::{Envelope, Key};
use crate::storage::Expect;

impl Registry {
    /// Takes over what of `status` is stored. Administrators only.
    ///
    /// # Errors
    /// Forbidden, `NotFound`, Conflict where `version` isn't the object's, Invalid, also without a version.
    pub async fn update_status(
        &self,
        caller: &Caller,
        kind: Kind,
        name: &str,
        version: Option<&str>,
        status: &Value,
        options: WriteOptions,
    ) -> Result<Written, Error> {
        self.authorize(caller, Verb::Update, kind, "status", name)?;
        self.change_status(caller, kind, name, version, options, |_| {
            if version.is_none_or(|v| v.is_empty() || v == "0") {
                let field = FieldError::invalid("metadata.resourceVersion", 0, "must be specified for an update");
                return Err(Error::field(kind, name, field));
            }
            Ok(status.clone())
        })
        .await
    }

    /// The same for a patch of the object as the caller sees it.
    ///
    /// # Errors
    /// As for [`update_status`](Self::update_status).
    pub async fn patch_status(
        &self,
        caller: &Caller,
        kind: Kind,
        name: &str,
        patch: &Patch,
        options: WriteOptions,
    ) -> Result<Written, Error> {
        self.authorize(caller, Verb::Patch, kind, "status", name)?;
        self.change_status(caller, kind, name, None, options, |mut object| {
            let preconditions = |object: &Value| {
                let field = |field: &str| object.pointer(field).and_then(Value::as_str).map(str::to_owned);
                (field("/metadata/uid"), field("/metadata/resourceVersion"))
            };
            let (uid, version) = preconditions(&object);
            patch.apply(kind, name, &mut object)?;
            let after = preconditions(&object);
            if after.0.is_some_and(|after| Some(after) != uid) || after.1.is_some_and(|after| Some(after) != version) {
                return Err(modified(&Key::new(kind, name)));
            }
            let fields = conform(kind, &mut object).status_errors;
            if !fields.is_empty() {
                return Err(Error::Invalid { kind, name: name.to_owned(), fields });
            }
            Ok(object.get("status").cloned().unwrap_or_default())
        })
        .await
    }

    async fn change_status(
        &self,
        caller: &Caller,
        kind: Kind,
        name: &str,
        version: Option<&str>,
        options: WriteOptions,
        change: impl Fn(Value) -> Result<Value, Error>,
    ) -> Result<Written, Error> {
        let mut settling = self.settling(Key::new(kind, name));
        loop {
            let answer = self.change_status_once(caller, kind, name, version, options, &change).await;
            if settling.is_settled(&answer).await? {
                return answer;
            }
        }
    }

    async fn change_status_once(
        &self,
        caller: &Caller,
        kind: Kind,
        name: &str,
        version: Option<&str>,
        options: WriteOptions,
        change: &impl Fn(Value) -> Result<Value, Error>,
    ) -> Result<Written, Error> {
        for _ in 0..ATTEMPTS {
            let reader = self.reader(caller);
            let record = reader.visible.get(kind, name).cloned().ok_or_else(|| not_found(kind, name))?;
            if version.is_some_and(|v| !v.is_empty() && v != "0" && v != record.revision.to_string()) {
                return Err(modified(&record.key));
            }
            let status = change(serde_json::from_slice(&reader.object(&record)).map_err(Error::internal)?)?;
            let mut envelope: Envelope = record.envelope.clone();
            if let (Kind::Repository, Some(count)) = (kind, status.get("downloadCount").filter(|v| !v.is_null())) {
                let count = count.as_i64().filter(|count| *count >= 0).ok_or_else(|| {
                    let detail = "it must be a whole number that is not negative";
                    Error::field(kind, name, FieldError::invalid("status.downloadCount", count, detail))
                })?;
                envelope.download_count = count;
            }
            let done =
                |record| Ok(Written { reader: self.reader(caller), record, created: false, warnings: Vec::new() });
            if envelope == record.envelope {
                return done(record);
            }
            let object = record.object();
            let draft = as_if_changed(&record, &envelope, &object)?;
            if options.dry_run {
                return done(draft);
            }
            envelope.announced = self.announcement(&draft);
            match self.store(record.key.clone(), Expect::At(record.revision), &envelope, &object).await {
                Ok(record) => return done(record),
                Err(Failed::Overtaken) => {}
                Err(Failed::Error(error)) => return Err(error),
            }
        }
        Err(modified(&Key::new(kind, name)))
    }
}
