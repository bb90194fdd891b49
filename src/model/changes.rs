//! What differs between two images, in bounded work.

use std::fmt::Write as _;

use super::image::ImageView;
use crate::api::ImageType;
use crate::graph::Record;

/// The longest value that a change shows whole, in bytes.
pub const SHOWN_BYTES: usize = 1024;
/// How many pairs of lines a diff compares at most; beyond it all lines between the equal ends count as changed.
pub const DIFF_CELLS: usize = 1_000_000;
/// The longest diff, in bytes; what is over it is cut, and says so.
pub const DIFF_BYTES: usize = 256 * 1024;
/// How many equal lines a diff shows around a change.
const CONTEXT: usize = 3;

/// One field that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldChange {
    /// Its clean name.
    pub field: &'static str,
    /// What it was; `None` for nothing.
    pub before: Option<String>,
    /// What it is.
    pub after: Option<String>,
}

/// The fields that differ between two images; one that isn't there has none.
#[must_use]
pub fn image_changes(before: Option<&Record>, after: Option<&Record>) -> Vec<FieldChange> {
    let (before, after) = (fields(before), fields(after));
    let names = before.iter().map(|(name, _)| *name);
    let mut changes = Vec::new();
    for (i, field) in names.enumerate() {
        let (old, new) = (&before[i].1, &after[i].1);
        if old != new {
            changes.push(FieldChange { field, before: old.as_deref().map(shown), after: new.as_deref().map(shown) });
        }
    }
    changes
}

fn shown(value: &str) -> String {
    if value.len() <= SHOWN_BYTES {
        return value.to_owned();
    }
    format!("{}… ({} bytes)", &value[..value.floor_char_boundary(SHOWN_BYTES)], value.len())
}

fn fields<'a>(record: Option<&'a Record>) -> [(&'static str, Option<String>); 11] {
    let image = record.and_then(ImageView::of);
    let of = |read: &dyn Fn(&ImageView<'a>) -> Option<String>| image.as_ref().and_then(read);
    [
        (
            "type",
            of(&|image| {
                image.image_type().map(|kind| match kind {
                    ImageType::CloudImage => "CLOUD_IMAGE".to_owned(),
                    ImageType::ClusterImage => "CLUSTER_IMAGE".to_owned(),
                })
            }),
        ),
        ("keywords", of(&|image| Some(image.keywords().join(", ")).filter(|all| !all.is_empty()))),
        ("description", of(&ImageView::description)),
        ("icon", of(&ImageView::icon)),
        ("docs", of(&ImageView::docs)),
        ("url", of(&ImageView::url)),
        ("imageId", of(&ImageView::image_id)),
        ("architecture", of(&ImageView::architecture)),
        ("size", of(&|image| image.size().map(|size| size.to_string()))),
        ("createdAt", of(&|image| image.created_at().map(|at| at.to_string()))),
        (
            "actions",
            of(&|image| {
                let mut text = String::new();
                for one in image.actions() {
                    let _ = write!(text, "{}:", one.key);
                    let parts = [
                        ("name", one.name),
                        ("type", one.action_type),
                        ("template", one.template),
                        ("command", one.command),
                    ];
                    for (part, value) in parts {
                        let _ = value.map(|value| write!(text, " {part} {value:?}"));
                    }
                    text.push('\n');
                }
                (!text.is_empty()).then_some(text)
            }),
        ),
    ]
}

/// The lines that differ, in the form of a unified diff without its head; empty for equal texts.
#[must_use]
pub fn docs_diff(before: &str, after: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let head = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let rest = old.len().min(new.len()) - head;
    let tail = old.iter().rev().zip(new.iter().rev()).take(rest).take_while(|(a, b)| a == b).count();
    let marks = marks(&old[head..old.len() - tail], &new[head..new.len() - tail]);
    let mut lines: Vec<(char, &str)> = Vec::with_capacity(old.len() + new.len());
    lines.extend(old[..head].iter().map(|line| (' ', *line)));
    lines.extend(marks);
    lines.extend(old[old.len() - tail..].iter().map(|line| (' ', *line)));
    render(&lines)
}

/// The longest common subsequence, by the table, where that is small enough.
fn marks<'a>(old: &[&'a str], new: &[&'a str]) -> Vec<(char, &'a str)> {
    let mut out = Vec::with_capacity(old.len() + new.len());
    if old.len().saturating_mul(new.len()) > DIFF_CELLS {
        out.extend(old.iter().map(|line| ('-', *line)));
        out.extend(new.iter().map(|line| ('+', *line)));
        return out;
    }
    let width = new.len() + 1;
    let mut table = vec![0u32; (old.len() + 1) * width];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            table[i * width + j] = if old[i] == new[j] {
                table[(i + 1) * width + j + 1] + 1
            } else {
                table[(i + 1) * width + j].max(table[i * width + j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            out.push((' ', old[i]));
            i += 1;
            j += 1;
        } else if j == new.len() || (i < old.len() && table[(i + 1) * width + j] >= table[i * width + j + 1]) {
            out.push(('-', old[i]));
            i += 1;
        } else {
            out.push(('+', new[j]));
            j += 1;
        }
    }
    out
}

fn render(lines: &[(char, &str)]) -> String {
    let mut out = String::new();
    let mut end = 0;
    let (mut old_line, mut new_line, mut counted) = (1, 1, 0);
    while let Some(next) = lines[end..].iter().position(|(mark, _)| *mark != ' ') {
        let start = (end + next).saturating_sub(CONTEXT).max(end);
        let mut stop = end + next;
        // What lies closer together than two contexts is one piece.
        while let Some(more) = lines[stop..].iter().take(2 * CONTEXT + 1).position(|(mark, _)| *mark != ' ') {
            stop += more + 1;
        }
        stop = (stop + CONTEXT).min(lines.len());
        for (mark, _) in &lines[counted..start] {
            old_line += usize::from(*mark != '+');
            new_line += usize::from(*mark != '-');
        }
        let piece = &lines[start..stop];
        let (olds, news) = (piece.iter().filter(|l| l.0 != '+').count(), piece.iter().filter(|l| l.0 != '-').count());
        let _ = writeln!(out, "@@ -{old_line},{olds} +{new_line},{news} @@");
        for (mark, line) in piece {
            if out.len() + line.len() > DIFF_BYTES {
                let _ = writeln!(out, "\\ the diff is longer than {DIFF_BYTES} bytes; the rest is left out");
                return out;
            }
            let _ = writeln!(out, "{mark}{line}");
        }
        (old_line, new_line, counted, end) = (old_line + olds, new_line + news, stop, stop);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diff_shows_what_changed_with_some_lines_around() {
        let old = (1..=20).map(|i| format!("line {i}\n")).collect::<Vec<_>>().concat();
        let new = old.replace("line 10\n", "line ten\n") + "line 21\n";
        insta::assert_snapshot!(docs_diff(&old, &new), @r"
        @@ -7,7 +7,7 @@
         line 7
         line 8
         line 9
        -line 10
        +line ten
         line 11
         line 12
         line 13
        @@ -18,3 +18,4 @@
         line 18
         line 19
         line 20
        +line 21
        ");
        assert_eq!(docs_diff(&old, &old), "");
    }

    #[test]
    fn a_diff_of_very_long_texts_is_bounded_in_work_and_size() {
        let old = (0..20_000).map(|i| format!("old {i}\n")).collect::<Vec<_>>().concat();
        let new = (0..20_000).map(|i| format!("new {i}\n")).collect::<Vec<_>>().concat();
        let diff = docs_diff(&old, &new);
        assert!(diff.len() <= DIFF_BYTES + 200, "{}", diff.len());
        assert!(diff.ends_with("the rest is left out\n"));
    }
}
