//! The option `buffer` that every sink has.

use schemars::JsonSchema;
use serde::Deserialize;

use super::units::ByteSize;

/// A buffer on disk before the sink: events count as delivered once they are in it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BufferConfig {
    /// Where it is: `disk`.
    #[serde(rename = "type")]
    pub kind: BufferKind,
    /// Bytes it holds at most. Default: `1GiB`.
    #[serde(default = "default_max_size")]
    pub max_size: ByteSize,
    /// What becomes of events while it is full. Default: `block`.
    #[serde(default)]
    pub when_full: WhenFull,
}

/// Where a buffer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BufferKind {
    /// In the node's folder in `data_dir`.
    Disk,
}

/// What becomes of events while a buffer is full.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenFull {
    /// They wait, and so do those who bring them.
    #[default]
    Block,
    /// They are dropped, which is counted and logged.
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
