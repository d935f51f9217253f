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
    /// Behind the last; the same as the first of a batch without events.
    end: Position,
    settled: Option<Outcome>,
}

/// What settling made possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Every event below is settled.
    Commit(Position),
    /// The oldest open batch failed: read again from `position`. Every open batch is forgotten.
    Rewind {
        /// Where to read again.
        position: Position,
        /// Behind the batch that failed.
        until: Position,
    },
}

impl Ledger {
    /// Enters a batch of the events from `first` to before `end`; returns its number.
    pub fn open(&mut self, first: Position, end: Position) -> u64 {
        let batch = self.next_batch;
        self.next_batch += 1;
        self.open.push_back(Entry { batch, first, end, settled: None });
        batch
    }

    /// The number of the next batch.
    pub fn next_batch(&self) -> u64 {
        self.next_batch
    }

    /// Whether every batch with a lower number is settled.
    pub fn is_settled_before(&self, batch: u64) -> bool {
        self.open.front().is_none_or(|oldest| oldest.batch >= batch)
    }

    /// Forgets every open batch: what they held is read again.
    pub fn rewind(&mut self) {
        self.open.clear();
    }

    /// Enters how a batch ended. Batches forgotten by a rewind are ignored.
    pub fn settle(&mut self, settled: Settled) {
        let Some(oldest) = self.open.front().map(|entry| entry.batch) else { return };
        // Numbers in `open` are consecutive: entries only leave at the front, or all at once.
        let at = settled.batch.checked_sub(oldest).and_then(|at| usize::try_from(at).ok());
        if let Some(entry) = at.and_then(|at| self.open.get_mut(at)) {
            entry.settled = Some(settled.outcome);
        }
    }

    /// What follows from what was entered; call until nothing does. Commits come before a rewind.
    pub fn advance(&mut self) -> Option<Progress> {
        let mut commit = None;
        while let Some(&Entry { first, end, settled: Some(outcome), .. }) = self.open.front() {
            if outcome == Outcome::Failed {
                if commit.is_none() {
                    self.open.clear();
                    return Some(Progress::Rewind { position: first, until: end });
                }
                break;
            }
            commit = Some(Progress::Commit(end));
            self.open.pop_front();
        }
        commit
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
        for &(first, end) in batches {
            ledger.open(Position(first), Position(end));
        }
        ledger
    }

    fn ended(batch: u64, outcome: Outcome) -> Settled {
        Settled { batch, outcome }
    }

    #[test]
    fn a_later_success_waits_for_an_earlier_batch() {
        let mut ledger = ledger_of(&[(0, 10), (10, 20), (20, 25)]);
        ledger.settle(ended(1, Outcome::Delivered));
        assert_eq!(ledger.advance(), None);
        ledger.settle(ended(0, Outcome::Filtered));
        assert_eq!(ledger.advance(), Some(Progress::Commit(Position(20))));
        assert_eq!((ledger.advance(), ledger.open_batches()), (None, 1));
    }

    #[test]
    fn a_failure_rewinds_to_its_own_first_position_after_earlier_commits() {
        let mut ledger = ledger_of(&[(0, 10), (10, 20), (20, 25)]);
        ledger.settle(ended(1, Outcome::Failed));
        ledger.settle(ended(0, Outcome::Delivered));
        assert_eq!(ledger.advance(), Some(Progress::Commit(Position(10))));
        assert_eq!(ledger.advance(), Some(Progress::Rewind { position: Position(10), until: Position(20) }));
        ledger.settle(ended(2, Outcome::Delivered));
        assert_eq!(ledger.advance(), None, "forgotten by the rewind");
        assert_eq!(ledger.open(Position(10), Position(20)), 3);
    }
}
