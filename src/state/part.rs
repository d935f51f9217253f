//! What a lane does with the states of its transforms; authors need not know of it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::store::{Changes, StateStore};
use crate::event::Timestamp;

/// Is told of a key, and of its bytes unless it is gone.
pub type EachChange<'a> = dyn FnMut(&[u8], Option<Vec<u8>>) + 'a;

/// Is told of a key and its bytes; an error is the end of it.
pub type EachKept<'a> = dyn FnMut(&[u8], &[u8]) -> Result<(), Unreadable> + 'a;

/// A state that can be taken back, written and brought back. [`super::KeyedState`] is one.
///
/// Life of a checkpoint: `snapshot` at the barrier, then `written` once it is durable. What came behind the last durable
/// snapshot can be taken back at any time.
pub trait StatePart: Send {
    /// A barrier: tells of every entry that changed since the last one, its key, and its bytes unless it is gone.
    fn snapshot(&mut self, each: &mut EachChange<'_>);

    /// The last snapshot is durable.
    fn written(&mut self);

    /// Takes back everything behind the last durable snapshot.
    fn abort(&mut self);

    /// Takes in an entry as [`snapshot`](Self::snapshot) told it, of an earlier run.
    fn restore(&mut self, key: &[u8], bytes: &[u8]) -> Result<(), Unreadable>;

    /// Takes up what an earlier run left: all of it, unless the state goes on reading from there.
    fn take_up(&mut self, entries: Entries) -> Result<(), Unreadable> {
        entries.each(&[], &mut |key, bytes| self.restore(key, bytes))
    }

    /// Forgets a clock of its own that stands behind `latest`: an earlier version let it run ahead of the wall clock. Says
    /// whether it did.
    fn bound_time(&mut self, _latest: Timestamp) -> bool {
        false
    }

    /// Keys that had to go before their time for lack of room, so far.
    fn evicted(&self) -> u64 {
        0
    }

    /// Whether its changes are to be written before the time.
    fn pressure(&self) -> Pressure {
        Pressure::None
    }
}

/// How urgent the next checkpoint is to a state.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// No compression.
    None,
    /// The changes take so much memory that they are to be written soon.
    High,
    /// Nothing more is to come before the last snapshot is durable.
    Full,
    /// The store cannot be read any more, and what was decided since is not to be relied on: for this reason.
    Broken(String),
}

/// Why what an earlier run left cannot be taken up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// It is not what was written.
    #[error("an entry is damaged")]
    Damaged,
    /// Nobody remembers this version of its type.
    #[error("an entry has version {0}, which this weir no longer reads")]
    TooOld(u8),
    /// A later weir wrote it.
    #[error("an entry has version {0}, which a later weir wrote")]
    TooNew(u8),
    /// The store cannot be read or written.
    #[error("the disk refused: {0}")]
    Refused(String),
}

impl From<io::Error> for Unreadable {
    fn from(error: io::Error) -> Self {
        Unreadable::Refused(error.to_string())
    }
}

/// The entries of one state in the store.
#[derive(Clone)]
pub struct Entries {
    store: Arc<dyn StateStore>,
    /// Of all their keys.
    prefix: Vec<u8>,
    /// A write failed: nothing is written any more.
    is_broken: Arc<AtomicBool>,
}

impl std::fmt::Debug for Entries {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entries").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

impl Entries {
    pub(super) fn new(store: Arc<dyn StateStore>, prefix: Vec<u8>, is_broken: Arc<AtomicBool>) -> Entries {
        Entries { store, prefix, is_broken }
    }

    fn with_prefix(&self, key: &[u8]) -> Vec<u8> {
        [&self.prefix, key].concat()
    }

    /// The bytes under a key.
    pub(super) fn get(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        self.store.get(&self.with_prefix(key))
    }

    /// Tells of every entry whose key begins so, in order of the keys.
    pub(super) fn each(&self, key_prefix: &[u8], each: &mut EachKept<'_>) -> Result<(), Unreadable> {
        let mut result = Ok(());
        self.store.scan(&self.with_prefix(key_prefix), &mut |key, bytes| {
            if result.is_ok() {
                result = each(&key[self.prefix.len()..], bytes);
            }
        })?;
        result
    }

    /// At most so many keys, the first from one on that are before another.
    pub(super) fn keys(&self, from: &[u8], until: &[u8], most: usize) -> io::Result<Vec<Vec<u8>>> {
        let mut keys = self.store.keys(&self.with_prefix(from), &self.with_prefix(until), most)?;
        keys.iter_mut().for_each(|key| drop(key.drain(..self.prefix.len())));
        Ok(keys)
    }

    fn all_with_prefix(&self, changes: Changes) -> Changes {
        changes.into_iter().map(|(key, value)| (self.with_prefix(&key), value)).collect()
    }

    /// Writes what is no part of a checkpoint, durably.
    pub(super) fn write(&self, changes: Changes) -> io::Result<()> {
        if self.is_broken.load(Relaxed) {
            return Err(io::Error::other("an earlier write failed; start again"));
        }
        self.store.write(self.all_with_prefix(changes)).inspect_err(|_| self.is_broken.store(true, Relaxed))
    }

    /// Writes what may come to be durable later, or not at all.
    pub(super) fn write_soon(&self, changes: Changes) -> io::Result<()> {
        if changes.is_empty() || self.is_broken.load(Relaxed) {
            return Ok(());
        }
        self.store.write_soon(self.all_with_prefix(changes))
    }
}
