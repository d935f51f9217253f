//! What a component is given when it is built.

use std::sync::Arc;

use tokio::sync::watch;

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
    /// `weir dlq retry`: what a finished run has written stays, and more comes behind it.
    pub retry: bool,
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
            retry: false,
        };
        (context, rejected)
    }
}

/// A node's word on why it cannot work at the moment: while there is one, `/ready` answers "not ready" and
/// names it.
#[derive(Debug, Clone, Default)]
pub struct Trouble(Arc<watch::Sender<Word>>);

#[derive(Debug, Default)]
struct Word {
    what: Option<String>,
    /// Waiting does not help.
    is_final: bool,
}

impl Trouble {
    /// Says what is wrong; a later text replaces it.
    pub fn set(&self, what: impl Into<String>) {
        self.say(Some(what.into()));
    }

    /// All is well again.
    pub fn clear(&self) {
        self.say(None);
    }

    /// All is well again, if what is wrong is this.
    pub fn clear_if(&self, is_it: impl FnOnce(&str) -> bool) {
        if self.get().is_some_and(|what| is_it(&what)) {
            self.clear();
        }
    }

    /// What is wrong will never be well again, such as an output that nobody reads any more: the graph stops, and the
    /// run fails with this text.
    pub fn give_up(&self, what: impl Into<String>) {
        self.0.send_replace(Word { what: Some(what.into()), is_final: true });
    }

    /// What is wrong, if anything.
    pub fn get(&self) -> Option<String> {
        self.0.borrow().what.clone()
    }

    /// Resolves when the node gives up, with what is wrong.
    pub async fn given_up(&self) -> String {
        match self.0.subscribe().wait_for(|word| word.is_final).await {
            Ok(word) => word.what.clone().unwrap_or_default(),
            Err(_closed) => unreachable!("the sender is borrowed here"),
        }
    }

    fn say(&self, what: Option<String>) {
        self.0.send_if_modified(|word| {
            let is_news = !word.is_final && word.what != what;
            if is_news {
                word.what = what;
            }
            is_news
        });
    }
}
