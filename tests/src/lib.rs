//! End-to-end tests, embedded and against real servers.
//!
//! This library is their kit: the `weir` binary as a command and as a process, what an output must look like, and, for
//! `tests/real_*.rs`, which run behind the feature `real`, topics on a real Kafka. A kit fails by panicking, as its callers are tests.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test kit fails by panicking")]
#![allow(clippy::missing_panics_doc, reason = "all of it may")]

pub mod alertmanager;
pub mod alerts;
pub mod broker;
pub mod bulk;
pub mod bulk_proxy;
pub mod campaign;
pub mod command;
pub mod feed;
pub mod filebeat;
pub mod graphs;
pub mod letters;
pub mod lumberjack;
pub mod output;
pub mod pages;
pub mod process;
pub mod prometheus;
pub mod push;
pub mod records;
pub mod registry;
pub mod remote_write;
pub mod rw_facts;
pub mod rw_kinds;
pub mod rw_recorder;
pub mod samples;
pub mod screen;
pub mod search;
pub mod topic;
pub mod wait;
