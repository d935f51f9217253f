//! What is known of the topics that records go to, for all writers of a sink.
//!
//! Where events choose their topics, any name may come. Only topics that exist are remembered, so the cluster is the bound,
//! and for a short time up to [`MOST_REFUSED`] that refuse records. That a name is missing is read off a list of all topics.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// How long a refusal counts for further records before the brokers are asked again.
const REFUSED: Duration = Duration::from_secs(10);
/// How long a list of all topics says which are missing.
const LISTED: Duration = Duration::from_secs(5);
/// Most topics that are remembered because they refuse records.
const MOST_REFUSED: usize = 1000;

/// A topic that takes records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fit {
    /// Whether it takes those with a key alone.
    pub needs_key: bool,
}

/// Why a topic takes no record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    /// The class of error.
    pub code: &'static str,
    /// Why, for people.
    pub message: String,
}

/// The topics of one sink.
#[derive(Debug, Default)]
pub(crate) struct Destinations {
    /// Whether events choose them: what is refused there is rejected, so that other topics go on. A topic that the graph names
    /// is waited for.
    pub by_event: bool,
    /// Whether the client chooses partitions: that one is missing then means that the topic is gone.
    pub any_partition: bool,
    fit: RwLock<HashMap<String, Fit>>,
    refused: Mutex<HashMap<String, (Instant, Refused)>>,
    listed: Mutex<Option<(Instant, HashSet<String>)>>,
}

impl Destinations {
    pub fn new(by_event: bool, any_partition: bool) -> Destinations {
        Destinations { by_event, any_partition, ..Destinations::default() }
    }

    /// The topic, if it is known to take records.
    pub fn fit(&self, topic: &str) -> Option<Fit> {
        self.fit.read().unwrap_or_else(PoisonError::into_inner).get(topic).copied()
    }

    /// The topic takes records.
    pub fn is_fit(&self, topic: &str, fit: Fit) {
        self.refused().remove(topic);
        self.fit.write().unwrap_or_else(PoisonError::into_inner).insert(topic.to_owned(), fit);
    }

    /// What was known of the topic is not so any more.
    pub fn forget(&self, topic: &str) {
        self.fit.write().unwrap_or_else(PoisonError::into_inner).remove(topic);
    }

    /// The topic takes no records for now.
    pub fn refuse(&self, topic: &str, why: Refused) {
        self.forget(topic);
        let mut refused = self.refused();
        if refused.len() >= MOST_REFUSED {
            refused.retain(|_, (since, _)| since.elapsed() < REFUSED);
        }
        // One that finds no room is asked for again.
        if refused.len() < MOST_REFUSED {
            refused.insert(topic.to_owned(), (Instant::now(), why));
        }
    }

    /// These topics exist, and no others.
    pub fn list(&self, topics: HashSet<String>) {
        *self.listed() = Some((Instant::now(), topics));
    }

    /// Why the topic takes no records, where that is known without asking.
    pub fn refusal(&self, topic: &str) -> Option<Refused> {
        if let Some((since, why)) = self.refused().get(topic)
            && since.elapsed() < REFUSED
        {
            return Some(why.clone());
        }
        let listed = self.listed();
        let (since, topics) = listed.as_ref()?;
        (since.elapsed() < LISTED && !topics.contains(topic)).then(|| missing(topic))
    }

    fn refused(&self) -> MutexGuard<'_, HashMap<String, (Instant, Refused)>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listed(&self) -> MutexGuard<'_, Option<(Instant, HashSet<String>)>> {
        self.listed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) fn missing(topic: &str) -> Refused {
    let message = format!("topic {topic:?} does not exist, or we may not see it; create it, or set create_topic");
    Refused { code: "unknown_topic", message }
}

pub(crate) fn denied(topic: &str) -> Refused {
    Refused { code: "topic_denied", message: format!("we may not write to topic {topic:?}; grant the right") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_of_names_is_bounded_and_a_list_tells_of_the_rest() {
        let known = Destinations::new(true, true);
        for number in 0..3 * MOST_REFUSED {
            known.refuse(&number.to_string(), denied("t"));
        }
        assert_eq!(known.refused().len(), MOST_REFUSED);
        assert_eq!(known.refusal("7"), Some(denied("t")));
        assert_eq!(known.refusal("other"), None, "nobody has asked");
        known.list(["here".to_owned()].into());
        assert_eq!((known.refusal("here"), known.refusal("other")), (None, Some(missing("other"))));
        known.is_fit("7", Fit { needs_key: false });
        assert_eq!(known.fit("7"), Some(Fit { needs_key: false }));
    }
}
