//! The rows as one request sees them: those that are published, but for the ones that its snapshot has otherwise.

use std::cell::Cell;
use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::catching_up;
use super::rows::{Row, Table, Values};
use crate::api::Kind;
use crate::error::Error;
use crate::graph::{Revision, Sight, Visible};

/// How many events a request looks at, at most, that are not in the rows yet. Further behind the search is no search.
const BEHIND: usize = 10_000;

/// The full names of the repositories that events after `reached` touch; `None` where they are no longer known, or
/// are more than `limit` of a kind.
pub(super) fn touched(visible: &Visible, reached: Revision, limit: usize) -> Option<BTreeSet<Arc<str>>> {
    let mut names: BTreeSet<Arc<str>> = BTreeSet::new();
    for kind in [Kind::Image, Kind::Repository] {
        let (events, _) = visible.events(kind, reached, limit)?;
        if events.len() >= limit {
            return None;
        }
        for event in &events {
            for record in event.old.iter().chain(event.new_record()) {
                let name = record.image().map(|image| image.repository());
                let name = name.or(record.repository().map(|repository| repository.name()));
                if let Some(name) = name.filter(|name| !names.contains(*name)) {
                    names.insert(Arc::from(name));
                }
            }
        }
    }
    Some(names)
}

/// The rows as one request sees them.
pub(super) struct View<'a> {
    table: &'a Table,
    visible: &'a Visible,
    pub(super) values: Arc<Values>,
    /// Which rows are not those of the table; empty where none is.
    differs: Vec<bool>,
    /// What those are instead, where they are seen at all.
    instead: HashMap<u32, Row>,
    /// Those that the table doesn't have yet.
    added: Vec<Row>,
    /// Whether the caller is a manager of an organization, as far as that was asked.
    managed: Vec<Cell<Option<bool>>>,
    /// Whether the manager whom a filter names is one, likewise.
    named: Vec<Cell<Option<bool>>>,
}

impl<'a> View<'a> {
    /// The rows of `table`, which are those of revision `indexed`, as `visible` has them.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where the rows are too far behind.
    pub(super) fn new(table: &'a Table, indexed: Revision, visible: &'a Visible) -> Result<Self, Error> {
        let now = visible.revision();
        let names = match indexed.cmp(&now) {
            Ordering::Less => touched(visible, indexed, BEHIND).ok_or_else(catching_up)?,
            Ordering::Equal => BTreeSet::new(),
            Ordering::Greater => {
                table.iter().filter(|(_, row)| row.changed > now).map(|(_, row)| Arc::clone(&row.name)).collect()
            }
        };
        let mut view = Self {
            table,
            visible,
            values: Arc::clone(&table.values),
            differs: vec![false; if names.is_empty() { 0 } else { table.len() }],
            instead: HashMap::new(),
            added: Vec::new(),
            managed: Vec::new(),
            named: Vec::new(),
        };
        for name in names {
            let row = visible.repository(&name).and_then(|record| Row::of(visible, record, &mut view.values));
            match (table.find(&name), row) {
                (Some(number), row) => {
                    view.differs[number as usize] = true;
                    view.instead.extend(row.map(|row| (number, row)));
                }
                (None, Some(row)) => view.added.push(row),
                (None, None) => {}
            }
        }
        view.managed = vec![Cell::new(None); view.values.organizations.len()];
        view.named = view.managed.clone();
        Ok(view)
    }

    /// A row, if the caller sees it.
    pub(super) fn get(&self, number: u32) -> Option<&Row> {
        self.shown(number, self.table.get(number)?)
    }

    fn shown<'r>(&'r self, number: u32, row: &'r Row) -> Option<&'r Row> {
        if self.differs.get(number as usize) == Some(&true) {
            return self.instead.get(&number);
        }
        self.shows(row).then_some(row)
    }

    fn shows(&self, row: &Row) -> bool {
        row.there && (!row.private || self.manages(row.organization))
    }

    /// Whether the caller would see the row as the table has it.
    pub(super) fn showed(&self, number: u32) -> bool {
        self.table.get(number).is_some_and(|row| self.shows(row))
    }

    /// All that the caller sees.
    pub(super) fn all(&self) -> impl Iterator<Item = &Row> {
        let known = self.table.iter().filter_map(|(number, row)| self.shown(number, row));
        known.chain(&self.added)
    }

    /// Whether an organization names `manager` among its managers. One request asks for one manager.
    pub(super) fn names(&self, organization: u32, manager: &str) -> bool {
        let known = &self.named[organization as usize];
        let look = || {
            let name = self.values.organizations.name(organization);
            let record = self.visible.organization(name).and_then(|record| record.organization());
            record.is_some_and(|of| of.managers.iter().any(|name| **name == *manager))
        };
        let names = known.get().unwrap_or_else(look);
        known.set(Some(names));
        names
    }

    /// Whether the caller is among the managers of an organization.
    pub(super) fn manages(&self, organization: u32) -> bool {
        match self.visible.sight() {
            Sight::Everything => true,
            Sight::Public => false,
            Sight::Manager(_) => {
                let known = &self.managed[organization as usize];
                let name = self.values.organizations.name(organization);
                let manages = known.get().unwrap_or_else(|| self.visible.manages(name));
                known.set(Some(manages));
                manages
            }
        }
    }
}
