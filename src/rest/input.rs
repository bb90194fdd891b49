//! What clients write. Syntax is 400; what is readable and not as it should be is 422, all of it told at once, each with
//! its place.

use std::collections::HashSet;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::problem::Problem;
use crate::api::decode::{MAX_REPORTED, parse_json, parse_yaml};
use crate::api::{self, DataPackSpec, ImageName, RepositoryName, split_image_name};
use crate::model::{ActionView, ErrorCode, Fault, ImageChange, Set, sort};

/// What is read of an image and not written: it may be sent back, and counts for nothing.
const READ_ONLY_IMAGE: [&str; 12] = [
    "organization",
    "repository",
    "tag",
    "resourceName",
    "version",
    "iconUrl",
    "docsBytes",
    "publishedAt",
    "updatedAt",
    "runCommand",
    "pullCommand",
    "matchedImage",
];
/// The same of a repository.
const READ_ONLY_REPOSITORY: [&str; 8] =
    ["organization", "version", "downloadCount", "keywords", "tagCount", "updatedAt", "latestImage", "matchedImage"];
/// The same of an organization.
const READ_ONLY_ORGANIZATION: [&str; 3] = ["version", "creator", "repositoryCount"];

/// The longest name that is looked for, in characters: what is longer is none.
const LONGEST_NAME: usize = 1024;

/// What a body is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Json,
    MergePatch,
    NdJson,
    Yaml,
}

/// The form of a body, one of `wanted`.
pub(super) fn form(headers: &HeaderMap, wanted: &[Form]) -> Result<Form, Problem> {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mime = value.parse::<mime::Mime>().ok();
    let utf8 = |mime: &mime::Mime| mime.get_param(mime::CHARSET).is_none_or(|charset| charset == mime::UTF_8);
    let form = mime.filter(utf8).and_then(|mime| match mime.essence_str() {
        "application/json" => Some(Form::Json),
        "application/merge-patch+json" => Some(Form::MergePatch),
        "application/x-ndjson" => Some(Form::NdJson),
        "application/yaml" | "application/x-yaml" | "text/yaml" => Some(Form::Yaml),
        _ => None,
    });
    form.filter(|form| wanted.contains(form)).ok_or_else(|| {
        let wanted: Vec<&str> = wanted.iter().map(|form| form.media()).collect();
        let detail = format!("the body's Content-Type must be {}", wanted.join(", "));
        Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, ErrorCode::Invalid, detail)
    })
}

impl Form {
    pub(super) fn media(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::MergePatch => "application/merge-patch+json",
            Self::NdJson => "application/x-ndjson",
            Self::Yaml => "application/yaml",
        }
    }
}

/// A JSON value, no field of which is there twice.
pub(super) fn json(bytes: &[u8]) -> Result<Value, Problem> {
    single(parse_json(bytes).map_err(|error| Problem::unreadable(error.to_string()))?)
}

/// The same of a YAML document.
pub(super) fn yaml(bytes: &[u8]) -> Result<Value, Problem> {
    single(parse_yaml(bytes).map_err(|error| Problem::unreadable(error.to_string()))?)
}

fn single((value, duplicates): (Value, Vec<String>)) -> Result<Value, Problem> {
    match duplicates.first() {
        None => Ok(value),
        Some(twice) => Err(Problem::unreadable(format!("the field {twice} is there twice"))),
    }
}

/// The fields of an object that is read, and what was wrong with them.
pub(super) struct Fields {
    left: Map<String, Value>,
    at: Vec<String>,
    faults: Vec<Fault>,
}

impl Fields {
    pub(super) fn of(value: Value, at: &[String]) -> Result<Self, Fault> {
        match value {
            Value::Object(left) => Ok(Self { left, at: at.to_vec(), faults: Vec::new() }),
            other => {
                let message = format!("it is {}; it must be an object", sort(&other));
                Err(Fault::new(ErrorCode::Invalid, message).at(at.to_vec()))
            }
        }
    }

    fn fault(&mut self, path: &[&str], message: String) {
        if self.faults.len() >= MAX_REPORTED {
            return;
        }
        let at = self.at.iter().cloned().chain(path.iter().map(|part| (*part).to_owned()));
        self.faults.push(Fault::new(ErrorCode::Invalid, message).at(at.collect::<Vec<_>>()));
    }

    fn wanted(&mut self, name: &str, value: &Value, wanted: &str) {
        self.fault(&[name], format!("{name} is {}; it must be {wanted}", sort(value)));
    }

    fn take<T>(&mut self, name: &str, wanted: &str, read: impl FnOnce(&Value) -> Option<T>) -> Set<T> {
        let value = match self.left.remove(name) {
            None => return Set::Keep,
            Some(Value::Null) => return Set::Clear,
            Some(value) => value,
        };
        if let Some(read) = read(&value) {
            return Set::To(read);
        }
        self.wanted(name, &value, wanted);
        Set::Keep
    }

    pub(super) fn text(&mut self, name: &str) -> Set<String> {
        self.take(name, "a string", |value| value.as_str().map(str::to_owned))
    }

    pub(super) fn flag(&mut self, name: &str) -> Set<bool> {
        self.take(name, "true or false", Value::as_bool)
    }

    fn number(&mut self, name: &str) -> Set<i64> {
        self.take(name, "a whole number", |value| {
            // 5.0 is 5, as JSON has no other numbers.
            #[expect(clippy::cast_possible_truncation, reason = "it is whole, and within what a float holds exactly")]
            let whole =
                |float: f64| (float.fract() == 0.0 && float.abs() <= 9_007_199_254_740_991.0).then_some(float as i64);
            value.as_i64().or_else(|| value.as_f64().and_then(whole))
        })
    }

    fn time(&mut self, name: &str) -> Set<String> {
        let text = match self.text(name) {
            Set::To(text) => text,
            other => return other,
        };
        if let Ok(at) = text.parse::<Timestamp>() {
            return Set::To(at.to_string());
        }
        self.fault(&[name], format!("{name} must be a time of RFC 3339, as in 2024-05-01T12:00:00Z"));
        Set::Keep
    }

    fn word<T: Copy>(&mut self, name: &str, words: &[(&str, T)]) -> Set<T> {
        let text = match self.text(name) {
            Set::To(text) => text,
            Set::Keep => return Set::Keep,
            Set::Clear => return Set::Clear,
        };
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Set::To(*value);
        }
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        self.fault(&[name], format!("{name} must be one of {}", known.join(", ")));
        Set::Keep
    }

    pub(super) fn texts(&mut self, name: &str) -> Set<Vec<String>> {
        let items = match self.take(name, "a list of strings", |value| value.as_array().cloned()) {
            Set::To(items) => items,
            Set::Keep => return Set::Keep,
            Set::Clear => return Set::Clear,
        };
        let mut texts = Vec::with_capacity(items.len());
        for (i, item) in items.into_iter().enumerate() {
            if let Value::String(text) = item {
                texts.push(text);
            } else {
                self.fault(&[name, &i.to_string()], format!("it is {}; it must be a string", sort(&item)));
                // In its place, so that the others keep theirs.
                texts.push(String::new());
            }
        }
        Set::To(texts)
    }

    fn actions(&mut self) -> Set<Vec<ActionView>> {
        const NAME: &str = "actions";
        let items = match self.take(NAME, "a list", |value| value.as_array().cloned()) {
            Set::To(items) => items,
            Set::Keep => return Set::Keep,
            Set::Clear => return Set::Clear,
        };
        let (mut all, mut keys) = (Vec::with_capacity(items.len()), HashSet::new());
        for (i, item) in items.into_iter().enumerate() {
            if self.faults.len() >= MAX_REPORTED {
                break;
            }
            let at: Vec<String> = self.at.iter().cloned().chain([NAME.to_owned(), i.to_string()]).collect();
            let mut action = match Self::of(item, &at) {
                Ok(action) => action,
                Err(fault) => {
                    self.faults.push(fault);
                    continue;
                }
            };
            let key = action.required("key");
            if !keys.insert(key.clone()) {
                action.fault(&["key"], "two actions have this key".to_owned());
            }
            let mut text = |name: &str| match action.text(name) {
                Set::To(text) => Some(text),
                Set::Keep | Set::Clear => None,
            };
            let (name, action_type) = (text("name"), text("type"));
            let (template, command) = (text("template"), text("command"));
            all.push(ActionView { key, name, action_type, template, command });
            self.faults.extend(action.rest(&[]));
        }
        Set::To(all)
    }

    fn required(&mut self, name: &str) -> String {
        match self.text(name) {
            Set::To(text) => text,
            Set::Keep | Set::Clear => {
                if !self.faults.iter().any(|fault| fault.path.last().is_some_and(|last| last == name)) {
                    self.fault(&[name], format!("{name} is required"));
                }
                String::new()
            }
        }
    }

    /// The name, if it is said, must be the path's.
    fn name_is(&mut self, wanted: &str) {
        if let Set::To(name) = self.text("name")
            && name != wanted
        {
            self.fault(&["name"], format!("name is {name:?}, and the path's is {wanted:?}"));
        }
    }

    /// What was wrong, with what is left over, but for `ignored`.
    pub(super) fn rest(mut self, ignored: &[&str]) -> Vec<Fault> {
        let unknown: Vec<String> = self.left.keys().filter(|name| !ignored.contains(&name.as_str())).cloned().collect();
        for name in unknown {
            self.fault(&[&name], "there is no such field".to_owned());
        }
        self.faults
    }
}

fn fit(faults: Vec<Fault>) -> Result<(), Vec<Fault>> {
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

const TYPES: [(&str, api::ImageType); 2] =
    [("CLOUD_IMAGE", api::ImageType::CloudImage), ("CLUSTER_IMAGE", api::ImageType::ClusterImage)];
const GRAINS: [(&str, api::Grain); 3] =
    [("BASE", api::Grain::Base), ("GRID", api::Grain::Grid), ("DETAIL", api::Grain::Detail)];

/// The kind of image that a word of a query names; `None` for the empty one.
pub(super) fn image_type(word: &str) -> Option<api::ImageType> {
    TYPES.iter().find(|(name, _)| *name == word).map(|(_, value)| *value)
}

fn change(name: ImageName, fields: &mut Fields) -> ImageChange {
    ImageChange {
        name,
        image_type: fields.word("type", &TYPES),
        keywords: fields.texts("keywords"),
        description: fields.text("description"),
        icon: fields.text("icon"),
        docs: fields.text("docs"),
        url: fields.text("url"),
        image_id: fields.text("imageId"),
        architecture: fields.text("architecture"),
        size: fields.number("size"),
        created_at: fields.time("createdAt"),
        actions: fields.actions(),
    }
}

/// What a body says of the image `name`.
pub(super) fn image(name: ImageName, body: Value) -> Result<ImageChange, Vec<Fault>> {
    let mut fields = Fields::of(body, &[]).map_err(|fault| vec![fault])?;
    fields.name_is(name.as_str());
    let change = change(name, &mut fields);
    fit(fields.rest(&READ_ONLY_IMAGE))?;
    Ok(change)
}

/// What an item of many says of an image, and the version that it must be at.
pub(super) fn named_image(body: Value) -> Result<(ImageChange, Option<String>), Vec<Fault>> {
    let mut fields = Fields::of(body, &[]).map_err(|fault| vec![fault])?;
    let name = fields.required("name");
    let version = match fields.text("ifVersion") {
        Set::To(version) => Some(version),
        Set::Keep | Set::Clear => None,
    };
    let name = match image_name(&name) {
        Ok(name) => name,
        Err(fault) => {
            let mut faults = fields.rest(&[]);
            faults.retain(|fault| fault.path.first().is_some_and(|first| first == "name"));
            // Where it is there, and no name.
            if faults.is_empty() {
                faults.push(fault);
            }
            return Err(faults);
        }
    };
    let change = change(name, &mut fields);
    fit(fields.rest(&READ_ONLY_IMAGE))?;
    Ok((change, version))
}

/// The name of an image that is written, with a hint for the commonest fault.
pub(super) fn image_name(name: &str) -> Result<ImageName, Fault> {
    ImageName::parse(name).map_err(|error| {
        let hint = name.contains('+').then(|| "a + is no part of a tag: write _ in its place".to_owned());
        Fault { hint, ..Fault::new(ErrorCode::Invalid, error.to_string()).at(["name"]) }
    })
}

/// The name of a repository that is written.
pub(super) fn repository_name(name: &str) -> Result<RepositoryName, Fault> {
    RepositoryName::parse(name).map_err(|error| Fault::new(ErrorCode::Invalid, error.to_string()).at(["name"]))
}

/// Whether the repository `name` is to be private.
pub(super) fn repository(name: &str, body: Value, whole: bool) -> Result<Option<bool>, Vec<Fault>> {
    let mut fields = Fields::of(body, &[]).map_err(|fault| vec![fault])?;
    fields.name_is(name);
    let private = fields.flag("isPrivate");
    // Left out it would make a private repository public.
    if whole && private == Set::Keep && fields.faults.is_empty() {
        fields.fault(&["isPrivate"], "isPrivate is required".to_owned());
    }
    if private == Set::Clear {
        fields.fault(&["isPrivate"], "isPrivate is null; it must be true or false".to_owned());
    }
    fit(fields.rest(&READ_ONLY_REPOSITORY))?;
    Ok(if let Set::To(private) = private { Some(private) } else { None })
}

/// The managers that the organization `name` is to have; `None`: those that it has.
pub(super) fn organization(name: &str, body: Value, whole: bool) -> Result<Option<Vec<String>>, Vec<Fault>> {
    let mut fields = Fields::of(body, &[]).map_err(|fault| vec![fault])?;
    fields.name_is(name);
    let managers = fields.texts("managers");
    fit(fields.rest(&READ_ONLY_ORGANIZATION))?;
    Ok(match managers {
        Set::To(managers) => Some(managers),
        Set::Clear => Some(Vec::new()),
        Set::Keep => whole.then(Vec::new),
    })
}

/// What a pack is to have.
pub(super) fn pack(body: Value) -> Result<DataPackSpec, Vec<Fault>> {
    let mut fields = Fields::of(body, &[]).map_err(|fault| vec![fault])?;
    let names = names(&mut fields);
    let grain = match fields.word("grain", &GRAINS) {
        Set::To(grain) => Some(grain),
        Set::Keep | Set::Clear => None,
    };
    let expire_time = match fields.text("expireTime") {
        Set::To(time) => Some(time),
        Set::Keep | Set::Clear => None,
    };
    fit(fields.rest(&[]))?;
    Ok(DataPackSpec { grain, names: Some(names), expire_time })
}

fn names(fields: &mut Fields) -> Vec<String> {
    match fields.texts("names") {
        Set::To(names) => names,
        Set::Keep | Set::Clear => {
            if fields.faults.is_empty() {
                fields.fault(&["names"], "names is required".to_owned());
            }
            Vec::new()
        }
    }
}

/// The names that are to be looked up. Those from before today's rules are still asked for.
pub(super) fn resolve(body: Value) -> Result<Vec<String>, Vec<Fault>> {
    let mut fields = Fields::of(body, &[]).map_err(|fault| vec![fault])?;
    let names = names(&mut fields);
    let most = api::validate::MAX_PACK_NAMES;
    if names.len() > most {
        let message = format!("{} names are asked for; {most} is the most (limit: names)", names.len());
        return Err(vec![Fault::new(ErrorCode::LimitExceeded, message).at(["names"])]);
    }
    let told: HashSet<String> = fields.faults.iter().filter_map(|fault| fault.path.last().cloned()).collect();
    for (i, name) in names.iter().enumerate() {
        let (at, old) = (i.to_string(), || split_image_name(name).is_some() && name.chars().count() <= LONGEST_NAME);
        if let Err(error) = ImageName::parse(name)
            && !old()
            && !told.contains(&at)
        {
            fields.fault(&["names", &at], error.to_string());
        }
    }
    fields.faults.truncate(api::validate::MAX_NAME_ERRORS);
    fit(fields.rest(&[]))?;
    Ok(names)
}
