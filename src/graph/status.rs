//! A running graph as those see it who watch it: telemetry and the admin socket.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};

use super::dead_letters::retry::Retried;
use super::dead_letters::{DEAD_LETTERS, LetterChoice};
use super::plan::Plan;
use super::route::Node;
use super::running::RetryRequest;
use super::spot::{LaneSnapshot, Skip, Spot};
use super::tap::Tapped;
use crate::component::{Kind, Trouble};
use crate::config::{NodeConfig, Port};
use crate::delivery::{BookTotals, LatencyTotals, MemoryBudget};
use crate::error::{Error, ErrorKind, Result};
use crate::event::{EventId, OriginId, OriginKind};

/// A running graph, to be watched and asked.
#[derive(Clone)]
pub struct Status {
    pub(super) plan: Arc<Plan>,
    pub(super) started: Instant,
    pub(super) dead_letters: Trouble,
    /// Of the graph as a whole.
    pub(super) graph: Trouble,
    pub(super) memory: MemoryBudget,
    pub(super) lanes: watch::Receiver<usize>,
    pub(super) stopping: watch::Receiver<bool>,
    pub(super) retry: mpsc::Sender<RetryRequest>,
}

/// A graph at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Name of the graph.
    pub graph: String,
    /// Milliseconds since it was started.
    pub uptime_millis: u64,
    /// Lanes running.
    pub lanes: usize,
    /// Bytes batches in flight hold.
    pub memory_used: u64,
    /// Bytes batches in flight may hold.
    pub memory_limit: u64,
    /// What the kernel says of the process, where it does.
    pub process: Option<Process>,
    /// What keeps the graph from being ready, by node; `dead_letters` and `graph` beside the nodes.
    pub troubles: BTreeMap<String, String>,
    /// The nodes, in topological order.
    pub nodes: Vec<NodeSnapshot>,
}

/// A node at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeSnapshot {
    /// Its id.
    pub id: String,
    /// `source`, `transform` or `sink`.
    pub kind: Kind,
    /// The `type:`.
    pub component: String,
    /// Its books.
    pub books: BookTotals,
    /// Of a source: bytes read; of a sink: bytes written. Both before compression.
    pub bytes: u64,
    /// How long batches take: of a source until they are settled, of a transform until they are processed, of a sink until
    /// they are delivered.
    pub latency: LatencyTotals,
    /// Of a source that knows: events its logs still hold for it, as of the last reads.
    pub lag: Option<u64>,
    /// Of a source: its lanes.
    pub lanes: Vec<LaneSnapshot>,
}

/// What the kernel says of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Resident memory.
    pub resident_bytes: u64,
    /// User and system time, in milliseconds.
    pub cpu_millis: u64,
}

impl Status {
    /// Everything there is to be seen.
    pub fn snapshot(&self) -> Snapshot {
        let node = |(number, node): (usize, &super::plan::PlanNode)| {
            let config = &self.plan.graph.nodes[number];
            let books = node.node.books.totals();
            let lanes: Vec<LaneSnapshot> = node.node.lanes().iter().map(|spot| spot.snapshot()).collect();
            let lag = lanes.iter().filter_map(|lane| lane.lag).reduce(|sum, lag| sum + lag);
            NodeSnapshot {
                id: config.id.clone(),
                kind: config.kind,
                component: config.component.clone(),
                books,
                bytes: node.node.books.total_bytes(),
                latency: node.node.latency.totals(),
                lag,
                lanes,
            }
        };
        Snapshot {
            graph: self.plan.graph.name.clone(),
            uptime_millis: self.started.elapsed().as_millis().try_into().unwrap_or(u64::MAX),
            lanes: *self.lanes.borrow(),
            memory_used: self.memory.used(),
            memory_limit: self.memory.total(),
            process: Process::read(),
            troubles: self.troubles(),
            nodes: self.plan.nodes.iter().enumerate().map(node).collect(),
        }
    }

    /// The books of every node.
    pub fn books(&self) -> Vec<(String, BookTotals)> {
        self.nodes().map(|node| (node.id.to_string(), node.books.totals())).collect()
    }

    /// What keeps the graph from being ready, by node. Empty: ready.
    pub fn troubles(&self) -> BTreeMap<String, String> {
        let mut troubles: BTreeMap<String, String> =
            self.nodes().filter_map(|node| Some((node.id.to_string(), node.trouble.all()?))).collect();
        troubles.extend(self.dead_letters.all().map(|what| (DEAD_LETTERS.to_owned(), what)));
        troubles.extend(self.graph.all().map(|what| ("graph".to_owned(), what)));
        if *self.stopping.borrow() {
            troubles.insert("graph".to_owned(), "it is stopping".to_owned());
        }
        troubles
    }

    /// Tries dead letters again; returns when all that were there are settled.
    pub async fn retry(&self, choice: LetterChoice) -> Result<Retried> {
        let over = || Error::new(ErrorKind::Unavailable, "retry dead letters", "the graph has ended");
        let (answer, answered) = oneshot::channel();
        self.retry.send((choice, answer)).await.map_err(|_| over())?;
        answered.await.map_err(|_| over())?
    }

    /// Steps over the record with this id, `source/log/partition/position`, if its lane stands there: it becomes a dead
    /// letter without a body. Returns once that is durable and the lane is past it.
    pub(crate) async fn skip(&self, id: &str, reason: String) -> Result<(), String> {
        let malformed = || format!("`{id}` is no place; write source/log/partition/position");
        let (origin, position, _) = EventId::parse(id, OriginKind::Other).ok_or_else(malformed)?;
        let OriginId { node, log, partition, .. } = &origin;
        let source = self
            .nodes()
            .find(|other| *other.id == **node)
            .ok_or_else(|| format!("the graph has no source `{node}`"))?;
        let is_it = |spot: &&Arc<Spot>| spot.origin.log == *log && spot.origin.partition == *partition;
        let spot = source.lanes().iter().find(is_it).cloned();
        let spot =
            spot.ok_or_else(|| format!("no lane of `{node}` reads partition {partition} of {log} in this process"))?;
        let (answer, answered) = oneshot::channel();
        spot.ask(Skip { position, reason, answer });
        answered.await.unwrap_or_else(|_| Err("the lane has ended".to_owned()))
    }

    /// A look at what leaves an output, written `node` or `node.port`; of a sink, at what comes in. At most about `rate`
    /// events a second are looked at.
    pub(crate) fn tap(&self, output: &str, rate: u32) -> Result<Tapped, String> {
        let (id, port) = output.split_once('.').unwrap_or((output, ""));
        let nodes = &self.plan.graph.nodes;
        let Some(number) = nodes.iter().position(|node| node.id == id) else {
            let ids: Vec<&str> = nodes.iter().map(|node| node.id.as_str()).collect();
            return Err(format!("the graph has no node `{id}`; it has {}", ids.join(", ")));
        };
        let node = &nodes[number];
        let named = node.ports.iter().position(|name| name == port).map(Port::Named);
        let has_main = match &node.config {
            NodeConfig::Transform(config) => node.ports.is_empty() || config.has_main_port(),
            _ => true,
        };
        let port = match (port, named) {
            ("", _) if has_main => Port::Main,
            ("errors", None) if node.kind != Kind::Source => Port::Errors,
            (_, Some(named)) => named,
            _ => {
                let of = |port: &str| format!("`{id}.{port}`");
                let mut outputs: Vec<String> = Vec::new();
                if has_main {
                    outputs.push(format!("`{id}`"));
                }
                outputs.extend(node.ports.iter().map(|port| of(port)));
                if node.kind != Kind::Source {
                    outputs.push(of("errors"));
                }
                return Err(format!("`{output}` is no output of the {}; tap {}", node.component, outputs.join(" or ")));
            }
        };
        Ok(self.plan.nodes[number].node.tap.open(port, rate))
    }

    fn nodes(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.plan.nodes.iter().map(|node| &node.node)
    }
}

impl Process {
    fn read() -> Option<Process> {
        // proc(5): page size and clock ticks are 4 KiB and 100 Hz on every Linux weir is built for.
        const PAGE: u64 = 4096;
        const TICK_MILLIS: u64 = 10;
        let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        let resident: u64 = statm.split(' ').nth(1)?.parse().ok()?;
        // The command name before ')' may hold blanks.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
        Some(Process { resident_bytes: resident * PAGE, cpu_millis: ticks * TICK_MILLIS })
    }
}
