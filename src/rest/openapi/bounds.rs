//! What the types don't say: how long texts and lists are at most, that objects have no other fields, how large numbers
//! are. A client that checks against the document checks what the server keeps to.

use serde_json::{Value, json};

use crate::registry::OBJECT_LIMIT;

/// The longest list in an answer or a body where it isn't said.
const ITEMS: usize = 1000;
/// The largest number that JSON's readers hold exactly.
const MAX_EXACT: i64 = (1 << 53) - 1;

/// Completes all schemas of a document.
pub(super) fn complete(document: &mut Value) {
    if let Some(schemas) = document.pointer_mut("/components/schemas").and_then(Value::as_object_mut) {
        schemas.values_mut().for_each(schema);
    }
    for name in ["/paths", "/components/headers", "/components/parameters", "/components/responses"] {
        if let Some(part) = document.pointer_mut(name) {
            find(part);
        }
    }
}

/// Completes the schemas that are somewhere in `part`.
fn find(part: &mut Value) {
    match part {
        Value::Object(fields) => {
            for (name, value) in fields.iter_mut() {
                if name == "schema" { schema(value) } else { find(value) }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(find),
        _ => {}
    }
}

fn is(fields: &serde_json::Map<String, Value>, wanted: &str) -> bool {
    match fields.get("type") {
        Some(Value::String(sort)) => sort == wanted,
        Some(Value::Array(sorts)) => sorts.iter().any(|sort| sort == wanted),
        _ => false,
    }
}

fn schema(value: &mut Value) {
    let Some(fields) = value.as_object_mut() else { return };
    if is(fields, "string") && !fields.contains_key("enum") && !fields.contains_key("const") {
        let longest = if fields.get("format").is_some_and(|format| format == "date-time") { 64 } else { OBJECT_LIMIT };
        fields.entry("maxLength".to_owned()).or_insert(json!(longest));
    }
    if is(fields, "integer") {
        fields.entry("minimum".to_owned()).or_insert(json!(0));
        fields.entry("maximum".to_owned()).or_insert(json!(MAX_EXACT));
        // What JSON holds exactly, whatever the type is here.
        fields.insert("format".to_owned(), json!("int64"));
    }
    if is(fields, "array") {
        fields.entry("maxItems".to_owned()).or_insert(json!(ITEMS));
    }
    if is(fields, "object") && fields.contains_key("properties") {
        fields.entry("additionalProperties".to_owned()).or_insert(json!(false));
    }
    for name in ["items", "additionalProperties"] {
        if let Some(inner) = fields.get_mut(name) {
            schema(inner);
        }
    }
    if let Some(properties) = fields.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().for_each(schema);
    }
    for name in ["oneOf", "anyOf", "allOf"] {
        if let Some(all) = fields.get_mut(name).and_then(Value::as_array_mut) {
            all.iter_mut().for_each(schema);
        }
    }
}
