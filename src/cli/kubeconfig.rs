//! Where a server is and who asks, as a kubeconfig says it.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

/// The largest kubeconfig that is read, in bytes.
const FILE_LIMIT: u64 = 4 * 1024 * 1024;
/// The administrator's, which a server writes into its data directory.
const DEFAULT: &str = "imagehub-data/kubeconfig";

/// The current context of a kubeconfig.
#[derive(Debug)]
pub(super) struct Context {
    /// The server's URL.
    pub server: String,
    /// The certificates that its own is checked with, PEM.
    pub authority: Vec<u8>,
    /// The name that its certificate must have, where it isn't that of the URL.
    pub tls_server_name: Option<String>,
    /// A client certificate and its key, PEM.
    pub certificate: Option<(Vec<u8>, Vec<u8>)>,
    /// A bearer token.
    pub token: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Config {
    #[serde(rename = "current-context")]
    current: Option<String>,
    contexts: Option<Vec<Named<Pair>>>,
    clusters: Option<Vec<Named<Cluster>>>,
    users: Option<Vec<Named<User>>>,
}

#[derive(Debug, Deserialize)]
struct Named<T> {
    name: String,
    #[serde(alias = "context", alias = "cluster", alias = "user")]
    value: Option<T>,
}

#[derive(Debug, Deserialize)]
struct Pair {
    cluster: String,
    user: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Cluster {
    server: String,
    certificate_authority: Option<PathBuf>,
    certificate_authority_data: Option<String>,
    tls_server_name: Option<String>,
    #[serde(default)]
    insecure_skip_tls_verify: bool,
    proxy_url: Option<String>,
    #[serde(skip)]
    folder: PathBuf,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct User {
    client_certificate: Option<PathBuf>,
    client_certificate_data: Option<String>,
    client_key: Option<PathBuf>,
    client_key_data: Option<String>,
    token: Option<String>,
    #[serde(rename = "tokenFile")]
    token_file: Option<PathBuf>,
    exec: Option<serde_json::Value>,
    #[serde(rename = "auth-provider")]
    auth_provider: Option<serde_json::Value>,
    username: Option<String>,
    #[serde(rename = "as")]
    impersonate: Option<String>,
    #[serde(skip)]
    folder: PathBuf,
}

/// The files to read: the one named, those of `KUBECONFIG`, or the administrator's of a server started here.
pub(super) fn files(named: Option<&Path>) -> Vec<PathBuf> {
    if let Some(path) = named {
        return vec![path.to_owned()];
    }
    let paths: Vec<PathBuf> = std::env::var_os("KUBECONFIG")
        .map(|list| std::env::split_paths(&list).filter(|path| !path.as_os_str().is_empty()).collect())
        .unwrap_or_default();
    if paths.is_empty() { vec![DEFAULT.into()] } else { paths }
}

/// Reads the current context of `files`; of several the first that has a thing counts, as for kubectl.
pub(super) fn read(files: &[PathBuf]) -> Result<Context, String> {
    let mut all = Config::default();
    for path in files {
        let folder = path.parent().map(Path::to_owned).unwrap_or_default();
        let text = read_limited(path)?;
        let text = String::from_utf8(text).map_err(|_| format!("{} is not UTF-8", path.display()))?;
        let mut config: Config =
            serde_saphyr::from_str(&text).map_err(|e| format!("{} is no kubeconfig: {e}", path.display()))?;
        for cluster in config.clusters.iter_mut().flatten().filter_map(|named| named.value.as_mut()) {
            cluster.folder.clone_from(&folder);
        }
        for user in config.users.iter_mut().flatten().filter_map(|named| named.value.as_mut()) {
            user.folder.clone_from(&folder);
        }
        all.current = all.current.or(config.current).filter(|name| !name.is_empty());
        all.contexts.get_or_insert_default().extend(config.contexts.unwrap_or_default());
        all.clusters.get_or_insert_default().extend(config.clusters.unwrap_or_default());
        all.users.get_or_insert_default().extend(config.users.unwrap_or_default());
    }
    let shown: Vec<String> = files.iter().map(|path| path.display().to_string()).collect();
    context(all).map_err(|why| format!("{}: {why}", shown.join(", ")))
}

fn find<T>(list: Option<Vec<Named<T>>>, name: &str) -> Option<T> {
    list?.into_iter().find(|named| named.name == name)?.value
}

fn context(config: Config) -> Result<Context, String> {
    let current = config.current.ok_or("it has no current-context: set one with kubectl config use-context")?;
    let pair = find(config.contexts, &current).ok_or_else(|| format!("there is no context {current:?}"))?;
    let cluster =
        find(config.clusters, &pair.cluster).ok_or_else(|| format!("there is no cluster {:?}", pair.cluster))?;
    let user = match pair.user.as_deref().filter(|name| !name.is_empty()) {
        Some(name) => find(config.users, name).ok_or_else(|| format!("there is no user {name:?}"))?,
        None => User::default(),
    };
    if cluster.insecure_skip_tls_verify {
        return Err("insecure-skip-tls-verify is not supported: name the certificate-authority".to_owned());
    }
    if cluster.proxy_url.is_some() {
        return Err("proxy-url is not supported".to_owned());
    }
    if user.exec.is_some() || user.auth_provider.is_some() || user.username.is_some() || user.impersonate.is_some() {
        return Err("of a user only client certificates and tokens are supported".to_owned());
    }
    let authority = part(
        "certificate-authority",
        &cluster.folder,
        cluster.certificate_authority_data,
        cluster.certificate_authority,
    )?;
    let certificate = part("client-certificate", &user.folder, user.client_certificate_data, user.client_certificate)?;
    let key = part("client-key", &user.folder, user.client_key_data, user.client_key)?;
    let certificate = match (certificate, key) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        _ => return Err("client-certificate and client-key go together".to_owned()),
    };
    let token = match (user.token, user.token_file) {
        (Some(token), _) => Some(token),
        (None, Some(path)) => Some(String::from_utf8_lossy(&read_limited(&user.folder.join(path))?).trim().to_owned()),
        (None, None) => None,
    };
    Ok(Context {
        server: cluster.server,
        authority: authority.unwrap_or_default(),
        tls_server_name: cluster.tls_server_name,
        certificate,
        token,
    })
}

fn part(what: &str, folder: &Path, data: Option<String>, file: Option<PathBuf>) -> Result<Option<Vec<u8>>, String> {
    match (data.filter(|data| !data.is_empty()), file) {
        (Some(data), _) => {
            STANDARD.decode(data.trim()).map(Some).map_err(|e| format!("{what}-data is not base64: {e}"))
        }
        (None, Some(path)) => read_limited(&folder.join(path)).map(Some),
        (None, None) => Ok(None),
    }
}

fn read_limited(path: &Path) -> Result<Vec<u8>, String> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    let file = fs::File::open(path);
    let read = file.and_then(|file| file.take(FILE_LIMIT + 1).read_to_end(&mut bytes));
    read.map_err(|e| format!("can't read {}: {e}", path.display()))?;
    if bytes.len() as u64 > FILE_LIMIT {
        return Err(format!("{} is larger than {FILE_LIMIT} bytes", path.display()));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "
current-context: one
contexts:
- {name: one, context: {cluster: c, user: u, namespace: x}}
clusters:
- {name: c, cluster: {server: 'https://127.0.0.1:1', certificate-authority-data: YQ==}}
users:
- {name: u, user: {token: t}}
preferences: {}
";

    fn read_text(text: &str) -> Result<Context, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        read(&[file.path().to_owned()])
    }

    #[test]
    fn the_current_context_is_what_counts() {
        let context = read_text(CONFIG).unwrap();
        assert_eq!((context.server.as_str(), &*context.authority), ("https://127.0.0.1:1", &b"a"[..]));
        assert_eq!((context.token.as_deref(), context.certificate), (Some("t"), None));
    }

    #[test]
    fn what_is_missing_or_not_supported_is_named() {
        for (from, to, named) in [
            ("current-context: one", "", "current-context"),
            ("current-context: one", "current-context: two", "context \"two\""),
            ("cluster: c,", "cluster: d,", "cluster \"d\""),
            ("user: u,", "user: v,", "user \"v\""),
            ("{token: t}", "{exec: {command: x}}", "only client certificates and tokens"),
            ("{token: t}", "{client-key-data: YQ==}", "go together"),
            ("certificate-authority-data: YQ==", "insecure-skip-tls-verify: true", "insecure"),
            ("YQ==", "'?'", "not base64"),
        ] {
            let error = read_text(&CONFIG.replace(from, to)).unwrap_err();
            assert!(error.contains(named), "{to}: {error}");
        }
        assert!(read_text("[").unwrap_err().contains("is no kubeconfig"));
        assert!(read(&["/no/such/file".into()]).unwrap_err().contains("/no/such/file"));
    }
}
