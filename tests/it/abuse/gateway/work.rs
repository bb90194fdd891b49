//! Questions that are within every limit that can be told from the question alone, and ask for all that these let.

use http::Method;
use imagehub::gateway::LOOKS;
use imagehub::graphql::ALIASES;
use imagehub::rest::APPLIED_ITEMS;
use serde_json::{Value, json};

use super::{NOTHING, Others, repeated};
use crate::abuse::Victim;
use crate::harness::Client;

/// How many repositories there are, each with an image, all in one organization.
const REPOSITORIES: usize = 3 * APPLIED_ITEMS;

/// Makes the repositories of `wide`.
async fn catalogue(victim: &mut Victim) {
    victim.server.user("carol").await;
    let token = victim.server.imagehub("token carol").await;
    let rest = victim.server.http().with_header("authorization", &format!("Bearer {}", token.trim()));
    for part in 0..REPOSITORIES / APPLIED_ITEMS {
        let image = |i: usize| {
            let name = format!("wide/repo{}:v1", part * APPLIED_ITEMS + i);
            json!({ "name": name, "keywords": ["Database", "Storage"], "docs": "word ".repeat(50) })
        };
        let images: Vec<Value> = (0..APPLIED_ITEMS).map(image).collect();
        let applied = rest.post("/api/v1/images", &images.into()).await.ok();
        assert_eq!(applied["results"][0]["outcome"], "CREATED", "{}", applied["results"][0]);
    }
    victim.before = super::super::state(&victim.admin).await;
}

/// Twenty lists, with their number in the place of N.
fn lists(field: &str) -> String {
    format!("{{ {} }}", repeated(20, |i| format!("a{i}: {}", field.replace('N', &i.to_string()))))
}

/// The organization, so often, and what is asked of it.
fn again(times: usize, inside: &str) -> String {
    let ids = vec!["\"Organization:wide\""; times].join(", ");
    format!("{{ nodes(ids: [{ids}]) {{ ... on Organization {{ {inside} }} }} }}")
}

/// As many lists of an organization as there may be aliases.
fn inside() -> String {
    repeated(ALIASES, |i| format!("a{i}: repositories(first: {i}) {{ totalCount }}"))
}

/// Questions that make the server look at the whole of it again and again.
fn wide() -> Vec<(&'static str, String)> {
    let facets = "facets { organizations { count } keywords { count } types { count } architectures { count } }";
    let of_organization = format!("repositories(first: 1) {{ {facets} }}");
    let of_all = format!("repositories(first: N, orderBy: {{ field: UPDATED }}) {{ totalCount {facets} }}");
    let found = format!("repositories(query: \"repoN\") {{ totalCount {facets} nodes {{ name }} }}");
    let names = repeated(1000, |i| format!("\"wide/repo{i}\""));
    let named = format!("repositories(filter: {{ names: [{names}] }}) {{ {facets} }}");
    let organizations = repeated(999, |i| format!("\"org{i}\""));
    let listed = format!("repositories(filter: {{ organizations: [{organizations}, \"wide\"] }}) {{ {facets} }}");
    let fields = repeated(97, |_| "description".to_owned());
    let pages = "tags(first: 10) { nodes { name tag description keywords icon } }";
    vec![
        ("an organization, again and again", again(100, &inside())),
        ("its facets", again(50, &of_organization)),
        ("all images", lists("images(first: N, orderBy: { field: UPDATED }) { totalCount }")),
        ("all repositories with facets", lists(&of_all)),
        ("texts", lists(&found)),
        ("typos", lists("repositories(query: \"rpeoN databsae\") { totalCount }")),
        ("a thousand names", format!("{{ a: {named} b: {named} }}")),
        ("a thousand organizations", format!("{{ {listed} }}")),
        ("suggestions", lists("suggest(text: \"wide/repN\", first: 20) { text node { id } }")),
        ("pages of pages", format!("{{ repositories(first: 100) {{ nodes {{ {pages} }} }} }}")),
        ("many fields", format!("{{ repositories(first: 100) {{ nodes {{ latestImage {{ {fields} }} }} }} }}")),
    ]
}

async fn ask(client: &Client, query: &str, round: usize) -> (u16, Value) {
    // Another each time, so that no answer is kept.
    let body = json!({ "query": query, "variables": { "round": round } });
    let headers = [("content-type", "application/json")];
    let answer = client.request(Method::POST, "/graphql", &headers, body.to_string().into()).await;
    (answer.status, answer.json())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_asks_for_all_that_is_allowed_keeps_nobody_waiting() {
    /// How many ask each of it at a time.
    const ASKING: usize = 2;
    let mut victim = Victim::start().await;
    catalogue(&mut victim).await;
    let client = victim.server.http();
    let mut others = Others::begin(&victim);
    for (what, query) in wide() {
        let began = std::time::Instant::now();
        let answers = (0..ASKING).map(|round| ask(&client, &query, round));
        for (status, answer) in futures::future::join_all(answers).await {
            // A whole answer, or a refusal that says why.
            let message = answer["errors"][0]["message"].as_str().unwrap_or("(limit: none)");
            assert!(status == 200 && message.contains("(limit: "), "{what}: {status}: {message}");
        }
        println!("{what}: {ASKING} of them took {:?}", began.elapsed());
    }
    others.go_on(2).await;
    others.end(&victim, NOTHING).await;
    victim.is_as_before().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_looks_at_no_more_objects_than_it_may() {
    let mut victim = Victim::start().await;
    catalogue(&mut victim).await;
    let over = json!({ "query": again(LOOKS / REPOSITORIES / ALIASES + 1, &inside()) });
    let answer = victim.server.http().post("/graphql", &over).await.ok();
    assert!(answer["errors"][0]["message"].as_str().is_some_and(|m| m.contains("(limit: looks)")), "{answer}");
    let one = json!({ "query": again(1, &inside()) });
    let answer = victim.server.http().post("/graphql", &one).await.ok();
    assert_eq!(answer["data"]["nodes"][0]["a7"]["totalCount"], REPOSITORIES, "{answer}");
    victim.is_well().await;
}
