use std::collections::BTreeSet;
use std::path::Path;

use super::*;
use crate::api::Kind;

fn documents() -> [(Form, Value); 2] {
    [(Form::V2, v2_document()), (Form::V3, v3_document())]
        .map(|(form, document)| (form, serde_json::from_slice(&document.bytes).expect("it is JSON")))
}

/// Calls `look` with every value in the document and the key it is under.
fn everywhere<'v>(value: &'v Value, key: &'v str, look: &mut impl FnMut(&'v str, &'v Value)) {
    look(key, value);
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| everywhere(value, key, look)),
        Value::Array(items) => items.iter().for_each(|item| everywhere(item, "", look)),
        _ => {}
    }
}

/// Path, method, path item and operation of each operation.
fn operations(document: &Value) -> Vec<(&str, &str, &Value, &Value)> {
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("a path item") {
            if method != "parameters" {
                assert!(["get", "put", "post", "patch", "delete"].contains(&method.as_str()), "{method} of {path}");
                all.push((path.as_str(), method.as_str(), item, operation));
            }
        }
    }
    all
}

#[test]
fn every_reference_resolves() {
    for (_, document) in documents() {
        let mut count = 0;
        everywhere(&document, "", &mut |key, value| {
            if key == "$ref" {
                let target = value.as_str().and_then(|r| r.strip_prefix('#')).expect("a reference into the document");
                assert!(document.pointer(target).is_some(), "{target}");
                count += 1;
            }
        });
        assert!(count > 50);
    }
}

#[test]
fn every_operation_has_an_id_of_its_own_and_declares_its_path_parameters() {
    for (_, document) in documents() {
        let mut ids = BTreeSet::new();
        for (path, method, item, operation) in operations(&document) {
            let id = operation["operationId"].as_str().expect("an id");
            assert!(ids.insert(id), "{id} is there twice");
            let mut seen = BTreeSet::new();
            for parameter in
                [&item["parameters"], &operation["parameters"]].into_iter().filter_map(Value::as_array).flatten()
            {
                let place = parameter["in"].as_str().expect("a place");
                assert!(seen.insert((place, parameter["name"].as_str().expect("a name"))), "{parameter} of {id}");
                if place == "path" {
                    assert_eq!(parameter["required"], true);
                }
            }
            assert_eq!(path.contains("{name}"), seen.contains(&("path", "name")), "{path}");
            assert!(seen.iter().filter(|(place, _)| *place == "body").count() <= 1);
            assert!(method != "get" || !seen.contains(&("body", "body")), "{id}");
            assert!(operation["responses"].as_object().is_some_and(|r| r.contains_key("200")), "{id}");
        }
        assert_eq!(ids.len(), 4 * 7 + 2 * 3);
    }
}

#[test]
fn swagger_has_only_the_keywords_of_swagger() {
    fn only(value: &Value, known: &[&str], what: &str) {
        for key in value.as_object().unwrap_or_else(|| panic!("{what} is an object: {value}")).keys() {
            assert!(key.starts_with("x-kubernetes-") || known.contains(&key.as_str()), "{key} in {what}");
        }
    }
    fn schema(value: &Value) {
        only(
            value,
            &[
                "$ref",
                "description",
                "type",
                "format",
                "enum",
                "properties",
                "required",
                "items",
                "additionalProperties",
            ],
            "a schema",
        );
        assert!(value["type"].is_string() || value["$ref"].is_string(), "{value}");
        assert!(value["type"] != "array" || value["items"].is_object(), "{value}");
        value["properties"].as_object().into_iter().flatten().for_each(|(_, s)| schema(s));
        ["items", "additionalProperties"].iter().filter_map(|k| value.get(*k)).for_each(schema);
    }
    let [(_, document), _] = documents();
    only(&document, &["swagger", "info", "paths", "definitions", "securityDefinitions", "security"], "the document");
    only(&document["info"], &["title", "description", "version", "license"], "info");
    document["definitions"].as_object().expect("definitions").values().for_each(schema);
    for (_, _, item, operation) in operations(&document) {
        only(
            operation,
            &["tags", "operationId", "description", "consumes", "produces", "schemes", "parameters", "responses"],
            "an operation",
        );
        for parameter in
            [&item["parameters"], &operation["parameters"]].into_iter().filter_map(Value::as_array).flatten()
        {
            if parameter["in"] == "body" {
                only(parameter, &["name", "in", "description", "required", "schema"], "a body");
                schema(&parameter["schema"]);
            } else {
                only(parameter, &["name", "in", "description", "required", "type"], "a parameter");
                assert!(["string", "integer", "boolean"].contains(&parameter["type"].as_str().expect("a type")));
            }
        }
        for response in operation["responses"].as_object().expect("responses").values() {
            only(response, &["description", "schema"], "a response");
            assert!(response["description"].is_string());
            response.get("schema").into_iter().for_each(schema);
        }
    }
}

#[test]
fn nothing_stands_beside_a_reference_in_openapi_3() {
    let [_, (_, document)] = documents();
    everywhere(&document, "", &mut |_, value| {
        if let Some(map) = value.as_object().filter(|map| map.contains_key("$ref")) {
            assert_eq!(map.len(), 1, "{value}");
        }
    });
}

#[test]
fn a_patch_says_that_it_validates_fields_and_never_offers_strategic_merge() {
    for (form, document) in documents() {
        for kind in Kind::ALL {
            let patch = &document["paths"][format!("/apis/imagehub.sealos.io/v1/{}/{{name}}", kind.plural())]["patch"];
            let gvk = &patch["x-kubernetes-group-version-kind"];
            assert_eq!(*gvk, json!({ "group": GROUP, "version": VERSION, "kind": kind.name() }));
            let parameters = patch["parameters"].as_array().expect("parameters");
            assert!(parameters.iter().any(|p| p["name"] == "fieldValidation" && p["in"] == "query"));
            let types: Vec<&str> = match form {
                Form::V2 => patch["consumes"].as_array().expect("types").iter().filter_map(Value::as_str).collect(),
                Form::V3 => {
                    patch["requestBody"]["content"].as_object().expect("types").keys().map(String::as_str).collect()
                }
            };
            assert_eq!(types, ["application/json-patch+json", "application/merge-patch+json"]);
        }
    }
}

#[test]
fn every_kind_and_its_list_have_a_schema_that_says_which_they_are() {
    for (form, document) in documents() {
        let schemas = match form {
            Form::V2 => &document["definitions"],
            Form::V3 => &document["components"]["schemas"],
        };
        for kind in Kind::ALL {
            for name in [kind.name(), kind.list_name()] {
                let schema = &schemas[format!("io.sealos.imagehub.v1.{name}")];
                assert_eq!(
                    schema["x-kubernetes-group-version-kind"],
                    json!([{ "group": GROUP, "version": VERSION, "kind": name }])
                );
            }
            let status =
                document["paths"].get(format!("/apis/imagehub.sealos.io/v1/{}/{{name}}/status", kind.plural()));
            assert_eq!(status.is_some(), kind.has_status_subresource());
        }
        let metadata = &schemas["io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"]["properties"];
        assert_eq!(metadata["ownerReferences"]["x-kubernetes-list-map-keys"], json!(["uid"]));
        let keywords = schemas["io.sealos.imagehub.v1.Image"]
            .pointer("/properties/spec/properties/detail/properties/keywords")
            .expect("it is there");
        assert_eq!(keywords["x-kubernetes-list-type"], "atomic");
    }
}

#[test]
fn defaults_are_documented_in_v3_and_left_out_of_v2_as_kube_does() {
    let [(_, v2), (_, v3)] = documents();
    let pack = "io.sealos.imagehub.v1.DataPack";
    let (v2, v3) = (&v2["definitions"][pack], &v3["components"]["schemas"][pack]);
    let field = |pointer: &str| {
        let default = |schema: &Value| schema.pointer(pointer).expect("it is there")["default"].clone();
        (default(v2), default(v3))
    };
    assert_eq!(field("/properties/spec/properties/expireTime"), (Value::Null, json!("2h")));
    assert_eq!(field("/properties/spec/properties/type"), (Value::Null, json!("base")));
}

#[test]
fn the_index_leads_to_the_document_by_its_hash() {
    let index: Value = serde_json::from_slice(&v3_index().bytes).expect("it is JSON");
    let address = &index["paths"]["apis/imagehub.sealos.io/v1"]["serverRelativeURL"];
    assert_eq!(*address, format!("/openapi/v3/apis/imagehub.sealos.io/v1?hash={}", v3_document().hash));
}

#[test]
fn the_committed_files_are_what_is_rendered() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi");
    for (path, bytes) in render_all() {
        let committed = std::fs::read(folder.join(path)).unwrap_or_default();
        assert!(
            committed == bytes,
            "openapi/{path} is not what the types say; run `imagehub openapi openapi` and commit the result"
        );
    }
}

/// Writes the files where there is no command to do it yet; `cargo test --lib write_the_files -- --ignored`.
#[test]
#[ignore = "it writes into the source tree"]
fn write_the_files() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi");
    for (path, bytes) in render_all() {
        let file = folder.join(path);
        std::fs::create_dir_all(file.parent().expect("a folder")).expect("the folder can be made");
        std::fs::write(file, bytes).expect("the file can be written");
    }
}
