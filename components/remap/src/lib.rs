#![doc = include_str!("../README.md")]
#![deny(missing_docs)]

mod dead_letter;
mod dedupe;
mod filter;
mod limit;
mod look;
mod remap;
mod route;
mod sample;
mod throttle;

pub use dead_letter::ToDeadLetter;
pub use dedupe::Dedupe;
pub use filter::Filter;
pub use limit::Limit;
pub use remap::Remap;
pub use route::{Match, Route};
pub use sample::Sample;
pub use throttle::Throttle;
