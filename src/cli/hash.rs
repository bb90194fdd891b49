//! `imagehub hash`: the name that the pack of a manifest gets when it is created without one.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::api::{API_VERSION, Kind, Spec, SpecHash, validate_spec};

/// Largest manifest that is read, in bytes: twice the largest object, since YAML may be longer than JSON.
pub const MAX_MANIFEST: usize = 2 * 1024 * 1024;

/// Why there is no hash.
#[derive(Debug, thiserror::Error)]
pub enum HashError {
    /// The file can't be read.
    #[error("can't read {}: {source}", file.display())]
    Read {
        /// Which one, `-` for the standard input.
        file: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file isn't the manifest of a legal pack.
    #[error("{}: {message}", file.display())]
    Manifest {
        /// Which one, `-` for the standard input.
        file: PathBuf,
        /// What is wrong and what would be right.
        message: String,
    },
}

/// Reads the manifest of a `DataPack` (YAML or JSON; `-` is the standard input) and gives two lines: the pack's name,
/// and all digits of its hash.
///
/// # Errors
/// The file can't be read, or isn't the manifest of a legal pack.
pub fn run(file: &Path) -> Result<String, HashError> {
    let read = || {
        if file == Path::new("-") { read_limited(io::stdin().lock()) } else { read_limited(File::open(file)?) }
    };
    let text = read().map_err(|source| HashError::Read { file: file.to_owned(), source })?;
    hash_lines(&text).map_err(|message| HashError::Manifest { file: file.to_owned(), message })
}

fn read_limited(from: impl Read) -> io::Result<String> {
    let mut text = String::new();
    // One byte more tells a file of the limit from one beyond it.
    from.take(MAX_MANIFEST as u64 + 1).read_to_string(&mut text)?;
    if text.len() > MAX_MANIFEST {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {MAX_MANIFEST} bytes")));
    }
    Ok(text)
}

/// The two lines for the text of a manifest.
///
/// # Errors
/// What is wrong with it and what would be right, one fault a line.
pub fn hash_lines(manifest: &str) -> Result<String, String> {
    let value: Value = if manifest.trim_start().starts_with('{') {
        serde_json::from_str(manifest).map_err(|e| format!("not JSON: {e}"))?
    } else {
        serde_saphyr::from_str(manifest).map_err(|e| format!("not one YAML document: {e}"))?
    };
    let Value::Object(mut object) = value else {
        return Err("want the manifest of a DataPack, with apiVersion, kind, metadata and spec".to_owned());
    };
    for (field, want) in [("apiVersion", API_VERSION), ("kind", Kind::DataPack.name())] {
        if object.get(field).and_then(Value::as_str) != Some(want) {
            return Err(format!("{field}: want {want}"));
        }
    }
    let name =
        object.get("metadata").and_then(|m| m.get("name")).and_then(Value::as_str).unwrap_or_default().to_owned();
    let spec = object.remove("spec").ok_or_else(|| "spec is missing".to_owned())?;
    if let Some(unknown) =
        spec.as_object().and_then(|s| s.keys().find(|k| !matches!(k.as_str(), "type" | "names" | "expireTime")))
    {
        return Err(format!("spec: unknown field {unknown:?}: want type, names and expireTime"));
    }
    let spec = Spec::from_value(Kind::DataPack, spec).map_err(|e| format!("spec: {e}"))?;
    let faults = validate_spec(&name, &spec);
    if !faults.is_empty() {
        return Err(faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
    }
    let Spec::DataPack(pack) = spec else { return Err("spec: want that of a DataPack".to_owned()) };
    let hash = SpecHash::of(&pack).map_err(|e| format!("spec.{e}"))?;
    Ok(format!("{}\n{}\n", hash.pack_name(), hash.hex()))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_manifest_in_yaml_or_json_has_the_hash_of_its_spec() {
        let yaml = "apiVersion: imagehub.sealos.io/v1\nkind: DataPack\nmetadata: {name: mine}\nspec:\n  type: base\n";
        let json =
            r#"{"apiVersion":"imagehub.sealos.io/v1","kind":"DataPack","spec":{"names":[],"expireTime":"120m"}}"#;
        let vectors: Value = serde_json::from_str(include_str!("../../tests/vectors/spec-hash.json")).unwrap();
        let (name, hex) = (vectors[0]["name"].as_str().unwrap(), vectors[0]["hex"].as_str().unwrap());
        assert_eq!(hash_lines(yaml), Ok(format!("{name}\n{hex}\n")));
        assert_eq!(hash_lines(json), hash_lines(yaml));
    }

    #[test]
    fn what_is_no_legal_pack_has_no_hash() {
        let pack = |spec: &str| format!("apiVersion: imagehub.sealos.io/v1\nkind: DataPack\nspec: {spec}\n");
        for (manifest, beginning) in [
            ("", "want the manifest of a DataPack"),
            ("[", "not one YAML document: "),
            ("{", "not JSON: "),
            ("kind: DataPack", "apiVersion: want imagehub.sealos.io/v1"),
            ("apiVersion: imagehub.sealos.io/v1\nkind: Image", "kind: want DataPack"),
            ("apiVersion: imagehub.sealos.io/v1\nkind: DataPack", "spec is missing"),
            (&pack("{name: [a/b:c]}"), "spec: unknown field \"name\": want type, names and expireTime"),
            (&pack("{type: whole}"), "spec: unknown variant `whole`"),
            (&pack("[]"), "spec: "),
            (&pack("{names: [a/b], expireTime: 2d}"), "spec.names[0]: Invalid value: \"a/b\": the tag is missing"),
            (&format!("{}---\n{}", pack("{}"), pack("{}")), "not one YAML document: "),
        ] {
            let error = hash_lines(manifest).unwrap_err();
            assert!(error.starts_with(beginning), "{manifest}: {error}");
        }
        assert!(hash_lines(&"[".repeat(100_000)).is_err());
        assert!(hash_lines(&"{\"a\":".repeat(100_000)).is_err());
    }

    #[test]
    fn a_file_is_read_up_to_the_limit() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"apiVersion: imagehub.sealos.io/v1\nkind: DataPack\nspec: {}\n").unwrap();
        assert!(run(file.path()).unwrap().starts_with("dp-"));
        file.write_all(&vec![b'\n'; MAX_MANIFEST]).unwrap();
        assert!(run(file.path()).unwrap_err().to_string().ends_with("more than 2097152 bytes"));
        assert!(run(Path::new("/no/such/file")).unwrap_err().to_string().starts_with("can't read /no/such/file: "));
    }
}
