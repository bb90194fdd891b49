//! Objects as rows, for `kubectl get`.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde_json::Value;

use super::params::Include;
use crate::api::{Kind, code};
use crate::graph::{Field, Record, Revision};
use crate::registry::Reader;

/// A column of a kind's table.
struct Column {
    name: &'static str,
    kind: &'static str,
    format: &'static str,
    description: &'static str,
    /// Above 0: shown by `-o wide` only.
    priority: u8,
}

const fn column(name: &'static str, kind: &'static str, description: &'static str, priority: u8) -> Column {
    Column { name, kind, format: "", description, priority }
}

const NAME: Column =
    Column { name: "Name", kind: "string", format: "name", description: "The object's metadata.name.", priority: 0 };
const AGE: Column = column("Age", "string", "How long ago the object was made.", 0);

const IMAGE: &[Column] = &[
    NAME,
    column("Image", "string", "The image's full name, org/repo:tag.", 0),
    column("Type", "string", "What kind of image it is.", 0),
    column("Size", "integer", "The image's size in bytes.", 0),
    AGE,
    column("Arch", "string", "The architecture it is built for.", 1),
    column("Built", "string", "When it was built.", 1),
    column("Description", "string", "What it is.", 1),
];
const REPOSITORY: &[Column] = &[
    NAME,
    column("Repository", "string", "The repository's full name, org/repo.", 0),
    column("Private", "boolean", "Whether only managers and administrators see it.", 0),
    column("Tags", "integer", "How many images it has.", 0),
    column("Latest", "string", "The newest tag.", 0),
    AGE,
    column("Downloads", "integer", "How often its images were downloaded.", 1),
];
const ORGANIZATION: &[Column] = &[
    NAME,
    column("Repos", "integer", "How many repositories it has.", 0),
    column("Creator", "string", "Who made it.", 0),
    AGE,
    column("Managers", "string", "Who may change it and its content.", 1),
];
const PACK: &[Column] = &[
    NAME,
    column("Type", "string", "How much is told of each image: base, grid or detail.", 0),
    column("Images", "integer", "How many images it names.", 0),
    column("Status", "string", "OK, or ERROR with the reason in status.message.", 0),
    column("Expires", "string", "In how long it goes.", 0),
    AGE,
    column("Names", "string", "The images that it names.", 1),
];

fn columns(kind: Kind) -> &'static [Column] {
    match kind {
        Kind::Image => IMAGE,
        Kind::Repository => REPOSITORY,
        Kind::Organization => ORGANIZATION,
        Kind::DataPack => PACK,
    }
}

/// The column definitions, as JSON.
pub(super) fn definitions(kind: Kind) -> String {
    let all: Vec<Value> = columns(kind)
        .iter()
        .map(|c| {
            serde_json::json!({
                "name": c.name, "type": c.kind, "format": c.format, "description": c.description, "priority": c.priority,
            })
        })
        .collect();
    Value::Array(all).to_string()
}

/// The cells of a row about no object: a bookmark's.
pub(super) fn empty_cells(kind: Kind) -> Vec<Value> {
    let mut cells = vec![Value::Null; columns(kind).len()];
    cells[0] = "".into();
    cells
}

/// The beginning of a table, up to its rows. `metadata` is a JSON object.
pub(super) fn head(beta: bool, metadata: &str, definitions: &str) -> String {
    let version = if beta { "v1beta1" } else { "v1" };
    format!(
        r#"{{"kind":"Table","apiVersion":"meta.k8s.io/{version}","metadata":{metadata},"columnDefinitions":{definitions},"rows":["#
    )
}

/// How many of a list of names a cell shows.
const SHOWN_NAMES: usize = 3;

/// Appends the row of `record`, as of `revision`; ages count until `now`.
pub(super) fn write_row(
    out: &mut Vec<u8>,
    reader: &Reader,
    record: &Record,
    revision: Revision,
    include: Include,
    now: Timestamp,
) {
    let mut cells = vec![Value::from(record.name())];
    let age = record.created().parse().map_or_else(|_| "<unknown>".to_owned(), |made: Timestamp| human(now, made));
    match record.kind() {
        Kind::Image => {
            cells.push(record.image().map_or("", |image| image.name()).into());
            cells.push(text(record, Field::Type));
            cells.push(record.image().map_or(0, |image| image.size()).into());
            cells.push(age.into());
            cells.extend([Field::Arch, Field::CreatTime, Field::Description].map(|field| text(record, field)));
        }
        Kind::Repository => {
            let Some(repository) = record.repository() else { return };
            let tags = reader.visible.tags(repository.name());
            let latest = tags.first().and_then(|r| r.image()).map_or("", |image| image.tag());
            cells.extend([
                repository.name().into(),
                repository.private.into(),
                tags.len().into(),
                latest.into(),
                age.into(),
            ]);
            cells.push(repository.downloads.into());
        }
        Kind::Organization => {
            let object = record.object();
            let crate::api::Spec::Organization(spec) = object.spec else { return };
            cells.push(reader.visible.repositories(&spec.name).count().into());
            cells.push(spec.creator.into());
            cells.push(age.into());
            cells.push(spec.manager.unwrap_or_default().join(",").into());
        }
        Kind::DataPack => {
            let Some(pack) = record.pack() else { return };
            let status = if reader.pack_code(record) == code::OK { "OK" } else { "ERROR" };
            let expires = Timestamp::from_millisecond(pack.expires_ms).unwrap_or(Timestamp::MAX);
            let mut names = pack.names.iter().take(SHOWN_NAMES).map(|n| &**n).collect::<Vec<_>>().join(",");
            if pack.names.len() > SHOWN_NAMES {
                // writing to a String can't fail
                let _ = write!(names, ",+{}", pack.names.len() - SHOWN_NAMES);
            }
            cells.extend([pack.grain.as_str().into(), pack.names.len().into(), status.into()]);
            cells.extend([human(expires, now).into(), age.into(), names.into()]);
        }
    }
    out.extend_from_slice(br#"{"cells":"#);
    serde_json::to_writer(&mut *out, &cells).expect("a Vec takes all");
    match include {
        Include::None => {}
        Include::Metadata => {
            out.extend_from_slice(br#","object":"#);
            record.write_metadata(out, revision);
        }
        Include::Object => {
            out.extend_from_slice(br#","object":"#);
            reader.write_object(out, record, revision);
        }
    }
    out.push(b'}');
}

fn text(record: &Record, field: Field) -> Value {
    record.field(field).and_then(|raw| serde_json::from_slice(raw).ok()).unwrap_or(Value::from(""))
}

/// The time from `earlier` to `later` in the words of kubectl (`duration.HumanDuration` of apimachinery).
fn human(later: Timestamp, earlier: Timestamp) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    const YEAR: i64 = 365 * DAY;
    let seconds = (later.as_millisecond() - earlier.as_millisecond()) / 1000;
    let two = |big: i64, unit: char, small: i64, part: char| {
        if small == 0 { format!("{big}{unit}") } else { format!("{big}{unit}{small}{part}") }
    };
    match seconds {
        i64::MIN..=-2 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        s if s < 2 * MINUTE => format!("{s}s"),
        s if s < 10 * MINUTE => two(s / MINUTE, 'm', s % MINUTE, 's'),
        s if s < 3 * HOUR => format!("{}m", s / MINUTE),
        s if s < 8 * HOUR => two(s / HOUR, 'h', s / MINUTE % 60, 'm'),
        s if s < 2 * DAY => format!("{}h", s / HOUR),
        s if s < 8 * DAY => two(s / DAY, 'd', s / HOUR % 24, 'h'),
        s if s < 2 * YEAR => format!("{}d", s / DAY),
        s if s < 8 * YEAR => two(s / YEAR, 'y', s / DAY % 365, 'd'),
        s => format!("{}y", s / YEAR),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_kubectl_writes_them() {
        let zero = Timestamp::UNIX_EPOCH;
        for (seconds, wanted) in [
            (-5, "<invalid>"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (185, "3m5s"),
            (600, "10m"),
            (7_200, "120m"),
            (10_800, "3h"),
            (10_860, "3h1m"),
            (28_800, "8h"),
            (172_800, "2d"),
            (180_000, "2d2h"),
            (691_200, "8d"),
            (63_072_000, "2y"),
            (64_000_000, "2y10d"),
            (315_360_000, "10y"),
        ] {
            assert_eq!(human(Timestamp::from_second(seconds).unwrap(), zero), wanted, "{seconds} s");
        }
    }

    #[test]
    fn a_rows_cells_are_as_many_as_its_columns() {
        assert_eq!((IMAGE.len(), REPOSITORY.len(), ORGANIZATION.len(), PACK.len()), (8, 7, 5, 7));
    }
}
