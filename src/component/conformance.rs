//! The conformance kit: what every component must do, as tests for its author to call.
//!
//! Each function panics with the rule that was broken. A component passes when they all return:
//!
//! ```no_run
//! # use weir::component::{SourceConfig, conformance};
//! # async fn test(config: Box<dyn SourceConfig>) {
//! conformance::source(&*config, 100).await;
//! # }
//! ```

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::{
    BuildContext, DetachedLane, DetachedLanes, KeepsState, Lanes, Origin, Output, Read, ReadLimit, Sink, SinkConfig,
    Source, SourceConfig, Transform, TransformConfig,
};
use crate::delivery::{Outcome, Receipt, RejectedBatch, Settlements};
use crate::error::Result;
use crate::event::{Batch, Body, Event, OriginId, OriginKind, Position, Rejected, Timestamp};
use crate::state::{Front, StatePart};

/// Nothing a component does in a test takes longer. Shorter where the kit itself is tested, with a component that
/// never comes to its end.
const DEADLINE: Duration = Duration::from_secs(if cfg!(test) { 5 } else { 30 });

async fn in_time<T>(rule: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(value) => value,
        Err(_) => panic!("not within {DEADLINE:?}: {rule}"),
    }
}

/// A source at work, with the test in place of the graph.
struct Running {
    lanes: DetachedLanes,
    run: JoinHandle<Result<()>>,
}

impl Running {
    async fn start(config: &dyn SourceConfig, context: &BuildContext) -> Running {
        let source: Box<dyn Source> = match config.build(context).await {
            Ok(source) => source,
            Err(error) => panic!("a source must build without reaching its peer: {error}"),
        };
        let (open, lanes) = Lanes::detached();
        Running { lanes, run: tokio::spawn(source.run(open)) }
    }

    /// Works through every lane the source opens, until it returns.
    async fn each_lane(mut self, mut work: impl AsyncFnMut(&mut dyn Origin)) {
        while let Some(DetachedLane { mut origin, end }) = in_time("a bounded source ends", self.lanes.next()).await {
            work(&mut *origin).await;
            drop(origin);
            end.clean();
        }
        self.end().await;
    }

    async fn end(self) {
        self.lanes.stop();
        match in_time("a source returns soon after it was asked to stop", self.run).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => panic!("a source that was only stopped returned an error: {error}"),
            Err(panic) => panic!("the source panicked: {panic}"),
        }
    }
}

/// Reads an origin to its end, checking what every read must keep to.
async fn read_all(origin: &mut dyn Origin, limit: ReadLimit) -> Vec<Event> {
    let mut all: Vec<Event> = Vec::new();
    loop {
        let read = match in_time("a read returns", origin.read(limit)).await {
            Ok(read) => read,
            Err(error) => panic!("a read of a healthy source failed: {error}"),
        };
        let Read::Events(events) = read else { return all };
        assert!(!events.is_empty(), "a read returns at least one event");
        assert!(events.len() <= limit.events, "a read keeps to its limit of {} events: {}", limit.events, events.len());
        let bytes: usize = events.iter().map(|event| event.body.size()).sum();
        assert!(
            bytes <= limit.bytes || events.len() == 1,
            "a read keeps to its limit of {} bytes: {bytes}",
            limit.bytes
        );
        all.extend(events);
    }
}

fn bodies(events: &[Event]) -> Vec<(Position, String)> {
    events.iter().map(|event| (event.position, format!("{:?}", event.body))).collect()
}

const SMALL: ReadLimit = ReadLimit { events: 7, bytes: 64 << 10 };
const LARGE: ReadLimit = ReadLimit { events: 1000, bytes: 16 << 20 };

/// Checks a bounded source that yields exactly `events` events in all.
///
/// - it opens its lanes, reads to the end, and returns;
/// - positions rise within an origin, and reads keep to their limits;
/// - a read that is dropped while waiting loses nothing;
/// - after a seek the very same events come again;
/// - after a restart nothing above the committed position is missing;
/// - after a run that was completed, the next begins anew;
/// - asked to stop in the middle, it returns.
pub async fn source(config: &dyn SourceConfig, events: usize) {
    check_stop(config).await;
    let (context, _rejected) = BuildContext::detached("conformance");
    let mut first = BTreeMap::new();
    Running::start(config, &context)
        .await
        .each_lane(async |origin| {
            let id = origin.id();
            let all = read_all(origin, SMALL).await;
            let rising = all.is_sorted_by(|a, b| (a.position, a.ordinal) < (b.position, b.ordinal));
            assert!(rising, "positions of {id:?} rise");
            check_seek(origin, &all).await;
            first.insert(format!("{id:?}"), all);
        })
        .await;
    let count: usize = first.values().map(Vec::len).sum();
    assert_eq!(count, events, "every event is read once");
    check_restart(config, &context, &first).await;
}

/// A stop while a lane is being read: the graph drains the lane, and the source goes.
async fn check_stop(config: &dyn SourceConfig) {
    let (context, _rejected) = BuildContext::detached("conformance");
    let mut running = Running::start(config, &context).await;
    let Some(mut lane) = in_time("a source opens a lane", running.lanes.next()).await else {
        return running.end().await;
    };
    if let Err(error) = in_time("a read returns", lane.origin.read(ReadLimit { events: 1, ..SMALL })).await {
        panic!("a read of a healthy source failed: {error}");
    }
    // As a graph does: every lane hears of the stop and ends, those that were still being opened, too.
    running.lanes.stop();
    drop(lane);
    while in_time("a source that was asked to stop opens no lanes for ever", running.lanes.next()).await.is_some() {}
    running.end().await;
}

/// Going back to the middle gives the same events from there on, also when a read was dropped meanwhile.
async fn check_seek(origin: &mut dyn Origin, all: &[Event]) {
    let Some(middle) = all.get(all.len() / 2) else { return };
    if let Err(error) = origin.seek(middle.position).await {
        panic!("a source can go back to what is not committed: {error}");
    }
    {
        let mut read = origin.read(LARGE);
        let dropped: Option<Result<Read>> = poll_fn(|context| {
            Poll::Ready(match read.as_mut().poll(context) {
                Poll::Ready(result) => Some(result),
                Poll::Pending => None,
            })
        })
        .await;
        drop(read);
        // One that was ready at once has been taken, not dropped: go back again.
        if dropped.is_some() {
            let _ = origin.seek(middle.position).await;
        }
    }
    let again = read_all(origin, LARGE).await;
    assert_eq!(bodies(&again), bodies(&all[all.len() / 2..]), "after a seek the same events come again");
}

async fn check_restart(config: &dyn SourceConfig, context: &BuildContext, first: &BTreeMap<String, Vec<Event>>) {
    // A run that commits half of every lane and dies.
    Running::start(config, context)
        .await
        .each_lane(async |origin| {
            let all = read_all(origin, LARGE).await;
            if let Some(middle) = all.get(all.len() / 2)
                && let Err(error) = origin.commit(middle.position).await
            {
                panic!("a commit of a healthy source failed: {error}");
            }
        })
        .await;
    Running::start(config, context)
        .await
        .each_lane(async |origin| {
            let id = format!("{:?}", origin.id());
            let all = read_all(origin, LARGE).await;
            let expected = &first[&id];
            let rest = &expected[expected.len() / 2..];
            assert!(all.len() >= rest.len(), "after a restart nothing above the committed position of {id} is missing");
            let tail = &all[all.len() - rest.len()..];
            assert_eq!(bodies(tail), bodies(rest), "after a restart the same events come");
            if let Err(error) = origin.complete().await {
                panic!("a completed run cannot be noted: {error}");
            }
        })
        .await;
    let mut again = 0;
    Running::start(config, context).await.each_lane(async |origin| again += read_all(origin, LARGE).await.len()).await;
    assert_eq!(again, first.values().map(Vec::len).sum::<usize>(), "after a completed run the next begins anew");
}

fn origin() -> Arc<OriginId> {
    Arc::new(OriginId { node: "in".to_owned(), log: "test".to_owned(), partition: 0, kind: OriginKind::Other })
}

fn batch(bodies: &[Body], first: u64, receipt: Receipt) -> Batch {
    let event = |(at, body): (usize, &Body)| Event::new(body.clone(), Position(first + at as u64), Timestamp(1));
    Batch { origin: origin(), receipt, watermark: Timestamp(1), events: bodies.iter().enumerate().map(event).collect() }
}

/// Checks a sink with bodies it can deliver, and one that it must reject, if there is such a thing.
///
/// - many batches at once are each settled exactly once, as delivered, and counted;
/// - `flush` returns only when everything taken is settled;
/// - what it rejects goes to the `errors` port with its share of the receipt; its neighbours are delivered;
/// - when it is dropped with batches under way, each of them is settled all the same: as delivered where it is
///   counted so, and otherwise as failed. The config must build a second time, as after a restart.
pub async fn sink(config: &dyn SinkConfig, good: &[Body], poison: Option<Body>) {
    let (context, mut rejected) = BuildContext::detached("conformance");
    let sink = match config.build(&context).await {
        Ok(sink) => sink,
        Err(error) => panic!("a sink must build without reaching its peer: {error}"),
    };
    let settlements = Arc::new(Settlements::default());
    const BATCHES: u64 = 200;
    let writes = (0..BATCHES).map(|number| {
        let receipt = Receipt::new(number, settlements.clone(), None);
        let (sink, batch) = (sink.clone(), batch(good, number * good.len() as u64, receipt));
        tokio::spawn(async move { sink.write(batch).await })
    });
    for write in writes.collect::<Vec<_>>() {
        if let Err(panic) = in_time("a sink takes batches", write).await {
            panic!("the sink panicked: {panic}");
        }
    }
    in_time("a flush returns", sink.flush()).await;
    let mut settled = settlements.take();
    settled.sort_by_key(|settled| settled.batch);
    let numbers: Vec<u64> = settled.iter().map(|settled| settled.batch).collect();
    assert_eq!(numbers, (0..BATCHES).collect::<Vec<_>>(), "after a flush every batch is settled, once");
    let delivered = settled.iter().all(|settled| settled.outcome == Outcome::Delivered);
    assert!(delivered, "a healthy sink delivers: {settled:?}");
    let passed = BATCHES * good.len() as u64;
    assert_eq!(context.books.totals().passed, passed, "delivered events are counted as passed");

    match poison {
        Some(poison) => check_rejects(sink, &context, &mut rejected, good, poison).await,
        None => drop(sink),
    }
    check_drop(config, good, &context).await;
}

/// Nothing is left open by a sink that goes with batches under way, and nothing is delivered but in its books.
async fn check_drop(config: &dyn SinkConfig, good: &[Body], before: &BuildContext) {
    let (mut context, _rejected) = BuildContext::detached("conformance");
    context.storage = before.storage.clone();
    let sink = match config.build(&context).await {
        Ok(sink) => sink,
        Err(error) => panic!("a sink builds again after a restart: {error}"),
    };
    let settlements = Arc::new(Settlements::default());
    const BATCHES: u64 = 20;
    for number in 0..BATCHES {
        let batch = batch(good, number * good.len() as u64, Receipt::new(number, settlements.clone(), None));
        let mut write = sink.write(batch);
        // Begun once, and called off where it had to wait.
        let _begun = poll_fn(|context| Poll::Ready(write.as_mut().poll(context))).await;
    }
    drop(sink);
    let mut settled = Vec::new();
    let all = async {
        while settled.len() < BATCHES as usize {
            settled.extend(settlements.take());
            if settled.len() < BATCHES as usize {
                settlements.changed().await;
            }
        }
    };
    in_time("a sink that is dropped leaves no batch open", all).await;
    let mut numbers: Vec<u64> = settled.iter().map(|settled| settled.batch).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..BATCHES).collect::<Vec<_>>(), "every batch is settled once");
    let delivered = settled.iter().filter(|settled| settled.outcome == Outcome::Delivered).count();
    let passed = context.books.totals().passed;
    assert!(
        delivered as u64 * good.len() as u64 <= passed,
        "a dropped sink says delivered of {delivered} batches, and its books of {passed} events"
    );
}

/// An event that cannot be delivered goes to the `errors` port; its neighbours do not mind.
async fn check_rejects(
    sink: Arc<dyn Sink>,
    context: &BuildContext,
    rejected: &mut mpsc::Receiver<RejectedBatch>,
    good: &[Body],
    poison: Body,
) {
    let settlements = Arc::new(Settlements::default());
    let passed = context.books.totals().passed;
    const NUMBER: u64 = 0;
    let mut bodies = good.to_vec();
    bodies.insert(good.len() / 2, poison);
    sink.write(batch(&bodies, 0, Receipt::new(NUMBER, settlements.clone(), None))).await;
    let flush = tokio::spawn({
        let sink = sink.clone();
        async move { sink.flush().await }
    });
    let Some(port) = in_time("a rejected event reaches the errors port", rejected.recv()).await else {
        panic!("the errors port was closed");
    };
    assert_eq!(port.rejected.len(), 1, "only the event that cannot be delivered is rejected");
    assert_eq!(port.rejected[0].event.position, Position(good.len() as u64 / 2), "the right one is rejected");
    let early = settlements.take();
    assert!(early.is_empty(), "a batch is not settled while a rejected event of it is on its way: {early:?}");
    port.receipt.resolve(Outcome::DeadLettered);
    if in_time("a flush returns", flush).await.is_err() {
        panic!("the sink panicked in a flush");
    }
    let ended = settlements.take();
    let outcome = ended.first().map(|settled| settled.outcome);
    assert_eq!(outcome, Some(Outcome::DeadLettered), "rejected is never delivered");
    assert_eq!(context.books.totals().passed, passed + good.len() as u64, "the neighbours are delivered");
}

/// Checks a transform with bodies, and one it must reject, if there is such a thing.
///
/// - events keep their order, and none comes from nowhere, but from a transform with state;
/// - a poison event is rejected as it was and costs its neighbours nothing;
/// - without state, the same input gives the same output;
/// - with state, it goes on after a restart at any event as if there had been none, with what a checkpoint holds; and it
///   decides as before on events that are read again.
pub fn transform(config: &dyn TransformConfig, bodies: &[Body], poison: Option<Body>) {
    let (context, _rejected) = BuildContext::detached("conformance");
    let build = || match config.build(&context) {
        Ok(transform) => Bench::new(transform, config),
        Err(error) => panic!("a transform that passed its check must build: {error}"),
    };
    let run = |bodies: &[Body]| {
        let mut bench = build();
        let mut outcome = bench.step(bodies, 0);
        outcome.add(bench.end());
        outcome
    };
    let plain = run(bodies);
    assert!(plain.rejected.is_empty(), "events it can handle are not rejected: {:?}", plain.rejected);
    for output in &plain.outputs {
        assert!(output.len() <= bodies.len(), "no event comes from nowhere");
        assert!(output.is_sorted_by_key(|event| event.position), "events keep their order");
    }
    if config.keeps_state() == KeepsState::Not {
        assert_eq!(run(bodies).texts(), plain.texts(), "the same input gives the same output");
    } else {
        check_restarts(&build, bodies, &plain);
    }
    let Some(poison) = poison else { return };
    let at = bodies.len() / 2;
    let mut poisoned = bodies.to_vec();
    poisoned.insert(at, poison.clone());
    let Outcomes { rejected, .. } = &run(&poisoned);
    assert_eq!(rejected.len(), 1, "the poison event alone is rejected: {rejected:?}");
    assert_eq!(rejected[0].event.position, Position(at as u64), "the right event is rejected");
    assert_eq!(format!("{:?}", rejected[0].event.body), format!("{poison:?}"), "it is rejected as it was");
    assert_eq!(run(&poisoned).texts(), plain.texts(), "its neighbours pass as without it");
}

/// What a transform put out.
struct Outcomes {
    /// By output, in order.
    outputs: Vec<Vec<Event>>,
    made: Vec<Event>,
    rejected: Vec<Rejected>,
}

impl Outcomes {
    fn add(&mut self, more: Outcomes) {
        for (output, more) in self.outputs.iter_mut().zip(more.outputs) {
            output.extend(more);
        }
        self.made.extend(more.made);
        self.rejected.extend(more.rejected);
    }

    /// The bodies by output, and of what was made with its id.
    fn texts(&self) -> Vec<Vec<String>> {
        let text = |event: &Event| format!("{:?}", event.body);
        let made = self.made.iter().map(|event| format!("{:?} {:?} {:?}", event.position, event.ordinal, event.body));
        self.outputs.iter().map(|output| output.iter().map(text).collect()).chain([made.collect()]).collect()
    }
}

/// A transform in the place of a step of a lane.
struct Bench {
    transform: Transform,
    ports: usize,
    /// Event time, as the lane remembers it.
    front: Front,
}

impl Bench {
    fn new(transform: Transform, config: &dyn TransformConfig) -> Bench {
        Bench { transform, ports: config.ports().len(), front: Front::default() }
    }

    /// One batch, numbered as its first event.
    fn step(&mut self, bodies: &[Body], first: usize) -> Outcomes {
        let mut batch = batch(bodies, first as u64, Receipt::detached());
        let mut output = Output::with_ports((0..self.ports).map(|_| true));
        match &mut self.transform {
            Transform::Stateless(process) => process(&mut batch, &mut output),
            Transform::Stateful(transform) => {
                let (front, origin) = (&mut self.front, batch.origin.clone());
                output.rejected = batch.decide(|event| match transform.look(event, &origin) {
                    Ok(row) => {
                        front.advance(row.time);
                        transform.process(event, row, front.now(), &mut output)
                    }
                    Err(verdict) => verdict,
                });
                while !transform.advance(front.now(), &mut output) {}
            }
        }
        self.outcomes(batch, output)
    }

    fn end(&mut self) -> Outcomes {
        let mut output = Output::with_ports((0..self.ports).map(|_| true));
        if let Transform::Stateful(transform) = &mut self.transform {
            while !transform.advance(Timestamp::MAX, &mut output) {}
        }
        self.outcomes(batch(&[], 0, Receipt::detached()), output)
    }

    fn outcomes(&self, mut batch: Batch, output: Output) -> Outcomes {
        let main = std::mem::take(&mut batch.events);
        batch.receipt.resolve(Outcome::Filtered);
        let outputs = [main].into_iter().chain(output.named.into_iter().map(|named| named.events)).collect();
        Outcomes { outputs, made: output.made, rejected: output.rejected }
    }

    fn states(&mut self) -> Vec<(&'static str, &mut dyn StatePart)> {
        let Transform::Stateful(transform) = &mut self.transform else { panic!("it says that it has state") };
        let mut states = transform.state();
        states.push(("the lane's time", &mut self.front));
        states
    }
}

/// A transform with state that is killed between any two events, or made to read again, decides as if nothing had been.
fn check_restarts(build: &dyn Fn() -> Bench, bodies: &[Body], undisturbed: &Outcomes) {
    for cut in 1..bodies.len().min(50) {
        for is_restart in [false, true] {
            let mut bench = build();
            let mut all = bench.step(&bodies[..cut], 0);
            let mut restarted = build();
            for ((name, part), (again, into)) in bench.states().into_iter().zip(restarted.states()) {
                assert_eq!(name, again, "its states have the same names each time");
                part.snapshot(&mut |key, value| {
                    if let Some(value) = value {
                        assert_eq!(into.restore(key, &value), Ok(()), "what it writes it can read");
                    }
                });
                part.written();
            }
            // A batch that fails, or is under way when the process dies.
            let _lost = bench.step(&bodies[cut..], cut);
            if is_restart {
                bench = restarted;
            } else {
                bench.states().into_iter().for_each(|(_, part)| part.abort());
            }
            all.add(bench.step(&bodies[cut..], cut));
            all.add(bench.end());
            let what = if is_restart { "a restart" } else { "a rewind" };
            assert_eq!(all.texts(), undisturbed.texts(), "after {what} behind {cut} events it decides as without");
        }
    }
}

#[cfg(test)]
mod tests;
