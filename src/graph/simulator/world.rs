//! What outlives a crash, and what must hold of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::disk::Disk;
use super::{EVENTS, FAR, FILTERED, FUTURE, KEYS, Kind, PAIR, PANICS, PANICS_WITH_STATE, REJECTED, WINDOW};
use crate::event::{Body, Event, Verdict};
use crate::state::StateLimits;

/// What outlives a crash.
pub(super) struct World {
    pub kind: Kind,
    /// With a cache for next to nothing in every second schedule: nearly all of the state is on disk.
    pub limits: StateLimits,
    /// Events of each log.
    pub events: Vec<u64>,
    pub committed: Vec<u64>,
    pub disk: Arc<Disk>,
    pub delivered: BTreeMap<u64, u32>,
    pub dead: BTreeSet<u64>,
    /// What was delivered of each window and key.
    pub counts: BTreeMap<(i64, u64), BTreeSet<u64>>,
    /// What was delivered of events that a timer held: lane and position.
    pub held: BTreeSet<(u64, u64)>,
    /// Processing time.
    pub now: i64,
}

/// What the stateless transform does with an event.
pub(super) fn decide(position: u64) -> Verdict {
    match position {
        p if p % REJECTED == REJECTED - 1 => Verdict::Reject { code: "poison", message: "as told".to_owned() },
        p if p % FILTERED == FILTERED - 1 => Verdict::Filter,
        _ => Verdict::Pass,
    }
}

/// Whether it reaches what has state, and does not make that panic.
fn is_taken(position: u64) -> bool {
    let panics = [PANICS, PANICS_WITH_STATE].iter().any(|nth| position % nth == nth - 1);
    matches!(decide(position), Verdict::Pass) && !panics
}

/// Whether an event says that it happens in the far future. Its window is not over yet; every other is what it is without.
pub(super) fn is_future(position: u64) -> bool {
    position % FUTURE == FUTURE - 1
}

impl World {
    pub fn deliver(&mut self, event: &Event) {
        match &event.body {
            Body::Raw(bytes, _) if self.kind == Kind::Windows => {
                let count = String::from_utf8_lossy(bytes).parse().unwrap();
                self.counts.entry((event.time.0, event.position.0)).or_default().insert(count);
            }
            Body::Raw(bytes, _) if self.kind == Kind::Pauses => {
                self.held.extend::<Vec<(u64, u64)>>(serde_json::from_slice(bytes).unwrap());
            }
            _ => *self.delivered.entry(event.position.0).or_default() += 1,
        }
    }

    pub fn commit(&self, commit_under_way: &mut u64, position: u64) {
        assert!(position >= *commit_under_way, "a commit never goes back");
        for below in *commit_under_way..position {
            assert!(self.is_settled(below), "{below} is committed and lost");
        }
        *commit_under_way = position;
    }

    fn is_settled(&self, position: u64) -> bool {
        let ended = |position: &u64| self.delivered.contains_key(position) || self.dead.contains(position);
        let filtered = matches!(decide(position), Verdict::Filter);
        // With dedupe one of the pair is enough, if the other was a candidate at all; windows and timers absorb.
        let twin = position ^ 1;
        filtered || ended(&position) || (self.kind == Kind::Dedupe && ended(&twin)) || self.kind.has_exchange()
    }

    /// Whether everything that timers held has come.
    pub fn is_all_there(&self) -> bool {
        match self.kind {
            Kind::Pauses => self.held == self.expected_held(),
            Kind::Windows => self.counts.len() == self.expected_counts().len(),
            Kind::Plain | Kind::Dedupe => true,
        }
    }

    /// What a fault-free run counts.
    fn expected_counts(&self) -> BTreeMap<(i64, u64), u64> {
        let mut counts = BTreeMap::new();
        // The last window is still open at the end.
        for position in self.events.iter().flat_map(|events| 0..events.saturating_sub(WINDOW as u64)) {
            if is_taken(position) && !is_future(position) {
                let window = position as i64 / WINDOW * WINDOW;
                *counts.entry((window, position % KEYS)).or_default() += 1;
            }
        }
        counts
    }

    /// What windows come to once all of them are over.
    pub fn check_end(&self) {
        let mut expected: BTreeMap<(i64, u64), u64> = BTreeMap::new();
        for position in self.events.iter().flat_map(|events| 0..*events).filter(|position| is_taken(*position)) {
            let far = if is_future(position) { FAR } else { 0 };
            let window = (position as i64 + far).div_euclid(WINDOW) * WINDOW;
            *expected.entry((window, position % KEYS)).or_default() += 1;
        }
        let expected = expected.into_iter().map(|(key, count)| (key, BTreeSet::from([count]))).collect();
        assert_eq!(self.counts, expected, "at the end every window has come");
    }

    fn expected_held(&self) -> BTreeSet<(u64, u64)> {
        let lanes = 0..self.kind.lanes() as u64;
        lanes.flat_map(|lane| (0..EVENTS).filter(|at| is_taken(*at)).map(move |at| (lane, at))).collect()
    }

    pub fn check(&self) {
        for position in 0..EVENTS {
            assert!(self.is_settled(position), "{position} is lost");
            let is_nth = |nth: u64| position % nth == nth - 1;
            let panics = matches!(decide(position), Verdict::Pass) && is_nth(PANICS_WITH_STATE);
            if is_nth(REJECTED) || is_nth(PANICS) || (panics && self.kind != Kind::Plain) {
                assert!(!self.delivered.contains_key(&position), "{position} is delivered and was rejected");
                assert!(self.dead.contains(&position), "{position} should be a dead letter");
            }
            // What the lane remembered before a crash decides behind it, too: the second of a pair never gets through.
            let is_rejected = |p: u64| [PANICS, PANICS_WITH_STATE].iter().any(|nth| p % nth == nth - 1);
            let reaches_dedupe = |p: u64| matches!(decide(p), Verdict::Pass) && !is_rejected(p);
            if self.kind == Kind::Dedupe && position % PAIR == 1 && reaches_dedupe(position - 1) {
                assert!(!self.delivered.contains_key(&position), "{position} is delivered, and so is its twin");
            }
        }
        if self.kind == Kind::Pauses {
            assert_eq!(self.held, self.expected_held(), "timers go off for everything they hold");
        }
        if self.kind == Kind::Windows {
            let expected =
                self.expected_counts().into_iter().map(|(key, count)| (key, BTreeSet::from([count]))).collect();
            assert_eq!(self.counts, expected, "every window comes to the same each time, and to what is right");
        }
    }
}
