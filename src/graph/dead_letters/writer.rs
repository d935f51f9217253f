//! The task that appends dead letters to their log.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use metrics::counter;
use tokio::sync::mpsc;

use super::{DEAD_LETTERS, DeadLetter, Letters, RECORD_BYTES};
use crate::component::Trouble;
use crate::config::Graph;
use crate::delivery::log::{AppendError, LogLimits, SegmentedLog};
use crate::delivery::{Outcome, SettledRecords};
use crate::event::Rejected;
use crate::private;
use crate::state::Clock;

const SEGMENT_BYTES: u64 = 64 << 20;
/// How often a full log is looked at again.
const FULL_PAUSE: Duration = Duration::from_secs(1);
/// Batches gathered for one fsync.
const GROUP: usize = 64;

/// Writes dead letters until every sender is gone.
pub(crate) struct Writer {
    /// The graph's name.
    graph: String,
    dir: PathBuf,
    log: SegmentedLog,
    max_size: u64,
    /// Letters are being tried again: those that come back need room before the old ones give theirs free.
    retrying: Arc<AtomicBool>,
    trouble: Trouble,
    clock: Arc<dyn Clock>,
}

/// The log of a graph's dead letters. Says what of it is missing.
pub(super) fn open_log(graph: &Graph) -> io::Result<SegmentedLog> {
    let (dir, max_size) = (graph.dead_letters_dir(), graph.dead_letters.max_size);
    match graph.dead_letters.path {
        None => private::own_folder(&dir)?,
        Some(_) => private::given_folder(&dir, &[".log", ".settled", ".quarantine"])?,
    }
    let limits = LogLimits {
        segment_bytes: SEGMENT_BYTES.min(max_size / 8).max(4096),
        total_bytes: max_size,
        record_bytes: RECORD_BYTES,
    };
    let mut log = SegmentedLog::open(&dir, limits)?;
    let (damage, missing) = (log.take_damage(), log.missing());
    let lost = if missing.is_empty() { 0 } else { SettledRecords::open(&dir)?.waiting_in(missing) };
    if lost > 0 || damage.is_some() {
        let damage = damage.map(tracing::field::display);
        tracing::error!(path = %dir.display(), lost, damage, "the end of the dead letters is damaged or missing");
        counter!("weir_log_lost_records_total", "node" => DEAD_LETTERS).increment(lost.max(1));
    }
    Ok(log)
}

impl Writer {
    pub fn open(
        graph: &Graph,
        retrying: Arc<AtomicBool>,
        trouble: Trouble,
        clock: Arc<dyn Clock>,
    ) -> io::Result<Writer> {
        let (dir, max_size) = (graph.dead_letters_dir(), graph.dead_letters.max_size);
        Ok(Writer { graph: graph.name.clone(), log: open_log(graph)?, dir, max_size, retrying, trouble, clock })
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
                    self.append(letter.of_graph(&self.graph)).await;
                }
            }
            self.sync().await;
            self.trouble.clear();
            for (node, batch) in group.drain(..) {
                node.books.dead_lettered(batch.rejected.len());
                batch.receipt.resolve(Outcome::DeadLettered);
            }
        }
    }

    async fn append(&mut self, mut letter: DeadLetter) {
        loop {
            let payload = letter.to_json();
            let is_retrying = self.retrying.load(Ordering::Relaxed);
            self.log.allow(if is_retrying { self.max_size.saturating_mul(2) } else { self.max_size });
            match self.log.append(&payload) {
                Ok(_) => return,
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
                Err(error) => self.wait(&format!("{error}: make room or mend the disk")).await,
            }
        }
    }

    async fn wait(&self, why: &str) {
        let text = format!("dead letters in {} cannot be written: {why}", self.dir.display());
        tracing::error!(text, "waiting");
        self.trouble.set(text + "; it is tried again until it works");
        self.clock.sleep(FULL_PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::delivery::log::faults::{Fault, FaultyDisk};
    use crate::delivery::{RejectedBatch, Settlements};
    use crate::event::{Body, Codec, Event, Position, Timestamp};
    use crate::graph::plan::origin_of;
    use crate::graph::route::Node;
    use crate::state::SystemClock;

    fn letter(settlements: &Arc<Settlements>) -> Letters {
        let event = Event::new(Body::Raw("x".into(), Codec::Raw), Position(1), Timestamp(1));
        let rejected = vec![Rejected { event, code: "code", message: "why".to_owned() }];
        let receipt = crate::delivery::Receipt::new(0, settlements.clone(), None);
        let node = Arc::new(Node { id: "out".into(), ..Node::default() });
        (node, RejectedBatch { origin: origin_of("in", "in", 0), receipt, rejected })
    }

    /// Nothing but the letter that waits comes: when the disk works again, the graph is ready again.
    async fn recovers(fault: Option<Fault>) {
        let (disk, trouble) = (FaultyDisk::default(), Trouble::default());
        let limits = LogLimits { segment_bytes: 4096, total_bytes: 1 << 20, record_bytes: RECORD_BYTES };
        let writer = Writer {
            graph: "graph".to_owned(),
            dir: "letters".into(),
            log: SegmentedLog::on(Arc::new(disk.clone()), limits).unwrap(),
            max_size: 1 << 20,
            retrying: Arc::default(),
            trouble: trouble.clone(),
            clock: Arc::new(SystemClock::default()),
        };
        disk.fault(fault);
        disk.limit(fault.is_none().then_some(5));
        let (send, letters) = mpsc::channel(1);
        let writing = tokio::spawn(writer.run(letters));
        let settlements: Arc<Settlements> = Arc::default();
        send.send(letter(&settlements)).await.unwrap();
        let said = async {
            loop {
                if let Some(what) = trouble.all() {
                    break what;
                }
                tokio::task::yield_now().await;
            }
        };
        let said = tokio::time::timeout(Duration::from_secs(10), said).await.unwrap();
        assert!(said.contains("dead letters in letters cannot be written") && said.contains("mend the disk"), "{said}");
        disk.fault(None);
        disk.limit(None);
        tokio::time::timeout(Duration::from_secs(10), settlements.changed()).await.unwrap();
        assert_eq!(settlements.take()[0].outcome, Outcome::DeadLettered);
        assert_eq!(trouble.all(), None);
        drop(send);
        writing.await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn dead_letters_recover_from_any_fault_of_their_disk_though_none_comes_any_more() {
        let (full, io) = (recovers(None), recovers(Some(Fault::Io)));
        tokio::join!(full, io, recovers(Some(Fault::ReadOnly)), recovers(Some(Fault::Gone)));
    }
}
