//! Bytes in, lines out; no file in sight.

use std::io::{self, Read};

use bytes::{Bytes, BytesMut};

/// Bytes read at once.
const BLOCK: usize = 256 << 10;

/// A line and where it begins in the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    pub offset: u64,
    /// Without its newline and carriage return.
    pub bytes: Bytes,
}

/// Splits a stream at newlines. Lines share the memory of the block they were read with.
pub(crate) struct Lines {
    stream: Box<dyn Read + Send>,
    buffer: BytesMut,
    /// Offset of the buffer's first byte.
    offset: u64,
    /// Bytes of the buffer that hold no newline.
    searched: usize,
    longest: usize,
    /// Within a line that was cut: what is read up to its newline is dropped.
    dropping: bool,
    ended: bool,
}

impl Lines {
    /// Lines of `stream`, whose first byte has the offset `offset`; longer ones are cut to `longest` bytes.
    pub fn new(stream: Box<dyn Read + Send>, offset: u64, longest: usize) -> Lines {
        Lines {
            stream,
            buffer: BytesMut::new(),
            offset,
            searched: 0,
            longest: longest.max(1),
            dropping: false,
            ended: false,
        }
    }

    /// The lines that begin at `position` or behind it. `stream` stands one byte before, at `position - 1`.
    ///
    /// A commit is exclusive: it may lie right behind the first byte of the last settled line, and what is left
    /// of that line is not an event.
    pub fn resume(stream: Box<dyn Read + Send>, position: u64, longest: usize) -> Lines {
        Lines { dropping: true, ..Lines::new(stream, position.saturating_sub(1), longest) }
    }

    /// The next line that is not blank; `None` at the end.
    pub fn next(&mut self) -> io::Result<Option<Line>> {
        loop {
            let newline = memchr::memchr(b'\n', &self.buffer[self.searched..]).map(|at| self.searched + at);
            let (line, dropped) = match newline {
                Some(at) => (self.take(at, at + 1), std::mem::take(&mut self.dropping)),
                None if self.buffer.len() >= self.longest => {
                    (self.take(self.longest, self.longest), std::mem::replace(&mut self.dropping, true))
                }
                None if self.ended && self.buffer.is_empty() => return Ok(None),
                None if self.ended => (self.take(self.buffer.len(), self.buffer.len()), self.dropping),
                None => {
                    self.searched = self.buffer.len();
                    self.fill()?;
                    continue;
                }
            };
            if !dropped && !line.bytes.is_empty() {
                return Ok(Some(line));
            }
        }
    }

    /// The next line, if it is whole in what was read already.
    pub fn next_buffered(&mut self) -> Option<Line> {
        let newline = memchr::memchr(b'\n', &self.buffer)?;
        let is_plain = !self.dropping && newline > 1 && newline < self.longest;
        is_plain.then(|| self.take(newline, newline + 1))
    }

    /// Takes `length` bytes as a line and moves on by `consumed`.
    fn take(&mut self, length: usize, consumed: usize) -> Line {
        let mut bytes = self.buffer.split_to(consumed).freeze();
        bytes.truncate(length.min(self.longest));
        if bytes.last() == Some(&b'\r') {
            bytes.truncate(bytes.len() - 1);
        }
        let offset = self.offset;
        self.offset += consumed as u64;
        self.searched = 0;
        Line { offset, bytes }
    }

    fn fill(&mut self) -> io::Result<()> {
        let before = self.buffer.len();
        self.buffer.resize(before + BLOCK, 0);
        let read = loop {
            match self.stream.read(&mut self.buffer[before..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result,
            }
        };
        self.buffer.truncate(before + *read.as_ref().unwrap_or(&0));
        self.ended = read? == 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn lines(text: &[u8], longest: usize) -> Vec<(u64, Vec<u8>)> {
        let mut lines = Lines::new(Box::new(io::Cursor::new(text.to_vec())), 0, longest);
        let mut all = Vec::new();
        while let Some(line) = lines.next().unwrap() {
            all.push((line.offset, line.bytes.to_vec()));
        }
        all
    }

    #[test]
    fn lines_know_their_offsets_and_blank_ones_are_skipped() {
        let all = lines(b"a\r\n\n\r\nbc\nlast", 100);
        assert_eq!(all, [(0, b"a".to_vec()), (6, b"bc".to_vec()), (9, b"last".to_vec())]);
    }

    #[test]
    fn a_long_line_is_cut_and_its_neighbours_stay_whole() {
        let all = lines(b"ab\nabcdefghijk\nxy\n", 4);
        assert_eq!(all, [(0, b"ab".to_vec()), (3, b"abcd".to_vec()), (15, b"xy".to_vec())]);
    }

    #[test]
    fn what_was_cut_off_the_last_line_is_no_line() {
        assert_eq!(lines(b"ab\nabcdefghijk", 4), [(0, b"ab".to_vec()), (3, b"abcd".to_vec())]);
    }

    #[test]
    fn resuming_at_any_position_gives_the_lines_that_begin_there_or_later() {
        let text = b"first\r\n\nx\nabcdefghijk\nlast";
        let all = lines(text, 4);
        for position in 1..=text.len() as u64 {
            let rest = io::Cursor::new(text[position as usize - 1..].to_vec());
            let mut lines = Lines::resume(Box::new(rest), position, 4);
            let mut found = Vec::new();
            while let Some(line) = lines.next().unwrap() {
                found.push((line.offset, line.bytes.to_vec()));
            }
            let expected: Vec<_> = all.iter().filter(|(offset, _)| *offset >= position).cloned().collect();
            assert_eq!(found, expected, "from {position}");
        }
    }

    #[test]
    fn lines_span_blocks() {
        let long = vec![b'x'; BLOCK + 10];
        let text = [b"a\n".to_vec(), long.clone(), b"\nb".to_vec()].concat();
        assert_eq!(lines(&text, 1 << 20).iter().map(|(_, line)| line.len()).collect::<Vec<_>>(), [1, long.len(), 1]);
    }
}
