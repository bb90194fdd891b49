//! An import into a directory that no server has open.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use imagehub::api::Kind;
use serde_json::json;

use crate::data::{REPOSITORIES, TAGS, image_spec, meta_name, repository_name};
use crate::measure::Plan;
use crate::report::{Report, Target};

/// Of the large catalogue, so much is imported.
const SHARE: usize = 5;

/// Images as manifests, with what they belong to or without.
pub fn offline(plan: &Plan, dir: &Path, report: &mut Report) {
    let images = plan.images / SHARE;
    for (what, owners) in [("with their repositories", true), ("alone", false)] {
        let _ = std::fs::remove_dir_all(dir);
        std::fs::create_dir_all(dir).expect("the directory can be made");
        let file = dir.join("catalogue.jsonl");
        let count = write(&file, images, owners);
        let started = Instant::now();
        let done = Command::new(env!("CARGO_BIN_EXE_imagehub"))
            .args(["import", "--offline"])
            .arg(dir.join("data"))
            .arg(&file)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output()
            .expect("the program runs");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
        let rate = count as f64 / started.elapsed().as_secs_f64();
        let note = format!("{count} objects in {:.1?}", started.elapsed());
        report.figure(&format!("offline import of images {what}"), "", rate, "objects/s", Target::Reported, &note);
    }
    let _ = std::fs::remove_dir_all(dir);
}

fn write(file: &Path, images: usize, owners: bool) -> usize {
    let mut out = BufWriter::new(File::create(file).expect("the file can be made"));
    let mut count = 0;
    let mut line = |kind: Kind, spec: serde_json::Value| {
        let name = meta_name(spec["name"].as_str().expect("a name"));
        let manifest = json!({
            "apiVersion": "imagehub.sealos.io/v1", "kind": kind.name(), "metadata": { "name": name }, "spec": spec,
        });
        writeln!(out, "{manifest}").expect("the file can be written");
        count += 1;
    };
    if owners {
        for number in 0..images.div_ceil(TAGS).div_ceil(REPOSITORIES) {
            line(Kind::Organization, json!({ "name": format!("org{number}") }));
        }
        for number in 0..images.div_ceil(TAGS) {
            line(Kind::Repository, json!({ "name": repository_name(number) }));
        }
    }
    for number in 0..images {
        line(Kind::Image, image_spec(number, 0));
    }
    out.flush().expect("the file can be written");
    count
}
