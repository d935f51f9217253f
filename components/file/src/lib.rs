#![doc = include_str!("../README.md")]
#![deny(missing_docs)]

mod compression;
mod line_file;
mod lines;
mod mark;
mod output;
mod paths;
mod piped;
mod records;
mod sink;
mod source;
mod stdin;
mod writer;

pub use compression::Compression;
pub use sink::FileSink;
pub use source::FileSource;
pub use stdin::Stdin;
