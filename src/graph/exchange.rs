//! The exchange in front of a node with keyed state: from lanes, which have the events of a partition, to state partitions
//! ([`Shard`](super::shard::Shard)s), which have the events of a key.
//!
//! What goes over the channel between them is a [`Message`] of an *input*: a lane, or a state partition further up. Behind
//! a rewind everything is sent anew, under the next [`Tag`]; what is still on its way under an old one is worth nothing.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::component::{Row, Times};
use crate::delivery::{Books, Outcome, Receipt};
use crate::event::{Batch, Event, OriginId, Timestamp};

/// Which try to get on from a checkpoint something belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Tag {
    /// Rises by one with every rewind.
    pub generation: u64,
    /// The durable epoch that the generation began from.
    pub base: u64,
    /// Barriers up to this one belong to earlier generations.
    pub barrier: u64,
}

/// Who sends into an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct InputId(pub u64);

/// What a state partition is told.
#[derive(Debug)]
pub(crate) struct Message {
    pub input: InputId,
    pub tag: Tag,
    pub content: Content,
}

#[derive(Debug)]
pub(crate) enum Content {
    /// The input is there: event time waits for it from now on, and barriers do. It takes the place of one before it with
    /// the same origin.
    Open(Arc<OriginId>),
    /// The input is gone, and all that it sent is settled or taken back.
    Close {
        /// There would have been more: event time goes on waiting.
        waits: bool,
    },
    /// Events, and how far time has come behind them.
    Pass(Pass),
    /// The input has nothing to say for a while: event time does not wait for it until it has. The receipt waits for what
    /// becomes due by that; without one, that happens with the next message that has one.
    Idle(Option<Receipt>),
    /// What comes behind this belongs to the next epoch.
    Barrier(u64),
}

/// What one batch of an input comes to in one state partition.
#[derive(Debug)]
pub(crate) struct Pass {
    pub parts: Vec<(Batch, Vec<Row>)>,
    pub times: Times,
    /// Waits for what becomes due by then.
    pub receipt: Receipt,
    /// There is one event in all: a panic is its fault.
    pub alone: bool,
    /// Of the node: the events are received, and nothing else yet.
    pub books: Arc<Books>,
}

impl Pass {
    /// It will not be decided on: it comes again.
    pub fn fail(self) {
        self.books.failed(self.parts.iter().map(|(batch, _)| batch.events.len()).sum());
    }
}

/// The way into the state partitions of one node.
#[derive(Debug, Clone)]
pub(crate) struct Exchange {
    /// Number of the node in the plan.
    pub node: usize,
    pub shards: Vec<mpsc::Sender<Message>>,
}

impl Exchange {
    /// Which state partition has the key. It stays from version to version: state lies where it says.
    pub fn shard_of(key: &[u8], shards: usize) -> usize {
        crc32fast::hash(key) as usize % shards.max(1)
    }

    /// Tells every state partition.
    pub async fn tell_all(&self, input: InputId, tag: Tag, content: impl Fn() -> Content) {
        for shard in &self.shards {
            // Its task ends with the graph.
            let _gone = shard.send(Message { input, tag, content: content() }).await;
        }
    }
}

/// What a step collects for each state partition while one batch goes through the route.
#[derive(Debug)]
pub(crate) struct Collector {
    /// Number of the exchange's node in the plan.
    pub node: usize,
    parts: Vec<Vec<(Batch, Vec<Row>)>>,
    /// What the state partitions were told last.
    told: Times,
    /// Whether the end of this lane is the end of all.
    pub is_last: bool,
    books: Arc<Books>,
}

impl Collector {
    pub fn new(node: usize, shards: usize, books: Arc<Books>) -> Collector {
        let parts = std::iter::repeat_with(Vec::new).take(shards.max(1)).collect();
        Collector { node, parts, told: Times::BEGINNING, is_last: false, books }
    }

    pub fn shards(&self) -> usize {
        self.parts.len()
    }

    /// Shares a batch out by key.
    pub fn add(&mut self, mut batch: Batch, rows: Vec<Row>) {
        let shards = self.parts.len();
        let to: Vec<usize> = rows.iter().map(|row| Exchange::shard_of(&row.key, shards)).collect();
        let mut counts = vec![0; shards];
        to.iter().for_each(|shard| counts[*shard] += 1);
        // As large as needed: many of these may wait.
        let room = |count: usize| (Vec::with_capacity(count), Vec::with_capacity(count));
        let mut split: Vec<(Vec<Event>, Vec<Row>)> = counts.into_iter().map(room).collect();
        for ((event, row), shard) in batch.events.drain(..).zip(rows).zip(to) {
            let (events, rows) = &mut split[shard];
            events.push(event);
            rows.push(row);
        }
        for (parts, (events, rows)) in self.parts.iter_mut().zip(split) {
            if !events.is_empty() {
                parts.push((batch.with_events(events), rows));
            }
        }
        batch.receipt.resolve(Outcome::Filtered);
    }

    /// What is to be sent, by number of the state partition.
    pub fn take(&mut self, times: Times, receipt: &Receipt, alone: bool) -> Vec<(usize, Content)> {
        let before = self.told;
        if times.watermark != Timestamp::MAX || self.is_last {
            self.told.watermark = before.watermark.max(times.watermark);
        }
        self.told.now = before.now.max(times.now);
        let (told, has_moved) = (self.told, self.told != before);
        let full = self.parts.iter_mut().enumerate().filter(|(_, parts)| has_moved || !parts.is_empty());
        full.map(|(shard, parts)| {
            let (parts, receipt) = (std::mem::take(parts), receipt.clone());
            (shard, Content::Pass(Pass { parts, times: told, receipt, alone, books: self.books.clone() }))
        })
        .collect()
    }

    /// Behind a rewind everything is told anew. Gives how many events were collected.
    pub fn forget(&mut self) -> usize {
        self.told = Times::BEGINNING;
        self.parts.iter_mut().flat_map(std::mem::take).map(|(batch, _)| batch.events.len()).sum()
    }
}
