//! What is wrong, in the form of the doors that are not kube's: a code for programs, a sentence for people, and the path
//! of what they wrote.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::mapping::clean_path;
use crate::api::Kind;
use crate::error::{Error, FieldReason};

/// What sort of thing is wrong: the codes of both doors, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[expect(missing_docs, reason = "they are described in the schema")]
pub enum ErrorCode {
    Invalid,
    Unauthenticated,
    Forbidden,
    NotFound,
    AlreadyExists,
    Conflict,
    RevisionExpired,
    CursorInvalid,
    LimitExceeded,
    RateLimited,
    Unavailable,
    Internal,
}

impl ErrorCode {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "INVALID",
            Self::Unauthenticated => "UNAUTHENTICATED",
            Self::Forbidden => "FORBIDDEN",
            Self::NotFound => "NOT_FOUND",
            Self::AlreadyExists => "ALREADY_EXISTS",
            Self::Conflict => "CONFLICT",
            Self::RevisionExpired => "REVISION_EXPIRED",
            Self::CursorInvalid => "CURSOR_INVALID",
            Self::LimitExceeded => "LIMIT_EXCEEDED",
            Self::RateLimited => "RATE_LIMITED",
            Self::Unavailable => "UNAVAILABLE",
            Self::Internal => "INTERNAL",
        }
    }

    /// That of an error of the verbs.
    #[must_use]
    pub fn of(error: &Error) -> Self {
        match error {
            Error::BadRequest(_)
            | Error::Invalid { .. }
            | Error::InvalidOptions { .. }
            | Error::MethodNotAllowed { .. }
            | Error::NotAcceptable(_)
            | Error::UnsupportedMediaType(_) => Self::Invalid,
            Error::Unauthorized(_) => Self::Unauthenticated,
            Error::Forbidden { .. } => Self::Forbidden,
            Error::NotFound { .. } | Error::NoSuchPath => Self::NotFound,
            Error::AlreadyExists { .. } => Self::AlreadyExists,
            Error::Conflict { .. } => Self::Conflict,
            Error::Expired { .. } => Self::RevisionExpired,
            Error::TooLarge(_) => Self::LimitExceeded,
            Error::TooManyRequests(_) => Self::RateLimited,
            Error::Unavailable(_)
            | Error::ResourceVersionTooLarge { .. }
            | Error::OutcomeUnknown(_)
            | Error::InsufficientStorage(_) => Self::Unavailable,
            Error::Internal(_) => Self::Internal,
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What sort of thing.
    pub code: ErrorCode,
    /// A sentence: what was wrong, and what would be right.
    pub message: String,
    /// Where in what the client wrote; empty for the whole of it.
    pub path: Vec<String>,
    /// What to do about it, where that is known.
    pub hint: Option<String>,
}

impl Fault {
    /// One that is about the whole of what was written.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), path: Vec::new(), hint: None }
    }

    /// That of an error of the verbs: the first, where there are several.
    #[must_use]
    pub fn of(error: &Error) -> Self {
        faults(error).into_iter().next().unwrap_or_else(|| Self::new(ErrorCode::of(error), error.to_string()))
    }

    /// The same at `path`.
    #[must_use]
    pub fn at(mut self, path: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.path = path.into_iter().map(Into::into).collect();
        self
    }
}

/// What is wrong by an error of the verbs: never nothing.
#[must_use]
pub fn faults(error: &Error) -> Vec<Fault> {
    match error {
        // A derived metadata.name is wrong only where the name is: once is enough.
        Error::Invalid { kind, fields, .. } => fields
            .iter()
            .filter(|field| field.field != "metadata.name" || !fields.iter().any(|other| other.field == "spec.name"))
            .map(|field| Fault {
                code: if field.reason == FieldReason::Duplicate {
                    ErrorCode::AlreadyExists
                } else {
                    ErrorCode::Invalid
                },
                message: field.message.clone(),
                path: clean_path(*kind, &field.field),
                hint: None,
            })
            .collect(),
        Error::NotFound { kind, .. } => {
            vec![Fault::new(ErrorCode::NotFound, format!("there is no such {}", spoken(*kind)))]
        }
        Error::AlreadyExists { kind, .. } => {
            let message = format!("the {} of this name is there already", spoken(*kind));
            vec![Fault { path: vec!["name".to_owned()], ..Fault::new(ErrorCode::AlreadyExists, message) }]
        }
        Error::Conflict { kind, .. } => {
            let message = format!("the {} is no longer at the version that was named", spoken(*kind));
            let hint = Some("read it again, and send its version as ifVersion".to_owned());
            vec![Fault { path: vec!["ifVersion".to_owned()], hint, ..Fault::new(ErrorCode::Conflict, message) }]
        }
        other => vec![Fault::new(ErrorCode::of(other), other.to_string())],
    }
}

/// What sort of value it is, for a sentence.
#[must_use]
pub fn sort(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn spoken(kind: Kind) -> &'static str {
    match kind {
        Kind::Image => "image",
        Kind::Repository => "repository",
        Kind::Organization => "organization",
        Kind::DataPack => "data pack",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_one_word_however_it_is_written() {
        for code in [ErrorCode::Invalid, ErrorCode::NotFound, ErrorCode::RevisionExpired, ErrorCode::CursorInvalid] {
            assert_eq!(serde_json::json!(code), code.as_str());
        }
    }
}
