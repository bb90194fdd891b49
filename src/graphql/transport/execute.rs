//! From what a request asks for to its answer: the document, its limits, the kept answers, the execution.

use std::sync::Arc;

use async_graphql::parser::types::{DocumentOperations, ExecutableDocument, OperationDefinition, OperationType};
use async_graphql::{Request, Response, ServerError, Variables};
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{FutureExt as _, StreamExt as _};
use http::StatusCode;
use serde_json::{Map, Value};
use tokio::sync::OwnedSemaphorePermit;

use super::STREAM_BYTES;
use super::documents::Document;
use super::params::Params;
use super::respond;
use crate::auth::Caller;
use crate::gateway::{Answer, Key, Question};
use crate::graph::{Revision, Visible};
use crate::graphql::error::{complete, server_error};
use crate::graphql::view::View;
use crate::graphql::{Answered, Shared};
use crate::model::ErrorCode;
use crate::registry::Reader;

/// How many faults of a document are told.
const TOLD_ERRORS: usize = 100;
/// About what a subscription takes in memory beside its document and its variables, in bytes.
const STREAM_BASE: usize = 8 * 1024;
/// How much more a document takes when it is parsed than as a text.
const TEXT_WEIGHT: usize = 64;
/// About what a value of a variable takes beside its text, in bytes.
const VALUE_WEIGHT: usize = 128;

/// A request, and who makes it.
pub(super) struct Asked {
    pub(super) params: Params,
    pub(super) caller: Caller,
    /// Whether it came in a way in which writes may come.
    pub(super) writes: bool,
    /// The revision that it demands.
    pub(super) demanded: Option<Revision>,
}

/// An operation's answer.
pub(super) struct Done {
    pub(super) response: Response,
    pub(super) revision: Revision,
    /// Whether it was refused because there were too many.
    pub(super) limited: bool,
}

/// What became of a request.
pub(super) enum Outcome {
    /// A whole answer of a query, without errors.
    Kept { answer: Arc<Answer>, revision: Revision, searched: Option<Revision>, signed_in: bool },
    /// Any other that was executed, or at least validated.
    Done(Box<Done>),
    /// It was not executed. Without a status it is a fault of the operation itself.
    Refused { status: Option<StatusCode>, error: Box<ServerError> },
}

/// An operation that is fit to be executed.
struct Prepared {
    request: Request,
    view: View,
    answered: Answered,
    sort: OperationType,
    /// About what it takes in memory while it goes on, in bytes.
    weight: usize,
}

/// What the caller sees now; `demanded` is the revision that a search has to have come to.
pub(super) fn view(shared: &Shared, caller: &Caller, demanded: Option<Revision>) -> View {
    view_of(shared, shared.app.registry.reader(caller), caller, demanded)
}

/// What the caller sees by `reader`.
pub(super) fn view_of(shared: &Shared, reader: Reader, caller: &Caller, demanded: Option<Revision>) -> View {
    View::with_search(reader, caller.clone(), shared.app.search.clone(), demanded)
}

fn refuse(status: Option<StatusCode>, error: ServerError) -> Outcome {
    Outcome::Refused { status, error: Box::new(error) }
}

/// The document that is asked for, with variables that are not too many.
fn document(shared: &Shared, asked: &Asked) -> Result<Document, ServerError> {
    shared.limits.check_values(&asked.params.variables)?;
    shared.transport.documents.find(&asked.params)
}

/// The answer to a question that came in just these words before, where it still stands.
pub(super) fn recall(shared: &Shared, words: &Question, visible: &Visible, caller: &Caller) -> Option<Outcome> {
    let answer = shared.app.answers.recall(words, visible)?;
    Some(kept(shared, answer, visible, caller))
}

fn kept(shared: &Shared, answer: Arc<Answer>, visible: &Visible, caller: &Caller) -> Outcome {
    let searched = answer.searched(shared.app.search.as_deref());
    Outcome::Kept { answer, revision: visible.revision(), searched, signed_in: caller.is_authenticated() }
}

/// Executes a query or a mutation on what `view` shows.
pub(super) async fn execute(shared: &Arc<Shared>, asked: &Asked, view: View) -> Outcome {
    let document = match document(shared, asked) {
        Ok(document) => document,
        Err(error) => return refuse(status_without_document(&asked.params), error),
    };
    let revision = view.visible().revision();
    let operation = asked.params.operation_name.as_deref();
    let variables = serde_json::to_vec(&asked.params.variables).unwrap_or_default();
    // The operation's name, and whether there is one.
    let named = [operation.unwrap_or_default().as_bytes(), &[u8::from(operation.is_some())]];
    let parts = [b"graphql", document.text.as_bytes(), named[0], named[1], &variables];
    let key = Key::new(&parts, &asked.caller, view.visible());
    if let Some(answer) = shared.app.answers.get(&key, view.visible()) {
        return kept(shared, answer, view.visible(), view.caller());
    }
    let Prepared { request, view, answered, sort, .. } = match prepare(shared, &document.text, asked, view) {
        Ok(prepared) => prepared,
        Err(error) => return refuse(None, error),
    };
    shared.transport.documents.keep(&document);
    match sort {
        OperationType::Mutation if !asked.writes => {
            let error = server_error(ErrorCode::Invalid, "a mutation is a POST: GET changes nothing");
            return refuse(Some(StatusCode::METHOD_NOT_ALLOWED), error);
        }
        OperationType::Subscription => {
            let message = "a subscription goes on: ask with Accept: text/event-stream, or by WebSocket \
                           (graphql-transport-ws)";
            return refuse(Some(StatusCode::BAD_REQUEST), server_error(ErrorCode::Invalid, message));
        }
        OperationType::Query | OperationType::Mutation => {}
    }
    let mut response = shared.schema.execute(request).await;
    if respond::was_refused(&response) {
        response.errors.truncate(TOLD_ERRORS);
    }
    complete(&mut response.errors);
    if sort == OperationType::Query && response.errors.is_empty() {
        let answer = Arc::new(Answer::new(&view.reads(), view.visible(), respond::body(&response), None));
        shared.app.answers.put(key, &answer);
        return kept(shared, answer, view.visible(), view.caller());
    }
    let revision = if sort == OperationType::Mutation { shared.app.registry.graph().revision() } else { revision };
    Outcome::Done(Box::new(Done { response, revision, limited: answered.is_limited() }))
}

/// Whether a mutation is asked for. What can't be told is left to the execution, which says why.
pub(super) fn is_mutation(shared: &Shared, asked: &Asked) -> bool {
    let Ok(document) = shared.transport.documents.find(&asked.params) else { return false };
    if shared.limits.check_text(&document.text).is_err() {
        return false;
    }
    let parsed = shared.transport.documents.parse(&document.text);
    let name = asked.params.operation_name.as_deref();
    parsed.is_ok_and(|document| operation(&document, name).is_ok_and(|of| of.ty == OperationType::Mutation))
}

/// Without a document there is no GraphQL request at all; but a client that tries a hash goes on with the document.
fn status_without_document(params: &Params) -> Option<StatusCode> {
    (params.query.is_none() && params.document.is_none()).then_some(StatusCode::BAD_REQUEST)
}

/// Executes any operation as a stream of answers: one of a query or a mutation.
pub(super) fn stream(shared: &Arc<Shared>, asked: &Asked) -> Result<BoxStream<'static, Response>, ServerError> {
    if let Some(why) = asked.caller.has_ended() {
        return Err(server_error(ErrorCode::Unauthenticated, why));
    }
    let document = document(shared, asked)?;
    let view = view(shared, &asked.caller, asked.demanded);
    let Prepared { request, sort, weight, .. } = prepare(shared, &document.text, asked, view)?;
    shared.transport.documents.keep(&document);
    if sort == OperationType::Mutation && !asked.writes {
        return Err(server_error(ErrorCode::Invalid, "a mutation is a POST: GET changes nothing"));
    }
    if sort == OperationType::Mutation && shared.app.relay.is_some() {
        // Which of the servers writes is decided request by request.
        let message = "of several servers one writes: send a mutation as a POST that is answered by JSON";
        return Err(server_error(ErrorCode::Unavailable, message));
    }
    let room = if sort == OperationType::Subscription { Some(room(shared, weight)?) } else { None };
    let answers = shared.schema.execute_stream(request).map(move |mut response| {
        let _going_on = &room;
        complete(&mut response.errors);
        response
    });
    let mut answers = answers.boxed();
    // It begins now, and not when the client first reads: what happens from here on is told.
    Ok(match answers.next().now_or_never() {
        Some(Some(first)) => stream::iter([first]).chain(answers).boxed(),
        Some(None) => stream::empty().boxed(),
        None => answers,
    })
}

/// A subscription's share of what all take that go on.
fn room(shared: &Shared, weight: usize) -> Result<OwnedSemaphorePermit, ServerError> {
    let kib = u32::try_from(weight.div_ceil(1024)).unwrap_or(u32::MAX);
    Arc::clone(&shared.stream_room).try_acquire_many_owned(kib).map_err(|_| {
        let message = format!(
            "this subscription takes {weight} bytes, and all that go on {STREAM_BYTES} at most (limit: stream bytes)"
        );
        server_error(ErrorCode::RateLimited, message)
    })
}

fn prepare(shared: &Arc<Shared>, text: &Arc<str>, asked: &Asked, view: View) -> Result<Prepared, ServerError> {
    let limits = &shared.limits;
    limits.check_text(text)?;
    let document = shared.transport.documents.parse(text).map_err(|mut error| {
        complete(std::slice::from_mut(&mut error));
        error
    })?;
    let variables = Value::Object(declared(&document, &asked.params.variables));
    let weight = STREAM_BASE + text.len() * TEXT_WEIGHT + weight(&variables);
    let variables = Variables::from_json(variables);
    limits.check(&document, &variables)?;
    shared.transport.documents.remember(text, &document);
    let operation = operation(&document, asked.params.operation_name.as_deref())?;
    let sort = operation.ty;
    check_variables(operation, &asked.params)?;
    let answered = Answered::default();
    let mut request =
        Request::new(&**text).variables(variables).data(view.clone()).data(Arc::clone(shared)).data(answered.clone());
    if let Some(name) = asked.params.operation_name.as_deref().filter(|_| is_named(&document)) {
        request = request.operation_name(name);
    }
    request.set_parsed_query(Arc::unwrap_or_clone(document));
    Ok(Prepared { request, view, answered, sort, weight })
}

/// The library knows an operation's name only where there are several.
fn is_named(document: &ExecutableDocument) -> bool {
    matches!(document.operations, DocumentOperations::Multiple(_))
}

fn operation<'a>(document: &'a ExecutableDocument, name: Option<&str>) -> Result<&'a OperationDefinition, ServerError> {
    let name = name.filter(|name| !name.is_empty());
    match (&document.operations, name) {
        (DocumentOperations::Single(operation), None) => Ok(&operation.node),
        (DocumentOperations::Multiple(all), None) if all.len() == 1 => {
            Ok(&all.values().next().expect("there is one").node)
        }
        (DocumentOperations::Multiple(all), Some(name)) if all.contains_key(name) => Ok(&all[name].node),
        (_, Some(_)) => Err(server_error(ErrorCode::Invalid, "the document has no operation of this operationName")),
        (_, None) => {
            let message = "the document has several operations: say operationName";
            Err(server_error(ErrorCode::Invalid, message))
        }
    }
}

/// About what a value takes in memory, in bytes.
fn weight(value: &Value) -> usize {
    VALUE_WEIGHT
        + match value {
            Value::String(text) => text.len(),
            Value::Array(items) => items.iter().map(weight).sum(),
            Value::Object(fields) => fields.iter().map(|(name, value)| name.len() + weight(value)).sum(),
            _ => 0,
        }
}

/// Those of the variables that an operation of the document has: a stream keeps no others.
fn declared(document: &ExecutableDocument, variables: &Map<String, Value>) -> Map<String, Value> {
    let operations = document.operations.iter().map(|(_, operation)| &operation.node);
    let names = operations.flat_map(|operation| &operation.variable_definitions).map(|one| one.node.name.node.as_str());
    names.filter_map(|name| variables.get_key_value(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// What must be given is; whether it is of its type is validated where it is used.
fn check_variables(operation: &OperationDefinition, params: &Params) -> Result<(), ServerError> {
    for definition in &operation.variable_definitions {
        let definition = &definition.node;
        let given = params.variables.get(definition.name.node.as_str());
        let missing = match given {
            None => definition.default_value.is_none(),
            Some(value) => value.is_null(),
        };
        if missing && !definition.var_type.node.nullable {
            let message =
                format!("the variable ${} of the type {} is not given", definition.name.node, definition.var_type.node);
            let mut error = server_error(ErrorCode::Invalid, message);
            error.locations = vec![definition.name.pos];
            return Err(error);
        }
    }
    Ok(())
}

/// One answer of a stream, as its payload.
pub(super) fn payload(response: &Response) -> Bytes {
    respond::body(response)
}
