//! A log that many append to and one reads: what push sources have answered for, and the buffer before a sink.
//!
//! One thread writes. What is appended while an fsync runs goes together with the next one, so that an fsync serves all
//! that wait for it, and a lone sender waits for one alone. Appending returns when the records are durable. The reader sees
//! durable records only, remembers what is settled beside the log (`position`, a [`Note`] of the first number that is not
//! settled), and files of which everything is settled go. When the log is full, appending is refused.
//!
//! Damage costs the records it is in: it is logged, counted (`weir_log_lost_records_total`) and copied beside the log.
//!
//! A disk that fails is tried again, also while nobody appends; until it works the node is not ready and says why.

mod writer;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use metrics::{counter, gauge};
use tokio::sync::{mpsc, oneshot, watch};

use self::writer::{Writer, WriterThread};
use super::log::{
    Damage, Disk, Folder, LogFull, LogLimits, LogReader, Note, Record, SegmentedLog, log_size, segments_on,
};
use crate::component::Trouble;
use crate::private;

/// The largest file, for logs that hold much.
const SEGMENT_BYTES: u64 = 64 << 20;
/// The largest record.
const RECORD_BYTES: u32 = 256 << 20;
/// Appends that wait for the writer; beyond them, those who append wait.
const WAITING: usize = 256;
/// How often what is settled is made durable.
const STORE_EVERY: Duration = Duration::from_millis(200);
/// Pause before a position that could not be stored is tried again.
const STORE_AGAIN: Duration = Duration::from_secs(1);
const POSITION: &str = "position";

/// Why records were not appended; none of them is.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// There is no room now.
    #[error(transparent)]
    Full(#[from] LogFull),
    /// There will never be room for so much at once.
    #[error("{0} bytes at once are more than a quarter of the log's size of {1}")]
    TooLarge(u64, u64),
    /// The disk said no.
    #[error("the log cannot be written: {0}")]
    Io(String),
}

/// Records on their way into a journal: all of them are appended, or none.
#[derive(Debug, Default)]
pub struct Records {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Records {
    /// Adds a record, whose payload `write` appends.
    pub fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        self.ends.push(self.bytes.len());
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Moves those of `later` behind its own.
    pub fn join(&mut self, later: &mut Records) {
        if self.is_empty() {
            return std::mem::swap(self, later);
        }
        let start = self.bytes.len();
        self.bytes.append(&mut later.bytes);
        self.ends.extend(later.ends.drain(..).map(|end| start + end));
    }

    /// Bytes they take in the log.
    pub fn size(&self) -> u64 {
        log_size(self.ends.len(), self.bytes.len())
    }

    fn payloads(&self) -> impl Iterator<Item = &[u8]> + Clone {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.bytes[start..*end])
    }
}

/// Records that were not appended, and why.
#[derive(Debug)]
pub struct Refused {
    /// Why.
    pub error: JournalError,
    /// All of them; none where the writer took them along.
    pub records: Records,
}

#[derive(Debug)]
enum Request {
    Append(Records, oneshot::Sender<Result<(), Refused>>),
    /// More is settled: there may be room.
    Settled,
}

/// The way into the log; clones lead to the same.
#[derive(Debug, Clone)]
pub struct Journal {
    send: mpsc::Sender<Request>,
    shared: Arc<Shared>,
    /// Last, so that the thread finds no sender any more when it is waited for.
    thread: Arc<WriterThread>,
}

#[derive(Debug)]
struct Shared {
    /// The number behind the last durable record.
    durable: watch::Sender<u64>,
    /// Everything below is durably settled.
    settled: AtomicU64,
    /// Rises when files go.
    freed: watch::Sender<u64>,
}

/// Who a journal belongs to, and where it says that it does not work.
#[derive(Debug, Clone)]
pub struct JournalOwner {
    /// The node.
    pub node: Arc<str>,
    /// The node's word.
    pub trouble: Trouble,
    /// What helps when the log is full, where that keeps the node from being ready.
    pub when_full: Option<&'static str>,
}

impl Journal {
    /// Opens the log in `dir`, which may hold `max_size` bytes, and its one reader. Nobody else may write to the folder
    /// meanwhile.
    pub fn open(dir: &Path, owner: JournalOwner, max_size: u64) -> io::Result<(Journal, JournalReader)> {
        private::own_folder(dir)?;
        Journal::on(Arc::new(Folder::locked(dir)?), owner, max_size)
    }

    pub(crate) fn on(disk: Arc<dyn Disk>, owner: JournalOwner, max_size: u64) -> io::Result<(Journal, JournalReader)> {
        let limits = LogLimits {
            segment_bytes: SEGMENT_BYTES.min(max_size / 8).max(4096),
            total_bytes: max_size,
            record_bytes: RECORD_BYTES,
        };
        let (mut position, stored) = Note::open(&*disk, POSITION)?;
        let mut log = SegmentedLog::on(disk.clone(), limits)?;
        let start = stored.unwrap_or_else(|| log.first());
        // Takes the room it needs ever after: on a disk that is full, room is made by storing the position.
        position.write(&*disk, start)?;
        log.skip_to(start);
        let damage = log.take_damage();
        let (durable, durable_seen) = watch::channel(log.durable());
        let (send, requests) = mpsc::channel(WAITING);
        let JournalOwner { node, trouble, when_full } = owner;
        gauge!("weir_log_bytes", "node" => node.to_string()).set(log.bytes() as f64);
        let shared = Arc::new(Shared { durable, settled: AtomicU64::new(start), freed: watch::Sender::new(0) });
        let writer = Writer {
            log,
            requests,
            shared: shared.clone(),
            node: node.clone(),
            max_size,
            group: Vec::new(),
            trouble: trouble.part("log"),
            when_full,
            refused: None,
        };
        let thread = Arc::new(WriterThread::new(writer));
        let reader = JournalReader {
            log: LogReader::on(disk.clone(), RECORD_BYTES, start)?.missing_none(),
            ahead: None,
            disk,
            node,
            journal: Journal { send: send.clone(), shared: shared.clone(), thread: thread.clone() },
            durable: durable_seen,
            settled: start,
            stored: start,
            position,
            tried_at: None,
            store_every: STORE_EVERY,
            trouble: trouble.part("position"),
        };
        if let Some(damage) = damage {
            reader.note(&damage);
        }
        Ok((Journal { send, shared, thread }, reader))
    }

    /// Appends the records; durable when it returns.
    pub async fn append(&self, records: Records) -> Result<(), Refused> {
        if records.is_empty() {
            return Ok(());
        }
        let (done, answer) = oneshot::channel();
        self.thread.wake();
        // Only a writer that panicked is gone.
        let gone = |records| Refused { error: JournalError::Io("its writer is gone".to_owned()), records };
        match self.send.send(Request::Append(records, done)).await {
            Ok(()) => answer.await.unwrap_or_else(|_| Err(gone(Records::default()))),
            Err(mpsc::error::SendError(Request::Append(records, _))) => Err(gone(records)),
            Err(_) => Err(gone(Records::default())),
        }
    }

    /// Changes when there is more room.
    pub fn freed(&self) -> watch::Receiver<u64> {
        self.shared.freed.subscribe()
    }

    /// The number behind the last durable record.
    pub fn end(&self) -> u64 {
        *self.shared.durable.borrow()
    }
}

/// Reads a journal behind what was settled before.
#[derive(Debug)]
pub struct JournalReader {
    log: LogReader,
    /// A record that did not fit the last read.
    ahead: Option<Record>,
    disk: Arc<dyn Disk>,
    node: Arc<str>,
    journal: Journal,
    durable: watch::Receiver<u64>,
    settled: u64,
    stored: u64,
    position: Note,
    /// When storing was tried last, and how long to wait for the next time.
    tried_at: Option<Instant>,
    store_every: Duration,
    trouble: Trouble,
}

impl JournalReader {
    /// Waits until there is something to read. Cancel-safe.
    pub async fn ready(&mut self) {
        let next = self.next_number();
        // The sender lives as long as the reader.
        let _ = self.durable.wait_for(|durable| *durable > next).await;
    }

    /// Records behind those read before: at most so many, and so many bytes except for one that is larger. None: there is
    /// none, or what was there is damaged.
    pub fn read(&mut self, most: usize, most_bytes: usize) -> io::Result<Vec<Record>> {
        let until = *self.durable.borrow();
        let mut records = Vec::new();
        let mut size = 0;
        while records.len() < most {
            let read = match self.ahead.take() {
                Some(record) => Some(Ok(record)),
                None => match self.log.read_below(until) {
                    Err(_) if !records.is_empty() => break,
                    read => read?,
                },
            };
            match read {
                Some(Ok(record)) => {
                    size += record.payload.len();
                    if size > most_bytes && !records.is_empty() {
                        self.ahead = Some(record);
                        break;
                    }
                    records.push(record);
                }
                Some(Err(damage)) => self.note(&damage),
                None => break,
            }
        }
        Ok(records)
    }

    fn note(&self, damage: &Damage) {
        tracing::error!(node = &*self.node, %damage, "the log is damaged");
        counter!("weir_log_lost_records_total", "node" => self.node.to_string()).increment(damage.records.max(1));
        if let Err(error) = self.log.quarantine(damage) {
            tracing::warn!(node = &*self.node, %error, "what is damaged cannot be copied");
        }
    }

    /// Every record below `number` is settled; durable some time later, or after [`store`](Self::store).
    pub fn settle(&mut self, number: u64) {
        self.settled = self.settled.max(number);
        if self.store_in() == Some(Duration::ZERO) {
            self.store();
        }
    }

    /// How long until what is settled is to be stored; `None`: it is.
    pub fn store_in(&self) -> Option<Duration> {
        let waited = self.tried_at.map_or(self.store_every, |at| at.elapsed());
        (self.settled != self.stored).then(|| self.store_every.saturating_sub(waited))
    }

    /// Makes durable what is settled. Where the disk refuses, the node is not ready until a later call, which
    /// [`store_in`](Self::store_in) asks for, has succeeded; nothing else has to wait for that.
    pub fn store(&mut self) {
        match self.try_store() {
            Ok(()) => {
                self.store_every = STORE_EVERY;
                self.trouble.clear();
            }
            Err(error) => {
                self.store_every = STORE_AGAIN;
                let text = format!("{}; mend the disk: it is tried again until it works", self.not_stored(&error));
                tracing::error!(node = &*self.node, text, "waiting");
                self.trouble.set(text);
            }
        }
        self.tried_at = Some(Instant::now());
    }

    /// Whether all that is settled is durably so.
    pub fn is_stored(&self) -> bool {
        self.settled == self.stored
    }

    fn try_store(&mut self) -> io::Result<()> {
        if self.is_stored() {
            return Ok(());
        }
        self.position.write(&*self.disk, self.settled)?;
        self.position.sync(&*self.disk)?;
        self.stored = self.settled;
        self.journal.shared.settled.store(self.stored, Ordering::Release);
        self.journal.thread.wake();
        // A writer that has requests before it looks at this, too.
        let _full = self.journal.send.try_send(Request::Settled);
        Ok(())
    }

    fn not_stored(&self, error: &io::Error) -> String {
        let path = self.disk.path(POSITION);
        format!("the position of the log cannot be stored in {}: {error}; its records are kept", path.display())
    }

    /// The next record read is `number`, or the first behind it.
    pub fn seek(&mut self, number: u64) -> io::Result<()> {
        self.log = LogReader::on(self.disk.clone(), RECORD_BYTES, number)?.missing_none();
        self.ahead = None;
        Ok(())
    }

    /// The number of the next record.
    pub fn next_number(&self) -> u64 {
        self.ahead.as_ref().map_or(self.log.next_number(), |record| record.number)
    }

    /// The number behind the last durable record.
    pub fn end(&self) -> u64 {
        *self.durable.borrow()
    }

    /// Records that are still to be read.
    pub fn lag(&self) -> u64 {
        self.end().saturating_sub(self.next_number())
    }
}

impl Drop for JournalReader {
    fn drop(&mut self) {
        match self.try_store() {
            Ok(()) => self.trouble.clear(),
            // Nobody is left who would try again.
            Err(error) => {
                let events = self.settled - self.stored;
                let text = format!("{}: up to {events} events come again with the next start", self.not_stored(&error));
                self.trouble.give_up(text);
            }
        }
    }
}

/// What a journal holds, as it is found where nobody uses it.
#[derive(Debug, Default, Clone, serde::Serialize)]
pub struct JournalContent {
    /// Whole records.
    pub records: u64,
    /// Those of them that are not settled.
    pub waiting: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// The first record's number.
    pub first: Option<u64>,
    /// The last record's number.
    pub last: Option<u64>,
    /// The first number that is not settled; `None` where that is not known.
    pub position: Option<u64>,
    /// Places that cannot be read.
    pub damage: Vec<String>,
}

/// Reads the whole journal in `dir`, and hands out every record that is not settled.
pub fn inspect_journal(dir: &Path, mut each: impl FnMut(Record)) -> io::Result<JournalContent> {
    let folder: Arc<dyn Disk> = Arc::new(Folder::new(dir));
    let position = Note::read(&*folder, POSITION)?;
    let sizes = folder.list()?.into_iter().filter(|(name, _)| name.ends_with(".log"));
    let mut content =
        JournalContent { bytes: sizes.map(|(_, size)| size).sum(), position, ..JournalContent::default() };
    let first = segments_on(&*folder)?.first().map_or(u64::MAX, |(first, _)| *first).min(position.unwrap_or(u64::MAX));
    // Where nothing is known there is nothing.
    let first = if first == u64::MAX { 0 } else { first };
    for read in LogReader::on(folder, RECORD_BYTES, first)?.missing_none() {
        match read {
            Ok(record) => {
                content.records += 1;
                content.first.get_or_insert(record.number);
                content.last = Some(record.number);
                if position.is_none_or(|position| record.number >= position) {
                    content.waiting += 1;
                    each(record);
                }
            }
            Err(damage) => content.damage.push(damage.to_string()),
        }
    }
    Ok(content)
}

#[cfg(test)]
pub(crate) mod tests;
