//! From YAML to a checked graph.

mod units;

pub use units::{ByteSize, Span};
