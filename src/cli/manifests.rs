//! `imagehub manifests`: what runs it in a cluster, from the files in `deploy/`, for people without kustomize and
//! without the repository.

use clap::error::ErrorKind;
use clap::{Args as ClapArgs, ValueEnum};

use crate::api::name::dns_label_faults;

/// What is written out in the files, and what a flag puts in its place.
const IMAGE: &str = "labring/imagehub:0.1.0";
const NAMESPACE: &str = "imagehub-system";
const USER_NAMESPACE: &str = "user-system";
const REPLICAS: &str = "  replicas: 2\n";
/// The last of the server's arguments, with what stands before it: more come after it.
const LAST_ARGUMENT: &str = "            - --advertise-address=$(POD_IP):8443\n";
/// The longest name of an image with its tag and its digest, in bytes.
const MAX_IMAGE: usize = 512;

macro_rules! files {
    ($folder:literal: $($name:literal),+ $(,)?) => {
        [$(($name, include_str!(concat!("../../deploy/", $folder, "/", $name)))),+]
    };
}

/// The definition of Records.
const CRD: [(&str, &str); 1] = files!("crd": "records.yaml");
/// All else, in the order in which it is applied.
const BASE: [(&str, &str); 11] = files!("base":
    "namespace.yaml",
    "serviceaccount.yaml",
    "rbac.yaml",
    "users.yaml",
    "admission.yaml",
    "flowschema.yaml",
    "networkpolicy.yaml",
    "service.yaml",
    "deployment.yaml",
    "poddisruptionbudget.yaml",
    "apiservice.yaml",
);

/// The arguments of `manifests`.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
The parts are those of deploy/: what is applied first comes first. To remove them, the APIService \
goes first; docs/cluster.md has the order.

Examples:
  imagehub manifests | kubectl apply --server-side -f -
  imagehub manifests --image example.com/imagehub:1 --namespace hub
  imagehub manifests --part base -- --create-organizations admin")]
pub(super) struct Args {
    /// The image that the pods run
    #[arg(long, value_name = "IMAGE", default_value = IMAGE, value_parser = image)]
    image: String,
    /// The namespace that the server runs in
    #[arg(long, value_name = "NAME", default_value = NAMESPACE, value_parser = namespace)]
    namespace: String,
    /// The namespace of the users' ServiceAccounts
    #[arg(long, value_name = "NAME", default_value = USER_NAMESPACE, value_parser = namespace)]
    user_namespace: String,
    /// How many replicas run; one is active, the others forward to it
    #[arg(long, value_name = "NUMBER", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..))]
    replicas: u16,
    /// What is printed
    #[arg(long, value_name = "PART", value_enum, default_value_t = Part::All)]
    part: Part,
    /// More flags for `imagehub serve` in the pods
    #[arg(last = true, value_name = "SERVE_FLAG")]
    serve: Vec<String>,
}

/// Which of the manifests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Everything
    All,
    /// The definition of Records alone: with it goes, and stays, the catalogue
    Crd,
    /// Everything but that
    Base,
}

pub(super) fn run(args: &Args) -> Result<(), String> {
    check(&args.serve)?;
    super::print(&render(args));
    Ok(())
}

/// Whether `serve` takes these flags.
fn check(flags: &[String]) -> Result<(), String> {
    let words = ["serve".to_owned()].into_iter().chain(flags.iter().cloned());
    match super::serve_command().try_get_matches_from(words) {
        Err(error) if !matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            let message = error.to_string();
            let first = message.lines().next().unwrap_or_default();
            Err(format!("`imagehub serve` does not take what follows `--`: {}", first.trim_start_matches("error: ")))
        }
        _ => Ok(()),
    }
}

fn render(args: &Args) -> String {
    let (crd, base) = (CRD.as_slice(), BASE.as_slice());
    let parts = match args.part {
        Part::All => [crd, base],
        Part::Crd => [crd, &[]],
        Part::Base => [&[], base],
    };
    let texts: Vec<&str> = parts.into_iter().flatten().map(|(_, text)| *text).collect();
    let mut more = LAST_ARGUMENT.to_owned();
    for flag in &args.serve {
        // JSON's strings are YAML's.
        let quoted = serde_json::Value::from(flag.as_str());
        more.push_str(&format!("            - {quoted}\n"));
    }
    // A name that was put in is not looked into again: one namespace's may hold the other's.
    let between = "\u{1}";
    texts
        .join("---\n")
        .replace(NAMESPACE, between)
        .replace(USER_NAMESPACE, &args.user_namespace)
        .replace(between, &args.namespace)
        .replace(REPLICAS, &format!("  replicas: {}\n", args.replicas))
        .replace(&format!("image: {IMAGE}\n"), &format!("image: {}\n", args.image))
        .replace(LAST_ARGUMENT, &more)
}

fn namespace(value: &str) -> Result<String, String> {
    let faults = dns_label_faults(value);
    if faults.is_empty() { Ok(value.to_owned()) } else { Err(faults.join("; ")) }
}

fn image(value: &str) -> Result<String, String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || "._-/:@".contains(c);
    let begins = |c: char| c.is_ascii_alphanumeric();
    if value.len() <= MAX_IMAGE && value.chars().all(legal) && value.starts_with(begins) && value.ends_with(begins) {
        Ok(value.to_owned())
    } else {
        Err(format!("an image is NAME:TAG or NAME@DIGEST, of at most {} letters, digits and ._-/:@", MAX_IMAGE))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::Value;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn rendered(words: &[&str]) -> String {
        let words = ["manifests"].iter().chain(words);
        render(&Line::try_parse_from(words).unwrap().args)
    }

    fn objects(text: &str) -> Vec<Value> {
        serde_saphyr::from_multiple(text).unwrap()
    }

    fn find<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
        let found = objects.iter().find(|o| o["kind"] == kind && o["metadata"]["name"] == name);
        found.unwrap_or_else(|| panic!("no {kind} {name}"))
    }

    #[test]
    fn the_files_are_those_of_kustomize() {
        let listed = |text: &str| -> Vec<String> {
            let file: Value = serde_saphyr::from_str(text).unwrap();
            file["resources"].as_array().unwrap().iter().map(|r| r.as_str().unwrap().to_owned()).collect()
        };
        let ours = |files: &[(&str, &str)]| files.iter().map(|(name, _)| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(listed(include_str!("../../deploy/base/kustomization.yaml")), ours(&BASE));
        assert_eq!(listed(include_str!("../../deploy/crd/kustomization.yaml")), ours(&CRD));
    }

    #[test]
    fn without_flags_they_are_what_the_files_say() {
        let all: Vec<Value> = CRD.iter().chain(&BASE).flat_map(|(_, text)| objects(text)).collect();
        assert_eq!(objects(&rendered(&[])), all);
        assert_eq!(objects(&rendered(&["--part", "crd"])), all[..1]);
        assert_eq!(objects(&rendered(&["--part", "base"])), all[1..]);
        assert!(IMAGE.ends_with(concat!(":", env!("CARGO_PKG_VERSION"))), "{IMAGE}");
    }

    #[test]
    fn flags_are_in_every_place_that_they_belong_in() {
        let words = ["--image", "example.com:5000/a/b@sha256:0f", "--namespace", "hub", "--replicas", "3"];
        let more = ["--user-namespace", "people", "--", "--create-organizations", "admin", "--log=a: \"b\" # c"];
        let text = rendered(&[words.as_slice(), &more].concat());
        for gone in [NAMESPACE, USER_NAMESPACE, IMAGE] {
            assert!(!text.contains(gone), "{gone}");
        }
        let all = objects(&text);
        let deployment = find(&all, "Deployment", "imagehub");
        assert_eq!(deployment["metadata"]["namespace"], "hub");
        assert_eq!(deployment["spec"]["replicas"], 3);
        let container = &deployment["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(container["image"], "example.com:5000/a/b@sha256:0f");
        let args: Vec<&str> = container["args"].as_array().unwrap().iter().map(|a| a.as_str().unwrap()).collect();
        assert!(args.contains(&"--user-namespace=people"), "{args:?}");
        assert!(args.ends_with(&["--create-organizations", "admin", "--log=a: \"b\" # c"]), "{args:?}");
        let policy = find(&all, "ValidatingAdmissionPolicy", "imagehub-roles");
        let by = "request.userInfo.username == 'system:serviceaccount:hub:imagehub'";
        assert_eq!(policy["spec"]["matchConditions"][0]["expression"], by);
        let users = find(&all, "ClusterRoleBinding", "imagehub-default-user");
        assert_eq!(users["subjects"][0]["name"], "system:serviceaccounts:people");
        let service = &find(&all, "APIService", "v1.imagehub.sealos.io")["spec"]["service"];
        assert_eq!((&service["name"], &service["namespace"]), (&Value::from("imagehub"), &Value::from("hub")));
        let namespaced: Vec<&Value> =
            all.iter().map(|o| &o["metadata"]["namespace"]).filter(|n| !n.is_null()).collect();
        assert!(namespaced.iter().all(|n| ["hub", "kube-system"].contains(&n.as_str().unwrap())), "{namespaced:?}");
    }

    #[test]
    fn a_namespace_may_be_named_after_the_other() {
        let all = objects(&rendered(&["--namespace", "x-user-system", "--user-namespace", "imagehub-system"]));
        assert_eq!(find(&all, "Deployment", "imagehub")["metadata"]["namespace"], "x-user-system");
        let users = find(&all, "ClusterRoleBinding", "imagehub-default-user");
        assert_eq!(users["subjects"][0]["name"], "system:serviceaccounts:imagehub-system");
    }

    #[test]
    fn what_would_be_no_name_is_refused() {
        for words in [
            ["--namespace", "Hub"],
            ["--namespace", "-"],
            ["--user-namespace", "a b"],
            ["--image", "a\nb: c"],
            ["--image", ""],
            ["--replicas", "0"],
            ["--part", "some"],
        ] {
            assert!(Line::try_parse_from(["manifests"].iter().chain(&words)).is_err(), "{words:?}");
        }
    }

    #[test]
    fn what_serve_does_not_take_is_refused() {
        assert_eq!(check(&["--create-organizations=admin".to_owned()]), Ok(()));
        let error = check(&["--colour".to_owned()]).unwrap_err();
        assert!(error.contains("--colour"), "{error}");
    }
}
