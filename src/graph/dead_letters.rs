//! The graph's dead letters: where a rejected event goes that nobody listens to.
//!
//! One task appends to a [`SegmentedLog`] and answers on the fsync. When the log is full it waits, the
//! receipts stay open, and so the lanes stop at those events; `/ready` names the log.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::route::Node;
use crate::component::Trouble;
use crate::delivery::log::{self, AppendError, LogLimits, SegmentedLog};
use crate::delivery::{Outcome, RejectedBatch};
use crate::event::{Body, EventId, OriginId, Rejected, Timestamp, json};
use crate::state::Clock;

/// The largest dead letter; base64 of the largest body the sources admit still fits.
const RECORD_BYTES: u32 = 256 << 20;
const SEGMENT_BYTES: u64 = 64 << 20;
/// How often a full log is looked at again.
const FULL_PAUSE: Duration = Duration::from_secs(1);
/// Batches gathered for one fsync.
const GROUP: usize = 64;

/// An event as the failing node received it, and why it is here. One JSON document a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// When it was written, milliseconds since the epoch.
    pub time: i64,
    /// The node that rejected it.
    pub node: String,
    /// A stable word for the class of error.
    pub code: String,
    /// What went wrong.
    pub message: String,
    /// The event's id: `source/log/partition/position`, `.ordinal` for a child.
    pub id: String,
    /// The event's own time, milliseconds since the epoch.
    pub event_time: i64,
    /// How the body is to be read: the name of a codec, or `none` for a tombstone.
    pub codec: String,
    /// The body, where it is UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The body otherwise, in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_base64: Option<String>,
    /// The record's key, where it had one, in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_base64: Option<String>,
    /// The record's headers, values in base64.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub headers: Vec<(String, Option<String>)>,
}

impl DeadLetter {
    fn new(node: &str, now: Timestamp, origin: &OriginId, rejected: &Rejected) -> DeadLetter {
        let Rejected { event, code, message } = rejected;
        let base64 = |bytes: &Bytes| BASE64_STANDARD.encode(bytes);
        let (bytes, codec) = match &event.body {
            Body::Raw(bytes, codec) => (bytes.clone(), codec.name()),
            Body::Parsed(vrl::value::Value::Null) => (Bytes::new(), "none"),
            Body::Parsed(value) => {
                let mut out = Vec::new();
                json::write(value, &mut out);
                (out.into(), "json")
            }
        };
        let text = String::from_utf8(bytes.to_vec()).ok().filter(|_| codec != "none");
        let body_base64 = (text.is_none() && codec != "none").then(|| base64(&bytes));
        DeadLetter {
            time: now.0,
            node: node.to_owned(),
            code: (*code).to_owned(),
            message: message.clone(),
            id: EventId { origin, position: event.position, ordinal: event.ordinal }.to_string(),
            event_time: event.time.0,
            codec: codec.to_owned(),
            body: text,
            body_base64,
            key_base64: event.key().map(base64),
            headers: event.headers().iter().map(|(name, value)| (name.clone(), value.as_ref().map(base64))).collect(),
        }
    }

    /// The body's bytes as they were.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        match (&self.body, &self.body_base64) {
            (Some(text), _) => Some(text.clone().into_bytes()),
            (None, Some(base64)) => BASE64_STANDARD.decode(base64).ok(),
            (None, None) => None,
        }
    }
}

/// Reads the dead letters in a folder, oldest first; `damage` is told what could not be read.
pub fn read_dead_letters(
    dir: &Path,
    mut each: impl FnMut(DeadLetter),
    mut damage: impl FnMut(String),
) -> std::io::Result<()> {
    let mut unreadable = Vec::new();
    log::read(
        dir,
        RECORD_BYTES,
        |record| match serde_json::from_slice(&record.payload) {
            Ok(letter) => each(letter),
            Err(error) => unreadable.push(format!("record {}: {error}", record.number)),
        },
        |path, error| damage(format!("{}: {error}", path.display())),
    )?;
    unreadable.into_iter().for_each(damage);
    Ok(())
}

/// What the task is sent.
pub(crate) type Letters = (Arc<Node>, RejectedBatch);

/// The way to the dead letters; bounded, so that a full log holds the lanes.
pub(crate) type DeadLettersPort = mpsc::Sender<Letters>;

/// Writes dead letters until every sender is gone.
pub(crate) struct Writer {
    dir: PathBuf,
    log: SegmentedLog,
    trouble: Trouble,
    clock: Arc<dyn Clock>,
}

impl Writer {
    pub fn open(dir: PathBuf, max_size: u64, trouble: Trouble, clock: Arc<dyn Clock>) -> std::io::Result<Writer> {
        let limits = LogLimits {
            segment_bytes: SEGMENT_BYTES.min(max_size / 8).max(4096),
            total_bytes: max_size,
            record_bytes: RECORD_BYTES,
        };
        Ok(Writer { log: SegmentedLog::open(&dir, limits)?, dir, trouble, clock })
    }

    /// Takes batches as they come and settles each group with one fsync.
    pub async fn run(mut self, mut incoming: mpsc::Receiver<Letters>) {
        let mut group = Vec::with_capacity(GROUP);
        while incoming.recv_many(&mut group, GROUP).await > 0 {
            for (node, batch) in &group {
                for rejected in &batch.rejected {
                    tracing::warn!(
                        node = &*node.id,
                        code = rejected.code,
                        reason = &*rejected.message,
                        position = rejected.event.position.0,
                        "dead letter"
                    );
                    let letter = DeadLetter::new(&node.id, self.clock.now(), &batch.origin, rejected);
                    self.append(&letter).await;
                }
            }
            self.sync().await;
            for (node, batch) in group.drain(..) {
                node.books.dead_lettered(batch.rejected.len());
                batch.receipt.resolve(Outcome::DeadLettered);
            }
        }
    }

    async fn append(&mut self, letter: &DeadLetter) {
        let mut letter = letter.clone();
        loop {
            let payload = serde_json::to_vec(&letter).unwrap_or_default();
            match self.log.append(&payload) {
                Ok(_) => return self.trouble.clear(),
                Err(AppendError::TooLarge(size)) => {
                    // Cannot happen with admitted records; if it does, the reason must survive without the body.
                    letter.message = format!("{} (body of {size} bytes left out)", letter.message);
                    (letter.body, letter.body_base64) = (None, None);
                }
                Err(error) => {
                    self.wait(&format!("{error}: move its oldest files away or raise dead_letters.max_size")).await;
                    self.sync().await;
                    self.log.rescan();
                }
            }
        }
    }

    async fn sync(&mut self) {
        loop {
            // A group's fsync takes milliseconds and nothing else runs on this task.
            match tokio::task::block_in_place(|| self.log.sync()) {
                Ok(()) => return,
                Err(error) => self.wait(&error.to_string()).await,
            }
        }
    }

    async fn wait(&self, why: &str) {
        let text = format!("dead letters in {} cannot be written: {why}", self.dir.display());
        tracing::error!(text, "waiting");
        self.trouble.set(text);
        self.clock.sleep(FULL_PAUSE).await;
    }
}
