//! What is known of each repository without a look at the graph: what is filtered, counted and sorted by. One
//! small row a repository, in an order of their own; the text is in the inverted index, under the row's number.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;

use crate::api::{ImageType, KEYWORD_LABEL_PREFIX, SUPPORTED_KEYWORDS};
use crate::graph::{Record, Revision, Visible};
use crate::model::ImageView;

/// Rows that are copied together when one of them changes.
const CHUNK: usize = 512;

/// The number that stands for "has none".
pub(super) const UNSET: u32 = u32::MAX;

/// A repository.
#[derive(Debug, Clone)]
pub(super) struct Row {
    /// Its full name.
    pub(super) name: Arc<str>,
    /// The first bytes of the name: most comparisons of names need no more.
    pub(super) begins: u128,
    pub(super) downloads: i64,
    pub(super) updated_ms: i64,
    /// The revision at which anything of it was last seen to change.
    pub(super) changed: Revision,
    /// The version of the latest image, whose text is indexed; 0 where there is none.
    pub(super) latest: Revision,
    /// Its number among the organizations.
    pub(super) organization: u32,
    /// Its number among the architectures, or [`UNSET`].
    pub(super) architecture: u32,
    /// A bit for each of the supported keywords.
    pub(super) keywords: u16,
    pub(super) image_type: Option<ImageType>,
    pub(super) private: bool,
    /// Whether it is there. One that is gone is kept for a while, for requests that read an older snapshot.
    pub(super) there: bool,
}

impl Row {
    /// What `visible` shows of a repository.
    pub(super) fn of(visible: &Visible, record: &Record, values: &mut Arc<Values>) -> Option<Self> {
        let repository = record.repository()?;
        let latest = visible.tags(repository.name()).first();
        let image = latest.and_then(|image| ImageView::of(image));
        let architecture = image.as_ref().and_then(ImageView::architecture);
        Some(Self {
            begins: beginning(repository.name()),
            downloads: repository.downloads,
            updated_ms: updated_ms(visible, record),
            changed: visible.revision(),
            latest: latest.map_or_else(Revision::default, |image| image.revision),
            organization: Values::organization(values, repository.organization()),
            architecture: architecture.map_or(UNSET, |name| Values::architecture(values, &name)),
            keywords: keywords(record),
            image_type: image.as_ref().and_then(ImageView::image_type),
            private: repository.private,
            there: true,
            name: repository.name().into(),
        })
    }
}

/// The first 16 bytes of a name, as a number of the same order.
pub(super) fn beginning(name: &str) -> u128 {
    let mut bytes = [0; 16];
    let length = name.len().min(16);
    bytes[..length].copy_from_slice(&name.as_bytes()[..length]);
    u128::from_be_bytes(bytes)
}

/// The supported keywords that a repository has: its labels, so that it is the same as a list by label.
fn keywords(record: &Record) -> u16 {
    let mut bits = 0;
    for (label, _) in record.labels() {
        let keyword = label.strip_prefix(KEYWORD_LABEL_PREFIX);
        if let Some(at) = keyword.and_then(|keyword| SUPPORTED_KEYWORDS.iter().position(|k| *k == keyword)) {
            bits |= 1 << at;
        }
    }
    bits
}

/// When a repository was made, or one of its images last written, milliseconds since 1970. That it is written itself says
/// nothing: its labels and what is announced of it follow from the images, and its downloads are counted in it.
#[must_use]
pub fn updated_ms(visible: &Visible, repository: &Record) -> i64 {
    let made = repository.created().parse().map_or(0, Timestamp::as_millisecond);
    let name = repository.repository().map_or("", |head| head.name());
    visible.tags(name).iter().map(|image| image.at_ms).fold(made, i64::max)
}

/// The text of an image that is searched, the words to be taken from it.
#[derive(Debug, Default)]
pub(super) struct ImageText {
    pub(super) keywords: Vec<String>,
    pub(super) description: String,
    pub(super) docs: String,
}

impl ImageText {
    pub(super) fn of(image: &ImageView<'_>) -> Self {
        Self {
            keywords: image.keywords(),
            description: image.description().unwrap_or_default(),
            docs: image.docs().unwrap_or_default(),
        }
    }
}

/// Values that many rows have, by number. Numbers of values that no row has any more are given out again.
#[derive(Debug, Clone, Default)]
pub(super) struct Numbered {
    names: Vec<Arc<str>>,
    rows: Vec<u32>,
    numbers: HashMap<Arc<str>, u32>,
    free: Vec<u32>,
}

impl Numbered {
    /// The number of a value, an own one from now on if need be.
    fn number(&mut self, name: &str) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let name: Arc<str> = name.into();
        let number = if let Some(number) = self.free.pop() {
            self.names[number as usize] = Arc::clone(&name);
            number
        } else {
            self.names.push(Arc::clone(&name));
            self.rows.push(0);
            u32::try_from(self.names.len() - 1).expect("there are fewer rows than 2^32")
        };
        self.numbers.insert(name, number);
        number
    }

    /// The number of a value, if a row has it.
    pub(super) fn find(&self, name: &str) -> Option<u32> {
        self.numbers.get(name).copied()
    }

    pub(super) fn name(&self, number: u32) -> &Arc<str> {
        &self.names[number as usize]
    }

    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    fn take(&mut self, number: u32) {
        if number != UNSET {
            self.rows[number as usize] += 1;
        }
    }

    fn give_back(&mut self, number: u32) {
        if number == UNSET {
            return;
        }
        self.rows[number as usize] -= 1;
        if self.rows[number as usize] == 0 {
            self.numbers.remove(&self.names[number as usize]);
            self.free.push(number);
        }
    }
}

/// The values of all rows.
#[derive(Debug, Clone, Default)]
pub(super) struct Values {
    pub(super) organizations: Numbered,
    pub(super) architectures: Numbered,
}

impl Values {
    /// The number of an organization; they are copied only where it has none yet.
    fn organization(values: &mut Arc<Self>, name: &str) -> u32 {
        let known = values.organizations.find(name);
        known.unwrap_or_else(|| Arc::make_mut(values).organizations.number(name))
    }

    /// The number of an architecture, likewise.
    fn architecture(values: &mut Arc<Self>, name: &str) -> u32 {
        let known = values.architectures.find(name);
        known.unwrap_or_else(|| Arc::make_mut(values).architectures.number(name))
    }
}

/// All rows. Cheap to clone, whatever their number.
#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    chunks: Vec<Arc<Vec<Row>>>,
    numbers: imbl::HashMap<Arc<str>, u32>,
    pub(super) values: Arc<Values>,
}

impl Table {
    pub(super) fn len(&self) -> usize {
        self.chunks.last().map_or(0, |last| (self.chunks.len() - 1) * CHUNK + last.len())
    }

    pub(super) fn get(&self, number: u32) -> Option<&Row> {
        self.chunks.get(number as usize / CHUNK)?.get(number as usize % CHUNK)
    }

    /// All rows, by their numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Row)> {
        (0..).zip(self.chunks.iter().flat_map(|chunk| chunk.iter()))
    }

    /// The row of a repository, also of one that is gone.
    pub(super) fn find(&self, name: &str) -> Option<u32> {
        self.numbers.get(name).copied()
    }

    fn slot(&mut self, number: u32) -> Option<&mut Row> {
        Arc::make_mut(self.chunks.get_mut(number as usize / CHUNK)?).get_mut(number as usize % CHUNK)
    }

    /// Puts what is known of a repository in its row, or in the row of one that is gone, `free`, or in a new one.
    /// Answers with the row, and with what was in it.
    pub(super) fn put(&mut self, row: Row, free: impl FnOnce() -> Option<u32>) -> (u32, Option<Row>) {
        let values = Arc::make_mut(&mut self.values);
        values.organizations.take(row.organization);
        values.architectures.take(row.architecture);
        if let Some(number) = self.find(&row.name).or_else(free)
            && let Some(slot) = self.slot(number)
        {
            let name = Arc::clone(&row.name);
            let old = std::mem::replace(slot, row);
            let same = old.name == name;
            if !same {
                self.numbers.remove(&old.name);
                self.numbers.insert(name, number);
            }
            self.release(&old);
            return (number, (old.there && same).then_some(old));
        }
        let number = u32::try_from(self.len()).expect("there are fewer rows than 2^32");
        self.numbers.insert(Arc::clone(&row.name), number);
        match self.chunks.last_mut().filter(|chunk| chunk.len() < CHUNK) {
            Some(chunk) => Arc::make_mut(chunk).push(row),
            None => self.chunks.push(Arc::new(vec![row])),
        }
        (number, None)
    }

    /// Notes that a repository is gone. Answers with its row, if it was there.
    pub(super) fn retire(&mut self, name: &str, at: Revision) -> Option<u32> {
        let number = self.find(name)?;
        let row = self.slot(number).filter(|row| row.there)?;
        row.there = false;
        row.changed = at;
        Some(number)
    }

    /// Gives back the values of a row that is replaced.
    fn release(&mut self, old: &Row) {
        let values = Arc::make_mut(&mut self.values);
        values.organizations.give_back(old.organization);
        values.architectures.give_back(old.architecture);
    }
}
