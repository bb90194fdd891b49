//! Label and field selectors in their string form, as they come in a query.

mod field;
mod label;
mod lexer;

use crate::error::Error;

pub use field::FieldSelector;
pub use label::{LabelSelector, Requirement};

/// Longest selector, in bytes. Kube has no limit of its own; URLs are bounded there by the server.
pub const MAX_SELECTOR_LEN: usize = 16 * 1024;
/// Most requirements of one selector: each is looked at for each object.
pub const MAX_REQUIREMENTS: usize = 256;
/// Most values of one selector, all its sets together.
pub const MAX_SELECTOR_VALUES: usize = 4096;

/// Why a selector can't be used, in kube's words where it has some. It is answered with 400.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(String);

impl From<SelectorError> for Error {
    fn from(error: SelectorError) -> Self {
        Self::BadRequest(error.0)
    }
}

fn check_length(selector: &str) -> Result<(), SelectorError> {
    if selector.len() <= MAX_SELECTOR_LEN {
        return Ok(());
    }
    Err(SelectorError(format!("the selector has {} bytes: want at most {MAX_SELECTOR_LEN}", selector.len())))
}

fn check_requirements(count: usize) -> Result<(), SelectorError> {
    if count <= MAX_REQUIREMENTS {
        return Ok(());
    }
    Err(SelectorError(format!("the selector has more than {MAX_REQUIREMENTS} requirements")))
}
