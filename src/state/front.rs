//! How far event time has come in one place.

use super::keyed::{CLOCK, Stored};
use super::part::{EachChange, StatePart, Unreadable};
use crate::event::Timestamp;

/// The latest event time seen. It never goes back, survives a restart, and is taken back with the state that was decided
/// by it.
#[derive(Debug)]
pub struct Front {
    now: Timestamp,
    /// There is no more to come.
    has_ended: bool,
    /// At the last snapshot.
    snapshot: Timestamp,
    /// At the last durable snapshot.
    durable: Timestamp,
}

impl Default for Front {
    fn default() -> Self {
        Front { now: Timestamp::MIN, has_ended: false, snapshot: Timestamp::MIN, durable: Timestamp::MIN }
    }
}

impl Front {
    /// The time now; [`Timestamp::MAX`] when nothing more is to come.
    pub fn now(&self) -> Timestamp {
        if self.has_ended { Timestamp::MAX } else { self.now }
    }

    /// Time has come this far, if it was not there before.
    pub fn advance(&mut self, time: Timestamp) {
        if time == Timestamp::MAX {
            // Not to be remembered: when there is more after all, as in a file that grows, it would all be late.
            self.has_ended = true;
        } else {
            self.now = self.now.max(time);
        }
    }
}

impl StatePart for Front {
    fn snapshot(&mut self, each: &mut EachChange<'_>) {
        if self.now != self.snapshot {
            each(&[CLOCK], Some(self.now.0.to_be_bytes().to_vec()));
        }
        self.snapshot = self.now;
    }

    fn written(&mut self) {
        self.durable = self.snapshot;
    }

    fn abort(&mut self) {
        *self = Front { now: self.durable, has_ended: false, snapshot: self.durable, durable: self.durable };
    }

    fn bound_time(&mut self, latest: Timestamp) -> bool {
        let is_ahead = self.now > latest;
        if is_ahead {
            *self = Front::default();
        }
        is_ahead
    }

    fn restore(&mut self, key: &[u8], bytes: &[u8]) -> Result<(), Unreadable> {
        match Stored::of(key, bytes) {
            Some(Stored::Clock(now)) => {
                *self = Front { now, has_ended: false, snapshot: now, durable: now };
                Ok(())
            }
            _ => Err(Unreadable::Damaged),
        }
    }
}
