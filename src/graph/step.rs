//! One transform of a route.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use metrics::counter;

use super::exchange::Collector;
use super::horizon::{Ahead, Horizon};
use super::poison::Poison;
use super::route::{Node, Outgoing, Panicked, Part, Target, errors_batch, send};
use crate::component::{Output, Row, Stateful, Times, Transform};
use crate::config::Port;
use crate::delivery::{Receipt, RejectedBatch};
use crate::event::{Batch, Event, OriginId, Rejected, Timestamp, Verdict, panic_text};
use crate::script::Expression;
use crate::state::{Front, NamedPart, Pressure};

/// What a step does with events.
pub(crate) enum Work {
    /// Decides on them.
    Do(Transform),
    /// Finds out their keys, and shares them out to the state partitions that decide.
    Share(Box<dyn Stateful>, Collector),
}

/// One transform of a route.
pub(crate) struct Step {
    pub node: Arc<Node>,
    pub work: Work,
    pub next: Vec<Target>,
    /// Who reads its named ports, by number.
    pub named: Vec<Vec<Target>>,
    /// Who listens on the `errors` port; nobody: the dead letters.
    pub errors: Vec<Target>,
    /// The steps it gets events from; `None`: what enters the route.
    pub inputs: Vec<Option<usize>>,
    /// How much older than the watermark its results may be.
    pub lateness: Duration,
    /// How far its event time may run ahead.
    pub horizon: Horizon,
    /// Event time by the node's own measure, where that is found out here.
    pub front: Option<Front>,
    /// The measure of a node further down, where event time is found out for it.
    pub time_of: Option<Expression>,
    /// Whether it is in the lane of a source: event time is then known event by event.
    pub is_in_lane: bool,
    /// What events bear that it makes.
    pub origin: Arc<OriginId>,
    /// The watermark for the steps behind it.
    pub passed_on: Timestamp,
    /// What its transform was told last.
    pub told: Times,
    /// Not everything that is due by then has happened.
    pub is_due: bool,
    /// Keys its states let go of for lack of room, so far.
    pub evicted: u64,
}

impl Step {
    /// Runs the transform on a batch, `now` as processing time is; gives what passed, and what left by other ports.
    pub fn run(
        &mut self,
        mut batch: Batch,
        rows: Option<Vec<Row>>,
        now: Timestamp,
        alone: bool,
        poison: Option<&Poison>,
    ) -> Result<(Batch, Output), Panicked> {
        let begun = Instant::now();
        let node = &self.node;
        let books = &node.books;
        let received = batch.events.len();
        // What comes by an exchange was received in front of it.
        if rows.is_none() {
            books.received(received);
        }
        let mut output = Output::with_ports(self.named.iter().map(|targets| !targets.is_empty()));
        let (mut ended, mut absorbed) = (received, 0);
        match &mut self.work {
            Work::Do(Transform::Stateless(process)) => {
                // It may be alone because it panicked before: keep what is needed to name the event.
                let only = if alone { batch.events.first().cloned() } else { None };
                crate::script::begin_batch(alone);
                let result = catch_unwind(AssertUnwindSafe(|| process(&mut batch, &mut output)));
                if crate::script::end_batch() {
                    tracing::debug!(
                        node = &*node.id,
                        "a batch decompresses to too much: its events are read one by one"
                    );
                    books.failed(received);
                    return Err(Panicked::Batch);
                }
                if let Err(panic) = result {
                    let message = panic_text(&*panic);
                    tracing::error!(node = &*self.node.id, reason = message, "a transform panicked");
                    let Some(event) = only else {
                        books.failed(received);
                        return Err(Panicked::Batch);
                    };
                    batch.events.clear();
                    output = Output { rejected: vec![Rejected { event, code: "panic", message }], ..Output::default() };
                }
            }
            Work::Do(Transform::Stateful(_)) => {
                let decided = self.decide((&mut batch, rows), now, &mut output, poison);
                absorbed = decided.inspect_err(|_| self.node.books.failed(received))?;
            }
            Work::Share(..) => {
                let rows = self.look(&mut batch, &mut output, poison);
                // Its state partitions enter these in the books.
                ended -= batch.events.len();
                let events = std::mem::take(&mut batch.events);
                let shared = batch.with_events(events);
                if let Work::Share(_, collector) = &mut self.work {
                    collector.add(shared, rows);
                }
            }
        }
        self.node.time_warnings.late(&self.node.id, output.unread_late);
        self.enter(ended, absorbed, &batch, &output);
        self.node.latency.record(begun.elapsed());
        Ok((batch, output))
    }

    /// Enters in the books what became of so many events.
    fn enter(&self, of: usize, absorbed: usize, batch: &Batch, output: &Output) {
        let (books, tap) = (&self.node.books, &self.node.tap);
        let passed = batch.events.len() + output.sent;
        books.passed(passed);
        books.absorbed(absorbed);
        books.emitted(batch.events.len() + output.named.iter().map(|named| named.events.len()).sum::<usize>());
        books.filtered(of.saturating_sub(passed + absorbed + output.rejected.len()));
        tap.see(Port::Main, &batch.origin, &batch.events);
        for (port, named) in output.named.iter().enumerate() {
            tap.see(Port::Named(port), &batch.origin, &named.events);
        }
    }

    /// What its transform has to know of each event; events of which that cannot be found out are rejected.
    fn look(&mut self, batch: &mut Batch, output: &mut Output, poison: Option<&Poison>) -> Vec<Row> {
        let Step { node, work, front, time_of, horizon, .. } = self;
        let Work::Share(transform, _) = work else { return Vec::new() };
        let mut eye = Eye::new((node, &mut **transform), (front, time_of, horizon), poison, &batch.origin);
        let mut rows = Vec::with_capacity(batch.events.len());
        output.rejected = batch.decide(|event| {
            if let Some(message) = eye.panicked_on(event) {
                return Verdict::Reject { code: "panic", message };
            }
            match eye.look(event) {
                Ok(row) => {
                    rows.push(row);
                    Verdict::Pass
                }
                Err(verdict) => verdict,
            }
        });
        node.time_warnings.ahead(&node.id, eye.ahead);
        rows
    }

    /// Has its transform decide on each event; gives how many went into state.
    fn decide(
        &mut self,
        (batch, rows): (&mut Batch, Option<Vec<Row>>),
        now: Timestamp,
        output: &mut Output,
        poison: Option<&Poison>,
    ) -> Result<usize, Panicked> {
        let Step { node, work, front, time_of, evicted, horizon, .. } = self;
        let Work::Do(Transform::Stateful(transform)) = work else { return Ok(0) };
        let (mut absorbed, mut rows, mut watermark) = (0, rows.map(Vec::into_iter), self.told.watermark);
        let mut left_out = Vec::new();
        let mut eye = Eye::new((node, &mut **transform), (front, time_of, horizon), poison, &batch.origin);
        let rejected = batch.decide(|event| {
            let row = match &mut rows {
                Some(rows) => rows.next().unwrap_or_default(),
                None => {
                    if let Some(message) = eye.panicked_on(event) {
                        left_out.push(Rejected { event: event.clone(), code: "panic", message });
                        return Verdict::Filter;
                    }
                    let row = match eye.look(event) {
                        Ok(row) => row,
                        Err(verdict) => return verdict,
                    };
                    // Event by event, so that what is late does not depend on where batches end.
                    if self.is_in_lane && !row.is_ahead {
                        watermark = watermark.max(row.time);
                    }
                    row
                }
            };
            let verdict = eye.transform.process(event, row, Times { watermark, now, is_silent: false }, output);
            absorbed += usize::from(matches!(verdict, Verdict::Absorb));
            verdict
        });
        node.time_warnings.ahead(&node.id, eye.ahead);
        if let Some(poison) = poison {
            let mut has_panicked = false;
            for Rejected { event, message, .. } in rejected.iter().filter(|rejected| rejected.code == "panic") {
                tracing::error!(node = &*node.id, reason = message, "a transform panicked: it begins again without");
                poison.note(&node.id, &batch.origin, event, message.clone());
                has_panicked = true;
            }
            if has_panicked {
                return Err(Panicked::Event);
            }
        }
        output.rejected.extend(left_out);
        output.rejected.extend(rejected);
        check_state(node, &mut **transform, evicted)?;
        Ok(absorbed)
    }

    /// The watermark by the node's own measure, given that of the lane.
    fn own_watermark(&mut self, watermark: Timestamp) -> Timestamp {
        match &mut self.front {
            Some(front) => {
                if watermark == Timestamp::MAX {
                    front.advance(watermark);
                }
                front.now()
            }
            None => watermark,
        }
    }

    fn pass_on(&mut self, watermark: Timestamp) {
        let passed_on = match self.work {
            // Its state partitions take their lateness off themselves.
            Work::Share(..) => watermark,
            Work::Do(_) => watermark.minus(self.lateness),
        };
        self.passed_on = self.passed_on.max(passed_on);
    }

    /// Event time stood here when what it remembers was written.
    pub fn begin_at(&mut self, watermark: Timestamp) {
        let watermark = self.own_watermark(watermark);
        self.pass_on(watermark);
        self.told.watermark = watermark;
    }

    /// Time has come to `times` by the measure of the lane; gives what is due, and whether that was all.
    pub fn advance(&mut self, times: Times) -> Result<(Output, bool), Panicked> {
        let watermark = self.own_watermark(times.watermark);
        let mut output = Output::with_ports(self.named.iter().map(|targets| !targets.is_empty()));
        let mut is_all = true;
        if let Work::Do(Transform::Stateful(transform)) = &mut self.work
            && (watermark > self.told.watermark || times.now > self.told.now || times.is_silent || self.is_due)
        {
            let Times { watermark: before, now, .. } = self.told;
            self.told = Times { watermark: watermark.max(before), now: times.now.max(now), ..times };
            let (node, told) = (&self.node, self.told);
            is_all = catch_unwind(AssertUnwindSafe(|| transform.advance(told, &mut output))).map_err(|panic| {
                // No event is to blame that could be left out.
                let message = panic_text(&*panic);
                tracing::error!(node = &*node.id, reason = message, "a transform panicked");
                node.trouble.give_up(message);
                Panicked::Batch
            })?;
            check_state(node, &mut **transform, &mut self.evicted)?;
        }
        self.node.time_warnings.late(&self.node.id, output.unread_late);
        self.is_due = !is_all;
        if is_all {
            self.pass_on(watermark);
        }
        Ok((output, is_all))
    }

    /// A batch of what its transform made.
    pub fn made(&self, events: Vec<Event>, receipt: &Receipt, watermark: Timestamp) -> Batch {
        self.node.books.emitted(events.len());
        self.node.tap.see(Port::Main, &self.origin, &events);
        Batch { origin: self.origin.clone(), receipt: receipt.clone(), watermark, events }
    }

    pub fn send_rejected(&self, rejected: RejectedBatch, waiting: &mut [Vec<Part>], out: &mut Vec<Outgoing>) {
        self.node.see_rejected(&rejected);
        if self.errors.is_empty() {
            out.push(Outgoing::DeadLetters { node: self.node.clone(), batch: rejected });
            return;
        }
        let count = rejected.rejected.len();
        self.node.books.passed(count);
        self.node.books.emitted(count);
        send(errors_batch(&self.node.id, rejected), &self.errors, waiting, out);
    }

    /// What it remembers.
    pub fn parts(&mut self) -> Vec<NamedPart<'_>> {
        let Step { node, work, front, .. } = self;
        let mut parts: Vec<NamedPart<'_>> = Vec::new();
        if let Work::Do(Transform::Stateful(transform)) = work {
            parts.extend(transform.state().into_iter().map(|(name, part)| (&*node.id, name, part)));
        }
        if let Some(front) = front {
            parts.push((&*node.id, "time", front));
        }
        parts
    }

    /// Forgets clocks that an earlier version let run ahead of the wall clock.
    pub fn bound_times(&mut self) {
        let latest = self.horizon.look();
        let is_ahead =
            self.parts().into_iter().fold(false, |is_ahead, (_, _, part)| part.bound_time(latest) || is_ahead);
        if is_ahead {
            tracing::warn!(
                node = &*self.node.id,
                "its event time is ahead of the clock: it begins again with the next event"
            );
        }
    }

    /// What it was told of time is to be told again, and what it collected comes again.
    pub fn forget(&mut self) {
        (self.passed_on, self.told, self.is_due) = (Timestamp::MIN, Times::BEGINNING, false);
        if let Work::Share(_, collector) = &mut self.work {
            self.node.books.failed(collector.forget());
        }
    }
}

/// Counts what was let go of. Where what it remembers cannot be read any more, nothing counts that it decided since, and
/// the graph cannot go on.
fn check_state(node: &Node, transform: &mut dyn Stateful, evicted: &mut u64) -> Result<(), Panicked> {
    let before = *evicted;
    *evicted = transform.state().into_iter().map(|(_, part)| part.evicted()).sum();
    if *evicted > before {
        if before == 0 {
            tracing::warn!(node = &*node.id, "more keys than `max_keys`: those that would end first make room");
        }
        counter!("weir_state_evicted_keys_total", "node" => node.id.to_string()).increment(*evicted - before);
    }
    for (name, part) in transform.state() {
        if let Pressure::Broken(why) = part.pressure() {
            let message = format!("its state `{name}` cannot be read: {why}; bring back a copy, or begin without");
            tracing::error!(node = &*node.id, reason = message, "a state cannot be read");
            node.trouble.give_up(message);
            return Err(Panicked::Batch);
        }
    }
    Ok(())
}

/// What a step finds out of events in front of its decision.
struct Eye<'a> {
    node: &'a Node,
    transform: &'a mut dyn Stateful,
    front: &'a mut Option<Front>,
    time_of: &'a mut Option<Expression>,
    poison: Option<&'a Poison>,
    origin: Arc<OriginId>,
    /// What is later moves no clock.
    latest: Timestamp,
    ahead: Ahead,
}

impl<'a> Eye<'a> {
    fn new(
        (node, transform): (&'a Node, &'a mut dyn Stateful),
        (front, time_of, horizon): (&'a mut Option<Front>, &'a mut Option<Expression>, &mut Horizon),
        poison: Option<&'a Poison>,
        origin: &Arc<OriginId>,
    ) -> Eye<'a> {
        let (origin, latest) = (origin.clone(), horizon.look());
        Eye { node, transform, front, time_of, poison, origin, latest, ahead: Ahead::default() }
    }

    /// The text, if its transform panicked on this event before.
    fn panicked_on(&self, event: &Event) -> Option<String> {
        self.poison.filter(|poison| !poison.is_empty())?.of(&self.node.id, &self.origin, event)
    }

    fn look(&mut self, event: &Event) -> Result<Row, Verdict> {
        let mut row = self.transform.look(event, &self.origin)?;
        row.is_ahead = row.time > self.latest;
        if row.is_ahead {
            self.ahead.note(row.time);
        }
        if let Some(front) = self.front {
            let time = match self.time_of {
                // It is judged further down: where it cannot be read, the event is rejected there.
                Some(time_of) => time_of.value(event, &self.origin).ok().as_ref().and_then(Timestamp::of),
                None => Some(row.time),
            };
            if let Some(time) = time.filter(|time| *time <= self.latest) {
                front.advance(time);
            }
        }
        if row.is_time_only { Err(Verdict::Filter) } else { Ok(row) }
    }
}
