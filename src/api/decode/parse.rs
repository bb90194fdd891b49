//! The strict reading of JSON and YAML into one form, with duplicate fields found on the way.

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Number, Value};
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::options::DuplicateKeyPolicy;

use super::{DecodeError, MAX_DEPTH, MAX_NODES, MAX_REPORTED, Path};

/// Aliases may not make the text of a YAML document longer than this many times the document, plus
/// [`MAX_ALIAS_TEXT`]; escapes alone can make it 1.5 times as long.
const MAX_TEXT_GROWTH: usize = 2;
/// How much text aliases may add to a YAML document however short it is, in bytes.
const MAX_ALIAS_TEXT: usize = 64 << 10;
/// How many anchors, aliases and merge keys a YAML document may have, each.
const MAX_ALIASES: usize = 1_000;
/// The byte order mark, which Windows editors put before UTF-8.
const BOM: &[u8] = b"\xef\xbb\xbf";

/// Reads one JSON value. Of fields that are there twice the last one counts; their paths come with the
/// value, at most [`MAX_REPORTED`] of them.
///
/// # Errors
/// What is not JSON, too deep ([`MAX_DEPTH`]), or has too many values ([`MAX_NODES`]).
pub fn parse_json(bytes: &[u8]) -> Result<(Value, Vec<String>), DecodeError> {
    let refused = |why: &dyn fmt::Display| DecodeError(format!("the body is not valid JSON: {why}"));
    if bytes.trim_ascii().is_empty() {
        return Err(refused(&"it is empty; an object was expected"));
    }
    if bytes.starts_with(BOM) {
        return Err(refused(&"it begins with a byte order mark, which JSON does not allow"));
    }
    let reading = Reading::new(bytes.len());
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Seed { reading: &reading, depth: 0 }
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(|e| refused(&e))?;
    Ok((value, reading.into_duplicates()))
}

/// Reads one YAML document into what the same JSON would be, duplicates likewise. Unquoted scalars are
/// typed as kube's own reader (YAML 1.1) types them, but numbers with leading zeros or underscores, on
/// which the versions of YAML disagree, are strings. A leading byte order mark and CRLF are accepted.
///
/// # Errors
/// What is not UTF-8 or not YAML; a NUL; a second document; tags that are not YAML's own; numbers that are
/// not finite; too much depth, too many values or aliases, or aliases that blow the document up.
pub fn parse_yaml(bytes: &[u8]) -> Result<(Value, Vec<String>), DecodeError> {
    let refused = |why: &dyn fmt::Display| DecodeError(format!("the body is not valid YAML: {why}"));
    let text = std::str::from_utf8(bytes.strip_prefix(BOM).unwrap_or(bytes))
        .map_err(|e| refused(&format_args!("it must be UTF-8 ({e})")))?;
    if let Some(at) = text.find('\0') {
        return Err(refused(&format_args!("it has a NUL at byte {at}")));
    }
    let max_text = text.len().saturating_mul(MAX_TEXT_GROWTH).saturating_add(MAX_ALIAS_TEXT);
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            flow_nesting_limit: MAX_DEPTH,
            max_nodes: MAX_NODES,
            max_events: MAX_NODES * 2,
            max_documents: 2,
            max_aliases: MAX_ALIASES,
            max_anchors: MAX_ALIASES,
            max_merge_keys: MAX_ALIASES,
            max_recorded_anchor_events: MAX_NODES,
            max_recorded_anchor_bytes: max_text,
            max_total_scalar_bytes: max_text,
            // it would refuse one anchor used often, which the limits above judge better
            enforce_alias_anchor_ratio: false,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: MAX_NODES,
            max_replay_stack_depth: MAX_DEPTH,
        },
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        reject_unsupported_tags: true,
        with_snippet: false,
    };
    let reading = Reading::new(max_text);
    let seed = Seed { reading: &reading, depth: 0 };
    let value = serde_saphyr::with_deserializer_from_str_with_options(text, options, |d| seed.deserialize(d))
        .map_err(|e| refused(&yaml_error(&e)))?;
    Ok((value, reading.into_duplicates()))
}

/// The reader's error in words that name our limits.
fn yaml_error(error: &serde_saphyr::Error) -> String {
    let error = error.without_snippet();
    let why = match error {
        serde_saphyr::Error::MultipleDocuments { .. } => {
            return "there is more than one document; send each in a request of its own".to_owned();
        }
        serde_saphyr::Error::Budget { breach: BudgetBreach::Depth { .. }, .. } => too_deep(),
        serde_saphyr::Error::Budget { breach: BudgetBreach::Nodes { .. } | BudgetBreach::Events { .. }, .. } => {
            too_many()
        }
        serde_saphyr::Error::Budget { breach: BudgetBreach::Documents { .. }, .. } => {
            return "there are more documents than one; send each in a request of its own".to_owned();
        }
        serde_saphyr::Error::Budget { .. } => {
            "its anchors, aliases and merge keys are too many or too large".to_owned()
        }
        other => return other.to_string(),
    };
    match error.location() {
        Some(at) => format!("{why} at line {}, column {}", at.line(), at.column()),
        None => why,
    }
}

fn too_deep() -> String {
    format!("it is nested more than {MAX_DEPTH} levels deep")
}

fn too_many() -> String {
    format!("it has more than {MAX_NODES} values")
}

/// What is kept while one document is read.
struct Reading {
    path: RefCell<Path>,
    duplicates: RefCell<Vec<String>>,
    nodes: RefCell<usize>,
    text: RefCell<usize>,
}

impl Reading {
    fn new(max_text: usize) -> Self {
        Self {
            path: RefCell::default(),
            duplicates: RefCell::default(),
            nodes: RefCell::new(MAX_NODES),
            text: RefCell::new(max_text),
        }
    }

    fn into_duplicates(self) -> Vec<String> {
        self.duplicates.into_inner()
    }

    fn count_node<E: serde::de::Error>(&self) -> Result<(), E> {
        let mut left = self.nodes.borrow_mut();
        *left = left.checked_sub(1).ok_or_else(|| E::custom(too_many()))?;
        Ok(())
    }

    fn count_text<E: serde::de::Error>(&self, text: &str) -> Result<(), E> {
        let mut left = self.text.borrow_mut();
        *left = left.checked_sub(text.len()).ok_or_else(|| E::custom("its aliases make it more than twice as long"))?;
        Ok(())
    }
}

struct Seed<'r> {
    reading: &'r Reading,
    depth: usize,
}

impl Seed<'_> {
    fn deeper<E: serde::de::Error>(&self) -> Result<usize, E> {
        if self.depth >= MAX_DEPTH {
            return Err(E::custom(too_deep()));
        }
        Ok(self.depth + 1)
    }

    fn scalar<E: serde::de::Error>(&self, value: impl Into<Value>) -> Result<Value, E> {
        self.reading.count_node()?;
        Ok(value.into())
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Value, E> {
        self.scalar(Value::Null)
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<Value, E> {
        self.scalar(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Value, E> {
        self.scalar(value)
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Value, E> {
        self.scalar(value)
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Value, E> {
        self.scalar(value)
    }

    #[expect(clippy::cast_precision_loss, reason = "JSON reads numbers of that size as floats, too")]
    fn visit_i128<E: serde::de::Error>(self, value: i128) -> Result<Value, E> {
        self.visit_f64(value as f64)
    }

    #[expect(clippy::cast_precision_loss, reason = "JSON reads numbers of that size as floats, too")]
    fn visit_u128<E: serde::de::Error>(self, value: u128) -> Result<Value, E> {
        self.visit_f64(value as f64)
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        let number = Number::from_f64(value).ok_or_else(|| E::custom("it has a number that is not finite"))?;
        self.scalar(Value::Number(number))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Value, E> {
        self.reading.count_text(value)?;
        self.scalar(value)
    }

    fn visit_string<E: serde::de::Error>(self, value: String) -> Result<Value, E> {
        self.reading.count_text(&value)?;
        self.scalar(value)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let depth = self.deeper()?;
        let reading = self.reading;
        reading.count_node()?;
        let mut list = Vec::new();
        loop {
            let before = reading.path.borrow_mut().item(list.len());
            let item = items.next_element_seed(Seed { reading, depth })?;
            reading.path.borrow_mut().back(before);
            match item {
                Some(item) => list.push(item),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let depth = self.deeper()?;
        let reading = self.reading;
        reading.count_node()?;
        let mut map = Map::new();
        while let Some(Key(key)) = fields.next_key()? {
            reading.count_text(&key)?;
            let before = reading.path.borrow_mut().field(&key);
            let value = fields.next_value_seed(Seed { reading, depth })?;
            let mut path = reading.path.borrow_mut();
            if map.insert(key, value).is_some() {
                let mut duplicates = reading.duplicates.borrow_mut();
                if duplicates.len() < MAX_REPORTED && !duplicates.contains(&path.0) {
                    duplicates.push(path.0.clone());
                }
            }
            path.back(before);
        }
        Ok(Value::Object(map))
    }
}

/// A key: a string, or in YAML whatever scalar is written, as it is written.
struct Key(String);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self)
    }
}
