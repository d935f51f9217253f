//! Keyed state with expiry: taken back when a lane reads again, and brought back when a process starts again.
//!
//! What changed since the last durable checkpoint can be taken back: lanes that read again from there then meet the state
//! they met the first time. See [`StatePart`].
//!
//! A state is in memory whole; with [`StateLimits::cache`] the store has it ([`disk`]), and memory has what changed since
//! the last durable checkpoint and what was used lately. Its answers are the same.

mod disk;
mod entry;

use std::collections::BTreeSet;
use std::mem::size_of;

use foldhash::{HashMap, HashMapExt};

use self::disk::Disk;
use self::entry::{decode, encode, entry_key, index_key};
use super::part::{EachChange, Entries, Pressure, StatePart, Unreadable};
use crate::component::Problems;
use crate::config::ByteSize;
use crate::event::Timestamp;

pub(super) use self::entry::{CLOCK, Stored};
pub use self::entry::{StateKey, StateValue};

/// Bounds of a keyed state.
#[derive(Debug, Clone, Copy)]
pub struct StateLimits {
    /// Keys held at most; the one that would expire first makes room, and is counted.
    pub max_keys: usize,
    /// Memory that it takes, about; the rest is on disk. `None`: all of it is in memory.
    pub cache: Option<ByteSize>,
}

impl StateLimits {
    /// Of a state that is in memory whole.
    pub const fn in_memory(max_keys: usize) -> StateLimits {
        StateLimits { max_keys, cache: None }
    }

    /// Reports a `cache` in which nothing would stay.
    pub fn check_cache(cache: Option<ByteSize>, problems: &mut Problems) {
        if cache.is_some_and(|cache| cache < LEAST_CACHE) {
            let what = format!("is less than {LEAST_CACHE}: what is needed next would be on disk again");
            problems.error("cache", "out_of_range", what, "give it more");
        }
    }
}

/// The smallest cache.
const LEAST_CACHE: ByteSize = ByteSize(1 << 20);

/// Of the memory for a state the part that changes take before they are written ahead of the time.
const CHANGES: usize = 4;
/// Bytes of changes of a state in memory before they are written ahead of the time.
const MOST_CHANGES: usize = 64 << 20;
/// What maps and trees take for an entry beside it, about.
const OVERHEAD: usize = 32;
/// Keys up to which what has expired by the clock is not removed. An entry takes some 200 bytes.
pub const LINGERING: usize = if cfg!(test) { 2 } else { 10_000 };
/// So many new keys come between two looks for what is to be removed from disk.
const REMOVE_EVERY: u32 = if cfg!(test) { 2 } else { 64 };

#[derive(Debug)]
struct Entry<V> {
    value: V,
    expires: Timestamp,
    /// The generation that knows what was here before; see [`KeyedState::generation`].
    touched: u32,
    /// Bytes it was taken for.
    size: u32,
    /// It was asked for since it was last looked for something to let go.
    is_used: bool,
}

/// An entry and its expiry; `None`: there is none.
type Content<V> = Option<(V, Timestamp)>;

/// What a change replaced.
#[derive(Debug)]
enum Before<V> {
    Nothing,
    Entry(V, Timestamp),
    /// The store has it.
    Stored(Timestamp),
}

impl<V> Before<V> {
    /// The expiry by which the index has it.
    fn stored(&self) -> Option<Timestamp> {
        match self {
            Before::Stored(expires) => Some(*expires),
            Before::Nothing | Before::Entry(..) => None,
        }
    }
}

/// What changed between two snapshots.
#[derive(Debug)]
struct Generation<K, V> {
    /// The clock as it began.
    now: Timestamp,
    /// What the first change of each key replaced.
    before: HashMap<K, Before<V>>,
    /// Bytes that the changes take, about: with the entries, and beside them.
    size: usize,
    beside: usize,
}

impl<K: StateKey, V> Generation<K, V> {
    fn new(now: Timestamp) -> Self {
        Generation { now, before: HashMap::new(), size: 0, beside: 0 }
    }

    /// Notes what the first change of a key replaced: an entry of this size.
    fn note(&mut self, key: &K, before: Before<V>, size: usize) {
        // Here, and in the order of expiry.
        let beside = 2 * (size_of::<(K, Before<V>)>() + OVERHEAD + key.heap_size());
        self.beside += beside;
        self.size += beside + size;
        self.before.insert(key.clone(), before);
    }
}

/// Whether the store does not have what is to be known of a key.
fn is_changed<K: StateKey, V>(open: &Generation<K, V>, unwritten: &Option<Generation<K, V>>, key: &K) -> bool {
    open.before.contains_key(key) || unwritten.as_ref().is_some_and(|unwritten| unwritten.before.contains_key(key))
}

/// A map from key to value; every entry has an expiry.
///
/// The state has a clock of its own: the latest time it was told by [`at`](Self::at). An entry that has expired by it stays
/// until new keys need room: beyond [`LINGERING`] keys, each new one removes two expired ones. The clock hides nothing, as it
/// follows whichever key is ahead; whether an entry still holds for an event is for its author to decide, by the times of
/// its key: see [`KeySpans`](super::KeySpans). So the answers depend on the events and their order alone, never on how they
/// were cut into batches. A state that is never told the time keeps its entries until they are [due](Self::pop_due): the
/// expiry is then a timer.
#[derive(Debug)]
pub struct KeyedState<K, V> {
    entries: HashMap<K, Entry<V>>,
    /// All of the entries; of a state on disk, those that changed since the last durable checkpoint.
    by_expiry: BTreeSet<(Timestamp, K)>,
    disk: Option<Disk<K, V>>,
    now: Timestamp,
    /// Since the last snapshot.
    open: Generation<K, V>,
    /// Before the last snapshot, while that is not durable.
    unwritten: Option<Generation<K, V>>,
    /// Number of the open one: an entry that bears it has been noted in `open` already.
    generation: u32,
    /// Number of the first that is not durable.
    first_unwritten: u32,
    /// Bytes of the entries, about.
    size: usize,
    limits: StateLimits,
    evicted: u64,
    /// New keys until something is removed from disk.
    until_removal: u32,
}

impl<K: StateKey, V: StateValue> KeyedState<K, V> {
    /// An empty state.
    pub fn new(limits: StateLimits) -> Self {
        KeyedState {
            entries: HashMap::new(),
            by_expiry: BTreeSet::new(),
            disk: None,
            now: Timestamp::MIN,
            open: Generation::new(Timestamp::MIN),
            unwritten: None,
            generation: 1,
            first_unwritten: 1,
            size: 0,
            limits,
            evicted: 0,
            until_removal: REMOVE_EVERY,
        }
    }

    /// An event of this time has come: what expires by then may make room. Time does not go back.
    pub fn at(&mut self, time: Timestamp) {
        self.now = self.now.max(time);
    }

    /// The latest time it was told.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// The value under `key`, and its expiry.
    pub fn get_with_expiry(&mut self, key: &K) -> Option<(&V, Timestamp)> {
        self.load(key);
        let entry = self.entries.get_mut(key)?;
        entry.is_used = true;
        Some((&entry.value, entry.expires))
    }

    /// The value under `key`.
    pub fn get(&mut self, key: &K) -> Option<&V> {
        self.get_with_expiry(key).map(|(value, _)| value)
    }

    /// The value under `key`, to be changed in place; its expiry stays.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.load(key);
        let entry = self.entries.get_mut(key)?;
        entry.is_used = true;
        if entry.touched != self.generation {
            entry.touched = self.generation;
            let before = match &self.disk {
                None => Before::Entry(entry.value.clone(), entry.expires),
                Some(_) => {
                    self.by_expiry.insert((entry.expires, key.clone()));
                    Before::Stored(entry.expires)
                }
            };
            self.open.note(key, before, entry.size as usize);
        }
        Some(&mut entry.value)
    }

    /// Puts a value under `key` until `expires`. Where there is no room, the key that would end first goes: it is
    /// returned with its value unless it has expired.
    pub fn insert(&mut self, key: K, value: V, expires: Timestamp) -> Option<(K, V)> {
        let mut evicted = None;
        self.load(&key);
        if !self.entries.contains_key(&key) {
            self.sweep();
            if self.len() >= self.limits.max_keys {
                evicted = self.make_room();
            }
            self.tidy();
        }
        // What is gone by the clock is never put there again: a state on disk could not tell the two apart.
        let expires = expires.max(Timestamp(self.now.0.saturating_add(1)));
        let expires = self.disk.as_ref().map_or(expires, |disk| disk.not_gone(expires, &key));
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

    /// Removes the entry under `key`, if there is one.
    pub fn remove(&mut self, key: &K) {
        self.load(key);
        self.replace(key.clone(), None);
    }

    /// Takes out the first entry that expires at `until` or before, in order of expiry, then of key.
    pub fn pop_due(&mut self, until: Timestamp) -> Option<(K, V)> {
        let (expires, key) = self.first().filter(|(expires, _)| *expires <= until)?;
        if self.disk.is_some() && !self.by_expiry.contains(&(expires, key.clone())) {
            return self.pop_unchanged(key);
        }
        let (value, _) = self.replace(key.clone(), None)?;
        Some((key, value))
    }

    /// When the first entry expires.
    pub fn next_due(&mut self) -> Option<Timestamp> {
        self.first().map(|(expires, _)| expires)
    }

    /// Every key, in order of expiry, then of key. Not for a state on disk: it gives what is in memory.
    pub fn keys_in_order(&self) -> Vec<K> {
        self.by_expiry.iter().map(|(_, key)| key.clone()).collect()
    }

    /// Keys held, among them some that have expired a moment ago.
    pub fn len(&self) -> usize {
        self.disk.as_ref().map_or(self.entries.len(), |disk| disk.count)
    }

    /// Whether no key is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What expires first.
    fn first(&mut self) -> Option<(Timestamp, K)> {
        let KeyedState { disk, by_expiry, open, unwritten, .. } = self;
        let here = by_expiry.first();
        let there = disk.as_mut().and_then(|disk| disk.first(|key| is_changed(open, unwritten, key)));
        match (here, there) {
            (Some(here), Some(there)) => Some(here.min(there).clone()),
            (here, there) => here.or(there).cloned(),
        }
    }

    /// Takes out the first entry of the index on disk, which is the first of all.
    fn pop_unchanged(&mut self, key: K) -> Option<(K, V)> {
        let disk = self.disk.as_mut()?;
        let value = match self.entries.remove(&key) {
            Some(entry) => {
                self.size -= entry.size as usize;
                entry.value
            }
            None => disk.value_of(&key)?,
        };
        disk.pass();
        disk.count -= 1;
        Some((key, value))
    }

    fn make_room(&mut self) -> Option<(K, V)> {
        let (expires, key) = self.first()?;
        self.load(&key);
        let (value, _) = self.replace(key.clone(), None)?;
        let is_loss = expires > self.now;
        self.evicted += u64::from(is_loss);
        is_loss.then_some((key, value))
    }

    /// Lets go of some of what has expired, so that a new key never finds more of it than there was. That depends on the
    /// events alone, and never on where batches end or what is in memory.
    fn sweep(&mut self) {
        for _ in 0..2 {
            if self.len() <= LINGERING || self.pop_due(self.now).is_none() {
                return;
            }
        }
    }

    /// Brings a key into memory that only the disk has.
    fn load(&mut self, key: &K) {
        let KeyedState { disk: Some(disk), entries, open, unwritten, .. } = self else { return };
        if entries.contains_key(key) || is_changed(open, unwritten, key) {
            return;
        }
        let Some(found) = disk.get(key) else { return };
        let Some(value) = found.value else {
            // Gone, and not removed yet: the next checkpoint does.
            open.note(key, Before::Stored(found.expires), 0);
            return;
        };
        self.let_go();
        let entry = Self::entry(key, value, found.expires, 0);
        self.size += entry.size as usize;
        self.entries.insert(key.clone(), entry);
    }

    fn entry(key: &K, value: V, expires: Timestamp, touched: u32) -> Entry<V> {
        let size = size_of::<(K, Entry<V>)>() + OVERHEAD + key.heap_size() + value.heap_size();
        Entry { value, expires, touched, size: u32::try_from(size).unwrap_or(u32::MAX), is_used: true }
    }

    /// Changes an entry, and notes what it was.
    fn replace(&mut self, key: K, content: Content<V>) -> Content<V> {
        let entry = content.map(|(value, expires)| Self::entry(&key, value, expires, self.generation));
        let size = entry.as_ref().map(|entry| entry.size as usize);
        let before = self.put(key.clone(), entry);
        if let Some(disk) = &mut self.disk {
            disk.count = disk.count + usize::from(size.is_some()) - usize::from(before.is_some());
        }
        let Some(Entry { value, expires, touched, .. }) = before else {
            // It may have been removed a moment ago, and then what it was is known.
            if !self.open.before.contains_key(&key) {
                self.open.note(&key, Before::Nothing, size.unwrap_or_default());
            }
            return None;
        };
        if touched != self.generation {
            let before = match &self.disk {
                None => Before::Entry(value.clone(), expires),
                Some(_) => Before::Stored(expires),
            };
            self.open.note(&key, before, size.unwrap_or_default());
        } else if self.disk.is_some() && size.is_none() && matches!(self.open.before.get(&key), Some(Before::Nothing)) {
            // It came and went between two checkpoints: nobody has to know.
            self.open.before.remove(&key);
        }
        Some((value, expires))
    }

    fn put(&mut self, key: K, entry: Option<Entry<V>>) -> Option<Entry<V>> {
        let expires = entry.as_ref().map(|entry| entry.expires);
        let before = match entry {
            Some(entry) => {
                self.size += entry.size as usize;
                self.entries.insert(key.clone(), entry)
            }
            None => self.entries.remove(&key),
        };
        let expired = before.as_ref().map(|before| before.expires);
        self.size -= before.as_ref().map_or(0, |before| before.size as usize);
        if let Some(expired) = expired.filter(|_| expired != expires) {
            self.by_expiry.remove(&(expired, key.clone()));
        }
        // Of a state on disk it may have been in the index alone.
        if let Some(expires) = expires.filter(|_| expired != expires || self.disk.is_some()) {
            self.by_expiry.insert((expires, key));
        }
        before
    }

    fn take_back(&mut self, generation: Generation<K, V>) {
        for (key, before) in generation.before {
            let entry = match before {
                Before::Entry(value, expires) => Some(Self::entry(&key, value, expires, 0)),
                // The store has what it was.
                Before::Nothing | Before::Stored(_) => None,
            };
            self.put(key, entry);
        }
        self.now = generation.now;
    }

    /// As new keys come, lets go of others in memory, and removes what is gone from disk.
    fn tidy(&mut self) {
        let KeyedState { disk: Some(disk), open, unwritten, until_removal, .. } = self else { return };
        *until_removal -= 1;
        if *until_removal == 0 {
            *until_removal = REMOVE_EVERY;
            disk.remove_gone(|key| is_changed(open, unwritten, key));
            self.let_go();
        }
    }

    /// Bytes of memory for a state on disk.
    fn cache(&self) -> Option<usize> {
        let cache = self.limits.cache.filter(|_| self.disk.is_some())?;
        Some(usize::try_from(cache.0).unwrap_or(usize::MAX))
    }

    /// Where memory is short, lets go of what the disk has: first of what was not asked for lately.
    fn let_go(&mut self) {
        let Some(cache) = self.cache() else { return };
        let unwritten = self.unwritten.as_ref().map_or((0, 0), |unwritten| (unwritten.size, unwritten.beside));
        let all = self.size + self.open.beside + unwritten.1;
        let unchanged = all.saturating_sub(self.open.size + unwritten.0);
        // A look at every entry is to be worth it.
        if all <= cache || unchanged <= cache / 8 {
            return;
        }
        let enough = cache / 4 * 3;
        for lets_go_of_used in [false, true] {
            let mut size = self.size;
            self.entries.retain(|_, entry| {
                let stays = entry.touched >= self.first_unwritten || (entry.is_used && !lets_go_of_used);
                entry.is_used = false;
                size -= if stays { 0 } else { entry.size as usize };
                stays
            });
            let freed = self.size - size;
            self.size = size;
            if all.saturating_sub(freed) <= enough {
                return;
            }
        }
    }
}

impl<K: StateKey, V: StateValue> StatePart for KeyedState<K, V> {
    fn snapshot(&mut self, each: &mut EachChange<'_>) {
        let closed = std::mem::replace(&mut self.open, Generation::new(self.now));
        self.generation += 1;
        for (key, before) in &closed.before {
            let entry = self.entries.get(key);
            if entry.is_some() || !matches!(before, Before::Nothing) {
                each(&entry_key(key), entry.map(|entry| encode(&entry.value, entry.expires)));
            }
            let (stood, stands) = (before.stored(), entry.map(|entry| entry.expires));
            if self.disk.is_some() && stood != stands {
                stood.into_iter().for_each(|expires| each(&index_key(expires, key), None));
                stands.into_iter().for_each(|expires| each(&index_key(expires, key), Some(Vec::new())));
            }
        }
        if closed.now != self.now {
            each(&[CLOCK], Some(self.now.0.to_be_bytes().to_vec()));
        }
        if let Some(disk) = &mut self.disk {
            disk.snapshot(each);
        }
        self.unwritten = Some(match self.unwritten.take() {
            None => closed,
            // What the older of the two found is what the durable one left.
            Some(mut older) => {
                for (key, before) in closed.before {
                    older.before.entry(key).or_insert(before);
                }
                (older.size, older.beside) = (older.size + closed.size, older.beside + closed.beside);
                older
            }
        });
    }

    fn written(&mut self) {
        let Some(written) = self.unwritten.take() else { return };
        self.first_unwritten = self.generation;
        let Some(disk) = &mut self.disk else { return };
        disk.written();
        for key in written.before.into_keys() {
            if let Some(entry) = self.entries.get(&key)
                && !self.open.before.contains_key(&key)
            {
                self.by_expiry.remove(&(entry.expires, key));
            }
        }
        self.let_go();
    }

    fn abort(&mut self) {
        let open = std::mem::replace(&mut self.open, Generation::new(Timestamp::MIN));
        self.take_back(open);
        if let Some(unwritten) = self.unwritten.take() {
            self.take_back(unwritten);
        }
        if let Some(disk) = &mut self.disk {
            disk.abort();
        }
        self.generation += 1;
        self.first_unwritten = self.generation;
        self.open.now = self.now;
    }

    fn take_up(&mut self, entries: Entries) -> Result<(), Unreadable> {
        if self.limits.cache.is_none() {
            disk::remove_index::<K>(&entries)?;
            return entries.each(&[], &mut |key, bytes| self.restore(key, bytes));
        }
        if let Some(clock) = entries.get(&[CLOCK])? {
            self.restore(&[CLOCK], &clock)?;
        }
        self.disk = Some(Disk::open(entries)?);
        Ok(())
    }

    fn restore(&mut self, key: &[u8], bytes: &[u8]) -> Result<(), Unreadable> {
        match Stored::of(key, bytes).ok_or(Unreadable::Damaged)? {
            Stored::Clock(now) => {
                self.now = now;
                self.open.now = now;
            }
            Stored::Entry { key, version, expires, value } => {
                let key = K::from_bytes(key).ok_or(Unreadable::Damaged)?;
                let entry = Self::entry(&key, decode(version, value)?, expires, 0);
                self.put(key, Some(entry));
            }
            Stored::Aid => {}
        }
        Ok(())
    }

    fn bound_time(&mut self, latest: Timestamp) -> bool {
        let is_ahead = self.now > latest;
        if is_ahead {
            self.now = Timestamp::MIN;
            self.open.now = Timestamp::MIN;
        }
        is_ahead
    }

    fn evicted(&self) -> u64 {
        self.evicted
    }

    fn pressure(&self) -> Pressure {
        if let Some(why) = self.disk.as_ref().and_then(|disk| disk.broken.clone()) {
            Pressure::Broken(why)
        } else if self.open.size < self.cache().map_or(MOST_CHANGES, |cache| cache / CHANGES) {
            Pressure::None
        } else if self.unwritten.is_none() {
            Pressure::High
        } else {
            Pressure::Full
        }
    }
}

#[cfg(test)]
mod tests;
