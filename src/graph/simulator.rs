//! A seeded simulator: one lane over a log, with a sink that delays, reorders, fails and rejects, and a
//! process that crashes between any two steps.
//!
//! What must hold, checked at every commit and at the end: no committed position has an event below it that
//! is neither delivered, filtered nor a dead letter; the books balance; everything arrives once the faults
//! are over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::lane::{Lane, Step as LaneStep};
use super::route::{Node, Outgoing, Route, Step, Target};
use crate::component::{Output, Stateful, Transform};
use crate::delivery::Outcome;
use crate::event::{Batch, Body, Codec, Event, OriginId, OriginKind, Position, Rejected, Timestamp, Verdict};
use crate::state::{GraphState, KeyedState, Resume, StateLimits, StatePart};

const EVENTS: u64 = 60;
/// Every so-many-th event is filtered, rejected by the transform, refused by the sink, or makes it panic.
const FILTERED: u64 = 5;
const REJECTED: u64 = 11;
const REFUSED: u64 = 13;
const PANICS: u64 = 17;
/// With `dedupe`, events come in pairs with the same key.
const PAIR: u64 = 2;

/// What outlives a crash.
struct World {
    committed: u64,
    state: Arc<GraphState>,
    delivered: BTreeMap<u64, u32>,
    dead: BTreeSet<u64>,
}

/// What does not.
struct Process {
    lane: Lane,
    next: u64,
    at_sink: Vec<Batch>,
    at_dead_letters: Vec<(Arc<Node>, crate::delivery::RejectedBatch)>,
    nodes: Vec<Arc<Node>>,
    /// Committed by the lane and not yet durable; a crash loses it.
    commit_under_way: u64,
    /// Settled, and not yet in a checkpoint.
    unwritten: Option<u64>,
}

/// Drops what was seen before, by position pair.
struct Dedupe(KeyedState<Vec<u8>, ()>);

impl Stateful for Dedupe {
    fn process(&mut self, batch: &mut Batch, output: &mut Output) {
        let state = &mut self.0;
        let rejected = batch.decide(|event| {
            state.at(event.time);
            match state.insert_new((event.position.0 / PAIR).to_be_bytes().to_vec(), (), Timestamp(event.time.0 + 20)) {
                true => Verdict::Pass,
                false => Verdict::Filter,
            }
        });
        output.rejected.extend(rejected);
    }
    fn state(&mut self) -> Vec<(&'static str, &mut dyn StatePart)> {
        vec![("seen", &mut self.0)]
    }
}

fn decide(position: u64) -> Verdict {
    match position {
        p if p % REJECTED == REJECTED - 1 => Verdict::Reject { code: "poison", message: "as told".to_owned() },
        p if p % FILTERED == FILTERED - 1 => Verdict::Filter,
        _ => Verdict::Pass,
    }
}

impl Process {
    fn start(world: &World, dedupe: bool) -> Process {
        let node = |id: &str| Arc::new(Node { id: id.into(), ..Node::default() });
        let nodes: Vec<Arc<Node>> = ["source", "fuse", "last", "sink"].into_iter().map(node).collect();
        let decide_all = Transform::stateless(|batch: &mut Batch, output: &mut Output| {
            // Outside of `decide`: this panic takes the whole batch with it.
            if batch.events.iter().any(|event| event.position.0 % PANICS == PANICS - 1) {
                std::panic::resume_unwind(Box::new("as told"));
            }
            output.rejected = batch.decide(|event| decide(event.position.0));
        });
        let last = match dedupe {
            true => Transform::stateful(Dedupe(KeyedState::new(StateLimits { max_keys: 1000 }))),
            false => Transform::stateless(|_: &mut Batch, _: &mut Output| {}),
        };
        let step = |at: usize, transform, next| Step {
            node: nodes[at].clone(),
            transform,
            next,
            named: Vec::new(),
            errors: Vec::new(),
        };
        let steps = vec![step(1, decide_all, vec![Target::Step(1)]), step(2, last, vec![Target::Sink(3)])];
        let origin = OriginId { node: "source".into(), log: "log".into(), partition: 0, kind: OriginKind::Other };
        let route = Route { steps, entry: vec![Target::Step(0)] };
        let mut lane = Lane::new(Arc::new(origin), nodes[0].clone(), route);
        let resume = lane.restore(&world.state).unwrap();
        let next = resume.map_or(world.committed, |resume| resume.position.0);
        assert!(next >= world.committed, "the checkpoint comes before the commit");
        Process {
            lane,
            next,
            at_sink: Vec::new(),
            at_dead_letters: Vec::new(),
            nodes,
            commit_under_way: next,
            unwritten: None,
        }
    }

    fn read(&mut self, most: u64) {
        let careful = self.lane.is_careful_at(Position(self.next));
        if self.lane.awaits_rewind() || (careful && self.lane.open_batches() > 0) {
            return;
        }
        let end = (self.next + if careful { 1 } else { most }).min(EVENTS);
        let event = |position: u64| {
            let body = Body::Raw(Bytes::from(position.to_string()), Codec::Json);
            Event::new(body, Position(position), Timestamp(position as i64))
        };
        let events: Vec<Event> = (self.next..end).map(event).collect();
        self.next = end;
        let mut out = Vec::new();
        self.lane.process(events, None, &mut out);
        for item in out {
            match item {
                Outgoing::Sink { batch, .. } => {
                    self.nodes[3].books.received(batch.events.len());
                    self.at_sink.push(batch);
                }
                Outgoing::DeadLetters { node, batch } => self.at_dead_letters.push((node, batch)),
            }
        }
    }

    /// The sink ends one of its batches, any of them: delivers it, or fails and drops it.
    fn sink(&mut self, world: &mut World, rng: &mut StdRng, fail: bool) {
        if self.at_sink.is_empty() {
            return;
        }
        let mut batch = self.at_sink.swap_remove(rng.random_range(0..self.at_sink.len()));
        let books = &self.nodes[3].books;
        if fail {
            // Part of it may have been written all the same.
            for event in batch.events.iter().take(rng.random_range(0..=batch.events.len())) {
                if event.position.0 % REFUSED != REFUSED - 1 {
                    *world.delivered.entry(event.position.0).or_default() += 1;
                }
            }
            return books.failed(batch.events.len());
        }
        let (refused, taken): (Vec<Event>, Vec<Event>) =
            batch.events.drain(..).partition(|event| event.position.0 % REFUSED == REFUSED - 1);
        for event in &taken {
            *world.delivered.entry(event.position.0).or_default() += 1;
        }
        books.passed(taken.len());
        if !refused.is_empty() {
            let reject = |event| Rejected { event, code: "refused", message: "as told".to_owned() };
            let rejected = crate::delivery::RejectedBatch {
                origin: batch.origin.clone(),
                receipt: batch.receipt.clone(),
                rejected: refused.into_iter().map(reject).collect(),
            };
            self.at_dead_letters.push((self.nodes[3].clone(), rejected));
        }
        batch.receipt.resolve(Outcome::Delivered);
    }

    fn dead_letters(&mut self, world: &mut World) {
        if let Some((node, batch)) = self.at_dead_letters.pop() {
            world.dead.extend(batch.rejected.iter().map(|rejected| rejected.event.position.0));
            node.books.dead_lettered(batch.rejected.len());
            batch.receipt.resolve(Outcome::DeadLettered);
        }
    }

    /// Does one thing the lane asks for.
    fn settle(&mut self, world: &World, dedupe: bool) {
        match self.lane.settle() {
            None => {}
            Some(LaneStep::Rewind(position)) => self.next = position.0,
            Some(LaneStep::Commit(position)) => {
                assert!(position.0 >= self.commit_under_way, "a commit never goes back");
                for below in self.commit_under_way..position.0 {
                    assert!(world.is_settled(below, dedupe), "{below} is committed and lost");
                }
                match self.lane.is_durable() {
                    true => self.unwritten = Some(position.0),
                    false => self.commit_under_way = position.0,
                }
            }
        }
    }

    fn checkpoint(&mut self) {
        if let Some(position) = self.unwritten.take() {
            self.lane.checkpoint(&Resume { position: Position(position), bookmark: Vec::new() }).unwrap();
            self.commit_under_way = position;
        }
    }

    fn is_idle(&self) -> bool {
        self.next == EVENTS
            && self.lane.open_batches() == 0
            && self.at_sink.is_empty()
            && self.at_dead_letters.is_empty()
    }
}

impl World {
    fn is_settled(&self, position: u64, dedupe: bool) -> bool {
        let ended = |position: &u64| self.delivered.contains_key(position) || self.dead.contains(position);
        let filtered = matches!(decide(position), Verdict::Filter);
        // With dedupe one of the pair is enough, if the other was a candidate at all.
        let twin = position ^ 1;
        filtered || ended(&position) || (dedupe && ended(&twin))
    }
}

fn simulate(seed: u64, dedupe: bool) {
    let rng = &mut StdRng::seed_from_u64(seed);
    let state = Arc::new(GraphState::memory());
    let mut world = World { committed: 0, state, delivered: BTreeMap::new(), dead: BTreeSet::new() };
    let mut process = Process::start(&world, dedupe);
    let mut crashes = 0;
    for _ in 0..600 {
        match rng.random_range(0..100) {
            0..30 => process.read(rng.random_range(1..8)),
            30..55 => process.sink(&mut world, rng, false),
            55..62 => process.sink(&mut world, rng, true),
            62..75 => process.dead_letters(&mut world),
            75..91 => process.settle(&world, dedupe),
            91..94 => process.checkpoint(),
            94..97 => world.committed = process.commit_under_way,
            _ => {
                crashes += 1;
                process = Process::start(&world, dedupe);
            }
        }
    }
    // The faults are over: everything must come to its end.
    for _ in 0..10_000 {
        process.read(8);
        process.dead_letters(&mut world);
        process.sink(&mut world, rng, false);
        process.settle(&world, dedupe);
        process.checkpoint();
        world.committed = process.commit_under_way;
        if process.is_idle() && world.committed == EVENTS {
            break;
        }
    }
    assert_eq!(world.committed, EVENTS, "stuck after {crashes} crashes");
    for position in 0..EVENTS {
        assert!(world.is_settled(position, dedupe), "{position} is lost");
        let expected_dead = [REJECTED, PANICS].iter().any(|nth| position % nth == nth - 1);
        if expected_dead {
            assert!(!world.delivered.contains_key(&position), "{position} is delivered and was rejected");
            assert!(world.dead.contains(&position), "{position} should be a dead letter");
        }
        // What the lane remembered before a crash decides behind it, too: the second of a pair never gets through.
        let reaches_dedupe = |p: u64| matches!(decide(p), Verdict::Pass) && p % PANICS != PANICS - 1;
        if dedupe && position % PAIR == 1 && reaches_dedupe(position - 1) {
            assert!(!world.delivered.contains_key(&position), "{position} is delivered, and so is its twin");
        }
    }
    for node in &process.nodes {
        assert_eq!(node.books.totals().in_flight(), 0, "the books of {} balance: {:?}", node.id, node.books.totals());
    }
}

/// Thousands of schedules; names the one that failed, so that it can be run alone.
#[test]
fn no_schedule_loses_an_acknowledged_event() {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let first = number("WEIR_SIMULATION_SEED").unwrap_or(0);
    let schedules = number("WEIR_SIMULATIONS").unwrap_or(3000);
    for seed in first..first + schedules {
        for dedupe in [false, true] {
            if let Err(panic) = std::panic::catch_unwind(|| simulate(seed, dedupe)) {
                eprintln!(
                    "schedule {seed}, dedupe {dedupe}: WEIR_SIMULATION_SEED={seed} WEIR_SIMULATIONS=1 runs it alone"
                );
                std::panic::resume_unwind(panic);
            }
        }
    }
    println!("{schedules} schedules from seed {first}, with and without dedupe");
}
