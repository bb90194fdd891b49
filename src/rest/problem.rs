//! Errors as answers have them: problem details (RFC 9457), with the codes of the other door under clean names.

use axum::body::Body;
use axum::response::Response;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, VARY, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::Kind;
use crate::error::Error;
use crate::gateway::VARY_OTHERS;
use crate::model::{ErrorCode, Fault, faults};

/// The media type of errors.
pub(super) const MEDIA: &str = "application/problem+json";

/// How long whoever has used up a quota of a minute is told to wait, in seconds.
const QUOTA_SECONDS: u64 = 60;

/// What is wrong (RFC 9457).
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct ProblemBody {
    /// Always about:blank: the status says what sort of problem it is, the code says more.
    #[serde(rename = "type")]
    #[schema(format = UriReference, example = "about:blank")]
    kind: &'static str,
    /// The status in words.
    title: &'static str,
    /// The status.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// A sentence: what was wrong, and what would be right.
    detail: String,
    /// What sort of thing is wrong, for programs.
    code: ErrorCode,
    /// Everything that is wrong with what was sent, each with its place.
    errors: Vec<ProblemItem>,
}

/// One thing that is wrong with what was sent.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct ProblemItem {
    /// What sort of thing.
    code: ErrorCode,
    /// A sentence: what was wrong, and what would be right.
    detail: String,
    /// Where in the body, a JSON Pointer (RFC 6901).
    #[serde(skip_serializing_if = "Option::is_none")]
    pointer: Option<String>,
    /// The parameter of the path or the query, or the header.
    #[serde(skip_serializing_if = "Option::is_none")]
    parameter: Option<String>,
    /// What to do about it, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

impl ProblemItem {
    /// Of a fault in a body.
    pub(super) fn in_body(fault: Fault) -> Self {
        let pointer: String = fault.path.iter().fold(String::new(), |pointer, part| {
            // RFC 6901.
            pointer + "/" + &part.replace('~', "~0").replace('/', "~1")
        });
        Self {
            code: fault.code,
            detail: fault.message,
            pointer: (!pointer.is_empty()).then_some(pointer),
            parameter: None,
            hint: fault.hint,
        }
    }

    /// Of a fault of a parameter.
    pub(super) fn of_parameter(name: &str, fault: Fault) -> Self {
        Self { parameter: Some(name.to_owned()), ..Self::in_body(Fault { path: Vec::new(), ..fault }) }
    }
}

/// A request that is refused.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    code: ErrorCode,
    detail: String,
    errors: Vec<ProblemItem>,
    /// The methods that the path takes, of a 405.
    allow: Option<Box<str>>,
    retry_after: Option<u64>,
    /// For the log only.
    cause: Option<std::sync::Arc<dyn std::error::Error + Send + Sync>>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, code: ErrorCode, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self { status, code, detail, errors: Vec::new(), allow: None, retry_after: None, cause: None }
    }

    /// There is none of this kind, or it is not for whoever asks to see: one answer.
    pub(super) fn absent(kind: Kind) -> Self {
        Error::NotFound { kind, name: String::new() }.into()
    }

    /// The request can't be understood.
    pub(super) fn unreadable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, ErrorCode::Invalid, detail)
    }

    /// It can't be done, for what is wrong in the body. Never nothing.
    pub(super) fn unfit(faults: Vec<Fault>) -> Self {
        let code = faults.first().map_or(ErrorCode::Invalid, |fault| fault.code);
        let detail = sentences(&faults);
        let errors = faults.into_iter().map(ProblemItem::in_body).collect();
        Self { errors, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail) }
    }

    /// A parameter of the query or of the path, or a header, is not as it should be.
    pub(super) fn parameter(status: StatusCode, name: &str, fault: Fault) -> Self {
        let problem = Self::new(status, fault.code, format!("{name}: {}", fault.message));
        Self { errors: vec![ProblemItem::of_parameter(name, fault)], ..problem }
    }

    /// It is more than is done at once.
    pub(super) fn limit(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, ErrorCode::LimitExceeded, detail)
    }

    /// Too many are being answered, or were asked for.
    pub(super) fn too_many(detail: impl Into<String>, seconds: u64) -> Self {
        let problem = Self::new(StatusCode::TOO_MANY_REQUESTS, ErrorCode::RateLimited, detail);
        Self { retry_after: Some(seconds), ..problem }
    }

    /// It can't be answered now.
    pub(super) fn unavailable(fault: Fault) -> Self {
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, fault.code, fault.message);
        Self { retry_after: Some(1), ..problem }
    }

    /// Whether it may be answered later.
    pub(super) fn is_unavailable(&self) -> bool {
        self.status == StatusCode::SERVICE_UNAVAILABLE
    }

    /// The method is none of the path's.
    pub(super) fn method(allow: &str) -> Self {
        let detail = format!("this path takes {allow}");
        let problem = Self::new(StatusCode::METHOD_NOT_ALLOWED, ErrorCode::Invalid, detail);
        Self { allow: Some(allow.into()), ..problem }
    }

    /// What is there is not what the request expects.
    pub(super) fn precondition() -> Self {
        let detail =
            "what is there is not what If-Match or If-None-Match says: read it again, and send the ETag that it has";
        Self::new(StatusCode::PRECONDITION_FAILED, ErrorCode::Conflict, detail)
    }

    /// The body of the answer.
    pub(super) fn body(&self) -> ProblemBody {
        ProblemBody {
            kind: "about:blank",
            title: self.status.canonical_reason().unwrap_or_default(),
            status: self.status.as_u16(),
            detail: self.detail.clone(),
            code: self.code,
            errors: self.errors.clone(),
        }
    }

    /// The same as JSON.
    pub(super) fn json(&self) -> Vec<u8> {
        serde_json::to_vec(&self.body()).expect("a problem has only string keys")
    }

    /// The answer. A cause is logged here, and nowhere else.
    pub(super) fn into_response(self) -> Response {
        if let Some(cause) = &self.cause {
            tracing::error!(%cause, "a REST request failed");
        }
        let mut response = Response::new(Body::from(self.json()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(VARY, VARY_OTHERS);
        if let Some(allow) = self.allow.and_then(|allow| HeaderValue::from_str(&allow).ok()) {
            headers.insert(ALLOW, allow);
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

fn sentences(faults: &[Fault]) -> String {
    faults.iter().map(|fault| &*fault.message).collect::<Vec<_>>().join("; ")
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let status = match &error {
            // The wait is over, and nothing was done.
            Error::ResourceVersionTooLarge { .. } => 503,
            other => other.code(),
        };
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let code = ErrorCode::of(&error);
        let (retry_after, all) = (error.retry_after().map(|wait| wait.as_secs()), faults(&error));
        let detail = match &error {
            Error::ResourceVersionTooLarge { asked, current } => {
                format!("revision {asked} has not been reached here; the newest is {current}")
            }
            Error::Unauthorized(message) if message == "Unauthorized" => {
                "the token is not one of ours, or no good any more".to_owned()
            }
            Error::Conflict { message, .. } if !message.is_empty() => message.clone(),
            _ => sentences(&all),
        };
        let errors = match &error {
            Error::Invalid { .. } => all.into_iter().map(ProblemItem::in_body).collect(),
            _ => Vec::new(),
        };
        let retry_after = match &error {
            Error::TooManyRequests(message) if message.contains("a minute") => Some(QUOTA_SECONDS),
            _ => retry_after,
        };
        let cause = if let Error::Internal(cause) = error { Some(cause) } else { None };
        Self { errors, retry_after, cause, ..Self::new(status, code, detail) }
    }
}
