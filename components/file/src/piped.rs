//! Streams that nobody can read twice: standard input and named pipes. A thread reads them, for a read may wait for ever.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use weir::component::{Origin, Read, ReadLimit, async_trait};
use weir::event::{Body, Codec, Event, Framing, OriginId, Position, Timestamp};
use weir::{Error, ErrorKind, Result};

use crate::compression::Compression;
use crate::lines::{Found, Lines};
use crate::records::Records;

/// Groups read ahead of the lane. Few, for they are outside the memory budget.
const AHEAD: usize = 4;
/// Lines handed over at once, and their bytes.
const GROUP: usize = 256;
const GROUP_BYTES: usize = 256 << 10;

/// Opens the stream; may wait.
type Open = Box<dyn FnOnce() -> io::Result<Box<dyn io::Read + Send>> + Send>;

/// How a stream is read.
pub(crate) struct Reader {
    pub open: Open,
    pub compression: Compression,
    pub longest: usize,
}

/// A stream as a log: lines are kept until they are settled, so that a lane can go back to them.
pub(crate) struct Piped {
    id: Arc<OriginId>,
    codec: Codec,
    feed: Feed,
    /// Lines from number `first` on.
    kept: VecDeque<Bytes>,
    first: u64,
    next: u64,
}

enum Feed {
    /// Nobody has asked for a line yet.
    Idle(Option<Reader>),
    Lines(mpsc::Receiver<Group>),
}

type Group = io::Result<Vec<Bytes>>;

impl Reader {
    fn start(self, name: String, framing: (Framing, bool)) -> io::Result<mpsc::Receiver<Group>> {
        let (send, lines) = mpsc::channel(AHEAD);
        // A read cannot be broken off: the thread ends with the stream or the process.
        std::thread::Builder::new().name("piped".to_owned()).spawn(move || self.read_all(&name, framing, &send))?;
        Ok(lines)
    }

    fn read_all(self, name: &str, (framing, has_blanks): (Framing, bool), send: &mpsc::Sender<Group>) {
        let stream = (self.open)().and_then(|stream| self.compression.reader_by_head(stream, name));
        let mut lines = match stream {
            Ok(stream) => {
                Records::new(Lines::new(stream, 0, self.longest).with_blanks(has_blanks), framing, self.longest)
            }
            // The receiver is gone when the graph gave up on us.
            Err(error) => return drop(send.blocking_send(Err(error))),
        };
        loop {
            // One line at a time is what a person types; more come together when they are there.
            let group = match lines.next() {
                Ok(Found::Line(line)) => Ok(group(line.bytes, &mut lines)),
                Ok(Found::Nothing) if send.is_closed() => return,
                Ok(Found::Nothing) => continue,
                Ok(Found::End) => return,
                Err(error) => Err(error),
            };
            let has_failed = group.is_err();
            if send.blocking_send(group).is_err() || has_failed {
                return;
            }
        }
    }
}

/// A line, and those behind it that were read with it.
fn group(first: Bytes, lines: &mut Records) -> Vec<Bytes> {
    let mut bytes = first.len();
    let mut group = vec![first];
    while group.len() < GROUP && bytes < GROUP_BYTES {
        let Some(line) = lines.next_buffered() else { break };
        bytes += line.bytes.len();
        group.push(line.bytes);
    }
    group
}

impl Piped {
    pub fn new(id: Arc<OriginId>, codec: Codec, reader: Reader) -> Piped {
        Piped { id, codec, feed: Feed::Idle(Some(reader)), kept: VecDeque::new(), first: 0, next: 0 }
    }

    fn error(&self, what: &str, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        Error::new(ErrorKind::Io, "read a stream", what).with("stream", &self.id.log).caused_by(cause)
    }

    /// The stream's lines; begins to read it.
    fn lines(&mut self) -> Result<Option<&mut mpsc::Receiver<Group>>> {
        if let Feed::Idle(reader) = &mut self.feed {
            let Some(reader) = reader.take() else { return Ok(None) };
            let framing = self.codec.decoder().map_or(Framing::Lines, |decoder| decoder.framing());
            let lines = reader.start(self.id.log.clone(), (framing, self.codec.has_blank_records()));
            self.feed = Feed::Lines(lines.map_err(|error| self.error("cannot start a thread", error))?);
        }
        Ok(match &mut self.feed {
            Feed::Lines(lines) => Some(lines),
            Feed::Idle(_) => None,
        })
    }

    /// Keeps lines; the first may name the columns of the others.
    fn keep(&mut self, group: Vec<Bytes>) -> Result<()> {
        let mut group = group.into_iter();
        if let Some(decoder) = self.codec.decoder().filter(|decoder| decoder.wants_header())
            && let Some(header) = group.next()
        {
            let what = "its header line cannot be read; name the columns with `columns:`";
            let decoder = decoder.with_header(&header).map_err(|why| self.error(what, why));
            self.codec = Codec::Other(decoder?);
        }
        self.kept.extend(group);
        Ok(())
    }
}

#[async_trait]
impl Origin for Piped {
    fn id(&self) -> Arc<OriginId> {
        self.id.clone()
    }

    async fn read(&mut self, limit: ReadLimit) -> Result<Read> {
        // A header may be alone in its group.
        while self.next == self.first + self.kept.len() as u64 {
            let Some(lines) = self.lines()? else { return Ok(Read::End) };
            match lines.recv().await {
                Some(Ok(group)) => self.keep(group)?,
                Some(Err(error)) => return Err(self.error("it broke off, or cannot be opened", error)),
                None => return Ok(Read::End),
            }
        }
        let mut events = Vec::new();
        let mut bytes = 0;
        let from = (self.next - self.first) as usize;
        for line in self.kept.range(from..).take(limit.events) {
            bytes += line.len();
            if bytes > limit.bytes && !events.is_empty() {
                break;
            }
            let body = Body::Raw(line.clone(), self.codec.clone());
            events.push(Event::new(body, Position(self.next), Timestamp::default()));
            self.next += 1;
        }
        Ok(Read::Events(events))
    }

    async fn commit(&mut self, position: Position) -> Result<()> {
        let settled = position.0.saturating_sub(self.first).min(self.kept.len() as u64);
        self.kept.drain(..settled as usize);
        self.first += settled;
        Ok(())
    }

    async fn seek(&mut self, position: Position) -> Result<()> {
        self.next = position.0.max(self.first);
        Ok(())
    }

    /// Of what was read ahead: groups that wait count as one line each.
    fn lag(&self) -> Option<u64> {
        let waiting = match &self.feed {
            Feed::Idle(_) => 0,
            Feed::Lines(lines) => lines.len() as u64,
        };
        Some(self.first + self.kept.len() as u64 - self.next + waiting)
    }

    /// What an earlier run read is gone.
    async fn resume(&mut self, _: Position, _: &[u8]) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use weir::event::OriginKind;

    use super::*;

    async fn positions(origin: &mut Piped, events: usize) -> Vec<u64> {
        match origin.read(ReadLimit { events, bytes: 1 << 20 }).await.unwrap() {
            Read::Events(events) => events.iter().map(|event| event.position.0).collect(),
            Read::End | Read::Again(_) => Vec::new(),
        }
    }

    #[tokio::test]
    async fn unsettled_lines_are_kept_and_can_be_read_again() {
        let (send, lines) = mpsc::channel(AHEAD);
        send.send(Ok(vec!["a".into(), "b".into()])).await.unwrap();
        send.send(Ok(vec!["c".into()])).await.unwrap();
        drop(send);
        let id = OriginId { node: "in".into(), log: "stdin".into(), partition: 0, kind: OriginKind::Other };
        let feed = Feed::Lines(lines);
        let mut origin = Piped { id: Arc::new(id), codec: Codec::Text, feed, kept: VecDeque::new(), first: 0, next: 0 };
        assert_eq!(origin.lag(), Some(2), "two groups are there");
        assert_eq!(positions(&mut origin, 9).await, [0, 1]);
        origin.commit(Position(1)).await.unwrap();
        assert_eq!(positions(&mut origin, 9).await, [2]);
        assert_eq!(positions(&mut origin, 9).await, [0; 0]);
        assert_eq!(origin.lag(), Some(0));
        origin.seek(Position(1)).await.unwrap();
        assert_eq!(positions(&mut origin, 1).await, [1], "the settled line is gone, the others are there");
        assert_eq!(positions(&mut origin, 9).await, [2]);
        origin.commit(Position(3)).await.unwrap();
        assert!(origin.kept.is_empty());
    }
}
