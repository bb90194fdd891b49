//! The objects of one kind by their names, in order and by their labels.

use std::sync::Arc;

use imbl::HashMap;

use crate::graph::chunks::{Chunks, Keyed};
use crate::graph::names::{Named, Names};
use crate::graph::record::Record;
use crate::graph::set::Set;
use crate::storage::Revision;

/// For each value of a label the names that have it.
pub(in crate::graph) type Values = Names<Labelled>;

/// A value of a label.
#[derive(Debug, Clone)]
pub(in crate::graph) struct Labelled {
    pub(super) value: Arc<str>,
    pub(in crate::graph) names: Set<Arc<str>>,
}

impl Named for Labelled {
    fn name(&self) -> &str {
        &self.value
    }
}

impl Named for Arc<Record> {
    fn name(&self) -> &str {
        &self.key.name
    }
}

impl Keyed for Arc<Record> {
    type Key = Arc<str>;

    fn key(&self) -> &Arc<str> {
        &self.key.name
    }
}

/// The objects of one kind: the newest version of each, and that there is none as long as the window knows of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    pub(super) by_name: Names<Arc<Record>>,
    pub(super) ordered: Chunks<Arc<Record>>,
    pub(super) live: usize,
    pub(super) labels: HashMap<Arc<str>, Values>,
}

impl Table {
    /// Takes note that `name` has `label` with `value`.
    pub(super) fn index_label(&mut self, label: &str, value: &str, name: &Arc<str>) {
        let values = match self.labels.get_mut(label) {
            Some(values) => values,
            None => self.labels.entry(label.into()).or_default(),
        };
        let new = || Labelled { value: value.into(), names: Set::default() };
        values.or_insert_with(value, new).names.insert(Arc::clone(name));
    }

    /// Takes out those labels of `old`, which `new` replaced at `revision`, that no version from there on has.
    pub(super) fn unindex_labels(
        &mut self,
        old: &Record,
        new: Option<&Arc<Record>>,
        name: &Arc<str>,
        revision: Revision,
    ) {
        // What the next version has, too, is not gone: so nearly always there is nothing to do.
        let has = |record: &Record, label: &str, value: &str| record.label(label) == Some(value);
        let mut gone: Vec<_> = old.labels().filter(|(l, v)| !new.is_some_and(|new| has(new, l, v))).collect();
        let mut version = self.by_name.get(name).cloned();
        while let Some(kept) = version.take().filter(|v| v.revision > revision && !gone.is_empty()) {
            if let Some(record) = kept.present() {
                gone.retain(|(label, value)| !has(record, label, value));
            }
            version = kept.older.get();
        }
        for (label, value) in gone {
            let Some(values) = self.labels.get_mut(label) else { continue };
            let Some(labelled) = values.get_mut(value) else { continue };
            labelled.names.remove(name);
            if labelled.names.is_empty() {
                values.remove(value);
                if values.is_empty() {
                    self.labels.remove(label);
                }
            }
        }
    }
}
