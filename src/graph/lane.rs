//! A lane: one origin, the route behind it up to the next exchanges, and the ledger of what is settled.

use std::sync::Arc;

use vrl::value::Value;

use super::exchange::Content;
use super::route::{Node, Outgoing, Panicked, Route};
use crate::component::{Again, Times};
use crate::config::Port;
use crate::delivery::{Ledger, MemoryPermit, Outcome, Progress, Receipt, RejectedBatch, Settlements};
use crate::error::Result;
use crate::event::{Batch, Body, Event, OriginId, Position, Rejected, Timestamp};
use crate::state::{Changes, Front, GraphState, Kept, NamedPart, Pressure, Resume, StatePart};

/// A lane as a synchronous machine. Its owner reads, hands events in, carries out what comes out, and does
/// what [`Lane::settle`] says.
///
/// A lane behind which something is remembered belongs to the graph's epochs: it commits, and goes back,
/// with all the others.
pub struct Lane {
    origin: Arc<OriginId>,
    source: Arc<Node>,
    route: Route,
    kept: Kept,
    ledger: Ledger,
    settlements: Arc<Settlements>,
    front: Front,
    now: ProcessingTime,
    /// Nothing has come for a while, and nothing is on its way.
    is_silent: bool,
    /// Set when a transform panicked: events before this are processed one by one.
    careful_until: Option<Position>,
    panicked: Option<Panicked>,
}

/// What processing time is to a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProcessingTime {
    /// No node waits for it.
    Unused,
    /// That of the data.
    OfData,
    /// That of the clock.
    Is(Timestamp),
}

/// What the lane's owner is to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Commit this position to the origin.
    Commit(Position),
    /// Seek the origin to this position and read again.
    Rewind(Position),
}

impl Lane {
    /// A lane over an origin of the source `source`.
    pub fn new(origin: Arc<OriginId>, source: Arc<Node>, route: Route) -> Lane {
        Lane {
            origin,
            source,
            route,
            kept: Kept::default(),
            ledger: Ledger::default(),
            settlements: Arc::default(),
            front: Front::default(),
            now: ProcessingTime::Unused,
            is_silent: false,
            careful_until: None,
            panicked: None,
        }
    }

    /// Whether something behind it is remembered.
    pub(crate) fn is_member(&mut self) -> bool {
        self.route.exchanges().next().is_some() || !self.route.parts().is_empty()
    }

    /// Brings back what the lane's transforms remembered at the last checkpoint, and gives the place that belongs to it.
    pub(crate) fn restore(&mut self, state: &GraphState) -> Result<Option<Resume>> {
        let (kept, resume) = state.lane(&self.origin.clone(), self.parts())?;
        self.kept = kept;
        self.front.bound_time(self.route.horizon.look());
        self.route.bound_times();
        Ok(resume)
    }

    /// What it remembers itself, up to the next exchange.
    fn parts(&mut self) -> Vec<NamedPart<'_>> {
        let mut parts: Vec<NamedPart<'_>> = vec![(&self.source.id, "time", &mut self.front)];
        parts.extend(self.route.parts());
        parts
    }

    /// Goes on at `position`, where the last checkpoint was, and tells state partitions what it remembers of event time.
    pub(crate) fn begin(&mut self, position: Position, out: &mut Vec<Outgoing>) {
        self.route.begin_at(self.front.now());
        self.advance(position, self.front.now(), out);
    }

    /// From now on it is this late, for what is handed in and for what waits for nothing else.
    pub(crate) fn set_processing_time(&mut self, now: ProcessingTime) {
        self.now = now;
    }

    fn now(&self) -> Timestamp {
        match self.now {
            ProcessingTime::Unused => Timestamp::MIN,
            ProcessingTime::OfData => self.front.now(),
            ProcessingTime::Is(now) => now,
        }
    }

    /// Processing time went on, and nothing came.
    pub(crate) fn tick(&mut self, position: Position, out: &mut Vec<Outgoing>) {
        self.advance(position, self.front.now(), out);
    }

    /// Nothing has come for a while, so event time does not wait for it. What is due by the time of the others is due now;
    /// for that it needs a `position` to go back to.
    pub(crate) fn idle(&mut self, position: Option<Position>, out: &mut Vec<Outgoing>) {
        let Some(position) = position else { return self.route.tell_shards(out, || Content::Idle(None)) };
        self.is_silent = true;
        self.advance(position, self.front.now(), out);
        let receipt = self.open(position, position, None);
        self.route.tell_shards(out, || Content::Idle(Some(receipt.clone())));
        receipt.resolve(Outcome::Filtered);
    }

    /// Whether something behind it waits for time.
    pub(crate) fn is_timed(&self) -> bool {
        self.route.is_timed
    }

    /// A pass without events.
    fn advance(&mut self, position: Position, watermark: Timestamp, out: &mut Vec<Outgoing>) {
        let receipt = self.open(position, position, None);
        let times = Times { watermark, now: self.now(), is_silent: self.is_silent };
        if let Err(panicked) = self.route.advance((times, receipt), out) {
            self.panicked = Some(panicked);
        }
    }

    /// Goes on with what is due by the last pass, where that was too much for one. Whoever handed something in calls it until
    /// it gives false, and hands over what leaves in between.
    pub(crate) fn go_on(&mut self, out: &mut Vec<Outgoing>) -> bool {
        match self.route.go_on(out) {
            Some(Err(panicked)) => self.panicked = Some(panicked),
            Some(Ok(())) => {}
            None => return false,
        }
        true
    }

    /// There is no more and never will be: everything that waits for time is due.
    pub(crate) fn end(&mut self, position: Position, out: &mut Vec<Outgoing>) {
        self.advance(position, Timestamp::MAX, out);
    }

    /// The nodes whose state partitions it leads to.
    pub(crate) fn exchanges(&self) -> impl Iterator<Item = usize> + '_ {
        self.route.exchanges()
    }

    /// Tells every state partition behind it.
    pub(crate) fn tell_shards(&self, out: &mut Vec<Outgoing>, content: impl Fn() -> Content) {
        self.route.tell_shards(out, content);
    }

    /// A barrier: what it remembers, with the place it stands at. What it is handed from now on belongs to the next epoch.
    pub(crate) fn tell(&mut self, place: Option<&Resume>, epoch: u64, out: &mut Vec<Outgoing>) -> Changes {
        let mut changes = Changes::new();
        let kept = std::mem::take(&mut self.kept);
        kept.snapshot(self.parts(), &mut changes);
        if let Some(place) = place {
            kept.note_place(place, &mut changes);
        }
        self.kept = kept;
        self.route.tell_shards(out, || Content::Barrier(epoch));
        changes
    }

    /// What it told last is durable.
    pub(crate) fn written(&mut self) {
        self.parts().into_iter().for_each(|(_, _, part)| part.written());
    }

    /// How urgent the next checkpoint is to what it remembers.
    pub(crate) fn pressure(&mut self) -> Pressure {
        self.route.pressure()
    }

    /// Goes back to the last durable barrier. With `careful`, events are processed one by one as far as it had come.
    pub(crate) fn rewind(&mut self, careful: Option<Position>) {
        self.front.abort();
        self.route.rewind();
        self.ledger.rewind();
        self.settlements.take();
        self.panicked = None;
        self.is_silent = false;
        self.careful_until = self.careful_until.max(careful);
    }

    /// The number of the next batch: see [`Lane::is_settled_before`].
    pub(crate) fn next_batch(&self) -> u64 {
        self.ledger.next_batch()
    }

    /// Whether every batch with a lower number is settled.
    pub(crate) fn is_settled_before(&self, batch: u64) -> bool {
        self.ledger.is_settled_before(batch)
    }

    /// Takes events just read through the route. What leaves goes to `out`; the events' memory is given
    /// back with `permit` when they are settled.
    pub fn process(&mut self, events: Vec<Event>, permit: Option<MemoryPermit>, out: &mut Vec<Outgoing>) {
        if let Some(again) = Again::own(self.origin.clone(), events) {
            self.process_again(again, permit, out);
        }
    }

    /// The same for events that stand elsewhere in the lane's log than they say.
    pub(crate) fn process_again(&mut self, again: Again, mut permit: Option<MemoryPermit>, out: &mut Vec<Outgoing>) {
        let Again { origin, first, last, events } = again;
        if self.careful_until.is_none() || events.len() < 2 {
            return self.process_some(origin, (first, last.next()), events, permit, out);
        }
        // A record that holds several events: with the last of them it is done.
        let count = events.len();
        for (at, event) in events.into_iter().enumerate() {
            let (end, permit) = if at + 1 == count { (last.next(), permit.take()) } else { (first, None) };
            self.process_some(origin.clone(), (first, end), vec![event], permit, out);
            if self.awaits_rewind() {
                return;
            }
        }
    }

    /// One batch, which stands from the first position to before the second.
    fn process_some(
        &mut self,
        origin: Arc<OriginId>,
        (first, end): (Position, Position),
        events: Vec<Event>,
        permit: Option<MemoryPermit>,
        out: &mut Vec<Outgoing>,
    ) {
        let single = events.len() == 1;
        let receipt = self.open(first, end, permit);
        if events.is_empty() {
            return receipt.resolve(Outcome::Filtered);
        }
        let receipt = receipt.timed(&self.source.latency);
        self.is_silent = false;
        if let Some(latest) = self.route.horizon.latest_of(events.iter().map(|event| event.time)) {
            self.front.advance(latest);
        }
        let books = &self.source.books;
        books.received(events.len());
        books.passed(events.len());
        books.emitted(events.len());
        self.source.tap.see(Port::Main, &origin, &events);
        let batch = Batch { origin, receipt, watermark: self.front.now(), events };
        let alone = single && (self.ledger.open_batches() == 1 || self.careful_until.is_some());
        let now = self.now();
        if let Err(panicked) = self.route.process(batch, now, alone, out) {
            self.panicked = Some(panicked);
        }
    }

    /// Begins an epoch of what stands from `first` to before `end`.
    fn open(&mut self, first: Position, end: Position, permit: Option<MemoryPermit>) -> Receipt {
        Receipt::new(self.ledger.open(first, end), self.settlements.clone(), permit)
    }

    /// Enters a record that is stepped over unread: a dead letter without a body.
    pub(crate) fn skip(&mut self, position: Position, reason: String, out: &mut Vec<Outgoing>) {
        let receipt = self.open(position, position.next(), None);
        self.source.books.received(1);
        let event = Event::new(Body::Parsed(Value::Null), position, Timestamp::default());
        let rejected = vec![Rejected { event, code: "skipped", message: reason }];
        let batch = RejectedBatch { origin: self.origin.clone(), receipt, rejected };
        out.push(Outgoing::DeadLetters { node: self.source.clone(), batch });
    }

    /// Takes in what was settled; says what to do, one step at a time until `None`.
    pub fn settle(&mut self) -> Option<Step> {
        for settled in self.settlements.take() {
            self.ledger.settle(settled);
        }
        match self.ledger.advance()? {
            Progress::Commit(position) => Some(Step::Commit(position)),
            Progress::Rewind { position, until } => {
                if self.panicked.take().is_some() {
                    self.careful_until = Some(until);
                }
                Some(Step::Rewind(position))
            }
        }
    }

    /// Whether the next read may hold one event only, after everything before it is settled: a transform
    /// panicked, and the event that makes it panic is to be found.
    pub fn is_careful_at(&mut self, next: Position) -> bool {
        if self.careful_until.is_some_and(|until| next >= until) {
            self.careful_until = None;
        }
        self.careful_until.is_some()
    }

    /// Whether a batch failed before all transforms saw it. What stands behind it is not to be processed until it is read
    /// again: a transform with state would decide without it.
    pub fn awaits_rewind(&self) -> bool {
        self.panicked.is_some()
    }

    /// How a transform panicked, if one did.
    pub(crate) fn panicked(&self) -> Option<Panicked> {
        self.panicked
    }

    /// Processes every event as if it were the only one in flight, for runs in which nothing is read again.
    pub(crate) fn be_careful(&mut self) {
        self.careful_until = Some(Position(u64::MAX));
    }

    /// Batches that are not settled in order.
    pub fn open_batches(&self) -> usize {
        self.ledger.open_batches()
    }

    /// Where settled batches are told, to wait on.
    pub fn settlements(&self) -> Arc<Settlements> {
        self.settlements.clone()
    }

    /// The origin's identity.
    pub fn origin(&self) -> &Arc<OriginId> {
        &self.origin
    }

    /// The source node the lane belongs to.
    pub fn source(&self) -> &Arc<Node> {
        &self.source
    }
}
