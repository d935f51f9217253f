//! The `file` sink: options, and the way to its writer.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::{mpsc, oneshot};
use weir::component::{BuildContext, EncodingOption, Problems, Resource, Sink, SinkConfig, Stream, async_trait};
use weir::event::Batch;
use weir::{Error, ErrorKind, Result};

use crate::compression::Compression;
use crate::writer::{Foreign, Request, Writer};

/// Batches that wait for the writer.
const WAITING: usize = 32;

/// Writes events to a file, one per line; an event is delivered once it is synced to disk.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileSink {
    /// Output file.
    #[schemars(extend("format" = "path"))]
    path: PathBuf,
    /// Encoding: a codec's name, or a map with its options. Default: `json`.
    #[serde(default)]
    encoding: EncodingOption,
    /// Compression; each group of events is a gzip member or zstd frame. Default: `auto`.
    #[serde(default)]
    compression: Compression,
    /// Append to an existing file. Default: false.
    #[serde(default)]
    append: bool,
    /// Replace an existing file that this graph did not write. Default: false.
    #[serde(default)]
    overwrite: bool,
}

weir::register_sink!("file", FileSink, "{type: file, inputs: [in], path: out.ndjson, encoding: json}");

#[typetag::deserialize(name = "file")]
#[async_trait]
impl SinkConfig for FileSink {
    fn check(&self, problems: &mut Problems) {
        self.encoding.check(Stream::Lines, problems);
        if self.append && self.overwrite {
            let help = "keep one of the two: `append` keeps what is in the file, `overwrite` does not";
            problems.error("overwrite", "bad_value", "contradicts `append`", help);
        }
        let path = self.path.to_string_lossy();
        if path.is_empty() {
            problems.error("path", "missing_value", "is empty", "name the file to write");
        }
        // It would become part of the file's name.
        let is_specifier = |at: usize| path[at + 1..].starts_with(['Y', 'm', 'd', 'H', 'M', 'S', 'F', 'j']);
        if path.contains("{{") || path.match_indices('%').any(|(at, _)| is_specifier(at)) {
            let help = "write a fixed path; to write several files, use `route` and a sink for each";
            problems.error("path", "bad_path", "takes no `{{ VRL }}` and no strftime specifiers in this version", help);
        }
    }

    fn resources(&self) -> Vec<Resource> {
        vec![Resource::written_alone(Resource::file(&self.path))]
    }

    fn explain(&self) -> String {
        "delivered when synced to the disk, many events with one fsync; a replay may repeat lines".to_owned()
    }

    async fn build(&self, context: &BuildContext) -> Result<Arc<dyn Sink>> {
        let compression = self.compression.of(&self.path);
        let foreign = match (self.append, self.overwrite) {
            (true, _) => Foreign::Append,
            (false, true) => Foreign::Overwrite,
            (false, false) => Foreign::Refuse,
        };
        let mut looks = 0;
        let writer = loop {
            let encoding = self.encoding.build()?;
            match Writer::open(&self.path, encoding, compression, foreign, context.clone()) {
                // The writer of a sink that is gone may still be finishing.
                Err(error) if error.is_temporary() && looks < LOOKS => looks += 1,
                writer => break writer?,
            }
            context.clock.sleep(LOOK).await;
        };
        let (send, requests) = mpsc::channel(WAITING);
        Ok(Arc::new(FileOut { send, idle: Mutex::new(Some((writer, requests))) }))
    }
}

/// How often, and how long apart, a file is looked at that somebody writes.
const LOOKS: u32 = 20;
const LOOK: Duration = Duration::from_millis(50);

struct FileOut {
    send: mpsc::Sender<Request>,
    /// The writer until the first request: building a sink starts nothing.
    idle: Mutex<Option<(Writer, mpsc::Receiver<Request>)>>,
}

impl FileOut {
    async fn ask(&self, request: Request) {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((writer, requests)) = idle {
            let runtime = tokio::runtime::Handle::current();
            let thread = std::thread::Builder::new().name("file sink".to_owned());
            // Without a thread the requests are dropped, and the batches fail.
            if let Err(error) = thread.spawn(move || writer.run(requests, &runtime)) {
                tracing::error!(%error, "cannot start the writer's thread");
            }
        }
        // A writer that is gone drops the batch, and with it the receipt: failed.
        let _gone = self.send.send(request).await;
    }
}

#[async_trait]
impl Sink for FileOut {
    async fn write(&self, batch: Batch) {
        self.ask(Request::Write(batch)).await;
    }

    async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        self.ask(Request::Flush(done)).await;
        let _gone = flushed.await;
    }

    async fn complete(&self) -> Result<()> {
        let (done, completed) = oneshot::channel();
        self.ask(Request::Complete(done)).await;
        let gone = || Error::new(ErrorKind::Internal, "complete", "the writer has stopped");
        completed.await.map_err(|_| gone())?
    }
}
