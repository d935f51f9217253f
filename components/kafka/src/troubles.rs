//! What keeps a client from working, by subject, told to the graph as one text.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use weir::component::{BuildContext, Trouble};

/// What a trouble is about; one clears without the others.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Subject {
    /// Brokers cannot be reached, or refuse us.
    Connection,
    /// The group cannot be joined.
    Group,
    /// A topic cannot be used.
    Topic(String),
    /// A partition cannot be read.
    Partition(String, i32),
    /// Reading goes on elsewhere than it was to, because the offset was gone.
    Jump(String, i32),
    /// Other members of the group have partitions that state here needs.
    Members,
    /// A record does not fit the answers we take.
    RecordSize,
    /// Records cannot be encoded before a peer, such as a schema registry, has answered.
    Encoding,
    /// The client is not usable any more and is being replaced.
    Client,
}

/// The troubles of one client.
#[derive(Debug)]
pub(crate) struct Troubles {
    node: Arc<str>,
    any: AtomicBool,
    open: Mutex<BTreeMap<Subject, String>>,
    told: Trouble,
}

impl Troubles {
    pub fn new(context: &BuildContext) -> Troubles {
        let (node, told) = (context.node.clone(), context.trouble.clone());
        Troubles { node, any: AtomicBool::new(false), open: Mutex::default(), told }
    }

    /// Whether there is any; costs one load, so that the happy path may ask for each batch.
    pub fn any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    /// Enters a trouble. Says it in the log when it is news.
    pub fn set(&self, subject: Subject, text: String) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        self.enter(open, subject, text);
    }

    /// Enters a trouble unless another is known about the same.
    pub fn set_if_none(&self, subject: Subject, text: String) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if !open.contains_key(&subject) {
            self.enter(open, subject, text);
        }
    }

    fn enter(&self, mut open: MutexGuard<'_, BTreeMap<Subject, String>>, subject: Subject, text: String) {
        if open.get(&subject) == Some(&text) {
            return;
        }
        if open.insert(subject, text.clone()).is_none() {
            tracing::warn!(node = &*self.node, reason = %text, "kafka trouble");
        }
        self.tell(&open);
    }

    /// Strikes out every trouble for which `over` says so.
    pub fn clear(&self, over: impl Fn(&Subject) -> bool) {
        if !self.any() {
            return;
        }
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|subject, text| {
            let stays = !over(subject);
            if !stays {
                tracing::info!(node = &*self.node, reason = %text, "kafka trouble is over");
            }
            stays
        });
        self.tell(&open);
    }

    /// The topics that are in trouble.
    pub fn topics(&self) -> Vec<String> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let topic = |subject: &Subject| match subject {
            Subject::Topic(topic) => Some(topic.clone()),
            _ => None,
        };
        open.keys().filter_map(topic).collect()
    }

    fn tell(&self, open: &BTreeMap<Subject, String>) {
        self.any.store(!open.is_empty(), Ordering::Relaxed);
        if open.is_empty() {
            self.told.clear();
        } else {
            self.told.set(open.values().map(String::as_str).collect::<Vec<_>>().join("; "));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_partition_that_recovers_does_not_hide_anothers_trouble() {
        let (context, _rejected) = BuildContext::detached("in");
        let (troubles, told) = (Troubles::new(&context), &context.trouble);
        troubles.set(Subject::Partition("a".into(), 0), "a/0 is gone".into());
        troubles.set(Subject::Partition("a".into(), 1), "a/1 is gone".into());
        troubles.clear(|subject| *subject == Subject::Partition("a".into(), 0));
        assert_eq!(told.get().as_deref(), Some("a/1 is gone"));
        troubles.clear(|_| true);
        assert_eq!(told.get(), None);
        assert!(!troubles.any());
    }
}
