//! The control plane: what is started with which flags, and what speaks to it.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use http::{Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard};

use super::part::Part;
use super::pki::Pki;
use crate::harness::{DEADLINE, Kubectl, path_from};

/// How often it is asked whether a part is ready.
const POLL: Duration = Duration::from_millis(100);
/// How long the control plane may take to be ready: seconds, on a machine that has time for it.
const START: Duration = Duration::from_mins(2);

/// What a control plane is started with.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Whether kube-controller-manager runs: garbage collector, namespaces, service accounts, aggregated roles.
    pub controllers: bool,
    /// Whether each of its controllers has a ServiceAccount of its own, as in most clusters.
    pub service_account_credentials: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { controllers: true, service_account_credentials: true }
    }
}

/// A control plane on loopback, its state in a temporary folder. Dropped, all of it is killed.
pub struct Cluster {
    /// etcd, with plain HTTP.
    pub etcd: Part,
    /// kube-apiserver.
    pub api: Part,
    /// kube-controller-manager.
    pub controllers: Part,
    /// The certificates.
    pub pki: Pki,
    etcd_port: u16,
    api_port: u16,
    // Last, so that nothing runs in it any more when it is removed.
    dir: TempDir,
}

/// The one that tests share, as long as one of them has it or waits for it.
static SHARED: Mutex<Weak<Cluster>> = Mutex::const_new(Weak::new());
/// Whose turn it is with it.
static TURN: Mutex<()> = Mutex::const_new(());

/// The shared control plane, for one test at a time.
pub struct Shared {
    cluster: Arc<Cluster>,
    _turn: MutexGuard<'static, ()>,
}

impl Deref for Shared {
    type Target = Arc<Cluster>;

    fn deref(&self) -> &Arc<Cluster> {
        &self.cluster
    }
}

impl Cluster {
    /// The control plane that the tests of this process share, one after the other, with the usual options. Who kills
    /// parts of it starts one of its own.
    pub async fn shared() -> Shared {
        let cluster = {
            let mut shared = SHARED.lock().await;
            if let Some(cluster) = shared.upgrade() {
                cluster
            } else {
                let cluster = Arc::new(Self::start(Options::default()).await);
                *shared = Arc::downgrade(&cluster);
                cluster
            }
        };
        Shared { cluster, _turn: TURN.lock().await }
    }

    /// Starts a control plane and waits until it is ready.
    pub async fn start(options: Options) -> Self {
        let cluster = Self::new(options);
        cluster.etcd.start();
        cluster.api.start();
        cluster.ready().await;
        if options.controllers {
            cluster.controllers.start();
        }
        cluster
    }

    /// A control plane of which nothing runs.
    pub fn new(options: Options) -> Self {
        let programs = programs();
        let dir = tempfile::tempdir().expect("a temporary directory");
        let pki = Pki::new(&dir.path().join("pki"));
        let [etcd_port, peer_port, api_port, controllers_port] = free_ports();
        let path = |file: &str| pki.path(file);
        let etcd = vec![
            flag("data-dir", dir.path().join("etcd").display()),
            flag("listen-client-urls", http(etcd_port)),
            flag("advertise-client-urls", http(etcd_port)),
            flag("listen-peer-urls", http(peer_port)),
            flag("initial-advertise-peer-urls", http(peer_port)),
            flag("initial-cluster", format!("default={}", http(peer_port))),
            // Killing a process loses nothing that it has written: it is the machine that must not be.
            flag("unsafe-no-fsync", true),
        ];
        let api = vec![
            flag("etcd-servers", http(etcd_port)),
            flag("bind-address", "127.0.0.1"),
            flag("endpoint-reconciler-type", "none"),
            flag("secure-port", api_port),
            flag("tls-cert-file", path("apiserver.crt")),
            flag("tls-private-key-file", path("apiserver.key")),
            flag("client-ca-file", path("ca.crt")),
            flag("authorization-mode", "RBAC"),
            flag("service-cluster-ip-range", "10.96.0.0/16"),
            flag("service-account-issuer", "https://kubernetes.default.svc"),
            flag("service-account-key-file", path("sa.pub")),
            flag("service-account-signing-key-file", path("sa.key")),
            flag("requestheader-client-ca-file", path("front-proxy-ca.crt")),
            flag("requestheader-allowed-names", "front-proxy-client"),
            flag("requestheader-username-headers", "X-Remote-User"),
            flag("requestheader-uid-headers", "X-Remote-Uid"),
            flag("requestheader-group-headers", "X-Remote-Group"),
            flag("requestheader-extra-headers-prefix", "X-Remote-Extra-"),
            flag("proxy-client-cert-file", path("front-proxy-client.crt")),
            flag("proxy-client-key-file", path("front-proxy-client.key")),
        ];
        let own_kubeconfig = kubeconfig(dir.path(), &pki, "kube-controller-manager", api_port).display().to_string();
        let controllers = vec![
            flag("kubeconfig", &own_kubeconfig),
            flag("authentication-kubeconfig", &own_kubeconfig),
            flag("authorization-kubeconfig", &own_kubeconfig),
            flag("bind-address", "127.0.0.1"),
            flag("secure-port", controllers_port),
            flag("leader-elect", false),
            flag("use-service-account-credentials", options.service_account_credentials),
            flag("service-account-private-key-file", path("sa.key")),
            flag("root-ca-file", path("ca.crt")),
            flag(
                "controllers",
                "garbage-collector-controller,namespace-controller,serviceaccount-controller,\
                 clusterrole-aggregation-controller",
            ),
        ];
        kubeconfig(dir.path(), &pki, "admin", api_port);
        let logs = dir.path();
        Self {
            etcd: Part::new("etcd", &programs, logs, etcd),
            api: Part::new("kube-apiserver", &programs, logs, api),
            controllers: Part::new("kube-controller-manager", &programs, logs, controllers),
            pki,
            etcd_port,
            api_port,
            dir,
        }
    }

    /// Waits until kube-apiserver says that it is ready.
    pub async fn ready(&self) {
        let client = self.client().await;
        let asked = async {
            loop {
                self.etcd.check();
                self.api.check();
                if ask(&client, Method::GET, "/readyz", None).await.is_ok_and(|(code, _)| code.is_success()) {
                    return;
                }
                tokio::time::sleep(POLL).await;
            }
        };
        let ready = tokio::time::timeout(START, asked).await.is_ok();
        assert!(ready, "kube-apiserver is not ready after {START:?}; its log's end:\n{}", self.api.log());
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("admin.kubeconfig")
    }

    /// A kubeconfig for another user that the cluster's authority vouches for.
    pub fn kubeconfig_of(&self, user: &str, groups: &[&str]) -> PathBuf {
        self.pki.issue(user, user, groups, &[], &[]);
        kubeconfig(self.dir.path(), &self.pki, user, self.api_port)
    }

    /// A kubeconfig with these credentials, as kubeconfigs have them.
    pub fn kubeconfig_with(&self, name: &str, credentials: &Value) -> PathBuf {
        write_kubeconfig(self.dir.path(), &self.pki, name, self.api_port, credentials)
    }

    /// kubectl as the administrator.
    pub fn kubectl(&self) -> Kubectl {
        Kubectl::new(&self.kubeconfig())
    }

    /// A client as the administrator.
    pub async fn client(&self) -> kube::Client {
        self.client_through(self.api_port).await
    }

    /// A client as the administrator, by way of a [`Proxy`](super::Proxy) on this port.
    pub async fn client_through(&self, port: u16) -> kube::Client {
        let read = Kubeconfig::read_from(self.kubeconfig()).expect("the kubeconfig is one");
        let config = kube::Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await;
        let mut config = config.expect("the kubeconfig is complete");
        config.cluster_url = format!("https://127.0.0.1:{port}").parse().expect("it is a URL");
        // What is tried again, and when, is for the code under test to say.
        config.default_retry = false;
        kube::Client::try_from(config).expect("a client can be made")
    }

    /// Where kube-apiserver listens.
    pub fn api_port(&self) -> u16 {
        self.api_port
    }

    /// etcd's data.
    pub fn etcd_dir(&self) -> PathBuf {
        self.dir.path().join("etcd")
    }

    /// A request as the administrator that must succeed.
    pub async fn ok(&self, method: Method, path: &str, body: Option<Value>) -> Value {
        let (code, answer) = ask(&self.client().await, method, path, body).await.expect("it answers");
        assert!(code.is_success(), "{path}: {code} {answer:#}");
        answer
    }

    /// Installs the definition of Records, and waits until they are served.
    pub async fn install_records(&self) {
        let definition = imagehub::storage::kubernetes::crd::definition();
        let crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        let client = self.client().await;
        let (code, answer) = ask(&client, Method::POST, crds, Some(definition)).await.expect("it answers");
        assert!(code.is_success() || code == StatusCode::CONFLICT, "{code} {answer:#}");
        let served = async {
            while !ask(&client, Method::GET, RECORDS, None).await.is_ok_and(|(code, _)| code.is_success()) {
                tokio::time::sleep(POLL).await;
            }
        };
        tokio::time::timeout(DEADLINE, served).await.expect("Records are served in time");
    }

    /// Deletes all Records.
    pub async fn delete_records(&self) {
        self.ok(Method::DELETE, RECORDS, None).await;
    }

    /// Has etcd forget all but the present.
    pub async fn compact_etcd(&self) {
        use base64::Engine as _;
        let call = async |path: &str, body: Value| -> Value {
            let request = Request::post(format!("{}{path}", http(self.etcd_port)))
                .header("content-type", "application/json")
                .body(http_body_util::Full::new(bytes::Bytes::from(body.to_string())))
                .expect("it is a request");
            let client = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new()).build_http();
            let answer = client.request(request).await.expect("etcd answers");
            let code = answer.status();
            let body = answer.into_body().collect().await.expect("the answer is whole").to_bytes();
            assert!(code.is_success(), "{path}: {code} {}", String::from_utf8_lossy(&body));
            serde_json::from_slice(&body).expect("the answer is JSON")
        };
        let key = base64::engine::general_purpose::STANDARD.encode("x");
        let now = call("/v3/kv/range", json!({ "key": key })).await;
        let revision = &now["header"]["revision"];
        call("/v3/kv/compaction", json!({ "revision": revision, "physical": true })).await;
    }
}

/// Where Records are.
pub const RECORDS: &str = "/apis/store.imagehub.sealos.io/v1/records";

/// A request, and what is answered. Errors are those of the connection.
pub async fn ask(
    client: &kube::Client,
    method: Method,
    path: &str,
    body: Option<Value>,
) -> Result<(StatusCode, Value), kube::Error> {
    let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", "application/json")
        .body(Body::from(body))
        .expect("it is a request");
    let answer = client.send(request).await?;
    let code = answer.status();
    let body = answer.into_body().collect().await?.to_bytes();
    let text = || Value::String(String::from_utf8_lossy(&body).into_owned());
    Ok((code, serde_json::from_slice(&body).unwrap_or_else(|_| text())))
}

fn programs() -> PathBuf {
    let programs = path_from("KUBEBUILDER_ASSETS");
    let programs = programs.expect("no control plane: run make test, or export KUBEBUILDER_ASSETS=$(make -s cluster)");
    for name in ["etcd", "kube-apiserver", "kube-controller-manager", "kubectl"] {
        let path = programs.join(name);
        assert!(path.is_file(), "{} is no file: export KUBEBUILDER_ASSETS=$(make -s cluster)", path.display());
    }
    programs
}

fn flag(name: &str, value: impl std::fmt::Display) -> String {
    format!("--{name}={value}")
}

fn http(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

/// Ports below those that the system gives to outgoing connections: nobody takes one while its part is down.
pub fn free_ports<const N: usize>() -> [u16; N] {
    let mut taken = Vec::new();
    std::array::from_fn(|_| {
        loop {
            let port = rand::random_range(10_240..32_000);
            if let Ok(listener) = std::net::TcpListener::bind(("127.0.0.1", port)) {
                taken.push(listener);
                return port;
            }
        }
    })
}

fn kubeconfig(dir: &Path, pki: &Pki, user: &str, port: u16) -> PathBuf {
    let (certificate, key) = (pki.path(&format!("{user}.crt")), pki.path(&format!("{user}.key")));
    write_kubeconfig(dir, pki, user, port, &json!({ "client-certificate": certificate, "client-key": key }))
}

fn write_kubeconfig(dir: &Path, pki: &Pki, user: &str, port: u16, credentials: &Value) -> PathBuf {
    let server = format!("https://127.0.0.1:{port}");
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "clusters": [{ "name": "test", "cluster": { "server": server, "certificate-authority": pki.path("ca.crt") } }],
        "users": [{ "name": user, "user": credentials }],
        "contexts": [{ "name": "test", "context": { "cluster": "test", "user": user } }],
    });
    let path = dir.join(format!("{user}.kubeconfig"));
    std::fs::write(&path, config.to_string()).expect("a file can be written");
    path
}
