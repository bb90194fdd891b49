//! Tokens of an OpenID Connect issuer, at each door of the whole program: whose are believed, for how long, and what
//! becomes of them while the issuer changes its keys, is silent, or is away.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::future::join_all;
use hyper::Method;
use hyper::body::Bytes;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use crate::harness::{Client, DEADLINE, Launch, MERGE_PATCH, Response, Server, object, path, revision, within};
use crate::rest::Events;
use issuer::{Issuer, Key, Mood};

#[path = "../../src/auth/oidc/issuer.rs"]
mod issuer;

/// The pipeline of a branch, as it is called where organizations name their managers.
const PIPELINE: &str = "repo:acme/app:ref:refs/heads/main";
/// The image that a pipeline publishes in the README.
const IMAGE: &str = "/api/v1/images/ci-team/app/1.0";
/// How long the server lets between two fetches of an issuer's keys.
const PAUSE: Duration = Duration::from_secs(10);
/// How many requests a fetch is: what the issuer says of itself, and its keys.
const FETCH: usize = 2;
/// By how much the server lets an issuer's clock differ, in seconds.
const SKEW: i64 = 60;

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// A server that believes the issuer's tokens.
fn launch(issuer: &Issuer) -> Launch {
    Launch::default()
        .argument("--oidc-issuer-url")
        .argument(&issuer.url)
        .argument("--oidc-audience=imagehub")
        .argument("--oidc-ca-file")
        .argument(issuer.ca.path().to_str().expect("a path of text"))
}

/// What the issuer says of a pipeline.
fn claims(issuer: &Issuer) -> Value {
    json!({
        "iss": issuer.url, "aud": "imagehub", "sub": PIPELINE, "iat": now(), "exp": now() + 600,
        "groups": ["acme/builders", "system:masters"],
    })
}

/// Those of which one is another; null takes it out.
fn claims_with(issuer: &Issuer, claim: &str, value: Value) -> Value {
    let mut claims = claims(issuer);
    match value {
        Value::Null => drop(claims.as_object_mut().expect("they are an object").remove(claim)),
        value => claims[claim] = value,
    }
    claims
}

/// Whoever has a token, at the gateway and at the Kubernetes door.
struct Holder {
    http: Client,
    kube: Client,
}

impl Holder {
    fn of(server: &Server, token: &str) -> Self {
        let bearer = format!("Bearer {token}");
        let [http, kube] = [server.http(), server.anonymous()].map(|door| door.with_header("authorization", &bearer));
        Self { http, kube }
    }

    async fn whoami(&self) -> Response {
        self.http.get("/api/v1/whoami").await
    }

    async fn graphql(&self, query: &str) -> Response {
        self.http.post("/graphql", &json!({ "query": query })).await
    }

    /// The README's first request of a pipeline.
    async fn publish(&self) -> Response {
        let image = json!({ "type": "CLUSTER_IMAGE", "description": "Built by the pipeline", "docs": "# App" });
        self.http.put(IMAGE, &image).await
    }

    /// Each door refuses with this status, in its own form; the sentences in which it does.
    async fn refused(&self, status: u16, code: &str, reason: &str) -> [String; 3] {
        let text = |value: &Value| value.as_str().expect("a sentence").to_owned();
        let header = |answer: &Response, name: &str| answer.headers.get(name).map(|value| value.as_bytes().to_vec());
        let rest = self.publish().await;
        assert_eq!(header(&rest, "content-type").as_deref(), Some(&b"application/problem+json"[..]), "{rest}");
        let problem = rest.expect(status);
        assert_eq!((&problem["status"], &problem["code"]), (&json!(status), &json!(code)), "{rest}");
        let graphql = self.graphql("{ viewer { name } }").await;
        let error = graphql.expect(status)["errors"][0].clone();
        assert_eq!(error["extensions"]["code"], code, "{graphql}");
        let kube = self.kube.get(&path("images", "")).await;
        let said = kube.refused(status, reason);
        for answer in [&rest, &graphql, &kube] {
            let wanted = (status == 401).then(|| b"Bearer".to_vec());
            assert_eq!(header(answer, "www-authenticate"), wanted, "{answer}");
        }
        [text(&problem["detail"]), text(&error["message"]), text(&said["message"])]
    }
}

/// Asks until it is so. Nothing tells from outside when the server may ask its issuer again.
async fn until(what: &str, mut asked: impl AsyncFnMut() -> bool) {
    let ends = Instant::now() + DEADLINE;
    let mut pace = tokio::time::interval(Duration::from_millis(200));
    while !asked().await {
        assert!(Instant::now() < ends, "{what}: not after {DEADLINE:?}");
        pace.tick().await;
    }
}

#[tokio::test]
async fn a_pipeline_publishes_with_one_request_and_is_the_same_at_each_door() {
    let key = Key::rsa("one");
    let issuer = Issuer::start(Mood::Well, &[&key]).await;
    let server = launch(&issuer).start().await;
    let pipeline = Holder::of(&server, &key.sign(&claims(&issuer)));
    let published = pipeline.publish().await;
    assert_eq!(published.status, 201, "{published}");
    let manager = format!("user:oidc:{PIPELINE}");
    let organization = server.admin().get(&path("organizations", "ci-team")).await.ok();
    assert_eq!(organization["spec"]["manager"], json!([manager]));

    let name = format!("oidc:{PIPELINE}");
    // What the issuer calls its groups is no group of the server's own.
    let groups = json!(["oidc:acme/builders", "oidc:system:masters", "system:authenticated"]);
    let viewer =
        pipeline.graphql("{ viewer { name groups administrator organizations { nodes { name } } } }").await.ok();
    let wanted = json!({ "name": name, "groups": groups, "administrator": false,
        "organizations": { "nodes": [{ "name": "ci-team" }] } });
    assert_eq!(viewer["data"]["viewer"], wanted);
    let whoami = pipeline.whoami().await.ok();
    assert_eq!((&whoami["name"], &whoami["groups"], &whoami["administrator"]), (&json!(name), &groups, &json!(false)));
    let image = path("images", "ci-team.app.1.0");
    let label = json!({ "metadata": { "labels": { "built": "yes" } } });
    pipeline.kube.patch(&image, MERGE_PATCH, &label).await.ok();

    // A branch that nobody has made a manager of anything.
    let branch = claims_with(&issuer, "sub", json!("repo:acme/app:ref:refs/heads/try"));
    let branch = Holder::of(&server, &key.sign(&branch));
    let refused = branch.publish().await.expect(403);
    assert_eq!(refused["code"], "FORBIDDEN", "{refused}");
    branch.kube.patch(&image, MERGE_PATCH, &label).await.refused(403, "Forbidden");
    // Until somebody does.
    let both = json!({ "spec": { "manager": [manager, "user:oidc:repo:acme/app:ref:refs/heads/try"] } });
    server.admin().patch(&path("organizations", "ci-team"), MERGE_PATCH, &both).await.ok();
    assert_eq!(branch.publish().await.status, 200);
}

#[tokio::test]
async fn what_is_no_good_is_refused_at_each_door_in_its_form() {
    let key = Key::rsa("one");
    let issuer = Issuer::start(Mood::Well, &[&key]).await;
    let server = launch(&issuer).start().await;
    let good = claims(&issuer);
    let with = |claim: &str, value: Value| key.sign(&claims_with(&issuer, claim, value));
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    // As somebody would who takes the public key for a shared secret.
    let modulus = key.public()["n"].as_str().expect("an RSA key").to_owned();
    let secret = EncodingKey::from_secret(modulus.as_bytes());
    let mut shared = Header::new(Algorithm::HS256);
    shared.kid = Some("one".to_owned());
    let shared = jsonwebtoken::encode(&shared, &good, &secret).expect("it can be signed");
    let signed = key.sign(&good);
    let other = with("sub", json!("repo:acme/other"));
    let parts = |token: &str| token.split('.').map(str::to_owned).collect::<Vec<_>>();
    let forged = format!("{}.{}.{}", parts(&other)[0], parts(&other)[1], parts(&signed)[2]);
    let none = part(&json!({ "alg": "none", "kid": "one" }));
    let cases = [
        (with("aud", json!("another")), "it is not meant for \"imagehub\", this server"),
        (with("aud", Value::Null), "it has no claim \"aud\""),
        (with("exp", json!(now() - SKEW - 1)), "it has ended"),
        (with("exp", Value::Null), "it has no claim \"exp\""),
        (with("nbf", json!(now() + SKEW + 60)), "it has not begun to be good"),
        (with("sub", Value::Null), "it has no claim \"sub\""),
        (with("groups", json!({ "admins": true })), "its claim \"groups\" is neither a text nor a list"),
        (format!("{none}.{}.", part(&good)), "no signature of a kind that is accepted"),
        (format!("{none}.{}.{}", part(&good), parts(&signed)[2]), "no signature of a kind that is accepted"),
        (shared, "no signature of a kind that is accepted"),
        (forged, "its signature is not of the issuer's key"),
        (Key::rsa("one").sign(&good), "its signature is not of the issuer's key"),
        (Key::ec("one").sign(&good), "its signature is of another kind than the issuer's key"),
        (Key::ec("two").sign(&good), "the issuer has no such key"),
    ];
    for (token, why) in cases {
        for sentence in Holder::of(&server, &token).refused(401, "UNAUTHENTICATED", "Unauthorized").await {
            assert!(sentence.contains(why), "{sentence}: {why}");
        }
    }
    // No more is known of the tokens of others than that they are not good here.
    let stranger = with("iss", json!("https://elsewhere.example"));
    Holder::of(&server, &stranger).refused(401, "UNAUTHENTICATED", "Unauthorized").await;
    server.admin().get(&path("organizations", "ci-team")).await.refused(404, "NotFound");
    assert_eq!(Holder::of(&server, &signed).publish().await.status, 201);
}

#[tokio::test]
async fn without_a_prefix_no_name_of_the_systems_own_is_given_out() {
    let key = Key::ec("one");
    let issuer = Issuer::start(Mood::Well, &[&key]).await;
    let mut server = launch(&issuer).argument("--oidc-prefix=").argument("--oidc-username-claim=email").start().await;
    let token = |claim: &str, value: Value| {
        let mut claims = claims_with(&issuer, "email", json!("ci@acme.example"));
        claims["groups"] = json!("builders");
        claims[claim] = value;
        key.sign(&claims)
    };
    for (token, why) in [
        (token("groups", json!(["builders", "system:masters"])), "\"system:masters\""),
        (token("groups", json!("system:serviceaccounts:kube-system")), "given out by no issuer"),
        (token("email", json!("system:kube-controller-manager")), "given out by no issuer"),
        (token("email", Value::Null), "it has no text in its claim \"email\""),
        (token("email_verified", json!(false)), "its email is not verified"),
    ] {
        for sentence in Holder::of(&server, &token).refused(401, "UNAUTHENTICATED", "Unauthorized").await {
            assert!(sentence.contains(why), "{sentence}: {why}");
        }
    }
    let whoami = Holder::of(&server, &token("email_verified", json!(true))).whoami().await.ok();
    assert_eq!(
        (&whoami["name"], &whoami["groups"]),
        (&json!("ci@acme.example"), &json!(["builders", "system:authenticated"]))
    );
    server.stop().await;
}

#[tokio::test]
async fn keys_rotate_while_the_server_runs_and_a_flood_of_unknown_ones_asks_the_issuer_no_more_often() {
    let (old, new) = (Key::ec("old"), Key::rsa("new"));
    let issuer = Issuer::start(Mood::Well, &[&old]).await;
    let began = Instant::now();
    let server = launch(&issuer).start().await;
    let of_old = Holder::of(&server, &old.sign(&claims(&issuer)));
    of_old.whoami().await.ok();
    issuer.publish(&[&new]);
    let strangers: Vec<_> =
        (0..50).map(|i| Holder::of(&server, &Key::ec(&format!("stranger-{i}")).sign(&claims(&issuer)))).collect();
    let flood = async || {
        for answer in join_all(strangers.iter().map(Holder::whoami)).await {
            assert_eq!(answer.status, 401, "{answer}");
        }
    };
    flood().await;
    let of_new = Holder::of(&server, &new.sign(&claims(&issuer)));
    until("the issuer's new key", async || of_new.whoami().await.status == 200).await;
    flood().await;
    // What the issuer took back is believed no longer.
    let [rest, ..] = of_old.refused(401, "UNAUTHENTICATED", "Unauthorized").await;
    assert!(rest.ends_with("the issuer has no such key, or had none a moment ago"), "{rest}");
    of_new.whoami().await.ok();
    let fetches = issuer.asked() / FETCH;
    let most = 1 + usize::try_from(began.elapsed().as_secs() / PAUSE.as_secs()).expect("it is small");
    assert!((2..=most).contains(&fetches), "the keys were fetched {fetches} times; {most} is the most");
}

#[tokio::test]
async fn an_issuer_may_come_after_the_server_and_go_before_it() {
    let key = Key::ec("one");
    let issuer = Issuer::start(Mood::Away, &[&key]).await;
    let mut server = launch(&issuer).start().await;
    let pipeline = Holder::of(&server, &key.sign(&claims(&issuer)));
    for sentence in pipeline.refused(503, "UNAVAILABLE", "ServiceUnavailable").await {
        assert!(sentence.ends_with("the keys of the token's issuer can't be had; try again"), "{sentence}");
    }
    let log = server.log();
    let told = log.lines().find(|line| line.contains("the issuer's keys can't be fetched")).expect("the log has it");
    assert!(
        told.contains(".well-known/openid-configuration") && told.contains("none of its tokens is believed"),
        "{told}"
    );
    // Others are who they are.
    server.user("bob").await.get(&path("images", "")).await.ok();
    issuer.set_mood(Mood::Well);
    until("the issuer's keys", async || pipeline.publish().await.status == 201).await;
    issuer.set_mood(Mood::Away);
    let another = Holder::of(&server, &key.sign(&claims_with(&issuer, "sub", json!("another"))));
    assert_eq!(another.whoami().await.ok()["name"], "oidc:another");
    pipeline.whoami().await.ok();
    // Before the issuer is there again nobody is believed.
    server.restart().await;
    let pipeline = Holder::of(&server, &key.sign(&claims(&issuer)));
    pipeline.refused(503, "UNAVAILABLE", "ServiceUnavailable").await;
}

#[tokio::test]
async fn a_silent_issuer_holds_nobody_but_those_who_come_with_its_tokens() {
    let key = Key::ec("one");
    let issuer = Issuer::start(Mood::Silent, &[&key]).await;
    // It is ready all the same.
    let server = launch(&issuer).start().await;
    issuer.is_asked(1).await;
    let token = key.sign(&claims(&issuer));
    let held = {
        let pipeline = Holder::of(&server, &token);
        tokio::spawn(async move { pipeline.whoami().await })
    };
    server.user("bob").await.get(&path("images", "")).await.ok();
    server.http().get("/api/v1/images").await.ok();
    server.admin().get(&path("images", "")).await.ok();
    issuer.set_mood(Mood::Well);
    // Unless others took so long that the server has given up on the issuer meanwhile.
    let answered = within("the answer that was held", held).await.expect("it was not given up");
    assert!(matches!(answered.status, 200 | 503), "{answered}");
    let pipeline = Holder::of(&server, &token);
    until("the issuer's keys", async || pipeline.whoami().await.status == 200).await;
}

#[tokio::test]
async fn what_goes_on_ends_with_the_token_that_it_was_begun_with_and_says_so() {
    /// Long enough to begin, in seconds.
    const LIFE: i64 = 6;
    let key = Key::ec("one");
    let issuer = Issuer::start(Mood::Well, &[&key]).await;
    let server = launch(&issuer).start().await;
    let admin = server.admin();
    let organization = object("Organization", "acme", json!({ "name": "acme" }));
    admin.post(&path("organizations", ""), &organization).await.expect(201);
    let from = revision(&admin.get(&path("images", "")).await.ok());

    let token = key.sign(&claims_with(&issuer, "exp", json!(now() + LIFE - SKEW)));
    let pipeline = Holder::of(&server, &token);
    let http = format!("http://{}", server.http_address());
    let bearer = format!("authorization: Bearer {token}");
    let read = |path: &str, more: &[&str]| Events::read(&format!("{http}{path}"), &[&["-H", &*bearer], more].concat());
    let query = json!({ "query": "subscription { images(initial: true) { kind } }" }).to_string();
    let mut subscription = read("/graphql", &["-H", "content-type: application/json", "-d", &query]);
    assert_eq!(subscription.named("next").await.2["data"]["images"]["kind"], "SYNC");
    let mut events = read("/api/v1/events", &[]);
    events.named("sync").await;
    let mut followed = read("/api/v1/organizations/acme", &[]);
    followed.next().await.expect("the organization as it is");
    let mut watch = pipeline.kube.watch(&format!("{}?resourceVersion={from}", path("images", ""))).await;

    let known = pipeline.http.get("/api/v1/images").await;
    let known = known.headers["etag"].to_str().expect("it is text").to_owned();
    let waits = [("if-none-match", &*known), ("prefer", "wait=30")];
    let waited = pipeline.http.request(Method::GET, "/api/v1/images", &waits, Bytes::new()).await;
    assert_eq!(waited.expect(401)["detail"], "the token has expired");

    let told = subscription.named("next").await.2;
    let error = &told["errors"][0];
    assert_eq!(error["extensions"]["code"], "UNAUTHENTICATED", "{told}");
    assert_eq!(error["message"], "the token has expired");
    for stream in [&mut events, &mut followed] {
        let (_, _, problem) = stream.named("gone").await;
        assert_eq!((&problem["status"], &problem["detail"]), (&json!(401), &json!("the token has expired")));
        assert!(stream.next().await.is_none(), "it ends");
    }
    let told = watch.next().await;
    assert_eq!((&*told.change, &told.object["code"]), ("ERROR", &json!(401)), "{:#}", told.object);
    assert_eq!(told.object["message"], "the token has expired");
    assert!(matches!(watch.try_next().await, Ok(None)), "the watch ends");
    for sentence in pipeline.refused(401, "UNAUTHENTICATED", "Unauthorized").await {
        assert!(sentence.ends_with("it has ended"), "{sentence}");
    }
}
