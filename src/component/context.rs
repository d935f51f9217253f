//! What a component is given when it is built.

use std::collections::BTreeMap;
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
    /// Of a source: state behind it brings events of several partitions together, so one process has to read all of them.
    pub spans_partitions: bool,
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
            spans_partitions: false,
            retry: false,
        };
        (context, rejected)
    }
}

/// A node's word on why it cannot work at the moment: while there is one, `/ready` answers "not ready" and
/// names it.
///
/// Several things of one node may fail at a time, such as the log of a source and the lane that reads it. Each has a
/// [`part`](Self::part) of its own: what it says, the others neither replace nor clear.
#[derive(Debug, Clone)]
pub struct Trouble {
    words: Arc<watch::Sender<Words>>,
    part: Arc<str>,
    /// Whether a cause is shown with the name of the part: of lanes it says which, of other parts the cause does.
    is_shown: bool,
}

#[derive(Debug, Default)]
struct Words {
    by_part: BTreeMap<Arc<str>, (String, bool)>,
    /// Waiting does not help.
    given_up: Option<String>,
}

/// Causes, and parts for each, that [`Trouble::all`] names; the others are counted.
const SHOWN: usize = 5;

/// A cause once, with the parts that have it.
fn cause_of(cause: &str, parts: &[&str]) -> String {
    let mut named = parts.to_vec();
    let others = named.len().saturating_sub(SHOWN);
    named.truncate(SHOWN);
    match (named.as_slice(), others) {
        ([], _) => cause.to_owned(),
        (named, 0) => format!("{}: {cause}", named.join(", ")),
        (named, others) => format!("{} and {others} more: {cause}", named.join(", ")),
    }
}

impl Default for Trouble {
    fn default() -> Trouble {
        Trouble { words: Arc::default(), part: "".into(), is_shown: false }
    }
}

impl Trouble {
    /// The word of another part of the same node.
    pub fn part(&self, part: &str) -> Trouble {
        Trouble { words: self.words.clone(), part: part.into(), is_shown: false }
    }

    /// The word of a lane of the node; causes are shown with its name.
    pub(crate) fn lane(&self, name: &str) -> Trouble {
        Trouble { is_shown: true, ..self.part(name) }
    }

    /// Says what is wrong; a later text replaces it.
    pub fn set(&self, what: impl Into<String>) {
        let what = what.into();
        self.words.send_if_modified(|words| {
            let is_news = words.by_part.get(&self.part).is_none_or(|(said, _)| *said != what);
            if is_news {
                words.by_part.insert(self.part.clone(), (what, self.is_shown));
            }
            is_news
        });
    }

    /// All is well again.
    pub fn clear(&self) {
        self.words.send_if_modified(|words| words.by_part.remove(&self.part).is_some());
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
        let what = what.into();
        self.words.send_modify(|words| words.given_up = Some(what));
    }

    /// What is wrong with this part, if anything.
    pub fn get(&self) -> Option<String> {
        let words = self.words.borrow();
        words.given_up.as_ref().or_else(|| words.by_part.get(&self.part).map(|(what, _)| what)).cloned()
    }

    /// What is wrong with the node, if anything.
    pub fn all(&self) -> Option<String> {
        let words = self.words.borrow();
        let mut causes: Vec<(&str, Vec<&str>)> =
            words.given_up.iter().map(|what| (what.as_str(), Vec::new())).collect();
        for (part, (what, is_shown)) in &words.by_part {
            let part = is_shown.then_some(&**part);
            match causes.iter_mut().find(|(cause, _)| cause == what) {
                Some((_, parts)) => parts.extend(part),
                None => causes.push((what, Vec::from_iter(part))),
            }
        }
        let said: Vec<String> = causes.into_iter().map(|(cause, parts)| cause_of(cause, &parts)).collect();
        let (shown, others) = said.split_at(said.len().min(SHOWN));
        let more = if others.is_empty() { String::new() } else { format!("; and {} more", others.len()) };
        (!shown.is_empty()).then(|| shown.join("; ") + &more)
    }

    /// With what the node gave up, if it did.
    pub(crate) fn last_word(&self) -> Option<String> {
        self.words.borrow().given_up.clone()
    }

    /// Resolves when the node gives up, with what is wrong.
    pub async fn given_up(&self) -> String {
        match self.words.subscribe().wait_for(|words| words.given_up.is_some()).await {
            Ok(words) => words.given_up.clone().unwrap_or_default(),
            Err(_closed) => unreachable!("the sender is borrowed here"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_part_that_recovers_does_not_hide_anothers_trouble() {
        let trouble = Trouble::default();
        let (log, lane) = (trouble.part("log"), trouble.lane("in:a/0"));
        log.set("the disk is full");
        lane.set("it cannot be read");
        trouble.set("the peer is away");
        assert_eq!(trouble.all().as_deref(), Some("the peer is away; in:a/0: it cannot be read; the disk is full"));
        trouble.clear();
        lane.clear();
        assert_eq!((trouble.get(), log.get().as_deref()), (None, Some("the disk is full")));
        assert_eq!(trouble.all().as_deref(), Some("the disk is full"));
        log.clear();
        assert_eq!(trouble.all(), None);
        (0..7).for_each(|at| trouble.lane(&at.to_string()).set(format!("no {at}")));
        assert_eq!(trouble.all().as_deref(), Some("0: no 0; 1: no 1; 2: no 2; 3: no 3; 4: no 4; and 2 more"));
    }

    #[test]
    fn a_cause_that_several_parts_have_is_said_once() {
        let trouble = Trouble::default();
        for part in ["in:a/0", "in:a/1", "in:a/2", "log"] {
            match part {
                "log" => trouble.part(part).set("the disk is full"),
                lane => trouble.lane(lane).set("no broker can be reached"),
            }
        }
        let said = "in:a/0, in:a/1, in:a/2: no broker can be reached; the disk is full";
        assert_eq!(trouble.all().as_deref(), Some(said));
        (3..9).for_each(|at| trouble.lane(&format!("in:a/{at}")).set("no broker can be reached"));
        let all = trouble.all().unwrap_or_default();
        assert!(all.starts_with("in:a/0, in:a/1, in:a/2, in:a/3, in:a/4 and 4 more: no broker"), "{all}");
        trouble.set("the peer is away");
        trouble.part("log").set("the peer is away");
        assert!(trouble.all().is_some_and(|all| all.starts_with("the peer is away; in:a/0")), "{:?}", trouble.all());
    }
}
