#![allow(clippy::unwrap_used)]
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::time::timeout;

use super::*;
use crate::delivery::JournalOwner;
use crate::delivery::log::faults::{Fault, FaultyDisk};
use crate::graph::plan::origin_of;

const SOON: Duration = Duration::from_secs(10);

/// Notes the positions it is given. The disk breaks with the first batch, which fails.
struct FailsOnce {
    disk: FaultyDisk,
    given: Mutex<Vec<u64>>,
    batches: AtomicU32,
}

#[async_trait]
impl Sink for FailsOnce {
    async fn write(&self, batch: Batch) {
        if self.batches.fetch_add(1, Ordering::Relaxed) == 0 {
            self.disk.fault(Some(Fault::Io));
            return batch.receipt.resolve(Outcome::Failed);
        }
        self.given.lock().unwrap().extend(batch.events.iter().map(|event| event.position.0));
        batch.receipt.resolve(Outcome::Delivered);
    }

    async fn flush(&self) {}
}

fn journal(disk: &FaultyDisk, context: &BuildContext) -> (Journal, JournalReader) {
    let (node, trouble) = (context.node.clone(), context.trouble.clone());
    Journal::on(Arc::new(disk.clone()), JournalOwner { node, trouble, when_full: None }, 1 << 20).unwrap()
}

fn ends() -> (watch::Sender<Phase>, watch::Sender<bool>, Ends) {
    let (phase, phase_seen) = watch::channel(Phase::Running);
    let (stop, stop_seen) = watch::channel(false);
    (phase, stop, Ends { phase: phase_seen, stop: stop_seen })
}

async fn until(mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, waiting).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_failed_while_the_disk_does_is_handed_over_again_before_what_follows() {
    let (disk, (context, _rejected)) = (FaultyDisk::default(), BuildContext::detached("out"));
    let opened = journal(&disk, &context);
    let letter = |position: u64| {
        let event = Event::new(Body::Raw("x".into(), Codec::Raw), Position(position), Timestamp(1));
        let letter = DeadLetter::new("out", Timestamp(1), &origin_of("in", "in", 0), &event, "", "");
        let mut records = Records::default();
        records.push(|out| out.extend(letter.to_json()));
        records
    };
    opened.0.append(letter(0)).await.unwrap();
    let sink = Arc::new(FailsOnce { disk: disk.clone(), given: Mutex::default(), batches: AtomicU32::default() });
    let (_phase, _stop, ends) = ends();
    let trouble = context.trouble.clone();
    let buffered = Buffered::over(opened, sink.clone(), WhenFull::Block, context, Arc::default(), ends);
    until(|| trouble.all().is_some_and(|what| what.contains("the buffer cannot be read"))).await;
    disk.fault(None);
    buffered.journal.append(letter(1)).await.unwrap();
    until(|| sink.given.lock().unwrap().len() >= 2).await;
    assert_eq!(*sink.given.lock().unwrap(), [0, 1]);
    until(|| trouble.all().is_none()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_no_one_can_read_goes_to_the_errors_port_as_it_is() {
    let (disk, (context, mut rejected)) = (FaultyDisk::default(), BuildContext::detached("out"));
    let opened = journal(&disk, &context);
    let mut records = Records::default();
    records.push(|out| out.extend(b"from a later version"));
    opened.0.append(records).await.unwrap();
    let sink = Arc::new(FailsOnce { disk: disk.clone(), given: Mutex::default(), batches: AtomicU32::default() });
    let (_phase, _stop, ends) = ends();
    let _buffered = Buffered::over(opened, sink, WhenFull::Block, context, Arc::default(), ends);
    let RejectedBatch { receipt, rejected, .. } = timeout(SOON, rejected.recv()).await.unwrap().unwrap();
    let [Rejected { event, code: "unreadable_buffer_record", .. }] = &rejected[..] else { panic!("{rejected:?}") };
    assert_eq!(event.body.to_bytes(), "from a later version");
    receipt.resolve(Outcome::DeadLettered);
}
