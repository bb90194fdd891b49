//! Who may see and do what: one table of callers, verbs, kinds, and what is public or private. What is
//! wrong is collected, so that a build with a check removed can be shown to be caught.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::harness::{
    Client, Launch, MERGE_PATCH, Server, image, name, nameless_pack, names, object, other_build, path, revision,
};

/// A caller, and what the rules say of it.
#[expect(clippy::struct_excessive_bools, reason = "each is a column of the table")]
pub struct Who {
    /// For messages.
    pub name: &'static str,
    client: Client,
    administrator: bool,
    /// A manager of `acme`.
    manager: bool,
    signed_in: bool,
    /// Whether its credentials are good.
    good: bool,
    /// May delete a whole collection at once, by whatever stands before the rules.
    collections: bool,
}

impl Who {
    fn new(name: &'static str, client: Client) -> Self {
        Self { name, client, administrator: false, manager: false, signed_in: true, good: true, collections: true }
    }

    /// The same, who may not delete a whole collection at once.
    pub fn without_collections(self) -> Self {
        Self { collections: false, ..self }
    }

    fn sees_private(&self) -> bool {
        self.administrator || self.manager
    }
}

/// An object of the scene.
struct Thing {
    plural: &'static str,
    name: &'static str,
    private: bool,
    /// An object like it that isn't there.
    absent: &'static str,
}

const THINGS: [Thing; 6] = [
    Thing { plural: "organizations", name: "acme", private: false, absent: "none" },
    Thing { plural: "repositories", name: "acme.open", private: false, absent: "acme.none" },
    Thing { plural: "repositories", name: "acme.secret", private: true, absent: "acme.n0ne" },
    Thing { plural: "images", name: "acme.open.v1", private: false, absent: "acme.open.v9" },
    Thing { plural: "images", name: "acme.secret.v1", private: true, absent: "acme.s3cret.v9" },
    Thing { plural: "datapacks", name: "alices", private: false, absent: "nobody" },
];

/// Those who play in the scene, wherever it is.
pub struct Cast {
    pub admin: Client,
    /// Who will manage `acme`, as the manager `alice`.
    pub alice: Client,
    /// Another user.
    pub bob: Client,
    /// Somebody whose credentials are no good any more.
    pub revoked: Client,
    /// Somebody without any.
    pub anonymous: Client,
    /// alice and bob as whoever acts as them has to call them.
    pub full_names: [String; 2],
}

/// Users of a server on one machine.
async fn cast(server: &Server) -> Cast {
    let revoked = server.user("carol").await;
    server.imagehub("user remove carol").await;
    Cast {
        admin: server.admin(),
        alice: server.user("alice").await,
        bob: server.user("bob").await,
        revoked,
        anonymous: server.anonymous(),
        full_names: ["alice".to_owned(), "bob".to_owned()],
    }
}

/// Makes an organization of alice's, a public and a private repository, and a pack of alice's; and says who everybody
/// is.
pub async fn scene(cast: Cast) -> Vec<Who> {
    let Cast { admin, alice, bob, revoked, anonymous, full_names: [as_alice, as_bob] } = cast;
    let create = async |client: &Client, plural: &str, object: Value| {
        client.post(&path(plural, ""), &object).await.expect(201);
    };
    create(&admin, "organizations", object("Organization", "acme", json!({ "name": "acme", "manager": ["alice"] })))
        .await;
    let secret = object("Repository", "acme.secret", json!({ "name": "acme/secret", "isPrivate": true }));
    create(&alice, "repositories", secret).await;
    create(&alice, "images", image("acme/secret:v1", json!({ "description": "hidden" }))).await;
    create(&alice, "images", image("acme/open:v1", json!({ "description": "shown" }))).await;
    let pack = json!({ "type": "grid", "names": ["acme/secret:v1", "acme/open:v1", "acme/none:v1"] });
    create(&alice, "datapacks", object("DataPack", "alices", pack)).await;
    vec![
        Who { administrator: true, ..Who::new("administrator", admin.clone()) },
        Who { manager: true, ..Who::new("manager", alice) },
        Who::new("other user", bob),
        Who { good: false, ..Who::new("revoked", revoked) },
        Who { signed_in: false, ..Who::new("anonymous", anonymous) },
        Who { manager: true, ..Who::new("impersonated manager", admin.with_header("impersonate-user", &as_alice)) },
        Who::new("impersonated other user", admin.with_header("impersonate-user", &as_bob)),
    ]
}

/// What is wrong.
#[derive(Default)]
pub struct Wrong(pub String);

impl Wrong {
    fn expect(&mut self, who: &Who, what: &str, got: u16, wanted: u16) {
        if got != wanted {
            let _ = writeln!(self.0, "{}: {what} is answered with {got}, not {wanted}", who.name);
        }
    }

    fn check(&mut self, who: &Who, holds: bool, what: &str) {
        if !holds {
            let _ = writeln!(self.0, "{}: {what}", who.name);
        }
    }
}

/// The whole table.
pub async fn look_at_all(callers: &[Who]) -> Wrong {
    let mut wrong = Wrong::default();
    for who in callers {
        for thing in &THINGS {
            look_at(who, thing, &mut wrong).await;
        }
        if who.good {
            look_at_lists(who, &mut wrong).await;
            look_at_pack(who, &mut wrong).await;
            look_at_creation(who, &mut wrong).await;
        }
    }
    wrong
}

/// Get, patch and delete, of the object and of one that isn't there: where the object is hidden, the two
/// are answered alike.
async fn look_at(who: &Who, thing: &Thing, wrong: &mut Wrong) {
    let at = path(thing.plural, thing.name);
    let hidden = thing.private && !who.sees_private();
    let may_write = match thing.plural {
        // alice made the pack, so that it is hers; the impersonated alice is alice.
        "datapacks" | "organizations" | "repositories" | "images" => who.administrator || who.manager,
        other => panic!("no rule for {other}"),
    };
    let label = json!({ "metadata": { "labels": { "seen": "yes" } } });
    let ask = async |at: &str| {
        [
            ("get", who.client.get(at).await),
            ("patch", who.client.patch(&format!("{at}?dryRun=All"), MERGE_PATCH, &label).await),
            ("delete", who.client.delete(&format!("{at}?dryRun=All")).await),
        ]
    };
    let there = ask(&at).await;
    for (verb, response) in &there {
        let wanted = match *verb {
            _ if !who.good => 401,
            "get" if hidden => 404,
            "get" => 200,
            _ if !may_write => 403,
            _ => 200,
        };
        wrong.expect(who, &format!("{verb} of {} {}", thing.plural, thing.name), response.status, wanted);
    }
    if hidden {
        let not_there = ask(&path(thing.plural, thing.absent)).await;
        for ((verb, one), (_, other)) in there.iter().zip(&not_there) {
            let same = one.text().replace(thing.name, thing.absent) == other.text() && one.status == other.status;
            wrong.check(who, same, &format!("{verb} tells {} from an object that isn't there", thing.name));
        }
    }
}

/// Lists, counts, selectors, tables and watches show what the caller sees and nothing else.
async fn look_at_lists(who: &Who, wrong: &mut Wrong) {
    for plural in ["organizations", "repositories", "images", "datapacks"] {
        let all: Vec<&str> = THINGS
            .iter()
            .filter(|t| t.plural == plural && (!t.private || who.sees_private()))
            .map(|t| t.name)
            .collect();
        let base = path(plural, "");
        let list = who.client.get(&base).await.expect(200);
        wrong.check(who, names(&list) == all, &format!("the list of {plural} is {:?}, not {all:?}", names(&list)));
        if matches!(plural, "repositories" | "images") {
            let selected =
                who.client.get(&format!("{base}?labelSelector=organization.imagehub.sealos.io%3Dacme")).await;
            wrong.check(who, names(&selected.expect(200)) == all, &format!("a selective list of {plural}"));
            let first = who.client.get(&format!("{base}?limit=1")).await.expect(200);
            let more = first["metadata"]["remainingItemCount"].as_u64().unwrap_or(0) + 1;
            wrong.check(who, more == all.len() as u64, &format!("{more} {plural} are counted, not {}", all.len()));
            for hidden in THINGS.iter().filter(|t| t.plural == plural && t.private) {
                let by_name = who.client.get(&format!("{base}?fieldSelector=metadata.name%3D{}", hidden.name)).await;
                let found = !names(&by_name.expect(200)).is_empty();
                wrong.check(who, found == who.sees_private(), &format!("a list by the name {}", hidden.name));
            }
        }
        let table = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
        let table = who.client.request(http::Method::GET, &base, &table, bytes::Bytes::new()).await.expect(200);
        let rows = table["rows"].as_array().map_or(0, Vec::len);
        wrong.check(who, rows == all.len(), &format!("{rows} rows of {plural}, not {}", all.len()));
        let initial = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
        let mut watch = who.client.watch(&format!("{base}?{initial}")).await;
        let mut seen = Vec::new();
        loop {
            let event = watch.next().await;
            if event.change == "BOOKMARK" {
                break;
            }
            seen.push(name(&event.object).to_owned());
        }
        seen.sort();
        wrong.check(who, seen == all, &format!("a watch of {plural} shows {seen:?}, not {all:?}"));
    }
    let organization = who.client.get(&path("organizations", "acme")).await.expect(200);
    let repositories = if who.sees_private() { json!(["acme/open", "acme/secret"]) } else { json!(["acme/open"]) };
    let same = organization["status"]["repos"] == repositories;
    wrong.check(who, same, &format!("status.repos is {}", organization["status"]["repos"]));
}

/// A pack's private entries are as those of images that aren't there.
async fn look_at_pack(who: &Who, wrong: &mut Wrong) {
    let pack = who.client.get(&path("datapacks", "alices")).await.expect(200);
    let datas = &pack["status"]["datas"];
    wrong.check(who, datas["acme/none:v1"] == json!({}), "an image that isn't there has data");
    wrong.check(who, datas["acme/open:v1"]["description"] == "shown", "a public image has no data");
    let hidden = datas["acme/secret:v1"] == json!({});
    wrong.check(who, hidden != who.sees_private(), &format!("a pack shows {}", datas["acme/secret:v1"]));
}

async fn look_at_creation(who: &Who, wrong: &mut Wrong) {
    let try_it = async |plural: &str, object: Value| {
        who.client.post(&format!("{}?dryRun=All", path(plural, "")), &object).await.status
    };
    let of = |allowed: bool| if allowed { 201 } else { 403 };
    let member = who.administrator || who.manager;
    let got = try_it("images", image("acme/open:v2", json!({}))).await;
    wrong.expect(who, "an image in acme", got, of(member));
    let got = try_it("images", image("acme/secret:v2", json!({}))).await;
    wrong.expect(who, "an image in a private repository of acme", got, of(member));
    let got = try_it("repositories", object("Repository", "acme.new", json!({ "name": "acme/new" }))).await;
    wrong.expect(who, "a repository in acme", got, of(member));
    let got = try_it("images", image("fresh/tool:v1", json!({}))).await;
    wrong.expect(who, "an image in an organization that isn't there", got, of(who.signed_in));
    let got = try_it("organizations", object("Organization", "fresh", json!({ "name": "fresh" }))).await;
    wrong.expect(who, "an organization", got, of(who.signed_in));
    let got = try_it("datapacks", nameless_pack("base", &["acme/open:v1"])).await;
    wrong.expect(who, "a pack", got, of(who.signed_in));
    let status = json!({ "status": { "downloadCount": 5 } });
    let at = format!("{}/status?dryRun=All", path("repositories", "acme.open"));
    let got = who.client.patch(&at, MERGE_PATCH, &status).await.status;
    wrong.expect(who, "a count of downloads", got, if who.administrator { 200 } else { 403 });
    let got = who.client.delete(&format!("{}?dryRun=All", path("images", ""))).await.status;
    wrong.expect(who, "deletion of all images", got, if member && who.collections { 200 } else { 403 });
}

#[tokio::test]
async fn each_caller_sees_and_does_what_the_rules_say() {
    let server = Server::start().await;
    let callers = scene(cast(&server).await).await;
    let wrong = look_at_all(&callers).await;
    assert!(wrong.0.is_empty(), "{}", wrong.0);
}

#[tokio::test]
async fn a_build_with_a_sight_check_removed_is_caught() {
    let Some(binary) = other_build("IMAGEHUB_BROKEN_SIGHT_BIN") else { return };
    let server = Launch::default().binary(binary).start().await;
    let callers = scene(cast(&server).await).await;
    let wrong = look_at_all(&callers).await;
    assert!(!wrong.0.is_empty(), "nothing is wrong with a build that shows private images to everybody");
}

#[tokio::test]
async fn only_administrators_act_as_others() {
    let server = Server::start().await;
    let bob = server.user("bob").await;
    let list = path("images", "");
    bob.with_header("impersonate-user", "alice").get(&list).await.refused(403, "Forbidden");
    server.anonymous().with_header("impersonate-user", "alice").get(&list).await.refused(403, "Forbidden");
    server.admin().with_header("impersonate-group", "dev").get(&list).await.refused(400, "BadRequest");
}

#[tokio::test]
async fn a_token_that_is_taken_back_ends_its_watches_and_no_others() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let list = alice.get(&path("images", "")).await.expect(200);
    let from = format!("{}?resourceVersion={}", path("images", ""), revision(&list));
    let (mut of_alice, mut of_bob) = (alice.watch(&from).await, bob.watch(&from).await);
    server.imagehub("user remove alice").await;
    let event = of_alice.next().await;
    assert_eq!((event.change.as_str(), event.object["code"].as_u64()), ("ERROR", Some(401)), "{:#}", event.object);
    assert!(matches!(of_alice.try_next().await, Ok(None)), "the watch ends");
    alice.get(&path("images", "")).await.refused(401, "Unauthorized");
    // Not made by him: what he manages is another sight, and that begins his watch anew.
    server.admin().post(&path("images", ""), &image("acme/tool:v1", json!({}))).await.expect(201);
    of_bob.expect("ADDED", "acme.tool.v1").await;
}

#[tokio::test]
async fn who_comes_to_an_organization_begins_its_watches_anew_and_who_is_not_concerned_goes_on() {
    let server = Server::start().await;
    let callers = scene(cast(&server).await).await;
    let client = |name: &str| callers.iter().find(|who| who.name == name).unwrap().client.clone();
    let (alice, bob, nobody) = (client("manager"), client("other user"), client("anonymous"));
    let list = nobody.get(&path("images", "")).await.expect(200);
    let from = format!("{}?resourceVersion={}", path("images", ""), revision(&list));
    let (mut of_alice, mut of_bob, mut of_nobody) =
        (alice.watch(&from).await, bob.watch(&from).await, nobody.watch(&from).await);
    let managers = json!({ "spec": { "manager": ["alice", "bob", "admin"] } });
    alice.patch(&path("organizations", "acme"), MERGE_PATCH, &managers).await.expect(200);
    alice.post(&path("images", ""), &image("acme/open:v2", json!({}))).await.expect(201);
    of_alice.expect("ADDED", "acme.open.v2").await;
    of_nobody.expect("ADDED", "acme.open.v2").await;
    let event = of_bob.next().await;
    assert_eq!((event.change.as_str(), event.object["code"].as_u64()), ("ERROR", Some(410)), "{:#}", event.object);
    let all = bob.get(&path("images", "")).await.expect(200);
    assert_eq!(names(&all), ["acme.open.v1", "acme.open.v2", "acme.secret.v1"]);
    // From before he came: an informer that was away keeps nothing that it may not see, and misses nothing.
    let mut again = bob.watch(&from).await;
    assert_eq!(again.next().await.object["code"].as_u64(), Some(410));
}

#[tokio::test]
async fn the_pack_of_one_user_is_changed_by_no_other() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    alice.post(&path("datapacks", ""), &object("DataPack", "mine", json!({ "names": [] }))).await.expect(201);
    let at = path("datapacks", "mine");
    let later = json!({ "spec": { "expireTime": "3h" } });
    let refused = bob.patch(&at, MERGE_PATCH, &later).await.refused(403, "Forbidden");
    assert!(
        refused["message"].as_str().unwrap().contains(r#"User "bob" cannot patch resource "datapacks""#),
        "{refused:#}"
    );
    bob.delete(&at).await.refused(403, "Forbidden");
    alice.patch(&at, MERGE_PATCH, &later).await.expect(200);
    server.admin().delete(&at).await.expect(200);
}

#[tokio::test]
async fn who_makes_an_organization_manages_it_and_its_name_is_kept_while_something_is_left() {
    let server = Server::start().await;
    let (alice, bob, admin) = (server.user("alice").await, server.user("bob").await, server.admin());
    alice.post(&path("images", ""), &image("hers/tool:v1", json!({}))).await.expect(201);
    let organization = alice.get(&path("organizations", "hers")).await.expect(200);
    assert_eq!(
        (&organization["spec"]["creator"], &organization["spec"]["manager"]),
        (&json!("alice"), &json!(["alice"]))
    );
    bob.post(&path("images", ""), &image("hers/tool:v2", json!({}))).await.refused(403, "Forbidden");
    // What it had is left: whoever made it anew would own it.
    let orphan = format!("{}?propagationPolicy=Orphan", path("organizations", "hers"));
    let list = admin.get(&path("organizations", "")).await.expect(200);
    let mut watch = admin.watch(&format!("{}?resourceVersion={}", path("organizations", ""), revision(&list))).await;
    alice.delete(&orphan).await.expect(200);
    while watch.next().await.change != "DELETED" {}
    let again = object("Organization", "hers", json!({ "name": "hers" }));
    bob.post(&path("organizations", ""), &again).await.refused(403, "Forbidden");
    admin.post(&path("organizations", ""), &again).await.expect(201);
}
