//! A segmented log on disk: the dead letters; which of its records are done with, [`super::SettledRecords`] knows.
//!
//! # Format, version 1
//!
//! A folder of files named by the number of their first record, twenty digits and `.log`. A file is
//!
//! ```text
//! header   16 bytes   "WEIRLOG" 0x01, then the number of the first record (u64, little-endian)
//! record   length of the payload (u32 LE), CRC-32 of length and payload (u32 LE), payload
//! ...
//! ```
//!
//! Records are numbered from 0 without gaps. A record is durable once [`SegmentedLog::sync`] has returned.
//! At opening, the last file is read to its end: what follows the last whole record is a torn write and is
//! cut. A damaged record elsewhere ends what can be read of its file; reading goes on in the next one, and
//! the damage is counted. A file of an unknown version is refused, never overwritten.
//!
//! The size bound is kept when appending: a record that does not fit is refused with [`LogFull`], and room
//! comes only from [`SegmentedLog::truncate_before`] or a person removing files.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

const MAGIC: [u8; 8] = *b"WEIRLOG\x01";
const HEADER: u64 = 16;
const RECORD_HEADER: u64 = 8;

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
    dir: PathBuf,
    limits: LogLimits,
    /// First record number and size of every file but the last.
    closed: Vec<(u64, u64)>,
    file: File,
    file_first: u64,
    file_bytes: u64,
    next: u64,
    /// Appended since the last sync; written to the file at once when synced.
    buffer: Vec<u8>,
    /// A write failed half-way: the file's end is not what we think until it is cut again.
    torn: bool,
}

impl SegmentedLog {
    /// Opens the log in `dir`, making it where there is none, and cuts a torn tail.
    pub fn open(dir: &Path, limits: LogLimits) -> io::Result<SegmentedLog> {
        fs::create_dir_all(dir)?;
        let mut segments = segments(dir)?;
        let (file_first, path) = match segments.pop() {
            Some(last) => last,
            None => (0, create(dir, 0)?),
        };
        let mut closed = Vec::new();
        for (first, path) in segments {
            closed.push((first, fs::metadata(path)?.len()));
        }
        let mut reader = SegmentReader::open(&path, file_first, limits.record_bytes)?;
        let mut records = 0;
        while let Ok(Some(_)) = reader.next() {
            records += 1;
        }
        let file_bytes = reader.good;
        let mut file = OpenOptions::new().write(true).open(&path)?;
        file.set_len(file_bytes)?;
        file.seek(SeekFrom::End(0))?;
        file.sync_all()?;
        let next = file_first + records;
        Ok(SegmentedLog {
            dir: dir.to_owned(),
            limits,
            closed,
            file,
            file_first,
            file_bytes,
            next,
            buffer: Vec::new(),
            torn: false,
        })
    }

    /// Adds a record; returns its number. Durable after the next [`SegmentedLog::sync`].
    pub fn append(&mut self, payload: &[u8]) -> Result<u64, AppendError> {
        let length = u32::try_from(payload.len()).ok().filter(|length| *length <= self.limits.record_bytes);
        let Some(length) = length else { return Err(AppendError::TooLarge(payload.len())) };
        let size = RECORD_HEADER + payload.len() as u64;
        let held = self.bytes();
        if held + size > self.limits.total_bytes {
            return Err(LogFull { held, limit: self.limits.total_bytes }.into());
        }
        if self.file_bytes + self.buffer.len() as u64 + size > self.limits.segment_bytes && self.next > self.file_first
        {
            self.roll()?;
        }
        self.buffer.extend_from_slice(&length.to_le_bytes());
        self.buffer.extend_from_slice(&checksum(length, payload).to_le_bytes());
        self.buffer.extend_from_slice(payload);
        self.next += 1;
        Ok(self.next - 1)
    }

    /// Makes every appended record durable. After an error nothing appended since the last good sync is;
    /// calling again writes all of it anew.
    pub fn sync(&mut self) -> io::Result<()> {
        if self.torn {
            self.file.set_len(self.file_bytes)?;
            self.file.seek(SeekFrom::Start(self.file_bytes))?;
        }
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.torn = true;
        self.file.write_all(&self.buffer)?;
        // A failed fsync may have dropped the pages: the bytes stay in `buffer` and are written again.
        self.file.sync_data()?;
        self.torn = false;
        self.file_bytes += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Bytes held, appended ones included.
    pub fn bytes(&self) -> u64 {
        self.closed.iter().map(|(_, size)| size).sum::<u64>() + self.file_bytes + self.buffer.len() as u64
    }

    /// Number of the next record.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// From now on all files together may hold so many bytes.
    pub fn allow(&mut self, total_bytes: u64) {
        self.limits.total_bytes = total_bytes;
    }

    /// Removes files that hold only records below `number`.
    pub fn truncate_before(&mut self, number: u64) -> io::Result<()> {
        while let Some(&(first, _)) = self.closed.first() {
            let next_first = self.closed.get(1).map_or(self.file_first, |(first, _)| *first);
            if next_first > number {
                break;
            }
            fs::remove_file(segment_path(&self.dir, first))?;
            self.closed.remove(0);
        }
        Ok(())
    }

    /// Looks again which closed files are there: a person may have made room.
    pub fn rescan(&mut self) {
        let dir = &self.dir;
        self.closed.retain(|(first, _)| segment_path(dir, *first).exists());
    }

    fn roll(&mut self) -> io::Result<()> {
        self.sync()?;
        self.closed.push((self.file_first, self.file_bytes));
        let path = create(&self.dir, self.next)?;
        self.file = OpenOptions::new().append(true).open(path)?;
        self.file_first = self.next;
        self.file_bytes = HEADER;
        Ok(())
    }
}

/// A record as it is read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its number.
    pub number: u64,
    /// What was appended.
    pub payload: Vec<u8>,
}

/// A file of the log that cannot be read on; reading goes on in the next one.
#[derive(Debug, thiserror::Error)]
#[error("{}: {error}", path.display())]
pub struct Damage {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub error: io::Error,
}

/// Every whole record of a log, oldest first, and what of it could not be read.
#[derive(Debug)]
pub struct LogReader {
    files: VecDeque<(u64, PathBuf)>,
    current: Option<(PathBuf, SegmentReader)>,
    record_bytes: u32,
    from: u64,
}

impl LogReader {
    /// Reads the log in `dir` from record number `from` on, or from the first behind it.
    pub fn open(dir: &Path, record_bytes: u32, from: u64) -> io::Result<LogReader> {
        let mut files = VecDeque::from(segments(dir)?);
        while files.get(1).is_some_and(|(first, _)| *first <= from) {
            files.pop_front();
        }
        Ok(LogReader { files, current: None, record_bytes, from })
    }

    fn take(&mut self) -> io::Result<Option<Record>> {
        let Some((_, reader)) = &mut self.current else { return Ok(None) };
        while let Some(record) = reader.next()? {
            if record.number >= self.from {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }
}

impl Iterator for LogReader {
    type Item = Result<Record, Damage>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.take() {
                Ok(Some(record)) => return Some(Ok(record)),
                Ok(None) => {}
                Err(error) => return self.current.take().map(|(path, _)| Err(Damage { path, error })),
            }
            let (first, path) = self.files.pop_front()?;
            match SegmentReader::open(&path, first, self.record_bytes) {
                Ok(reader) => self.current = Some((path, reader)),
                // Done with, and removed since the folder was looked at.
                Err(error) if error.kind() == io::ErrorKind::NotFound => self.current = None,
                Err(error) => return Some(Err(Damage { path, error })),
            }
        }
    }
}

#[derive(Debug)]
struct SegmentReader {
    file: BufReader<File>,
    next: u64,
    record_bytes: u32,
    /// Bytes up to the end of the last whole record.
    good: u64,
}

impl SegmentReader {
    fn open(path: &Path, first: u64, record_bytes: u32) -> io::Result<SegmentReader> {
        let mut file = BufReader::new(File::open(path)?);
        let mut header = [0; HEADER as usize];
        file.read_exact(&mut header).map_err(|_| bad(path, "the header is cut off"))?;
        if header[..8] != MAGIC {
            return Err(bad(path, "not a weir log of version 1"));
        }
        if header[8..] != first.to_le_bytes() {
            return Err(bad(path, "the file's name and its header disagree"));
        }
        Ok(SegmentReader { file, next: first, record_bytes, good: HEADER })
    }

    /// The next record; `None` at the end, an error at a torn or damaged record.
    fn next(&mut self) -> io::Result<Option<Record>> {
        let mut header = [0; RECORD_HEADER as usize];
        match self.file.read(&mut header[..1])? {
            0 => return Ok(None),
            _ => self.file.read_exact(&mut header[1..])?,
        }
        let [l0, l1, l2, l3, c0, c1, c2, c3] = header;
        let length = u32::from_le_bytes([l0, l1, l2, l3]);
        if length > self.record_bytes {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a damaged record length"));
        }
        let mut payload = vec![0; length as usize];
        self.file.read_exact(&mut payload)?;
        if checksum(length, &payload) != u32::from_le_bytes([c0, c1, c2, c3]) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a record's checksum is wrong"));
        }
        self.good += RECORD_HEADER + u64::from(length);
        self.next += 1;
        Ok(Some(Record { number: self.next - 1, payload }))
    }
}

fn bad(path: &Path, what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{}: {what}", path.display()))
}

fn checksum(length: u32, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&length.to_le_bytes());
    hasher.update(payload);
    hasher.finalize()
}

fn segment_path(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:020}.log"))
}

/// Makes an empty file whose first record will be `first`, durably.
fn create(dir: &Path, first: u64) -> io::Result<PathBuf> {
    let path = segment_path(dir, first);
    let beside = path.with_extension("new");
    let mut file = File::create(&beside)?;
    file.write_all(&MAGIC)?;
    file.write_all(&first.to_le_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, &path)?;
    File::open(dir)?.sync_all()?;
    Ok(path)
}

/// The log's files, oldest first, by the number of their first record.
pub(super) fn segments(dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let number = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".log"));
        if let Some(first) = number.and_then(|number| number.parse().ok()) {
            found.push((first, path));
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    const LIMITS: LogLimits = LogLimits { segment_bytes: 100, total_bytes: 10_000, record_bytes: 1000 };

    fn read_all(dir: &Path) -> (Vec<Vec<u8>>, usize) {
        let (records, damage): (Vec<_>, Vec<_>) =
            LogReader::open(dir, LIMITS.record_bytes, 0).unwrap().partition(Result::is_ok);
        (records.into_iter().map(|record| record.unwrap().payload).collect(), damage.len())
    }

    #[test]
    fn a_full_log_refuses_and_takes_again_once_there_is_room() {
        let dir = tempfile::tempdir().unwrap();
        let limits = LogLimits { total_bytes: 200, ..LIMITS };
        let mut log = SegmentedLog::open(dir.path(), limits).unwrap();
        let mut taken = 0;
        while log.append(&[7; 40]).is_ok() {
            taken += 1;
        }
        log.sync().unwrap();
        assert!(taken >= 2 && log.bytes() <= 200);
        log.truncate_before(2).unwrap();
        log.append(&[8; 40]).unwrap();
        log.sync().unwrap();
        assert_eq!(read_all(dir.path()).0.last().unwrap(), &vec![8; 40]);
    }

    #[test]
    fn an_unknown_version_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(segment_path(dir.path(), 0), b"WEIRLOG\x02........").unwrap();
        let error = SegmentedLog::open(dir.path(), LIMITS).unwrap_err();
        assert!(error.to_string().contains("not a weir log of version 1"), "{error}");
    }

    proptest! {
        /// However the last file is cut or a bit flipped, every synced record before the damage comes back
        /// unchanged, and appending goes on behind it.
        #[test]
        fn whole_records_survive_any_torn_tail(sizes in prop::collection::vec(0usize..60, 1..20), cut in 0u64..200, flip in any::<bool>()) {
            let dir = tempfile::tempdir().unwrap();
            let mut log = SegmentedLog::open(dir.path(), LIMITS).unwrap();
            let written: Vec<Vec<u8>> = sizes.iter().enumerate().map(|(i, size)| vec![i as u8; *size]).collect();
            for payload in &written {
                log.append(payload).unwrap();
                log.sync().unwrap();
            }
            drop(log);
            let (first, path) = segments(dir.path()).unwrap().pop().unwrap();
            let bytes = fs::read(&path).unwrap();
            let at = HEADER + cut % (bytes.len() as u64 - HEADER + 1);
            let mut torn = bytes.clone();
            match torn.get_mut(at as usize).filter(|_| flip) {
                Some(byte) => *byte ^= 0x40,
                None => torn.truncate(at as usize),
            }
            fs::write(&path, torn).unwrap();
            let mut log = SegmentedLog::open(dir.path(), LIMITS).unwrap();
            let kept = log.next() as usize;
            prop_assert!(kept >= first as usize);
            log.append(b"after").unwrap();
            log.sync().unwrap();
            let (records, damaged) = read_all(dir.path());
            prop_assert_eq!(damaged, 0);
            prop_assert_eq!(&records[..kept], &written[..kept]);
            prop_assert_eq!(&records[kept], b"after");
        }
    }
}
