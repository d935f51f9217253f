#![doc = include_str!("../README.md")]
#![deny(missing_docs)]

mod lines;
mod mark;
mod sink;
mod source;
mod stdin;
mod writer;

pub use sink::FileSink;
pub use source::{Compression, FileSource};
pub use stdin::Stdin;
