//! A log that many append to and one reads: what push sources have answered for, and the buffer before a sink.
//!
//! One thread writes. What is appended while an fsync runs goes together with the next one, so that an fsync serves all
//! that wait for it, and a lone sender waits for one alone. Appending returns when the records are durable. The reader sees
//! durable records only, remembers what is settled beside the log (`position`: the first number that is not settled, u64
//! LE, and its CRC-32), and files of which everything is settled go. When the log is full, appending is refused.
//!
//! Damage costs the records it is in: it is logged, counted (`weir_log_lost_records_total`) and copied beside the log.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use metrics::{counter, gauge};
use tokio::sync::{mpsc, oneshot, watch};

use super::log::{
    AppendError, Damage, Disk, Folder, LogFull, LogLimits, LogReader, Record, SegmentedLog, log_size, segments_on,
};

/// The largest file, for logs that hold much.
const SEGMENT_BYTES: u64 = 64 << 20;
/// The largest record.
const RECORD_BYTES: u32 = 256 << 20;
/// Appends that wait for the writer; beyond them, those who append wait.
const WAITING: usize = 256;
/// Bytes after which no more appends join an fsync.
const GROUP: u64 = 8 << 20;
/// How often what is settled is made durable.
const STORE_EVERY: Duration = Duration::from_millis(200);
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

    fn payloads(&self) -> impl Iterator<Item = &[u8]> {
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
}

#[derive(Debug)]
struct Shared {
    /// The writer until the first request: opening starts no thread.
    idle: Mutex<Option<Writer>>,
    /// The number behind the last durable record.
    durable: watch::Sender<u64>,
    /// Everything below is durably settled.
    settled: AtomicU64,
    /// Rises when files go.
    freed: watch::Sender<u64>,
}

impl Journal {
    /// Opens the log of `node` in `dir`, which may hold `max_size` bytes, and its one reader.
    pub fn open(dir: &Path, node: &str, max_size: u64) -> io::Result<(Journal, JournalReader)> {
        std::fs::create_dir_all(dir)?;
        Journal::on(Arc::new(Folder::new(dir)), node, max_size)
    }

    fn on(disk: Arc<dyn Disk>, node: &str, max_size: u64) -> io::Result<(Journal, JournalReader)> {
        let limits = LogLimits {
            segment_bytes: SEGMENT_BYTES.min(max_size / 8).max(4096),
            total_bytes: max_size,
            record_bytes: RECORD_BYTES,
        };
        let stored = read_position(&*disk)?;
        let mut log = SegmentedLog::on(disk.clone(), limits)?;
        let start = stored.unwrap_or_else(|| log.first());
        log.skip_to(start);
        let (durable, durable_seen) = watch::channel(log.durable());
        let (send, requests) = mpsc::channel(WAITING);
        let node: Arc<str> = node.into();
        gauge!("weir_log_bytes", "node" => node.to_string()).set(log.bytes() as f64);
        let shared = Arc::new(Shared {
            idle: Mutex::new(Some(Writer { log, requests, node: node.clone(), max_size })),
            durable,
            settled: AtomicU64::new(start),
            freed: watch::Sender::new(0),
        });
        let journal = Journal { send, shared };
        let reader = JournalReader {
            log: LogReader::on(disk.clone(), RECORD_BYTES, start)?.missing_none(),
            ahead: None,
            disk,
            node,
            journal: journal.clone(),
            durable: durable_seen,
            settled: start,
            stored: start,
            stored_at: None,
        };
        Ok((journal, reader))
    }

    /// Appends the records; durable when it returns.
    pub async fn append(&self, records: Records) -> Result<(), Refused> {
        if records.is_empty() {
            return Ok(());
        }
        let (done, answer) = oneshot::channel();
        self.wake();
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

    /// Starts the writer, if it was not yet.
    fn wake(&self) {
        let idle = self.shared.idle.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = idle {
            // The writer ends with the last sender.
            let shared = Arc::downgrade(&self.shared);
            let thread = std::thread::Builder::new().name("journal".to_owned());
            if let Err(error) = thread.spawn(move || writer.run(&shared)) {
                tracing::error!(%error, "cannot start the writer's thread");
            }
        }
    }
}

/// Appends groups of records, each with one fsync.
#[derive(Debug)]
struct Writer {
    log: SegmentedLog,
    requests: mpsc::Receiver<Request>,
    node: Arc<str>,
    max_size: u64,
}

impl Writer {
    fn run(mut self, shared: &std::sync::Weak<Shared>) {
        let mut group = Vec::new();
        while let Some(first) = self.requests.blocking_recv() {
            let Some(shared) = shared.upgrade() else { return };
            self.make_room(&shared);
            let (mut next, mut size, mut result) = (Some(first), 0, Ok(()));
            while let Some(request) = next {
                match request {
                    Request::Settled => self.make_room(&shared),
                    Request::Append(records, done) => match self.has_room(&records) {
                        Err(error) => drop(done.send(Err(Refused { error, records }))),
                        Ok(()) => {
                            size += records.size();
                            result = result.and_then(|()| self.append(&records));
                            group.push((records, done));
                        }
                    },
                }
                next = if size < GROUP { self.requests.try_recv().ok() } else { None };
            }
            let result = result.and_then(|()| self.log.sync());
            match result {
                Ok(()) => {
                    shared.durable.send_replace(self.log.durable());
                    group.drain(..).for_each(|(_, done)| drop(done.send(Ok(()))));
                }
                Err(error) => {
                    tracing::error!(node = &*self.node, %error, "the log cannot be written");
                    self.log.discard();
                    for (records, done) in group.drain(..) {
                        let refused = Refused { error: JournalError::Io(error.to_string()), records };
                        let _gone = done.send(Err(refused));
                    }
                }
            }
            gauge!("weir_log_bytes", "node" => self.node.to_string()).set(self.log.bytes() as f64);
        }
    }

    fn has_room(&self, records: &Records) -> Result<(), JournalError> {
        // What is settled may stand in the file that is written to, which is as large as one record at most.
        if records.size() > self.max_size / 4 {
            return Err(JournalError::TooLarge(records.size(), self.max_size));
        }
        Ok(self.log.has_room(records.ends.len(), records.bytes.len())?)
    }

    fn append(&mut self, records: &Records) -> io::Result<()> {
        for payload in records.payloads() {
            match self.log.append(payload) {
                Ok(_) => {}
                Err(AppendError::Io(error)) => return Err(error),
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        Ok(())
    }

    /// Removes files of which everything is settled.
    fn make_room(&mut self, shared: &Shared) {
        let before = self.log.bytes();
        if let Err(error) = self.log.truncate_before(shared.settled.load(Ordering::Acquire)) {
            tracing::warn!(node = &*self.node, %error, "a file of the log that is done with cannot be removed");
        }
        if self.log.bytes() < before {
            shared.freed.send_modify(|freed| *freed += 1);
        }
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
    stored_at: Option<Instant>,
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
    pub fn settle(&mut self, number: u64) -> io::Result<()> {
        self.settled = self.settled.max(number);
        match self.stored_at.is_none_or(|at| at.elapsed() >= STORE_EVERY) {
            true => self.store(),
            false => Ok(()),
        }
    }

    /// How long until what is settled is to be stored; `None`: it is.
    pub fn store_in(&self) -> Option<Duration> {
        let waited = self.stored_at.map_or(STORE_EVERY, |at| at.elapsed());
        (self.settled != self.stored).then(|| STORE_EVERY.saturating_sub(waited))
    }

    /// Makes durable what is settled.
    pub fn store(&mut self) -> io::Result<()> {
        if self.settled == self.stored {
            return Ok(());
        }
        let number = self.settled.to_le_bytes();
        let beside = format!("{POSITION}.new");
        let mut file = self.disk.create(&beside)?;
        file.append(&number)?;
        file.append(&crc32fast::hash(&number).to_le_bytes())?;
        file.sync()?;
        self.disk.rename(&beside, POSITION)?;
        self.disk.sync()?;
        self.stored = self.settled;
        self.stored_at = Some(Instant::now());
        self.journal.shared.settled.store(self.stored, Ordering::Release);
        self.journal.wake();
        // A writer that has requests before it looks at this, too.
        let _full = self.journal.send.try_send(Request::Settled);
        Ok(())
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
        if let Err(error) = self.store() {
            tracing::warn!(node = &*self.node, %error, "the position is not stored: some events may come again");
        }
    }
}

/// What was settled before; `None` where that is not known.
fn read_position(disk: &dyn Disk) -> io::Result<Option<u64>> {
    let mut bytes = [0; 12];
    match disk.open(POSITION) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => drop(file?.read_at(&mut bytes, 0)?),
    }
    let (number, crc) = bytes.split_at(8);
    let is_whole = crc32fast::hash(number).to_le_bytes() == crc;
    if !is_whole {
        tracing::warn!(path = %disk.path(POSITION).display(), "it is damaged: what the log holds is read again");
    }
    Ok(is_whole.then(|| u64::from_le_bytes(number.try_into().unwrap_or_default())))
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
    let position = read_position(&*folder)?;
    let sizes = folder.list()?.into_iter().filter(|(name, _)| name.ends_with(".log"));
    let mut content =
        JournalContent { bytes: sizes.map(|(_, size)| size).sum(), position, ..JournalContent::default() };
    let first = segments_on(&*folder)?.first().map_or(0, |(first, _)| *first);
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
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::log::faults::FaultyDisk;
    use super::*;

    fn one(payload: &[u8]) -> Records {
        let mut records = Records::default();
        records.push(|out| out.extend(payload));
        records
    }

    fn payloads(records: &[Record]) -> Vec<&[u8]> {
        records.iter().map(|record| &*record.payload).collect()
    }

    #[test]
    fn records_that_are_joined_stay_apart_and_in_order() {
        let mut all = Records::default();
        for mut later in [Records::default(), one(b"a"), one(b""), one(b"bcd")] {
            let size = all.size() + later.size();
            all.join(&mut later);
            assert_eq!(all.size(), size);
        }
        let mut last = one(b"e");
        last.push(|out| out.extend(b"fg"));
        all.join(&mut last);
        assert_eq!(all.payloads().collect::<Vec<_>>(), [b"a".as_slice(), b"", b"bcd", b"e", b"fg"]);
    }

    #[tokio::test]
    async fn what_an_fsync_did_not_take_is_refused_and_never_read() {
        let disk = FaultyDisk::default();
        let (journal, mut reader) = Journal::on(Arc::new(disk.clone()), "in", 1 << 20).unwrap();
        journal.append(one(b"first")).await.unwrap();
        disk.fail_sync();
        let refused = journal.append(one(b"lost")).await.unwrap_err();
        assert!(matches!(refused.error, JournalError::Io(_)) && refused.records.len() == 1);
        journal.append(one(b"second")).await.unwrap();
        reader.ready().await;
        assert_eq!(payloads(&reader.read(10, 1000).unwrap()), [b"first".as_slice(), b"second"]);
        reader.settle(1).unwrap();
        drop((journal, reader));
        let (_journal, mut reader) = Journal::on(Arc::new(disk), "in", 1 << 20).unwrap();
        assert_eq!(payloads(&reader.read(10, 1000).unwrap()), [b"second".as_slice()], "settled is settled");
    }

    #[tokio::test]
    async fn a_full_log_takes_again_once_something_is_settled() {
        let (journal, mut reader) = Journal::on(Arc::new(FaultyDisk::default()), "in", 40_000).unwrap();
        assert!(matches!(journal.append(one(&[0; 20_000])).await.unwrap_err().error, JournalError::TooLarge(..)));
        let mut taken = 0;
        let mut freed = journal.freed();
        let refused = loop {
            match journal.append(one(&[1; 1000])).await {
                Ok(()) => taken += 1,
                Err(refused) => break refused,
            }
        };
        assert!(matches!(refused.error, JournalError::Full(_)) && taken > 30);
        assert_eq!(reader.read(100, 1 << 20).unwrap().len(), taken);
        reader.settle(reader.next_number()).unwrap();
        freed.changed().await.unwrap();
        journal.append(refused.records).await.unwrap();
        assert_eq!(reader.lag(), 1);
    }
}
