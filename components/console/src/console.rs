//! The `console` sink.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use schemars::JsonSchema;
use serde::Deserialize;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::block_in_place;
use weir::Result;
use weir::component::{BuildContext, Sink, SinkConfig, async_trait};
use weir::delivery::{Outcome, RejectedBatch};
use weir::event::{Batch, Encoding, Rejected};

/// Writes events to standard output or standard error, one a line.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Console {
    /// How events are written, one a line: `json`, `text` or `raw`. Default: `json`.
    #[serde(default)]
    encoding: Encoding,
    /// Where to: `stdout` or `stderr`. Default: `stdout`.
    #[serde(default)]
    target: Target,
}

/// Which stream of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// Standard output.
    #[default]
    Stdout,
    /// Standard error, where the logs go, too.
    Stderr,
}

impl Target {
    fn name(self) -> &'static str {
        match self {
            Target::Stdout => "stdout",
            Target::Stderr => "stderr",
        }
    }
}

weir::register_sink!("console", Console, "{type: console, inputs: [in], encoding: json}");

#[typetag::deserialize(name = "console")]
#[async_trait]
impl SinkConfig for Console {
    fn explain(&self) -> String {
        format!("delivered when written to {}; a replay may repeat lines", self.target.name())
    }

    async fn build(&self, context: &BuildContext) -> Result<Arc<dyn Sink>> {
        let stream: Box<dyn Write + Send> = match self.target {
            Target::Stdout => Box::new(io::stdout()),
            Target::Stderr => Box::new(io::stderr()),
        };
        Ok(Arc::new(Stream::new(self.encoding, self.target, context, stream)))
    }
}

struct Stream {
    encoding: Encoding,
    target: Target,
    context: BuildContext,
    /// Scratch space for a batch, and the stream.
    out: Mutex<(Vec<u8>, Box<dyn Write + Send>)>,
}

impl Stream {
    fn new(encoding: Encoding, target: Target, context: &BuildContext, stream: Box<dyn Write + Send>) -> Stream {
        Stream { encoding, target, context: context.clone(), out: Mutex::new((Vec::new(), stream)) }
    }

    /// Writes a batch; gives back what could not be encoded.
    fn put(&self, batch: &Batch) -> io::Result<Vec<Rejected>> {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        let (buffer, stream) = &mut *out;
        buffer.clear();
        let mut rejected = Vec::new();
        for event in &batch.events {
            if let Err(error) = self.encoding.encode_line(&event.body, buffer) {
                rejected.push(Rejected { event: event.clone(), code: error.code, message: error.message });
            }
        }
        stream.write_all(buffer)?;
        stream.flush()?;
        Ok(rejected)
    }
}

/// Does work that may wait for long, without keeping other tasks from this thread where there are others.
fn waiting<T>(work: impl FnOnce() -> T) -> T {
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::MultiThread => block_in_place(work),
        _ => work(),
    }
}

#[async_trait]
impl Sink for Stream {
    async fn write(&self, batch: Batch) {
        // Who reads the other end may be slow.
        let rejected = match waiting(|| self.put(&batch)) {
            Ok(rejected) => rejected,
            Err(error) => {
                // The batch's receipt drops with it: failed, and read again where the stream may come back.
                let target = self.target.name();
                match error.kind() {
                    io::ErrorKind::BrokenPipe => self.context.trouble.give_up(format!("{target} is closed")),
                    _ => self.context.trouble.set(format!("{target} cannot be written: {error}")),
                }
                return self.context.books.failed(batch.events.len());
            }
        };
        self.context.trouble.clear();
        self.context.books.passed(batch.events.len() - rejected.len());
        let Batch { origin, receipt, .. } = batch;
        if !rejected.is_empty() {
            let batch = RejectedBatch { origin, receipt: receipt.clone(), rejected };
            self.context.rejects.reject(batch).await;
        }
        receipt.resolve(Outcome::Delivered);
    }

    async fn flush(&self) {}
}

#[cfg(test)]
mod tests;
