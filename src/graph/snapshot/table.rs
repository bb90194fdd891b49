//! The objects of one kind by their names, in order and by their labels.

use std::sync::Arc;

use imbl::HashMap;

use crate::graph::chunks::{Chunks, Keyed};
use crate::graph::names::{Named, Names};
use crate::graph::record::Record;
use crate::graph::set::Set;

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
    /// How often, within the window, an object got a label's value back that it had before in it: as often its loss is
    /// not the last.
    pub(super) again: HashMap<Again, u32>,
}

/// That an object has a label with a value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Again {
    label: Arc<str>,
    value: Arc<str>,
    name: Arc<str>,
}

impl Table {
    /// Takes note that `name` has `label` with `value` from now on, which it hadn't right before.
    pub(super) fn index_label(&mut self, label: &str, value: &str, name: &Arc<str>) {
        let values = match self.labels.get_mut(label) {
            Some(values) => values,
            None => self.labels.entry(label.into()).or_default(),
        };
        let new = || Labelled { value: value.into(), names: Set::default() };
        let labelled = values.or_insert_with(value, new);
        if !labelled.names.insert(Arc::clone(name)) {
            let again = Again { label: label.into(), value: Arc::clone(&labelled.value), name: Arc::clone(name) };
            *self.again.entry(again).or_default() += 1;
        }
    }

    /// Takes out those labels of `old`, which `new` replaced, that no version after it has.
    pub(super) fn unindex_labels(&mut self, old: &Record, new: Option<&Arc<Record>>, name: &Arc<str>) {
        // What the next version has, too, is not gone: so nearly always there is nothing to do.
        let has = |label: &str, value: &str| new.is_some_and(|new| new.label(label) == Some(value));
        for (label, value) in old.labels().filter(|(label, value)| !has(label, value)) {
            let Some(values) = self.labels.get_mut(label) else { continue };
            let Some(labelled) = values.get_mut(value) else { continue };
            if !self.again.is_empty() {
                let again = Again { label: label.into(), value: Arc::clone(&labelled.value), name: Arc::clone(name) };
                if let Some(count) = self.again.get_mut(&again) {
                    *count -= 1;
                    if *count == 0 {
                        self.again.remove(&again);
                    }
                    continue;
                }
            }
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
