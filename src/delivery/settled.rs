//! Which records of a [segmented log](super::log) are done with: the marks that `weir dlq retry` leaves.
//!
//! # Format
//!
//! Beside a file `N.log` stands a file `N.settled` with the records of it that are done with, 12 bytes each: the
//! record's number (u64 LE) and the CRC-32 of those eight bytes (u32 LE). What follows the last whole entry is a
//! torn write and is cut before the next one. Once every record of a closed file is done with, the file goes. Its marks
//! stay as long as there is an older file: they tell that no records are missing in between. Marks of records whose file is
//! gone stand with those of the file before.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::log::{self, segments};
use crate::private;

const ENTRY: usize = 12;

/// The marks of one log.
#[derive(Debug)]
pub struct SettledRecords {
    dir: PathBuf,
    /// Files of the log, oldest first.
    files: Vec<(u64, PathBuf)>,
    /// Disjoint runs of numbers: the first, and the one behind the last.
    runs: BTreeMap<u64, u64>,
    /// Files open for marking, by the first record of their log file.
    open: HashMap<u64, File>,
}

impl SettledRecords {
    /// Reads the marks of the log in `dir`.
    pub fn open(dir: &Path) -> io::Result<SettledRecords> {
        let files = segments(dir)?;
        let mut settled = SettledRecords { dir: dir.to_owned(), files, runs: BTreeMap::new(), open: HashMap::new() };
        for (_, path) in marks(dir)? {
            let bytes = match fs::read(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                bytes => bytes?,
            };
            entries(&bytes).for_each(|number| settled.insert(number));
        }
        Ok(settled)
    }

    /// How many of these records are not done with.
    pub fn waiting_in(&self, records: Range<u64>) -> u64 {
        let settled = |(start, end): (&u64, &u64)| (*end).min(records.end).saturating_sub((*start).max(records.start));
        let done: u64 = self.runs.range(..records.end).map(settled).sum();
        records.end.saturating_sub(records.start).saturating_sub(done)
    }

    /// Whether this record is done with.
    pub fn contains(&self, number: u64) -> bool {
        self.runs.range(..=number).next_back().is_some_and(|(_, end)| number < *end)
    }

    /// These records are done with; durable when it returns. Files of which every record is, go first where the disk is
    /// full: marks need room.
    pub fn mark(&mut self, numbers: &[u64]) -> io::Result<()> {
        numbers.iter().for_each(|number| self.insert(*number));
        match self.write(numbers) {
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                self.remove_finished()?;
                self.write(numbers)
            }
            written => written,
        }
    }

    fn write(&mut self, numbers: &[u64]) -> io::Result<()> {
        let mut entries: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
        for number in numbers {
            // Records before the oldest file need no mark.
            let Some(at) = self.files.partition_point(|(first, _)| first <= number).checked_sub(1) else { continue };
            let number = number.to_le_bytes();
            let entry = entries.entry(at).or_default();
            entry.extend_from_slice(&number);
            entry.extend_from_slice(&crc32fast::hash(&number).to_le_bytes());
        }
        for (at, bytes) in entries {
            let file = self.file(at)?;
            if let Err(error) = file.write_all(&bytes).and_then(|()| file.sync_data()) {
                // What was written of it is cut when it is opened again.
                self.open.remove(&self.files[at].0);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Removes the closed files of which every record is done with, and marks that nobody asks for any more.
    pub fn remove_finished(&mut self) -> io::Result<()> {
        let is_finished = |pair: &[(u64, PathBuf)]| {
            let first = pair[0].0;
            let run = self.runs.range(..=first).next_back().filter(|(_, run_end)| first < **run_end);
            // Numbers that were left out before the next file are nobody's.
            run.is_some_and(|(_, run_end)| log::behind(&self.dir, pair[1].0).unwrap_or(pair[1].0) <= *run_end)
        };
        let finished: Vec<(u64, PathBuf)> =
            self.files.windows(2).filter(|pair| is_finished(pair)).map(|pair| pair[0].clone()).collect();
        for (first, log) in &finished {
            remove(log)?;
            self.open.remove(first);
            self.files.retain(|(other, _)| other != first);
        }
        let oldest = self.files.first().map_or(0, |(first, _)| *first);
        for (_, path) in marks(&self.dir)?.into_iter().filter(|(first, _)| *first < oldest) {
            remove(&path)?;
        }
        Ok(())
    }

    /// The marks beside file number `at`, ready for the next entry.
    fn file(&mut self, at: usize) -> io::Result<&mut File> {
        let (first, log) = &self.files[at];
        if !self.open.contains_key(first) {
            let path = marks_path(log);
            let mut file = private::options().create(true).truncate(false).write(true).read(true).open(&path)?;
            let whole = entries(&fs::read(&path)?).count() * ENTRY;
            file.set_len(whole as u64)?;
            file.seek(SeekFrom::End(0))?;
            if let Some(dir) = path.parent() {
                File::open(dir)?.sync_all()?;
            }
            self.open.insert(*first, file);
        }
        self.open.get_mut(first).ok_or_else(|| io::Error::other("the file was opened just now"))
    }

    fn insert(&mut self, number: u64) {
        if self.contains(number) {
            return;
        }
        let start = match self.runs.range(..number).next_back() {
            Some((start, end)) if *end == number => *start,
            _ => number,
        };
        let end = self.runs.remove(&(number + 1)).unwrap_or(number + 1);
        self.runs.insert(start, end);
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// All files of marks, by the number of the first record of their log file.
fn marks(dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if let Some(first) = name.and_then(|name| name.strip_suffix(".settled")?.parse().ok()) {
            found.push((first, path));
        }
    }
    Ok(found)
}

fn marks_path(log: &Path) -> PathBuf {
    log.with_extension("settled")
}

/// The numbers of the whole entries.
fn entries(bytes: &[u8]) -> impl Iterator<Item = u64> {
    let number = |entry: &[u8]| {
        let (number, crc) = entry.split_at(8);
        let is_whole = crc32fast::hash(number).to_le_bytes() == crc;
        is_whole.then(|| u64::from_le_bytes(number.try_into().unwrap_or_default()))
    };
    bytes.chunks_exact(ENTRY).map_while(number)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;
    use std::fs::OpenOptions;

    use proptest::prelude::*;

    use super::*;
    use crate::delivery::log::{LogLimits, SegmentedLog};

    const LIMITS: LogLimits = LogLimits { segment_bytes: 220, total_bytes: 100_000, record_bytes: 1000 };
    const RECORDS: u64 = 40;

    fn log(dir: &Path) -> SegmentedLog {
        let mut log = SegmentedLog::open(dir, LIMITS).unwrap();
        for number in log.next()..RECORDS {
            log.append(&number.to_le_bytes()).unwrap();
        }
        log.sync().unwrap();
        log
    }

    #[test]
    fn a_file_goes_once_all_of_it_is_done_with() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = log(dir.path());
        let mut settled = SettledRecords::open(dir.path()).unwrap();
        let second = settled.files[1].0;
        settled.mark(&(1..RECORDS).rev().collect::<Vec<_>>()).unwrap();
        settled.remove_finished().unwrap();
        assert_eq!(settled.files.len(), 2, "the first holds a record that is not, the last is written to");
        settled.mark(&[0]).unwrap();
        settled.remove_finished().unwrap();
        assert_eq!(settled.files.len(), 1);
        assert!(!dir.path().join(format!("{:020}.settled", 0)).exists());
        log.rescan();
        assert!(log.bytes() < 220 && second < RECORDS);
        drop(log);
        assert_eq!(SegmentedLog::open(dir.path(), LIMITS).unwrap().next(), RECORDS, "numbers are not used again");
    }

    #[test]
    fn a_file_in_the_middle_that_was_removed_is_known_to_be_done_with() {
        let dir = tempfile::tempdir().unwrap();
        let _log = log(dir.path());
        let mut settled = SettledRecords::open(dir.path()).unwrap();
        let (second, third) = (settled.files[1].0, settled.files[2].0);
        settled.mark(&(second..third).collect::<Vec<_>>()).unwrap();
        settled.remove_finished().unwrap();
        assert!(!log_path(dir.path(), second).exists());
        let mut settled = SettledRecords::open(dir.path()).unwrap();
        assert_eq!(settled.waiting_in(second..third), 0);
        assert_eq!(settled.waiting_in(second - 1..third + 2), 3);
        settled.mark(&(0..second).collect::<Vec<_>>()).unwrap();
        settled.remove_finished().unwrap();
        assert_eq!(marks(dir.path()).unwrap(), [], "nothing is older any more");
    }

    fn log_path(dir: &Path, first: u64) -> PathBuf {
        dir.join(format!("{first:020}.log"))
    }

    proptest! {
        /// Whatever is marked in whatever order is marked afterwards and after reopening, and nothing else is; a torn
        /// entry at the end is no mark and is not in the way of the next.
        #[test]
        fn marks_are_kept(rounds in prop::collection::vec(prop::collection::vec(0..RECORDS, 1..12), 1..5), torn in 0usize..ENTRY) {
            let dir = tempfile::tempdir().unwrap();
            let _log = log(dir.path());
            let mut marked = BTreeSet::new();
            for numbers in rounds {
                let mut settled = SettledRecords::open(dir.path()).unwrap();
                settled.mark(&numbers).unwrap();
                marked.extend(numbers.iter().copied());
                let reopened = SettledRecords::open(dir.path()).unwrap();
                for number in 0..RECORDS {
                    prop_assert_eq!(settled.contains(number), marked.contains(&number));
                    prop_assert_eq!(reopened.contains(number), marked.contains(&number));
                }
                for (_, path) in &settled.files {
                    if let Ok(mut file) = OpenOptions::new().append(true).open(marks_path(path)) {
                        file.write_all(&[7; ENTRY][..torn]).unwrap();
                    }
                }
            }
        }
    }
}
