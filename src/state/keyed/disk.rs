//! The part of a keyed state that is on disk only.
//!
//! The store has what the last checkpoint wrote, with an index in order of expiry. What has left by its expiry is not
//! removed key by key in a checkpoint: that would take memory for each. Instead the checkpoint says how far the index is
//! `gone`, and what is behind that is removed bit by bit afterwards.

use std::collections::VecDeque;
use std::marker::PhantomData;

use super::entry::{
    COUNT, GONE, INDEX, KEY, StateKey, StateValue, Stored, decode, entry_key, index_key, of_place, place,
};
use crate::event::Timestamp;
use crate::state::part::{EachChange, Entries, Unreadable};
use crate::state::store::Changes;

/// Keys of the index that are read at once.
const READ_AHEAD: usize = if cfg!(test) { 3 } else { 256 };
/// Changes that are written at once where the whole state gets an index, or loses it.
const AT_ONCE: usize = if cfg!(test) { 2 } else { 4096 };

/// What is kept on disk.
#[derive(Debug)]
pub(super) struct Disk<K, V> {
    kept: Entries,
    /// Keys there are, here and in memory.
    pub count: usize,
    /// What the index has up to this is gone, unless it changed since the last checkpoint.
    gone: Option<(Timestamp, K)>,
    /// The same, with the count, at the last snapshot and in the last durable one.
    snapshot: (Option<(Timestamp, K)>, usize),
    durable: (Option<(Timestamp, K)>, usize),
    /// What comes next in the index, up to what was read of it last.
    ahead: VecDeque<(Timestamp, K)>,
    read: Option<(Timestamp, K)>,
    /// Whether the index has nothing behind that.
    is_end: bool,
    /// What is gone by the last checkpoint has been removed up to here.
    removed: Option<(Timestamp, K)>,
    /// Why nothing can be read any more.
    pub broken: Option<String>,
    value: PhantomData<fn() -> V>,
}

/// An entry on disk.
pub(super) struct OnDisk<V> {
    pub expires: Timestamp,
    /// None: it is gone, and is still to be removed.
    pub value: Option<V>,
}

impl<K: StateKey, V: StateValue> Disk<K, V> {
    /// Takes up what an earlier run left. A state that was kept in memory gets its index.
    pub fn open(kept: Entries) -> Result<Disk<K, V>, Unreadable> {
        let count = match kept.get(&[COUNT])? {
            Some(count) => u64::from_be_bytes(count.try_into().map_err(|_| Unreadable::Damaged)?) as usize,
            None => build_index::<K>(&kept)?,
        };
        let gone = read_gone(&kept)?;
        let durable = (gone.clone(), count);
        Ok(Disk {
            kept,
            count,
            snapshot: durable.clone(),
            durable,
            ahead: VecDeque::new(),
            read: gone.clone(),
            gone,
            is_end: false,
            removed: None,
            broken: None,
            value: PhantomData,
        })
    }

    /// Nothing can be read any more: what was asked for is not there.
    fn break_off<T>(&mut self, why: impl std::fmt::Display) -> Option<T> {
        self.broken.get_or_insert_with(|| why.to_string());
        None
    }

    /// The value of a key that the index has.
    pub fn value_of(&mut self, key: &K) -> Option<V> {
        match self.get(key).and_then(|found| found.value) {
            None => self.break_off(Unreadable::Damaged),
            value => value,
        }
    }

    /// The entry of a key that has not changed since the last checkpoint.
    pub fn get(&mut self, key: &K) -> Option<OnDisk<V>> {
        match self.try_get(key) {
            Ok(found) => found,
            Err(error) => self.break_off(error),
        }
    }

    fn try_get(&self, key: &K) -> Result<Option<OnDisk<V>>, Unreadable> {
        let stored_key = entry_key(key);
        let Some(bytes) = self.kept.get(&stored_key)? else { return Ok(None) };
        let Some(Stored::Entry { version, expires, value, .. }) = Stored::of(&stored_key, &bytes) else {
            return Err(Unreadable::Damaged);
        };
        let is_gone = self.gone.as_ref().is_some_and(|(until, last)| (expires, key) <= (*until, last));
        let value = if is_gone { None } else { Some(decode(version, value)?) };
        Ok(Some(OnDisk { expires, value }))
    }

    /// The first of the index that is not gone, and did not change since the last checkpoint.
    pub fn first(&mut self, is_changed: impl Fn(&K) -> bool) -> Option<&(Timestamp, K)> {
        loop {
            if self.ahead.is_empty()
                && !self.is_end
                && let Err(error) = self.read_ahead()
            {
                return self.break_off(error);
            }
            if !is_changed(&self.ahead.front()?.1) {
                return self.ahead.front();
            }
            // What it became is in memory.
            self.ahead.pop_front();
        }
    }

    /// The first is gone.
    pub fn pass(&mut self) {
        self.gone = self.ahead.pop_front().or(self.gone.take());
    }

    fn read_ahead(&mut self) -> Result<(), Unreadable> {
        let places = self.kept.keys(&behind(self.read.as_ref()), &[INDEX + 1], READ_AHEAD)?;
        self.is_end = places.len() < READ_AHEAD;
        for stored in places {
            self.ahead.push_back(of_place(&stored[1..]).ok_or(Unreadable::Damaged)?);
        }
        self.read = self.ahead.back().or(self.read.as_ref()).cloned();
        Ok(())
    }

    /// The index is another than was read.
    fn read_anew(&mut self) {
        self.ahead.clear();
        self.read.clone_from(&self.gone);
        self.is_end = false;
    }

    /// An expiry that is not gone: this, or the next behind what is.
    pub fn not_gone(&self, expires: Timestamp, key: &K) -> Timestamp {
        match &self.gone {
            Some((until, last)) if (expires, key) <= (*until, last) => Timestamp(until.0.saturating_add(1)),
            _ => expires,
        }
    }

    /// Tells of what a snapshot has beside its entries.
    pub fn snapshot(&mut self, each: &mut EachChange<'_>) {
        let (gone, count) = &self.snapshot;
        if *count != self.count {
            each(&[COUNT], Some((self.count as u64).to_be_bytes().to_vec()));
        }
        if *gone != self.gone {
            each(&[GONE], self.gone.as_ref().map(|(expires, key)| place(*expires, key)));
        }
        self.snapshot = (self.gone.clone(), self.count);
    }

    /// The snapshot is durable: the index is another.
    pub fn written(&mut self) {
        self.durable = self.snapshot.clone();
        self.read_anew();
    }

    /// Back to the last durable snapshot.
    pub fn abort(&mut self) {
        (self.gone, self.count) = self.durable.clone();
        self.snapshot = self.durable.clone();
        // Some of it was left out for changes that are taken back now.
        self.removed = None;
        self.read_anew();
    }

    /// Removes some of what is gone by the last checkpoint. A crash may bring it back; it is gone then as before.
    pub fn remove_gone(&mut self, is_changed: impl Fn(&K) -> bool) {
        if self.removed < self.durable.0
            && let Err(error) = self.try_remove_gone(is_changed)
        {
            self.break_off::<()>(error);
        }
    }

    fn try_remove_gone(&mut self, is_changed: impl Fn(&K) -> bool) -> Result<(), Unreadable> {
        let places = self.kept.keys(&behind(self.removed.as_ref()), &behind(self.durable.0.as_ref()), READ_AHEAD)?;
        self.removed = match places.last() {
            Some(last) if places.len() == READ_AHEAD => of_place(&last[1..]),
            _ => self.durable.0.clone(),
        };
        let mut changes = Changes::new();
        for stored in places {
            let (_, key) = of_place::<K>(&stored[1..]).ok_or(Unreadable::Damaged)?;
            // Of one that changed the next checkpoint says what is to be removed.
            if !is_changed(&key) {
                changes.push((entry_key(&key), None));
                changes.push((stored, None));
            }
        }
        Ok(self.kept.write_soon(changes)?)
    }
}

/// The first key of the index behind a place.
fn behind<K: StateKey>(place: Option<&(Timestamp, K)>) -> Vec<u8> {
    match place {
        Some((expires, key)) => [&index_key(*expires, key)[..], &[0]].concat(),
        None => vec![INDEX],
    }
}

fn read_gone<K: StateKey>(kept: &Entries) -> Result<Option<(Timestamp, K)>, Unreadable> {
    let gone = kept.get(&[GONE])?;
    gone.map(|place| of_place(&place).ok_or(Unreadable::Damaged)).transpose()
}

/// Writes changes that are made one after the other.
struct Writing<'a> {
    kept: &'a Entries,
    changes: Changes,
}

impl Writing<'_> {
    fn push(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) -> Result<(), Unreadable> {
        self.changes.push((key, value));
        if self.changes.len() < AT_ONCE { Ok(()) } else { self.flush() }
    }

    fn flush(&mut self) -> Result<(), Unreadable> {
        if self.changes.is_empty() {
            return Ok(());
        }
        Ok(self.kept.write(std::mem::take(&mut self.changes))?)
    }
}

/// Enters every key in the index; gives how many there are. The count is the last that is written: before it, nothing
/// says that there is an index.
fn build_index<K: StateKey>(kept: &Entries) -> Result<usize, Unreadable> {
    let (mut writing, mut count) = (Writing { kept, changes: Changes::new() }, 0usize);
    kept.each(&[KEY], &mut |stored, bytes| {
        let Some(Stored::Entry { key, expires, .. }) = Stored::of(stored, bytes) else {
            return Err(Unreadable::Damaged);
        };
        count += 1;
        writing.push(index_key(expires, &K::from_bytes(key).ok_or(Unreadable::Damaged)?), Some(Vec::new()))
    })?;
    writing.push(vec![COUNT], Some((count as u64).to_be_bytes().to_vec()))?;
    writing.flush()?;
    Ok(count)
}

/// Makes a state that was kept on disk one to be kept in memory: without what is gone, and without the index. Where it is
/// cut off it goes on the next time, whether that is to be in memory or not.
pub(super) fn remove_index<K: StateKey>(kept: &Entries) -> Result<(), Unreadable> {
    let mut writing = Writing { kept, changes: Changes::new() };
    if let Some(gone) = read_gone::<K>(kept)? {
        kept.each(&[INDEX], &mut |stored, _| {
            let place = of_place::<K>(&stored[1..]).ok_or(Unreadable::Damaged)?;
            if place <= gone {
                writing.push(entry_key(&place.1), None)?;
                writing.push(stored.to_vec(), None)?;
            }
            Ok(())
        })?;
        writing.flush()?;
    }
    if kept.get(&[COUNT])?.is_some() {
        writing.push(vec![GONE], None)?;
        writing.push(vec![COUNT], None)?;
        writing.flush()?;
    }
    kept.each(&[INDEX], &mut |stored, _| writing.push(stored.to_vec(), None))?;
    writing.flush()
}
