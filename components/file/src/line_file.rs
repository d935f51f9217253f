//! One file as a log of lines.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use weir::component::{BuildContext, Origin, Read, ReadLimit, async_trait};
use weir::event::{Body, Codec, Event, Framing, OriginId, Position, Timestamp};
use weir::{Error, ErrorKind, Result, files};

use crate::compression::Compression;
use crate::lines::{Found, Line, Lines};
use crate::mark::{Identity, Mark};
use crate::paths;
use crate::records::Records;

/// How often a position is made durable while reading goes on.
const STORE_EVERY: Duration = Duration::from_millis(200);

/// What is read of a file, and how.
pub(crate) struct LineFile {
    pub id: Arc<OriginId>,
    pub path: PathBuf,
    /// It fits a pattern: when it is gone there is nothing to read.
    pub may_vanish: bool,
    pub compression: Compression,
    pub codec: Codec,
    pub longest: usize,
    pub context: BuildContext,
    pub unfinished: Arc<Mutex<Unfinished>>,
}

/// The files of a `--once` run. Positions are kept until all files are done: a run cut off in the second file
/// must not read the first one again.
pub(crate) struct Unfinished {
    pub left: usize,
    pub names: Vec<String>,
}

/// Where reading goes on.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    position: u64,
    /// Where it begins for that, if records overlap there.
    from: Option<u64>,
}

enum Reading {
    /// From where the last run left off.
    Unopened,
    At(Place),
    /// The line that names the columns comes first.
    Header(Records, Place),
    Records(Records),
    Ended,
}

/// A [`LineFile`] being read.
pub(crate) struct Reader {
    what: LineFile,
    /// The open file, which is read on when it is renamed or removed, and what it is known by.
    file: Option<(File, Identity)>,
    reading: Reading,
    /// Where the line stands that names the columns, once it was read.
    header: Option<u64>,
    /// Where reading begins for records that others overlap, by their positions.
    overlaps: BTreeMap<u64, u64>,
    /// A record that did not fit the last read.
    ahead: Option<Line>,
    /// What is wrong behind the lines that were given out.
    failure: Option<Error>,
    /// When a position was last made durable.
    stored: Option<Duration>,
    /// Committed and not yet durable.
    committed: Option<Position>,
}

impl Reader {
    pub fn new(what: LineFile) -> Reader {
        Reader {
            what,
            file: None,
            reading: Reading::Unopened,
            header: None,
            overlaps: BTreeMap::new(),
            ahead: None,
            failure: None,
            stored: None,
            committed: None,
        }
    }

    fn error(&self, what: &str, error: io::Error) -> Error {
        Error::new(ErrorKind::Io, "read a file", what).with("path", &self.what.id.log).caused_by(error)
    }

    /// The open file.
    fn file(&mut self) -> io::Result<&(File, Identity)> {
        let opened = match self.file.take() {
            Some(opened) => opened,
            None => {
                let file = files::open(&self.what.path)?;
                let identity = Identity::of(&file)?;
                (file, identity)
            }
        };
        Ok(self.file.insert(opened))
    }

    fn compression(&self) -> Compression {
        let head = self.file.as_ref().map_or(&[][..], |(_, identity)| &identity.head);
        self.what.compression.of(&self.what.path).or_by(head)
    }

    /// Whether this is the file that was marked.
    fn fits(&mut self, mark: Mark) -> io::Result<bool> {
        let (file, identity) = self.file()?;
        let (fits, length) = (mark.fits(file, identity)?, identity.length);
        // Of compressed bytes the position says nothing.
        Ok(fits && (self.compression().is_some() || mark.position <= length))
    }

    /// Where the last run left off. A file that was cut, or took the place of the one that was read, is read anew.
    fn start(&mut self) -> Result<Place> {
        let log = self.what.id.log.clone();
        let failed = |error| self.error("the stored position cannot be read", error);
        let stored = self.what.context.storage.load(&log).map_err(failed)?;
        let stored = stored.map(|bytes| Mark::from_bytes(&bytes)).transpose().map_err(failed)?;
        let fits = match stored {
            Some(mark) => self.fits(mark),
            None => self.file().map(|_| false),
        };
        let fits = fits.map_err(|error| self.error(paths::remedy(&error), error))?;
        let node = &*self.what.context.node;
        match stored {
            Some(Mark { position, from, .. }) if fits => {
                tracing::info!(node, path = &*log, position, "going on where the last run was cut off");
                Ok(Place { position, from })
            }
            Some(Mark { position, .. }) => {
                let text = "the file was cut or replaced since it was read: it is read from its beginning";
                tracing::warn!(node, path = &*log, position, "{text}");
                // A run that reads no event commits nothing: the next one must not take this file for the old one again.
                let removed = self.what.context.storage.remove(&log);
                removed.map_err(|error| self.error("its stored position cannot be removed", error))?;
                Ok(Place::default())
            }
            None => Ok(Place::default()),
        }
    }

    /// The decompressed lines from a byte on.
    fn lines(&self, offset: u64) -> io::Result<Lines> {
        let (file, _) = self.file.as_ref().ok_or(io::ErrorKind::NotFound)?;
        let mut file = file.try_clone()?;
        let compression = self.compression();
        let start = if compression.is_some() { 0 } else { offset };
        file.seek(SeekFrom::Start(start))?;
        let stream = compression.reader(file, &self.what.id.log);
        let lines = Lines::new(stream, offset, self.what.longest).skipping(offset - start);
        Ok(lines.holding_back(!self.what.context.once).with_blanks(self.what.codec.has_blank_records()))
    }

    /// Makes ready for the first record that begins at a place or behind it.
    fn open(&self, place: Place) -> io::Result<Reading> {
        let longest = self.what.longest;
        let framing = self.what.codec.decoder().map_or(Framing::Lines, |decoder| decoder.framing());
        let wants_header = self.what.codec.decoder().is_some_and(|decoder| decoder.wants_header());
        if wants_header && self.header.is_none() {
            return Ok(Reading::Header(Records::new(self.lines(0)?, framing, longest), place));
        }
        // Behind the header, that is: as if it were settled.
        let position = self.header.map_or(place.position, |header| place.position.max(header + 1));
        let begin = position.saturating_sub(1).min(place.from.unwrap_or(u64::MAX));
        let lines = match framing {
            // The last settled line may be a part of a record that goes on.
            Framing::Parts(_) => self.lines(begin)?,
            _ if position == 0 => self.lines(0)?,
            _ => self.lines(position - 1)?.behind_a_line(),
        };
        Ok(Reading::Records(Records::new(lines, framing, longest).beginning_at(position)))
    }

    /// Takes the names of the columns.
    fn name_columns(&mut self, header: &Line) -> Result<()> {
        let Some(decoder) = self.what.codec.decoder() else { return Ok(()) };
        let decoder = decoder.with_header(&header.bytes).map_err(|why| {
            let what = "its header line cannot be read; name the columns with `columns:`";
            self.error(what, io::Error::other(why))
        })?;
        self.what.codec = Codec::Other(decoder);
        self.header = Some(header.offset);
        Ok(())
    }

    /// What is found next, as [`Lines::next`] does.
    fn next(&mut self) -> Result<Found> {
        if let Some(line) = self.ahead.take() {
            return Ok(Found::Line(line));
        }
        loop {
            let opened = match &mut self.reading {
                Reading::Unopened => {
                    let place = match self.start() {
                        Err(error) if self.what.may_vanish && self.is_gone() => {
                            tracing::warn!(node = &*self.what.context.node, %error, "the file is gone before it was read");
                            self.reading = Reading::Ended;
                            return Ok(Found::End);
                        }
                        place => place?,
                    };
                    self.open(place)
                }
                Reading::At(place) => {
                    let place = *place;
                    self.open(place)
                }
                Reading::Header(records, place) => {
                    let place = *place;
                    match records.next() {
                        Ok(Found::Line(header)) => {
                            self.name_columns(&header)?;
                            Ok(Reading::At(place))
                        }
                        found => return self.found(found),
                    }
                }
                Reading::Records(records) => match records.next() {
                    Ok(Found::Line(line)) => return Ok(Found::Line(line)),
                    found => return self.found(found),
                },
                Reading::Ended => return Ok(Found::End),
            };
            self.reading = opened.map_err(|error| self.error("it cannot be read", error))?;
        }
    }

    fn is_gone(&self) -> bool {
        self.file.is_none() && matches!(self.what.path.try_exists(), Ok(false))
    }

    /// Ends where there is nothing more, and says what is left to the next run.
    fn found(&mut self, found: io::Result<Found>) -> Result<Found> {
        let held_back = match (&found, &self.reading) {
            (Ok(Found::End), Reading::Records(records) | Reading::Header(records, _)) => records.held_back(),
            _ => 0,
        };
        let node = &*self.what.context.node;
        let path = &*self.what.id.log;
        match found {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                // A file of the system that waits for what comes, such as /proc/kmsg.
                self.reading = Reading::Ended;
                Ok(Found::End)
            }
            Ok(Found::End) => {
                if held_back > 0 {
                    let text = "the last line has no end yet and is left to the next run; `--once` reads it as it is";
                    tracing::info!(node, path, bytes = held_back, "{text}");
                }
                self.reading = Reading::Ended;
                Ok(Found::End)
            }
            Ok(found) => Ok(found),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && !self.what.context.once => {
                let text = "the compressed data breaks off; the next run reads on when there is more";
                tracing::warn!(node, path, "{text}");
                self.reading = Reading::Ended;
                Ok(Found::End)
            }
            Err(error) => Err(self.error("it breaks off or is damaged; the lines before are read", error)),
        }
    }

    /// What finds `position` again.
    fn mark(&self, position: u64) -> io::Result<Option<Mark>> {
        let Some((file, identity)) = &self.file else { return Ok(None) };
        // A commit is right behind the beginning of the last settled record, or at that of the next one.
        let near = [Some(position), position.checked_sub(1)].into_iter().flatten();
        let from = near.filter_map(|at| self.overlaps.get(&at)).next().copied();
        let end = if self.compression().is_some() { identity.length } else { position };
        Mark::new(position, from, file, identity, end).map(Some)
    }

    fn store(&mut self) -> Result<()> {
        if let Some(Position(position)) = self.committed.take() {
            let failed = |error| self.error("its position cannot be stored", error);
            if let Some(mark) = self.mark(position).map_err(failed)? {
                self.what.context.storage.store(&self.what.id.log, &mark.to_bytes()).map_err(failed)?;
            }
            self.stored = Some(self.what.context.clock.uptime());
        }
        Ok(())
    }

    fn read_lines(&mut self, limit: ReadLimit) -> Result<Vec<Event>> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        let mut events = Vec::with_capacity(limit.events.min(1024));
        let mut bytes = 0;
        while events.len() < limit.events {
            let line = match self.next() {
                Ok(Found::Line(line)) => line,
                Ok(Found::Nothing | Found::End) => break,
                Err(failure) if events.is_empty() => return Err(failure),
                Err(failure) => {
                    self.failure = Some(failure);
                    break;
                }
            };
            bytes += line.bytes.len();
            if bytes > limit.bytes && !events.is_empty() {
                self.ahead = Some(line);
                break;
            }
            if line.from != line.offset {
                self.overlaps.insert(line.offset, line.from);
            }
            let body = Body::Raw(line.bytes, self.what.codec.clone());
            events.push(Event::new(body, Position(line.offset), Timestamp::default()));
        }
        Ok(events)
    }
}

#[async_trait]
impl Origin for Reader {
    fn id(&self) -> Arc<OriginId> {
        self.what.id.clone()
    }

    async fn read(&mut self, limit: ReadLimit) -> Result<Read> {
        loop {
            // Local files answer at once: a thread of their own would cost more than it hides.
            let events = self.read_lines(limit)?;
            if !events.is_empty() {
                return Ok(Read::Events(events));
            }
            if matches!(self.reading, Reading::Ended) {
                return Ok(Read::End);
            }
            // Much was read and no line ended. Whoever wants the lane to stop is heard here.
            tokio::task::yield_now().await;
        }
    }

    async fn commit(&mut self, position: Position) -> Result<()> {
        self.committed = Some(position);
        if !self.overlaps.is_empty() {
            self.overlaps = self.overlaps.split_off(&position.0.saturating_sub(1));
        }
        let now = self.what.context.clock.uptime();
        let is_due = self.stored.is_none_or(|stored| now.saturating_sub(stored) >= STORE_EVERY);
        if is_due { self.store() } else { Ok(()) }
    }

    async fn close(&mut self) -> Result<()> {
        self.store()
    }

    async fn seek(&mut self, position: Position) -> Result<()> {
        let opened = self.file().map(drop);
        opened.map_err(|error| self.error(paths::remedy(&error), error))?;
        self.reading = Reading::At(Place { position: position.0, from: self.overlaps.get(&position.0).copied() });
        self.ahead = None;
        self.failure = None;
        Ok(())
    }

    fn bookmark(&self, position: Position) -> Vec<u8> {
        // One that cannot be known again is not resumed.
        self.mark(position.0).ok().flatten().map_or_else(Vec::new, Mark::to_bytes)
    }

    async fn resume(&mut self, _: Position, bookmark: &[u8]) -> Result<()> {
        let mark = Mark::from_bytes(bookmark).map_err(|error| self.error("the state's place cannot be read", error))?;
        let fits = self.fits(mark).map_err(|error| self.error(paths::remedy(&error), error))?;
        if !fits {
            let what = "it was cut or replaced since it was read, and what the graph remembers goes up to a place in it; restore it, give the new one another name, or remove the graph's folder in data_dir to begin anew";
            let error = Error::new(ErrorKind::Io, "read a file", what);
            return Err(error.with("path", &self.what.id.log).with("position", mark.position));
        }
        self.reading = Reading::At(Place { position: mark.position, from: mark.from });
        Ok(())
    }

    async fn complete(&mut self) -> Result<()> {
        self.store()?;
        let names = {
            let mut unfinished = self.what.unfinished.lock().unwrap_or_else(PoisonError::into_inner);
            unfinished.left = unfinished.left.saturating_sub(1);
            if unfinished.left > 0 { Vec::new() } else { std::mem::take(&mut unfinished.names) }
        };
        for name in names {
            let removed = self.what.context.storage.remove(&name);
            removed.map_err(|error| self.error("its stored position cannot be removed", error))?;
        }
        Ok(())
    }
}

/// A lane that was stopped has committed more than was stored last.
impl Drop for Reader {
    fn drop(&mut self) {
        if let Err(error) = self.store() {
            tracing::warn!(%error, "the position is not stored: some lines may be read again");
        }
    }
}

/// A place that could not be looked into for files: a lane that ends with what is wrong.
pub(crate) struct Unread {
    pub id: Arc<OriginId>,
    pub error: Option<Error>,
}

#[async_trait]
impl Origin for Unread {
    fn id(&self) -> Arc<OriginId> {
        self.id.clone()
    }

    async fn read(&mut self, _: ReadLimit) -> Result<Read> {
        self.error.take().map_or(Ok(Read::End), Err)
    }

    async fn commit(&mut self, _: Position) -> Result<()> {
        Ok(())
    }

    async fn seek(&mut self, _: Position) -> Result<()> {
        Ok(())
    }
}
