#![doc = include_str!("../README.md")]
#![deny(missing_docs)]

mod config;
mod distinct;
mod number;
mod partial;
mod result;
mod sketch;
mod windows;

pub use config::{Aggregate, Compute, GroupBy, Window};
