//! The options of the source that have a type of their own.

use schemars::JsonSchema;
use serde::Deserialize;

/// How a body is divided into events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Framing {
    /// With `decoding: json` as the `Content-Type` says, otherwise an event a line.
    #[default]
    Auto,
    /// A JSON document is an event; of an array, each element. With `decoding: json` alone.
    Json,
    /// An event a line.
    NewlineDelimited,
    /// The whole body is one event.
    Bytes,
}
