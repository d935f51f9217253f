#![doc = include_str!("../README.md")]
#![deny(missing_docs)]

mod blackhole;
mod console;

pub use blackhole::Blackhole;
pub use console::{Console, Target};
