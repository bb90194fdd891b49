//! The options of a request: query parameters, and the body of a deletion.

use std::time::Duration;

use http::HeaderMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::DeleteOptions as WireDeleteOptions;
use rand::RngExt as _;

use super::negotiate::Form;
use crate::api::decode::MAX_SHOWN;
use crate::api::{FieldSelector, FieldValidation, LabelSelector};
use crate::error::{Error, FieldError, FieldReason};
use crate::graph::Revision;
use crate::registry::{DeleteOptions, ListOptions, Propagation, VersionMatch, WatchOptions, WatchStart, WriteOptions};

/// A watch that doesn't say how long it lasts lasts this long, in seconds, at least, and up to twice as
/// long: kube-apiserver's `--min-request-timeout`.
const WATCH_SECONDS: u64 = 1800;

/// The longest that a watch lasts, in seconds.
const LONGEST_WATCH_SECONDS: u64 = 24 * 3600;

/// The longest name of a field manager, in bytes, as kube has it.
const LONGEST_FIELD_MANAGER: usize = 128;

/// How many words of `dryRun` are looked at.
const DRY_RUN_WORDS: usize = 16;

/// The kind of a patch's options.
pub(super) const PATCH_OPTIONS: &str = "PatchOptions";

/// How kubectl names itself when it applies a manifest by a merge patch that it makes itself. Other merge
/// patches, those of `kubectl patch` and `kubectl edit` among them, say what they take away.
const CLIENT_SIDE_APPLY: &str = "kubectl-client-side-apply";

/// The query of a request.
#[derive(Debug, Default)]
pub(super) struct Params(Vec<(String, String)>);

impl Params {
    pub(super) fn new(query: Vec<(String, String)>) -> Self {
        Self(query)
    }

    /// The first value of this name; empty ones count as absent.
    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// A flag, as kube reads them: there and not `false` or `0`.
    pub(super) fn flag(&self, name: &str) -> bool {
        self.tristate(name) == Some(true)
    }

    fn tristate(&self, name: &str) -> Option<bool> {
        let (_, value) = self.0.iter().find(|(key, _)| key == name)?;
        Some(!(value == "0" || value.eq_ignore_ascii_case("false")))
    }

    /// A number; an empty one is none, as for kube.
    fn number(&self, name: &str) -> Result<Option<i64>, Error> {
        let Some((_, text)) = self.0.iter().find(|(key, _)| key == name) else { return Ok(None) };
        let number = text.parse().map_err(|_| {
            let shown: String = text.chars().take(MAX_SHOWN).collect();
            Error::BadRequest(format!("the query parameter {name} is {shown:?}; it must be a whole number"))
        });
        number.map(Some)
    }

    fn version(&self) -> Result<Option<Revision>, Error> {
        let Some(text) = self.get("resourceVersion") else { return Ok(None) };
        match text.parse() {
            Ok(version) => Ok(Some(Revision(version))),
            Err(_) => Err(Error::BadRequest(format!(
                "resourceVersion: Invalid value: {text:?}: it must be a version that a list or an object had"
            ))),
        }
    }

    /// The version that a get is at least of.
    pub(super) fn at_least(&self) -> Result<Option<Revision>, Error> {
        self.version()
    }

    pub(super) fn label_selector(&self) -> Result<LabelSelector, Error> {
        Ok(LabelSelector::parse(self.get("labelSelector").unwrap_or_default())?)
    }

    pub(super) fn field_selector(&self) -> Result<FieldSelector, Error> {
        Ok(FieldSelector::parse(self.get("fieldSelector").unwrap_or_default())?)
    }

    pub(super) fn list(&self) -> Result<ListOptions, Error> {
        // Kube reads it for a list, too.
        self.number("timeoutSeconds")?;
        // None and negative ones are no limit.
        let limit = self.number("limit")?.and_then(|limit| usize::try_from(limit).ok()).filter(|limit| *limit > 0);
        let continue_token = self.get("continue").map(str::to_owned);
        let matching = self.list_match(continue_token.is_some())?;
        let version = self.version()?;
        if version.is_some_and(|v| v.0 > 0) && continue_token.is_some() {
            return Err(Error::BadRequest("specifying resource version is not allowed when using continue".to_owned()));
        }
        // Kube's rules for a version without a match: with a limit it is meant exactly, so that pages agree.
        let version = version.filter(|v| v.0 > 0).map(|version| {
            let default = if limit.is_some() { VersionMatch::Exact } else { VersionMatch::NotOlderThan };
            (version, matching.unwrap_or(default))
        });
        Ok(ListOptions {
            labels: self.label_selector()?,
            fields: self.field_selector()?,
            limit,
            continue_token,
            version,
        })
    }

    /// How a list's version is meant; the checks and the order are those of kube's `ValidateListOptions`.
    fn list_match(&self, continued: bool) -> Result<Option<VersionMatch>, Error> {
        const FIELD: &str = "resourceVersionMatch";
        let mut faults = Vec::new();
        let mut matching = None;
        if let Some(word) = self.get(FIELD) {
            if self.get("resourceVersion").is_none() {
                let why = "resourceVersionMatch is forbidden unless resourceVersion is provided";
                faults.push(FieldError::forbidden(FIELD, why));
            }
            if continued {
                let why = "resourceVersionMatch is forbidden when continue is provided";
                faults.push(FieldError::forbidden(FIELD, why));
            }
            match word {
                "NotOlderThan" => matching = Some(VersionMatch::NotOlderThan),
                "Exact" => matching = Some(VersionMatch::Exact),
                other => faults.push(unsupported(FIELD, other, &["Exact", "NotOlderThan", ""])),
            }
            if matching == Some(VersionMatch::Exact) && self.get("resourceVersion") == Some("0") {
                let why = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
                faults.push(FieldError::forbidden(FIELD, why));
            }
        }
        if self.tristate("sendInitialEvents").is_some() {
            faults.push(FieldError::forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"));
        }
        invalid("ListOptions", faults)?;
        Ok(matching)
    }

    pub(super) fn watch(&self) -> Result<WatchOptions, Error> {
        // Kube reads it for a watch, too.
        self.number("limit")?;
        let initial = self.tristate("sendInitialEvents");
        self.check_watch(initial.is_some())?;
        let bookmarks = self.flag("allowWatchBookmarks");
        let version = self.version()?.unwrap_or_default();
        let start = match (initial, version) {
            (Some(true), version) => WatchStart::Existing(version),
            (Some(false), Revision(0)) => WatchStart::Now,
            // Kube's older protocol: without a version, all that is there comes first.
            (None, Revision(0)) => WatchStart::Existing(Revision(0)),
            (_, version) => WatchStart::After(version),
        };
        let seconds = match self.number("timeoutSeconds")? {
            None | Some(0) => rand::rng().random_range(WATCH_SECONDS..WATCH_SECONDS * 2),
            Some(seconds) => match u64::try_from(seconds) {
                Ok(seconds) => seconds.min(LONGEST_WATCH_SECONDS),
                Err(_) => {
                    let why = format!("the query parameter timeoutSeconds is {seconds}; it must not be negative");
                    return Err(Error::BadRequest(why));
                }
            },
        };
        Ok(WatchOptions {
            labels: self.label_selector()?,
            fields: self.field_selector()?,
            start,
            bookmarks,
            // Told by a bookmark, so only to whom wants them; also to one of the older protocol.
            initial_end: bookmarks && matches!(start, WatchStart::Existing(_)),
            lasts: Duration::from_secs(seconds),
        })
    }

    /// The checks of kube's `ValidateListOptions` for a watch, in its order.
    fn check_watch(&self, initial: bool) -> Result<(), Error> {
        const FIELD: &str = "resourceVersionMatch";
        const WANTED: &str = "NotOlderThan";
        let matching = self.get(FIELD);
        let mut faults = Vec::new();
        if initial && matching != Some(WANTED) {
            let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
            faults.push(FieldError::forbidden(FIELD, why));
        }
        if matching.is_some() && !initial {
            let why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
            faults.push(FieldError::forbidden(FIELD, why));
        }
        if let Some(other) = matching.filter(|word| *word != WANTED) {
            faults.push(unsupported(FIELD, other, &[WANTED]));
        }
        if self.get("continue").is_some() {
            faults.push(FieldError::forbidden("continue", "continue is forbidden for watch"));
        }
        invalid("ListOptions", faults)
    }

    /// The options of a write: `options` is the kind that faults are told of.
    pub(super) fn write(&self, options: &'static str) -> Result<(WriteOptions, FieldValidation), Error> {
        let mut faults = Vec::new();
        if options == PATCH_OPTIONS && self.tristate("force").is_some() {
            faults.push(FieldError::forbidden("force", "may not be specified for non-apply patch"));
        }
        self.check_field_manager(&mut faults);
        let dry_run = dry_run(self.all("dryRun"), &mut faults);
        let validation = FieldValidation::parse(self.get("fieldValidation")).unwrap_or_else(|fault| {
            faults.push(fault);
            FieldValidation::default()
        });
        invalid(options, faults)?;
        let reapplies = self.get("fieldManager") == Some(CLIENT_SIDE_APPLY);
        Ok((WriteOptions { dry_run, reapplies }, validation))
    }

    fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The checks of kube's `ValidateFieldManager`.
    fn check_field_manager(&self, faults: &mut Vec<FieldError>) {
        const FIELD: &str = "fieldManager";
        let manager = self.get(FIELD).unwrap_or_default();
        if manager.len() > LONGEST_FIELD_MANAGER {
            let message = format!("Too long: may not be more than {LONGEST_FIELD_MANAGER} bytes");
            faults.push(FieldError::new(FIELD, FieldReason::TooLong, message));
        }
        if let Some((at, wrong)) = manager.chars().enumerate().find(|(_, c)| c.is_control()) {
            let detail = format!("invalid character U+{:04X} (at position {at})", u32::from(wrong));
            let shown: String = manager.chars().take(MAX_SHOWN).collect();
            faults.push(FieldError::invalid(FIELD, shown, detail));
        }
    }

    /// The options of a deletion: the body's, where there is one, else the query's.
    pub(super) fn delete(&self, headers: &HeaderMap, body: &[u8]) -> Result<DeleteOptions, Error> {
        let wire = if body.iter().all(u8::is_ascii_whitespace) {
            self.number("gracePeriodSeconds")?;
            WireDeleteOptions {
                orphan_dependents: self.tristate("orphanDependents"),
                propagation_policy: self.get("propagationPolicy").map(str::to_owned),
                ..WireDeleteOptions::default()
            }
        } else {
            let value = super::body::parse_options(headers, body)?;
            serde_json::from_value(value)
                .map_err(|e| Error::BadRequest(format!("the body is no DeleteOptions: {e}")))?
        };
        let mut faults = Vec::new();
        let propagation = match (wire.orphan_dependents, wire.propagation_policy.as_deref()) {
            (Some(_), Some(policy)) => {
                faults.push(FieldError::invalid(
                    "propagationPolicy",
                    policy,
                    "orphanDependents and deletionPropagation cannot be both set",
                ));
                None
            }
            (Some(true), None) => Some(Propagation::Orphan),
            (Some(false), None) => Some(Propagation::Background),
            (None, None) => None,
            (None, Some(policy)) => {
                let parsed = Propagation::parse(policy);
                if parsed.is_none() {
                    faults.push(unsupported(
                        "propagationPolicy",
                        policy,
                        &["Foreground", "Background", "Orphan", "nil"],
                    ));
                }
                parsed
            }
        };
        let asked = wire.dry_run.iter().flatten().map(String::as_str).chain(self.all("dryRun"));
        let dry_run = dry_run(asked, &mut faults);
        invalid("DeleteOptions", faults)?;
        let preconditions = wire.preconditions.unwrap_or_default();
        Ok(DeleteOptions {
            uid: preconditions.uid,
            resource_version: preconditions.resource_version,
            propagation,
            dry_run,
        })
    }

    /// What rows of a table hold of their object.
    pub(super) fn include(&self, form: Form) -> Result<Include, Error> {
        if !matches!(form, Form::Table { .. }) {
            return Ok(Include::Metadata);
        }
        match self.get("includeObject") {
            None | Some("Metadata") => Ok(Include::Metadata),
            Some("None") => Ok(Include::None),
            Some("Object") => Ok(Include::Object),
            Some(other) => {
                let shown: String = other.chars().take(MAX_SHOWN).collect();
                Err(Error::BadRequest(format!(
                    "Unable to convert to Table as requested: includeObject: Invalid value: {shown:?}: must be \
                     'Metadata', 'Object', 'None', or empty"
                )))
            }
        }
    }
}

/// What a row of a table holds of its object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Include {
    None,
    Metadata,
    Object,
}

/// Whether a write is to be checked only: `All` is the one word for it.
fn dry_run<'a>(asked: impl Iterator<Item = &'a str>, faults: &mut Vec<FieldError>) -> bool {
    let asked: Vec<String> = asked.map(|word| word.chars().take(MAX_SHOWN).collect()).take(DRY_RUN_WORDS).collect();
    if asked.iter().any(|word| word != "All") {
        let message = format!("Unsupported value: {asked:?}: supported values: \"All\"");
        faults.push(FieldError::new("dryRun", FieldReason::NotSupported, message));
    }
    !asked.is_empty()
}

fn unsupported(field: &str, value: &str, supported: &[&str]) -> FieldError {
    let list: Vec<String> = supported.iter().map(|s| format!("{s:?}")).collect();
    let shown: String = value.chars().take(MAX_SHOWN).collect();
    FieldError {
        field: field.to_owned(),
        reason: FieldReason::NotSupported,
        message: format!("Unsupported value: {shown:?}: supported values: {}", list.join(", ")),
    }
}

fn invalid(kind: &'static str, fields: Vec<FieldError>) -> Result<(), Error> {
    if fields.is_empty() { Ok(()) } else { Err(Error::InvalidOptions { kind, fields }) }
}
