//! A serving certificate that somebody else makes: a Secret that is mounted, or files. Read again when they change.

use std::path::PathBuf;
use std::sync::Arc;

use jiff::SignedDuration;
use jiff::Timestamp;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use tracing::{error, info};

use crate::clock::SharedClock;
use crate::server::rotation::Certificates;

/// How often the files are looked at. A kubelet brings a Secret's change within about a minute.
const LOOK_EVERY: SignedDuration = SignedDuration::from_secs(5);
/// The longest file that is read, in bytes.
const LONGEST: u64 = 1024 * 1024;

/// Where a certificate and its key are.
#[derive(Debug, Clone)]
pub struct Mounted {
    /// The certificate and, after it, those between it and its CA: PEM.
    pub certificate: PathBuf,
    /// Its key: PEM.
    pub key: PathBuf,
}

impl Mounted {
    /// Reads both.
    ///
    /// # Errors
    /// What is wrong with which file. A Secret that changes while it is read is wrong for a moment.
    pub(super) async fn read(&self) -> Result<CertifiedKey, String> {
        let at = |path: &PathBuf, why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
        let text = async |path: &PathBuf| {
            let length = tokio::fs::metadata(path).await.map_err(|error| at(path, &error))?.len();
            if length > LONGEST {
                return Err(at(
                    path,
                    &format_args!("{length} bytes are no certificate and no key; {LONGEST} are the most"),
                ));
            }
            tokio::fs::read(path).await.map_err(|error| at(path, &error))
        };
        let chain = CertificateDer::pem_slice_iter(&text(&self.certificate).await?)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| at(&self.certificate, &error))?;
        if chain.is_empty() {
            return Err(at(&self.certificate, &"there is no certificate in it; it has to be PEM"));
        }
        let key = PrivateKeyDer::from_pem_slice(&text(&self.key).await?).map_err(|error| at(&self.key, &error))?;
        CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()).map_err(|error| {
            at(&self.certificate, &format_args!("it can't be used with {}: {error}", self.key.display()))
        })
    }

    /// Serves with what is in the files, for ever. What can't be read changes nothing.
    pub(super) async fn follow(&self, serving: &Arc<Certificates>, clock: &SharedClock) {
        let mut said = None;
        loop {
            let next = clock.now().checked_add(LOOK_EVERY).unwrap_or(Timestamp::MAX);
            clock.reaches(next).await;
            match self.read().await {
                Ok(certified) => {
                    if serving.serve(certified) {
                        info!(file = %self.certificate.display(), "the serving certificate was read anew");
                    }
                    said = None;
                }
                // Once, not with each look.
                Err(cause) if said.as_ref() != Some(&cause) => {
                    error!(cause, "the serving certificate can't be read; the one before stays");
                    said = Some(cause);
                }
                Err(_) => {}
            }
        }
    }
}
