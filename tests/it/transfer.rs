//! Moving data in and out: export, import, backup, through the program's own commands.

mod interrupted;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use imagehub::clock::SystemClock;
use imagehub::storage::Storage as _;
use imagehub::storage::embedded::{Embedded, FILE, Options, RESTORED_STEP};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::harness::{
    API, Client, Launch, MERGE_PATCH, Server, Watch, catalogue, image, name, object, path, revision, within,
};

const KINDS: [&str; 4] = ["organizations", "repositories", "images", "datapacks"];
const ANNOTATION: &str = "imagehub.sealos.io/restore";

/// What a command printed, and how it ended.
struct Ran {
    code: Option<i32>,
    out: Vec<u8>,
    err: String,
}

impl Ran {
    #[track_caller]
    fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{}{}", String::from_utf8_lossy(&self.out), self.err);
        self
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }
}

fn command(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_imagehub"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("IMAGEHUB_") || name == "KUBECONFIG" {
            command.env_remove(name);
        }
    }
    command.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

async fn wait(child: Child) -> Ran {
    let output = within("the command's end", child.wait_with_output()).await.expect("it can be waited for");
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    Ran { code: output.status.code(), out: output.stdout, err }
}

async fn run(words: &[&str]) -> Ran {
    wait(command(words).spawn().expect("the program starts")).await
}

fn kubeconfig(server: &Server) -> String {
    text(&server.data_dir().join("kubeconfig"))
}

fn text(path: &Path) -> String {
    path.to_str().expect("the path is text").to_owned()
}

async fn export(server: &Server, more: &[&str]) -> Vec<u8> {
    let config = kubeconfig(server);
    let mut words = vec!["export", "--kubeconfig", &config];
    words.extend(more);
    run(&words).await.ok().out
}

async fn import(server: &Server, more: &[&str]) -> Ran {
    let config = kubeconfig(server);
    let mut words = vec!["import", "--kubeconfig", &config];
    words.extend(more);
    run(&words).await
}

fn write(dir: &TempDir, name: &str, bytes: impl AsRef<[u8]>) -> String {
    let path = dir.path().join(name);
    std::fs::write(&path, bytes).expect("a file");
    text(&path)
}

fn lines(objects: &[Value]) -> String {
    objects.iter().map(Value::to_string).collect::<Vec<_>>().join("\n") + "\n"
}

async fn now(client: &Client) -> u64 {
    revision(&client.get(&path("images", "")).await.ok())
}

/// Every object's version, by kind and name.
async fn versions(client: &Client) -> BTreeMap<(String, String), u64> {
    let mut all = BTreeMap::new();
    for kind in KINDS {
        for item in client.get(&path(kind, "")).await.ok()["items"].as_array().expect("items") {
            all.insert((kind.to_owned(), name(item).to_owned()), revision(item));
        }
    }
    all
}

/// A catalogue that has something of everything.
async fn fill(server: &Server) {
    let admin = server.admin();
    for document in catalogue() {
        let plural = KINDS[["Organization", "Repository", "Image", "DataPack"]
            .iter()
            .position(|kind| document["kind"] == *kind)
            .expect("a kind of ours")];
        admin.post(&path(plural, ""), &document).await.ok();
    }
    let organization =
        object("Organization", "atelier", json!({ "name": "atelier", "manager": ["alice", "user:a:b"] }));
    admin.post(&path("organizations", ""), &organization).await.ok();
    let private = object("Repository", "atelier.secret", json!({ "name": "atelier/secret", "isPrivate": true }));
    admin.post(&path("repositories", ""), &private).await.ok();
    let odd = "a\ttab, \"quotes\", 'more', \u{1F4E6}\r\nline\u{85}next\u{2028}end \n\n  indented\n- x: y # no comment\n---\n\n";
    let detail = json!({ "docs": odd, "description": "1.10", "keywords": ["gpu", "yes", "~"], "size": 1 });
    admin.post(&path("images", ""), &image("atelier/secret:v1", detail)).await.ok();
    admin.post(&path("images", ""), &image("atelier/my.app:V1", json!({ "docs": "" }))).await.refused(422, "Invalid");
    let mut image = image("atelier/open:1", json!({}));
    image["metadata"]["annotations"] = json!({ "example.com/note": "kept" });
    image["metadata"]["finalizers"] = json!(["example.com/wait"]);
    admin.post(&path("images", ""), &image).await.ok();
    for (name, count) in [("atelier.open", 41), ("atelier.secret", 7)] {
        let status = json!({ "status": { "downloadCount": count } });
        admin.patch(&path("repositories", &format!("{name}/status")), MERGE_PATCH, &status).await.ok();
    }
    let pack = json!({ "type": "detail", "names": ["atelier/open:1", "atelier/none:1"], "expireTime": "700h" });
    admin.post(&path("datapacks", ""), &object("DataPack", "front", pack.clone())).await.ok();
    let mut nameless = object("DataPack", "", pack);
    nameless["metadata"] = json!({});
    admin.post(&path("datapacks", ""), &nameless).await.ok();
}

#[tokio::test]
async fn an_export_imported_and_exported_again_is_byte_equal_and_importing_it_twice_changes_nothing() {
    let (first, mut second) = tokio::join!(Server::start(), Server::start());
    fill(&first).await;
    let dir = TempDir::new().expect("a directory");
    let yaml = export(&first, &[]).await;
    let json = export(&first, &["-o", "json"]).await;
    let file = write(&dir, "all.yaml", &yaml);

    let ran = import(&second, &[&file]).await.ok();
    let count = String::from_utf8_lossy(&json).lines().count();
    assert!(ran.text().starts_with(&format!("{count} created, 0 were there, 0 failed, 0 warnings")), "{}", ran.text());
    assert_eq!(String::from_utf8_lossy(&export(&second, &[]).await), String::from_utf8_lossy(&yaml));
    let packed = dir.path().join("all.jsonl.gz");
    export(&second, &["--format", "json", "--gzip", "-o", &text(&packed)]).await;
    let mut read = String::new();
    std::io::Read::read_to_string(
        &mut flate2::read::GzDecoder::new(&*std::fs::read(&packed).expect("the export")),
        &mut read,
    )
    .expect("it is gzip");
    assert_eq!(read.as_bytes(), json);

    // The same to clients, too: who made it, when, how often it was downloaded, what it says.
    for (kind, name) in [("images", "atelier.open.1"), ("repositories", "atelier.secret"), ("datapacks", "front")] {
        let strip = |mut object: Value| {
            object["metadata"]["resourceVersion"] = Value::Null;
            object["metadata"]["annotations"][ANNOTATION].is_null().then_some(object)
        };
        let (a, b) = (first.admin(), second.admin());
        let at = path(kind, name);
        assert_eq!(strip(a.get(&at).await.ok()), strip(b.get(&at).await.ok()));
    }
    assert_eq!(second.admin().get(&path("repositories", "atelier.open")).await.ok()["status"]["downloadCount"], 41);

    // Brought in step without a server, so that nothing is left for the controllers to do; then nothing changes.
    second.stop().await;
    let data = text(&second.data_dir());
    run(&["import", "--offline", &data, &file]).await.ok();
    second.start_again().await;
    let before = (now(&second.admin()).await, versions(&second.admin()).await);
    let ran = import(&second, &[&text(&packed)]).await.ok();
    assert!(ran.text().starts_with(&format!("0 created, {count} were there, 0 failed")), "{}", ran.text());
    assert_eq!((now(&second.admin()).await, versions(&second.admin()).await), before);
}

#[tokio::test]
async fn filters_choose_what_is_exported() {
    let server = Server::start().await;
    fill(&server).await;
    let objects = |bytes: Vec<u8>| -> Vec<Value> {
        String::from_utf8(bytes).expect("text").lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    };
    let names = |objects: &[Value]| objects.iter().map(|object| name(object).to_owned()).collect::<Vec<_>>();
    let of = objects(export(&server, &["-o", "json", "--organization", "atelier"]).await);
    assert_eq!(names(&of), ["atelier", "atelier.open", "atelier.secret", "atelier.open.1", "atelier.secret.v1"]);
    let images = ["-o", "json", "--kind", "image", "-l", "repository.imagehub.sealos.io=secret"];
    assert_eq!(names(&objects(export(&server, &images).await)), ["atelier.secret.v1"]);
    for object in of {
        let metadata = object["metadata"].as_object().expect("metadata");
        for absent in ["resourceVersion", "managedFields", "namespace"] {
            assert!(!metadata.contains_key(absent), "{object}");
        }
        assert!(object.get("status").is_none() && metadata["annotations"].get(ANNOTATION).is_some(), "{object}");
    }
    let config = kubeconfig(&server);
    let none = run(&["export", "--kubeconfig", &config, "--organization", "atelier", "--kind", "datapack"]).await;
    assert_eq!(none.code, Some(1));
}

#[tokio::test]
async fn only_administrators_export_restore_and_back_up_and_the_annotation_is_never_stored() {
    let server = Server::start().await;
    let (admin, nobody) = (server.admin(), server.anonymous());
    let mut exported = object("Organization", "atelier", json!({ "name": "atelier" }));
    exported["metadata"]["annotations"] = json!({ ANNOTATION: "{\"creator\":\"alice\"}" });
    exported["metadata"]["uid"] = "00000000-0000-4000-8000-000000000001".into();
    exported["metadata"]["creationTimestamp"] = "2020-01-02T03:04:05Z".into();
    let restore = format!("{}?restore=true", path("organizations", ""));
    let alice = &[("impersonate-user", "alice"), ("content-type", "application/json")];
    let body = || bytes::Bytes::from(exported.to_string());
    for who in
        [nobody.post(&restore, &exported).await, admin.request(http::Method::POST, &restore, alice, body()).await]
    {
        who.refused(403, "Forbidden");
    }
    for asked in [format!("{}?export=true", path("images", "")), "/backup".to_owned()] {
        nobody.get(&asked).await.refused(403, "Forbidden");
        admin.request(http::Method::GET, &asked, alice, bytes::Bytes::new()).await.refused(403, "Forbidden");
    }

    let restored = admin.post(&restore, &exported).await.expect(201);
    assert_eq!(restored["metadata"]["uid"], exported["metadata"]["uid"]);
    assert_eq!(restored["metadata"]["creationTimestamp"], "2020-01-02T03:04:05Z");
    assert_eq!(restored["spec"]["manager"], json!(["alice"]));
    assert!(restored["metadata"]["annotations"].is_null());
    let again = admin.put(&format!("{}?restore=true", path("organizations", "atelier")), &exported).await.expect(200);
    assert_eq!(revision(&again), revision(&restored));
    let mut other = exported.clone();
    other["metadata"]["uid"] = "00000000-0000-4000-8000-000000000002".into();
    admin.post(&restore, &other).await.refused(409, "Conflict");
    other["metadata"]["annotations"] = json!({});
    admin.post(&restore, &other).await.refused(400, "BadRequest");

    // Without the parameter it is a manifest like any other.
    let mut plain = object("Organization", "other", json!({ "name": "other" }));
    plain["metadata"]["annotations"] = json!({ ANNOTATION: "{\"creator\":\"alice\"}", "a": "b" });
    let made = admin.post(&path("organizations", ""), &plain).await.expect(201);
    assert_eq!(made["metadata"]["annotations"], json!({ "a": "b" }));
    let patch = json!({ "metadata": { "annotations": { ANNOTATION: "{}" } } });
    let patched = admin.patch(&path("organizations", "other"), MERGE_PATCH, &patch).await.expect(200);
    assert_eq!(patched["metadata"]["annotations"], json!({ "a": "b" }));
    assert_eq!(revision(&patched), revision(&made));
}

#[tokio::test]
async fn what_is_old_is_restored_as_it_is_and_reported() {
    let server = Server::start().await;
    let dir = TempDir::new().expect("a directory");
    let old = |kind: &str, name: &str, uid: u32, created: &str, spec: Value| {
        let mut object = object(kind, name, spec);
        object["metadata"]["uid"] = format!("uid-{uid}").into();
        object["metadata"]["creationTimestamp"] = created.into();
        object["metadata"]["annotations"] = json!({ ANNOTATION: "{\"creator\":\"old\"}" });
        object
    };
    let file = write(
        &dir,
        "old.jsonl",
        lines(&[
            old("Image", "no-organization", 1, "2021-01-01T00:00:00Z", json!({ "name": "atelier/app:1" })),
            old("Image", "atelier.app.1", 2, "2020-01-01T00:00:00Z", json!({ "name": "atelier/app:1" })),
            old("Image", "upper", 3, "2020-01-01T00:00:00Z", json!({ "name": "Acme/App:1" })),
            old(
                "Image",
                "bad",
                4,
                "2020-01-01T00:00:00Z",
                json!({ "name": "atelier/bad:1", "detail": { "size": -1 } }),
            ),
            old("DataPack", "over", 5, "2020-01-01T00:00:00Z", json!({ "names": ["atelier/app:1"] })),
        ]),
    );
    let ran = import(&server, &[&file]).await;
    assert_eq!(ran.code, Some(1), "{}", ran.err);
    assert!(ran.text().starts_with("3 created, 1 were there, 1 failed"), "{}{}", ran.text(), ran.err);
    for said in [
        "document 1 (line 1): warning: taken as it is, though metadata.name",
        "document 3 (line 3): warning: taken as it is, though spec.name",
        "document 4 (line 4): Image",
        "spec.detail.size",
        "document 5 (line 5): warning: not restored: the pack's time was over",
        "the oldest is served, \"atelier.app.1\"",
    ] {
        assert!(ran.err.contains(said), "{said}: {}", ran.err);
    }
    let admin = server.admin();
    let tags = admin.get(&path("repositories", "atelier.app")).await.ok();
    assert_eq!(tags["status"]["tags"][0]["metaName"], "atelier.app.1");
    assert_eq!(admin.get(&path("images", "upper")).await.ok()["metadata"]["uid"], "uid-3");
    admin.get(&path("datapacks", "over")).await.refused(404, "NotFound");
}

#[tokio::test]
async fn plain_manifests_are_made_or_changed_and_what_is_bad_is_reported_where_it_is() {
    let server = Server::start().await;
    let dir = TempDir::new().expect("a directory");
    let good = |tag: &str| {
        format!("apiVersion: imagehub.sealos.io/v1\nkind: Image\nmetadata: {{}}\nspec: {{name: 'labring/app:{tag}'}}\n")
    };
    let mut billion = "a: &a [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for (new, old) in ["b", "c", "d", "e", "f", "g", "h"].iter().zip(["a", "b", "c", "d", "e", "f", "g"]) {
        let items = vec![format!("*{old}"); 10].join(",");
        writeln!(billion, "{new}: &{new} [{items}]").expect("a String takes all");
    }
    let files = [
        ("01-yaml.yaml", format!("{}---\n{}", good("y1"), good("y2"))),
        (
            "02-crlf-bom.yaml",
            format!("\u{feff}{}---\r\n{}", good("c1"), good("c2")).replace('\n', "\r\n").replace("\r\r", "\r"),
        ),
        ("03-aliases.yaml", format!("{}metadata: &x {{}}\n---\n{billion}---\n{}", good("a0"), good("a1"))),
        ("04-merge.yaml", "x: &x {kind: Image}\n<<: *x\n".to_owned()),
        ("05-tabs.yaml", format!("kind: Image\nspec:\n\tname: x\n---\n{}", good("t1"))),
        ("06-double.yaml", format!("{}spec: {{}}\n---\n{}", good("d1"), good("d2"))),
        ("07-nul.yaml", format!("{}# \0\n---\n{}", good("n1"), good("n2"))),
        ("08-list.yaml", format!("apiVersion: v1\nkind: List\nitems:\n- {}", good("l1").replace('\n', "\n  "))),
        ("09-lines.jsonl", "{\"kind\":\"Image\n{\"kind\":\"Pod\",\"apiVersion\":\"v1\"}\n".to_owned()),
        ("10-unknown.yaml", format!("{}extra: 1\n", good("u1"))),
        ("11-deep.yaml", format!("kind: Image\nspec: {}\n", "[".repeat(100_000))),
    ];
    for (name, text) in &files {
        write(&dir, name, text);
    }
    let gzip = |text: &str| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text.as_bytes()).expect("a Vec takes all");
        encoder.finish().expect("a Vec takes all")
    };
    let whole = gzip(&format!("{}---\n{}", good("g1"), good("g2")));
    write(&dir, "12-torn.yaml.gz", &whole[..whole.len() - 12]);
    write(&dir, "13-whole.yaml.gz", &whole);
    write(&dir, "14-bomb.yaml.gz", gzip(&" ".repeat(100 << 20)));
    write(&dir, "15-utf16.yaml", [0xff, 0xfe, b'a', 0, b':', 0]);
    write(&dir, "notes.txt", "not read");

    let ran = import(&server, &[&text(dir.path())]).await;
    assert_eq!(ran.code, Some(1));
    for said in [
        "03-aliases.yaml: document 1 (line 1): the field metadata is there twice",
        "03-aliases.yaml: document 2 (line 7): it is not valid YAML: ",
        "04-merge.yaml: document 1 (line 1): its apiVersion and kind are \"\" and \"Image\"",
        "05-tabs.yaml: document 1 (line 1): it is not valid YAML: ",
        "06-double.yaml: document 1 (line 1): the field spec is there twice",
        "07-nul.yaml: document 1 (line 1): it is not valid YAML: it has a NUL",
        "09-lines.jsonl: document 1 (line 1): a text in it does not end on its line",
        "09-lines.jsonl: document 2 (line 2): its apiVersion and kind are \"v1\" and \"Pod\"",
        "10-unknown.yaml: document 1 (line 1): ",
        "unknown field \\\"extra\\\"",
        "11-deep.yaml: document 1 (line 1): it is not valid YAML: ",
        "12-torn.yaml.gz: after document 1: its gzip data ends too soon",
        "14-bomb.yaml.gz: after document 0: its gzip data grows to more than 200 times",
        "15-utf16.yaml: document 1 (line 1): it is not valid YAML: it must be UTF-8",
    ] {
        assert!(
            ran.err.contains(said) || ran.err.replace('\\', "").contains(&said.replace('\\', "")),
            "{said}:\n{}",
            ran.err
        );
    }
    let list = server.admin().get(&path("images", "")).await.ok();
    let names: Vec<_> = list["items"].as_array().expect("items").iter().map(|i| name(i).to_owned()).collect();
    let want: Vec<_> =
        ["a1", "c1", "c2", "d2", "g1", "g2", "l1", "n2", "t1", "y1", "y2"].map(|t| format!("labring.app.{t}")).into();
    assert_eq!(names, want, "{}", ran.err);

    // Again: what is there stays, and what others have put beside it as well.
    let admin = server.admin();
    let labelled = json!({ "metadata": { "labels": { "mine": "yes" } }, "spec": { "detail": { "docs": "d" } } });
    let before = admin.patch(&path("images", "labring.app.y1"), MERGE_PATCH, &labelled).await.ok();
    let changed = write(&dir, "01-yaml.yaml", good("y1").replace("spec: {", "spec: {type: cluster-image, "));
    let ran = import(&server, &["--dry-run", &changed]).await.ok();
    assert!(ran.text().contains("nothing was written"));
    assert_eq!(admin.get(&path("images", "labring.app.y1")).await.ok(), before);
    import(&server, &[&changed]).await.ok();
    let after = admin.get(&path("images", "labring.app.y1")).await.ok();
    assert_eq!((&after["spec"]["type"], &after["spec"]["detail"]["docs"]), (&json!("cluster-image"), &json!("d")));
    assert_eq!(after["metadata"]["labels"]["mine"], "yes");
    import(&server, &[&changed]).await.ok();
    assert_eq!(revision(&admin.get(&path("images", "labring.app.y1")).await.ok()), revision(&after));

    let stopped = import(&server, &["--stop-on-error", &text(dir.path())]).await;
    assert!(stopped.err.contains("stopped: a document could not be imported"), "{}", stopped.err);
}

/// Images of one repository each ten, one a line.
fn many(count: usize) -> String {
    let images = (0..count).map(|i| image(&format!("many/repo{}:v{i}", i / 10), json!({ "docs": "x".repeat(100) })));
    lines(&images.collect::<Vec<_>>())
}

#[tokio::test]
async fn an_import_outlives_a_crash_of_the_server_and_one_that_was_killed_goes_on() {
    const COUNT: usize = 600;
    let mut server = Launch::default().reserved_ports().start().await;
    let dir = TempDir::new().expect("a directory");
    let file = write(&dir, "many.jsonl", many(COUNT));
    let config = kubeconfig(&server);
    let begin = |file: &str| {
        command(&["import", "--kubeconfig", &config, "--parallel", "4", file]).spawn().expect("the program starts")
    };
    let mut seen = server.admin().watch(&format!("{}?resourceVersion=1", path("images", ""))).await;
    let mut killed = begin(&file);
    seen.next().await;
    killed.start_kill().expect("it can be killed");
    within("its end", killed.wait()).await.expect("it can be waited for");

    let running = begin(&file);
    for _ in 0..20 {
        seen.next().await;
    }
    server.kill9().await;
    server.start_again().await;
    let ran = wait(running).await.ok();
    assert!(ran.text().contains(" 0 failed"), "{}", ran.text());
    let list = server.admin().get(&format!("{}?limit=1", path("images", ""))).await.ok();
    assert_eq!(list["metadata"]["remainingItemCount"], COUNT - 1);
}

/// Images of new repositories in one new organization, all at the same time: none is refused for what another made.
#[tokio::test]
async fn images_that_make_one_organization_at_the_same_time_are_all_made() {
    let server = Server::start().await;
    let admin = server.admin();
    for round in 0..5 {
        let posts = (0..16).map(|i| {
            let (admin, image) = (admin.clone(), image(&format!("new{round}/repo{}:v{i}", i / 2), json!({})));
            tokio::spawn(async move { admin.post(&path("images", ""), &image).await.expect(201) })
        });
        for post in posts.collect::<Vec<_>>() {
            post.await.expect("it is made");
        }
    }
}

#[tokio::test]
async fn a_server_that_starts_after_an_offline_import_finds_everything_in_step() {
    let (source, root) = (Server::start().await, TempDir::new().expect("a directory"));
    fill(&source).await;
    let dir = TempDir::new().expect("a directory");
    let exported = write(&dir, "all.yaml", export(&source, &[]).await);
    let plain = write(&dir, "many.jsonl", many(3000));
    let data = text(&root.path().join("data"));
    let ran = run(&["import", "--offline", &data, &exported, &plain]).await.ok();
    assert!(ran.text().contains(" 0 failed, 0 warnings"), "{}", ran.text());

    let server = Launch::default().start_in(root).await;
    let admin = server.admin();
    let before = versions(&admin).await;
    assert_eq!(before.len(), 3000 + 300 + 1 + versions(&source.admin()).await.len());
    // The last thing that the controllers come to: whatever they had to do before is done then.
    let pack = object("DataPack", "zzz-probe", json!({ "names": ["probe/x:1"] }));
    let made = admin.post(&path("datapacks", ""), &pack).await.ok();
    let watch = format!(
        "{}?resourceVersion={}&fieldSelector=metadata.name%3Dzzz-probe",
        path("datapacks", ""),
        revision(&made)
    );
    let mut watch = admin.watch(&watch).await;
    admin.post(&path("images", ""), &image("probe/x:1", json!({}))).await.ok();
    watch.expect("MODIFIED", "zzz-probe").await;
    let mut after = versions(&admin).await;
    after.retain(|(_, name), _| !name.contains("probe"));
    assert_eq!(after, before);
    assert_eq!(
        export(&server, &["--organization", "atelier"]).await,
        export(&source, &["--organization", "atelier"]).await
    );
    // A store that a server has open is left alone.
    let refused = run(&["import", "--offline", &data, &plain]).await;
    assert!(refused.code == Some(1) && refused.err.contains("in use by another process"), "{}", refused.err);
}

/// Follows a kind until an object named `last` comes; answers with every change, by revision.
async fn follow(mut watch: Watch, last: &str) -> Vec<(u64, String, bool)> {
    let mut changes = Vec::new();
    loop {
        let event = watch.next().await;
        let of = name(&event.object).to_owned();
        changes.push((revision(&event.object), of.clone(), event.change != "DELETED"));
        if of == last {
            return changes;
        }
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for entry in std::fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("a copy");
        }
    }
}

/// Makes, changes and deletes images until it is told to stop.
async fn keep_writing(admin: Client, writer: usize, stopped: tokio::sync::watch::Receiver<bool>) {
    let mut i = 0;
    while !*stopped.borrow() {
        let tag = i % 7;
        let at = path("images", &format!("load.w{writer}.{tag}"));
        if i % 3 == 2 {
            admin.delete(&at).await;
        } else {
            let detail = json!({ "docs": format!("{i}") });
            let made = admin.post(&path("images", ""), &image(&format!("load/w{writer}:{tag}"), detail.clone())).await;
            if made.status == 409 {
                admin.patch(&at, MERGE_PATCH, &json!({ "spec": { "detail": detail } })).await;
            }
        }
        i += 1;
    }
}

#[tokio::test]
async fn a_backup_under_load_restores_to_a_state_that_was_and_its_versions_go_on_above_all_others() {
    const WRITERS: usize = 4;
    let server = Server::start().await;
    fill(&server).await;
    let admin = server.admin();
    let user = run(&["user", "add", "bob", "--data-dir", &text(&server.data_dir()), "-o", "-"]).await.ok();
    let mut follows = Vec::new();
    for (kind, last) in KINDS.iter().zip(["last", "last.x", "last.x.1", "last"]) {
        let watch = admin.watch(&format!("{}?resourceVersion=1", path(kind, ""))).await;
        follows.push(tokio::spawn(follow(watch, last)));
    }

    let (stop, stopped) = tokio::sync::watch::channel(false);
    let writers: Vec<_> = (0..WRITERS).map(|w| tokio::spawn(keep_writing(admin.clone(), w, stopped.clone()))).collect();
    let mut started =
        admin.watch(&format!("{}?labelSelector=organization.imagehub.sealos.io%3Dload", path("images", ""))).await;
    for _ in 0..20 {
        started.next().await;
    }
    let dir = TempDir::new().expect("a directory");
    let out = dir.path().join("backup");
    let ran = run(&["backup", &text(&server.data_dir()), &text(&out)]).await.ok();
    for _ in 0..20 {
        started.next().await;
    }
    stop.send_replace(true);
    for writer in writers {
        writer.await.expect("no writer fails");
    }
    admin.post(&path("images", ""), &image("last/x:1", json!({}))).await.ok();
    admin.post(&path("datapacks", ""), &object("DataPack", "last", json!({}))).await.ok();

    let said = ran.text();
    let at: u64 = said
        .split("revision ")
        .nth(1)
        .and_then(|s| s.split(' ').next())
        .and_then(|s| s.parse().ok())
        .expect("a revision");
    let mut state = BTreeMap::new();
    for (kind, changes) in KINDS.iter().zip(follows) {
        for (revision, name, there) in within("all changes", changes).await.expect("no watch fails") {
            if revision > at {
                continue;
            }
            if there {
                state.insert(((*kind).to_owned(), name), revision);
            } else {
                state.remove(&((*kind).to_owned(), name));
            }
        }
    }
    let given_out = now(&admin).await;
    assert!(at < given_out);

    // What is in it, read without a server.
    let opened: PathBuf = dir.path().join("opened");
    copy(&out, &opened);
    let storage = Embedded::open(&opened, Options::default(), Arc::new(SystemClock)).expect("it opens");
    let stored = storage.state().await.expect("it reads");
    let stored: BTreeMap<_, _> = stored
        .commits
        .iter()
        .map(|c| ((c.key.kind.plural().to_owned(), c.key.name.to_string()), c.revision.0))
        .collect();
    assert_eq!(stored, state);
    assert_eq!((storage.epoch(), storage.current().await.expect("it reads").0), (2, at + RESTORED_STEP));
    drop(storage);
    let storage = Embedded::open(&opened, Options::default(), Arc::new(SystemClock)).expect("it opens");
    assert_eq!((storage.epoch(), storage.current().await.expect("it reads").0), (2, at + RESTORED_STEP), "once");
    drop(storage);

    // A server on it: the same users and certificates, versions above all given out, and old watchers list anew.
    let root = TempDir::new().expect("a directory");
    copy(&out, &root.path().join("data"));
    let restored = Launch::default().start_in(root).await;
    let client = restored.admin();
    assert!(now(&client).await > given_out + RESTORED_STEP / 2);
    let made = client.post(&path("images", ""), &image("after/x:1", json!({}))).await.ok();
    assert!(revision(&made) > given_out);
    for old in [at, given_out] {
        let refused =
            client.try_watch(&format!("{}?resourceVersion={old}", path("images", ""))).await.expect("an answer");
        let event = refused.unwrap_or_else(|answer| panic!("{answer}")).next().await;
        assert_eq!((event.change.as_str(), &event.object["code"]), ("ERROR", &json!(410)));
    }
    let token = user.text().split("token: ").nth(1).and_then(|rest| rest.lines().next()).expect("a token").to_owned();
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str())];
    let bob = restored.anonymous().request(http::Method::GET, API, &headers, bytes::Bytes::new()).await;
    assert_eq!(bob.status, 200, "{bob}");
    let check = run(&["check", &text(&out)]).await.ok();
    assert!(check.text().contains("sound       yes"), "{}", check.text());
}

#[tokio::test]
async fn a_store_without_a_server_is_backed_up_as_well_and_nothing_is_overwritten() {
    let mut server = Server::start().await;
    fill(&server).await;
    let exported = export(&server, &[]).await;
    server.stop().await;
    let root = TempDir::new().expect("a directory");
    let out = root.path().join("data");
    let words = ["backup", &text(&server.data_dir()), &text(&out)];
    run(&words).await.ok();
    let again = run(&words).await;
    assert!(again.code == Some(1) && again.err.contains("is not empty"), "{}", again.err);
    let nothing = run(&["backup", &text(root.path()), &text(&root.path().join("x"))]).await;
    assert!(nothing.code == Some(1) && nothing.err.contains(FILE), "{}", nothing.err);
    let restored = Launch::default().start_in(root).await;
    assert_eq!(export(&restored, &[]).await, exported);
}
