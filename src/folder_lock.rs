//! Only one process, and in it one graph, may write into a folder: the lock is on the folder itself. A lock file could
//! be removed, and a second process would lock another one of the same name.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A folder, wherever its path leads now.
#[derive(Debug)]
pub(crate) struct FolderId {
    path: PathBuf,
    id: (u64, u64),
}

impl FolderId {
    /// Of the folder that is there.
    pub fn of(path: &Path) -> io::Result<FolderId> {
        let found = fs::metadata(path)?;
        Ok(FolderId { path: path.to_owned(), id: (found.dev(), found.ino()) })
    }

    /// An error, unless it is the one at its path.
    pub fn check(&self) -> io::Result<()> {
        match FolderId::of(&self.path) {
            Ok(found) if found.id == self.id => Ok(()),
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Err(gone(&self.path)),
        }
    }
}

/// A locked folder. The lock goes with the value, and with the process.
#[derive(Debug)]
pub(crate) struct FolderLock {
    id: FolderId,
    _folder: File,
}

impl FolderLock {
    /// Locks the folder, which must be there; [`io::ErrorKind::WouldBlock`] where somebody else has.
    pub fn take(path: &Path) -> io::Result<FolderLock> {
        let folder = File::open(path)?;
        match folder.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let locked = folder.metadata()?;
        let id = FolderId { path: path.to_owned(), id: (locked.dev(), locked.ino()) };
        // It may have been replaced between the two calls.
        id.check()?;
        Ok(FolderLock { id, _folder: folder })
    }

    /// An error, unless the locked folder is the one that is at the path.
    pub fn check(&self) -> io::Result<()> {
        self.id.check()
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.id.path
    }
}

/// Says that what weir has open is not at its path any more, and what helps.
pub(crate) fn gone(path: &Path) -> io::Error {
    let what = format!(
        "{} was removed or replaced while weir uses it: put it back, or start weir again to go on without it",
        path.display()
    );
    io::Error::new(io::ErrorKind::NotFound, what)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_folder_is_locked_once_and_noticed_when_it_is_another() {
        let dir = tempfile::tempdir().unwrap();
        let (path, aside) = (dir.path().join("log"), dir.path().join("aside"));
        fs::create_dir(&path).unwrap();
        let lock = FolderLock::take(&path).unwrap();
        assert_eq!(FolderLock::take(&path).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        fs::rename(&path, &aside).unwrap();
        assert!(lock.check().unwrap_err().to_string().contains("put it back, or start weir again"));
        fs::create_dir(&path).unwrap();
        lock.check().unwrap_err();
        fs::remove_dir(&path).unwrap();
        fs::rename(&aside, &path).unwrap();
        lock.check().unwrap();
        drop(lock);
        FolderLock::take(&path).unwrap();
    }
}
