//! Sources: they open an origin per partition; the graph runs a lane over each.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, watch};

use super::{BuildContext, Finding, ProbeContext, Problems, Resource};
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Codec, Event, OriginId, Position};

/// A source's options.
#[typetag::deserialize(tag = "type")]
#[async_trait]
pub trait SourceConfig: Debug + Send + Sync {
    /// Reports every problem of the options that their types cannot express.
    fn check(&self, _problems: &mut Problems) {}

    /// Whether two runs over the same input read the same events in the same order, and then end.
    fn is_deterministic(&self) -> bool {
        false
    }

    /// Whether all its events come by one lane, whatever its peer looks like.
    fn has_one_lane(&self) -> bool {
        false
    }

    /// Whether it knows of its events when they happened, or came. Where it does not they all happen at one moment.
    fn knows_time(&self) -> bool {
        true
    }

    /// How the bodies of its events are to be read.
    fn codec(&self) -> Result<Codec> {
        Ok(Codec::Json)
    }

    /// What it reads or listens on outside of the graph, where that is known before anything starts. The graph is checked for nodes that
    /// exclude each other, and for output that is read again.
    fn resources(&self) -> Vec<Resource> {
        Vec::new()
    }

    /// For `weir explain`: how it reads, and what a commit means there. One line.
    fn explain(&self) -> String {
        String::new()
    }

    /// For `weir doctor`: asks the peer whether it will work, without changing anything there. Every question ends
    /// within the context's limit.
    async fn probe(&self, _context: &ProbeContext) -> Vec<Finding> {
        Vec::new()
    }

    /// Makes the source. It need not reach its peer yet.
    async fn build(&self, context: &BuildContext) -> Result<Box<dyn Source>>;
}

/// A source at work.
#[async_trait]
pub trait Source: Send {
    /// Opens lanes as partitions come and go. Returns when there is nothing more to read (bounded
    /// sources) and all its lanes have ended, or soon after [`Lanes::stopping`] resolves.
    async fn run(self: Box<Self>, lanes: Lanes) -> Result<()>;
}

/// How much one read may return.
#[derive(Debug, Clone, Copy)]
pub struct ReadLimit {
    /// Events at most.
    pub events: usize,
    /// Bytes at most, except that a single larger event is returned alone.
    pub bytes: usize,
}

/// What a read gave.
#[derive(Debug)]
pub enum Read {
    /// At least one event, in order of position. Positions rise within an origin; gaps are fine.
    Events(Vec<Event>),
    /// At least one event that came from another origin before and keeps the place it had there.
    Again(Again),
    /// There is no more and never will be.
    End,
}

/// Events out of a log that is not their own: dead letters that are tried again.
#[derive(Debug)]
pub struct Again {
    /// Where all of them came from first: with their positions it gives their ids and metadata.
    pub origin: Arc<OriginId>,
    /// Where the first of them stands in the log that is read now; commits and seeks speak of this.
    pub first: Position,
    /// Where the last of them stands there.
    pub last: Position,
    /// The events.
    pub events: Vec<Event>,
}

impl Again {
    /// Events that stand in their own log; `None` where there are none.
    pub(crate) fn own(origin: Arc<OriginId>, events: Vec<Event>) -> Option<Again> {
        let (first, last) = (events.first()?.position, events.last()?.position);
        Some(Again { origin, first, last, events })
    }
}

/// One partition of a source: a log with positions.
#[async_trait]
pub trait Origin: Send {
    /// Its identity.
    fn id(&self) -> Arc<OriginId>;

    /// Waits for events. Cancel-safe: a read that is dropped while waiting loses nothing.
    async fn read(&mut self, limit: ReadLimit) -> Result<Read>;

    /// Every event below `position` is settled: remember it, so that a restart begins there.
    async fn commit(&mut self, position: Position) -> Result<()>;

    /// The next read begins at `position`.
    async fn seek(&mut self, position: Position) -> Result<()>;

    /// What the lane shall hand back with `position` to [`resume`](Self::resume) when it starts again, such as by what the
    /// log is known again. Empty where the position says it all.
    fn bookmark(&self, _position: Position) -> Vec<u8> {
        Vec::new()
    }

    /// The lane remembers everything below `position` from an earlier run, and `bookmark` is what was asked for then: the
    /// first read begins there, whatever was committed. An origin that nobody can read again begins with what is new.
    async fn resume(&mut self, position: Position, _bookmark: &[u8]) -> Result<()> {
        self.seek(position).await
    }

    /// Where the next read begins, where that can be found out before anything is read: only a lane that knows where it
    /// stands can be asked to step over a record.
    async fn position(&mut self) -> Option<Position> {
        None
    }

    /// How many events of the log are still to be read, where that is known, for the lag metric.
    fn lag(&self) -> Option<u64> {
        None
    }

    /// The lane ends: makes durable what was committed. After an error it is read again, and the run fails.
    async fn close(&mut self) -> Result<()> {
        Ok(())
    }

    /// Every event was read and settled under `--once`: the next run begins anew.
    async fn complete(&mut self) -> Result<()> {
        Ok(())
    }
}

/// A request to run a lane, as the graph receives it.
pub(crate) struct OpenLane {
    pub origin: Box<dyn Origin>,
    pub stop: watch::Receiver<Option<Duration>>,
    pub ended: watch::Sender<Option<LaneEnd>>,
}

/// Lanes that a source opens together.
pub(crate) struct Opening {
    pub lanes: Vec<OpenLane>,
    /// The source has no more for now.
    pub is_all: bool,
}

/// How a lane ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LaneEnd {
    /// All that was read is settled and committed.
    Clean,
    /// Something was left unsettled; it will be read again by whoever reads next.
    Unsettled,
    /// The origin gave an error.
    Broken(String),
}

/// A source's way to the graph.
#[derive(Clone)]
pub struct Lanes {
    pub(crate) open: mpsc::Sender<Opening>,
    pub(crate) stopping: watch::Receiver<bool>,
}

impl Lanes {
    /// Starts a lane over `origin`, and more are to follow: where lanes come together, event time waits for them. The last
    /// is opened by [`open_all`](Self::open_all).
    pub async fn open(&self, origin: Box<dyn Origin>) -> Result<LaneHandle> {
        let (lane, handle) = Self::request(origin);
        self.open.send(Opening { lanes: vec![lane], is_all: false }).await.map_err(|_| gone())?;
        Ok(handle)
    }

    /// Starts a lane over each of these, which are all there are for now. None of them is read before all are known.
    pub async fn open_all(&self, origins: Vec<Box<dyn Origin>>) -> Result<Vec<LaneHandle>> {
        let (lanes, handles) = origins.into_iter().map(Self::request).unzip();
        self.open.send(Opening { lanes, is_all: true }).await.map_err(|_| gone())?;
        Ok(handles)
    }

    /// The same from a thread outside the runtime, such as a client library's rebalance callback.
    pub fn open_all_blocking(&self, origins: Vec<Box<dyn Origin>>) -> Result<Vec<LaneHandle>> {
        let (lanes, handles) = origins.into_iter().map(Self::request).unzip();
        self.open.blocking_send(Opening { lanes, is_all: true }).map_err(|_| gone())?;
        Ok(handles)
    }

    /// Starts the one lane of a source.
    pub async fn open_one(&self, origin: Box<dyn Origin>) -> Result<LaneHandle> {
        let (lane, handle) = Self::request(origin);
        self.open.send(Opening { lanes: vec![lane], is_all: true }).await.map_err(|_| gone())?;
        Ok(handle)
    }

    /// The same; waits for its end.
    pub async fn run_one(&self, origin: Box<dyn Origin>) -> Result<()> {
        self.open_one(origin).await?.ended().await.map(drop)
    }

    /// Lanes with no graph behind them, and the other end; for tests of one source.
    pub fn detached() -> (Lanes, DetachedLanes) {
        let (open, opened) = mpsc::channel(64);
        let (stop, stopping) = watch::channel(false);
        (Lanes { open, stopping }, DetachedLanes { opened, waiting: Vec::new(), stop })
    }

    fn request(origin: Box<dyn Origin>) -> (OpenLane, LaneHandle) {
        let (stop, stop_seen) = watch::channel(None);
        let (ended, end_seen) = watch::channel(None);
        (OpenLane { origin, stop: stop_seen, ended }, LaneHandle { stop, ended: end_seen })
    }

    /// Resolves when the graph is to stop. The graph drains the lanes itself; the source then returns.
    pub async fn stopping(&self) {
        let mut stopping = self.stopping.clone();
        // An error means the graph is gone, which is stopping, too.
        let _ = stopping.wait_for(|stop| *stop).await;
    }

    /// Whether the graph is to stop, for loops outside the runtime.
    pub fn is_stopping(&self) -> bool {
        *self.stopping.borrow() || self.stopping.has_changed().is_err()
    }
}

fn gone() -> Error {
    Error::new(ErrorKind::Internal, "open lane", "the graph has stopped")
}

/// A running lane, as its source sees it. Dropping the handle leaves the lane running.
pub struct LaneHandle {
    stop: watch::Sender<Option<Duration>>,
    ended: watch::Receiver<Option<LaneEnd>>,
}

impl LaneHandle {
    /// Asks the lane to read no more and to settle and commit what it has, for at most `limit`.
    pub fn stop(&self, limit: Duration) {
        // Fails only when the lane has ended.
        let _ = self.stop.send(Some(limit));
    }

    /// Waits for the lane's end. `Ok(true)`: everything it read is settled and committed.
    pub async fn ended(&mut self) -> Result<bool> {
        match self.ended.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(LaneEnd::Clean)) => Ok(true),
            Ok(Some(LaneEnd::Broken(why))) => Err(Error::new(ErrorKind::Unavailable, "read", why.clone())),
            _ => Ok(false),
        }
    }
}

/// The graph's end of [`Lanes::detached`].
pub struct DetachedLanes {
    opened: mpsc::Receiver<Opening>,
    /// Opened together with one that was handed out.
    waiting: Vec<OpenLane>,
    stop: watch::Sender<bool>,
}

impl DetachedLanes {
    /// The next lane the source opens; `None` when the source is gone.
    pub async fn next(&mut self) -> Option<DetachedLane> {
        while self.waiting.is_empty() {
            self.waiting = self.opened.recv().await?.lanes;
        }
        let OpenLane { origin, stop, ended } = self.waiting.remove(0);
        Some(DetachedLane { origin, end: DetachedEnd { stop, ended } })
    }

    /// Asks the source to stop, as a graph does.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }
}

/// A lane a test runs by hand.
pub struct DetachedLane {
    /// What the source opened.
    pub origin: Box<dyn Origin>,
    /// How the lane is told to stop, and tells its end.
    pub end: DetachedEnd,
}

/// The end of a lane a test runs by hand. Dropping it ends the lane unsettled.
pub struct DetachedEnd {
    stop: watch::Receiver<Option<Duration>>,
    ended: watch::Sender<Option<LaneEnd>>,
}

impl DetachedEnd {
    /// Resolves when the source asks the lane to stop.
    pub async fn asked(&mut self) {
        // The handle may be gone, and then nobody can ask.
        if self.stop.wait_for(Option::is_some).await.is_err() {
            std::future::pending().await
        }
    }

    /// The lane has ended, with all that was read settled and committed.
    pub fn clean(self) {
        self.ended.send_replace(Some(LaneEnd::Clean));
    }
}
