//! Many images at once: clean ones as JSON or a line each, or the manifests that kubectl takes. Each has its own result;
//! one that is refused doesn't hold up the others.

use std::collections::HashSet;
use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use futures::StreamExt as _;
use http::StatusCode;
use serde_json::Value;

use super::answers::{Applied as Shown, AppliedMany};
use super::input::{self, Form};
use super::problem::{Problem, ProblemItem};
use super::serve::Call;
use super::{read, respond, serve};
use crate::api::decode::{Reading, read_object};
use crate::api::{FieldValidation, Kind, Spec};
use crate::error::Error;
use crate::gateway::{Applied, Outcome, Plan, Tally, View, Writing};
use crate::graph::Record;
use crate::model::{ErrorCode, Fault, ImageChange, faults, image_changes};

/// The most images of one request.
pub const APPLIED_ITEMS: usize = 1000;
/// How many of them are written at a time: commits that wait together are made together.
const AT_A_TIME: usize = 16;

/// What is to become of one image.
struct Item {
    name: Option<String>,
    wanted: Result<Wanted, Vec<Fault>>,
    warnings: Vec<String>,
}

struct Wanted {
    change: ImageChange,
    /// The version that it must be at; "0": it must not exist.
    version: Option<String>,
}

/// Makes or changes the images of a body.
pub(super) async fn answer(call: &Call, body: Body) -> Result<Response, Problem> {
    let form = input::form(&call.headers, &[Form::Json, Form::NdJson, Form::Yaml])?;
    let bytes = serve::body(call, body, Some(Kind::Image)).await?;
    let values = match form {
        Form::Json | Form::MergePatch => items(input::json(&bytes)?),
        Form::NdJson => {
            let lines = || bytes.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
            few(lines().count())?;
            lines().map(input::json).collect::<Result<_, _>>()?
        }
        Form::Yaml => {
            let documents = documents(&bytes);
            few(documents.len())?;
            let documents = documents.into_iter().map(input::yaml).collect::<Result<Vec<_>, _>>()?;
            documents.into_iter().filter(|document| !document.is_null()).flat_map(items).collect()
        }
    };
    // An empty list says so; a body with nothing in it is what a command that failed leaves.
    if values.is_empty() && form != Form::Json {
        return Err(Problem::unreadable("there is no image in the body"));
    }
    few(values.len())?;
    let mut named = HashSet::new();
    let items: Vec<Item> = values.into_iter().map(|value| item(value, &mut named)).collect();
    let (writing, dry_run) = (call.writing(), call.dry_run());
    let work: Vec<_> = items
        .iter()
        .map(|item| async move {
            match &item.wanted {
                Ok(wanted) => Box::pin(apply(&writing, wanted, dry_run)).await.map_err(|error| {
                    if let Error::Internal(cause) = &error {
                        tracing::error!(%cause, "an image can't be applied");
                    }
                    told(&error)
                }),
                Err(faults) => Err(faults.clone()),
            }
        })
        .collect();
    let done: Vec<_> = futures::stream::iter(work).buffered(AT_A_TIME).collect().await;
    Ok(results(&writing, items, done, dry_run))
}

fn few(images: usize) -> Result<(), Problem> {
    if images <= APPLIED_ITEMS {
        return Ok(());
    }
    let detail = format!("{images} images are given; {APPLIED_ITEMS} is the most at a time (limit: images)");
    Err(Problem::limit(detail))
}

fn told(error: &Error) -> Vec<Fault> {
    match error {
        Error::Conflict { message, .. } if !message.is_empty() => {
            vec![Fault::new(ErrorCode::Conflict, message.clone())]
        }
        other => faults(other),
    }
}

fn results(writing: &Writing<'_>, items: Vec<Item>, done: Vec<Result<Applied, Vec<Fault>>>, dry_run: bool) -> Response {
    let view = writing.view();
    let mut tally = Tally::default();
    let mut results = Vec::with_capacity(items.len());
    for (item, done) in items.into_iter().zip(done) {
        let Item { name, warnings, .. } = item;
        results.push(match done {
            Ok(applied) => {
                let outcome = tally.add(view.visible(), name.as_deref().unwrap_or_default(), &applied, dry_run);
                let version = (!dry_run || outcome == Outcome::Unchanged).then(|| applied.after.revision.to_string());
                let changes = image_changes(applied.before.as_deref(), Some(&applied.after));
                let changes = changes.into_iter().map(Into::into).collect();
                Shown { name, outcome, version, changes, warnings, errors: Vec::new() }
            }
            Err(faults) => {
                let errors = faults.into_iter().map(ProblemItem::in_body).collect();
                Shown { name, outcome: Outcome::Refused, version: None, changes: Vec::new(), warnings, errors }
            }
        });
    }
    let revision = tally.revision(writing);
    let many = AppliedMany {
        results,
        affected_data_packs: tally.packs(),
        revision: revision.map(|revision| revision.to_string()),
    };
    respond::written(StatusCode::OK, read::json(&many), None, revision.unwrap_or_else(|| view.visible().revision()))
}

async fn apply(writing: &Writing<'_>, wanted: &Wanted, dry_run: bool) -> Result<Applied, Error> {
    let Wanted { change, version } = wanted;
    let expects = |_: &View, there: Option<&Record>| {
        let there = there.map_or_else(|| "0".to_owned(), |record| record.revision.to_string());
        version.as_ref().is_none_or(|version| *version == there)
    };
    let spec = || Spec::Image(change.to_spec());
    let plan = Plan {
        kind: Kind::Image,
        name: change.name.meta_name(),
        find: &|visible| visible.image(change.name.as_str()).map(Arc::clone),
        expects: if version.is_some() { Some(&expects) } else { None },
        patch: &|before| change.to_patch(before),
        create: Some(&spec),
        dry_run,
    };
    writing.put(&plan).await
}

/// The documents of a YAML stream. A line that begins with `---` or `...` ends one wherever it stands: the specification
/// lets neither be part of a scalar.
fn documents(bytes: &[u8]) -> Vec<&[u8]> {
    let mark = |line: &[u8], mark: &[u8]| {
        line.strip_prefix(mark).is_some_and(|rest| rest.first().is_none_or(u8::is_ascii_whitespace))
    };
    let (mut all, mut start, mut at) = (Vec::new(), 0, 0);
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let ends = mark(line, b"---") || mark(line, b"...");
        if ends {
            all.push(&bytes[start..at]);
            // What stands behind `---` in its line belongs to the document.
            start = at + 3;
        }
        at += line.len();
    }
    all.push(&bytes[start..]);
    let empty = |document: &&[u8]| {
        let mut lines = document.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        !lines.all(|line| line.is_empty() || line.starts_with(b"#"))
    };
    all.into_iter().filter(empty).collect()
}

/// The images of a value: a list of them, one of kube's lists, or one.
fn items(value: Value) -> Vec<Value> {
    match value {
        Value::Array(all) => all,
        Value::Object(mut fields) if !fields.contains_key("spec") && !fields.contains_key("name") => {
            match fields.remove("items") {
                Some(Value::Array(all)) => all,
                Some(other) => vec![other],
                None => vec![Value::Object(fields)],
            }
        }
        other => vec![other],
    }
}

fn item(value: Value, named: &mut HashSet<String>) -> Item {
    let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let manifest = value.get("kind").is_some() || value.get("apiVersion").is_some();
    let name = text(if manifest { "/spec/name" } else { "/name" });
    let mut warnings = Vec::new();
    let mut wanted = if manifest {
        of_manifest(value, &mut warnings)
    } else {
        input::named_image(value).map(|(change, version)| Wanted { change, version })
    };
    if let Some(name) = &name
        && !named.insert(name.clone())
    {
        wanted = Err(vec![Fault::new(ErrorCode::Invalid, "this image is given twice").at(["name"])]);
    }
    Item { name, wanted, warnings }
}

/// What a manifest says: as `kubectl apply` has it, what it leaves out stays.
fn of_manifest(value: Value, warnings: &mut Vec<String>) -> Result<Wanted, Vec<Fault>> {
    let kind = value.get("kind").and_then(Value::as_str).unwrap_or_default();
    if kind != Kind::Image.name() {
        let shown: String = kind.chars().take(64).collect();
        let message = format!("it is of the kind {shown:?}; images are taken here, of the kind Image");
        return Err(vec![Fault::new(ErrorCode::Invalid, message).at(["kind"])]);
    }
    let reading = Reading { validation: FieldValidation::Warn, ..Reading::default() };
    let decoded = read_object(Kind::Image, value, reading).map_err(|error| faults(&error))?;
    warnings.extend(decoded.warnings);
    let Spec::Image(spec) = decoded.object.spec else {
        return Err(vec![Fault::new(ErrorCode::Invalid, "it is no image")]);
    };
    let name = input::image_name(&spec.name).map_err(|fault| vec![fault])?;
    Ok(Wanted { change: ImageChange::of_spec(name, spec), version: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_cut_at_its_marks_and_nowhere_else() {
        let text = b"# first\n---\na: |\n  x\n  ---\n--- # c\nb: 1\n...\n---\n--- {c: 2}\n---text\n";
        let shown: Vec<_> = documents(text).into_iter().map(|one| String::from_utf8_lossy(one).into_owned()).collect();
        assert_eq!(shown, ["\na: |\n  x\n  ---\n", " # c\nb: 1\n", " {c: 2}\n---text\n"]);
    }

    #[test]
    fn lists_of_kube_and_plain_ones_are_their_items() {
        let of = |text: &str| items(serde_json::from_str(text).unwrap()).len();
        assert_eq!(of(r#"[{"name":"a"},{"name":"b"}]"#), 2);
        assert_eq!(of(r#"{"kind":"ImageList","items":[1,2,3]}"#), 3);
        assert_eq!(of(r#"{"items":[1]}"#), 1);
        assert_eq!(of(r#"{"name":"a","items":[1,2]}"#), 1);
        assert_eq!(of("{}"), 1);
    }
}
