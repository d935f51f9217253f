//! What is stored of a file: how far it is settled, and by which bytes it is known again.
//!
//! Position, length of the head and CRC-32 of the head, little-endian: 8, 4 and 4 bytes. Where reading must begin
//! before the position, because records of several lines overlap there, that offset follows, in 8 bytes. The first
//! version had the position alone; it is read still, and fits any file.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Bytes of a head at most.
const HEAD: u64 = 256;

/// A position in a file that is known again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub position: u64,
    /// Where reading begins, if it is not there.
    pub from: Option<u64>,
    head_length: u32,
    head_crc: u32,
}

impl Mark {
    /// The mark of a position in the file that begins with `head`.
    pub fn new(position: u64, from: Option<u64>, head: &[u8]) -> Mark {
        Mark { position, from, head_length: u32::try_from(head.len()).unwrap_or(0), head_crc: crc32fast::hash(head) }
    }

    /// Whether the file that begins with `head` is the one marked. One that has grown since is.
    pub fn fits(&self, head: &[u8]) -> bool {
        let length = usize::try_from(self.head_length).unwrap_or(usize::MAX);
        length == 0 || head.get(..length).is_some_and(|head| crc32fast::hash(head) == self.head_crc)
    }

    /// As stored.
    pub fn to_bytes(self) -> Vec<u8> {
        let mut bytes = self.position.to_le_bytes().to_vec();
        bytes.extend(self.head_length.to_le_bytes());
        bytes.extend(self.head_crc.to_le_bytes());
        bytes.extend(self.from.into_iter().flat_map(u64::to_le_bytes));
        bytes
    }

    /// From what was stored.
    pub fn from_bytes(bytes: &[u8]) -> io::Result<Mark> {
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "the stored position is damaged");
        let (position, head) = bytes.split_first_chunk().ok_or_else(damaged)?;
        let position = u64::from_le_bytes(*position);
        if head.is_empty() {
            return Ok(Mark { position, from: None, head_length: 0, head_crc: 0 });
        }
        let (length, crc) = head.split_first_chunk().ok_or_else(damaged)?;
        let (crc, from) = crc.split_first_chunk().ok_or_else(damaged)?;
        let from = match from {
            [] => None,
            from => Some(u64::from_le_bytes(from.try_into().map_err(|_| damaged())?)),
        };
        Ok(Mark { position, from, head_length: u32::from_le_bytes(*length), head_crc: u32::from_le_bytes(*crc) })
    }
}

/// The first bytes of a file; none of a pipe, of which nothing can be read twice.
pub(crate) fn head(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let mut head = Vec::new();
    if file.metadata()?.is_file() {
        file.take(HEAD).read_to_end(&mut head)?;
    }
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_as_it_was_stored_and_so_is_the_first_version() {
        let overlapping = Mark::new(7, Some(3), b"head");
        assert_eq!(Mark::from_bytes(&overlapping.to_bytes()).unwrap(), overlapping);
        let mark = Mark::new(7, None, b"head");
        assert_eq!(Mark::from_bytes(&mark.to_bytes()).unwrap(), mark);
        assert!(mark.fits(b"head and more") && !mark.fits(b"hea") && !mark.fits(b"Head and more"));
        let first = Mark::from_bytes(&7_u64.to_le_bytes()).unwrap();
        assert!(first.position == 7 && first.fits(b"anything"));
        for length in (0..8).chain(9..16) {
            assert!(Mark::from_bytes(&mark.to_bytes()[..length]).is_err(), "{length}");
        }
        for length in 17..24 {
            assert!(Mark::from_bytes(&overlapping.to_bytes()[..length]).is_err(), "{length}");
        }
    }
}
