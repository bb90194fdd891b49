//! What callers may do, decided in one place. What they may see is decided elsewhere: by `Visible`.

use super::Caller;
use crate::api::{GROUP, Kind};
use crate::error::Error;
use crate::graph::{Record, Visible, organization_of};

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

/// Who may make an organization.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OrganizationCreators {
    /// Whoever has shown who they are.
    #[default]
    SignedIn,
    /// Administrators.
    Administrators,
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
    /// The object's `metadata.name`; empty where there is none yet.
    pub name: &'a str,
    /// The `spec.name` of an object that is to be made; empty where it isn't known yet: then the answer is
    /// whether the caller may make any.
    pub spec_name: &'a str,
}

impl<'a> Attributes<'a> {
    /// `verb` on `kind` `name`.
    #[must_use]
    pub fn new(verb: Verb, kind: Kind, name: &'a str) -> Self {
        Self { verb, kind, subresource: "", name, spec_name: "" }
    }
}

/// Decides whether `caller` may do what `attributes` say, on what it sees. The answer doesn't tell whether
/// something hidden is there: it depends on the organization in the name.
///
/// # Errors
/// [`Error::Forbidden`], worded as RBAC words it.
pub fn authorize(
    caller: &Caller,
    attributes: &Attributes<'_>,
    visible: &Visible,
    creators: OrganizationCreators,
) -> Result<(), Error> {
    let Attributes { verb, kind, subresource, name, spec_name } = *attributes;
    if caller.is_administrator() || verb.reads() {
        return Ok(());
    }
    let refuse = |why: &str| Err(forbidden(caller, attributes, why));
    if !caller.is_authenticated() {
        return refuse("");
    }
    if !subresource.is_empty() {
        let status = subresource == "status";
        return refuse(if status { "only administrators write a status" } else { "only administrators do that" });
    }
    match (kind, verb) {
        // One by one, as each object's deletion.
        (_, Verb::DeleteCollection) | (Kind::DataPack, Verb::Create) => Ok(()),
        (Kind::DataPack, _) => match visible.get(kind, name) {
            Some(pack) if pack.envelope().creator.as_deref() != Some(caller.user()) => {
                refuse("it is not the one who made the pack")
            }
            _ => Ok(()),
        },
        (Kind::Image | Kind::Repository, _) if caller.is_publisher() => Ok(()),
        (Kind::Organization, Verb::Create) if creators == OrganizationCreators::Administrators => {
            refuse("only administrators make organizations here")
        }
        // One that is there is refused for that, later.
        (Kind::Organization, Verb::Create)
            if visible.organization(spec_name).is_none() && visible.organization_has_content(spec_name) =>
        {
            refuse(GONE)
        }
        (_, Verb::Create) if kind == Kind::Organization || spec_name.is_empty() => Ok(()),
        (_, Verb::Create) => {
            let organization = organization_of(spec_name);
            if visible.manages(organization) {
                Ok(())
            } else if visible.organization(organization).is_some() {
                refuse(&not_a_manager(organization))
            } else if visible.organization_has_content(organization) {
                // Here already: what is there of it must not be told by a conflict.
                refuse(GONE)
            } else {
                // The caller makes it, if it may, and becomes its manager.
                Ok(())
            }
        }
        _ => {
            let found = visible.get(kind, name).map(|record| organization(record));
            // Names begin with their organization's; what is old and doesn't is judged where it is seen.
            let organization = found.unwrap_or_else(|| name.split('.').next().unwrap_or_default());
            if visible.manages(organization) { Ok(()) } else { refuse(&not_a_manager(organization)) }
        }
    }
}

/// Why nobody but administrators makes an organization again, or anything in it.
const GONE: &str = "an organization of this name is gone, and what it had is not: only administrators make it again";

fn not_a_manager(organization: &str) -> String {
    format!("it is not among the managers of organization {organization:?}")
}

/// The organization that an object belongs to, or is.
fn organization(record: &Record) -> &str {
    let image = record.image().map(|image| organization_of(image.name()));
    let repository = record.repository().map(|repository| repository.organization());
    image.or(repository).or(record.organization().map(|organization| &*organization.name)).unwrap_or_default()
}

/// RBAC's words for a caller that may not, with the reason why.
pub(super) fn forbidden(caller: &Caller, attributes: &Attributes<'_>, why: &str) -> Error {
    let Attributes { verb, kind, subresource, name, .. } = *attributes;
    let plural = kind.plural();
    let resource = if subresource.is_empty() { plural.to_owned() } else { format!("{plural}/{subresource}") };
    let named = if name.is_empty() { String::new() } else { format!(" {name:?}") };
    let why = if why.is_empty() { String::new() } else { format!(": {why}") };
    Error::Forbidden {
        kind: Some(kind),
        name: name.to_owned(),
        message: format!(
            "{plural}.{GROUP}{named} is forbidden: User {:?} cannot {} resource {resource:?} in API group {GROUP:?} at \
             the cluster scope{why}",
            caller.user(),
            verb.as_str(),
        ),
    }
}
