//! The one who writes the file: groups of batches, one fsync a group.
//!
//! A note in the node's storage says that the file is ours, and how much of it is acknowledged at least. After
//! a crash the file is cut: behind its last whole line, where every record is one line (the note may then lag,
//! and a group costs one fsync), and otherwise to exactly the noted length, which is then durable before the
//! receipts are resolved. So a torn record never stays, and what was acknowledged is never cut.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use weir::component::BuildContext;
use weir::delivery::{Outcome, RejectedBatch};
use weir::event::{Batch, Encoding, Rejected};
use weir::{Error, ErrorKind, Result};

use crate::compression::Compression;

/// Batches in one group at most, whatever waits.
const GROUP: usize = 64;
/// First pause after a write that failed; doubles up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(10);
/// How often the length is noted where that is only to shorten the search for the last whole line.
const NOTE_EVERY: Duration = Duration::from_secs(1);
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
    /// Records may span lines or are compressed: after a crash the file is cut to exactly `length`.
    #[serde(default)]
    exact: bool,
}

pub(crate) struct Writer {
    file: File,
    path: PathBuf,
    /// Bytes that are durable.
    length: u64,
    /// As in the note.
    exact: bool,
    /// A retry adds to the file of a run that was completed, and it stays that run's file.
    is_completed: bool,
    /// When a length was noted last, and which.
    noted: Duration,
    noted_length: u64,
    encoding: Encoding,
    compression: Compression,
    context: BuildContext,
    buffer: Vec<u8>,
    /// A record in the buffer spans lines.
    spans_lines: bool,
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
        let is_completed = context.retry && note.as_ref().is_some_and(|note| note.completed);
        let found = if path.try_exists().map_err(failed)? { path.metadata().map_err(failed)?.len() } else { 0 };
        let is_compressed = compression.is_some();
        let (length, is_resumed, exact) = match note.filter(|note| note.path == path) {
            Some(note) if !note.completed || context.retry => (note.length, true, note.exact),
            _ if append => (found, false, false),
            // A file of another length than the completed run left is not that run's any more.
            Some(note) if note.length == found => (0, false, false),
            _ if found == 0 || overwrite => (0, false, false),
            _ => {
                let what = format!(
                    "{} exists and was not written by this graph; set append: true or overwrite: true, or remove it",
                    path.display()
                );
                return Err(Error::new(ErrorKind::Config, "open the output file", what));
            }
        };
        let exact = exact || is_compressed;
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        let mut file = open_at(path).map_err(failed)?;
        if matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
            let what = "another weir, or another sink of this graph, writes it; give each a file of its own";
            let busy = Error::temporary(ErrorKind::Config, "open the output file", what);
            return Err(busy.with("path", path.display()));
        }
        let present = file.metadata().map_err(failed)?.len();
        if present < length {
            let what = "it is shorter than what was acknowledged: someone cut it; restore it, or remove the node's folder in data_dir";
            return Err(Error::new(ErrorKind::Io, "open the output file", what).with("path", path.display()));
        }
        let length = match is_resumed {
            true if !exact => end_of_last_line(&mut file, length, present).map_err(failed)?,
            false if append && !is_compressed => end_line(&mut file, length).map_err(failed)?,
            _ => length,
        };
        let mut writer = Writer {
            file,
            path: path.to_owned(),
            length,
            exact,
            is_completed,
            noted: context.clock.uptime(),
            noted_length: 0,
            encoding,
            compression,
            context,
            buffer: Vec::new(),
            spans_lines: false,
        };
        writer.rewind().map_err(failed)?;
        // What was found beyond the note is acknowledged from now on, so it has to be durable.
        writer.file.sync_all().map_err(failed)?;
        sync_folder(path).map_err(failed)?;
        writer.note(false).map_err(failed)?;
        Ok(writer)
    }

    /// Cuts what is not durable.
    fn rewind(&mut self) -> io::Result<()> {
        self.file.set_len(self.length)?;
        self.file.seek(SeekFrom::Start(self.length))?;
        Ok(())
    }

    fn note(&mut self, completed: bool) -> io::Result<()> {
        let completed = completed || self.is_completed;
        let note = Note { path: self.path.clone(), length: self.length, completed, exact: self.exact };
        self.context.storage.store(NOTE, &serde_json::to_vec(&note)?)?;
        self.noted = self.context.clock.uptime();
        self.noted_length = self.length;
        Ok(())
    }

    /// Serves requests until the sink is gone; has a thread of its own. `runtime` only waits for the clock.
    pub fn run(mut self, mut requests: mpsc::Receiver<Request>, runtime: &Handle) {
        let mut group = Vec::with_capacity(GROUP);
        while requests.blocking_recv_many(&mut group, GROUP) > 0 {
            let (mut batches, mut flushed, mut completed) = (Vec::new(), Vec::new(), Vec::new());
            for request in group.drain(..) {
                match request {
                    Request::Write(batch) => batches.push(batch),
                    Request::Flush(done) => flushed.push(done),
                    Request::Complete(done) => completed.push(done),
                }
            }
            if !batches.is_empty() && !self.write(batches, &requests, runtime) {
                return;
            }
            if !flushed.is_empty() {
                self.note_soon(Duration::ZERO);
            }
            for done in flushed {
                let _nobody_waits = done.send(());
            }
            for done in completed {
                let noted = self.note(true);
                let result = noted.map_err(|error| error_at(&self.path, "its length cannot be noted", error));
                let _nobody_waits = done.send(result);
            }
        }
    }

    /// Writes a group and settles it; waits and tries again as long as the disk says no. False when the graph
    /// ended meanwhile: the receipts drop, which fails the batches.
    fn write(&mut self, batches: Vec<Batch>, requests: &mpsc::Receiver<Request>, runtime: &Handle) -> bool {
        let rejected = self.encode(&batches);
        let mut pause = FIRST_PAUSE;
        let mut failed = false;
        while let Err(error) = if failed { self.reopen().and_then(|()| self.append()) } else { self.append() } {
            failed = true;
            let text = format!("{} cannot be written: {error}", self.path.display());
            tracing::error!(node = &*self.context.node, text, "waiting");
            self.context.trouble.set(text);
            if requests.is_closed() || !sleep(&self.context, pause, runtime) {
                return false;
            }
            pause = (pause * 2).min(LAST_PAUSE);
        }
        if failed {
            self.context.trouble.clear();
        }
        for (batch, rejected) in batches.into_iter().zip(rejected) {
            let Batch { origin, receipt, events, .. } = batch;
            self.context.books.passed(events.len() - rejected.len());
            if !rejected.is_empty() {
                let batch = RejectedBatch { origin, receipt: receipt.clone(), rejected };
                self.context.rejects.reject_blocking(batch);
            }
            receipt.resolve(Outcome::Delivered);
        }
        true
    }

    /// Puts the group's lines into the buffer; gives back what has no line, batch by batch.
    fn encode(&mut self, batches: &[Batch]) -> Vec<Vec<Rejected>> {
        let mut lines = std::mem::take(&mut self.buffer);
        lines.clear();
        if let (0, Encoding::Other(encoder)) = (self.length, &self.encoding) {
            lines.extend_from_slice(encoder.header());
        }
        let mut spans_lines = false;
        let mut encode = |batch: &Batch| {
            let mut rejected = Vec::new();
            for event in &batch.events {
                let start = lines.len();
                match self.encoding.encode_line(&event.body, &mut lines) {
                    // JSON is one line by its encoding.
                    Ok(()) if matches!(self.encoding, Encoding::Json) || spans_lines => {}
                    Ok(()) => spans_lines = memchr::memchr(b'\n', &lines[start..lines.len() - 1]).is_some(),
                    Err(error) => {
                        rejected.push(Rejected { event: event.clone(), code: error.code, message: error.message });
                    }
                }
            }
            rejected
        };
        let rejected = batches.iter().map(&mut encode).collect();
        self.spans_lines = spans_lines;
        self.buffer = lines;
        rejected
    }

    fn append(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        if self.spans_lines && !self.exact {
            self.exact = true;
            let noted = self.note(false);
            self.exact = noted.is_ok();
            noted?;
        }
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
        self.file.write_all(bytes)?;
        self.file.sync_data()?;
        let before = self.length;
        self.length += bytes.len() as u64;
        if self.exact {
            return self.note(false).inspect_err(|_| self.length = before);
        }
        self.note_soon(NOTE_EVERY);
        Ok(())
    }

    /// Notes the length when the note is older than `age`. It may lag: the lines themselves are durable, and an
    /// up-to-date note only tells sooner that someone else cut the file.
    fn note_soon(&mut self, age: Duration) {
        let is_due = self.context.clock.uptime().saturating_sub(self.noted) >= age;
        if is_due
            && self.noted_length != self.length
            && let Err(error) = self.note(false)
        {
            tracing::warn!(node = &*self.context.node, %error, "the length is not noted");
        }
    }

    /// A failed fsync may have dropped pages, so the group is written again to a file opened anew.
    fn reopen(&mut self) -> io::Result<()> {
        // Of two open files of one process each is a stranger to the lock of the other.
        self.file.unlock()?;
        self.file = open_at(&self.path)?;
        self.file.try_lock()?;
        if self.file.metadata()?.len() < self.length {
            return Err(io::Error::other("it is shorter than what was acknowledged: someone cut it; restore it"));
        }
        self.rewind()
    }
}

fn open_at(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path)
}

/// Ends the last line of a file of `length` bytes, so that ours does not become part of it; gives the length then.
fn end_line(file: &mut File, length: u64) -> io::Result<u64> {
    let Some(before) = length.checked_sub(1) else { return Ok(length) };
    let mut last = [0];
    file.seek(SeekFrom::Start(before))?;
    file.read_exact(&mut last)?;
    if last == *b"\n" {
        return Ok(length);
    }
    file.write_all(b"\n")?;
    Ok(length + 1)
}

/// Where the last whole line at or behind `from` ends; `from` itself, if there is none.
fn end_of_last_line(file: &mut File, from: u64, end: u64) -> io::Result<u64> {
    let mut block = vec![0; 64 << 10];
    let mut end = end;
    while end > from {
        let start = end.saturating_sub(block.len() as u64).max(from);
        let part = &mut block[..(end - start) as usize];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(part)?;
        if let Some(at) = memchr::memrchr(b'\n', part) {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(from)
}

/// A new file is only there for good when its folder is synced.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

/// Waits on the graph's clock from a thread outside the runtime; false when the runtime is gone.
fn sleep(context: &BuildContext, span: Duration, runtime: &Handle) -> bool {
    let (done, slept) = oneshot::channel();
    let clock = context.clock.clone();
    runtime.spawn(async move {
        clock.sleep(span).await;
        let _nobody_waits = done.send(());
    });
    slept.blocking_recv().is_ok()
}

fn error_at(path: &Path, what: &str, error: io::Error) -> Error {
    Error::new(ErrorKind::Io, "write a file", what).with("path", path.display()).caused_by(error)
}
