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
    /// Name of the graph, in metrics, logs and the data folder. Default: the file's name without its ending.
    #[serde(default)]
    pub name: Option<String>,
    /// Folder for positions, state and dead letters; each graph has its own folder in it. Default: `.weir`.
    #[serde(default = "default_data_dir")]
    pub data_dir: PathBuf,
    /// Memory that all batches in flight may hold together. Default: `64MiB`.
    #[serde(default = "default_memory")]
    pub memory: ByteSize,
    /// Memory that one value of a VRL program may take: an event that is taken apart, or what a function returns. All values
    /// that a program holds together may take twice as much. Beyond it the event is rejected. A number takes 40 bytes, a text
    /// 32 more than its length, an object with up to eleven fields some 720: a log document in JSON takes five to ten times
    /// its length. Default: `32MiB`.
    #[serde(default = "default_max_value")]
    pub max_value: ByteSize,
    /// Where events go that a node rejects and nobody listens to.
    #[serde(default)]
    pub dead_letters: DeadLetters,
    /// Metrics, health and readiness over HTTP: `{listen: "127.0.0.1:9598"}`. Default: none.
    #[serde(default)]
    pub telemetry: Option<Telemetry>,
    /// How often state is written down, with the positions that belong to it. Default: `1s`.
    #[serde(default = "default_checkpoint_every")]
    pub checkpoint_every: Span,
    /// In how many parts the state of a node with a key is kept where its events come by several partitions. It stays
    /// as it is once there is state. Default: 8.
    #[serde(default = "default_state_partitions")]
    #[schemars(range(min = 1, max = 1024))]
    pub state_partitions: u32,
    /// How long a partition that was read to its end must be silent until event time no longer waits for it; `0s`: it
    /// always waits. Default: `1m`.
    #[serde(default = "default_idle_timeout")]
    pub idle_timeout: Span,
    /// Maximum time by which an event may be ahead of the wall clock and still move event time. A later one is processed,
    /// counted and warned about, and makes no other event late. Not applied with `--once`; `0s`: no maximum. Default: `10m`.
    #[serde(default = "default_max_ahead")]
    pub max_ahead: Span,
    /// What becomes of a node's state when an option that gives it its meaning changes. Default: `refuse`.
    #[serde(default)]
    pub on_state_change: OnStateChange,
    /// How long a stop may take to settle what is in flight. Default: `30s`.
    #[serde(default = "default_drain")]
    pub drain: Span,
}

/// What becomes of a node's state when an option that gives it its meaning changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OnStateChange {
    /// The graph does not start, and says what changed.
    #[default]
    Refuse,
    /// The node begins without state.
    Reset,
}

/// Where events go that a node rejects and nobody listens to.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeadLetters {
    /// Folder of the dead letters. Default: `dead-letters` in the graph's data folder.
    #[serde(default)]
    pub path: Option<PathBuf>,
    /// Bytes kept at most; when they are full the lanes stop at the next dead letter. Default: `1GiB`.
    #[serde(default = "default_max_size")]
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

/// One of the graph's own tests.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TestConfig {
    /// What the test shows.
    pub name: String,
    /// Events fed to each source.
    pub feed: BTreeMap<String, FeedConfig>,
    /// Events expected at each sink, in order; `dead_letters` names those that were rejected.
    pub expect: BTreeMap<String, FeedConfig>,
}

/// Events of a test: a list of bodies, or one text with a body a line.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum FeedConfig {
    /// One body a line.
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
