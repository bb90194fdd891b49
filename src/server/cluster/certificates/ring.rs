//! The CAs that the replicas share, and when one comes, signs and goes. Pure: what a replica reads, and what is to be
//! done about it.
//!
//! A CA that is about to end gets a successor, which is trusted first, signs once it is known everywhere, and has the
//! place for itself when all that the old one signed has ended.

use std::time::Duration;

use jiff::Timestamp;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};

use crate::server::pki::{name, set_validity};

/// The most CAs at a time. Two is what there are while one takes over from another.
const MOST: usize = 4;

/// How long what is good.
#[derive(Debug, Clone, Copy)]
pub struct Lifetimes {
    /// A CA.
    pub ca: Duration,
    /// How long before its end a CA gets a successor. More than `leaf` and `settle` together.
    pub renew_ca_before: Duration,
    /// A certificate that it signs.
    pub leaf: Duration,
    /// How long before its end such a one is made anew.
    pub renew_leaf_before: Duration,
    /// How long a CA is known before it signs: longer than clocks differ, and than a replica goes without a look.
    pub settle: Duration,
}

impl Default for Lifetimes {
    fn default() -> Self {
        let days = |days: u64| Duration::from_hours(24 * days);
        Self {
            ca: days(365),
            renew_ca_before: days(120),
            leaf: days(30),
            renew_leaf_before: days(10),
            settle: Duration::from_hours(1),
        }
    }
}

/// One CA.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Authority {
    /// Its certificate, PEM.
    pub(super) certificate: String,
    /// Its key, PEM.
    key: String,
    /// When it was made, in seconds since 1970.
    added: i64,
    /// From when on it signs, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    signs_since: Option<i64>,
    /// When it ends, as its certificate says.
    #[serde(skip)]
    pub(super) ends: i64,
}

impl Authority {
    fn new(now: Timestamp, lifetimes: &Lifetimes) -> Result<Self, String> {
        let mut params = CertificateParams::default();
        // Each has a name of its own, so that nobody takes one for another.
        params.distinguished_name = name(&format!("imagehub-ca-{}", now.as_second()), None);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        set_validity(&mut params, now, lifetimes.ca);
        let key = KeyPair::generate().map_err(|error| error.to_string())?;
        let certificate = params.self_signed(&key).map_err(|error| error.to_string())?;
        let (certificate, key) = (certificate.pem(), key.serialize_pem());
        let mut made = Self { certificate, key, added: now.as_second(), signs_since: None, ends: 0 };
        made.ends = ends(&made.der()?)?;
        Ok(made)
    }

    pub(super) fn der(&self) -> Result<CertificateDer<'static>, String> {
        CertificateDer::from_pem_slice(self.certificate.as_bytes()).map_err(|error| error.to_string())
    }

    /// What signs with it.
    pub(super) fn issuer(&self) -> Result<Issuer<'static, KeyPair>, String> {
        let key = KeyPair::from_pem(&self.key).map_err(|error| error.to_string())?;
        Issuer::from_ca_cert_pem(&self.certificate, key).map_err(|error| error.to_string())
    }
}

/// When a certificate ends, in seconds since 1970.
fn ends(certificate: &CertificateDer<'_>) -> Result<i64, String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).map_err(|error| error.to_string())?;
    Ok(parsed.validity().not_after.timestamp())
}

/// All CAs, the oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ring {
    /// Higher with each change, also where the Secret was lost between.
    pub(super) revision: i64,
    pub(super) authorities: Vec<Authority>,
}

/// What is to be done about the CAs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Another one is to be there.
    Add,
    /// The newest is to sign.
    Sign,
    /// What is before the one that signs is to go.
    Drop,
}

impl Ring {
    /// Reads what [`write`](Self::write) wrote.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn read(json: &[u8]) -> Result<Self, String> {
        let mut ring: Self = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        for authority in &mut ring.authorities {
            authority.ends = ends(&authority.der()?)?;
            authority.issuer()?;
        }
        if ring.authorities.is_empty() || ring.signer().is_none() {
            return Err("none of its CAs signs".to_owned());
        }
        Ok(ring)
    }

    pub(super) fn write(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and numbers can be written as JSON")
    }

    /// All certificates, PEM, the newest first.
    pub(super) fn bundle(&self) -> String {
        self.authorities.iter().rev().map(|authority| authority.certificate.as_str()).collect()
    }

    /// The one that signs.
    pub(super) fn signer(&self) -> Option<&Authority> {
        self.authorities.iter().rev().find(|authority| authority.signs_since.is_some())
    }

    /// What is to be done at `now`, where those who check our certificates believe what is in `published`.
    pub(super) fn next(&self, now: Timestamp, published: &str, lifetimes: &Lifetimes) -> Option<Step> {
        let now = now.as_second();
        let Some(newest) = self.authorities.last() else { return Some(Step::Add) };
        if newest.ends <= now.saturating_add(seconds(lifetimes.renew_ca_before)) && self.authorities.len() < MOST {
            return Some(Step::Add);
        }
        let signer = self.signer();
        if newest.signs_since.is_none() {
            // Nothing is lost where nobody else can sign any more.
            let alone = signer.is_none_or(|signer| signer.ends <= now);
            let known = published.contains(newest.certificate.trim());
            if alone || (known && newest.added.saturating_add(seconds(lifetimes.settle)) <= now) {
                return Some(Step::Sign);
            }
        }
        (0..self.authorities.len()).any(|index| self.is_over(index, now, lifetimes)).then_some(Step::Drop)
    }

    /// Whether one that signed before is of no more use: it has ended, or all that it signed has.
    fn is_over(&self, index: usize, now: i64, lifetimes: &Lifetimes) -> bool {
        let signs = |(at, authority): (usize, &Authority)| Some((at, authority.signs_since?));
        let Some((signer, since)) = self.authorities.iter().enumerate().filter_map(signs).next_back() else {
            return false;
        };
        let all_ended = since.saturating_add(seconds(lifetimes.leaf + lifetimes.settle)) <= now;
        index < signer && (all_ended || self.authorities[index].ends <= now)
    }

    /// Does it. `above` is a revision that the new one has to be higher than.
    ///
    /// # Errors
    /// A CA can't be made.
    pub(super) fn apply(
        &mut self,
        step: Step,
        now: Timestamp,
        above: i64,
        lifetimes: &Lifetimes,
    ) -> Result<(), String> {
        let second = now.as_second();
        match step {
            Step::Add => {
                let mut made = Authority::new(now, lifetimes)?;
                made.signs_since = self.authorities.is_empty().then_some(second);
                self.authorities.push(made);
            }
            Step::Sign => {
                if let Some(newest) = self.authorities.last_mut() {
                    newest.signs_since = Some(second);
                }
            }
            Step::Drop => {
                let over: Vec<bool> =
                    (0..self.authorities.len()).map(|index| self.is_over(index, second, lifetimes)).collect();
                let mut over = over.into_iter();
                self.authorities.retain(|_| over.next() != Some(true));
            }
        }
        self.revision = second.max(self.revision.saturating_add(1)).max(above.saturating_add(1));
        Ok(())
    }
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: i64 = 1_800_000_000;
    const DAY: i64 = 24 * 3600;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// Does all that is to be done at `second`; what it was.
    fn settle(ring: &mut Ring, second: i64, published: &str) -> Vec<Step> {
        let (mut steps, lifetimes) = (Vec::new(), Lifetimes::default());
        while let Some(step) = ring.next(at(second), published, &lifetimes) {
            ring.apply(step, at(second), 0, &lifetimes).unwrap();
            steps.push(step);
            assert!(steps.len() < 10, "{steps:?}");
        }
        steps
    }

    #[test]
    fn the_first_ca_signs_at_once() {
        let mut ring = Ring::default();
        assert_eq!(settle(&mut ring, START, ""), [Step::Add]);
        assert_eq!(ring.signer().unwrap().ends, START + 365 * DAY);
        assert_eq!(settle(&mut ring, START + 1, ""), [], "and is enough");
        assert_eq!(Ring::read(&ring.write()), Ok(ring));
    }

    #[test]
    fn a_new_ca_signs_only_once_it_is_known_and_the_old_one_stays_until_what_it_signed_has_ended() {
        let mut ring = Ring::default();
        settle(&mut ring, START, "");
        let (first, only_first) = (ring.signer().unwrap().clone(), ring.bundle());
        let soon = START + 245 * DAY;
        assert_eq!(settle(&mut ring, soon - 1, &only_first), []);
        assert_eq!(settle(&mut ring, soon, &only_first), [Step::Add]);
        let both = ring.bundle();
        assert!(both.ends_with(&only_first) && both.len() > only_first.len(), "the newest comes first");
        assert_eq!(ring.signer(), Some(&first));
        // Not published, for however long.
        assert_eq!(settle(&mut ring, soon + 30 * DAY, &only_first), []);
        // Published, but too new.
        assert_eq!(settle(&mut ring, soon + 3599, &both), []);
        assert_eq!(settle(&mut ring, soon + 3600, &both), [Step::Sign]);
        assert_ne!(ring.signer(), Some(&first));
        assert_eq!(ring.bundle(), both);
        let over = soon + 3600 + 30 * DAY + 3600;
        assert_eq!(settle(&mut ring, over - 1, &both), []);
        assert_eq!(settle(&mut ring, over, &both), [Step::Drop]);
        assert_eq!(ring.authorities.len(), 1);
        assert!(!ring.bundle().contains(&*first.certificate));
    }

    #[test]
    fn where_all_have_ended_a_new_one_signs_at_once() {
        let mut ring = Ring::default();
        settle(&mut ring, START, "");
        assert_eq!(settle(&mut ring, START + 400 * DAY, ""), [Step::Add, Step::Sign, Step::Drop]);
        assert_eq!(ring.authorities.len(), 1);
        assert_eq!(ring.signer().unwrap().ends, START + 765 * DAY);
    }

    #[test]
    fn there_are_never_more_than_a_few_and_the_revision_always_rises() {
        let mut ring = Ring::default();
        let mut seen = 0;
        // A CA a month, none of them ever published.
        for month in 0..40 {
            settle(&mut ring, START + month * 30 * DAY, "");
            assert!((1..=MOST).contains(&ring.authorities.len()));
            assert!(ring.revision >= seen);
            seen = ring.revision;
        }
        // A Secret that was lost begins above what is published.
        let (mut anew, lifetimes) = (Ring::default(), Lifetimes::default());
        anew.apply(Step::Add, at(START), seen + 7, &lifetimes).unwrap();
        assert_eq!(anew.revision, seen + 8);
    }

    #[test]
    fn what_is_no_ring_is_refused() {
        let mut ring = Ring::default();
        settle(&mut ring, START, "");
        let good = String::from_utf8(ring.write()).unwrap();
        for bad in [
            "",
            "{}",
            r#"{"revision":1,"authorities":[]}"#,
            &good.replace("signsSince", "signedOnce"),
            &good.replacen("BEGIN CERTIFICATE", "BEGIN NOTHING", 1),
            &good.replacen("PRIVATE KEY", "PRIVATE DOOR", 1),
        ] {
            assert!(Ring::read(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
