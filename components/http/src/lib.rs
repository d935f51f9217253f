#![doc = include_str!("../README.md")]
#![deny(missing_docs)]

mod body;
mod framing;
mod options;
mod server;
mod source;
mod tls;

pub use options::{Auth, Framing, Tls};
pub use source::HttpSource;
