//! The options of a request: query parameters, and the body of a deletion.

use std::time::Duration;

use http::HeaderMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::DeleteOptions as WireDeleteOptions;
use rand::RngExt as _;

use crate::api::{FieldSelector, FieldValidation, LabelSelector};
use crate::error::{Error, FieldError, FieldReason};
use crate::graph::Revision;
use crate::registry::{DeleteOptions, ListOptions, Propagation, VersionMatch, WatchOptions, WatchStart, WriteOptions};

/// A watch that doesn't say how long it lasts lasts this long, in seconds, at least, and up to twice as
/// long: kube-apiserver's `--min-request-timeout`.
const WATCH_SECONDS: u64 = 1800;

/// The longest that a watch lasts, in seconds.
const LONGEST_WATCH_SECONDS: u64 = 24 * 3600;

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

    fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, Error> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let number = text.parse().map_err(|_| {
            Error::BadRequest(format!(
                "the query parameter {name} is {text:?}; it must be a number that is not negative"
            ))
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
        let limit = self.number::<u64>("limit")?.filter(|limit| *limit > 0);
        let continue_token = self.get("continue").map(str::to_owned);
        let version = self.version()?;
        let matching = self.get("resourceVersionMatch");
        let mut faults = Vec::new();
        let matching = match matching {
            None => None,
            Some("NotOlderThan") => Some(VersionMatch::NotOlderThan),
            Some("Exact") => Some(VersionMatch::Exact),
            Some(other) => {
                faults.push(unsupported("resourceVersionMatch", other, &["Exact", "NotOlderThan"]));
                None
            }
        };
        let forbidden = |faults: &mut Vec<FieldError>, why| {
            faults.push(FieldError::forbidden("resourceVersionMatch", why));
        };
        if matching.is_some() && version.is_none() {
            forbidden(&mut faults, "resourceVersionMatch is forbidden unless resourceVersion is provided");
        }
        if matching.is_some() && continue_token.is_some() {
            forbidden(&mut faults, "resourceVersionMatch is forbidden when continue is provided");
        }
        if matching == Some(VersionMatch::Exact) && version == Some(Revision(0)) {
            forbidden(&mut faults, "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"");
        }
        if self.tristate("sendInitialEvents").is_some() {
            faults.push(FieldError::forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"));
        }
        if version.is_some_and(|v| v.0 > 0) && continue_token.is_some() {
            return Err(Error::BadRequest("specifying resource version is not allowed when using continue".to_owned()));
        }
        invalid("ListOptions", faults)?;
        // Kube's rules for a version without a match: with a limit it is meant exactly, so that pages agree.
        let version = version.filter(|v| v.0 > 0).map(|version| {
            let default = if limit.is_some() { VersionMatch::Exact } else { VersionMatch::NotOlderThan };
            (version, matching.unwrap_or(default))
        });
        Ok(ListOptions {
            labels: self.label_selector()?,
            fields: self.field_selector()?,
            limit: limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX)),
            continue_token,
            version,
        })
    }

    pub(super) fn watch(&self) -> Result<WatchOptions, Error> {
        let initial = self.tristate("sendInitialEvents");
        let matching = self.get("resourceVersionMatch");
        let mut faults = Vec::new();
        if self.get("continue").is_some() {
            faults.push(FieldError::forbidden("continue", "continue is forbidden for watch"));
        }
        match (initial, matching) {
            (None, Some(_)) => faults.push(FieldError::forbidden(
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            )),
            (Some(_), None) => faults.push(FieldError::forbidden(
                "resourceVersionMatch",
                "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
            )),
            (Some(_), Some(other)) if other != "NotOlderThan" => {
                faults.push(unsupported("resourceVersionMatch", other, &["NotOlderThan"]));
            }
            _ => {}
        }
        let bookmarks = self.flag("allowWatchBookmarks");
        if initial == Some(true) && !bookmarks {
            faults.push(FieldError::forbidden(
                "allowWatchBookmarks",
                "sendInitialEvents needs allowWatchBookmarks: the end of the initial events is told by a bookmark",
            ));
        }
        invalid("ListOptions", faults)?;
        let version = self.version()?.unwrap_or_default();
        let start = match (initial, version) {
            (Some(true), version) => WatchStart::Existing(version),
            (Some(false), Revision(0)) => WatchStart::Now,
            // Kube's older protocol: without a version, all that is there comes first.
            (None, Revision(0)) => WatchStart::Existing(Revision(0)),
            (_, version) => WatchStart::After(version),
        };
        let seconds = match self.number::<u64>("timeoutSeconds")? {
            None | Some(0) => rand::rng().random_range(WATCH_SECONDS..WATCH_SECONDS * 2),
            Some(seconds) => seconds.min(LONGEST_WATCH_SECONDS),
        };
        Ok(WatchOptions {
            labels: self.label_selector()?,
            fields: self.field_selector()?,
            start,
            bookmarks,
            initial_end: initial == Some(true),
            lasts: Duration::from_secs(seconds),
        })
    }

    /// The options of a write: `options` is the kind that faults are told of.
    pub(super) fn write(&self, options: &'static str) -> Result<(WriteOptions, FieldValidation), Error> {
        let mut faults = Vec::new();
        let dry_run = self.dry_run(&mut faults);
        let validation = FieldValidation::parse(self.get("fieldValidation")).unwrap_or_else(|fault| {
            faults.push(fault);
            FieldValidation::default()
        });
        invalid(options, faults)?;
        let reapplies = self.get("fieldManager") == Some(CLIENT_SIDE_APPLY);
        Ok((WriteOptions { dry_run, reapplies }, validation))
    }

    fn dry_run(&self, faults: &mut Vec<FieldError>) -> bool {
        let mut dry_run = false;
        for (_, value) in self.0.iter().filter(|(key, _)| key == "dryRun") {
            if value == "All" {
                dry_run = true;
            } else {
                faults.push(unsupported("dryRun", value, &["All"]));
            }
        }
        dry_run
    }

    /// The options of a deletion: the body's, where there is one, else the query's.
    pub(super) fn delete(&self, headers: &HeaderMap, body: &[u8]) -> Result<DeleteOptions, Error> {
        let wire = if body.iter().all(u8::is_ascii_whitespace) {
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
        let mut dry_run = self.dry_run(&mut faults);
        for value in wire.dry_run.iter().flatten() {
            if value == "All" {
                dry_run = true;
            } else {
                faults.push(unsupported("dryRun", value, &["All"]));
            }
        }
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
    pub(super) fn include(&self) -> Result<Include, Error> {
        match self.get("includeObject") {
            None | Some("Metadata") => Ok(Include::Metadata),
            Some("None") => Ok(Include::None),
            Some("Object") => Ok(Include::Object),
            Some(other) => Err(Error::BadRequest(format!(
                "the query parameter includeObject is {other:?}; it must be one of None, Metadata, Object"
            ))),
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

fn unsupported(field: &str, value: &str, supported: &[&str]) -> FieldError {
    let list: Vec<String> = supported.iter().map(|s| format!("{s:?}")).collect();
    let shown: String = value.chars().take(128).collect();
    FieldError {
        field: field.to_owned(),
        reason: FieldReason::NotSupported,
        message: format!("Unsupported value: {shown:?}: supported values: {}", list.join(", ")),
    }
}

fn invalid(kind: &'static str, fields: Vec<FieldError>) -> Result<(), Error> {
    if fields.is_empty() { Ok(()) } else { Err(Error::InvalidOptions { kind, fields }) }
}
