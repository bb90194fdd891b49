//! Errors as answers have them: each with `extensions.code`.

use async_graphql::{Enum, ErrorExtensionValues, ServerError, SimpleObject};

use crate::error::Error;
use crate::model::{ErrorCode as Code, Fault, faults};

/// What sort of thing is wrong. Also extensions.code of every error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "Code")]
pub(super) enum ErrorCode {
    /// The request, or something in it, is not as it should be.
    Invalid,
    /// Who asks could not be told, or the token is no good any more.
    Unauthenticated,
    /// Whoever asks may not.
    Forbidden,
    /// There is no such thing, or it is not yours to see.
    NotFound,
    /// There is one of this name already.
    AlreadyExists,
    /// It is not at the version that was named.
    Conflict,
    /// What happened since that revision is no longer known, or what you may see has changed: read anew.
    RevisionExpired,
    /// The cursor is of another list, another order or another viewer, or none of ours.
    CursorInvalid,
    /// It is more than the server does at once; the message names the limit.
    LimitExceeded,
    /// Too much, too fast: try again later.
    RateLimited,
    /// Not now: try again.
    Unavailable,
    /// A fault of the server's; its log has the cause.
    Internal,
}

/// What is wrong with what was to be written.
#[derive(Debug, Clone, SimpleObject)]
pub(super) struct UserError {
    /// What sort of thing.
    code: ErrorCode,
    /// A sentence: what was wrong, and what would be right.
    message: String,
    /// Where in the arguments, by the names that they have there.
    path: Vec<String>,
    /// What to do about it, where that is known.
    hint: Option<String>,
}

impl From<Fault> for UserError {
    fn from(fault: Fault) -> Self {
        Self { code: fault.code.into(), message: fault.message, path: fault.path, hint: fault.hint }
    }
}

impl From<Fault> for async_graphql::Error {
    fn from(fault: Fault) -> Self {
        let at = if fault.path.is_empty() { String::new() } else { format!("{}: ", fault.path.join(".")) };
        fail(fault.code, format!("{at}{}", fault.message))
    }
}

/// Whether a form can do something about it: then it is data, else an error.
fn is_data(code: Code) -> bool {
    !matches!(code, Code::Unauthenticated | Code::Unavailable | Code::Internal | Code::RateLimited)
}

/// The error as data, with `prefix` before its paths.
pub(super) fn user_errors(error: &Error, prefix: &[&str]) -> async_graphql::Result<Vec<UserError>> {
    if !is_data(Code::of(error)) {
        return Err(refuse(error));
    }
    let prefixed = |mut fault: Fault| {
        fault.path = prefix.iter().map(|part| (*part).to_owned()).chain(fault.path).collect();
        fault.into()
    };
    Ok(faults(error).into_iter().map(prefixed).collect())
}

/// An error with a code.
pub(super) fn fail(code: Code, message: impl Into<String>) -> async_graphql::Error {
    let mut error = async_graphql::Error::new(message);
    let mut extensions = ErrorExtensionValues::default();
    extensions.set("code", code.as_str());
    error.extensions = Some(extensions);
    error
}

/// The error of a verb.
pub(super) fn refuse(error: &Error) -> async_graphql::Error {
    if let Error::Internal(cause) = error {
        tracing::error!(%cause, "a GraphQL request failed");
    }
    let message = faults(error).into_iter().map(|fault| fault.message).collect::<Vec<_>>().join("; ");
    fail(Code::of(error), message)
}

/// The same for what fails before anything is executed.
pub(super) fn server_error(code: Code, message: impl Into<String>) -> ServerError {
    let mut error = ServerError::new(message, None);
    set_code(&mut error, code.as_str());
    error
}

fn set_code(error: &mut ServerError, code: &str) {
    error.extensions.get_or_insert_default().set("code", code);
}

/// How much of a line of what the library says is told, in characters: it repeats the document.
const LONGEST_LINE: usize = 512;

/// Gives those errors a code that have none: what the library itself finds is wrong with the request.
pub(super) fn complete(errors: &mut [ServerError]) {
    for error in errors {
        if error.extensions.as_ref().and_then(|extensions| extensions.get("code")).is_none() {
            let lines = error.message.lines().map(|line| line.chars().take(LONGEST_LINE).collect());
            error.message = lines.collect::<Vec<String>>().join("\n");
            set_code(error, Code::Invalid.as_str());
        }
    }
}
