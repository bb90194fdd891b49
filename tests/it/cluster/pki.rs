//! The certificates of a control plane, made anew for each.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};

/// A folder of certificates.
pub struct Pki {
    dir: PathBuf,
    ca: Issuer<'static, KeyPair>,
    front_proxy: Issuer<'static, KeyPair>,
}

impl Pki {
    /// Makes what the control plane needs: `ca`, `front-proxy-ca`, `apiserver`, `admin`, `kube-controller-manager`,
    /// `front-proxy-client` (a `.crt` and a `.key` each) and `sa.key`, which signs service accounts' tokens.
    pub fn new(dir: &Path) -> Self {
        std::fs::create_dir_all(dir).expect("a folder can be made");
        let (ca, front_proxy) = (authority(dir, "ca"), authority(dir, "front-proxy-ca"));
        let pki = Self { dir: dir.to_owned(), ca, front_proxy };
        let local: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv4Addr::new(10, 96, 0, 1).into()];
        pki.issue("apiserver", "kube-apiserver", &[], &["localhost", "kubernetes.default.svc"], &local);
        pki.issue("admin", "admin", &["system:masters"], &[], &[]);
        pki.issue("kube-controller-manager", "system:kube-controller-manager", &[], &[], &[]);
        pki.write("front-proxy-client", &pki.front_proxy, params("front-proxy-client", &[], &[], &[]));
        write(&pki.dir, "sa.key", &KeyPair::generate().expect("a key can be made").serialize_pem());
        pki
    }

    /// A certificate of the cluster's authority, for the user or host `common_name`, in `<name>.crt` and `<name>.key`.
    pub fn issue(&self, name: &str, common_name: &str, groups: &[&str], hosts: &[&str], addresses: &[IpAddr]) {
        self.write(name, &self.ca, params(common_name, groups, hosts, addresses));
    }

    /// The path of a file.
    pub fn path(&self, file: &str) -> String {
        self.dir.join(file).display().to_string()
    }

    fn write(&self, name: &str, issuer: &Issuer<'static, KeyPair>, params: CertificateParams) {
        let key = KeyPair::generate().expect("a key can be made");
        let certificate = params.signed_by(&key, issuer).expect("a certificate can be signed");
        write(&self.dir, &format!("{name}.crt"), &certificate.pem());
        write(&self.dir, &format!("{name}.key"), &key.serialize_pem());
    }
}

fn params(common_name: &str, groups: &[&str], hosts: &[&str], addresses: &[IpAddr]) -> CertificateParams {
    let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
    let mut params = CertificateParams::new(hosts).expect("the names are names");
    params.distinguished_name.push(DnType::CommonName, common_name);
    for group in groups {
        params.distinguished_name.push(DnType::OrganizationName, *group);
    }
    params.subject_alt_names.extend(addresses.iter().copied().map(SanType::IpAddress));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params
}

fn authority(dir: &Path, name: &str) -> Issuer<'static, KeyPair> {
    let mut params = params(name, &[], &[], &[]);
    params.extended_key_usages = Vec::new();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key can be made");
    let certificate = params.self_signed(&key).expect("a certificate can be signed");
    write(dir, &format!("{name}.crt"), &certificate.pem());
    write(dir, &format!("{name}.key"), &key.serialize_pem());
    Issuer::new(params, key)
}

fn write(dir: &Path, file: &str, text: &str) {
    std::fs::write(dir.join(file), text).expect("a file can be written");
}
