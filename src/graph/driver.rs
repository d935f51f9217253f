//! The shell around a [`Lane`]: it waits, reads, hands over and commits. No decision is made here that the
//! simulator does not make, too.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use tokio::sync::{oneshot, watch};

use super::exchange::{Content, InputId, Tag};
use super::lane::{Lane, ProcessingTime, Step};
use super::member::{Member, Task};
use super::plan::origin_name;
use super::prepare::{admitted, prepared};
use super::route::{Outgoing, Panicked};
use super::shared::Shared;
use super::spot::{Skip, Spot};
use crate::component::{Again, LaneEnd, Origin, Read, ReadLimit};
use crate::delivery::MemoryPermit;
use crate::error::Result;
use crate::event::Position;
use crate::failpoint::failpoint;
use crate::state::{Pressure, Resume};

/// What one read may hold. Large enough that the work per batch vanishes, small enough that many lanes fit
/// the memory budget.
pub(crate) const READ_LIMIT: ReadLimit = ReadLimit { events: 1024, bytes: 256 << 10 };
/// Batches a lane may have open; beyond it, it waits for the oldest.
const OPEN_BATCHES: usize = 256;
/// First pause before reading again what failed; doubles up to the last, with jitter.
const FIRST_BACK_OFF: Duration = Duration::from_millis(50);
const LAST_BACK_OFF: Duration = Duration::from_secs(10);

/// What goes with an event to a state partition, about: its key and the values that are found out of it, and the lists.
const EXCHANGED: usize = 512;

/// How long a lane that has read nothing yet waits before it asks where it stands.
const NOTHING_READ: Duration = Duration::from_secs(3);

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
    /// Its part in the graph's epochs, if something behind it is remembered.
    member: Option<Member>,
    /// In which generation something failed here that is to be read again in the next.
    failed: Option<Tag>,
    /// When it told processing time last.
    ticked: Duration,
    /// It has said that it has nothing for a while.
    is_idle: bool,
    /// Everything was read, and settled.
    has_ended: bool,
    /// A record that was stepped over, until that is committed.
    skipped: Option<(Position, oneshot::Sender<Result<(), String>>)>,
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
    pub fn new(lane: Lane, origin: Box<dyn Origin>, shared: Arc<Shared>, stop: Stop, member: Option<Member>) -> Driver {
        let spot = Arc::new(Spot::new(origin.id()));
        lane.source().lanes().push(spot.clone());
        Driver {
            lane,
            origin,
            shared,
            stop,
            outgoing: Vec::new(),
            next: Position(0),
            to_read_again: None,
            failures: 0,
            spot,
            member,
            failed: None,
            ticked: Duration::ZERO,
            is_idle: false,
            has_ended: false,
            skipped: None,
        }
    }

    /// Runs the lane to its end.
    ///
    /// `resume` is where what the lane remembers ends.
    pub async fn run(mut self, resume: Option<Resume>) -> LaneEnd {
        let name = origin_name(self.lane.origin());
        tracing::debug!(lane = &*name, "lane opened");
        let end = match self.begin(resume).await {
            Ok(()) => self.work().await,
            Err(why) => LaneEnd::Broken(why),
        };
        if let Some(member) = self.member.take() {
            member.epochs.leave(member.input, end == LaneEnd::Clean);
            self.close(&member).await;
        }
        if end == LaneEnd::Clean
            && self.shared.once
            && let Err(error) = self.origin.complete().await
        {
            return LaneEnd::Broken(error.to_string());
        }
        tracing::debug!(lane = &*name, ?end, "lane ended");
        end
    }

    /// Tells the state partitions that nothing more comes from here. Where there would have been more, event time stands
    /// still for it, so that what somebody else reads on with is not late; but not for ever.
    async fn close(&mut self, member: &Member) {
        let (input, waits) = (member.input, !self.has_ended);
        self.lane.tell_shards(&mut self.outgoing, || Content::Close { waits });
        // The generation as it is now: what is left of one in which something failed is worth nothing.
        self.shared.send(&mut self.outgoing, (input, member.latest_tag())).await;
        let Some(limit) = self.shared.idle_timeout.filter(|_| waits) else { return };
        let (shared, epochs, mut idle) = (self.shared.clone(), member.epochs.clone(), Vec::new());
        self.lane.tell_shards(&mut idle, || Content::Idle);
        if !idle.is_empty() {
            tokio::spawn(async move {
                shared.clock.sleep(limit).await;
                let tag = epochs.signal().borrow().tag;
                shared.send(&mut idle, (input, tag)).await;
            });
        }
    }

    async fn work(&mut self) -> LaneEnd {
        loop {
            match self.read_all().await {
                ReadingOver::Broken(why) => {
                    // What was read before is good.
                    self.drain(self.shared.drain).await;
                    return LaneEnd::Broken(why);
                }
                ReadingOver::Stopped(limit) => return self.drain(limit).await,
                // A rewind while draining means there is more to read after all.
                ReadingOver::Ended => match self.settle_all().await {
                    ControlFlow::Continue(()) => continue,
                    ControlFlow::Break(end) => return end,
                },
            }
        }
    }

    /// Begins behind what the lane remembers.
    async fn begin(&mut self, resume: Option<Resume>) -> Result<(), String> {
        let Some(resume) = resume else { return Ok(()) };
        let position = resume.position;
        self.resume(resume).await.map_err(|error| error.to_string())?;
        tracing::info!(lane = origin_name(self.lane.origin()), position = position.0, "going on behind the checkpoint");
        self.next = position;
        self.lane.begin(position, &mut self.outgoing);
        self.send().await;
        Ok(())
    }

    /// Who it is to state partitions.
    fn from(&self) -> (InputId, Tag) {
        self.member.as_ref().map_or_else(Default::default, |member| (member.input, member.tag))
    }

    /// Hands over what the lane put out.
    async fn send(&mut self) {
        let from = self.from();
        send_all(&self.shared, &mut self.lane, &mut self.outgoing, from).await;
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
            // With epochs there is a checkpoint to go back to: nothing has to be settled first.
            let most_open = if careful && self.member.is_none() { 1 } else { OPEN_BATCHES };
            let pressure = self.lane.pressure();
            if pressure >= Pressure::High {
                self.member.iter().for_each(Member::hurry);
                // Who writes the checkpoint waits on this very thread, where there is always more to read.
                tokio::task::yield_now().await;
            }
            let may_read = self.lane.open_batches() < most_open && !self.awaits_rewind() && pressure != Pressure::Full;
            let limit = if careful { ReadLimit { events: 1, ..READ_LIMIT } } else { READ_LIMIT };
            let is_lost = self.spot.next().is_none();
            let until_idle = self.until_idle();
            let until_tick = if may_read { self.until_tick() } else { None };
            let read = tokio::select! {
                biased;
                limit = self.stop.wait() => return ReadingOver::Stopped(limit),
                () = settlements.changed() => continue,
                () = changed(&mut self.member) => continue,
                skip = self.spot.asked() => match self.skip(skip).await {
                    Ok(()) => continue,
                    Err(error) => return ReadingOver::Broken(error),
                },
                () = async { self.shared.clock.sleep(until_idle.unwrap_or_default()).await }, if until_idle.is_some() => {
                    self.say_idle().await;
                    continue;
                }
                () = async { self.shared.clock.sleep(until_tick.unwrap_or_default()).await }, if until_tick.is_some() => {
                    self.tick().await;
                    continue;
                }
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
            let exchanged = if self.lane.exchanges().next().is_some() { EXCHANGED } else { 0 };
            let size = read.events.iter().map(|event| event.size() + exchanged).sum();
            let permit = match self.permit(size).await {
                Ok(Some(permit)) => permit,
                // Everything from the last checkpoint on is read again, and this with it.
                Ok(None) => continue,
                Err(over) => {
                    self.to_read_again = self.to_read_again.max(Some(read.last.next()));
                    return over;
                }
            };
            if let Some(member) = &mut self.member {
                member.touch(read.first);
            }
            self.is_idle = false;
            self.next = read.last.next();
            self.spot.note(self.next, self.origin.lag());
            self.look_at_clock();
            let from = self.from();
            let Driver { lane, shared, outgoing, stop, next, to_read_again, .. } = self;
            let trouble = lane.source().trouble.clone();
            let process_and_send = async {
                let events = admitted(prepared(read.events, &trouble, &*shared.clock).await);
                lane.process_again(Again { events, ..read }, Some(permit), outgoing);
                send_all(shared, lane, outgoing, from).await;
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

    /// Waits for memory. Barriers do not wait with it: what other lanes sent behind theirs may be what holds the memory.
    /// `None`: all lanes went back meanwhile.
    async fn permit(&mut self, size: usize) -> Result<Option<MemoryPermit>, ReadingOver> {
        let settlements = self.lane.settlements();
        loop {
            let generation = self.member.as_ref().map(|member| member.tag);
            tokio::select! {
                biased;
                permit = self.shared.memory.acquire(size) => return Ok(Some(permit)),
                limit = self.stop.wait() => {
                    let permit = tokio::time::timeout(limit, self.shared.memory.acquire(size)).await;
                    return permit.map(Some).map_err(|_late| ReadingOver::Stopped(Duration::ZERO));
                }
                () = changed(&mut self.member) => self.follow().await.map_err(ReadingOver::Broken)?,
                () = settlements.changed(), if generation.is_some() => self.settle().await.map_err(ReadingOver::Broken)?,
            }
            if self.member.as_ref().map(|member| member.tag) != generation || self.awaits_rewind() {
                return Ok(None);
            }
        }
    }

    /// Does what the settlements so far ask for.
    async fn settle(&mut self) -> Result<(), String> {
        while let Some(step) = self.lane.settle() {
            match (step, &mut self.member) {
                (Step::Commit(_), Some(member)) => {
                    self.failures = 0;
                    member.note_settled(&self.lane);
                }
                (Step::Commit(position), None) => {
                    self.failures = 0;
                    self.to_read_again = self.to_read_again.filter(|until| position < *until);
                    self.commit(position).await;
                }
                (Step::Rewind(_), Some(member)) => {
                    self.to_read_again = self.to_read_again.max(Some(self.next));
                    self.failed = Some(member.tag);
                    member.fail(Panicked::Event);
                }
                (Step::Rewind(position), None) => self.read_again(position).await?,
            }
        }
        self.follow().await
    }

    /// Whether what would be read next is of no use: something in front of it failed.
    fn awaits_rewind(&self) -> bool {
        let has_failed = |member: &Member| self.failed == Some(member.tag);
        self.lane.awaits_rewind() || self.member.as_ref().is_some_and(has_failed)
    }

    async fn read_again(&mut self, position: Position) -> Result<(), String> {
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
        Ok(())
    }

    /// Does what the graph's epochs ask for.
    async fn follow(&mut self) -> Result<(), String> {
        let Some(member) = &mut self.member else { return Ok(()) };
        if let Some(panicked) = self.lane.panicked() {
            self.to_read_again = self.to_read_again.max(Some(self.next));
            member.fail(panicked);
        }
        while let Some(member) = &mut self.member
            && let Some(task) = member.next(&mut self.lane)
        {
            match task {
                Task::Tell(epoch) => {
                    let position = member.has_begun().then_some(self.next);
                    let place = position.map(|position| Resume { position, bookmark: self.origin.bookmark(position) });
                    member.tell(epoch, &mut self.lane, place, &mut self.outgoing);
                    self.send().await;
                }
                Task::Commit(position) => {
                    self.to_read_again = self.to_read_again.filter(|until| position < *until);
                    self.commit(position).await;
                }
                Task::Rewind(position, is_careful) => {
                    self.lane.rewind(is_careful.then_some(self.next));
                    if let Some(position) = position {
                        self.read_again(position).await?;
                        self.lane.begin(position, &mut self.outgoing);
                        self.send().await;
                    }
                }
                Task::Break => return Err("the state cannot be written".to_owned()),
            }
        }
        Ok(())
    }

    /// How long until event time does not wait for this lane any more, if that may be.
    fn until_idle(&self) -> Option<Duration> {
        let may = self.member.is_some() && !self.is_idle && self.lane.exchanges().next().is_some();
        // Caught up, with a peer that answers: an outage is no silence.
        let is_silent = || self.origin.lag() == Some(0) && self.lane.source().trouble.get().is_none();
        self.shared.idle_timeout.filter(|_| may && is_silent())
    }

    async fn say_idle(&mut self) {
        self.is_idle = true;
        self.lane.tell_shards(&mut self.outgoing, || Content::Idle);
        self.send().await;
    }

    /// How long until processing time is to be told, if somebody waits for that: a lane with a place to go back to tells it.
    fn until_tick(&self) -> Option<Duration> {
        let ticks = self.shared.ticks.filter(|_| !self.shared.once)?;
        let member = self.member.as_ref()?;
        member.has_begun().then(|| (self.ticked + ticks).saturating_sub(self.shared.clock.uptime()))
    }

    /// Notes what time it is, if somebody waits for that.
    fn look_at_clock(&mut self) {
        if self.shared.ticks.is_some() {
            let clock = &self.shared.clock;
            self.ticked = clock.uptime();
            let of_data = self.shared.once;
            let now = if of_data { ProcessingTime::OfData } else { ProcessingTime::Is(clock.now()) };
            self.lane.set_processing_time(now);
        }
    }

    async fn tick(&mut self) {
        self.look_at_clock();
        if let Some(member) = &mut self.member {
            member.touch(self.next);
        }
        self.lane.tick(self.next, &mut self.outgoing);
        self.send().await;
    }

    async fn commit(&mut self, position: Position) {
        if let Some((_, answer)) = self.skipped.take_if(|(skipped, _)| *skipped < position) {
            let _gone = answer.send(Ok(()));
        }
        failpoint("commit");
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
        if let Some(member) = &mut self.member {
            member.touch(position);
        }
        self.lane.skip(position, reason, &mut self.outgoing);
        self.send().await;
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

    /// After the end of the origin: everything that waits for time is due; waits until all is settled.
    async fn settle_all(&mut self) -> ControlFlow<LaneEnd> {
        let settlements = self.lane.settlements();
        if let Some(member) = &mut self.member {
            member.touch(self.next);
            self.lane.end(self.next, &mut self.outgoing);
            self.send().await;
        }
        loop {
            let generation = self.member.as_ref().map(|member| member.tag);
            let before = self.next;
            if let Err(error) = self.settle().await {
                return ControlFlow::Break(LaneEnd::Broken(error));
            }
            if self.next != before || self.member.as_ref().map(|member| member.tag) != generation {
                return ControlFlow::Continue(());
            }
            if self.is_done() {
                self.has_ended = true;
                return ControlFlow::Break(LaneEnd::Clean);
            }
            self.shared.flush_sinks();
            tokio::select! {
                () = settlements.changed() => {}
                () = changed(&mut self.member) => {}
                limit = self.stop.wait() => return ControlFlow::Break(self.drain(limit).await),
            }
        }
    }

    /// Whether all is settled, and durable where something is remembered.
    fn is_done(&self) -> bool {
        if self.lane.open_batches() > 0 || self.awaits_rewind() {
            return false;
        }
        self.member.as_ref().is_none_or(Member::is_written)
    }

    /// Reads no more; settles and commits what it can within `limit`.
    async fn drain(&mut self, limit: Duration) -> LaneEnd {
        let settlements = self.lane.settlements();
        let deadline = self.shared.clock.sleep(limit);
        tokio::pin!(deadline);
        self.shared.flush_sinks();
        let generation = self.member.as_ref().map(|member| member.tag);
        loop {
            // A failed batch is not read again here: it stays uncommitted for whoever reads next.
            if self.member.is_none() {
                while let Some(step) = self.lane.settle() {
                    match step {
                        Step::Rewind(_) => return LaneEnd::Unsettled,
                        Step::Commit(position) => self.commit(position).await,
                    }
                }
            } else if let Err(error) = self.settle().await {
                return LaneEnd::Broken(error);
            }
            if self.member.as_ref().map(|member| member.tag) != generation {
                return LaneEnd::Unsettled;
            }
            if self.is_done() {
                return if self.to_read_again.is_none() { LaneEnd::Clean } else { LaneEnd::Unsettled };
            }
            tokio::select! {
                () = settlements.changed() => {}
                () = changed(&mut self.member) => {}
                () = &mut deadline => return LaneEnd::Unsettled,
            }
        }
    }
}

/// Hands over what a lane put out, and what it goes on to put out.
async fn send_all(shared: &Shared, lane: &mut Lane, outgoing: &mut Vec<Outgoing>, from: (InputId, Tag)) {
    shared.send(outgoing, from).await;
    while lane.go_on(outgoing) {
        shared.send(outgoing, from).await;
    }
}

/// Resolves when the graph's epochs may ask for something.
async fn changed(member: &mut Option<Member>) {
    match member {
        Some(member) => member.changed().await,
        None => std::future::pending().await,
    }
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
