//! Client certificates. TLS only asks for one and has its owner show that the key is there; whether it is
//! believed, and as whose, is decided here for each request, as kube-apiserver does it: the CAs may change
//! while a connection is open, a certificate may end, and one that is no good is a 401 that says why.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme};

use super::Caller;

/// The CAs whose client certificates are believed.
#[derive(Debug)]
pub struct Authorities(Arc<dyn ClientCertVerifier>);

impl Authorities {
    /// Those in `certificates`.
    ///
    /// # Errors
    /// There is none, or one can't be used.
    pub fn new(certificates: impl IntoIterator<Item = CertificateDer<'static>>) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates {
            roots.add(certificate).map_err(|error| error.to_string())?;
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
        verifier.map(Self).map_err(|error| error.to_string())
    }

    /// Those in a bundle of PEM.
    ///
    /// # Errors
    /// As [`new`](Self::new), and where it is no PEM.
    pub fn from_pem(bundle: &str) -> Result<Self, String> {
        let certificates = CertificateDer::pem_slice_iter(bundle.as_bytes()).collect::<Result<Vec<_>, _>>();
        Self::new(certificates.map_err(|error| error.to_string())?)
    }

    /// Whether one of them stands for the certificate that `chain` begins with, as a client's, at `now`.
    fn verify(&self, chain: &[CertificateDer<'_>], now: Timestamp) -> Result<(), String> {
        let (end_entity, intermediates) = chain.split_first().ok_or("there is none")?;
        let seconds = u64::try_from(now.as_second()).unwrap_or_default();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        self.0.verify_client_cert(end_entity, intermediates, now).map(|_| ()).map_err(|error| error.to_string())
    }
}

/// By how many states of trust what was found is kept for one client: the cluster's, and the replicas'.
const TRUSTS: usize = 2;

/// The certificates that a client has shown at the beginning of its connection.
#[derive(Debug)]
pub struct Peer {
    chain: Vec<CertificateDer<'static>>,
    known: Option<Caller>,
    seen: Mutex<[Option<Seen>; TRUSTS]>,
}

/// What they were found to be.
#[derive(Debug, Clone)]
struct Seen {
    /// By which state of the trust.
    by: u64,
    /// From when on it must be looked at again, in seconds since 1970.
    until: i64,
    found: Found,
}

/// What a client's certificate is believed to be.
#[derive(Debug, Clone)]
pub(super) struct Found {
    /// A front proxy's, which may say for whom it asks.
    pub(super) proxy: bool,
    /// That of a caller.
    pub(super) caller: Option<Caller>,
    /// Why it is neither.
    pub(super) why: Arc<str>,
}

/// Which certificates are believed.
#[derive(Debug, Default)]
pub(super) struct Trust {
    /// Another one for each state of it.
    pub(super) generation: u64,
    /// Those of callers.
    pub(super) clients: Option<Authorities>,
    /// Those of front proxies, and the common names that they may have: any, where there is none.
    pub(super) proxies: Option<(Authorities, Vec<String>)>,
}

impl Peer {
    /// A client that showed `chain`, its own certificate first.
    #[must_use]
    pub fn new(chain: &[CertificateDer<'_>]) -> Self {
        let chain = chain.iter().map(|certificate| certificate.clone().into_owned()).collect();
        Self { chain, known: None, seen: Mutex::default() }
    }

    /// A client that somebody in this process vouches for, without a certificate.
    #[must_use]
    pub fn known(caller: Caller) -> Self {
        Self { chain: Vec::new(), known: Some(caller), seen: Mutex::default() }
    }

    /// What the certificate is by `trust`, at `now`; `name` makes a caller of a user and its groups.
    pub(super) fn judge(&self, trust: &Trust, now: Timestamp, name: impl FnOnce(&str, Vec<String>) -> Caller) -> Found {
        if let Some(caller) = &self.known {
            return Found { proxy: false, caller: Some(caller.clone()), why: "".into() };
        }
        let second = now.as_second();
        let seen = |seen: &&Seen| seen.by == trust.generation && second < seen.until;
        if let Some(seen) = self.seen.lock().iter().flatten().find(seen) {
            return seen.found.clone();
        }
        let found = self.look(trust, now, name);
        // What is not believed now may be in a second, when it begins to be good.
        let until = if found.proxy || found.caller.is_some() { self.ends() } else { second + 1 };
        let mut all = self.seen.lock();
        all.rotate_right(1);
        all[0] = Some(Seen { by: trust.generation, until, found: found.clone() });
        found
    }

    /// When the first of the certificates ends, in seconds since 1970.
    fn ends(&self) -> i64 {
        let end = |certificate: &CertificateDer<'_>| {
            let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
            Some(parsed.validity().not_after.timestamp())
        };
        self.chain.iter().filter_map(end).min().unwrap_or_default()
    }

    fn look(&self, trust: &Trust, now: Timestamp, name: impl FnOnce(&str, Vec<String>) -> Caller) -> Found {
        let subject = self.chain.first().and_then(subject);
        let mut why = String::from("no CA is trusted for client certificates");
        let mut proxy = false;
        if let Some((authorities, allowed)) = &trust.proxies {
            let common_name = subject.as_ref().map_or("", |(user, _)| user);
            match authorities.verify(&self.chain, now) {
                Ok(()) if allowed.is_empty() || allowed.iter().any(|name| name == common_name) => proxy = true,
                Ok(()) => why = format!("{common_name:?} is not among the allowed names of front proxies"),
                Err(error) => why = error,
            }
        }
        let mut caller = None;
        if let Some(authorities) = &trust.clients {
            match (authorities.verify(&self.chain, now), subject) {
                (Ok(()), Some((user, groups))) => caller = Some(name(&user, groups)),
                (Ok(()), None) => "its subject has no common name".clone_into(&mut why),
                (Err(error), _) if why.is_empty() || trust.proxies.is_none() => why = error,
                (Err(_), _) => {}
            }
        }
        Found { proxy, caller, why: why.into() }
    }
}

/// The common name and the organizations of a certificate: a user and its groups, as kube has it.
fn subject(certificate: &CertificateDer<'_>) -> Option<(String, Vec<String>)> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let subject = parsed.subject();
    let user = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
    let groups = subject.iter_organization().filter_map(|o| o.as_str().ok()).map(str::to_owned).collect();
    (!user.is_empty()).then_some((user, groups))
}

/// How TLS treats client certificates: asked for, never required (probes and bearers of tokens have none), and
/// looked at when a request comes.
#[derive(Debug)]
pub struct AskForCertificate(Arc<CryptoProvider>);

impl Default for AskForCertificate {
    fn default() -> Self {
        Self(Arc::new(aws_lc_rs::default_provider()))
    }
}

impl ClientCertVerifier for AskForCertificate {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        // Nothing is believed by this: `Peer::judge` decides.
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

    use super::*;

    struct Ca {
        certificate: CertificateDer<'static>,
        issuer: Issuer<'static, KeyPair>,
    }

    fn ca(name: &str) -> Ca {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Ca { certificate, issuer: Issuer::new(params, key) }
    }

    /// What a client with a certificate of `ca` shows, good from 2025 to 2027.
    fn peer(ca: &Ca, user: &str, groups: &[&str]) -> Peer {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, user);
        for group in groups {
            params.distinguished_name.push(DnType::OrganizationName, *group);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = rcgen::date_time_ymd(2025, 1, 1);
        params.not_after = rcgen::date_time_ymd(2027, 1, 1);
        let key = KeyPair::generate().unwrap();
        Peer::new(&[params.signed_by(&key, &ca.issuer).unwrap().der().clone()])
    }

    fn trust(generation: u64, clients: &Ca, proxies: &Ca, allowed: &[&str]) -> Trust {
        let of = |ca: &Ca| Authorities::new([ca.certificate.clone()]).unwrap();
        let allowed = allowed.iter().map(|name| (*name).to_owned()).collect();
        Trust { generation, clients: Some(of(clients)), proxies: Some((of(proxies), allowed)) }
    }

    fn judge(peer: &Peer, trust: &Trust, at: &str) -> (bool, Option<String>, String) {
        let found = peer.judge(trust, at.parse().unwrap(), Caller::authenticated);
        (found.proxy, found.caller.map(|caller| caller.user().to_owned()), found.why.to_string())
    }

    const NOW: &str = "2026-06-01T00:00:00Z";

    #[test]
    fn a_front_proxy_is_one_by_its_ca_and_its_name() {
        let (clients, proxies) = (ca("clients"), ca("proxies"));
        let proxy = peer(&proxies, "front-proxy-client", &[]);
        let by_name = trust(1, &clients, &proxies, &["front-proxy-client"]);
        assert!(judge(&proxy, &by_name, NOW).0);
        assert!(judge(&peer(&proxies, "other", &[]), &trust(2, &clients, &proxies, &[]), NOW).0, "any name");
        let (is_proxy, caller, why) = judge(&peer(&proxies, "other", &[]), &by_name, NOW);
        assert!(!is_proxy && caller.is_none());
        assert!(why.contains(r#""other" is not among the allowed names"#), "{why}");
        // A client of the cluster's CA can't speak for others, whatever its name.
        let (is_proxy, caller, _) = judge(&peer(&clients, "front-proxy-client", &[]), &by_name, NOW);
        assert_eq!((is_proxy, caller.as_deref()), (false, Some("front-proxy-client")));
    }

    #[test]
    fn a_certificate_of_another_ca_or_out_of_its_time_is_nobodys() {
        let (clients, proxies) = (ca("clients"), ca("proxies"));
        let trust = trust(1, &clients, &proxies, &[]);
        let alice = peer(&clients, "alice", &["dev"]);
        assert_eq!(judge(&alice, &trust, "2024-12-31T00:00:00Z").1, None);
        assert_eq!(judge(&alice, &trust, NOW).1.as_deref(), Some("alice"));
        // The same connection, later.
        assert_eq!(judge(&alice, &trust, "2027-01-02T00:00:00Z").1, None);
        assert_eq!(judge(&peer(&ca("clients"), "alice", &[]), &trust, NOW).1, None);
    }

    #[test]
    fn an_open_connection_is_judged_anew_when_the_trust_changes() {
        let (clients, proxies, others) = (ca("clients"), ca("proxies"), ca("others"));
        let alice = peer(&clients, "alice", &[]);
        assert_eq!(judge(&alice, &trust(1, &clients, &proxies, &[]), NOW).1.as_deref(), Some("alice"));
        assert_eq!(judge(&alice, &trust(2, &others, &proxies, &[]), NOW).1, None);
        assert_eq!(judge(&alice, &trust(3, &clients, &proxies, &[]), NOW).1.as_deref(), Some("alice"));
    }
}
