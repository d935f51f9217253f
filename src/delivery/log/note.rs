//! A number on the disk that is replaced in place: storing it needs no room, and a write that is torn leaves the number
//! before.
//!
//! The file has two slots of 4096 bytes, which are written in turns. A slot begins with the number (u64 LE) and its
//! CRC-32; the rest is zeros. The whole slot of the highest number counts. Files of earlier versions hold the first 12
//! bytes alone.

use std::io;

use super::disk::{Disk, DiskFile, is_at};

const SLOT: usize = 4096;
const ENTRY: usize = 12;

/// The number, and its file where there is one.
#[derive(Debug)]
pub(crate) struct Note {
    name: &'static str,
    file: Option<Box<dyn DiskFile>>,
    /// Slot of the number that counts.
    newest: usize,
}

impl Note {
    /// The note of this name, and its number; `None` where it is damaged or was never written.
    pub fn open(disk: &dyn Disk, name: &'static str) -> io::Result<(Note, Option<u64>)> {
        let file = match disk.edit(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok((Note { name, file: None, newest: 0 }, None));
            }
            file => file?,
        };
        let mut found: [Option<u64>; 2] = [None; 2];
        let mut size = 0;
        for (at, slot) in found.iter_mut().enumerate() {
            let mut bytes = [0; ENTRY];
            let read = file.read_at(&mut bytes, (at * SLOT) as u64)?;
            size = size.max(at * SLOT + read);
            *slot = number_of(&bytes);
        }
        if found == [None; 2] {
            tracing::warn!(path = %disk.path(name).display(), "it is damaged: the number in it is not known");
        }
        // `None` is below any number.
        let newest = usize::from(found[1] > found[0]);
        // A file that is too short to be written in place is made anew.
        let file = (size > SLOT).then_some(file);
        Ok((Note { name, file, newest }, found[newest]))
    }

    /// The number alone, for those who write nothing.
    pub fn read(disk: &dyn Disk, name: &'static str) -> io::Result<Option<u64>> {
        let file = match disk.open(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let mut newest = None;
        for at in 0..2 {
            let mut bytes = [0; ENTRY];
            file.read_at(&mut bytes, (at * SLOT) as u64)?;
            newest = newest.max(number_of(&bytes));
        }
        Ok(newest)
    }

    /// Puts another number in its place; durable after the next [`sync`](Self::sync), and after the end of the process in
    /// any case. After an error the number before counts.
    pub fn write(&mut self, disk: &dyn Disk, number: u64) -> io::Result<()> {
        let Some(file) = &mut self.file else {
            self.file = Some(self.create(disk, number)?);
            self.newest = 0;
            return Ok(());
        };
        let other = 1 - self.newest;
        file.write_at(&entry(number), (other * SLOT) as u64)?;
        self.newest = other;
        Ok(())
    }

    /// Makes the number durable. A file that is not at its path any more is an error, and is made anew by the next write.
    pub fn sync(&mut self, disk: &dyn Disk) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        if let Err(error) = file.sync() {
            // The slot before counts, and the next write is not to touch it.
            self.newest = 1 - self.newest;
            return Err(error);
        }
        let is_there = is_at(disk, self.name, &**file);
        if is_there.is_err() {
            self.file = None;
        }
        is_there
    }

    /// All of its room is taken here.
    fn create(&self, disk: &dyn Disk, number: u64) -> io::Result<Box<dyn DiskFile>> {
        disk.check()?;
        let beside = format!("{}.new", self.name);
        let mut file = disk.create(&beside)?;
        let mut bytes = vec![0; 2 * SLOT];
        bytes[..ENTRY].copy_from_slice(&entry(number));
        file.append(&bytes)?;
        file.sync()?;
        disk.rename(&beside, self.name)?;
        disk.sync()?;
        Ok(file)
    }
}

fn entry(number: u64) -> [u8; ENTRY] {
    let number = number.to_le_bytes();
    let mut entry = [0; ENTRY];
    entry[..8].copy_from_slice(&number);
    entry[8..].copy_from_slice(&crc32fast::hash(&number).to_le_bytes());
    entry
}

fn number_of(entry: &[u8; ENTRY]) -> Option<u64> {
    let (number, crc) = entry.split_first_chunk::<8>()?;
    (crc32fast::hash(number).to_le_bytes() == crc).then(|| u64::from_le_bytes(*number))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::faults::FaultyDisk;
    use super::*;

    #[test]
    fn a_number_is_replaced_without_room_and_a_torn_write_leaves_the_one_before() {
        let disk = FaultyDisk::default();
        let (mut note, none) = Note::open(&disk, "n").unwrap();
        assert_eq!(none, None);
        note.write(&disk, 7).unwrap();
        disk.limit(Some(0));
        for number in 8..12 {
            note.write(&disk, number).unwrap();
            note.sync(&disk).unwrap();
            assert_eq!(Note::read(&disk, "n").unwrap(), Some(number));
        }
        let newest = note.newest * SLOT;
        disk.damage("n", |bytes| bytes[newest + 3] ^= 1);
        assert_eq!(Note::open(&disk, "n").unwrap().1, Some(10));
    }

    #[test]
    fn a_note_of_an_earlier_version_is_read_and_kept_until_the_next_is_whole() {
        let disk = FaultyDisk::default();
        disk.create("n").unwrap().append(&entry(5)).unwrap();
        let (mut note, found) = Note::open(&disk, "n").unwrap();
        assert_eq!(found, Some(5));
        disk.limit(Some(100));
        note.write(&disk, 6).unwrap_err();
        assert_eq!(Note::read(&disk, "n").unwrap(), Some(5));
        disk.limit(None);
        note.write(&disk, 6).unwrap();
        assert_eq!(Note::open(&disk, "n").unwrap().1, Some(6));
    }
}
