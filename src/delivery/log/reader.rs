//! Reading a log: every whole record in order, and what of it is damaged.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memchr::memmem;

use super::disk::{Disk, DiskFile, Folder};
use super::format::{self, HEAD, HEAD_1, Head, Marker, RECORD_HEAD, RECORD_HEAD_1};
use super::{END, Note, segment_name, segments_on};

/// Bytes read at once.
const CHUNK: usize = 256 << 10;
/// Bytes of damage that are kept for a look, of one place and of a whole log.
const QUARANTINE_PLACE: u64 = 1 << 20;
const QUARANTINE_ALL: u64 = 16 << 20;

/// A record as it is read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its number.
    pub number: u64,
    /// What was appended.
    pub payload: Vec<u8>,
}

/// A part of the log that cannot be read; reading goes on behind it.
#[derive(Debug, thiserror::Error)]
#[error("{}: byte {offset}: {what}, {bytes} bytes, {records} records known to be lost", path.display())]
pub struct Damage {
    /// Output file.
    pub path: PathBuf,
    /// Where it begins in the file.
    pub offset: u64,
    /// How long it is; 0 where the bytes are not there at all.
    pub bytes: u64,
    /// Records that are known to be lost. What is damaged at the end of a file may have been some, or a torn write.
    pub records: u64,
    /// What is wrong there.
    pub what: String,
}

/// Every whole record of a log, oldest first, and what of it could not be read.
#[derive(Debug)]
pub struct LogReader {
    disk: Arc<dyn Disk>,
    record_bytes: u32,
    /// Files that are still to be opened, by their first numbers.
    files: VecDeque<u64>,
    current: Option<Segment>,
    /// The next number that is wanted.
    next: u64,
    /// The files are known that hold the records below this number.
    listed: u64,
    /// Whether records that were removed since are missed.
    misses: bool,
    /// What the log says of its end: the number behind the last record, or 0.
    noted: u64,
}

impl LogReader {
    /// Reads the log in `dir` from record number `from` on, or from the first behind it.
    pub fn open(dir: &Path, record_bytes: u32, from: u64) -> io::Result<LogReader> {
        LogReader::on(Arc::new(Folder::new(dir)), record_bytes, from)
    }

    pub(crate) fn on(disk: Arc<dyn Disk>, record_bytes: u32, from: u64) -> io::Result<LogReader> {
        // Before the files are listed: what it speaks of is in them.
        let noted = Note::read(&*disk, END)?.unwrap_or(0);
        let mut reader = LogReader {
            disk,
            record_bytes,
            files: VecDeque::new(),
            current: None,
            next: from,
            listed: u64::MAX,
            misses: false,
            noted,
        };
        reader.list()?;
        Ok(reader)
    }

    /// Every record behind the first is expected to be there: where none was removed on purpose, a file that is missing is
    /// damage.
    pub(crate) fn missing_none(mut self) -> LogReader {
        self.misses = true;
        // It is the log of a process that goes on writing.
        self.listed = 0;
        self
    }

    /// The number of the next record that is wanted.
    pub(crate) fn next_number(&self) -> u64 {
        self.next
    }

    /// The next record below `until`, which must be durable; `None` when there is none. After an error of the disk the
    /// same is tried again.
    pub(crate) fn read_below(&mut self, until: u64) -> io::Result<Option<Result<Record, Damage>>> {
        if until > self.listed {
            self.list()?;
            self.listed = until;
        }
        loop {
            if self.next >= until {
                return Ok(None);
            }
            let Some(segment) = &mut self.current else {
                match self.files.front() {
                    Some(first) if *first < until => match self.enter(*first)? {
                        Some(damage) => return Ok(Some(Err(damage))),
                        None => continue,
                    },
                    _ => return Ok(self.missing(until, None).map(Err)),
                }
            };
            let end = self.files.front().copied().unwrap_or(u64::MAX);
            match segment.next(self.next, until, end, self.record_bytes)? {
                Next::Record(record) => {
                    self.next = record.number + 1;
                    return Ok(Some(Ok(record)));
                }
                Next::Damage { place, behind } => {
                    let records = behind.saturating_sub(self.next);
                    self.next = self.next.max(behind);
                    return Ok(Some(Err(self.damage(place, records))));
                }
                Next::Later => return Ok(None),
                Next::End(rest) => {
                    let rest = rest.map(|rest| self.damage(rest, 0));
                    self.current = None;
                    let behind = match self.files.front() {
                        Some(first) if *first < until => self.behind(*first)?,
                        _ => until,
                    };
                    if let Some(damage) = self.missing(behind, rest) {
                        return Ok(Some(Err(damage)));
                    }
                }
            }
        }
    }

    /// What is missing before `behind`, together with bytes that are no record.
    fn missing(&mut self, behind: u64, rest: Option<Damage>) -> Option<Damage> {
        let is_known = self.misses || rest.as_ref().is_some_and(|rest| rest.what != CUT);
        // Where the reader is to read to the end, the note says where that is.
        let behind = if behind == u64::MAX { self.noted } else { behind };
        let records = if is_known { behind.saturating_sub(self.next) } else { 0 };
        self.next = self.next.max(behind);
        match rest {
            Some(rest) if rest.what != CUT || records > 0 => Some(Damage { records, ..rest }),
            None if records > 0 => {
                let path = self.disk.path(&segment_name(self.next));
                Some(Damage {
                    path,
                    offset: 0,
                    bytes: 0,
                    records,
                    what: "the records before it are missing".to_owned(),
                })
            }
            _ => None,
        }
    }

    /// Opens the next file. Damage where all of it is, or where files before it are missing.
    fn enter(&mut self, first: u64) -> io::Result<Option<Damage>> {
        let opened = match self.disk.open(&segment_name(first)) {
            // Done with, and removed since the folder was looked at.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.files.pop_front();
                return Ok(None);
            }
            opened => Segment::new(opened?, first)?,
        };
        self.files.pop_front();
        let (segment, after) = match opened {
            Ok(opened) => opened,
            Err(what) => {
                let path = self.disk.path(&segment_name(first));
                return Ok(Some(Damage { path, offset: 0, bytes: 0, records: 0, what: what.to_owned() }));
            }
        };
        let missing = if self.misses { self.missing(after.min(first), None) } else { None };
        self.next = self.next.max(first);
        self.current = Some(segment);
        Ok(missing)
    }

    /// The number behind the last record that stood before this file.
    fn behind(&self, first: u64) -> io::Result<u64> {
        match self.disk.open(&segment_name(first)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(first),
            opened => Ok(Segment::new(opened?, first)?.map_or(first, |(_, after)| after.min(first))),
        }
    }

    fn damage(&self, place: Place, records: u64) -> Damage {
        let first = self.current.as_ref().map_or(0, |segment| segment.first);
        place.damage(self.disk.path(&segment_name(first)), records)
    }

    /// Looks which files are there.
    fn list(&mut self) -> io::Result<()> {
        let mut files: VecDeque<u64> = segments_on(&*self.disk)?.into_iter().map(|(first, _)| first).collect();
        match &self.current {
            Some(segment) => files.retain(|first| *first > segment.first),
            None => {
                while files.get(1).is_some_and(|first| *first <= self.next) {
                    files.pop_front();
                }
            }
        }
        self.files = files;
        Ok(())
    }

    /// Copies what is damaged beside the log, into `<file>.<offset>.quarantine`, as far as there is room for it.
    pub(crate) fn quarantine(&self, damage: &Damage) -> io::Result<()> {
        let Some(name) = damage.path.file_name().and_then(|name| name.to_str()) else { return Ok(()) };
        let copy = format!("{name}.{}.quarantine", damage.offset);
        let kept: Vec<(String, u64)> =
            self.disk.list()?.into_iter().filter(|(name, _)| name.ends_with(".quarantine")).collect();
        let held: u64 = kept.iter().map(|(_, size)| size).sum();
        let length = damage.bytes.min(QUARANTINE_PLACE);
        if length == 0 || held + length > QUARANTINE_ALL || kept.iter().any(|(name, _)| *name == copy) {
            return Ok(());
        }
        let mut window = Window::new(self.disk.open(name)?);
        let bytes = window.get(damage.offset, usize::try_from(length).unwrap_or(0))?;
        self.disk.create(&copy)?.append(bytes)
    }
}

impl Iterator for LogReader {
    type Item = Result<Record, Damage>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.read_below(u64::MAX) {
            Ok(read) => read,
            Err(error) => {
                // Nobody is there who would try it again: the rest of the file is given up.
                let (first, offset) = match self.current.take() {
                    Some(segment) => (segment.first, segment.offset),
                    None => (self.files.pop_front()?, 0),
                };
                let path = self.disk.path(&segment_name(first));
                Some(Err(Damage { path, offset, bytes: 0, records: 0, what: error.to_string() }))
            }
        }
    }
}

/// What is said of bytes at the end of a file that would be the beginning of a record.
const CUT: &str = "a record is cut off";

/// Bytes of a file that are no records.
#[derive(Debug)]
pub(super) struct Place {
    pub offset: u64,
    pub bytes: u64,
    pub what: &'static str,
}

impl Place {
    pub fn damage(self, path: PathBuf, records: u64) -> Damage {
        Damage { path, offset: self.offset, bytes: self.bytes, records, what: self.what.to_owned() }
    }

    /// Whether it looks like a write that was under way.
    pub fn is_cut(&self) -> bool {
        self.what == CUT
    }
}

/// What comes next in a file.
#[derive(Debug)]
pub(super) enum Next {
    Record(Record),
    /// Bytes that are no record; the next record is `behind` at least.
    Damage {
        place: Place,
        behind: u64,
    },
    /// Nothing that may be read already.
    Later,
    /// The file is over, perhaps with bytes that are no record.
    End(Option<Place>),
}

/// A file of the log while it is read.
#[derive(Debug)]
pub(super) struct Segment {
    window: Window,
    first: u64,
    /// `None`: version 1.
    marker: Option<Marker>,
    offset: u64,
    /// Of version 1: the number of the next record.
    number: u64,
}

impl Segment {
    /// A file, and the number behind the last record before it; or why it is none of ours.
    pub fn new(file: Box<dyn DiskFile>, first: u64) -> io::Result<Result<(Segment, u64), &'static str>> {
        let mut window = Window::new(file);
        let bytes = window.get(0, (HEAD + RECORD_HEAD) as usize)?;
        let (marker, offset, after) = match format::read_head(bytes, first) {
            Head::Unknown(what) => return Ok(Err(what)),
            Head::One => (None, HEAD_1, first),
            Head::Two { after, marker } => (Some(marker), HEAD, after),
            Head::Damaged(marker) => {
                // The first record says it again.
                let again = format::marker_at(bytes, HEAD as usize);
                let is_it = format::read_record_head(again, bytes.get(HEAD as usize..).unwrap_or_default()).is_some();
                (Some(if is_it { again } else { marker }), HEAD.min(bytes.len() as u64), first)
            }
        };
        Ok(Ok((Segment { window, first, marker, offset, number: first }, after)))
    }

    pub fn is_version_1(&self) -> bool {
        self.marker.is_none()
    }

    /// The next record from `wanted` on and below `until`; records from `end` on are not of this file any more: a write of
    /// them failed, and they stand in the next one.
    pub fn next(&mut self, wanted: u64, until: u64, end: u64, record_bytes: u32) -> io::Result<Next> {
        let Some(marker) = self.marker else { return self.next_1(wanted, until, record_bytes) };
        loop {
            let bytes = self.window.get(self.offset, RECORD_HEAD as usize)?;
            if bytes.is_empty() {
                return Ok(Next::End(None));
            }
            if bytes.len() < RECORD_HEAD as usize {
                let bytes = bytes.len() as u64;
                return Ok(self.end(bytes));
            }
            let head = format::read_record_head(marker, bytes).filter(|head| head.length <= record_bytes);
            let Some(head) = head else {
                match self.synchronise(marker, wanted, until.min(end), record_bytes)? {
                    Some(next) => return Ok(next),
                    None => continue,
                }
            };
            if head.number >= end {
                return Ok(Next::End(None));
            }
            if head.number >= until {
                return Ok(Next::Later);
            }
            if head.number < wanted {
                self.offset += head.size();
                continue;
            }
            let offset = self.offset;
            let payload = self.window.get(offset + RECORD_HEAD, head.length as usize)?;
            if payload.len() < head.length as usize {
                let bytes = RECORD_HEAD + payload.len() as u64;
                return Ok(self.end(bytes));
            }
            self.offset += head.size();
            if !head.fits(payload) {
                let place = Place { offset, bytes: head.size(), what: "a record's checksum is wrong" };
                return Ok(Next::Damage { place, behind: head.number + 1 });
            }
            return Ok(Next::Record(Record { number: head.number, payload: payload.to_vec() }));
        }
    }

    /// The end, with the beginning of a record that does not go on.
    fn end(&self, bytes: u64) -> Next {
        Next::End(Some(Place { offset: self.offset, bytes, what: CUT }))
    }

    /// Looks for the next whole head of a record. `None`: all that is damaged stands before what is wanted.
    fn synchronise(&mut self, marker: Marker, wanted: u64, end: u64, record_bytes: u32) -> io::Result<Option<Next>> {
        let what = "there is no record where one should be";
        let start = self.offset;
        let finder = memmem::Finder::new(&marker);
        // Zeros are no marker, and a file of zeros is full of them.
        let is_marker = marker != Marker::default();
        let mut at = start + 1;
        loop {
            // A head may begin with the last byte of a chunk.
            let bytes = self.window.get(at, CHUNK + RECORD_HEAD as usize)?;
            let mut from = 0;
            while let Some(found) = finder.find(&bytes[from..]).filter(|_| is_marker) {
                let head = format::read_record_head(marker, &bytes[from + found..]);
                if let Some(head) = head.filter(|head| head.length <= record_bytes && head.number >= self.first) {
                    self.offset = at + (from + found) as u64;
                    let place = Place { offset: start, bytes: self.offset - start, what };
                    let damage = Next::Damage { place, behind: head.number.min(end) };
                    return Ok((head.number >= wanted).then_some(damage));
                }
                from += found + 1;
            }
            if bytes.len() < CHUNK + RECORD_HEAD as usize {
                let place = Place { offset: start, bytes: at + bytes.len() as u64 - start, what };
                return Ok(Some(Next::End(Some(place))));
            }
            at += CHUNK as u64;
        }
    }

    /// Version 1 has neither numbers nor markers: damage ends the file.
    fn next_1(&mut self, wanted: u64, until: u64, record_bytes: u32) -> io::Result<Next> {
        loop {
            if self.number >= until {
                return Ok(Next::Later);
            }
            let bytes = self.window.get(self.offset, RECORD_HEAD_1 as usize)?;
            if bytes.is_empty() {
                return Ok(Next::End(None));
            }
            let Some((length, crc)) = format::read_record_head_1(bytes) else {
                let bytes = bytes.len() as u64;
                return Ok(self.end(bytes));
            };
            let length_there = if length <= record_bytes { length as usize } else { 0 };
            let payload = self.window.get(self.offset + RECORD_HEAD_1, length_there)?;
            if payload.len() < length_there {
                let bytes = RECORD_HEAD_1 + payload.len() as u64;
                return Ok(self.end(bytes));
            }
            if length > record_bytes || format::checksum_1(length, payload) != crc {
                let what = "a record's checksum is wrong, and the rest of the file cannot be read";
                let (offset, bytes) = (self.offset, self.window.rest(self.offset)?);
                return Ok(Next::End(Some(Place { offset, bytes, what })));
            }
            let record = Record { number: self.number, payload: payload.to_vec() };
            self.offset += RECORD_HEAD_1 + u64::from(length);
            self.number += 1;
            if record.number >= wanted {
                return Ok(Next::Record(record));
            }
        }
    }
}

/// A part of a file in memory.
#[derive(Debug)]
struct Window {
    file: Box<dyn DiskFile>,
    start: u64,
    bytes: Vec<u8>,
}

impl Window {
    fn new(file: Box<dyn DiskFile>) -> Window {
        Window { file, start: 0, bytes: Vec::new() }
    }

    /// The bytes from `offset` on; fewer at the end of the file. More than a chunk is asked for only where a checksum has
    /// said that it is there.
    fn get(&mut self, offset: u64, length: usize) -> io::Result<&[u8]> {
        let is_there = |window: &Window| {
            let from = usize::try_from(offset.checked_sub(window.start)?).ok()?;
            (window.bytes.len() >= from.checked_add(length)?).then_some(from)
        };
        if let Some(from) = is_there(self) {
            return Ok(&self.bytes[from..from + length]);
        }
        if self.bytes.capacity() > 4 * CHUNK {
            self.bytes = Vec::new();
        }
        self.bytes.resize(length.max(CHUNK), 0);
        let mut filled = 0;
        while filled < self.bytes.len() {
            match self.file.read_at(&mut self.bytes[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.bytes.clear();
                    return Err(error);
                }
            }
        }
        self.bytes.truncate(filled);
        self.start = offset;
        Ok(&self.bytes[..filled.min(length)])
    }

    /// Bytes from `offset` to the end.
    fn rest(&mut self, offset: u64) -> io::Result<u64> {
        let mut at = offset;
        loop {
            let read = self.get(at, CHUNK)?.len();
            at += read as u64;
            if read < CHUNK {
                return Ok(at - offset);
            }
        }
    }
}
