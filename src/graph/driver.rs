//! The shell around a [`Lane`]: it waits, reads, hands over and commits. No decision is made here that the
//! simulator does not make, too.

mod reading;
mod settling;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use tokio::sync::{oneshot, watch};

use super::exchange::{Content, InputId, Tag};
use super::lane::Lane;
use super::member::Member;
use super::plan::origin_name;
use super::route::Outgoing;
use super::shared::Shared;
use super::spot::Spot;
use crate::component::{LaneEnd, Origin, ReadLimit};
use crate::error::Result;
use crate::event::Position;
use crate::failpoint::failpoint;
use crate::state::Resume;

/// What one read may hold. Large enough that the work per batch vanishes, small enough that many lanes fit
/// the memory budget.
pub(crate) const READ_LIMIT: ReadLimit = ReadLimit { events: 1024, bytes: 256 << 10 };
/// First pause before reading again what failed; doubles up to the last, with jitter.
const FIRST_BACK_OFF: Duration = Duration::from_millis(50);
const LAST_BACK_OFF: Duration = Duration::from_secs(10);

/// How long to pause after `failures` failures in a row: doubling, with full jitter above half.
pub(crate) fn back_off(failures: u32) -> Duration {
    let ceiling = FIRST_BACK_OFF.saturating_mul(1 << failures.min(16)).min(LAST_BACK_OFF);
    ceiling.mul_f64(rand::rng().random_range(0.5..1.0))
}

/// One lane at work.
pub(crate) struct Driver {
    pub lane: Lane,
    pub origin: Box<dyn Origin>,
    pub shared: Arc<Shared>,
    stop: Stop,
    outgoing: Vec<Outgoing>,
    /// What is read next.
    next: Position,
    /// Events that were read, failed, and wait to be read again: a lane that ends now is not clean.
    to_read_again: Option<Position>,
    failures: u32,
    spot: Arc<Spot>,
    /// Its part in the graph's epochs, if something behind it is remembered.
    member: Option<Member>,
    /// In which generation something failed here that is to be read again in the next.
    failed: Option<Tag>,
    /// When it told processing time last.
    ticked: Duration,
    /// It has said that it has nothing for a while.
    is_idle: bool,
    /// Everything was read, and settled.
    has_ended: bool,
    /// A record that was stepped over, until that is committed.
    skipped: Option<(Position, oneshot::Sender<Result<(), String>>)>,
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.lane.source().lanes().retain(|spot| !Arc::ptr_eq(spot, &self.spot));
    }
}

/// Why the reading part of a lane is over.
enum ReadingOver {
    Ended,
    Stopped(Duration),
    Broken(String),
}

impl Driver {
    pub fn new(lane: Lane, origin: Box<dyn Origin>, shared: Arc<Shared>, stop: Stop, member: Option<Member>) -> Driver {
        let spot = Arc::new(Spot::new(origin.id()));
        lane.source().lanes().push(spot.clone());
        Driver {
            lane,
            origin,
            shared,
            stop,
            outgoing: Vec::new(),
            next: Position(0),
            to_read_again: None,
            failures: 0,
            spot,
            member,
            failed: None,
            ticked: Duration::ZERO,
            is_idle: false,
            has_ended: false,
            skipped: None,
        }
    }

    /// Runs the lane to its end.
    ///
    /// `resume` is where what the lane remembers ends.
    pub async fn run(mut self, resume: Option<Resume>) -> LaneEnd {
        let name = origin_name(self.lane.origin());
        tracing::debug!(lane = &*name, "lane opened");
        let end = match self.begin(resume).await {
            Ok(()) => self.work().await,
            Err(why) => LaneEnd::Broken(why),
        };
        if let Some(member) = self.member.take() {
            member.epochs.leave(member.input, end == LaneEnd::Clean);
            self.close(&member).await;
        }
        if end == LaneEnd::Clean
            && self.shared.once
            && let Err(error) = self.origin.complete().await
        {
            return LaneEnd::Broken(error.to_string());
        }
        tracing::debug!(lane = &*name, ?end, "lane ended");
        end
    }

    /// Tells the state partitions that nothing more comes from here. Where there would have been more, event time stands
    /// still for it, so that what somebody else reads on with is not late; but not for ever.
    async fn close(&mut self, member: &Member) {
        let (input, waits) = (member.input, !self.has_ended);
        self.lane.tell_shards(&mut self.outgoing, || Content::Close { waits });
        // The generation as it is now: what is left of one in which something failed is worth nothing.
        self.shared.send(&mut self.outgoing, (input, member.latest_tag())).await;
        let Some(limit) = self.shared.idle_timeout.filter(|_| waits) else { return };
        let (shared, epochs, mut idle) = (self.shared.clone(), member.epochs.clone(), Vec::new());
        self.lane.tell_shards(&mut idle, || Content::Idle);
        if !idle.is_empty() {
            tokio::spawn(async move {
                shared.clock.sleep(limit).await;
                let tag = epochs.signal().borrow().tag;
                shared.send(&mut idle, (input, tag)).await;
            });
        }
    }

    async fn work(&mut self) -> LaneEnd {
        loop {
            match self.read_all().await {
                ReadingOver::Broken(why) => {
                    // What was read before is good.
                    self.drain(self.shared.drain).await;
                    return LaneEnd::Broken(why);
                }
                ReadingOver::Stopped(limit) => return self.drain(limit).await,
                // A rewind while draining means there is more to read after all.
                ReadingOver::Ended => match self.settle_all().await {
                    ControlFlow::Continue(()) => continue,
                    ControlFlow::Break(end) => return end,
                },
            }
        }
    }

    /// Begins behind what the lane remembers.
    async fn begin(&mut self, resume: Option<Resume>) -> Result<(), String> {
        let Some(resume) = resume else { return Ok(()) };
        let position = resume.position;
        self.resume(resume).await.map_err(|error| error.to_string())?;
        tracing::info!(lane = origin_name(self.lane.origin()), position = position.0, "going on behind the checkpoint");
        self.next = position;
        self.lane.begin(position, &mut self.outgoing);
        self.send().await;
        Ok(())
    }

    /// Who it is to state partitions.
    fn from(&self) -> (InputId, Tag) {
        self.member.as_ref().map_or_else(Default::default, |member| (member.input, member.tag))
    }

    /// Hands over what the lane put out.
    async fn send(&mut self) {
        let from = self.from();
        send_all(&self.shared, &mut self.lane, &mut self.outgoing, from).await;
    }

    /// Begins behind what the lane remembers, whatever was committed; waits while the origin cannot be reached.
    async fn resume(&mut self, Resume { position, bookmark }: Resume) -> Result<()> {
        loop {
            match self.origin.resume(position, &bookmark).await {
                Err(error) if error.is_temporary() => {
                    tracing::warn!(lane = origin_name(self.lane.origin()), %error, "cannot go on yet, trying again");
                    self.pause().await;
                }
                result => return result,
            }
        }
    }

    async fn commit(&mut self, position: Position) {
        if let Some((_, answer)) = self.skipped.take_if(|(skipped, _)| *skipped < position) {
            let _gone = answer.send(Ok(()));
        }
        failpoint("commit");
        if let Err(error) = self.origin.commit(position).await {
            // Committing later, or not at all, costs duplicates after a restart and nothing else.
            tracing::warn!(lane = origin_name(self.lane.origin()), %error, "commit failed");
        }
    }

    async fn pause(&mut self) {
        let pause = self.shared.clock.sleep(back_off(self.failures));
        self.failures = self.failures.saturating_add(1);
        tokio::select! {
            () = pause => {}
            _ = self.stop.wait() => {}
        }
    }
}

/// Hands over what a lane put out, and what it goes on to put out.
async fn send_all(shared: &Shared, lane: &mut Lane, outgoing: &mut Vec<Outgoing>, from: (InputId, Tag)) {
    shared.send(outgoing, from).await;
    while lane.go_on(outgoing) {
        shared.send(outgoing, from).await;
    }
}

/// Resolves when the graph's epochs may ask for something.
async fn changed(member: &mut Option<Member>) {
    match member {
        Some(member) => member.changed().await,
        None => std::future::pending().await,
    }
}

/// Who may stop a lane: its source (a revoked partition) and the graph (shutdown).
pub(crate) struct Stop {
    pub source: watch::Receiver<Option<Duration>>,
    pub graph: watch::Receiver<Option<Duration>>,
}

impl Stop {
    /// Resolves when the lane is to stop, with the limit for draining.
    async fn wait(&mut self) -> Duration {
        tokio::select! {
            limit = asked(&mut self.source) => limit,
            limit = asked(&mut self.graph) => limit,
        }
    }
}

async fn asked(stop: &mut watch::Receiver<Option<Duration>>) -> Duration {
    let limit = stop.wait_for(Option::is_some).await.ok().and_then(|limit| *limit);
    match limit {
        Some(limit) => limit,
        // Whoever could ask is gone without having asked.
        None => std::future::pending().await,
    }
}
