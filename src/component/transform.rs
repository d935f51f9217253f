//! Transforms: plain functions over batches.

use std::fmt::Debug;

use super::{BuildContext, Problems};
use crate::error::Result;
use crate::event::{Batch, Event, Rejected, Timestamp};
use crate::state::StatePart;

/// A transform's options.
#[typetag::deserialize(tag = "type")]
pub trait TransformConfig: Debug + Send + Sync {
    /// Reports every problem of the options that their types cannot express.
    fn check(&self, _problems: &mut Problems) {}

    /// Whether the transform keeps state; it then sees the batches of each lane on its own.
    fn is_stateful(&self) -> bool {
        false
    }

    /// What its state means, from the options that give it its meaning: the state of another meaning is not taken up.
    fn state_identity(&self) -> String {
        String::new()
    }

    /// Names of its outputs, where it has several: `[split.crash]` among a node's inputs reads output `crash` of `split`.
    /// Empty: it has one, read by the node's id alone. (`errors` is there in any case.)
    fn ports(&self) -> Vec<String> {
        Vec::new()
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
    pub(crate) named: Vec<NamedOutput>,
    /// Events sent to named ports, each counted once.
    pub(crate) sent: usize,
}

/// What goes to a named port.
#[derive(Debug)]
pub(crate) struct NamedOutput {
    pub events: Vec<Event>,
    /// Whether anybody reads it.
    pub is_read: bool,
}

impl Output {
    pub(crate) fn with_ports(is_read: impl Iterator<Item = bool>) -> Output {
        let named = is_read.map(|is_read| NamedOutput { events: Vec::new(), is_read }).collect();
        Output { named, ..Output::default() }
    }

    /// Sends an event to named ports, by their numbers in [`TransformConfig::ports`]. It counts as filtered when nobody
    /// reads any of them.
    pub fn send(&mut self, event: Event, ports: impl IntoIterator<Item = usize>) {
        let mut last: Option<usize> = None;
        for port in ports {
            if self.named.get(port).is_some_and(|named| named.is_read)
                && let Some(before) = last.replace(port)
            {
                self.named[before].events.push(event.clone());
            }
        }
        if let Some(last) = last {
            self.named[last].events.push(event);
            self.sent += 1;
        }
    }
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

/// A transform that remembers. The lane takes back, writes and brings back what it names in [`state`](Self::state): an
/// author writes nothing for that.
pub trait Stateful: Send {
    /// Decides on a batch.
    fn process(&mut self, batch: &mut Batch, output: &mut Output);

    /// Time went on: everything due at `watermark` is to happen now.
    fn watermark(&mut self, _watermark: Timestamp) {}

    /// Everything it remembers, each under a name that stays from version to version: see
    /// [`crate::state::KeyedState`].
    fn state(&mut self) -> Vec<(&'static str, &mut dyn StatePart)>;
}
