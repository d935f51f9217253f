//! `weir graph`: the nodes and edges as a picture, or as a text from which others draw one.

mod svg;

use std::fmt::Write;

use weir::component::Kind;
use weir::config::Graph;
use weir::graph::Plan;

use crate::Exit;
use crate::args::{GraphPicture, PictureFormat};

pub(super) fn run(args: &GraphPicture) -> Exit {
    match super::graph_or_exit(super::load(&args.graph)) {
        Ok(graph) => {
            let text = match args.format {
                PictureFormat::Mermaid => mermaid(graph),
                PictureFormat::Dot => dot(graph),
                PictureFormat::Svg => svg::svg(graph),
            };
            crate::print::out(format_args!("{text}"));
            Exit::Ok
        }
        Err(exit) => exit,
    }
}

/// Each edge as node, reader and the name of the output.
fn edges(plan: &Plan) -> impl Iterator<Item = (usize, usize, &str)> {
    plan.nodes.iter().zip(&plan.graph.nodes).enumerate().flat_map(|(from, (node, written))| {
        node.readers.iter().map(move |(port, reader)| (from, *reader, written.port_name(*port)))
    })
}

/// A flowchart for Markdown: <https://mermaid.js.org/syntax/flowchart.html>. Ids get a prefix, as `end` is a word there.
fn mermaid(graph: Graph) -> String {
    let plan = Plan::new(graph);
    let mut out = "flowchart LR\n".to_owned();
    for (number, node) in plan.graph.nodes.iter().enumerate() {
        let (open, close) = match node.kind {
            Kind::Source => ("([", "])"),
            Kind::Transform => ("[", "]"),
            Kind::Sink => ("[/", "/]"),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(out, "  n{number}{open}\"{}<br/><small>{}</small>\"{close}", node.id, node.component);
    }
    for (from, to, label) in edges(&plan) {
        let arrow = if label.is_empty() { "-->".to_owned() } else { format!("-->|{label}|") };
        let _ = writeln!(out, "  n{from} {arrow} n{to}");
    }
    out
}

/// Graphviz: <https://graphviz.org/doc/info/lang.html>.
fn dot(graph: Graph) -> String {
    let plan = Plan::new(graph);
    let mut out = format!("digraph \"{}\" {{\n  rankdir=LR;\n  node [shape=box];\n", plan.graph.name);
    for (number, node) in plan.graph.nodes.iter().enumerate() {
        let shape = match node.kind {
            Kind::Source => "ellipse",
            Kind::Transform => "box",
            Kind::Sink => "parallelogram",
        };
        let _ = writeln!(out, "  n{number} [label=\"{}\\n{}\", shape={shape}];", node.id, node.component);
    }
    for (from, to, label) in edges(&plan) {
        let label = if label.is_empty() { String::new() } else { format!(" [label=\"{label}\"]") };
        let _ = writeln!(out, "  n{from} -> n{to}{label};");
    }
    out.push_str("}\n");
    out
}
