//! Writes of one object. Conditions are on entity tags: what a client has read is what it changes, at just the version
//! that the tag is of.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::{IF_MATCH, IF_NONE_MATCH};
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value, json};

use super::contract::{BASE, Endpoint};
use super::input::{self, Form};
use super::problem::Problem;
use super::serve::Call;
use super::{read, respond, serve};
use crate::api::{Kind, OrganizationSpec, RepositorySpec, Spec};
use crate::auth::Verb;
use crate::error::Error;
use crate::gateway::{Answer, Applied, Plan, View, are_tags, is_tag, names_tag};
use crate::graph::{Record, Visible};
use crate::model::{ErrorCode, Fault};
use crate::registry::{DeleteOptions, Deleted};

/// Whether what is there is what the request's `If-Match` and `If-None-Match` say.
fn fits(headers: &HeaderMap, view: &View, record: Option<&Record>) -> bool {
    let etag = record.and_then(|record| read::object(view, record)).map(|body| Answer::tag(&body));
    let named = |header| match &etag {
        Some(etag) => names_tag(headers, header, |tag| is_tag(tag, etag)),
        None => false,
    };
    (!headers.contains_key(IF_MATCH) || named(IF_MATCH)) && !named(IF_NONE_MATCH)
}

/// Refuses conditions that no tag can meet, for want of quotes as a rule: 412 would say that something else is there.
fn conditions(headers: &HeaderMap) -> Result<(), Problem> {
    for name in [IF_MATCH, IF_NONE_MATCH] {
        if !headers.get_all(&name).iter().all(are_tags) {
            let message = "it must be * or entity tags, each with its quotes, as an ETag has them";
            let fault = Fault::new(ErrorCode::Invalid, message);
            return Err(Problem::parameter(StatusCode::BAD_REQUEST, name.as_str(), fault));
        }
    }
    Ok(())
}

fn is_conditional(headers: &HeaderMap) -> bool {
    headers.contains_key(IF_MATCH) || headers.contains_key(IF_NONE_MATCH)
}

/// The answer to a write that was refused: where a condition was set, that what is there is another is 412.
fn refused(call: &Call, error: Error) -> Problem {
    match error {
        Error::Conflict { message, .. } if message.is_empty() => Problem::precondition(),
        Error::Conflict { .. } | Error::AlreadyExists { .. } if is_conditional(&call.headers) => {
            Problem::precondition()
        }
        Error::NotFound { .. } if call.headers.contains_key(IF_MATCH) => Problem::precondition(),
        other => other.into(),
    }
}

/// What the path names: its kind, its full name, and its `metadata.name` if it isn't there.
struct Target {
    kind: Kind,
    name: String,
    meta: String,
}

impl Target {
    fn of(call: &Call) -> Self {
        // A name that can't be one is asked for as what it would be: it isn't there, and who may is told first.
        match call.endpoint {
            Endpoint::Image => {
                let name = call.image_name();
                let meta = input::image_name(&name).map(|name| name.meta_name());
                Self { kind: Kind::Image, meta: meta.unwrap_or_else(|_| call.names.join(".")), name }
            }
            Endpoint::Repository => {
                let name = call.repository_name();
                let meta = input::repository_name(&name).map(|name| name.meta_name());
                Self { kind: Kind::Repository, meta: meta.unwrap_or_else(|_| call.names.join(".")), name }
            }
            _ => {
                let name = call.first_name().to_owned();
                Self { kind: Kind::Organization, meta: name.clone(), name }
            }
        }
    }

    fn find(&self, visible: &Visible) -> Option<Arc<Record>> {
        let found = match self.kind {
            Kind::Image => visible.image(&self.name),
            Kind::Repository => visible.repository(&self.name),
            Kind::Organization => visible.organization(&self.name),
            Kind::DataPack => visible.get(Kind::DataPack, &self.name),
        };
        found.cloned()
    }
}

/// What a body makes of an object.
enum Change {
    Image(Box<crate::model::ImageChange>),
    Repository { name: String, private: Option<bool> },
    Organization { name: String, managers: Option<Vec<String>> },
}

impl Change {
    fn read(target: &Target, body: Value, whole: bool) -> Result<Self, Problem> {
        // The name is the path's: what is wrong with it has no place in the body.
        let bad_name = |fault: crate::model::Fault| Problem::parameter(StatusCode::UNPROCESSABLE_ENTITY, "name", fault);
        let name = target.name.clone();
        match target.kind {
            Kind::Image => {
                let name = input::image_name(&name).map_err(bad_name)?;
                let change = input::image(name, body).map_err(Problem::unfit)?;
                Ok(Self::Image(Box::new(if whole { change.replacing() } else { change })))
            }
            Kind::Repository => {
                input::repository_name(&name).map_err(bad_name)?;
                let private = input::repository(&name, body, whole).map_err(Problem::unfit)?;
                Ok(Self::Repository { name, private })
            }
            Kind::Organization | Kind::DataPack => {
                let managers = input::organization(&name, body, whole).map_err(Problem::unfit)?;
                Ok(Self::Organization { name, managers })
            }
        }
    }

    fn patch(&self, before: &Record) -> Value {
        let mut spec = Map::new();
        match self {
            Self::Image(change) => return change.to_patch(before),
            Self::Repository { private, .. } => {
                if let Some(private) = private {
                    spec.insert("isPrivate".to_owned(), (*private).into());
                }
            }
            Self::Organization { managers, .. } => {
                if let Some(managers) = managers {
                    spec.insert("manager".to_owned(), managers.clone().into());
                }
            }
        }
        json!({ "metadata": { "resourceVersion": before.revision.to_string() }, "spec": spec })
    }

    fn spec(&self) -> Spec {
        match self {
            Self::Image(change) => Spec::Image(change.to_spec()),
            Self::Repository { name, private } => {
                Spec::Repository(RepositorySpec { name: name.clone(), is_private: *private })
            }
            Self::Organization { name, managers } => {
                let manager = managers.clone().filter(|managers| !managers.is_empty());
                Spec::Organization(OrganizationSpec { name: name.clone(), creator: None, manager })
            }
        }
    }
}

/// Makes or replaces what the path names, or, not `whole`, changes a part of it.
pub(super) async fn put(call: &Call, body: Body, whole: bool) -> Result<Response, Problem> {
    conditions(&call.headers)?;
    let target = Target::of(call);
    let wanted: &[Form] = if whole { &[Form::Json] } else { &[Form::MergePatch, Form::Json] };
    input::form(&call.headers, wanted)?;
    let bytes = serve::body(call, body, Some(target.kind)).await?;
    let change = Change::read(&target, input::json(&bytes)?, whole)?;
    let expects = |view: &View, record: Option<&Record>| fits(&call.headers, view, record);
    let spec = || change.spec();
    let plan = Plan {
        kind: target.kind,
        name: target.meta.clone(),
        find: &|visible| target.find(visible),
        expects: if is_conditional(&call.headers) { Some(&expects) } else { None },
        patch: &|before| change.patch(before),
        create: if whole { Some(&spec) } else { None },
        dry_run: call.dry_run(),
    };
    let applied = Box::pin(call.writing().put(&plan)).await.map_err(|error| refused(call, error))?;
    Ok(written(call, &applied))
}

/// What was written, as a GET would show it now.
fn written(call: &Call, applied: &Applied) -> Response {
    let view = call.view();
    let revision = call.writing().with(&applied.after);
    let body = read::object(&view, &applied.after).unwrap_or_default();
    if call.dry_run() {
        return respond::written(StatusCode::OK, body, None, view.visible().revision());
    }
    let etag = Answer::tag(&body);
    let status = if applied.created { StatusCode::CREATED } else { StatusCode::OK };
    let response = respond::written(status, body, Some(&etag), revision);
    if applied.created { respond::at(response, call.uri.path()) } else { response }
}

/// Deletes what the path names.
pub(super) async fn delete(call: &Call) -> Result<Response, Problem> {
    conditions(&call.headers)?;
    let target = Target::of(call);
    let view = call.view();
    let there = target.find(view.visible());
    let name = there.as_ref().map_or(&*target.meta, |there| there.name());
    let conditional = is_conditional(&call.headers);
    if conditional && !fits(&call.headers, &view, there.as_deref()) {
        // Whether the caller may comes first: it doesn't depend on what is there.
        call.shared.app.registry.authorize(&call.caller, Verb::Delete, target.kind, "", name)?;
        return Err(Problem::precondition());
    }
    let resource_version = there.as_ref().filter(|_| conditional).map(|there| there.revision.to_string());
    let options = DeleteOptions { resource_version, dry_run: call.dry_run(), ..DeleteOptions::default() };
    let writing = call.writing();
    let deleted = writing.delete(target.kind, name, &options).await.map_err(|error| refused(call, error))?;
    Ok(match deleted {
        Deleted::Gone(_) => respond::empty(StatusCode::NO_CONTENT, writing.now()),
        // It goes when what holds it lets go.
        Deleted::Terminating(_, record) => respond::empty(StatusCode::ACCEPTED, writing.with(&record)),
    })
}

/// Keeps a list of names as a pack; the same list is the same pack.
pub(super) async fn pack(call: &Call, body: Body) -> Result<Response, Problem> {
    input::form(&call.headers, &[Form::Json])?;
    let bytes = serve::body(call, body, None).await?;
    let spec = input::pack(input::json(&bytes)?).map_err(Problem::unfit)?;
    let writing = call.writing();
    let written = Box::pin(writing.create_pack(spec, &call.shared.app.quota)).await?;
    let body: Bytes = read::object(&call.view(), &written.record).unwrap_or_default();
    let etag = Answer::tag(&body);
    let status = if written.created { StatusCode::CREATED } else { StatusCode::OK };
    let response = respond::written(status, body, Some(&etag), writing.with(&written.record));
    Ok(respond::at(response, &format!("{BASE}/datapacks/{}", written.record.name())))
}
