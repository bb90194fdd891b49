use futures::FutureExt as _;
use jsonwebtoken::{EncodingKey, Header};
use serde_json::json;

use super::issuer::{Issuer, Key, Mood};
use super::keys::WAITING;
use super::*;
use crate::clock::ManualClock;

const NOW: i64 = 1_800_000_000;
const MINUTE_MS: i64 = 60_000;
/// How many requests a fetch is: what the issuer says of itself, and its keys.
const FETCH: usize = 2;

/// A server's part in it.
struct Ours {
    oidc: Arc<Oidc>,
    clock: Arc<ManualClock>,
}

impl Ours {
    fn of(issuer: &Issuer) -> Self {
        Self::with_prefix(issuer, "ci:")
    }

    fn with_prefix(issuer: &Issuer, prefix: &str) -> Self {
        let clock = ManualClock::at(Timestamp::from_second(NOW).unwrap());
        let config = OidcConfig { prefix: prefix.to_owned(), ..config(&issuer.url, issuer) };
        let oidc = Arc::new(Oidc::new(config, Arc::clone(&clock) as SharedClock).unwrap());
        let kept = Arc::clone(&oidc);
        tokio::spawn(async move { kept.keep_current().await });
        Self { oidc, clock }
    }

    async fn caller(&self, token: &str) -> Result<Option<Caller>, Error> {
        self.oidc.caller(token).await
    }

    /// Whether a token is believed; else why not.
    async fn believes(&self, token: &str) -> Result<(), String> {
        match self.caller(token).await {
            Ok(caller) => caller.map(|_| ()).ok_or_else(|| "not of the issuer".to_owned()),
            Err(error) => Err(format!("{} {error}", error.code())),
        }
    }

    /// Lets time pass, until the keys are those of a fetch after it.
    async fn grow_old(&self, ms: i64) {
        self.clock.step_ms(ms);
        let now = self.oidc.clock.now();
        while self.oidc.keys.fetched() != Some(now) {
            tokio::task::yield_now().await;
        }
    }
}

fn config(url: &str, issuer: &Issuer) -> OidcConfig {
    OidcConfig {
        issuer: url.to_owned(),
        audience: "imagehub".to_owned(),
        username_claim: "sub".to_owned(),
        groups_claim: "groups".to_owned(),
        prefix: "ci:".to_owned(),
        ca_file: Some(issuer.ca.path().to_owned()),
    }
}

fn claims(issuer: &Issuer) -> Value {
    json!({ "iss": issuer.url, "aud": ["other", "imagehub"], "sub": "repo:acme/app", "exp": NOW + 600, "iat": NOW,
        "groups": ["builders"] })
}

/// Claims of which one is another; null takes it out.
fn claims_with(issuer: &Issuer, claim: &str, value: Value) -> Value {
    let mut claims = claims(issuer);
    match value {
        Value::Null => drop(claims.as_object_mut().unwrap().remove(claim)),
        value => claims[claim] = value,
    }
    claims
}

#[tokio::test]
async fn a_pipeline_is_known_by_its_token_until_that_ends() {
    for key in [Key::ec("one"), Key::rsa("one")] {
        let issuer = Issuer::start(Mood::Well, &[&key]).await;
        let ours = Ours::of(&issuer);
        let token = key.sign(&claims(&issuer));
        for _ in 0..2 {
            let caller = ours.caller(&token).await.unwrap().unwrap();
            assert_eq!(caller.user(), "ci:repo:acme/app");
            assert_eq!(caller.groups(), ["ci:builders", "system:authenticated"]);
            assert_eq!(&*caller.manager_name(), "user:ci:repo:acme/app");
            assert!(!caller.is_administrator());
            assert_eq!(caller.has_ended(), None);
        }
        let caller = ours.caller(&token).await.unwrap().unwrap();
        ours.clock.step_ms((600 + 60) * 1000 - 1);
        assert!(caller.ended().now_or_never().is_none());
        assert!(caller.end().unwrap().now_or_never().is_none());
        ours.clock.step_ms(1);
        assert_eq!(
            (caller.ended().await, caller.end().unwrap().await),
            ("the token has expired", "the token has expired")
        );
        assert_eq!(caller.has_ended(), Some("the token has expired"));
        assert!(ours.believes(&token).await.unwrap_err().ends_with("it has ended"));
    }
}

#[tokio::test]
async fn what_the_issuer_did_not_sign_for_us_is_refused_with_the_reason() {
    let key = Key::ec("one");
    let issuer = Issuer::start(Mood::Well, &[&key]).await;
    let ours = Ours::of(&issuer);
    let with = |claim: &str, value: Value| key.sign(&claims_with(&issuer, claim, value));
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let shared = EncodingKey::from_secret(b"imagehub");
    for (token, why) in [
        (Key::ec("one").sign(&claims(&issuer)), "its signature is not of the issuer's key"),
        (Key::rsa("one").sign(&claims(&issuer)), "its signature is of another kind than the issuer's key"),
        (Key::ec("two").sign(&claims(&issuer)), "the issuer has no such key, or had none a moment ago"),
        (with("aud", json!("other")), "it is not meant for \"imagehub\", this server"),
        (with("aud", json!(7)), "it has no claim \"aud\" that can be read"),
        (with("aud", Value::Null), "it has no claim \"aud\" that can be read"),
        (with("exp", json!(NOW - 60)), "it has ended"),
        (with("exp", json!("soon")), "it has no claim \"exp\" that can be read"),
        (with("exp", json!(1e300)), "\"exp\""),
        (with("nbf", json!(NOW + 61)), "it has not begun to be good"),
        (with("nbf", json!("soon")), "one of its times is no time"),
        (with("sub", json!(7)), "it has no claim \"sub\" that can be read"),
        (with("groups", json!([7])), "its claim \"groups\" has what is no text"),
        (with("groups", json!({})), "its claim \"groups\" is neither a text nor a list"),
        (with("groups", json!(vec!["x"; GROUPS + 1])), "more than 256 groups"),
        // Signed with a secret that everybody knows, or not at all.
        (
            jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims(&issuer), &shared).unwrap(),
            "no signature of a kind",
        ),
        (format!("{}.{}.", part(&json!({ "alg": "none" })), part(&claims(&issuer))), "no signature of a kind"),
    ] {
        let refused = ours.believes(&token).await.unwrap_err();
        assert!(refused.starts_with("401 Unauthorized: the token is not believed: "), "{refused}");
        assert!(refused.contains(why), "{refused}: {why}");
    }
    // Those of others are left to others.
    assert_eq!(ours.caller(&with("iss", json!("https://elsewhere.example"))).await.unwrap(), None);
    assert_eq!(ours.caller(&with("iss", json!([issuer.url]))).await.unwrap(), None);
    assert_eq!(ours.caller("imagehub_id_secret").await.unwrap(), None);
}

#[tokio::test]
async fn no_issuer_makes_administrators() {
    let key = Key::ec("one");
    let issuer = Issuer::start(Mood::Well, &[&key]).await;
    let ours = Ours::with_prefix(&issuer, "");
    for (claim, value) in [
        ("groups", json!(["a", "system:masters"])),
        ("groups", json!("system:serviceaccounts:kube-system")),
        ("sub", json!("system:admin")),
    ] {
        let refused = ours.believes(&key.sign(&claims_with(&issuer, claim, value))).await.unwrap_err();
        assert!(refused.contains("given out by no issuer"), "{refused}");
    }
    assert_eq!(ours.caller(&key.sign(&claims(&issuer))).await.unwrap().unwrap().user(), "repo:acme/app");
    let prefix = OidcConfig { prefix: "system:ci:".to_owned(), ..config(&issuer.url, &issuer) };
    let refused = Oidc::new(prefix, ours.clock).unwrap_err().to_string();
    assert!(refused.starts_with("--oidc-prefix \"system:ci:\": "), "{refused}");
}

#[tokio::test]
async fn keys_are_fetched_anew_when_the_issuer_rotates_them_and_not_more_often() {
    let (first, second) = (Key::ec("first"), Key::rsa("second"));
    let issuer = Issuer::start(Mood::Well, &[&first]).await;
    let ours = Ours::of(&issuer);
    let long = claims_with(&issuer, "exp", json!(NOW + 7200));
    let (old, new) = (first.sign(&long), second.sign(&long));
    ours.believes(&old).await.unwrap();
    issuer.publish(&[&first, &second]);
    for _ in 0..3 {
        let refused = ours.believes(&new).await.unwrap_err();
        assert!(refused.starts_with("401"), "a moment ago there was no such key: {refused}");
    }
    assert_eq!(issuer.asked(), FETCH);
    ours.clock.step_ms(10_000);
    ours.believes(&new).await.unwrap();
    assert_eq!(issuer.asked(), 2 * FETCH);
    // What the first key signed is believed for as long as the issuer has it.
    issuer.publish(&[&second]);
    ours.grow_old(15 * MINUTE_MS).await;
    assert!(ours.believes(&old).await.unwrap_err().ends_with("no such key, or had none a moment ago"));
    ours.believes(&new).await.unwrap();
    assert_eq!(issuer.asked(), 3 * FETCH);
}

#[tokio::test]
async fn a_key_that_is_another_under_the_same_name_ends_what_the_first_one_signed() {
    let (first, second) = (Key::ec("the-key"), Key::ec("the-key"));
    let issuer = Issuer::start(Mood::Well, &[&first]).await;
    let ours = Ours::of(&issuer);
    let long = claims_with(&issuer, "exp", json!(NOW + 7200));
    let (old, new) = (first.sign(&long), second.sign(&long));
    ours.believes(&old).await.unwrap();
    issuer.publish(&[&second]);
    ours.grow_old(15 * MINUTE_MS).await;
    assert!(ours.believes(&old).await.unwrap_err().ends_with("its signature is not of the issuer's key"));
    ours.believes(&new).await.unwrap();
}

#[tokio::test]
async fn while_the_issuer_is_away_known_keys_hold_for_a_day_and_others_are_asked_about_later() {
    let (key, other) = (Key::ec("one"), Key::ec("two"));
    let issuer = Issuer::start(Mood::Away, &[&key]).await;
    let ours = Ours::of(&issuer);
    let long = claims_with(&issuer, "exp", json!(NOW + 200_000));
    let token = key.sign(&long);
    let unavailable = "503 the keys of the token's issuer can't be had; try again";
    assert_eq!(ours.believes(&token).await, Err(unavailable.to_owned()));
    issuer.set_mood(Mood::Well);
    assert_eq!(ours.believes(&token).await, Err(unavailable.to_owned()), "it was tried a moment ago");
    ours.clock.step_ms(10_000);
    ours.believes(&token).await.unwrap();
    issuer.set_mood(Mood::Away);
    ours.clock.step_ms(24 * 60 * MINUTE_MS);
    ours.believes(&token).await.unwrap();
    ours.believes(&key.sign(&claims_with(&issuer, "exp", json!(NOW + 200_001)))).await.unwrap();
    // It may be one that the issuer has by now.
    assert_eq!(ours.believes(&other.sign(&long)).await, Err(unavailable.to_owned()));
    ours.clock.step_ms(1);
    assert_eq!(ours.believes(&token).await, Err(unavailable.to_owned()));
}

#[tokio::test]
async fn a_silent_issuer_holds_a_few_of_those_whose_keys_are_not_known_and_nobody_else() {
    let (key, new) = (Key::ec("one"), Key::ec("new"));
    let issuer = Issuer::start(Mood::Well, &[&key]).await;
    let ours = Ours::of(&issuer);
    let (known, unknown) = (key.sign(&claims(&issuer)), new.sign(&claims(&issuer)));
    ours.believes(&known).await.unwrap();
    ours.clock.step_ms(10_000);
    issuer.publish(&[&key, &new]);
    issuer.set_mood(Mood::Silent);
    let mut waiting: Vec<_> = (0..WAITING).map(|_| ours.believes(&unknown).boxed()).collect();
    for one in &mut waiting {
        assert_eq!(one.now_or_never(), None);
    }
    issuer.is_asked(FETCH + 1).await;
    let refused = ours.believes(&unknown).now_or_never().expect("it is told at once").unwrap_err();
    assert!(refused.starts_with("503 64 requests wait"), "{refused}");
    let fresh = key.sign(&claims_with(&issuer, "sub", json!("another")));
    for token in [&known, &fresh] {
        ours.believes(token).now_or_never().expect("it waits for nobody").unwrap();
    }
    // Who leaves takes the answer from nobody.
    waiting.drain(..WAITING / 2);
    issuer.set_mood(Mood::Well);
    for one in waiting {
        one.await.unwrap();
    }
    assert_eq!(issuer.asked(), 2 * FETCH, "all waited for one fetch");
}

#[tokio::test]
async fn keys_that_are_none_are_left_out() {
    let key = Key::rsa("one");
    let issuer = Issuer::start(Mood::Well, &[]).await;
    let mut encrypts = Key::ec("encrypts").public();
    encrypts["use"] = json!("enc");
    let mut curve = Key::ec("curve").public();
    curve["crv"] = json!("secp256k1");
    issuer.publish_set(vec![json!(7), json!({ "kty": "RSA", "kid": 7 }), encrypts, curve, key.public()]);
    let ours = Ours::of(&issuer);
    ours.believes(&key.sign(&claims(&issuer))).await.unwrap();
    assert_eq!(ours.oidc.keys.fetch().await.unwrap().into_keys().collect::<Vec<_>>(), ["one"]);
}

#[tokio::test]
async fn what_is_wrong_with_an_issuer_is_told_with_what_would_be_right() {
    let issuer = Issuer::start(Mood::Well, &[]).await;
    let fetch = async |config: OidcConfig| {
        let clock = ManualClock::at(Timestamp::from_second(NOW).unwrap());
        Oidc::new(config, clock).unwrap().keys.fetch().await.unwrap_err().to_string()
    };
    let url = &issuer.url;
    let found = format!("{url}/.well-known/openid-configuration");
    let slash = fetch(config(&format!("{url}/"), &issuer)).await;
    assert_eq!(slash, format!("{found} is of the issuer {url:?}: --oidc-issuer-url must be that, to the letter"));
    let elsewhere = fetch(config(&format!("{url}s"), &issuer)).await;
    assert_eq!(elsewhere, format!("{url}s/.well-known/openid-configuration: 404 Not Found"));
    let other = Issuer::start(Mood::Well, &[]).await;
    let stranger = fetch(config(url, &other)).await;
    assert!(stranger.starts_with(&found) && stranger.contains("invalid peer certificate"), "{stranger}");
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let refused = fetch(config(&format!("https://{closed}"), &issuer)).await;
    assert!(refused.contains("Connection refused"), "{refused}");
}

#[test]
fn settings_that_cant_be_right_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, "no certificate").unwrap();
    let clock = ManualClock::at(Timestamp::UNIX_EPOCH);
    let refused = |issuer: &str, ca_file: &std::path::Path| {
        Keys::new(issuer, Some(ca_file), Arc::clone(&clock) as SharedClock).map(|_| ()).unwrap_err().to_string()
    };
    for issuer in
        ["http://issuer.example", "issuer.example", "https://issuer.example/?x=1", "", "https://", "https:// x"]
    {
        let why = refused(issuer, &file);
        assert!(
            why.starts_with(&format!("--oidc-issuer-url {issuer:?}: ")) && why.contains("want an https URL"),
            "{why}"
        );
    }
    let none = refused("https://issuer.example", &file);
    assert_eq!(none, format!("--oidc-ca-file {}: there is no certificate in it: want PEM", file.display()));
    let absent = refused("https://issuer.example", &folder.path().join("absent.pem"));
    assert!(absent.ends_with("absent.pem: No such file or directory (os error 2)"), "{absent}");
}
