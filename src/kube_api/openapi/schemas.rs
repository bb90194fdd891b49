//! The schemas that the documents name: ours, and those of kube's that they refer to.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{DeleteOptions, ListMeta, ObjectMeta, Patch, Status};
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::Form;
use crate::api::schema::{spec_schema, status_schema};
use crate::api::{GROUP, Kind, VERSION};

/// Kube's own schema of this name.
pub(super) fn meta(name: &str) -> String {
    format!("io.k8s.apimachinery.pkg.apis.meta.v1.{name}")
}

/// Our schema of this name: the group backwards, as kube names the schemas of a CRD.
pub(super) fn ours(name: &str) -> String {
    format!("io.sealos.imagehub.{VERSION}.{name}")
}

const API_VERSION: &str = "APIVersion defines the versioned schema of this representation of an object. Servers \
    should convert recognized schemas to the latest internal value, and may reject unrecognized values. More \
    info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources";
const KIND: &str = "Kind is a string value representing the REST resource this object represents. Servers may \
    infer this from the endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: \
    https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";
const OBJECT_META: &str = "Standard object's metadata. More info: \
    https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";
const LIST_META: &str = "Standard list metadata. More info: \
    https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";

/// All schemas, by name.
pub(super) fn all(form: Form) -> Map<String, Value> {
    let mut schemas = upstream(form);
    for kind in Kind::ALL {
        schemas.insert(ours(kind.name()), object(form, kind));
        schemas.insert(ours(kind.list_name()), list(form, kind));
    }
    schemas
}

fn object(form: Form, kind: Kind) -> Value {
    let mut spec = spec_schema(kind);
    let mut status = status_schema(kind);
    if form == Form::V2 {
        // kube drops them too: kubectl before 1.20 refuses objects by them
        drop_defaults(&mut spec);
        status.iter_mut().for_each(drop_defaults);
    }
    let mut schema = json!({
        "description": description(kind),
        "type": "object",
        "properties": {
            "apiVersion": { "description": API_VERSION, "type": "string" },
            "kind": { "description": KIND, "type": "string" },
            "metadata": described(form, OBJECT_META, &meta("ObjectMeta")),
        },
        "x-kubernetes-group-version-kind": [{ "group": GROUP, "kind": kind.name(), "version": VERSION }],
    });
    if spec["required"].is_array() {
        schema["required"] = json!(["spec"]);
    }
    schema["properties"]["spec"] = spec;
    if let Some(status) = status {
        schema["properties"]["status"] = status;
    }
    schema
}

fn list(form: Form, kind: Kind) -> Value {
    json!({
        "description": format!("{} is a list of {kind}", kind.list_name()),
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": { "description": API_VERSION, "type": "string" },
            "kind": { "description": KIND, "type": "string" },
            "metadata": described(form, LIST_META, &meta("ListMeta")),
            "items": {
                "description": format!("List of {}.", kind.plural()),
                "type": "array",
                "items": form.reference(&ours(kind.name())),
            },
        },
        "x-kubernetes-group-version-kind": [{ "group": GROUP, "kind": kind.list_name(), "version": VERSION }],
    })
}

fn description(kind: Kind) -> &'static str {
    match kind {
        Kind::Image => "Image is one version of a cluster image and its details.",
        Kind::Repository => "Repository owns its images. Its status is computed when it is read.",
        Kind::Organization => {
            "Organization owns repositories and has managers. Its status is computed when it is read."
        }
        Kind::DataPack => {
            "DataPack is a computed answer: the data of a list of images at one of three grains, current whenever it \
             is read, the answer to its creation included."
        }
    }
}

/// A reference with a description of its own. In OpenAPI 3.0 nothing may stand beside `$ref`; Swagger 2.0
/// readers pass over it, and kube has it so.
fn described(form: Form, description: &str, name: &str) -> Value {
    let reference = form.reference(name);
    match form {
        Form::V2 => json!({ "description": description, "$ref": reference["$ref"] }),
        Form::V3 => json!({ "description": description, "allOf": [reference] }),
    }
}

fn drop_defaults(schema: &mut Value) {
    let Some(map) = schema.as_object_mut() else { return };
    map.remove("default");
    if let Some(Value::Object(properties)) = map.get_mut("properties") {
        properties.values_mut().for_each(drop_defaults);
    }
    for inner in ["items", "additionalProperties"] {
        map.get_mut(inner).into_iter().for_each(drop_defaults);
    }
}

/// Kube's schemas that ours and the operations refer to, with all that those refer to.
fn upstream(form: Form) -> Map<String, Value> {
    let mut generator = SchemaSettings::draft2020_12()
        .with(|settings| {
            settings.meta_schema = None;
            settings.definitions_path = match form {
                Form::V2 => "/definitions",
                Form::V3 => "/components/schemas",
            }
            .into();
        })
        .into_generator();
    generator.subschema_for::<ObjectMeta>();
    generator.subschema_for::<ListMeta>();
    generator.subschema_for::<Status>();
    generator.subschema_for::<DeleteOptions>();
    generator.subschema_for::<Patch>();
    generator.subschema_for::<RawExtension>();
    let mut schemas = generator.take_definitions(true);
    if form == Form::V3 {
        schemas.values_mut().for_each(wrap_references);
    }
    schemas.insert(meta("WatchEvent"), watch_event(form));
    // k8s-openapi makes it required since its own type can't be without
    if let Some(Value::Object(status)) = schemas.get_mut(&meta("Status")) {
        status.remove("required");
    }
    let defaults = if form == Form::V3 { defaults() } else { Vec::new() };
    for (name, pointer, keyword, value) in extensions().into_iter().chain(defaults) {
        if let Some(Value::Object(place)) = schemas.get_mut(&meta(name)).and_then(|s| s.pointer_mut(pointer)) {
            place.insert(keyword.to_owned(), value);
        }
    }
    schemas
}

/// Kube's own words, which k8s-openapi changes for its generic type.
fn watch_event(form: Form) -> Value {
    let object = "Object is:\n * If Type is Added or Modified: the new state of the object.\n * If Type is \
        Deleted: the \
                  state of the object immediately before deletion.\n * If Type is Error: *Status is recommended; other \
                  types may make sense\n   depending on context.";
    json!({
        "description": "Event represents a single event to a watched resource.",
        "type": "object",
        "required": ["type", "object"],
        "properties": {
            "object": described(form, object, "io.k8s.apimachinery.pkg.runtime.RawExtension"),
            "type": { "type": "string" },
        },
    })
}

/// The defaults that kube's v3 documents have and k8s-openapi leaves out.
fn defaults() -> Vec<Patched> {
    vec![
        ("OwnerReference", "/properties/apiVersion", "default", json!("")),
        ("OwnerReference", "/properties/kind", "default", json!("")),
        ("OwnerReference", "/properties/name", "default", json!("")),
        ("OwnerReference", "/properties/uid", "default", json!("")),
        ("ShardInfo", "/properties/selector", "default", json!("")),
        ("Status", "/properties/metadata", "default", json!({})),
    ]
}

fn wrap_references(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            if map.len() > 1
                && let Some(reference) = map.remove("$ref")
            {
                map.insert("allOf".to_owned(), json!([{ "$ref": reference }]));
            }
            map.values_mut().for_each(wrap_references);
        }
        Value::Array(items) => items.iter_mut().for_each(wrap_references),
        _ => {}
    }
}

/// What is put into a schema of kube's: its name, the place in it, the keyword and its value.
type Patched = (&'static str, &'static str, &'static str, Value);

/// What kube's documents say of these schemas and k8s-openapi leaves out. They are the same as kube's to the
/// letter, since an aggregator that finds a schema with another content serves both, one with a new name.
fn extensions() -> Vec<Patched> {
    const LIST_TYPE: &str = "x-kubernetes-list-type";
    const STRATEGY: &str = "x-kubernetes-patch-strategy";
    let gvks = |kind: &str| {
        json!([
            { "group": "", "kind": kind, "version": "v1" },
            { "group": GROUP, "kind": kind, "version": VERSION },
        ])
    };
    vec![
        ("ObjectMeta", "/properties/finalizers", LIST_TYPE, json!("set")),
        ("ObjectMeta", "/properties/finalizers", STRATEGY, json!("merge")),
        ("ObjectMeta", "/properties/managedFields", LIST_TYPE, json!("atomic")),
        ("ObjectMeta", "/properties/ownerReferences", LIST_TYPE, json!("map")),
        ("ObjectMeta", "/properties/ownerReferences", "x-kubernetes-list-map-keys", json!(["uid"])),
        ("ObjectMeta", "/properties/ownerReferences", "x-kubernetes-patch-merge-key", json!("uid")),
        ("ObjectMeta", "/properties/ownerReferences", STRATEGY, json!("merge")),
        ("OwnerReference", "", "x-kubernetes-map-type", json!("atomic")),
        ("StatusDetails", "/properties/causes", LIST_TYPE, json!("atomic")),
        ("Status", "", "x-kubernetes-group-version-kind", json!([{ "group": "", "kind": "Status", "version": "v1" }])),
        ("DeleteOptions", "/properties/dryRun", LIST_TYPE, json!("atomic")),
        ("DeleteOptions", "", "x-kubernetes-group-version-kind", gvks("DeleteOptions")),
        ("WatchEvent", "", "x-kubernetes-group-version-kind", gvks("WatchEvent")),
    ]
}
