//! Facets: what there is to choose from in a list of repositories, and how many of each. Each leaves its own choice aside.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use super::catalog::{
    ARCHITECTURE, ORGANIZATION, RepositoryQuery, TYPE, candidates, fails, keywords_of, read_all, type_of,
};
use super::view::View;
use crate::api::{ImageType, supported_keyword};
use crate::model::{Fault, ImageView};
use crate::search;

/// What a facet is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum FacetField {
    Organization,
    Keyword,
    Type,
    Architecture,
}

/// A value to choose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facet {
    /// The value; `None` for those that have none.
    pub value: Option<String>,
    /// How many repositories of the list have it, the choice among this facet's own values left aside (but for keywords,
    /// of which all that are chosen must be there).
    pub count: usize,
    /// Whether it is chosen.
    pub selected: bool,
}

impl FacetField {
    /// The filter that its counts leave aside.
    fn aside(self) -> u8 {
        match self {
            Self::Organization => ORGANIZATION,
            Self::Keyword => 0,
            Self::Type => TYPE,
            Self::Architecture => ARCHITECTURE,
        }
    }
}

/// What there is to choose from in a list of repositories: each counts what the caller sees.
#[derive(Clone)]
pub struct Facets {
    view: View,
    query: Arc<RepositoryQuery>,
    /// Where the search has found the list, it has counted, too.
    counted: Option<Arc<search::Facets>>,
}

impl Facets {
    pub(super) fn new(view: &View, query: &Arc<RepositoryQuery>, counted: Option<search::Facets>) -> Self {
        Self { view: view.clone(), query: Arc::clone(query), counted: counted.map(Arc::new) }
    }

    /// What there is of a field: the `first` most frequent, and those that are chosen.
    #[must_use]
    pub fn of(&self, field: FacetField, first: usize) -> Vec<Facet> {
        match &self.counted {
            Some(facets) => told(facets, field, first),
            None => self.view.apart(|| facet(&self.view, &self.query, field, first)),
        }
    }

    /// Counts what is looked at for a field.
    ///
    /// # Errors
    /// As [`View::looks_at`].
    pub async fn look(&self, field: FacetField) -> Result<(), Fault> {
        if self.counted.is_some() {
            return Ok(());
        }
        self.view.looks_at(|| self.query.breadth_without(&self.view, field.aside())).await
    }
}

/// What there is of a field among the repositories of a list without a text, the most frequent first; what is chosen is
/// always there.
fn facet(view: &View, query: &RepositoryQuery, field: FacetField, first: usize) -> Vec<Facet> {
    // Only for keywords and organizations is what is left aside wider than the list.
    if query.is_wide(field.aside())
        && let Some(search) = view.searcher()
        && let Ok(hits) = search.find(view.visible(), &query.to_search(view, search::Page::default()))
    {
        read_all(view, query);
        return told(&hits.facets, field, first);
    }
    let mut counts: HashMap<Option<String>, usize> = HashMap::new();
    let mut count = |value: Option<String>| *counts.entry(value).or_default() += 1;
    for record in candidates(view, query, field.aside()) {
        let Some(head) = record.repository() else { continue };
        if fails(view, &query.filter, &record, head).is_none_or(|failed| failed & !field.aside() != 0) {
            continue;
        }
        let latest = view.visible().tags(head.name()).first();
        let image = latest.and_then(|record| ImageView::of(record));
        match field {
            FacetField::Organization => count(Some(head.organization().to_owned())),
            FacetField::Keyword => keywords_of(&record).for_each(|keyword| count(Some(keyword.to_owned()))),
            FacetField::Type => count(type_of(image.as_ref()).map(type_name)),
            FacetField::Architecture => count(image.as_ref().and_then(ImageView::architecture)),
        }
    }
    let chosen: Vec<Option<String>> = match field {
        FacetField::Organization => {
            query.filter.organizations.iter().flatten().map(|name| Some(name.clone())).collect()
        }
        FacetField::Keyword => {
            let all = query.filter.keywords.iter().flatten();
            all.map(|keyword| Some(supported_keyword(keyword).map_or_else(|| keyword.clone(), str::to_owned))).collect()
        }
        FacetField::Type => query.filter.types.iter().flatten().map(|one| one.map(type_name)).collect(),
        FacetField::Architecture => query.filter.architectures.iter().flatten().cloned().collect(),
    };
    for value in &chosen {
        counts.entry(value.clone()).or_default();
    }
    let facets = counts.into_iter();
    let facets = facets.map(|(value, count)| Facet { selected: chosen.contains(&value), value, count }).collect();
    most_frequent(facets, first)
}

/// The same as the search has counted it.
fn told(facets: &search::Facets, field: FacetField, first: usize) -> Vec<Facet> {
    let counted = match field {
        FacetField::Organization => &facets.organizations,
        FacetField::Keyword => &facets.keywords,
        FacetField::Type => &facets.types,
        FacetField::Architecture => &facets.architectures,
    };
    let word = |value: &Arc<str>| match (field, &**value) {
        (FacetField::Type, "cloud-image") => type_name(ImageType::CloudImage),
        (FacetField::Type, "cluster-image") => type_name(ImageType::ClusterImage),
        (_, value) => value.to_owned(),
    };
    let one = |facet: &search::Facet| Facet {
        value: facet.value.as_ref().map(word),
        count: facet.count,
        selected: facet.selected,
    };
    most_frequent(counted.iter().map(one).collect(), first)
}

/// The `first` most frequent ones, and those that are chosen.
fn most_frequent(mut facets: Vec<Facet>, first: usize) -> Vec<Facet> {
    facets.sort_by(|a, b| (Reverse(a.count), &a.value).cmp(&(Reverse(b.count), &b.value)));
    let mut place = 0;
    facets.retain(|facet| {
        place += 1;
        place <= first || facet.selected
    });
    facets
}

fn type_name(of: ImageType) -> String {
    match of {
        ImageType::CloudImage => "CLOUD_IMAGE",
        ImageType::ClusterImage => "CLUSTER_IMAGE",
    }
    .to_owned()
}
