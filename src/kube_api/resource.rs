//! The verbs on resources, as HTTP methods on paths.

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::header::ALLOW;
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode};

use super::negotiate::{Accepted, Syntax, negotiate};
use super::params::Params;
use super::router::App;
use super::{body, respond, transfer, watch};
use crate::api::Kind;
use crate::auth::{Caller, Verb};
use crate::error::Error;
use crate::registry::{Deleted, RESTORE, WatchStart};

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
) -> Response {
    let params = Params::new(query);
    let (parts, body) = request.into_parts();
    let method = if parts.method == Method::HEAD { &Method::GET } else { &parts.method };
    let Some(verb) = verb(&target, method, &params) else { return not_allowed(&target, &parts.method) };
    let labels = Labels { verb, kind: target.kind };
    let call = Call { app, caller, target, params, parts, verb };
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
    let error = Error::MethodNotAllowed(format!(
        "the server does not allow this method on the requested resource ({method}; it allows {allowed})"
    ));
    let mut response = respond::error(&error);
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

struct Call<'a> {
    app: &'a App,
    caller: Caller,
    target: Target,
    params: Params,
    parts: Parts,
    verb: Verb,
}

impl Call<'_> {
    async fn answer(self, body: Body) -> Result<Response, Error> {
        let registry = &self.app.registry;
        let kind = self.target.kind;
        let name = self.target.name.as_deref().unwrap_or_default();
        let writes = matches!(self.verb, Verb::Create | Verb::Update) && !self.target.status;
        let restore = writes && self.params.flag(RESTORE);
        let subresource = if self.target.status {
            "status"
        } else if restore {
            RESTORE
        } else {
            ""
        };
        // Before the body is read: who may not write doesn't get to send one.
        registry.authorize(&self.caller, self.verb, kind, subresource, name)?;
        let accepted = negotiate(&self.parts.headers)?;
        let now = registry.clock().now();
        let include = self.params.include()?;
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
            Verb::Create => {
                let (options, validation) = self.params.write("CreateOptions")?;
                let bytes = body::read(&self.parts.headers, body).await?;
                let decoded = body::object(kind, &self.parts.headers, &bytes, validation, false)?;
                let mut written = if restore {
                    registry.restore(&self.caller, decoded.object, options).await?
                } else {
                    registry.create(&self.caller, decoded.object, options).await?
                };
                written.warnings.extend(decoded.warnings);
                Ok(respond::written(accepted, include, &written, now))
            }
            Verb::Update => {
                let (options, validation) = self.params.write("UpdateOptions")?;
                let bytes = body::read(&self.parts.headers, body).await?;
                let decoded = body::object(kind, &self.parts.headers, &bytes, validation, self.target.status)?;
                let mut written = if self.target.status {
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
                let (options, validation) = self.params.write("PatchOptions")?;
                let bytes = body::read(&self.parts.headers, body).await?;
                let patch = body::patch(&self.parts.headers, &bytes)?;
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
                    Deleted::Gone(record) => Ok(respond::deleted(&record)),
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

    async fn watch(&self, accepted: Accepted) -> Result<Response, Error> {
        if accepted.syntax == Syntax::Yaml {
            return Err(Error::NotAcceptable("a watch is answered as application/json only".to_owned()));
        }
        let options = self.params.watch()?;
        let from_version = matches!(options.start, WatchStart::After(_));
        let include = self.params.include()?;
        let kind = self.target.kind;
        match self.app.registry.watch(&self.caller, kind, options).await {
            Ok(watch) => {
                let (clock, stop) = (self.app.registry.clock().clone(), self.app.stop.clone());
                Ok(watch::respond(accepted, include, kind, clock, watch, stop))
            }
            // Kube tells this in the stream, and informers look for it there.
            Err(error @ Error::Expired { .. }) if from_version => Ok(watch::failed(&error)),
            Err(error) => Err(error),
        }
    }
}
