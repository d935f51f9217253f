//! A route: transforms fused into one pass, from a source or an exchange to the next exchange or a sink.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::exchange::Content;
use super::horizon::{Horizon, TimeWarnings};
use super::poison::Poison;
use super::spot::Spot;
use super::step::{Step, Work};
use super::tap::Tap;
use crate::component::{Row, Times, Trouble};
use crate::config::Port;
use crate::delivery::{Books, Latency, Outcome, Receipt, RejectedBatch};
use crate::event::{Batch, Event, Meta, Reason, Rejected, Timestamp};
use crate::state::{NamedPart, Pressure};

/// What all lanes share of a node.
#[derive(Debug, Default)]
pub struct Node {
    /// Its id in the graph.
    pub id: Arc<str>,
    /// Its books.
    pub books: Arc<Books>,
    /// How long its batches take: of a source until they are settled, of a transform until they are processed, of a sink until
    /// they are delivered.
    pub(crate) latency: Arc<Latency>,
    /// Why it cannot work, if so.
    pub trouble: Trouble,
    /// Of a source: where its lanes stand.
    pub(crate) lanes: Mutex<Vec<Arc<Spot>>>,
    /// Who looks at what leaves it.
    pub(crate) tap: Tap,
    /// Warnings about the times of its events.
    pub(crate) time_warnings: TimeWarnings,
}

impl Node {
    /// Shows whoever looks what leaves by the `errors` port, also where nobody is connected to it.
    pub(crate) fn see_rejected(&self, batch: &RejectedBatch) {
        let with_reason = |rejected: &Rejected| {
            let Rejected { event, code, message } = rejected;
            with_reason(&self.id, Rejected { event: event.clone(), code, message: message.clone() })
        };
        self.tap.see_made(Port::Errors, &batch.origin, batch.rejected.iter().map(with_reason));
    }

    /// Where the lanes of this source stand.
    pub(crate) fn lanes(&self) -> MutexGuard<'_, Vec<Arc<Spot>>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where an edge leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// A step of the same route.
    Step(usize),
    /// A sink, by its number in the plan.
    Sink(usize),
}

/// What leaves a route.
#[derive(Debug)]
pub enum Outgoing {
    /// A batch for a sink.
    Sink {
        /// The sink's number in the plan.
        sink: usize,
        /// What it gets.
        batch: Batch,
    },
    /// Something for a state partition of a node further down.
    #[allow(private_interfaces, reason = "only the runtime takes it")]
    Shard {
        /// The node's number in the plan.
        node: usize,
        /// Which of its state partitions.
        shard: usize,
        /// What it is told.
        content: Content,
    },
    /// Rejected events that nobody listens to.
    DeadLetters {
        /// The node that rejected them.
        node: Arc<Node>,
        /// The events, and the receipt that waits for them.
        batch: RejectedBatch,
    },
}

/// A transform panicked, and what was read has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Panicked {
    /// On an event that is known now: it is left out when it is read again.
    Event,
    /// On a batch: it is to be read again, one event at a time.
    Batch,
}

/// Events on their way to a step, with what it has to know of them where that is known already.
pub(crate) type Part = (Batch, Option<Vec<Row>>);

/// Transforms in topological order.
pub struct Route {
    pub(crate) steps: Vec<Step>,
    pub(crate) entry: Vec<Target>,
    /// Whether a step waits for time.
    pub(crate) is_timed: bool,
    /// How far event time, as sources know it, may run ahead.
    pub(crate) horizon: Horizon,
    /// Where there is a checkpoint to begin again from.
    pub(crate) poison: Option<Arc<Poison>>,
    /// The time of the last pass, while not everything that is due by it has happened: see [`Route::go_on`].
    pub(crate) due: Option<(Times, Receipt)>,
}

impl Route {
    /// The same route, which goes back to a checkpoint when an event makes a transform with state panic.
    pub(crate) fn poisoned_by(self, poison: &Arc<Poison>) -> Route {
        Route { poison: Some(poison.clone()), ..self }
    }

    /// Takes a batch through every step; what leaves goes to `out`.
    ///
    /// `now` is the processing time, and `alone` says that there is one event and nothing else: then a panic is that event's
    /// fault and costs it alone.
    pub(crate) fn process(
        &mut self,
        batch: Batch,
        now: Timestamp,
        alone: bool,
        out: &mut Vec<Outgoing>,
    ) -> Result<(), Panicked> {
        if let ([Target::Sink(sink)], true) = (&*self.entry, self.steps.is_empty()) {
            out.push(Outgoing::Sink { sink: *sink, batch });
            return Ok(());
        }
        let times = Times { watermark: batch.watermark, now, is_silent: false };
        let time = self.is_timed.then(|| (times, batch.receipt.clone()));
        let mut waiting = self.nothing_waiting();
        send(batch, &self.entry, &mut waiting, out);
        self.pass(waiting, time, alone, out)
    }

    /// One list a step.
    fn nothing_waiting(&self) -> Vec<Vec<Part>> {
        std::iter::repeat_with(Vec::new).take(self.steps.len()).collect()
    }

    /// Takes what is known of a batch already through, from the first step on.
    pub(crate) fn process_rows(
        &mut self,
        parts: Vec<(Batch, Vec<Row>)>,
        time: (Times, Receipt),
        alone: bool,
        out: &mut Vec<Outgoing>,
    ) -> Result<(), Panicked> {
        let mut waiting = self.nothing_waiting();
        waiting[0].extend(parts.into_iter().map(|(batch, rows)| (batch, Some(rows))));
        self.pass(waiting, Some(time), alone, out)
    }

    /// Time has come this far, and no event with it.
    pub(crate) fn advance(&mut self, time: (Times, Receipt), out: &mut Vec<Outgoing>) -> Result<(), Panicked> {
        self.pass(self.nothing_waiting(), Some(time), false, out)
    }

    /// Goes on with what is due by the last pass, where that was too much for one; `None`: that was all.
    pub(crate) fn go_on(&mut self, out: &mut Vec<Outgoing>) -> Option<Result<(), Panicked>> {
        let time = self.due.take()?;
        Some(self.advance(time, out))
    }

    fn pass(
        &mut self,
        mut waiting: Vec<Vec<Part>>,
        time: Option<(Times, Receipt)>,
        alone: bool,
        out: &mut Vec<Outgoing>,
    ) -> Result<(), Panicked> {
        let before = out.len();
        let mut result = Ok(());
        let mut is_all = true;
        for at in 0..self.steps.len() {
            result = self.run_step(at, &mut waiting, time.as_ref(), is_all, alone, out).map(|all| is_all &= all);
            if result.is_err() {
                // What was put out already is taken back: it comes again.
                out.drain(before..).for_each(take_back);
                for (batch, _) in waiting.iter().flatten().filter(|(_, rows)| rows.is_some()) {
                    self.steps[0].node.books.failed(batch.events.len());
                }
                for step in &mut self.steps {
                    step.forget();
                }
                break;
            }
        }
        if result.is_ok() && !is_all {
            self.due = time;
        } else if let Some((_, receipt)) = time {
            receipt.resolve(if result.is_ok() { Outcome::Filtered } else { Outcome::Failed });
        }
        result
    }

    /// What is due happens only where it has in all steps `before`. Gives whether everything that is due has happened.
    fn run_step(
        &mut self,
        at: usize,
        waiting: &mut [Vec<Part>],
        time: Option<&(Times, Receipt)>,
        before: bool,
        alone: bool,
        out: &mut Vec<Outgoing>,
    ) -> Result<bool, Panicked> {
        for (batch, rows) in std::mem::take(&mut waiting[at]) {
            let step = &mut self.steps[at];
            let now = time.map_or(Timestamp::MIN, |(times, _)| times.now);
            let (batch, output) = step.run(batch, rows, now, alone, self.poison.as_deref())?;
            if !output.rejected.is_empty() {
                let (origin, receipt) = (batch.origin.clone(), batch.receipt.clone());
                let rejected = RejectedBatch { origin, receipt, rejected: output.rejected };
                step.send_rejected(rejected, waiting, out);
            }
            for (named, targets) in output.named.into_iter().zip(&step.named) {
                if !named.events.is_empty() {
                    send(batch.with_events(named.events), targets, waiting, out);
                }
            }
            let made = (!output.made.is_empty()).then(|| step.made(output.made, &batch.receipt, batch.watermark));
            send(batch, &step.next, waiting, out);
            if let Some(made) = made {
                send(made, &step.next, waiting, out);
            }
        }
        let Some((times, receipt)) = time.filter(|_| self.is_timed && before) else { return Ok(true) };
        let times = Times { watermark: self.watermark_of(at, times.watermark), ..*times };
        let step = &mut self.steps[at];
        let (output, is_all) = step.advance(times)?;
        if !output.rejected.is_empty() {
            // What it took in was entered as absorbed; it comes to another end now.
            step.node.books.received(output.rejected.len());
            let (origin, receipt) = (step.origin.clone(), receipt.clone());
            step.send_rejected(RejectedBatch { origin, receipt, rejected: output.rejected }, waiting, out);
        }
        for (named, targets) in output.named.into_iter().zip(&step.named) {
            if !named.events.is_empty() {
                send(step.made(named.events, receipt, step.told.watermark), targets, waiting, out);
            }
        }
        if !output.made.is_empty() {
            send(step.made(output.made, receipt, step.told.watermark), &step.next, waiting, out);
        }
        if let Work::Share(_, collector) = &mut step.work {
            let node = collector.node;
            for (shard, content) in collector.take(Times { watermark: step.passed_on, ..times }, receipt, alone) {
                out.push(Outgoing::Shard { node, shard, content });
            }
        }
        Ok(is_all)
    }

    /// Takes a single event through, and all that it does to states for good: there is no lane here that could read it
    /// again.
    pub(crate) fn process_alone(&mut self, batch: Batch, out: &mut Vec<Outgoing>) {
        // Alone, a panic rejects the event: it is no error here.
        let _rejected = self.process(batch, Timestamp::MIN, true, out);
        while self.go_on(out).is_some() {}
        for (_, _, part) in self.parts() {
            part.snapshot(&mut |_, _| {});
            part.written();
        }
    }

    /// The states of every transform, in an order that depends on the graph alone.
    pub(crate) fn parts(&mut self) -> Vec<NamedPart<'_>> {
        self.steps.iter_mut().flat_map(Step::parts).collect()
    }

    /// How urgent the next checkpoint is.
    pub(crate) fn pressure(&mut self) -> Pressure {
        self.parts().into_iter().map(|(_, _, part)| part.pressure()).max().unwrap_or(Pressure::None)
    }

    /// The nodes whose state partitions it leads to.
    pub(crate) fn exchanges(&self) -> impl Iterator<Item = usize> + '_ {
        self.steps.iter().filter_map(|step| match &step.work {
            Work::Share(_, collector) => Some(collector.node),
            Work::Do(_) => None,
        })
    }

    /// Tells every state partition behind it.
    pub(crate) fn tell_shards(&self, out: &mut Vec<Outgoing>, content: impl Fn() -> Content) {
        for step in &self.steps {
            if let Work::Share(_, collector) = &step.work {
                let to = (0..collector.shards()).map(|shard| (collector.node, shard));
                out.extend(to.map(|(node, shard)| Outgoing::Shard { node, shard, content: content() }));
            }
        }
    }

    /// Event time stood here when what the route remembers was written: everything due by then has happened.
    pub(crate) fn begin_at(&mut self, watermark: Timestamp) {
        for at in 0..self.steps.len() {
            let watermark = self.watermark_of(at, watermark);
            self.steps[at].begin_at(watermark);
        }
    }

    /// Event time that an earlier version let run ahead of the wall clock begins again with the next event.
    pub(crate) fn bound_times(&mut self) {
        self.steps.iter_mut().for_each(Step::bound_times);
    }

    /// The watermark that comes to a step: of what it gets events from, the one that is furthest back.
    fn watermark_of(&self, at: usize, entry: Timestamp) -> Timestamp {
        let inputs = self.steps[at].inputs.iter().map(|input| input.map_or(entry, |step| self.steps[step].passed_on));
        inputs.min().unwrap_or(entry)
    }

    /// Everything behind the last durable snapshot is to come again.
    pub(crate) fn rewind(&mut self) {
        self.due = None;
        self.parts().into_iter().for_each(|(_, _, part)| part.abort());
        self.steps.iter_mut().for_each(Step::forget);
    }
}

/// Enters in the books that something which is on its way will not arrive.
pub(crate) fn take_back(outgoing: Outgoing) {
    match outgoing {
        Outgoing::DeadLetters { node, batch } => node.books.failed(batch.rejected.len()),
        Outgoing::Shard { content: Content::Pass(pass), .. } => pass.fail(),
        Outgoing::Shard { .. } | Outgoing::Sink { .. } => {}
    }
}

/// A rejected event as it leaves an `errors` port: unchanged, with `%error` saying why.
fn with_reason(node: &str, Rejected { mut event, code, message }: Rejected) -> Event {
    let meta: &mut Meta = event.meta.get_or_insert_default();
    meta.error = Some(Arc::new(Reason { node: node.to_owned(), code, message }));
    event
}

/// The rejected events as they leave an `errors` port.
pub(crate) fn errors_batch(node: &str, batch: RejectedBatch) -> Batch {
    let events: Vec<Event> = batch.rejected.into_iter().map(|rejected| with_reason(node, rejected)).collect();
    let watermark = events.iter().map(|event| event.time).min().unwrap_or_default();
    Batch { origin: batch.origin, receipt: batch.receipt, watermark, events }
}

/// Sends a batch along every edge. Nothing left, or nobody there: it is settled as filtered.
pub(super) fn send(batch: Batch, targets: &[Target], waiting: &mut [Vec<Part>], out: &mut Vec<Outgoing>) {
    let Some((last, others)) = targets.split_last() else {
        return batch.receipt.resolve(Outcome::Filtered);
    };
    if batch.events.is_empty() {
        return batch.receipt.resolve(Outcome::Filtered);
    }
    let mut one = |target: &Target, batch: Batch| match *target {
        Target::Step(step) => waiting[step].push((batch, None)),
        Target::Sink(sink) => out.push(Outgoing::Sink { sink, batch }),
    };
    for target in others {
        one(target, batch.fork());
    }
    one(last, batch);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::component::{Output, Stateful, Transform};
    use crate::delivery::Settlements;
    use crate::event::{Body, Codec, OriginId, Position, Verdict};
    use crate::graph::plan::origin_of;
    use crate::state::StatePart;

    /// Takes events in, and rejects them when time goes on.
    #[derive(Default)]
    struct Second(Vec<Event>);

    impl Stateful for Second {
        fn look(&mut self, event: &Event, _: &OriginId) -> Result<Row, Verdict> {
            Ok(Row { time: event.time, ..Row::default() })
        }
        fn process(&mut self, event: &mut Event, _: Row, _: Times, _: &mut Output) -> Verdict {
            self.0.push(event.clone());
            Verdict::Absorb
        }
        fn advance(&mut self, _: Times, output: &mut Output) -> bool {
            let rejected = |event| Rejected { event, code: "second_thoughts", message: "as told".to_owned() };
            output.rejected.extend(self.0.drain(..).map(rejected));
            true
        }
        fn state(&mut self) -> Vec<(&'static str, &mut dyn StatePart)> {
            Vec::new()
        }
    }

    /// A route of one step, and its node.
    fn route(errors: Vec<Target>) -> (Route, Arc<Node>) {
        let node = Arc::new(Node { id: "second".into(), ..Node::default() });
        let step = Step {
            node: node.clone(),
            work: Work::Do(Transform::stateful(Second::default())),
            next: Vec::new(),
            named: Vec::new(),
            errors,
            inputs: vec![None],
            lateness: std::time::Duration::ZERO,
            horizon: Horizon::default(),
            front: None,
            time_of: None,
            is_in_lane: false,
            origin: origin_of("second", "second", 0),
            passed_on: Timestamp::MIN,
            told: Times::BEGINNING,
            is_due: false,
            evicted: 0,
        };
        let (entry, horizon) = (vec![Target::Step(0)], Horizon::default());
        (Route { steps: vec![step], entry, is_timed: true, horizon, poison: None, due: None }, node)
    }

    #[test]
    fn what_is_rejected_as_time_goes_on_is_handed_over_and_waited_for() {
        for errors in [Vec::new(), vec![Target::Sink(7)]] {
            let (mut route, node) = route(errors);
            let (settlements, mut out) = (Arc::new(Settlements::default()), Vec::new());
            let event = Event::new(Body::Raw("1".into(), Codec::Json), Position(1), Timestamp(1));
            let receipt = |number| Receipt::new(number, settlements.clone(), None);
            let (origin, watermark) = (origin_of("in", "log", 0), Timestamp(1));
            let batch = Batch { origin, receipt: receipt(0), watermark: Timestamp::MIN, events: vec![event] };
            assert!(route.process(batch, Timestamp::MIN, false, &mut out).is_ok());
            let times = Times { watermark, now: Timestamp::MIN, is_silent: false };
            assert!(route.advance((times, receipt(1)), &mut out).is_ok());
            let settled: Vec<u64> = settlements.take().iter().map(|settled| settled.batch).collect();
            assert_eq!(settled, [0], "the other waits for what was rejected");
            match out.as_slice() {
                [Outgoing::DeadLetters { batch, .. }] => {
                    assert_eq!(batch.rejected[0].code, "second_thoughts");
                    node.books.dead_lettered(batch.rejected.len());
                }
                [Outgoing::Sink { sink: 7, batch }] => assert_eq!(batch.events.len(), 1),
                other => panic!("{other:?}"),
            }
            assert_eq!(node.books.totals().in_flight(), 0, "{:?}", node.books.totals());
            out.clear();
            assert_eq!(settlements.take().len(), 1);
        }
    }
}
