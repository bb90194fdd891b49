//! The gateway: GraphQL's store page and a pack by REST, over the wire.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use imagehub::auth::{Authenticator, Authorizer, Caller};
use imagehub::clock::SystemClock;
use imagehub::gateway::{Answers, App, MOST_REQUESTS, Origins, Quota, Rates};
use imagehub::graphql;
use imagehub::search::Search;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::inside::Inside;
use super::reads::{Both, SMALL_PACK, metric, overwrite, spread};
use crate::client::{Ask, Client, Http, NUMBER};
use crate::data::{Data, REPOSITORIES, TAGS};
use crate::measure::{Plan, Side, in_turns, thread_seconds};
use crate::process::Server;
use crate::report::{Report, Target};

/// Writes a second that a page doesn't depend on.
const UNRELATED: u64 = 10;

/// A store page: twenty repositories with what a card shows, and the facets beside them.
const PAGE: &str = "query Store($filter: RepositoryFilter) {
  repositories(filter: $filter, first: 20, orderBy: { field: DOWNLOADS, descending: true }) {
    totalCount
    pageInfo { hasNextPage endCursor }
    nodes { name downloadCount isPrivate updatedAt latestImage { name tag icon description keywords size type architecture } }
    facets { organizations { value count } keywords { value count } types { value count } architectures { value count } }
  }
}";

fn page(filter: &Value) -> Ask {
    Ask::post("/graphql", json!({ "query": PAGE, "variables": { "filter": filter } }).to_string())
}

/// A filter that nobody has asked with before, and that passes all the same.
fn unseen() -> Value {
    json!({ "updatedSince": format!("2001-01-01T00:00:00.{NUMBER}Z") })
}

async fn hits(server: &Server) -> (f64, f64) {
    (metric(server, "answer_cache_hits").await, metric(server, "answer_cache_misses").await)
}

/// All rows: `both` is the large catalogue and the bare server, `small` the small one.
pub async fn rows(both: &Both<'_>, small: &Server, data: &Data, report: &mut Report) {
    repeated(both, report).await;
    pack_by_rest(both, report).await;
    unrelated(both, small, report).await;
    never_seen(both.plan, small, data, &both.root.join("gateway"), report).await;
}

/// The same bytes by the same listener, from us and from the bare server: a row of the table.
async fn against_bare(both: &Both<'_>, what: &str, ask: &Ask, bare: &Ask, target: Target, report: &mut Report) {
    let (status, bytes) = Client::of_gateway(both.server).ask(ask).await;
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&bytes));
    Client::new(both.bare).ask(&Ask::put("/set", bytes.clone())).await;
    let pairs = both.against_bare(Client::of_gateway, Http::One, ask, bare).await;
    let (theirs, ours) = pairs.means();
    let note = format!("{} bytes, {:.1} µs a request, bare {:.1} µs", bytes.len(), ours * 1e6, theirs * 1e6);
    report.ratio(what, "bare axum handler", pairs.ratio(), target, &note);
}

async fn repeated(both: &Both<'_>, report: &mut Report) {
    let ask = page(&Value::Null);
    let bare = Ask::post("/bytes", ask.body.clone());
    against_bare(both, "GraphQL store page, repeated, HTTP/1.1", &ask, &bare, Target::AtLeast(0.75), report).await;
}

async fn pack_by_rest(both: &Both<'_>, report: &mut Report) {
    let names = spread(both.plan.images, SMALL_PACK, 3);
    let pack = json!({ "names": names, "grain": "GRID" });
    let client = Client::of_gateway(both.server);
    let made = client.json(&Ask::post("/api/v1/datapacks", pack.to_string())).await;
    let path = format!("/api/v1/datapacks/{}", made["name"].as_str().unwrap_or_else(|| panic!("{made}")));
    let (ask, bare) = (Ask::get(path), Ask::get("/bytes"));
    against_bare(both, "cached DataPack GET by REST, HTTP/1.1", &ask, &bare, Target::AtLeast(0.8), report).await;
}

/// A page of one organization while images of others are written: how many of its answers were kept ones.
async fn unrelated(both: &Both<'_>, small: &Server, report: &mut Report) {
    let ask = page(&json!({ "organizations": ["org0"] }));
    let mut load = Client::of_gateway(small).load(Http::One, &ask).await;
    load.run(Duration::from_millis(100)).await;
    let writer = Client::new(small).h2().await;
    let writing = async {
        let mut tick = tokio::time::interval(Duration::from_nanos(1_000_000_000 / UNRELATED));
        // Images of all organizations but the first.
        let first = REPOSITORIES * TAGS;
        let mut at = first;
        loop {
            tick.tick().await;
            overwrite(&writer, at, at % 200).await;
            at = first + (at + 7919) % (both.plan.small - first);
        }
    };
    let before = hits(small).await;
    tokio::select! {
        () = writing => {}
        _ = load.run(both.plan.slice * 5) => {}
    }
    let after = hits(small).await;
    let (hits, misses) = (after.0 - before.0, after.1 - before.1);
    report.figure(
        "a page of an organization beside 10 writes/s to others: kept answers",
        "",
        hits / (hits + misses) * 100.0,
        "%",
        Target::AtLeast(90.0),
        &format!("{misses:.0} of {:.0} were made", hits + misses),
    );
}

/// A page that nobody has asked for, over the wire and executed in this process.
async fn never_seen(plan: &Plan, small: &Server, data: &Data, dir: &Path, report: &mut Report) {
    data.copy(dir);
    let inside = Inside::open(dir).await;
    let (search, indexer) = Search::open(Arc::clone(inside.registry.graph())).expect("an index can be made");
    let indexing = tokio::spawn(indexer.run());
    while search.reached(inside.registry.graph().revision()).await.is_err() {}
    let bare = graphql::Bare::new(App {
        registry: Arc::clone(&inside.registry),
        authenticator: Authenticator::local(None, None, Arc::new(SystemClock)),
        authorizer: Authorizer::Rules,
        search: Some(search),
        anonymous: true,
        rates: Arc::new(Rates::new(Arc::new(SystemClock), MOST_REQUESTS)),
        quota: Arc::new(Quota::default()),
        origins: Origins::None,
        relay: None,
        answers: Answers::default(),
        stop: CancellationToken::new(),
    });
    let caller = Caller::anonymous();
    let mut load = Client::of_gateway(small).load(Http::One, &page(&unseen())).await;
    let filter = json!({ "filter": { "updatedSince": "2001-01-01T00:00:00Z" } });
    let pairs = in_turns(plan.pairs, async |side| match side {
        Side::A => load.cost(small, plan.slice).await,
        Side::B => {
            let (before, until) = (thread_seconds(), Instant::now() + plan.slice);
            let mut count = 0_u32;
            while Instant::now() < until {
                std::hint::black_box(bare.execute(&caller, PAGE, filter.clone()).await);
                count += 1;
            }
            (thread_seconds() - before) / f64::from(count)
        }
    })
    .await;
    let (wire, executed) = pairs.means();
    report.ratio(
        &format!("GraphQL store page never seen before, of {} repositories", plan.small / TAGS),
        "executed in process",
        pairs.ratio(),
        Target::AtMost(1.3),
        &format!("{:.0} µs a request, executed {:.0} µs", wire * 1e6, executed * 1e6),
    );
    indexing.abort();
    inside.close().await;
    let _ = std::fs::remove_dir_all(dir);
}
