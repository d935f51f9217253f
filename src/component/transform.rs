//! Transforms: plain functions over batches.

use std::fmt::Debug;

use super::{BuildContext, Problems};
use crate::error::Result;
use crate::event::{Batch, Rejected, Timestamp};

/// A transform's options.
#[typetag::deserialize(tag = "type")]
pub trait TransformConfig: Debug + Send + Sync {
    /// Reports every problem of the options that their types cannot express.
    fn check(&self, _problems: &mut Problems) {}

    /// Whether the transform keeps state; it then sees the batches of each lane on its own.
    fn is_stateful(&self) -> bool {
        false
    }

    /// For `weir explain`: what it reads of an event, and what it changes. One line.
    fn explain(&self) -> String {
        String::new()
    }

    /// Makes the transform of one lane. Called once a lane, so a Kafka partition has its own.
    fn build(&self, context: &BuildContext) -> Result<Transform>;
}

/// Where a transform puts what does not stay in the batch.
#[derive(Debug, Default)]
pub struct Output {
    /// Events for the `errors` port.
    pub rejected: Vec<Rejected>,
}

/// What a transform without memory does to a batch.
pub type Process = Box<dyn FnMut(&mut Batch, &mut Output) + Send>;

/// A transform at work, for one lane.
pub enum Transform {
    /// Decides on each batch from nothing but the batch.
    Stateless(Process),
    /// Remembers.
    Stateful(Box<dyn Stateful>),
}

impl Transform {
    /// A transform without memory.
    pub fn stateless(process: impl FnMut(&mut Batch, &mut Output) + Send + 'static) -> Transform {
        Transform::Stateless(Box::new(process))
    }

    /// A transform with memory.
    pub fn stateful(transform: impl Stateful + 'static) -> Transform {
        Transform::Stateful(Box::new(transform))
    }
}

/// A transform that remembers. Changes made while processing a batch belong to that batch's epoch; keep
/// them in a [`crate::state::KeyedState`], which does what the last three methods ask.
pub trait Stateful: Send {
    /// Decides on a batch.
    fn process(&mut self, batch: &mut Batch, output: &mut Output);

    /// Time went on: everything due at `watermark` is to happen now.
    fn watermark(&mut self, watermark: Timestamp);

    /// What follows belongs to `epoch`.
    fn begin(&mut self, epoch: u64);

    /// `epoch` and all before it are settled.
    fn commit(&mut self, epoch: u64);

    /// The lane reads again from its last commit: forget what was not committed.
    fn abort(&mut self);
}
