//! How far event time may run ahead of the wall clock, and the log lines about events that are ahead, or late.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use metrics::counter;

use crate::event::Timestamp;
use crate::state::Clock;

/// The latest time that may move event time: the wall clock's plus `max_ahead`.
///
/// An event behind it keeps its time and is processed, but moves no clock: one wrong timestamp would otherwise make
/// everything that follows late.
#[derive(Clone)]
pub(crate) struct Horizon {
    bound: Option<(Arc<dyn Clock>, i64)>,
    latest: Timestamp,
}

impl Default for Horizon {
    /// Without a bound, as a bounded replay has it: there the wall clock says nothing of the data.
    fn default() -> Self {
        Horizon { bound: None, latest: Timestamp::MAX }
    }
}

impl Horizon {
    /// `None`: no bound.
    pub fn new(clock: &Arc<dyn Clock>, max_ahead: Option<Duration>) -> Horizon {
        let millis = |span: Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        let bound = max_ahead.map(|span| (clock.clone(), millis(span)));
        Horizon { bound, ..Horizon::default() }
    }

    /// Reads the wall clock; to be called once a batch. Gives the latest time that may move event time.
    pub fn look(&mut self) -> Timestamp {
        if let Some((clock, max_ahead)) = &self.bound {
            self.latest = Timestamp(clock.now().0.saturating_add(*max_ahead).min(i64::MAX - 1));
        }
        self.latest
    }

    /// The latest of these times that may move event time.
    pub fn latest_of(&mut self, times: impl Iterator<Item = Timestamp> + Clone) -> Option<Timestamp> {
        let latest = self.look();
        match times.clone().max() {
            Some(time) if time > latest => times.filter(|time| *time <= latest).max(),
            time => time,
        }
    }
}

/// Events of one batch that are ahead of the horizon.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Ahead {
    pub count: u64,
    pub furthest: Timestamp,
}

impl Ahead {
    pub fn note(&mut self, time: Timestamp) {
        self.count += 1;
        self.furthest = self.furthest.max(time);
    }
}

/// A node is not mentioned in the log more often than this for the same reason.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// Warnings of a node about the times of its events: each at most once a minute, with the count since the last.
#[derive(Debug, Default)]
pub(crate) struct TimeWarnings {
    ahead: Limited,
    late: Limited,
}

impl TimeWarnings {
    /// Counts events that are ahead of the wall clock.
    pub fn ahead(&self, node: &str, ahead: Ahead) {
        if ahead.count == 0 {
            return;
        }
        counter!("weir_ahead_events_total", "node" => node.to_owned()).increment(ahead.count);
        if let Some(events) = self.ahead.note(ahead.count) {
            tracing::warn!(
                node,
                events,
                latest = ahead.furthest.to_rfc3339(),
                "events are further ahead of the clock than `max_ahead`: they move no event time; set the sender's clock \
                 and time zone right, correct the node's `time` (seconds taken for milliseconds?), or raise `max_ahead`"
            );
        }
    }

    /// Counts events that came too late to count, and that no node reads.
    pub fn late(&self, node: &str, count: u64) {
        if count == 0 {
            return;
        }
        counter!("weir_late_events_total", "node" => node.to_owned()).increment(count);
        if let Some(events) = self.late.note(count) {
            tracing::warn!(
                node,
                events,
                "events came too late for every window they belong to, and are dropped: raise `lateness`, correct `time`, \
                 or read them from the node's output `late`"
            );
        }
    }
}

/// A count of which a log line tells now and then.
#[derive(Debug, Default)]
struct Limited(Mutex<(u64, Option<Instant>)>);

impl Limited {
    /// Counts; gives the count since the last line when it is time for another.
    fn note(&self, more: u64) -> Option<u64> {
        let mut guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (count, said) = &mut *guard;
        *count += more;
        if said.is_some_and(|said| said.elapsed() < WARN_EVERY) {
            return None;
        }
        *said = Some(Instant::now());
        Some(std::mem::take(count))
    }
}
