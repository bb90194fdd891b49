//! The verbs on resources, as HTTP methods on paths.

use std::borrow::Cow;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::header::ALLOW;
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode};
use jiff::Timestamp;

use super::negotiate::{Accepted, Syntax, negotiate};
use super::params::{Include, PATCH_OPTIONS, Params};
use super::relay::Until;
use super::router::App;
use super::{body, respond, transfer, watch, websocket};
use crate::api::{GROUP, Kind};
use crate::auth::{Attributes, Caller, Verb};
use crate::error::Error;
use crate::registry::{Deleted, FINALIZER_FOREGROUND, FINALIZER_ORPHAN, NamedBySpec, RESTORE, WatchStart};

/// Finalizers of kube's own that have no domain.
const STANDARD_FINALIZERS: [&str; 3] = [FINALIZER_ORPHAN, FINALIZER_FOREGROUND, "kubernetes"];

/// What a request was, in words of which there are few: for metrics. Set on every answer about a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Labels {
    /// The verb.
    pub verb: Verb,
    /// The kind.
    pub kind: Kind,
}

/// What a path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) kind: Kind,
    /// `None` for the collection.
    pub(super) name: Option<String>,
    pub(super) status: bool,
}

/// Answers a request about a resource.
pub(super) async fn serve(
    app: &App,
    caller: Caller,
    target: Target,
    query: Vec<(String, String)>,
    request: Request,
    until: Until,
) -> Response {
    let params = Params::new(query);
    let (parts, body) = request.into_parts();
    let method = if parts.method == Method::HEAD { &Method::GET } else { &parts.method };
    let Some(verb) = verb(&target, method, &params) else { return not_allowed(&target, &parts.method) };
    let labels = Labels { verb, kind: target.kind };
    let call = Call { app, caller, target, params, parts, verb, until };
    let mut response = match call.answer(body).await {
        Ok(response) => response,
        Err(error) => respond::error(&error),
    };
    response.extensions_mut().insert(labels);
    response
}

fn verb(target: &Target, method: &Method, params: &Params) -> Option<Verb> {
    Some(match (&target.name, method.as_str()) {
        (None, "GET") if params.flag("watch") => Verb::Watch,
        (None, "GET") => Verb::List,
        (None, "POST") => Verb::Create,
        (None, "DELETE") => Verb::DeleteCollection,
        (Some(_), "GET") => Verb::Get,
        (Some(_), "PUT") => Verb::Update,
        (Some(_), "PATCH") => Verb::Patch,
        (Some(_), "DELETE") if !target.status => Verb::Delete,
        _ => return None,
    })
}

fn not_allowed(target: &Target, method: &Method) -> Response {
    let allowed = match (&target.name, target.status) {
        (None, _) => "DELETE, GET, HEAD, POST",
        (Some(_), false) => "DELETE, GET, HEAD, PATCH, PUT",
        (Some(_), true) => "GET, HEAD, PATCH, PUT",
    };
    let verb = match method.as_str() {
        "POST" => "create",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" => "delete",
        other => other,
    };
    let message = format!("{verb} is not supported on resources of kind \"{}.{GROUP}\"", target.kind.plural());
    let error = Error::MethodNotAllowed { kind: Some(target.kind), message };
    let mut response = respond::error(&error);
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

/// Kube's warnings about finalizers that aren't of a domain.
fn finalizer_warnings(finalizers: &[String]) -> Vec<String> {
    let unqualified =
        finalizers.iter().filter(|name| !name.contains('/') && !STANDARD_FINALIZERS.contains(&name.as_str()));
    unqualified
        .map(|name| {
            let path = if name.contains('.') { " including a path (/)" } else { "" };
            format!(
                "metadata.finalizers: {name:?}: prefer a domain-qualified finalizer name{path} to avoid accidental \
                 conflicts with other finalizer writers"
            )
        })
        .collect()
}

struct Call<'a> {
    app: &'a App,
    caller: Caller,
    target: Target,
    params: Params,
    parts: Parts,
    verb: Verb,
    until: Until,
}

impl Call<'_> {
    /// The object that is asked about, as kube's authorizers have it: also that of a selector by name.
    fn named(&self) -> Cow<'_, str> {
        match &self.target.name {
            Some(name) => Cow::Borrowed(name),
            None if matches!(self.verb, Verb::List | Verb::Watch | Verb::DeleteCollection) => {
                let selector = self.params.field_selector().unwrap_or_default();
                Cow::Owned(selector.exact_name().unwrap_or_default().to_owned())
            }
            None => Cow::Borrowed(""),
        }
    }

    async fn answer(mut self, body: Body) -> Result<Response, Error> {
        let registry = &self.app.registry;
        let kind = self.target.kind;
        let name = self.target.name.as_deref().unwrap_or_default();
        let writes = matches!(self.verb, Verb::Create | Verb::Update) && !self.target.status;
        let restore = writes && self.params.flag(RESTORE);
        let subresource = match self.target.status {
            true => "status",
            false if restore => RESTORE,
            false => "",
        };
        // Before the body is read: who may not write doesn't get to send one.
        let named = self.named();
        let attributes = Attributes { subresource, ..Attributes::new(self.verb, kind, &named) };
        self.app.authorizer.authorize(&self.caller, &attributes).await?;
        registry.authorize(&self.caller, self.verb, kind, subresource, name)?;
        let accepted = negotiate(&self.parts.headers)?;
        let now = registry.clock().now();
        let include = self.params.include(accepted.form)?;
        match self.verb {
            Verb::Get => {
                let (reader, record) = registry.get(&self.caller, kind, name, self.params.at_least()?).await?;
                Ok(respond::object(accepted, include, &reader, &record, StatusCode::OK, now))
            }
            Verb::List if self.params.flag(transfer::EXPORT) => {
                transfer::export(self.app, &self.caller, kind, self.params.list()?).await
            }
            Verb::List => {
                let options = self.params.list()?;
                let list = registry.list(&self.caller, kind, &options).await?;
                Ok(respond::list(accepted, include, kind, list, now))
            }
            Verb::Watch => self.watch(accepted).await,
            Verb::Create => self.create(accepted, include, now, body, restore).await,
            Verb::Update => {
                let (options, validation) = self.params.write("UpdateOptions")?;
                let bytes = body::read(&self.parts.headers, body).await?;
                let decoded = body::object(kind, &self.parts.headers, &bytes, validation, self.target.status)?;
                let mut written = if self.target.status {
                    let given = decoded.object.metadata.name.as_deref().unwrap_or_default();
                    if given != name {
                        return Err(Error::BadRequest(format!(
                            "the name of the object ({given}) does not match the name on the URL ({name})"
                        )));
                    }
                    let version = decoded.object.metadata.resource_version.as_deref();
                    let status = decoded.status.unwrap_or_default();
                    registry.update_status(&self.caller, kind, name, version, &status, options).await?
                } else if restore {
                    if decoded.object.metadata.name.as_deref() != Some(name) {
                        let message = format!("the name of the object must be the one on the URL ({name})");
                        return Err(Error::BadRequest(message));
                    }
                    registry.restore(&self.caller, decoded.object, options).await?
                } else {
                    registry.update(&self.caller, kind, name, &decoded.object, options).await?
                };
                written.warnings.extend(decoded.warnings);
                Ok(respond::written(accepted, include, &written, now))
            }
            Verb::Patch => {
                let (options, validation) = self.params.write(PATCH_OPTIONS)?;
                let bytes = body::read(&self.parts.headers, body).await?;
                let patch = body::patch(kind, name, &self.parts.headers, &bytes)?;
                let written = if self.target.status {
                    registry.patch_status(&self.caller, kind, name, &patch, options).await?
                } else {
                    registry.patch(&self.caller, kind, name, &patch, validation, options).await?
                };
                Ok(respond::written(accepted, include, &written, now))
            }
            Verb::Delete => {
                let bytes = body::read(&self.parts.headers, body).await?;
                let options = self.params.delete(&self.parts.headers, &bytes)?;
                match registry.delete(&self.caller, kind, name, &options).await? {
                    Deleted::Gone(record) => Ok(respond::deleted(accepted, &record)),
                    Deleted::Terminating(reader, record) => {
                        Ok(respond::object(accepted, include, &reader, &record, StatusCode::OK, now))
                    }
                }
            }
            Verb::DeleteCollection => {
                let bytes = body::read(&self.parts.headers, body).await?;
                let options = self.params.delete(&self.parts.headers, &bytes)?;
                let list = self.params.list()?;
                let (reader, deleted) = registry.delete_collection(&self.caller, kind, &list, &options).await?;
                Ok(respond::deleted_list(accepted, include, kind, reader, deleted, now))
            }
        }
    }

    async fn create(
        &self,
        accepted: Accepted,
        include: Include,
        now: Timestamp,
        body: Body,
        restore: bool,
    ) -> Result<Response, Error> {
        let (registry, kind) = (&self.app.registry, self.target.kind);
        let (options, validation) = self.params.write("CreateOptions")?;
        let bytes = body::read(&self.parts.headers, body).await?;
        let digest =
            (kind == Kind::DataPack && !restore).then(|| body::digest(&self.parts.headers, &bytes, validation));
        if let Some(digest) = &digest
            && let Some(written) = registry.create_known(&self.caller, digest, options).await?
        {
            return Ok(respond::written(accepted, include, &written, now));
        }
        let decoded = body::object(kind, &self.parts.headers, &bytes, validation, false)?;
        let named_by_spec = NamedBySpec::of(&decoded.object).filter(|_| !options.dry_run);
        let finalizers = finalizer_warnings(decoded.object.metadata.finalizers.as_deref().unwrap_or_default());
        let mut written = if restore {
            registry.restore(&self.caller, decoded.object, options).await?
        } else {
            registry.create(&self.caller, decoded.object, options).await?
        };
        written.warnings.extend(decoded.warnings.into_iter().chain(finalizers));
        if let (Some(digest), Some(named_by_spec)) = (digest, named_by_spec) {
            registry.remember(digest, named_by_spec, &written);
        }
        Ok(respond::written(accepted, include, &written, now))
    }

    async fn watch(&mut self, accepted: Accepted) -> Result<Response, Error> {
        if accepted.syntax == Syntax::Yaml {
            return Err(Error::NotAcceptable(
                "only the following media types are accepted: application/json;stream=watch".to_owned(),
            ));
        }
        if self.until.is_over() {
            // It would end at once; informers take this for what it is, and ask again where they are.
            return Err(Error::TooManyRequests("the server is stopping; ask again".to_owned()));
        }
        let socket = websocket::asked(&mut self.parts).await?;
        let options = self.params.watch()?;
        let from_version = matches!(options.start, WatchStart::After(_));
        let include = self.params.include(accepted.form)?;
        let kind = self.target.kind;
        match self.app.registry.watch(&self.caller, kind, options).await {
            Ok(watch) => {
                let (clock, until) = (self.app.registry.clock().clone(), self.until.clone());
                let events = watch::Events::new(accepted, include, kind, clock, watch, until);
                Ok(match socket {
                    Some(socket) => websocket::respond(socket, events),
                    None => watch::respond(events),
                })
            }
            // Kube tells this in the stream, and informers look for it there.
            Err(error @ Error::Expired { .. }) if from_version => Ok(match socket {
                Some(socket) => websocket::failed(socket, &error),
                None => watch::failed(&error),
            }),
            Err(error) => Err(error),
        }
    }
}
