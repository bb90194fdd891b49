//! An image as it is read under clean names.

use std::borrow::Cow;
use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::api::{Action, ImageName, ImageType};
use crate::graph::{Field, ImageHead, Record};

/// How old data spells an architecture that nobody knows.
const UNKNOWN_ARCHITECTURE: &str = "Unkonw";

/// The longest address of an icon that a page is told to load, in bytes.
const ICON_URL_BYTES: usize = 2048;

/// An image's record, read field by field.
#[derive(Debug, Clone, Copy)]
pub struct ImageView<'a> {
    record: &'a Record,
    head: ImageHead<'a>,
}

/// Something that can be done with an image.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are described in the schema")]
pub struct ActionView {
    pub key: String,
    pub name: Option<String>,
    pub action_type: Option<String>,
    pub template: Option<String>,
    pub command: Option<String>,
}

impl ActionView {
    /// How many bytes its text has.
    #[must_use]
    pub fn size(&self) -> usize {
        let more = [&self.name, &self.action_type, &self.template, &self.command];
        more.into_iter().flatten().map(String::len).sum::<usize>() + self.key.len()
    }
}

#[derive(Deserialize)]
struct Rest<'a> {
    #[serde(borrow)]
    spec: RestSpec<'a>,
}

#[derive(Deserialize)]
struct RestSpec<'a> {
    #[serde(borrow, default)]
    detail: Option<RestDetail<'a>>,
}

#[derive(Deserialize, Default)]
struct RestDetail<'a> {
    #[serde(borrow, default)]
    url: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    actions: Option<&'a RawValue>,
}

impl<'a> ImageView<'a> {
    /// The image that `record` is; `None` for another kind's.
    #[must_use]
    pub fn of(record: &'a Record) -> Option<Self> {
        Some(Self { record, head: record.image()? })
    }

    /// `org/repo:tag`.
    #[must_use]
    pub fn name(&self) -> &'a str {
        self.head.name()
    }

    /// What kind of image it is.
    #[must_use]
    pub fn image_type(&self) -> Option<ImageType> {
        self.parse(Field::Type)
    }

    /// The keywords as written.
    #[must_use]
    pub fn keywords(&self) -> Vec<String> {
        self.parse(Field::Keywords).unwrap_or_default()
    }

    /// A sentence or two.
    #[must_use]
    pub fn description(&self) -> Option<String> {
        self.text(Field::Description)
    }

    /// The address of an icon, as written.
    #[must_use]
    pub fn icon(&self) -> Option<String> {
        self.text(Field::Icon)
    }

    /// The same where a page may load it: an absolute address of http or https.
    #[must_use]
    pub fn icon_url(&self) -> Option<String> {
        let icon = self.icon().filter(|icon| icon.len() <= ICON_URL_BYTES)?;
        let uri: http::Uri = icon.parse().ok()?;
        (matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty()))
            .then_some(icon)
    }

    /// The documentation, Markdown.
    #[must_use]
    pub fn docs(&self) -> Option<String> {
        self.text(Field::Docs)
    }

    /// The image's ID, a digest.
    #[must_use]
    pub fn image_id(&self) -> Option<String> {
        self.text(Field::Id)
    }

    /// What it is built for; `None` where that isn't known, however that is spelled.
    #[must_use]
    pub fn architecture(&self) -> Option<String> {
        let text = self.text(Field::Arch)?;
        let text = text.trim();
        (!text.is_empty() && !text.eq_ignore_ascii_case(UNKNOWN_ARCHITECTURE)).then(|| text.to_owned())
    }

    /// Its size in bytes; `None` for the default, 0.
    #[must_use]
    pub fn size(&self) -> Option<i64> {
        Some(self.head.size()).filter(|size| *size > 0)
    }

    /// When it was built; `None` for the default, 1970.
    #[must_use]
    pub fn created_at(&self) -> Option<Timestamp> {
        Timestamp::from_millisecond(self.head.built_ms()?).ok()
    }

    /// The project's home page, as written.
    #[must_use]
    pub fn url(&self) -> Option<String> {
        self.rest().url.map(Cow::into_owned).filter(|url| !url.is_empty())
    }

    /// What can be done with it, in order of the keys.
    #[must_use]
    pub fn actions(&self) -> Vec<ActionView> {
        let actions: Option<BTreeMap<String, Action>> =
            self.rest().actions.and_then(|raw| serde_json::from_str(raw.get()).ok());
        let clean = |(key, action): (String, Action)| ActionView {
            key,
            name: action.name,
            action_type: action.action_type,
            template: action.actions,
            command: action.cmd,
        };
        actions.unwrap_or_default().into_iter().map(clean).collect()
    }

    /// What a terminal runs it with; `None` for what isn't run on a cluster, and for names that a shell could mistake.
    #[must_use]
    pub fn run_command(&self) -> Option<String> {
        let name = ImageName::parse(self.head.name()).ok()?;
        (self.image_type() != Some(ImageType::CloudImage)).then(|| format!("sealos run {name}"))
    }

    /// What a terminal fetches it with; `None` for names that a shell could mistake.
    #[must_use]
    pub fn pull_command(&self) -> Option<String> {
        Some(format!("sealos pull {}", ImageName::parse(self.head.name()).ok()?))
    }

    fn rest(&self) -> RestDetail<'a> {
        let rest: Option<Rest<'a>> = serde_json::from_slice(self.record.json()).ok();
        rest.and_then(|rest| rest.spec.detail).unwrap_or_default()
    }

    fn parse<T: DeserializeOwned>(&self, field: Field) -> Option<T> {
        serde_json::from_slice(self.record.field(field)?).ok()
    }

    /// Empty is as good as absent.
    fn text(&self, field: Field) -> Option<String> {
        self.parse::<String>(field).filter(|text| !text.is_empty())
    }
}
