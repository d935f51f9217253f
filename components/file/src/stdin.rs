//! The `stdin` source.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::mpsc;
use weir::component::{
    BuildContext, DecodingOption, Lanes, Origin, Problems, Read, ReadLimit, Source, SourceConfig, Stream, async_trait,
};
use weir::config::ByteSize;
use weir::event::{Body, Codec, Event, Framing, OriginId, OriginKind, Position, Timestamp};
use weir::{Error, ErrorKind, Result};

use crate::compression::Compression;
use crate::lines::Lines;
use crate::records::Records;

/// Groups read ahead of the lane. Few, for they are outside the memory budget.
const AHEAD: usize = 4;
/// Lines handed over at once.
const GROUP: usize = 256;

/// Reads lines from standard input until its end.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stdin {
    /// What the lines are: a codec's name, or a map with its options. Default: `json`.
    #[serde(default)]
    decoding: DecodingOption,
    /// How the input is compressed; `auto` tells by its first bytes. Default: `auto`.
    #[serde(default)]
    compression: Compression,
    /// The longest line; a longer one is cut to it and passed on. Default: `16MiB`.
    #[serde(default = "default_max_line_size")]
    max_line_size: ByteSize,
}

fn default_max_line_size() -> ByteSize {
    ByteSize(16 << 20)
}

weir::register_source!("stdin", Stdin, "{type: stdin, decoding: text}");

#[typetag::deserialize(name = "stdin")]
#[async_trait]
impl SourceConfig for Stdin {
    fn has_one_lane(&self) -> bool {
        true
    }

    fn is_deterministic(&self) -> bool {
        true
    }

    fn check(&self, problems: &mut Problems) {
        self.decoding.check(Stream::Lines, problems);
    }

    fn knows_time(&self) -> bool {
        false
    }

    fn codec(&self) -> Result<Codec> {
        self.decoding.build()
    }

    fn explain(&self) -> String {
        "one lane; cannot be read twice: what is not settled at a crash is the sender's to send again".to_owned()
    }

    async fn build(&self, context: &BuildContext) -> Result<Box<dyn Source>> {
        let id =
            OriginId { node: context.node.to_string(), log: "stdin".to_owned(), partition: 0, kind: OriginKind::Other };
        let longest = usize::try_from(self.max_line_size.0).unwrap_or(usize::MAX);
        Ok(Box::new(Input { id: Arc::new(id), codec: self.codec()?, compression: self.compression, longest }))
    }
}

struct Input {
    id: Arc<OriginId>,
    codec: Codec,
    compression: Compression,
    longest: usize,
}

#[async_trait]
impl Source for Input {
    async fn run(self: Box<Self>, lanes: Lanes) -> Result<()> {
        let (send, lines) = mpsc::channel(AHEAD);
        let (compression, longest) = (self.compression, self.longest);
        let framing = self.codec.decoder().map_or(Framing::Lines, |decoder| decoder.framing());
        // A read of standard input cannot be broken off: the thread ends with the input or the process.
        std::thread::Builder::new()
            .name("stdin".to_owned())
            .spawn(move || read_all(compression, framing, longest, &send))
            .map_err(|error| Error::new(ErrorKind::Internal, "read stdin", "cannot start a thread").caused_by(error))?;
        let origin = Piped { id: self.id, codec: self.codec, lines, kept: VecDeque::new(), first: 0, next: 0 };
        lanes.run_one(Box::new(origin)).await
    }
}

type Group = std::io::Result<Vec<Bytes>>;

fn read_all(compression: Compression, framing: Framing, longest: usize, send: &mpsc::Sender<Group>) {
    let mut lines = match compression.reader_by_head(std::io::stdin()) {
        Ok(stream) => Records::new(Lines::new(stream, 0, longest), framing, longest),
        // The receiver is gone when the graph gave up on us.
        Err(error) => return drop(send.blocking_send(Err(error))),
    };
    loop {
        let mut group = Vec::new();
        // One line at a time is what a person types; more come together when they are there.
        let (ended, failed) = match lines.next() {
            Ok(Some(line)) => {
                group.push(line.bytes);
                while group.len() < GROUP {
                    match lines.next_buffered() {
                        Some(line) => group.push(line.bytes),
                        None => break,
                    }
                }
                (false, None)
            }
            Ok(None) => (true, None),
            Err(error) => (true, Some(error)),
        };
        let message = match failed {
            Some(error) => Err(error),
            None => Ok(group),
        };
        let is_last = ended && message.is_ok();
        if is_last || send.blocking_send(message).is_err() || ended {
            return;
        }
    }
}

/// Standard input as a log: lines are kept until they are settled, so that a lane can go back to them.
struct Piped {
    id: Arc<OriginId>,
    codec: Codec,
    lines: mpsc::Receiver<Group>,
    /// Lines from number `first` on.
    kept: VecDeque<Bytes>,
    first: u64,
    next: u64,
}

impl Piped {
    /// Keeps lines; the first may name the columns of the others.
    fn keep(&mut self, group: Vec<Bytes>) -> Result<()> {
        let mut group = group.into_iter();
        if let Some(decoder) = self.codec.decoder().filter(|decoder| decoder.wants_header())
            && let Some(header) = group.next()
        {
            let what = "its header line cannot be read; name the columns with `columns:`";
            let decoder = decoder.with_header(&header);
            let failed = |why| Error::new(ErrorKind::Rejected, "read stdin", what).caused_by(why);
            self.codec = Codec::Other(decoder.map_err(failed)?);
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
        if self.next == self.first + self.kept.len() as u64 {
            match self.lines.recv().await {
                Some(Ok(group)) => self.keep(group)?,
                Some(Err(error)) => {
                    return Err(Error::new(ErrorKind::Io, "read stdin", "standard input broke off").caused_by(error));
                }
                None => return Ok(Read::End),
            }
        }
        if self.next == self.first + self.kept.len() as u64 {
            // The header was alone in its group.
            return self.read(limit).await;
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

    /// What an earlier run read is gone.
    async fn resume(&mut self, _: Position, _: &[u8]) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
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
        let mut origin =
            Piped { id: Arc::new(id), codec: Codec::Text, lines, kept: VecDeque::new(), first: 0, next: 0 };
        assert_eq!(positions(&mut origin, 9).await, [0, 1]);
        origin.commit(Position(1)).await.unwrap();
        assert_eq!(positions(&mut origin, 9).await, [2]);
        assert_eq!(positions(&mut origin, 9).await, [0; 0]);
        origin.seek(Position(1)).await.unwrap();
        assert_eq!(positions(&mut origin, 1).await, [1], "the settled line is gone, the others are there");
        assert_eq!(positions(&mut origin, 9).await, [2]);
        origin.commit(Position(3)).await.unwrap();
        assert!(origin.kept.is_empty());
    }
}
