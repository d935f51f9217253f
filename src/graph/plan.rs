//! The plan of a running graph: nodes and edges without YAML, from which routes are built.

use std::sync::Arc;

use super::route::{Node, Route, Step, Target};
use crate::component::{BuildContext, TransformConfig};
use crate::config::{Graph, NodeConfig, Port};
use crate::delivery::Rejects;
use crate::error::Result;
use crate::event::OriginId;
use crate::state::{Clock, Storage};

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
}

/// Nodes in topological order, as in the [`Graph`].
pub struct Plan {
    /// The checked graph.
    pub graph: Graph,
    /// One entry for each node of the graph, same order.
    pub nodes: Vec<PlanNode>,
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
        Plan { graph, nodes }
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
            retry: mode == Mode::Retry,
        }
    }

    /// Builds the route that begins at `entry` for one lane.
    ///
    /// Every lane has its own transforms; nothing but the books and the sinks is shared between lanes.
    pub(crate) fn route(&self, entry: Entry, context: &dyn Fn(usize) -> BuildContext) -> Result<Route> {
        let entry: Vec<usize> = match entry {
            Entry::Behind(node, port) => self.nodes[node].readers_of(port).collect(),
            Entry::At(node) => vec![node],
        };
        let reached = self.reached(&entry);
        let steps_of: Vec<usize> = reached.iter().copied().filter(|node| self.transform(*node).is_some()).collect();
        let target = |node: usize| match steps_of.iter().position(|step| *step == node) {
            Some(step) => Target::Step(step),
            None => Target::Sink(node),
        };
        let targets = |from: usize, port| self.nodes[from].readers_of(port).map(target).collect::<Vec<_>>();
        let mut steps = Vec::with_capacity(steps_of.len());
        for &number in &steps_of {
            let Some(config) = self.transform(number) else { continue };
            let ports = 0..self.graph.nodes[number].ports.len();
            steps.push(Step {
                node: self.nodes[number].node.clone(),
                transform: config.build(&context(number))?,
                next: targets(number, Port::Main),
                named: ports.map(|port| targets(number, Port::Named(port))).collect(),
                errors: targets(number, Port::Errors),
            });
        }
        Ok(Route { steps, entry: entry.into_iter().map(target).collect() })
    }

    fn transform(&self, number: usize) -> Option<&dyn TransformConfig> {
        match &self.graph.nodes[number].config {
            NodeConfig::Transform(config) => Some(&**config),
            _ => None,
        }
    }

    /// Every node behind `entry`, in topological order. The `errors` ports of sinks lead out of the lane.
    fn reached(&self, entry: &[usize]) -> Vec<usize> {
        let mut seen = vec![false; self.nodes.len()];
        let mut open = entry.to_vec();
        while let Some(number) = open.pop() {
            if std::mem::replace(&mut seen[number], true) || self.transform(number).is_none() {
                continue;
            }
            open.extend(self.nodes[number].readers.iter().map(|(_, reader)| *reader));
        }
        (0..self.nodes.len()).filter(|number| seen[*number]).collect()
    }
}

/// Names an origin for logs and errors: `node:log/partition`.
pub(crate) fn origin_name(origin: &OriginId) -> String {
    format!("{}:{}/{}", origin.node, origin.log, origin.partition)
}
