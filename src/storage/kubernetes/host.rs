//! Requests to the host's API, and what their failures say: whether anything may have been done.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt as _, Limited};
use kube::client::Body;
use serde::Deserialize;

use super::crd::{CRD_NAME, CRD_PATH, PATH};
use crate::error::causes;
use crate::storage::Revision;

/// How long one request may take.
const REQUEST_TIME: Duration = Duration::from_secs(10);
/// How long a page of a list may take.
const PAGE_TIME: Duration = Duration::from_mins(1);
/// Bytes of one answer that are read at most. A page that is larger is asked for again with fewer items.
const ANSWER_LIMIT: usize = 64 << 20;
/// How long the host is asked to keep a watch open, in seconds. Then it ends, and another begins where it came to.
const WATCH_SECONDS: u32 = 290;
/// What we are called in `managedFields`.
const MANAGER: &str = "imagehub";

/// The host's API.
pub(super) struct Host(pub kube::Client);

/// Why there is no answer, or no good one.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum Failure {
    /// Nothing was sent.
    #[error("{0}")]
    NotSent(String),
    /// Something was sent, and no whole answer came.
    #[error("{0}")]
    Lost(String),
    /// The answer is too large to be read.
    #[error("the answer has more than {ANSWER_LIMIT} bytes")]
    TooLarge,
    /// An answer that is no success.
    #[error("{code} {}", .status.message)]
    Answer { code: u16, status: Status, retry_after: Option<Duration> },
}

/// What we read of a `metav1.Status`.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Status {
    #[serde(default)]
    pub code: u16,
    #[serde(default)]
    pub message: String,
    #[serde(default)]
    pub details: Option<Details>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Details {
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    retry_after_seconds: u64,
}

/// What a failed write has come to.
#[derive(Debug)]
pub(super) enum Fate {
    /// The object is not as the write expected it.
    Unexpected,
    /// Nothing was done, and it may go better after this time, or soon.
    Later(Option<Duration>),
    /// Nothing was done, and trying again doesn't help.
    Refused,
    /// It may have been done.
    Unknown,
}

impl Failure {
    /// What has come of a write to the object `name` that failed so.
    pub(super) fn fate(&self, name: &str) -> Fate {
        match self {
            Self::Answer { code: 409, .. } => Fate::Unexpected,
            Self::Answer { code: 404, .. } if self.is_absence_of(name) => Fate::Unexpected,
            // Of the second: the kind isn't served, not installed yet, or the host is starting.
            Self::NotSent(_) | Self::Answer { code: 404, .. } => Fate::Later(None),
            Self::Answer { code: 429, retry_after, .. } => Fate::Later(*retry_after),
            Self::Answer { code: 400..=499, .. } => Fate::Refused,
            Self::Lost(_) | Self::TooLarge | Self::Answer { .. } => Fate::Unknown,
        }
    }

    /// Whether it says that there is no object of this name, and not that there is no such kind.
    pub(super) fn is_absence_of(&self, name: &str) -> bool {
        matches!(self, Self::Answer { code: 404, status: Status { details: Some(details), .. }, .. } if details.name == name)
    }

    /// Whether what was asked for is no longer kept.
    pub(super) fn is_gone(&self) -> bool {
        matches!(self, Self::Answer { code: 410, .. })
    }
}

fn not_answered(error: &kube::Error) -> Failure {
    let text = causes(error);
    let nothing_sent = match error {
        kube::Error::Service(error) => error
            .downcast_ref::<hyper_util::client::legacy::Error>()
            .is_some_and(hyper_util::client::legacy::Error::is_connect),
        kube::Error::Auth(_) => true,
        _ => false,
    };
    if nothing_sent { Failure::NotSent(text) } else { Failure::Lost(text) }
}

/// Reads an answer: its body if it is a success.
async fn read(answer: Response<Body>) -> Result<Bytes, Failure> {
    let (code, headers) = (answer.status(), answer.headers().clone());
    let body = match Limited::new(answer.into_body(), ANSWER_LIMIT).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => return Err(Failure::TooLarge),
        Err(error) => return Err(Failure::Lost(format!("half an answer: {}", causes(&*error)))),
    };
    if code.is_success() {
        return Ok(body);
    }
    let status = serde_json::from_slice(&body).unwrap_or_else(|_| {
        let message = String::from_utf8_lossy(&body[..body.len().min(512)]).trim().to_owned();
        Status { message, ..Status::default() }
    });
    let header = headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let said = status.details.as_ref().map(|details| details.retry_after_seconds).filter(|seconds| *seconds > 0);
    let retry_after = header.or(said).map(Duration::from_secs);
    Err(Failure::Answer { code: code.as_u16(), status, retry_after })
}

impl Host {
    async fn send(&self, method: Method, path: &str, body: Vec<u8>) -> Result<Response<Body>, Failure> {
        let form = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::ACCEPT, "application/json")
            .header(header::CONTENT_TYPE, form)
            .body(Body::from(body))
            .map_err(|error| Failure::NotSent(error.to_string()))?;
        self.0.send(request).await.map_err(|error| not_answered(&error))
    }

    async fn ask(&self, time: Duration, method: Method, path: &str, body: Vec<u8>) -> Result<Bytes, Failure> {
        let asked = async { read(self.send(method, path, body).await?).await };
        let late = |_| Err(Failure::Lost(format!("no answer within {time:?}")));
        tokio::time::timeout(time, asked).await.unwrap_or_else(late)
    }

    /// The Record `name` now: a quorum read, since it asks for no version.
    pub(super) async fn get(&self, name: &str) -> Result<Option<Bytes>, Failure> {
        match self.ask(REQUEST_TIME, Method::GET, &format!("{PATH}/{name}"), Vec::new()).await {
            Ok(body) => Ok(Some(body)),
            Err(failure) if failure.is_absence_of(name) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Creates a Record.
    pub(super) async fn create(&self, body: Vec<u8>) -> Result<Bytes, Failure> {
        self.ask(REQUEST_TIME, Method::POST, &format!("{PATH}?fieldManager={MANAGER}"), body).await
    }

    /// Replaces the Record `name`, at the version that `body` says.
    pub(super) async fn replace(&self, name: &str, body: Vec<u8>) -> Result<Bytes, Failure> {
        self.ask(REQUEST_TIME, Method::PUT, &format!("{PATH}/{name}?fieldManager={MANAGER}"), body).await
    }

    /// Merges `patch` into the status of the Record `name`.
    pub(super) async fn patch_status(&self, name: &str, patch: Vec<u8>) -> Result<Bytes, Failure> {
        let path = format!("{PATH}/{name}/status?fieldManager={MANAGER}");
        self.ask(REQUEST_TIME, Method::PATCH, &path, patch).await
    }

    /// Deletes the Record `name` if it is at `at` and, where that is known, has the uid.
    pub(super) async fn delete(&self, name: &str, at: Revision, uid: Option<&str>) -> Result<Bytes, Failure> {
        let mut preconditions = serde_json::json!({ "resourceVersion": at.to_string() });
        if let Some(uid) = uid {
            preconditions["uid"] = uid.into();
        }
        let options =
            serde_json::json!({ "apiVersion": "v1", "kind": "DeleteOptions", "preconditions": preconditions });
        self.ask(REQUEST_TIME, Method::DELETE, &format!("{PATH}/{name}"), options.to_string().into_bytes()).await
    }

    /// One page of all Records.
    pub(super) async fn page(&self, limit: usize, token: &str) -> Result<Bytes, Failure> {
        let token = encode(token);
        let path = format!("{PATH}?limit={limit}&continue={token}");
        let path = if token.is_empty() { format!("{PATH}?limit={limit}") } else { path };
        self.ask(PAGE_TIME, Method::GET, &path, Vec::new()).await
    }

    /// Begins to watch after `after`. The answer's body has an event a line.
    pub(super) async fn watch(&self, after: Revision) -> Result<Response<Body>, Failure> {
        let path = format!(
            "{PATH}?watch=true&allowWatchBookmarks=true&resourceVersion={after}&timeoutSeconds={WATCH_SECONDS}"
        );
        let begun = async {
            let answer = self.send(Method::GET, &path, Vec::new()).await?;
            if answer.status().is_success() {
                Ok(answer)
            } else {
                Err(read(answer).await.err().unwrap_or(Failure::TooLarge))
            }
        };
        let late = |_| Err(Failure::Lost(format!("no watch within {REQUEST_TIME:?}")));
        tokio::time::timeout(REQUEST_TIME, begun).await.unwrap_or_else(late)
    }

    /// The definition of Records.
    pub(super) async fn definition(&self) -> Result<Bytes, Failure> {
        self.ask(REQUEST_TIME, Method::GET, &format!("{CRD_PATH}/{CRD_NAME}"), Vec::new()).await
    }
}

/// A token as it is written in a query.
fn encode(token: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(token.len());
    for byte in token.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a String does not fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// Pauses that double, up to a longest one. Half of each is random, so that replicas don't ask in step.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
    longest: Duration,
}

impl Backoff {
    pub(super) fn new(first: Duration, longest: Duration) -> Self {
        Self { next: first, longest }
    }

    /// How long to pause now: at least `least`, as the host may have asked for.
    pub(super) fn pause(&mut self, least: Option<Duration>) -> Duration {
        let pause = self.next.mul_f64(rand::random_range(0.5..=1.0));
        self.next = (self.next * 2).min(self.longest);
        pause.max(least.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(code: u16, name: &str) -> Failure {
        let details = Some(Details { name: name.to_owned(), retry_after_seconds: 0 });
        Failure::Answer { code, status: Status { details, ..Status::default() }, retry_after: None }
    }

    #[test]
    fn only_what_surely_was_not_done_counts_as_not_done() {
        assert!(matches!(Failure::NotSent(String::new()).fate("a"), Fate::Later(None)));
        assert!(matches!(Failure::Lost(String::new()).fate("a"), Fate::Unknown));
        assert!(matches!(answer(404, "a").fate("a"), Fate::Unexpected));
        assert!(matches!(answer(404, "").fate("a"), Fate::Later(None)), "the kind isn't there, the object may be");
        for (code, refused) in [(400, true), (401, true), (403, true), (413, true), (422, true), (500, false)] {
            assert_eq!(matches!(answer(code, "a").fate("a"), Fate::Refused), refused, "{code}");
        }
        for code in [500, 502, 503, 504] {
            assert!(matches!(answer(code, "a").fate("a"), Fate::Unknown), "{code}");
        }
    }

    #[test]
    fn pauses_double_up_to_the_longest_and_are_as_long_as_the_host_asks() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(400));
        for most in [100, 200, 400, 400] {
            let pause = backoff.pause(None).as_millis();
            assert!((most / 2..=most).contains(&pause), "{pause} of {most}");
        }
        assert_eq!(backoff.pause(Some(Duration::from_secs(3))), Duration::from_secs(3));
    }

    #[test]
    fn a_token_is_encoded_whatever_is_in_it() {
        assert_eq!(encode("aZ0-_.~ +/=&"), "aZ0-_.~%20%2B%2F%3D%26");
    }
}
