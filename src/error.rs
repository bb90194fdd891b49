//! The one error of the domain. A message tells the caller what was wrong, where, and what would be
//! right; a cause is for the log, written once, at the door. Each door renders it in its own form.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Status, StatusCause, StatusDetails};
use serde_json::Value;

use crate::api::{GROUP, Kind};

/// What is wrong with one field, as kube's `field.Error` says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// The path, as in `spec.names[3]`.
    pub field: String,
    /// Kube's machine-readable cause.
    pub reason: FieldReason,
    /// The whole sentence without the path, as in `Invalid value: "a/:b": the tag is empty`.
    pub message: String,
}

/// Kube's `CauseType` of a field error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are kube's own")]
pub enum FieldReason {
    Required,
    Invalid,
    TypeInvalid,
    Duplicate,
    NotSupported,
    TooLong,
    TooMany,
    Forbidden,
}

impl FieldReason {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Required => "FieldValueRequired",
            Self::Invalid => "FieldValueInvalid",
            Self::TypeInvalid => "FieldValueTypeInvalid",
            Self::Duplicate => "FieldValueDuplicate",
            Self::NotSupported => "FieldValueNotSupported",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::Forbidden => "FieldValueForbidden",
        }
    }
}

impl FieldError {
    /// `Invalid value: "VALUE": DETAIL`.
    #[must_use]
    pub fn invalid(field: impl Into<String>, value: impl fmt::Debug, detail: impl fmt::Display) -> Self {
        Self::new(field, FieldReason::Invalid, format!("Invalid value: {value:?}: {detail}"))
    }

    /// `Required value: DETAIL`.
    #[must_use]
    pub fn required(field: impl Into<String>, detail: impl fmt::Display) -> Self {
        Self::new(field, FieldReason::Required, format!("Required value: {detail}"))
    }

    /// `Forbidden: DETAIL`.
    #[must_use]
    pub fn forbidden(field: impl Into<String>, detail: impl fmt::Display) -> Self {
        Self::new(field, FieldReason::Forbidden, format!("Forbidden: {detail}"))
    }

    /// An error of any other reason, with its whole message.
    #[must_use]
    pub fn new(field: impl Into<String>, reason: FieldReason, message: impl Into<String>) -> Self {
        Self { field: field.into(), reason, message: message.into() }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// Everything that a verb can answer instead of a result.
#[derive(Debug, Clone)]
pub enum Error {
    /// 400: the request can't be understood.
    BadRequest(String),
    /// 401: the credentials are no good.
    Unauthorized(String),
    /// 403: worded as RBAC words it.
    Forbidden {
        /// The kind asked about, where there is one.
        kind: Option<Kind>,
        /// The object's name, or empty.
        name: String,
        /// Who may not do what.
        message: String,
    },
    /// 404: no such object (or it is hidden: the two look alike).
    NotFound {
        /// Its kind.
        kind: Kind,
        /// Its name.
        name: String,
    },
    /// 404 for a path that nothing serves.
    NoSuchPath,
    /// 405.
    MethodNotAllowed {
        /// The kind asked about, where there is one.
        kind: Option<Kind>,
        /// What is not allowed.
        message: String,
    },
    /// 406.
    NotAcceptable(String),
    /// 409, reason `AlreadyExists`.
    AlreadyExists {
        /// Its kind.
        kind: Kind,
        /// Its name.
        name: String,
    },
    /// 409, reason `Conflict`.
    Conflict {
        /// Its kind.
        kind: Kind,
        /// Its name.
        name: String,
        /// Why.
        message: String,
    },
    /// 410, reason `Expired`.
    Expired {
        /// Why.
        message: String,
        /// A token that carries on inconsistently, for lists.
        continue_token: Option<String>,
    },
    /// 413.
    TooLarge(String),
    /// 415.
    UnsupportedMediaType(String),
    /// 422, with every field that is wrong.
    Invalid {
        /// Its kind.
        kind: Kind,
        /// Its name, as far as it is known.
        name: String,
        /// What is wrong, never empty.
        fields: Vec<FieldError>,
    },
    /// 422 for the options of a request, as kube's `ListOptions` and `DeleteOptions` are refused.
    InvalidOptions {
        /// `ListOptions`, `DeleteOptions` and so on.
        kind: &'static str,
        /// What is wrong, never empty.
        fields: Vec<FieldError>,
    },
    /// 429: a queue is full; nothing was done.
    TooManyRequests(String),
    /// 503: not now; nothing was done.
    Unavailable(String),
    /// 504: a version that was asked for has not been reached here.
    ResourceVersionTooLarge {
        /// The version asked for.
        asked: u64,
        /// The version reached.
        current: u64,
    },
    /// 504, reason `Timeout`: it may have been done, or not. Nobody is told to send it again.
    OutcomeUnknown(String),
    /// 507: the disk is too full to write; nothing was done.
    InsufficientStorage(String),
    /// 500: the cause is for the log only.
    Internal(Arc<dyn std::error::Error + Send + Sync>),
}

/// How long a client is told to wait before it tries again.
pub const RETRY_AFTER: Duration = Duration::from_secs(1);

impl Error {
    /// An internal error, with its cause for the log.
    pub fn internal(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Internal(Arc::from(cause.into()))
    }

    /// One field that is wrong.
    pub fn field(kind: Kind, name: impl Into<String>, field: FieldError) -> Self {
        Self::Invalid { kind, name: name.into(), fields: vec![field] }
    }

    /// The HTTP status code.
    #[must_use]
    pub fn code(&self) -> u16 {
        match self {
            Self::BadRequest(_) => 400,
            Self::Unauthorized(_) => 401,
            Self::Forbidden { .. } => 403,
            Self::NotFound { .. } | Self::NoSuchPath => 404,
            Self::MethodNotAllowed { .. } => 405,
            Self::NotAcceptable(_) => 406,
            Self::AlreadyExists { .. } | Self::Conflict { .. } => 409,
            Self::Expired { .. } => 410,
            Self::TooLarge(_) => 413,
            Self::UnsupportedMediaType(_) => 415,
            Self::Invalid { .. } | Self::InvalidOptions { .. } => 422,
            Self::TooManyRequests(_) => 429,
            Self::Internal(_) => 500,
            Self::Unavailable(_) => 503,
            Self::ResourceVersionTooLarge { .. } | Self::OutcomeUnknown(_) => 504,
            Self::InsufficientStorage(_) => 507,
        }
    }

    /// Kube's `metav1.StatusReason`.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::BadRequest(_) => "BadRequest",
            Self::Unauthorized(_) => "Unauthorized",
            Self::Forbidden { .. } => "Forbidden",
            Self::NotFound { .. } | Self::NoSuchPath => "NotFound",
            Self::MethodNotAllowed { .. } => "MethodNotAllowed",
            Self::NotAcceptable(_) => "NotAcceptable",
            Self::AlreadyExists { .. } => "AlreadyExists",
            Self::Conflict { .. } => "Conflict",
            Self::Expired { .. } => "Expired",
            Self::TooLarge(_) => "RequestEntityTooLarge",
            Self::UnsupportedMediaType(_) => "UnsupportedMediaType",
            Self::Invalid { .. } | Self::InvalidOptions { .. } => "Invalid",
            Self::TooManyRequests(_) => "TooManyRequests",
            Self::Internal(_) => "InternalError",
            Self::Unavailable(_) => "ServiceUnavailable",
            Self::ResourceVersionTooLarge { .. } | Self::OutcomeUnknown(_) => "Timeout",
            Self::InsufficientStorage(_) => "InsufficientStorage",
        }
    }

    /// Whether a client should be told `Retry-After`.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        matches!(self, Self::TooManyRequests(_) | Self::Unavailable(_) | Self::ResourceVersionTooLarge { .. })
            .then_some(RETRY_AFTER)
    }

    /// [`status`](Self::status) as it is sent: with `kind` and `apiVersion`.
    #[must_use]
    pub fn status_json(&self) -> Value {
        let mut status = serde_json::to_value(self.status()).unwrap_or_default();
        if let Value::Object(fields) = &mut status {
            fields.insert("kind".to_owned(), "Status".into());
            fields.insert("apiVersion".to_owned(), "v1".into());
        }
        status
    }

    /// The error as `metav1.Status`, in the words that kubectl knows.
    #[must_use]
    pub fn status(&self) -> Status {
        let mut details = StatusDetails::default();
        let mut about = |kind: Option<Kind>, name: &str, resource: bool| {
            details.group = Some(GROUP.to_owned());
            details.kind = kind.map(|k| if resource { k.plural() } else { k.name() }.to_owned());
            details.name = (!name.is_empty()).then(|| name.to_owned());
        };
        let mut continue_token = None;
        match self {
            Self::Forbidden { kind: Some(kind), name, .. } => about(Some(*kind), name, true),
            Self::MethodNotAllowed { kind: Some(kind), .. } => about(Some(*kind), "", true),
            Self::NotFound { kind, name } | Self::AlreadyExists { kind, name } | Self::Conflict { kind, name, .. } => {
                about(Some(*kind), name, true);
            }
            Self::Invalid { kind, name, fields } => {
                about(Some(*kind), name, false);
                details.causes = Some(status_causes(fields));
            }
            Self::InvalidOptions { kind, fields } => {
                details.group = Some("meta.k8s.io".to_owned());
                details.kind = Some((*kind).to_owned());
                details.causes = Some(status_causes(fields));
            }
            Self::Expired { continue_token: token, .. } => continue_token.clone_from(token),
            Self::ResourceVersionTooLarge { .. } => {
                details.causes = Some(vec![StatusCause {
                    field: None,
                    message: Some("Too large resource version".to_owned()),
                    reason: Some("ResourceVersionTooLarge".to_owned()),
                }]);
            }
            _ => {}
        }
        details.retry_after_seconds = self.retry_after().and_then(|d| i32::try_from(d.as_secs()).ok());
        let mut status = Status {
            code: Some(i32::from(self.code())),
            details: (details != StatusDetails::default()).then_some(details),
            message: Some(self.to_string()),
            reason: Some(self.reason().to_owned()),
            status: Some("Failure".to_owned()),
            ..Status::default()
        };
        status.metadata.continue_ = continue_token;
        status
    }
}

/// An error with what caused it: the outer one alone says little, and some say their cause themselves.
#[must_use]
pub fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        source = cause.source();
    }
    text
}

fn status_causes(fields: &[FieldError]) -> Vec<StatusCause> {
    fields
        .iter()
        .map(|f| StatusCause {
            field: Some(f.field.clone()),
            message: Some(f.message.clone()),
            reason: Some(f.reason.as_str().to_owned()),
        })
        .collect()
}

fn write_fields(f: &mut fmt::Formatter<'_>, fields: &[FieldError]) -> fmt::Result {
    if let [one] = fields {
        return write!(f, "{one}");
    }
    f.write_str("[")?;
    for (i, field) in fields.iter().enumerate() {
        write!(f, "{}{field}", if i == 0 { "" } else { ", " })?;
    }
    f.write_str("]")
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadRequest(m)
            | Self::Unauthorized(m)
            | Self::Forbidden { message: m, .. }
            | Self::MethodNotAllowed { message: m, .. }
            | Self::NotAcceptable(m)
            | Self::Expired { message: m, .. }
            | Self::UnsupportedMediaType(m)
            | Self::TooManyRequests(m)
            | Self::Unavailable(m)
            | Self::OutcomeUnknown(m)
            | Self::InsufficientStorage(m) => f.write_str(m),
            Self::NotFound { kind, name } => write!(f, "{}.{GROUP} {name:?} not found", kind.plural()),
            Self::TooLarge(m) => write!(f, "Request entity too large: {m}"),
            Self::NoSuchPath => f.write_str("the server could not find the requested resource"),
            Self::AlreadyExists { kind, name } => write!(f, "{}.{GROUP} {name:?} already exists", kind.plural()),
            Self::Conflict { kind, name, message } => {
                write!(f, "Operation cannot be fulfilled on {}.{GROUP} {name:?}: {message}", kind.plural())
            }
            Self::Invalid { kind, name, fields } => {
                write!(f, "{}.{GROUP} {name:?} is invalid: ", kind.name())?;
                write_fields(f, fields)
            }
            Self::InvalidOptions { kind, fields } => {
                write!(f, "{kind}.meta.k8s.io \"\" is invalid: ")?;
                write_fields(f, fields)
            }
            Self::ResourceVersionTooLarge { asked, current } => {
                write!(f, "Timeout: Too large resource version: {asked}, current: {current}")
            }
            Self::Internal(_) => f.write_str("an internal error has occurred; the server's log has the cause"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Internal(cause) => Some(&**cause),
            _ => None,
        }
    }
}
