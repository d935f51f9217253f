//! Sinks: the end of a lane.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;

use super::{BuildContext, Finding, ProbeContext, Problems, Resource};
use crate::error::Result;
use crate::event::Batch;

/// A sink's options.
#[typetag::deserialize(tag = "type")]
#[async_trait]
pub trait SinkConfig: Debug + Send + Sync {
    /// Reports every problem of the options that their types cannot express.
    fn check(&self, _problems: &mut Problems) {}

    /// What it writes to or listens on outside of the graph, where that is known before anything starts. The graph is checked for nodes that
    /// exclude each other, and for output that is read again.
    fn resources(&self) -> Vec<Resource> {
        Vec::new()
    }

    /// For `weir explain`: when an event counts as delivered, and what a replay does. One line.
    fn explain(&self) -> String {
        String::new()
    }

    /// For `weir doctor`: asks the peer whether it will work, without changing anything there. Every question ends
    /// within the context's limit.
    async fn probe(&self, _context: &ProbeContext) -> Vec<Finding> {
        Vec::new()
    }

    /// Makes the sink. It need not reach its peer yet: a peer that is down is waited for, not an error.
    async fn build(&self, context: &BuildContext) -> Result<Arc<dyn Sink>>;
}

/// A sink at work, shared by all lanes that end in it.
///
/// For every batch the sink, in the end, resolves its receipt: `Delivered` when all of it is durable,
/// `Failed` (or a plain drop) when it has to be read again. Events the peer will never take go to
/// `context.rejects` with a clone of the receipt. Temporary trouble is not an outcome: the sink waits,
/// with jittered back-off, tries again, and says so by `context.trouble`. Delivered events are counted with `context.books.passed`.
#[async_trait]
pub trait Sink: Send + Sync {
    /// Takes the batch over. Returns when it has room for the next: waiting here is the back-pressure.
    async fn write(&self, batch: Batch);

    /// Sends out what is held back and returns when everything taken so far is settled.
    async fn flush(&self);

    /// A `--once` run ended well: every source is exhausted and everything is delivered.
    async fn complete(&self) -> Result<()> {
        Ok(())
    }
}
