//! The task that appends dead letters to their log.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;

use super::{DeadLetter, Letters, RECORD_BYTES};
use crate::component::Trouble;
use crate::delivery::Outcome;
use crate::delivery::log::{AppendError, LogLimits, SegmentedLog};
use crate::event::Rejected;
use crate::state::Clock;

const SEGMENT_BYTES: u64 = 64 << 20;
/// How often a full log is looked at again.
const FULL_PAUSE: Duration = Duration::from_secs(1);
/// Batches gathered for one fsync.
const GROUP: usize = 64;

/// Writes dead letters until every sender is gone.
pub(crate) struct Writer {
    dir: PathBuf,
    log: SegmentedLog,
    max_size: u64,
    /// Letters are being tried again: those that come back need room before the old ones give theirs free.
    retrying: Arc<AtomicBool>,
    trouble: Trouble,
    clock: Arc<dyn Clock>,
}

/// The log of dead letters in this folder, bounded to `max_size` bytes.
pub(super) fn open_log(dir: &Path, max_size: u64) -> io::Result<SegmentedLog> {
    let limits = LogLimits {
        segment_bytes: SEGMENT_BYTES.min(max_size / 8).max(4096),
        total_bytes: max_size,
        record_bytes: RECORD_BYTES,
    };
    SegmentedLog::open(dir, limits)
}

impl Writer {
    pub fn open(
        dir: PathBuf,
        max_size: u64,
        retrying: Arc<AtomicBool>,
        trouble: Trouble,
        clock: Arc<dyn Clock>,
    ) -> io::Result<Writer> {
        Ok(Writer { log: open_log(&dir, max_size)?, dir, max_size, retrying, trouble, clock })
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
                    let Rejected { event, code, message } = rejected;
                    let letter = DeadLetter::new(&node.id, self.clock.now(), &batch.origin, event, code, message);
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
            let payload = letter.to_json();
            let is_retrying = self.retrying.load(Ordering::Relaxed);
            self.log.allow(if is_retrying { self.max_size.saturating_mul(2) } else { self.max_size });
            match self.log.append(&payload) {
                Ok(_) => return self.trouble.clear(),
                Err(AppendError::TooLarge(size)) => {
                    // Cannot happen with admitted records; if it does, the reason must survive without the body.
                    letter.message = format!("{} (body of {size} bytes left out)", letter.message);
                    (letter.body, letter.body_base64) = (None, None);
                }
                Err(error) => {
                    self.wait(&format!("{error}: try them again (weir dlq retry), move its oldest files away, or raise dead_letters.max_size")).await;
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
