//! How the entries of a keyed state stand in the store.
//!
//! Each key begins with a byte that says what it is; numbers are big-endian:
//!
//! | key | value |
//! |---|---|
//! | `CLOCK` | the state's clock, 8 bytes |
//! | `KEY`, key | version of the value's type, expiry (8 bytes), the value as MessagePack |
//! | `INDEX`, expiry, key | nothing: in order of expiry, where the state is kept on disk |
//! | `COUNT` | how many keys there are, 8 bytes, where the state is kept on disk |
//! | `GONE` | an expiry and a key: what the index has up to there is gone |

use std::collections::{BTreeMap, VecDeque};
use std::hash::Hash;
use std::mem::size_of;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::event::Timestamp;
use crate::state::part::Unreadable;

pub(crate) const CLOCK: u8 = 0;
pub(super) const KEY: u8 = 1;
pub(super) const INDEX: u8 = 2;
pub(super) const COUNT: u8 = 3;
pub(super) const GONE: u8 = 4;

/// The key of a state, as it stands in the store.
pub trait StateKey: Hash + Ord + Clone + Send {
    /// Its bytes, which sort as the keys do.
    fn to_bytes(&self) -> Vec<u8>;
    /// From what [`to_bytes`](Self::to_bytes) gave.
    fn from_bytes(bytes: &[u8]) -> Option<Self>;
    /// Bytes that it takes beside itself, about.
    fn heap_size(&self) -> usize {
        0
    }
}

impl StateKey for Vec<u8> {
    fn to_bytes(&self) -> Vec<u8> {
        self.clone()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(bytes.to_vec())
    }

    fn heap_size(&self) -> usize {
        self.capacity()
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

    /// Bytes that it takes beside itself, about.
    fn heap_size(&self) -> usize {
        0
    }
}

impl StateValue for () {}
impl StateValue for i64 {}
impl StateValue for u64 {}

/// A list. What its items have beside themselves is not weighed, and their type cannot change: where it may, or they are
/// large, the value is a type of its own around the list. So it is with all of these.
impl<T: Serialize + DeserializeOwned + Clone + Send> StateValue for Vec<T> {
    fn heap_size(&self) -> usize {
        size_of::<T>() * self.capacity()
    }
}

/// A list with two ends.
impl<T: Serialize + DeserializeOwned + Clone + Send> StateValue for VecDeque<T> {
    fn heap_size(&self) -> usize {
        size_of::<T>() * self.capacity()
    }
}

/// An ordered map.
impl<K: Serialize + DeserializeOwned + Ord + Clone + Send, T: Serialize + DeserializeOwned + Clone + Send> StateValue
    for BTreeMap<K, T>
{
    fn heap_size(&self) -> usize {
        (size_of::<K>() + size_of::<T>() + size_of::<usize>()) * self.len()
    }
}

/// An entry as the store has it.
pub(super) fn encode<V: StateValue>(value: &V, expires: Timestamp) -> Vec<u8> {
    let mut bytes = vec![V::VERSION];
    bytes.extend(expires.0.to_be_bytes());
    // Nothing that a value can hold is refused; were it, the empty rest would be told as damage.
    if rmp_serde::encode::write(&mut bytes, value).is_err() {
        bytes.truncate(9);
    }
    bytes
}

pub(super) fn decode<V: StateValue>(version: u8, value: &[u8]) -> Result<V, Unreadable> {
    match version {
        version if version == V::VERSION => rmp_serde::from_slice(value).map_err(|_| Unreadable::Damaged),
        version if version < V::VERSION => V::migrate(version, value).ok_or(Unreadable::TooOld(version)),
        version => Err(Unreadable::TooNew(version)),
    }
}

/// Where a key stands in the store.
pub(super) fn entry_key<K: StateKey>(key: &K) -> Vec<u8> {
    [&[KEY], &*key.to_bytes()].concat()
}

/// An expiry and a key, so that they sort like the pair.
pub(super) fn place<K: StateKey>(expires: Timestamp, key: &K) -> Vec<u8> {
    let sorted = expires.0.cast_unsigned() ^ (1 << 63);
    [&sorted.to_be_bytes()[..], &key.to_bytes()].concat()
}

/// Where a key stands in the index.
pub(super) fn index_key<K: StateKey>(expires: Timestamp, key: &K) -> Vec<u8> {
    [&[INDEX], &*place(expires, key)].concat()
}

/// From what [`place`] gave.
pub(super) fn of_place<K: StateKey>(place: &[u8]) -> Option<(Timestamp, K)> {
    let (sorted, key) = place.split_first_chunk()?;
    let expires = (u64::from_be_bytes(*sorted) ^ (1 << 63)).cast_signed();
    Some((Timestamp(expires), K::from_bytes(key)?))
}

/// What stands in the store, as far as it can be read without the types of keys and values.
pub(crate) enum Stored<'a> {
    /// The state's clock.
    Clock(Timestamp),
    /// A key and its value in MessagePack.
    Entry { key: &'a [u8], version: u8, expires: Timestamp, value: &'a [u8] },
    /// Nothing of its own.
    Aid,
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
            (&INDEX, _) | (&(COUNT | GONE), []) => Some(Stored::Aid),
            _ => None,
        }
    }
}
