//! The `alert_firing` transform: its options.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use weir::component::{BuildContext, EventTime, KeepsState, Problems, Transform, TransformConfig};
use weir::config::Span;
use weir::event::Timestamp;
use weir::state::{KeyedState, StateLimits};
use weir::{Error, Result};

use crate::line::Line;
use crate::sample::Reader;
use crate::watch::Watch;

/// Turns Prometheus `ALERTS` series into events for alerts that start and end firing. State survives restarts.
///
/// Reads points named `ALERTS` and `ALERTS_FOR_STATE`, as Prometheus writes them for its alerting rules; other events
/// are filtered. An alert ends when its series ends (stale marker, `NaN` or 0), when it returns to pending, or when no
/// sample arrives for `resolve_after`. Emits events `{state, labels, value, starts_at, ends_at, cluster}`, keyed by
/// alert, so that the events of one alert stay in order in Kafka.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AlertFiring {
    /// Events to emit: `active` (one per sample of a firing alert), `changes` (`firing` and `resolved`, once each), or
    /// `all`. Default: `active`.
    #[serde(default)]
    emit: Emit,
    /// Time without samples after which an alert is resolved, in event time and wall-clock time. The default suits
    /// alerts sent every 5 minutes, with one lost sample. Default: `11m`.
    #[serde(default = "default_resolve_after")]
    resolve_after: Span,
    /// Allowed lateness of samples relative to the newest sample of all partitions. Samples are held until the
    /// watermark has passed them by this time, or all partitions are idle (`idle_timeout`), and are processed in order
    /// of time. Needed if the samples of one alert arrive through several partitions; `0s` suffices if each partition
    /// is in order. Default: samples are processed as they arrive.
    lateness: Option<Span>,
    /// Maximum time by which a sample may be ahead of the wall clock and still advance the watermark; a later sample is
    /// processed as if it had just happened. `0s`: no maximum. Not applied with `--once`. Default: the graph's `max_ahead`.
    max_ahead: Option<Span>,
    /// Labels that identify the cluster of an alert; the first one present becomes the event's `cluster`. Default:
    /// `[cluster, clusterID]`.
    #[serde(default = "default_cluster_labels")]
    cluster_labels: Vec<String>,
    /// Maximum alerts in the state of a partition; further alerts are rejected (`too_many_alerts`). Default: 100000.
    #[serde(default = "default_max_alerts")]
    #[schemars(range(min = 1))]
    max_alerts: usize,
}

/// Events to emit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Emit {
    /// Firing alerts, one event per sample.
    #[default]
    Active,
    /// Starts and ends of alerts.
    Changes,
    /// Both.
    All,
}

fn default_resolve_after() -> Span {
    Span(Duration::from_secs(660))
}

fn default_cluster_labels() -> Vec<String> {
    ["cluster", "clusterID"].map(str::to_owned).to_vec()
}

fn default_max_alerts() -> usize {
    100_000
}

/// The shortest and the longest time between two looks at the clock.
const TICKS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

weir::register_transform!("alert_firing", AlertFiring, "{type: alert_firing, inputs: [in], emit: changes}");

#[typetag::deserialize(name = "alert_firing")]
impl TransformConfig for AlertFiring {
    fn check(&self, problems: &mut Problems) {
        if self.resolve_after.0.as_millis() == 0 {
            problems.error("resolve_after", "out_of_range", "is no time at all", "write a span such as 11m");
        }
    }

    fn keeps_state(&self) -> KeepsState {
        // By all labels but the state; so what is divided by a cluster's label is together, too.
        let clusters = self.cluster_labels.iter().map(|label| format!(".labels.{label}"));
        KeepsState::ByKey(clusters.chain([r#"remove!(.labels, ["alertstate"])"#.to_owned()]).collect())
    }

    fn event_time(&self) -> EventTime {
        EventTime::By(".timestamp".to_owned())
    }

    fn lateness(&self) -> Duration {
        // What waits comes out a moment behind the watermark.
        self.lateness.map_or(Duration::ZERO, |lateness| lateness.0 + Duration::from_millis(1))
    }

    fn max_ahead(&self) -> Option<Duration> {
        self.max_ahead.map(|span| span.0)
    }

    fn ticks(&self) -> Option<Duration> {
        Some((self.resolve_after.0 / 20).clamp(TICKS.0, TICKS.1))
    }

    fn state_identity(&self) -> String {
        "alerts by their labels".to_owned()
    }

    fn explain(&self) -> String {
        let what = match self.emit {
            Emit::Active => "every sample of an alert that fires",
            Emit::Changes => "each change of an alert, once",
            Emit::All => "every sample of an alert that fires, and that it is over",
        };
        let order = if self.lateness.is_some() { "by their times" } else { "as they come" };
        format!(
            "{what}; samples count {order}; over when its series ends, or after {:?} of silence",
            self.resolve_after.0
        )
    }

    fn build(&self, _: &BuildContext) -> Result<Transform> {
        let limits = StateLimits::in_memory(self.max_alerts);
        Ok(Transform::stateful(Watch {
            reader: Reader::new().ok_or_else(|| Error::unchecked("alert_firing"))?,
            emit: self.emit,
            resolve_after: i64::try_from(self.resolve_after.0.as_millis()).unwrap_or(i64::MAX / 4),
            cluster_labels: self.cluster_labels.clone(),
            max_alerts: self.max_alerts,
            alerts: KeyedState::new(limits),
            silent: KeyedState::new(limits),
            line: Line::new(self.lateness.map(|lateness| lateness.0), self.max_alerts),
            began: None,
            released: Timestamp::MIN,
        }))
    }
}
