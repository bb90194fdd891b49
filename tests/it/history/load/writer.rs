//! Who writes: one thing after the other, at random, each recorded.

use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};

use super::super::model::{Action, Key, Outcome, Read, Refusal, Write};
use super::{Asker, MARKER, is_excuse, seen};
use crate::harness::{MERGE_PATCH, Response, object, path};

/// Keys of each of the two kinds that are written.
const KEYS: u64 = 18;
/// Organizations that the images are in.
const ORGANIZATIONS: u64 = 3;

pub(super) struct Writer {
    asker: Asker,
    rng: StdRng,
    pub(super) writes: Vec<Write>,
    reads: Vec<Read>,
}

impl Writer {
    pub(super) fn new(asker: Asker, seed: u64) -> Self {
        Self { asker, rng: StdRng::seed_from_u64(seed), writes: Vec::new(), reads: Vec::new() }
    }

    pub(super) async fn run(mut self) -> (Vec<Write>, Vec<Read>) {
        let run = Arc::clone(&self.asker.run);
        let mut up = run.up(None, true).await;
        while up.is_some() {
            if self.step().await.is_err() {
                up = run.up(up, true).await;
            } else if run.phase.borrow().stopping {
                break;
            }
        }
        (self.writes, self.reads)
    }

    /// One thing that a client does, at random.
    async fn step(&mut self) -> Result<(), ()> {
        let number = self.rng.random_range(0..KEYS);
        let key = if self.rng.random_bool(0.5) {
            Key { kind: "images", name: format!("history{}.app.v{number}", number % ORGANIZATIONS).into() }
        } else {
            Key { kind: "datapacks", name: format!("history-{number}").into() }
        };
        match self.rng.random_range(0..10) {
            0..3 => self.write(key, Action::Create, None).await,
            3..6 => self.write(key, Action::Patch, None).await,
            6 => self.write(key, Action::Delete(None), None).await,
            7 => self.read(key).await.map(drop),
            8 => match self.read(key.clone()).await? {
                Some((revision, _)) => self.write(key, Action::Delete(Some(revision)), None).await,
                None => Ok(()),
            },
            _ => match self.read(key.clone()).await? {
                Some((revision, object)) => self.write(key, Action::Replace(revision), Some(object)).await,
                None => self.write(key, Action::Create, None).await,
            },
        }
    }

    async fn read(&mut self, key: Key) -> Result<Option<(u64, Value)>, ()> {
        let invoked = self.asker.enter().await;
        let at = path(key.kind, &key.name);
        let (returned, answer) = self.asker.ask(invoked, Method::GET, &at, &[], Bytes::new()).await;
        let answer = answer.map_err(drop)?;
        let object = match answer.status {
            200 => Some(answer.json()),
            404 => None,
            429 | 500.. => return if self.asker.run.again.is_some() { Err(()) } else { Ok(None) },
            _ => panic!("an answer that no test expects: {answer}"),
        };
        let found = object.as_ref().map(seen);
        self.reads.push(Read { key, invoked, returned, found });
        Ok(object.map(|o| (crate::harness::revision(&o), o)))
    }

    /// One write, recorded. An error means that there was no answer, or an excuse where that is to be asked again.
    pub(super) async fn write(&mut self, key: Key, action: Action, current: Option<Value>) -> Result<(), ()> {
        let invoked = self.asker.enter().await;
        let marker = json!({ "metadata": { "annotations": { MARKER: invoked.to_string() } } });
        let one = path(key.kind, &key.name);
        let (method, path, form, body) = match action {
            Action::Create => {
                let mut new = fresh(&key);
                new["metadata"]["annotations"] = marker["metadata"]["annotations"].clone();
                (Method::POST, path(key.kind, ""), "application/json", new)
            }
            Action::Replace(_) => {
                let mut new = current.expect("a replacement is made from what was read");
                new["metadata"]["annotations"][MARKER] = invoked.to_string().into();
                (Method::PUT, one, "application/json", new)
            }
            Action::Patch => {
                let mut patch = marker;
                if key.kind == "images" {
                    patch["spec"] = json!({ "detail": { "description": format!("written by {invoked}") } });
                }
                (Method::PATCH, one, MERGE_PATCH, patch)
            }
            Action::Delete(None) => (Method::DELETE, one, "application/json", json!({})),
            Action::Delete(Some(revision)) => {
                let options = json!({ "apiVersion": "v1", "kind": "DeleteOptions",
                    "preconditions": { "resourceVersion": revision.to_string() } });
                (Method::DELETE, one, "application/json", options)
            }
        };
        let body = if body == json!({}) { Bytes::new() } else { body.to_string().into() };
        let (returned, answer) = self.asker.ask(invoked, method, &path, &[("content-type", form)], body).await;
        let run = &self.asker.run;
        let done_with = answer.as_ref().is_ok_and(|answer| run.again.is_none() || !is_excuse(answer));
        let outcome = answer.map_or(Outcome::Unknown, |answer| outcome(action, &answer));
        if matches!(outcome, Outcome::Done(_)) {
            run.acknowledged.send_modify(|n| *n += 1);
        }
        self.writes.push(Write { id: invoked, key, action, invoked, returned, outcome });
        done_with.then_some(()).ok_or(())
    }
}

/// What a key is created as.
fn fresh(key: &Key) -> Value {
    if key.kind == "datapacks" {
        return object("DataPack", &key.name, json!({ "type": "base", "names": [] }));
    }
    let mut parts = key.name.split('.');
    let mut part = || parts.next().expect("an image's name has three parts");
    let spec = json!({ "name": format!("{}/{}:{}", part(), part(), part()), "detail": { "description": "new" } });
    object("Image", &key.name, spec)
}

fn outcome(action: Action, answer: &Response) -> Outcome {
    match (answer.status, action) {
        (200 | 202, Action::Delete(_)) => Outcome::Done(None),
        (200 | 201, _) => Outcome::Done(Some(seen(&answer.json()))),
        (404, _) => Outcome::Refused(Refusal::Missing),
        // What stands between may say it too, of what it has sent on: that is not the server's word.
        (429 | 503, _) if serde_json::from_slice::<Value>(&answer.body).is_ok() => Outcome::Refused(Refusal::Busy),
        (409, _) => Outcome::Refused(match answer.json()["reason"].as_str() {
            Some("AlreadyExists") => Refusal::Exists,
            Some("Conflict") => Refusal::Conflict,
            _ => Refusal::Other(answer.to_string()),
        }),
        (429 | 500.., _) => Outcome::Unknown,
        _ => Outcome::Refused(Refusal::Other(answer.to_string())),
    }
}
