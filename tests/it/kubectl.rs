//! kubectl against the server: what people type, and what they see.

use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde_json::{Value, json};

use crate::harness::{Kubectl, catalogue, catalogue_path, image, name, nameless_pack, names, object};

/// The four kinds: plural, singular, short name, kind.
const KINDS: [(&str, &str, &str, &str); 4] = [
    ("images", "image", "img", "Image"),
    ("repositories", "repository", "repo", "Repository"),
    ("organizations", "organization", "org", "Organization"),
    ("datapacks", "datapack", "dp", "DataPack"),
];

/// What kubectl calls an object.
fn full(singular: &str, name: &str) -> String {
    format!("{singular}.imagehub.sealos.io/{name}")
}

/// Objects as one manifest.
fn manifest(objects: &[Value]) -> String {
    json!({ "apiVersion": "v1", "kind": "List", "items": objects }).to_string()
}

/// Two images of acme/tool, one of acme/other, and a pack of them called `mine`.
async fn small(kubectl: &Kubectl) {
    let mut pack = nameless_pack("grid", &["acme/tool:v1", "acme/tool:v2"]);
    pack["metadata"]["name"] = "mine".into();
    let objects = [
        image("acme/tool:v1", json!({ "description": "first", "keywords": ["storage"], "docs": "# Tool" })),
        image("acme/tool:v2", json!({ "description": "second", "keywords": ["storage"] })),
        image("acme/other:v1", json!({ "description": "other" })),
        pack,
    ];
    kubectl.ok_with("apply -f -", &manifest(&objects)).await;
}

/// What a person does with kubectl, from an empty catalogue on.
pub type Script = (&'static str, fn(Kubectl) -> BoxFuture<'static, ()>);

/// Each script is a test, with a server of its own; and all of them are in `SCRIPTS`, for those who have another place
/// to do the same at.
macro_rules! scripts {
    ($($script:ident),* $(,)?) => {
        /// All of them.
        pub const SCRIPTS: &[Script] = &[$((stringify!($script), |kubectl| $script(kubectl).boxed())),*];

        mod here {
            use crate::harness::Server;

            $(
                #[tokio::test]
                async fn $script() {
                    let server = Server::start().await;
                    super::$script(server.kubectl()).await;
                }
            )*
        }
    };
}

scripts![
    the_catalogue_is_applied_once_and_a_second_time_nothing_changes,
    a_changed_manifest_shows_in_diff_and_is_configured,
    tables_have_the_columns_that_people_look_for,
    output_comes_as_json_yaml_name_and_jsonpath,
    selectors_choose_by_label_and_by_name,
    describe_shows_the_object_whole,
    explain_and_api_resources_know_every_kind_and_field,
    patch_label_and_annotate_change_what_they_name,
    replace_takes_the_version_that_it_read,
    unknown_fields_are_refused_or_warned_of,
    a_pack_without_a_name_is_created_and_printed,
    a_dry_run_says_what_would_be_and_changes_nothing,
    wait_sees_what_it_waits_for,
    watching_a_kind_prints_each_change,
    a_watch_with_a_selector_tells_of_coming_in_and_leaving,
    deleting_in_the_background_takes_what_depends_on_it,
    deleting_in_the_foreground_takes_what_depends_on_it_first,
    deleting_with_orphans_leaves_what_depended_on_it_without_that_owner,
    many_are_deleted_by_selector_and_by_file,
];

async fn the_catalogue_is_applied_once_and_a_second_time_nothing_changes(kubectl: Kubectl) {
    let file = catalogue_path();
    let file = file.to_string_lossy();
    let documents = catalogue().len();

    let first = kubectl.ok(["apply", "-f", &file]).await;
    let done = |line: &&str| line.ends_with(" created") || line.ends_with(" configured");
    assert_eq!(first.lines().iter().filter(|l| done(l)).count(), documents, "{first}");

    let versions = "get images -o jsonpath={.items[*].metadata.resourceVersion}";
    let before = kubectl.ok(versions).await;
    let second = kubectl.ok(["apply", "-f", &file]).await;
    let unchanged = second.lines().iter().filter(|l| l.ends_with(" unchanged")).count();
    assert_eq!((unchanged, second.lines().len()), (documents, documents), "{second}");
    assert_eq!(kubectl.ok(versions).await.stdout, before.stdout, "no image has a new version");

    let diff = kubectl.ok(["diff", "-f", &file]).await;
    assert_eq!(diff.stdout, "", "{diff}");

    // In pages, nothing is lost and nothing comes twice.
    let whole = kubectl.ok("get images -o name").await;
    let images = catalogue().iter().filter(|d| d["kind"] == "Image").count();
    assert_eq!(whole.lines().len(), images, "{whole}");
    let pages = kubectl.ok("get images -o name --chunk-size=2").await;
    assert_eq!(pages.stdout, whole.stdout);
}

async fn a_changed_manifest_shows_in_diff_and_is_configured(kubectl: Kubectl) {
    small(&kubectl).await;
    let changed = image("acme/tool:v2", json!({ "description": "changed", "keywords": ["storage"] })).to_string();
    let diff = kubectl.run("diff -f -", &changed).await;
    assert_eq!(diff.code, Some(1), "{diff}");
    diff.says(&["-    description: second", "+    description: changed"]);
    let before = kubectl.json("get image acme.tool.v2 -o json").await;
    assert_eq!(before["spec"]["detail"]["description"], "second", "a diff changes nothing");
    kubectl.ok_with("apply -f -", &changed).await.says(&["image.imagehub.sealos.io/acme.tool.v2 configured"]);
    let after = kubectl.json("get image acme.tool.v2 -o json").await;
    assert_eq!(after["spec"]["detail"]["description"], "changed");
    assert_eq!(after["metadata"]["generation"], 2, "the spec has changed once: {after:#}");
}

async fn tables_have_the_columns_that_people_look_for(kubectl: Kubectl) {
    small(&kubectl).await;
    for (plural, singular, short, _) in KINDS {
        for resource in [plural, singular, short] {
            let output = kubectl.ok(&format!("get {resource}")).await;
            let header = output.table()[0].clone();
            assert_eq!(header.first(), Some(&"NAME"), "{output}");
            assert_eq!(header.last(), Some(&"AGE"), "{output}");
        }
        let wide = kubectl.ok(&format!("get {plural} -o wide")).await;
        let narrow = kubectl.ok(&format!("get {plural}")).await;
        assert!(wide.table()[0].len() >= narrow.table()[0].len(), "{wide}{narrow}");
        wide.says(&["NAME", "AGE"]);
        assert_eq!(wide.lines().len(), narrow.lines().len(), "{wide}{narrow}");
    }
    let packs = kubectl.ok("get datapacks").await;
    let table = packs.table();
    assert_eq!(table[0], ["NAME", "TYPE", "IMAGES", "STATUS", "EXPIRES", "AGE"], "{packs}");
    assert_eq!(table[1][..4], ["mine", "grid", "2", "OK"], "{packs}");
    assert_eq!(table[1].len(), 6, "each column has a value: {packs}");
}

async fn output_comes_as_json_yaml_name_and_jsonpath(kubectl: Kubectl) {
    small(&kubectl).await;
    let list = kubectl.json("get images -o json").await;
    assert_eq!(list["kind"], "List");
    assert_eq!(names(&list), ["acme.other.v1", "acme.tool.v1", "acme.tool.v2"]);
    for item in list["items"].as_array().unwrap() {
        assert_eq!((&item["kind"], &item["apiVersion"]), (&json!("Image"), &json!("imagehub.sealos.io/v1")));
    }
    let one = kubectl.json("get image acme.tool.v1 -o json").await;
    let yaml = kubectl.ok("get image acme.tool.v1 -o yaml").await;
    let parsed: Value = serde_saphyr::from_str(&yaml.stdout).unwrap_or_else(|e| panic!("{e}: {yaml}"));
    assert_eq!(parsed, one, "YAML tells what JSON tells");
    assert_eq!(one["metadata"]["labels"]["organization.imagehub.sealos.io"], "acme");
    assert_eq!(one["metadata"]["labels"]["repository.imagehub.sealos.io"], "tool");
    assert_eq!(one["metadata"]["labels"]["tag.imagehub.sealos.io"], "v1");
    assert_eq!(one["metadata"]["ownerReferences"][0]["name"], "acme.tool", "{one:#}");

    let all = kubectl.ok("get images,repositories,organizations,datapacks -o name").await;
    for expected in [
        full("image", "acme.tool.v1"),
        full("repository", "acme.tool"),
        full("organization", "acme"),
        full("datapack", "mine"),
    ] {
        assert!(all.lines().contains(&&*expected), "{expected}: {all}");
    }
    let path = kubectl.ok("get repository acme.tool -o jsonpath={.status.latestTag.name}").await;
    assert_eq!(path.stdout, "v2", "{path}");
    let path = kubectl.ok("get datapack mine -o jsonpath={.status.datas.acme/tool:v2.description}").await;
    assert_eq!(path.stdout, "second", "{path}");
    let repos = kubectl.json("get organization acme -o json").await;
    assert_eq!(repos["status"]["repos"], json!(["acme/other", "acme/tool"]));
}

async fn selectors_choose_by_label_and_by_name(kubectl: Kubectl) {
    small(&kubectl).await;
    kubectl.ok("label image acme.tool.v1 tier=gold").await;
    for (selector, expected) in [
        ("-l repository.imagehub.sealos.io=tool", &["acme.tool.v1", "acme.tool.v2"][..]),
        ("-l organization.imagehub.sealos.io=acme,tag.imagehub.sealos.io!=v1", &["acme.tool.v2"]),
        ("-l tier", &["acme.tool.v1"]),
        ("-l !tier", &["acme.other.v1", "acme.tool.v2"]),
        ("--field-selector metadata.name=acme.tool.v2", &["acme.tool.v2"]),
        ("--field-selector metadata.name!=acme.tool.v2", &["acme.other.v1", "acme.tool.v1"]),
        ("-l tier=silver", &[]),
    ] {
        let list = kubectl.json(&format!("get images {selector} -o json")).await;
        assert_eq!(names(&list), expected, "{selector}");
    }
    let sets = ["get", "images", "-o", "json", "-l", "tag.imagehub.sealos.io in (v2, v3)"];
    assert_eq!(names(&kubectl.json(sets).await), ["acme.tool.v2"]);
    let sets = ["get", "images", "-o", "json", "-l", "tag.imagehub.sealos.io notin (v2),tier"];
    assert_eq!(names(&kubectl.json(sets).await), ["acme.tool.v1"]);
    let storage = kubectl.json("get repositories -l keyword.imagehub.sealos.io/Storage -o json").await;
    assert_eq!(names(&storage), ["acme.tool"]);
    kubectl.fails("get images --field-selector spec.colour=red", "BadRequest").await;
}

async fn describe_shows_the_object_whole(kubectl: Kubectl) {
    small(&kubectl).await;
    kubectl.ok("describe image acme.tool.v1").await.says(&[
        "Name:",
        "acme.tool.v1",
        "# Tool",
        "tag.imagehub.sealos.io=v1",
    ]);
    kubectl.ok("describe repository acme.tool").await.says(&["acme/tool", "Latest Tag"]);
    kubectl.ok("describe organization acme").await.says(&["Repos:", "acme/tool"]);
    kubectl.ok("describe datapack mine").await.says(&["Codes:", "Datas:", "second"]);
}

async fn explain_and_api_resources_know_every_kind_and_field(kubectl: Kubectl) {
    let resources = kubectl.ok("api-resources --api-group=imagehub.sealos.io --no-headers").await;
    let mut rows = resources.table();
    rows.sort_unstable();
    let mut expected: Vec<_> =
        KINDS.map(|(plural, _, short, kind)| vec![plural, short, "imagehub.sealos.io/v1", "false", kind]).to_vec();
    expected.sort_unstable();
    assert_eq!(rows, expected, "{resources}");
    let verbs = kubectl.ok("api-resources --api-group=imagehub.sealos.io -o wide --no-headers").await;
    for line in verbs.lines() {
        for verb in ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"] {
            assert!(line.contains(verb), "{verb} in {line}");
        }
    }
    kubectl.ok("api-versions").await.says(&["imagehub.sealos.io/v1"]);
    kubectl.ok("version").await.says(&["Server Version:"]);

    for (plural, singular, _, kind) in KINDS {
        let short = kubectl.ok(&format!("explain {plural}")).await;
        short.says(&["GROUP:      imagehub.sealos.io", &format!("KIND:       {kind}"), "DESCRIPTION:", "spec"]);
        assert!(!short.stdout.contains("<empty>"), "each kind is described: {short}");
        kubectl.ok(&format!("explain {singular} --recursive")).await.says(&["metadata", "spec", "name"]);
    }
    let recursive = kubectl.ok("explain images --recursive").await;
    recursive.says(&["detail", "keywords\t<[]string>", "creatTime", "actions", "actionType", "size\t<integer>"]);
    kubectl.ok("explain image.spec.detail.creatTime").await.says(&["FIELD: creatTime <string>", "1970-01-01"]);
    kubectl.ok("explain datapack.spec.expireTime").await.says(&["FIELD: expireTime <string>", "2h"]);
    kubectl.ok("explain datapack.status.datas --recursive").await.says(&["repoName", "downloadCount", "tags"]);
    kubectl.fails("explain image.spec.colour", "colour").await;
}

async fn patch_label_and_annotate_change_what_they_name(kubectl: Kubectl) {
    small(&kubectl).await;
    let merge = ["patch", "image", "acme.tool.v1", "--type=merge", "-p", r#"{"spec":{"detail":{"url":"https://x"}}}"#];
    kubectl.ok(merge).await.says(&["image.imagehub.sealos.io/acme.tool.v1 patched"]);
    kubectl.ok(merge).await.says(&["patched (no change)"]);
    let json_patch = r#"[{"op":"test","path":"/spec/detail/url","value":"https://x"},
        {"op":"replace","path":"/spec/detail/description","value":"by patch"}]"#;
    kubectl.ok(["patch", "image", "acme.tool.v1", "--type=json", "-p", json_patch]).await.says(&["patched"]);
    let image = kubectl.json("get image acme.tool.v1 -o json").await;
    assert_eq!(image["spec"]["detail"]["description"], "by patch");
    assert_eq!(image["spec"]["detail"]["docs"], "# Tool", "a patch leaves the rest");
    assert_eq!(image["metadata"]["generation"], 3, "{image:#}");

    // As for every custom kind, there is no strategic merge.
    let strategic = ["patch", "image", "acme.tool.v1", "-p", r#"{"spec":{"detail":{"url":"y"}}}"#];
    kubectl.fails(strategic, "patch").await;
    let failing = r#"[{"op":"test","path":"/spec/detail/url","value":"other"}]"#;
    kubectl.fails(["patch", "image", "acme.tool.v1", "--type=json", "-p", failing], "").await;
    let renamed = r#"{"spec":{"name":"acme/tool:v9"}}"#;
    kubectl.fails(["patch", "image", "acme.tool.v1", "--type=merge", "-p", renamed], "spec.name").await;

    kubectl.ok("label image acme.tool.v1 tier=gold").await.says(&["labeled"]);
    kubectl.fails("label image acme.tool.v1 tier=silver", "overwrite").await;
    kubectl.ok("label image acme.tool.v1 tier=silver --overwrite").await.says(&["labeled"]);
    kubectl.ok("annotate image acme.tool.v1 note=this").await.says(&["annotated"]);
    let image = kubectl.json("get image acme.tool.v1 -o json").await;
    assert_eq!(image["metadata"]["labels"]["tier"], "silver");
    assert_eq!(image["metadata"]["annotations"]["note"], "this");
    assert_eq!(image["metadata"]["generation"], 3, "metadata is not part of a generation");
    kubectl.ok("label image acme.tool.v1 tier-").await.says(&["unlabeled"]);
    kubectl.ok("annotate image acme.tool.v1 note-").await;
    let image = kubectl.json("get image acme.tool.v1 -o json").await;
    assert_eq!(
        (&image["metadata"]["labels"]["tier"], &image["metadata"]["annotations"]["note"]),
        (&Value::Null, &Value::Null)
    );
}

async fn replace_takes_the_version_that_it_read(kubectl: Kubectl) {
    small(&kubectl).await;
    let read = kubectl.json("get image acme.tool.v1 -o json").await;
    let mut new = read.clone();
    new["spec"]["detail"]["description"] = "replaced".into();
    kubectl.ok_with("replace -f -", &new.to_string()).await.says(&["image.imagehub.sealos.io/acme.tool.v1 replaced"]);
    new["spec"]["detail"]["description"] = "too late".into();
    kubectl.fails_with("replace -f -", &new.to_string(), "the object has been modified").await;
    let now = kubectl.json("get image acme.tool.v1 -o json").await;
    assert_eq!(now["spec"]["detail"]["description"], "replaced");
    assert_eq!(now["metadata"]["uid"], read["metadata"]["uid"]);
    kubectl.fails_with("replace -f -", &image("acme/none:v1", json!({})).to_string(), "NotFound").await;
    kubectl.fails_with("create -f -", &image("acme/tool:v1", json!({})).to_string(), "AlreadyExists").await;
}

async fn unknown_fields_are_refused_or_warned_of(kubectl: Kubectl) {
    let with = |tag: &str| image(&format!("acme/tool:{tag}"), json!({ "colour": "red", "icon": "i" })).to_string();
    let complaint = r#"unknown field "spec.detail.colour""#;
    kubectl.fails_with("create --validate=strict -f -", &with("v1"), complaint).await;
    kubectl.fails_with("apply -f -", &with("v1"), complaint).await;
    kubectl.fails("get image acme.tool.v1", "NotFound").await;
    let warned = kubectl.ok_with("create --validate=warn -f -", &with("v2")).await;
    assert!(warned.stderr.contains(&format!("Warning: {complaint}")), "{warned}");
    let ignored = kubectl.ok_with("create --validate=ignore -f -", &with("v3")).await;
    assert_eq!(ignored.stderr, "", "{ignored}");
    for tag in ["v2", "v3"] {
        let image = kubectl.json(&format!("get image acme.tool.{tag} -o json")).await;
        let kept = json!({ "icon": "i", "size": 0, "creatTime": "1970-01-01T00:00:00Z" });
        assert_eq!(image["spec"]["detail"], kept, "what is unknown is not kept: {image:#}");
    }
}

async fn a_pack_without_a_name_is_created_and_printed(kubectl: Kubectl) {
    small(&kubectl).await;
    let manifest = "apiVersion: imagehub.sealos.io/v1\nkind: DataPack\nspec:\n  names: ['acme/tool:v1']\n";
    let dry = kubectl.ok_with("create --dry-run=server -f - -o json", manifest).await;
    let dry: Value = serde_json::from_str(&dry.stdout).unwrap_or_else(|e| panic!("{e}: {dry}"));
    assert_eq!(dry["status"]["codes"], 1, "a dry run shows the whole answer: {dry:#}");
    let one = format!("get datapack {}", name(&dry));
    kubectl.fails(&one, "NotFound").await;
    let created = kubectl.ok_with("create -f -", manifest).await;
    assert_eq!(created.stdout.trim(), format!("{} created", full("datapack", name(&dry))), "{created}");
    let table = kubectl.ok(&one).await;
    assert_eq!(table.table()[1][..4], [name(&dry), "base", "1", "OK"], "{table}");
}

async fn a_dry_run_says_what_would_be_and_changes_nothing(kubectl: Kubectl) {
    small(&kubectl).await;
    let new = image("fresh/tool:v1", json!({})).to_string();
    for verb in ["create", "apply"] {
        kubectl.ok_with(&format!("{verb} --dry-run=server -f -"), &new).await.says(&["created (server dry run)"]);
    }
    for absent in ["image fresh.tool.v1", "repository fresh.tool", "organization fresh"] {
        kubectl.fails(&format!("get {absent}"), "NotFound").await;
    }
    let before = kubectl.json("get image acme.tool.v1 -o json").await;
    let patch = r#"{"spec":{"detail":{"url":"u"}}}"#;
    kubectl.ok(["patch", "image", "acme.tool.v1", "--type=merge", "--dry-run=server", "-p", patch]).await;
    kubectl.ok("label image acme.tool.v1 a=b --dry-run=server").await;
    kubectl.ok("delete image acme.tool.v1 --dry-run=server").await.says(&["(server dry run)"]);
    assert_eq!(kubectl.json("get image acme.tool.v1 -o json").await, before);
}

async fn wait_sees_what_it_waits_for(kubectl: Kubectl) {
    small(&kubectl).await;
    kubectl.ok("wait --for=jsonpath={.status.codes}=1 datapack/mine --timeout=20s").await.says(&["condition met"]);
    let end = kubectl.follow("wait --for=delete datapack/mine --timeout=20s");
    kubectl.ok("delete datapack mine").await.says(&[r#""mine" deleted"#]);
    end.success().await;
    let appears =
        kubectl.follow(["wait", "--for=jsonpath={.spec.detail.url}=u", "image/acme.tool.v1", "--timeout=20s"]);
    kubectl.ok(["patch", "image", "acme.tool.v1", "--type=merge", "-p", r#"{"spec":{"detail":{"url":"u"}}}"#]).await;
    appears.success().await;
}

async fn watching_a_kind_prints_each_change(kubectl: Kubectl) {
    small(&kubectl).await;
    // Each before what it is in, so that none goes with another.
    for (plural, one) in
        [("datapacks", "mine"), ("images", "acme.tool.v2"), ("repositories", "acme.other"), ("organizations", "acme")]
    {
        let mut plain = kubectl.follow(&format!("get {plural} {one} -w"));
        assert!(plain.line().await.starts_with("NAME "), "the header comes first");
        plain.line_of(&[one]).await;
        let mut events = kubectl.follow(&format!("get {plural} -w --output-watch-events"));
        events.line_of(&["ADDED", one]).await;
        kubectl.ok(&format!("annotate {plural} {one} seen=yes")).await;
        plain.line_of(&[one]).await;
        events.line_of(&["MODIFIED", one]).await;
        kubectl.ok(&format!("delete {plural} {one} --wait=false")).await;
        events.line_of(&["DELETED", one]).await;
    }
}

async fn a_watch_with_a_selector_tells_of_coming_in_and_leaving(kubectl: Kubectl) {
    small(&kubectl).await;
    kubectl.ok("label image acme.other.v1 tier=gold").await;
    let mut events = kubectl.follow("get images -w -l tier=gold --output-watch-events");
    events.line_of(&["ADDED", "acme.other.v1"]).await;
    kubectl.ok("label image acme.tool.v1 tier=gold").await;
    events.line_of(&["ADDED", "acme.tool.v1"]).await;
    kubectl.ok("label image acme.tool.v1 tier=silver --overwrite").await;
    events.line_of(&["DELETED", "acme.tool.v1"]).await;
}

async fn deleting_in_the_background_takes_what_depends_on_it(kubectl: Kubectl) {
    small(&kubectl).await;
    kubectl.ok("delete repository acme.tool --cascade=background").await.says(&[r#""acme.tool" deleted"#]);
    kubectl.fails("get repository acme.tool", "NotFound").await;
    kubectl.ok("wait --for=delete image/acme.tool.v1 image/acme.tool.v2 --timeout=20s").await;
    kubectl.ok("get organization/acme image/acme.other.v1").await;
    kubectl.ok("delete organization acme --cascade=background").await;
    kubectl.ok("wait --for=delete repository/acme.other image/acme.other.v1 --timeout=20s").await;
    kubectl.fails("get organization acme", "NotFound").await;
}

async fn deleting_in_the_foreground_takes_what_depends_on_it_first(kubectl: Kubectl) {
    small(&kubectl).await;
    kubectl.ok("delete repository acme.tool --cascade=foreground --timeout=20s").await;
    // kubectl has waited for the owner's end, and its dependents go before it.
    for gone in ["repository acme.tool", "image acme.tool.v1", "image acme.tool.v2"] {
        kubectl.fails(&format!("get {gone}"), "NotFound").await;
    }
    kubectl.ok("get image acme.other.v1").await;
    kubectl.ok("delete organization acme --cascade=foreground --timeout=20s").await;
    for gone in ["organization acme", "repository acme.other", "image acme.other.v1"] {
        kubectl.fails(&format!("get {gone}"), "NotFound").await;
    }
}

async fn deleting_with_orphans_leaves_what_depended_on_it_without_that_owner(kubectl: Kubectl) {
    small(&kubectl).await;
    for (owner, dependents) in [
        ("repository acme.tool", &["image acme.tool.v1", "image acme.tool.v2"][..]),
        ("organization acme", &["repository acme.other"]),
    ] {
        let uid = kubectl.json(&format!("get {owner} -o json")).await["metadata"]["uid"].clone();
        kubectl.ok(&format!("delete {owner} --cascade=orphan --timeout=20s")).await;
        for dependent in dependents {
            let left = kubectl.json(&format!("get {dependent} -o json")).await;
            let owners = left["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
            assert!(owners.iter().all(|o| o["uid"] != uid), "{dependent} still has its old owner: {left:#}");
            assert_eq!(left["metadata"]["deletionTimestamp"], Value::Null, "{left:#}");
        }
        kubectl.fails(&format!("get {owner}"), "NotFound").await;
    }
    kubectl.ok("get image acme.other.v1").await;
}

async fn many_are_deleted_by_selector_and_by_file(kubectl: Kubectl) {
    small(&kubectl).await;
    let gone = kubectl.ok("delete images -l repository.imagehub.sealos.io=tool").await;
    assert_eq!(gone.lines().len(), 2, "{gone}");
    let left = kubectl.json("get images -o json").await;
    assert_eq!(names(&left), ["acme.other.v1"]);
    kubectl.ok("get repository acme.tool").await;
    let file = manifest(&[
        image("acme/other:v1", json!({})),
        object("Repository", "acme.tool", json!({ "name": "acme/tool" })),
    ]);
    kubectl.ok_with("delete -f -", &file).await.says(&[r#""acme.other.v1" deleted"#, r#""acme.tool" deleted"#]);
    kubectl.ok("delete datapacks --all").await.says(&[r#""mine" deleted"#]);
    let nothing = kubectl.ok("get images,datapacks").await;
    assert_eq!(nothing.stdout, "", "{nothing}");
    kubectl.fails("delete image acme.other.v1", "NotFound").await;
    kubectl.ok("delete image acme.other.v1 --ignore-not-found").await;
}
