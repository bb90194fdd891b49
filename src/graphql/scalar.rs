//! The schema's own scalars.

use std::sync::Arc;

use async_graphql::{InputValueError, InputValueResult, Scalar, ScalarType, Value};
use jiff::Timestamp;

use crate::api::{self, split_image_name};
use crate::graph;

/// The largest number of `Int53`: what a JavaScript number holds exactly.
const MAX_INT53: i64 = (1 << 53) - 1;

/// What is longer is no name; it is not even repeated.
const LONGEST_NAME: usize = 1024;

fn expected<T: async_graphql::InputType>(what: &str) -> InputValueError<T> {
    InputValueError::custom(format_args!("want {what}"))
}

/// An image's full name, `org/repo:tag`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ImageName(pub(super) Arc<str>);

/// An image's full name, `org/repo:tag`, as in `labring/nginx:1.23`.
#[Scalar(name = "ImageName")]
impl ScalarType for ImageName {
    fn parse(value: Value) -> InputValueResult<Self> {
        let Value::String(text) = value else { return Err(expected("a string, org/repo:tag")) };
        // Names from before today's rules are still asked for; what is written is judged where it is written.
        let old = || split_image_name(&text).is_some() && text.len() <= LONGEST_NAME;
        match api::ImageName::parse(&text) {
            Err(error) if !old() => Err(InputValueError::custom(error)),
            _ => Ok(Self(text.into())),
        }
    }

    fn is_valid(value: &Value) -> bool {
        matches!(value, Value::String(_))
    }

    fn to_value(&self) -> Value {
        Value::String(self.0.to_string())
    }
}

/// A repository's full name, `org/repo`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct RepositoryName(pub(super) Arc<str>);

/// A repository's full name, `org/repo`, as in `labring/nginx`.
#[Scalar(name = "RepositoryName")]
impl ScalarType for RepositoryName {
    fn parse(value: Value) -> InputValueResult<Self> {
        let Value::String(text) = value else { return Err(expected("a string, org/repo")) };
        let old = || text.contains('/') && text.len() <= LONGEST_NAME;
        match api::RepositoryName::parse(&text) {
            Err(error) if !old() => Err(InputValueError::custom(error)),
            _ => Ok(Self(text.into())),
        }
    }

    fn is_valid(value: &Value) -> bool {
        matches!(value, Value::String(_))
    }

    fn to_value(&self) -> Value {
        Value::String(self.0.to_string())
    }
}

/// A revision of the catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Revision(pub(super) graph::Revision);

/// A state of the whole catalogue: opaque, a string. Each write has one; the header imagehub-revision tells that of an
/// answer.
#[Scalar(name = "Revision")]
impl ScalarType for Revision {
    fn parse(value: Value) -> InputValueResult<Self> {
        let Value::String(text) = value else { return Err(expected("a string that an answer gave as a revision")) };
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let number = digits.then(|| text.parse().ok()).flatten();
        number.map(|n| Self(graph::Revision(n))).ok_or_else(|| expected("a string that an answer gave as a revision"))
    }

    fn is_valid(value: &Value) -> bool {
        matches!(value, Value::String(_))
    }

    fn to_value(&self) -> Value {
        Value::String(self.0.to_string())
    }
}

/// A whole number that JavaScript holds exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Int53(pub(super) i64);

/// A whole number from -(2^53-1) to 2^53-1, a JSON number. (Int ends at 2^31-1, which is 2 GiB.)
#[Scalar(name = "Int53")]
impl ScalarType for Int53 {
    fn parse(value: Value) -> InputValueResult<Self> {
        let Value::Number(number) = &value else { return Err(expected("a whole number of at most 53 bits")) };
        let whole = number.as_i64().filter(|n| n.unsigned_abs() <= MAX_INT53.unsigned_abs());
        whole.map(Self).ok_or_else(|| expected("a whole number of at most 53 bits"))
    }

    fn is_valid(value: &Value) -> bool {
        matches!(value, Value::Number(_))
    }

    fn to_value(&self) -> Value {
        // What JavaScript would round is told as the largest that it doesn't.
        Value::from(self.0.clamp(-MAX_INT53, MAX_INT53))
    }
}

/// A point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct DateTime(pub(super) Timestamp);

/// A point in time, RFC 3339, as in `2024-05-01T12:00:00Z`.
#[Scalar(name = "DateTime", specified_by_url = "https://www.rfc-editor.org/rfc/rfc3339")]
impl ScalarType for DateTime {
    fn parse(value: Value) -> InputValueResult<Self> {
        let Value::String(text) = value else { return Err(expected("a string of RFC 3339")) };
        text.parse().map(Self).map_err(|_| expected("a time of RFC 3339, as in 2024-05-01T12:00:00Z"))
    }

    fn is_valid(value: &Value) -> bool {
        matches!(value, Value::String(_))
    }

    fn to_value(&self) -> Value {
        Value::String(self.0.to_string())
    }
}

/// An address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Url(pub(super) String);

/// An absolute address of http or https.
#[Scalar(name = "URL", specified_by_url = "https://www.rfc-editor.org/rfc/rfc3986")]
impl ScalarType for Url {
    fn parse(value: Value) -> InputValueResult<Self> {
        let Value::String(text) = value else { return Err(expected("a string, an address")) };
        Ok(Self(text))
    }

    fn to_value(&self) -> Value {
        Value::String(self.0.clone())
    }
}
