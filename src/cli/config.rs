//! The settings file of `serve --config FILE`.
//!
//! Its keys are the flags, and a flag's own definition says what its value may be: what the file says
//! becomes the flag's default. So clap itself keeps the order (flag, environment, file, default), and a
//! flag that is added is a key without another word.

use std::any::TypeId;
use std::error::Error as _;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _};
use std::ops::Range;
use std::path::Path;

use clap::error::{ContextKind, ContextValue};
use clap::{Arg, ArgAction, Command};
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

/// The largest settings file that is read, in bytes: many times what all settings take.
const FILE_LIMIT: u64 = 1024 * 1024;
/// How alike (0 to 1, Jaro-Winkler) a wrong key and a right one are, to be taken for a slip.
const ALIKE: f64 = 0.75;
/// The flags that are no keys: the file can't name itself.
const NO_KEYS: [&str; 1] = ["config"];

/// What a settings file says: words for flags, by the flags' ids.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Settings {
    words: Vec<(String, Vec<String>)>,
}

impl Settings {
    /// `serve` with these settings as the defaults of its flags.
    pub(super) fn become_defaults(self, serve: Command) -> Command {
        self.words.into_iter().fold(serve, |serve, (id, words)| serve.mut_arg(id, |flag| flag.default_values(words)))
    }
}

/// Reads the settings for `serve`, the command whose flags are the keys.
///
/// # Errors
/// The file can't be read; or everything that is wrong in it, a line each, with file, line and column.
pub(super) fn read(path: &Path, serve: &Command) -> Result<Settings, String> {
    let at = |error: io::Error| format!("{}: {error}", path.display());
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(FILE_LIMIT + 1).read_to_end(&mut bytes)).map_err(at)?;
    if bytes.len() as u64 > FILE_LIMIT {
        return Err(format!("{}: a settings file is at most {FILE_LIMIT} bytes long", path.display()));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..good].split(|&byte| byte == b'\n').count();
        format!("{}:{line}: this is not UTF-8; TOML has to be", path.display())
    })?;
    parse(&text, serve).map_err(|wrong| {
        let lines = wrong.into_iter().map(|Wrong { at, message }| {
            let (line, column) = position(&text, at);
            format!("{}:{line}:{column}: {message}", path.display())
        });
        lines.collect::<Vec<_>>().join("\n")
    })
}

/// What is wrong, and at which byte.
#[derive(Debug)]
struct Wrong {
    at: usize,
    message: String,
}

fn parse(text: &str, serve: &Command) -> Result<Settings, Vec<Wrong>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let wrong = errors
        .iter()
        .map(|error| Wrong { at: error.span().map_or(0, |span| span.start), message: error.message().to_owned() });
    let mut wrong: Vec<Wrong> = wrong.collect();
    let mut settings = Settings::default();
    // After a mistake in its syntax, what the rest means is a guess.
    if wrong.is_empty() {
        for (key, value) in table.into_inner() {
            match setting(&key, &value, serve) {
                Ok(setting) => settings.words.push(setting),
                Err((span, message)) => wrong.push(Wrong { at: span.start, message }),
            }
        }
    }
    wrong.sort_by_key(|wrong| wrong.at);
    if wrong.is_empty() { Ok(settings) } else { Err(wrong) }
}

fn setting(
    key: &Spanned<toml::de::DeString<'_>>,
    value: &Spanned<DeValue<'_>>,
    serve: &Command,
) -> Result<(String, Vec<String>), (Range<usize>, String)> {
    let name = key.get_ref();
    let flag =
        keys(serve).find(|flag| flag.get_long() == Some(name)).ok_or_else(|| (key.span(), unknown(name, serve)))?;
    let at_value = |message: String| (value.span(), format!("{name}: {message}"));
    let words = match value.get_ref() {
        DeValue::Array(items) if takes_many(flag) => many(items, flag),
        value => one(value, flag).map(|word| vec![word]),
    };
    let words = words.map_err(at_value)?;
    if !is_switch(flag) {
        words.iter().try_for_each(|word| check(flag, word, serve)).map_err(at_value)?;
    }
    Ok((flag.get_id().to_string(), words))
}

/// The flags that are keys.
fn keys(serve: &Command) -> impl Iterator<Item = &Arg> {
    serve.get_arguments().filter(|flag| flag.get_long().is_some_and(|long| !NO_KEYS.contains(&long)))
}

fn unknown(name: &str, serve: &Command) -> String {
    if NO_KEYS.contains(&name) {
        return format!("{name:?} is a flag and a variable, but no key: a settings file does not name another");
    }
    let written = name.to_lowercase().replace('_', "-");
    let known = || keys(serve).filter_map(Arg::get_long);
    let likeness = |key: &str| strsim::jaro_winkler(&written, key);
    let nearest = known().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    match nearest.filter(|key| likeness(key) >= ALIKE) {
        Some(key) => format!("there is no setting {name:?}: did you mean {key}?"),
        None => format!("there is no setting {name:?}: there are {}", known().collect::<Vec<_>>().join(", ")),
    }
}

fn is_switch(flag: &Arg) -> bool {
    matches!(flag.get_action(), ArgAction::SetTrue | ArgAction::SetFalse)
}

fn takes_many(flag: &Arg) -> bool {
    matches!(flag.get_action(), ArgAction::Append)
}

fn is_number(flag: &Arg) -> bool {
    let id = flag.get_value_parser().type_id();
    [TypeId::of::<u64>(), TypeId::of::<u32>(), TypeId::of::<u16>(), TypeId::of::<u8>(), TypeId::of::<usize>()]
        .iter()
        .any(|number| id == *number)
}

fn many(items: &DeArray<'_>, flag: &Arg) -> Result<Vec<String>, String> {
    items.iter().map(|item| one(item.get_ref(), flag)).collect()
}

/// The word that stands for a value on the command line, where it has the flag's type.
fn one(value: &DeValue<'_>, flag: &Arg) -> Result<String, String> {
    match value {
        DeValue::Boolean(value) if is_switch(flag) => Ok(value.to_string()),
        DeValue::Integer(value) if is_number(flag) => i128::from_str_radix(value.as_str(), value.radix())
            .map(|value| value.to_string())
            .map_err(|_| "the number is too large".to_owned()),
        DeValue::String(value) if !is_switch(flag) && !is_number(flag) => Ok(value.clone().into_owned()),
        _ => {
            let wanted = if is_switch(flag) {
                "true or false".to_owned()
            } else if is_number(flag) {
                format!("a whole number{}", example(flag, ""))
            } else {
                format!("a string{}", example(flag, "\""))
            };
            Err(format!("want {wanted}, not {}", what(value)))
        }
    }
}

fn example(flag: &Arg, quote: &str) -> String {
    let value = flag.get_default_values().first();
    value.map(|value| format!(", such as {quote}{}{quote}", value.to_string_lossy())).unwrap_or_default()
}

fn what(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// Whether the flag takes this word.
fn check(flag: &Arg, word: &str, serve: &Command) -> Result<(), String> {
    let typed = OsString::from(format!("--{}={word}", flag.get_long().unwrap_or_default()));
    let Err(error) = serve.clone().no_binary_name(true).try_get_matches_from([typed]) else { return Ok(()) };
    if let Some(ContextValue::Strings(values)) = error.get(ContextKind::ValidValue)
        && !values.is_empty()
    {
        return Err(format!("want one of {}, not {word:?}", values.join(", ")));
    }
    let why = error.source().map_or_else(|| error.kind().to_string(), ToString::to_string);
    Err(format!("{why}: {word:?}{}", example(flag, "").replace(", such as", "; the default is")))
}

/// Line and column, from 1, columns in characters.
fn position(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.rsplit('\n').next().unwrap_or_default();
    (before.matches('\n').count() + 1, line.chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::super::serve_command;
    use super::*;

    fn wrong(text: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.toml");
        std::fs::write(&path, text).unwrap();
        let message = read(&path, &serve_command()).unwrap_err();
        message.replace(&format!("{}/", dir.path().display()), "")
    }

    /// The flag's value after the command line `words` and the file.
    fn value(file: &str, words: &[&str], id: &str) -> String {
        let settings = parse(file, &serve_command()).unwrap();
        let serve = settings.become_defaults(serve_command()).no_binary_name(true);
        let matches = serve.try_get_matches_from(words).unwrap();
        matches.get_raw(id).unwrap().next().unwrap().to_string_lossy().into_owned()
    }

    #[test]
    fn the_file_comes_after_the_flag_and_before_the_default() {
        let file = "kube-listen = '127.0.0.1:9443'\npack-cache-bytes = 1_000\ndemo = true\n";
        assert_eq!(value(file, &[], "kube_listen"), "127.0.0.1:9443");
        assert_eq!(value(file, &["--kube-listen=127.0.0.1:7443"], "kube_listen"), "127.0.0.1:7443");
        assert_eq!(value(file, &[], "pack_cache_bytes"), "1000");
        assert_eq!(value(file, &[], "http_listen"), "127.0.0.1:8080");
        assert_eq!(value(file, &[], "demo"), "true");
        assert_eq!(value("demo = false", &["--demo"], "demo"), "true");
    }

    #[test]
    fn unknown_keys_are_refused_with_the_nearest_known_one() {
        assert_eq!(wrong("\ndata_dir = 'x'"), "s.toml:2:1: there is no setting \"data_dir\": did you mean data-dir?");
        assert_eq!(
            wrong("kube-lisen = 1"),
            "s.toml:1:1: there is no setting \"kube-lisen\": did you mean kube-listen?"
        );
        let far = wrong("zzz = 1");
        assert!(far.contains("there are data-dir, demo, storage, kube-listen"), "{far}");
        let own = wrong("config = 'x'");
        assert!(own.contains("does not name another"), "{own}");
    }

    #[test]
    fn wrong_types_are_told_with_line_and_column_and_what_would_be_right() {
        let all = wrong(
            "# é\ndemo = 'yes'\n  kube-listen =   8443\npack-cache-bytes = '64 MiB'\nlog = ['info']\n[data-dir]\n",
        );
        let lines: Vec<&str> = all.lines().collect();
        assert_eq!(
            lines,
            [
                "s.toml:2:8: demo: want true or false, not a string",
                "s.toml:3:19: kube-listen: want a string, such as \"127.0.0.1:8443\", not a whole number",
                &format!(
                    "s.toml:4:20: pack-cache-bytes: want a whole number, such as {}, not a string",
                    crate::datapack::CACHE_BYTES
                ),
                &format!(
                    "s.toml:5:7: log: want a string, such as \"{}\", not a list",
                    crate::server::log::DEFAULT_FILTER
                ),
                "s.toml:6:1: data-dir: want a string, such as \"imagehub-data\", not a table",
            ]
        );
    }

    #[test]
    fn values_that_no_flag_takes_are_refused_as_on_the_command_line() {
        let address = wrong("kube-listen = 'here'");
        assert!(address.starts_with("s.toml:1:15: kube-listen: invalid socket address"), "{address}");
        assert!(address.ends_with("\"here\"; the default is 127.0.0.1:8443"), "{address}");
        let word = wrong("create-organizations = 'nobody'");
        assert!(word.contains("want one of signed-in, admin, not \"nobody\""), "{word}");
        assert!(wrong("pack-cache-bytes = -1").contains("pack-cache-bytes"), "negative");
        assert!(wrong("pack-cache-bytes = 99999999999999999999999999999999999999999").contains("too large"));
    }

    #[test]
    fn what_is_no_toml_is_told_with_its_place_and_never_a_panic() {
        assert!(wrong("demo = true\ndemo = true\n").starts_with("s.toml:2:1: "), "twice");
        assert!(wrong("demo").starts_with("s.toml:1:"), "no value");
        for text in
            ["=", "[", "\"", "a.b.c = 1", "demo = [[[[[[", "\u{feff}demo = 1", "demo = 0x", "data-dir.x = 1", "\0"]
        {
            assert!(wrong(text).starts_with("s.toml:"), "{text:?}");
        }
        let deep = format!("demo = {}", "[".repeat(100_000));
        assert!(wrong(&deep).starts_with("s.toml:1:"));
        let dir = tempfile::tempdir().unwrap();
        assert!(read(dir.path(), &serve_command()).is_err(), "a folder");
        assert!(read(&dir.path().join("absent"), &serve_command()).unwrap_err().contains("absent"));
        std::fs::write(dir.path().join("latin"), b"\n# \xe9").unwrap();
        let latin = read(&dir.path().join("latin"), &serve_command()).unwrap_err();
        assert!(latin.contains("latin:2: this is not UTF-8"), "{latin}");
    }

    /// The example file: every key, with what its flag's help says and its default as a comment.
    fn example_file() -> String {
        let mut text = "\
# Settings of `imagehub serve --config FILE`. Every key is a flag of the same name, and a flag
# (--data-dir) comes before its variable (IMAGEHUB_DATA_DIR), that before this file, that before
# the default. Here are all keys with their defaults: take the # away from what you change.
# Relative paths begin at the folder that the server is started in.
"
        .to_owned();
        let mut heading = None;
        let serve = serve_command();
        for flag in keys(&serve) {
            if flag.get_help_heading() != heading {
                heading = flag.get_help_heading();
                let _ = write!(text, "\n# --- {}\n", heading.unwrap_or_default());
            }
            let values = flag.get_possible_values();
            let help = flag.get_help().map(ToString::to_string).unwrap_or_default();
            let of = if values.is_empty() || is_switch(flag) {
                String::new()
            } else {
                let names: Vec<&str> = values.iter().map(clap::builder::PossibleValue::get_name).collect();
                format!(": {}", names.join(" or "))
            };
            let default = flag.get_default_values().first().map(|value| value.to_string_lossy().into_owned());
            let default = match default {
                _ if is_switch(flag) => "false".to_owned(),
                Some(number) if is_number(flag) => number,
                Some(string) => format!("{string:?}"),
                None => "\"\"".to_owned(),
            };
            let key = flag.get_long().unwrap_or_default();
            let _ = write!(text, "\n# {help}{of}\n#{key} = {default}\n");
        }
        text
    }

    #[test]
    fn the_example_has_every_key_with_its_default() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/imagehub.toml");
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let wanted = example_file();
        assert!(text == wanted, "{} has to be:\n{wanted}", path.display());
        // As it is, and with every comment of a key taken away, it is a file that is taken.
        assert_eq!(parse(&text, &serve_command()).unwrap(), Settings::default());
        let is_key = |line: &str| line.starts_with('#') && !line.starts_with("# ") && !line.ends_with("\"\"");
        let lines = text.lines().map(|line| if is_key(line) { &line[1..] } else { line });
        let whole = parse(&lines.collect::<Vec<_>>().join("\n"), &serve_command()).unwrap();
        let without_default = text.lines().filter(|line| line.ends_with("\"\"")).count();
        assert!(whole.words.len() + without_default + 3 > keys(&serve_command()).count(), "{whole:?}");
    }
}
