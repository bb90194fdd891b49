//! The direction of the arrows: each layer knows only those under it. Read from the paths in `src/`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Which layers each layer may name. From the bottom up.
const ARROWS: [(&str, &[&str]); 18] = [
    ("api", &["error"]),
    ("error", &["api"]),
    ("clock", &[]),
    ("storage", &["api", "clock", "error"]),
    ("graph", &["api", "clock", "error", "storage"]),
    ("model", &["api", "error", "graph"]),
    ("search", &["api", "clock", "error", "graph", "model"]),
    ("auth", &["api", "clock", "error", "graph"]),
    ("datapack", &["api", "error", "graph", "auth"]),
    ("registry", &["api", "clock", "error", "storage", "graph", "datapack", "auth"]),
    ("controller", &["api", "clock", "error", "graph", "auth", "registry", "datapack"]),
    ("relay", &["error", "auth"]),
    ("gateway", &["api", "clock", "error", "graph", "search", "registry", "auth", "model", "relay"]),
    (
        "graphql",
        &["api", "clock", "error", "graph", "search", "datapack", "registry", "auth", "model", "relay", "gateway"],
    ),
    ("rest", &["api", "clock", "error", "graph", "search", "registry", "auth", "model", "relay", "gateway"]),
    ("kube_api", &["api", "clock", "error", "graph", "datapack", "registry", "controller", "auth", "relay"]),
    ("server", ALL),
    ("cli", ALL),
];
const ALL: &[&str] = &[
    "api",
    "error",
    "clock",
    "storage",
    "graph",
    "search",
    "auth",
    "datapack",
    "registry",
    "controller",
    "model",
    "relay",
    "gateway",
    "graphql",
    "rest",
    "kube_api",
    "server",
    "cli",
];
/// What everybody may name, whatever layer it is in.
const EVERYWHERE: [&[&str]; 1] = [&["storage", "Revision"]];

/// A path that begins at the crate's root, and the line it is on.
#[derive(Debug, PartialEq, Eq)]
struct Named {
    line: usize,
    path: Vec<String>,
}

#[test]
fn each_layer_knows_only_those_under_it() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = String::new();
    for file in sources(&src) {
        let shown = file.strip_prefix(env!("CARGO_MANIFEST_DIR")).expect("the file is in the package");
        let inside: Vec<_> = file.strip_prefix(&src).expect("the file is in src").iter().collect();
        let layer = inside[0].to_string_lossy().trim_end_matches(".rs").to_owned();
        let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        if ["lib", "main"].contains(&&*layer) {
            continue;
        }
        let Some((_, below)) = ARROWS.iter().find(|(name, _)| *name == layer) else {
            panic!("{}: {layer:?} is in no layer; give it its place in ARROWS", shown.display());
        };
        for Named { line, path } in named(&text, inside.len()) {
            let target = path[0].as_str();
            let known = ALL.contains(&target);
            let everywhere =
                EVERYWHERE.iter().any(|free| path.iter().zip(*free).filter(|(a, b)| a == *b).count() == free.len());
            if known && target != layer && !below.contains(&target) && !everywhere {
                let path = path.join("::");
                let _ = writeln!(wrong, "{}:{line}: {layer} may not know {target} (crate::{path})", shown.display());
            }
        }
    }
    assert!(wrong.is_empty(), "arrows that point upwards:\n{wrong}a layer may know: {ARROWS:#?}");
}

#[test]
fn paths_are_read_from_use_trees_expressions_and_super() {
    let text = "
//! crate::cli in a comment is no path
use crate::{api::Kind, storage::{Key, Revision}, // crate::server
    graph};
fn f(x: crate::auth::Caller) -> super::super::clock::Clock { $crate::cli::x }
use super::error::Error;
#[cfg(test)]
mod tests { use crate::server; }
";
    let got: Vec<_> = named(text, 2).into_iter().map(|n| format!("{}:{}", n.line, n.path.join("::"))).collect();
    let all = ["3:api::Kind", "3:storage::Key", "3:storage::Revision", "3:graph", "5:auth::Caller", "5:clock::Clock"];
    assert_eq!(got, all);
    assert_eq!(named("use super::error::Error;", 1)[0].path, ["error", "Error"]);
}

/// All Rust files below a directory, without those that only hold tests.
fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let entries = std::fs::read_dir(directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
    for entry in entries {
        let path = entry.expect("an entry of the directory").path();
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if stem == "tests" {
            continue;
        }
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// The paths from the crate's root that a file names; `depth` is how deep in the crate its module is. Unit
/// tests, at the end of a file, may reach where they like.
fn named(text: &str, depth: usize) -> Vec<Named> {
    let own = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    // Comments go, lines stay.
    let code: Vec<&str> = own.lines().map(|l| l.split("//").next().unwrap_or_default()).collect();
    let code = code.join("\n");
    let mut found = Vec::new();
    for (prefix, is_root) in [("crate::".to_owned(), true), ("super::".repeat(depth), false)] {
        for (at, _) in code.match_indices(&prefix) {
            let before = code[..at].chars().next_back().unwrap_or(' ');
            if before.is_alphanumeric() || ['_', '$', ':'].contains(&before) {
                continue;
            }
            let rest = &code[at + prefix.len()..];
            if !is_root && rest.starts_with("super::") {
                continue;
            }
            let line = code[..at].matches('\n').count() + 1;
            let mut paths = Vec::new();
            tree(rest, &[], &mut paths);
            found.extend(paths.into_iter().filter(|p| !p.is_empty()).map(|path| Named { line, path }));
        }
    }
    found.sort_by_key(|n| n.line);
    found
}

/// Reads a path, or a use tree in braces, at the beginning of `text`: adds the whole paths, and returns
/// what comes after.
fn tree<'a>(text: &'a str, prefix: &[String], paths: &mut Vec<Vec<String>>) -> &'a str {
    let text = text.trim_start();
    if let Some(mut rest) = text.strip_prefix('{') {
        loop {
            rest = rest.trim_start();
            if let Some(after) = rest.strip_prefix('}') {
                return after;
            }
            let before = rest.len();
            rest = tree(rest, prefix, paths);
            // `as NAME` and the comma.
            let end = rest.find([',', '}']).unwrap_or(rest.len());
            rest = rest[end..].strip_prefix(',').unwrap_or(&rest[end..]);
            if rest.len() == before || rest.is_empty() {
                return rest;
            }
        }
    }
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let mut path = prefix.to_vec();
    if end > 0 && &text[..end] != "self" {
        path.push(text[..end].to_owned());
    }
    if let Some(rest) = text[end..].strip_prefix("::") {
        return tree(rest, &path, paths);
    }
    paths.push(path);
    &text[end..]
}
