//! What a component is given when it is built.

use std::sync::{Arc, Mutex, PoisonError};

use crate::delivery::{Books, Rejects};
use crate::state::{Clock, MemoryStorage, Storage, SystemClock};

/// The node's surroundings.
#[derive(Clone)]
pub struct BuildContext {
    /// Name of the graph.
    pub graph: Arc<str>,
    /// Id of the node.
    pub node: Arc<str>,
    /// The node's books. Sinks count what they delivered; the graph counts the rest.
    pub books: Arc<Books>,
    /// The node's `errors` port, for sinks. Transforms put rejected events into their [`super::Output`].
    pub rejects: Rejects,
    /// Says why the node cannot work at the moment.
    pub trouble: Trouble,
    /// The clock that all waiting goes through.
    pub clock: Arc<dyn Clock>,
    /// Durable facts of this node; names are the node's own.
    pub storage: Arc<dyn Storage>,
    /// `weir run --once`: bounded sources end, and the same input gives the same output.
    pub once: bool,
}

impl BuildContext {
    /// A context with nothing behind it, and the other end of the `errors` port; for tests of one component.
    pub fn detached(node: &str) -> (BuildContext, tokio::sync::mpsc::Receiver<crate::delivery::RejectedBatch>) {
        let (rejects, rejected) = Rejects::channel();
        let context = BuildContext {
            graph: "test".into(),
            node: node.into(),
            books: Arc::default(),
            rejects,
            trouble: Trouble::default(),
            clock: Arc::new(SystemClock::default()),
            storage: Arc::new(MemoryStorage::default()),
            once: true,
        };
        (context, rejected)
    }
}

/// A node's word on why it cannot work at the moment: while there is one, `/ready` answers "not ready" and
/// names it.
#[derive(Debug, Clone, Default)]
pub struct Trouble(Arc<Mutex<Option<String>>>);

impl Trouble {
    /// Says what is wrong; a later text replaces it.
    pub fn set(&self, what: impl Into<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(what.into());
    }

    /// All is well again.
    pub fn clear(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// What is wrong, if anything.
    pub fn get(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
