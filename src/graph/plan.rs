//! The plan of a running graph: nodes and edges without YAML, from which routes are built.

use std::sync::Arc;
use std::time::Duration;

use super::exchange::Collector;
use super::horizon::Horizon;
use super::keying::{Keying, keying};
use super::route::{Node, Route, Target};
use super::step::{Step, Work};
use crate::component::{BuildContext, EventTime, Times, Transform, TransformConfig};
use crate::config::{Graph, NodeConfig, Port};
use crate::delivery::Rejects;
use crate::error::{Error, Result};
use crate::event::{OriginId, OriginKind, Timestamp};
use crate::script::Expression;
use crate::state::{Clock, Front, Storage};

/// One node of the plan and its outgoing edges.
pub struct PlanNode {
    /// What all lanes share of it.
    pub node: Arc<Node>,
    /// Who reads which of its outputs: numbers of nodes, in declared order.
    pub readers: Vec<(Port, usize)>,
}

impl PlanNode {
    /// Numbers of the nodes that read this output, in declared order.
    pub fn readers_of(&self, port: Port) -> impl Iterator<Item = usize> + '_ {
        self.readers.iter().filter(move |(read, _)| *read == port).map(|(_, reader)| *reader)
    }
}

/// What a graph is run for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Until it is stopped, or its sources end.
    Live,
    /// Until its bounded sources end; the same input gives the same output.
    Once,
    /// To try dead letters again, without its sources.
    Retry,
}

/// Where events enter a graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    /// Behind an output of this node.
    Behind(usize, Port),
    /// At this node itself.
    At(usize),
    /// At this node, by an exchange: as one of its state partitions.
    Shard(usize),
    /// At every exchange: for what is to be told to all state partitions.
    Everywhere,
}

/// How many state partitions each keyed node has whose events come by several partitions; none: a route has all of its
/// own.
pub(crate) type Shards = Option<usize>;

/// Nodes in topological order, as in the [`Graph`].
pub struct Plan {
    /// The checked graph.
    pub graph: Graph,
    /// One entry for each node of the graph, same order.
    pub nodes: Vec<PlanNode>,
    keying: Vec<Keying>,
}

impl Plan {
    /// The plan of a checked graph.
    pub fn new(graph: Graph) -> Plan {
        let mut nodes: Vec<PlanNode> = graph
            .nodes
            .iter()
            .map(|node| PlanNode {
                node: Arc::new(Node { id: node.id.as_str().into(), ..Node::default() }),
                readers: Vec::new(),
            })
            .collect();
        for (reader, node) in graph.nodes.iter().enumerate() {
            for input in &node.inputs {
                nodes[input.node].readers.push((input.port, reader));
            }
        }
        let (keying, _reported_at_the_check) = keying(&graph);
        Plan { graph, nodes, keying }
    }

    /// Numbers of the nodes for which `of` holds of the config.
    pub fn numbers<'a>(&'a self, of: impl Fn(&NodeConfig) -> bool + 'a) -> impl Iterator<Item = usize> + 'a {
        self.graph.nodes.iter().enumerate().filter(move |(_, node)| of(&node.config)).map(|(number, _)| number)
    }

    /// What node `number` is built with.
    pub(crate) fn context(
        &self,
        number: usize,
        rejects: Rejects,
        clock: Arc<dyn Clock>,
        storage: Arc<dyn Storage>,
        mode: Mode,
    ) -> BuildContext {
        let node = &self.nodes[number].node;
        BuildContext {
            graph: self.graph.name.as_str().into(),
            node: node.id.clone(),
            books: node.books.clone(),
            rejects,
            trouble: node.trouble.clone(),
            clock,
            storage,
            once: mode == Mode::Once,
            spans_partitions: self.leads_to_exchange(number),
            retry: mode == Mode::Retry,
        }
    }

    /// Whether an exchange stands in front of a node.
    pub fn has_exchange(&self, number: usize) -> bool {
        self.keying[number].has_exchange
    }

    /// Whether an exchange stands somewhere behind a source.
    fn leads_to_exchange(&self, number: usize) -> bool {
        if !matches!(self.graph.nodes[number].config, NodeConfig::Source(_)) {
            return false;
        }
        let mut is_behind = vec![false; self.nodes.len()];
        is_behind[number] = true;
        // In topological order, so one pass finds all that is behind.
        for (from, node) in self.nodes.iter().enumerate().skip(number) {
            if is_behind[from] {
                node.readers.iter().for_each(|(_, reader)| is_behind[*reader] = true);
            }
        }
        (0..self.nodes.len()).any(|node| is_behind[node] && self.has_exchange(node))
    }

    /// Builds the route that begins at `entry` for one lane or state partition.
    ///
    /// Each has its own transforms; nothing but the books and the sinks is shared between them.
    pub(crate) fn route(&self, entry: Entry, shards: Shards, context: &dyn Fn(usize) -> BuildContext) -> Result<Route> {
        let is_everywhere = entry == Entry::Everywhere;
        let at_shard = match entry {
            Entry::Shard(node) => Some(node),
            _ => None,
        };
        let entry: Vec<usize> = match entry {
            Entry::Behind(node, port) => self.nodes[node].readers_of(port).collect(),
            Entry::At(node) | Entry::Shard(node) => vec![node],
            Entry::Everywhere => (0..self.nodes.len()).filter(|node| self.has_exchange(*node)).collect(),
        };
        let shares = |number: usize| shards.filter(|_| self.has_exchange(number) && at_shard != Some(number));
        let reached = self.reached(&entry, &|number| shares(number).is_some());
        let steps_of: Vec<usize> = reached.iter().copied().filter(|node| self.transform(*node).is_some()).collect();
        let step_of = |node: usize| steps_of.iter().position(|step| *step == node);
        let target = |node: usize| step_of(node).map_or(Target::Sink(node), Target::Step);
        let targets = |from: usize, port| self.nodes[from].readers_of(port).map(target).collect::<Vec<_>>();
        let mut steps = Vec::with_capacity(steps_of.len());
        let mut is_timed = false;
        let (mut by_source, mut clock) = (Vec::new(), None);
        for &number in &steps_of {
            let Some(config) = self.transform(number) else { continue };
            let shares = shares(number);
            let context = context(number);
            let transform = config.build(&context)?;
            let max_ahead = self.max_ahead(config).filter(|_| !context.once);
            is_timed |= shares.is_some() || config.event_time() != EventTime::Unused || config.ticks().is_some();
            if config.event_time() == EventTime::OfEvent {
                by_source.push(max_ahead);
            }
            let ports = 0..self.graph.nodes[number].ports.len();
            let inputs = self.graph.nodes[number].inputs.iter();
            let mut inputs: Vec<Option<usize>> = inputs
                .filter_map(|input| step_of(input.node).filter(|step| *step < steps.len()).map(Some))
                .chain(entry.contains(&number).then_some(None))
                .collect();
            inputs.dedup();
            let next = if shares.is_some() { Vec::new() } else { targets(number, Port::Main) };
            let time_of = self.keying[number].time_of.as_ref().filter(|_| shares.is_some() && at_shard.is_none());
            let has_own_time = matches!(config.event_time(), EventTime::By(_)) && at_shard.is_none();
            let node = self.nodes[number].node.clone();
            steps.push(Step {
                work: match (transform, shares) {
                    (Transform::Stateful(transform), Some(shards)) => {
                        let mut collector = Collector::new(number, shards, node.books.clone());
                        // Only where all sources have ended do lanes come to the end of time, and state partitions hear of it.
                        collector.is_last = is_everywhere || at_shard.is_some();
                        Work::Share(transform, collector)
                    }
                    (transform, _) => Work::Do(transform),
                },
                is_in_lane: at_shard.is_none(),
                origin: origin_of(&node.id, &node.id, 0),
                node,
                next,
                named: ports.map(|port| targets(number, Port::Named(port))).collect(),
                errors: targets(number, Port::Errors),
                inputs,
                lateness: config.lateness(),
                horizon: Horizon::new(&context.clock, max_ahead),
                front: (has_own_time || time_of.is_some()).then(Front::default),
                time_of: time_of.map(|time| compiled(time)).transpose()?,
                passed_on: Timestamp::MIN,
                told: Times::BEGINNING,
                is_due: false,
                evicted: 0,
            });
            clock = Some(context.clock).filter(|_| !context.once);
        }
        // What works by the source's time has one clock: it may run as far ahead as one of them allows.
        let widest = by_source.into_iter().max_by_key(|span| span.unwrap_or(Duration::MAX));
        let widest = widest.unwrap_or(self.graph.max_ahead);
        let horizon = clock.map_or_else(Horizon::default, |clock| Horizon::new(&clock, widest));
        let entry = entry.into_iter().map(target).collect();
        Ok(Route { steps, entry, is_timed, horizon, poison: None, due: None })
    }

    /// How far the event time of a node may run ahead of the wall clock; `None`: as far as it likes.
    fn max_ahead(&self, config: &dyn TransformConfig) -> Option<Duration> {
        config.max_ahead().map_or(self.graph.max_ahead, |own| Some(own).filter(|own| !own.is_zero()))
    }

    /// How often processing time is to be told at least; `None`: no node waits for it.
    pub fn ticks(&self) -> Option<Duration> {
        (0..self.nodes.len()).filter_map(|number| self.transform(number)?.ticks()).min()
    }

    fn transform(&self, number: usize) -> Option<&dyn TransformConfig> {
        match &self.graph.nodes[number].config {
            NodeConfig::Transform(config) => Some(&**config),
            _ => None,
        }
    }

    /// Every node behind `entry`, in topological order, as far as exchanges. The `errors` ports of sinks lead out of the
    /// lane, and all but the `errors` port of an exchange.
    fn reached(&self, entry: &[usize], shares: &dyn Fn(usize) -> bool) -> Vec<usize> {
        let mut seen = vec![false; self.nodes.len()];
        let mut open = entry.to_vec();
        while let Some(number) = open.pop() {
            if std::mem::replace(&mut seen[number], true) || self.transform(number).is_none() {
                continue;
            }
            let is_end = shares(number);
            let readers = self.nodes[number].readers.iter().filter(|(port, _)| !is_end || *port == Port::Errors);
            open.extend(readers.map(|(_, reader)| *reader));
        }
        (0..self.nodes.len()).filter(|number| seen[*number]).collect()
    }
}

fn compiled(time: &str) -> Result<Expression> {
    Expression::compile(time).map(|(time, _)| time).map_err(|_| Error::unchecked("time"))
}

/// The identity of what is no source's: results, state partitions.
pub(crate) fn origin_of(node: &str, log: &str, partition: i32) -> Arc<OriginId> {
    Arc::new(OriginId { node: node.to_owned(), log: log.to_owned(), partition, kind: OriginKind::Other })
}

/// Names an origin for logs and errors: `node:log/partition`.
pub(crate) fn origin_name(origin: &OriginId) -> String {
    format!("{}:{}/{}", origin.node, origin.log, origin.partition)
}
