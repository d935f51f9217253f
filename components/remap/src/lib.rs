#![doc = include_str!("../README.md")]
#![deny(missing_docs)]

mod dedupe;
mod filter;
mod remap;

pub use dedupe::Dedupe;
pub use filter::Filter;
pub use remap::Remap;
