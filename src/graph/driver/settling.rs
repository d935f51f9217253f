//! The settling part of a lane's shell: what is done when batches have ended, and how a lane comes to its end.

use std::ops::ControlFlow;
use std::time::Duration;

use super::{Driver, changed};
use crate::component::LaneEnd;
use crate::event::Position;
use crate::graph::lane::Step;
use crate::graph::member::{Member, Task};
use crate::graph::plan::origin_name;
use crate::graph::route::Panicked;
use crate::state::Resume;

impl Driver {
    /// Does what the settlements so far ask for.
    pub(super) async fn settle(&mut self) -> Result<(), String> {
        while let Some(step) = self.lane.settle() {
            match (step, &mut self.member) {
                (Step::Commit(_), Some(member)) => {
                    self.failures = 0;
                    member.note_settled(&self.lane);
                }
                (Step::Commit(position), None) => {
                    self.failures = 0;
                    self.to_read_again = self.to_read_again.filter(|until| position < *until);
                    self.commit(position).await;
                }
                (Step::Rewind(_), Some(member)) => {
                    self.to_read_again = self.to_read_again.max(Some(self.next));
                    self.failed = Some(member.tag);
                    member.fail(Panicked::Event);
                }
                (Step::Rewind(position), None) => self.read_again(position),
            }
        }
        self.follow().await
    }

    /// Whether what would be read next is of no use: something in front of it failed.
    pub(super) fn awaits_rewind(&self) -> bool {
        let has_failed = |member: &Member| self.failed == Some(member.tag);
        self.lane.awaits_rewind() || self.member.as_ref().is_some_and(has_failed)
    }

    /// Reads from there again, after a pause in which barriers are followed.
    fn read_again(&mut self, position: Position) {
        tracing::warn!(lane = origin_name(self.lane.origin()), position = position.0, "reading again");
        self.to_read_again = self.to_read_again.max(Some(self.next));
        self.back_off();
        self.is_unsought = true;
        self.stand_at(position);
        // What was stepped over is to be read again, too.
        if let Some((_, answer)) = self.skipped.take() {
            let _gone = answer.send(Err("an event before it failed: ask once more".to_owned()));
        }
    }

    /// Does what the graph's epochs ask for.
    pub(super) async fn follow(&mut self) -> Result<(), String> {
        let Some(member) = &mut self.member else { return Ok(()) };
        if let Some(panicked) = self.lane.panicked() {
            self.to_read_again = self.to_read_again.max(Some(self.next));
            member.fail(panicked);
        }
        while let Some(member) = &mut self.member
            && let Some(task) = member.next(&mut self.lane)
        {
            match task {
                Task::Tell(epoch) => {
                    // Where it has gone back and the origin does not know yet, it stands where the last checkpoint says.
                    let position = (member.has_begun() && !self.is_unsought).then_some(self.next);
                    let place = position.map(|position| Resume { position, bookmark: self.origin.bookmark(position) });
                    member.tell(epoch, &mut self.lane, place, &mut self.outgoing);
                    self.send().await;
                }
                Task::Commit(position) => {
                    self.to_read_again = self.to_read_again.filter(|until| position < *until);
                    self.commit(position).await;
                }
                Task::Rewind(position, is_careful) => {
                    self.lane.rewind(is_careful.then_some(self.next));
                    if let Some(position) = position {
                        self.read_again(position);
                        self.lane.begin(position, &mut self.outgoing);
                        self.send().await;
                    }
                }
                Task::Break => return Err("the state cannot be written".to_owned()),
            }
        }
        Ok(())
    }

    /// After the end of the origin: everything that waits for time is due; waits until all is settled.
    pub(super) async fn settle_all(&mut self) -> ControlFlow<LaneEnd> {
        let settlements = self.lane.settlements();
        if let Some(member) = &mut self.member {
            member.touch(self.next);
            self.lane.end(self.next, &mut self.outgoing);
            self.send().await;
        }
        loop {
            let generation = self.member.as_ref().map(|member| member.tag);
            let before = self.next;
            if let Err(error) = self.settle().await {
                return ControlFlow::Break(LaneEnd::Broken(error));
            }
            if self.next != before || self.member.as_ref().map(|member| member.tag) != generation {
                return ControlFlow::Continue(());
            }
            if self.is_done() {
                self.has_ended = true;
                return ControlFlow::Break(LaneEnd::Clean);
            }
            self.shared.flush_sinks();
            tokio::select! {
                () = settlements.changed() => {}
                () = changed(&mut self.member) => {}
                limit = self.stop.wait() => return ControlFlow::Break(self.drain(limit).await),
            }
        }
    }

    /// Whether all is settled, and durable where something is remembered.
    fn is_done(&self) -> bool {
        if self.lane.open_batches() > 0 || self.awaits_rewind() {
            return false;
        }
        self.member.as_ref().is_none_or(Member::is_written)
    }

    /// Reads no more; settles and commits what it can within `limit`.
    pub(super) async fn drain(&mut self, limit: Duration) -> LaneEnd {
        let settlements = self.lane.settlements();
        let deadline = self.shared.clock.sleep(limit);
        tokio::pin!(deadline);
        self.shared.flush_sinks();
        let generation = self.member.as_ref().map(|member| member.tag);
        loop {
            // A failed batch is not read again here: it stays uncommitted for whoever reads next.
            if self.member.is_none() {
                while let Some(step) = self.lane.settle() {
                    match step {
                        Step::Rewind(_) => return LaneEnd::Unsettled,
                        Step::Commit(position) => self.commit(position).await,
                    }
                }
            } else if let Err(error) = self.settle().await {
                return LaneEnd::Broken(error);
            }
            if self.member.as_ref().map(|member| member.tag) != generation {
                return LaneEnd::Unsettled;
            }
            if self.is_done() {
                return if self.to_read_again.is_none() { LaneEnd::Clean } else { LaneEnd::Unsettled };
            }
            tokio::select! {
                () = settlements.changed() => {}
                () = changed(&mut self.member) => {}
                () = &mut deadline => return LaneEnd::Unsettled,
            }
        }
    }
}
