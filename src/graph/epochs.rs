//! Epochs: when lanes and state partitions stand at a barrier, what they remember there, and when that is durable.
//!
//! One graph has one row of epochs. A checkpoint goes like this: every lane, between two batches, tells what its transforms
//! remember and where it stands, and sends a barrier through its exchanges. A state partition that has had the barrier of
//! every input tells what it remembers, and passes the barrier on. When all have told, and every lane has settled what it
//! read in front of its barrier, all of it is written in one write. (Chandy and Lamport 1985, as aligned snapshots: Carbone
//! et al. 2015.) When something fails, the lanes go back to the last durable epoch together, as a new generation.
//!
//! No I/O happens here, and no waiting: the simulator calls the same functions as the tasks.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use super::exchange::{InputId, Tag};
use super::poison::Poison;
use super::route::Panicked;
use crate::state::Changes;

/// What lanes have to know; they look at it between two batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Signal {
    pub tag: Tag,
    /// The latest barrier that was asked for.
    pub barrier: u64,
    /// The latest durable epoch.
    pub durable: u64,
    /// Whether this generation reads events one by one as far as the last one came.
    pub careful: bool,
    /// A checkpoint failed for good: nothing goes on.
    pub is_broken: bool,
}

/// The epochs of a graph.
#[derive(Debug)]
pub(crate) struct Epochs {
    inner: Mutex<Inner>,
    signal: watch::Sender<Signal>,
    /// Something may be written, or somebody waits for a checkpoint.
    wake: Notify,
    pub poison: Arc<Poison>,
}

#[derive(Debug, Default)]
struct Inner {
    next_input: u64,
    lanes: HashSet<InputId>,
    /// State partitions in all.
    shards: usize,
    open: Option<Open>,
    /// An epoch is being written.
    writing: bool,
    /// What is to follow once it is.
    rewind: Option<Panicked>,
    /// Whether anything came since the last barrier.
    is_dirty: bool,
    /// Somebody waits for a checkpoint.
    is_urgent: bool,
}

/// An epoch between its barrier and its being durable.
#[derive(Debug, Default)]
struct Open {
    /// Lanes that have not told what they remember.
    untold: HashSet<InputId>,
    /// Lanes that have not settled what they read in front of the barrier.
    unsettled: HashSet<InputId>,
    /// State partitions that have told.
    told_shards: usize,
    changes: Changes,
}

impl Epochs {
    /// Epochs of a graph with so many state partitions in all.
    pub fn new(shards: usize) -> Epochs {
        Epochs {
            inner: Mutex::new(Inner { shards, ..Inner::default() }),
            signal: watch::Sender::default(),
            wake: Notify::new(),
            poison: Arc::default(),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What lanes have to know, now and from now on.
    pub fn signal(&self) -> watch::Receiver<Signal> {
        self.signal.subscribe()
    }

    /// A number for somebody who sends into exchanges.
    pub fn input(&self) -> InputId {
        let mut inner = self.inner();
        inner.next_input += 1;
        InputId(inner.next_input)
    }

    /// A lane joins; gives the generation, and the last barrier that it need not heed. An epoch that is open waits for it,
    /// too: what it sends from now on may reach state partitions that have not told yet.
    ///
    /// State partitions must have been sent that the lane is there: it is then in front of the barriers of all epochs that
    /// begin from now on, and none of them tells before it has the lane's. Barriers that are not heeded yet come before
    /// events.
    pub fn join(&self, lane: InputId) -> (Tag, u64) {
        let mut inner = self.inner();
        let signal = *self.signal.borrow();
        inner.lanes.insert(lane);
        let barrier = match &mut inner.open {
            Some(open) => {
                open.untold.insert(lane);
                open.unsettled.insert(lane);
                signal.barrier - 1
            }
            None => signal.barrier,
        };
        (signal.tag, barrier)
    }

    /// A lane ends. One that leaves something unsettled takes it back from the states of all.
    pub fn leave(&self, lane: InputId, is_clean: bool) {
        let mut inner = self.inner();
        inner.lanes.remove(&lane);
        if let Some(open) = &mut inner.open {
            open.untold.remove(&lane);
            open.unsettled.remove(&lane);
        }
        drop(inner);
        if !is_clean {
            self.rewind(Panicked::Event);
        }
        self.wake.notify_one();
    }

    /// Something came, or was settled, that the next checkpoint is to hold.
    pub fn touch(&self) {
        self.inner().is_dirty = true;
    }

    /// Asks for a checkpoint soon.
    pub fn hurry(&self) {
        let mut inner = self.inner();
        inner.is_urgent = true;
        inner.is_dirty = true;
        drop(inner);
        self.wake.notify_one();
    }

    /// Whether somebody waits for a checkpoint that no open epoch will be.
    pub fn is_urgent(&self) -> bool {
        let inner = self.inner();
        inner.is_urgent && inner.open.is_none() && !inner.writing
    }

    /// Opens the next epoch's barrier, unless one is open or nothing came since the last. Whoever called it sends the
    /// barrier through every exchange: one of the inputs is its own.
    pub fn begin(&self) -> Option<(Tag, u64)> {
        let mut inner = self.inner();
        if inner.open.is_some() || inner.writing || !inner.is_dirty {
            return None;
        }
        (inner.is_dirty, inner.is_urgent) = (false, false);
        let lanes = inner.lanes.clone();
        inner.open = Some(Open { untold: lanes.clone(), unsettled: lanes, ..Open::default() });
        self.signal.send_modify(|signal| signal.barrier += 1);
        let signal = *self.signal.borrow();
        drop(inner);
        self.wake.notify_one();
        Some((signal.tag, signal.barrier))
    }

    /// What concerns the open epoch, if it is still this one.
    fn with_open(&self, tag: Tag, number: u64, change: impl FnOnce(&mut Open)) {
        let mut inner = self.inner();
        let signal = *self.signal.borrow();
        if signal.tag != tag || signal.barrier != number {
            return;
        }
        if let Some(open) = &mut inner.open {
            change(open);
            drop(inner);
            self.wake.notify_one();
        }
    }

    /// A lane stands at the barrier, and remembers this.
    pub fn lane_told(&self, lane: InputId, tag: Tag, number: u64, changes: Changes) {
        self.with_open(tag, number, |open| {
            if open.untold.remove(&lane) {
                open.changes.extend(changes);
            }
        });
    }

    /// A lane has settled everything in front of the barrier.
    pub fn lane_settled(&self, lane: InputId, tag: Tag, number: u64) {
        self.with_open(tag, number, |open| {
            open.unsettled.remove(&lane);
        });
    }

    /// A state partition has had the barrier of all its inputs, and remembers this.
    pub fn shard_told(&self, tag: Tag, number: u64, changes: Changes) {
        self.with_open(tag, number, |open| {
            open.told_shards += 1;
            open.changes.extend(changes);
        });
    }

    /// The epoch that can be written now, once. [`Epochs::written`] is to follow.
    pub fn take_complete(&self) -> Option<Changes> {
        let mut inner = self.inner();
        let shards = inner.shards;
        let open = inner
            .open
            .take_if(|open| open.untold.is_empty() && open.unsettled.is_empty() && (open.told_shards == shards))?;
        inner.writing = true;
        Some(open.changes)
    }

    /// The epoch that was taken is durable, or cannot be.
    pub fn written(&self, is_written: bool) {
        let mut inner = self.inner();
        inner.writing = false;
        let rewind = inner.rewind.take();
        self.signal.send_modify(|signal| match is_written {
            true => (signal.durable, signal.careful) = (signal.barrier, false),
            false => signal.is_broken = true,
        });
        drop(inner);
        if let Some(why) = rewind {
            self.rewind(why);
        }
        self.wake.notify_one();
    }

    /// Something failed in a generation: everybody goes back, if that has not happened yet.
    pub fn fail(&self, tag: Tag, why: Panicked) {
        if self.signal.borrow().tag == tag {
            self.rewind(why);
        }
    }

    /// Everything behind the last durable epoch is to come again.
    pub fn rewind(&self, why: Panicked) {
        let mut inner = self.inner();
        if inner.writing {
            // Whether it is durable decides where to begin.
            inner.rewind = Some(match inner.rewind {
                Some(Panicked::Batch) => Panicked::Batch,
                _ => why,
            });
            return;
        }
        inner.open = None;
        inner.is_dirty = true;
        self.signal.send_modify(|signal| {
            let generation = signal.tag.generation + 1;
            signal.tag = Tag { generation, base: signal.durable, barrier: signal.barrier };
            signal.careful |= why == Panicked::Batch;
        });
    }

    /// Resolves when something may be to be done: see [`Epochs::take_complete`] and [`Epochs::is_urgent`].
    pub async fn woken(&self) {
        self.wake.notified().await;
    }
}
