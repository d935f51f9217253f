//! The options of the source that have a type of their own.

use schemars::JsonSchema;
use serde::Deserialize;

/// How a body is split into events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Framing {
    /// By the `Content-Type` with `decoding: json`, otherwise one event per line.
    #[default]
    Auto,
    /// A JSON document is one event; each element of an array is one event. Only with `decoding: json`.
    Json,
    /// One event per line.
    NewlineDelimited,
    /// The body is one event.
    Bytes,
}
