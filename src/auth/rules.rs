//! What callers may do, decided in one place.

use super::Caller;
use crate::api::{GROUP, Kind};
use crate::error::Error;

/// What is done to a resource: kube's verbs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are kube's own")]
pub enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
    DeleteCollection,
}

impl Verb {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
        }
    }

    fn reads(self) -> bool {
        matches!(self, Self::Get | Self::List | Self::Watch)
    }
}

/// What a caller wants to do, as kube's authorizers are told of it.
#[derive(Debug, Clone, Copy)]
pub struct Attributes<'a> {
    /// The verb.
    pub verb: Verb,
    /// The kind.
    pub kind: Kind,
    /// `status`, or empty.
    pub subresource: &'a str,
    /// The object's name; empty where there is none.
    pub name: &'a str,
    /// The managers of the organization that the object belongs to, where it does.
    pub managers: &'a [Box<str>],
}

impl<'a> Attributes<'a> {
    /// `verb` on `kind` `name`.
    #[must_use]
    pub fn new(verb: Verb, kind: Kind, name: &'a str) -> Self {
        Self { verb, kind, subresource: "", name, managers: &[] }
    }
}

/// Decides whether `caller` may do what `attributes` say. What it may see is decided elsewhere: by
/// `Visible`.
///
/// # Errors
/// [`Error::Forbidden`], worded as RBAC words it.
pub fn authorize(caller: &Caller, attributes: &Attributes<'_>) -> Result<(), Error> {
    if caller.is_administrator() || attributes.verb.reads() {
        return Ok(());
    }
    let Attributes { verb, kind, subresource, name, .. } = attributes;
    let plural = kind.plural();
    let resource = if subresource.is_empty() { plural.to_owned() } else { format!("{plural}/{subresource}") };
    let named = if name.is_empty() { String::new() } else { format!(" {name:?}") };
    Err(Error::Forbidden {
        kind: Some(*kind),
        name: (*name).to_owned(),
        message: format!(
            "{plural}.{GROUP}{named} is forbidden: User {:?} cannot {} resource {resource:?} in API group {GROUP:?} at \
             the cluster scope",
            caller.user(),
            verb.as_str(),
        ),
    })
}
