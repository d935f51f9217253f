//! The admin socket: how `weir top`, `weir tap` and `weir dlq retry` talk to a running graph.
//!
//! A Unix socket `admin.sock` in the graph's folder, for the user who runs weir and nobody else. A client writes one
//! [`Request`] as a line of JSON; the graph answers with one or more lines, each an [`Answer`], and closes. Nothing
//! that a client does or leaves undone makes an event wait, and none makes another client wait: each kind of request has
//! its own limit, and a client that does not read is cut off.

mod client;
mod server;
mod sight;

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use client::ask;
pub use server::Server;
pub use sight::Sight;

use crate::graph::{LetterChoice, Retried, Snapshot};

/// The longest request, in bytes.
const REQUEST: u64 = 64 << 10;
/// The longest answer, in bytes.
const ANSWER: u64 = 64 << 20;
/// How often a client that waits is told that its request is still under way.
const NEWS: Duration = Duration::from_secs(1);
/// How long the other side may take to connect, to send its request, and between two answers.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest path of a Unix socket on Linux (unix(7): 108 bytes with the zero behind it).
const LONGEST_PATH: usize = 107;

/// What a client may ask.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// The graph as it is now.
    Snapshot,
    /// Events as they leave an output, until the client closes.
    Tap(TapRequest),
    /// Take dead letters through the graph once more.
    Retry(LetterChoice),
    /// Step over a record that cannot be read.
    Skip {
        /// `source/log/partition/position`.
        id: String,
        /// Why; the dead letter says it.
        reason: String,
    },
}

/// Which events a client wants to see.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TapRequest {
    /// `node` or `node.port`; of a sink, what comes in.
    pub output: String,
    /// Only those for which this VRL condition holds.
    pub filter: Option<String>,
    /// Events a second that are looked at, at most.
    pub rate: u32,
    /// Names of fields whose values are hidden, beside those that always are.
    pub redact: Vec<String>,
}

/// What the graph answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// To [`Request::Snapshot`].
    Snapshot(Snapshot),
    /// To [`Request::Tap`]: an event.
    Sight(Sight),
    /// To [`Request::Tap`]: so many events more passed that were not looked at.
    Missed(u64),
    /// To [`Request::Retry`].
    Retried(Retried),
    /// To [`Request::Skip`]: the lane is past it.
    Skipped,
    /// There is nothing new: sent every second, so that a client can tell a quiet graph from one that hangs.
    Waiting,
    /// It cannot be done; why.
    Refused(String),
}

/// Why a request is refused that is longer than any may be.
fn too_long() -> String {
    format!("the request is longer than {} KiB; shorten its filter", REQUEST >> 10)
}

/// A way to the socket that is short enough; the folder stays open as long as this is needed.
struct SocketPath {
    path: PathBuf,
    _dir: Option<File>,
}

/// Removes the socket of a graph that has ended; a client that finds one that nobody serves is told so in any case.
pub fn remove_socket(dir: &Path) {
    let _ = SocketPath::of(dir).and_then(|socket| std::fs::remove_file(&socket.path));
}

impl SocketPath {
    fn of(dir: &Path) -> io::Result<SocketPath> {
        let path = dir.join("admin.sock");
        if path.as_os_str().len() <= LONGEST_PATH {
            return Ok(SocketPath { path, _dir: None });
        }
        let dir = File::open(dir)?;
        let path = format!("/proc/self/fd/{}/admin.sock", dir.as_raw_fd()).into();
        Ok(SocketPath { path, _dir: Some(dir) })
    }
}
