//! The rules of event time can fail: windows that get along with every clock, and such as break one rule.

use super::good;
use crate::component::conformance::transform;
use crate::component::{BuildContext, EventTime, KeepsState, Output, Row, Stateful, Times, Transform, TransformConfig};
use crate::event::{Body, Codec, Event, OriginId, Position, Timestamp, Verdict};
use crate::state::{KeyedState, StateLimits, StatePart};
use std::time::Duration;

/// Length of a window, and how late its events may be.
const MINUTE: i64 = 60_000;
const YEARS: i64 = 50 * 365 * 86_400_000;

/// Breaks a rule, or none.
#[derive(Debug, Clone, Copy, PartialEq, serde::Deserialize)]
enum Fault {
    Not,
    PanicsWhenLate,
    JudgesByBatch,
    DatesResultsBack,
    OverflowsAhead,
    PanicsAhead,
    RepeatsAfterAJump,
    LeavesWhatIsDue,
    RemembersAJumpApart,
    RemembersTheEndApart,
    MakesWhenIdle,
    ChangesWhenIdle,
    NeverDone,
    FollowsTheFuture,
    RepeatsWhenSilent,
}

#[typetag::deserialize(name = "conformance_clocks")]
impl TransformConfig for Fault {
    fn keeps_state(&self) -> KeepsState {
        KeepsState::ByLane
    }
    fn event_time(&self) -> EventTime {
        EventTime::OfEvent
    }
    fn lateness(&self) -> Duration {
        Duration::from_millis(MINUTE.unsigned_abs())
    }
    fn build(&self, _: &BuildContext) -> crate::Result<Transform> {
        Ok(Transform::stateful(Counts {
            fault: *self,
            counts: KeyedState::new(StateLimits::in_memory(1000)),
            calls: KeyedState::new(StateLimits::in_memory(1)),
            told: Timestamp::MIN,
            has_jumped: false,
            has_ended: false,
        }))
    }
}

/// Counts the events of each minute.
struct Counts {
    fault: Fault,
    counts: KeyedState<Vec<u8>, u64>,
    calls: KeyedState<(), u64>,
    /// What is not remembered: the time it was told last, and what it has seen.
    told: Timestamp,
    has_jumped: bool,
    has_ended: bool,
}

impl Counts {
    fn result(&self, key: Vec<u8>, count: u64) -> Event {
        let start = i64::from_be_bytes(key.try_into().unwrap());
        let body = Body::Raw(count.to_string().into(), Codec::Json);
        let back = if self.fault == Fault::DatesResultsBack { 60 * MINUTE } else { 0 };
        let time = start.saturating_add(MINUTE - 1 - back);
        Event::new(body, Position(start.cast_unsigned()), Timestamp(time))
    }

    /// Where a time stands among what is due; with the overflow of somebody who counts nanoseconds.
    fn due(&self, time: Timestamp) -> Timestamp {
        match time {
            Timestamp::MIN | Timestamp::MAX => time,
            Timestamp(at) if self.fault == Fault::OverflowsAhead => Timestamp(at.wrapping_mul(1_000_000)),
            _ => time,
        }
    }
}

impl Stateful for Counts {
    fn look(&mut self, event: &Event, _: &OriginId) -> Result<Row, Verdict> {
        Ok(Row { time: event.time, ..Row::default() })
    }

    fn process(&mut self, _: &mut Event, row: Row, Times { watermark, .. }: Times, _: &mut Output) -> Verdict {
        if self.fault == Fault::FollowsTheFuture && row.is_ahead {
            self.counts.at(row.time);
        }
        let start = row.time.0.div_euclid(MINUTE).saturating_mul(MINUTE);
        let end = Timestamp(start.saturating_add(MINUTE));
        let judge = if self.fault == Fault::JudgesByBatch { self.told } else { watermark };
        if end <= judge.minus(Duration::from_millis(MINUTE.unsigned_abs())) {
            assert!(self.fault != Fault::PanicsWhenLate, "an event came late");
            return Verdict::Filter;
        }
        if self.fault == Fault::RemembersAJumpApart {
            self.has_jumped |= row.time.0 > YEARS + 1_772_323_200_000;
            if self.has_jumped && row.time.0 % 2 == 0 {
                return Verdict::Filter;
            }
        }
        if self.fault == Fault::RemembersTheEndApart && self.has_ended {
            return Verdict::Pass;
        }
        let key = start.to_be_bytes().to_vec();
        match self.counts.get_mut(&key) {
            Some(count) => *count += 1,
            None => drop(self.counts.insert(key, 1, self.due(end))),
        }
        Verdict::Absorb
    }

    fn advance(&mut self, Times { watermark, is_silent, .. }: Times, output: &mut Output) -> bool {
        if is_silent && self.fault == Fault::RepeatsWhenSilent {
            output.made.push(Event::new(Body::Raw("0".into(), Codec::Json), Position(0), watermark));
        }
        let told = std::mem::replace(&mut self.told, watermark);
        let jumps = told != Timestamp::MIN && watermark != Timestamp::MAX && watermark.0.saturating_sub(told.0) > YEARS;
        match self.fault {
            Fault::PanicsAhead => assert!(watermark == Timestamp::MAX || watermark.0 < i64::MAX / 2, "too far ahead"),
            Fault::LeavesWhatIsDue if jumps => return true,
            Fault::MakesWhenIdle if told == watermark && !self.has_ended => {
                output.made.push(Event::new(Body::Raw("0".into(), Codec::Json), Position(0), watermark));
            }
            Fault::ChangesWhenIdle => drop(self.calls.insert((), 0, Timestamp::MAX)),
            _ => {}
        }
        self.has_ended |= watermark == Timestamp::MAX;
        while let Some((key, count)) =
            self.counts.pop_due(self.due(watermark.minus(Duration::from_millis(MINUTE.unsigned_abs()))))
        {
            let result = self.result(key, count);
            if self.fault == Fault::RepeatsAfterAJump && jumps {
                output.made.push(result.clone());
            }
            output.made.push(result);
        }
        self.fault != Fault::NeverDone
    }

    fn state(&mut self) -> Vec<(&'static str, &mut dyn StatePart)> {
        vec![("counts", &mut self.counts), ("calls", &mut self.calls)]
    }
}

#[test]
fn right_windows_pass() {
    transform(&Fault::Not, &good(), None);
}

macro_rules! fails {
    ($($name:ident $fault:ident $rule:literal)*) => {$(
        #[test]
        #[should_panic(expected = $rule)]
        fn $name() {
            transform(&Fault::$fault, &good(), None);
        }
    )*};
}

fails! {
    one_that_panics_on_late_events_fails PanicsWhenLate "an event that is late does not make it panic"
    one_that_judges_by_the_batch_fails JudgesByBatch "late data: what it decides is the same"
    one_with_results_of_long_ago_fails DatesResultsBack "a result is no older than the watermark less the lateness"
    one_that_overflows_fails OverflowsAhead "what is due by then comes out"
    one_that_panics_far_ahead_fails PanicsAhead "`advance` does not panic at"
    one_that_repeats_after_a_jump_fails RepeatsAfterAJump "what is due comes out once"
    one_that_leaves_what_a_jump_made_due_fails LeavesWhatIsDue "what is due by then comes out"
    one_that_remembers_a_jump_apart_fails RemembersAJumpApart "events it decides as without"
    one_that_remembers_the_end_apart_fails RemembersTheEndApart "a restart goes on with what there is"
    one_that_makes_results_when_idle_fails MakesWhenIdle "told the same time again it makes nothing"
    one_that_changes_state_when_idle_fails ChangesWhenIdle "told the same time again it changes nothing"
    one_that_follows_an_event_from_the_future_fails FollowsTheFuture "later it decides as without it"
    one_that_repeats_itself_when_all_is_silent_fails RepeatsWhenSilent "silence: told of it again it makes nothing"
    one_that_is_never_done_fails NeverDone "`advance` says at some time that it was all"
}
