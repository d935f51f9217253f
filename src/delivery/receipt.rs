//! Receipts: who still holds a batch, and how it ended.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use super::{Latency, MemoryPermit};

/// How an event ended, from best to worst; a batch ends as its worst event did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Outcome {
    /// A node ended it, as intended.
    Filtered = 0,
    /// Durable at the sink that took it.
    Delivered = 1,
    /// Held in state; settled when its epoch is durable.
    Absorbed = 2,
    /// Durably among the dead letters.
    DeadLettered = 3,
    /// None of these: it has to be read again.
    Failed = 4,
}

impl Outcome {
    fn from_severity(severity: u8) -> Outcome {
        match severity {
            0 => Outcome::Filtered,
            1 => Outcome::Delivered,
            2 => Outcome::Absorbed,
            3 => Outcome::DeadLettered,
            _ => Outcome::Failed,
        }
    }
}

/// One holder's share of a batch. Clone it for every branch; resolve each clone exactly once.
#[derive(Debug)]
pub struct Receipt {
    shared: Arc<Shared>,
    resolved: bool,
}

#[derive(Debug)]
struct Shared {
    worst: AtomicU8,
    end: End,
}

/// Who learns how it ended.
#[derive(Debug)]
enum End {
    /// The lane that opened the batch.
    Batch {
        batch: u64,
        settlements: Arc<Settlements>,
        /// Memory the batch may use; given back when the batch is settled.
        permits: Mutex<Vec<MemoryPermit>>,
    },
    /// The receipt that this one was split off from to measure a node's latency.
    Timed { outer: Option<Receipt>, since: Instant, latency: Arc<Latency> },
}

impl Receipt {
    /// The first receipt of batch number `batch`; its end is told to `settlements`.
    pub fn new(batch: u64, settlements: Arc<Settlements>, permit: Option<MemoryPermit>) -> Receipt {
        Receipt::ending(End::Batch { batch, settlements, permits: Mutex::new(Vec::from_iter(permit)) })
    }

    fn ending(end: End) -> Receipt {
        let worst = AtomicU8::new(Outcome::Filtered as u8);
        Receipt { shared: Arc::new(Shared { worst, end }), resolved: false }
    }

    /// A receipt in the place of this one that records how long it takes until all of its clones are resolved. Batches that
    /// fail are not recorded.
    #[must_use]
    pub fn timed(self, latency: &Arc<Latency>) -> Receipt {
        Receipt::ending(End::Timed { outer: Some(self), since: Instant::now(), latency: latency.clone() })
    }

    /// Has the batch hold more memory until it is settled.
    pub fn hold(&self, permit: MemoryPermit) {
        let mut receipt = self;
        loop {
            match &receipt.shared.end {
                End::Batch { permits, .. } => {
                    return permits.lock().unwrap_or_else(PoisonError::into_inner).push(permit);
                }
                End::Timed { outer: Some(outer), .. } => receipt = outer,
                End::Timed { outer: None, .. } => return,
            }
        }
    }

    /// A receipt that nobody listens to, for tests of single components.
    pub fn detached() -> Receipt {
        Receipt::new(0, Arc::default(), None)
    }

    /// This holder is done with its share.
    pub fn resolve(mut self, outcome: Outcome) {
        self.note(outcome);
        self.resolved = true;
    }

    /// Notes an outcome for part of the batch without giving the share back.
    pub fn note(&self, outcome: Outcome) {
        // Relaxed: the last drop of the Arc orders these before the read in `Shared::drop`.
        self.shared.worst.fetch_max(outcome as u8, Ordering::Relaxed);
    }
}

impl Clone for Receipt {
    fn clone(&self) -> Self {
        Receipt { shared: self.shared.clone(), resolved: false }
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if !self.resolved {
            self.note(Outcome::Failed);
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let outcome = Outcome::from_severity(*self.worst.get_mut());
        match &mut self.end {
            End::Batch { batch, settlements, .. } => settlements.push(Settled { batch: *batch, outcome }),
            End::Timed { outer, since, latency } => {
                if outcome != Outcome::Failed {
                    latency.record(since.elapsed());
                }
                if let Some(outer) = outer.take() {
                    outer.resolve(outcome);
                }
            }
        }
    }
}

/// A batch came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// The number given to [`Receipt::new`].
    pub batch: u64,
    /// The worst outcome of its events.
    pub outcome: Outcome,
}

/// Where the settled batches of one lane are told. Bounded by the batches in flight.
#[derive(Debug, Default)]
pub struct Settlements {
    settled: Mutex<Vec<Settled>>,
    changed: Notify,
}

impl Settlements {
    fn push(&self, settled: Settled) {
        self.settled.lock().unwrap_or_else(PoisonError::into_inner).push(settled);
        self.changed.notify_one();
    }

    /// Takes what was settled since the last call, in the order of settling.
    pub fn take(&self) -> Vec<Settled> {
        std::mem::take(&mut self.settled.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until something was settled since the last [`Settlements::take`].
    pub async fn changed(&self) {
        self.changed.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(act: impl FnOnce(Receipt)) -> Vec<Settled> {
        let settlements = Arc::new(Settlements::default());
        act(Receipt::new(7, settlements.clone(), None));
        settlements.take()
    }

    #[test]
    fn settles_once_with_the_worst_outcome_after_the_last_clone() {
        let result = settled(|first| {
            let second = first.clone();
            first.resolve(Outcome::DeadLettered);
            second.resolve(Outcome::Delivered);
        });
        assert_eq!(result, [Settled { batch: 7, outcome: Outcome::DeadLettered }]);
    }

    #[test]
    fn a_clone_dropped_unresolved_fails_the_batch() {
        let result = settled(|first| {
            drop(first.clone());
            first.resolve(Outcome::Delivered);
        });
        assert_eq!(result, [Settled { batch: 7, outcome: Outcome::Failed }]);
    }

    #[test]
    fn a_timed_receipt_ends_the_one_it_came_from_and_measures_what_did_not_fail() {
        for (outcome, measured) in [(Outcome::Delivered, 1), (Outcome::Failed, 0)] {
            let latency = Arc::new(Latency::default());
            let result = settled(|first| {
                let timed = first.clone().timed(&latency);
                first.resolve(Outcome::Filtered);
                let second = timed.clone();
                timed.resolve(Outcome::Filtered);
                assert_eq!(latency.totals().count(), 0, "a clone is left");
                second.resolve(outcome);
            });
            assert_eq!(result, [Settled { batch: 7, outcome }]);
            assert_eq!(latency.totals().count(), measured);
        }
    }

    #[test]
    fn nothing_is_settled_while_a_clone_lives() {
        let settlements = Arc::new(Settlements::default());
        let first = Receipt::new(1, settlements.clone(), None);
        first.clone().resolve(Outcome::Delivered);
        assert!(settlements.take().is_empty());
        first.resolve(Outcome::Filtered);
        assert_eq!(settlements.take().len(), 1);
    }
}
