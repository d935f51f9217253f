//! A lane: one origin, the route behind it, and the ledger of what is settled.

use std::sync::Arc;

use vrl::value::Value;

use super::route::{Node, Outgoing, Route};
use crate::component::Again;
use crate::config::Port;
use crate::delivery::{Ledger, MemoryPermit, Progress, Receipt, RejectedBatch, Settlements};
use crate::error::Result;
use crate::event::{Batch, Body, Event, OriginId, Position, Rejected, Timestamp};
use crate::state::{GraphState, LaneState, Resume};

/// A lane as a synchronous machine. Its owner reads, hands events in, carries out what comes out, and does
/// what [`Lane::settle`] says.
pub struct Lane {
    origin: Arc<OriginId>,
    source: Arc<Node>,
    route: Route,
    /// Of a lane that remembers, and shall know it after a restart.
    state: Option<LaneState>,
    ledger: Ledger,
    settlements: Arc<Settlements>,
    watermark: Timestamp,
    /// Set when a transform panicked: events up to here are processed one by one.
    careful_until: Option<Position>,
    panicked: bool,
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
            state: None,
            ledger: Ledger::default(),
            settlements: Arc::default(),
            watermark: Timestamp::MIN,
            careful_until: None,
            panicked: false,
        }
    }

    /// Brings back what the lane's transforms remembered at the last checkpoint, and gives the place that belongs to it.
    /// A lane that remembers nothing has none.
    pub fn restore(&mut self, state: &Arc<GraphState>) -> Result<Option<Resume>> {
        let parts = self.route.parts();
        if parts.is_empty() {
            return Ok(None);
        }
        let (state, resume) = state.lane(&self.origin, parts)?;
        self.state = Some(state);
        Ok(resume)
    }

    /// Whether commits have to wait for a [`checkpoint`](Self::checkpoint).
    pub fn is_durable(&self) -> bool {
        self.state.is_some()
    }

    /// Makes durable what the lane remembers of everything below `resume`, the last position it was told to commit.
    /// After an error the lane cannot go on.
    pub fn checkpoint(&mut self, resume: &Resume) -> Result<()> {
        match &mut self.state {
            Some(state) => state.write(self.route.parts(), resume),
            None => Ok(()),
        }
    }

    /// Takes events just read through the route. What leaves goes to `out`; the events' memory is given
    /// back with `permit` when they are settled.
    pub fn process(&mut self, events: Vec<Event>, permit: Option<MemoryPermit>, out: &mut Vec<Outgoing>) {
        if let Some(again) = Again::own(self.origin.clone(), events) {
            self.process_again(again, permit, out);
        }
    }

    /// The same for events that stand elsewhere in the lane's log than they say.
    pub(crate) fn process_again(&mut self, again: Again, permit: Option<MemoryPermit>, out: &mut Vec<Outgoing>) {
        let Again { origin, first, last, events } = again;
        let single = events.len() == 1;
        let receipt = self.open(first, last, permit);
        self.watermark = events.iter().map(|event| event.time).max().map_or(self.watermark, |t| t.max(self.watermark));
        let books = &self.source.books;
        books.received(events.len());
        books.passed(events.len());
        books.emitted(events.len());
        self.source.tap.see(Port::Main, &origin, &events);
        let batch = Batch { origin, receipt, watermark: self.watermark, events };
        let alone = single && (self.ledger.open_batches() == 1 || self.careful_until.is_some());
        let before = out.len();
        if self.route.process(batch, alone, out).is_err() {
            // What the panicking batch had put out already is taken back with it.
            for item in out.drain(before..) {
                if let Outgoing::DeadLetters { node, batch } = item {
                    node.books.failed(batch.rejected.len());
                }
            }
            self.panicked = true;
        }
    }

    /// Begins an epoch of what stands at `first..=last`.
    fn open(&mut self, first: Position, last: Position, permit: Option<MemoryPermit>) -> Receipt {
        let number = self.ledger.open(first, last);
        for (_, _, part) in self.route.parts() {
            part.begin(number);
        }
        Receipt::new(number, self.settlements.clone(), permit)
    }

    /// Enters a record that is stepped over unread: a dead letter without a body.
    pub(crate) fn skip(&mut self, position: Position, reason: String, out: &mut Vec<Outgoing>) {
        let receipt = self.open(position, position, None);
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
            Progress::Commit { position, epoch } => {
                for (_, _, part) in self.route.parts() {
                    part.commit(epoch);
                }
                Some(Step::Commit(position))
            }
            Progress::Rewind { position, until } => {
                for (_, _, part) in self.route.parts() {
                    part.abort();
                }
                if std::mem::take(&mut self.panicked) {
                    self.careful_until = Some(until);
                }
                Some(Step::Rewind(position))
            }
        }
    }

    /// Whether the next read may hold one event only, after everything before it is settled: a transform
    /// panicked, and the event that makes it panic is to be found.
    pub fn is_careful_at(&mut self, next: Position) -> bool {
        if self.careful_until.is_some_and(|until| next > until) {
            self.careful_until = None;
        }
        self.careful_until.is_some()
    }

    /// Whether a batch failed before all transforms saw it. What stands behind it is not to be processed until it is read
    /// again: a transform with state would decide without it.
    pub fn awaits_rewind(&self) -> bool {
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
