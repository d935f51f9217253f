//! What a transform with state must do when event time does not run as it should.

use std::collections::BTreeSet;
use std::time::Duration;

use super::transform::{Bench, Given, Outcomes, check_restarts, run};
use crate::component::{EventTime, TransformConfig};
use crate::event::{Body, Timestamp};

/// Where the clock begins: a day in 2026.
const START: i64 = 1_772_323_200_000;
/// Time from one event to the next, in milliseconds, for windows of any length.
const STRIDES: [i64; 3] = [100, 10_000, 3_600_000];
/// Events of a run.
const EVENTS: usize = 24;
/// A century, in milliseconds.
const CENTURY: i64 = 36_525 * 86_400_000;
/// As late as a time can be that is not the end of time, and as early.
const FURTHEST: i64 = i64::MAX - 1;
const EARLIEST: i64 = i64::MIN + 1;

/// Late data, jumps and idleness, with these bodies again and again.
pub(super) fn check(build: &dyn Fn() -> Bench, config: &dyn TransformConfig, bodies: &[Body]) {
    if bodies.is_empty() {
        return;
    }
    for stride in STRIDES {
        let given = at(bodies, late(stride, config.lateness()));
        check_idle(build, &given);
        check_silence(build, &given);
        check_cuts(build, &given);
    }
    for far in [START + CENTURY, FURTHEST] {
        check_jump(build, config, bodies, far);
    }
    // Where the time is read out of the body and nothing waits by it, it is not ours to say.
    if config.event_time() != EventTime::Unused || config.takes_time_of_source() {
        for far in [START + 86_400_000, START + CENTURY, FURTHEST] {
            check_ahead(build, bodies, far);
        }
    }
}

/// Bodies in turn, each at its time.
fn at(bodies: &[Body], times: Vec<i64>) -> Vec<Given> {
    let bodies = bodies.iter().cycle().cloned();
    bodies.zip(times).map(|(body, time)| Given { body, time: Some(Timestamp(time)) }).collect()
}

/// Times that go on, but for some within the lateness, some just behind it, and some long past. No two are the same, so
/// that what comes out of an event can be told from what comes out of another.
fn late(stride: i64, lateness: Duration) -> Vec<i64> {
    let lateness = i64::try_from(lateness.as_millis()).unwrap_or(CENTURY).min(CENTURY);
    let time = |at: usize| {
        let now = START + at as i64 * stride;
        let back = match at % 8 {
            2 => stride.min(lateness) / 2,
            3 => stride + lateness + 1,
            5 => 2 * stride + lateness / 2,
            7 => 9 * stride + 3 * lateness,
            _ => 0,
        };
        // Less than a stride, so that the order stays.
        now - back + at as i64
    };
    (0..EVENTS).map(time).collect()
}

/// What is late depends on the events and their order alone.
fn check_cuts(build: &dyn Fn() -> Bench, given: &[Given]) {
    let whole = run(build, given, given.len());
    no_panic(&whole, "an event that is late");
    for size in [1, 3, 7] {
        let cut = run(build, given, size);
        no_panic(&cut, "an event that is late");
        assert_eq!(cut.texts(), whole.texts(), "late data: what it decides is the same with batches of {size}");
    }
    check_restarts(build, given, &whole);
}

fn no_panic(outcomes: &Outcomes, what: &str) {
    let panicked = outcomes.rejected.iter().find(|rejected| rejected.code == "panic");
    assert!(panicked.is_none(), "{what} does not make it panic: {panicked:?}");
}

/// Time that stands still has nothing happen.
fn check_idle(build: &dyn Fn() -> Bench, given: &[Given]) {
    for cut in [0, 1, given.len() / 2, given.len()] {
        let (mut undisturbed, mut other) = (Outcomes::default(), build());
        for part in [&given[..cut], &given[cut..]] {
            undisturbed.add(other.step(part, 0));
        }
        undisturbed.add(other.end());
        let mut bench = build();
        let mut all = bench.step(&given[..cut], 0);
        let _written = bench.changed();
        for _ in 0..5 {
            let idle = bench.idle();
            assert!(idle.is_empty(), "idleness: told the same time again it makes nothing: {:?}", idle.texts());
        }
        let changed = bench.changed();
        assert!(changed.is_empty(), "idleness: told the same time again it changes nothing of {changed:?}");
        all.add(bench.step(&given[cut..], 0));
        all.add(bench.end());
        assert_eq!(all.texts(), undisturbed.texts(), "idleness: behind {cut} events it decides as without");
        assert!(bench.end().is_empty(), "idleness: behind its end it makes nothing");
    }
}

/// That all is silent takes nothing away from what comes at the end, and repeats nothing.
fn check_silence(build: &dyn Fn() -> Bench, given: &[Given]) {
    let mut bench = build();
    let mut all = bench.step(given, 0);
    all.add(bench.silent());
    let again = bench.silent();
    assert!(again.is_empty(), "silence: told of it again it makes nothing: {:?}", again.texts());
    all.add(bench.end());
    let results = all.results();
    let there = BTreeSet::from_iter(&results);
    assert_eq!(there.len(), results.len(), "silence: it makes nothing twice: {results:?}");
    let missing: Vec<_> =
        run(build, given, given.len()).results().into_iter().filter(|it| !there.contains(it)).collect();
    assert!(missing.is_empty(), "silence: what would come without it comes with it: {missing:?}");
}

/// A time between two runs in which nothing is remembered of the first.
const MONTH: i64 = 30 * 86_400_000;
/// How far an event may be ahead of the one before it.
const MOST_AHEAD: i64 = 600_000;

/// One event is ahead of the wall clock by far: some time later nothing is different because of that.
fn check_ahead(build: &dyn Fn() -> Bench, bodies: &[Body], far: i64) {
    let from = |start: i64| (0..EVENTS as i64).map(|at| start + at * STRIDES[1] + at).collect::<Vec<_>>();
    let (before, behind) = (at(bodies, from(START)), at(bodies, from(START + MONTH)));
    let end = |start: i64| Timestamp(start + EVENTS as i64 * STRIDES[1] + MOST_AHEAD);
    let horizon = [end(START), end(START + MONTH)];
    let run = |ahead: &[Given]| {
        let mut bench = build().bounded(horizon[0]);
        let _before = bench.step(&before, 0);
        let _ahead = bench.step(ahead, EVENTS);
        // Time goes on, and with it the wall clock: what was open is over.
        let mut bench = bench.bounded(horizon[1]);
        let _between = bench.step(&behind[..1], 2 * EVENTS);
        let mut all = bench.step(&behind[1..], 2 * EVENTS + 1);
        all.made.retain(|event| event.time <= horizon[1]);
        all
    };
    let ahead = at(&bodies[..1], vec![far]);
    let (with, without) = (run(&ahead), run(&[]));
    no_panic(&with, "an event ahead of the clock");
    assert_eq!(with.texts(), without.texts(), "an event ahead of the clock, at {far}: later it decides as without it");
}

/// Time jumps `far` ahead, and back.
fn check_jump(build: &dyn Fn() -> Bench, config: &dyn TransformConfig, bodies: &[Body], far: i64) {
    let stride = STRIDES[1];
    let mut times: Vec<i64> = (0..EVENTS as i64 / 2).map(|at| START + at * stride + at).collect();
    let jump = times.len();
    times.push(far);
    times.extend((1..6).map(|at| START + at * stride + 100 + at));
    times.extend([EARLIEST, -1, 0, far - 1]);
    let given = at(bodies, times);
    let what = format!("a jump of the clock to {far}");

    let mut bench = build();
    let mut all = bench.step(&given[..jump], 0);
    all.add(bench.step(&given[jump..=jump], jump));
    if config.event_time() != EventTime::Unused {
        let expected = run(build, &given[..jump], jump).results();
        let there: BTreeSet<String> = all.results().into_iter().collect();
        let missing: Vec<_> = expected.into_iter().filter(|result| !there.contains(result)).collect();
        assert!(missing.is_empty(), "{what}: what is due by then comes out: {missing:?}");
    }
    all.add(bench.step(&given[jump + 1..], jump + 1));
    all.add(bench.end());
    no_panic(&all, &what);
    let mut seen = BTreeSet::new();
    let twice: Vec<_> = all.results().into_iter().filter(|result| !seen.insert(result.clone())).collect();
    assert!(twice.is_empty(), "{what}: what is due comes out once: {twice:?}");
    assert_eq!(run(build, &given, given.len()).texts(), all.texts(), "{what}: batches may end anywhere");
    check_restarts(build, &given, &all);
    check_behind_the_end(build, bench, bodies, far, &what);
}

/// The end of time is none to remember: there may be more, as in a file that grows.
fn check_behind_the_end(build: &dyn Fn() -> Bench, mut bench: Bench, bodies: &[Body], far: i64, what: &str) {
    let mut restarted = bench.checkpoint(build);
    let more = at(bodies, (0..8).map(|at| far.min(FURTHEST - 8) + at).collect());
    let (mut goes_on, mut begins_again) = (bench.step(&more, 0), restarted.step(&more, 0));
    goes_on.add(bench.end());
    begins_again.add(restarted.end());
    no_panic(&goes_on, what);
    assert_eq!(goes_on.texts(), begins_again.texts(), "{what}: a restart goes on with what there is");
}
