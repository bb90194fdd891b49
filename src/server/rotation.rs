//! The certificate that the server serves with, made anew before it ends: without a restart, and without
//! a connection that fails. Connections that are open keep the one they began with.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use jiff::{SignedDuration, Timestamp};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tracing::{error, info};

use super::pki::{self, Pki};
use crate::auth::{AskForCertificate, REPLICA};
use crate::clock::SharedClock;

/// How often the certificates are looked at.
const LOOK_EVERY: SignedDuration = SignedDuration::from_hours(12);
/// How long after a look that failed the next one is.
const TRY_AGAIN: SignedDuration = SignedDuration::from_mins(10);
/// How often it is asked whether the clock was set back: then what is due by it is far away, and what was made while
/// it was ahead may not have begun.
const SET_BACK_EVERY: Duration = Duration::from_secs(20);

/// The certificates that new connections are served with.
#[derive(Debug)]
pub struct Certificates {
    current: ArcSwap<CertifiedKey>,
    /// That for other replicas of this server, who ask for it by a name of their own: they check it by a CA of their
    /// own, whosever the other certificate is.
    replicas: ArcSwapOption<CertifiedKey>,
}

impl Certificates {
    /// Those of `pki`.
    ///
    /// # Errors
    /// The certificate can't be used with its key.
    pub fn new(pki: &Pki) -> Result<Arc<Self>, rustls::Error> {
        Ok(Self::of(certified(pki)?))
    }

    /// That one.
    pub fn of(certified: CertifiedKey) -> Arc<Self> {
        Arc::new(Self { current: ArcSwap::from_pointee(certified), replicas: ArcSwapOption::empty() })
    }

    /// Serves new connections with that of `pki`. True if it is another one.
    ///
    /// # Errors
    /// The certificate can't be used with its key; the one before stays.
    pub fn replace(&self, pki: &Pki) -> Result<bool, rustls::Error> {
        Ok(self.serve(certified(pki)?))
    }

    /// Serves new connections with that one. True if it is another one than before.
    pub fn serve(&self, certified: CertifiedKey) -> bool {
        let other = certified.cert != self.current.load().cert;
        if other {
            self.current.store(Arc::new(certified));
        }
        other
    }

    /// Serves new connections of other replicas with that one.
    pub fn serve_replicas(&self, certified: CertifiedKey) {
        self.replicas.store(Some(Arc::new(certified)));
    }
}

fn certified(pki: &Pki) -> Result<CertifiedKey, rustls::Error> {
    CertifiedKey::from_der(vec![pki.certificate.clone()], pki.key.clone_key(), &aws_lc_rs::default_provider())
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let of_replicas = || self.replicas.load_full().filter(|_| hello.server_name() == Some(REPLICA));
        Some(of_replicas().unwrap_or_else(|| self.current.load_full()))
    }
}

/// The TLS settings of a server that serves with `certificates`: client certificates are asked for, never
/// required, and believed or not when a request comes.
pub fn tls(certificates: Arc<Certificates>) -> Arc<ServerConfig> {
    let verifier = Arc::new(AskForCertificate::default());
    let mut config = ServerConfig::builder().with_client_cert_verifier(verifier).with_cert_resolver(certificates);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(config)
}

/// Makes the certificates in `dir` anew before they end, for ever.
pub async fn keep_fresh(dir: &Path, address: SocketAddr, clock: SharedClock, certificates: Arc<Certificates>) {
    keep_fresh_and_ask(dir, address, clock, certificates, SET_BACK_EVERY).await;
}

async fn keep_fresh_and_ask(
    dir: &Path,
    address: SocketAddr,
    clock: SharedClock,
    certificates: Arc<Certificates>,
    set_back_every: Duration,
) {
    let mut wait = LOOK_EVERY;
    loop {
        let looked = clock.now();
        let next = looked.checked_add(wait).unwrap_or(Timestamp::MAX);
        tokio::select! {
            () = clock.reaches(next) => {}
            () = is_set_back(&clock, looked, set_back_every) => info!("the clock was set back"),
        }
        wait = match renew(dir, address, clock.now(), &certificates) {
            Ok(true) => {
                info!("the serving certificate was made anew");
                LOOK_EVERY
            }
            Ok(false) => LOOK_EVERY,
            Err(cause) => {
                error!(cause, "the certificates can't be made anew; those in use stay, until they end");
                TRY_AGAIN
            }
        };
    }
}

/// Waits until the clock shows less than `since`.
async fn is_set_back(clock: &SharedClock, since: Timestamp, every: Duration) {
    while clock.now() >= since {
        tokio::time::sleep(every).await;
    }
}

fn renew(dir: &Path, address: SocketAddr, now: Timestamp, certificates: &Certificates) -> Result<bool, String> {
    let pki = pki::prepare(dir, address, now).map_err(|error| error.to_string())?;
    certificates.replace(&pki).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use axum::Router;
    use axum::routing::get;
    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, RootCertStore};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio_rustls::TlsConnector;

    use super::super::listen::{Door, Stop, always};
    use super::*;
    use crate::clock::{Clock as _, ManualClock};

    const YEAR: i64 = 365 * 24 * 3600;

    /// One request over a connection of its own, by a client that trusts `ca`.
    async fn request(address: SocketAddr, ca: &rustls::pki_types::CertificateDer<'static>) -> Result<(), String> {
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone()).map_err(|e| e.to_string())?;
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let tcp = TcpStream::connect(address).await.map_err(|e| e.to_string())?;
        let name = ServerName::from(address.ip());
        let mut tls = TlsConnector::from(Arc::new(config)).connect(name, tcp).await.map_err(|e| e.to_string())?;
        let asked = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        tls.write_all(asked).await.map_err(|e| e.to_string())?;
        tls.flush().await.map_err(|e| e.to_string())?;
        let mut answer = Vec::new();
        // How the connection ends is no matter: the answer is.
        let _ = tls.read_to_end(&mut answer).await;
        if answer.starts_with(b"HTTP/1.1 200") { Ok(()) } else { Err(String::from_utf8_lossy(&answer).into_owned()) }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn certificates_are_made_anew_twenty_times_and_no_request_fails() {
        let dir = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let start = Timestamp::now().as_second() - 20 * YEAR;
        let clock = ManualClock::at(Timestamp::from_second(start).unwrap());
        let at_first = pki::prepare(dir.path(), address, clock.now()).unwrap();
        let certificates = Certificates::new(&at_first).unwrap();
        let tls = tls(Arc::clone(&certificates));
        let stop = Stop::default();
        let router = Router::new().route("/", get(|| async { "ok" }));
        let door = tokio::spawn(Door { listener, tls: Some(tls), served: always(router) }.serve(stop.clone()));

        for year in 0..20 {
            clock.step_ms((YEAR - 20 * 24 * 3600) * 1000);
            assert!(renew(dir.path(), address, clock.now(), &certificates).unwrap(), "year {year}");
        }
        // Now under load, and by today's date, since clients have clocks of their own.
        let today = Timestamp::now();
        renew(dir.path(), address, today, &certificates).unwrap();
        let ca = pki::prepare(dir.path(), address, today).unwrap().ca;
        let done = Arc::new(AtomicBool::new(false));
        let load = tokio::spawn({
            let done = Arc::clone(&done);
            async move {
                let mut answered = 0;
                while !done.load(Ordering::Relaxed) || answered < 50 {
                    request(address, &ca).await.map_err(|e| format!("after {answered}: {e}"))?;
                    answered += 1;
                }
                Ok::<_, String>(answered)
            }
        });
        for _ in 0..20 {
            std::fs::remove_file(dir.path().join("pki/server.key")).unwrap();
            assert!(renew(dir.path(), address, today, &certificates).unwrap());
            tokio::task::yield_now().await;
        }
        done.store(true, Ordering::Relaxed);
        let answered = load.await.unwrap().unwrap();
        assert!(answered >= 50);
        stop.drain.cancel();
        door.await.unwrap();
    }

    /// How often a certificate was made anew so far: what is in `dir` now, and how often that was another.
    struct Seen<'a> {
        dir: &'a Path,
        last: Vec<u8>,
        changes: usize,
    }

    impl<'a> Seen<'a> {
        fn new(dir: &'a Path) -> Self {
            let mut seen = Self { dir, last: Vec::new(), changes: 0 };
            seen.look();
            seen.changes = 0;
            seen
        }

        fn look(&mut self) -> usize {
            let now = std::fs::read(self.dir.join("pki/server.crt")).unwrap();
            self.changes += usize::from(now != self.last);
            self.last = now;
            self.changes
        }
    }

    /// Lets the task that keeps them fresh see what the clock shows.
    async fn settle() {
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_week_and_steps_of_hours_change_nothing_and_a_year_changes_each_once() {
        const ADDRESS: &str = "127.0.0.1:8443";
        const HOUR_MS: i64 = 3_600_000;
        let (dir, address) = (tempfile::tempdir().unwrap(), ADDRESS.parse().unwrap());
        let clock = ManualClock::at(Timestamp::from_second(1_800_000_000).unwrap());
        let shared: SharedClock = clock.clone();
        let certificates = Certificates::new(&pki::prepare(dir.path(), address, clock.now()).unwrap()).unwrap();
        let mut seen = Seen::new(dir.path());
        let task = tokio::spawn({
            let (dir, every) = (dir.path().to_owned(), Duration::from_millis(1));
            async move { keep_fresh_and_ask(&dir, address, shared, certificates, every).await }
        });
        let files = || std::fs::read_dir(dir.path().join("pki")).unwrap().count();
        let before = files();
        settle().await;
        for _ in 0..7 * 48 {
            clock.step_ms(HOUR_MS / 2);
            settle().await;
        }
        for hours in [13, -5, 30, -40, 1, 12] {
            clock.step_ms(hours * HOUR_MS);
            settle().await;
        }
        assert_eq!((seen.look(), files()), (0, before), "in a week");
        for month in 1..=36 {
            clock.step_ms(30 * 24 * HOUR_MS);
            settle().await;
            seen.look();
            assert!(seen.changes <= month / 10, "month {month}: made anew {} times", seen.changes);
        }
        assert_eq!((seen.changes, files()), (3, before), "in three years");
        // The last one is of a clock that was months ahead. Now it is set right.
        clock.step_ms(-300 * 24 * HOUR_MS);
        let set_right = async {
            while seen.look() == 3 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), set_right).await.expect("it is made anew");
        task.abort();
    }
}
