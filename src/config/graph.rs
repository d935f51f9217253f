//! A checked graph, as the runtime takes it.

use std::path::PathBuf;
use std::time::Duration;

use super::buffer::BufferConfig;
use crate::component::{Kind, SinkConfig, SourceConfig, TransformConfig};

/// A graph that passed every check. Nodes are in topological order.
#[derive(Debug)]
pub struct Graph {
    /// Its name: metrics, state and dead letters bear it.
    pub name: String,
    /// Where the graph keeps positions, state and dead letters.
    pub data_dir: PathBuf,
    /// Bytes all batches in flight may hold together.
    pub memory: u64,
    /// Bytes a value may have that a VRL program makes.
    pub max_value: u64,
    /// Where events go that no node takes.
    pub dead_letters: DeadLettersConfig,
    /// Address of `/metrics`, `/health` and `/ready`.
    pub telemetry: Option<std::net::SocketAddr>,
    /// How long a stop may take to settle what is in flight.
    pub drain: Duration,
    /// How long what lanes remember may wait to be written.
    pub checkpoint_every: Duration,
    /// In how many parts the state of a keyed node is kept where its events come by several partitions.
    pub state_partitions: usize,
    /// How long a lane that has read everything must be silent until event time no longer waits for it; `None`: it
    /// always does.
    pub idle_timeout: Option<Duration>,
    /// How far event time may run ahead of the wall clock; `None`: as far as it likes.
    pub max_ahead: Option<Duration>,
    /// Whether a node begins without its state when its options give that another meaning, instead of refusing.
    pub reset_state: bool,
    /// The nodes.
    pub nodes: Vec<Node>,
    /// The graph's own tests.
    pub tests: Vec<Test>,
}

impl Graph {
    /// Where the graph keeps what is its own.
    pub fn dir(&self) -> PathBuf {
        self.data_dir.join(&self.name)
    }

    /// The folder of what the graph's lanes remember.
    pub fn state_dir(&self) -> PathBuf {
        self.dir().join(".state")
    }

    /// The folder of the graph's dead letters.
    pub fn dead_letters_dir(&self) -> PathBuf {
        self.dead_letters.path.clone().unwrap_or_else(|| self.dir().join("dead-letters"))
    }
}

/// Where dead letters go.
#[derive(Debug, Clone)]
pub struct DeadLettersConfig {
    /// Folder; `None`: `dead-letters` in the graph's data folder.
    pub path: Option<PathBuf>,
    /// Bytes kept at most.
    pub max_size: u64,
}

/// A node of the graph.
#[derive(Debug)]
pub struct Node {
    /// Its id.
    pub id: String,
    /// Source, transform or sink.
    pub kind: Kind,
    /// The `type:`.
    pub component: String,
    /// What it reads.
    pub inputs: Vec<Input>,
    /// Of a source: VRL expressions of which equal values always come by the same partition.
    pub keyed_by: Vec<String>,
    /// Names of its outputs, where they have names: see [`TransformConfig::ports`].
    pub ports: Vec<String>,
    /// Its options.
    pub config: NodeConfig,
    /// Of a sink: what waits before it.
    pub buffer: Option<BufferConfig>,
}

impl Node {
    /// The name of an output; empty of one that has none, as it is the only one.
    pub fn port_name(&self, port: Port) -> &str {
        match port {
            Port::Main => "",
            Port::Errors => "errors",
            Port::Named(number) => self.ports.get(number).map_or("", String::as_str),
        }
    }
}

/// An edge into a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Input {
    /// Number of the node that is read.
    pub node: usize,
    /// Which of its outputs.
    pub port: Port,
}

/// An output of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// What passed.
    Main,
    /// What was rejected.
    Errors,
    /// One of several outputs, by its number among the node's ports.
    Named(usize),
}

/// A node's options, by kind.
#[derive(Debug)]
#[allow(missing_docs, reason = "the kinds")]
pub enum NodeConfig {
    Source(Box<dyn SourceConfig>),
    Transform(Box<dyn TransformConfig>),
    Sink(Box<dyn SinkConfig>),
}

/// A test of the graph.
#[derive(Debug)]
pub struct Test {
    /// What it shows.
    pub name: String,
    /// Bodies fed to each source.
    pub feed: Vec<(String, Vec<TestBody>)>,
    /// Bodies expected at each sink, in order.
    pub expect: Vec<(String, Vec<TestBody>)>,
}

/// A body in a test.
#[derive(Debug, Clone, PartialEq)]
pub enum TestBody {
    /// As it is.
    Text(String),
    /// A JSON document.
    Json(serde_json::Value),
}
