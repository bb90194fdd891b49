//! Packs and lists over the wire.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::client::{Ask, Client, Http, request};
use crate::data::{self, Data, image_name, meta_name};
use crate::measure::{Pairs, Plan, Side, in_turns};
use crate::process::{Cores, Server};
use crate::report::{Report, Target};

pub const GROUP: &str = "/apis/imagehub.sealos.io/v1";
/// Names of the pack whose answer is 4 KB.
pub const SMALL_PACK: usize = 9;
/// Names of the pack that is posted again and again.
const POSTED: usize = 100;
/// Writes a second beside the reads.
const WRITES: u64 = 100;
/// Callers that ask for the same at once, and how many of them go away.
const CALLERS: (usize, usize) = (1000, 100);

/// A server to measure, and the bare one beside it.
pub struct Both<'a> {
    pub plan: &'a Plan,
    /// Where the data are.
    pub root: &'a Path,
    pub server: &'a Server,
    pub bare: &'a Server,
}

pub fn pack(names: &[String], grain: &str) -> Value {
    json!({
        "apiVersion": "imagehub.sealos.io/v1", "kind": "DataPack",
        "spec": { "type": grain, "names": names, "expireTime": "24h" },
    })
}

/// Names of `count` images, spread over all.
pub fn spread(images: usize, count: usize, from: usize) -> Vec<String> {
    (0..count).map(|i| image_name((from + i * (images / count)) % images)).collect()
}

impl Both<'_> {
    /// What a request costs here, against what it costs there, both asked by clients `of` one door: B divided by A is how
    /// well A does.
    pub async fn against_bare(&self, of: fn(&Server) -> Client, http: Http, ask: &Ask, bare: &Ask) -> Pairs {
        let mut ours = of(self.server).load(http, ask).await;
        let mut theirs = of(self.bare).load(http, bare).await;
        in_turns(self.plan.pairs, async |side| match side {
            Side::A => theirs.cost(self.bare, self.plan.slice).await,
            Side::B => ours.cost(self.server, self.plan.slice).await,
        })
        .await
    }

    /// Cached packs, and known specs posted again.
    pub async fn packs(&self, report: &mut Report) {
        let client = Client::new(self.server);
        let body = pack(&spread(self.plan.images, SMALL_PACK, 3), "grid");
        let made = client.json(&Ask::post(format!("{GROUP}/datapacks"), body.to_string())).await;
        let path = format!("{GROUP}/datapacks/{}", made["metadata"]["name"].as_str().expect("a name"));
        let (_, bytes) = client.ask(&Ask::get(&path)).await;
        let note = |pairs: &Pairs| {
            let (bare, ours) = pairs.means();
            format!("{} bytes, {:.1} µs a request, bare {:.1} µs", bytes.len(), ours * 1e6, bare * 1e6)
        };
        Client::new(self.bare).ask(&Ask::put("/set", bytes.clone())).await;
        for http in [Http::One, Http::Two] {
            let pairs = self.against_bare(Client::new, http, &Ask::get(&path), &Ask::get("/bytes")).await;
            let what = format!("cached DataPack GET, TLS, {}", http.name());
            report.ratio(&what, "bare axum handler", pairs.ratio(), Target::AtLeast(0.8), &note(&pairs));
        }
        self.cache_alone(report).await;
        self.logged(&path, report).await;
        self.beside_writes(&path, report).await;

        let body = pack(&spread(self.plan.images, POSTED, 7), "base").to_string();
        let post = Ask::post(format!("{GROUP}/datapacks"), body.clone());
        let (_, bytes) = client.ask(&post).await;
        Client::new(self.bare).ask(&Ask::put("/set", bytes.clone())).await;
        let pairs = self.against_bare(Client::new, Http::One, &post, &Ask::post("/bytes", body)).await;
        let (bare, ours) = pairs.means();
        let note = format!("{} bytes, {:.1} µs a request, bare {:.1} µs", bytes.len(), ours * 1e6, bare * 1e6);
        report.ratio(
            "DataPack POST of a known spec, 100 names",
            "bare axum handler",
            pairs.ratio(),
            Target::AtLeast(0.65),
            &note,
        );
    }

    /// A path and the cache and nothing else, on the bare server itself.
    async fn cache_alone(&self, report: &mut Report) {
        const CACHED: &str = "/cached/datapacks/p";
        let bare = Client::new(self.bare);
        let (_, bytes) = bare.ask(&Ask::get(CACHED)).await;
        bare.ask(&Ask::put("/set", bytes.clone())).await;
        for http in [Http::One, Http::Two] {
            let mut cached = bare.load(http, &Ask::get(CACHED)).await;
            let mut static_bytes = bare.load(http, &Ask::get("/bytes")).await;
            let pairs = in_turns(self.plan.pairs, async |side| match side {
                Side::A => static_bytes.cost(self.bare, self.plan.slice).await,
                Side::B => cached.cost(self.bare, self.plan.slice).await,
            })
            .await;
            let (theirs, ours) = pairs.means();
            let note = format!("{} bytes, {:.1} µs a request, bare {:.1} µs", bytes.len(), ours * 1e6, theirs * 1e6);
            let what = format!("the same, path and cache alone, {}", http.name());
            report.ratio(&what, "bare axum handler", pairs.ratio(), Target::AtLeast(0.9), &note);
        }
    }

    /// The same pack from a server that logs each request.
    async fn logged(&self, path: &str, report: &mut Report) {
        let small = Data::prepare(self.root, self.plan.small).await;
        let dir = self.root.join("logged");
        small.copy(&dir);
        let server = Server::start_with(&dir, Cores::First, &["--log", "info,imagehub::access=info"]).await;
        let client = Client::new(&server);
        let body = pack(&spread(self.plan.small, SMALL_PACK, 3), "grid");
        let made = client.json(&Ask::post(format!("{GROUP}/datapacks"), body.to_string())).await;
        let logged = format!("{GROUP}/datapacks/{}", made["metadata"]["name"].as_str().expect("a name"));
        server.settle().await;
        let mut with = client.load(Http::One, &Ask::get(logged)).await;
        let mut without = Client::new(self.server).load(Http::One, &Ask::get(path)).await;
        let pairs = in_turns(self.plan.pairs, async |side| match side {
            Side::A => without.cost(self.server, self.plan.slice).await,
            Side::B => with.cost(&server, self.plan.slice).await,
        })
        .await;
        let (off, on) = pairs.means();
        let note = format!("HTTP/1.1, {:.1} µs a request, without {:.1} µs", on * 1e6, off * 1e6);
        report.ratio("the same, access log on", "access log off", pairs.ratio(), Target::Reported, &note);
        server.kill();
        let _ = std::fs::remove_dir_all(dir);
    }

    /// Reads while images are written that the pack doesn't name, against reads alone. What the writes cost
    /// by themselves is measured in each turn and taken off.
    async fn beside_writes(&self, path: &str, report: &mut Report) {
        let (plan, server) = (self.plan, self.server);
        let mut load = Client::new(server).load(Http::One, &Ask::get(path)).await;
        let mut rates = Vec::new();
        let pairs = in_turns(plan.pairs, async |side| {
            if side == Side::A {
                return load.cost(server, plan.slice).await;
            }
            let writer = Writer::start(server, plan.images);
            let before = server.seconds();
            tokio::time::sleep(plan.slice).await;
            let alone = server.seconds() - before;
            let before = server.seconds();
            let requests = load.run(plan.slice).await;
            let spent = server.seconds() - before;
            writer.stop().await;
            rates.push(alone / plan.slice.as_secs_f64());
            (spent - alone).max(0.0) / requests as f64
        })
        .await;
        let share = rates.iter().sum::<f64>() / rates.len() as f64 * 100.0;
        let note = format!("the writes themselves take {share:.1} % of a core, taken off");
        report.ratio(
            "the same beside 100 writes/s to other images",
            "itself, idle",
            pairs.ratio(),
            Target::AtLeast(0.95),
            &note,
        );
    }

    /// A thousand callers miss at once.
    pub async fn misses(&self, report: &mut Report) {
        let client = Client::new(self.server);
        let names = spread(self.plan.images, POSTED, 11);
        let made = client.json(&Ask::post(format!("{GROUP}/datapacks"), pack(&names, "detail").to_string())).await;
        let path = format!("{GROUP}/datapacks/{}", made["metadata"]["name"].as_str().expect("a name"));
        // A change of one image that it names: nobody has computed the answer since. It is announced, which
        // computes it, unless the callers come first: so they are sent beside the change.
        let mut senders = Vec::new();
        for _ in 0..5 {
            senders.push(client.h2().await);
        }
        let before = self.metric("pack_cache_misses").await;
        let number = 11 % self.plan.images;
        write_image(&client, number, 77).await;
        let ask = Ask::get(&path);
        let mut callers = Vec::new();
        for i in 0..CALLERS.0 {
            let mut sender = senders[i % senders.len()].clone();
            let asked = request(&ask);
            callers.push(tokio::spawn(async move { sender.send_request(asked).await.map(|r| r.status().as_u16()) }));
        }
        for caller in callers.iter().take(CALLERS.1) {
            caller.abort();
        }
        for caller in callers.into_iter().skip(CALLERS.1) {
            assert_eq!(caller.await.expect("it is not aborted").expect("an answer"), 200);
        }
        let computed = self.metric("pack_cache_misses").await - before;
        report.figure(
            "1,000 simultaneous identical misses, 100 callers going away",
            "",
            computed,
            "computations",
            Target::AtMost(1.0),
            "",
        );
    }

    async fn metric(&self, name: &str) -> f64 {
        metric(self.server, name).await
    }

    /// The same asked of a large catalogue and of a small one.
    pub async fn lists(&self, small: &Server, report: &mut Report) {
        let cases = [
            ("list, limit=500", "images?limit=500", Http::One),
            ("selective list (10 of all)", "images?labelSelector=repository.imagehub.sealos.io%3Drepo7", Http::One),
            ("count (limit=1)", "images?limit=1", Http::One),
            (
                "count of an organization's (limit=1)",
                "images?limit=1&labelSelector=organization.imagehub.sealos.io%3Dorg3",
                Http::One,
            ),
        ];
        for (what, path, http) in cases {
            let ask = Ask::get(format!("{GROUP}/{path}"));
            let mut large = Client::new(self.server).load(http, &ask).await;
            let mut little = Client::new(small).load(http, &ask).await;
            let pairs = in_turns(self.plan.pairs, async |side| match side {
                Side::A => large.cost(self.server, self.plan.slice).await,
                Side::B => little.cost(small, self.plan.slice).await,
            })
            .await;
            let (large, little) = pairs.means();
            let note = format!("{:.0} µs, {:.0} µs", large * 1e6, little * 1e6);
            let against = format!("the same on {}", self.plan.small);
            report.ratio(what, &against, pairs.ratio(), Target::AtMost(1.2), &note);
        }
        self.watch_starts(small, report).await;
    }

    /// Watches that are begun and given up.
    async fn watch_starts(&self, small: &Server, report: &mut Report) {
        let pairs = in_turns(self.plan.pairs, async |side| {
            let server = if side == Side::A { self.server } else { small };
            let client = Client::new(server);
            let list = client.json(&Ask::get(format!("{GROUP}/images?limit=1"))).await;
            let version = list["metadata"]["resourceVersion"].as_str().expect("a version").to_owned();
            let ask = Ask::get(format!("{GROUP}/images?watch=true&resourceVersion={version}&timeoutSeconds=60"));
            let mut sender = client.h2().await;
            let (before, until) = (server.seconds(), Instant::now() + self.plan.slice);
            let mut count = 0_u32;
            while Instant::now() < until {
                sender.ready().await.expect("the connection is there");
                let response = sender.send_request(request(&ask)).await.expect("a watch begins");
                assert_eq!(response.status(), 200);
                count += 1;
            }
            (server.seconds() - before) / f64::from(count)
        })
        .await;
        let (large, little) = pairs.means();
        let note = format!("{:.0} µs, {:.0} µs", large * 1e6, little * 1e6);
        let against = format!("the same on {}", self.plan.small);
        report.ratio("a watch begun and ended", &against, pairs.ratio(), Target::Reported, &note);
    }
}

/// A counter or gauge of the gateway's metrics.
pub async fn metric(server: &Server, name: &str) -> f64 {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(server.http).await.expect("the gateway listens");
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.expect("it reads");
    let mut text = String::new();
    stream.read_to_string(&mut text).await.expect("it answers");
    let value = text.lines().find_map(|line| {
        let rest = line.strip_prefix("imagehub_")?.strip_prefix(name)?;
        rest.strip_prefix("_total").unwrap_or(rest).strip_prefix(' ')?.trim().parse().ok()
    });
    value.unwrap_or_else(|| panic!("no metric {name} in {text}"))
}

/// Overwrites image `number`.
pub async fn write_image(client: &Client, number: usize, edition: usize) {
    overwrite(&client.h2().await, number, edition).await;
}

/// Overwrites images, [`WRITES`] a second, until it is stopped.
struct Writer {
    task: tokio::task::JoinHandle<()>,
    stop: CancellationToken,
}

impl Writer {
    fn start(server: &Server, images: usize) -> Self {
        let client = Client::new(server);
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let sender = Arc::new(client.h2().await);
            let mut tick = tokio::time::interval(Duration::from_nanos(1_000_000_000 / WRITES));
            let mut at = 1;
            while !stopped.is_cancelled() {
                tick.tick().await;
                at = (at + 7919) % images;
                overwrite(&sender, at, at % 200).await;
            }
        });
        Self { task, stop }
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.expect("the writer does not panic");
    }
}

/// Overwrites image `number` over a connection that is there.
pub async fn overwrite(
    sender: &hyper::client::conn::http2::SendRequest<http_body_util::Full<Bytes>>,
    number: usize,
    edition: usize,
) {
    let path = format!("{GROUP}/images/{}", meta_name(&image_name(number)));
    let ask = Ask::patch(path, json!({ "spec": data::image_spec(number, edition) }).to_string());
    let response = sender.clone().send_request(request(&ask)).await.expect("an answer");
    assert!(response.status().is_success(), "{}", response.status());
    let _ = http_body_util::BodyExt::collect(response.into_body()).await;
}
