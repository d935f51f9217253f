//! A lane as a member of its graph's epochs: what it has told, and what of that is durable.

use std::sync::Arc;

use tokio::sync::watch;

use super::epochs::{Epochs, Signal};
use super::exchange::{InputId, Tag};
use super::lane::Lane;
use super::route::{Outgoing, Panicked};
use crate::event::Position;
use crate::state::Resume;

/// The part of a lane in its graph's epochs.
pub(crate) struct Member {
    pub epochs: Arc<Epochs>,
    pub input: InputId,
    pub tag: Tag,
    signal: watch::Receiver<Signal>,
    /// The last barrier it stood at, or need not heed.
    barrier: u64,
    /// What it told there, until that is durable.
    open: Option<Told>,
    /// Where it goes back to; `None`: it has read nothing yet.
    durable: Option<Position>,
    /// Something came since the last barrier.
    is_changed: bool,
}

/// What a lane told at a barrier.
struct Told {
    epoch: u64,
    position: Option<Position>,
    /// The first batch behind the barrier.
    next_batch: u64,
    is_settled: bool,
}

/// What a lane is to do before it goes on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// Stand at this barrier.
    Tell(u64),
    /// Everything below is durable: commit it.
    Commit(Position),
    /// Go back, if anything was read; events before the second position are read one by one.
    Rewind(Option<Position>, bool),
    /// Nothing goes on.
    Break,
}

impl Member {
    /// A new lane that state partitions know as `input`, and which begins at `resume` where it has been before: see
    /// [`Epochs::join`].
    pub fn join(epochs: Arc<Epochs>, input: InputId, resume: Option<&Resume>) -> Member {
        let signal = epochs.signal();
        let (tag, barrier) = epochs.join(input);
        Member {
            epochs,
            input,
            tag,
            signal,
            barrier,
            open: None,
            durable: resume.map(|resume| resume.position),
            is_changed: false,
        }
    }

    /// Resolves when there may be something to do.
    pub async fn changed(&mut self) {
        if self.signal.changed().await.is_err() {
            std::future::pending().await
        }
    }

    /// What is to be done now; to be called until there is nothing.
    pub fn next(&mut self, lane: &mut Lane) -> Option<Task> {
        let signal = *self.signal.borrow_and_update();
        if signal.is_broken {
            return Some(Task::Break);
        }
        let reached = if signal.tag == self.tag { signal.durable } else { signal.tag.base };
        if let Some(told) = self.open.take_if(|told| told.epoch <= reached) {
            lane.written();
            if let Some(position) = told.position {
                self.durable = Some(position);
                return Some(Task::Commit(position));
            }
        }
        if signal.tag != self.tag {
            (self.tag, self.barrier, self.open, self.is_changed) = (signal.tag, signal.tag.barrier, None, false);
            return Some(Task::Rewind(self.durable, signal.careful));
        }
        (signal.barrier > self.barrier).then_some(Task::Tell(signal.barrier))
    }

    /// Stands at a barrier: `place` is where it would go on.
    pub fn tell(&mut self, epoch: u64, lane: &mut Lane, place: Option<Resume>, out: &mut Vec<Outgoing>) {
        let changes = lane.tell(place.as_ref(), epoch, out);
        (self.barrier, self.is_changed) = (epoch, false);
        let (position, next_batch) = (place.map(|place| place.position), lane.next_batch());
        self.open = Some(Told { epoch, position, next_batch, is_settled: false });
        self.epochs.lane_told(self.input, self.tag, epoch, changes);
        self.note_settled(lane);
    }

    /// Something comes that the next checkpoint is to hold; it stands at `position`.
    pub fn touch(&mut self, position: Position) {
        self.durable.get_or_insert(position);
        if !std::mem::replace(&mut self.is_changed, true) {
            self.epochs.touch();
        }
    }

    /// Batches were settled: perhaps all in front of the barrier.
    pub fn note_settled(&mut self, lane: &Lane) {
        if let Some(told) = &mut self.open
            && !told.is_settled
            && lane.is_settled_before(told.next_batch)
        {
            told.is_settled = true;
            self.epochs.lane_settled(self.input, self.tag, told.epoch);
        }
    }

    /// Something failed: everybody goes back.
    pub fn fail(&self, why: Panicked) {
        self.epochs.fail(self.tag, why);
    }

    /// Whether it has a place to go back to.
    pub fn has_begun(&self) -> bool {
        self.durable.is_some()
    }

    /// Asks for a checkpoint, unless one that holds everything is on its way.
    pub fn hurry(&self) {
        if self.is_changed && self.open.is_none() {
            self.epochs.hurry();
        }
    }

    /// Whether everything is durable; asks for what is missing.
    pub fn is_written(&self) -> bool {
        self.hurry();
        !self.is_changed && self.open.is_none()
    }

    /// The generation of all, which this lane may not have seen yet.
    pub fn latest_tag(&self) -> Tag {
        self.signal.borrow().tag
    }
}
