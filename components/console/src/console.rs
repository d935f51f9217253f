//! The `console` sink.

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};

use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::{mpsc, oneshot};
use weir::Result;
use weir::component::{BuildContext, EncodingOption, Problems, Sink, SinkConfig, Stream as Framing, async_trait};
use weir::delivery::{Outcome, RejectedBatch};
use weir::event::{Batch, Encoding, Rejected};
use weir::terminal;

/// Batches that wait for the writer.
const WAITING: usize = 8;

/// Writes events to standard output or standard error, one per line.
///
/// On a terminal, control characters in events are escaped; elsewhere events are written as encoded.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Console {
    /// Encoding: a codec's name, or a map with its options. Default: `json`.
    #[serde(default)]
    encoding: EncodingOption,
    /// Output stream: `stdout` or `stderr`. Default: `stdout`.
    #[serde(default)]
    target: Target,
}

/// Output stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// Standard output.
    #[default]
    Stdout,
    /// Standard error, shared with the log.
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
    fn check(&self, problems: &mut Problems) {
        self.encoding.check(Framing::Lines, problems);
    }

    fn explain(&self) -> String {
        format!("delivered when written to {}; a replay may repeat lines", self.target.name())
    }

    async fn build(&self, context: &BuildContext) -> Result<Arc<dyn Sink>> {
        let output = match self.target {
            Target::Stdout => Output { is_terminal: io::stdout().is_terminal(), stream: Box::new(io::stdout()) },
            Target::Stderr => Output { is_terminal: io::stderr().is_terminal(), stream: Box::new(io::stderr()) },
        };
        Ok(Arc::new(Stream::new(self.encoding.build()?, self.target, context, output)))
    }
}

/// What the sink asks of its writer.
enum Request {
    Write(Batch),
    Flush(oneshot::Sender<()>),
}

/// The way to the writer. Who reads the other end may be slow, or never come, and a write cannot be broken off: so it
/// happens on a thread of its own, and a lane that is asked to stop need not wait for the reader.
struct Stream {
    send: mpsc::Sender<Request>,
    /// The writer until the first request: building a sink starts nothing.
    idle: Mutex<Option<(Writer, mpsc::Receiver<Request>)>>,
}

impl Stream {
    fn new(encoding: Encoding, target: Target, context: &BuildContext, output: Output) -> Stream {
        let (send, requests) = mpsc::channel(WAITING);
        let writer = Writer { encoding, target, context: context.clone(), buffer: Vec::new(), output };
        Stream { send, idle: Mutex::new(Some((writer, requests))) }
    }

    async fn ask(&self, request: Request) {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((writer, requests)) = idle {
            let thread = std::thread::Builder::new().name("console sink".to_owned());
            // Without a thread the requests are dropped, and the batches fail.
            if let Err(error) = thread.spawn(move || writer.run(requests)) {
                tracing::error!(%error, "cannot start the writer's thread");
            }
        }
        // A writer that is gone drops the batch, and with it the receipt: failed.
        let _gone = self.send.send(request).await;
    }
}

#[async_trait]
impl Sink for Stream {
    async fn write(&self, batch: Batch) {
        self.ask(Request::Write(batch)).await;
    }

    async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        self.ask(Request::Flush(done)).await;
        let _gone = flushed.await;
    }
}

struct Writer {
    encoding: Encoding,
    target: Target,
    context: BuildContext,
    buffer: Vec<u8>,
    output: Output,
}

/// Where lines go.
struct Output {
    stream: Box<dyn Write + Send>,
    is_terminal: bool,
}

impl Output {
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        match self.is_terminal {
            true => self.stream.write_all(terminal::lines(&String::from_utf8_lossy(lines)).as_bytes())?,
            false => self.stream.write_all(lines)?,
        }
        self.stream.flush()
    }
}

impl Writer {
    /// Serves requests until the sink is gone.
    fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        while let Some(request) = requests.blocking_recv() {
            match request {
                Request::Write(batch) => self.write(batch),
                Request::Flush(done) => drop(done.send(())),
            }
        }
    }

    fn write(&mut self, batch: Batch) {
        let rejected = match self.put(&batch) {
            Ok(rejected) => rejected,
            Err(error) => {
                // The batch's receipt drops with it: failed, and read again where the stream may come back.
                self.say(&error);
                return self.context.books.failed(batch.events.len());
            }
        };
        self.context.trouble.clear();
        self.context.books.passed(batch.events.len() - rejected.len());
        let Batch { origin, receipt, .. } = batch;
        if !rejected.is_empty() {
            let batch = RejectedBatch { origin, receipt: receipt.clone(), rejected };
            self.context.rejects.reject_blocking(batch);
        }
        receipt.resolve(Outcome::Delivered);
    }

    /// Writes a batch; gives back what could not be encoded.
    fn put(&mut self, batch: &Batch) -> io::Result<Vec<Rejected>> {
        self.buffer.clear();
        let mut rejected = Vec::new();
        for event in &batch.events {
            if let Err(error) = self.encoding.encode_line(&event.body, &mut self.buffer) {
                rejected.push(Rejected { event: event.clone(), code: error.code, message: error.message });
            }
        }
        self.output.write(&self.buffer)?;
        self.context.books.bytes(self.buffer.len());
        Ok(rejected)
    }

    /// Says why nothing can be written, once for each reason.
    fn say(&self, error: &io::Error) {
        let target = self.target.name();
        if error.kind() == io::ErrorKind::BrokenPipe {
            return self.context.trouble.give_up(format!("{target} is closed"));
        }
        let text = format!("{target} cannot be written: {error}");
        if self.context.trouble.get().as_ref() != Some(&text) {
            tracing::error!(node = &*self.context.node, text, "waiting");
        }
        self.context.trouble.set(text);
    }
}

#[cfg(test)]
mod tests;
