//! Ordered bytes on disk, changed all or nothing: what a graph's checkpoints are written to.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

/// Keys to put, with their bytes, and keys to remove.
pub type Changes = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// Is told of a key and its bytes.
pub type EachEntry<'a> = dyn FnMut(&[u8], &[u8]) + 'a;

/// A sorted map of bytes that survives a crash.
pub trait StateStore: Send + Sync {
    /// The bytes under `key`, if any.
    fn get(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>>;

    /// Tells of every entry whose key begins with `prefix`, in order of the keys.
    fn scan(&self, prefix: &[u8], each: &mut EachEntry<'_>) -> io::Result<()>;

    /// Makes all changes or none; they are durable when it returns. After an error nothing may be written any more:
    /// what the disk has is not known.
    fn write(&self, changes: Changes) -> io::Result<()>;
}

/// A folder with an LSM tree (fjall).
pub(crate) struct DiskStore {
    database: Database,
    entries: Keyspace,
}

impl DiskStore {
    /// Opens or makes the folder. A last write that was cut off is gone as a whole.
    pub fn open(dir: &Path) -> io::Result<DiskStore> {
        let database = Database::builder(dir).open().map_err(io::Error::other)?;
        let entries = database.keyspace("state", KeyspaceCreateOptions::default).map_err(io::Error::other)?;
        Ok(DiskStore { database, entries })
    }
}

impl StateStore for DiskStore {
    fn get(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        Ok(self.entries.get(key).map_err(io::Error::other)?.map(|bytes| bytes.to_vec()))
    }

    fn scan(&self, prefix: &[u8], each: &mut EachEntry<'_>) -> io::Result<()> {
        for entry in self.entries.prefix(prefix) {
            let (key, value) = entry.into_inner().map_err(io::Error::other)?;
            each(&key, &value);
        }
        Ok(())
    }

    fn write(&self, changes: Changes) -> io::Result<()> {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncAll));
        for (key, value) in changes {
            match value {
                Some(value) => batch.insert(&self.entries, key, value),
                None => batch.remove(&self.entries, key),
            }
        }
        batch.commit().map_err(io::Error::other)
    }
}

/// A store for tests and the simulator; "durable" as long as the value lives.
#[derive(Debug, Default)]
pub struct MemoryStore(Mutex<BTreeMap<Vec<u8>, Vec<u8>>>);

impl MemoryStore {
    fn map(&self) -> MutexGuard<'_, BTreeMap<Vec<u8>, Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StateStore for MemoryStore {
    fn get(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        Ok(self.map().get(key).cloned())
    }

    fn scan(&self, prefix: &[u8], each: &mut EachEntry<'_>) -> io::Result<()> {
        let map = self.map();
        let entries = map.range(prefix.to_vec()..).take_while(|(key, _)| key.starts_with(prefix));
        for (key, value) in entries {
            each(key, value);
        }
        Ok(())
    }

    fn write(&self, changes: Changes) -> io::Result<()> {
        let mut map = self.map();
        for (key, value) in changes {
            match value {
                Some(value) => map.insert(key, value),
                None => map.remove(&key),
            };
        }
        Ok(())
    }
}
