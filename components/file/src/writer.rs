//! The one who writes the file: groups of batches, one fsync a group.
//!
//! Beside the file stands a note of the length that is durable. It is written after the data and before the
//! receipts are resolved; after a crash the file is cut to it. So a torn line never stays, and a line that
//! was acknowledged is never cut.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use tokio::task::block_in_place;
use weir::component::BuildContext;
use weir::delivery::{Outcome, RejectedBatch};
use weir::event::{Batch, Encoding, Rejected};
use weir::{Error, ErrorKind, Result};

use crate::source::Compression;

/// Batches in one group at most, whatever waits.
const GROUP: usize = 64;
/// Pause after a write that failed.
const PAUSE: Duration = Duration::from_secs(1);
const NOTE: &str = "committed";

/// What the sink asks of its writer.
pub(crate) enum Request {
    Write(Batch),
    Flush(oneshot::Sender<()>),
    Complete(oneshot::Sender<Result<()>>),
}

/// What is known of the file over a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    path: PathBuf,
    /// Bytes that are durable and acknowledged.
    length: u64,
    /// A `--once` run ended well: the next run begins anew.
    completed: bool,
}

pub(crate) struct Writer {
    file: File,
    path: PathBuf,
    /// Bytes that are durable.
    length: u64,
    encoding: Encoding,
    compression: Compression,
    context: BuildContext,
    buffer: Vec<u8>,
}

impl Writer {
    /// Opens the file where the last run left it.
    pub fn open(
        path: &Path,
        encoding: Encoding,
        compression: Compression,
        append: bool,
        overwrite: bool,
        context: BuildContext,
    ) -> Result<Writer> {
        let failed = |error| error_at(path, "it cannot be opened; check the path, its rights and the disk", error);
        let note = context.storage.load(NOTE).map_err(failed)?;
        let note: Option<Note> = note.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let exists = path.try_exists().map_err(failed)? && path.metadata().map_err(failed)?.len() > 0;
        let length = match note.filter(|note| note.path == path) {
            Some(Note { completed: true, .. }) if append => path.metadata().map_or(0, |meta| meta.len()),
            Some(Note { completed: true, .. }) => 0,
            Some(note) => note.length,
            None if !exists || overwrite => 0,
            None if append => path.metadata().map_err(failed)?.len(),
            None => {
                let what =
                    "it exists and was not written by this graph; set append: true or overwrite: true, or remove it";
                return Err(Error::new(ErrorKind::Config, "open the output file", what).with("path", path.display()));
            }
        };
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(path).map_err(failed)?;
        let present = file.metadata().map_err(failed)?.len();
        if present < length {
            let what = "it is shorter than what was acknowledged: someone cut it; restore it, or remove the node's folder in data_dir";
            return Err(Error::new(ErrorKind::Io, "open the output file", what).with("path", path.display()));
        }
        let mut writer =
            Writer { file, path: path.to_owned(), length, encoding, compression, context, buffer: Vec::new() };
        writer.rewind().map_err(failed)?;
        writer.note(false).map_err(failed)?;
        Ok(writer)
    }

    /// Cuts what is not durable.
    fn rewind(&mut self) -> io::Result<()> {
        self.file.set_len(self.length)?;
        self.file.seek(SeekFrom::Start(self.length))?;
        Ok(())
    }

    fn note(&self, completed: bool) -> io::Result<()> {
        let note = Note { path: self.path.clone(), length: self.length, completed };
        self.context.storage.store(NOTE, &serde_json::to_vec(&note)?)
    }

    /// Serves requests until the sink is gone.
    pub async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut group = Vec::with_capacity(GROUP);
        while requests.recv_many(&mut group, GROUP).await > 0 {
            let (mut batches, mut flushed, mut completed) = (Vec::new(), Vec::new(), Vec::new());
            for request in group.drain(..) {
                match request {
                    Request::Write(batch) => batches.push(batch),
                    Request::Flush(done) => flushed.push(done),
                    Request::Complete(done) => completed.push(done),
                }
            }
            if !batches.is_empty() {
                self.write(batches).await;
            }
            for done in flushed {
                let _nobody_waits = done.send(());
            }
            for done in completed {
                let result = self.note(true).map_err(|error| error_at(&self.path, "its length cannot be noted", error));
                let _nobody_waits = done.send(result);
            }
        }
    }

    /// Writes a group and settles it; waits and tries again as long as the disk says no.
    async fn write(&mut self, batches: Vec<Batch>) {
        let rejected = self.encode(&batches);
        while let Err(error) = block_in_place(|| self.append()) {
            let text = format!("{} cannot be written: {error}", self.path.display());
            tracing::error!(node = &*self.context.node, text, "waiting");
            self.context.trouble.set(text);
            self.context.clock.sleep(PAUSE).await;
            // A failed fsync may have dropped pages: all of the group is written again, to a file opened anew.
            if let Err(error) = block_in_place(|| self.reopen()) {
                tracing::error!(node = &*self.context.node, %error, "the file cannot be opened again");
            }
        }
        self.context.trouble.clear();
        for (batch, rejected) in batches.into_iter().zip(rejected) {
            let Batch { origin, receipt, events, .. } = batch;
            self.context.books.passed(events.len() - rejected.len());
            if !rejected.is_empty() {
                let batch = RejectedBatch { origin, receipt: receipt.clone(), rejected };
                self.context.rejects.reject(batch).await;
            }
            receipt.resolve(Outcome::Delivered);
        }
    }

    /// Puts the group's lines into the buffer; gives back what has no line, batch by batch.
    fn encode(&mut self, batches: &[Batch]) -> Vec<Vec<Rejected>> {
        let mut lines = std::mem::take(&mut self.buffer);
        lines.clear();
        let encode = |batch: &Batch| {
            let mut rejected = Vec::new();
            for event in &batch.events {
                if let Err(error) = self.encoding.encode_line(&event.body, &mut lines) {
                    rejected.push(Rejected { event: event.clone(), code: error.code, message: error.message });
                }
            }
            rejected
        };
        let rejected = batches.iter().map(encode).collect();
        self.buffer = lines;
        rejected
    }

    fn append(&mut self) -> io::Result<()> {
        let compressed;
        let bytes = match self.compression {
            Compression::Gzip => {
                let mut member = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
                member.write_all(&self.buffer)?;
                compressed = member.finish()?;
                &compressed
            }
            Compression::Zstd => {
                compressed = zstd::bulk::compress(&self.buffer, zstd::DEFAULT_COMPRESSION_LEVEL)?;
                &compressed
            }
            Compression::Auto | Compression::None => &self.buffer,
        };
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.file.write_all(bytes)?;
        self.file.sync_data()?;
        let before = self.length;
        self.length += bytes.len() as u64;
        let noted = self.note(false);
        if noted.is_err() {
            self.length = before;
        }
        noted
    }

    fn reopen(&mut self) -> io::Result<()> {
        self.file = OpenOptions::new().create(true).truncate(false).write(true).open(&self.path)?;
        self.rewind()
    }
}

fn error_at(path: &Path, what: &str, error: io::Error) -> Error {
    Error::new(ErrorKind::Io, "write a file", what).with("path", path.display()).caused_by(error)
}
