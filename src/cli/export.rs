//! `imagehub export`.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::{Args as ClapArgs, ValueEnum};
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::Value;

use super::client::{Api, block_on, query_value};
use crate::api::decode::parse_yaml;
use crate::api::{Kind, ORGANIZATION_LABEL};
use crate::kube_api::{EXPORT, REVISION};

/// The kinds in the order in which an import makes them: owners first.
pub(super) const ORDER: [Kind; 4] = [Kind::Organization, Kind::Repository, Kind::Image, Kind::DataPack];

/// The arguments of `export`.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  imagehub export -o catalogue.yaml.gz --gzip    all of it
  imagehub export --organization labring         what one organization has
  imagehub export --kind image -l tag.imagehub.sealos.io=v1 -o json")]
pub(super) struct Args {
    /// Which server and user: an administrator's [default: imagehub-data/kubeconfig]
    #[arg(long, value_name = "FILE", long_help = "Which server and user; without it the files of KUBECONFIG")]
    kubeconfig: Option<PathBuf>,
    /// Only these kinds; may be repeated
    #[arg(long = "kind", value_name = "KIND", value_enum)]
    kinds: Vec<KindName>,
    /// Only what has these labels
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    selector: Option<String>,
    /// Only this organization, its repositories and their images
    #[arg(long, value_name = "NAME")]
    organization: Option<String>,
    /// yaml: one document an object; json: one line an object
    #[arg(long, value_enum, default_value = "yaml")]
    format: Format,
    /// Where it goes [default: standard output]; the words yaml and json choose the format
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Compress it
    #[arg(long)]
    gzip: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Yaml,
    Json,
}

/// The kinds' names, as kubectl takes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum KindName {
    #[value(aliases = ["organizations", "org"])]
    Organization,
    #[value(aliases = ["repositories", "repo"])]
    Repository,
    #[value(aliases = ["images", "img"])]
    Image,
    #[value(aliases = ["datapacks", "dp"])]
    Datapack,
}

impl From<KindName> for Kind {
    fn from(name: KindName) -> Self {
        match name {
            KindName::Organization => Self::Organization,
            KindName::Repository => Self::Repository,
            KindName::Image => Self::Image,
            KindName::Datapack => Self::DataPack,
        }
    }
}

pub(super) fn run(args: &Args) -> Result<(), String> {
    let (format, output) = match args.output.as_deref() {
        // `-o json`, as kubectl has it.
        Some(word) if word == Path::new("json") => (Format::Json, None),
        Some(word) if word == Path::new("yaml") => (Format::Yaml, None),
        output => (args.format, output.filter(|path| *path != Path::new("-"))),
    };
    let api = Api::from_kubeconfig(args.kubeconfig.as_deref())?;
    let paths = paths(args);
    block_on(async {
        let streams = open(&api, &paths).await?;
        match output {
            None => match write(streams, format, args.gzip, io::stdout().lock()).await {
                // A reader that has seen enough (`| head`) is no failure.
                Err(why) if why.kind() != io::ErrorKind::BrokenPipe => Err(why.to_string()),
                _ => Ok(()),
            },
            Some(path) => to_file(streams, format, args.gzip, path).await,
        }
    })
}

/// The lists to ask for, in order.
fn paths(args: &Args) -> Vec<String> {
    let wanted = |kind: &Kind| args.kinds.is_empty() || args.kinds.iter().any(|name| Kind::from(*name) == *kind);
    // A pack belongs to no organization.
    let fits = |kind: &Kind| args.organization.is_none() || *kind != Kind::DataPack;
    let path = |kind: Kind| {
        let mut labels: Vec<String> = args.selector.iter().cloned().collect();
        let mut path = format!("/apis/imagehub.sealos.io/v1/{}?{EXPORT}=true", kind.plural());
        if let Some(organization) = &args.organization {
            if kind == Kind::Organization {
                let field = query_value(&format!("metadata.name={organization}"));
                path.push_str("&fieldSelector=");
                path.push_str(&field);
            } else {
                labels.push(format!("{ORGANIZATION_LABEL}={organization}"));
            }
        }
        if !labels.is_empty() {
            path.push_str("&labelSelector=");
            path.push_str(&query_value(&labels.join(",")));
        }
        path
    };
    ORDER.into_iter().filter(wanted).filter(fits).map(path).collect()
}

/// Begins all lists at one revision: each is of the state in which it began, however long it takes to be read.
async fn open(api: &Api, paths: &[String]) -> Result<Vec<Incoming>, String> {
    let Some((first, others)) = paths.split_first() else {
        return Err("nothing is chosen: a pack belongs to no organization".to_owned());
    };
    let (headers, body) = api.stream(first).await.map_err(|e| e.to_string())?;
    let revision = headers.get(REVISION).and_then(|v| v.to_str().ok());
    let revision = revision.ok_or("the server is none that exports: it names no revision")?;
    let mut bodies = vec![body];
    for path in others {
        let path = format!("{path}&resourceVersion={revision}&resourceVersionMatch=Exact");
        bodies.push(api.stream(&path).await.map_err(|e| e.to_string())?.1);
    }
    Ok(bodies)
}

/// Writes a whole file, or leaves what was.
async fn to_file(streams: Vec<Incoming>, format: Format, gzip: bool, path: &Path) -> Result<(), String> {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let at = |error: io::Error| format!("can't write {}: {error}", part.display());
    let file = File::create(&part).map_err(at)?;
    let written = write(streams, format, gzip, &file).await.and_then(|()| file.sync_all());
    if let Err(error) = written.and_then(|()| std::fs::rename(&part, path)) {
        let _ = std::fs::remove_file(&part);
        return Err(format!("can't write {}: {error}", path.display()));
    }
    Ok(())
}

async fn write(streams: Vec<Incoming>, format: Format, gzip: bool, out: impl Write) -> io::Result<()> {
    let out = BufWriter::new(out);
    if gzip {
        // No time and no name in its header: equal exports are equal bytes.
        let mut out = GzEncoder::new(out, Compression::default());
        write_all(streams, format, &mut out).await?;
        return out.finish()?.flush();
    }
    let mut out = out;
    write_all(streams, format, &mut out).await?;
    out.flush()
}

async fn write_all(streams: Vec<Incoming>, format: Format, out: &mut impl Write) -> io::Result<()> {
    for mut body in streams {
        let mut rest = Vec::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(io::Error::other)?.into_data() else { continue };
            rest.extend_from_slice(&data);
            let Some(end) = rest.iter().rposition(|b| *b == b'\n') else { continue };
            for line in rest[..end].split(|b| *b == b'\n') {
                write_object(line, format, out)?;
            }
            rest.drain(..=end);
        }
        if !rest.is_empty() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server's answer ended too soon"));
        }
    }
    Ok(())
}

fn write_object(line: &[u8], format: Format, out: &mut impl Write) -> io::Result<()> {
    if format == Format::Json {
        out.write_all(line)?;
        return out.write_all(b"\n");
    }
    let value: Value = serde_json::from_slice(line)?;
    out.write_all(b"---\n")?;
    out.write_all(document(&value, line).as_bytes())
}

/// A YAML document that reads back as `value`. Where the block style doesn't (texts with characters that YAML folds or
/// forbids), its JSON, which is YAML as well.
fn document(value: &Value, json: &[u8]) -> String {
    let reads_back = |yaml: &String| parse_yaml(yaml.as_bytes()).is_ok_and(|(read, _)| read == *value);
    let yaml = serde_saphyr::to_string(value).ok().filter(reads_back);
    let mut yaml = yaml.unwrap_or_else(|| String::from_utf8_lossy(json).into_owned());
    if !yaml.ends_with('\n') {
        yaml.push('\n');
    }
    yaml
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn read_back(value: &Value) -> Result<Value, String> {
        let yaml = document(value, value.to_string().as_bytes());
        parse_yaml(yaml.as_bytes()).map(|(read, _)| read).map_err(|e| format!("{e}: {yaml}"))
    }

    proptest! {
        #![proptest_config(crate::api::seeded())]
        #[test]
        fn any_text_survives_yaml(text in "(\\PC|[ \\t\\n\\r:#'\"|>&*!%@`{}\\[\\],~-]|[\\x00-\\x1f\\x7f-\\u{a0}\\u{2028}\\u{feff}]){0,40}") {
            let value = json!({ "kind": "Image", "spec": { "docs": text.as_str(), "list": [text.as_str()] } });
            prop_assert_eq!(read_back(&value), Ok(value));
        }
    }

    #[test]
    fn words_that_yaml_reads_as_something_else_survive() {
        for text in [
            "1.10",
            "yes",
            "no",
            "null",
            "~",
            "0x10",
            "2024-01-01",
            "1e3",
            "",
            " ",
            "---",
            "...",
            "a: b",
            "- a",
            ".inf",
            "012",
            "1_0",
            "=",
            "<<",
        ] {
            let value = json!({ "kind": "Image", text: text, "spec": { "a": [text] } });
            assert_eq!(read_back(&value), Ok(value), "{text:?}");
        }
    }

    #[test]
    fn a_filter_on_an_organization_leaves_packs_out() {
        let args = Args {
            kubeconfig: None,
            kinds: vec![],
            selector: Some("a=b".to_owned()),
            organization: Some("labring".to_owned()),
            format: Format::Yaml,
            output: None,
            gzip: false,
        };
        let all = paths(&args);
        assert_eq!(all.len(), 3);
        assert!(
            all[0].ends_with("organizations?export=true&fieldSelector=metadata.name%3Dlabring&labelSelector=a%3Db")
        );
        assert!(all[2].ends_with("labelSelector=a%3Db%2Corganization.imagehub.sealos.io%3Dlabring"), "{}", all[2]);
    }
}
