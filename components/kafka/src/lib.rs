#![doc = include_str!("../README.md")]

mod batch_consume;
mod client;
mod consumer;
mod control;
mod coverage;
mod delivery;
mod destinations;
mod flights;
mod origin;
mod probe;
mod record;
mod render;
mod sink;
mod source;
mod starts;
mod topics;
mod troubles;

pub use client::{Mechanism, RawValue, Sasl, Tls};
pub use sink::{Compression, KafkaSink};
pub use source::{KafkaSource, OnOutOfRange, Start, Stop, Tombstones};
pub use topics::TopicCreation;
