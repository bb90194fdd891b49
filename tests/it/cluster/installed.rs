//! imagehub in the cluster, as `deploy/` installs it: replicas under the shipped rights, with their ServiceAccount's
//! token, behind a stand-in for the Service, which there is no kube-proxy for.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use http::Method;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::part::Part;
use super::rig::{Cluster, Options, free_ports};
use crate::harness::{Client, Kubectl, path_from, within};

/// The namespace of `deploy/base`.
pub const NAMESPACE: &str = "imagehub-system";
/// The APIService.
pub const API_SERVICE: &str = "/apis/apiregistration.k8s.io/v1/apiservices/v1.imagehub.sealos.io";
/// The namespace of the users' service accounts.
const USERS: &str = "user-system";
/// How often the stand-in asks who is ready, and a test whether something has come to be.
const POLL: Duration = Duration::from_millis(50);

/// A replica: a process on loopback.
pub struct Replica {
    /// The process.
    pub part: Part,
    /// Its Kubernetes door.
    pub kube: u16,
    /// Its gateway.
    pub http: u16,
}

impl Replica {
    /// Waits until it says that it is ready.
    pub async fn ready(&self) {
        within("the replica's readiness", async {
            while !is_ready(self.http).await {
                self.part.check();
                tokio::time::sleep(POLL).await;
            }
        })
        .await;
    }
}

async fn is_ready(http: u16) -> bool {
    let client = Client::plain(&format!("127.0.0.1:{http}"));
    let asked = client.try_request(Method::GET, "/readyz", &[], bytes::Bytes::new());
    let asked = tokio::time::timeout(Duration::from_secs(1), asked).await;
    asked.is_ok_and(|answer| answer.is_ok_and(|answer| answer.status == 200))
}

/// A stand-in for the Service: passes connections on to replicas that are ready, in turn, as endpoints are. One that
/// can't be connected to is passed over.
struct Endpoints {
    port: u16,
    passing: Passing,
    tasks: Vec<JoinHandle<()>>,
}

/// How many connections lead to which replica.
type Passing = Arc<Mutex<HashMap<u16, usize>>>;

/// One of them.
struct Passed {
    all: Passing,
    to: u16,
}

impl Passed {
    fn count(all: &Passing, to: u16) -> Self {
        *all.lock().entry(to).or_default() += 1;
        Self { all: Arc::clone(all), to }
    }
}

impl Drop for Passed {
    fn drop(&mut self) {
        *self.all.lock().entry(self.to).or_insert(1) -= 1;
    }
}

impl Endpoints {
    async fn of(replicas: &[Replica]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let port = listener.local_addr().expect("it is bound").port();
        let ready = Arc::new(Mutex::new(Vec::new()));
        let all: Vec<_> = replicas.iter().map(|replica| (replica.kube, replica.http)).collect();
        let told = Arc::clone(&ready);
        let looking = tokio::spawn(async move {
            loop {
                let mut now = Vec::new();
                for (kube, http) in &all {
                    if is_ready(*http).await {
                        now.push(*kube);
                    }
                }
                *told.lock() = now;
                tokio::time::sleep(POLL).await;
            }
        });
        let passing = Passing::default();
        let counted = Arc::clone(&passing);
        let accepting = tokio::spawn(async move {
            let mut turn = 0_usize;
            while let Ok((client, _)) = listener.accept().await {
                let mut targets = ready.lock().clone();
                turn += 1;
                let first = turn % targets.len().max(1);
                targets.rotate_left(first);
                tokio::spawn(pass(client, targets, Arc::clone(&counted)));
            }
        });
        Self { port, passing, tasks: vec![looking, accepting] }
    }
}

/// Connects a client with the first of `targets` that takes it.
async fn pass(client: TcpStream, targets: Vec<u16>, passing: Passing) {
    for target in targets {
        // The connections end before they are no longer counted: what is declared last is dropped first.
        let _counted = Passed::count(&passing, target);
        let Ok(mut server) = TcpStream::connect(("127.0.0.1", target)).await else { continue };
        let mut client = client;
        // What comes in pieces goes on at once, as through kube-proxy.
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        // How it ends is for the two ends to see.
        let _ = copy_bidirectional(&mut client, &mut server).await;
        return;
    }
}

impl Drop for Endpoints {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// A cluster with imagehub in it.
pub struct Installed {
    // Before the cluster, so that they end first.
    pub replicas: Vec<Replica>,
    endpoints: Endpoints,
    _dirs: TempDir,
    pub cluster: Cluster,
}

impl Installed {
    /// A cluster with so many replicas, ready and reached.
    pub async fn start(replicas: usize) -> Self {
        Self::start_in(Options::default(), replicas).await
    }

    /// The same in a cluster that is started with these options.
    pub async fn start_in(options: Options, replicas: usize) -> Self {
        let cluster = Cluster::start(options).await;
        apply(&cluster).await;
        Self::run(cluster, replicas).await
    }

    /// A cluster with one replica that keeps its data in a directory, as `deploy/overlays/single` has it.
    pub async fn single() -> Self {
        let cluster = Cluster::start(Options::default()).await;
        let kubectl = cluster.kubectl();
        kubectl.ok(["apply", "--server-side", "-f", &deploy("base/namespace.yaml").display().to_string()]).await;
        let overlay = deploy("overlays/single").display().to_string();
        kubectl.ok(["apply", "--server-side", "--dry-run=server", "-k", &overlay]).await;
        kubectl.ok(["apply", "--server-side", "-k", &overlay]).await;
        Self::run_with(cluster, 1, &["--storage=embedded", "--access=cluster", "--data-dir=data"]).await
    }

    /// Starts replicas in a cluster in which `deploy/` is applied, and waits until they are reached.
    pub async fn run(cluster: Cluster, replicas: usize) -> Self {
        Self::run_with(cluster, replicas, &["--storage=kubernetes"]).await
    }

    async fn run_with(cluster: Cluster, replicas: usize, keeps: &[&str]) -> Self {
        let dirs = tempfile::tempdir().expect("a temporary directory");
        let kubeconfig = service_account_kubeconfig(&cluster, dirs.path()).await;
        let replicas: Vec<_> = (0..replicas).map(|number| replica(dirs.path(), &kubeconfig, number, keeps)).collect();
        for replica in &replicas {
            replica.part.start();
        }
        for replica in &replicas {
            replica.ready().await;
        }
        let endpoints = Endpoints::of(&replicas).await;
        lead_to(&cluster, endpoints.port).await;
        let installed = Self { replicas, endpoints, _dirs: dirs, cluster };
        installed.available().await;
        installed
    }

    /// Waits until kube-apiserver says that the API is available.
    pub async fn available(&self) {
        within("the APIService's availability", async {
            loop {
                let service = self.cluster.ok(Method::GET, API_SERVICE, None).await;
                let conditions = service["status"]["conditions"].as_array().cloned().unwrap_or_default();
                if conditions.iter().any(|c| c["type"] == "Available" && c["status"] == "True") {
                    return;
                }
                tokio::time::sleep(POLL).await;
            }
        })
        .await;
    }

    /// A client of kube-apiserver, as its administrator.
    pub fn admin(&self) -> Client {
        Client::from_kubeconfig(&inlined(&self.cluster.kubeconfig()), false)
    }

    /// A client of kube-apiserver, as a user of the cluster.
    pub fn client_as(&self, user: &str, groups: &[&str]) -> Client {
        Client::from_kubeconfig(&inlined(&self.cluster.kubeconfig_of(user, groups)), false)
    }

    /// A client of kube-apiserver without credentials.
    pub fn anonymous(&self) -> Client {
        Client::from_kubeconfig(&inlined(&self.cluster.kubeconfig()), true)
    }

    /// A token of the ServiceAccount `name` of the users' namespace, both made where they aren't there.
    pub async fn token(&self, name: &str) -> String {
        let kubectl = self.cluster.kubectl();
        let account = json!({ "apiVersion": "v1", "kind": "List", "items": [
            { "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": USERS } },
            { "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": name, "namespace": USERS } },
        ] });
        kubectl.ok_with("apply --server-side -f -", &account.to_string()).await;
        kubectl.ok(["-n", USERS, "create", "token", name]).await.stdout.trim().to_owned()
    }

    /// kubectl as that ServiceAccount.
    pub async fn kubectl_of(&self, name: &str) -> Kubectl {
        let credentials = json!({ "token": self.token(name).await });
        Kubectl::new(&self.cluster.kubeconfig_with(name, &credentials))
    }

    /// kubectl without credentials that anybody knows. (It asks a person for some where it has none at all; a password
    /// is nothing to kube-apiserver.)
    pub fn kubectl_of_nobody(&self) -> Kubectl {
        let credentials = json!({ "username": "nobody", "password": "none" });
        Kubectl::new(&self.cluster.kubeconfig_with("nobody", &credentials))
    }

    /// A client of a replica's own door, as whoever `user`'s certificate says; without one, as nobody.
    pub async fn direct(&self, replica: &Replica, user: Option<(&str, &str)>) -> Client {
        self.client_at(replica.kube, user).await
    }

    /// The same by way of the stand-in for the Service.
    pub async fn behind_the_service(&self, user: Option<(&str, &str)>) -> Client {
        self.client_at(self.endpoints.port, user).await
    }

    /// Waits until no connection leads from the stand-in for the Service to a replica any more.
    pub async fn cut_off(&self, replica: &Replica) {
        let left = async || self.endpoints.passing.lock().get(&replica.kube).copied().unwrap_or(0) == 0;
        until("the end of all connections to a replica that is gone", left).await;
    }

    async fn client_at(&self, port: u16, user: Option<(&str, &str)>) -> Client {
        let secret = format!("/api/v1/namespaces/{NAMESPACE}/secrets/imagehub-ca");
        let secret = self.cluster.ok(Method::GET, &secret, None).await;
        let encode = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
        let file = |name: String| encode(&std::fs::read(self.cluster.pki.path(&name)).expect("the file is there"));
        let user = user.map(|(certificate, key)| {
            json!({ "client-certificate-data": file(certificate.to_owned()), "client-key-data": file(key.to_owned()) })
        });
        let kubeconfig = json!({
            "clusters": [{ "cluster": {
                "server": format!("https://127.0.0.1:{port}"),
                "certificate-authority-data": secret["data"]["ca.crt"],
            } }],
            "users": [{ "user": user }],
        });
        Client::from_kubeconfig(&kubeconfig.to_string(), user.is_none())
    }

    /// Which replica is the active one.
    pub async fn active(&self) -> usize {
        let lease = format!("/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/imagehub");
        within("an active replica", async {
            loop {
                let lease = self.cluster.ok(Method::GET, &lease, None).await;
                let address =
                    lease["metadata"]["annotations"]["imagehub.sealos.io/address"].as_str().unwrap_or_default();
                let held = lease["spec"]["holderIdentity"].as_str().is_some_and(|holder| !holder.is_empty());
                let found = self.replicas.iter().position(|r| address == format!("127.0.0.1:{}", r.kube));
                if let Some(found) = found.filter(|_| held) {
                    return found;
                }
                tokio::time::sleep(POLL).await;
            }
        })
        .await
    }
}

/// The manifests in `deploy/`.
pub fn deploy(part: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(part)
}

/// Applies `deploy/crd` and `deploy/base`, first as a dry run.
pub async fn apply(cluster: &Cluster) {
    let kubectl = cluster.kubectl();
    let part = |part: &str| deploy(part).display().to_string();
    let crd = part("crd");
    kubectl.ok(["apply", "--server-side", "--dry-run=server", "-k", &crd]).await;
    kubectl.ok(["apply", "--server-side", "-k", &crd]).await;
    kubectl.ok("wait --for=condition=Established crd/records.store.imagehub.sealos.io --timeout=30s").await;
    // A dry run of what is in a namespace needs the namespace.
    kubectl.ok(["apply", "--server-side", "-f", &part("base/namespace.yaml")]).await;
    kubectl.ok(["apply", "--server-side", "--dry-run=server", "-k", &part("base")]).await;
    kubectl.ok(["apply", "--server-side", "-k", &part("base")]).await;
    // The kinds of the other components are not kube's own.
    let ingress = part("components/ingress/ingress.yaml");
    kubectl.ok(["apply", "--server-side", "--dry-run=server", "-f", &ingress]).await;
    kubectl.ok(["apply", "--server-side", "-f", &ingress]).await;
}

/// Has the APIService lead to a port of this machine: by a Service of a name that is looked up.
async fn lead_to(cluster: &Cluster, port: u16) {
    let services = format!("/api/v1/namespaces/{NAMESPACE}/services");
    cluster.ok(Method::DELETE, &format!("{services}/imagehub"), None).await;
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "imagehub" },
        "spec": { "type": "ExternalName", "externalName": "localhost", "ports": [{ "port": port }] },
    });
    cluster.ok(Method::POST, &services, Some(service)).await;
    let kubectl = cluster.kubectl();
    let patch = json!({ "spec": { "service": { "port": port } } }).to_string();
    kubectl.ok(["patch", "apiservice", "v1.imagehub.sealos.io", "--type=merge", "-p", &patch]).await;
}

/// A kubeconfig with a token of the server's ServiceAccount.
async fn service_account_kubeconfig(cluster: &Cluster, dir: &Path) -> PathBuf {
    let token = cluster.kubectl().ok(["-n", NAMESPACE, "create", "token", "imagehub", "--duration=24h"]).await;
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "clusters": [{ "name": "test", "cluster": {
            "server": format!("https://127.0.0.1:{}", cluster.api_port()),
            "certificate-authority": cluster.pki.path("ca.crt"),
        } }],
        "users": [{ "name": "imagehub", "user": { "token": token.stdout.trim() } }],
        "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "imagehub" } }],
    });
    let path = dir.join("service-account.kubeconfig");
    std::fs::write(&path, kubeconfig.to_string()).expect("the kubeconfig can be written");
    path
}

fn replica(dirs: &Path, kubeconfig: &Path, number: usize, keeps: &[&str]) -> Replica {
    let dir = dirs.join(format!("replica-{number}"));
    std::fs::create_dir_all(&dir).expect("the replica's folder can be made");
    let [kube, http] = free_ports();
    let arguments = [
        format!("--kubeconfig={}", kubeconfig.display()),
        format!("--kube-listen=127.0.0.1:{kube}"),
        format!("--http-listen=127.0.0.1:{http}"),
        format!("--replica-name=imagehub-{number}"),
    ];
    let arguments = ["serve"].iter().chain(keeps).map(|word| (*word).to_owned()).chain(arguments).collect();
    let programs = path_from("IMAGEHUB_PROGRAMS");
    let tested = || Path::new(env!("CARGO_BIN_EXE_imagehub")).parent().expect("the program is in a folder").to_owned();
    let programs = programs.unwrap_or_else(tested);
    Replica { part: Part::new("imagehub", &programs, &dir, arguments), kube, http }
}

/// A kubeconfig whose files are in it.
fn inlined(path: &Path) -> String {
    let text = std::fs::read_to_string(path).expect("the kubeconfig can be read");
    let mut config: Value = serde_saphyr::from_str(&text).expect("the kubeconfig is YAML");
    let inline = |part: &mut Value, name: &str| {
        if let Some(file) = part[name].as_str() {
            let bytes = std::fs::read(file).expect("the file is there");
            part[format!("{name}-data")] = base64::engine::general_purpose::STANDARD.encode(bytes).into();
        }
    };
    inline(&mut config["clusters"][0]["cluster"], "certificate-authority");
    inline(&mut config["users"][0]["user"], "client-certificate");
    inline(&mut config["users"][0]["user"], "client-key");
    config.to_string()
}

/// Waits until `done` says so.
pub async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    within(what, async {
        while !done().await {
            tokio::time::sleep(POLL).await;
        }
    })
    .await;
}
