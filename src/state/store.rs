//! Ordered bytes on disk, changed all or nothing: what a graph's checkpoints are written to.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use fjall::config::PartitioningPolicy;
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

    /// At most so many keys, the first from one on that are before another.
    fn keys(&self, from: &[u8], until: &[u8], most: usize) -> io::Result<Vec<Vec<u8>>>;

    /// Makes all changes or none; they are durable when it returns. After an error nothing may be written any more:
    /// what the disk has is not known.
    fn write(&self, changes: Changes) -> io::Result<()>;

    /// Makes all changes or none; they are durable with the next [`write`](Self::write) at the latest.
    fn write_soon(&self, changes: Changes) -> io::Result<()>;
}

/// Bytes of blocks that were read, and of changes that are not in a table yet: what the store takes of memory.
const BLOCKS: u64 = 16 << 20;
const MEMTABLE: u64 = 4 << 20;
/// Bytes of the journal before tables are written out for it.
const JOURNAL: u64 = 64 << 20;

/// A folder with an LSM tree (fjall).
pub(crate) struct DiskStore {
    database: Database,
    entries: Keyspace,
}

impl DiskStore {
    /// Opens or makes the folder. A last write that was cut off is gone as a whole.
    pub fn open(dir: &Path) -> io::Result<DiskStore> {
        let builder = Database::builder(dir).cache_size(BLOCKS).max_journaling_size(JOURNAL);
        let database = builder.open().map_err(io::Error::other)?;
        // Filters and indexes by the piece: whole ones of a large state would take turns in the cache.
        let by_the_piece = || PartitioningPolicy::all(true);
        let options = || {
            KeyspaceCreateOptions::default()
                .max_memtable_size(MEMTABLE)
                .filter_block_partitioning_policy(by_the_piece())
                .index_block_partitioning_policy(by_the_piece())
        };
        let entries = database.keyspace("state", options).map_err(io::Error::other)?;
        Ok(DiskStore { database, entries })
    }

    fn write_with(&self, mut changes: Changes, durability: Option<PersistMode>) -> io::Result<()> {
        // Neighbours in the tree come one after the other: what was looked at for the last is at hand for the next.
        changes.sort_by(|(key, _), (other, _)| key.cmp(other));
        let mut batch = self.database.batch().durability(durability);
        for (key, value) in changes {
            match value {
                Some(value) => batch.insert(&self.entries, key, value),
                None => batch.remove(&self.entries, key),
            }
        }
        batch.commit().map_err(io::Error::other)
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

    fn keys(&self, from: &[u8], until: &[u8], most: usize) -> io::Result<Vec<Vec<u8>>> {
        let range = self.entries.range(from..until).take(most);
        range.map(|entry| entry.key().map(|key| key.to_vec()).map_err(io::Error::other)).collect()
    }

    fn write(&self, changes: Changes) -> io::Result<()> {
        self.write_with(changes, Some(PersistMode::SyncAll))
    }

    fn write_soon(&self, changes: Changes) -> io::Result<()> {
        self.write_with(changes, None)
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
        let has_prefix = |(key, _): &(&Vec<u8>, &Vec<u8>)| key.starts_with(prefix);
        // Whoever is told may write.
        let map = self.map().clone();
        for (key, value) in map.range(prefix.to_vec()..).take_while(has_prefix) {
            each(key, value);
        }
        Ok(())
    }

    fn keys(&self, from: &[u8], until: &[u8], most: usize) -> io::Result<Vec<Vec<u8>>> {
        Ok(self.map().range(from.to_vec()..until.to_vec()).take(most).map(|(key, _)| key.clone()).collect())
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

    fn write_soon(&self, changes: Changes) -> io::Result<()> {
        self.write(changes)
    }
}
