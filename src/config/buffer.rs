//! The option `buffer` that every sink has.

use schemars::JsonSchema;
use serde::Deserialize;

use super::units::ByteSize;

/// Disk buffer before the sink: events count as delivered once they are in the buffer.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BufferConfig {
    /// Type of buffer: `disk`.
    #[serde(rename = "type")]
    pub kind: BufferKind,
    /// Maximum size. Default: `1GiB`.
    #[serde(default = "default_max_size")]
    pub max_size: ByteSize,
    /// What happens to events while the buffer is full. Default: `block`.
    #[serde(default)]
    pub when_full: WhenFull,
}

/// Type of buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BufferKind {
    /// On disk, in the node's directory in `data_dir`.
    Disk,
}

/// What happens to events while the buffer is full.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenFull {
    /// Events wait; reading slows down.
    #[default]
    Block,
    /// New events are dropped, counted and logged.
    DropNewest,
}

/// The smallest buffer: the events of one read fit it.
pub(super) const LEAST: ByteSize = ByteSize(4 << 20);

fn default_max_size() -> ByteSize {
    ByteSize(1 << 30)
}

impl BufferConfig {
    /// For `weir explain`, behind what the sink says of itself.
    pub fn explain(&self) -> String {
        let full = match self.when_full {
            WhenFull::Block => "its inputs wait",
            WhenFull::DropNewest => "NEW EVENTS ARE DROPPED",
        };
        format!(
            "before it a buffer on disk of at most {}: events count as delivered once they are in it; when it is full {full}",
            self.max_size
        )
    }
}
