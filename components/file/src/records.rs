//! Lines in, records out: lines that are parts of one record are put together.
//!
//! Parts of different streams may lie between one another. Records come out in the order of their first parts, so one
//! that is not complete holds back all that begin behind it: a position that is committed never passes a part that is
//! waiting. What is held is bounded by the longest line; beyond it, and at the end, a record comes out as far as it is.

use std::collections::VecDeque;
use std::io;

use bytes::{Bytes, BytesMut};
use weir::event::{Framing, Part};

use crate::lines::{Found, Line, Lines};

/// The records of a stream of lines.
pub(crate) struct Records {
    lines: Lines,
    /// Where lines are parts.
    joiner: Option<Joiner>,
    /// Records below are settled.
    first: u64,
}

struct Joiner {
    part: fn(&[u8]) -> Option<Part>,
    longest: usize,
    /// In the order of their first lines.
    held: VecDeque<Held>,
    held_bytes: usize,
}

struct Held {
    offset: u64,
    from: u64,
    /// Its stream, while it is not complete.
    open: Option<Bytes>,
    /// The beginning of its last line, before the content.
    head: Bytes,
    content: BytesMut,
}

impl Held {
    fn line(self) -> Line {
        let Held { offset, from, head, content, .. } = self;
        let bytes = if content.is_empty() {
            head
        } else {
            let mut bytes = BytesMut::with_capacity(head.len() + content.len());
            bytes.extend_from_slice(&head);
            bytes.extend_from_slice(&content);
            bytes.freeze()
        };
        Line { offset, from, bytes }
    }

    fn size(&self) -> usize {
        self.head.len() + self.content.len()
    }
}

impl Joiner {
    fn add(&mut self, line: Line) {
        let part = (self.part)(&line.bytes);
        let open = |held: &&mut Held| {
            let stream = part.as_ref().and_then(|part| line.bytes.get(part.stream.clone()));
            held.open.is_some() && held.open.as_deref() == stream
        };
        match (self.held.iter_mut().find(open), &part) {
            (Some(held), Some(part)) => {
                self.held_bytes -= held.size();
                held.head = line.bytes.slice(..part.content);
                held.content.extend_from_slice(&line.bytes[part.content..]);
                if part.is_last {
                    held.open = None;
                }
                self.held_bytes += held.size();
            }
            (_, part) => {
                let from = self.held.front().map_or(line.offset, |first| first.from);
                let (open, head, content) = match part {
                    Some(part) if !part.is_last => {
                        let content = BytesMut::from(&line.bytes[part.content..]);
                        (Some(line.bytes.slice(part.stream.clone())), line.bytes.slice(..part.content), content)
                    }
                    _ => (None, line.bytes, BytesMut::new()),
                };
                let held = Held { offset: line.offset, from, open, head, content };
                self.held_bytes += held.size();
                self.held.push_back(held);
            }
        }
        if self.held_bytes > self.longest
            && let Some(first) = self.held.front_mut()
        {
            first.open = None;
        }
    }

    /// The first record, if it is complete or nothing follows any more.
    fn take(&mut self, ended: bool) -> Option<Line> {
        let first = self.held.pop_front_if(|first| first.open.is_none() || ended)?;
        self.held_bytes -= first.size();
        Some(first.line())
    }
}

impl Records {
    /// Records of lines that are framed so.
    pub fn new(lines: Lines, framing: Framing, longest: usize) -> Records {
        match framing {
            Framing::Lines => Records { lines, joiner: None, first: 0 },
            Framing::Quoted(delimiter) => Records { lines: lines.with_quotes(delimiter), joiner: None, first: 0 },
            Framing::Parts(part) => {
                let joiner = Joiner { part, longest, held: VecDeque::new(), held_bytes: 0 };
                Records { lines, joiner: Some(joiner), first: 0 }
            }
        }
    }

    /// The records that begin at `first` or behind it.
    pub fn beginning_at(self, first: u64) -> Records {
        Records { first, ..self }
    }

    /// Bytes at the end that are held back.
    pub fn held_back(&self) -> usize {
        self.lines.held_back() + self.joiner.as_ref().map_or(0, |joiner| joiner.held_bytes)
    }

    /// The next record.
    pub fn next(&mut self) -> io::Result<Found> {
        let Some(joiner) = &mut self.joiner else { return self.lines.next() };
        let mut is_last = false;
        loop {
            match joiner.take(is_last) {
                Some(line) if line.offset >= self.first => return Ok(Found::Line(line)),
                Some(_settled) => continue,
                None if is_last => return Ok(Found::End),
                None => {}
            }
            match self.lines.next()? {
                Found::Line(line) => joiner.add(line),
                Found::Nothing => return Ok(Found::Nothing),
                Found::End if self.lines.holds_back() => return Ok(Found::End),
                Found::End => is_last = true,
            }
        }
    }

    /// The next record, if it is whole in what was read already.
    pub fn next_buffered(&mut self) -> Option<Line> {
        let Some(joiner) = &mut self.joiner else { return self.lines.next_buffered() };
        loop {
            if let Some(line) = joiner.take(false) {
                return Some(line);
            }
            joiner.add(self.lines.next_buffered()?);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// `1P text` is a part of stream 1 that goes on, `1F text` its last.
    fn part(line: &[u8]) -> Option<Part> {
        Some(Part { stream: 0..1, is_last: line.get(1) == Some(&b'F'), content: 3 })
    }

    fn records(text: &[u8], holds_back: bool) -> (Vec<(u64, String)>, usize) {
        let lines = Lines::new(Box::new(io::Cursor::new(text.to_vec())), 0, 100).holding_back(holds_back);
        let mut records = Records::new(lines, Framing::Parts(part), 100);
        let mut all = Vec::new();
        while let Found::Line(line) = records.next().unwrap() {
            all.push((line.offset, String::from_utf8(line.bytes.to_vec()).unwrap()));
        }
        (all, records.held_back())
    }

    #[test]
    fn a_record_whose_last_part_is_to_come_is_held_back_with_all_behind_it() {
        let text = b"1F one\n1P tw\n2F other\n";
        let of = |all: &[(u64, &str)]| all.iter().map(|(at, text)| (*at, (*text).to_owned())).collect::<Vec<_>>();
        assert_eq!(records(text, true), (of(&[(0, "1F one")]), 13));
        assert_eq!(records(text, false).0, of(&[(0, "1F one"), (7, "1P tw"), (13, "2F other")]));
        let whole = [&text[..], b"1F o\n"].concat();
        assert_eq!(records(&whole, true), (of(&[(0, "1F one"), (7, "1F two"), (13, "2F other")]), 0));
    }
}
