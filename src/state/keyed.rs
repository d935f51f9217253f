//! Keyed state with expiry: taken back when a lane reads again, and brought back when a process starts again.
//!
//! What changed since the last durable checkpoint can be taken back: lanes that read again from there then meet the state
//! they met the first time. See [`StatePart`].

use std::collections::{BTreeSet, HashMap};
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

#[derive(Debug)]
struct Entry<V> {
    value: V,
    expires: Timestamp,
    /// The generation that knows what was here before; see [`KeyedState::generation`].
    touched: u64,
}

/// An entry as it was; `None`: there was none.
type Before<V> = Option<(V, Timestamp)>;

/// What changed between two snapshots.
#[derive(Debug)]
struct Generation<K, V> {
    /// The clock as it began.
    now: Timestamp,
    /// What the first change of each key replaced.
    before: HashMap<K, Before<V>>,
}

impl<K, V> Generation<K, V> {
    fn new(now: Timestamp) -> Self {
        Generation { now, before: HashMap::new() }
    }
}

/// A map from key to value; every entry has an expiry.
///
/// The state has a clock of its own: the latest time it was told by [`at`](Self::at). An entry whose expiry is not behind
/// that time is gone. So the answers depend on the events and their order alone, never on how they were cut into batches.
/// A state that is never told the time keeps its entries until they are [due](Self::pop_due): the expiry is then a timer.
#[derive(Debug)]
pub struct KeyedState<K, V> {
    entries: HashMap<K, Entry<V>>,
    by_expiry: BTreeSet<(Timestamp, K)>,
    now: Timestamp,
    /// Since the last snapshot.
    open: Generation<K, V>,
    /// Before the last snapshot, while that is not durable.
    unwritten: Option<Generation<K, V>>,
    /// Number of the open one: an entry that bears it has been noted in `open` already.
    generation: u64,
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
            open: Generation::new(Timestamp::MIN),
            unwritten: None,
            generation: 1,
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

    /// The value under `key`, to be changed in place; its expiry stays.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let entry = self.entries.get_mut(key).filter(|entry| entry.expires > self.now)?;
        if entry.touched != self.generation {
            entry.touched = self.generation;
            self.open.before.insert(key.clone(), Some((entry.value.clone(), entry.expires)));
        }
        Some(&mut entry.value)
    }

    /// Puts a value under `key` until `expires`. Where there is no room, the key that would end first goes: it is
    /// returned with its value unless it has expired.
    pub fn insert(&mut self, key: K, value: V, expires: Timestamp) -> Option<(K, V)> {
        let mut evicted = None;
        if !self.entries.contains_key(&key) {
            self.sweep();
            if self.entries.len() >= self.limits.max_keys {
                evicted = self.make_room();
            }
        }
        self.replace(key, Some((value, expires)));
        evicted
    }

    /// Puts a value under `key` if there is none; says whether it did.
    pub fn insert_new(&mut self, key: K, value: V, expires: Timestamp) -> bool {
        let is_new = self.get(&key).is_none();
        if is_new {
            self.insert(key, value, expires);
        }
        is_new
    }

    /// Takes out the first entry that expires at `until` or before, in order of expiry, then of key.
    pub fn pop_due(&mut self, until: Timestamp) -> Option<(K, V)> {
        let (_, key) = self.by_expiry.first().filter(|(expires, _)| *expires <= until)?.clone();
        let (value, _) = self.replace(key.clone(), None)?;
        Some((key, value))
    }

    /// Every key, in order of expiry, then of key.
    pub fn keys_in_order(&self) -> Vec<K> {
        self.by_expiry.iter().map(|(_, key)| key.clone()).collect()
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

    fn make_room(&mut self) -> Option<(K, V)> {
        let (expires, key) = self.by_expiry.first().cloned()?;
        let (value, _) = self.replace(key.clone(), None)?;
        let is_loss = expires > self.now;
        self.evicted += u64::from(is_loss);
        is_loss.then_some((key, value))
    }

    /// Lets go of some of what has expired, so that a new key never finds more of it than there was. No answer changes
    /// by it.
    fn sweep(&mut self) {
        for _ in 0..2 {
            match self.by_expiry.first() {
                Some((expires, key)) if *expires <= self.now => {
                    let key = key.clone();
                    self.replace(key, None);
                }
                _ => return,
            }
        }
    }

    /// Changes an entry, and notes what it was.
    fn replace(&mut self, key: K, entry: Before<V>) -> Before<V> {
        let touched = self.generation;
        let before = self.put(key.clone(), entry, touched);
        match &before {
            Some(before) if before.touched == touched => {}
            Some(before) => {
                self.open.before.insert(key, Some((before.value.clone(), before.expires)));
            }
            // It may have been removed a moment ago, and then what it was is known.
            None => {
                self.open.before.entry(key).or_insert(None);
            }
        }
        before.map(|before| (before.value, before.expires))
    }

    fn put(&mut self, key: K, entry: Before<V>, touched: u64) -> Option<Entry<V>> {
        let expires = entry.as_ref().map(|(_, expires)| *expires);
        let before = match entry {
            Some((value, expires)) => self.entries.insert(key.clone(), Entry { value, expires, touched }),
            None => self.entries.remove(&key),
        };
        let expired = before.as_ref().map(|before| before.expires);
        if expired == expires {
            return before;
        }
        if let Some(expired) = expired {
            self.by_expiry.remove(&(expired, key.clone()));
        }
        if let Some(expires) = expires {
            self.by_expiry.insert((expires, key));
        }
        before
    }

    fn take_back(&mut self, generation: Generation<K, V>) {
        for (key, before) in generation.before {
            self.put(key, before, 0);
        }
        self.now = generation.now;
    }
}

/// In front of the clock and of each key in the store, to tell them apart.
pub(super) const CLOCK: u8 = 0;
const KEY: u8 = 1;

impl<K: StateKey, V: StateValue> StatePart for KeyedState<K, V> {
    fn snapshot(&mut self, each: &mut EachChange<'_>) {
        let closed = std::mem::replace(&mut self.open, Generation::new(self.now));
        self.generation += 1;
        for key in closed.before.keys() {
            let mut stored_key = key.to_bytes();
            stored_key.insert(0, KEY);
            each(&stored_key, self.entries.get(key).map(encode));
        }
        if closed.now != self.now {
            each(&[CLOCK], Some(self.now.0.to_be_bytes().to_vec()));
        }
        self.unwritten = Some(match self.unwritten.take() {
            None => closed,
            // What the older of the two found is what the durable one left.
            Some(mut older) => {
                for (key, before) in closed.before {
                    older.before.entry(key).or_insert(before);
                }
                older
            }
        });
    }

    fn written(&mut self) {
        self.unwritten = None;
    }

    fn abort(&mut self) {
        let open = std::mem::replace(&mut self.open, Generation::new(Timestamp::MIN));
        self.take_back(open);
        if let Some(unwritten) = self.unwritten.take() {
            self.take_back(unwritten);
        }
        self.generation += 1;
        self.open.now = self.now;
    }

    fn restore(&mut self, key: &[u8], bytes: &[u8]) -> Result<(), Unreadable> {
        match Stored::of(key, bytes).ok_or(Unreadable::Damaged)? {
            Stored::Clock(now) => {
                self.now = now;
                self.open.now = now;
            }
            Stored::Entry { key, version, expires, value } => {
                let key = K::from_bytes(key).ok_or(Unreadable::Damaged)?;
                self.put(key, Some((decode(version, value)?, expires)), 0);
            }
        }
        Ok(())
    }
}

/// The version of the value's type, the expiry (8 bytes, big-endian), and the value.
/// `[version][expiry, 8 bytes big-endian][value as MessagePack]`.
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

    type State = KeyedState<Vec<u8>, u64>;
    type Stored = HashMap<Vec<u8>, Vec<u8>>;

    fn key(text: &str) -> Vec<u8> {
        text.as_bytes().to_vec()
    }

    fn snapshot(state: &mut State, stored: &mut Stored) {
        state.snapshot(&mut |key, value| {
            match value {
                Some(value) => stored.insert(key.to_vec(), value),
                None => stored.remove(key),
            };
        });
    }

    /// The state as a restart would find it.
    fn restarted(stored: &Stored) -> State {
        let mut again = KeyedState::new(LIMITS);
        for (key, value) in stored {
            again.restore(key, value).unwrap();
        }
        again
    }

    fn contents(state: &State) -> (Timestamp, Vec<(Vec<u8>, u64)>) {
        let mut all: Vec<_> = state.entries.iter().map(|(key, entry)| (key.clone(), entry.value)).collect();
        all.sort();
        let listed: Vec<_> = state.by_expiry.iter().map(|(expires, key)| (key.clone(), *expires)).collect();
        assert!(listed.iter().all(|(key, expires)| state.entries[key].expires == *expires), "one order, one map");
        assert_eq!(listed.len(), all.len());
        (state.now, all)
    }

    #[test]
    fn what_is_taken_back_leaves_no_trace() {
        let (mut state, mut stored) = (KeyedState::new(LIMITS), Stored::new());
        state.at(Timestamp(1));
        state.insert(key("a"), 1u64, Timestamp(10));
        snapshot(&mut state, &mut stored);
        state.written();
        let durable = contents(&state);
        for snapshots in 0..3 {
            state.at(Timestamp(5));
            state.insert(key("b"), 2, Timestamp(20));
            *state.get_mut(&key("a")).unwrap() += 6;
            for _ in 0..snapshots {
                snapshot(&mut state, &mut Stored::new());
                *state.get_mut(&key("a")).unwrap() += 1;
                state.insert(key("c"), 3, Timestamp(30));
            }
            assert_eq!(state.pop_due(Timestamp(10)).unwrap().1, 7 + snapshots);
            state.insert(key("a"), 9, Timestamp(40));
            state.abort();
            assert_eq!(contents(&state), durable, "after {snapshots} snapshots that were not written");
        }
        assert_eq!(contents(&restarted(&stored)), durable);
    }

    #[test]
    fn a_snapshot_holds_what_is_there_at_the_barrier() {
        let (mut state, mut stored) = (KeyedState::new(LIMITS), Stored::new());
        for round in 0..4u64 {
            state.at(Timestamp(round as i64));
            state.insert(round.to_be_bytes().to_vec(), round, Timestamp(round as i64 + 2));
            if let Some(value) = state.get_mut(&0u64.to_be_bytes().to_vec()) {
                *value += 10;
            }
            snapshot(&mut state, &mut stored);
            assert_eq!(contents(&restarted(&stored)), contents(&state));
            state.written();
        }
    }

    #[test]
    fn what_has_expired_is_gone() {
        let mut state = KeyedState::new(LIMITS);
        state.insert(key("a"), 0u64, Timestamp(9));
        state.at(Timestamp(9));
        assert_eq!(state.get(&key("a")), None);
        assert_eq!(state.get_mut(&key("a")), None);
        assert!(state.insert_new(key("a"), 1, Timestamp(12)));
        state.at(Timestamp(3));
        assert_eq!(state.get(&key("a")), Some(&1));
        state.at(Timestamp(12));
        state.insert(key("b"), 0, Timestamp(20));
        assert_eq!(state.len(), 1, "and makes room");
    }

    #[test]
    fn entries_come_due_in_order_of_time_and_key() {
        let mut state = KeyedState::new(StateLimits { max_keys: 10 });
        for (name, expires) in [("b", 4), ("c", 2), ("a", 4), ("d", 5)] {
            state.insert(key(name), 0u64, Timestamp(expires));
        }
        let due: Vec<Vec<u8>> = std::iter::from_fn(|| state.pop_due(Timestamp(4))).map(|(key, _)| key).collect();
        assert_eq!(due, [key("c"), key("a"), key("b")]);
        assert_eq!(state.len(), 1);
    }

    #[test]
    fn the_key_that_would_end_first_makes_room() {
        let mut state = KeyedState::new(LIMITS);
        let mut evicted = Vec::new();
        for (name, expires) in [("a", 4), ("b", 2), ("c", 3), ("d", 5)] {
            evicted.extend(state.insert(key(name), expires as u64, Timestamp(expires)));
        }
        assert_eq!((state.len(), state.evicted(), evicted), (3, 1, vec![(key("b"), 2)]));
        state.at(Timestamp(3));
        assert_eq!(state.insert(key("e"), 0, Timestamp(9)), None);
        assert_eq!((state.len(), state.evicted()), (3, 1), "one that has expired is no loss");
    }

    #[test]
    fn damage_and_other_versions_are_told() {
        let mut state: State = KeyedState::new(LIMITS);
        let mut value = encode(&Entry { value: 7u64, expires: Timestamp(1), touched: 0 });
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
