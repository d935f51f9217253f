//! Keyed state with expiry: taken back when a lane reads again, and brought back when a process starts again.
//!
//! What a batch changes can be taken back until the batch is settled: a lane that rewinds then meets the state it met
//! the first time. What settled batches changed is written with the lane's next checkpoint, see [`super::LaneState`].

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::hash::Hash;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::part::{EachChange, StatePart, Unreadable};
use crate::event::Timestamp;

/// Bounds of a keyed state.
#[derive(Debug, Clone, Copy)]
pub struct StateLimits {
    /// Keys held at most; the one that would expire first makes room, and is counted.
    pub max_keys: usize,
}

/// The key of a state, as it stands in the store.
pub trait StateKey: Hash + Ord + Clone + Send {
    /// Its bytes.
    fn to_bytes(&self) -> Vec<u8>;
    /// From what [`to_bytes`](Self::to_bytes) gave.
    fn from_bytes(bytes: &[u8]) -> Option<Self>;
}

impl StateKey for Vec<u8> {
    fn to_bytes(&self) -> Vec<u8> {
        self.clone()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(bytes.to_vec())
    }
}

/// The key of a state that has one value.
impl StateKey for () {
    fn to_bytes(&self) -> Vec<u8> {
        Vec::new()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.is_empty().then_some(())
    }
}

/// The value of a state. It stands in the store as MessagePack, so that `weir state export` can show it.
pub trait StateValue: Serialize + DeserializeOwned + Clone + Send {
    /// Raised with every change of the type that readers of the old one would misread.
    const VERSION: u8 = 1;

    /// The value that an older version wrote; `None`: it cannot be read any more.
    fn migrate(_version: u8, _bytes: &[u8]) -> Option<Self> {
        None
    }
}

impl StateValue for () {}
impl StateValue for i64 {}
impl StateValue for u64 {}

#[derive(Debug, Clone)]
struct Entry<V> {
    value: V,
    expires: Timestamp,
}

/// A map from key to value; every entry has an expiry.
///
/// The state has a clock of its own: the latest time it was told by [`at`](Self::at). An entry whose expiry is not behind
/// that time is gone. So the answers depend on the events and their order alone, never on how they were cut into batches.
#[derive(Debug)]
pub struct KeyedState<K, V> {
    entries: HashMap<K, Entry<V>>,
    by_expiry: BTreeSet<(Timestamp, K)>,
    now: Timestamp,
    /// The clock in the last checkpoint.
    stored_now: Timestamp,
    /// What each change of a batch that is not settled replaced, oldest first.
    undo: VecDeque<(u64, K, Option<Entry<V>>)>,
    /// The clock as each batch that is not settled began.
    clocks: VecDeque<(u64, Timestamp)>,
    /// What settled batches changed since the last checkpoint.
    dirty: HashSet<K>,
    batch: u64,
    limits: StateLimits,
    evicted: u64,
}

impl<K: StateKey, V: StateValue> KeyedState<K, V> {
    /// An empty state.
    pub fn new(limits: StateLimits) -> Self {
        KeyedState {
            entries: HashMap::new(),
            by_expiry: BTreeSet::new(),
            now: Timestamp::MIN,
            stored_now: Timestamp::MIN,
            undo: VecDeque::new(),
            clocks: VecDeque::new(),
            dirty: HashSet::new(),
            batch: 0,
            limits,
            evicted: 0,
        }
    }

    /// An event of this time has come: what expires by then is gone. Time does not go back.
    pub fn at(&mut self, time: Timestamp) {
        self.now = self.now.max(time);
    }

    /// The value under `key`.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key).filter(|entry| entry.expires > self.now).map(|entry| &entry.value)
    }

    /// Puts a value under `key` until `expires`.
    pub fn insert(&mut self, key: K, value: V, expires: Timestamp) {
        if !self.entries.contains_key(&key) && self.entries.len() >= self.limits.max_keys {
            self.make_room();
        }
        self.replace(key, Some(Entry { value, expires }));
    }

    /// Puts a value under `key` if there is none; says whether it did.
    pub fn insert_new(&mut self, key: K, value: V, expires: Timestamp) -> bool {
        let is_new = self.get(&key).is_none();
        if is_new {
            self.insert(key, value, expires);
        }
        is_new
    }

    /// Keys held, among them some that have expired a moment ago.
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

    fn make_room(&mut self) {
        if let Some((expires, key)) = self.by_expiry.first().cloned() {
            self.evicted += u64::from(expires > self.now);
            self.replace(key, None);
        }
    }

    /// Lets go of what has expired. No answer changes by it.
    fn sweep(&mut self) {
        while let Some((_, key)) = self.by_expiry.first().filter(|(expires, _)| *expires <= self.now).cloned() {
            self.replace(key, None);
        }
    }

    fn replace(&mut self, key: K, entry: Option<Entry<V>>) {
        let before = self.put(key.clone(), entry);
        self.undo.push_back((self.batch, key, before));
    }

    fn put(&mut self, key: K, entry: Option<Entry<V>>) -> Option<Entry<V>> {
        let expires = entry.as_ref().map(|entry| entry.expires);
        let before = match entry {
            Some(entry) => self.entries.insert(key.clone(), entry),
            None => self.entries.remove(&key),
        };
        if let Some(before) = &before {
            self.by_expiry.remove(&(before.expires, key.clone()));
        }
        if let Some(expires) = expires {
            self.by_expiry.insert((expires, key));
        }
        before
    }

    /// The clock as the last settled batch left it.
    fn settled_now(&self) -> Timestamp {
        self.clocks.front().map_or(self.now, |(_, now)| *now)
    }
}

/// In front of the clock and of each key in the store, to tell them apart.
const CLOCK: u8 = 0;
const KEY: u8 = 1;

impl<K: StateKey, V: StateValue> StatePart for KeyedState<K, V> {
    fn begin(&mut self, batch: u64) {
        self.batch = batch;
        self.clocks.push_back((batch, self.now));
        self.sweep();
    }

    fn commit(&mut self, batch: u64) {
        while self.clocks.pop_front_if(|(of, _)| *of <= batch).is_some() {}
        while let Some((_, key, _)) = self.undo.pop_front_if(|(of, ..)| *of <= batch) {
            self.dirty.insert(key);
        }
    }

    fn abort(&mut self) {
        while let Some((_, key, before)) = self.undo.pop_back() {
            self.put(key, before);
        }
        self.now = self.settled_now();
        self.clocks.clear();
    }

    fn changes(&mut self, each: &mut EachChange<'_>) {
        // Batches under way may have changed a key since: what they found is what the settled ones left.
        let mut found: HashMap<&K, Option<&Entry<V>>> = HashMap::new();
        for (_, key, before) in &self.undo {
            if self.dirty.contains(key) {
                found.entry(key).or_insert(before.as_ref());
            }
        }
        for key in &self.dirty {
            let entry = found.get(key).copied().unwrap_or_else(|| self.entries.get(key));
            let mut stored_key = key.to_bytes();
            stored_key.insert(0, KEY);
            each(&stored_key, entry.map(encode));
        }
        let now = self.settled_now();
        if std::mem::replace(&mut self.stored_now, now) != now {
            each(&[CLOCK], Some(now.0.to_be_bytes().to_vec()));
        }
        self.dirty = HashSet::new();
    }

    fn restore(&mut self, key: &[u8], bytes: &[u8]) -> Result<(), Unreadable> {
        match Stored::of(key, bytes).ok_or(Unreadable::Damaged)? {
            Stored::Clock(now) => {
                self.now = now;
                self.stored_now = now;
            }
            Stored::Entry { key, version, expires, value } => {
                let key = K::from_bytes(key).ok_or(Unreadable::Damaged)?;
                self.put(key, Some(Entry { value: decode(version, value)?, expires }));
            }
        }
        Ok(())
    }
}

/// The version of the value's type, the expiry (8 bytes, big-endian), and the value.
fn encode<V: StateValue>(entry: &Entry<V>) -> Vec<u8> {
    let mut bytes = vec![V::VERSION];
    bytes.extend(entry.expires.0.to_be_bytes());
    // Nothing that a value can hold is refused; were it, the empty rest would be told as damage.
    if rmp_serde::encode::write(&mut bytes, &entry.value).is_err() {
        bytes.truncate(9);
    }
    bytes
}

fn decode<V: StateValue>(version: u8, value: &[u8]) -> Result<V, Unreadable> {
    match version {
        version if version == V::VERSION => rmp_serde::from_slice(value).map_err(|_| Unreadable::Damaged),
        version if version < V::VERSION => V::migrate(version, value).ok_or(Unreadable::TooOld(version)),
        version => Err(Unreadable::TooNew(version)),
    }
}

/// An entry of the store, as far as it can be read without the type of its value.
pub(super) enum Stored<'a> {
    /// The state's clock.
    Clock(Timestamp),
    /// A key and its value in MessagePack.
    Entry { key: &'a [u8], version: u8, expires: Timestamp, value: &'a [u8] },
}

impl<'a> Stored<'a> {
    /// `None`: it is damaged.
    pub fn of(key: &'a [u8], bytes: &'a [u8]) -> Option<Stored<'a>> {
        let time = |bytes| Timestamp(i64::from_be_bytes(bytes));
        match key.split_first()? {
            (&CLOCK, []) => Some(Stored::Clock(time(bytes.try_into().ok()?))),
            (&KEY, key) => {
                let (&version, rest) = bytes.split_first()?;
                let (expires, value) = rest.split_first_chunk()?;
                Some(Stored::Entry { key, version, expires: time(*expires), value })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const LIMITS: StateLimits = StateLimits { max_keys: 3 };

    fn key(text: &str) -> Vec<u8> {
        text.as_bytes().to_vec()
    }

    /// The state as a restart would find it.
    fn restarted(
        state: &mut KeyedState<Vec<u8>, u64>,
        stored: &mut HashMap<Vec<u8>, Vec<u8>>,
    ) -> KeyedState<Vec<u8>, u64> {
        state.changes(&mut |key, value| {
            match value {
                Some(value) => stored.insert(key.to_vec(), value),
                None => stored.remove(key),
            };
        });
        let mut again = KeyedState::new(LIMITS);
        for (key, value) in stored.iter() {
            again.restore(key, value).unwrap();
        }
        again
    }

    #[test]
    fn an_aborted_epoch_leaves_no_trace_and_a_committed_one_stays() {
        let mut state = KeyedState::new(LIMITS);
        state.begin(1);
        state.at(Timestamp(1));
        assert!(state.insert_new(key("a"), 1u64, Timestamp(10)));
        state.begin(2);
        state.at(Timestamp(5));
        assert!(state.insert_new(key("b"), 2, Timestamp(20)));
        state.insert(key("a"), 3, Timestamp(30));
        state.commit(1);
        state.abort();
        assert_eq!((state.get(&key("a")), state.get(&key("b")), state.len()), (Some(&1), None, 1));
        assert_eq!(state.now, Timestamp(1), "time is back, too");
        state.at(Timestamp(10));
        state.begin(3);
        assert!(state.is_empty(), "and so is the first expiry");
    }

    #[test]
    fn what_has_expired_is_gone_wherever_batches_end() {
        for cut in [false, true] {
            let mut state = KeyedState::new(LIMITS);
            state.begin(1);
            state.insert(key("a"), 0u64, Timestamp(9));
            state.at(Timestamp(9));
            if cut {
                state.begin(2);
            }
            assert_eq!(state.get(&key("a")), None);
            assert!(state.insert_new(key("a"), 1, Timestamp(12)));
            state.at(Timestamp(3));
            assert_eq!(state.get(&key("a")), Some(&1));
        }
    }

    #[test]
    fn the_key_that_would_end_first_makes_room() {
        let mut state = KeyedState::new(LIMITS);
        for (name, expires) in [("a", 4), ("b", 2), ("c", 3), ("d", 5)] {
            state.insert(key(name), 0u64, Timestamp(expires));
        }
        assert_eq!((state.len(), state.evicted(), state.get(&key("b"))), (3, 1, None));
        state.at(Timestamp(3));
        state.insert(key("e"), 0, Timestamp(9));
        assert_eq!((state.len(), state.evicted()), (3, 1), "one that has expired is no loss");
    }

    #[test]
    fn a_checkpoint_holds_what_settled_batches_left_and_nothing_of_others() {
        let (mut state, mut stored) = (KeyedState::new(LIMITS), HashMap::new());
        state.begin(1);
        state.at(Timestamp(1));
        state.insert(key("a"), 1u64, Timestamp(10));
        state.insert(key("b"), 1, Timestamp(10));
        state.begin(2);
        state.at(Timestamp(2));
        state.insert(key("a"), 2, Timestamp(11));
        state.insert(key("c"), 2, Timestamp(11));
        state.commit(1);
        let again = restarted(&mut state, &mut stored);
        assert_eq!((again.get(&key("a")), again.get(&key("b")), again.get(&key("c"))), (Some(&1), Some(&1), None));
        assert_eq!(again.now, Timestamp(1));
        state.commit(2);
        state.begin(3);
        state.at(Timestamp(10));
        state.begin(4);
        state.commit(4);
        let again = restarted(&mut state, &mut stored);
        assert_eq!((again.get(&key("a")), again.len(), again.now), (Some(&2), 2, Timestamp(10)));
    }

    #[test]
    fn damage_and_other_versions_are_told() {
        let mut state: KeyedState<Vec<u8>, u64> = KeyedState::new(LIMITS);
        let mut value = encode(&Entry { value: 7u64, expires: Timestamp(1) });
        state.restore(&[KEY, b'a'], &value).unwrap();
        assert_eq!(state.get(&key("a")), Some(&7));
        value[0] = 2;
        assert_eq!(state.restore(&[KEY, b'a'], &value), Err(Unreadable::TooNew(2)));
        value[0] = 0;
        assert_eq!(state.restore(&[KEY, b'a'], &value), Err(Unreadable::TooOld(0)));
        assert_eq!(state.restore(&[KEY, b'a'], &value[..5]), Err(Unreadable::Damaged));
        assert_eq!(state.restore(&[], &value), Err(Unreadable::Damaged));
    }
}
