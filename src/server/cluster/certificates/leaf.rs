//! What one replica shows: the certificate that it serves with, and the one by which it speaks to another replica.
//! Both are in its memory only, made when it starts and anew in good time.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier};

use super::ring::{Authority, Lifetimes, Ring};
use crate::auth::REPLICA;
use crate::clock::SharedClock;
use crate::server::pki::{name, set_validity};

/// Both certificates.
#[derive(Debug)]
pub(super) struct Leaf {
    /// The certificate of the CA that signed them.
    signer: String,
    ends: i64,
    serving: Pair,
    client: Pair,
}

#[derive(Debug)]
struct Pair {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl Leaf {
    /// Those of a replica that is reached by `names`.
    ///
    /// # Errors
    /// They can't be made.
    pub(super) fn issue(
        by: &Authority,
        names: &[String],
        now: Timestamp,
        lifetimes: &Lifetimes,
    ) -> Result<Self, String> {
        let issuer = by.issuer()?;
        let ends = ends(by, now, lifetimes);
        let life = Duration::from_secs(u64::try_from(ends - now.as_second()).unwrap_or_default());
        let pair = |common: &str, names: &[String], usage| -> Result<Pair, rcgen::Error> {
            let mut params = CertificateParams::new(names.to_vec())?;
            params.distinguished_name = name(common, None);
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            params.extended_key_usages = vec![usage];
            params.use_authority_key_identifier_extension = true;
            set_validity(&mut params, now, life);
            let key = KeyPair::generate()?;
            let certificate = params.signed_by(&key, &issuer)?.der().clone();
            Ok(Pair { certificate, key: PrivatePkcs8KeyDer::from(key.serialize_der()).into() })
        };
        let serving =
            pair("imagehub", names, ExtendedKeyUsagePurpose::ServerAuth).map_err(|error| error.to_string())?;
        let client = pair(REPLICA, &[], ExtendedKeyUsagePurpose::ClientAuth).map_err(|error| error.to_string())?;
        Ok(Self { signer: by.certificate.clone(), ends, serving, client })
    }

    /// Whether others take their place: signed by another CA, or with a later end where this one's is near.
    pub(super) fn is_old(&self, signer: &Authority, now: Timestamp, lifetimes: &Lifetimes) -> bool {
        let near = self.ends - now.as_second() <= seconds(lifetimes.renew_leaf_before);
        self.signer != signer.certificate || (near && ends(signer, now, lifetimes) > self.ends)
    }

    /// What it serves with.
    ///
    /// # Errors
    /// The key can't be used.
    pub(super) fn serving(&self) -> Result<CertifiedKey, String> {
        let Pair { certificate, key } = &self.serving;
        CertifiedKey::from_der(vec![certificate.clone()], key.clone_key(), &aws_lc_rs::default_provider())
            .map_err(|error| error.to_string())
    }

    /// How it speaks to another replica, whose certificate one of `ring` has signed.
    ///
    /// # Errors
    /// A certificate or a key can't be used.
    pub(super) fn forwarding(&self, ring: &Ring, clock: &SharedClock) -> Result<Arc<ClientConfig>, String> {
        let mut roots = RootCertStore::empty();
        for authority in &ring.authorities {
            roots.add(authority.der()?).map_err(|error| error.to_string())?;
        }
        let Pair { certificate, key } = &self.client;
        let config = by_clock(clock)
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![certificate.clone()], key.clone_key());
        config.map(Arc::new).map_err(|error| error.to_string())
    }

    /// The certificate that it serves with, and its key, PKCS #8.
    #[cfg(test)]
    pub(super) fn serving_der(&self) -> (&[u8], &[u8]) {
        (&self.serving.certificate, self.serving.key.secret_der())
    }
}

/// The settings of a TLS client that has the time from `clock`.
pub(super) fn by_clock(clock: &SharedClock) -> ConfigBuilder<ClientConfig, WantsVerifier> {
    let time = Arc::new(Time(Arc::clone(clock)));
    ClientConfig::builder_with_details(Arc::new(aws_lc_rs::default_provider()), time)
        .with_safe_default_protocol_versions()
        .expect("aws-lc-rs has suites for both versions of TLS")
}

/// When what is signed now ends: never after its CA.
fn ends(signer: &Authority, now: Timestamp, lifetimes: &Lifetimes) -> i64 {
    now.as_second().saturating_add(seconds(lifetimes.leaf)).min(signer.ends)
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

/// The injected clock, as TLS asks for it.
#[derive(Debug)]
struct Time(SharedClock);

impl TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(self.0.now().as_second()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}
