//! From YAML to a checked graph.

mod graph;
mod units;

pub use graph::{DeadLettersConfig, Graph, Input, Node, NodeConfig, Port, Test, TestBody};
pub use units::{ByteSize, Span};
