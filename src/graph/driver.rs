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
use crate::component::{LaneEnd, Origin, ReadLimit, Trouble};
use crate::error::{Error, Result};
use crate::event::Position;
use crate::failpoint::failpoint;
use crate::state::Resume;

/// What one read may hold. Large enough that the work per batch vanishes, small enough that many lanes fit
/// the memory budget.
pub(crate) const READ_LIMIT: ReadLimit = ReadLimit { events: 1024, bytes: 256 << 10 };
/// How long a lane that has read nothing yet waits before it asks where it stands.
const NOTHING_READ: Duration = Duration::from_secs(3);
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
    /// The origin failed: it is not asked again before this.
    asks_again_at: Option<Duration>,
    /// Where it reads next the origin has not been told yet.
    is_unsought: bool,
    spot: Arc<Spot>,
    /// Its part in the graph's epochs, if something behind it is remembered.
    member: Option<Member>,
    /// In which generation something failed here that is to be read again in the next.
    failed: Option<Tag>,
    /// When it told processing time last.
    ticked: Duration,
    /// Since when it has had nothing, or when it last said so.
    silent_since: Option<Duration>,
    /// When the origin is to be asked where it stands, while no event has told.
    asks_at: Duration,
    /// Everything was read, and settled.
    has_ended: bool,
    /// A record that was stepped over, until that is committed.
    skipped: Option<(Position, oneshot::Sender<Result<(), String>>)>,
    /// What could not be committed.
    uncommitted: Option<Position>,
    /// The word of this lane on its origin, and when it said something that may hold still.
    trouble: Trouble,
    said: Option<Duration>,
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.trouble.clear();
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
        let trouble = lane.source().trouble.lane(&origin_name(lane.origin()));
        lane.source().lanes().push(spot.clone());
        let asks_at = shared.clock.uptime() + NOTHING_READ;
        Driver {
            lane,
            origin,
            shared,
            stop,
            outgoing: Vec::new(),
            next: Position(0),
            to_read_again: None,
            failures: 0,
            asks_again_at: None,
            is_unsought: false,
            spot,
            member,
            failed: None,
            ticked: Duration::ZERO,
            silent_since: None,
            asks_at,
            has_ended: false,
            skipped: None,
            uncommitted: None,
            trouble,
            said: None,
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
        if let Err(why) = self.store().await {
            tracing::error!(lane = &*name, why, "what is settled is not stored: it comes again with the next start");
            // Whoever takes the partition over begins at an earlier position.
            let is_taken = self.stop.source.borrow().is_some();
            if end == LaneEnd::Clean {
                return if is_taken { LaneEnd::Unsettled } else { LaneEnd::Broken(why) };
            }
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
        self.lane.tell_shards(&mut idle, || Content::Idle(None));
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
        (self.next, self.is_unsought) = (position, true);
        self.resume(resume).await?;
        self.is_unsought = false;
        tracing::info!(lane = origin_name(self.lane.origin()), position = position.0, "going on behind the checkpoint");
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

    /// Begins behind what the lane remembers, whatever was committed; waits while the origin cannot be reached. Checkpoints
    /// of the graph do not wait with it.
    async fn resume(&mut self, Resume { position, bookmark }: Resume) -> Result<(), String> {
        loop {
            match self.origin.resume(position, &bookmark).await {
                Err(error) if error.is_temporary() && !self.stop.is_asked() => {
                    self.say("it cannot go on yet", &error);
                    self.back_off();
                    while let Some(until) = self.until_asked_again().filter(|_| !self.stop.is_asked()) {
                        let pause = self.shared.clock.sleep(until);
                        tokio::select! {
                            () = pause => {}
                            _ = self.stop.wait() => {}
                            () = changed(&mut self.member) => self.follow().await?,
                        }
                    }
                }
                result => return result.inspect(|()| self.is_well()).map_err(|error| error.to_string()),
            }
        }
    }

    /// The origin is not asked again for a while, in which all else goes on.
    fn back_off(&mut self) {
        self.asks_again_at = Some(self.shared.clock.uptime() + back_off(self.failures));
        self.failures = self.failures.saturating_add(1);
    }

    /// How long until the origin is asked again, if it failed; `None`: it may be asked now.
    fn until_asked_again(&mut self) -> Option<Duration> {
        let until = self.asks_again_at?.saturating_sub(self.shared.clock.uptime());
        self.asks_again_at = self.asks_again_at.filter(|_| !until.is_zero());
        Some(until).filter(|until| !until.is_zero())
    }

    /// The next read begins there; waits while the origin cannot be asked.
    async fn seek(&mut self, position: Position) -> Result<(), String> {
        loop {
            match self.origin.seek(position).await {
                Ok(()) => break,
                Err(error) if error.is_temporary() && !self.stop.is_asked() => {
                    self.say("it cannot go back yet", &error);
                    self.pause().await;
                }
                Err(error) => return Err(error.to_string()),
            }
        }
        self.is_well();
        self.is_unsought = false;
        self.stand_at(position);
        Ok(())
    }

    /// This is read next.
    fn stand_at(&mut self, position: Position) {
        self.next = position;
        self.silent_since = None;
        self.spot.note(position, self.origin.lag());
    }

    /// Tells the origin what is read next, where it does not know; false: it cannot be told now.
    async fn try_seek(&mut self) -> Result<bool, String> {
        if !self.is_unsought {
            return Ok(true);
        }
        match self.origin.seek(self.next).await {
            Ok(()) => {
                self.is_unsought = false;
                self.is_well();
                self.spot.note(self.next, self.origin.lag());
                Ok(true)
            }
            Err(error) if error.is_temporary() => {
                self.say("it cannot go back yet", &error);
                self.back_off();
                Ok(false)
            }
            Err(error) => Err(error.to_string()),
        }
    }

    async fn commit(&mut self, position: Position) {
        if let Some((_, answer)) = self.skipped.take_if(|(skipped, _)| *skipped < position) {
            let _gone = answer.send(Ok(()));
        }
        failpoint("commit");
        match self.origin.commit(position).await {
            Ok(()) => {
                if self.uncommitted.take().is_some() {
                    self.is_well();
                }
            }
            Err(error) => {
                // Until it succeeds it costs duplicates after a restart and nothing else.
                self.say("what is settled cannot be committed", &error);
                self.uncommitted = Some(position);
            }
        }
    }

    /// Tries once more what could not be committed.
    async fn commit_rest(&mut self) {
        if let Some(position) = self.uncommitted {
            self.commit(position).await;
        }
    }

    /// The lane ends: all that is settled is to be durably so.
    async fn store(&mut self) -> Result<(), String> {
        self.commit_rest().await;
        if let (Some(_), Some(why)) = (self.uncommitted, self.trouble.get()) {
            return Err(format!("{}: {why}", origin_name(self.lane.origin())));
        }
        self.origin.close().await.map_err(|error| error.to_string())
    }

    /// How long until an origin that failed, and gave no word since, is taken to be well.
    fn until_well(&self) -> Option<Duration> {
        if self.asks_again_at.is_some() || self.is_unsought {
            return None;
        }
        let waited = |said| self.shared.clock.uptime().saturating_sub(said);
        self.said.map(|said| LAST_BACK_OFF.saturating_sub(waited(said)))
    }

    /// Nothing failed for a while: what is asked for last waits for events.
    async fn check(&mut self) {
        self.said = self.said.map(|_| self.shared.clock.uptime());
        self.commit_rest().await;
        self.is_well();
    }

    /// The origin does not do what it is asked for: the source is not ready until it does.
    fn say(&mut self, what: &str, error: &Error) {
        let lane = origin_name(self.lane.origin());
        tracing::warn!(lane, %error, "{what}, trying again");
        self.trouble.set(format!("{what}: {error}"));
        self.said = Some(self.shared.clock.uptime());
    }

    /// It does, so far as is known.
    fn is_well(&mut self) {
        if self.said.is_some() && self.uncommitted.is_none() {
            self.trouble.clear();
            self.said = None;
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
    /// Whether the lane is to stop.
    fn is_asked(&self) -> bool {
        self.source.borrow().is_some() || self.graph.borrow().is_some()
    }

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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::component::{Read, async_trait};
    use crate::error::ErrorKind;
    use crate::event::OriginId;
    use crate::graph::epochs::Epochs;
    use crate::graph::horizon::Horizon;
    use crate::graph::plan::origin_of;
    use crate::graph::route::{Node, Panicked, Route};

    /// Refuses so many calls.
    #[derive(Clone, Default)]
    struct Stubborn(Arc<AtomicU32>);

    impl Stubborn {
        fn answer(&self) -> Result<()> {
            let refuses = self.0.try_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
            if refuses { Err(Error::temporary(ErrorKind::Io, "use the log", "not now")) } else { Ok(()) }
        }
    }

    #[async_trait]
    impl Origin for Stubborn {
        fn id(&self) -> Arc<OriginId> {
            origin_of("in", "log", 0)
        }
        async fn read(&mut self, _: ReadLimit) -> Result<Read> {
            self.answer()?;
            std::future::pending().await
        }
        async fn commit(&mut self, _: Position) -> Result<()> {
            self.answer()
        }
        async fn seek(&mut self, _: Position) -> Result<()> {
            self.answer()
        }
    }

    fn driver(origin: &Stubborn) -> (Driver, Trouble) {
        let node = Arc::new(Node { id: "in".into(), ..Node::default() });
        let route = Route {
            steps: Vec::new(),
            entry: Vec::new(),
            is_timed: false,
            horizon: Horizon::default(),
            poison: None,
            due: None,
        };
        let shared = Shared::bare(Vec::new());
        let stop = Stop { source: watch::channel(None).1, graph: watch::channel(None).1 };
        let trouble = node.trouble.clone();
        let lane = Lane::new(origin.id(), node, route);
        (Driver::new(lane, Box::new(origin.clone()), Arc::new(shared), stop, None), trouble)
    }

    #[tokio::test]
    async fn a_lane_that_cannot_go_back_for_a_while_does_so_later() {
        let origin = Stubborn::default();
        let (mut driver, trouble) = driver(&origin);
        origin.0.store(2, Ordering::Relaxed);
        driver.seek(Position(7)).await.unwrap();
        assert_eq!((driver.next, origin.0.load(Ordering::Relaxed), trouble.all()), (Position(7), 0, None));
    }

    /// Opens an epoch, and waits until it can be written.
    async fn completes(epochs: &Epochs) -> bool {
        epochs.touch();
        assert!(epochs.begin().is_some());
        let complete = async {
            while epochs.take_complete().is_none() {
                epochs.woken().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(3), complete).await.inspect(|()| epochs.written(true)).is_ok()
    }

    #[tokio::test]
    async fn a_lane_whose_origin_fails_holds_up_no_checkpoint() {
        let (origin, epochs) = (Stubborn::default(), Arc::new(Epochs::new(0)));
        let (mut driver, trouble) = driver(&origin);
        origin.0.store(u32::MAX, Ordering::Relaxed);
        let mut member = Member::join(epochs.clone(), epochs.input(), None);
        member.touch(Position(3));
        driver.member = Some(member);
        // From now on it pauses for five seconds or more.
        driver.failures = 16;
        let running = tokio::spawn(driver.run(None));
        let said = async {
            while !trouble.all().is_some_and(|all| all.contains("it cannot be read")) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(3), said).await.unwrap();
        assert!(completes(&epochs).await, "a barrier is followed while a read backs off");
        epochs.rewind(Panicked::Event);
        assert!(completes(&epochs).await, "and while it cannot go back");
        running.abort();
    }

    #[tokio::test]
    async fn a_commit_that_failed_is_tried_again_and_said_until_it_succeeds() {
        let origin = Stubborn::default();
        let (mut driver, trouble) = driver(&origin);
        origin.0.store(3, Ordering::Relaxed);
        driver.commit(Position(7)).await;
        let said = trouble.all().unwrap();
        assert!(said.contains("in:log/0: what is settled cannot be committed") && said.contains("not now"), "{said}");
        driver.check().await;
        assert!(trouble.all().is_some() && driver.until_well().is_some());
        assert!(driver.store().await.unwrap_err().contains("cannot be committed"), "the end of the lane says so");
        driver.check().await;
        assert_eq!((trouble.all(), driver.until_well(), driver.uncommitted), (None, None, None));
        driver.store().await.unwrap();
    }
}
