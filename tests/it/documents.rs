//! The documents are true: what they tell people to type works, and what they point at is there.
//!
//! The `sh` blocks of a document run one after the other in one shell, in a folder with `examples` and
//! `imagehub-data`, beside a server with the sample catalogue; its addresses stand for those in the text.
//! What begins the server there is left out here. A comment before a block says what is different:
//! `<!-- not run: why -->`, or `<!-- refused: words -->` where the block's last command has to fail and
//! say these words.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use crate::harness::{Kubectl, Launch};

/// How long all commands of one document may take together.
const DOCUMENT_DEADLINE: Duration = Duration::from_mins(2);
/// The folders that a file's name in a document begins with.
const FOLDERS: [&str; 7] = ["docs/", "examples/", "openapi/", "schema/", "scripts/", "src/", "tests/"];

/// A document, cut into what is said and what is to be typed.
struct Document {
    /// Its path in the repository.
    name: String,
    /// The lines outside of fences, numbered from 1; those inside are empty.
    prose: Vec<String>,
    blocks: Vec<Block>,
}

/// What is between two fences.
struct Block {
    /// The line of its first fence, from 1.
    line: usize,
    language: String,
    lines: Vec<String>,
    mark: Mark,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Mark {
    Run,
    NotRun,
    Refused(String),
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Those of the repository, and all in docs/.
fn documents() -> Vec<Document> {
    let mut paths: Vec<PathBuf> = Vec::new();
    for name in ["README.md", "README.zh-CN.md", "CONTRIBUTING.md", "CHANGELOG.md"] {
        paths.push(root().join(name));
    }
    collect(&root().join("docs"), &mut paths);
    paths.sort();
    paths.iter().map(|path| read(path)).collect()
}

fn collect(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
        let path = entry.expect("an entry of the folder").path();
        if path.is_dir() {
            collect(&path, into);
        } else if path.extension().is_some_and(|e| e == "md") {
            into.push(path);
        }
    }
}

fn read(path: &Path) -> Document {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let name = path.strip_prefix(root()).expect("it is in the repository").display().to_string();
    parse(name, &text)
}

fn parse(name: String, text: &str) -> Document {
    let (mut prose, mut blocks, mut open, mut mark) = (Vec::new(), Vec::new(), None::<Block>, Mark::Run);
    for (number, line) in text.lines().enumerate() {
        let fence = line.trim_start().strip_prefix("```");
        prose.push(if open.is_some() || fence.is_some() { String::new() } else { line.to_owned() });
        match (fence, &mut open) {
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(language), None) => {
                let mark = std::mem::replace(&mut mark, Mark::Run);
                open = Some(Block { line: number + 1, language: language.trim().to_owned(), lines: Vec::new(), mark });
            }
            (None, Some(block)) => block.lines.push(line.to_owned()),
            (None, None) => match comment(line) {
                Some(read) => mark = read,
                // Only a blank line may stand between a comment and its block.
                None if !line.trim().is_empty() => mark = Mark::Run,
                None => {}
            },
        }
    }
    assert!(open.is_none(), "{name}: the last block has no end");
    Document { name, prose, blocks }
}

fn comment(line: &str) -> Option<Mark> {
    let said = line.trim().strip_prefix("<!--")?.strip_suffix("-->")?.trim();
    if let Some(words) = said.strip_prefix("refused:") {
        return Some(Mark::Refused(words.trim().to_owned()));
    }
    said.strip_prefix("not run:").map(|why| {
        assert!(!why.trim().is_empty(), "{line}: why?");
        Mark::NotRun
    })
}

#[tokio::test]
async fn the_commands_in_the_documents_work() {
    for document in documents() {
        if document.blocks.iter().any(|block| block.language == "sh" && block.mark != Mark::NotRun) {
            run(&document).await;
        }
    }
}

async fn run(document: &Document) {
    let server = Launch::default().argument("--demo").start().await;
    let place = tempfile::tempdir().expect("a temporary directory");
    let at = |name: &str| place.path().join(name);
    for folder in ["bin", "blocks", "home", "work"] {
        fs::create_dir(at(folder)).expect("a folder in an empty one");
    }
    symlink(Kubectl::find(), at("bin/kubectl")).expect("a link");
    symlink(env!("CARGO_BIN_EXE_imagehub"), at("bin/imagehub")).expect("a link");
    symlink(root().join("examples"), at("work/examples")).expect("a link");
    symlink(server.data_dir(), at("work/imagehub-data")).expect("a link");

    let (kube, http) = (server.kube_address(), server.http_address());
    let mut script = "set -eEuo pipefail\n\
        trap 'echo \"FAILED ${BASH_SOURCE[0]##*/}: line $LINENO: $BASH_COMMAND\" >&2' ERR\n"
        .to_owned();
    for block in &document.blocks {
        if block.language != "sh" || block.mark == Mark::NotRun {
            continue;
        }
        // As many empty lines as there are before it, so that the shell counts the document's lines.
        let mut text = "\n".repeat(block.line);
        for line in &block.lines {
            let line = line.replace("127.0.0.1:8443", &kube).replace("localhost:8443", &kube);
            let line = line.replace("127.0.0.1:8080", &http).replace("localhost:8080", &http);
            let line = line.replace("cargo run --release -- ", "imagehub ");
            let starts_it = line.trim() == "imagehub serve --demo" || line.trim() == "make run";
            let _ = writeln!(text, "{}", if starts_it { ":" } else { &line });
        }
        let file = at("blocks").join(format!("{}.{}", document.name.replace('/', "."), block.line));
        fs::write(&file, text).expect("a file of a block");
        let file = file.display();
        match &block.mark {
            Mark::Refused(words) => {
                let quoted = words.replace('\'', r"'\''");
                let _ = writeln!(
                    script,
                    "if ( . '{file}' ) 2>../refusal; then echo 'FAILED: line {line}: this should be refused' >&2; exit 1; fi\n\
                     grep -qF -- '{quoted}' ../refusal || {{ cat ../refusal >&2; \
                     echo 'FAILED: line {line}: this should say: {quoted}' >&2; exit 1; }}",
                    line = block.line,
                );
            }
            _ => {
                let _ = writeln!(script, ". '{file}'");
            }
        }
    }
    let path = format!("{}:{}", at("bin").display(), std::env::var("PATH").unwrap_or_default());
    let child = Command::new("bash")
        .args(["-c", &script])
        .env_clear()
        .env("PATH", path)
        .env("HOME", at("home"))
        .env("KUBECONFIG", server.data_dir().join("kubeconfig"))
        .env("LC_ALL", "C.UTF-8")
        .current_dir(at("work"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap_or_else(|e| panic!("bash: {e}"));
    let name = &document.name;
    let output = tokio::time::timeout(DOCUMENT_DEADLINE, child.wait_with_output()).await.unwrap_or_else(|_| {
        panic!("{name}: a command does not end; `<!-- not run: why -->` before its block leaves it out")
    });
    let output = output.expect("bash can be waited for");
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{name}: {}\n--- stdout\n{said}\n--- stderr\n{complained}", output.status);
}

#[test]
fn what_the_documents_point_at_is_there() {
    let mut wrong = String::new();
    for document in documents() {
        let folder = root().join(&document.name).parent().expect("a document is in a folder").to_owned();
        for (number, line) in document.prose.iter().enumerate() {
            let mut say = |what: &str, why: &str| {
                let _ = writeln!(wrong, "{}:{}: {what}: {why}", document.name, number + 1);
            };
            let (plain, spans) = code_spans(line);
            for target in links(&plain) {
                let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
                let path = if file.is_empty() { root().join(&document.name) } else { folder.join(file) };
                if !path.exists() {
                    say(target, "there is no such file");
                } else if !anchor.is_empty() && !fs::read_to_string(&path).is_ok_and(|t| anchors(&t).contains(anchor)) {
                    say(target, "there is no such heading");
                }
            }
            for span in spans {
                let legal = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
                let named = FOLDERS.iter().any(|folder| span.starts_with(folder)) && span.chars().all(legal);
                if named && !root().join(span).exists() {
                    say(span, "there is no such file");
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// A line without its code, and its pieces of code.
fn code_spans(line: &str) -> (String, Vec<&str>) {
    let pieces = line.split('`');
    let (mut plain, mut spans) = (String::new(), Vec::new());
    for (i, piece) in pieces.enumerate() {
        if i % 2 == 0 { plain.push_str(piece) } else { spans.push(piece) }
    }
    (plain, spans)
}

/// The relative targets of a line's links.
fn links(line: &str) -> impl Iterator<Item = &str> {
    let targets = line.split("](").skip(1).filter_map(|rest| rest.split_once(')').map(|(target, _)| target));
    targets.filter(|target| !target.contains("://") && !target.starts_with("mailto:"))
}

/// What headings are called in links, as GitHub makes it.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = parse(String::new(), text).prose.into_iter().filter(|line| line.starts_with('#'));
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, '-' | '_' | ' ');
    headings
        .map(|line| line.trim_start_matches('#').trim().to_lowercase().chars().filter(kept).collect::<String>())
        .map(|heading| heading.replace(' ', "-"))
        .collect()
}

#[test]
fn both_readmes_tell_the_same_commands_and_name_each_other() {
    let [english, chinese] = ["README.md", "README.zh-CN.md"].map(|name| read(&root().join(name)));
    let commands = |document: &Document| -> Vec<(String, Vec<String>)> {
        let said = |block: &Block| block.lines.iter().map(|line| command(line).to_owned()).collect::<Vec<_>>();
        document.blocks.iter().map(|block| (block.language.clone(), said(block))).collect()
    };
    assert_eq!(commands(&english), commands(&chinese));
    let marks = |document: &Document| document.blocks.iter().map(|block| block.mark.clone()).collect::<Vec<_>>();
    let not_run = |marks: Vec<Mark>| marks.into_iter().map(|mark| mark == Mark::NotRun).collect::<Vec<_>>();
    assert_eq!(not_run(marks(&english)), not_run(marks(&chinese)));
    let level = |line: &&String| line.starts_with('#');
    let levels = |document: &Document| -> Vec<usize> {
        document.prose.iter().filter(level).map(|line| line.chars().take_while(|&c| c == '#').count()).collect()
    };
    assert_eq!(levels(&english), levels(&chinese), "the same headings");
    let rows = |document: &Document| document.prose.iter().filter(|line| line.starts_with('|')).count();
    assert_eq!(rows(&english), rows(&chinese), "the same tables");
    for (document, other) in [(&english, "(README.zh-CN.md)"), (&chinese, "(README.md)")] {
        assert!(document.prose.iter().any(|line| line.contains(other)), "{}: no link to {other}", document.name);
    }
    // What can be set is told in both: the example file has all of it.
    let settings = fs::read_to_string(root().join("examples/imagehub.toml")).expect("the example file");
    let keys = settings.lines().filter_map(|line| line.strip_prefix('#')?.split_once(" = ").map(|(key, _)| key));
    for key in keys.filter(|key| !key.contains(' ')) {
        for document in [&english, &chinese] {
            let told = document.prose.iter().any(|line| line.contains(&format!("`--{key}")));
            assert!(told, "{}: not a word about --{key}", document.name);
        }
    }
}

/// A line of a shell block without its comment, which is in the language of its document.
fn command(line: &str) -> &str {
    if line.trim_start().starts_with('#') {
        return "#";
    }
    line.split_once("  #").map_or(line, |(command, _)| command).trim_end()
}

#[test]
fn marks_links_and_headings_are_read_as_people_see_them() {
    let text = "# A *b*: c-d\n[x](a.md#e) and `[no](link)`\n<!-- refused: no `way` -->\n\n```sh\nfalse  # why\n```\n\
                <!-- not run: takes an hour -->\n```sh\nsleep\n```\ntext\n```sh\ntrue\n```\n";
    let document = parse("x.md".to_owned(), text);
    let marks: Vec<_> = document.blocks.iter().map(|block| (block.line, block.mark.clone())).collect();
    assert_eq!(marks, [(5, Mark::Refused("no `way`".to_owned())), (9, Mark::NotRun), (13, Mark::Run)]);
    assert_eq!(command(&document.blocks[0].lines[0]), "false");
    let (plain, spans) = code_spans(&document.prose[1]);
    assert_eq!((links(&plain).collect::<Vec<_>>(), spans), (vec!["a.md#e"], vec!["[no](link)"]));
    assert_eq!(anchors(text).into_iter().collect::<Vec<_>>(), ["a-b-c-d"]);
}
