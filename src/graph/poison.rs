//! Events that made a transform panic which keeps state: the open epoch is replayed without them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use crate::event::{Event, Ordinal, OriginId, Position};

/// More are not remembered: they would come again, panic again, and be noted again.
const MOST: usize = 10_000;

type Key = (Arc<str>, Arc<OriginId>, Position, Ordinal);

/// What panicked, by node and event, with the text.
#[derive(Debug, Default)]
pub(crate) struct Poison {
    any: AtomicBool,
    events: Mutex<HashMap<Key, String>>,
}

impl Poison {
    /// Notes that this event made this node panic.
    pub fn note(&self, node: &Arc<str>, origin: &Arc<OriginId>, event: &Event, message: String) {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        if events.len() >= MOST {
            events.clear();
        }
        events.insert((node.clone(), origin.clone(), event.position, event.ordinal), message);
        self.any.store(true, Relaxed);
    }

    /// Whether there is anything to be left out.
    pub fn is_empty(&self) -> bool {
        !self.any.load(Relaxed)
    }

    /// The text, if this event made this node panic.
    pub fn of(&self, node: &Arc<str>, origin: &Arc<OriginId>, event: &Event) -> Option<String> {
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        events.get(&(node.clone(), origin.clone(), event.position, event.ordinal)).cloned()
    }
}
