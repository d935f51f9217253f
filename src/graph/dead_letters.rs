//! The graph's dead letters: where a rejected event goes that nobody listens to, and the way back.
//!
//! One task appends to a [segmented log](crate::delivery::log) and answers on the fsync. When the log is full it
//! waits, the receipts stay open, and so the lanes stop at those events; `/ready` names the log. `weir dlq retry` reads
//! the log as an origin: see [`retry`].

mod import;
mod letter;
pub(crate) mod retry;
mod writer;

use std::sync::Arc;

use tokio::sync::mpsc;

pub use import::import_dead_letters;
pub use letter::{DeadLetter, LetterChoice, read_dead_letters};
pub(crate) use writer::Writer;

use super::route::Node;
use crate::delivery::RejectedBatch;

/// The name of all rejected events together: an input that reads them, what a test expects of them, and their source when
/// they are tried again. No node may have it as its id.
pub const DEAD_LETTERS: &str = "dead_letters";

/// The largest dead letter; base64 of the largest body the sources admit still fits.
const RECORD_BYTES: u32 = 256 << 20;

/// What the task is sent.
pub(crate) type Letters = (Arc<Node>, RejectedBatch);

/// The way to the dead letters; bounded, so that a full log holds the lanes.
pub(crate) type DeadLettersPort = mpsc::Sender<Letters>;
