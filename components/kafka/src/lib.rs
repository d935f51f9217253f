#![doc = include_str!("../README.md")]

mod batch_consume;
mod client;
mod consumer;
mod control;
mod origin;
mod source;
mod troubles;

pub use client::{Mechanism, RawValue, Sasl, Secret, Tls};
pub use source::{Decoding, KafkaSource, Start, Stop};
