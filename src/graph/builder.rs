//! Builds the nodes of a plan: sources, sinks, routes, state partitions.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::buffer::{Buffered, Ends};
use super::dead_letters::retry;
use super::epochs::Epochs;
use super::exchange::{Exchange, InputId, Message};
use super::keeper::run_shard;
use super::plan::{Entry, Mode, Plan, Shards};
use super::route::{Node, Outgoing, Route, errors_batch};
use super::runtime::io_error;
use super::shard::Shard;
use super::shared::Shared;
use crate::component::{BuildContext, KeepsState, Sink, Source};
use crate::config::{NodeConfig, Port};
use crate::delivery::{Outcome, RejectedBatch, Rejects};
use crate::error::Result;
use crate::event::Batch;
use crate::state::{Clock, DirStorage, GraphState, Storage};

pub(super) type RejectedPort = (usize, mpsc::Receiver<RejectedBatch>);

/// Builds the nodes of a plan.
pub(super) struct Builder {
    pub plan: Arc<Plan>,
    pub clock: Arc<dyn Clock>,
    pub dir: PathBuf,
    pub mode: Mode,
}

/// What feeds lanes: a source, or the dead letters of a node.
pub(super) struct Feed {
    pub source: Box<dyn Source>,
    /// Keeps the books of what is read.
    pub node: Arc<Node>,
    /// Where its events enter the graph.
    pub entry: Entry,
    /// The epochs of what is remembered behind it; none: those of the graph.
    pub epochs: Option<Arc<Epochs>>,
}

impl Builder {
    fn context(&self, number: usize, rejects: Rejects) -> Result<BuildContext> {
        let dir = self.dir.join(&*self.plan.nodes[number].node.id);
        let storage: Arc<dyn Storage> =
            Arc::new(DirStorage::open(&dir).map_err(|error| io_error("open the node's folder", &dir, error))?);
        Ok(self.plan.context(number, rejects, self.clock.clone(), storage, self.mode))
    }

    /// The sinks by node number, and the receiving ends of their `errors` ports.
    pub async fn sinks(&self, ends: &Ends) -> Result<(Vec<Option<Arc<dyn Sink>>>, Vec<RejectedPort>)> {
        let mut sinks: Vec<Option<Arc<dyn Sink>>> = self.plan.nodes.iter().map(|_| None).collect();
        let mut ports = Vec::new();
        for number in self.plan.numbers(|config| matches!(config, NodeConfig::Sink(_))) {
            let (rejects, rejected) = Rejects::channel();
            if let NodeConfig::Sink(config) = &self.plan.graph.nodes[number].config {
                let (graph, context) = (&self.plan.graph, self.context(number, rejects)?);
                let sink = config.build(&context).await;
                let sink = sink.map_err(|error| error.with("node", &graph.nodes[number].id))?;
                sinks[number] = Some(match &graph.nodes[number].buffer {
                    Some(buffer) => {
                        Arc::new(Buffered::start(sink, buffer, context, retry::codecs(graph), ends.clone())?)
                    }
                    None => sink,
                });
            }
            ports.push((number, rejected));
        }
        Ok((sinks, ports))
    }

    pub async fn sources(&self) -> Result<Vec<Feed>> {
        let mut feeds = Vec::new();
        for number in self.plan.numbers(|config| matches!(config, NodeConfig::Source(_))) {
            if let NodeConfig::Source(config) = &self.plan.graph.nodes[number].config {
                // Sources have no `errors` port: what they cannot read is passed on as it is.
                let (rejects, _nobody) = Rejects::channel();
                let source = config.build(&self.context(number, rejects)?).await;
                feeds.push(Feed {
                    source: source.map_err(|error| error.with("node", &self.plan.graph.nodes[number].id))?,
                    node: self.plan.nodes[number].node.clone(),
                    entry: Entry::Behind(number, Port::Main),
                    epochs: None,
                });
            }
        }
        Ok(feeds)
    }

    /// Whether sources are read one after the other, so that the output depends on nothing but the input.
    pub fn is_in_order(&self) -> bool {
        let is_deterministic = |config: &NodeConfig| match config {
            NodeConfig::Source(config) => config.is_deterministic(),
            _ => true,
        };
        self.mode == Mode::Once && self.plan.graph.nodes.iter().all(|node| is_deterministic(&node.config))
    }

    /// How many state partitions a node has whose events come by several partitions.
    pub fn shards(&self) -> usize {
        if self.is_in_order() { 1 } else { self.plan.graph.state_partitions }
    }

    /// Starts the state partitions of every exchange; they end when this is dropped.
    pub fn run_shards(
        &self,
        receivers: Vec<(usize, Vec<mpsc::Receiver<Message>>)>,
        shared: &Arc<Shared>,
        epochs: &Arc<Epochs>,
        state: Option<&GraphState>,
    ) -> Result<JoinSet<()>> {
        let mut tasks = JoinSet::new();
        let mut ready = Vec::new();
        for (node, receivers) in receivers {
            for (number, messages) in receivers.into_iter().enumerate() {
                let route = self.route(Entry::Shard(node), Some(self.shards()))?;
                let id = self.plan.nodes[node].node.id.clone();
                ready.push((node, messages, Shard::new(id, number, route.poisoned_by(&epochs.poison), epochs.input())));
            }
        }
        // A state partition reads from all of every node in front of it that has some.
        let feeding: Vec<(InputId, Vec<usize>)> =
            ready.iter().map(|(_, _, shard)| (shard.input, shard.exchanges().collect())).collect();
        for (node, messages, mut shard) in ready {
            for (input, _) in feeding.iter().filter(|(_, nodes)| nodes.contains(&node)) {
                shard.open(*input, None);
            }
            if let Some(state) = state {
                shard.restore(state)?;
            }
            run_shard(&mut tasks, shard, messages, shared.clone(), epochs.clone());
        }
        Ok(tasks)
    }

    /// The durable state of the graph, if a node has any and the sources are read.
    pub fn state(&self) -> Result<Option<Arc<GraphState>>> {
        let graph = &self.plan.graph;
        let remembering: Vec<(&str, String)> = (0..graph.nodes.len()).filter_map(|node| self.remembers(node)).collect();
        if remembering.is_empty() || self.mode == Mode::Retry {
            return Ok(None);
        }
        let state = GraphState::open(&graph.state_dir())?;
        for (node, identity) in remembering {
            state.identify(node, &identity, graph.reset_state)?;
        }
        Ok(Some(Arc::new(state)))
    }

    /// A node with state, and what that means.
    fn remembers(&self, number: usize) -> Option<(&str, String)> {
        let node = &self.plan.graph.nodes[number];
        let NodeConfig::Transform(config) = &node.config else { return None };
        if config.keeps_state() == KeepsState::Not {
            return None;
        }
        let place = match self.plan.has_exchange(number) {
            true => format!("{} state partitions", self.shards()),
            false => "the lanes it reads".to_owned(),
        };
        Some((&node.id, format!("{} with {}, in {place}", node.component, config.state_identity())))
    }

    /// The route of one lane.
    pub fn route(&self, entry: Entry, shards: Shards) -> Result<Route> {
        let clock = self.clock.clone();
        let storage: Arc<dyn Storage> = Arc::new(crate::state::MemoryStorage::default());
        let (rejects, _unused) = Rejects::channel();
        self.plan.route(entry, shards, &|number| {
            self.plan.context(number, rejects.clone(), clock.clone(), storage.clone(), self.mode)
        })
    }

    /// One task a sink takes what it rejects to whoever listens, or to the dead letters.
    pub fn errors_ports(&mut self, ports: Vec<RejectedPort>, shared: &Arc<Shared>) -> Result<JoinSet<()>> {
        let mut tasks = JoinSet::new();
        for (number, mut rejected) in ports {
            let node = self.plan.nodes[number].node.clone();
            let connected = self.plan.nodes[number].readers_of(Port::Errors).next().is_some();
            let mut route = self.route(Entry::Behind(number, Port::Errors), None)?;
            let shared = shared.clone();
            tasks.spawn(async move {
                let mut outgoing = Vec::new();
                while let Some(batch) = rejected.recv().await {
                    node.see_rejected(&batch);
                    if connected {
                        let count = batch.rejected.len();
                        node.books.passed(count);
                        node.books.emitted(count);
                        for batch in one_by_one(errors_batch(&node.id, batch)) {
                            route.process_alone(batch, &mut outgoing);
                        }
                    } else {
                        outgoing.push(Outgoing::DeadLetters { node: node.clone(), batch });
                    }
                    shared.send(&mut outgoing, Default::default()).await;
                }
            });
        }
        Ok(tasks)
    }
}

/// The events of a batch as batches of one: a panic then costs its own event.
fn one_by_one(batch: Batch) -> Vec<Batch> {
    let Batch { origin, receipt, watermark, events } = batch;
    let one = |event| Batch { origin: origin.clone(), receipt: receipt.clone(), watermark, events: vec![event] };
    let batches = events.into_iter().map(one).collect();
    receipt.resolve(Outcome::Filtered);
    batches
}

/// Batches that may wait in front of a state partition.
const WAITING: usize = 64;

/// The ways into state partitions, and their other ends, by number of the node.
pub(super) struct Ways {
    pub exchanges: Vec<Exchange>,
    pub receivers: Vec<(usize, Vec<mpsc::Receiver<Message>>)>,
}

impl Ways {
    pub fn of(builder: &Builder) -> Ways {
        let mut ways = Ways { exchanges: Vec::new(), receivers: Vec::new() };
        if builder.mode == Mode::Retry {
            return ways;
        }
        for node in (0..builder.plan.nodes.len()).filter(|node| builder.plan.has_exchange(*node)) {
            let (shards, receivers) = (0..builder.shards()).map(|_| mpsc::channel(WAITING)).unzip();
            ways.exchanges.push(Exchange { node, shards });
            ways.receivers.push((node, receivers));
        }
        ways
    }
}
