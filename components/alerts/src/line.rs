//! Samples that wait for those that come by other partitions, in the order of their times.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use weir::component::Row;
use weir::event::Timestamp;
use weir::state::{KeyedState, StateLimits, StatePart, StateValue};

use crate::sample::Sample;

/// Samples that wait for each alert that is remembered, at most: each state of one evaluation.
const PER_ALERT: usize = 4;
/// Bytes behind an alert's labels in a key: time, and what kind of sample it is.
const TAIL: usize = 9;

/// A sample that waits. Its alert stands in its key.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Waiting {
    time: i64,
    sample: Sample,
    /// Processing time when it came.
    #[serde(default = "unknown")]
    came_at: i64,
}

fn unknown() -> i64 {
    i64::MIN
}

/// A sample of an alert, and processing time when it came.
pub(crate) type Came = (Row, Sample, Timestamp);

impl StateValue for Waiting {}

/// Where samples wait.
pub(crate) struct Line {
    /// How long by event time; `None`: not at all.
    lateness: Option<Duration>,
    /// By alert, time and kind, so that what has the same time comes out in one order and the same sample waits once.
    waiting: KeyedState<Vec<u8>, Waiting>,
}

impl Line {
    /// An empty one.
    pub fn new(lateness: Option<Duration>, max_alerts: usize) -> Line {
        let limits = StateLimits::in_memory(max_alerts.saturating_mul(PER_ALERT));
        Line { lateness, waiting: KeyedState::new(limits) }
    }

    /// How far time has come for samples to count. The watermark's own moment may still come by another partition.
    pub fn counted(&self, watermark: Timestamp) -> Timestamp {
        match self.lateness {
            Some(lateness) => watermark.minus(lateness + Duration::from_millis(1)),
            None => watermark,
        }
    }

    /// Whether a sample of this time has to wait.
    pub fn is_early(&self, time: Timestamp, counted: Timestamp) -> bool {
        self.lateness.is_some() && time > counted
    }

    /// Lets a sample wait. Where too many do, gives the first of them, which counts at once.
    pub fn push(&mut self, row: &Row, sample: Sample, came_at: Timestamp) -> Option<Came> {
        let mut key = Vec::with_capacity(row.key.len() + TAIL);
        key.extend_from_slice(&row.key);
        key.extend_from_slice(&row.time.0.to_be_bytes());
        key.push(rank(sample));
        self.waiting.insert(key, Waiting { time: row.time.0, sample, came_at: came_at.0 }, row.time).map(unpacked)
    }

    /// The time of the first that waits.
    pub fn first(&mut self) -> Option<Timestamp> {
        self.waiting.next_due()
    }

    /// The first, if it is of this time or before.
    pub fn pop(&mut self, counted: Timestamp) -> Option<Came> {
        self.waiting.pop_due(counted).map(unpacked)
    }

    /// What is to survive.
    pub fn state(&mut self) -> &mut dyn StatePart {
        &mut self.waiting
    }
}

/// Of samples of one moment, since when a condition holds comes before that it fires, and that before any end.
fn rank(sample: Sample) -> u8 {
    match sample {
        Sample::Since(_) => 0,
        Sample::Firing(_) => 1,
        Sample::Ended => 2,
        Sample::Pending => 3,
    }
}

fn unpacked((mut key, Waiting { time, sample, came_at }): (Vec<u8>, Waiting)) -> Came {
    key.truncate(key.len().saturating_sub(TAIL));
    (Row { key, time: Timestamp(time), ..Row::default() }, sample, Timestamp(came_at))
}
