//! What is told of a damaged Record where people look for it: its condition `Readable`, False with what is wrong, and
//! True again once it was repaired. Whole Records have none, and cost nothing.
//!
//! Every replica that sees the damage tells of it, with the same words, and none that sees it told.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;
use tokio::time::sleep;
use tracing::{debug, warn};

use super::host::{Backoff, Failure};
use super::shared::Shared;

/// The type of the condition.
pub const READABLE: &str = "Readable";
/// Characters of a message that are told at most: the host keeps it in the Record.
const MESSAGE_LIMIT: usize = 1024;
/// Pauses after a failure.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(5);

#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    conditions: Vec<Condition>,
}

#[derive(Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    #[serde(default)]
    message: String,
}

/// What a Record's `status` says is wrong with it. One that can't be read says nothing.
pub(super) fn told(status: &str) -> Option<String> {
    let status: Status = serde_json::from_str(status).ok()?;
    let condition = status.conditions.into_iter().find(|condition| condition.kind == READABLE)?;
    (condition.status == "False").then_some(condition.message)
}

/// What is wrong with a Record, as it is told.
fn message(why: &str) -> String {
    why.chars().take(MESSAGE_LIMIT).collect()
}

/// Of which Records something else is told than is known: the name, and what is wrong, if anything.
pub(super) fn untold(
    damaged: &HashMap<String, String>,
    told: &HashMap<String, String>,
) -> Vec<(String, Option<String>)> {
    let wrong = damaged.iter().map(|(name, why)| (name, message(why)));
    let wrong = wrong.filter(|(name, message)| told.get(*name) != Some(message));
    let repaired = told.keys().filter(|name| !damaged.contains_key(*name));
    let wrong = wrong.map(|(name, message)| (name.clone(), Some(message)));
    wrong.chain(repaired.map(|name| (name.clone(), None))).collect()
}

/// Tells of damage until it is aborted. That it fails hinders nothing.
pub(super) async fn tell(shared: &Shared) {
    let mut signal = shared.signal.subscribe();
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    loop {
        let untold = {
            signal.borrow_and_update();
            let published = shared.published.read();
            untold(&published.damaged, &published.told)
        };
        let mut failed = false;
        for (name, why) in untold {
            match tell_of(shared, &name, why.as_deref()).await {
                // Noted at once: the watch shows it a little later.
                Ok(()) => shared.published.write().note(&name, why),
                Err(failure) if failure.is_absence_of(&name) => debug!(record = name, "it is gone meanwhile"),
                Err(failure) => {
                    warn!(record = name, "the Record's condition {READABLE} can't be written: {failure}");
                    failed = true;
                    break;
                }
            }
        }
        if failed {
            sleep(backoff.pause(None)).await;
        } else {
            backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
            if signal.changed().await.is_err() {
                return;
            }
        }
    }
}

async fn tell_of(shared: &Shared, name: &str, why: Option<&str>) -> Result<(), Failure> {
    let now = shared.clock.now();
    // Conditions have whole seconds (metav1.Time).
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now).to_string();
    let (status, reason, message) = match why {
        Some(why) => ("False", "Damaged", why),
        None => ("True", "Repaired", "it can be read again"),
    };
    let condition = json!({
        "type": READABLE, "status": status, "reason": reason, "message": message, "lastTransitionTime": now,
    });
    let patch = json!({ "status": { "conditions": [condition] } });
    shared.host.patch_status(name, patch.to_string().into_bytes()).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(all: &[(&str, &str)]) -> HashMap<String, String> {
        all.iter().map(|(name, why)| ((*name).to_owned(), (*why).to_owned())).collect()
    }

    #[test]
    fn a_status_tells_what_is_wrong_or_nothing() {
        let of = |status: &str| json!({ "conditions": [{ "type": READABLE, "status": status, "message": "torn" }] });
        assert_eq!(told(&of("False").to_string()), Some("torn".to_owned()));
        assert_eq!(told(&of("True").to_string()), None);
        for nothing in ["{}", r#"{"conditions":[]}"#, r#"{"conditions":7}"#, "[]"] {
            assert_eq!(told(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn only_what_is_told_otherwise_is_told_anew() {
        let long = "x".repeat(MESSAGE_LIMIT * 2);
        let damaged = map(&[("a", "torn"), ("b", "odd"), ("c", "new"), ("d", &long)]);
        let told = map(&[("a", "torn"), ("b", "old"), ("d", &message(&long)), ("e", "was")]);
        let mut untold = untold(&damaged, &told);
        untold.sort();
        let owned = |name: &str, why: Option<&str>| (name.to_owned(), why.map(str::to_owned));
        assert_eq!(untold, [owned("b", Some("odd")), owned("c", Some("new")), owned("e", None)]);
    }
}
