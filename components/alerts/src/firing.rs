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

/// From Prometheus's `ALERTS` to alerts that fire, and that are over. Survives a restart.
///
/// Reads points named `ALERTS` and `ALERTS_FOR_STATE`, as Prometheus writes them for its rules; all other events count as
/// filtered. An alert is over when its series ends (Prometheus's stale marker, `NaN` or 0), when it goes back to pending, or
/// when it was not heard of for `resolve_after`. What leaves is an event `{state, labels, value, starts_at, ends_at, cluster}`,
/// with a key of the alert, so that what Kafka gets of one alert stays in order.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AlertFiring {
    /// What leaves: `active` (an event for every sample of an alert that fires), `changes` (`firing` and `resolved`, once each),
    /// or `all` of these. Default: `active`.
    #[serde(default)]
    emit: Emit,
    /// How long an alert that is silent counts as firing, by the time of the alerts and by the clock. The default suits alerts
    /// that come every 5 minutes, of which one may be lost. Default: `11m`.
    #[serde(default = "default_resolve_after")]
    resolve_after: Span,
    /// How much older than the latest of all partitions a sample may be and still count in its place in time: samples then wait
    /// until event time has passed them by so much, or all partitions are silent for the graph's `idle_timeout`. For streams in which the samples of one alert come by several partitions;
    /// `0s` does where each of them is in order. Default: samples count as they come, and none waits.
    lateness: Option<Span>,
    /// Maximum time by which a sample may be ahead of the wall clock and still move event time; a later one counts at the
    /// moment it comes. `0s`: no maximum. Not applied with `--once`. Default: the graph's `max_ahead`.
    max_ahead: Option<Span>,
    /// Labels that name an alert's cluster; the first that it has is the event's `cluster`. Default: `[cluster, clusterID]`.
    #[serde(default = "default_cluster_labels")]
    cluster_labels: Vec<String>,
    /// Alerts remembered at most in a lane or state partition; a further one is rejected as `too_many_alerts`. Default: 100000.
    #[serde(default = "default_max_alerts")]
    #[schemars(range(min = 1))]
    max_alerts: usize,
}

/// What leaves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Emit {
    /// What fires now.
    #[default]
    Active,
    /// That one begins to fire, and that it is over.
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
