//! The `throttle` transform.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use weir::Result;
use weir::component::{BuildContext, KeepsState, Output, Problems, Row, Stateful, Times, Transform, TransformConfig};
use weir::config::Span;
use weir::event::{Event, OriginId, Timestamp, Verdict};
use weir::script::{Expression, Problem};
use weir::state::{KeySpans, StateLimits, StatePart};

use crate::dedupe::default_max_keys;
use crate::look::Look;

/// Lets at most so many events of a key pass in a window of event time; the others count as filtered.
///
/// The rate is even (the generic cell rate algorithm, ITU-T I.371): after a burst of `threshold` events one more may pass
/// every `window / threshold`, by the times of the key's own events. State survives restarts. Tombstones pass and do not count.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Throttle {
    /// Events of a key that may pass per window.
    #[schemars(range(min = 1, max = 1_000_000))]
    threshold: u32,
    /// Length of the window, in event time. Default: `1s`.
    #[serde(default = "default_window")]
    window: Span,
    /// VRL expression for the key, such as `.involvedObject.name`; events for which it is null pass. Default: none, all
    /// events share one threshold.
    key: Option<String>,
    /// VRL expression for the event's time: RFC 3339 text or Unix time. Default: the timestamp from the source.
    time: Option<String>,
    /// Maximum time by which an event may be ahead of the wall clock and still advance the watermark; `0s`: no maximum. Not
    /// applied with `--once`. Default: the graph's `max_ahead`.
    max_ahead: Option<Span>,
    /// Keys remembered at most in a lane or state partition; the one whose entry is oldest makes room. Default: 1000000.
    #[serde(default = "default_max_keys")]
    #[schemars(range(min = 1))]
    max_keys: usize,
}

fn default_window() -> Span {
    Span(Duration::from_secs(1))
}

weir::register_transform!(
    "throttle",
    Throttle,
    "{type: throttle, inputs: [in], threshold: 10, window: 1m, key: .involvedObject.name}"
);

#[typetag::deserialize(name = "throttle")]
impl TransformConfig for Throttle {
    fn check(&self, problems: &mut Problems) {
        if let Some(key) = &self.key {
            Problem::report(Expression::compile(key), "key", "invalid_key", problems);
        }
        Look::check_time(self.time.as_deref(), problems);
        if self.window.0.is_zero() {
            problems.error("window", "out_of_range", "is no time at all", "write a span such as 1m");
        }
    }

    fn keeps_state(&self) -> KeepsState {
        KeepsState::ByKey(self.key.iter().map(|key| key.trim().to_owned()).collect())
    }

    fn max_ahead(&self) -> Option<Duration> {
        self.max_ahead.map(|span| span.0)
    }

    fn keeps_events(&self) -> bool {
        true
    }

    fn takes_time_of_source(&self) -> bool {
        self.time.is_none()
    }

    fn state_identity(&self) -> String {
        let time = self.time.as_ref().map(|time| format!(", time {time}")).unwrap_or_default();
        format!("key {}{time}", self.key.as_deref().unwrap_or("none"))
    }

    fn explain(&self) -> String {
        format!("remembers up to {} keys, also over a restart", self.max_keys)
    }

    fn build(&self, _: &BuildContext) -> Result<Transform> {
        // Rounded up, as ends of spans are.
        let longest = i64::try_from(self.window.0.as_millis()).unwrap_or(i64::MAX / 4).saturating_add(1);
        Ok(Transform::stateful(Rates {
            look: Look::build(self.key.as_deref(), self.time.as_deref())?,
            window: i64::try_from(self.window.0.as_micros()).unwrap_or(i64::MAX / 4),
            threshold: i64::from(self.threshold.max(1)),
            free_at: KeySpans::new(StateLimits::in_memory(self.max_keys), longest),
        }))
    }
}

/// Times in microseconds, so that a window is shared out evenly also where it is short.
struct Rates {
    look: Look,
    window: i64,
    threshold: i64,
    /// The "theoretical arrival time" of each key: when all that has passed would have passed at the even rate.
    free_at: KeySpans<i64>,
}

impl Rates {
    fn passes(&mut self, row: Row) -> bool {
        let (time, noted) = self.free_at.meet(&row);
        let now = time.0.saturating_mul(1000);
        let free_at = noted.map_or(now, |free_at| now.max(free_at));
        let next = free_at.saturating_add(self.window / self.threshold);
        let passes = next.saturating_sub(now) <= self.window;
        if passes {
            self.free_at.insert(row.key, next, time, Timestamp(next.saturating_add(999).div_euclid(1000)));
        }
        passes
    }
}

impl Stateful for Rates {
    fn look(&mut self, event: &Event, origin: &OriginId) -> std::result::Result<Row, Verdict> {
        self.look.row(event, origin)
    }

    fn process(&mut self, event: &mut Event, row: Row, _: Times, _: &mut Output) -> Verdict {
        let passes = row.key.is_empty() || event.is_tombstone() || self.passes(row);
        if passes { Verdict::Pass } else { Verdict::Filter }
    }

    fn state(&mut self) -> Vec<(&'static str, &mut dyn StatePart)> {
        vec![("free_at", self.free_at.part())]
    }
}
