//! A state partition: the events of some keys from every input, and all transforms from the node that keeps state by them
//! to the next exchange or sink.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::epochs::Signal;
use super::exchange::{Content, InputId, Message, Pass, Tag};
use super::plan::origin_of;
use super::route::{Outgoing, Panicked, Route};
use crate::component::{Row, Times};
use crate::delivery::{Outcome, Receipt};
use crate::error::Result;
use crate::event::{Batch, OriginId, Timestamp};
use crate::state::{Changes, Front, GraphState, Kept, NamedPart, Pressure, StatePart};

/// What a state partition knows of one of its inputs.
#[derive(Debug)]
struct Input {
    /// Of a lane: what it reads.
    origin: Option<Arc<OriginId>>,
    watermark: Timestamp,
    is_idle: bool,
    /// It has sent events, or a time.
    has_spoken: bool,
    /// It sends no barriers any more.
    is_gone: bool,
    /// The barrier of the epoch that is aligned came by it: what follows waits.
    has_barrier: bool,
}

impl Input {
    /// Whether it is as idle behind a rewind as before: nothing comes from it again.
    fn stays_idle(&self) -> bool {
        self.is_gone || !self.has_spoken
    }
}

/// A state partition as a synchronous machine.
pub(crate) struct Shard {
    /// The node whose state it is one part of.
    node: Arc<str>,
    number: usize,
    route: Route,
    kept: Kept,
    inputs: BTreeMap<InputId, Input>,
    /// Came, and is not looked at yet.
    waiting: VecDeque<Message>,
    /// Came behind a barrier that other inputs have not sent yet.
    held: VecDeque<Message>,
    /// The barrier that is waited for.
    aligning: Option<u64>,
    /// The epoch of the last snapshot.
    told: u64,
    /// A transform panicked: nothing counts until all begin anew.
    has_failed: bool,
    /// Event time, over all inputs.
    front: Front,
    /// What it is to the exchanges behind it.
    pub input: InputId,
    pub tag: Tag,
}

/// What a state partition remembers at a barrier.
pub(crate) struct Told {
    pub tag: Tag,
    pub epoch: u64,
    pub changes: Changes,
}

impl Shard {
    pub fn new(node: Arc<str>, number: usize, route: Route, input: InputId) -> Shard {
        Shard {
            node,
            number,
            route,
            kept: Kept::default(),
            inputs: BTreeMap::new(),
            waiting: VecDeque::new(),
            held: VecDeque::new(),
            aligning: None,
            told: 0,
            has_failed: false,
            front: Front::default(),
            input,
            tag: Tag::default(),
        }
    }

    /// The nodes whose state partitions it leads to.
    pub fn exchanges(&self) -> impl Iterator<Item = usize> + '_ {
        self.route.exchanges()
    }

    /// Somebody sends to it from now on: a state partition, or a lane over `origin`.
    pub fn open(&mut self, input: InputId, origin: Option<Arc<OriginId>>) {
        if origin.is_some() {
            self.inputs.retain(|_, input| input.origin != origin);
        }
        let watermark = Timestamp::MIN;
        let quiet = Input { origin, watermark, is_idle: false, has_spoken: false, is_gone: false, has_barrier: false };
        self.inputs.insert(input, quiet);
    }

    /// Brings back what it remembered at the last checkpoint.
    pub fn restore(&mut self, state: &GraphState) -> Result<()> {
        let origin = origin_of(&self.node, "", i32::try_from(self.number).unwrap_or(i32::MAX));
        let (kept, _) = state.lane(&origin, self.parts())?;
        self.kept = kept;
        self.front.bound_time(self.route.horizon.look());
        self.route.bound_times();
        self.route.begin_at(self.front.now());
        Ok(())
    }

    fn parts(&mut self) -> Vec<NamedPart<'_>> {
        let mut parts: Vec<NamedPart<'_>> = vec![(&self.node, "watermark", &mut self.front)];
        parts.extend(self.route.parts());
        parts
    }

    /// What it told last is durable.
    fn written(&mut self) {
        self.parts().into_iter().for_each(|(_, _, part)| part.written());
    }

    /// Takes in what an input sent; [`Shard::step`] is to follow until there is nothing to do.
    pub fn receive(&mut self, message: Message) {
        self.waiting.push_back(message);
    }

    /// Does one thing. What leaves goes to `out`, and is best handed over before the next; at a barrier it tells what it
    /// remembers. `None`: there is nothing to do.
    pub fn step(&mut self, out: &mut Vec<Outgoing>) -> Option<Result<Option<Told>, Panicked>> {
        if let Some(message) = self.waiting.front()
            && message.tag > self.tag
        {
            self.rewind(message.tag);
        }
        // What is due by one message comes before the next.
        let result = match self.route.go_on(out) {
            Some(result) => result.map(|()| None),
            None => {
                let message = self.waiting.pop_front()?;
                self.take(message, out)
            }
        };
        self.has_failed |= result.is_err();
        Some(result)
    }

    /// Whether its changes are to be written before the time, and no barrier for that is on its way.
    pub fn asks_for_checkpoint(&mut self, signal: &Signal) -> bool {
        signal.barrier <= self.told.max(self.tag.barrier) && self.route.pressure() >= Pressure::High
    }

    /// Whether nothing more is to be done before the last checkpoint is durable.
    pub fn is_full(&mut self, signal: &Signal) -> bool {
        // Behind a rewind what waits here is worth nothing, and goes by.
        if self.route.pressure() != Pressure::Full || signal.tag != self.tag {
            return false;
        }
        if signal.durable >= self.told {
            self.written();
            return false;
        }
        true
    }

    fn take(&mut self, message: Message, out: &mut Vec<Outgoing>) -> Result<Option<Told>, Panicked> {
        let Message { input: id, tag, content } = message;
        if (tag < self.tag || self.has_failed) && !matches!(content, Content::Open(_) | Content::Close { .. }) {
            match content {
                Content::Pass(pass) => pass.fail(),
                // It says so once, and nothing that it sent comes again.
                Content::Idle(None) => {
                    if let Some(input) = self.inputs.get_mut(&id).filter(|input| input.stays_idle()) {
                        input.is_idle = true;
                    }
                }
                _ => {}
            }
            return Ok(None);
        }
        if self.inputs.get(&id).is_some_and(|input| input.has_barrier) {
            self.held.push_back(Message { input: id, tag, content });
            return Ok(None);
        }
        match content {
            Content::Open(origin) => self.open(id, Some(origin)),
            Content::Close { waits: true } => {
                if let Some(input) = self.inputs.get_mut(&id) {
                    input.is_gone = true;
                }
            }
            Content::Close { waits: false } => {
                self.inputs.remove(&id);
            }
            Content::Pass(Pass { parts, times, receipt, alone, .. }) => {
                if let Some(input) = self.inputs.get_mut(&id) {
                    // One that says nothing but what time it is stays idle.
                    input.is_idle &= parts.is_empty() && times.watermark <= input.watermark;
                    input.has_spoken |= !parts.is_empty() || times.watermark > Timestamp::MIN;
                    input.watermark = input.watermark.max(times.watermark);
                }
                self.process(parts, (times.now, receipt), alone, out)?;
            }
            Content::Idle(receipt) => {
                if let Some(input) = self.inputs.get_mut(&id) {
                    input.is_idle = true;
                }
                if let Some(receipt) = receipt.clone() {
                    self.process(Vec::new(), (Timestamp::MIN, receipt), false, out)?;
                }
                if self.is_silent() {
                    self.route.tell_shards(out, || Content::Idle(receipt.clone()));
                }
                receipt.into_iter().for_each(|receipt| receipt.resolve(Outcome::Filtered));
            }
            // An input that opened after the snapshot of an open epoch sends that barrier all the same. Were it waited for, its
            // next barrier would count as sent already.
            Content::Barrier(epoch) if epoch <= self.told => {}
            Content::Barrier(epoch) => {
                self.aligning = Some(epoch);
                if let Some(input) = self.inputs.get_mut(&id) {
                    input.has_barrier = true;
                }
            }
        }
        Ok(self.align(out))
    }

    /// Whether no input has anything to say.
    fn is_silent(&self) -> bool {
        self.inputs.values().all(|input| input.is_idle)
    }

    fn process(
        &mut self,
        parts: Vec<(Batch, Vec<Row>)>,
        (now, receipt): (Timestamp, Receipt),
        alone: bool,
        out: &mut Vec<Outgoing>,
    ) -> Result<(), Panicked> {
        let active = self.inputs.values().filter(|input| !input.is_idle).map(|input| input.watermark);
        // Where nobody is waited for, the one that came furthest says what time it is.
        let furthest = || self.inputs.values().map(|input| input.watermark).max();
        if let Some(watermark) = active.min().or_else(furthest) {
            self.front.advance(watermark);
        }
        let times = Times { watermark: self.front.now(), now, is_silent: self.is_silent() };
        self.route.process_rows(parts, (times, receipt), alone, out)
    }

    /// What was held comes before what came later.
    fn let_go(&mut self) {
        while let Some(message) = self.held.pop_back() {
            self.waiting.push_front(message);
        }
    }

    /// Where every input has sent the barrier, tells what it remembers and passes the barrier on.
    fn align(&mut self, out: &mut Vec<Outgoing>) -> Option<Told> {
        let epoch = self.aligning?;
        if !self.inputs.values().all(|input| input.has_barrier || input.is_gone) {
            return None;
        }
        self.aligning = None;
        self.inputs.values_mut().for_each(|input| input.has_barrier = false);
        self.let_go();
        // One epoch is open at a time: that there is a next one says that the last is durable.
        self.written();
        let mut changes = Changes::new();
        let kept = std::mem::take(&mut self.kept);
        kept.snapshot(self.parts(), &mut changes);
        self.kept = kept;
        self.told = epoch;
        self.route.tell_shards(out, || Content::Barrier(epoch));
        Some(Told { tag: self.tag, epoch, changes })
    }

    /// Everything behind the durable epoch of the new generation comes again.
    fn rewind(&mut self, tag: Tag) {
        self.tag = tag;
        if tag.base == self.told {
            self.written();
        }
        self.front.abort();
        self.route.rewind();
        self.route.begin_at(self.front.now());
        self.aligning = None;
        self.has_failed = false;
        for input in self.inputs.values_mut() {
            input.has_barrier = false;
            // One that is gone tells nothing anew.
            if !input.is_gone {
                input.watermark = Timestamp::MIN;
            }
            // What it sent comes again, and is waited for.
            input.is_idle &= input.stays_idle();
        }
        // What was held and says who is there still counts.
        self.let_go();
    }
}
