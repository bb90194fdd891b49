//! `imagehub manifests` and kustomize say the same.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::harness::Kubectl;

fn output(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("YAML is UTF-8")
}

fn kustomize(folder: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    output(Command::new(Kubectl::find()).arg("kustomize").arg(root.join(folder)))
}

fn imagehub(part: &str) -> String {
    output(Command::new(env!("CARGO_BIN_EXE_imagehub")).args(["manifests", "--part", part]))
}

/// The objects, in an order that is none of theirs.
fn objects(text: &str) -> Vec<Value> {
    let mut objects: Vec<Value> = serde_saphyr::from_multiple(text).expect("it is YAML");
    objects.sort_by_key(|object| [&object["kind"], &object["metadata"]["name"]].map(ToString::to_string));
    objects
}

#[test]
fn the_program_prints_what_kustomize_builds() {
    assert_eq!(objects(&imagehub("base")), objects(&kustomize("deploy/base")));
    assert_eq!(objects(&imagehub("crd")), objects(&kustomize("deploy/crd")));
}

#[test]
fn one_replica_keeps_its_catalogue_in_a_volume_and_nothing_in_the_cluster() {
    let objects = objects(&kustomize("deploy/overlays/single"));
    let kinds: Vec<&str> = objects.iter().map(|object| object["kind"].as_str().expect("a kind")).collect();
    assert!(kinds.contains(&"PersistentVolumeClaim"), "{kinds:?}");
    for gone in ["PodDisruptionBudget", "CustomResourceDefinition"] {
        assert!(!kinds.contains(&gone), "{kinds:?}");
    }
    let deployment = &objects[kinds.iter().position(|&kind| kind == "Deployment").expect("a Deployment")];
    assert_eq!(deployment["spec"]["replicas"], 1);
    assert_eq!(deployment["spec"]["strategy"]["type"], "Recreate");
    let args = &deployment["spec"]["template"]["spec"]["containers"][0]["args"];
    assert!(args.to_string().contains("--storage=embedded"), "{args}");
}

#[test]
fn each_component_can_be_added_to_the_base() {
    // Kustomize takes relative paths below one root only, so the overlay stands beside a link to what it takes.
    let folder = tempfile::tempdir().expect("a temporary directory");
    let copied = folder.path().join("deploy");
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy");
    output(Command::new("cp").arg("-R").arg(&deploy).arg(&copied));
    let overlay = folder.path().join("overlay");
    std::fs::create_dir(&overlay).expect("a folder in an empty one");
    for component in std::fs::read_dir(deploy.join("components")).expect("there are components") {
        let component = component.expect("an entry of the folder").file_name().into_string().expect("a plain name");
        let text = format!("resources: [../deploy/base]\ncomponents: [../deploy/components/{component}]\n");
        std::fs::write(overlay.join("kustomization.yaml"), text).expect("a file in it");
        let with = objects(&output(Command::new(Kubectl::find()).arg("kustomize").arg(&overlay)));
        assert_ne!(with, objects(&imagehub("base")), "{component} changes nothing");
    }
}

#[test]
fn both_ways_in_from_the_outside_lead_to_the_doors_and_their_pages_and_to_nothing_else() {
    fn paths(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                // An Ingress says `path: /a`, an HTTPRoute `path: {value: /a}`.
                let path = fields.get("path").map(|path| path.get("value").unwrap_or(path));
                found.extend(path.and_then(Value::as_str).map(str::to_owned));
                fields.values().for_each(|value| paths(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| paths(value, found)),
            _ => {}
        }
    }
    for (component, file) in [("ingress", "ingress.yaml"), ("httproute", "httproute.yaml")] {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/components").join(component).join(file);
        let text = std::fs::read_to_string(file).expect("it is there");
        let mut found = Vec::new();
        paths(&Value::Array(objects(&text)), &mut found);
        assert_eq!(found, ["/graphql", "/api", "/docs"], "{component}");
    }
}
