//! What is stored of a file: how far it is settled, and by what it is known again.
//!
//! All numbers are little-endian: the position (8 bytes), length and CRC-32 of the file's head (4 and 4), where reading must
//! begin before the position because records of several lines overlap there (8, all ones: nowhere), the inode (8), a
//! place in the stored file (8) and the CRC-32 of the bytes before it (4). The file had these bytes when the mark was made,
//! so one that is shorter, or has others, is another file or was cut.
//!
//! Earlier versions had the position alone, or with the head, or with where reading begins behind that; they are read
//! still. The device is not stored: its number may change with a restart of the machine.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};

/// Bytes of a head, and of those before a place, at most.
const PRINT: u64 = 4096;
/// Length of a mark of the present version.
const LENGTH: usize = 44;

/// What a file is known again by, as it was when it was opened.
#[derive(Debug, Default)]
pub(crate) struct Identity {
    inode: u64,
    pub length: u64,
    pub head: Vec<u8>,
}

impl Identity {
    pub fn of(file: &File) -> io::Result<Identity> {
        let metadata = file.metadata()?;
        // Not by the length, which is zero for files of /proc.
        let head = read_at(file, 0, PRINT)?;
        Ok(Identity { inode: metadata.ino(), length: metadata.len(), head })
    }
}

/// A position in a file that is known again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub position: u64,
    /// Where reading begins, if it is not there.
    pub from: Option<u64>,
    head: Print,
    print: Option<(u64, Print)>,
}

/// Bytes, known by their checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Print {
    /// The place behind them.
    end: u64,
    crc: u32,
}

impl Print {
    /// Of the bytes of `file` in front of `end`.
    fn before(file: &File, end: u64) -> io::Result<Print> {
        let start = end.saturating_sub(PRINT);
        Ok(Print { end, crc: crc32fast::hash(&read_at(file, start, end - start)?) })
    }
}

fn read_at(file: &File, start: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(length.min(PRINT)).unwrap_or_default()];
    let mut read = 0;
    while read < bytes.len() {
        match file.read_at(&mut bytes[read..], start + read as u64) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(read);
    Ok(bytes)
}

impl Mark {
    /// The mark of a position in a file; `end` is a place in it, as it is stored, up to which nothing changes any more.
    pub fn new(position: u64, from: Option<u64>, file: &File, identity: &Identity, end: u64) -> io::Result<Mark> {
        let head = Print { end: identity.head.len() as u64, crc: crc32fast::hash(&identity.head) };
        Ok(Mark { position, from, head, print: Some((identity.inode, Print::before(file, end)?)) })
    }

    /// Whether this file is the one marked. One that has grown since is.
    pub fn fits(&self, file: &File, identity: &Identity) -> io::Result<bool> {
        let head = usize::try_from(self.head.end).ok().and_then(|length| identity.head.get(..length));
        if head.is_none_or(|head| !head.is_empty() && crc32fast::hash(head) != self.head.crc) {
            return Ok(false);
        }
        let Some((inode, print)) = self.print else { return Ok(true) };
        Ok(inode == identity.inode && print.end <= identity.length && print == Print::before(file, print.end)?)
    }

    /// As stored.
    pub fn to_bytes(self) -> Vec<u8> {
        let mut bytes = self.position.to_le_bytes().to_vec();
        bytes.extend(u32::try_from(self.head.end).unwrap_or(0).to_le_bytes());
        bytes.extend(self.head.crc.to_le_bytes());
        match self.print {
            Some((inode, print)) => {
                bytes.extend(self.from.unwrap_or(u64::MAX).to_le_bytes());
                bytes.extend(inode.to_le_bytes());
                bytes.extend(print.end.to_le_bytes());
                bytes.extend(print.crc.to_le_bytes());
            }
            None => bytes.extend(self.from.into_iter().flat_map(u64::to_le_bytes)),
        }
        bytes
    }

    /// From what was stored.
    pub fn from_bytes(bytes: &[u8]) -> io::Result<Mark> {
        if !matches!(bytes.len(), 8 | 16 | 24 | LENGTH) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the stored position is damaged"));
        }
        let long = |at: usize| bytes.get(at..at + 8).and_then(|part| part.try_into().ok()).map(u64::from_le_bytes);
        let short = |at: usize| bytes.get(at..at + 4).and_then(|part| part.try_into().ok()).map(u32::from_le_bytes);
        let print = long(24).zip(long(32)).zip(short(40)).map(|((inode, end), crc)| (inode, Print { end, crc }));
        Ok(Mark {
            position: long(0).unwrap_or_default(),
            from: long(16).filter(|from| *from != u64::MAX),
            head: Print { end: short(8).unwrap_or_default().into(), crc: short(12).unwrap_or_default() },
            print,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::Path;

    use super::*;

    fn opened(path: &Path) -> (File, Identity) {
        let file = File::open(path).unwrap();
        let identity = Identity::of(&file).unwrap();
        (file, identity)
    }

    fn fits(mark: Mark, path: &Path) -> bool {
        let (file, identity) = opened(path);
        mark.fits(&file, &identity).unwrap()
    }

    #[test]
    fn a_mark_is_read_as_it_was_stored_and_so_are_those_of_earlier_versions() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        std::fs::write(&path, "head and more").unwrap();
        let (file, identity) = opened(&path);
        for from in [None, Some(3)] {
            let mark = Mark::new(7, from, &file, &identity, 7).unwrap();
            assert_eq!(Mark::from_bytes(&mark.to_bytes()).unwrap(), mark);
            for length in (0..LENGTH).filter(|length| ![8, 16, 24].contains(length)) {
                assert!(Mark::from_bytes(&mark.to_bytes()[..length]).is_err(), "{length}");
            }
        }
        let first = 7_u64.to_le_bytes().to_vec();
        let second = [&first[..], &4_u32.to_le_bytes(), &crc32fast::hash(b"head").to_le_bytes()].concat();
        let third = [&second[..], &3_u64.to_le_bytes()].concat();
        for (stored, from) in [(&first, None), (&second, None), (&third, Some(3))] {
            let mark = Mark::from_bytes(stored).unwrap();
            assert_eq!((mark.position, mark.from, mark.to_bytes().len() >= stored.len()), (7, from, true));
            assert!(fits(mark, &path));
        }
        std::fs::write(&path, "Head and more").unwrap();
        assert!(!fits(Mark::from_bytes(&second).unwrap(), &path));
    }

    #[test]
    fn a_file_is_known_by_its_inode_and_by_what_stands_before_the_position() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("a.log"), dir.path().join("b.log"));
        let text = "the same head\n".repeat(1000);
        std::fs::write(&path, &text).unwrap();
        let (file, identity) = opened(&path);
        let mark = Mark::new(9001, None, &file, &identity, 9001).unwrap();
        assert!(fits(mark, &path));
        std::fs::write(&path, format!("{text}more\n")).unwrap();
        assert!(fits(mark, &path), "one that grew");
        let mut changed = text.clone().into_bytes();
        changed[8000] = b'X';
        std::fs::write(&path, &changed).unwrap();
        assert!(!fits(mark, &path), "one with the same inode, length and first 4 KiB");
        std::fs::write(&path, &text[..9000]).unwrap();
        assert!(!fits(mark, &path), "one that was cut");
        std::fs::write(&other, &text).unwrap();
        std::fs::rename(&other, &path).unwrap();
        assert!(!fits(mark, &path), "another file with the same bytes");
    }
}
