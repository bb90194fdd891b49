//! The certificates of a server on one machine: a CA of its own, the certificate that it serves with, and
//! the administrator's, in the kubeconfig that it writes. All in the data directory, readable by its owner only.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::extensions::GeneralName;

use crate::auth::MASTERS;

/// How long the CA is good for.
const CA_LIFE: Duration = Duration::from_hours(87600);
/// How long the certificates that it signs are.
const LEAF_LIFE: Duration = Duration::from_hours(8760);
/// A certificate that ends sooner than this is made anew.
const RENEW_BEFORE: Duration = Duration::from_hours(720);
/// The CA's, so much sooner that what it signs ends before it, and that clients have the time to take over the
/// new one: it has the same key, so that they trust it and what it signs with either.
const RENEW_CA_BEFORE: Duration = Duration::from_hours(2 * 8760);
/// Clocks differ: certificates begin a little before they are made.
const SKEW: Duration = Duration::from_hours(1);

/// Why there are no certificates.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file can't be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which one.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("{} can't be used ({why}): remove it to have it made anew, or put the right one back", path.display())]
    Bad {
        /// Which one.
        path: PathBuf,
        /// Why.
        why: String,
    },
}

/// A certificate and its key.
struct Pair {
    certificate: String,
    key: String,
}

/// What a server serves and trusts.
#[derive(Debug)]
pub struct Pki {
    /// The CA's certificate.
    pub ca: CertificateDer<'static>,
    /// What the server serves with.
    pub certificate: CertificateDer<'static>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
}

/// Reads the certificates in `dir`, makes those that are missing or about to end, and writes the
/// administrator's kubeconfig for a server at `address`.
///
/// # Errors
/// What is wrong with which file.
pub fn prepare(dir: &Path, address: SocketAddr, now: Timestamp) -> Result<Pki, PkiError> {
    let folder = dir.join("pki");
    if let Err(source) = fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder) {
        return Err(PkiError::Io { path: folder, source });
    }
    let ca_path = folder.join("ca.crt");
    let mut anew = false;
    let ca = if let Some(pair) = read_pair(&folder, "ca")? {
        if still_good(&ca_path, &pair, now, RENEW_CA_BEFORE, &[])? {
            pair
        } else {
            let key = KeyPair::from_pem(&pair.key).map_err(|e| bad(&folder.join("ca.key"), &e))?;
            let certificate = ca_params(now).self_signed(&key).map_err(|e| bad(&ca_path, &e))?;
            write(&ca_path, certificate.pem().as_bytes())?;
            Pair { certificate: certificate.pem(), key: pair.key }
        }
    } else {
        // What another CA signed is of no use.
        anew = true;
        let params = ca_params(now);
        let key = generate(&ca_path)?;
        let certificate = params.self_signed(&key).map_err(|e| bad(&ca_path, &e))?;
        write_pair(&folder, "ca", Pair { certificate: certificate.pem(), key: key.serialize_pem() })?
    };
    let issuer_key = KeyPair::from_pem(&ca.key).map_err(|e| bad(&folder.join("ca.key"), &e))?;
    let issuer = Issuer::from_ca_cert_pem(&ca.certificate, issuer_key).map_err(|e| bad(&ca_path, &e))?;

    let addresses = [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST), reachable(address).ip()];
    let server = leaf(&folder, "server", anew, now, &issuer, &addresses, || {
        let names: BTreeSet<String> = addresses.iter().map(IpAddr::to_string).chain(["localhost".to_owned()]).collect();
        let mut params = CertificateParams::new(Vec::from_iter(names))?;
        params.distinguished_name = name("imagehub", None);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        Ok(params)
    })?;
    let admin = leaf(&folder, "admin", anew, now, &issuer, &[], || {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name = name("admin", Some(MASTERS));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        Ok(params)
    })?;
    write(&dir.join("kubeconfig"), kubeconfig(address, &ca, &admin).as_bytes())?;

    let der = |pair: &Pair, file: &str| {
        CertificateDer::from_pem_slice(pair.certificate.as_bytes()).map_err(|e| bad(&folder.join(file), &e))
    };
    Ok(Pki {
        ca: der(&ca, "ca.crt")?,
        certificate: der(&server, "server.crt")?,
        key: PrivateKeyDer::from_pem_slice(server.key.as_bytes()).map_err(|e| bad(&folder.join("server.key"), &e))?,
    })
}

fn ca_params(now: Timestamp) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = name("imagehub-ca", None);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    set_validity(&mut params, now, CA_LIFE);
    params
}

/// Makes it good from a little before `now` on, for `life`.
pub(super) fn set_validity(params: &mut CertificateParams, now: Timestamp, life: Duration) {
    let seconds = Duration::from_secs(u64::try_from(now.as_second()).unwrap_or(0));
    params.not_before = date_time_ymd(1970, 1, 1) + seconds.saturating_sub(SKEW);
    params.not_after = date_time_ymd(1970, 1, 1) + seconds + life;
}

/// A subject: its common name and its organization.
pub(super) fn name(common: &str, organization: Option<&str>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    if let Some(organization) = organization {
        name.push(DnType::OrganizationName, organization);
    }
    name.push(DnType::CommonName, common);
    name
}

/// A certificate that the CA signed: the one that is there, unless it ends soon, has not begun, lacks one of
/// `addresses`, or `anew` says so.
fn leaf(
    folder: &Path,
    file: &str,
    anew: bool,
    now: Timestamp,
    issuer: &Issuer<'_, KeyPair>,
    addresses: &[IpAddr],
    params: impl FnOnce() -> Result<CertificateParams, rcgen::Error>,
) -> Result<Pair, PkiError> {
    let path = folder.join(format!("{file}.crt"));
    if !anew
        && let Some(pair) = read_pair(folder, file)?
        && still_good(&path, &pair, now, RENEW_BEFORE, addresses)?
    {
        return Ok(pair);
    }
    let key = generate(&path)?;
    let mut params = params().map_err(|e| bad(&path, &e))?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    set_validity(&mut params, now, LEAF_LIFE);
    let certificate = params.signed_by(&key, issuer).map_err(|e| bad(&path, &e))?;
    write_pair(folder, file, Pair { certificate: certificate.pem(), key: key.serialize_pem() })
}

fn still_good(
    path: &Path,
    pair: &Pair,
    now: Timestamp,
    before: Duration,
    addresses: &[IpAddr],
) -> Result<bool, PkiError> {
    let der = CertificateDer::from_pem_slice(pair.certificate.as_bytes()).map_err(|e| bad(path, &e))?;
    let (_, parsed) = x509_parser::parse_x509_certificate(&der).map_err(|e| bad(path, &e))?;
    let soon = i64::try_from(before.as_secs()).unwrap_or(i64::MAX);
    if parsed.validity().not_after.timestamp() < now.as_second().saturating_add(soon) {
        return Ok(false);
    }
    if parsed.validity().not_before.timestamp() > now.as_second() {
        // Made when the clock was ahead: nobody would trust it yet.
        return Ok(false);
    }
    let names = parsed.subject_alternative_name().map_err(|e| bad(path, &e))?;
    let names = names.map(|names| names.value.general_names.as_slice()).unwrap_or_default();
    Ok(addresses.iter().all(|address| {
        let octets = match address {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        names.iter().any(|name| matches!(name, GeneralName::IPAddress(ip) if *ip == octets))
    }))
}

fn generate(path: &Path) -> Result<KeyPair, PkiError> {
    KeyPair::generate().map_err(|e| bad(path, &e))
}

fn bad(path: &Path, why: &dyn std::fmt::Display) -> PkiError {
    PkiError::Bad { path: path.to_owned(), why: why.to_string() }
}

fn read_pair(folder: &Path, file: &str) -> Result<Option<Pair>, PkiError> {
    let read = |ending: &str| {
        let path = folder.join(format!("{file}.{ending}"));
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(PkiError::Io { path, source }),
        }
    };
    // The key is written last: one without the other is a start that was cut off.
    Ok(match (read("crt")?, read("key")?) {
        (Some(certificate), Some(key)) => Some(Pair { certificate, key }),
        _ => None,
    })
}

fn write_pair(folder: &Path, file: &str, pair: Pair) -> Result<Pair, PkiError> {
    // Never an old key beside a new certificate.
    let key = folder.join(format!("{file}.key"));
    match fs::remove_file(&key) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(PkiError::Io { path: key, source }),
    }
    write(&folder.join(format!("{file}.crt")), pair.certificate.as_bytes())?;
    write(&key, pair.key.as_bytes())?;
    Ok(pair)
}

/// Writes a whole file, readable by its owner only, or leaves what was.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), PkiError> {
    let write = || {
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        let _ = fs::remove_file(&part);
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&part, path)
    };
    write().map_err(|source| PkiError::Io { path: path.to_owned(), source })
}

/// An address that a client on this machine reaches a listener at.
#[must_use]
pub fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::from([127, 0, 0, 1]),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn kubeconfig(address: SocketAddr, ca: &Pair, admin: &Pair) -> String {
    let user = format!(
        "client-certificate-data: {}\n    client-key-data: {}",
        STANDARD.encode(&admin.certificate),
        STANDARD.encode(&admin.key)
    );
    kubeconfig_for("admin", &user, &reachable(address).to_string(), &ca.certificate)
}

/// The kubeconfig of a user with a token, for the server of the data directory `dir`.
///
/// # Errors
/// The server has never been started there, or its files can't be read.
pub fn token_kubeconfig(dir: &Path, user: &str, token: &str) -> Result<String, PkiError> {
    let read = |path: PathBuf| fs::read_to_string(&path).map_err(|source| PkiError::Io { path, source });
    let ca = read(dir.join("pki/ca.crt"))?;
    let path = dir.join("addresses.json");
    let addresses: serde_json::Value =
        serde_json::from_str(&read(path.clone())?).map_err(|error| bad(&path, &error))?;
    let address: SocketAddr = addresses["kube"]
        .as_str()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| bad(&path, &"it has no address of the Kubernetes API"))?;
    Ok(kubeconfig_for(user, &format!("token: {token}"), &reachable(address).to_string(), &ca))
}

fn kubeconfig_for(name: &str, user: &str, address: &str, ca: &str) -> String {
    let ca = STANDARD.encode(ca);
    format!(
        "apiVersion: v1\nkind: Config\nclusters:\n- name: imagehub\n  cluster:\n    server: https://{address}\n    \
         certificate-authority-data: {ca}\nusers:\n- name: {name}\n  user:\n    {user}\ncontexts:\n- name: imagehub\n  \
         context:\n    cluster: imagehub\n    user: {name}\ncurrent-context: imagehub\n"
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use futures::FutureExt as _;

    use super::*;
    use crate::auth::{Authenticator, Authorities, Peer};
    use crate::clock::ManualClock;

    const ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8443);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn what_is_there_is_used_again_until_it_is_about_to_end() {
        let dir = tempfile::tempdir().unwrap();
        let first = prepare(dir.path(), ADDRESS, at(1_800_000_000)).unwrap();
        let second = prepare(dir.path(), ADDRESS, at(1_800_000_060)).unwrap();
        assert_eq!((&first.ca, &first.certificate), (&second.ca, &second.certificate));
        let year_later = prepare(dir.path(), ADDRESS, at(1_800_000_000 + 350 * 24 * 3600)).unwrap();
        assert_eq!(first.ca, year_later.ca);
        assert_ne!(first.certificate, year_later.certificate);
    }

    #[test]
    fn what_was_made_by_a_clock_that_was_hours_ahead_is_made_anew_when_it_is_set_right() {
        let dir = tempfile::tempdir().unwrap();
        let ahead = prepare(dir.path(), ADDRESS, at(1_800_000_000 + 5 * 3600)).unwrap();
        let key = fs::read(dir.path().join("pki/ca.key")).unwrap();
        let right = prepare(dir.path(), ADDRESS, at(1_800_000_000)).unwrap();
        for der in [&right.ca, &right.certificate] {
            let (_, parsed) = x509_parser::parse_x509_certificate(der).unwrap();
            assert!(parsed.validity().not_before.timestamp() <= 1_800_000_000);
        }
        assert_eq!(fs::read(dir.path().join("pki/ca.key")).unwrap(), key, "who trusts the one trusts the other");
        // A little ahead is no matter.
        let later = prepare(dir.path(), ADDRESS, at(1_800_000_000 - 3000)).unwrap();
        assert_eq!((&right.ca, &right.certificate), (&later.ca, &later.certificate));
        assert_ne!(ahead.certificate, right.certificate);
    }

    #[test]
    fn a_server_that_listens_elsewhere_gets_a_certificate_for_there() {
        let dir = tempfile::tempdir().unwrap();
        let first = prepare(dir.path(), ADDRESS, at(1_800_000_000)).unwrap();
        let other_port = SocketAddr::new(ADDRESS.ip(), 9443);
        assert_eq!(first.certificate, prepare(dir.path(), other_port, at(1_800_000_000)).unwrap().certificate);
        let everywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8443));
        assert_eq!(first.certificate, prepare(dir.path(), everywhere, at(1_800_000_000)).unwrap().certificate);
        for elsewhere in ["192.0.2.7:8443", "[2001:db8::7]:8443"] {
            let elsewhere = elsewhere.parse().unwrap();
            let second = prepare(dir.path(), elsewhere, at(1_800_000_000)).unwrap();
            assert_ne!(first.certificate, second.certificate, "{elsewhere}");
            assert_eq!(first.ca, second.ca);
            let again = prepare(dir.path(), elsewhere, at(1_800_000_000)).unwrap();
            assert_eq!(second.certificate, again.certificate);
        }
    }

    #[test]
    fn the_cas_certificate_is_made_anew_with_the_same_key_long_before_it_ends() {
        let dir = tempfile::tempdir().unwrap();
        let first = prepare(dir.path(), ADDRESS, at(1_800_000_000)).unwrap();
        let key = fs::read(dir.path().join("pki/ca.key")).unwrap();
        let later = prepare(dir.path(), ADDRESS, at(1_800_000_000 + 8 * 365 * 24 * 3600 + 1)).unwrap();
        assert_ne!(first.ca, later.ca);
        assert_eq!(fs::read(dir.path().join("pki/ca.key")).unwrap(), key);
        let (_, parsed) = x509_parser::parse_x509_certificate(&later.certificate).unwrap();
        let (_, old) = x509_parser::parse_x509_certificate(&first.ca).unwrap();
        parsed.verify_signature(Some(old.public_key())).expect("who trusts the old one trusts what the new one signs");
    }

    #[test]
    fn only_the_owner_reads_keys_and_the_kubeconfig() {
        let dir = tempfile::tempdir().unwrap();
        prepare(dir.path(), ADDRESS, at(1_800_000_000)).unwrap();
        for file in ["kubeconfig", "pki/ca.key", "pki/server.key", "pki/admin.key"] {
            let mode = fs::metadata(dir.path().join(file)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
    }

    #[test]
    fn the_administrators_certificate_says_who_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let made = prepare(dir.path(), ADDRESS, at(1_800_000_000)).unwrap();
        let pem = fs::read(dir.path().join("pki/admin.crt")).unwrap();
        let peer = Peer::new(&[CertificateDer::from_pem_slice(&pem).unwrap()]);
        let authorities = Authorities::new([made.ca]).unwrap();
        let authenticator = Authenticator::local(None, Some(authorities), ManualClock::at(at(1_800_000_000)));
        let caller = authenticator.authenticate(Some(&peer), &http::HeaderMap::new()).now_or_never().unwrap().unwrap();
        assert_eq!((caller.user(), caller.is_administrator()), ("admin", true));
    }

    #[test]
    fn a_start_that_was_cut_off_is_made_good() {
        let dir = tempfile::tempdir().unwrap();
        let first = prepare(dir.path(), ADDRESS, at(1_800_000_000)).unwrap();
        fs::remove_file(dir.path().join("pki/ca.key")).unwrap();
        let second = prepare(dir.path(), ADDRESS, at(1_800_000_000)).unwrap();
        assert_ne!(first.ca, second.ca);
        assert_ne!(first.certificate, second.certificate, "signed by the CA that is gone");
    }

    #[test]
    fn a_file_that_is_no_certificate_is_named() {
        let dir = tempfile::tempdir().unwrap();
        prepare(dir.path(), ADDRESS, at(1_800_000_000)).unwrap();
        fs::write(dir.path().join("pki/server.crt"), "nonsense").unwrap();
        let error = prepare(dir.path(), ADDRESS, at(1_800_000_000)).unwrap_err().to_string();
        assert!(error.contains("server.crt") && error.contains("remove it"), "{error}");
    }
}
