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
//! **A tail that is missing is noticed.** Beside the files lies `end`, a note of the number behind the last durable
//! record. It is written after each fsync and not fsynced itself: it costs a write to the kernel's memory. So the note is
//! exact after the end of the process, however that ends. After a loss of power it may be as old as the kernel's write-back,
//! half a minute; records that were durable since are then missed only where later ones are there. An end that is below the
//! note has lost what is between, and one that holds bytes that are no record may have lost some.
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
pub(crate) mod faults;
mod format;
mod note;
mod reader;

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::private;

use disk::is_at;
pub(crate) use disk::{Disk, DiskFile, Folder};
use format::{HEAD, RECORD_HEAD};
pub(crate) use note::Note;
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
    end: Note,
    /// What was found at the end of the log when it was opened, and no reader sees.
    damage: Option<Damage>,
    /// Records that were missing there, by number.
    missing: Range<u64>,
}

/// The file that is written to. All of it is durable.
#[derive(Debug)]
struct Current {
    file: Box<dyn DiskFile>,
    first: u64,
    bytes: u64,
}

impl SegmentedLog {
    /// Opens the log in `dir`, making it where there is none, and locks it: [`io::ErrorKind::WouldBlock`] where somebody
    /// else writes to it.
    pub fn open(dir: &Path, limits: LogLimits) -> io::Result<SegmentedLog> {
        private::make_folder(dir)?;
        SegmentedLog::on(Arc::new(Folder::locked(dir)?), limits)
    }

    pub(crate) fn on(disk: Arc<dyn Disk>, limits: LogLimits) -> io::Result<SegmentedLog> {
        let mut closed = segments_on(&*disk)?;
        let (end, noted) = Note::open(&*disk, END)?;
        let noted = noted.unwrap_or(0);
        let (mut durable, mut next, mut damage, mut missing) = (noted, noted, None, 0..0);
        if let Some((first, size)) = closed.last().copied() {
            let last = LastFile::read(&*disk, first, size, limits)?;
            // Readers go on to the note, and find what is missing before it.
            (durable, next) = (last.behind.max(noted), noted.max(last.behind + last.perhaps));
            damage = last.damage.filter(|_| noted <= last.behind);
            missing = last.behind..durable;
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
            end,
            damage,
            missing,
        })
    }

    /// What was found when the log was opened and readers do not come across: bytes at its end that are no record. It may
    /// have been records or a torn write. Given once.
    pub(crate) fn take_damage(&mut self) -> Option<Damage> {
        self.damage.take()
    }

    /// Records that were missing at the end when the log was opened. Readers find them, too.
    pub(crate) fn missing(&self) -> Range<u64> {
        self.missing.clone()
    }

    /// Adds a record; returns its number. Durable after the next [`SegmentedLog::sync`].
    pub fn append(&mut self, payload: &[u8]) -> Result<u64, AppendError> {
        self.append_all([payload])?;
        Ok(self.next - 1)
    }

    /// Adds records to one file: no error of the disk leaves some of them durable and others not.
    pub(crate) fn append_all<'a>(
        &mut self,
        payloads: impl IntoIterator<Item = &'a [u8], IntoIter: Clone>,
    ) -> Result<(), AppendError> {
        let payloads = payloads.into_iter();
        let (mut records, mut bytes) = (0, 0);
        for payload in payloads.clone() {
            if u32::try_from(payload.len()).is_ok_and(|length| length <= self.limits.record_bytes) {
                (records, bytes) = (records + 1, bytes + payload.len());
            } else {
                return Err(AppendError::TooLarge(payload.len()));
            }
        }
        self.has_room(records, bytes)?;
        if self.ends_file(log_size(records, bytes)) {
            self.sync()?;
            self.close();
        }
        for payload in payloads {
            format::record(self.marker, self.next, payload, &mut self.buffer);
            self.next += 1;
        }
        Ok(())
    }

    /// Whether records of so many bytes go into a new file, for which those before are made durable.
    pub(crate) fn ends_file(&self, size: u64) -> bool {
        let held = self.current.as_ref().map_or(HEAD, |current| current.bytes) + self.buffer.len() as u64;
        held > HEAD && held + size > self.limits.segment_bytes
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

    /// Makes every appended record durable, in a file that is at its path. After an error nothing appended since the last
    /// good sync is; calling again writes all of it anew, into a new file.
    pub fn sync(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let mut current = match self.current.take() {
            Some(current) => current,
            None => self.create()?,
        };
        let written = current.file.append(&self.buffer).and_then(|()| current.file.sync());
        let written = written.and_then(|()| is_at(&*self.disk, &segment_name(current.first), &*current.file));
        if let Err(error) = written {
            // Gives room free where the disk is full. Where it fails, too, the next file's number says what counts.
            let _ = current.file.truncate(current.bytes);
            self.retire(&current);
            return Err(error);
        }
        current.bytes += self.buffer.len() as u64;
        self.current = Some(current);
        self.durable = self.next;
        // Without it the loss of what is durable now might not be noticed, which is no reason to refuse it.
        let _ = self.end.write(&*self.disk, self.durable);
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

    /// How messages name its folder.
    pub(crate) fn dir(&self) -> PathBuf {
        self.disk.path("")
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

    /// Removes files that hold only records below `number`, which is known to be below what is appended next when the log
    /// is opened again. The one that is written to stays.
    pub fn truncate_before(&mut self, number: u64) -> io::Result<()> {
        while let Some(&(first, _)) = self.closed.first() {
            let following = self.closed.get(1).map(|(first, _)| *first);
            let end = following.or(self.current.as_ref().map(|current| current.first)).unwrap_or(self.durable);
            if end > number {
                break;
            }
            let name = segment_name(first);
            let open = self.disk.edit(&name);
            match self.disk.remove(&name) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => self.closed_bytes -= self.closed.remove(0).1,
            }
            // A reader that has it open still would keep its room.
            if let Ok(mut file) = open {
                let _ = file.truncate(0);
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

    /// Whether the disk takes so many bytes now; writes them, and removes them again.
    pub(crate) fn probe(&self, bytes: u64) -> io::Result<()> {
        self.disk.check()?;
        let name = format!("{:020}.new", self.next);
        let written = (|| {
            let mut file = self.disk.create(&name)?;
            file.append(&vec![0; usize::try_from(bytes).unwrap_or(usize::MAX)])?;
            file.sync()
        })();
        written.and(self.disk.remove(&name))
    }

    /// Makes a file for what is in the buffer, durably.
    fn create(&mut self) -> io::Result<Current> {
        self.disk.check()?;
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
/// The note of the number behind the last durable record.
const END: &str = "end";

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
    /// Bytes behind it that are no record.
    damage: Option<Damage>,
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
                    let what = "the head of the file is missing".to_owned();
                    let damage = Some(Damage { path: disk.path(&name), offset: 0, bytes: size, records: 0, what });
                    return Ok(LastFile { behind, perhaps: limits.segment_bytes / RECORD_HEAD + 1, damage });
                }
                Next::End(rest) => {
                    let lost = rest.filter(|place| !place.is_cut() && !segment.is_version_1());
                    let perhaps = lost.as_ref().map_or(0, |place| place.bytes / RECORD_HEAD + 1);
                    let damage = lost.map(|place| place.damage(disk.path(&name), 0));
                    return Ok(LastFile { behind, perhaps, damage });
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
pub(crate) fn segments(dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
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
