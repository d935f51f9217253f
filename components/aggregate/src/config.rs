//! The options of `aggregate`.

use std::collections::HashSet;
use std::time::Duration;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;
use weir::component::{BuildContext, EventTime, KeepsState, Problems, Transform, TransformConfig};
use weir::config::{ByteSize, Span};
use weir::script::{Expression, Problem};
use weir::state::{KeyedState, StateLimits};
use weir::{Error, Result};

use crate::result::Shape;
use crate::windows::{Extract, Grid, Windows, argument};

/// Windows that an event may belong to.
const MOST_WINDOWS: u128 = 1000;
/// Results that are put out at once.
const AT_ONCE: usize = 1024;

/// Aggregates events over windows of event time: counts, sums, quantiles and others, per group.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Aggregate {
    /// VRL expression for the event's time: RFC 3339 text or Unix time. Default: the timestamp from the source.
    time: Option<String>,
    /// Maximum time by which an event may be ahead of the wall clock and still advance the watermark; `0s`: no maximum. Not
    /// applied with `--once`. Default: the graph's `max_ahead`.
    max_ahead: Option<Span>,
    /// Allowed lateness: how far an event may be behind the newest one and still count. Default: `0s`.
    #[serde(default = "zero")]
    lateness: Span,
    /// Windows: `{tumbling: 1m}`, or `{sliding: 5m, every: 1m}`.
    window: Window,
    /// Fields that form a group: VRL paths, or a map from names to VRL expressions. Default: one group.
    #[serde(default)]
    group_by: GroupBy,
    /// Results by name: `count`, or one of `sum`, `min`, `max`, `mean`, `stddev`, `distinct` with a VRL expression, or
    /// `quantile` with a VRL expression and a number from 0 to 1.
    compute: IndexMap<String, Compute>,
    /// Interval, in event time, at which results of open windows are emitted early. Default: never.
    early: Option<Span>,
    /// Maximum windows and groups in the state of a partition. Beyond it, the one that ends first is evicted to the
    /// port `evicted`. Default: 1000000.
    #[serde(default = "default_max_keys")]
    #[schemars(range(min = 1))]
    max_keys: usize,
    /// Approximate memory for the state of a partition; the rest is on disk. Minimum: 1MiB. Default: all state is in
    /// memory.
    cache: Option<ByteSize>,
}

/// Windows.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// Length of consecutive windows.
    tumbling: Option<Span>,
    /// Length of overlapping windows.
    sliding: Option<Span>,
    /// Interval between the starts of overlapping windows.
    every: Option<Span>,
}

/// Fields that form a group.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum GroupBy {
    /// VRL paths; the last segment of each is the field's name.
    Paths(Vec<String>),
    /// VRL expressions by field name.
    Named(IndexMap<String, String>),
}

impl Default for GroupBy {
    fn default() -> Self {
        GroupBy::Paths(Vec::new())
    }
}

/// A computed result.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Compute {
    /// Number of events.
    Count,
    /// Sum.
    Sum(String),
    /// Minimum.
    Min(String),
    /// Maximum.
    Max(String),
    /// Arithmetic mean.
    Mean(String),
    /// Population standard deviation.
    Stddev(String),
    /// Number of distinct values.
    Distinct(String),
    /// The value below which this share of values lies.
    Quantile(String, f64),
}

fn zero() -> Span {
    Span(Duration::ZERO)
}

fn default_max_keys() -> usize {
    1_000_000
}

weir::register_transform!(
    "aggregate",
    Aggregate,
    "type: aggregate\ninputs: [in]\ntime: .ts\nlateness: 10s\nwindow: {tumbling: 1m}\ngroup_by: [.host]\ncompute: {n: count, total: {sum: .bytes}, p99: {quantile: [.bytes, 0.99]}}\n"
);

impl Window {
    /// Length, and time from one to the next.
    fn lengths(&self) -> Option<(Duration, Duration)> {
        match (self.tumbling, self.sliding, self.every) {
            (Some(length), None, None) => Some((length.0, length.0)),
            (None, Some(length), Some(every)) => Some((length.0, every.0)),
            _ => None,
        }
    }

    fn check(&self, problems: &mut Problems) {
        let Some((length, every)) = self.lengths() else {
            let help = "write `{tumbling: 1m}`, or `{sliding: 5m, every: 1m}`";
            return problems.error("window", "bad_value", "is neither tumbling nor sliding", help);
        };
        if every.as_millis() == 0 || every > length {
            let what = "a window is at least a millisecond long, and the next begins before it is over";
            problems.error("window", "out_of_range", what, "make it longer, or `every` shorter");
        } else if length.as_millis().div_ceil(every.as_millis()) > MOST_WINDOWS {
            let what = format!("an event belongs to more than {MOST_WINDOWS} windows");
            problems.error("window", "out_of_range", what, "make `every` longer");
        }
    }
}

impl GroupBy {
    /// Names and expressions; of a path that has no name, none.
    fn fields(&self) -> Vec<(Option<String>, &str)> {
        match self {
            GroupBy::Named(named) => named.iter().map(|(name, text)| (Some(name.clone()), text.as_str())).collect(),
            GroupBy::Paths(paths) => paths.iter().map(|path| (last_name(path), path.as_str())).collect(),
        }
    }
}

/// The last name of a plain path such as `.labels.app`.
fn last_name(path: &str) -> Option<String> {
    let names = path.trim().strip_prefix('.').or_else(|| path.trim().strip_prefix('%'))?;
    let is_name =
        |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    names.split('.').all(is_name).then(|| names.rsplit('.').next().map(str::to_owned)).flatten()
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX / 4)
}

impl Aggregate {
    /// Every argument once, and whether it may be of any type.
    fn arguments(&self) -> Vec<(&str, bool)> {
        let mut all: Vec<(&str, bool)> = self.compute.values().filter_map(argument).collect();
        let mut seen = HashSet::new();
        all.retain(|argument| seen.insert(*argument));
        all
    }

    fn extract(&self) -> Result<Extract> {
        let groups = self.group_by.fields();
        let arguments = self.arguments();
        let mut texts: Vec<String> = self.time.iter().cloned().collect();
        texts.extend(groups.iter().map(|(_, text)| (*text).to_owned()));
        texts.extend(arguments.iter().map(|(text, _)| (*text).to_owned()));
        // A block takes whatever stands by itself, also a comment at its end.
        let program = format!("[{}]", texts.iter().map(|text| format!("{{ {text}\n}}")).collect::<Vec<_>>().join(", "));
        let (program, _) = Expression::compile(&program).map_err(|_| Error::unchecked("compute"))?;
        let any_value = arguments.into_iter().map(|(_, any_value)| any_value).collect();
        Ok(Extract { program, texts, has_time: self.time.is_some(), groups: groups.len(), any_value })
    }
}

#[typetag::deserialize(name = "aggregate")]
impl TransformConfig for Aggregate {
    fn check(&self, problems: &mut Problems) {
        if let Some(time) = &self.time {
            Problem::report(Expression::compile(time), "time", "invalid_time", problems);
        }
        self.window.check(problems);
        StateLimits::check_cache(self.cache, problems);
        if self.cache.is_some() && self.early.is_some() {
            let what = "cannot be had with `cache`: each time every open window would be read from disk";
            problems.error("early", "invalid_option", what, "leave out `early`, or `cache`");
        }
        let mut names: Vec<String> = vec!["window_start".into(), "window_end".into(), "final".into()];
        let mut name_once = |path: &str, name: &str, problems: &mut Problems| {
            if names.iter().any(|other| other == name) {
                let what = format!("a result has a field `{name}` already");
                problems.error(path, "duplicate", what, "give it another name");
            }
            names.push(name.to_owned());
        };
        for (at, (name, text)) in self.group_by.fields().into_iter().enumerate() {
            let path = match &self.group_by {
                GroupBy::Paths(_) => format!("group_by.{at}"),
                GroupBy::Named(_) => format!("group_by.{}", name.as_deref().unwrap_or_default()),
            };
            Problem::report(Expression::compile(text), &path, "invalid_key", problems);
            match name {
                Some(name) => name_once(&path, &name, problems),
                None => {
                    let help = "write a map: `group_by: {name: expression}`";
                    problems.error(&path, "missing_value", "is no plain path, so it has no name", help);
                }
            }
        }
        if self.compute.is_empty() {
            problems.error("compute", "missing_value", "computes nothing", "write for example `compute: {n: count}`");
        }
        for (name, compute) in &self.compute {
            let path = format!("compute.{name}");
            name_once(&path, name, problems);
            if let Some((text, _)) = argument(compute) {
                Problem::report(Expression::compile(text), &path, "invalid_expression", problems);
            }
            if let Compute::Quantile(_, quantile) = compute
                && !(0.0..=1.0).contains(quantile)
            {
                problems.error(
                    &path,
                    "out_of_range",
                    "a quantile is from 0 to 1",
                    "write 0.99 for the 99th percentile",
                );
            }
        }
        if self.early.is_some_and(|early| early.0.as_millis() == 0) {
            problems.error("early", "out_of_range", "is no time at all", "write a span such as 10s");
        }
    }

    fn keeps_state(&self) -> KeepsState {
        KeepsState::ByKey(self.group_by.fields().into_iter().map(|(_, text)| text.trim().to_owned()).collect())
    }

    fn event_time(&self) -> EventTime {
        self.time.as_ref().map_or(EventTime::OfEvent, |time| EventTime::By(time.clone()))
    }

    fn lateness(&self) -> Duration {
        self.lateness.0
    }

    fn max_ahead(&self) -> Option<Duration> {
        self.max_ahead.map(|span| span.0)
    }

    fn state_identity(&self) -> String {
        let Aggregate { time, window, group_by, compute, .. } = self;
        let lengths = window.lengths().unwrap_or_default();
        format!("time {time:?}, windows {lengths:?}, groups {:?}, compute {compute:?}", group_by.fields())
    }

    fn ports(&self) -> Vec<String> {
        vec!["late".to_owned(), "evicted".to_owned()]
    }

    fn has_main_port(&self) -> bool {
        true
    }

    fn explain(&self) -> String {
        let (length, every) = self.window.lengths().unwrap_or_default();
        let (length, every) = (Span(length), Span(every));
        let windows = if length == every { format!("{length}") } else { format!("{length}, one every {every},") };
        let late =
            if self.lateness.0.is_zero() { String::new() } else { format!(" {} behind their end", self.lateness) };
        format!(
            "windows of {windows} by {}, over{late} when time has come so far; what comes later leaves by `late`; holds up to {} results",
            self.time.as_deref().unwrap_or("the source's time"),
            self.max_keys
        )
    }

    fn build(&self, _: &BuildContext) -> Result<Transform> {
        let (length, every) = self.window.lengths().ok_or_else(|| Error::unchecked("window"))?;
        let extract = self.extract()?;
        let all = self.arguments();
        let number_of = |wanted| all.iter().position(|argument| *argument == wanted);
        let arguments = self.compute.values().map(|compute| argument(compute).and_then(number_of)).collect();
        let grid = Grid { length: millis(length), every: millis(every).max(1), lateness: millis(self.lateness.0) };
        let shape = Shape {
            groups: self.group_by.fields().into_iter().filter_map(|(name, _)| name).collect(),
            compute: self.compute.iter().map(|(name, compute)| (name.clone(), compute.clone())).collect(),
            has_early: self.early.is_some(),
            length: grid.length,
        };
        Ok(Transform::stateful(Windows {
            extract,
            grid,
            shape,
            arguments,
            open: KeyedState::new(StateLimits { max_keys: self.max_keys, cache: self.cache }),
            early: self.early.map(|early| millis(early.0).max(1)),
            early_at: KeyedState::new(StateLimits::in_memory(1)),
            at_once: AT_ONCE,
        }))
    }
}
