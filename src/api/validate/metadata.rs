//! The rules of metadata, which are those of `k8s.io/apimachinery/pkg/api/validation` for cluster-scoped objects.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::api::name::{dns_subdomain_faults, label_key_faults, label_value_faults};
use crate::api::quote::Quoted;
use crate::error::{FieldError, FieldReason};

/// Most bytes of all annotations of an object together, keys and values (kube's `TotalAnnotationSizeLimitB`).
pub const MAX_ANNOTATIONS_SIZE: usize = 256 * 1024;

/// Finalizer of a delete that leaves the dependents.
const ORPHAN: &str = "orphan";
/// Finalizer of a delete that waits for the dependents.
const FOREGROUND: &str = "foregroundDeletion";

/// What is wrong with an object's metadata. Names have been generated and the namespace has been cleared before.
#[must_use]
pub fn validate_metadata(metadata: &ObjectMeta) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if let Some(prefix) = metadata.generate_name.as_deref().filter(|p| !p.is_empty()) {
        // What is generated ends with letters or digits, so the prefix may end with `-`.
        let masked = if prefix.len() > 1 { prefix.strip_suffix('-').map(|p| format!("{p}a")) } else { None };
        let faults = dns_subdomain_faults(masked.as_deref().unwrap_or(prefix));
        errors.extend(faults.into_iter().map(|f| FieldError::invalid("metadata.generateName", Quoted(prefix), f)));
    }
    match metadata.name.as_deref().unwrap_or_default() {
        "" => errors.push(FieldError::required("metadata.name", "name or generateName is required")),
        name => {
            let faults = dns_subdomain_faults(name);
            errors.extend(faults.into_iter().map(|f| FieldError::invalid("metadata.name", Quoted(name), f)));
        }
    }
    if metadata.namespace.as_deref().is_some_and(|n| !n.is_empty()) {
        errors.push(FieldError::forbidden("metadata.namespace", "not allowed on this type"));
    }
    if let Some(generation) = metadata.generation.filter(|g| *g < 0) {
        let want = "must be greater than or equal to 0";
        errors.push(FieldError::invalid("metadata.generation", generation, want));
    }
    for (key, value) in metadata.labels.iter().flatten() {
        let invalid = |value, fault| FieldError::invalid("metadata.labels", Quoted(value), fault);
        errors.extend(label_key_faults(key).into_iter().map(|f| invalid(key, f)));
        errors.extend(label_value_faults(value).into_iter().map(|f| invalid(value, f)));
    }
    if let Some(annotations) = &metadata.annotations {
        validate_annotations(annotations, &mut errors);
    }
    validate_owners(metadata.owner_references.as_deref().unwrap_or_default(), &mut errors);
    validate_finalizers(metadata.finalizers.as_deref().unwrap_or_default(), &mut errors);
    errors
}

fn validate_annotations(annotations: &BTreeMap<String, String>, errors: &mut Vec<FieldError>) {
    for key in annotations.keys() {
        // As a label's key, but a prefix may have upper case letters.
        let faults = label_key_faults(&key.to_lowercase());
        errors.extend(faults.into_iter().map(|f| FieldError::invalid("metadata.annotations", Quoted(key), f)));
    }
    if annotations.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>() > MAX_ANNOTATIONS_SIZE {
        let message = format!("Too long: may not be more than {MAX_ANNOTATIONS_SIZE} bytes");
        errors.push(FieldError::new("metadata.annotations", FieldReason::TooLong, message));
    }
}

fn validate_owners(owners: &[OwnerReference], errors: &mut Vec<FieldError>) {
    let mut controller: Option<String> = None;
    for (i, owner) in owners.iter().enumerate() {
        let path = |field: &str| format!("metadata.ownerReferences[{i}].{field}");
        let version = match owner.api_version.split_once('/') {
            None => Some(owner.api_version.as_str()),
            Some((_, version)) => Some(version).filter(|v| !v.is_empty() && !v.contains('/')),
        };
        if !owner.api_version.is_empty() && version.is_none() {
            let want = "must be <group>/<version> or <version>";
            errors.push(FieldError::invalid(path("apiVersion"), Quoted(&owner.api_version), want));
        }
        for (field, value) in
            [("apiVersion", &owner.api_version), ("kind", &owner.kind), ("name", &owner.name), ("uid", &owner.uid)]
        {
            if value.is_empty() {
                errors.push(FieldError::required(path(field), "must not be empty"));
            }
        }
        if matches!(owner.api_version.as_str(), "v1" | "/v1") && owner.kind == "Event" {
            let message = "Invalid value: \"Event\": /v1, Kind=Event is disallowed from being an owner";
            let field = format!("metadata.ownerReferences[{i}]");
            errors.push(FieldError::new(field, FieldReason::Invalid, message));
        }
        if owner.controller == Some(true) {
            let this = format!("{}/{}", owner.kind, owner.name);
            if let Some(first) = &controller {
                let wrong = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {first} and \
                     {this}"
                );
                errors.push(FieldError::invalid("metadata.ownerReferences", Quoted(&this), wrong));
            } else {
                controller = Some(this);
            }
        }
    }
}

fn validate_finalizers(finalizers: &[String], errors: &mut Vec<FieldError>) {
    for finalizer in finalizers {
        let faults = label_key_faults(finalizer);
        errors.extend(faults.into_iter().map(|f| FieldError::invalid("metadata.finalizers", Quoted(finalizer), f)));
    }
    let has = |name: &str| finalizers.iter().any(|f| f == name);
    if has(ORPHAN) && has(FOREGROUND) {
        let wrong = format_args!("finalizer {ORPHAN} and {FOREGROUND} cannot be both set");
        errors.push(FieldError::invalid("metadata.finalizers", Quoted(ORPHAN), wrong));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[track_caller]
    fn refused(metadata: Value, beginnings: &[&str]) {
        let metadata: ObjectMeta = serde_json::from_value(metadata).unwrap();
        let errors: Vec<_> = validate_metadata(&metadata).iter().map(ToString::to_string).collect();
        assert_eq!(errors.len(), beginnings.len(), "{errors:#?}");
        for (error, beginning) in errors.iter().zip(beginnings) {
            assert!(error.starts_with(beginning), "{error}\n{beginning}");
        }
    }

    #[test]
    fn what_kube_accepts_passes() {
        refused(
            json!({
                "name": "labring.nginx.1.23",
                "generateName": "labring-",
                "labels": {"a": "", "keyword.imagehub.sealos.io/GitOps": "x_Y.z"},
                "annotations": {"Example.com/A": "any\ntext"},
                "finalizers": ["foregroundDeletion", "example.com/keep"],
                "ownerReferences": [
                    {"apiVersion": "v1", "kind": "A", "name": "a", "uid": "u", "controller": true},
                    {"apiVersion": "g/v1", "kind": "A", "name": "b", "uid": "v", "controller": false},
                ],
            }),
            &[],
        );
    }

    #[test]
    fn each_field_is_told() {
        refused(json!({}), &["metadata.name: Required value: name or generateName is required"]);
        refused(
            json!({
                "name": "A",
                "generateName": "a.-",
                "namespace": "default",
                "generation": -1,
                "labels": {"a b": "_"},
                "annotations": {"a b": "_"},
                "finalizers": ["a b", "orphan", "foregroundDeletion"],
                "ownerReferences": [
                    {"apiVersion": "", "kind": "", "name": "", "uid": ""},
                    {"apiVersion": "a/b/c", "kind": "K", "name": "n", "uid": "u", "controller": true},
                    {"apiVersion": "v1", "kind": "Event", "name": "m", "uid": "u", "controller": true},
                ],
            }),
            &[
                "metadata.name: Invalid value: \"A\": a lowercase RFC 1123 subdomain must consist of",
                "metadata.namespace: Forbidden: not allowed on this type",
                "metadata.generation: Invalid value: -1: must be greater than or equal to 0",
                "metadata.labels: Invalid value: \"a b\": name part must consist of alphanumeric characters",
                "metadata.labels: Invalid value: \"_\": a valid label must be an empty string or consist of",
                "metadata.annotations: Invalid value: \"a b\": name part must consist of",
                "metadata.ownerReferences[0].apiVersion: Required value: must not be empty",
                "metadata.ownerReferences[0].kind: Required value: must not be empty",
                "metadata.ownerReferences[0].name: Required value: must not be empty",
                "metadata.ownerReferences[0].uid: Required value: must not be empty",
                "metadata.ownerReferences[1].apiVersion: Invalid value: \"a/b/c\": must be <group>/<version> or",
                "metadata.ownerReferences[2]: Invalid value: \"Event\": /v1, Kind=Event is disallowed",
                "metadata.ownerReferences: Invalid value: \"Event/m\": Only one reference can have Controller set to \
                 true. Found \"true\" in references for K/n and Event/m",
                "metadata.finalizers: Invalid value: \"a b\": name part must consist of",
                "metadata.finalizers: Invalid value: \"orphan\": finalizer orphan and foregroundDeletion cannot be both",
            ],
        );
    }

    #[test]
    fn annotations_have_a_size_limit_together() {
        let with = |n: usize| json!({"name": "a", "annotations": {"a": "x".repeat(n / 2), "b": "x".repeat(n / 2 - 2)}});
        refused(with(MAX_ANNOTATIONS_SIZE), &[]);
        let too_long = "metadata.annotations: Too long: may not be more than 262144 bytes";
        refused(with(MAX_ANNOTATIONS_SIZE + 2), &[too_long]);
    }
}
