//! The way from a node to its `errors` port.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::Receipt;
use crate::event::{OriginId, Rejected};

/// Events one node rejected, on their way to its `errors` port or the dead letters.
#[derive(Debug)]
pub struct RejectedBatch {
    /// Where the events came from.
    pub origin: Arc<OriginId>,
    /// The rejecting node's share of their batch; resolved when all are durable elsewhere.
    pub receipt: Receipt,
    /// The events with their reasons.
    pub rejected: Vec<Rejected>,
}

/// A sink's `errors` port. Bounded: a full port makes the sink wait, and so its lanes.
#[derive(Debug, Clone)]
pub struct Rejects(mpsc::Sender<RejectedBatch>);

impl Rejects {
    /// A port and its other end.
    pub fn channel() -> (Rejects, mpsc::Receiver<RejectedBatch>) {
        let (sender, receiver) = mpsc::channel(64);
        (Rejects(sender), receiver)
    }

    /// Hands rejected events over. When the graph is gone the receipt drops, which fails the batch.
    pub async fn reject(&self, batch: RejectedBatch) {
        let _gone = self.0.send(batch).await;
    }

    /// The same from a thread outside the runtime, such as a client library's delivery callback.
    pub fn reject_blocking(&self, batch: RejectedBatch) {
        let _gone = self.0.blocking_send(batch);
    }
}
