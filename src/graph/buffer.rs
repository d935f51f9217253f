//! `buffer:` before a sink: a log on disk that takes events over from the lanes, and a task that feeds the sink from it.
//!
//! What lanes write counts as delivered once it is durable in the log. The task reads the log in order, hands batches to
//! the sink with receipts of its own, goes back where one failed, and lets the log forget what is settled. A crash repeats
//! what was not. An event is stored as a dead letter is, without a reason unless it came from an `errors` port.
//!
//! The node's books: an event is received when a lane hands it over and in flight while it is in the buffer; what an
//! earlier run left, or what is handed to the sink again, is received once more.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use metrics::counter;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::DeadLetter;
use super::driver::{READ_LIMIT, back_off};
use super::prepare::prepared;
use crate::component::{BuildContext, Sink, Trouble, async_trait};
use crate::config::{BufferConfig, WhenFull};
use crate::delivery::log::Record;
use crate::delivery::{
    Journal, JournalError, JournalOwner, JournalReader, Ledger, MemoryBudget, Outcome, Progress, Receipt, Records,
    RejectedBatch, Settlements,
};
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Batch, Body, Codec, Event, OriginId, OriginKind, Position, Reason, Rejected, Timestamp};

/// The folder of the log in the node's.
pub(super) const FOLDER: &str = "buffer";
/// Memory of the batches that are on their way from the log to the sink.
const MEMORY: u64 = 8 << 20;
/// Batches on that way.
const OPEN_BATCHES: usize = 256;
/// Pause before a disk that failed is tried again, and between two looks at a sink that is to be finished.
const PAUSE: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(100);
/// How long what is on its way to the sink may take when the graph is stopped.
const REST: Duration = Duration::from_secs(1);

/// What the lanes that write into a buffer do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// They run.
    Running,
    /// They came to their end: what is in the log is to be delivered.
    Ended,
    /// They were stopped: what is in the log stays there.
    Stopped,
}

/// When a buffer is to end.
#[derive(Debug, Clone)]
pub(super) struct Ends {
    pub phase: watch::Receiver<Phase>,
    /// Somebody asked the graph to stop.
    pub stop: watch::Receiver<bool>,
}

impl Ends {
    /// Whether nothing more is to be handed to the sink.
    fn is_closing(&self) -> bool {
        match *self.phase.borrow() {
            Phase::Running => false,
            Phase::Ended => *self.stop.borrow(),
            Phase::Stopped => true,
        }
    }

    /// Resolves when [`is_closing`](Self::is_closing) may have changed.
    async fn changed(&mut self) {
        tokio::select! {
            Ok(()) = self.phase.changed() => {}
            Ok(()) = self.stop.changed() => {}
            // Whoever could say more is gone.
            else => std::future::pending().await,
        }
    }
}

/// A sink with a buffer before it.
pub(super) struct Buffered {
    inner: Arc<dyn Sink>,
    journal: Journal,
    when_full: WhenFull,
    context: BuildContext,
    ends: Ends,
    drained: watch::Receiver<Drained>,
    drain: AbortHandle,
}

/// How far the way from the log to the sink is.
#[derive(Debug, Clone, Copy, Default)]
struct Drained {
    /// Everything below this number is settled, durably.
    behind: u64,
    /// Nothing is on its way, and no more will be.
    at_rest: bool,
}

/// How each source's records are read.
pub(super) type Codecs = Arc<BTreeMap<String, Codec>>;

impl Buffered {
    /// Puts the buffer before `inner`, and starts to feed it with what an earlier run has left.
    pub fn start(
        inner: Arc<dyn Sink>,
        config: &BufferConfig,
        context: BuildContext,
        codecs: Codecs,
        ends: Ends,
    ) -> Result<Buffered> {
        let Some(dir) = context.storage.dir().map(|dir| dir.join(FOLDER)) else {
            return Err(Error::new(ErrorKind::Internal, "open the buffer", "the node has no folder"));
        };
        let owner = JournalOwner {
            node: context.node.clone(),
            trouble: context.trouble.clone(),
            // Inputs that wait are back-pressure; why the sink takes nothing, it says itself.
            when_full: None,
        };
        let opened = Journal::open(&dir, owner, config.max_size.0)
            .map_err(|error| super::runtime::folder_error("open the buffer", &dir, error))?;
        Ok(Buffered::over(opened, inner, config.when_full, context, codecs, ends))
    }

    fn over(
        (journal, reader): (Journal, JournalReader),
        inner: Arc<dyn Sink>,
        when_full: WhenFull,
        context: BuildContext,
        codecs: Codecs,
        ends: Ends,
    ) -> Buffered {
        let (say, drained) = watch::channel(Drained::default());
        let drain = Drain {
            again: reader.end(),
            reader,
            inner: inner.clone(),
            context: context.clone(),
            codecs,
            ledger: Ledger::default(),
            settlements: Arc::default(),
            memory: MemoryBudget::new(MEMORY),
            watermark: Timestamp::MIN,
            failures: 0,
            seek_to: None,
            trouble: context.trouble.part("buffer"),
            ends: ends.clone(),
            say,
        };
        let drain = tokio::spawn(drain.run()).abort_handle();
        Buffered { inner, journal, when_full, context, ends, drained, drain }
    }

    fn records(&self, events: &[Event], origin: &OriginId) -> Records {
        let mut records = Records::default();
        for event in events {
            let error = event.meta.as_ref().and_then(|meta| meta.error.as_ref());
            let (node, code, message) =
                error.map_or((&*self.context.node, "", ""), |reason| (&*reason.node, reason.code, &*reason.message));
            let letter = DeadLetter::new(node, event.time, origin, event, code, message);
            records.push(|out| out.extend(letter.to_json()));
        }
        records
    }

    /// Resolves the receipt once the events are in the log, or are known not to get there.
    async fn take(&self, batch: Batch) {
        let mut records = self.records(&batch.events, &batch.origin);
        loop {
            let mut freed = self.journal.freed();
            let refused = match self.journal.append(records).await {
                Ok(()) => return batch.receipt.resolve(Outcome::Delivered),
                Err(refused) => refused,
            };
            match refused.error {
                JournalError::Full(_) if self.when_full == WhenFull::DropNewest => return self.drop_newest(batch),
                JournalError::Full(full) => {
                    tracing::warn!(node = &*self.context.node, %full, "the buffer is full: its inputs wait");
                    // The sender is in the journal.
                    let _ = freed.changed().await;
                }
                JournalError::TooLarge(..) => return self.too_large(batch, &refused.error).await,
                // The journal says why, and when the disk works again.
                JournalError::Io(_) => self.context.clock.sleep(PAUSE).await,
            }
            // A writer that is gone took them along.
            let is_whole = refused.records.len() == batch.events.len();
            records = if is_whole { refused.records } else { self.records(&batch.events, &batch.origin) };
        }
    }

    fn drop_newest(&self, batch: Batch) {
        let dropped = batch.events.len();
        tracing::warn!(node = &*self.context.node, events = dropped, "the buffer is full: new events are dropped");
        counter!("weir_buffer_dropped_events_total", "node" => self.context.node.to_string()).increment(dropped as u64);
        self.context.books.filtered(dropped);
        batch.receipt.resolve(Outcome::Filtered);
    }

    /// Events that fit on their own are taken so; others never will be.
    async fn too_large(&self, batch: Batch, error: &JournalError) {
        if batch.events.len() > 1 {
            let singles: Vec<Event> = batch.events.clone();
            for event in singles {
                Box::pin(self.take(batch.with_events(vec![event]))).await;
            }
            return batch.receipt.resolve(Outcome::Filtered);
        }
        let reject = |event| Rejected { event, code: "too_large_for_buffer", message: error.to_string() };
        let rejected = batch.events.into_iter().map(reject).collect();
        self.context.rejects.reject(RejectedBatch { origin: batch.origin, receipt: batch.receipt, rejected }).await;
    }

    /// Waits until everything in the log is settled; meanwhile the sink sends out what it holds back. False: the graph is
    /// to stop before.
    async fn is_drained(&self) -> bool {
        let (mut drained, mut ends) = (self.drained.clone(), self.ends.clone());
        let end = self.journal.end();
        loop {
            if ends.is_closing() {
                return false;
            }
            tokio::select! {
                found = drained.wait_for(|drained| drained.behind >= end) => return found.is_ok(),
                () = ends.changed() => {}
                () = async {
                    self.context.clock.sleep(LOOK).await;
                    self.inner.flush().await;
                } => {}
            }
        }
    }
}

#[async_trait]
impl Sink for Buffered {
    async fn write(&self, batch: Batch) {
        self.take(batch).await;
    }

    async fn flush(&self) {
        // What was taken is in the log.
        if *self.ends.phase.borrow() == Phase::Running || self.is_drained().await {
            return;
        }
        // What is on its way to the sink is waited for, so as not to come twice.
        let at_rest = async {
            self.inner.flush().await;
            let _ = self.drained.clone().wait_for(|drained| drained.at_rest).await;
        };
        tokio::select! {
            () = at_rest => {}
            () = self.context.clock.sleep(REST) => {}
        }
        // With the task its reader goes, and says where it cannot store what is settled.
        self.drain.abort();
        let mut drained = self.drained.clone();
        while drained.changed().await.is_ok() {}
    }

    async fn complete(&self) -> Result<()> {
        match self.is_drained().await {
            true => self.inner.complete().await,
            false => Ok(()),
        }
    }
}

impl Drop for Buffered {
    fn drop(&mut self) {
        self.drain.abort();
    }
}

/// The way from the log to the sink.
struct Drain {
    reader: JournalReader,
    inner: Arc<dyn Sink>,
    context: BuildContext,
    codecs: Codecs,
    ledger: Ledger,
    settlements: Arc<Settlements>,
    memory: MemoryBudget,
    watermark: Timestamp,
    failures: u32,
    /// Where a batch failed that is to be handed over again: nothing behind it is read before that.
    seek_to: Option<u64>,
    trouble: Trouble,
    /// Events below this number are handed over again, or for the first time since the process was started.
    again: u64,
    ends: Ends,
    say: watch::Sender<Drained>,
}

impl Drain {
    async fn run(mut self) {
        let settlements = self.settlements.clone();
        loop {
            if let Err(error) = self.step(&settlements).await {
                let text = format!("the buffer cannot be read: {error}; it is tried again until it can");
                tracing::error!(node = &*self.context.node, text, "waiting");
                self.trouble.set(text);
                self.context.clock.sleep(PAUSE).await;
            }
        }
    }

    async fn step(&mut self, settlements: &Settlements) -> io::Result<()> {
        self.settle().await?;
        let is_closing = self.ends.is_closing();
        let open = self.ledger.open_batches();
        if open == 0 && *self.ends.phase.borrow() != Phase::Running {
            tokio::task::block_in_place(|| self.reader.store());
        }
        let is_stored = self.reader.is_stored();
        let behind = if open == 0 && is_stored { self.reader.next_number() } else { 0 };
        self.say.send_replace(Drained { behind, at_rest: is_closing && open == 0 });
        let store_in = self.reader.store_in();
        let clock = self.context.clock.clone();
        tokio::select! {
            biased;
            () = settlements.changed() => return Ok(()),
            () = self.ends.changed(), if !is_closing => return Ok(()),
            () = async { clock.sleep(store_in.unwrap_or_default()).await }, if store_in.is_some() => {
                tokio::task::block_in_place(|| self.reader.store());
                return Ok(());
            }
            () = self.reader.ready(), if !is_closing && open < OPEN_BATCHES => {}
        }
        let records = tokio::task::block_in_place(|| self.reader.read(READ_LIMIT.events, READ_LIMIT.bytes))?;
        self.trouble.clear();
        self.hand_over(records).await;
        Ok(())
    }

    /// Does what the settlements so far ask for.
    async fn settle(&mut self) -> io::Result<()> {
        for settled in self.settlements.take() {
            self.ledger.settle(settled);
        }
        while let Some(progress) = self.ledger.advance() {
            match progress {
                Progress::Commit(position) => {
                    self.failures = 0;
                    tokio::task::block_in_place(|| self.reader.settle(position.0));
                }
                Progress::Rewind { position, .. } => {
                    tracing::warn!(node = &*self.context.node, position = position.0, "handing over again");
                    self.again = self.again.max(self.reader.next_number());
                    self.context.clock.sleep(back_off(self.failures)).await;
                    self.failures = self.failures.saturating_add(1);
                    self.seek_to = Some(position.0);
                }
            }
        }
        // Also when it failed before: what it goes back to is in no ledger any more.
        if let Some(number) = self.seek_to {
            self.reader.seek(number)?;
            self.seek_to = None;
        }
        Ok(())
    }

    /// Gives the events to the sink, those of one origin that follow one another as one batch.
    async fn hand_over(&mut self, records: Vec<Record>) {
        let mut group: Option<(OriginId, u64, u64, Vec<Event>)> = None;
        for Record { number, payload } in records {
            let Some((origin, event)) = restore(&payload, &self.codecs) else {
                self.write(group.take()).await;
                self.reject(number, payload).await;
                continue;
            };
            let (trouble, clock) = (&self.context.trouble, &*self.context.clock);
            let Some(event) = prepared(vec![event], trouble, clock).await.pop() else { continue };
            match &mut group {
                Some((of, _, last, events)) if *of == origin => {
                    *last = number;
                    events.push(event);
                }
                _ => {
                    let before = group.replace((origin, number, number, vec![event]));
                    self.write(before).await;
                }
            }
        }
        self.write(group).await;
    }

    /// A record that a later version has written, say: its bytes go to the node's `errors` port.
    async fn reject(&mut self, number: u64, payload: Vec<u8>) {
        let (log, now) = (FOLDER.to_owned(), self.context.clock.now());
        let origin = OriginId { node: self.context.node.to_string(), log, partition: 0, kind: OriginKind::Other };
        let event = Event::new(Body::Raw(payload.into(), Codec::Raw), Position(number), now);
        let receipt = self.receipt(number, number, std::slice::from_ref(&event)).await;
        let message = "the record of the buffer is no event that this version of weir can read".to_owned();
        let rejected = vec![Rejected { event, code: "unreadable_buffer_record", message }];
        self.context.rejects.reject(RejectedBatch { origin: Arc::new(origin), receipt, rejected }).await;
    }

    /// The receipt of the records from `first` to `last`, which these events are.
    async fn receipt(&mut self, first: u64, last: u64, events: &[Event]) -> Receipt {
        if first < self.again {
            let again = self.again.min(last + 1) - first;
            self.context.books.received(usize::try_from(again).unwrap_or(usize::MAX).min(events.len()));
        }
        let permit = self.memory.acquire(events.iter().map(Event::size).sum()).await;
        let number = self.ledger.open(Position(first), Position(last).next());
        Receipt::new(number, self.settlements.clone(), Some(permit))
    }

    async fn write(&mut self, group: Option<(OriginId, u64, u64, Vec<Event>)>) {
        let Some((origin, first, last, events)) = group else { return };
        let receipt = self.receipt(first, last, &events).await;
        self.watermark = events.iter().map(|event| event.time).max().map_or(self.watermark, |t| t.max(self.watermark));
        self.inner.write(Batch { origin: Arc::new(origin), receipt, watermark: self.watermark, events }).await;
    }
}

/// The event of a record, and where it came from.
fn restore(payload: &[u8], codecs: &BTreeMap<String, Codec>) -> Option<(OriginId, Event)> {
    let mut letter: DeadLetter = serde_json::from_slice(payload).ok()?;
    let restored = letter.event(|source| codecs.get(source).cloned());
    let (origin, mut event) = match restored {
        Some(restored) => restored,
        None => {
            // Its source is not what it was: the bytes are kept.
            letter.codec = Codec::Raw.name().to_owned();
            letter.event(|_| None)?
        }
    };
    if !letter.code.is_empty() {
        let reason = Reason { node: letter.node, code: known_code(&letter.code), message: letter.message };
        event.meta.get_or_insert_default().error = Some(Arc::new(reason));
    }
    Some((origin, event))
}

/// The code as the program's own word. A binary has some dozens; those of another binary are kept, up to a bound.
fn known_code(code: &str) -> &'static str {
    const MOST: usize = 1024;
    static KNOWN: Mutex<Vec<&'static str>> = Mutex::new(Vec::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = known.iter().find(|known| **known == code) {
        return known;
    }
    if known.len() == MOST {
        return "unknown";
    }
    let code: &'static str = String::leak(code.to_owned());
    known.push(code);
    code
}

#[cfg(test)]
mod tests;
