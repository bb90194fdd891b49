//! Random requests of several callers at all doors, between random changes of what there is and who sees it. Each answer
//! is the one that a server gives which has just started and has nothing kept; and, by the test's own account, has
//! nothing of what is hidden from its caller, nor of what is no longer so.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::api::seeded;
use crate::datapack::Packs;
use crate::graph::{Graph, Revision, Window};
use crate::registry::testing::{image, pack, repository};
use crate::storage::Storage;

const ORGANIZATIONS: [&str; 2] = ["acme", "umbrella"];
const REPOSITORIES: [&str; 4] = ["acme/one", "acme/two", "umbrella/one", "umbrella/two"];
const TAGS: [&str; 2] = ["v1", "v2"];
/// The administrator, users that come to manage organizations and leave them, and nobody.
const CALLERS: [&str; 5] = ["root", "alice", "bob", "carol", ""];
/// What the scene's private image says.
const SECRET: &str = "not for everybody";
/// Stands in a path for a revision of before.
const REVISION: &str = "REVISION";

#[derive(Debug, Clone)]
enum Change {
    /// Makes a repository private, or public again.
    Flip(usize),
    /// Makes a repository that isn't there.
    Make(usize, bool),
    /// Deletes a repository; its images stay.
    Drop(usize),
    /// Writes an image, which may make its repository.
    Write(usize, usize),
    /// Deletes an image.
    Remove(usize, usize),
    /// Has a user manage an organization, or no longer.
    Manage(usize, usize),
}

fn change() -> impl Strategy<Value = Change> {
    let (repository, tag) = (0..REPOSITORIES.len(), 0..TAGS.len());
    prop_oneof![
        4 => repository.clone().prop_map(Change::Flip),
        2 => (repository.clone(), any::<bool>()).prop_map(|(repository, private)| Change::Make(repository, private)),
        1 => repository.clone().prop_map(Change::Drop),
        4 => (repository.clone(), tag.clone()).prop_map(|(repository, tag)| Change::Write(repository, tag)),
        1 => (repository, tag).prop_map(|(repository, tag)| Change::Remove(repository, tag)),
        3 => (0..ORGANIZATIONS.len(), 1..4_usize).prop_map(|(of, user)| Change::Manage(of, user)),
    ]
}

/// A request without its caller.
#[derive(Debug, Clone)]
struct Asked {
    method: &'static str,
    path: String,
    accept: &'static str,
    /// JSON.
    body: Option<String>,
    /// Whether its answer goes on.
    follows: bool,
}

impl Asked {
    fn get(path: impl Into<String>) -> Self {
        Self { method: "GET", path: path.into(), accept: "*/*", body: None, follows: false }
    }

    fn post(path: &str, body: &Value) -> Self {
        Self { method: "POST", body: Some(body.to_string()), ..Self::get(path) }
    }

    fn following(self) -> Self {
        Self { accept: "text/event-stream", follows: true, ..self }
    }

    /// Whether its answer is of what there is now.
    fn is_of_now(&self) -> bool {
        !self.path.contains(REVISION) && !self.body.as_ref().is_some_and(|body| body.contains(REVISION))
    }

    fn has_text(&self) -> bool {
        let all = format!("{} {}", self.path, self.body.as_deref().unwrap_or_default());
        ["q=", "suggest", "query:"].iter().any(|word| all.contains(word))
    }

    /// Whether it asks by name for what is in this repository.
    fn names(&self, repository: &str) -> bool {
        let named = |text: &str| {
            let text = text.replace("%2F", "/").to_lowercase();
            ["pack", repository, &meta(repository)].iter().any(|word| text.contains(word))
        };
        named(&self.path) || self.body.as_deref().is_some_and(named)
    }

    fn request(&self, at: Revision, headers: &[(&str, String)]) -> Request<Body> {
        let replaced = |text: &str| text.replace(REVISION, &at.to_string());
        let mut request =
            Request::builder().method(self.method).uri(replaced(&self.path)).header("accept", self.accept);
        if self.body.is_some() {
            request = request.header("content-type", "application/json");
        }
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        request.body(self.body.as_deref().map_or_else(Body::empty, |body| replaced(body).into())).unwrap()
    }
}

/// Each of `paths` with each repository in the place of R.
fn of_each(paths: &[&str]) -> Vec<String> {
    paths.iter().flat_map(|path| REPOSITORIES.map(|repository| path.replace('R', repository))).collect()
}

const REST: [&str; 17] = [
    "/organizations",
    "/organizations?managed=true",
    "/organizations/acme",
    "/repositories",
    "/repositories?limit=1",
    "/repositories?facets=keyword&facets=organization&facets=type&facets=architecture",
    "/repositories?organization=acme&sort=-updated&facets=organization",
    "/repositories?private=true",
    "/repositories?managed=true&sort=downloads",
    "/repositories?q=one&facets=organization&facets=keyword",
    "/repositories?q=mark&sort=name",
    "/images?limit=3",
    "/images?organization=umbrella&sort=-updated",
    "/suggest?q=o",
    "/datapacks/whole",
    "/datapacks/known",
    "/whoami",
];
const REST_OF_EACH: [&str; 10] = [
    "/repositories/R",
    "/repositories/R/tags",
    "/repositories/R/feed.atom",
    "/repositories/R/badge.svg",
    "/repositories?name=R&facets=keyword",
    "/images?repository=R",
    "/images/R/v1",
    "/images/R/v1/docs",
    "/compare?from=R:v1&to=labring/nginx:1.24",
    "/suggest?q=R:v",
];
const GRAPHQL: [&str; 9] = [
    "viewer { name administrator organizations { nodes { name } } }",
    "images(first: 3) { totalCount nodes { name description } pageInfo { endCursor } }",
    "repositories { totalCount nodes { name isPrivate viewerCanManage latestImage { description } } }",
    "repositories(filter: { managedByMe: true }, first: 1) { totalCount edges { cursor node { name } } }",
    r#"repositories(query: "mark") { totalCount nodes { name } facets { organizations { value count } } }"#,
    "organizations(managedByMe: true) { totalCount nodes { name managers } }",
    r#"organization(name: "acme") { managers version repositories { totalCount nodes { name updatedAt } } }"#,
    r#"dataPack(name: "whole") { contentDigest entries { name image { description } } }"#,
    r#"resolve(names: ["acme/one:v1", "acme/two:v2", "umbrella/one:v1"]) { image { name docs } }"#,
];
const GRAPHQL_OF_EACH: [&str; 5] = [
    r#"repository(name: "R") { name version downloadCount tags { totalCount nodes { tag description } } }"#,
    r#"image(name: "R:v1") { version docs repository { name viewerCanManage } }"#,
    r#"nodes(ids: ["Repository:R", "Image:R:v2"]) { id ... on Image { description } }"#,
    r#"compare(from: "labring/nginx:1.24", to: "R:v1") { docsDiff changes { field after } }"#,
    r#"suggest(text: "R:v") { text node { id } }"#,
];
const KUBE_LISTS: [&str; 8] = [
    "/images",
    "/images?limit=2",
    "/repositories",
    "/organizations",
    "/datapacks",
    "/images?resourceVersion=REVISION&resourceVersionMatch=Exact",
    "/repositories?resourceVersion=REVISION&resourceVersionMatch=Exact",
    "/images?limit=1&resourceVersion=REVISION&resourceVersionMatch=Exact",
];
const FOLLOWED: [&str; 5] = [
    "/api/v1/events?kind=IMAGE&since=REVISION",
    "/api/v1/events?kind=REPOSITORY&since=REVISION",
    "/api/v1/images",
    "/api/v1/repositories?facets=organization",
    "/api/v1/datapacks/whole",
];

fn percent_encoded(text: &str) -> String {
    let kept = |b: u8| b.is_ascii_alphanumeric();
    text.bytes().map(|b| if kept(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// All images, one that isn't there, and one that stays.
fn names() -> Vec<String> {
    let all = REPOSITORIES.iter().flat_map(|of| TAGS.map(|tag| format!("{of}:{tag}")));
    all.chain(["acme/none:1", "labring/nginx:1.24", "acme/secret:1"].map(str::to_owned)).collect()
}

/// The pack that the server names by its content, as it is posted.
fn nameless() -> Value {
    json!({ "apiVersion": "imagehub.sealos.io/v1", "kind": "DataPack", "spec": { "type": "grid", "names": names() } })
}

fn asked() -> impl Strategy<Value = Asked> {
    let rest = REST.iter().map(|path| (*path).to_owned()).chain(of_each(&REST_OF_EACH));
    let rest: Vec<Asked> = rest.map(|path| Asked::get(format!("/api/v1{path}"))).collect();
    let packs = json!({ "grain": "GRID", "names": names() });
    let written = vec![
        Asked::post("/api/v1/resolve", &json!({ "names": names() })),
        Asked::post("/api/v1/datapacks", &packs),
        Asked::post(&format!("{KUBE}/datapacks"), &nameless()),
    ];
    let fields = GRAPHQL.iter().map(|field| (*field).to_owned()).chain(of_each(&GRAPHQL_OF_EACH)).collect::<Vec<_>>();
    let document = prop::collection::vec(select(fields), 1..4).prop_map(|fields| {
        let fields = fields.iter().enumerate().map(|(i, field)| format!("f{i}: {field}"));
        format!("{{ {} }}", fields.collect::<Vec<_>>().join(" "))
    });
    let graphql = (document, any::<bool>()).prop_map(|(document, posted)| {
        if posted {
            return Asked::post("/graphql", &json!({ "query": document }));
        }
        let path = format!("/graphql?query={}", percent_encoded(&document));
        Asked { accept: "application/json", ..Asked::get(path) }
    });
    let lists = KUBE_LISTS.iter().map(|path| (*path).to_owned());
    let gets = of_each(&["/repositories/R", "/images/R/v1"]).into_iter().map(|path| {
        let (kind, name) = path[1..].split_once('/').unwrap();
        format!("/{kind}/{}", name.replace('/', "."))
    });
    let kube: Vec<String> = lists.chain(gets).chain(["/datapacks/whole".to_owned()]).collect();
    let kube = (select(kube), any::<bool>()).prop_map(|(path, table)| Asked {
        accept: if table { "application/json;as=Table;v=v1;g=meta.k8s.io" } else { "application/json" },
        ..Asked::get(format!("{KUBE}{path}"))
    });
    let mut followed: Vec<Asked> = FOLLOWED.iter().map(|path| Asked::get(*path).following()).collect();
    for kind in ["images", "repositories", "organizations", "datapacks"] {
        let watch = Asked::get(format!("{KUBE}/{kind}?watch=1&resourceVersion=REVISION"));
        followed.push(Asked { accept: "application/json", follows: true, ..watch });
    }
    let subscription = r#"subscription { images(since: "REVISION") { kind id node { description } } }"#;
    followed.push(Asked::post("/graphql", &json!({ "query": subscription })).following());
    prop_oneof![4 => select(rest), 1 => select(written), 4 => graphql, 2 => kube, 2 => select(followed)]
}

/// One step: a change, or a request of this caller, of the so many-th of what is asked in this history. It may be a HEAD,
/// it may have an entity tag that somebody was given, and be of a revision that is so many steps back.
#[derive(Debug, Clone)]
enum Step {
    Change(Change),
    Ask { caller: usize, what: prop::sample::Index, head: bool, tag: Option<prop::sample::Index>, back: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        1 => change().prop_map(Step::Change),
        3 => (0..CALLERS.len(), index(), prop::bool::weighted(0.1), prop::option::weighted(0.3, index()), 0..8_usize)
            .prop_map(|(caller, what, head, tag, back)| Step::Ask { caller, what, head, tag, back }),
    ]
}

/// What there is and who sees it, by the test's own account.
struct Model {
    managers: BTreeMap<&'static str, BTreeSet<&'static str>>,
    /// Whether a repository is private; none where it isn't there.
    private: [Option<bool>; REPOSITORIES.len()],
    /// What each image says: the number of a text that is written once.
    said: BTreeMap<(usize, usize), usize>,
    /// Of each text its image, and who could ever read it.
    texts: Vec<((usize, usize), BTreeSet<&'static str>)>,
}

impl Model {
    fn manages(&self, caller: &str, organization: &str) -> bool {
        caller == "root" || self.managers[organization].contains(caller)
    }

    fn sees(&self, caller: &str, repository: usize) -> bool {
        let organization = REPOSITORIES[repository].split('/').next().unwrap();
        self.private[repository] == Some(false) || self.manages(caller, organization)
    }

    /// Notes who can read what now.
    fn note(&mut self) {
        for ((repository, _), text) in &self.said {
            for caller in CALLERS {
                if self.sees(caller, *repository) {
                    self.texts[*text].1.insert(caller);
                }
            }
        }
    }

    /// What is wrong with an answer.
    fn judge(&self, caller: &str, asked: &Asked, answer: &Answer) -> Result<(), String> {
        for part in answer.body.split("mark-").skip(1) {
            let text: usize = part.split('.').next().unwrap().parse().unwrap();
            let (image, readers) = &self.texts[text];
            if !readers.contains(caller) {
                return Err(format!("is told a text of {image:?} that was never theirs to read"));
            }
            let stands = self.said.get(image) == Some(&text) && self.sees(caller, image.0);
            if asked.is_of_now() && !stands {
                return Err(format!("is told a text of {image:?} that is not there for them now"));
            }
        }
        for (i, repository) in REPOSITORIES.iter().enumerate() {
            if asked.is_of_now()
                && !self.sees(caller, i)
                && !asked.names(repository)
                && answer.body.contains(repository)
            {
                return Err(format!("is told of {repository}"));
            }
        }
        if answer.body.contains(SECRET) && !self.manages(caller, "acme") {
            return Err("is told what was always private".to_owned());
        }
        Ok(())
    }
}

fn meta(name: &str) -> String {
    name.replace(['/', ':'], ".")
}

impl Doors {
    /// With what this test changes.
    async fn with_packs(&self) -> Model {
        let hub = &self.scene.hub;
        let organization =
            json!({ "kind": "Organization", "metadata": { "name": "umbrella" }, "spec": { "name": "umbrella" } });
        hub.create(organization).await;
        self.manage("umbrella", &["carol"]).await;
        let names = names();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        hub.create(pack("whole", "detail", &names)).await;
        hub.create(pack("known", "base", &names)).await;
        // So that the requests that make one make none.
        hub.create(nameless()).await;
        let managers = BTreeMap::from([("acme", BTreeSet::from(["alice"])), ("umbrella", BTreeSet::from(["carol"]))]);
        Model { managers, private: Default::default(), said: BTreeMap::new(), texts: Vec::new() }
    }

    async fn change(&self, model: &mut Model, change: &Change) {
        let hub = &self.scene.hub;
        match *change {
            Change::Flip(at) => {
                let Some(private) = &mut model.private[at] else { return };
                *private = !*private;
                let private = *private;
                self.hide(&meta(REPOSITORIES[at]), private).await;
            }
            Change::Make(at, private) if model.private[at].is_none() => {
                hub.create(repository(REPOSITORIES[at], private)).await;
                model.private[at] = Some(private);
            }
            Change::Drop(at) if model.private[at].is_some() => {
                hub.delete(Kind::Repository, &meta(REPOSITORIES[at])).await;
                model.private[at] = None;
            }
            Change::Write(at, tag) => {
                let name = format!("{}:{}", REPOSITORIES[at], TAGS[tag]);
                let text = model.texts.len();
                model.texts.push(((at, tag), BTreeSet::new()));
                let says = format!("mark-{text}.");
                let detail = json!({ "description": says, "docs": says, "keywords": ["Storage"], "size": text });
                if model.said.insert((at, tag), text).is_some() {
                    self.put(Kind::Image, &meta(&name), |object| object["spec"]["detail"] = detail.clone()).await;
                } else {
                    hub.create(image(&name, detail)).await;
                }
                model.private[at].get_or_insert(false);
            }
            Change::Remove(at, tag) if model.said.contains_key(&(at, tag)) => {
                hub.delete(Kind::Image, &meta(&format!("{}:{}", REPOSITORIES[at], TAGS[tag]))).await;
                model.said.remove(&(at, tag));
            }
            Change::Manage(of, user) => {
                let managers = model.managers.get_mut(ORGANIZATIONS[of]).unwrap();
                if !managers.remove(CALLERS[user]) {
                    managers.insert(CALLERS[user]);
                }
                let managers: Vec<&str> = managers.iter().copied().collect();
                self.manage(ORGANIZATIONS[of], &managers).await;
            }
            Change::Make(..) | Change::Drop(_) | Change::Remove(..) => {}
        }
        model.note();
    }

    /// The doors of a server that has just started on the same storage.
    async fn fresh(&self, with_search: bool) -> Router {
        let storage: Arc<dyn Storage> = Arc::clone(&self.scene.hub.storage) as _;
        let (graph, _) = Graph::open(Arc::clone(&storage), Window::default()).await.unwrap();
        let clock = Arc::clone(&self.scene.hub.clock) as _;
        let registry = Arc::new(Registry::new(storage, graph, Arc::new(Packs::default()), clock));
        // Lists and counts are the same with a search and without.
        let search = with_search.then(|| {
            let (search, mut indexer) = Search::open(Arc::clone(registry.graph())).unwrap();
            indexer.catch_up().unwrap();
            search
        });
        router(&registry, &self.scene.authenticator(), search)
    }
}

/// What must be the same. How much a client may still ask is not.
fn compared(answer: &Answer) -> Answer {
    let mut answer = answer.clone();
    for name in ["ratelimit", "ratelimit-policy"] {
        answer.headers.remove(name);
    }
    answer
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..seeded() })]

    #[test]
    fn the_answers_of_two_callers_never_mix(
        asked in prop::collection::vec(asked(), 4..10),
        steps in prop::collection::vec(step(), 20..60),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let doors = Doors::open().await;
            let mut model = doors.with_packs().await;
            let bearers = CALLERS.map(|user| doors.bearer(user));
            let (mut tags, mut past) = (Vec::<String>::new(), vec![doors.scene.hub.revision()]);
            for step in steps {
                let (caller, asked, head, tag, back) = match step {
                    Step::Change(change) => {
                        doors.change(&mut model, &change).await;
                        past.push(doors.scene.hub.revision());
                        continue;
                    }
                    Step::Ask { caller, what, head, tag, back } => (caller, what.get(&asked), head, tag, back),
                };
                let mut asked = asked.clone();
                if head && asked.method == "GET" && !asked.follows {
                    asked.method = "HEAD";
                }
                let at = past[past.len().saturating_sub(1 + back)];
                let mut headers = bearers[caller].clone();
                headers.extend(tag.filter(|_| !tags.is_empty()).map(|tag| ("if-none-match", tag.get(&tags).clone())));
                doors.scene.settle();
                let fresh = doors.fresh(asked.has_text()).await;
                let [kept, wanted] = if asked.follows {
                    [ask_now(&doors.router, asked.request(at, &headers)).await, ask_now(&fresh, asked.request(at, &headers)).await]
                } else {
                    [ask(&doors.router, asked.request(at, &headers)).await, ask(&fresh, asked.request(at, &headers)).await]
                };
                assert!(kept.status < 500, "{asked:?}: {kept:?}");
                let who = CALLERS[caller];
                if let Err(wrong) = model.judge(who, &asked, &kept) {
                    panic!("{who:?} {wrong}, by {asked:?}: {kept:?}");
                }
                assert_eq!(compared(&kept), compared(&wanted), "{who:?} asks {asked:?} with {headers:?}");
                tags.extend(kept.headers.get("etag").map(|tag| tag.to_str().unwrap().to_owned()));
            }
        });
    }
}
