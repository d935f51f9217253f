#![doc = include_str!("../README.md")]

mod batch_consume;
mod client;
mod consumer;
mod control;
mod delivery;
mod flights;
mod origin;
mod probe;
mod record;
mod render;
mod sink;
mod source;
mod topics;
mod troubles;

pub use client::{Mechanism, RawValue, Sasl, Tls};
pub use sink::{Compression, KafkaSink};
pub use source::{KafkaSource, Start, Stop};
pub use topics::TopicCreation;
