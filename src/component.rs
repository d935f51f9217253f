//! What a component author implements.
//!
//! A component is a config struct (`Deserialize + JsonSchema + deny_unknown_fields`, one doc comment per
//! field with unit and default) that implements [`SourceConfig`], [`TransformConfig`] or [`SinkConfig`].
//! `check` is pure and reports every problem; `build` makes clients but spawns nothing; `run` owns the
//! loop. The graph owns everything else: lanes, receipts, books, retry of a failed batch, shutdown.

mod address;
mod codec;
pub mod conformance;
mod context;
pub mod pem;
mod probe;
mod problems;
pub(crate) mod push;
mod registry;
mod resource;
mod sink;
mod source;
mod transform;

pub use address::{BadAddress, check_address};
pub use codec::{CodecRecord, DecodingConfig, DecodingOption, EncodingConfig, EncodingOption, Stream, codecs};
pub use context::{BuildContext, Trouble};
pub use probe::{Finding, ProbeContext, Verdict};
pub use problems::{Problem, Problems, Severity};
pub use push::{PushLog, PushOrigin, Pushed};
pub use registry::{Component, Kind, components};
pub use resource::{Resource, Use};
pub use sink::{Sink, SinkConfig};
pub use source::{
    Again, DetachedEnd, DetachedLane, DetachedLanes, LaneHandle, Lanes, Origin, Read, ReadLimit, Source, SourceConfig,
};
pub(crate) use source::{LaneEnd, OpenLane, Opening};
pub use transform::{EventTime, KeepsState, Output, Row, Stateful, Times, Transform, TransformConfig};

/// Makes a `Result<Box<dyn ...>>`-returning trait method async; re-exported for component crates.
pub use async_trait::async_trait;
