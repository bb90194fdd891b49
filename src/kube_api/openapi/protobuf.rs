//! Swagger 2.0 as protobuf (gnostic's `OpenAPIv2.proto`), of which only the schemas. kubectl asks for
//! nothing else before it applies a manifest of `kind: List`, as `kubectl get -o yaml` writes one; kubectl
//! from before 1.27 before it applies anything. They look up the schema of a kind and check the manifest
//! against it themselves.

use serde_json::{Map, Value};

use super::schemas;
use super::{Form, info};

/// A protobuf message being written.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number.to_le_bytes()[0] | 0x80);
            number >>= 7;
        }
        self.0.push(number.to_le_bytes()[0]);
    }

    /// A field of the wire type "length-delimited".
    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.varint((field << 3) | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn text(&mut self, field: u64, text: Option<&Value>) {
        if let Some(text) = text.and_then(Value::as_str) {
            self.bytes(field, text.as_bytes());
        }
    }

    fn message(&mut self, field: u64, message: &Self) {
        self.bytes(field, &message.0);
    }

    /// `Any`: any JSON value, as YAML.
    fn any(&mut self, field: u64, value: &Value) {
        let mut any = Self::default();
        any.bytes(2, value.to_string().as_bytes());
        self.message(field, &any);
    }
}

/// The document.
pub(super) fn document() -> Vec<u8> {
    let about = info();
    let mut info = Message::default();
    info.text(1, about.get("title"));
    info.text(2, about.get("version"));
    info.text(3, about.get("description"));
    let mut document = Message::default();
    document.bytes(1, b"2.0");
    document.message(2, &info);
    // No paths: whoever wants those asks for JSON.
    document.message(8, &Message::default());
    document.message(9, &named(&schemas::all(Form::V2)));
    document.0
}

/// `Definitions` and `Properties`: schemas with names.
fn named(schemas: &Map<String, Value>) -> Message {
    let mut all = Message::default();
    for (name, value) in schemas {
        let mut entry = Message::default();
        entry.bytes(1, name.as_bytes());
        entry.message(2, &schema(value));
        all.message(1, &entry);
    }
    all
}

fn schema(value: &Value) -> Message {
    let mut out = Message::default();
    out.text(1, value.get("$ref"));
    out.text(2, value.get("format"));
    out.text(4, value.get("description"));
    if let Some(default) = value.get("default") {
        out.any(5, default);
    }
    for required in value.get("required").and_then(Value::as_array).into_iter().flatten() {
        out.text(19, Some(required));
    }
    for word in value.get("enum").and_then(Value::as_array).into_iter().flatten() {
        out.any(20, word);
    }
    match value.get("additionalProperties") {
        Some(Value::Bool(allowed)) => {
            let mut item = Message::default();
            item.varint(2 << 3);
            item.varint(u64::from(*allowed));
            out.message(21, &item);
        }
        Some(of) => {
            let mut item = Message::default();
            item.message(1, &schema(of));
            out.message(21, &item);
        }
        None => {}
    }
    if value.get("type").is_some() {
        let mut item = Message::default();
        item.text(1, value.get("type"));
        out.message(22, &item);
    }
    if let Some(of) = value.get("items") {
        let mut item = Message::default();
        item.message(1, &schema(of));
        out.message(23, &item);
    }
    for part in value.get("allOf").and_then(Value::as_array).into_iter().flatten() {
        out.message(24, &schema(part));
    }
    if let Some(Value::Object(properties)) = value.get("properties") {
        out.message(25, &named(properties));
    }
    for (name, extension) in value.as_object().into_iter().flatten().filter(|(name, _)| name.starts_with("x-")) {
        let mut entry = Message::default();
        entry.bytes(1, name.as_bytes());
        entry.any(2, extension);
        out.message(31, &entry);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_in_groups_of_seven_bits() {
        let mut message = Message::default();
        message.varint(300);
        message.bytes(1, b"ab");
        assert_eq!(message.0, [0xac, 0x02, 0x0a, 2, b'a', b'b']);
    }

    #[test]
    fn every_definition_is_in_it() {
        let document = document();
        for name in schemas::all(Form::V2).keys() {
            assert!(document.windows(name.len()).any(|window| window == name.as_bytes()), "{name}");
        }
    }
}
