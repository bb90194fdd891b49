//! What a person who runs the program relies on: exit codes and messages, signals, what it leaves on the
//! disk, and what it does when the disk is full, damaged, or somebody else's.

mod damage;
mod disk;
mod signals;
mod starting;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{Launch, Server, image, nameless_pack, object, path, run};

/// Flags of a server that takes ports that are free.
const FREE: [&str; 5] = ["serve", "--kube-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"];

type Variables = &'static [(&'static str, &'static str)];

fn serve<'a>(more: &[&'a str]) -> Vec<&'a str> {
    FREE.iter().copied().chain(more.iter().copied()).collect()
}

/// All objects, as they are.
async fn everything(server: &Server) -> Value {
    let mut all = Vec::new();
    for kind in ["images", "repositories", "organizations", "datapacks"] {
        all.push(server.admin().get(&path(kind, "")).await.expect(200)["items"].take());
    }
    all.into()
}

#[tokio::test]
async fn a_wrong_command_line_exits_with_2_and_says_what_is_wrong() {
    let dir = tempfile::tempdir().expect("a directory");
    let none: Variables = &[];
    let cases: [(&[&str], Variables, &str); 12] = [
        (&[], none, "Usage: imagehub"),
        (&["dance"], none, "'dance'"),
        (&["serve", "--bogus"], none, "'--bogus'"),
        (&["serve", "--kube-listen", "8443"], none, "'8443' for '--kube-listen"),
        (&["serve", "--http-listen", "localhost:x"], none, "'localhost:x' for '--http-listen"),
        (&["serve", "--pack-cache-bytes", "much"], none, "'much' for '--pack-cache-bytes"),
        (&["serve", "--data-dir"], none, "'--data-dir <DIR>'"),
        (&["serve"], &[("IMAGEHUB_KUBE_LISTEN", "nowhere")], "'nowhere' for '--kube-listen"),
        (&["serve"], &[("IMAGEHUB_DEMO", "perhaps")], "'perhaps' for '--demo'"),
        (&["hash"], none, "--file <FILE>"),
        (&["check"], none, "<DIR>"),
        (&["openapi", "a", "b"], none, "'b'"),
    ];
    for (arguments, environment, said) in cases {
        run(dir.path(), arguments, environment, "").await.failed_with(2, &[said]);
    }
    run(dir.path(), &serve(&["--log", "a=b=c"]), none, "")
        .await
        .failed_with(1, &["--log", "\"a=b=c\"", "want a level"]);
    let left = std::fs::read_dir(dir.path()).expect("it is there").count();
    assert_eq!(left, 0, "nothing was begun");
}

#[tokio::test]
async fn help_goes_to_standard_output_and_names_defaults_and_variables() {
    let dir = tempfile::tempdir().expect("a directory");
    for command in ["serve", "hash", "check", "openapi"] {
        let ended = run(dir.path(), &[command, "--help"], &[], "").await;
        assert!(ended.ok().contains("Usage: imagehub"), "{ended:?}");
        assert!(ended.said.is_empty(), "{ended:?}");
    }
    let help = run(dir.path(), &["serve", "--help"], &[], "").await.printed;
    for wanted in ["--data-dir", "IMAGEHUB_DATA_DIR", "[default: 127.0.0.1:8443]", "IMAGEHUB_DEMO", "Examples:"] {
        assert!(help.contains(wanted), "{wanted:?} is not in {help}");
    }
    let version = run(dir.path(), &["--version"], &[], "").await.printed;
    assert_eq!(version, format!("imagehub {}\n", env!("CARGO_PKG_VERSION")));
}

#[tokio::test]
async fn a_port_in_use_is_told_by_its_flag() {
    let dir = tempfile::tempdir().expect("a directory");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    for (flag, other) in [("--kube-listen", "--http-listen"), ("--http-listen", "--kube-listen")] {
        let ended = run(dir.path(), &["serve", flag, &address, other, "127.0.0.1:0"], &[], "").await;
        ended.failed_with(1, &[flag, &address, "listens there"]);
        assert!(ended.printed.is_empty(), "{ended:?}");
    }
    assert!(!dir.path().join("imagehub-data").exists(), "the data directory was not touched");
    let elsewhere = ["serve", "--kube-listen", "192.0.2.1:0", "--http-listen", "127.0.0.1:0"];
    run(dir.path(), &elsewhere, &[], "").await.failed_with(1, &["--kube-listen", "192.0.2.1:0"]);
}

#[tokio::test]
async fn each_flag_is_also_a_variable() {
    let dir = tempfile::tempdir().expect("a directory");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let file = dir.path().join("file");
    std::fs::write(&file, "mine").expect("a file");
    let file = file.to_str().expect("a path in UTF-8");
    let free = [("IMAGEHUB_KUBE_LISTEN", "127.0.0.1:0"), ("IMAGEHUB_HTTP_LISTEN", "127.0.0.1:0")];
    let with = |name, value| [free[0], free[1], (name, value)];
    for name in ["IMAGEHUB_KUBE_LISTEN", "IMAGEHUB_HTTP_LISTEN"] {
        run(dir.path(), &["serve"], &with(name, &address), "").await.failed_with(1, &[&address]);
    }
    let ended = run(dir.path(), &["serve"], &with("IMAGEHUB_DATA_DIR", file), "").await;
    ended.failed_with(1, &[file, "is not a directory"]);
    run(dir.path(), &["serve"], &with("IMAGEHUB_LOG", "a=b=c"), "").await.failed_with(1, &["a=b=c"]);
    for (demo, code) in [("1", 1), ("0", 1), ("true", 1), ("no", 1), ("perhaps", 2)] {
        let variables = [("IMAGEHUB_DEMO", demo), ("IMAGEHUB_DATA_DIR", file), free[0], free[1]];
        let ended = run(dir.path(), &["serve"], &variables, "").await;
        assert_eq!(ended.code, Some(code), "IMAGEHUB_DEMO={demo}: {ended:?}");
    }
    assert_eq!(std::fs::read_to_string(file).expect("it is there"), "mine");
}

#[tokio::test]
async fn a_restart_keeps_everything_and_the_kubeconfig_follows_the_port() {
    let mut server = Launch::default().argument("--demo").start().await;
    let admin = server.admin();
    admin.post(&path("images", ""), &image("acme/anvil:v1", json!({ "docs": "d" }))).await.expect(201);
    admin.post(&path("datapacks", ""), &nameless_pack("grid", &["acme/anvil:v1"])).await.expect(201);
    let repository = object("Repository", "acme.secret", json!({ "name": "acme/secret", "isPrivate": true }));
    admin.post(&path("repositories", ""), &repository).await.expect(201);
    admin.delete(&path("images", "acme.anvil.v1")).await.expect(200);
    server.restart().await;
    let before = everything(&server).await;
    let kubeconfig = server.kubeconfig();
    server.restart().await;
    assert_eq!(everything(&server).await, before);
    assert_eq!(server.kubeconfig(), kubeconfig, "the same port, the same file");
    server.stop().await;
    server.forget_ports();
    server.start_again().await;
    assert_ne!(server.kubeconfig(), kubeconfig, "another port, another address in the file");
    // The administrator's client is made from the file.
    assert_eq!(everything(&server).await, before);
    let mode = |file: &str| {
        let file = server.data_dir().join(file);
        let metadata = std::fs::metadata(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        metadata.permissions().mode() & 0o777
    };
    assert_eq!((mode(""), mode("kubeconfig"), mode("catalog.redb"), mode("pki/ca.key")), (0o700, 0o600, 0o600, 0o600));
}

#[tokio::test]
async fn what_is_printed_and_logged_holds_no_secret_and_logs_are_json() {
    let mut server = Launch::default().argument("--demo").argument("--log").argument("debug").start().await;
    everything(&server).await;
    server.anonymous().post(&path("images", ""), &json!({})).await.refused(403, "Forbidden");
    server.stop().await;
    let (printed, log) = (server.printed(), server.log());
    assert!(printed.contains("export KUBECONFIG='/") && printed.contains("Ctrl-C"), "{printed}");
    let mut secrets = vec!["PRIVATE KEY".to_owned()];
    let key = std::fs::read_to_string(server.data_dir().join("pki/admin.key")).expect("the key is there");
    secrets.push(key.lines().nth(1).expect("a line of the key").to_owned());
    let kubeconfig = server.kubeconfig();
    let data = kubeconfig.lines().find_map(|line| line.trim().strip_prefix("client-key-data: "));
    secrets.push(data.expect("the kubeconfig has a key").to_owned());
    for secret in secrets {
        assert!(!printed.contains(&secret) && !log.contains(&secret), "a secret was told");
    }
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("a line of the log is no JSON: {e}: {line}")))
        .collect();
    let told = |message: &str| lines.iter().filter(|line| line["message"] == message).count();
    assert_eq!((told("ready"), told("stopped")), (1, 1), "{log}");
    let refused = lines.iter().any(|line| line["target"] == "imagehub::access" && line["code"] == 403);
    assert!(refused, "each request is logged where that is wanted:\n{log}");
}

#[tokio::test]
async fn hash_says_what_a_pack_is_named_or_what_is_wrong_with_it() {
    let server = Server::start().await;
    let dir = tempfile::tempdir().expect("a directory");
    let pack = nameless_pack("detail", &["acme/anvil:v1"]);
    let ended = run(dir.path(), &["hash", "-f", "-"], &[], &pack.to_string()).await;
    let created = server.admin().post(&path("datapacks", ""), &pack).await.expect(201);
    let name = crate::harness::name(&created).to_owned();
    let lines: Vec<&str> = ended.ok().lines().collect();
    assert_eq!(lines[0], name);
    assert!(lines[1].len() == 64 && lines[1].starts_with(&name["dp-".len()..]), "{ended:?}");
    std::fs::write(
        dir.path().join("bad.yaml"),
        "apiVersion: imagehub.sealos.io/v1\nkind: DataPack\nspec: {names: ['a/:b']}\n",
    )
    .expect("a file");
    let bad = run(dir.path(), &["hash", "-f", "bad.yaml"], &[], "").await;
    bad.failed_with(1, &["bad.yaml", "spec.names[0]", "a/:b"]);
    run(dir.path(), &["hash", "-f", "none.yaml"], &[], "").await.failed_with(1, &["none.yaml", "No such file"]);
    run(dir.path(), &["hash", "-f", "."], &[], "").await.failed_with(1, &["can't read ."]);
    let garbage = run(dir.path(), &["hash", "-f", "-"], &[], "\u{0}[[[").await;
    garbage.failed_with(1, &["not one YAML document"]);
}

#[tokio::test]
async fn a_kubeconfig_that_is_there_is_left_alone_and_nobody_is_added() {
    let server = Server::start().await;
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("alice.kubeconfig"), "another's").expect("a file");
    let data = server.data_dir();
    let data = data.to_str().expect("a path of letters");
    let add = ["user", "add", "alice", "--data-dir", data];
    let refused = run(dir.path(), &add, &[], "").await;
    refused.failed_with(1, &["alice.kubeconfig", "already", "--output"]);
    assert_eq!(std::fs::read_to_string(dir.path().join("alice.kubeconfig")).expect("it is there"), "another's");
    let users = run(dir.path(), &["user", "list", "--data-dir", data], &[], "").await;
    assert!(!users.ok().contains("alice"), "{users:?}");
}

#[tokio::test]
async fn openapi_writes_what_is_committed() {
    let dir = tempfile::tempdir().expect("a directory");
    run(dir.path(), &["openapi", "out"], &[], "").await.ok();
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi");
    for file in ["imagehub.json", "kube/v2.json", "kube/v3.json"] {
        let read = |folder: &Path| std::fs::read(folder.join(file)).unwrap_or_else(|e| panic!("{file}: {e}"));
        assert!(read(&committed) == read(&dir.path().join("out")), "openapi/{file} is not as generated: make openapi");
    }
    std::fs::write(dir.path().join("file"), "").expect("a file");
    run(dir.path(), &["openapi", "file"], &[], "").await.failed_with(1, &["file/kube", "Not a directory"]);
}
