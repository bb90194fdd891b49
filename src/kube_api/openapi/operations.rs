//! The paths and their operations, described once and rendered in either form.

use serde_json::{Map, Value, json};

use super::Form;
use super::schemas::{meta, ours};
use crate::api::{API_VERSION, GROUP, Kind, VERSION};

/// The media types of bodies, both ways.
const MEDIA_TYPES: [&str; 2] = ["application/json", "application/yaml"];
/// The media types of patches. Strategic merge is never offered: 415 is what a CRD answers.
const PATCH_TYPES: [&str; 2] = ["application/json-patch+json", "application/merge-patch+json"];
/// The tag of all operations, the group and version in kube's way of writing them there.
const TAG: &str = "imagehubSealosIo_v1";
/// What identifies our group and version in an operation's id.
const ID: &str = "ImagehubSealosIoV1";

/// A query parameter.
struct Parameter {
    name: &'static str,
    kind: &'static str,
    description: &'static str,
}

const fn parameter(name: &'static str, kind: &'static str, description: &'static str) -> Parameter {
    Parameter { name, kind, description }
}

const PRETTY: Parameter = parameter(
    "pretty",
    "string",
    "If 'true', then the output is pretty printed. Defaults to 'false' unless the user-agent indicates a browser or \
     command-line HTTP tool (curl and wget).",
);
const RESOURCE_VERSION: Parameter = parameter(
    "resourceVersion",
    "string",
    "A constraint on what resource versions a request may be served from. Unset: the newest. See \
     https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions",
);
const DRY_RUN: Parameter = parameter(
    "dryRun",
    "string",
    "When present, the modification is checked and answered, but not persisted. The only valid value is All.",
);
const FIELD_MANAGER: Parameter = parameter(
    "fieldManager",
    "string",
    "The name of the actor that is making these changes: at most 128 printable characters.",
);
const FIELD_VALIDATION: Parameter = parameter(
    "fieldValidation",
    "string",
    "What to do about unknown and duplicate fields: Ignore (drop them), Warn (drop them and say so in warning headers, \
     the default) or Strict (refuse the request).",
);
const SELECTION: [Parameter; 2] = [
    parameter(
        "fieldSelector",
        "string",
        "A selector to restrict the list of returned objects by their fields. Defaults to everything.",
    ),
    parameter(
        "labelSelector",
        "string",
        "A selector to restrict the list of returned objects by their labels. Defaults to everything.",
    ),
];
const LISTING: [Parameter; 4] = [
    parameter(
        "continue",
        "string",
        "The token from the list before, to go on where it ended. One that is too old is answered with 410 and a fresh \
         token that goes on inconsistently. Not with watch.",
    ),
    parameter(
        "limit",
        "integer",
        "The most items to answer with. If there are more, metadata.continue is a token for the rest, which comes from \
         the same snapshot. Not with watch.",
    ),
    parameter(
        "resourceVersionMatch",
        "string",
        "How resourceVersion is applied to list calls: NotOlderThan or Exact. See \
         https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions",
    ),
    parameter(
        "timeoutSeconds",
        "integer",
        "Timeout for the list or watch call, regardless of any activity or inactivity.",
    ),
];
const WATCHING: [Parameter; 3] = [
    parameter(
        "allowWatchBookmarks",
        "boolean",
        "Asks for watch events with type BOOKMARK, which carry only a resource version. Ignored if this is not a \
         watch.",
    ),
    parameter(
        "sendInitialEvents",
        "boolean",
        "Together with watch and resourceVersionMatch=NotOlderThan: the watch begins with an event for each object \
         there is, then a bookmark annotated k8s.io/initial-events-end, then goes on as usual.",
    ),
    parameter(
        "watch",
        "boolean",
        "Watch for changes to the described resources and return them as a stream of add, update, and remove \
         notifications. Specify resourceVersion.",
    ),
];
const DELETION: [Parameter; 3] = [
    parameter(
        "gracePeriodSeconds",
        "integer",
        "Accepted, and without an effect: objects of this group have no grace period.",
    ),
    parameter(
        "orphanDependents",
        "boolean",
        "Deprecated: please use the PropagationPolicy. Whether dependent objects are orphaned. Either this field or \
         PropagationPolicy may be set, but not both.",
    ),
    parameter(
        "propagationPolicy",
        "string",
        "Whether and how dependents are deleted: Orphan (keep them), Background (after the object) or Foreground \
         (before it). Either this field or OrphanDependents may be set, but not both.",
    ),
];

/// What a request may carry.
enum Body {
    None,
    /// A whole object, which must be there.
    Object,
    /// `DeleteOptions`, which may be there.
    Options,
    /// A patch, which must be there.
    Patch,
}

/// One operation on one path.
struct Operation {
    method: &'static str,
    action: &'static str,
    id: String,
    description: String,
    parameters: Vec<&'static Parameter>,
    body: Body,
    /// Status code, its words, and the schema that is answered with.
    answers: Vec<(&'static str, &'static str, String)>,
}

/// All paths.
pub(super) fn paths(form: Form) -> Map<String, Value> {
    let mut paths = Map::new();
    for kind in Kind::ALL {
        let collection = format!("/apis/{API_VERSION}/{}", kind.plural());
        let item = format!("{collection}/{{name}}");
        if kind.has_status_subresource() {
            paths.insert(format!("{item}/status"), path(form, kind, true, one(kind, true)));
        }
        paths.insert(item, path(form, kind, true, one(kind, false)));
        paths.insert(collection, path(form, kind, false, many(kind)));
    }
    paths
}

/// The operations on a collection.
fn many(kind: Kind) -> Vec<Operation> {
    let list: Vec<&Parameter> = SELECTION.iter().chain(&LISTING).chain(&WATCHING).chain([&RESOURCE_VERSION]).collect();
    let delete: Vec<&Parameter> =
        SELECTION.iter().chain(&LISTING).chain(&DELETION).chain([&RESOURCE_VERSION, &DRY_RUN]).collect();
    let object = || ours(kind.name());
    vec![
        Operation {
            method: "get",
            action: "list",
            id: format!("list{ID}{kind}"),
            description: format!("list or watch objects of kind {kind}"),
            parameters: list,
            body: Body::None,
            answers: vec![("200", "OK", ours(kind.list_name()))],
        },
        Operation {
            method: "post",
            action: "post",
            id: format!("create{ID}{kind}"),
            description: format!("create a {kind}"),
            parameters: vec![&DRY_RUN, &FIELD_MANAGER, &FIELD_VALIDATION],
            body: Body::Object,
            answers: vec![("200", "OK", object()), ("201", "Created", object()), ("202", "Accepted", object())],
        },
        Operation {
            method: "delete",
            action: "deletecollection",
            id: format!("delete{ID}Collection{kind}"),
            description: format!("delete collection of {kind}"),
            parameters: delete,
            body: Body::Options,
            answers: vec![("200", "OK", meta("Status"))],
        },
    ]
}

/// The operations on one object, or on its status.
fn one(kind: Kind, status: bool) -> Vec<Operation> {
    let (suffix, of) = if status { ("Status", "status of ") } else { ("", "") };
    let object = || ours(kind.name());
    let mut operations = vec![
        Operation {
            method: "get",
            action: "get",
            id: format!("read{ID}{kind}{suffix}"),
            description: format!("read {of}the specified {kind}"),
            parameters: vec![&RESOURCE_VERSION],
            body: Body::None,
            answers: vec![("200", "OK", object())],
        },
        Operation {
            method: "put",
            action: "put",
            id: format!("replace{ID}{kind}{suffix}"),
            description: format!("replace {of}the specified {kind}"),
            parameters: vec![&DRY_RUN, &FIELD_MANAGER, &FIELD_VALIDATION],
            body: Body::Object,
            answers: vec![("200", "OK", object()), ("201", "Created", object())],
        },
        Operation {
            method: "patch",
            action: "patch",
            id: format!("patch{ID}{kind}{suffix}"),
            description: format!("partially update {of}the specified {kind}"),
            parameters: vec![&DRY_RUN, &FIELD_MANAGER, &FIELD_VALIDATION],
            body: Body::Patch,
            answers: vec![("200", "OK", object())],
        },
    ];
    if !status {
        operations.push(Operation {
            method: "delete",
            action: "delete",
            id: format!("delete{ID}{kind}"),
            description: format!("delete a {kind}"),
            parameters: DELETION.iter().chain([&DRY_RUN]).collect(),
            body: Body::Options,
            answers: vec![("200", "OK", meta("Status")), ("202", "Accepted", meta("Status"))],
        });
    }
    operations
}

fn path(form: Form, kind: Kind, named: bool, operations: Vec<Operation>) -> Value {
    let mut item = Map::new();
    let mut shared = Vec::new();
    if named {
        let description = format!("name of the {kind}");
        let mut name = typed(form, "string");
        name.extend([
            ("name".to_owned(), json!("name")),
            ("in".to_owned(), json!("path")),
            ("required".to_owned(), json!(true)),
            ("description".to_owned(), json!(description)),
        ]);
        shared.push(Value::Object(name));
    }
    shared.push(query(form, &PRETTY));
    item.insert("parameters".to_owned(), Value::Array(shared));
    for operation in operations {
        let mut rendered = operation.render(form, kind);
        rendered["x-kubernetes-action"] = json!(operation.action);
        rendered["x-kubernetes-group-version-kind"] =
            json!({ "group": GROUP, "kind": kind.name(), "version": VERSION });
        item.insert(operation.method.to_owned(), rendered);
    }
    Value::Object(item)
}

/// The type of a parameter: Swagger has it beside the name, OpenAPI 3.0 in a schema.
fn typed(form: Form, kind: &str) -> Map<String, Value> {
    let map = match form {
        Form::V2 => json!({ "type": kind }),
        Form::V3 => json!({ "schema": { "type": kind } }),
    };
    match map {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn query(form: Form, parameter: &Parameter) -> Value {
    let mut map = typed(form, parameter.kind);
    map.extend([
        ("name".to_owned(), json!(parameter.name)),
        ("in".to_owned(), json!("query")),
        ("description".to_owned(), json!(parameter.description)),
    ]);
    Value::Object(map)
}

/// The same schema for each of these media types, as OpenAPI 3.0 has it.
fn content(types: &[&str], schema: &Value) -> Value {
    types.iter().map(|media| ((*media).to_owned(), json!({ "schema": schema }))).collect::<Map<_, _>>().into()
}

impl Operation {
    /// The body: its media types, schema, and whether it must be there.
    fn body(&self, kind: Kind) -> Option<(&'static [&'static str], String, bool)> {
        match self.body {
            Body::None => None,
            Body::Object => Some((&MEDIA_TYPES, ours(kind.name()), true)),
            Body::Options => Some((&MEDIA_TYPES, meta("DeleteOptions"), false)),
            Body::Patch => Some((&PATCH_TYPES, meta("Patch"), true)),
        }
    }

    fn render(&self, form: Form, kind: Kind) -> Value {
        let mut parameters: Vec<&Parameter> = self.parameters.clone();
        parameters.sort_by_key(|p| p.name);
        let mut parameters: Vec<Value> = parameters.into_iter().map(|p| query(form, p)).collect();
        let mut responses = Map::new();
        for (code, words, schema) in &self.answers {
            let schema = form.reference(schema);
            let answer = match form {
                Form::V2 => json!({ "description": words, "schema": schema }),
                Form::V3 => json!({ "description": words, "content": content(&MEDIA_TYPES, &schema) }),
            };
            responses.insert((*code).to_owned(), answer);
        }
        responses.insert("401".to_owned(), json!({ "description": "Unauthorized" }));
        let mut rendered = json!({ "tags": [TAG], "operationId": self.id, "description": self.description });
        let body = self.body(kind);
        match form {
            Form::V2 => {
                rendered["consumes"] = json!(body.as_ref().map_or(&MEDIA_TYPES[..], |(types, _, _)| types));
                rendered["produces"] = json!(MEDIA_TYPES);
                rendered["schemes"] = json!(["https"]);
                if let Some((_, schema, required)) = body {
                    let schema = form.reference(&schema);
                    let body = json!({ "name": "body", "in": "body", "required": required, "schema": schema });
                    parameters.insert(0, body);
                }
            }
            Form::V3 => {
                if let Some((types, schema, required)) = body {
                    let schema = form.reference(&schema);
                    rendered["requestBody"] = json!({ "content": content(types, &schema), "required": required });
                }
            }
        }
        rendered["parameters"] = Value::Array(parameters);
        rendered["responses"] = Value::Object(responses);
        rendered
    }
}
