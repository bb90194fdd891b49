//! The kind that records are kept in. The manifest in `deploy/crd` is made here.

use serde_json::{Value, json};

/// The API group of Records. It is not the public group: that one is served by us, and nobody else reads Records.
pub const GROUP: &str = "store.imagehub.sealos.io";
/// The version of the stored form.
pub const VERSION: &str = "v1";
/// The name of the `CustomResourceDefinition`.
pub const CRD_NAME: &str = "records.store.imagehub.sealos.io";
/// Where Records are.
pub(super) const PATH: &str = "/apis/store.imagehub.sealos.io/v1/records";
/// Where their definition is.
pub(super) const CRD_PATH: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// The definition of the kind Record, as it is installed.
///
/// It has no defaults, so that the host writes nothing into a Record that we didn't. The schema refuses most of what a
/// hand could break; the rest is kept apart when it is read, and the [condition](super::condition) says so.
#[must_use]
pub fn definition() -> Value {
    let text = |description: &str| json!({ "type": "string", "description": description });
    let spec = json!({
        "type": "object",
        "description": "One record of the catalogue. Written by imagehub only.",
        "required": ["kind", "name", "at"],
        "properties": {
            "kind": text("The kind of the object in it, or Nonce."),
            "name": text("The metadata.name of the object in it."),
            "at": {
                "type": "integer", "format": "int64",
                "description": "When it was written, on the store's clock, in milliseconds since 1970.",
            },
            "mark": text("Which write it was."),
            "value": text("The record: an envelope, a line feed, and the object, as JSON."),
            "bytes": {
                "type": "string", "format": "byte",
                "description": "The record in base64, where it is no text or would be too long as one.",
            },
        },
    });
    let status = json!({
        "type": "object",
        "description": "Only of a Record that imagehub could not read.",
        "properties": { "conditions": {
            "type": "array",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["type"],
            "items": {
                "type": "object",
                "required": ["type", "status"],
                "properties": {
                    "type": text("Readable."),
                    "status": text("False: the Record was damaged, and what was in it is not served. True: no more."),
                    "reason": text("Damaged or Repaired."),
                    "message": text("What is wrong with it."),
                    "lastTransitionTime": { "type": "string", "format": "date-time", "description": "Since when." },
                },
            },
        } },
    });
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": { "name": CRD_NAME },
        "spec": {
            "group": GROUP,
            "scope": "Cluster",
            "names": { "kind": "Record", "listKind": "RecordList", "plural": "records", "singular": "record" },
            "versions": [{
                "name": VERSION,
                "served": true,
                "storage": true,
                "schema": { "openAPIV3Schema": {
                    "type": "object",
                    "description": "What imagehub keeps: one object of its catalogue. Don't change it by hand.",
                    "required": ["spec"],
                    "properties": { "spec": spec, "status": status },
                } },
                "subresources": { "status": {} },
                "additionalPrinterColumns": [
                    { "name": "Kind", "type": "string", "jsonPath": ".spec.kind" },
                    { "name": "Object", "type": "string", "jsonPath": ".spec.name" },
                    {
                        "name": "Readable", "type": "string",
                        "jsonPath": format!(".status.conditions[?(@.type==\"{}\")].status", super::condition::READABLE),
                    },
                    { "name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp" },
                ],
            }],
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `make openapi` has no part in it: this test writes the file when it is told to.
    #[test]
    fn the_manifest_in_deploy_is_the_definition() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/crd/records.yaml");
        let wanted = format!(
            "# Made from src/storage/kubernetes/crd.rs. It is apart from all else in deploy/, so that deleting that never\n\
             # deletes the catalogue.\n{}",
            serde_saphyr::to_string(&definition()).unwrap()
        );
        if std::env::var_os("IMAGEHUB_WRITE_GENERATED").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &wanted).unwrap();
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(found, wanted, "write it anew: IMAGEHUB_WRITE_GENERATED=1 cargo test --lib the_manifest_in_deploy");
    }
}
