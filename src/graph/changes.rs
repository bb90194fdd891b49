//! Who waits for changes, and what wakes them. Watchers of a kind are woken by each change of it; those of one
//! object by its own changes only, so that ten thousand of them cost nothing while others change.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::Graph;
use crate::storage::{Key, Revision};

/// Those who wait for single objects of one kind: a channel a name, for as long as anyone waits at it.
#[derive(Debug, Default)]
pub(super) struct Named(Mutex<HashMap<Arc<str>, watch::Sender<Revision>>>);

impl Named {
    fn subscribe(&self, name: &Arc<str>) -> watch::Receiver<Revision> {
        let mut channels = self.0.lock();
        channels.entry(Arc::clone(name)).or_insert_with(|| watch::Sender::new(Revision::default())).subscribe()
    }

    /// Lets `receiver` go, and the channel where it was the last one.
    fn leave(&self, name: &str, receiver: watch::Receiver<Revision>) {
        let mut channels = self.0.lock();
        // Under the lock: nobody comes to the channel in between.
        drop(receiver);
        if channels.get(name).is_some_and(|sender| sender.receiver_count() == 0) {
            channels.remove(name);
        }
        if channels.is_empty() {
            *channels = HashMap::new();
        }
    }

    /// Wakes those who wait for the object of this name.
    pub(super) fn tell(&self, name: &str, revision: Revision) {
        if let Some(sender) = self.0.lock().get(name) {
            sender.send_replace(revision);
        }
    }

    /// Wakes all.
    pub(super) fn tell_all(&self, revision: Revision) {
        for sender in self.0.lock().values() {
            sender.send_replace(revision);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.lock().len()
    }
}

/// Tells of changes: of a kind, or of one object.
#[derive(Debug)]
pub struct Changes(Of);

#[derive(Debug)]
enum Of {
    Kind(watch::Receiver<Revision>),
    Object(Object),
}

#[derive(Debug)]
struct Object {
    graph: Arc<Graph>,
    key: Key,
    /// `None` only while it is dropped.
    own: Option<watch::Receiver<Revision>>,
    /// A change of sight has no event, but whoever waits must look.
    sight: watch::Receiver<Revision>,
}

impl Drop for Object {
    fn drop(&mut self) {
        if let Some(own) = self.own.take() {
            self.graph.named[self.key.kind as usize].leave(&self.key.name, own);
        }
    }
}

impl Changes {
    /// Those of all objects of a kind.
    pub(super) fn of_kind(changes: watch::Receiver<Revision>) -> Self {
        Self(Of::Kind(changes))
    }

    /// Those of one object, whether it is there or not.
    pub(super) fn of_object(graph: &Arc<Graph>, key: Key) -> Self {
        let own = graph.named[key.kind as usize].subscribe(&key.name);
        Self(Of::Object(Object { graph: Arc::clone(graph), key, own: Some(own), sight: graph.sight.subscribe() }))
    }

    /// Waits until something has changed since the last call. Nothing is lost where the future is dropped.
    pub async fn changed(&mut self) {
        // The senders are the graph's, or kept there while this waits.
        match &mut self.0 {
            Of::Kind(kind) => {
                let _ = kind.changed().await;
            }
            Of::Object(Object { own: Some(own), sight, .. }) => {
                tokio::select! {
                    biased;
                    _ = own.changed() => {}
                    _ = sight.changed() => {}
                }
            }
            Of::Object(_) => {}
        }
    }

    /// Whether something has changed since [`changed`](Self::changed) last said so.
    #[must_use]
    pub fn has_changed(&self) -> bool {
        let moved = |receiver: &watch::Receiver<Revision>| receiver.has_changed().unwrap_or(false);
        match &self.0 {
            Of::Kind(kind) => moved(kind),
            Of::Object(object) => object.own.as_ref().is_some_and(moved) || moved(&object.sight),
        }
    }

    /// Lets the next [`changed`](Self::changed) return at once.
    pub fn mark_changed(&mut self) {
        match &mut self.0 {
            Of::Kind(kind) => kind.mark_changed(),
            Of::Object(object) => {
                if let Some(own) = &mut object.own {
                    own.mark_changed();
                }
            }
        }
    }

    /// The revision up to which there is nothing that [`changed`](Self::changed) has not told of: nothing at all, while
    /// it has something to tell.
    #[must_use]
    pub fn quiet_until(&self, graph: &Graph) -> Option<Revision> {
        // First the revision: all up to it were told of before it was published.
        let published = *graph.published.borrow();
        (!self.has_changed()).then_some(published)
    }
}
