//! What every transform must do.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use vrl::value::Value;

use super::time;
use crate::component::{BuildContext, EventTime, KeepsState, Output, Times, Transform, TransformConfig};
use crate::delivery::{Outcome, Receipt};
use crate::event::{Batch, Body, Event, Position, Rejected, Timestamp, Verdict, panic_text};
use crate::state::{Front, StatePart};

/// Checks a transform with bodies, and one it must reject, if there is such a thing.
///
/// - events keep their order, and none comes from nowhere, but from a transform with state;
/// - a poison event is rejected as it was and costs its neighbours nothing;
/// - without state, the same input gives the same output;
/// - a tombstone is not rejected, nor made an event of: it passes unchanged by every output, or counts as filtered; one that
///   keeps events passes it;
/// - with state, it goes on after a restart at any event as if there had been none, with what a checkpoint holds; and it
///   decides as before on events that are read again.
///
/// With state, the kit also gives the bodies times of its own. Where the [event time](TransformConfig::event_time) is read
/// out of the event, it stands in for what was read.
///
/// - late data: it does not panic; what it decides does not depend on where batches end; and no result is older than the
///   watermark less the [lateness](TransformConfig::lateness), but the one that is an event which came so late itself;
/// - a jump of the clock, by a century or as far as a time can be, and back: it does not panic, what was due comes out,
///   once, and a restart goes on with what there is;
/// - idleness: told the same time again it makes nothing, and changes nothing that is to be written;
/// - silence: told that nothing is on its way any more it repeats nothing, and what would come without that comes;
/// - an event that is ahead of the wall clock (`Row::is_ahead`): a month later it decides as if that had never come.
pub fn transform(config: &dyn TransformConfig, bodies: &[Body], poison: Option<Body>) {
    let (context, _rejected) = BuildContext::detached("conformance");
    let build = || match config.build(&context) {
        Ok(transform) => Bench::new(transform, config),
        Err(error) => panic!("a transform that passed its check must build: {error}"),
    };
    let run = |bodies: &[Body]| run(&build, &as_they_are(bodies), usize::MAX);
    let plain = run(bodies);
    assert!(plain.rejected.is_empty(), "events it can handle are not rejected: {:?}", plain.rejected);
    for output in &plain.outputs {
        assert!(output.len() <= bodies.len(), "no event comes from nowhere");
        assert!(output.is_sorted_by_key(|event| event.position), "events keep their order");
    }
    if config.keeps_state() == KeepsState::Not {
        assert_eq!(run(bodies).texts(), plain.texts(), "the same input gives the same output");
    } else {
        time::check(&build, config, bodies);
        check_restarts(&build, &as_they_are(bodies), &plain);
    }
    check_tombstone(config, &run, bodies);
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

fn check_tombstone(config: &dyn TransformConfig, run: &dyn Fn(&[Body]) -> Outcomes, bodies: &[Body]) {
    let mut given = bodies.to_vec();
    given.insert(bodies.len() / 2, Body::Parsed(Value::Null));
    let Outcomes { outputs, rejected, .. } = run(&given);
    assert!(rejected.is_empty(), "a tombstone is not rejected: {rejected:?}");
    let passed = outputs.iter().map(|output| output.iter().filter(|event| event.is_tombstone()).count());
    let passed: Vec<usize> = passed.collect();
    // A limit counts it like any other event.
    let must_pass = config.keeps_events() && config.keeps_state() != KeepsState::ByLane;
    if must_pass || passed.contains(&1) {
        assert!(passed.iter().skip(usize::from(passed.len() > 1)).all(|passed| *passed == 1), "{passed:?}");
    }
}

/// An event to hand in: its body, and its time where the test gives it one.
#[derive(Debug, Clone)]
pub(super) struct Given {
    pub body: Body,
    pub time: Option<Timestamp>,
}

fn as_they_are(bodies: &[Body]) -> Vec<Given> {
    bodies.iter().map(|body| Given { body: body.clone(), time: None }).collect()
}

/// Hands in batches of so many events, and comes to the end of time.
pub(super) fn run(build: &dyn Fn() -> Bench, given: &[Given], size: usize) -> Outcomes {
    let mut bench = build();
    let mut all = Outcomes::default();
    for (number, batch) in given.chunks(size.min(given.len()).max(1)).enumerate() {
        all.add(bench.step(batch, number * size));
    }
    all.add(bench.end());
    all
}

/// What a transform put out.
#[derive(Default)]
pub(super) struct Outcomes {
    /// By output, in order.
    pub outputs: Vec<Vec<Event>>,
    pub made: Vec<Event>,
    pub rejected: Vec<Rejected>,
}

impl Outcomes {
    pub fn add(&mut self, more: Outcomes) {
        self.outputs.resize_with(more.outputs.len().max(self.outputs.len()), Vec::new);
        for (output, more) in self.outputs.iter_mut().zip(more.outputs) {
            output.extend(more);
        }
        self.made.extend(more.made);
        self.rejected.extend(more.rejected);
    }

    /// The bodies by output, and of what was made with its id.
    pub fn texts(&self) -> Vec<Vec<String>> {
        let text = |event: &Event| format!("{:?}", event.body);
        self.outputs.iter().map(|output| output.iter().map(text).collect()).chain([self.results()]).collect()
    }

    /// What was made, with its id.
    pub fn results(&self) -> Vec<String> {
        let text =
            |event: &Event| format!("{:?} {:?} {:?} {:?}", event.position, event.ordinal, event.time, event.body);
        self.made.iter().map(text).collect()
    }

    pub fn is_empty(&self) -> bool {
        self.outputs.iter().all(Vec::is_empty) && self.made.is_empty() && self.rejected.is_empty()
    }
}

/// Calls of `advance` within which whatever is due has come out.
const CALLS: usize = 100_000;

/// A transform in the place of a step of a lane.
pub(super) struct Bench {
    transform: Transform,
    ports: usize,
    lateness: Duration,
    /// Whether event time stands in the event: a time that the test gives it is then told in its place.
    reads_time: bool,
    /// Event time, as the lane remembers it.
    front: Front,
    /// What is later is ahead of the wall clock.
    latest: Timestamp,
    /// The watermark of the step behind it.
    passed_on: Timestamp,
    /// The times of events that came late, which may leave as late.
    late: BTreeSet<Timestamp>,
}

impl Bench {
    fn new(transform: Transform, config: &dyn TransformConfig) -> Bench {
        Bench {
            transform,
            ports: config.ports().len(),
            lateness: config.lateness(),
            reads_time: matches!(config.event_time(), EventTime::By(_)),
            front: Front::default(),
            latest: Timestamp::MAX,
            passed_on: Timestamp::MIN,
            late: BTreeSet::new(),
        }
    }

    /// The same with a wall clock, which no time is to run ahead of.
    pub fn bounded(self, latest: Timestamp) -> Bench {
        Bench { latest, ..self }
    }

    /// One batch, numbered as its first event.
    pub fn step(&mut self, given: &[Given], first: usize) -> Outcomes {
        let mut batch = batch(given, first);
        let mut output = self.output();
        match &mut self.transform {
            Transform::Stateless(process) => process(&mut batch, &mut output),
            Transform::Stateful(transform) => {
                let (front, late, origin) = (&mut self.front, &mut self.late, batch.origin.clone());
                let latest = self.latest;
                let mut times = given.iter().map(|given| given.time.filter(|_| self.reads_time));
                let rejected = batch.decide(|event| {
                    let told = times.next().flatten();
                    match transform.look(event, &origin) {
                        Ok(mut row) => {
                            row.time = told.unwrap_or(row.time);
                            row.is_ahead = row.time > latest;
                            if !row.is_ahead {
                                front.advance(row.time);
                            }
                            if row.is_time_only {
                                return Verdict::Filter;
                            }
                            if row.time < front.now().minus(self.lateness) {
                                late.extend([row.time, event.time]);
                            }
                            transform.process(
                                event,
                                row,
                                Times { watermark: front.now(), now: front.now(), is_silent: false },
                                &mut output,
                            )
                        }
                        Err(verdict) => verdict,
                    }
                });
                output.rejected = rejected;
                self.advance(self.front.now(), &mut output);
            }
        }
        self.outcomes(batch, output)
    }

    /// It is told the same time again, and nothing else.
    pub fn idle(&mut self) -> Outcomes {
        self.come_to(self.front.now())
    }

    /// Every partition is silent.
    pub fn silent(&mut self) -> Outcomes {
        let mut output = self.output();
        self.advance_to(Times { watermark: self.front.now(), now: self.front.now(), is_silent: true }, &mut output);
        self.outcomes(batch(&[], 0), output)
    }

    /// There is no more.
    pub fn end(&mut self) -> Outcomes {
        self.come_to(Timestamp::MAX)
    }

    fn come_to(&mut self, watermark: Timestamp) -> Outcomes {
        let mut output = self.output();
        self.advance(watermark, &mut output);
        self.outcomes(batch(&[], 0), output)
    }

    fn advance(&mut self, watermark: Timestamp, output: &mut Output) {
        self.advance_to(Times { watermark, now: self.front.now(), is_silent: false }, output);
    }

    fn advance_to(&mut self, times: Times, output: &mut Output) {
        let Transform::Stateful(transform) = &mut self.transform else { return };
        let watermark = times.watermark;
        let advance = || (0..CALLS).any(|_| transform.advance(times, output));
        match catch_unwind(AssertUnwindSafe(advance)) {
            Ok(is_all) => assert!(is_all, "`advance` says at some time that it was all"),
            Err(panic) => panic!("`advance` does not panic at {watermark:?}: {}", panic_text(&*panic)),
        }
        for event in &output.made {
            let (is_in_time, came_late) = (event.time >= self.passed_on, self.late.contains(&event.time));
            assert!(
                is_in_time || came_late,
                "a result is no older than the watermark less the lateness, {:?}: {event:?}",
                self.passed_on
            );
        }
        // A lane whose log grows goes on behind its end: that is no time to remember.
        if watermark != Timestamp::MAX {
            self.passed_on = self.passed_on.max(watermark.minus(self.lateness));
        }
    }

    fn output(&self) -> Output {
        Output::with_ports((0..self.ports).map(|_| true))
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

    /// A durable checkpoint; gives what a process comes to that starts again from it.
    pub fn checkpoint(&mut self, build: &dyn Fn() -> Bench) -> Bench {
        let mut restarted = build();
        for ((name, part), (again, into)) in self.states().into_iter().zip(restarted.states()) {
            assert_eq!(name, again, "its states have the same names each time");
            part.snapshot(&mut |key, value| {
                if let Some(value) = value {
                    assert_eq!(into.restore(key, &value), Ok(()), "what it writes it can read");
                }
            });
            part.written();
        }
        restarted.late = self.late.clone();
        restarted.passed_on = restarted.front.now().minus(restarted.lateness);
        restarted
    }

    /// A durable checkpoint; gives the states that had something to write.
    pub fn changed(&mut self) -> BTreeSet<&'static str> {
        let mut changed = BTreeSet::new();
        for (name, part) in self.states() {
            part.snapshot(&mut |_, _| {
                changed.insert(name);
            });
            part.written();
        }
        changed
    }

    /// What came behind the last checkpoint is to come again.
    fn rewind(&mut self) {
        self.states().into_iter().for_each(|(_, part)| part.abort());
        self.passed_on = self.front.now().minus(self.lateness);
    }
}

/// Events that have no time of their own happen at the first moment.
fn batch(given: &[Given], first: usize) -> Batch {
    let bodies: Vec<Body> = given.iter().map(|given| given.body.clone()).collect();
    let mut batch = super::batch(&bodies, first as u64, Receipt::detached());
    for (event, given) in batch.events.iter_mut().zip(given) {
        event.time = given.time.unwrap_or(event.time);
    }
    batch
}

/// A transform with state that is killed between any two events, or made to read again, decides as if nothing had been.
pub(super) fn check_restarts(build: &dyn Fn() -> Bench, given: &[Given], undisturbed: &Outcomes) {
    for cut in 1..given.len().min(50) {
        for is_restart in [false, true] {
            let mut bench = build();
            let mut all = bench.step(&given[..cut], 0);
            let restarted = bench.checkpoint(build);
            // A batch that fails, or is under way when the process dies.
            let _lost = bench.step(&given[cut..], cut);
            match is_restart {
                true => bench = restarted,
                false => bench.rewind(),
            }
            all.add(bench.step(&given[cut..], cut));
            all.add(bench.end());
            let what = if is_restart { "a restart" } else { "a rewind" };
            assert_eq!(all.texts(), undisturbed.texts(), "after {what} behind {cut} events it decides as without");
        }
    }
}
