//! A segmented log on disk, with several users: dead letters, what push sources have answered for, and the buffers of
//! sinks. [`super::Journal`] is a log that many append to and one reads; which dead letters are done with,
//! [`super::SettledRecords`] knows.
//!
//! # Format, version 2
//!
//! A folder of files named by the number of their first record, twenty digits and `.log`. Numbers are little-endian. A
//! file is
//!
//! ```text
//! head     36 bytes   "WEIRLOG" 0x02
//!                     number of the first record (u64)
//!                     number behind the last record of the files before it (u64)
//!                     marker: eight bytes by chance
//!                     CRC-32 of all this
//! record   28 bytes   marker
//!                     number (u64)
//!                     length of the payload (u32), CRC-32 of the payload
//!                     CRC-32 of all this
//!          payload
//! record ...
//! ```
//!
//! Numbers begin at 0 and rise, within a file without gaps. A record is durable once [`SegmentedLog::sync`] has returned.
//!
//! **Files are written once.** Every opening, and every write or fsync that fails, ends a file; what comes then goes into
//! a new one, which is written beside, fsynced and renamed into place. So nothing that is durable is ever written over, and
//! a failed fsync is not asked again whether it failed: the pages may be gone. A record that was written, not acknowledged,
//! and whose number stands in the next file too, counts there: a file ends where the next one begins.
//!
//! **Damage costs the records it is in.** Where no whole record stands where one should, the reader looks for the next
//! marker with a whole head behind it. The marker is drawn by chance when a process opens the log, so that no payload can
//! pass for a record. A damaged head of a file costs nothing: its first record says the marker again. How many records are
//! lost follows from the numbers around the damage, at the end of a file from the next one's head. What would be the
//! beginning of a record at the end of a file is a torn write and no damage.
//!
//! **Numbers are never used again.** Opening reads the last file and goes on behind its last record. Where bytes that are
//! no record follow it, as many numbers are left out as records could have stood there.
//!
//! Version 1 had heads of 16 bytes (`"WEIRLOG" 0x01`, the first number) and before each payload its length and one CRC-32
//! of both; damage ended what could be read of a file. It is read still, and goes on in files of version 2. Later versions
//! keep the checksum at byte 32: a file of one of them is refused, never overwritten.
//!
//! The size bound is kept when appending: a record that does not fit is refused with [`LogFull`], and room
//! comes only from [`SegmentedLog::truncate_before`] or a person removing files.

mod disk;
#[cfg(test)]
pub(super) mod faults;
mod format;
mod reader;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(crate) use disk::{Disk, DiskFile, Folder};
use format::{HEAD, RECORD_HEAD};
pub use reader::{Damage, LogReader, Record};
use reader::{Next, Segment};

/// Bounds of a log.
#[derive(Debug, Clone, Copy)]
pub struct LogLimits {
    /// A file is closed and a new one begun once it holds this many bytes.
    pub segment_bytes: u64,
    /// All files together hold at most this many bytes.
    pub total_bytes: u64,
    /// The largest record; guards against a damaged length, too.
    pub record_bytes: u32,
}

/// The log has no room for the record.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the log holds {held} bytes of at most {limit}")]
pub struct LogFull {
    /// Bytes held now.
    pub held: u64,
    /// Bytes allowed.
    pub limit: u64,
}

/// Why an append failed.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// No room.
    #[error(transparent)]
    Full(#[from] LogFull),
    /// The record alone is above the limit.
    #[error("a record of {0} bytes is above the limit of the log")]
    TooLarge(usize),
    /// The disk said no.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A log open for appending.
#[derive(Debug)]
pub struct SegmentedLog {
    disk: Arc<dyn Disk>,
    limits: LogLimits,
    marker: [u8; 8],
    /// First record number and size of every file that is written to no more.
    closed: Vec<(u64, u64)>,
    /// Bytes of all these.
    closed_bytes: u64,
    current: Option<Current>,
    /// The number behind the last durable record.
    durable: u64,
    next: u64,
    /// Appended since the last sync; written to the file at once when synced.
    buffer: Vec<u8>,
}

/// The file that is written to. All of it is durable.
#[derive(Debug)]
struct Current {
    file: Box<dyn DiskFile>,
    first: u64,
    bytes: u64,
}

impl SegmentedLog {
    /// Opens the log in `dir`, making it where there is none.
    pub fn open(dir: &Path, limits: LogLimits) -> io::Result<SegmentedLog> {
        std::fs::create_dir_all(dir)?;
        SegmentedLog::on(Arc::new(Folder::new(dir)), limits)
    }

    pub(crate) fn on(disk: Arc<dyn Disk>, limits: LogLimits) -> io::Result<SegmentedLog> {
        let mut closed = segments_on(&*disk)?;
        let (mut durable, mut next) = (0, 0);
        if let Some((first, size)) = closed.last().copied() {
            let last = LastFile::read(&*disk, first, size, limits)?;
            (durable, next) = (last.behind, last.behind + last.perhaps);
            if last.behind == first && next == first {
                // Nothing is in it: the next file has its name.
                closed.pop();
            }
        }
        let closed_bytes = closed.iter().map(|(_, size)| size).sum();
        // What a crash left of a file that was being made.
        for (name, _) in disk.list()? {
            if name.strip_suffix(".new").is_some_and(|name| name.parse::<u64>().is_ok()) {
                disk.remove(&name)?;
            }
        }
        let marker = rand::random::<u64>().to_le_bytes();
        Ok(SegmentedLog {
            disk,
            limits,
            marker,
            closed,
            closed_bytes,
            current: None,
            durable,
            next,
            buffer: Vec::new(),
        })
    }

    /// Adds a record; returns its number. Durable after the next [`SegmentedLog::sync`].
    pub fn append(&mut self, payload: &[u8]) -> Result<u64, AppendError> {
        let length = u32::try_from(payload.len()).ok().filter(|length| *length <= self.limits.record_bytes);
        if length.is_none() {
            return Err(AppendError::TooLarge(payload.len()));
        }
        self.has_room(1, payload.len())?;
        let held = self.current.as_ref().map_or(HEAD, |current| current.bytes) + self.buffer.len() as u64;
        if held > HEAD && held + record_size(payload.len()) > self.limits.segment_bytes {
            self.sync()?;
            self.close();
        }
        format::record(self.marker, self.next, payload, &mut self.buffer);
        self.next += 1;
        Ok(self.next - 1)
    }

    /// Whether so many records fit, which hold so many bytes together.
    pub fn has_room(&self, records: usize, bytes: usize) -> Result<(), LogFull> {
        let held = self.bytes();
        // One more file may have to be begun for them.
        match held + HEAD + log_size(records, bytes) <= self.limits.total_bytes {
            true => Ok(()),
            false => Err(LogFull { held, limit: self.limits.total_bytes }),
        }
    }

    /// Makes every appended record durable. After an error nothing appended since the last good sync is; calling again
    /// writes all of it anew, into a new file.
    pub fn sync(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let mut current = match self.current.take() {
            Some(current) => current,
            None => self.create()?,
        };
        let written = current.file.append(&self.buffer).and_then(|()| current.file.sync());
        if let Err(error) = written {
            // Gives room free where the disk is full. Where it fails, too, the next file's number says what counts.
            let _ = current.file.truncate(current.bytes);
            self.retire(&current);
            return Err(error);
        }
        current.bytes += self.buffer.len() as u64;
        self.current = Some(current);
        self.durable = self.next;
        self.buffer.clear();
        if self.buffer.capacity() > BUFFER {
            self.buffer = Vec::new();
        }
        Ok(())
    }

    /// Forgets what was appended since the last good sync.
    pub fn discard(&mut self) {
        if !self.buffer.is_empty() {
            self.next = self.unsynced();
            self.buffer.clear();
            // What was written of it must not come to stand before what comes next.
            self.close();
        }
    }

    /// Bytes held, appended ones included.
    pub fn bytes(&self) -> u64 {
        let head = if self.buffer.is_empty() { 0 } else { HEAD };
        let current = self.current.as_ref().map_or(head, |current| current.bytes);
        self.closed_bytes + current + self.buffer.len() as u64
    }

    /// Number of the first record that is held, or else of the next one.
    pub(super) fn first(&self) -> u64 {
        self.closed.first().map_or(self.next, |(first, _)| *first)
    }

    /// Number behind the last durable record.
    pub fn durable(&self) -> u64 {
        self.durable
    }

    /// Number of the next record.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Numbers begin at `number` at least: those below were used, whatever is left of them.
    pub fn skip_to(&mut self, number: u64) {
        if number > self.next && self.buffer.is_empty() {
            self.close();
            self.next = number;
        }
    }

    /// From now on all files together may hold so many bytes.
    pub fn allow(&mut self, total_bytes: u64) {
        self.limits.total_bytes = total_bytes;
    }

    /// Removes files that hold only records below `number`. The last one stays, for its numbers.
    pub fn truncate_before(&mut self, number: u64) -> io::Result<()> {
        while let Some(&(first, _)) = self.closed.first() {
            let following = self.closed.get(1).map(|(first, _)| *first);
            let end = following.or(self.current.as_ref().map(|current| current.first));
            if end.is_none_or(|end| end > number) {
                break;
            }
            match self.disk.remove(&segment_name(first)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => self.closed_bytes -= self.closed.remove(0).1,
            }
        }
        Ok(())
    }

    /// Looks again which closed files are there: a person may have made room.
    pub fn rescan(&mut self) {
        if let Ok(there) = segments_on(&*self.disk) {
            self.closed.retain(|(first, _)| there.iter().any(|(other, _)| other == first));
            self.closed_bytes = self.closed.iter().map(|(_, size)| size).sum();
        }
    }

    /// Number of the first record in the buffer: behind what is durable, or where numbers were left out.
    fn unsynced(&self) -> u64 {
        format::read_record_head(self.marker, &self.buffer).map_or(self.next, |head| head.number)
    }

    /// What comes next goes into a new file.
    fn close(&mut self) {
        if let Some(current) = self.current.take() {
            self.retire(&current);
        }
    }

    fn retire(&mut self, current: &Current) {
        // A file in which nothing is durable has the name of the next one.
        if current.bytes > HEAD {
            self.closed.push((current.first, current.bytes));
            self.closed_bytes += current.bytes;
        }
    }

    /// Makes a file for what is in the buffer, durably.
    fn create(&mut self) -> io::Result<Current> {
        let first = self.unsynced();
        let name = segment_name(first);
        let beside = format!("{first:020}.new");
        let mut file = self.disk.create(&beside)?;
        file.append(&format::head(first, self.durable, self.marker))?;
        file.sync()?;
        self.disk.rename(&beside, &name)?;
        self.disk.sync()?;
        Ok(Current { file, first, bytes: HEAD })
    }
}

/// Memory that is kept for the next records.
const BUFFER: usize = 4 << 20;

/// What a record takes on the disk.
fn record_size(payload: usize) -> u64 {
    RECORD_HEAD + payload as u64
}

/// What so many records take on the disk that hold so many bytes together.
pub(crate) fn log_size(records: usize, bytes: usize) -> u64 {
    records as u64 * RECORD_HEAD + bytes as u64
}

/// How the last file ends.
struct LastFile {
    /// The number behind its last record.
    behind: u64,
    /// Records that may have stood behind that.
    perhaps: u64,
}

impl LastFile {
    fn read(disk: &dyn Disk, first: u64, size: u64, limits: LogLimits) -> io::Result<LastFile> {
        let name = segment_name(first);
        let (mut segment, _) = Segment::new(disk.open(&name)?, first)?.map_err(|what| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{}: {what}", disk.path(&name).display()))
        })?;
        let mut behind = first;
        loop {
            match segment.next(behind, u64::MAX, u64::MAX, limits.record_bytes)? {
                Next::Record(record) => behind = record.number + 1,
                Next::Damage { behind: next, .. } => behind = behind.max(next),
                Next::Later => {}
                // A head is durable before the file has its name: without one it was damaged, whatever it held.
                Next::End(_) if size < HEAD && !segment.is_version_1() => {
                    return Ok(LastFile { behind, perhaps: limits.segment_bytes / RECORD_HEAD + 1 });
                }
                Next::End(rest) => {
                    let lost = rest.filter(|place| !place.is_cut() && !segment.is_version_1());
                    return Ok(LastFile { behind, perhaps: lost.map_or(0, |place| place.bytes / RECORD_HEAD + 1) });
                }
            }
        }
    }
}

fn segment_name(first: u64) -> String {
    format!("{first:020}.log")
}

/// Number of the first record and size of the log's files, oldest first.
pub(super) fn segments_on(disk: &dyn Disk) -> io::Result<Vec<(u64, u64)>> {
    let number = |(name, size): (String, u64)| Some((name.strip_suffix(".log")?.parse().ok()?, size));
    let mut found: Vec<(u64, u64)> = disk.list()?.into_iter().filter_map(number).collect();
    found.sort_unstable();
    Ok(found)
}

/// The files of the log in `dir`, oldest first, by the number of their first record.
pub(super) fn segments(dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let found = segments_on(&Folder::new(dir))?;
    Ok(found.into_iter().map(|(first, _)| (first, dir.join(segment_name(first)))).collect())
}

/// The number behind the last record that stood before this file of the log in `dir`.
pub(super) fn behind(dir: &Path, first: u64) -> io::Result<u64> {
    let file = Folder::new(dir).open(&segment_name(first))?;
    Ok(Segment::new(file, first)?.map_or(first, |(_, after)| after.min(first)))
}

#[cfg(test)]
mod tests;
