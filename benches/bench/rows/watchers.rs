//! Ten thousand watchers of one kind.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::client::{Ask, Client, STREAMS, request};
use crate::data::{image_name, meta_name};
use crate::measure::{Side, in_turns};
use crate::process::Server;
use crate::report::{Report, Target};
use crate::rows::reads::{Both, GROUP, write_image};

/// Events of one measurement.
const EVENTS: usize = 3;

/// Open streams, of which each tells what it gets.
struct Streams {
    tasks: JoinSet<()>,
    count: usize,
    got: Arc<AtomicUsize>,
    more: Arc<Notify>,
    one: Bytes,
}

impl Streams {
    async fn open(server: &Server, path: &str, count: usize) -> Self {
        let client = Client::new(server);
        let (got, more) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let mut streams = Self { tasks: JoinSet::new(), count, got, more, one: Bytes::new() };
        for _ in 0..count.div_ceil(STREAMS) {
            let sender = client.h2().await;
            let opened = (0..STREAMS.min(count - streams.tasks.len())).map(|_| {
                let mut sender = sender.clone();
                let ask = request(&Ask::get(path));
                async move { sender.send_request(ask).await.expect("a stream").into_body() }
            });
            for mut body in futures::future::join_all(opened).await {
                let (got, more) = (Arc::clone(&streams.got), Arc::clone(&streams.more));
                let sender = sender.clone();
                streams.tasks.spawn(async move {
                    // The connection lives as long as its streams.
                    let _sender = sender;
                    while let Some(Ok(frame)) = body.frame().await {
                        let Some(data) = frame.data_ref() else { continue };
                        // Events are lines; a frame may be a part of one.
                        let lines = data.split(|byte| *byte == b'\n').count() - 1;
                        if lines > 0 {
                            got.fetch_add(lines, Ordering::Relaxed);
                            more.notify_one();
                        }
                    }
                });
            }
        }
        streams
    }

    /// Waits until every stream has got `each`, and forgets them.
    async fn got(&self, each: usize) {
        let done = async {
            while self.got.load(Ordering::Relaxed) < each * self.count {
                self.more.notified().await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_mins(2), done).await;
        assert!(waited.is_ok(), "{} of {} arrived", self.got.load(Ordering::Relaxed), each * self.count);
        self.got.store(0, Ordering::Relaxed);
    }
}

impl Both<'_> {
    /// One event to all watchers, against the same bytes to as many bare streams.
    pub async fn watchers(&self, report: &mut Report) {
        let (plan, server, bare) = (self.plan, self.server, self.bare);
        let count = plan.watchers;
        let client = Client::new(server);
        let number = plan.images / 2;
        // Organizations: their events come alone. The one that is changed has a label for it.
        let path = format!("{GROUP}/images?watch=true&resourceVersion={}&timeoutSeconds=3600", newest(&client).await);
        server.settle().await;
        let before = server.resident();
        let watchers = Streams::open(server, &path, count).await;
        server.settle().await;
        let ours = (server.resident() - before) / count as f64;
        let before = bare.resident();
        let mut streams = Streams::open(bare, "/stream", count).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let theirs = (bare.resident() - before) / count as f64;

        let (_, object) = client.ask(&Ask::get(format!("{GROUP}/images/{}", meta_name(&image_name(number))))).await;
        streams.one = [br#"{"type":"MODIFIED","object":"#, object.as_ref(), b"}\n"].concat().into();
        let bare_client = Client::new(bare);
        let mut edition = 0;
        let pairs = in_turns(plan.pairs, async |side| {
            let measured = if side == Side::A { bare } else { server };
            let before = measured.seconds();
            for _ in 0..EVENTS {
                if side == Side::A {
                    bare_client.ask(&Ask::post("/stream", streams.one.clone())).await;
                    streams.got(1).await;
                } else {
                    edition = edition % 200 + 1;
                    write_image(&client, number, edition).await;
                    watchers.got(1).await;
                }
            }
            (measured.seconds() - before) / EVENTS as f64
        })
        .await;
        let (theirs_cost, ours_cost) = pairs.means();
        let note = format!(
            "HTTP/2, {:.1} µs a watcher, bare {:.1} µs",
            ours_cost * 1e6 / count as f64,
            theirs_cost * 1e6 / count as f64
        );
        let what = format!("{count} watchers of a kind, 1 event");
        report.ratio(&what, "bare streams of the same bytes", pairs.ratio(), Target::AtLeast(0.8), &note);
        let note = format!("{:.1} KiB, bare {:.1} KiB", ours / 1024.0, theirs / 1024.0);
        report.figure(
            "more memory a watcher",
            "a bare stream",
            (ours - theirs) / 1024.0,
            "KiB",
            Target::AtMost(8.0),
            &note,
        );

        drop(streams);
        self.others(&client, &watchers, &path, report).await;
    }

    /// What watchers of other names add to an event.
    async fn others(&self, client: &Client, watchers: &Streams, path: &str, report: &mut Report) {
        let (plan, server) = (self.plan, self.server);
        let number = plan.images / 2;
        let mut edition = 0;
        let mut pairs = Vec::new();
        for _ in 0..plan.pairs.min(5) {
            let mut cost = async || {
                let before = server.seconds();
                for _ in 0..EVENTS {
                    edition = edition % 200 + 1;
                    write_image(client, number, edition).await;
                    watchers.got(1).await;
                }
                tokio::time::sleep(Duration::from_millis(300)).await;
                (server.seconds() - before) / EVENTS as f64
            };
            let alone = cost().await;
            let other = format!("{path}&fieldSelector=metadata.name%3D{}", meta_name(&image_name(1)));
            let others = Streams::open(server, &other, watchers.count).await;
            server.settle().await;
            let with = cost().await;
            drop(others);
            server.settle().await;
            pairs.push(with / alone);
        }
        let what = format!("the same with {} watchers of other names", watchers.count);
        report.ratio(&what, "without them", crate::measure::Ratio::of(&pairs), Target::AtMost(1.2), "");
    }
}

async fn newest(client: &Client) -> String {
    let list = client.json(&Ask::get(format!("{GROUP}/images?limit=1"))).await;
    list["metadata"]["resourceVersion"].as_str().expect("a version").to_owned()
}
