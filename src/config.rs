//! From YAML to a checked graph.
//!
//! Files become a tree in which every key and value knows its place (`tree`); variables are put into its
//! texts; every node is checked against the schema of its component; only then is it given to serde. All
//! problems of all phases are reported at once, each with its place, its cause and a remedy.

mod buffer;
mod compile;
mod diagnostic;
mod document;
mod edges;
mod elsewhere;
mod graph;
mod hints;
mod load;
mod paths;
mod rename;
mod scalar;
mod schema;
mod schema_check;
mod secrets;
mod settings;
mod substitute;
#[cfg(test)]
mod tests;
mod tree;
mod units;
mod whole;

pub use buffer::{BufferConfig, BufferKind, WhenFull};
pub use diagnostic::{Diagnostic, Place, Severity, SourceText};
pub use graph::{DeadLettersConfig, Graph, Input, Node, NodeConfig, Port, Test, TestBody};
pub use hints::nearest as nearest_name;
pub use load::{LoadRequest, Loaded, load, render_json, render_text};
pub use schema::schema;
pub use units::{ByteSize, Secret, Span};
