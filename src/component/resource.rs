//! What a node uses outside of the graph, for checks over the whole graph.

use std::net::SocketAddr;
use std::path::Path;

/// Something outside of the graph that a node reads, writes or has for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// What it is, as messages name it; equal for the same thing.
    pub name: String,
    /// How it is used.
    pub used: Use,
}

/// How a node uses something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Reads it; others may, too.
    Reads,
    /// Writes to it; others may, too.
    Writes,
    /// Writes to it as its only writer; others may read it.
    WritesAlone,
    /// Has it alone: two nodes cannot.
    Owns,
}

impl Resource {
    /// Something that is read.
    pub fn read(name: impl Into<String>) -> Resource {
        Resource { name: name.into(), used: Use::Reads }
    }

    /// Something that is written to.
    pub fn written(name: impl Into<String>) -> Resource {
        Resource { name: name.into(), used: Use::Writes }
    }

    /// Something that one node alone can have.
    pub fn owned(name: impl Into<String>) -> Resource {
        Resource { name: name.into(), used: Use::Owns }
    }

    /// Something that one node alone can write to.
    pub fn written_alone(name: impl Into<String>) -> Resource {
        Resource { name: name.into(), used: Use::WritesAlone }
    }

    /// An address that a node listens on; `None` where the system chooses the port.
    pub fn address(address: SocketAddr) -> Option<Resource> {
        (address.port() != 0).then(|| Resource::owned(format!("the address {address}")))
    }

    /// The name of a file; that of a path below the working directory does not depend on how it is written.
    pub fn file(path: &Path) -> String {
        let plain: std::path::PathBuf = path.components().collect();
        format!("the file {}", plain.strip_prefix(".").unwrap_or(&plain).display())
    }

    /// The name of a Kafka topic.
    pub fn topic(topic: &str, bootstrap_servers: &str) -> String {
        format!("the topic {topic:?} at {bootstrap_servers}")
    }
}
