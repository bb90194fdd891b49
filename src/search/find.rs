//! Finding: which rows match, how many, how they are spread, and the page of them that is asked for.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::sync::Arc;

use super::inverted::{Match, Scope};
use super::query::{
    Cursor, Facet, Facets, Filter, Hit, Hits, MAX_FACET_VALUES, MAX_LIMIT, Order, OrderField, Query, Rank,
};
use super::rows::{Numbered, Row, UNSET};
use super::view::View;
use super::words::{Likeness, Text};
use super::{Published, Search};
use crate::api::{ImageType, SUPPORTED_KEYWORDS};
use crate::error::Error;
use crate::graph::{Record, Revision, Visible};

/// The types, and the absence of one, in the order of their counts.
const TYPES: [Option<ImageType>; 3] = [None, Some(ImageType::CloudImage), Some(ImageType::ClusterImage)];

/// What a filter refuses a row for: bits.
mod refused {
    pub(super) const ORGANIZATION: u8 = 1;
    pub(super) const TYPE: u8 = 1 << 1;
    pub(super) const ARCHITECTURE: u8 = 1 << 2;
    pub(super) const OTHERWISE: u8 = 1 << 3;
}

impl Search {
    /// What of `visible` is found by `query`. It takes a processor's time, in proportion to the number of rows.
    ///
    /// # Errors
    /// [`Error::BadRequest`] for a cursor of another query and for a filter that is too large,
    /// [`Error::Unavailable`] while the search is being filled or too far behind.
    pub fn find(&self, visible: &Visible, query: &Query) -> Result<Hits, Error> {
        let binding = query.check(visible.sight())?;
        let published = self.published.load_full();
        let indexed = published.indexed(visible)?;
        let view = View::new(&published.table, indexed, visible)?;
        let mut tally = Tally::new(&view, query);
        let mut forgiven = false;
        match &query.text {
            None => view.all().for_each(|row| tally.add(row, 0)),
            Some(text) => {
                let all = [Scope::All, Scope::AllForgiving];
                forgiven = best(&published, &view, visible, text, all, |row, score| tally.add(row, score))?;
            }
        }
        Ok(tally.answer(visible, binding, indexed, forgiven))
    }
}

/// Tells each row that the caller sees and that matches `text`, with its score: first as it is written, and where
/// nothing that the caller sees does, with typos forgiven; answers whether it was the latter.
pub(super) fn best<'v>(
    published: &Published,
    view: &'v View<'_>,
    visible: &Visible,
    text: &Text,
    scopes: [Scope; 2],
    mut each: impl FnMut(&'v Row, u32),
) -> Result<bool, Error> {
    for (scope, forgiven) in scopes.into_iter().zip([false, true]) {
        let mut any = false;
        for found in published.inverted.find(text, scope).map_err(Error::internal)? {
            // What was hidden when its words were read is found by its name until they are read again.
            if let Some(row) = view.get(found.row).filter(|_| found.named || view.showed(found.row)) {
                any = true;
                each(row, score(visible, text, row, found));
            }
        }
        if any {
            return Ok(forgiven);
        }
    }
    Ok(false)
}

/// How good a match is: how much of the name the text is, then whether the tag is there, then where the words are.
fn score(visible: &Visible, text: &Text, row: &Row, found: Match) -> u32 {
    const TAG: u32 = 1 << 13;
    let likeness = if found.named { text.likeness(&row.name) } else { Likeness::Words };
    let mut score = u32::from(found.score) + ((likeness as u32) << 16);
    if likeness >= Likeness::ButForSeparators && text.tag().is_some() {
        score += match matched_image(visible, text, &row.name) {
            Some((_, true)) => 2 * TAG,
            Some((_, false)) => TAG,
            None => 0,
        };
    }
    score
}

/// The image of a repository whose tag the text names, and whether it names all of it: else the newest whose tag
/// begins so.
fn matched_image(visible: &Visible, text: &Text, repository: &str) -> Option<(Arc<Record>, bool)> {
    let tag = text.tag()?;
    let begins = |image: &&Arc<Record>| {
        let own = image.image().and_then(|image| image.tag().as_bytes().get(..tag.len()));
        own.is_some_and(|own| own.eq_ignore_ascii_case(tag.as_bytes()))
    };
    let whole = |image: &&Arc<Record>| image.image().is_some_and(|image| image.tag().len() == tag.len());
    let images = || visible.tags(repository).iter().filter(begins);
    let exact = images().find(whole);
    exact.map(|image| (Arc::clone(image), true)).or_else(|| images().next().map(|image| (Arc::clone(image), false)))
}

/// A filter, with numbers in the place of names.
struct Wanted<'a> {
    names: Option<HashSet<&'a str>>,
    organizations: Option<Vec<bool>>,
    /// `None` where one is asked for that no repository can have.
    keywords: Option<u16>,
    types: Option<[bool; 3]>,
    architectures: Option<(Vec<bool>, bool)>,
    filter: &'a Filter,
}

impl<'a> Wanted<'a> {
    fn new(view: &View<'_>, filter: &'a Filter) -> Self {
        let marks = |values: &Numbered, names: &mut dyn Iterator<Item = &String>| {
            let mut marks = vec![false; values.len()];
            for number in names.filter_map(|name| values.find(name)) {
                marks[number as usize] = true;
            }
            marks
        };
        let bit = |keyword: &String| SUPPORTED_KEYWORDS.iter().position(|k| k == keyword).map(|at| 1_u16 << at);
        let values = &view.values;
        Self {
            names: filter.name_set(),
            organizations: filter.organizations.as_ref().map(|names| marks(&values.organizations, &mut names.iter())),
            keywords: filter.keywords.iter().map(bit).try_fold(0, |bits, bit| Some(bits | bit?)),
            types: filter.types.as_ref().map(|types| TYPES.map(|t| types.contains(&t))),
            architectures: filter
                .architectures
                .as_ref()
                .map(|names| (marks(&values.architectures, &mut names.iter().flatten()), names.contains(&None))),
            filter,
        }
    }

    /// What a row is refused for.
    fn refuses(&self, view: &View<'_>, row: &Row) -> u8 {
        let mut bits = 0;
        if self.organizations.as_ref().is_some_and(|wanted| !wanted[row.organization as usize]) {
            bits |= refused::ORGANIZATION;
        }
        if self.types.is_some_and(|wanted| !wanted[type_number(row)]) {
            bits |= refused::TYPE;
        }
        if let Some((wanted, unset)) = &self.architectures {
            let fits = if row.architecture == UNSET { *unset } else { wanted[row.architecture as usize] };
            if !fits {
                bits |= refused::ARCHITECTURE;
            }
        }
        let filter = self.filter;
        let otherwise = self.keywords.is_none_or(|wanted| row.keywords & wanted != wanted)
            || filter.is_private.is_some_and(|wanted| row.private != wanted)
            || filter.updated_since_ms.is_some_and(|since| row.updated_ms < since)
            || filter.managed_by.as_ref().is_some_and(|(who, wanted)| view.names(row.organization, who) != *wanted)
            || self.names.as_ref().is_some_and(|names| !names.contains(&*row.name));
        if otherwise { bits | refused::OTHERWISE } else { bits }
    }
}

fn type_number(row: &Row) -> usize {
    match row.image_type {
        None => 0,
        Some(ImageType::CloudImage) => 1,
        Some(ImageType::ClusterImage) => 2,
    }
}

/// What one pass over the rows counts and keeps.
struct Tally<'v, 'q> {
    view: &'v View<'v>,
    query: &'q Query,
    wanted: Wanted<'q>,
    limit: usize,
    total: usize,
    /// Hits before the page's `after`, between, and after its `before`.
    ranges: [usize; 3],
    organizations: Vec<usize>,
    architectures: Vec<usize>,
    unset_architecture: usize,
    types: [usize; 3],
    keywords: [usize; SUPPORTED_KEYWORDS.len()],
    /// The best so far; more than the limit only until they are sorted again.
    best: Vec<Rank<'v>>,
    /// What is not better than this is not among the best.
    worst: Option<Rank<'v>>,
}

impl<'v, 'q> Tally<'v, 'q> {
    fn new(view: &'v View<'v>, query: &'q Query) -> Self {
        Self {
            view,
            query,
            wanted: Wanted::new(view, &query.filter),
            limit: query.page.limit.min(MAX_LIMIT),
            total: 0,
            ranges: [0; 3],
            organizations: vec![0; view.values.organizations.len()],
            architectures: vec![0; view.values.architectures.len()],
            unset_architecture: 0,
            types: [0; 3],
            keywords: [0; SUPPORTED_KEYWORDS.len()],
            best: Vec::new(),
            worst: None,
        }
    }

    fn add(&mut self, row: &'v Row, score: u32) {
        let bits = self.wanted.refuses(self.view, row);
        if bits & !refused::ORGANIZATION == 0 {
            self.organizations[row.organization as usize] += 1;
        }
        if bits & !refused::TYPE == 0 {
            self.types[type_number(row)] += 1;
        }
        if bits & !refused::ARCHITECTURE == 0 {
            match row.architecture {
                UNSET => self.unset_architecture += 1,
                number => self.architectures[number as usize] += 1,
            }
        }
        if bits != 0 {
            return;
        }
        let mut keywords = row.keywords;
        while keywords != 0 {
            self.keywords[keywords.trailing_zeros() as usize] += 1;
            keywords &= keywords - 1;
        }
        self.total += 1;
        self.rank(rank(self.query.order, row, score));
    }

    /// Keeps a hit if it is among the best of the page.
    fn rank(&mut self, rank: Rank<'v>) {
        let page = &self.query.page;
        let range = if page.after.as_ref().is_some_and(|after| self.compare(&rank, &at(after)).is_le()) {
            0
        } else if page.before.as_ref().is_some_and(|before| self.compare(&rank, &at(before)).is_ge()) {
            2
        } else {
            1
        };
        self.ranges[range] += 1;
        if range != 1 || self.limit == 0 || self.worst.is_some_and(|worst| self.preferred(&rank, &worst).is_ge()) {
            return;
        }
        self.best.push(rank);
        if self.best.len() >= self.limit * 2 {
            self.shorten();
        }
    }

    /// Leaves only as many of the best as the page takes.
    fn shorten(&mut self) {
        let mut best = std::mem::take(&mut self.best);
        best.sort_unstable_by(|a, b| self.preferred(a, b));
        best.truncate(self.limit);
        self.worst = (best.len() == self.limit).then(|| best.last().copied()).flatten();
        self.best = best;
    }

    fn compare(&self, a: &Rank<'_>, b: &Rank<'_>) -> Ordering {
        let order = self.query.order;
        a.compare(b, order.field == OrderField::Name && order.descending)
    }

    /// The order in which the page takes hits: from its end where it is the last ones.
    fn preferred(&self, a: &Rank<'_>, b: &Rank<'_>) -> Ordering {
        let order = self.compare(a, b);
        if self.query.page.last { order.reverse() } else { order }
    }

    fn answer(mut self, visible: &Visible, binding: [u8; 8], indexed: Revision, forgiven: bool) -> Hits {
        self.shorten();
        let mut best = std::mem::take(&mut self.best);
        best.sort_unstable_by(|a, b| self.compare(a, b));
        let page = &self.query.page;
        let [before, between, after] = self.ranges;
        let left = between > best.len();
        let hit = |rank: &Rank<'_>| {
            let text = self.query.text.as_ref();
            Some(Hit {
                repository: Arc::clone(visible.repository(rank.name)?),
                matched_image: text.and_then(|text| matched_image(visible, text, rank.name)).map(|(image, _)| image),
                cursor: Cursor::new(rank.first, rank.second, Arc::clone(rank.name), binding),
            })
        };
        Hits {
            total: self.total,
            hits: best.iter().filter_map(hit).collect(),
            has_next: after > 0 || (!page.last && left),
            has_previous: before > 0 || (page.last && left),
            facets: self.facets(),
            indexed,
            forgiven,
        }
    }

    fn facets(&self) -> Facets {
        let filter = &self.query.filter;
        let limit = self.query.facet_values.min(MAX_FACET_VALUES);
        let numbered = |values: &Numbered, counts: &[usize]| -> Vec<(Option<Arc<str>>, usize)> {
            let counted = (0_u32..).zip(counts).filter(|(_, count)| **count > 0);
            counted.map(|(number, count)| (Some(Arc::clone(values.name(number))), *count)).collect()
        };
        let some = |name: &String| Some(Arc::from(name.as_str()));
        let values = &self.view.values;
        let organizations = numbered(&values.organizations, &self.organizations);
        let mut architectures = numbered(&values.architectures, &self.architectures);
        architectures.push((None, self.unset_architecture));
        let keywords = SUPPORTED_KEYWORDS.iter().zip(self.keywords).map(|(name, count)| (Some((*name).into()), count));
        let types = TYPES.into_iter().zip(self.types).map(|(t, count)| (t.map(type_name), count));
        let chosen_architectures = filter.architectures.iter().flatten();
        Facets {
            organizations: facet(organizations, filter.organizations.iter().flatten().map(some).collect(), limit),
            keywords: facet(keywords.collect(), filter.keywords.iter().map(some).collect(), limit),
            types: facet(types.collect(), filter.types.iter().flatten().map(|t| t.map(type_name)).collect(), limit),
            architectures: facet(
                architectures,
                chosen_architectures.map(|name| name.as_ref().and_then(some)).collect(),
                limit,
            ),
        }
    }
}

/// The most frequent of the values, and those that are filtered by, whatever their count.
fn facet(counted: Vec<(Option<Arc<str>>, usize)>, selected: Vec<Option<Arc<str>>>, limit: usize) -> Vec<Facet> {
    let mut missing: HashSet<Option<Arc<str>>> = selected.into_iter().collect();
    let mut all: Vec<Facet> = counted
        .into_iter()
        .map(|(value, count)| Facet { selected: missing.remove(&value), value, count })
        .filter(|facet| facet.count > 0 || facet.selected)
        .collect();
    all.extend(missing.into_iter().map(|value| Facet { value, count: 0, selected: true }));
    all.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.value.cmp(&b.value)));
    let mut place = 0;
    all.retain(|facet| {
        place += 1;
        place <= limit || facet.selected
    });
    all
}

fn type_name(image_type: ImageType) -> Arc<str> {
    match image_type {
        ImageType::CloudImage => "cloud-image".into(),
        ImageType::ClusterImage => "cluster-image".into(),
    }
}

/// Where a row stands. A number's complement is its reverse, at every end of its range.
pub(super) fn rank(order: Order, row: &Row, score: u32) -> Rank<'_> {
    let directed = |number: i64| if order.descending { !number } else { number };
    let (first, second) = match order.field {
        OrderField::Relevance => (!i64::from(score), !row.downloads),
        OrderField::Name => (0, 0),
        OrderField::Updated => (directed(row.updated_ms), 0),
        OrderField::Downloads => (directed(row.downloads), 0),
    };
    Rank { first, second, begins: row.begins, name: &row.name }
}

/// The place that a cursor names.
fn at(cursor: &Cursor) -> Rank<'_> {
    Rank {
        first: cursor.first,
        second: cursor.second,
        begins: super::rows::beginning(&cursor.name),
        name: &cursor.name,
    }
}
