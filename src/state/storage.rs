//! Small durable facts by name: a file source's position, a file sink's committed length.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::private;

/// Bytes of a file's name, as most file systems allow.
const LONGEST_NAME: usize = 255;
const ENDING: &str = ".fact";

/// A map from name to bytes that survives a crash. A `store` is durable when it returns, and whole or absent.
pub trait Storage: Send + Sync {
    /// The bytes under `name`, if any.
    fn load(&self, name: &str) -> io::Result<Option<Vec<u8>>>;
    /// Puts `bytes` under `name`.
    fn store(&self, name: &str, bytes: &[u8]) -> io::Result<()>;
    /// Forgets `name`.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// The folder, where there is one: for parts that keep logs of their own there.
    fn dir(&self) -> Option<&Path> {
        None
    }
}

/// A folder with one file a name, written beside and renamed into place.
#[derive(Debug)]
pub struct DirStorage {
    dir: PathBuf,
}

impl DirStorage {
    /// Opens or makes the folder, which is closed to other users.
    pub fn open(dir: impl Into<PathBuf>) -> io::Result<DirStorage> {
        let dir = dir.into();
        private::own_folder(&dir)?;
        Ok(DirStorage { dir })
    }

    /// Names become file names: anything but letters, digits, `-`, `_` and `.` is written as `%hh`. A name that is too long
    /// for a file is cut, and its hash stands in for the rest behind `~`, which no other name holds.
    fn path(&self, name: &str) -> PathBuf {
        let mut file = String::with_capacity(name.len() + 6);
        for byte in name.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => file.push(byte as char),
                other => file.push_str(&format!("%{other:02x}")),
            }
        }
        if file.len() > LONGEST_NAME - ENDING.len() {
            let hash = format!("~{:032x}", xxhash_rust::xxh3::xxh3_128(name.as_bytes()));
            file.truncate(LONGEST_NAME - ENDING.len() - hash.len());
            file.push_str(&hash);
        }
        self.dir.join(file + ENDING)
    }
}

impl Storage for DirStorage {
    fn load(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.path(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn store(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.path(name);
        let beside = path.with_extension("new");
        let mut file = private::options().create(true).truncate(true).write(true).open(&beside)?;
        file.write_all(bytes)?;
        file.sync_data()?;
        fs::rename(&beside, &path)?;
        // The rename is durable once the folder is.
        File::open(&self.dir)?.sync_all()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.path(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => File::open(&self.dir)?.sync_all(),
        }
    }

    fn dir(&self) -> Option<&Path> {
        Some(&self.dir)
    }
}

/// Storage for tests and the simulator; "durable" as long as the value lives.
#[derive(Debug, Default)]
pub struct MemoryStorage(Mutex<HashMap<String, Vec<u8>>>);

impl MemoryStorage {
    fn map(&self) -> std::sync::MutexGuard<'_, HashMap<String, Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Storage for MemoryStorage {
    fn load(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.map().get(name).cloned())
    }

    fn store(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.map().insert(name.to_owned(), bytes.to_vec());
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.map().remove(name);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_folder_keeps_what_is_stored_under_any_name() {
        let dir = tempfile::tempdir().unwrap();
        let storage = DirStorage::open(dir.path()).unwrap();
        storage.store("in/../x y", b"1").unwrap();
        storage.store("in/../x y", b"22").unwrap();
        let again = DirStorage::open(dir.path()).unwrap();
        assert_eq!(again.load("in/../x y").unwrap().unwrap(), b"22");
        again.remove("in/../x y").unwrap();
        assert_eq!(again.load("in/../x y").unwrap(), None);
    }

    #[test]
    fn names_longer_than_a_file_s_may_be_are_stored_and_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let storage = DirStorage::open(dir.path()).unwrap();
        let names: Vec<String> =
            [250, 251, 263, 5000].iter().flat_map(|n| [format!("{:a<n$}", ""), format!("{:/<n$}b", "")]).collect();
        for name in &names {
            storage.store(name, name.as_bytes()).unwrap();
        }
        for name in &names {
            assert_eq!(storage.load(name).unwrap().unwrap(), name.as_bytes());
        }
        assert!(dir.path().join(format!("{}.fact", "a".repeat(250))).exists(), "what fits is named as it ever was");
        names.iter().for_each(|name| storage.remove(name).unwrap());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
