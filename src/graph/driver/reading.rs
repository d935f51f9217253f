//! The reading part of a lane's shell: what is waited for, and what is done when it comes.

use std::time::Duration;

use super::{Driver, NOTHING_READ, READ_LIMIT, ReadingOver, changed, send_all};
use crate::component::{Again, Read, ReadLimit};
use crate::delivery::MemoryPermit;
use crate::graph::lane::ProcessingTime;
use crate::graph::member::Member;
use crate::graph::plan::origin_name;
use crate::graph::prepare::{admitted, prepared};
use crate::graph::spot::Skip;
use crate::state::Pressure;

/// Batches a lane may have open; beyond it, it waits for the oldest.
const OPEN_BATCHES: usize = 256;
/// What goes with an event to a state partition, about: its key and the values that are found out of it, and the lists.
const EXCHANGED: usize = 512;
/// How often a lane that is not silent looks whether it is, at least.
const LOOK: Duration = Duration::from_secs(1);

impl Driver {
    /// Reads and processes until there is no more, or a stop, or an error of the origin.
    pub(super) async fn read_all(&mut self) -> ReadingOver {
        let settlements = self.lane.settlements();
        loop {
            if let Err(error) = self.settle().await {
                return ReadingOver::Broken(error);
            }
            let careful = self.lane.is_careful_at(self.next);
            // With epochs there is a checkpoint to go back to: nothing has to be settled first.
            let most_open = if careful && self.member.is_none() { 1 } else { OPEN_BATCHES };
            let pressure = self.lane.pressure();
            if pressure >= Pressure::High {
                self.member.iter().for_each(Member::hurry);
                // Who writes the checkpoint waits on this very thread, where there is always more to read.
                tokio::task::yield_now().await;
            }
            let may_read = self.lane.open_batches() < most_open && !self.awaits_rewind() && pressure != Pressure::Full;
            let limit = if careful { ReadLimit { events: 1, ..READ_LIMIT } } else { READ_LIMIT };
            let is_lost = self.spot.next().is_none();
            let until_idle = if may_read { self.until_idle() } else { None };
            let until_asked = self.asks_at.saturating_sub(self.shared.clock.uptime());
            let until_tick = if may_read { self.until_tick() } else { None };
            let until_asked_again = self.until_asked_again();
            if until_asked_again.is_none() && may_read {
                match self.try_seek().await {
                    Ok(true) => {}
                    Ok(false) => continue,
                    Err(error) => return ReadingOver::Broken(error),
                }
            }
            let until_well = self.until_well();
            let read = tokio::select! {
                biased;
                limit = self.stop.wait() => return ReadingOver::Stopped(limit),
                () = settlements.changed() => continue,
                () = changed(&mut self.member) => continue,
                skip = self.spot.asked() => match self.skip(skip).await {
                    Ok(()) => continue,
                    Err(error) => return ReadingOver::Broken(error),
                },
                () = async { self.shared.clock.sleep(until_idle.unwrap_or_default()).await }, if until_idle.is_some() => {
                    if self.until_idle().is_some_and(|until| until.is_zero()) {
                        self.say_idle().await;
                    }
                    continue;
                }
                () = async { self.shared.clock.sleep(until_well.unwrap_or_default()).await }, if until_well.is_some() => {
                    self.check().await;
                    continue;
                }
                () = async { self.shared.clock.sleep(until_tick.unwrap_or_default()).await }, if until_tick.is_some() => {
                    self.tick().await;
                    continue;
                }
                // Made when it is waited for: a lane that has read never pays for it.
                () = async { self.shared.clock.sleep(until_asked).await }, if is_lost => {
                    self.asks_at = self.shared.clock.uptime() + NOTHING_READ;
                    self.find_out().await;
                    continue;
                }
                () = async { self.shared.clock.sleep(until_asked_again.unwrap_or_default()).await }, if until_asked_again.is_some() => continue,
                read = self.origin.read(limit), if may_read && until_asked_again.is_none() => read,
            };
            let read = match read {
                Ok(Read::Events(events)) => Again::own(self.lane.origin().clone(), events),
                Ok(Read::Again(again)) => Some(again),
                Ok(Read::End) => return ReadingOver::Ended,
                Err(error) if error.is_temporary() => {
                    self.say("it cannot be read", &error);
                    self.back_off();
                    continue;
                }
                Err(error) => return ReadingOver::Broken(error.to_string()),
            };
            self.is_well();
            let Some(read) = read else { continue };
            let exchanged = if self.lane.exchanges().next().is_some() { EXCHANGED } else { 0 };
            let sizes = read.events.iter().map(|event| (event.body.size(), event.size_beside_body() + exchanged));
            let (bytes, beside) = sizes.fold((0, 0), |(bytes, beside), (body, rest)| (bytes + body, beside + rest));
            let permit = match self.permit(beside + bytes).await {
                Ok(Some(permit)) => permit,
                // Everything from the last checkpoint on is read again, and this with it.
                Ok(None) => continue,
                Err(over) => {
                    self.to_read_again = self.to_read_again.max(Some(read.last.next()));
                    return over;
                }
            };
            self.lane.source().books.bytes(bytes);
            if let Some(member) = &mut self.member {
                member.touch(read.first);
            }
            self.silent_since = None;
            self.next = read.last.next();
            self.spot.note(self.next, self.origin.lag());
            self.look_at_clock();
            let from = self.from();
            let Driver { lane, shared, outgoing, stop, next, to_read_again, .. } = self;
            let trouble = lane.source().trouble.clone();
            let process_and_send = async {
                let events = admitted(prepared(read.events, &trouble, &*shared.clock).await);
                lane.process_again(Again { events, ..read }, Some(permit), outgoing);
                send_all(shared, lane, outgoing, from).await;
            };
            tokio::pin!(process_and_send);
            // A sink that takes nothing must not keep the lane from stopping; what it has not taken fails.
            tokio::select! {
                () = &mut process_and_send => {}
                limit = stop.wait() => {
                    if tokio::time::timeout(limit, process_and_send).await.is_err() {
                        *to_read_again = Some(*next);
                    }
                    return ReadingOver::Stopped(limit);
                }
            }
        }
    }

    /// Waits for memory. Barriers do not wait with it: what other lanes sent behind theirs may be what holds the memory.
    /// `None`: all lanes went back meanwhile.
    async fn permit(&mut self, size: usize) -> Result<Option<MemoryPermit>, ReadingOver> {
        let (settlements, memory) = (self.lane.settlements(), self.shared.memory.clone());
        // It keeps its place in the row, whatever else happens meanwhile.
        let permit = memory.acquire(size);
        tokio::pin!(permit);
        loop {
            let generation = self.member.as_ref().map(|member| member.tag);
            tokio::select! {
                biased;
                permit = &mut permit => return Ok(Some(permit)),
                limit = self.stop.wait() => {
                    let permit = tokio::time::timeout(limit, permit).await;
                    return permit.map(Some).map_err(|_late| ReadingOver::Stopped(Duration::ZERO));
                }
                () = changed(&mut self.member) => self.follow().await.map_err(ReadingOver::Broken)?,
                () = settlements.changed(), if generation.is_some() => self.settle().await.map_err(ReadingOver::Broken)?,
            }
            if self.member.as_ref().map(|member| member.tag) != generation || self.awaits_rewind() {
                return Ok(None);
            }
        }
    }

    /// How long until it is to be looked whether event time still waits for this lane; zero: it need not any more. The
    /// moment does not depend on what else wakes the lane.
    fn until_idle(&mut self) -> Option<Duration> {
        let is_waited_for = self.member.is_some() && self.lane.is_timed();
        let limit = self.shared.idle_timeout.filter(|_| is_waited_for)?;
        // Caught up, with a peer that answers: an outage is no silence.
        if self.origin.lag() != Some(0) || self.said.is_some() || self.lane.source().trouble.get().is_some() {
            self.silent_since = None;
            return Some(limit.min(LOOK));
        }
        let now = self.shared.clock.uptime();
        let since = *self.silent_since.get_or_insert(now);
        Some((since + limit).saturating_sub(now))
    }

    /// Event time need not wait for this lane. It says so again and again: others may have become silent meanwhile.
    async fn say_idle(&mut self) {
        self.silent_since = Some(self.shared.clock.uptime());
        self.look_at_clock();
        let begun = self.member.as_mut().filter(|member| member.has_begun());
        let position = begun.map(|member| {
            member.touch(self.next);
            self.next
        });
        self.lane.idle(position, &mut self.outgoing);
        self.send().await;
    }

    /// How long until processing time is to be told, if somebody waits for that: a lane with a place to go back to tells it.
    fn until_tick(&self) -> Option<Duration> {
        let ticks = self.shared.ticks.filter(|_| !self.shared.once)?;
        let member = self.member.as_ref()?;
        member.has_begun().then(|| (self.ticked + ticks).saturating_sub(self.shared.clock.uptime()))
    }

    /// Notes what time it is, if somebody waits for that.
    fn look_at_clock(&mut self) {
        if self.shared.ticks.is_some() {
            let clock = &self.shared.clock;
            self.ticked = clock.uptime();
            let of_data = self.shared.once;
            let now = if of_data { ProcessingTime::OfData } else { ProcessingTime::Is(clock.now()) };
            self.lane.set_processing_time(now);
        }
    }

    async fn tick(&mut self) {
        self.look_at_clock();
        if let Some(member) = &mut self.member {
            member.touch(self.next);
        }
        self.lane.tick(self.next, &mut self.outgoing);
        self.send().await;
    }

    /// Steps over a record, if it is the one to be read next.
    async fn skip(&mut self, skip: Skip) -> Result<(), String> {
        let Skip { position, reason, answer } = skip;
        if self.spot.next().is_none() {
            self.find_out().await;
        }
        let refused = match self.spot.next() {
            Some(next) if next == position => None,
            Some(next) => Some(format!("the lane stands at {}, not at {}: nothing was skipped", next.0, position.0)),
            None => Some("it is not known where the lane stands: nothing was skipped".to_owned()),
        };
        if let Some(refused) = refused {
            let _gone = answer.send(Err(refused));
            return Ok(());
        }
        tracing::warn!(lane = origin_name(self.lane.origin()), position = position.0, reason, "stepping over a record");
        if let Some(member) = &mut self.member {
            member.touch(position);
        }
        self.lane.skip(position, reason, &mut self.outgoing);
        self.send().await;
        self.skipped = Some((position, answer));
        self.seek(position.next()).await
    }

    /// Asks the origin where it stands, when no event has told yet.
    async fn find_out(&mut self) {
        if let Some(position) = self.origin.position().await {
            self.spot.note(position, self.origin.lag());
        }
    }
}
