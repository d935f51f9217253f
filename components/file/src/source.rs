//! The `file` source.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::future::{Future, poll_fn};
use std::io::{self, Read as _, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use weir::component::{
    BuildContext, DecodingOption, LaneHandle, Lanes, Origin, Problems, Read, ReadLimit, Source, SourceConfig, Stream,
    async_trait,
};
use weir::config::ByteSize;
use weir::event::{Body, Codec, Event, Framing, OriginId, OriginKind, Position, Timestamp};
use weir::{Error, ErrorKind, Result};

use crate::compression::Compression;
use crate::lines::{Line, Lines};
use crate::mark::{self, Mark};
use crate::records::Records;

/// How often a position is made durable while reading goes on.
const STORE_EVERY: Duration = Duration::from_millis(200);
/// Files read at the same time at most: each holds a block of its own.
const LANES: usize = 8;

/// Reads files to their end, a line an event.
///
/// It does not wait for more: without `--once` the next run goes on where this one ended, with `--once` each reads all anew.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileSource {
    /// Files to read, in this order; a path with `*` stands for all files that fit, `**` for folders of any depth.
    #[schemars(length(min = 1))]
    paths: Vec<PathBuf>,
    /// What the lines are: a codec's name, or a map with its options. Default: `json`.
    #[serde(default)]
    decoding: DecodingOption,
    /// How the files are compressed. Default: `auto`.
    #[serde(default)]
    compression: Compression,
    /// The longest line; a longer one is cut to it and passed on. Default: `16MiB`.
    #[serde(default = "default_max_line_size")]
    max_line_size: ByteSize,
}

fn default_max_line_size() -> ByteSize {
    ByteSize(16 << 20)
}

weir::register_source!("file", FileSource, "{type: file, paths: [in.ndjson], decoding: json}");

#[typetag::deserialize(name = "file")]
#[async_trait]
impl SourceConfig for FileSource {
    fn check(&self, problems: &mut Problems) {
        self.decoding.check(Stream::Lines, problems);
        if self.paths.is_empty() {
            problems.error("paths", "missing_value", "names no file", "name at least one: `paths: [in.ndjson]`");
        }
        for (at, path) in self.paths.iter().enumerate() {
            if let Some(Err(error)) = pattern_of(path).map(glob::Pattern::new) {
                let help = "`*` stands for any part of a name, `**` for any folders, `[*]` for a star";
                problems.error(&format!("paths.{at}"), "bad_value", error.to_string(), help);
            }
        }
    }

    fn has_one_lane(&self) -> bool {
        matches!(&*self.paths, [path] if pattern_of(path).is_none())
    }

    fn is_deterministic(&self) -> bool {
        true
    }

    fn knows_time(&self) -> bool {
        false
    }

    fn codec(&self) -> Result<Codec> {
        self.decoding.build()
    }

    fn explain(&self) -> String {
        "one lane a file; the position is durable, so a run that was cut off goes on where it was".to_owned()
    }

    async fn build(&self, context: &BuildContext) -> Result<Box<dyn Source>> {
        let mut files = Vec::new();
        for path in &self.paths {
            files.extend(matching(path)?);
        }
        // Two lanes over one file would share its stored position.
        let mut seen = HashSet::new();
        files.retain(|path| seen.insert(path.clone()));
        if context.once {
            all_there(&self.paths, &files)?;
        } else if files.is_empty() {
            tracing::warn!(node = &*context.node, paths = ?self.paths, "no file fits the paths");
        }
        let codec = self.codec()?;
        let unfinished = Arc::new(Mutex::new(Unfinished {
            left: files.len(),
            names: files.iter().map(|path| path.display().to_string()).collect(),
        }));
        let origin = |path: PathBuf| LineFile {
            id: Arc::new(OriginId {
                node: context.node.to_string(),
                log: path.display().to_string(),
                partition: 0,
                kind: OriginKind::File,
            }),
            compression: self.compression,
            path,
            codec: codec.clone(),
            longest: usize::try_from(self.max_line_size.0).unwrap_or(usize::MAX),
            context: context.clone(),
            records: None,
            head: Vec::new(),
            header: None,
            overlaps: BTreeMap::new(),
            ahead: None,
            failure: None,
            ended: false,
            stored: None,
            committed: None,
            unfinished: unfinished.clone(),
        };
        // Under `--once` the order of the output follows from the order of the files.
        let at_once = if context.once { 1 } else { LANES };
        Ok(Box::new(Files { origins: files.into_iter().map(origin).collect(), at_once }))
    }
}

/// The path, if it stands for several files.
fn pattern_of(path: &Path) -> Option<&str> {
    path.to_str().filter(|path| path.contains('*'))
}

/// The files a path means, sorted. As in a shell, `*` fits no name that begins with a dot.
/// A run that is to read everything begins only where there is something: an output of the run before is not given up for
/// a mistyped path.
fn all_there(paths: &[PathBuf], files: &[PathBuf]) -> Result<()> {
    let refuse =
        |what: &str, path: String| Err(Error::new(ErrorKind::Io, "find files", what.to_owned()).with("path", path));
    if files.is_empty() {
        let paths: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
        return refuse("no file fits; correct `paths`, or put the files there", paths.join(", "));
    }
    match files.iter().find(|file| !file.try_exists().unwrap_or(true) || file.is_dir()) {
        Some(file) if file.is_dir() => {
            refuse("this is a folder; name the files in it, as in FOLDER/*", file.display().to_string())
        }
        Some(file) => refuse("there is no such file; correct `paths`, or put it there", file.display().to_string()),
        None => Ok(()),
    }
}

fn matching(path: &Path) -> Result<Vec<PathBuf>> {
    let Some(pattern) = pattern_of(path) else { return Ok(vec![path.to_owned()]) };
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
        Error::new(ErrorKind::Io, "find files", "the folder cannot be read; check the path and its rights")
            .with("path", path.display())
            .caused_by(error)
    };
    let as_shells = glob::MatchOptions { require_literal_leading_dot: true, ..glob::MatchOptions::new() };
    let mut found = Vec::new();
    for entry in glob::glob_with(pattern, as_shells).map_err(|error| failed(error.into()))? {
        let entry = entry.map_err(|error| failed(error.into()))?;
        if entry.is_file() {
            found.push(entry);
        }
    }
    Ok(found)
}

struct Files {
    origins: Vec<LineFile>,
    at_once: usize,
}

#[async_trait]
impl Source for Files {
    async fn run(self: Box<Self>, lanes: Lanes) -> Result<()> {
        let mut open: Vec<LaneHandle> = Vec::new();
        let mut origins = self.origins.into_iter();
        while let Some(origin) = origins.next() {
            if open.len() == self.at_once {
                first_end(&mut open).await?;
            }
            if lanes.is_stopping() {
                break;
            }
            let origin = Box::new(origin);
            match origins.len() {
                0 => open.extend(lanes.open_all(vec![origin]).await?),
                _ => open.push(lanes.open(origin).await?),
            }
        }
        while !open.is_empty() {
            first_end(&mut open).await?;
        }
        Ok(())
    }
}

/// Waits until one of the lanes has ended, and takes it out.
async fn first_end(open: &mut Vec<LaneHandle>) -> Result<()> {
    let (at, end) = {
        let mut ends: Vec<_> = open.iter_mut().map(|lane| Box::pin(lane.ended())).collect();
        poll_fn(|context| {
            let mut polled = ends.iter_mut().map(|end| end.as_mut().poll(context)).enumerate();
            let ended = polled.find_map(|(at, polled)| match polled {
                Poll::Ready(end) => Some((at, end)),
                Poll::Pending => None,
            });
            ended.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    };
    drop(open.swap_remove(at));
    end.map(drop)
}

/// One file as a log of lines.
struct LineFile {
    id: Arc<OriginId>,
    path: PathBuf,
    compression: Compression,
    codec: Codec,
    longest: usize,
    context: BuildContext,
    records: Option<Records>,
    /// The first bytes of the file as it is stored: they tell it from another one under its name.
    head: Vec<u8>,
    /// Where the line stands that names the columns, once it was read.
    header: Option<u64>,
    /// Where reading begins for records that others overlap, by their positions.
    overlaps: BTreeMap<u64, u64>,
    /// A record that did not fit the last read.
    ahead: Option<Line>,
    /// What is wrong behind the lines that were given out.
    failure: Option<Error>,
    ended: bool,
    /// When a position was last made durable.
    stored: Option<Duration>,
    /// Committed and not yet durable.
    committed: Option<Position>,
    unfinished: Arc<Mutex<Unfinished>>,
}

/// The files of a `--once` run. Positions are kept until all files are done: a run cut off in the second file
/// must not read the first one again.
struct Unfinished {
    left: usize,
    names: Vec<String>,
}

impl LineFile {
    fn error(&self, what: &str, error: io::Error) -> Error {
        Error::new(ErrorKind::Io, "read a file", what).with("path", self.path.display()).caused_by(error)
    }

    /// Opens the file at the first record that begins at `position` of its decompressed stream, or behind it; `from` is
    /// where reading has to begin for that, if it is known.
    fn open(&mut self, position: u64, from: Option<u64>) -> Result<Records> {
        if let Some(decoder) = self.codec.decoder().filter(|decoder| decoder.wants_header()).cloned() {
            let lines = Lines::new(self.stream(0)?, 0, self.longest);
            let first = Records::new(lines, decoder.framing(), self.longest).next();
            let header = first.map_err(|error| self.error("its header line cannot be read", error))?;
            if let Some(header) = header {
                let decoder = decoder.with_header(&header.bytes);
                self.codec = Codec::Other(decoder.map_err(|why| {
                    self.error(
                        "its header line cannot be read; name the columns with `columns:`",
                        io::Error::other(why),
                    )
                })?);
                self.header = Some(header.offset);
            }
        }
        // Behind the header, that is: as if it were settled.
        let position = self.header.map_or(position, |header| position.max(header + 1));
        let framing = self.codec.decoder().map_or(Framing::Lines, |decoder| decoder.framing());
        let begin = position.saturating_sub(1).min(from.unwrap_or(u64::MAX));
        let stream = self.stream(begin)?;
        let lines = match framing {
            // The last settled line may be a part of a record that goes on.
            Framing::Parts(_) => Lines::new(stream, begin, self.longest),
            _ if position == 0 => Lines::new(stream, 0, self.longest),
            _ => Lines::resume(stream, position, self.longest),
        };
        Ok(Records::new(lines, framing, self.longest).beginning_at(position))
    }

    /// The decompressed file from a byte on.
    fn stream(&self, offset: u64) -> Result<Box<dyn io::Read + Send>> {
        let failed = |error| self.error("it cannot be opened; check the path and its rights", error);
        let mut file = File::open(&self.path).map_err(failed)?;
        let compression = self.compression.of(&self.path).or_by(&self.head);
        if !compression.is_some() {
            if offset > 0 && offset >= file.metadata().map_err(failed)?.len() {
                return Err(self.replaced(offset));
            }
            file.seek(SeekFrom::Start(offset)).map_err(failed)?;
            return Ok(Box::new(file));
        }
        let mut stream = compression.reader(file).map_err(failed)?;
        let skipped = io::copy(&mut (&mut stream).take(offset), &mut io::sink()).map_err(failed)?;
        if skipped < offset {
            return Err(self.replaced(offset));
        }
        Ok(stream)
    }

    fn replaced(&self, offset: u64) -> Error {
        let what = "it was cut or replaced since it was read; restore it, give the new one another name, or remove the node's folder in data_dir to read it anew";
        Error::new(ErrorKind::Io, "read a file", what).with("path", self.path.display()).with("position", offset)
    }

    /// Where the last run left off, and where reading begins for that.
    fn start(&mut self) -> Result<(u64, Option<u64>)> {
        let failed = |error| self.error("the stored position cannot be read", error);
        let stored = self.context.storage.load(&self.id.log).map_err(failed)?;
        let stored = stored.map(|bytes| Mark::from_bytes(&bytes)).transpose().map_err(failed)?;
        self.head = mark::head(&self.path)
            .map_err(|error| self.error("it cannot be opened; check the path and its rights", error))?;
        let Some(mark) = stored else { return Ok((0, None)) };
        let place = self.place(mark)?;
        let node = &*self.context.node;
        tracing::info!(node, path = &*self.id.log, position = place.0, "going on where the last run was cut off");
        Ok(place)
    }

    /// Where reading goes on, and where it begins for that, if this is the file that was marked.
    fn place(&self, mark: Mark) -> Result<(u64, Option<u64>)> {
        match mark.fits(&self.head) {
            true => Ok((mark.position, mark.from)),
            false => Err(self.replaced(mark.position)),
        }
    }

    /// What finds `position` again.
    fn mark(&self, position: u64) -> Mark {
        // A commit is right behind the beginning of the last settled record, or at that of the next one.
        let near = [Some(position), position.checked_sub(1)].into_iter().flatten();
        let from = near.filter_map(|at| self.overlaps.get(&at)).next().copied();
        Mark::new(position, from, &self.head)
    }

    fn store(&mut self) -> Result<()> {
        if let Some(Position(position)) = self.committed.take() {
            let stored = self.context.storage.store(&self.id.log, &self.mark(position).to_bytes());
            stored.map_err(|error| self.error("its position cannot be stored", error))?;
            self.stored = Some(self.context.clock.uptime());
        }
        Ok(())
    }

    fn read_lines(&mut self, limit: ReadLimit) -> Result<Vec<Event>> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        if self.records.is_none() {
            let (start, from) = self.start()?;
            self.records = Some(self.open(start, from)?);
        }
        let mut events = Vec::with_capacity(limit.events.min(1024));
        let mut bytes = 0;
        while events.len() < limit.events {
            let line = match (self.ahead.take(), &mut self.records) {
                (Some(line), _) => Some(line),
                (None, Some(records)) => match records.next() {
                    Ok(line) => line,
                    Err(error) => {
                        let failure = self.error("it breaks off or is damaged; the lines before are read", error);
                        if events.is_empty() {
                            return Err(failure);
                        }
                        self.failure = Some(failure);
                        break;
                    }
                },
                (None, None) => None,
            };
            let Some(line) = line else {
                self.ended = true;
                break;
            };
            bytes += line.bytes.len();
            if bytes > limit.bytes && !events.is_empty() {
                self.ahead = Some(line);
                break;
            }
            if line.from != line.offset {
                self.overlaps.insert(line.offset, line.from);
            }
            let body = Body::Raw(line.bytes, self.codec.clone());
            events.push(Event::new(body, Position(line.offset), Timestamp::default()));
        }
        Ok(events)
    }
}

#[async_trait]
impl Origin for LineFile {
    fn id(&self) -> Arc<OriginId> {
        self.id.clone()
    }

    async fn read(&mut self, limit: ReadLimit) -> Result<Read> {
        // Local files answer at once: a thread of their own would cost more than it hides.
        let events = if self.ended { Vec::new() } else { self.read_lines(limit)? };
        Ok(if events.is_empty() { Read::End } else { Read::Events(events) })
    }

    async fn commit(&mut self, position: Position) -> Result<()> {
        self.committed = Some(position);
        if !self.overlaps.is_empty() {
            self.overlaps = self.overlaps.split_off(&position.0.saturating_sub(1));
        }
        let now = self.context.clock.uptime();
        let is_due = self.stored.is_none_or(|stored| now.saturating_sub(stored) >= STORE_EVERY);
        if is_due { self.store() } else { Ok(()) }
    }

    async fn close(&mut self) -> Result<()> {
        self.store()
    }

    async fn seek(&mut self, position: Position) -> Result<()> {
        let from = self.overlaps.get(&position.0).copied();
        self.records = Some(self.open(position.0, from)?);
        self.ahead = None;
        self.failure = None;
        self.ended = false;
        Ok(())
    }

    fn bookmark(&self, position: Position) -> Vec<u8> {
        self.mark(position.0).to_bytes()
    }

    async fn resume(&mut self, _: Position, bookmark: &[u8]) -> Result<()> {
        // The head is known from here on.
        self.start()?;
        let mark = Mark::from_bytes(bookmark).map_err(|error| self.error("the state's place cannot be read", error))?;
        let (position, from) = self.place(mark)?;
        self.records = Some(self.open(position, from)?);
        Ok(())
    }

    async fn complete(&mut self) -> Result<()> {
        self.store()?;
        let names = {
            let mut unfinished = self.unfinished.lock().unwrap_or_else(PoisonError::into_inner);
            unfinished.left = unfinished.left.saturating_sub(1);
            if unfinished.left > 0 { Vec::new() } else { std::mem::take(&mut unfinished.names) }
        };
        for name in names {
            let removed = self.context.storage.remove(&name);
            removed.map_err(|error| self.error("its stored position cannot be removed", error))?;
        }
        Ok(())
    }
}

/// A lane that was stopped has committed more than was stored last.
impl Drop for LineFile {
    fn drop(&mut self) {
        if let Err(error) = self.store() {
            tracing::warn!(%error, "the position is not stored: some lines may be read again");
        }
    }
}
