//! The one who writes the file: groups of batches, one fsync a group.
//!
//! A note in the node's storage says that the file is ours, and how much of it is acknowledged at least. After
//! a crash the file is cut: behind its last whole line, where every record is one line (the note may then lag,
//! and a group costs one fsync), and otherwise to exactly the noted length, which is then durable before the
//! receipts are resolved. So a torn record never stays, and what was acknowledged is never cut.
//!
//! Others may rename the file, cut it or remove it at any time, as programs that rotate logs do. Before and after each group
//! the writer looks whether the file is the one at its path, and how long it is: it goes on in a new file, or at the new
//! end, and what may not be in a file any more is written again before it is acknowledged.

use std::io::{self, Write};
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
use crate::output::Output;

/// Batches in one group at most, whatever waits.
const GROUP: usize = 64;
/// First pause after a write that failed; doubles up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(10);
/// How often the length is noted where that is only to shorten the search for the last whole line.
const NOTE_EVERY: Duration = Duration::from_secs(1);
const NOTE: &str = "committed";
/// How often a group is written again at once because somebody removes or cuts the file under it.
const TRIES: usize = 3;

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
    /// The file's; its device may have another number after a restart of the machine. Earlier versions did not note it, nor
    /// what follows.
    #[serde(default)]
    inode: Option<u64>,
    /// When the file was made, in nanoseconds since 1970.
    #[serde(default)]
    born: Option<u64>,
    /// The checksum of its last bytes before `length`.
    #[serde(default)]
    print: Option<u32>,
}

impl Note {
    /// Whether a file that is long enough has the bytes that were noted.
    fn has_bytes_of(&self, output: &Output) -> io::Result<bool> {
        self.print.map_or(Ok(true), |print| Ok(output.print(self.length)? == print))
    }

    /// Whether the file is the one that was noted, as it was, longer or cut. One that was copied is known by its bytes.
    fn is_of(&self, output: &Output) -> io::Result<bool> {
        let is_same = self.inode.is_none_or(|inode| inode == output.inode())
            && self.born.zip(output.born()).is_none_or(|(noted, found)| noted == found);
        match output.length >= self.length {
            true => Ok(self.has_bytes_of(output)? && (is_same || self.print.is_some() && self.length > 0)),
            false => Ok(is_same),
        }
    }
}

pub(crate) struct Writer {
    output: Output,
    path: PathBuf,
    /// A write or fsync failed: what is behind the durable length is unknown, and so is what the next fsync would say.
    is_doubtful: bool,
    /// As in the note.
    exact: bool,
    /// A retry adds to the file of a run that was completed, and it stays that run's file.
    is_completed: bool,
    /// When a length was noted last, and which.
    noted: Duration,
    noted_length: u64,
    noted_inode: u64,
    encoding: Encoding,
    compression: Compression,
    foreign: Foreign,
    context: BuildContext,
    buffer: Vec<u8>,
    /// A record in the buffer spans lines.
    spans_lines: bool,
}

/// Handling of a non-empty file that this graph did not write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Foreign {
    Refuse,
    Append,
    Overwrite,
}

impl Writer {
    /// Opens the file where the last run left it.
    pub fn open(
        path: &Path,
        encoding: Encoding,
        compression: Compression,
        foreign: Foreign,
        context: BuildContext,
    ) -> Result<Writer> {
        let failed = |error| error_at(path, "it cannot be opened; check the path, its rights and the disk", error);
        let note = context.storage.load(NOTE).map_err(failed)?;
        let note: Option<Note> = note.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let is_completed = context.retry && note.as_ref().is_some_and(|note| note.completed);
        let mut output = Output::open(path, None).map_err(|error| refused(path, error))?;
        let mut exact = compression.is_some();
        let note = note.filter(|note| note.path == path);
        let was_completed = |note: &Note| note.completed && !context.retry;
        let is_ours = note.as_ref().map_or(Ok(false), |note| note.is_of(&output)).map_err(failed)?;
        match note {
            Some(note) if !was_completed(&note) && (is_ours || output.length == 0) => {
                exact |= note.exact;
                go_on(&mut output, &note, is_ours, compression, &context).map_err(failed)?;
            }
            _ if foreign == Foreign::Append => output.go_on_behind(compression).map_err(failed)?,
            // A file of another length than the completed run left is not that run's any more.
            Some(note) if is_ours && note.length == output.length => output.cut(0).map_err(failed)?,
            _ if output.length == 0 || foreign == Foreign::Overwrite => output.cut(0).map_err(failed)?,
            _ => {
                let what = format!(
                    "{} exists and was not written by this graph; set append: true or overwrite: true, or remove it",
                    path.display()
                );
                return Err(Error::new(ErrorKind::Config, "open the output file", what));
            }
        }
        let mut writer = Writer {
            output,
            path: path.to_owned(),
            is_doubtful: false,
            exact,
            is_completed,
            noted: context.clock.uptime(),
            noted_length: 0,
            noted_inode: 0,
            encoding,
            compression,
            foreign,
            context,
            buffer: Vec::new(),
            spans_lines: false,
        };
        // What was found beyond the note is acknowledged from now on, so it has to be durable.
        writer.output.sync().map_err(failed)?;
        writer.note(false).map_err(failed)?;
        Ok(writer)
    }

    fn note(&mut self, completed: bool) -> io::Result<()> {
        let note = Note {
            path: self.path.clone(),
            length: self.output.length,
            completed: completed || self.is_completed,
            exact: self.exact,
            inode: Some(self.output.inode()),
            born: self.output.born(),
            print: Some(self.output.print(self.output.length)?),
        };
        self.context.storage.store(NOTE, &serde_json::to_vec(&note)?)?;
        self.noted = self.context.clock.uptime();
        (self.noted_length, self.noted_inode) = (self.output.length, self.output.inode());
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
        while let Err(error) = self.append() {
            failed = true;
            self.is_doubtful = true;
            // So that nobody reads it while the next try is waited for.
            self.output.try_cut();
            let text = format!("{} cannot be written, and is tried again: {error}", self.path.display());
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
        self.context.books.bytes(self.buffer.len());
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

    /// Adds the group to the file at the path, durably.
    fn append(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        for _ in 0..TRIES {
            self.follow()?;
            if self.spans_lines && !self.exact {
                self.exact = true;
                self.note(false).inspect_err(|_| self.exact = false)?;
            }
            let bytes = self.bytes()?;
            let before = self.output.length;
            let is_whole = match &bytes {
                Some(bytes) => self.output.append(bytes)?,
                None => self.output.append(&self.buffer)?,
            };
            if !is_whole {
                continue;
            }
            // The first bytes identify the file, so they are noted at once.
            if self.exact || self.noted_length == 0 || self.noted_inode != self.output.inode() {
                return self.note(false).inspect_err(|_| self.output.length = before);
            }
            self.note_soon(NOTE_EVERY);
            return Ok(());
        }
        Err(io::Error::other("somebody removes or cuts it again and again; rotate it less often"))
    }

    /// What is written for the group, where that is not its lines as they are.
    fn bytes(&self) -> io::Result<Option<Vec<u8>>> {
        let header = match (self.output.length, &self.encoding) {
            (0, Encoding::Other(encoder)) => encoder.header(),
            _ => &[],
        };
        Ok(match self.compression {
            Compression::Gzip => {
                let mut member = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
                member.write_all(header)?;
                member.write_all(&self.buffer)?;
                Some(member.finish()?)
            }
            Compression::Zstd => {
                let lines = [header, &self.buffer].concat();
                Some(zstd::bulk::compress(&lines, zstd::DEFAULT_COMPRESSION_LEVEL)?)
            }
            Compression::Auto | Compression::None if header.is_empty() => None,
            Compression::Auto | Compression::None => Some([header, &self.buffer].concat()),
        })
    }

    /// Sees to it that what is written next follows what is in the file at the path.
    fn follow(&mut self) -> io::Result<()> {
        let is_in_place = self.output.is_in_place();
        if self.is_doubtful || !is_in_place {
            let mut next = Output::open(&self.path, Some(&self.output))?;
            if next.is_same(&self.output) {
                next.length = self.output.length;
                if next.present()? > next.length {
                    next.cut(self.output.length)?;
                }
                self.output = next;
            } else {
                self.take_over(next)?;
            }
            self.is_doubtful = false;
        }
        let (node, path) = (&*self.context.node, self.path.display());
        let present = self.output.present()?;
        if present < self.output.length {
            tracing::warn!(node, %path, was = self.output.length, is = present, "the file was cut: going on at its end");
            self.output.go_on_shortened(self.compression)?;
            // The next write may reach the noted length with other content.
            self.note(false)?;
        } else if present > self.output.length {
            // Somebody else's, who is not hindered from it.
            self.output.go_on_behind(self.compression)?;
        }
        Ok(())
    }

    /// Goes on in another file than before.
    fn take_over(&mut self, mut next: Output) -> io::Result<()> {
        let (node, path) = (&*self.context.node, self.path.display());
        match self.foreign {
            Foreign::Refuse if next.length > 0 => {
                let what = "a file that this graph did not write took its place; move that away, or set append: true";
                return Err(io::Error::other(what));
            }
            Foreign::Overwrite => next.cut(0)?,
            Foreign::Refuse | Foreign::Append => next.go_on_behind(self.compression)?,
        }
        tracing::info!(node, %path, "the file was renamed or removed: going on in a new one");
        self.exact = self.compression.is_some();
        self.output = next;
        // Before anything is in it: after a crash it is known to be ours.
        self.note(false)
    }

    /// Notes the length when the note is older than `age`. It may lag: the lines themselves are durable, and an
    /// up-to-date note only tells sooner that someone else cut the file.
    fn note_soon(&mut self, age: Duration) {
        let is_due = self.context.clock.uptime().saturating_sub(self.noted) >= age;
        if is_due
            && self.noted_length != self.output.length
            && let Err(error) = self.note(false)
        {
            tracing::warn!(node = &*self.context.node, %error, "the length is not noted");
        }
    }
}

/// Goes on in a file that an earlier run has written and not completed.
fn go_on(
    output: &mut Output,
    note: &Note,
    is_ours: bool,
    compression: Compression,
    context: &BuildContext,
) -> io::Result<()> {
    let (node, path) = (&*context.node, note.path.display());
    if !is_ours || output.length < note.length {
        if output.length > 0 || note.length > 0 {
            tracing::warn!(node, %path, was = note.length, is = output.length, "the file was renamed, removed or cut since it was written: going on at its end");
        }
        // One that is not ours is empty.
        return if is_ours { output.go_on_shortened(compression) } else { Ok(()) };
    }
    let is_exact = note.exact || compression.is_some();
    let end = if is_exact { note.length } else { output.end_of_last_line(note.length)? };
    output.cut(end)
}

/// Why a file cannot be opened.
fn refused(path: &Path, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::WouldBlock => {
            let what = "another weir, or another sink of this graph, writes it; give each a file of its own";
            Error::temporary(ErrorKind::Config, "open the output file", what).with("path", path.display())
        }
        io::ErrorKind::InvalidInput | io::ErrorKind::IsADirectory => {
            let what = "only regular files are written; correct `path`, or use `type: console` for standard output";
            Error::new(ErrorKind::Config, "open the output file", what).with("path", path.display()).caused_by(error)
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            error_at(path, "its file system is read-only; mount it for writing, or correct `path`", error)
        }
        _ => error_at(path, "it cannot be opened; check the path, its rights and the disk", error),
    }
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
