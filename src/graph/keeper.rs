//! The tasks behind the epochs of a graph: who opens them and writes them, and who runs the state partitions.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::epochs::Epochs;
use super::exchange::{Content, Exchange, InputId, Message, Tag};
use super::plan::origin_of;
use super::shard::{Shard, Told};
use super::shared::Shared;
use crate::component::{Lanes, Origin, Read, ReadLimit, Source};
use crate::error::Result;
use crate::event::{OriginId, Position};
use crate::failpoint::failpoint;
use crate::state::{Changes, GraphState};

/// A checkpoint that took long is not followed by the next at once: at most this share of the time is spent in them.
const SHARE: u32 = 4;

/// Opens the epochs of a graph one after the other, and writes them.
pub(crate) struct Keeper {
    pub epochs: Arc<Epochs>,
    pub shared: Arc<Shared>,
    pub exchanges: Vec<Exchange>,
    /// `None`: what is remembered is not to survive.
    pub state: Option<Arc<GraphState>>,
    pub every: Duration,
    /// Sources that have not opened all their lanes yet: event time waits for them.
    pub unopened: watch::Receiver<usize>,
    /// Set once state partitions have been sent that event time need not wait for such sources any more.
    pub all_opened: watch::Sender<bool>,
}

impl Keeper {
    /// Works until it is aborted.
    pub async fn run(mut self) {
        let input = self.epochs.input();
        let origin = origin_of("", "epochs", 0);
        let tag = self.epochs.signal().borrow().tag;
        self.tell(input, tag, || Content::Open(origin.clone())).await;
        let mut waits = true;
        let clock = self.shared.clock.clone();
        let mut next = clock.uptime() + self.every;
        loop {
            if waits && *self.unopened.borrow_and_update() == 0 {
                waits = false;
                let tag = self.epochs.signal().borrow().tag;
                self.tell(input, tag, || Content::Idle(None)).await;
                self.all_opened.send_replace(true);
            }
            if let Some(changes) = self.epochs.take_complete() {
                let begun = clock.uptime();
                self.write(changes);
                let took = clock.uptime().saturating_sub(begun);
                next = next.max(clock.uptime() + took * SHARE);
            }
            let now = clock.uptime();
            if (now >= next || self.epochs.is_urgent())
                && let Some((tag, epoch)) = self.epochs.begin()
            {
                next = now + self.every;
                self.tell(input, tag, || Content::Barrier(epoch)).await;
                self.shared.flush_sinks();
                continue;
            }
            let pause = if now >= next { self.every } else { next - now };
            tokio::select! {
                () = self.epochs.woken() => {}
                () = clock.sleep(pause) => {}
                Ok(()) = self.unopened.changed(), if waits => {}
            }
        }
    }

    /// Tells every state partition there is.
    async fn tell(&self, input: InputId, tag: Tag, content: impl Fn() -> Content) {
        for exchange in &self.exchanges {
            exchange.tell_all(input, tag, &content).await;
        }
    }

    fn write(&self, changes: Changes) {
        failpoint("checkpoint");
        let result = match &self.state {
            Some(state) => tokio::task::block_in_place(|| state.write(changes)),
            None => Ok(()),
        };
        if let Err(error) = &result {
            tracing::error!(%error, "a checkpoint cannot be written: the graph stops");
        }
        failpoint("checkpoint_written");
        self.epochs.written(result.is_ok());
    }
}

/// Lets the time of every state partition come to its end.
pub(crate) struct EndOfTime;

#[async_trait]
impl Source for EndOfTime {
    async fn run(self: Box<Self>, lanes: Lanes) -> Result<()> {
        lanes.run_one(Box::new(Nothing)).await
    }
}

/// A log that holds nothing.
struct Nothing;

#[async_trait]
impl Origin for Nothing {
    fn id(&self) -> Arc<OriginId> {
        origin_of("", "end", 0)
    }
    async fn read(&mut self, _: ReadLimit) -> Result<Read> {
        Ok(Read::End)
    }
    async fn commit(&mut self, _: Position) -> Result<()> {
        Ok(())
    }
    async fn seek(&mut self, _: Position) -> Result<()> {
        Ok(())
    }
}

/// Starts the task of a state partition.
pub(crate) fn run_shard(
    tasks: &mut JoinSet<()>,
    mut shard: Shard,
    mut messages: mpsc::Receiver<Message>,
    shared: Arc<Shared>,
    epochs: Arc<Epochs>,
) {
    tasks.spawn(async move {
        let (mut outgoing, mut signal) = (Vec::new(), epochs.signal());
        loop {
            let mut now = *signal.borrow_and_update();
            let is_full = shard.is_full(&now);
            // Also while it is full: who sends to it has checkpoints to take part in. What waits here is bounded by the
            // memory of the graph.
            tokio::select! {
                message = messages.recv() => match message {
                    Some(message) => shard.receive(message),
                    None => return,
                },
                Ok(()) = signal.changed(), if is_full => now = *signal.borrow_and_update(),
            }
            while !shard.is_full(&now)
                && let Some(done) = shard.step(&mut outgoing)
            {
                shared.send(&mut outgoing, (shard.input, shard.tag)).await;
                match done {
                    Ok(Some(Told { tag, epoch, changes })) => epochs.shard_told(tag, epoch, changes),
                    Ok(None) => {}
                    Err(panicked) => epochs.fail(shard.tag, panicked),
                }
                now = *signal.borrow();
                if shard.asks_for_checkpoint(&now) {
                    epochs.hurry();
                }
            }
        }
    });
}
