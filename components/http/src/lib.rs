#![doc = include_str!("../README.md")]
#![deny(missing_docs)]

mod framing;
mod handler;
mod options;
mod source;

pub use options::Framing;
pub use source::HttpSource;
