//! The doors that are not kube's under attack, while others ask them what is small. An attack is answered with the name of
//! the limit that it is over; it takes no more memory than that limit lets it, and keeps nobody waiting.

mod bodies;
mod documents;
mod sockets;
mod work;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt as _;
use http::Method;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::Victim;
use crate::harness::{Client, Response, within};

/// How long others wait for an answer at most while an attack goes on. Without one it is a millisecond or two. An attack
/// may take the processors, of which a machine that tests has two, with other tests on them; what it may not do is to make
/// others wait for it: whatever the server waits for (a turn, a body, a header, a message) it waits for longer than this.
const OTHERS: Duration = Duration::from_secs(4);
/// How much more memory the server may have at any moment of an attack that its limits let have nothing, in MiB: what is
/// read and parsed at a time, the kept answers (128 MiB), and what the allocator has not given back.
const NOTHING: u64 = 256;
/// The largest refusal, in bytes: whoever attacks is told what is wrong, not sent what it has sent.
const REFUSAL: usize = 64 * 1024;
/// How often the others open a new connection: a port that was used for one rests for a minute.
const NEW_EVERY: u64 = 16;
/// How many requests of a flood are under way at a time.
const AT_A_TIME: usize = 32;

const IMAGE: &str = "/api/v1/images/acme/anvil/v1";
const GRAPHQL_RESPONSE: &str = "application/graphql-response+json";

/// Those who ask for little while somebody attacks: GraphQL by POST and REST by GET, over a connection that is kept and
/// over new ones, without a pause.
struct Others {
    before: Option<u64>,
    rounds: watch::Receiver<u64>,
    over: Arc<AtomicBool>,
    asking: JoinHandle<Duration>,
}

impl Others {
    fn begin(victim: &Victim) -> Self {
        victim.server.forget_peak();
        let before = victim.server.memory();
        let address = victim.server.http_address();
        let (tell, rounds) = watch::channel(0);
        let over = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&over);
        let asking = tokio::spawn(async move {
            let kept = Client::plain(&address);
            let mut slowest = Duration::ZERO;
            while !until.load(Ordering::Relaxed) {
                let round = *tell.borrow();
                let client = if round % NEW_EVERY == 0 { Client::plain(&address) } else { kept.clone() };
                // Another each time: an answer that is kept would tell nothing of the others' turns.
                let query = format!("{{ a{round}: image(name: \"acme/anvil:v1\") {{ tag }} }}");
                let began = Instant::now();
                let answer = client.post("/graphql", &json!({ "query": query })).await.ok();
                slowest = slowest.max(began.elapsed());
                assert_eq!(answer["data"][format!("a{round}")]["tag"], "v1", "{answer}");
                let began = Instant::now();
                let answer = client.get(IMAGE).await.ok();
                slowest = slowest.max(began.elapsed());
                assert_eq!(answer["tag"], "v1", "{answer}");
                tell.send_replace(round + 1);
            }
            slowest
        });
        Self { before, rounds, over, asking }
    }

    /// Waits until they have asked so often from now on.
    async fn go_on(&mut self, rounds: u64) {
        let wanted = *self.rounds.borrow() + 1 + rounds;
        within("the others' answers", self.rounds.wait_for(|done| *done >= wanted)).await.expect("they are answered");
    }

    /// What must hold when the attack is over: nobody waited for long, and the server has not had more than `memory` MiB
    /// more than before.
    async fn end(mut self, victim: &Victim, memory: u64) {
        self.go_on(2).await;
        self.over.store(true, Ordering::Relaxed);
        let slowest = within("the others' end", self.asking).await.expect("all were answered");
        let rounds = *self.rounds.borrow();
        println!("others: {rounds} rounds, the slowest answer after {slowest:?}");
        if let (Some(before), Some(peak)) = (self.before, victim.server.peak_memory()) {
            println!("memory: {before} MiB before, {peak} MiB at most, {memory} more are allowed");
            assert!(peak < before + memory, "{before} MiB of memory before the attack, {peak} MiB in it");
        }
        assert!(slowest < OTHERS, "somebody waited for {slowest:?}; {OTHERS:?} is allowed");
    }
}

/// A request of GraphQL, as it is sent.
struct Sent {
    what: String,
    body: Bytes,
    /// The code that its refusal has, and what its sentence says.
    refusal: (&'static str, String),
}

impl Sent {
    /// A document that is over a limit.
    fn over(limit: &str, what: &str, document: impl Into<String>) -> Self {
        Self::refused(what, &json!({ "query": document.into() }), "LIMIT_EXCEEDED", format!("(limit: {limit})"))
    }

    fn refused(what: &str, body: &Value, code: &'static str, says: impl Into<String>) -> Self {
        Self { what: what.to_owned(), body: body.to_string().into(), refusal: (code, says.into()) }
    }

    async fn send(&self, client: &Client) -> Result<(), String> {
        let headers = [("content-type", "application/json"), ("accept", GRAPHQL_RESPONSE)];
        let answer = client.try_request(Method::POST, "/graphql", &headers, self.body.clone()).await;
        let answer = answer.map_err(|error| format!("{}: no answer: {error}", self.what))?;
        self.judge(&answer).map_err(|why| format!("{}: {why}: {}", self.what, cut(&answer.text())))
    }

    /// What is wrong with an answer, if anything is.
    fn judge(&self, answer: &Response) -> Result<(), String> {
        if answer.body.len() > REFUSAL {
            return Err(format!("the refusal has {} bytes", answer.body.len()));
        }
        let body: Value = serde_json::from_slice(&answer.body).map_err(|_| "it is no JSON".to_owned())?;
        let error = &body["errors"][0];
        // What is found out while it is executed has a place in the answer.
        let executed = answer.status == 200 && error["path"].is_array();
        if !executed && !(400..500).contains(&answer.status) {
            return Err(format!("answered {}, not 4xx", answer.status));
        }
        let (code, says) = &self.refusal;
        let told = error["message"].as_str().unwrap_or_default();
        if error["extensions"]["code"] != *code || !told.contains(says.as_str()) {
            return Err(format!("it should say {code} and {says:?}"));
        }
        Ok(())
    }
}

fn cut(text: &str) -> String {
    text.chars().take(300).collect()
}

/// Sends each of them so often, many at a time, and fails with a list of those that were not answered as they should be.
async fn flood(victim: &Victim, all: &[Sent], times: usize) {
    let client = victim.server.http();
    let each = all.iter().flat_map(|sent| std::iter::repeat_n(sent, times));
    let answers = futures::stream::iter(each.map(|sent| sent.send(&client))).buffer_unordered(AT_A_TIME);
    let faults: Vec<String> = answers.filter_map(|answer| std::future::ready(answer.err())).collect().await;
    let shown = faults.iter().take(super::SHOWN).cloned().collect::<Vec<_>>().join("\n");
    assert!(faults.is_empty(), "{} of {} are not as they should be:\n{shown}", faults.len(), all.len() * times);
}

/// So many pieces of text with a space between them.
fn repeated(count: usize, of: impl Fn(usize) -> String) -> String {
    (0..count).map(of).collect::<Vec<_>>().join(" ")
}
