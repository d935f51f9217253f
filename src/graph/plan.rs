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
    /// Numbers of the nodes that read its main output, in declared order.
    pub next: Vec<usize>,
    /// Numbers of the nodes that read its `errors` port.
    pub errors: Vec<usize>,
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
                next: Vec::new(),
                errors: Vec::new(),
            })
            .collect();
        for (reader, node) in graph.nodes.iter().enumerate() {
            for input in &node.inputs {
                match input.port {
                    Port::Main => nodes[input.node].next.push(reader),
                    Port::Errors => nodes[input.node].errors.push(reader),
                }
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
        once: bool,
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
            once,
        }
    }

    /// Builds the route behind node `from` (its main output, or its `errors` port) for one lane.
    ///
    /// Every lane has its own transforms; nothing but the books and the sinks is shared between lanes.
    pub(crate) fn route(&self, from: usize, port: Port, context: &dyn Fn(usize) -> BuildContext) -> Result<Route> {
        let edges = |node: &PlanNode| match port {
            Port::Main => node.next.clone(),
            Port::Errors => node.errors.clone(),
        };
        let entry = edges(&self.nodes[from]);
        let reached = self.reached(&entry);
        let steps_of: Vec<usize> = reached.iter().copied().filter(|node| self.transform(*node).is_some()).collect();
        let target = |node: usize| match steps_of.iter().position(|step| *step == node) {
            Some(step) => Target::Step(step),
            None => Target::Sink(node),
        };
        let targets = |nodes: &[usize]| nodes.iter().map(|node| target(*node)).collect::<Vec<_>>();
        let mut steps = Vec::with_capacity(steps_of.len());
        for &number in &steps_of {
            let Some(config) = self.transform(number) else { continue };
            let node = &self.nodes[number];
            steps.push(Step {
                node: node.node.clone(),
                transform: config.build(&context(number))?,
                next: targets(&node.next),
                errors: targets(&node.errors),
            });
        }
        Ok(Route { steps, entry: targets(&entry) })
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
            open.extend(&self.nodes[number].next);
            open.extend(&self.nodes[number].errors);
        }
        (0..self.nodes.len()).filter(|number| seen[*number]).collect()
    }
}

/// Names an origin for logs and errors: `node:log/partition`.
pub(crate) fn origin_name(origin: &OriginId) -> String {
    format!("{}:{}/{}", origin.node, origin.log, origin.partition)
}
