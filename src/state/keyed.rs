//! Keyed state with expiry, in epochs that can be taken back.
//!
//! What a batch changes belongs to that batch's epoch until the batch is settled. A lane that rewinds
//! takes the open epochs back, so that the events it reads again meet the state they met the first time.
//! The state lives in memory: a restart begins empty.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::Hash;

use crate::event::Timestamp;

/// Bounds of a keyed state.
#[derive(Debug, Clone, Copy)]
pub struct StateLimits {
    /// Keys held at most; the one that would expire first makes room, and is counted.
    pub max_keys: usize,
}

#[derive(Debug, Clone)]
struct Entry<V> {
    value: V,
    expires: Timestamp,
}

/// A map from key to value; every entry has an expiry, and a timer at it.
#[derive(Debug)]
pub struct KeyedState<K, V> {
    entries: HashMap<K, Entry<V>>,
    timers: BTreeSet<(Timestamp, K)>,
    /// What each change of an open epoch replaced, oldest first.
    undo: VecDeque<(u64, K, Option<Entry<V>>)>,
    epoch: u64,
    limits: StateLimits,
    evicted: u64,
}

impl<K: Hash + Ord + Clone, V: Clone> KeyedState<K, V> {
    /// An empty state.
    pub fn new(limits: StateLimits) -> Self {
        KeyedState {
            entries: HashMap::new(),
            timers: BTreeSet::new(),
            undo: VecDeque::new(),
            epoch: 0,
            limits,
            evicted: 0,
        }
    }

    /// The value under `key`.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|entry| &entry.value)
    }

    /// Puts a value under `key` until `expires`.
    pub fn insert(&mut self, key: K, value: V, expires: Timestamp) {
        if !self.entries.contains_key(&key) && self.entries.len() >= self.limits.max_keys {
            self.evict();
        }
        self.replace(key, Some(Entry { value, expires }));
    }

    /// Puts a value under `key` if there is none; says whether it did.
    pub fn insert_new(&mut self, key: K, value: V, expires: Timestamp) -> bool {
        let is_new = !self.entries.contains_key(&key);
        if is_new {
            self.insert(key, value, expires);
        }
        is_new
    }

    /// Ends the entries whose time has come, oldest first, telling `fire` of each.
    pub fn advance(&mut self, watermark: Timestamp, mut fire: impl FnMut(&K, &V)) {
        while let Some((due, key)) = self.timers.first().filter(|(due, _)| *due <= watermark).cloned() {
            debug_assert!(due <= watermark);
            if let Some(entry) = self.entries.get(&key) {
                fire(&key, &entry.value);
            }
            self.replace(key, None);
        }
    }

    /// Keys held.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no key is held.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Keys that had to go before their time, for lack of room.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// What follows belongs to `epoch`; epochs come in rising order.
    pub fn begin(&mut self, epoch: u64) {
        self.epoch = epoch;
    }

    /// `epoch` and all before it are settled: they can no longer be taken back.
    pub fn commit(&mut self, epoch: u64) {
        while self.undo.front().is_some_and(|(of, ..)| *of <= epoch) {
            self.undo.pop_front();
        }
    }

    /// Takes every epoch back that is not committed.
    pub fn abort(&mut self) {
        while let Some((_, key, before)) = self.undo.pop_back() {
            self.put(key, before);
        }
    }

    fn evict(&mut self) {
        if let Some((_, key)) = self.timers.first().cloned() {
            self.evicted += 1;
            self.replace(key, None);
        }
    }

    fn replace(&mut self, key: K, entry: Option<Entry<V>>) {
        let before = self.put(key.clone(), entry);
        self.undo.push_back((self.epoch, key, before));
    }

    fn put(&mut self, key: K, entry: Option<Entry<V>>) -> Option<Entry<V>> {
        let expires = entry.as_ref().map(|entry| entry.expires);
        let before = match entry {
            Some(entry) => self.entries.insert(key.clone(), entry),
            None => self.entries.remove(&key),
        };
        if let Some(before) = &before {
            self.timers.remove(&(before.expires, key.clone()));
        }
        if let Some(expires) = expires {
            self.timers.insert((expires, key));
        }
        before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: StateLimits = StateLimits { max_keys: 3 };

    #[test]
    fn an_aborted_epoch_leaves_no_trace_and_a_committed_one_stays() {
        let mut state = KeyedState::new(LIMITS);
        state.begin(1);
        assert!(state.insert_new("a", 1, Timestamp(10)));
        state.begin(2);
        assert!(state.insert_new("b", 2, Timestamp(20)));
        state.insert("a", 3, Timestamp(30));
        state.commit(1);
        state.abort();
        assert_eq!((state.get(&"a"), state.get(&"b"), state.len()), (Some(&1), None, 1));
        state.advance(Timestamp(10), |_, _| {});
        assert!(state.is_empty(), "the timer of the first value is back, too");
    }

    #[test]
    fn entries_end_in_order_of_expiry() {
        let mut state = KeyedState::new(LIMITS);
        state.insert("late", 0, Timestamp(9));
        state.insert("early", 0, Timestamp(3));
        let mut ended = Vec::new();
        state.advance(Timestamp(5), |key, _| ended.push(*key));
        assert_eq!((ended, state.len()), (vec!["early"], 1));
    }

    #[test]
    fn the_key_that_would_end_first_makes_room() {
        let mut state = KeyedState::new(LIMITS);
        for (key, expires) in [("a", 4), ("b", 2), ("c", 3), ("d", 5)] {
            state.insert(key, (), Timestamp(expires));
        }
        assert_eq!((state.len(), state.evicted(), state.get(&"b")), (3, 1, None));
    }
}
