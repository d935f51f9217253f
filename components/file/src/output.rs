//! The file that a sink writes: which one it is, how long it is, and whether it is still the one at its path.

use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use weir::files;

use crate::compression::Compression;

/// Bytes read at once in search of the last line.
const BLOCK: u64 = 64 << 10;

/// Bytes before the noted length that a file is known again by.
const PRINT: u64 = 4096;

/// An open, locked file that is added to.
pub(crate) struct Output {
    /// Appends, so that what someone else cut is not filled up with zeros.
    file: File,
    path: PathBuf,
    id: (u64, u64),
    /// Bytes that are durable.
    pub length: u64,
}

fn id(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

impl Output {
    /// Opens the file at a path, or makes it, in place of one that was open before.
    pub fn open(path: &Path, before: Option<&Output>) -> io::Result<Output> {
        // Opening a FIFO or a device may wait, or do something.
        match path.metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            metadata => files::regular(&metadata?)?,
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)?;
        let file = OpenOptions::new().create(true).append(true).read(true).open(path)?;
        let metadata = file.metadata()?;
        files::regular(&metadata)?;
        if let Some(before) = before {
            // Of two open files of one process each is a stranger to the lock of the other.
            before.file.unlock()?;
        }
        match file.try_lock() {
            // Some file systems have no locks.
            Ok(()) | Err(TryLockError::Error(_)) => {}
            Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::WouldBlock.into()),
        }
        // A new file is only there for good when its folder is synced.
        File::open(folder)?.sync_all()?;
        Ok(Output { file, path: path.to_owned(), id: id(&metadata), length: metadata.len() })
    }

    pub fn inode(&self) -> u64 {
        self.id.1
    }

    /// When the file was made, in nanoseconds since 1970, where the file system knows; another file may get the inode of one
    /// that was removed.
    pub fn born(&self) -> Option<u64> {
        let born = self.file.metadata().ok()?.created().ok()?;
        u64::try_from(born.duration_since(std::time::UNIX_EPOCH).ok()?.as_nanos()).ok()
    }

    /// The checksum of the last bytes in front of a place.
    pub fn print(&self, end: u64) -> io::Result<u32> {
        let start = end.saturating_sub(PRINT);
        let mut bytes = vec![0; (end - start) as usize];
        self.file.read_exact_at(&mut bytes, start)?;
        Ok(crc32fast::hash(&bytes))
    }

    pub fn is_same(&self, other: &Output) -> bool {
        self.id == other.id
    }

    /// Whether the file is still the one at its path.
    pub fn is_in_place(&self) -> bool {
        self.path.metadata().is_ok_and(|metadata| id(&metadata) == self.id)
    }

    /// The file's length as it is.
    pub fn present(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    /// Cuts the file to a length, which is durable from now on.
    pub fn cut(&mut self, length: u64) -> io::Result<()> {
        if self.present()? > length {
            self.file.set_len(length)?;
        }
        self.length = length;
        Ok(())
    }

    /// Cuts what was written and is not durable, if that is possible.
    pub fn try_cut(&self) {
        if self.present().is_ok_and(|present| present > self.length) {
            let _stays_torn = self.file.set_len(self.length);
        }
    }

    /// Adds bytes and makes them durable. False: the file was removed or cut meanwhile, and they are not all in it.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<bool> {
        let expected = self.length + bytes.len() as u64;
        self.file.write_all(bytes)?;
        self.file.sync_data()?;
        let metadata = self.file.metadata()?;
        if metadata.nlink() == 0 {
            return Ok(false);
        }
        if metadata.len() < expected && !self.ends_with(bytes, metadata.len())? {
            // What is left of them goes, so that they can be written again.
            self.try_cut();
            return Ok(false);
        }
        self.length = metadata.len();
        Ok(true)
    }

    fn ends_with(&self, bytes: &[u8], end: u64) -> io::Result<bool> {
        let Some(start) = end.checked_sub(bytes.len() as u64) else { return Ok(false) };
        let mut found = vec![0; bytes.len()];
        match self.file.read_exact_at(&mut found, start) {
            Ok(()) => Ok(found == bytes),
            // Cut once more.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Goes on behind all that is in the file; a last line without an end is ended, so that ours does not become part of it.
    pub fn go_on_behind(&mut self, compression: Compression) -> io::Result<()> {
        self.length = self.present()?;
        let Some(last) = self.length.checked_sub(1).filter(|_| !compression.is_some()) else { return Ok(()) };
        let mut byte = [0];
        self.file.read_exact_at(&mut byte, last)?;
        if byte != *b"\n" {
            self.file.write_all(b"\n")?;
            self.file.sync_data()?;
            self.length += 1;
        }
        Ok(())
    }

    /// Goes on in a file that is shorter than it was, behind its last whole line, or member.
    pub fn go_on_shortened(&mut self, compression: Compression) -> io::Result<()> {
        let end = match compression.is_some() {
            true => compression.end_of_last_member(File::open(&self.path)?, &self.path.display().to_string()),
            false => self.end_of_last_line(0)?,
        };
        self.cut(end)
    }

    /// Where the last whole line at or behind `from` ends; `from` itself, if there is none.
    pub fn end_of_last_line(&self, from: u64) -> io::Result<u64> {
        let mut end = self.present()?;
        while end > from {
            let start = end.saturating_sub(BLOCK).max(from);
            let mut part = vec![0; (end - start) as usize];
            self.file.read_exact_at(&mut part, start)?;
            if let Some(at) = memchr::memrchr(b'\n', &part) {
                return Ok(start + at as u64 + 1);
            }
            end = start;
        }
        Ok(from)
    }
}
