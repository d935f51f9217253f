//! The ledger of a lane: which of its batches are settled, and up to where positions may be committed.

use std::collections::VecDeque;

use super::{Outcome, Settled};
use crate::event::Position;

/// Batches of one lane in the order they were read. Commits follow this order: a later success never
/// overtakes an earlier failure.
#[derive(Debug, Default)]
pub struct Ledger {
    open: VecDeque<Entry>,
    next_batch: u64,
}

#[derive(Debug)]
struct Entry {
    batch: u64,
    first: Position,
    last: Position,
    settled: Option<Outcome>,
}

/// What settling made possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Nothing: an earlier batch is still open.
    Waiting,
    /// Every event below `position` is settled; `epoch` is the number of the last batch of them.
    Commit {
        /// Exclusive: the first position that is not settled.
        position: Position,
        /// Number of the last settled batch.
        epoch: u64,
    },
    /// The oldest open batch failed: read again from `position`. Every open batch is forgotten.
    Rewind {
        /// Where to read again.
        position: Position,
        /// The last position of the batch that failed.
        until: Position,
    },
}

impl Ledger {
    /// Enters a batch of the events `first..=last`; returns its number.
    pub fn open(&mut self, first: Position, last: Position) -> u64 {
        let batch = self.next_batch;
        self.next_batch += 1;
        self.open.push_back(Entry { batch, first, last, settled: None });
        batch
    }

    /// Enters how a batch ended, and says what follows. Batches forgotten by a rewind are ignored.
    pub fn settle(&mut self, settled: Settled) -> Progress {
        let Some(oldest) = self.open.front().map(|entry| entry.batch) else { return Progress::Waiting };
        let Some(at) = settled.batch.checked_sub(oldest) else { return Progress::Waiting };
        // Numbers in `open` are consecutive: entries only leave at the front, or all at once.
        match usize::try_from(at).ok().and_then(|at| self.open.get_mut(at)) {
            Some(entry) => entry.settled = Some(settled.outcome),
            None => return Progress::Waiting,
        }
        self.advance()
    }

    fn advance(&mut self) -> Progress {
        let mut progress = Progress::Waiting;
        while let Some(Entry { batch, first, last, settled: Some(outcome) }) = self.open.front() {
            if *outcome == Outcome::Failed {
                // What was settled before this batch is committed first; the failure is seen at the next call.
                if progress == Progress::Waiting {
                    progress = Progress::Rewind { position: *first, until: *last };
                    self.open.clear();
                }
                break;
            }
            progress = Progress::Commit { position: last.next(), epoch: *batch };
            self.open.pop_front();
        }
        progress
    }

    /// Looks again without a new settlement: after a commit there may be a failure behind it.
    pub fn poll(&mut self) -> Progress {
        self.advance()
    }

    /// Number of batches that are not settled in order.
    pub fn open_batches(&self) -> usize {
        self.open.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger_of(batches: &[(u64, u64)]) -> Ledger {
        let mut ledger = Ledger::default();
        for &(first, last) in batches {
            ledger.open(Position(first), Position(last));
        }
        ledger
    }

    fn ended(batch: u64, outcome: Outcome) -> Settled {
        Settled { batch, outcome }
    }

    #[test]
    fn a_later_success_waits_for_an_earlier_batch() {
        let mut ledger = ledger_of(&[(0, 9), (10, 19), (20, 24)]);
        assert_eq!(ledger.settle(ended(1, Outcome::Delivered)), Progress::Waiting);
        let commit = Progress::Commit { position: Position(20), epoch: 1 };
        assert_eq!(ledger.settle(ended(0, Outcome::Filtered)), commit);
        assert_eq!(ledger.open_batches(), 1);
    }

    #[test]
    fn a_failure_rewinds_to_its_own_first_position_after_earlier_commits() {
        let mut ledger = ledger_of(&[(0, 9), (10, 19), (20, 24)]);
        assert_eq!(ledger.settle(ended(1, Outcome::Failed)), Progress::Waiting);
        assert_eq!(ledger.settle(ended(0, Outcome::Delivered)), Progress::Commit { position: Position(10), epoch: 0 });
        assert_eq!(ledger.poll(), Progress::Rewind { position: Position(10), until: Position(19) });
        assert_eq!(ledger.settle(ended(2, Outcome::Delivered)), Progress::Waiting, "forgotten by the rewind");
        assert_eq!(ledger.open(Position(10), Position(19)), 3);
    }
}
