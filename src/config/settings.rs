//! What a graph file holds beside its nodes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::units::{ByteSize, Span};

/// Settings of a graph.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// Name of the graph, used in metrics, logs and `data_dir`. Default: the file name without extension.
    #[serde(default)]
    pub name: Option<String>,
    /// Directory for positions, state and dead letters; each graph has a directory of its own in it. Default: `.weir`.
    #[serde(default = "default_data_dir")]
    #[schemars(extend("format" = "path"))]
    pub data_dir: PathBuf,
    /// Maximum memory of all events in flight. Default: `64MiB`.
    #[serde(default = "default_memory")]
    #[schemars(extend("minBytes" = 1 << 20))]
    pub memory: ByteSize,
    /// Memory that one value of a VRL program may take: an event that is taken apart, or what a function returns. All values
    /// that a program holds together may take twice as much. Beyond it the event is rejected. A number takes 40 bytes, a text
    /// 32 more than its length, an object with up to eleven fields some 720: a log document in JSON takes five to ten times
    /// its length. Default: `32MiB`.
    #[serde(default = "default_max_value")]
    #[schemars(extend("minBytes" = 64 << 10))]
    pub max_value: ByteSize,
    /// Storage of events that a node rejects if no node reads its port `errors`.
    #[serde(default)]
    pub dead_letters: DeadLetters,
    /// Metrics, health and readiness over HTTP: `{listen: "127.0.0.1:9598"}`. Default: none.
    #[serde(default)]
    pub telemetry: Option<Telemetry>,
    /// Interval between checkpoints of state and the positions that belong to it. Default: `1s`.
    #[serde(default = "default_checkpoint_every")]
    pub checkpoint_every: Span,
    /// Number of state partitions of a keyed node whose events arrive through several partitions. Cannot change while
    /// there is state. Default: 8.
    #[serde(default = "default_state_partitions")]
    #[schemars(range(min = 1, max = 1024))]
    pub state_partitions: u32,
    /// Time without events after which a partition that was read to its end no longer holds back the watermark; `0s`:
    /// never. Default: `1m`.
    #[serde(default = "default_idle_timeout")]
    pub idle_timeout: Span,
    /// Maximum time by which an event may be ahead of the wall clock and still advance the watermark. A later event is
    /// processed, counted and logged, and does not make other events late. Not applied with `--once`; `0s`: no maximum.
    /// Default: `10m`.
    #[serde(default = "default_max_ahead")]
    pub max_ahead: Span,
    /// What happens to a node's state when an option that defines its meaning changes. Default: `refuse`.
    #[serde(default)]
    pub on_state_change: OnStateChange,
    /// Time limit for delivering events in flight when the graph stops. Default: `30s`.
    #[serde(default = "default_drain")]
    pub drain: Span,
}

/// What happens to a node's state when an option that defines its meaning changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OnStateChange {
    /// The graph does not start and reports the change.
    #[default]
    Refuse,
    /// The node starts with empty state.
    Reset,
}

/// Storage of events that a node rejects if no node reads its port `errors`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeadLetters {
    /// Directory of the dead letters. Default: `dead-letters` in the graph's directory.
    #[serde(default)]
    #[schemars(extend("format" = "path"))]
    pub path: Option<PathBuf>,
    /// Maximum size; while it is full, processing stops at the next dead letter. Default: `1GiB`.
    #[serde(default = "default_max_size")]
    #[schemars(extend("minBytes" = 64 << 10))]
    pub max_size: ByteSize,
}

/// Metrics, health and readiness over HTTP.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Telemetry {
    /// Address to listen on, such as `127.0.0.1:9598`; serves `/metrics`, `/health` and `/ready`.
    #[schemars(with = "String", extend("format" = "address"))]
    pub listen: SocketAddr,
}

/// A test of the graph.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TestConfig {
    /// Name of the test.
    pub name: String,
    /// Events fed to each source.
    pub feed: BTreeMap<String, FeedConfig>,
    /// Events expected at each sink, in order; `dead_letters` stands for rejected events.
    pub expect: BTreeMap<String, FeedConfig>,
}

/// Events of a test: a list of bodies, or a text with one body per line.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum FeedConfig {
    /// One body per line.
    Lines(String),
    /// A text is a body as it is; a map or list is a JSON body.
    Bodies(Vec<serde_json::Value>),
}

impl Default for DeadLetters {
    fn default() -> Self {
        DeadLetters { path: None, max_size: default_max_size() }
    }
}

fn default_data_dir() -> PathBuf {
    ".weir".into()
}

fn default_memory() -> ByteSize {
    ByteSize(64 << 20)
}

fn default_max_value() -> ByteSize {
    ByteSize(crate::script::DEFAULT_MAX_VALUE)
}

fn default_checkpoint_every() -> Span {
    Span(Duration::from_secs(1))
}

fn default_state_partitions() -> u32 {
    8
}

fn default_idle_timeout() -> Span {
    Span(Duration::from_secs(60))
}

fn default_max_ahead() -> Span {
    Span(Duration::from_secs(600))
}

fn default_drain() -> Span {
    Span(Duration::from_secs(30))
}

fn default_max_size() -> ByteSize {
    ByteSize(1 << 30)
}
