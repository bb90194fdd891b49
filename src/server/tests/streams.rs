//! What goes on, at all doors, while what its caller may see changes: what has become private goes as if it were deleted
//! and comes back when it is public again; a manager who is removed, and a token that is taken back, are told nothing more.

use futures::StreamExt as _;
use futures::future::join_all;
use futures::stream::BoxStream;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::*;
use crate::controller;
use crate::registry::testing::{image, pack, repository};

/// What is followed, and what is told.
struct Stream {
    path: &'static str,
    /// A GraphQL document, of a POST.
    document: Option<&'static str>,
    /// What is told once it has begun.
    begun: &'static str,
    /// What is told where it isn't to be seen any more.
    leaves: &'static str,
    /// Whether it ends there.
    ends: bool,
    /// Whether what is written is told to those who see it, while others don't.
    tells: bool,
    /// What is told when it is to be seen again.
    back: &'static str,
}

/// What is written before it goes, while it is gone, and when it is back.
const FIRST: &str = "as it was at first";
const HIDDEN: &str = "not to be told";
const BACK: &str = "as it is at last";
/// What tells those who follow the events to read all anew.
const RESET: &str = "event: reset";

const fn rest(path: &'static str, leaves: &'static str, ends: bool) -> Stream {
    Stream { path, document: None, begun: "event: put", leaves, ends, tells: true, back: BACK }
}

const fn kube(path: &'static str) -> Stream {
    let begun = "initial-events-end";
    Stream { path, document: None, begun, leaves: r#""code":410"#, ends: true, tells: true, back: BACK }
}

const fn graphql(document: &'static str, begun: &'static str, leaves: &'static str, ends: bool) -> Stream {
    Stream { path: "/graphql", document: Some(document), begun, leaves, ends, tells: true, back: BACK }
}

const STREAMS: [Stream; 15] = [
    kube("/apis/imagehub.sealos.io/v1/images?watch=1&allowWatchBookmarks=true"),
    kube("/apis/imagehub.sealos.io/v1/images?watch=1&allowWatchBookmarks=true&fieldSelector=metadata.name=corp.app.v1"),
    Stream {
        tells: false,
        back: "corp.app",
        ..kube("/apis/imagehub.sealos.io/v1/repositories?watch=1&allowWatchBookmarks=true")
    },
    // What managers alone see of a pack is announced by no event.
    Stream {
        tells: false,
        leaves: r#""corp/app:v1":{}"#,
        ends: false,
        ..kube("/apis/imagehub.sealos.io/v1/datapacks?watch=1&allowWatchBookmarks=true")
    },
    Stream { begun: "event: sync", tells: false, back: RESET, ..rest("/api/v1/events?kind=IMAGE", RESET, false) },
    rest("/api/v1/images/corp/app/v1", "event: gone", true),
    rest("/api/v1/images/corp/app/v1/docs", "event: gone", true),
    rest("/api/v1/repositories/corp/app", "event: gone", true),
    rest("/api/v1/repositories/corp/app/feed.atom", "event: gone", true),
    rest("/api/v1/images?organization=corp", r#""total":0"#, false),
    rest("/api/v1/repositories?q=app&facets=organization", r#""total":0"#, false),
    rest("/api/v1/datapacks/named", r#""image":null"#, false),
    graphql("subscription { images { kind id node { description } } }", "SYNC", "REVISION_EXPIRED", true),
    Stream {
        tells: false,
        back: "corp/app",
        ..graphql("subscription { repositories { kind node { name } } }", "SYNC", "REVISION_EXPIRED", true)
    },
    graphql(
        r#"subscription { dataPack(of: { spec: { names: ["corp/app:v1"] } }) { entries { image { description } } } }"#,
        FIRST,
        r#""image":null"#,
        false,
    ),
];

/// A stream that somebody follows.
struct Following<'a> {
    doors: &'a Doors,
    who: &'static str,
    headers: Headers,
    stream: &'static Stream,
    /// Whether by WebSocket.
    socket: bool,
    body: Option<BoxStream<'static, String>>,
    /// What has come and was not looked at.
    text: String,
    /// All that was told.
    told: String,
}

impl<'a> Following<'a> {
    async fn begin(
        doors: &'a Doors,
        who: &'static str,
        headers: &Headers,
        stream: &'static Stream,
        socket: bool,
    ) -> Self {
        let (text, told) = (String::new(), String::new());
        let mut following = Self { doors, who, headers: headers.clone(), stream, socket, body: None, text, told };
        following.again().await;
        following.until(stream.begun).await;
        following
    }

    fn failed(&self, what: &str) -> ! {
        let (Stream { path, document, .. }, by) = (self.stream, if self.socket { " by WebSocket" } else { "" });
        panic!("{} at {path}{by} {document:?}: {what}; what was told: {}", self.who, self.told)
    }

    /// Asks, for the first time or once more. What is refused has an end.
    async fn again(&mut self) -> u16 {
        let Stream { path, document, .. } = self.stream;
        if let (true, Some(document)) = (self.socket, document) {
            let (status, messages) = socket::subscribe(&self.doors.router, &self.headers, document).await;
            self.body = Some(messages);
            return status;
        }
        let mut request = Request::builder().uri(*path);
        if !path.contains("watch=1") {
            request = request.header("accept", "text/event-stream");
        }
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        let request = match document {
            Some(document) => request
                .method("POST")
                .header("content-type", "application/json")
                .body(Body::from(json!({ "query": document }).to_string())),
            None => request.body(Body::empty()),
        };
        let response = self.doors.router.clone().oneshot(request.unwrap()).await.unwrap();
        let status = response.status().as_u16();
        let data = response.into_body().into_data_stream();
        self.body = Some(data.map(|data| String::from_utf8(data.unwrap().to_vec()).unwrap()).boxed());
        status
    }

    /// Reads on until this is told; false where the stream ends before.
    async fn told(&mut self, wanted: &str) -> bool {
        // In all: that a stream is there at all is told now and then, too.
        let ends = Instant::now() + DEADLINE;
        loop {
            if let Some(at) = self.text.find(wanted) {
                let rest = self.text.split_off(at + wanted.len());
                self.told.push_str(&std::mem::replace(&mut self.text, rest));
                return true;
            }
            let Some(body) = &mut self.body else { self.failed("nothing is followed") };
            match tokio::time::timeout_at(ends, body.next()).await {
                Ok(Some(text)) => self.text.push_str(&text),
                Ok(None) => {
                    self.told.push_str(&std::mem::take(&mut self.text));
                    self.body = None;
                    return false;
                }
                Err(_) => {
                    self.told.push_str(&std::mem::take(&mut self.text));
                    self.failed(&format!("{wanted:?} does not come"));
                }
            }
        }
    }

    async fn until(&mut self, wanted: &str) {
        if !self.told(wanted).await {
            self.failed(&format!("it ended without {wanted:?}"));
        }
    }

    /// Is told that what it followed is not there any more; where it ends, asks again, and is told nothing of it.
    async fn leave(&mut self) {
        self.until(self.stream.leaves).await;
        if !self.stream.ends {
            return;
        }
        if self.told("nothing more").await {
            self.failed("it goes on");
        }
        let before = self.told.len();
        let status = self.again().await;
        let there = match status {
            200 => self.told(self.stream.begun).await,
            404 => self.told("event: put").await,
            other => self.failed(&format!("it is answered with {other} then")),
        };
        if there != (status == 200) || self.told[before..].contains("corp") {
            self.failed("it is there still");
        }
    }

    /// Is told that it is there again, if need be by asking once more.
    async fn come_back(&mut self) {
        for _ in 0..3 {
            if self.body.is_some() && self.told(self.stream.back).await {
                return;
            }
            if self.again().await != 200 {
                break;
            }
        }
        self.failed("it does not come back");
    }
}

/// The doors, and what keeps the kinds in step.
struct Scenery {
    doors: Doors,
    controllers: JoinHandle<()>,
}

impl Drop for Scenery {
    fn drop(&mut self) {
        self.controllers.abort();
    }
}

impl Scenery {
    /// With an organization of alice's and its one repository.
    async fn open() -> Self {
        let doors = Doors::open().await;
        let hub = &doors.scene.hub;
        let spec = json!({ "name": "corp", "manager": ["alice"] });
        hub.create(json!({ "kind": "Organization", "metadata": { "name": "corp" }, "spec": spec })).await;
        hub.create(repository("corp/app", false)).await;
        hub.create(image("corp/app:v1", json!({ "description": FIRST, "docs": FIRST }))).await;
        hub.create(pack("named", "detail", &["corp/app:v1"])).await;
        doors.scene.settle();
        let controllers = tokio::spawn(controller::run(Arc::clone(&hub.registry)));
        Self { doors, controllers }
    }

    async fn write(&self, text: &str) {
        let detail = json!({ "description": text, "docs": text });
        self.doors.put(Kind::Image, "corp.app.v1", |object| object["spec"]["detail"] = detail.clone()).await;
    }

    /// Follows all that there is, and what GraphQL has by both of its ways.
    async fn follow_all(&self, who: &'static str, headers: &Headers) -> Vec<Following<'_>> {
        let both = STREAMS.iter().flat_map(|stream| [(stream, false), (stream, true)]);
        let all = both.filter(|(stream, socket)| !socket || stream.document.is_some());
        join_all(all.map(|(stream, socket)| Following::begin(&self.doors, who, headers, stream, socket))).await
    }

    /// Somebody who waits for the image to be another.
    async fn wait(&self, headers: &Headers) -> JoinHandle<Answer> {
        let request = |tag: Option<&str>| {
            let mut request = Request::builder().uri("/api/v1/images/corp/app/v1");
            for (name, value) in headers {
                request = request.header(*name, value);
            }
            if let Some(tag) = tag {
                request = request.header("if-none-match", tag).header("prefer", "wait=60");
            }
            request.body(Body::empty()).unwrap()
        };
        let first = ask(&self.doors.router, request(None)).await;
        let (router, request) = (self.doors.router.clone(), request(first.headers["etag"].to_str().ok()));
        tokio::spawn(async move { ask(&router, request).await })
    }
}

/// All that follow, at once: kube's watches take a moment to end.
async fn each<'a, 'b: 'a, F: Future<Output = ()>>(
    all: &'a mut [Following<'b>],
    what: impl FnMut(&'a mut Following<'b>) -> F,
) {
    join_all(all.iter_mut().map(what)).await;
}

#[tokio::test]
async fn what_becomes_private_goes_as_if_deleted_and_comes_back_and_nothing_of_between_is_told() {
    let scenery = Scenery::open().await;
    let root = scenery.doors.bearer("root");
    let as_bob = [root, vec![("impersonate-user", "bob".to_owned())]].concat();
    let (mut strangers, mut waiting) = (Vec::new(), Vec::new());
    for (who, headers) in
        [("bob", scenery.doors.bearer("bob")), ("nobody", vec![]), ("the administrator as bob", as_bob)]
    {
        strangers.extend(scenery.follow_all(who, &headers).await);
        waiting.push(scenery.wait(&headers).await);
    }
    let hers = scenery.follow_all("alice", &scenery.doors.bearer("alice")).await;
    let (mut events, mut hers): (Vec<_>, Vec<_>) = hers.into_iter().partition(|of| of.stream.back == RESET);
    scenery.doors.hide("corp.app", true).await;
    scenery.write(HIDDEN).await;
    each(&mut strangers, Following::leave).await;
    for answer in join_all(waiting).await {
        let answer = answer.unwrap();
        assert_eq!((answer.status, answer.body.contains(HIDDEN)), (404, false), "{answer:?}");
    }
    scenery.write(&format!("{HIDDEN}, neither")).await;
    let telling = hers.iter_mut().filter(|following| following.stream.tells);
    join_all(telling.map(|following| following.until(HIDDEN))).await;
    each(&mut events, |following| following.until("corp/app:v1")).await;
    scenery.write("nothing special").await;
    scenery.doors.hide("corp.app", false).await;
    scenery.write(BACK).await;
    each(&mut strangers, Following::come_back).await;
    each(&mut hers, Following::come_back).await;
    // Events go on, too.
    scenery.write("one more").await;
    for following in &mut strangers {
        if following.told.contains(HIDDEN) || following.text.contains(HIDDEN) {
            following.failed("it told what was hidden");
        }
        if following.stream.back == RESET {
            assert!(!following.told.contains("corp"), "{}", following.told);
            following.until("corp/app:v1").await;
        }
    }
    for following in hers.iter().chain(&events) {
        if following.told.contains(following.stream.leaves) {
            following.failed("it went for her, too");
        }
    }
}

#[tokio::test]
async fn a_manager_who_is_removed_is_told_nothing_more() {
    let scenery = Scenery::open().await;
    scenery.doors.hide("corp.app", true).await;
    let alice = scenery.doors.bearer("alice");
    let root = scenery.doors.bearer("root");
    let as_alice = [root, vec![("impersonate-user", "alice".to_owned())]].concat();
    // What managers alone see of a pack is announced by no event, so its loss neither.
    let concerned = |following: &Following<'_>| !following.stream.path.contains("/v1/datapacks?watch");
    let mut followed = scenery.follow_all("alice", &alice).await;
    followed.extend(scenery.follow_all("the administrator as alice", &as_alice).await);
    followed.retain(concerned);
    let waiting = scenery.wait(&alice).await;
    scenery.doors.manage("corp", &["carol"]).await;
    scenery.write(HIDDEN).await;
    each(&mut followed, Following::leave).await;
    assert_eq!(waiting.await.unwrap().status, 404);
    scenery.write("nothing special").await;
    scenery.doors.hide("corp.app", false).await;
    scenery.write(BACK).await;
    each(&mut followed, Following::come_back).await;
    for following in &followed {
        if following.told.contains(HIDDEN) {
            following.failed("it told what was hidden");
        }
    }
}

#[tokio::test]
async fn who_has_no_good_token_any_more_is_told_so_and_nothing_more() {
    let scenery = Scenery::open().await;
    scenery.doors.hide("corp.app", true).await;
    let alice = scenery.doors.bearer("alice");
    let as_alice = [scenery.doors.bearer("root"), vec![("impersonate-user", "alice".to_owned())]].concat();
    let mut followed = scenery.follow_all("alice", &alice).await;
    followed.extend(scenery.follow_all("the administrator as alice", &as_alice).await);
    let waiting = [scenery.wait(&alice).await, scenery.wait(&as_alice).await];
    let scene = &scenery.doors.scene;
    Users::change(scene.dir.path(), |users| users.remove("alice").and_then(|()| users.remove("root"))).unwrap();
    scene.tokens.refresh();
    scenery.write(HIDDEN).await;
    for answer in join_all(waiting).await {
        assert_eq!(answer.unwrap().status, 401);
    }
    let ended = followed.iter_mut().map(|following| async move {
        let word = if following.stream.path.contains("watch=1") { r#""code":401"# } else { "UNAUTHENTICATED" };
        following.until(word).await;
        if following.told("nothing more").await || following.told.contains(HIDDEN) {
            following.failed("it goes on");
        }
        if following.again().await != 401 {
            following.failed("it begins again");
        }
    });
    join_all(ended).await;
}
