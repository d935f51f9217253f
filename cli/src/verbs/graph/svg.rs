//! A picture that needs nothing else to be seen: the layout is dagre's, as in Mermaid; the shapes are ours.

use std::fmt::Write;

use dagre::graph::{Graph as Layout, GraphOptions};
use dagre::layout::types::LabelPos;
use dagre::{EdgeLabel, LayoutOptions, NodeLabel, Point, RankDir};
use weir::component::Kind;
use weir::config::Graph;
use weir::graph::Plan;

use super::edges;

/// Width of a character of the monospaced texts, in pixels: six tenths of their size, which is 13.
const CHARACTER: f64 = 7.8;
/// Height of a node, with a line for its id and one for its component.
const HEIGHT: f64 = 44.0;
/// Height of the name of an output, beside its edge.
const LABEL_HEIGHT: f64 = 18.0;
/// How far the left and right side of a sink lean.
const LEAN: f64 = 10.0;

/// Colours that can be read on light and on dark pages: nodes and labels bring their own ground.
const STYLE: &str = "\
text{font:13px ui-monospace,Menlo,Consolas,monospace;text-anchor:middle;fill:#1b1f24}\
.type{font-size:11px;fill:#57606a}\
.node{stroke-width:1.5}\
.source{fill:#dff3e4;stroke:#2f8f4e}\
.transform{fill:#e3eefc;stroke:#3a6fb5}\
.sink{fill:#fdeeda;stroke:#b8741a}\
.edge{fill:none;stroke:#8a929b;stroke-width:1.5;marker-end:url(#arrow)}\
.errors{stroke:#c4433c;stroke-dasharray:4 3}\
.port{font-size:11px}\
.ground{fill:#f3f4f6}";

/// The graph as one SVG document, from left to right.
pub(super) fn svg(graph: Graph) -> String {
    let plan = Plan::new(graph);
    let mut layout = Layout::with_options(GraphOptions { directed: true, multigraph: true, compound: true });
    for (number, node) in plan.graph.nodes.iter().enumerate() {
        let characters = node.id.chars().count().max(node.component.chars().count());
        let width = characters as f64 * CHARACTER + HEIGHT;
        layout.set_node(number.to_string(), Some(NodeLabel { width, height: HEIGHT, ..NodeLabel::default() }));
    }
    let edges: Vec<(usize, usize, &str)> = edges(&plan).collect();
    for (number, (from, to, port)) in edges.iter().enumerate() {
        let mut label = EdgeLabel { labelpos: LabelPos::Center, ..EdgeLabel::default() };
        if !port.is_empty() {
            (label.width, label.height) = (label_width(port), LABEL_HEIGHT);
        }
        layout.set_edge(from.to_string(), to.to_string(), Some(label), Some(&number.to_string()));
    }
    let options =
        LayoutOptions { rankdir: RankDir::LR, nodesep: 24.0, edgesep: 16.0, ranksep: 36.0, ..LayoutOptions::default() };
    dagre::layout(&mut layout, Some(options));

    let mut body = String::new();
    let mut size = Extent::default();
    for (number, (from, to, port)) in edges.iter().enumerate() {
        if let Some(edge) = layout.edge(&from.to_string(), &to.to_string(), Some(&number.to_string())) {
            edge.points.iter().for_each(|point| size.add(point.x, point.y));
            draw_edge(&mut body, edge, port);
        }
    }
    for (number, node) in plan.graph.nodes.iter().enumerate() {
        let Some(NodeLabel { x: Some(x), y: Some(y), width, .. }) = layout.node(&number.to_string()) else { continue };
        size.add(x - width / 2.0, y - HEIGHT / 2.0);
        size.add(x + width / 2.0, y + HEIGHT / 2.0);
        draw_node(&mut body, node.kind, &node.id, &node.component, (*x, *y, *width));
    }
    document(&plan.graph.name, &size, &body)
}

/// The rectangle around all that is drawn.
#[derive(Default)]
struct Extent {
    from: (f64, f64),
    to: (f64, f64),
}

impl Extent {
    fn add(&mut self, x: f64, y: f64) {
        self.from = (self.from.0.min(x), self.from.1.min(y));
        self.to = (self.to.0.max(x), self.to.1.max(y));
    }
}

fn document(name: &str, size: &Extent, body: &str) -> String {
    const MARGIN: f64 = 8.0;
    let (x, y) = (size.from.0 - MARGIN, size.from.1 - MARGIN);
    let (width, height) = (size.to.0 - x + MARGIN, size.to.1 - y + MARGIN);
    let name = escaped(name);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" width=\"{width:.0}\" height=\"{height:.0}\" \
         viewBox=\"{x:.1} {y:.1} {width:.1} {height:.1}\">\n\
         <title>graph {name}</title>\n\
         <style>{STYLE}</style>\n\
         <defs><marker id=\"arrow\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" \
         orient=\"auto\"><path d=\"M0 0 8 4 0 8z\" fill=\"#8a929b\"/></marker></defs>\n\
         {body}</svg>\n"
    )
}

fn draw_node(out: &mut String, kind: Kind, id: &str, component: &str, (x, y, width): (f64, f64, f64)) {
    let (left, top, right, bottom) = (x - width / 2.0, y - HEIGHT / 2.0, x + width / 2.0, y + HEIGHT / 2.0);
    let class = kind.name();
    let shape = match kind {
        Kind::Sink => {
            let (a, b) = (left + LEAN, right - LEAN);
            format!("<path class=\"node {class}\" d=\"M{a:.1} {top:.1}H{right:.1}L{b:.1} {bottom:.1}H{left:.1}z\"/>")
        }
        kind => {
            let corner = if kind == Kind::Source { HEIGHT / 2.0 } else { 4.0 };
            format!(
                "<rect class=\"node {class}\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" \
                 height=\"{HEIGHT:.1}\" rx=\"{corner}\"/>"
            )
        }
    };
    let (id, component) = (escaped(id), escaped(component));
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "<g><title>{class} {id}</title>{shape}<text x=\"{x:.1}\" y=\"{:.1}\">{id}</text>\
         <text class=\"type\" x=\"{x:.1}\" y=\"{:.1}\">{component}</text></g>",
        y - 3.0,
        y + 13.0
    );
}

/// A line through the points, its corners rounded, with the name of the output on it.
fn draw_edge(out: &mut String, edge: &EdgeLabel, port: &str) {
    let [first, inner @ .., last] = &*edge.points else { return };
    let mut path = format!("M{:.1} {:.1}", first.x, first.y);
    for (number, corner) in inner.iter().enumerate() {
        let next = inner.get(number + 1);
        // Half way to the next corner; behind the last one the end is the goal.
        let Point { x, y } = next.map_or(last.clone(), |next| middle(corner, next));
        let _ = write!(path, "Q{:.1} {:.1} {x:.1} {y:.1}", corner.x, corner.y);
    }
    if inner.is_empty() {
        let _ = write!(path, "L{:.1} {:.1}", last.x, last.y);
    }
    let class = if port == "errors" { "edge errors" } else { "edge" };
    let _ = writeln!(out, "<path class=\"{class}\" d=\"{path}\"/>");
    if let (false, Some(x), Some(y)) = (port.is_empty(), edge.x, edge.y) {
        let width = label_width(port);
        let _ = writeln!(
            out,
            "<rect class=\"ground\" x=\"{:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{LABEL_HEIGHT:.1}\" \
             rx=\"3\"/><text class=\"port\" x=\"{x:.1}\" y=\"{:.1}\">{}</text>",
            x - width / 2.0,
            y - LABEL_HEIGHT / 2.0,
            y + 4.0,
            escaped(port)
        );
    }
}

fn label_width(port: &str) -> f64 {
    port.chars().count() as f64 * CHARACTER + 8.0
}

fn middle(a: &Point, b: &Point) -> Point {
    Point::new((a.x + b.x) / 2.0, (a.y + b.y) / 2.0)
}

/// A text as XML has it between tags. Ids cannot hold what this replaces; the name of a component can.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_xml_means_otherwise_is_escaped() {
        assert_eq!(super::escaped("a<b> & c"), "a&lt;b&gt; &amp; c");
    }
}
