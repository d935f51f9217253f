//! Where a lane stands, for those who watch it; and the one thing they may ask of it: to step over a record.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, oneshot};

use crate::event::{OriginId, Position};

/// No number is known.
const UNKNOWN: u64 = u64::MAX;

/// A lane at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneSnapshot {
    /// The log it reads: a topic, a file's path.
    pub log: String,
    /// The partition of it.
    pub partition: i32,
    /// What it reads next, where that is known.
    pub next: Option<u64>,
    /// Events the log still holds for it, as of the last read, where that is known.
    pub lag: Option<u64>,
}

/// Written by the lane, read by whoever looks.
#[derive(Debug)]
pub(crate) struct Spot {
    pub origin: Arc<OriginId>,
    next: AtomicU64,
    lag: AtomicU64,
    skip: Mutex<Option<Skip>>,
    asked: Notify,
}

/// A record that is to be stepped over.
#[derive(Debug)]
pub(crate) struct Skip {
    pub position: Position,
    pub reason: String,
    /// Told once it is done for good, or why not.
    pub answer: oneshot::Sender<Result<(), String>>,
}

impl Spot {
    pub fn new(origin: Arc<OriginId>) -> Spot {
        let (next, lag) = (AtomicU64::new(UNKNOWN), AtomicU64::new(UNKNOWN));
        Spot { origin, next, lag, skip: Mutex::default(), asked: Notify::new() }
    }

    /// The lane has moved.
    pub fn note(&self, next: Position, lag: Option<u64>) {
        self.next.store(next.0, Relaxed);
        self.lag.store(lag.unwrap_or(UNKNOWN), Relaxed);
    }

    /// What is read next, once that is known.
    pub fn next(&self) -> Option<Position> {
        known(&self.next).map(Position)
    }

    pub fn lag(&self) -> Option<u64> {
        known(&self.lag)
    }

    pub fn snapshot(&self) -> LaneSnapshot {
        let OriginId { log, partition, .. } = &*self.origin;
        LaneSnapshot { log: log.clone(), partition: *partition, next: known(&self.next), lag: self.lag() }
    }

    /// Asks the lane to step over a record; a later request takes the place of one that was not seen yet.
    pub fn ask(&self, skip: Skip) {
        *self.skip.lock().unwrap_or_else(PoisonError::into_inner) = Some(skip);
        self.asked.notify_one();
    }

    /// Waits for such a request. Cancel-safe.
    pub async fn asked(&self) -> Skip {
        loop {
            if let Some(skip) = self.skip.lock().unwrap_or_else(PoisonError::into_inner).take() {
                return skip;
            }
            self.asked.notified().await;
        }
    }
}

fn known(number: &AtomicU64) -> Option<u64> {
    Some(number.load(Relaxed)).filter(|number| *number != UNKNOWN)
}
