//! A rotation as those see it who check: kube-apiserver, by the caBundle, and other replicas.

use rustls::pki_types::ServerName;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::clock::{Clock as _, ManualClock};
use crate::server::rotation;

const START: i64 = 1_800_000_000;
const DAY_MS: i64 = 24 * 3600 * 1000;

/// So that 20 rotations are not too many handshakes.
const SHORT: Lifetimes = Lifetimes {
    ca: Duration::from_hours(24 * 40),
    renew_ca_before: Duration::from_hours(24 * 20),
    leaf: Duration::from_hours(24 * 6),
    renew_leaf_before: Duration::from_hours(24 * 2),
    settle: Duration::from_hours(1),
};

fn settings() -> Settings {
    Settings {
        namespace: "imagehub-system".to_owned(),
        service: "imagehub".to_owned(),
        address: Some("10.1.2.3".parse().unwrap()),
        mounted: None,
        lifetimes: SHORT,
    }
}

/// Whether `server` and `client` speak, with the server called `name`.
async fn speak(server: Arc<ServerConfig>, client: Arc<ClientConfig>, name: &str) -> Result<(), String> {
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let serving = tokio::spawn(async move {
        let mut stream = TlsAcceptor::from(server).accept(ours).await?;
        stream.write_all(b"ok").await?;
        stream.shutdown().await
    });
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let said = async {
        let mut stream = TlsConnector::from(client).connect(name, theirs).await?;
        let mut said = [0; 2];
        stream.read_exact(&mut said).await
    };
    let said = said.await.map(|_| ()).map_err(|error| error.to_string());
    let _ = serving.await;
    said
}

/// One replica, without its cluster.
struct Replica {
    ring: Ring,
    leaf: Leaf,
    serving: Arc<Certificates>,
}

impl Replica {
    fn new(ring: &Ring, now: Timestamp) -> Self {
        let leaf = Leaf::issue(ring.signer().unwrap(), &names(&settings()), now, &SHORT).unwrap();
        let serving = Certificates::of(leaf.serving().unwrap());
        serving.serve_replicas(leaf.serving().unwrap());
        Self { ring: ring.clone(), leaf, serving }
    }

    fn look(&mut self, ring: &Ring, now: Timestamp) {
        if self.leaf.is_old(ring.signer().unwrap(), now, &SHORT) {
            self.leaf = Leaf::issue(ring.signer().unwrap(), &names(&settings()), now, &SHORT).unwrap();
            self.serving.serve(self.leaf.serving().unwrap());
            self.serving.serve_replicas(self.leaf.serving().unwrap());
        }
        self.ring = ring.clone();
    }
}

/// kube-apiserver, which believes `bundle`.
fn aggregator(bundle: &str, clock: &SharedClock) -> Arc<ClientConfig> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    leaf::by_clock(clock).with_root_certificates(roots).with_no_client_auth().into()
}

#[tokio::test]
async fn cas_change_twenty_times_and_everybody_believes_everybody_at_every_moment() {
    let manual = ManualClock::at(Timestamp::from_second(START).unwrap());
    let clock: SharedClock = manual.clone();
    let mut ring = Ring::default();
    ring.apply(ring.next(manual.now(), "", &SHORT).unwrap(), manual.now(), 0, &SHORT).unwrap();
    let mut published = ring.bundle();
    let (mut first, mut second) = (Replica::new(&ring, manual.now()), Replica::new(&ring, manual.now()));
    let (mut signers, mut shown) = (vec![ring.signer().unwrap().certificate.clone()], 0);
    // Half a day at a time: what each replica knows is up to a step old.
    while signers.len() <= 20 {
        manual.step_ms(DAY_MS / 2);
        let now = manual.now();
        first.look(&ring, now);
        while let Some(step) = ring.next(now, &published, &SHORT) {
            ring.apply(step, now, 0, &SHORT).unwrap();
        }
        second.look(&ring, now);
        let signer = &ring.signer().unwrap().certificate;
        if signers.last() != Some(signer) {
            signers.push(signer.clone());
        }
        for server in [&first, &second] {
            let tls = rotation::tls(Arc::clone(&server.serving));
            let asked = aggregator(&published, &clock);
            speak(Arc::clone(&tls), asked, "imagehub.imagehub-system.svc").await.unwrap();
            for client in [&first, &second] {
                let forwarding = client.leaf.forwarding(&client.ring, &clock).unwrap();
                speak(Arc::clone(&tls), forwarding, REPLICA).await.unwrap();
            }
            shown += 1;
        }
        published = ring.bundle();
        assert!(ring.authorities.len() <= 2);
    }
    assert!(shown > 1000, "{shown}");
    signers.sort();
    signers.dedup();
    assert_eq!(signers.len(), 21, "each is another one");
}

#[tokio::test]
async fn a_mounted_certificate_is_for_all_but_other_replicas() {
    let clock: SharedClock = ManualClock::at(Timestamp::from_second(START).unwrap());
    let mut ring = Ring::default();
    ring.apply(ring::Step::Add, clock.now(), 0, &SHORT).unwrap();
    let mut others = Ring::default();
    others.apply(ring::Step::Add, clock.now(), 0, &SHORT).unwrap();
    let (ours, mounted) = (Replica::new(&ring, clock.now()), Replica::new(&others, clock.now()));
    ours.serving.serve(mounted.leaf.serving().unwrap());
    let tls = || rotation::tls(Arc::clone(&ours.serving));
    speak(tls(), aggregator(&others.bundle(), &clock), "imagehub.imagehub-system.svc").await.unwrap();
    speak(tls(), aggregator(&ring.bundle(), &clock), "imagehub.imagehub-system.svc").await.unwrap_err();
    speak(tls(), ours.leaf.forwarding(&ring, &clock).unwrap(), REPLICA).await.unwrap();
}

#[tokio::test]
async fn a_certificate_has_all_names_and_is_nobody_elses() {
    let clock: SharedClock = ManualClock::at(Timestamp::from_second(START).unwrap());
    let mut ring = Ring::default();
    ring.apply(ring::Step::Add, clock.now(), 0, &SHORT).unwrap();
    let replica = Replica::new(&ring, clock.now());
    let tls = || rotation::tls(Arc::clone(&replica.serving));
    for name in names(&settings()) {
        speak(tls(), aggregator(&ring.bundle(), &clock), &name).await.unwrap_or_else(|e| panic!("{name}: {e}"));
    }
    for name in ["imagehub.default.svc", "example.com", "10.1.2.4"] {
        speak(tls(), aggregator(&ring.bundle(), &clock), name).await.unwrap_err();
    }
}

#[tokio::test]
async fn mounted_files_are_read_again_when_the_link_to_them_moves() {
    use base64::Engine as _;
    let clock = ManualClock::at(Timestamp::from_second(START).unwrap());
    let place = tempfile::tempdir().unwrap();
    let mut ring = Ring::default();
    ring.apply(ring::Step::Add, clock.now(), 0, &SHORT).unwrap();
    // As kubelet does it: folders, a link to the one that counts, and links through that.
    let write = |folder: &str| {
        let leaf = Leaf::issue(ring.signer().unwrap(), &names(&settings()), clock.now(), &SHORT).unwrap();
        let pem = |kind: &str, der: &[u8]| {
            let text = base64::engine::general_purpose::STANDARD.encode(der);
            format!("-----BEGIN {kind}-----\n{text}\n-----END {kind}-----\n")
        };
        let (certificate, key) = leaf.serving_der();
        let folder = place.path().join(folder);
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("tls.crt"), pem("CERTIFICATE", certificate)).unwrap();
        std::fs::write(folder.join("tls.key"), pem("PRIVATE KEY", key)).unwrap();
    };
    let point = |folder: &str| {
        let link = place.path().join("..new");
        std::os::unix::fs::symlink(folder, &link).unwrap();
        std::fs::rename(&link, place.path().join("..data")).unwrap();
    };
    write("1");
    write("2");
    point("1");
    let at = |name: &str| place.path().join("..data").join(name);
    let mounted = Mounted { certificate: at("tls.crt"), key: at("tls.key") };
    let first = mounted.read().await.unwrap();
    let serving = Certificates::of(mounted.read().await.unwrap());
    point("2");
    let second = mounted.read().await.unwrap();
    assert_ne!(first.cert, second.cert);
    assert!(serving.serve(second), "it is another one");
    assert!(!serving.serve(mounted.read().await.unwrap()), "and then the same");

    // One of the one and one of the other is no certificate with its key; nonsense is named.
    let mixed = Mounted { certificate: place.path().join("1/tls.crt"), key: place.path().join("2/tls.key") };
    assert!(mixed.read().await.unwrap_err().contains("tls.key"));
    std::fs::write(place.path().join("1/tls.crt"), "nonsense").unwrap();
    assert!(mixed.read().await.unwrap_err().contains("there is no certificate in it"));
}
