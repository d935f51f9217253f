//! A sink whose task does the sending.

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use weir::component::{Sink, async_trait};
use weir::delivery::Outcome;
use weir::event::Batch;

/// What a sink asks of its task.
#[derive(Debug)]
pub enum Ask {
    /// Send this, and settle it.
    Write(Batch),
    /// Answer when everything before is settled.
    Flush(oneshot::Sender<()>),
}

/// A sink that hands batches to a task of its own, which ends with it.
#[derive(Debug)]
pub struct TaskSink {
    send: mpsc::Sender<Ask>,
    task: JoinHandle<()>,
}

impl TaskSink {
    /// Starts the task; at most `waiting` requests wait for it.
    pub fn start<F>(waiting: usize, task: impl FnOnce(mpsc::Receiver<Ask>) -> F) -> TaskSink
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (send, requests) = mpsc::channel(waiting);
        TaskSink { send, task: tokio::spawn(task(requests)) }
    }
}

#[async_trait]
impl Sink for TaskSink {
    async fn write(&self, batch: Batch) {
        if batch.events.is_empty() {
            return batch.receipt.resolve(Outcome::Filtered);
        }
        // A task that is gone drops the batch, and with it the receipt: failed.
        let _gone = self.send.send(Ask::Write(batch)).await;
    }

    async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        let _gone = self.send.send(Ask::Flush(done)).await;
        let _gone = flushed.await;
    }
}

impl Drop for TaskSink {
    fn drop(&mut self) {
        self.task.abort();
    }
}
