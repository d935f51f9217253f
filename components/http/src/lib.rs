#![doc = include_str!("../README.md")]
#![deny(missing_docs)]

mod body;
mod framing;
mod options;
mod server;
mod source;
mod tls;

pub use options::{Auth, Framing, Secret, Tls};
pub use source::HttpSource;
