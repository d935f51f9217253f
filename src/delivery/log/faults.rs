//! A disk in memory that fails as disks do: for property tests.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::disk::{Disk, DiskFile, FileId};

/// What a torn write is torn into; small, as the files of the tests are.
const SECTOR: usize = 32;

/// The disk; clones are the same disk.
#[derive(Debug, Clone, Default)]
pub(crate) struct FaultyDisk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    files: Vec<Content>,
    /// Names as programs see them, and as they are after a crash.
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    /// Bytes that fit on it.
    room: Option<usize>,
    write_fails: bool,
    sync_fails: bool,
    /// Lasts until it is taken away.
    fault: Option<Fault>,
    /// Calls that read a file.
    reads: usize,
}

/// What does not work any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Reads and writes of any kind.
    Io,
    /// Writes of any kind.
    ReadOnly,
    /// The folder is gone: names lead nowhere, open files stay what they are.
    Gone,
}

impl State {
    /// Whether a write can be done.
    fn may_write(&self) -> io::Result<()> {
        match self.fault {
            Some(Fault::Io) => Err(io::Error::other("input/output error")),
            Some(Fault::ReadOnly) => Err(io::ErrorKind::ReadOnlyFilesystem.into()),
            Some(Fault::Gone) | None => Ok(()),
        }
    }

    fn may_read(&self) -> io::Result<()> {
        if self.fault == Some(Fault::Io) { self.may_write() } else { Ok(()) }
    }

    /// Whether names lead anywhere.
    fn is_there(&self) -> io::Result<()> {
        self.may_read()?;
        if self.fault == Some(Fault::Gone) { Err(io::ErrorKind::NotFound.into()) } else { Ok(()) }
    }

    fn may_change(&self) -> io::Result<()> {
        self.may_write()?;
        self.is_there()
    }
}

#[derive(Debug, Default, Clone)]
struct Content {
    /// As programs see it.
    bytes: Vec<u8>,
    /// As it is after a crash, if nothing else of it was written back.
    durable: Vec<u8>,
    /// What was written since the last fsync, and not dropped by one that failed, begins here.
    dirty_from: usize,
}

#[derive(Debug)]
struct Open {
    disk: FaultyDisk,
    file: usize,
}

impl FaultyDisk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Once, the next write fails in its middle.
    pub fn fail_write(&self) {
        self.state().write_fails = true;
    }

    /// Once, the next fsync of a file fails, and the kernel forgets the pages.
    pub fn fail_sync(&self) {
        self.state().sync_fails = true;
    }

    /// From now on, until it is told otherwise.
    pub fn fault(&self, fault: Option<Fault>) {
        self.state().fault = fault;
    }

    /// How often files were read.
    pub fn reads(&self) -> usize {
        self.state().reads
    }

    /// Leaves room for so many bytes more; `None`: for any.
    pub fn limit(&self, room: Option<usize>) {
        self.state().room = room;
    }

    /// The power goes: of what was not fsynced, any sector may be there or not.
    pub fn crash(&self, chance: u64) {
        let mut random = StdRng::seed_from_u64(chance);
        let mut state = self.state();
        if random.random_bool(0.5) {
            state.names = state.durable_names.clone();
        }
        for file in &mut state.files {
            let cut = random.random_range(0..=file.bytes.len().saturating_sub(file.durable.len()));
            let length = (file.durable.len() + cut).min(file.bytes.len().max(file.durable.len()));
            let mut after = file.durable.clone();
            after.resize(length, 0);
            for start in (file.durable.len()..length).step_by(SECTOR) {
                let end = (start + SECTOR).min(length);
                if random.random_bool(0.7) {
                    after[start..end].copy_from_slice(&file.bytes[start..end]);
                }
            }
            *file = Content { dirty_from: after.len(), durable: after.clone(), bytes: after };
        }
        state.durable_names = state.names.clone();
        (state.write_fails, state.sync_fails) = (false, false);
    }

    /// The bytes of a file.
    pub fn read(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.state();
        state.names.get(name).map(|file| state.files[*file].bytes.clone())
    }

    /// The medium has something else there now.
    pub fn damage(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state();
        let Some(&file) = state.names.get(name) else { return };
        let content = &mut state.files[file];
        change(&mut content.bytes);
        content.durable = content.bytes.clone();
        content.dirty_from = content.bytes.len();
    }
}

impl Disk for FaultyDisk {
    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let state = self.state();
        state.is_there()?;
        Ok(state.names.iter().map(|(name, file)| (name.clone(), state.files[*file].bytes.len() as u64)).collect())
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.state();
        state.may_change()?;
        let file = state.files.len();
        state.files.push(Content::default());
        state.names.insert(name.to_owned(), file);
        Ok(Box::new(Open { disk: self.clone(), file }))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let FileId(_, file) = self.id(name)?;
        Ok(Box::new(Open { disk: self.clone(), file: usize::try_from(file).unwrap_or(usize::MAX) }))
    }

    fn edit(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        self.state().may_write()?;
        self.open(name)
    }

    fn id(&self, name: &str) -> io::Result<FileId> {
        let state = self.state();
        state.is_there()?;
        let file = state.names.get(name).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        Ok(FileId(0, *file as u64))
    }

    fn check(&self) -> io::Result<()> {
        self.state().is_there()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        state.may_change()?;
        let file = state.names.remove(from).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        state.names.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.state().may_change()?;
        let removed = self.state().names.remove(name);
        removed.map(drop).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.state();
        state.may_change()?;
        state.durable_names = state.names.clone();
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        name.into()
    }
}

impl DiskFile for Open {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.disk.state();
        state.may_write()?;
        let fails = std::mem::take(&mut state.write_fails);
        let fits = state.room.unwrap_or(usize::MAX).min(if fails { bytes.len() / 2 } else { bytes.len() });
        state.room = state.room.map(|room| room - fits);
        state.files[self.file].bytes.extend(&bytes[..fits]);
        match (fails, fits < bytes.len()) {
            (true, _) => Err(io::Error::other("the write failed")),
            (false, true) => Err(io::ErrorKind::StorageFull.into()),
            (false, false) => Ok(()),
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.disk.state();
        state.may_write()?;
        let fails = std::mem::take(&mut state.sync_fails);
        let content = &mut state.files[self.file];
        let from = std::mem::replace(&mut content.dirty_from, content.bytes.len());
        if fails {
            return Err(io::Error::other("the fsync failed"));
        }
        // What an fsync before lost is written back by none after it.
        content.durable.resize(content.bytes.len(), 0);
        content.durable[from..].copy_from_slice(&content.bytes[from..]);
        Ok(())
    }

    fn truncate(&mut self, size: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.may_write()?;
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let gone = state.files[self.file].bytes.len().saturating_sub(size);
        state.room = state.room.map(|room| room + gone);
        let content = &mut state.files[self.file];
        content.bytes.truncate(size);
        content.dirty_from = content.dirty_from.min(size);
        Ok(())
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.may_write()?;
        let content = &mut state.files[self.file];
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        content.bytes[from..from + bytes.len()].copy_from_slice(bytes);
        content.dirty_from = content.dirty_from.min(from);
        Ok(())
    }

    fn id(&self) -> io::Result<FileId> {
        Ok(FileId(0, self.file as u64))
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.state();
        state.may_read()?;
        state.reads += 1;
        let bytes = &state.files[self.file].bytes;
        let rest = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..)).unwrap_or_default();
        let length = rest.len().min(into.len());
        into[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }
}
