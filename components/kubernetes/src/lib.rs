#![doc = include_str!("../README.md")]
#![deny(missing_docs)]

mod event_filter;
mod presets;
mod record;

pub use event_filter::EventFilter;
pub use presets::Preset;
