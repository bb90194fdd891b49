//! `imagehub serve`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::{BoolishValueParser, NonEmptyStringValueParser};
use clap::{Args as ClapArgs, ValueEnum};

use crate::auth::{Namespaces, OidcConfig, OrganizationCreators};
use crate::datapack;
use crate::server::{self, Config, Files, GatewayAccess, Home, InCluster, Keeps, Machine, Ready, log};
use crate::{gateway, graphql};

/// The flags of `serve`.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Each flag but --config is also a key of the file that --config names: examples/imagehub.toml \
has them all. A flag comes before its variable, that before the file, that before the default.

Examples:
  imagehub serve --demo                         try it, with a sample catalogue
  imagehub serve --data-dir /var/lib/imagehub   keep the data there
  imagehub serve --kube-listen 192.0.2.7:8443   serve other machines, too
  imagehub serve --config /etc/imagehub.toml    read the settings from a file")]
pub(super) struct Args {
    /// Where the data, the certificates and the administrator's kubeconfig are
    #[arg(long, env = "IMAGEHUB_DATA_DIR", value_name = "DIR", default_value = "imagehub-data", help_heading = "Data")]
    data_dir: PathBuf,
    /// Load a sample catalogue if there is no data yet
    #[arg(long, env = "IMAGEHUB_DEMO", value_parser = BoolishValueParser::new(), help_heading = "Data")]
    demo: bool,
    /// Where the data is kept
    #[arg(long, env = "IMAGEHUB_STORAGE", value_name = "WHERE", default_value = "embedded", help_heading = "Data")]
    storage: StorageKind,
    /// Where the Kubernetes API listens, with TLS
    #[arg(
        long,
        env = "IMAGEHUB_KUBE_LISTEN",
        value_name = "ADDR",
        default_value = "127.0.0.1:8443",
        help_heading = "Listening"
    )]
    kube_listen: SocketAddr,
    /// Where the gateway listens, without TLS
    #[arg(
        long,
        env = "IMAGEHUB_HTTP_LISTEN",
        value_name = "ADDR",
        default_value = "127.0.0.1:8080",
        help_heading = "Listening"
    )]
    http_listen: SocketAddr,
    /// Who knows the users and says what they may do; by default who has the data
    #[arg(long, env = "IMAGEHUB_ACCESS", value_name = "WHOSE", help_heading = "Access")]
    access: Option<Access>,
    /// Who may make an organization, and become its manager
    #[arg(
        long,
        env = "IMAGEHUB_CREATE_ORGANIZATIONS",
        value_name = "WHO",
        default_value = "signed-in",
        help_heading = "Access"
    )]
    create_organizations: Creators,
    /// Whether those who have not signed in read what is public at the gateway
    #[arg(long, env = "IMAGEHUB_ANONYMOUS", value_name = "WHAT", default_value = "read", help_heading = "Access")]
    anonymous: Anonymous,
    /// An origin whose pages may ask the gateway, or *; again, or after a comma, for another
    #[arg(long, env = "IMAGEHUB_ALLOW_ORIGIN", value_name = "ORIGIN", value_delimiter = ',', help_heading = "Access")]
    allow_origin: Vec<String>,
    /// A JSON file with the only GraphQL documents that are taken: a list of them, or an object of them by any key
    #[arg(long, env = "IMAGEHUB_TRUSTED_DOCUMENTS", value_name = "FILE", help_heading = "Access")]
    trusted_documents: Option<PathBuf>,
    /// How many requests a client makes a minute, and at once, at most; all who have not signed in together make a
    /// hundred times as many
    #[arg(
        long,
        env = "IMAGEHUB_REQUEST_RATE",
        value_name = "REQUESTS",
        default_value_t = gateway::REQUESTS,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(gateway::MOST_REQUESTS)),
        help_heading = "Access"
    )]
    request_rate: u32,
    /// The `OpenID` Connect issuer whose tokens are believed, too: the URL that is in them
    #[arg(long, env = "IMAGEHUB_OIDC_ISSUER_URL", value_name = "URL", help_heading = "Access")]
    oidc_issuer_url: Option<String>,
    /// For whom its tokens must be meant
    #[arg(long, env = "IMAGEHUB_OIDC_AUDIENCE", value_name = "NAME", help_heading = "Access")]
    oidc_audience: Option<String>,
    /// The claim of its tokens that is the user's name
    #[arg(
        long,
        env = "IMAGEHUB_OIDC_USERNAME_CLAIM",
        value_name = "CLAIM",
        value_parser = NonEmptyStringValueParser::new(),
        default_value = "sub",
        help_heading = "Access"
    )]
    oidc_username_claim: String,
    /// The claim of its tokens that has the user's groups
    #[arg(
        long,
        env = "IMAGEHUB_OIDC_GROUPS_CLAIM",
        value_name = "CLAIM",
        default_value = "groups",
        help_heading = "Access"
    )]
    oidc_groups_claim: String,
    /// What is put before the names of its users and groups
    #[arg(long, env = "IMAGEHUB_OIDC_PREFIX", value_name = "TEXT", default_value = "oidc:", help_heading = "Access")]
    oidc_prefix: String,
    /// The CAs that the issuer's own certificate is checked with, PEM; by default those of the system
    #[arg(long, env = "IMAGEHUB_OIDC_CA_FILE", value_name = "FILE", help_heading = "Access")]
    oidc_ca_file: Option<PathBuf>,
    /// How a server that runs outside of its cluster reaches it; inside, by its ServiceAccount
    #[arg(long, env = "IMAGEHUB_KUBECONFIG", value_name = "FILE", help_heading = "Cluster")]
    kubeconfig: Option<PathBuf>,
    /// The server's own namespace: there are its lease and its secrets
    #[arg(
        long,
        env = "IMAGEHUB_NAMESPACE",
        value_name = "NAME",
        default_value = "imagehub-system",
        help_heading = "Cluster"
    )]
    namespace: String,
    /// The namespace whose service accounts managers name without a prefix
    #[arg(
        long,
        env = "IMAGEHUB_USER_NAMESPACE",
        value_name = "NAME",
        default_value = "user-system",
        help_heading = "Cluster"
    )]
    user_namespace: String,
    /// The Service in that namespace by which the cluster reaches the server
    #[arg(long, env = "IMAGEHUB_SERVICE", value_name = "NAME", default_value = "imagehub", help_heading = "Cluster")]
    service: String,
    /// Where other replicas reach this one; by default where it listens
    #[arg(long, env = "IMAGEHUB_ADVERTISE_ADDRESS", value_name = "ADDR", help_heading = "Cluster")]
    advertise_address: Option<SocketAddr>,
    /// What tells this replica from others; by default the name of the host, which is that of the Pod
    #[arg(long, env = "IMAGEHUB_REPLICA_NAME", value_name = "NAME", help_heading = "Cluster")]
    replica_name: Option<String>,
    /// The certificate to serve with, PEM; by default the server makes its own
    #[arg(long, env = "IMAGEHUB_TLS_CERT_FILE", value_name = "FILE", help_heading = "Cluster")]
    tls_cert_file: Option<PathBuf>,
    /// Its key, PEM
    #[arg(long, env = "IMAGEHUB_TLS_PRIVATE_KEY_FILE", value_name = "FILE", help_heading = "Cluster")]
    tls_private_key_file: Option<PathBuf>,
    /// The file with settings, TOML; the keys are these flags
    #[arg(long, env = "IMAGEHUB_CONFIG", value_name = "FILE", help_heading = "Operation")]
    config: Option<PathBuf>,
    /// The most bytes of computed DataPacks that are kept in memory
    #[arg(
        long,
        env = "IMAGEHUB_PACK_CACHE_BYTES",
        value_name = "BYTES",
        default_value_t = datapack::CACHE_BYTES,
        help_heading = "Operation"
    )]
    pack_cache_bytes: u64,
    /// Whether repositories are found by text
    #[arg(long, env = "IMAGEHUB_SEARCH", value_name = "WHETHER", default_value = "on", help_heading = "Operation")]
    search: OnOff,
    /// What is logged: a level, or targets with levels; `imagehub::access=info` logs each request
    #[arg(
        long,
        env = "IMAGEHUB_LOG",
        value_name = "FILTER",
        default_value = log::DEFAULT_FILTER,
        help_heading = "Operation"
    )]
    log: String,
}

/// The words for where the data is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum StorageKind {
    /// In the data directory
    Embedded,
    /// In the cluster
    Kubernetes,
}

/// The words for who knows the users.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Access {
    /// This machine: `imagehub user`, and the certificates in the data directory
    Local,
    /// The cluster: its users, its roles, and a certificate that its API server trusts
    Cluster,
}

/// The words for who may make an organization.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Creators {
    /// Whoever has shown who they are
    SignedIn,
    /// Administrators only
    Admin,
}

/// What those may who have not signed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Anonymous {
    /// Read what is public
    Read,
    /// Nothing
    Off,
}

/// Whether there is something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OnOff {
    /// There is
    On,
    /// There is not
    Off,
}

fn origins(given: Vec<String>) -> Result<gateway::Origins, String> {
    let given: Vec<String> = given.into_iter().filter(|origin| !origin.is_empty()).collect();
    if given.iter().any(|origin| origin == "*") {
        return Ok(gateway::Origins::All);
    }
    // As browsers send it: no path, and no slash.
    let is_origin = |origin: &str| {
        origin.split_once("://").is_some_and(|(scheme, host)| {
            matches!(scheme, "http" | "https") && !host.is_empty() && !host.contains(['/', '?', '#', ' '])
        })
    };
    match given.iter().find(|origin| !is_origin(origin)) {
        Some(origin) => Err(format!("--allow-origin {origin:?}: want an origin, as in https://hub.example, or *")),
        None if given.is_empty() => Ok(gateway::Origins::None),
        None => Ok(gateway::Origins::These(given)),
    }
}

fn trusted_documents(file: Option<&PathBuf>) -> Result<graphql::TrustedDocuments, String> {
    let Some(file) = file.filter(|file| !file.as_os_str().is_empty()) else {
        return Ok(graphql::TrustedDocuments::default());
    };
    let wrong = |error: &dyn std::fmt::Display| format!("--trusted-documents {}: {error}", file.display());
    let text = std::fs::read(file).map_err(|error| wrong(&error))?;
    let documents: serde_json::Value = serde_json::from_slice(&text).map_err(|error| wrong(&error))?;
    let all: Vec<serde_json::Value> = match documents {
        serde_json::Value::Array(all) => all,
        serde_json::Value::Object(all) => all.into_iter().map(|(_, document)| document).collect(),
        _ => return Err(wrong(&"want a list of documents, or an object of them")),
    };
    let text = |document: serde_json::Value| match document {
        serde_json::Value::String(text) => Ok(text),
        other => Err(wrong(&format_args!("{other} is no document: want a string"))),
    };
    let all = all.into_iter().map(text).collect::<Result<Vec<_>, _>>()?;
    Ok(graphql::TrustedDocuments::new(all, true))
}

pub(super) fn run(args: Args) -> Result<(), String> {
    log::start(&args.log)?;
    if let Some(file) = &args.config {
        tracing::info!(file = %file.display(), "settings are read from a file");
    }
    let home = home(&args)?;
    let oidc = oidc(&args)?;
    let config = Config {
        home,
        oidc,
        kube_listen: args.kube_listen,
        http_listen: args.http_listen,
        create_organizations: match args.create_organizations {
            Creators::SignedIn => OrganizationCreators::SignedIn,
            Creators::Admin => OrganizationCreators::Administrators,
        },
        pack_cache_bytes: args.pack_cache_bytes,
        search: args.search == OnOff::On,
        gateway: GatewayAccess {
            anonymous: args.anonymous == Anonymous::Read,
            request_rate: args.request_rate,
            origins: origins(args.allow_origin)?,
            documents: trusted_documents(args.trusted_documents.as_ref())?,
        },
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("no threads can be started: {error}"))?;
    let done = runtime.block_on(server::run(config, |ready| super::print(&banner(ready))));
    // A blocking read that is still at it must not hold the process.
    runtime.shutdown_background();
    done.map_err(|error| error.to_string())
}

/// The issuer whose tokens are believed, too, where the flags name one.
fn oidc(args: &Args) -> Result<Option<OidcConfig>, String> {
    let issuer = args.oidc_issuer_url.as_ref().filter(|url| !url.is_empty());
    let audience = args.oidc_audience.as_ref().filter(|name| !name.is_empty());
    let both = both(issuer, audience, ["--oidc-issuer-url", "--oidc-audience"])?;
    Ok(both.map(|(issuer, audience)| OidcConfig {
        issuer: issuer.clone(),
        audience: audience.clone(),
        username_claim: args.oidc_username_claim.clone(),
        groups_claim: args.oidc_groups_claim.clone(),
        prefix: args.oidc_prefix.clone(),
        ca_file: args.oidc_ca_file.clone(),
    }))
}

/// Two settings that mean nothing one without the other. By `requires` clap would not see those of a file.
fn both<T>(one: Option<T>, other: Option<T>, flags: [&str; 2]) -> Result<Option<(T, T)>, String> {
    match (one, other) {
        (None, None) => Ok(None),
        (Some(one), Some(other)) => Ok(Some((one, other))),
        (None, Some(_)) => Err(format!("{} says nothing without {}", flags[1], flags[0])),
        (Some(_), None) => Err(format!("{} says nothing without {}", flags[0], flags[1])),
    }
}

/// Where the server lives, as the flags say.
fn home(args: &Args) -> Result<Home, String> {
    let keeps = match (args.storage, args.access) {
        (StorageKind::Embedded, None | Some(Access::Local)) => {
            return Ok(Home::Machine(Machine { data_dir: args.data_dir.clone(), demo: args.demo }));
        }
        (StorageKind::Kubernetes, Some(Access::Local)) => {
            return Err("--access local is for --storage embedded: in the cluster's storage are the cluster's users' \
                        objects"
                .to_owned());
        }
        (StorageKind::Embedded, Some(Access::Cluster)) => Keeps::Directory(args.data_dir.clone()),
        (StorageKind::Kubernetes, _) => Keeps::Records,
    };
    if args.demo {
        return Err("--demo is for one machine: in a cluster, apply examples/catalog.yaml".to_owned());
    }
    let (certificate, key) = (args.tls_cert_file.clone(), args.tls_private_key_file.clone());
    let mounted = both(certificate, key, ["--tls-cert-file", "--tls-private-key-file"])?;
    Ok(Home::Cluster(InCluster {
        keeps,
        kubeconfig: args.kubeconfig.clone(),
        namespaces: Namespaces { own: args.namespace.clone(), users: args.user_namespace.clone() },
        service: args.service.clone(),
        advertise: args.advertise_address,
        replica: args.replica_name.clone(),
        mounted,
    }))
}

fn banner(ready: &Ready) -> String {
    let counts: Vec<String> = ready.counts.iter().map(|(kind, count)| format!("{count} {}", kind.plural())).collect();
    let mut text = format!(
        "
imagehub {version}, ready in {took:.0?}: {counts}

  Kubernetes API  https://{kube}
  gateway         http://{http}  (GraphQL, health, metrics)
",
        version = env!("CARGO_PKG_VERSION"),
        took = ready.took,
        counts = counts.join(", "),
        kube = server::reachable(ready.kube),
        http = server::reachable(ready.http),
    );
    if let Some(files) = &ready.files {
        text += &first_steps(ready, files);
    }
    text
}

/// What a person at a terminal does next.
fn first_steps(ready: &Ready, files: &Files) -> String {
    let kubeconfig = shell_quoted(&files.kubeconfig.display().to_string());
    let ca = shell_quoted(&files.data_dir.join("pki/ca.crt").display().to_string());
    format!(
        "
  export KUBECONFIG={kubeconfig}

Try:
  kubectl get repositories
  kubectl create -f examples/pack.yaml -o jsonpath='{{.status}}'
  curl --cacert {ca} https://{kube}/apis/imagehub.sealos.io/v1/images?limit=1

Ctrl-C stops it; the data stays in {data}
",
        kube = server::reachable(ready.kube),
        data = files.data_dir.display(),
    )
}

/// A word for a shell, whatever it holds.
fn shell_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn an_issuer_is_named_with_its_audience_and_an_empty_name_is_none() {
        let issuer = |words: &[&str]| {
            let words = ["serve"].iter().chain(words);
            oidc(&Line::try_parse_from(words).unwrap().args)
        };
        let (url, audience) = ("--oidc-issuer-url=https://issuer.example", "--oidc-audience=imagehub");
        let named = issuer(&[url, audience]).unwrap().unwrap();
        assert_eq!((&*named.issuer, &*named.audience, named.ca_file), ("https://issuer.example", "imagehub", None));
        assert_eq!((&*named.username_claim, &*named.groups_claim, &*named.prefix), ("sub", "groups", "oidc:"));
        assert!(issuer(&["--oidc-issuer-url=", "--oidc-audience="]).unwrap().is_none());
        assert!(issuer(&[]).unwrap().is_none());
        assert!(issuer(&[url]).is_err() && issuer(&[audience]).is_err());
    }

    #[test]
    fn a_path_with_a_quote_is_one_word_for_a_shell() {
        assert_eq!(shell_quoted("/home/o'neil/x y"), r"'/home/o'\''neil/x y'");
    }
}
