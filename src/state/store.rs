//! Ordered bytes on disk, changed all or nothing: what a graph's checkpoints are written to.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;
use std::{fs, io};

use fjall::config::PartitioningPolicy;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use metrics::counter;

use crate::delivery::log::{Disk, Folder, Note};
use crate::folder_lock::FolderLock;
use crate::private;

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
    lock: FolderLock,
    /// How many writes were made durable.
    written: Mutex<Written>,
    /// How many of them were missing when it was opened.
    #[cfg(test)]
    lost: u64,
}

/// The count of durable writes, which the store itself has and a note beside it: a store that has lost its last writes to
/// damage opens as if they had never been, and only the note tells.
struct Written {
    count: u64,
    note: Note,
    folder: Folder,
    /// The folders of the store, and when their files changed last.
    seen: Vec<(PathBuf, SystemTime)>,
}

/// Key of the count; checkpoints have none that begins so.
const COUNT: &[u8] = b"w";
const NOTE: &str = "writes";

impl DiskStore {
    /// Opens or makes the folder. A last write that was cut off is gone as a whole.
    pub fn open(dir: &Path) -> io::Result<DiskStore> {
        private::own_folder(dir)?;
        let lock = FolderLock::take(dir)?;
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
        let folder = Folder::new(dir);
        let (note, noted) = Note::open(&folder, NOTE)?;
        let count = entries.get(COUNT).map_err(io::Error::other)?;
        let count = count.and_then(|bytes| Some(u64::from_be_bytes(bytes.first_chunk().copied()?))).unwrap_or(0);
        let lost = noted.unwrap_or(0).saturating_sub(count);
        if lost > 0 {
            tracing::error!(
                path = %dir.display(),
                lost,
                "the last checkpoints are lost to damage of the disk: the graph begins at an earlier one and reads again \
                 what its sources still have"
            );
            counter!("weir_state_lost_checkpoints_total").increment(lost);
        }
        let written = Written { count: count.max(noted.unwrap_or(0)), note, folder, seen: Vec::new() };
        let store = DiskStore {
            database,
            entries,
            lock,
            written: Mutex::new(written),
            #[cfg(test)]
            lost,
        };
        store.written().close_new(dir)?;
        Ok(store)
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
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
        batch.commit().map_err(|error| io::Error::other(format!("{}: {error}", self.lock.path().display())))
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

    fn write(&self, mut changes: Changes) -> io::Result<()> {
        let mut written = self.written();
        let count = written.count + 1;
        changes.push((COUNT.to_vec(), Some(count.to_be_bytes().to_vec())));
        self.write_with(changes, Some(PersistMode::SyncAll))?;
        // What is written to files that were removed is nowhere.
        self.lock.check()?;
        written.count = count;
        let Written { note, folder, .. } = &mut *written;
        // Without it the loss of this write might not be noticed, which is no reason to refuse it.
        let _ = note.write(folder, count);
        let dir = folder.path("");
        written.close_new(&dir)
    }

    fn write_soon(&self, changes: Changes) -> io::Result<()> {
        self.write_with(changes, None)
    }
}

impl Written {
    /// Closes to other users what the store has made since; it goes by the umask.
    fn close_new(&mut self, dir: &Path) -> io::Result<()> {
        let changed = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified());
        let is_new = |(path, at): &(PathBuf, SystemTime)| changed(path).ok() != Some(*at);
        if self.seen.is_empty() || self.seen.iter().any(is_new) {
            let mut folders = vec![dir.to_owned()];
            self.seen.clear();
            while let Some(folder) = folders.pop() {
                self.seen.push((folder.clone(), changed(&folder)?));
                folders.extend(private::close_all(&folder)?);
            }
        }
        Ok(())
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn changes(value: u8) -> Changes {
        vec![(b"key".to_vec(), Some(vec![value; 100]))]
    }

    #[test]
    fn checkpoints_that_are_lost_to_damage_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let store = DiskStore::open(&path).unwrap();
        store.write(changes(1)).unwrap();
        let journal = path.join("0.jnl");
        let before = fs::read(&journal).unwrap();
        store.write(changes(2)).unwrap();
        store.write(changes(3)).unwrap();
        assert_eq!(store.lost, 0);
        drop(store);
        // As if the last two writes had never been.
        fs::write(&journal, before).unwrap();
        let store = DiskStore::open(&path).unwrap();
        assert_eq!((store.lost, store.get(b"key").unwrap()), (2, Some(vec![1; 100])));
        store.write(changes(4)).unwrap();
        drop(store);
        assert_eq!(DiskStore::open(&path).unwrap().lost, 0);
    }

    #[test]
    fn a_store_whose_folder_is_gone_takes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let store = DiskStore::open(&path).unwrap();
        store.write(changes(1)).unwrap();
        fs::rename(&path, dir.path().join("aside")).unwrap();
        let error = store.write(changes(2)).unwrap_err().to_string();
        assert!(error.contains("state was removed or replaced while weir uses it"), "{error}");
    }

    #[test]
    fn nobody_else_may_read_what_the_store_makes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let store = DiskStore::open(&path).unwrap();
        store.write(changes(1)).unwrap();
        let mut folders = vec![path];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).unwrap() {
                let entry = entry.unwrap();
                let metadata = entry.metadata().unwrap();
                assert_eq!(metadata.permissions().mode() & 0o077, 0, "{}", entry.path().display());
                folders.extend(metadata.is_dir().then(|| entry.path()));
            }
        }
    }
}
