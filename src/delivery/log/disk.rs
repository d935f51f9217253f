//! The files of a log: a folder, or in tests a disk that fails as disks do.

use std::fmt::Debug;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::folder_lock::{FolderLock, gone};
use crate::private;

/// A flat set of files. What is created or renamed is there after a crash once [`sync`](Self::sync) has returned.
pub(crate) trait Disk: Debug + Send + Sync {
    /// Names and sizes of all files.
    fn list(&self) -> io::Result<Vec<(String, u64)>>;
    /// A new file for appending; one of that name is emptied.
    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;
    /// A file that is there, for reading.
    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;
    /// A file that is there, for reading and writing in place.
    fn edit(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;
    /// What tells the file of this name from others.
    fn id(&self, name: &str) -> io::Result<FileId>;
    /// An error where the files are no longer those that were locked.
    fn check(&self) -> io::Result<()>;
    /// Gives a file another name; one that had it is gone.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes the names durable.
    fn sync(&self) -> io::Result<()>;
    /// How messages name a file.
    fn path(&self, name: &str) -> PathBuf;
}

/// What tells a file from others, whatever their names are: device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileId(pub u64, pub u64);

/// An error, unless the open file is the one of this name.
pub(super) fn is_at(disk: &dyn Disk, name: &str, file: &dyn DiskFile) -> io::Result<()> {
    match disk.id(name) {
        Ok(found) if found == file.id()? => Ok(()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Err(gone(&disk.path(name))),
    }
}

/// An open file. What is appended is there after a crash once [`sync`](Self::sync) has returned.
pub(crate) trait DiskFile: Debug + Send + Sync {
    /// Writes all of it behind the end; after an error any part of it may be there.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Makes all that was appended durable. After an error nobody knows what is; another call proves nothing.
    fn sync(&mut self) -> io::Result<()>;
    /// Cuts the file.
    fn truncate(&mut self, size: u64) -> io::Result<()>;
    /// Writes over what is there at `offset`, all of it.
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// What tells it from others.
    fn id(&self) -> io::Result<FileId>;
    /// Reads what is there at `offset`, as far as it fits; 0 at the end.
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize>;
}

/// A folder of the file system.
#[derive(Debug)]
pub(crate) struct Folder {
    dir: PathBuf,
    /// None: for reading.
    lock: Option<FolderLock>,
}

impl Folder {
    /// For reading.
    pub fn new(dir: &Path) -> Folder {
        Folder { dir: dir.to_owned(), lock: None }
    }

    /// For writing, which nobody else may do meanwhile. The folder must be there.
    pub fn locked(dir: &Path) -> io::Result<Folder> {
        let lock = FolderLock::take(dir).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => {
                let what =
                    format!("another graph or process writes to {}: give each a folder of its own", dir.display());
                io::Error::new(io::ErrorKind::WouldBlock, what)
            }
            _ => error,
        })?;
        Ok(Folder { dir: dir.to_owned(), lock: Some(lock) })
    }
}

fn id_of(metadata: &fs::Metadata) -> FileId {
    FileId(metadata.dev(), metadata.ino())
}

impl Disk for Folder {
    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            match entry.metadata() {
                Ok(metadata) => found.push((name, metadata.len())),
                // Removed since the folder was looked at.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let mut options = private::options();
        Ok(Box::new(options.create(true).truncate(true).read(true).write(true).open(self.path(name))?))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(File::open(self.path(name))?))
    }

    fn edit(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(File::options().read(true).write(true).open(self.path(name))?))
    }

    fn id(&self, name: &str) -> io::Result<FileId> {
        Ok(id_of(&fs::metadata(self.path(name))?))
    }

    fn check(&self) -> io::Result<()> {
        self.lock.as_ref().map_or(Ok(()), FolderLock::check)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path(name))
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.dir)?.sync_all()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

impl DiskFile for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn truncate(&mut self, size: u64) -> io::Result<()> {
        self.set_len(size)
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn id(&self) -> io::Result<FileId> {
        Ok(id_of(&self.metadata()?))
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, into, offset)
    }
}
