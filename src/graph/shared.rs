//! What the lanes and state partitions of a running graph share.

use std::sync::Arc;
use std::time::Duration;

use super::dead_letters::DeadLettersPort;
use super::exchange::{Content, Exchange, InputId, Message, Tag};
use super::route::{Node, Outgoing};
use crate::component::Sink;
use crate::config::Port;
use crate::delivery::MemoryBudget;
use crate::script::take_grown;
use crate::state::Clock;

/// What lanes share.
pub(crate) struct Shared {
    /// By node number; `None` where the node is no sink.
    pub sinks: Vec<Option<Arc<dyn Sink>>>,
    pub nodes: Vec<Arc<Node>>,
    pub dead_letters: DeadLettersPort,
    pub memory: MemoryBudget,
    pub clock: Arc<dyn Clock>,
    pub exchanges: Vec<Exchange>,
    /// How long a lane that has read everything is silent until event time does not wait for it.
    pub idle_timeout: Option<Duration>,
    /// How often processing time is to be told at least, if a node waits for it.
    pub ticks: Option<Duration>,
    /// Time a lane that ends by itself is given to settle what it holds.
    pub drain: Duration,
    pub once: bool,
}

impl Shared {
    /// Hands everything over; waits where a sink or a state partition has no room.
    pub async fn send(&self, outgoing: &mut Vec<Outgoing>, (input, tag): (InputId, Tag)) {
        // Before anything waits: what events have grown by is counted for the thread they were processed on.
        self.hold_grown(outgoing);
        for item in outgoing.drain(..) {
            match item {
                Outgoing::Shard { node, shard, content } => {
                    let exchange = self.exchanges.iter().find(|exchange| exchange.node == node);
                    if let Some(shard) = exchange.and_then(|exchange| exchange.shards.get(shard)) {
                        // Its task ends with the graph.
                        let _gone = shard.send(Message { input, tag, content }).await;
                    }
                }
                Outgoing::Sink { sink, mut batch } => {
                    let node = &self.nodes[sink];
                    node.books.received(batch.events.len());
                    node.tap.see(Port::Main, &batch.origin, &batch.events);
                    batch.receipt = batch.receipt.timed(&node.latency);
                    if let Some(sink) = &self.sinks[sink] {
                        sink.write(batch).await;
                    }
                }
                // The port is only gone when the process is; the receipt's drop says failed.
                Outgoing::DeadLetters { node, batch } => drop(self.dead_letters.send((node, batch)).await),
            }
        }
    }

    /// Has what leaves a lane or state partition hold the memory that programs have added to its events.
    fn hold_grown(&self, outgoing: &[Outgoing]) {
        let grown = take_grown();
        if grown == 0 {
            return;
        }
        let receipt = outgoing.iter().find_map(|outgoing| match outgoing {
            Outgoing::Sink { batch, .. } => Some(&batch.receipt),
            Outgoing::Shard { content: Content::Pass(pass), .. } => Some(&pass.receipt),
            Outgoing::Shard { .. } | Outgoing::DeadLetters { .. } => None,
        });
        if let (Some(receipt), Some(permit)) = (receipt, self.memory.take(grown)) {
            receipt.hold(permit);
        }
    }

    /// Asks every sink to send out what it holds back; does not wait for it.
    pub fn flush_sinks(&self) {
        for sink in self.sinks.iter().flatten() {
            let sink = sink.clone();
            tokio::spawn(async move { sink.flush().await });
        }
    }
}

#[cfg(test)]
impl Shared {
    /// What lanes of a test share: these nodes, none of them a sink.
    pub fn bare(nodes: Vec<Arc<Node>>) -> Shared {
        Shared {
            sinks: vec![None; nodes.len()],
            nodes,
            dead_letters: tokio::sync::mpsc::channel(1).0,
            memory: MemoryBudget::new(1 << 20),
            clock: Arc::new(crate::state::SystemClock::default()),
            exchanges: Vec::new(),
            idle_timeout: None,
            ticks: None,
            drain: Duration::ZERO,
            once: false,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::delivery::Receipt;
    use crate::event::{Batch, Body, Codec, Event, OriginId, OriginKind, Position, Timestamp};
    use crate::script::Script;

    /// Lanes and state partitions hand over by the same function.
    #[tokio::test]
    async fn what_events_have_grown_by_is_held_wherever_they_were_processed() {
        let shared = Shared::bare(vec![Arc::default()]);
        let origin = OriginId { node: "in".into(), log: "in".into(), partition: 0, kind: OriginKind::Other };
        let body = Body::Raw(bytes::Bytes::from_static(b"{}"), Codec::Json);
        let mut event = Event::new(body, Position(0), Timestamp(0));
        let mut script = Script::compile(".a = \"0123456789\" * 30000").unwrap().0;
        script.run(&mut event, &origin).unwrap();
        let receipt = Receipt::detached();
        let batch =
            Batch { origin: Arc::new(origin), receipt: receipt.clone(), watermark: Timestamp(0), events: vec![event] };
        shared.send(&mut vec![Outgoing::Sink { sink: 0, batch }], Default::default()).await;
        assert!(shared.memory.used() >= 300_000, "{}", shared.memory.used());
        drop(receipt);
        assert_eq!(shared.memory.used(), 0);
    }
}
