//! Bytes in, lines out; no file in sight.
//!
//! With quotes (RFC 4180) a line may hold newlines: those between a quote that opens a field and the one that closes
//! it. Where such a quote is not closed within the longest line, it is a fault of its line, which then ends at its
//! first newline: what follows is not lost with it.

use std::io::{self, Read};

use bytes::{Buf, Bytes, BytesMut};
use weir::event::byte_order_mark;

/// Bytes read at once.
const BLOCK: usize = 256 << 10;
/// Blocks read in search of one line before the reader is heard again.
const BLOCKS: usize = 16;

/// A line and where it begins in the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    pub offset: u64,
    /// Where reading has to begin for what follows this line to come out the same; where it begins, but for records of
    /// several lines.
    pub from: u64,
    /// Without its newline, and the carriage return before that.
    pub bytes: Bytes,
}

/// What a search for the next line came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A line that is not blank.
    Line(Line),
    /// Much was read and no line ended in it: ask again.
    Nothing,
    /// The end of the stream.
    End,
}

/// Where the search stands in a line with quotes.
struct Quotes {
    /// What splits fields.
    delimiter: u8,
    is_open: bool,
    /// The quote that closed a field last; another one right behind it is a quote in the field.
    closed: Option<usize>,
}

/// Splits a stream at newlines. Lines share the memory of the block they were read with.
pub(crate) struct Lines {
    stream: Box<dyn Read + Send>,
    buffer: BytesMut,
    /// Offset of the buffer's first byte.
    offset: u64,
    /// Bytes of the buffer that hold no newline.
    searched: usize,
    quotes: Option<Quotes>,
    longest: usize,
    /// Within a line that was cut: what is read up to its newline is dropped.
    dropping: bool,
    /// Bytes to read past before the buffer begins.
    skip: u64,
    /// Length of the byte order mark that was taken off the buffer's first line.
    mark: u64,
    /// A line without an end is not given out: more may come.
    holds_back: bool,
    /// Lines of nothing but blanks are given out.
    has_blanks: bool,
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
            quotes: None,
            longest: longest.max(1),
            dropping: false,
            skip: 0,
            mark: 0,
            holds_back: false,
            has_blanks: true,
            ended: false,
        }
    }

    /// The stream begins so many bytes before what is asked for.
    pub fn skipping(self, bytes: u64) -> Lines {
        Lines { skip: bytes, ..self }
    }

    /// Whether a last line without an end is held back.
    pub fn holding_back(self, holds_back: bool) -> Lines {
        Lines { holds_back, ..self }
    }

    /// Whether lines of nothing but blanks are given out; empty ones never are.
    pub fn with_blanks(self, has_blanks: bool) -> Lines {
        Lines { has_blanks, ..self }
    }

    /// Whether a line is given out.
    fn counts(&self, line: &[u8]) -> bool {
        match line.first() {
            None => false,
            Some(first) => self.has_blanks || !first.is_ascii_whitespace() || !line.trim_ascii().is_empty(),
        }
    }

    /// Bytes at the end that are held back.
    pub fn held_back(&self) -> usize {
        if self.dropping { 0 } else { self.buffer.len() }
    }

    pub fn holds_back(&self) -> bool {
        self.holds_back
    }

    /// The stream begins within a line, or at its end: the rest of that line is left out.
    ///
    /// A commit is exclusive: it may lie right behind the first byte of the last settled line, and what is left
    /// of that line is not an event.
    pub fn behind_a_line(self) -> Lines {
        Lines { dropping: true, ..self }
    }

    /// Newlines between quotes are part of a line; a quote opens at its beginning or behind a `delimiter`.
    pub fn with_quotes(self, delimiter: u8) -> Lines {
        Lines { quotes: Some(Quotes { delimiter, is_open: false, closed: None }), ..self }
    }

    /// Where the line ends, in what was read.
    fn newline(&mut self) -> Option<usize> {
        let Some(quotes) = &mut self.quotes else {
            return memchr::memchr(b'\n', &self.buffer[self.searched..]).map(|at| self.searched + at);
        };
        while let Some(found) = memchr::memchr2(b'\n', b'"', &self.buffer[self.searched..]) {
            let at = self.searched + found;
            let is_newline = self.buffer[at] == b'\n';
            if is_newline && !quotes.is_open {
                return Some(at);
            }
            self.searched = at + 1;
            if is_newline {
                continue;
            }
            let before = at.checked_sub(1);
            let begins =
                before.is_none_or(|before| self.buffer[before] == quotes.delimiter || quotes.closed == Some(before));
            if quotes.is_open {
                quotes.is_open = false;
                quotes.closed = Some(at);
            } else if begins {
                quotes.is_open = true;
            }
        }
        self.searched = self.buffer.len();
        None
    }

    /// The first newline of a line whose quote is not closed in time.
    fn unclosed(&self) -> Option<usize> {
        let is_open = self.quotes.as_ref().is_some_and(|quotes| quotes.is_open);
        let is_late = (self.ended && !self.holds_back) || self.buffer.len() >= self.longest;
        if is_open && is_late { memchr::memchr(b'\n', &self.buffer) } else { None }
    }

    /// The next line that is not blank.
    pub fn next(&mut self) -> io::Result<Found> {
        let mut blocks = 0;
        loop {
            let newline = self.newline().or_else(|| self.unclosed());
            let (line, dropped) = match newline {
                Some(at) => (self.take(at, at + 1), std::mem::take(&mut self.dropping)),
                None if self.buffer.len() >= self.longest => {
                    (self.take(self.longest, self.longest), std::mem::replace(&mut self.dropping, true))
                }
                None if self.ended && (self.buffer.is_empty() || self.holds_back) => return Ok(Found::End),
                None if self.ended => (self.take(self.buffer.len(), self.buffer.len()), self.dropping),
                None if blocks == BLOCKS => return Ok(Found::Nothing),
                None => {
                    self.searched = self.buffer.len();
                    self.fill()?;
                    blocks += 1;
                    continue;
                }
            };
            if !dropped && self.counts(&line.bytes) {
                return Ok(Found::Line(line));
            }
        }
    }

    /// The next line, if it is whole in what was read already.
    pub fn next_buffered(&mut self) -> Option<Line> {
        let newline = self.newline()?;
        let may_be_blank = newline < 2 || !self.has_blanks && self.buffer[0].is_ascii_whitespace();
        let is_plain = !self.dropping && !may_be_blank && newline < self.longest;
        is_plain.then(|| self.take(newline, newline + 1))
    }

    /// Takes `length` bytes as a line and moves on by `consumed`.
    fn take(&mut self, length: usize, consumed: usize) -> Line {
        let mut bytes = self.buffer.split_to(consumed).freeze();
        bytes.truncate(length.min(self.longest));
        // Only before a newline it is part of the line's end.
        if consumed > length && length <= self.longest && bytes.last() == Some(&b'\r') {
            bytes.truncate(bytes.len() - 1);
        }
        let offset = self.offset;
        self.offset += consumed as u64 + std::mem::take(&mut self.mark);
        self.searched = 0;
        if let Some(quotes) = &mut self.quotes {
            (quotes.is_open, quotes.closed) = (false, None);
        }
        Line { offset, from: offset, bytes }
    }

    fn fill(&mut self) -> io::Result<()> {
        let is_start = self.offset == 0 && self.buffer.is_empty() && !self.ended && self.mark == 0;
        self.fill_block()?;
        if is_start {
            // Only what a mark may begin with waits for more: a person's first line may be shorter than one.
            while matches!(*self.buffer, [] | [0xef] | [0xef, 0xbb] | [0xff] | [0xfe]) && !self.ended {
                self.fill_block()?;
            }
            let mark = byte_order_mark(&self.buffer);
            let mark = mark.map_err(|what| io::Error::new(io::ErrorKind::InvalidData, what))?;
            self.buffer.advance(mark);
            self.mark = mark as u64;
        }
        Ok(())
    }

    fn fill_block(&mut self) -> io::Result<()> {
        let before = self.buffer.len();
        self.buffer.resize(before + BLOCK, 0);
        let read = loop {
            match self.stream.read(&mut self.buffer[before..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result,
            }
        };
        self.buffer.truncate(before + *read.as_ref().unwrap_or(&0));
        let read = read?;
        self.ended = read == 0;
        if self.ended && self.skip > 0 {
            let what = "it is shorter than what was read of it before; restore it, or give the new one another name";
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(read);
        self.buffer.advance(skipped);
        self.skip -= skipped as u64;
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
        while let Some(line) = next(&mut lines) {
            all.push((line.offset, line.bytes.to_vec()));
        }
        all
    }

    fn next(lines: &mut Lines) -> Option<Line> {
        loop {
            match lines.next().unwrap() {
                Found::Line(line) => return Some(line),
                Found::Nothing => {}
                Found::End => return None,
            }
        }
    }

    #[test]
    fn lines_know_their_offsets_and_blank_ones_are_skipped() {
        let all = lines(b"a\r\n\n\r\nbc\nlast", 100);
        assert_eq!(all, [(0, b"a".to_vec()), (6, b"bc".to_vec()), (9, b"last".to_vec())]);
    }

    #[test]
    fn lines_of_blanks_are_skipped_where_no_record_is_like_that() {
        for (has_blanks, expected) in [(true, &["a", " ", "\t\r", "b "][..]), (false, &["a", "b "])] {
            let text = b"a\n \n\t\r\r\n\r\nb \n";
            let mut found = Lines::new(Box::new(io::Cursor::new(text.to_vec())), 0, 100).with_blanks(has_blanks);
            let mut all = Vec::new();
            while let Some(line) = next(&mut found) {
                all.push(line.bytes);
                all.extend(std::iter::from_fn(|| found.next_buffered()).map(|line| line.bytes));
            }
            assert_eq!(all, expected);
        }
    }

    #[test]
    fn a_carriage_return_is_only_left_out_before_a_newline() {
        let all = |text: &[u8], longest| lines(text, longest).into_iter().map(|(_, line)| line).collect::<Vec<_>>();
        assert_eq!(all(b"a\r\r\nb\r", 100), [b"a\r", b"b\r"]);
        assert_eq!(all(b"abc\rde\n", 4), [b"abc\r"], "where a line is cut");
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
            let mut lines = Lines::new(Box::new(rest), position - 1, 4).behind_a_line();
            let mut found = Vec::new();
            while let Some(line) = next(&mut lines) {
                found.push((line.offset, line.bytes.to_vec()));
            }
            let expected: Vec<_> = all.iter().filter(|(offset, _)| *offset >= position).cloned().collect();
            assert_eq!(found, expected, "from {position}");
        }
    }

    fn quoted(text: &[u8], position: u64, longest: usize) -> Vec<(u64, String)> {
        let rest = io::Cursor::new(text[position.saturating_sub(1) as usize..].to_vec());
        let lines = match position {
            0 => Lines::new(Box::new(rest), 0, longest),
            _ => Lines::new(Box::new(rest), position - 1, longest).behind_a_line(),
        };
        let mut lines = lines.with_quotes(b',');
        let mut all = Vec::new();
        while let Some(line) = next(&mut lines) {
            all.push((line.offset, String::from_utf8(line.bytes.to_vec()).unwrap()));
        }
        all
    }

    #[test]
    fn quoted_newlines_do_not_end_a_line_and_every_commit_resumes_behind_its_line() {
        let text = b"a,\"x\ny\"\n5\" disk,b\n\"he said \"\"no\n\"\"\",c\r\n\"\"\nlast";
        let all = quoted(text, 0, 100);
        let texts: Vec<&str> = all.iter().map(|(_, line)| line.as_str()).collect();
        assert_eq!(texts, ["a,\"x\ny\"", "5\" disk,b", "\"he said \"\"no\n\"\"\",c", "\"\"", "last"]);
        for (at, (offset, _)) in all.iter().enumerate() {
            assert_eq!(quoted(text, *offset, 100), all[at..], "an event's position");
            assert_eq!(quoted(text, offset + 1, 100), all[at + 1..], "a commit behind it");
        }
    }

    #[test]
    fn a_quote_that_is_never_closed_costs_its_own_line() {
        let expected = [(0, "\"a".to_owned()), (3, "b,c".to_owned()), (7, "d".to_owned())];
        assert_eq!(quoted(b"\"a\nb,c\nd\n", 0, 100), expected, "up to the end");
        let long = [b"\"a\nb,c\nd\n".to_vec(), vec![b'x'; 40]].concat();
        assert_eq!(quoted(&long, 0, 20)[..3], expected, "within the longest line");
    }

    fn held(text: &[u8], position: u64) -> (Vec<u64>, usize) {
        let rest = io::Cursor::new(text[position.saturating_sub(1) as usize..].to_vec());
        let lines = match position {
            0 => Lines::new(Box::new(rest), 0, 100),
            _ => Lines::new(Box::new(rest), position - 1, 100).behind_a_line(),
        };
        let mut lines = lines.holding_back(true);
        let offsets = std::iter::from_fn(|| next(&mut lines)).map(|line| line.offset).collect();
        (offsets, lines.held_back())
    }

    #[test]
    fn a_last_line_without_an_end_is_held_back_and_is_whole_once_it_has_one() {
        assert_eq!(held(b"one\ntwo\nhal", 0), (vec![0, 4], 3));
        assert_eq!(held(b"one\ntwo\nhalf\n", 5), (vec![8], 0), "the commit behind `two`");
        assert_eq!(held(b"hal", 0), (vec![], 3));
        let quoted = |text: &[u8]| {
            let lines = Lines::new(Box::new(io::Cursor::new(text.to_vec())), 0, 100).with_quotes(b',');
            let mut lines = lines.holding_back(true);
            std::iter::from_fn(|| next(&mut lines)).map(|line| line.offset).collect::<Vec<_>>()
        };
        assert_eq!(quoted(b"a\n\"b\nc"), [0]);
        assert_eq!(quoted(b"a\n\"b\nc\"\n"), [0, 2]);
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_first_line_and_offsets_are_those_of_the_file() {
        let text = b"\xef\xbb\xbf\"a\",b\nc\n\xef\xbb\xbfd\n";
        let mark = "\u{feff}d";
        let expected = [(0, "\"a\",b"), (9, "c"), (11, mark)].map(|(at, line)| (at, line.as_bytes().to_vec()));
        assert_eq!(lines(text, 100), expected);
        assert_eq!(quoted(text, 0, 100)[0], (0, "\"a\",b".to_owned()));
        assert_eq!(quoted(text, 1, 100)[0], (9, "c".to_owned()), "a commit behind the first line");
        assert_eq!(lines(b"\xef\xbb\xbf", 100), []);
        assert_eq!(lines(b"\xef\xbb", 100), [(0, b"\xef\xbb".to_vec())]);
        assert_eq!(lines(b"\xef\xbb\xbf\n\nx\n", 100), [(5, b"x".to_vec())]);
        for utf16 in [&b"\xff\xfea\0\n\0"[..], b"\xfe\xff\0a\0\n", b"\xff\xfe\0\0"] {
            let mut lines = Lines::new(Box::new(io::Cursor::new(utf16.to_vec())), 0, 100);
            let error = lines.next().unwrap_err().to_string();
            assert!(error.contains("UTF-16; convert it to UTF-8"), "{error}");
        }
    }

    #[test]
    fn a_line_that_does_not_end_is_searched_a_part_at_a_time_and_is_not_kept() {
        let mut lines = Lines::new(Box::new(io::repeat(0)), 0, 1 << 20);
        let Found::Line(line) = lines.next().unwrap() else { panic!("cut") };
        assert_eq!(line.bytes.len(), 1 << 20);
        for _ in 0..20 {
            assert_eq!(lines.next().unwrap(), Found::Nothing);
            assert!(lines.buffer.capacity() <= 4 << 20, "{}", lines.buffer.capacity());
        }
    }

    #[test]
    fn lines_span_blocks() {
        let long = vec![b'x'; BLOCK + 10];
        let text = [b"a\n".to_vec(), long.clone(), b"\nb".to_vec()].concat();
        assert_eq!(lines(&text, 1 << 20).iter().map(|(_, line)| line.len()).collect::<Vec<_>>(), [1, long.len(), 1]);
    }
}
