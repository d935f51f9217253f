//! The shell around a [`Lane`]: it waits, reads, hands over and commits. No decision is made here that the
//! simulator does not make, too.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use tokio::sync::{oneshot, watch};

use super::dead_letters::DeadLettersPort;
use super::lane::{Lane, Step};
use super::plan::origin_name;
use super::route::Outgoing;
use super::spot::{Skip, Spot};
use crate::component::{Again, LaneEnd, Origin, Read, ReadLimit, Sink, Trouble};
use crate::config::Port;
use crate::delivery::MemoryBudget;
use crate::error::Result;
use crate::event::{Body, Codec, Event, Position};
use crate::state::{Clock, Resume};

/// What one read may hold. Large enough that the work per batch vanishes, small enough that many lanes fit
/// the memory budget.
pub(crate) const READ_LIMIT: ReadLimit = ReadLimit { events: 1024, bytes: 256 << 10 };
/// Batches a lane may have open; beyond it, it waits for the oldest.
const OPEN_BATCHES: usize = 256;
/// First pause before reading again what failed; doubles up to the last, with jitter.
const FIRST_BACK_OFF: Duration = Duration::from_millis(50);
const LAST_BACK_OFF: Duration = Duration::from_secs(10);

/// How long a lane that has read nothing yet waits before it asks where it stands.
const NOTHING_READ: Duration = Duration::from_secs(3);

/// What lanes share.
pub(crate) struct Shared {
    /// By node number; `None` where the node is no sink.
    pub sinks: Vec<Option<Arc<dyn Sink>>>,
    pub nodes: Vec<Arc<super::route::Node>>,
    pub dead_letters: DeadLettersPort,
    pub memory: MemoryBudget,
    pub clock: Arc<dyn Clock>,
    /// How long what a lane remembers may wait to be written.
    pub checkpoint_every: Duration,
    /// Time a lane that ends by itself is given to settle what it holds.
    pub drain: Duration,
    pub once: bool,
}

impl Shared {
    /// Hands everything over; waits where a sink has no room.
    pub async fn send(&self, outgoing: &mut Vec<Outgoing>) {
        for item in outgoing.drain(..) {
            match item {
                Outgoing::Sink { sink, batch } => {
                    self.nodes[sink].books.received(batch.events.len());
                    self.nodes[sink].tap.see(Port::Main, &batch.origin, &batch.events);
                    if let Some(sink) = &self.sinks[sink] {
                        sink.write(batch).await;
                    }
                }
                // The port is only gone when the process is; the receipt's drop says failed.
                Outgoing::DeadLetters { node, batch } => drop(self.dead_letters.send((node, batch)).await),
            }
        }
    }
}

/// How long to pause after `failures` failures in a row: doubling, with full jitter above half.
pub(crate) fn back_off(failures: u32) -> Duration {
    let ceiling = FIRST_BACK_OFF.saturating_mul(1 << failures.min(16)).min(LAST_BACK_OFF);
    ceiling.mul_f64(rand::rng().random_range(0.5..1.0))
}

/// One lane at work.
pub(crate) struct Driver {
    pub lane: Lane,
    pub origin: Box<dyn Origin>,
    pub shared: Arc<Shared>,
    stop: Stop,
    outgoing: Vec<Outgoing>,
    /// What is read next.
    next: Position,
    /// Events that were read, failed, and wait to be read again: a lane that ends now is not clean.
    to_read_again: Option<Position>,
    failures: u32,
    spot: Arc<Spot>,
    /// What is settled and not yet committed, because a checkpoint has to come first.
    unwritten: Option<Unwritten>,
    /// A record that was stepped over, until that is committed.
    skipped: Option<(Position, oneshot::Sender<Result<(), String>>)>,
}

/// What the next checkpoint of a lane will cover.
struct Unwritten {
    /// Everything below is settled.
    position: Position,
    /// When the first of it was, on the clock's uptime.
    since: Duration,
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.lane.source().lanes().retain(|spot| !Arc::ptr_eq(spot, &self.spot));
    }
}

/// Why the reading part of a lane is over.
enum ReadingOver {
    Ended,
    Stopped(Duration),
    Broken(String),
}

impl Driver {
    pub fn new(lane: Lane, origin: Box<dyn Origin>, shared: Arc<Shared>, stop: Stop) -> Driver {
        let (outgoing, next) = (Vec::new(), Position(0));
        let spot = Arc::new(Spot::new(origin.id()));
        lane.source().lanes().push(spot.clone());
        let (to_read_again, unwritten, skipped) = (None, None, None);
        Driver { lane, origin, shared, stop, outgoing, next, to_read_again, failures: 0, spot, unwritten, skipped }
    }

    /// Runs the lane to its end.
    ///
    /// `resume` is where what the lane remembers ends.
    pub async fn run(mut self, resume: Option<Resume>) -> LaneEnd {
        let name = origin_name(self.lane.origin());
        tracing::debug!(lane = &*name, "lane opened");
        if let Some(resume) = resume
            && let Err(error) = self.resume(resume).await
        {
            return LaneEnd::Broken(error.to_string());
        }
        let end = loop {
            match self.read_all().await {
                ReadingOver::Broken(why) => {
                    // What was read before is good.
                    self.drain(self.shared.drain).await;
                    break LaneEnd::Broken(why);
                }
                ReadingOver::Stopped(limit) => break self.drain(limit).await,
                // A rewind while draining means there is more to read after all.
                ReadingOver::Ended => match self.settle_all().await {
                    ControlFlow::Continue(()) => continue,
                    ControlFlow::Break(end) => break end,
                },
            }
        };
        if end == LaneEnd::Clean
            && self.shared.once
            && let Err(error) = self.origin.complete().await
        {
            return LaneEnd::Broken(error.to_string());
        }
        tracing::debug!(lane = &*name, ?end, "lane ended");
        end
    }

    /// Begins behind what the lane remembers, whatever was committed; waits while the origin cannot be reached.
    async fn resume(&mut self, Resume { position, bookmark }: Resume) -> Result<()> {
        loop {
            match self.origin.resume(position, &bookmark).await {
                Err(error) if error.is_temporary() => {
                    tracing::warn!(lane = origin_name(self.lane.origin()), %error, "cannot go on yet, trying again");
                    self.pause().await;
                }
                result => return result,
            }
        }
    }

    /// Reads and processes until there is no more, or a stop, or an error of the origin.
    async fn read_all(&mut self) -> ReadingOver {
        let settlements = self.lane.settlements();
        loop {
            if let Err(error) = self.settle().await {
                return ReadingOver::Broken(error);
            }
            let careful = self.lane.is_careful_at(self.next);
            let most_open = if careful { 1 } else { OPEN_BATCHES };
            let may_read = self.lane.open_batches() < most_open && !self.lane.awaits_rewind();
            let limit = if careful { ReadLimit { events: 1, ..READ_LIMIT } } else { READ_LIMIT };
            let is_lost = self.spot.next().is_none();
            let until_checkpoint = self.until_checkpoint();
            let read = tokio::select! {
                biased;
                limit = self.stop.wait() => return ReadingOver::Stopped(limit),
                () = settlements.changed() => continue,
                skip = self.spot.asked() => match self.skip(skip).await {
                    Ok(()) => continue,
                    Err(error) => return ReadingOver::Broken(error),
                },
                () = async { self.shared.clock.sleep(until_checkpoint.unwrap_or_default()).await },
                    if until_checkpoint.is_some() => match self.checkpoint().await {
                        Ok(()) => continue,
                        Err(error) => return ReadingOver::Broken(error),
                    },
                // Made when it is waited for: a lane that has read never pays for it.
                () = async { self.shared.clock.sleep(NOTHING_READ).await }, if is_lost => {
                    self.find_out().await;
                    continue;
                }
                read = self.origin.read(limit), if may_read => read,
            };
            let read = match read {
                Ok(Read::Events(events)) => Again::own(self.lane.origin().clone(), events),
                Ok(Read::Again(again)) => Some(again),
                Ok(Read::End) => return ReadingOver::Ended,
                Err(error) if error.is_temporary() => {
                    tracing::warn!(lane = origin_name(self.lane.origin()), %error, "read failed, trying again");
                    self.pause().await;
                    continue;
                }
                Err(error) => return ReadingOver::Broken(error.to_string()),
            };
            let Some(read) = read else { continue };
            self.next = read.last.next();
            self.spot.note(self.next, self.origin.lag());
            let size = read.events.iter().map(Event::size).sum();
            let Driver { lane, shared, outgoing, stop, next, to_read_again, .. } = self;
            let trouble = lane.source().trouble.clone();
            let process_and_send = async {
                let events = prepared(read.events, &trouble, shared).await;
                let permit = shared.memory.acquire(size).await;
                lane.process_again(Again { events, ..read }, Some(permit), outgoing);
                shared.send(outgoing).await;
            };
            tokio::pin!(process_and_send);
            // A sink that takes nothing must not keep the lane from stopping; what it has not taken fails.
            tokio::select! {
                () = &mut process_and_send => {}
                limit = stop.wait() => {
                    if tokio::time::timeout(limit, process_and_send).await.is_err() {
                        *to_read_again = Some(*next);
                    }
                    return ReadingOver::Stopped(limit);
                }
            }
        }
    }

    /// Does what the settlements so far ask for.
    async fn settle(&mut self) -> Result<(), String> {
        while let Some(step) = self.lane.settle() {
            match step {
                Step::Commit(position) => {
                    self.failures = 0;
                    self.to_read_again = self.to_read_again.filter(|until| position < *until);
                    self.settled(position).await?;
                }
                Step::Rewind(position) => {
                    tracing::warn!(lane = origin_name(self.lane.origin()), position = position.0, "reading again");
                    self.to_read_again = self.to_read_again.max(Some(self.next));
                    self.pause().await;
                    self.origin.seek(position).await.map_err(|error| error.to_string())?;
                    self.next = position;
                    self.spot.note(position, self.origin.lag());
                    // What was stepped over is to be read again, too.
                    if let Some((_, answer)) = self.skipped.take() {
                        let _gone = answer.send(Err("an event before it failed: ask once more".to_owned()));
                    }
                }
            }
        }
        Ok(())
    }

    /// Everything below `position` is settled: commits it, or has it wait for the next checkpoint.
    async fn settled(&mut self, position: Position) -> Result<(), String> {
        if !self.lane.is_durable() {
            self.commit(position).await;
            return Ok(());
        }
        let now = self.shared.clock.uptime();
        self.unwritten.get_or_insert(Unwritten { position, since: now }).position = position;
        match self.until_checkpoint() {
            Some(Duration::ZERO) => self.checkpoint().await,
            _ => Ok(()),
        }
    }

    /// How long the next checkpoint may wait; `None` when there is nothing to write.
    fn until_checkpoint(&self) -> Option<Duration> {
        let Unwritten { since, .. } = self.unwritten.as_ref()?;
        let waited = self.shared.clock.uptime().saturating_sub(*since);
        Some(self.shared.checkpoint_every.saturating_sub(waited))
    }

    /// Writes what the lane remembers of all that is settled, and then commits that.
    async fn checkpoint(&mut self) -> Result<(), String> {
        let Some(Unwritten { position, .. }) = self.unwritten.take() else { return Ok(()) };
        let resume = Resume { position, bookmark: self.origin.bookmark(position) };
        let lane = &mut self.lane;
        tokio::task::block_in_place(|| lane.checkpoint(&resume)).map_err(|error| error.to_string())?;
        self.commit(position).await;
        Ok(())
    }

    async fn commit(&mut self, position: Position) {
        if let Some((_, answer)) = self.skipped.take_if(|(skipped, _)| *skipped < position) {
            let _gone = answer.send(Ok(()));
        }
        if let Err(error) = self.origin.commit(position).await {
            // Committing later, or not at all, costs duplicates after a restart and nothing else.
            tracing::warn!(lane = origin_name(self.lane.origin()), %error, "commit failed");
        }
    }

    /// Steps over a record, if it is the one to be read next.
    async fn skip(&mut self, skip: Skip) -> Result<(), String> {
        let Skip { position, reason, answer } = skip;
        if self.spot.next().is_none() {
            self.find_out().await;
        }
        let refused = match self.spot.next() {
            Some(next) if next == position => None,
            Some(next) => Some(format!("the lane stands at {}, not at {}: nothing was skipped", next.0, position.0)),
            None => Some("it is not known where the lane stands: nothing was skipped".to_owned()),
        };
        if let Some(refused) = refused {
            let _gone = answer.send(Err(refused));
            return Ok(());
        }
        tracing::warn!(lane = origin_name(self.lane.origin()), position = position.0, reason, "stepping over a record");
        self.lane.skip(position, reason, &mut self.outgoing);
        self.shared.send(&mut self.outgoing).await;
        self.skipped = Some((position, answer));
        self.origin.seek(position.next()).await.map_err(|error| error.to_string())?;
        self.next = position.next();
        self.spot.note(self.next, self.origin.lag());
        Ok(())
    }

    /// Asks the origin where it stands, when no event has told yet.
    async fn find_out(&mut self) {
        if let Some(position) = self.origin.position().await {
            self.spot.note(position, self.origin.lag());
        }
    }

    async fn pause(&mut self) {
        let pause = self.shared.clock.sleep(back_off(self.failures));
        self.failures = self.failures.saturating_add(1);
        tokio::select! {
            () = pause => {}
            _ = self.stop.wait() => {}
        }
    }

    /// After the end of the origin: waits until all is settled.
    async fn settle_all(&mut self) -> ControlFlow<LaneEnd> {
        let settlements = self.lane.settlements();
        loop {
            let before = self.next;
            if let Err(error) = self.settle().await {
                return ControlFlow::Break(LaneEnd::Broken(error));
            }
            if self.next != before {
                return ControlFlow::Continue(());
            }
            if self.lane.open_batches() == 0 {
                return ControlFlow::Break(self.checkpoint().await.map_or_else(LaneEnd::Broken, |()| LaneEnd::Clean));
            }
            self.flush_sinks();
            tokio::select! {
                () = settlements.changed() => {}
                limit = self.stop.wait() => return ControlFlow::Break(self.drain(limit).await),
            }
        }
    }

    /// Reads no more; settles and commits what it can within `limit`.
    async fn drain(&mut self, limit: Duration) -> LaneEnd {
        let end = self.settle_within(limit).await;
        match self.checkpoint().await {
            Ok(()) => end,
            Err(error) => LaneEnd::Broken(error),
        }
    }

    async fn settle_within(&mut self, limit: Duration) -> LaneEnd {
        let settlements = self.lane.settlements();
        let deadline = self.shared.clock.sleep(limit);
        tokio::pin!(deadline);
        self.flush_sinks();
        loop {
            // A failed batch is not read again here: it stays uncommitted for whoever reads next.
            while let Some(step) = self.lane.settle() {
                match step {
                    Step::Rewind(_) => return LaneEnd::Unsettled,
                    Step::Commit(position) => {
                        if let Err(error) = self.settled(position).await {
                            return LaneEnd::Broken(error);
                        }
                    }
                }
            }
            if self.lane.open_batches() == 0 {
                return if self.to_read_again.is_none() { LaneEnd::Clean } else { LaneEnd::Unsettled };
            }
            tokio::select! {
                () = settlements.changed() => {}
                () = &mut deadline => return LaneEnd::Unsettled,
            }
        }
    }

    /// Asks every sink to send out what it holds back; does not wait for it.
    fn flush_sinks(&self) {
        for sink in self.shared.sinks.iter().flatten() {
            let sink = sink.clone();
            tokio::spawn(async move { sink.flush().await });
        }
    }
}

/// The events with decoders that have all they need from peers. Waits as long as a peer cannot be asked.
async fn prepared(mut events: Vec<Event>, trouble: &Trouble, shared: &Shared) -> Vec<Event> {
    // All events of one origin have the same decoder.
    let raw = events.iter().find_map(|event| match &event.body {
        Body::Raw(_, codec) => Some(codec),
        Body::Parsed(_) => None,
    });
    if !raw.and_then(Codec::decoder).is_some_and(|decoder| decoder.must_prepare()) {
        return events;
    }
    let mut said = None;
    let mut failures = 0;
    for event in &mut events {
        let Body::Raw(bytes, Codec::Other(decoder)) = &mut event.body else { continue };
        *decoder = loop {
            match decoder.prepare(bytes).await {
                Ok(ready) => break ready,
                Err(error) => {
                    let why = error.to_string();
                    if said.as_ref() != Some(&why) {
                        tracing::warn!(%error, "waiting");
                    }
                    trouble.set(&*why);
                    said = Some(why);
                    shared.clock.sleep(back_off(failures)).await;
                    failures = failures.saturating_add(1);
                }
            }
        };
    }
    // It may be another's by now.
    if said.is_some() && trouble.get() == said {
        trouble.clear();
    }
    events
}

/// Who may stop a lane: its source (a revoked partition) and the graph (shutdown).
pub(crate) struct Stop {
    pub source: watch::Receiver<Option<Duration>>,
    pub graph: watch::Receiver<Option<Duration>>,
}

impl Stop {
    /// Resolves when the lane is to stop, with the limit for draining.
    async fn wait(&mut self) -> Duration {
        tokio::select! {
            limit = asked(&mut self.source) => limit,
            limit = asked(&mut self.graph) => limit,
        }
    }
}

async fn asked(stop: &mut watch::Receiver<Option<Duration>>) -> Duration {
    let limit = stop.wait_for(Option::is_some).await.ok().and_then(|limit| *limit);
    match limit {
        Some(limit) => limit,
        // Whoever could ask is gone without having asked.
        None => std::future::pending().await,
    }
}
