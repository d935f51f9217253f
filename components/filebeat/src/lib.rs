#![doc = include_str!("../README.md")]
#![deny(missing_docs)]

mod codec;
mod connection;
mod identity;
pub mod lumberjack;
mod server;
mod session;
mod source;

pub use codec::Filebeat;
pub use source::FilebeatSource;
