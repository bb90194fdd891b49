//! Suggestions: names that are like what has been typed so far.

use std::sync::Arc;

use super::Search;
use super::find::{best, rank};
use super::inverted::Scope;
use super::query::{Order, Suggestion};
use super::view::View;
use super::words::Text;
use crate::api::{FieldSelector, Kind, LabelSelector};
use crate::error::Error;
use crate::graph::{Query, Record, Visible};

/// The most suggestions of one answer.
pub const MAX_SUGGESTIONS: usize = 20;
/// How many organizations' names are compared for a typo, at most.
const COMPARED: usize = 20_000;

impl Search {
    /// The names of organizations and repositories of `visible` that are like `text`, `first` at most and
    /// [`MAX_SUGGESTIONS`]: those that begin so, then those with a word that does, and where there is none of
    /// either those that only a typo keeps from it.
    ///
    /// # Errors
    /// [`Error::Unavailable`] while the search is being filled or too far behind.
    pub fn suggest(&self, visible: &Visible, text: &Text, first: usize) -> Result<Vec<Suggestion>, Error> {
        let published = self.published.load_full();
        let indexed = published.indexed(visible)?;
        let view = View::new(&published.table, indexed, visible)?;
        let first = first.min(MAX_SUGGESTIONS);
        let mut found = Vec::new();
        let names = [Scope::Names, Scope::NamesForgiving];
        let forgiven = best(&published, &view, visible, text, names, |row, score| {
            found.push(rank(Order::default(), row, score));
            if found.len() > first.max(1) * 16 {
                found.sort_unstable_by(|a, b| a.compare(b, false));
                found.truncate(first);
            }
        })?;
        found.sort_unstable_by(|a, b| a.compare(b, false));
        let mut organizations = organizations(visible, text, first.div_ceil(2));
        if organizations.is_empty() && (found.is_empty() || forgiven) {
            organizations = alike(visible, text, first.div_ceil(2));
        } else if forgiven {
            found.clear();
        }
        let node = |record: &Arc<Record>| {
            let repository = record.repository().map(|r| Arc::from(r.name()));
            let text = repository.or_else(|| record.organization().map(|o| Arc::clone(&o.name)))?;
            Some(Suggestion { text, node: Arc::clone(record) })
        };
        let repositories = found.iter().filter_map(|rank| visible.repository(rank.name));
        Ok(organizations.iter().chain(repositories).filter_map(node).take(first).collect())
    }
}

/// The organizations whose names begin with the text.
fn organizations(visible: &Visible, text: &Text, most: usize) -> Vec<Arc<Record>> {
    let begins = text.as_str();
    let same = visible.organization(begins).cloned();
    let (labels, fields) = (LabelSelector::default(), FieldSelector::default());
    let query = Query {
        kind: Kind::Organization,
        after: Some(begins),
        at: visible.revision(),
        labels: &labels,
        fields: &fields,
    };
    let longer = visible.list(query).take_while(|record| record.name().starts_with(begins));
    same.into_iter().chain(longer).take(most).collect()
}

/// The organizations whose names are the text but for a typo.
fn alike(visible: &Visible, text: &Text, most: usize) -> Vec<Arc<Record>> {
    let wanted = text.as_str();
    if !super::words::forgives(wanted) {
        return Vec::new();
    }
    let (labels, fields) = (LabelSelector::default(), FieldSelector::default());
    let query =
        Query { kind: Kind::Organization, after: None, at: visible.revision(), labels: &labels, fields: &fields };
    let near = |record: &Arc<Record>| {
        record.name().len().abs_diff(wanted.len()) <= 1 && strsim::osa_distance(record.name(), wanted) <= 1
    };
    visible.list(query).take(COMPARED).filter(near).take(most).collect()
}
