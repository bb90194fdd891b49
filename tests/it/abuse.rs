//! What nobody should send, and somebody will: to each there is an answer that says what is wrong, or a
//! closed connection. Nothing panics, nothing is changed, memory stays in proportion, and others are served.

mod connections;
mod gateway;
mod generated;
mod names;
mod requests;

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};

use crate::harness::{Client, Response, Server, image, nameless_pack, object, path};

/// How much more memory a server may have after an attack than before, in MiB: far more than it takes, far
/// less than what the attacks would take if they were believed.
const MEMORY: u64 = 256;
/// How many faults a failure shows.
const SHOWN: usize = 40;

/// A server that is attacked: with a few objects in it, whose state is known.
struct Victim {
    server: Server,
    admin: Client,
    before: Value,
    memory: Option<u64>,
}

impl Victim {
    async fn start() -> Self {
        let server = Server::start().await;
        let admin = server.admin();
        for tag in ["v1", "v2"] {
            let detail = json!({ "description": tag, "docs": "text", "keywords": ["Database"] });
            admin.post(&path("images", ""), &image(&format!("acme/anvil:{tag}"), detail)).await.expect(201);
        }
        admin.post(&path("datapacks", ""), &nameless_pack("grid", &["acme/anvil:v1"])).await.expect(201);
        let named = object("DataPack", "known", json!({ "names": ["acme/anvil:v1", "acme/anvil:v2"] }));
        admin.post(&path("datapacks", ""), &named).await.expect(201);
        let before = state(&admin).await;
        let memory = server.memory();
        Self { server, admin, before, memory }
    }

    /// What must hold after every attack.
    async fn is_well(&self) {
        self.is_as_before().await;
        if let (Some(before), Some(now)) = (self.memory, self.server.memory()) {
            println!("memory: {before} MiB before, {now} MiB after");
            assert!(now < before + MEMORY, "{before} MiB of memory before the attack, {now} MiB after");
        }
    }

    /// The same, whatever the memory is.
    async fn is_as_before(&self) {
        let gateway = self.server.http().get("/readyz").await;
        assert_eq!(gateway.status, 200, "{gateway}");
        let nobody = self.server.anonymous();
        nobody.get(&path("images", "acme.anvil.v1")).await.expect(200);
        assert_eq!(state(&self.admin).await, self.before, "the attack has changed something");
        let log = self.server.log();
        assert!(!log.contains("panicked"), "something panicked");
    }
}

/// All objects. Without the versions of those whose computed status is announced in versions of its own, as
/// it may be long after the write that changed it.
async fn state(admin: &Client) -> Value {
    let mut all = Vec::new();
    for kind in ["images", "repositories", "organizations", "datapacks"] {
        let mut list = admin.get(&path(kind, "")).await.expect(200);
        for item in list["items"].as_array_mut().expect("a list has items") {
            if kind != "images" {
                item["metadata"]["resourceVersion"].take();
            }
        }
        all.push(list["items"].take());
    }
    all.into()
}

/// So many pieces of text, in a row.
fn lines(count: usize, of: impl Fn(usize) -> String) -> String {
    (0..count).map(of).collect()
}

/// A request that is sent as it is.
struct Bad {
    what: String,
    method: Method,
    path: String,
    headers: Vec<(String, String)>,
    body: Bytes,
}

impl Bad {
    fn new(what: impl Into<String>, method: Method, path: impl Into<String>) -> Self {
        Self { what: what.into(), method, path: path.into(), headers: Vec::new(), body: Bytes::new() }
    }

    fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    fn body(mut self, media: &str, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self.header("content-type", media)
    }

    async fn send(&self, client: &Client) -> std::io::Result<Response> {
        let headers: Vec<(&str, &str)> = self.headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        client.try_request(self.method.clone(), &self.path, &headers, self.body.clone()).await
    }
}

/// What is wrong with an answer to a request that is bad, if anything is.
fn refusal_fault(response: &Response) -> Option<String> {
    if !(400..500).contains(&response.status) {
        return Some(format!("answered {}, not 4xx", response.status));
    }
    let Ok(status) = serde_json::from_slice::<Value>(&response.body) else {
        return Some(format!("the body of a {} is no JSON", response.status));
    };
    let text = |field: &str| status[field].as_str().unwrap_or_default();
    let told = text("kind") == "Status" && !text("reason").is_empty() && !text("message").is_empty();
    let right = told && status["code"] == response.status;
    (!right).then(|| format!("the body of a {} is no Status with a reason", response.status))
}

/// What is wrong with an answer to a request that may be bad or good.
fn sanity_fault(response: &Response) -> Option<String> {
    match response.status {
        200 | 201 => None,
        // A version that is yet to come.
        504 if response.text().contains("ResourceVersionTooLarge") => None,
        _ => refusal_fault(response),
    }
}

/// Sends all of them, and fails with a list of those that were not answered as `fault` wants it.
async fn send_all(victim: &Victim, all: &[Bad], fault: impl Fn(&Response) -> Option<String>) {
    let mut faults = Vec::new();
    for bad in all {
        match bad.send(&victim.admin).await {
            Err(e) => faults.push(format!("{}: no answer: {e}", bad.what)),
            Ok(response) => {
                if let Some(fault) = fault(&response) {
                    let shown: String = response.text().chars().take(300).collect();
                    faults.push(format!("{}: {fault}: {shown}", bad.what));
                }
            }
        }
    }
    let (number, of) = (faults.len(), all.len());
    faults.truncate(SHOWN);
    assert!(faults.is_empty(), "{number} of {of} are not as they should be:\n{}", faults.join("\n"));
}
