//! `weir explain`: what the check phase knows of a graph, before anything runs.

use std::fmt::Write;

use weir::component::KeepsState;
use weir::config::{Graph, NodeConfig};
use weir::graph::Plan;

use crate::Exit;
use crate::args;

pub(super) fn run(args: &args::Graph) -> Exit {
    match super::graph_or_exit(super::load(args)) {
        Ok(graph) => {
            crate::print::out(format_args!("{}", explain(graph)));
            Exit::Ok
        }
        Err(exit) => exit,
    }
}

/// The plan as text; golden files hold it.
pub(crate) fn explain(graph: Graph) -> String {
    let plan = Plan::new(graph);
    let Graph { name, memory, dead_letters, drain, nodes, .. } = &plan.graph;
    let mut out = String::new();
    let letters = plan.graph.dead_letters_dir();
    let mib = |bytes: u64| bytes / (1 << 20);
    // Writing to a String cannot fail.
    let _ = writeln!(out, "graph {name}: {} nodes", nodes.len());
    let _ =
        writeln!(out, "  memory        {} MiB for batches in flight; a source waits when it is used up", mib(*memory));
    let _ = writeln!(out, "  data          {}", plan.graph.dir().display());
    let _ = writeln!(
        out,
        "  dead letters  {}, at most {} MiB; when full, lanes stop there",
        letters.display(),
        mib(dead_letters.max_size)
    );
    let _ = writeln!(out, "  stop          settles what is in flight for at most {drain:?}");
    for (number, node) in nodes.iter().enumerate() {
        if let NodeConfig::Source(config) = &node.config {
            let _ = writeln!(out, "\nsource {} ({}): {}", node.id, node.component, config.explain());
            branch(&plan, number, 1, &mut vec![false; nodes.len()], &mut out);
            let _ = match &*sinks_behind(&plan, number) {
                [] => writeln!(out, "  acknowledged  once every event is filtered or a durable dead letter"),
                ends => writeln!(
                    out,
                    "  acknowledged  once every event is delivered by {}, filtered, or a durable dead letter",
                    ends.join(" and ")
                ),
            };
        }
    }
    out
}

/// One line an edge behind `from`, fused into the same lane. A node that several edges lead to is described at the first.
fn branch(plan: &Plan, from: usize, depth: usize, is_shown: &mut [bool], out: &mut String) {
    for &(port, reader) in &plan.nodes[from].readers {
        let name = plan.graph.nodes[from].port_name(port);
        let arrow = if name.is_empty() { "->".to_owned() } else { format!("{name} ->") };
        let node = &plan.graph.nodes[reader];
        let indent = depth * 2;
        if std::mem::replace(&mut is_shown[reader], true) {
            let _ = writeln!(out, "{:indent$}{arrow} {}: see above", "", node.id);
            continue;
        }
        let (says, kind) = match &node.config {
            NodeConfig::Source(config) => (config.explain(), "source".to_owned()),
            NodeConfig::Transform(config) => (config.explain(), kind_of(plan, reader, &config.keeps_state())),
            NodeConfig::Sink(config) => (config.explain(), "sink".to_owned()),
        };
        let says = match &node.buffer {
            Some(buffer) => format!("{says}; {}", buffer.explain()),
            None => says,
        };
        let _ = writeln!(out, "{:indent$}{arrow} {} ({}, {kind}): {says}", "", node.id, node.component);
        branch(plan, reader, depth + 1, is_shown, out);
    }
}

/// Where a transform keeps its state.
fn kind_of(plan: &Plan, node: usize, keeps: &KeepsState) -> String {
    match keeps {
        KeepsState::Not => "transform".to_owned(),
        _ if plan.has_exchange(node) => {
            format!("transform with state, behind an exchange to {} state partitions", plan.graph.state_partitions)
        }
        _ => "transform with state, one a lane".to_owned(),
    }
}

/// Ids of the sinks that events of a node can reach, in the order of a walk along the edges.
fn sinks_behind(plan: &Plan, from: usize) -> Vec<&str> {
    let mut found = Vec::new();
    let mut is_seen = vec![false; plan.nodes.len()];
    let mut open = vec![from];
    while let Some(number) = open.pop() {
        if std::mem::replace(&mut is_seen[number], true) {
            continue;
        }
        let node = &plan.graph.nodes[number];
        if matches!(node.config, NodeConfig::Sink(_)) {
            found.push(node.id.as_str());
        }
        open.extend(plan.nodes[number].readers.iter().rev().map(|(_, reader)| *reader));
    }
    found
}
