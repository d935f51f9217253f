//! For sources that are sent events: a log that makes an answer true, and the lane over it.
//!
//! Records come in from many connections, durable once [`PushLog::append`] has returned; a sender may then forget them. A
//! lane reads the log as it reads a partition of Kafka: the position is the record's number.
//!
//! A record's payload is a byte for its version, 1; the time of receipt in milliseconds since the epoch (i64, LE); the
//! body.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use super::{BuildContext, Origin, Read, ReadLimit, async_trait};
use crate::delivery::{Journal, JournalError, JournalOwner, JournalReader, Records};
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Body, Codec, Event, OriginId, OriginKind, Position, Timestamp};
use crate::state::Clock;

const VERSION: u8 = 1;
/// Version and time.
const HEAD: usize = 9;
/// Where the log stands in a node's folder.
pub(crate) const FOLDER: &str = "push-log";

/// The log of a push source; clones lead to the same.
#[derive(Debug, Clone)]
pub struct PushLog(Journal);

/// Bodies that came in together: all of them are appended, or none.
#[derive(Debug)]
pub struct Pushed {
    received: Timestamp,
    records: Records,
}

impl Pushed {
    /// None yet, received at this time.
    pub fn new(received: Timestamp) -> Pushed {
        Pushed { received, records: Records::default() }
    }

    /// One more.
    pub fn push(&mut self, body: &[u8]) {
        let received = self.received.0.to_le_bytes();
        self.records.push(|out| {
            out.push(VERSION);
            out.extend(received);
            out.extend(body);
        });
    }

    /// Puts those behind its own.
    pub fn join(&mut self, mut later: Pushed) {
        self.records.join(&mut later.records);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Bytes they take in the log.
    pub fn size(&self) -> u64 {
        self.records.size()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }
}

impl PushLog {
    /// Opens the node's log, which may hold `max_size` bytes, and its only reader. Bodies are read by `codec`.
    pub fn open(context: &BuildContext, max_size: u64, codec: Codec) -> Result<(PushLog, PushOrigin)> {
        let Some(dir) = context.storage.dir().map(|dir| dir.join(FOLDER)) else {
            return Err(Error::new(ErrorKind::Internal, "open the log of a push source", "the node has no folder"));
        };
        let owner = JournalOwner {
            node: context.node.clone(),
            trouble: context.trouble.clone(),
            when_full: Some("it waits for what is behind this source; raise max_size"),
        };
        let (journal, reader) =
            Journal::open(&dir, owner, max_size).map_err(|error| unusable("open its log", &dir, error))?;
        let id = OriginId {
            node: context.node.to_string(),
            log: context.node.to_string(),
            partition: 0,
            kind: OriginKind::Other,
        };
        let origin =
            PushOrigin { id: Arc::new(id), dir, reader, codec, clock: context.clock.clone(), once: context.once };
        Ok((PushLog(journal), origin))
    }

    /// Appends all of it; durable when it returns.
    pub async fn append(&self, pushed: Pushed) -> Result<(), JournalError> {
        self.offer(pushed).await.map_err(|(error, _)| error)
    }

    /// As [`append`](Self::append), and gives back what was not appended, to be tried again: nothing where the writer took
    /// it along.
    pub async fn offer(&self, Pushed { received, records }: Pushed) -> Result<(), (JournalError, Pushed)> {
        let appended = self.0.append(records).await;
        appended.map_err(|refused| (refused.error, Pushed { received, records: refused.records }))
    }

    /// Changes when there is more room.
    pub fn freed(&self) -> watch::Receiver<u64> {
        self.0.freed()
    }
}

/// The time of receipt and the body of a record.
pub(crate) fn parts(payload: &[u8]) -> (Timestamp, &[u8]) {
    let received = payload.get(1..HEAD).and_then(|time| time.try_into().ok()).map_or(0, i64::from_le_bytes);
    (Timestamp(received), payload.get(HEAD..).unwrap_or_default())
}

/// The reading end of a [`PushLog`]. Under `--once` it ends with what the log holds.
pub struct PushOrigin {
    id: Arc<OriginId>,
    dir: PathBuf,
    reader: JournalReader,
    codec: Codec,
    clock: Arc<dyn Clock>,
    once: bool,
}

impl PushOrigin {
    fn event(&self, number: u64, payload: Vec<u8>) -> Event {
        let (received, _) = parts(&payload);
        let start = HEAD.min(payload.len());
        let body = Body::Raw(Bytes::from(payload).slice(start..), self.codec.clone());
        Event::new(body, Position(number), received)
    }

    fn failed(&self, error: io::Error) -> Error {
        // A disk that fails may work again; a lane that gives up stops the graph.
        Error::temporary(ErrorKind::Io, "read the log of a push source", "the file system refused")
            .with("path", self.dir.display())
            .caused_by(error)
    }

    /// Waits for records; meanwhile what is settled becomes durable.
    async fn ready(&mut self) {
        loop {
            let store_in = self.reader.store_in();
            tokio::select! {
                () = self.reader.ready() => return,
                () = sleep(&*self.clock, store_in) => {}
            }
            let reader = &mut self.reader;
            tokio::task::block_in_place(|| reader.store());
        }
    }
}

/// Never resolves without a span.
async fn sleep(clock: &dyn Clock, span: Option<Duration>) {
    match span {
        Some(span) => clock.sleep(span).await,
        None => std::future::pending().await,
    }
}

fn unusable(operation: &'static str, dir: &Path, error: io::Error) -> Error {
    if error.kind() == io::ErrorKind::WouldBlock {
        return Error::new(ErrorKind::Config, operation, error.to_string());
    }
    Error::new(ErrorKind::Io, operation, "the file system refused").with("path", dir.display()).caused_by(error)
}

#[async_trait]
impl Origin for PushOrigin {
    fn id(&self) -> Arc<OriginId> {
        self.id.clone()
    }

    async fn read(&mut self, limit: ReadLimit) -> Result<Read> {
        loop {
            if self.once && self.reader.lag() == 0 {
                return Ok(Read::End);
            }
            self.ready().await;
            let reader = &mut self.reader;
            let records = tokio::task::block_in_place(|| reader.read(limit.events, limit.bytes));
            let records = records.map_err(|error| self.failed(error))?;
            if !records.is_empty() {
                let event = |record: crate::delivery::log::Record| self.event(record.number, record.payload);
                return Ok(Read::Events(records.into_iter().map(event).collect()));
            }
        }
    }

    async fn commit(&mut self, position: Position) -> Result<()> {
        let reader = &mut self.reader;
        tokio::task::block_in_place(|| reader.settle(position.0));
        Ok(())
    }

    async fn seek(&mut self, position: Position) -> Result<()> {
        self.reader.seek(position.0).map_err(|error| self.failed(error))
    }

    async fn position(&mut self) -> Option<Position> {
        Some(Position(self.reader.next_number()))
    }

    fn lag(&self) -> Option<u64> {
        Some(self.reader.lag())
    }
}
