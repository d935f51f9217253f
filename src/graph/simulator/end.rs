//! The end of a run: its lanes leave, and a last one lets time come to its end.

use rand::RngExt;
use rand::rngs::StdRng;

use std::sync::Arc;

use super::transforms::Windows;
use super::world::World;
use super::{Kind, Process, SHARDS, Source, horizon, step};
use crate::event::Position;
use crate::graph::exchange::{Collector, Content};
use crate::graph::lane::Lane;
use crate::graph::member::Member;
use crate::graph::plan::origin_of;
use crate::graph::route::{Route, Target};
use crate::graph::step::Work;
use crate::state::{KeyedState, StateLimits};

/// Ends the run, and another one that brings nothing new: every window comes out, and none of them again.
pub(super) fn check(process: &mut Process, world: &mut World, rng: &mut StdRng) {
    if world.kind != Kind::Windows {
        return;
    }
    process.settle_all(world, rng);
    process.end_of_time(world, rng);
    world.check_end();
    world.counts.clear();
    let mut next = Process::start(world);
    while next.sources.len() < world.kind.lanes() {
        next.open_next(world).expect("the disk is mended");
    }
    next.settle_all(world, rng);
    next.end_of_time(world, rng);
    assert!(world.counts.is_empty(), "windows come out again: {:?}", world.counts);
}

impl Process {
    /// Lets every lane settle what it has read, and make it durable.
    fn settle_all(&mut self, world: &mut World, rng: &mut StdRng) {
        for _ in 0..2000 {
            for lane in 0..world.kind.lanes() {
                self.settle(lane, world);
            }
            self.dead_letters(world);
            self.sink(world, rng, false);
            (0..SHARDS).for_each(|shard| self.shard(shard));
            self.checkpoint();
            let is_done = |source: &Source| {
                source.lane.open_batches() == 0 && source.member.as_ref().is_none_or(Member::is_written)
            };
            if self.sources.iter().all(is_done) && self.is_idle(world) {
                return;
            }
        }
        panic!("the lanes do not end");
    }

    /// All lanes have ended, and what still waits for time is due: as the graph does when its sources come to their end.
    /// Before that, state partitions may have told what they remember for an epoch that is still open.
    fn end_of_time(&mut self, world: &mut World, rng: &mut StdRng) {
        for number in 0..self.sources.len() {
            let Some(Member { input, tag, .. }) = &self.sources[number].member else { return };
            let (input, tag) = (*input, *tag);
            self.epochs.leave(input, true);
            self.tell_all(input, tag, || Content::Close { waits: false });
        }
        self.epochs.hurry();
        for _ in 0..rng.random_range(0..20) {
            match rng.random_range(0..3) {
                0 => self.checkpoint(),
                _ => self.shard(rng.random_range(0..SHARDS)),
            }
        }
        let end = self.end_lane();
        let number = self.sources.len();
        self.sources.push(end);
        self.settle(number, world);
        let (mut out, Source { lane, member, .. }) = (Vec::new(), &mut self.sources[number]);
        member.iter_mut().for_each(|member| member.touch(Position(0)));
        lane.end(Position(0), &mut out);
        self.carry(number, out);
        for _ in 0..2000 {
            self.sink(world, rng, false);
            (0..SHARDS).for_each(|shard| self.shard(shard));
            self.checkpoint();
            self.settle(number, world);
            let Source { lane, member, .. } = &self.sources[number];
            if lane.open_batches() == 0 && member.as_ref().is_some_and(Member::is_written) {
                return;
            }
        }
        panic!("the end of time does not end");
    }

    /// The lane that lets the time of every state partition come to its end.
    fn end_lane(&mut self) -> Source {
        let mut collector = Collector::new(2, SHARDS, self.nodes[2].books.clone());
        collector.is_last = true;
        let looks = Windows(KeyedState::new(StateLimits::in_memory(0)));
        let steps = vec![step(&self.nodes[2], Work::Share(Box::new(looks), collector), Vec::new())];
        let (entry, horizon) = (vec![Target::Step(0)], horizon());
        let route = Route { steps, entry, is_timed: true, horizon, poison: None, due: None };
        let origin = origin_of("", "end", 0);
        let lane = Lane::new(origin.clone(), Arc::default(), route);
        let (input, tag) = (self.epochs.input(), self.epochs.signal().borrow().tag);
        self.tell_all(input, tag, || Content::Open(origin.clone()));
        let member = Member::join(self.epochs.clone(), input, None);
        Source { lane, member: Some(member), next: 0, commit_under_way: 0, failed: None }
    }
}
