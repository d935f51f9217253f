#![doc = include_str!("../README.md")]
#![deny(missing_docs)]

mod action;
mod client;
mod config;
mod flights;
mod limit;
mod probe;
mod queue;
mod request;
mod response;
mod sink;
mod template;

pub use config::Elasticsearch;

/// A server for tests, the same as end-to-end tests use.
#[cfg(test)]
#[allow(dead_code, missing_docs, clippy::unwrap_used, reason = "a kit for several tests")]
#[path = "../../../tests/src/bulk.rs"]
mod bulk;
