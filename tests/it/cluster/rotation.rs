//! The CAs of the replicas and the certificates that they serve with, exchanged again and again under load. What takes
//! months by itself is hurried by the test as far as it is a matter of time: in the Secret, it adds the next CA as
//! another replica would, and has it look old enough once every replica has seen it. All else is the replicas'.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Method, StatusCode};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use serde_json::{Value, json};

use super::installed::{API_SERVICE, Installed, NAMESPACE, Replica, until};
use super::replicas::{Load, nothing_is_lost};
use super::rig::ask;
use super::rolling::number;
use crate::harness::{Client, path, within};

/// Rotations by default; `IMAGEHUB_ROTATION_ROUNDS` is the number for a long run.
const ROUNDS: usize = 2;
/// How old a CA has to be, in seconds, before it signs; and then, before the one before it goes: both with room to spare.
const AGED: (u64, u64) = (2 * 3600, 40 * 24 * 3600);
/// The key of the Secret with the CAs and their keys.
const AUTHORITIES: &str = "authorities.json";

/// A CA of the test's own making.
struct Authority {
    pem: String,
    key: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(number: usize) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = called(&format!("imagehub-ca-of-a-test-{number}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().expect("a key can be made");
        let pem = params.self_signed(&key).expect("a certificate can be signed").pem();
        Self { pem, key: key.serialize_pem(), issuer: Issuer::new(params, key) }
    }

    /// Credentials of a replica, as a kubeconfig has them.
    fn replica(&self) -> Value {
        let mut params = CertificateParams::default();
        params.distinguished_name = called("imagehub-replica");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().expect("a key can be made");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate can be signed");
        json!({
            "client-certificate-data": STANDARD.encode(certificate.pem()),
            "client-key-data": STANDARD.encode(key.serialize_pem()),
        })
    }
}

fn called(name: &str) -> DistinguishedName {
    let mut all = DistinguishedName::new();
    all.push(DnType::CommonName, name);
    all
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970").as_secs()
}

fn secret() -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/secrets/imagehub-ca")
}

/// The certificates of all CAs, PEM.
async fn bundle(installed: &Installed) -> String {
    let secret = installed.cluster.ok(Method::GET, &secret(), None).await;
    let bundle = secret["data"]["ca.crt"].as_str().expect("it is there");
    String::from_utf8(STANDARD.decode(bundle).expect("it is base64")).expect("it is PEM")
}

/// Changes the CAs in the Secret as a replica does: by exactly the version that was read, or once more.
async fn change(installed: &Installed, change: impl Fn(&mut Vec<Value>)) {
    let client = installed.cluster.client().await;
    within("a change of the CAs", async {
        loop {
            let mut found = installed.cluster.ok(Method::GET, &secret(), None).await;
            let text = found["data"][AUTHORITIES].as_str().expect("the CAs are there");
            let mut ring: Value = serde_json::from_slice(&STANDARD.decode(text).expect("base64")).expect("JSON");
            let mut authorities = ring["authorities"].as_array().cloned().expect("a list");
            change(&mut authorities);
            let newest_first =
                authorities.iter().rev().map(|authority| authority["certificate"].as_str().expect("PEM"));
            found["data"]["ca.crt"] = STANDARD.encode(newest_first.collect::<String>()).into();
            ring["authorities"] = authorities.into();
            ring["revision"] = (ring["revision"].as_u64().expect("a number") + 1).into();
            found["data"][AUTHORITIES] = STANDARD.encode(ring.to_string()).into();
            let (code, answer) = ask(&client, Method::PUT, &secret(), Some(found)).await.expect("it answers");
            if code.is_success() {
                return;
            }
            assert_eq!(code, StatusCode::CONFLICT, "{answer:#}");
        }
    })
    .await;
}

/// A client of a replica that believes only these CAs.
fn client(replica: &Replica, authorities: &str, user: Option<&Value>) -> Client {
    let kubeconfig = json!({
        "clusters": [{ "cluster": {
            "server": format!("https://127.0.0.1:{}", replica.kube),
            "certificate-authority-data": STANDARD.encode(authorities),
        } }],
        "users": [{ "user": user }],
    });
    Client::from_kubeconfig(&kubeconfig.to_string(), user.is_none())
}

/// Whether a replica believes what another says that shows a certificate of this CA.
async fn believes(installed: &Installed, replica: &Replica, authority: &Authority) -> bool {
    let client = client(replica, &bundle(installed).await, Some(&authority.replica()));
    let named = [("x-remote-user", "admin"), ("x-remote-group", "system:masters")];
    let answer = client.try_request(Method::GET, &path("images", ""), &named, Bytes::new()).await;
    answer.is_ok_and(|answer| answer.status == 200)
}

/// Whether what a replica serves with is signed by this CA.
async fn serves_by(replica: &Replica, authority: &Authority) -> bool {
    let client = client(replica, &authority.pem, None);
    client.try_request(Method::GET, "/readyz", &[], Bytes::new()).await.is_ok()
}

/// Asks each replica by a connection of its own each time, as the administrator, until it is told to stop; how often it
/// has asked, and what went wrong.
async fn connect_anew(installed: Arc<Installed>, stop: Arc<AtomicBool>) -> (usize, Vec<String>) {
    let file = |name: &str| std::fs::read(installed.cluster.pki.path(name)).expect("the file is there");
    let admin = json!({
        "client-certificate-data": STANDARD.encode(file("admin.crt")),
        "client-key-data": STANDARD.encode(file("admin.key")),
    });
    let (mut asked, mut failed) = (0, Vec::new());
    while !stop.load(Ordering::Relaxed) {
        for replica in &installed.replicas {
            let believed = bundle(&installed).await;
            let client = client(replica, &believed, Some(&admin));
            let answer = client.try_request(Method::GET, &path("images", ""), &[], Bytes::new()).await;
            asked += 1;
            let wrong = match answer {
                Ok(answer) if answer.status == 200 => continue,
                Ok(answer) => answer.to_string(),
                // In the time that the test takes for an hour.
                Err(_) if bundle(&installed).await != believed => continue,
                Err(error) => error.to_string(),
            };
            failed.push(wrong);
        }
    }
    (asked, failed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cas_and_certificates_are_exchanged_under_load_and_no_request_fails() {
    let rounds = number("IMAGEHUB_ROTATION_ROUNDS").unwrap_or(ROUNDS);
    let installed = Arc::new(Installed::start(2).await);
    let load = Load::start(|_| installed.admin()).await;
    let stop = Arc::new(AtomicBool::new(false));
    let anew = tokio::spawn(connect_anew(Arc::clone(&installed), Arc::clone(&stop)));
    // Those that have signed, the newest last.
    let mut signed = vec![bundle(&installed).await];
    for round in 0..rounds {
        let next = Authority::new(round);
        let added = json!({ "certificate": next.pem, "key": next.key, "added": now() });
        change(&installed, |authorities| {
            // What the one before the one that signs has signed has ended.
            if let Some(signs) = authorities.iter_mut().rev().find(|authority| !authority["signsSince"].is_null()) {
                signs["signsSince"] = (now() - AGED.1).into();
            }
            authorities.push(added.clone());
        })
        .await;
        for replica in &installed.replicas {
            let all = async || believes(&installed, replica, &next).await;
            until("that each replica believes the new CA", all).await;
        }
        change(&installed, |authorities| {
            let newest = authorities.last_mut().expect("it is there");
            newest["added"] = (now() - AGED.0).into();
        })
        .await;
        for replica in &installed.replicas {
            until("that each replica serves by the new CA", async || serves_by(replica, &next).await).await;
        }
        let published = installed.cluster.ok(Method::GET, API_SERVICE, None).await;
        let published = published["spec"]["caBundle"].as_str().expect("it is published");
        let published = String::from_utf8(STANDARD.decode(published).expect("base64")).expect("PEM");
        assert!(published.contains(&next.pem), "kube-apiserver believes the one that signs");
        if let [.., gone, _] = signed.as_slice() {
            assert!(!published.contains(gone), "one of which nothing is left is still believed");
        }
        signed.push(next.pem);
    }
    stop.store(true, Ordering::Relaxed);
    let (asked, failed) = anew.await.expect("it does not panic");
    let tally = load.finish().await;
    assert_eq!((&tally.failed, tally.unknown), (&Vec::new(), 0), "{tally:?}");
    assert_eq!(failed, Vec::<String>::new(), "of {asked} by new connections");
    nothing_is_lost(&installed, &tally).await;
    println!(
        "{rounds} rotations: {} writes and {} reads by kube-apiserver, {asked} reads by new connections",
        tally.writes, tally.reads
    );
    assert!(tally.writes > 50 && asked > 10, "too little happened: {asked}, {tally:?}");
}
