//! Transforms with state, as plain as can be, that panic on some events.

use bytes::Bytes;
use vrl::value::Value;

use super::{KEYS, PAIR, PANICS_WITH_STATE, PAUSE, WINDOW};
use crate::component::{Output, Row, Stateful, Times};
use crate::event::{Body, Codec, Event, OriginId, Position, Timestamp, Verdict};
use crate::state::{KeyedState, StatePart};

/// Panics on some events, the first time it sees them as it should.
fn panic_with_state(position: u64) {
    if position % PANICS_WITH_STATE == PANICS_WITH_STATE - 1 {
        std::panic::resume_unwind(Box::new("as told, with state"));
    }
}

/// Drops what was seen before, by position pair.
pub(super) struct Dedupe(pub KeyedState<Vec<u8>, ()>);

impl Stateful for Dedupe {
    fn look(&mut self, event: &Event, _: &OriginId) -> Result<Row, Verdict> {
        Ok(Row { time: event.time, ..Row::default() })
    }
    fn process(&mut self, event: &mut Event, row: Row, _: Times, _: &mut Output) -> Verdict {
        let time = if row.is_ahead { self.0.now() } else { row.time };
        self.0.at(time);
        let key = (event.position.0 / PAIR).to_be_bytes().to_vec();
        let is_new = self.0.insert_new(key, (), Timestamp(time.0 + 20));
        panic_with_state(event.position.0);
        if is_new { Verdict::Pass } else { Verdict::Filter }
    }
    fn state(&mut self) -> Vec<(&'static str, &mut dyn StatePart)> {
        vec![("seen", &mut self.0)]
    }
}

/// Counts events by window and key; puts results out one at a time.
pub(super) struct Windows(pub KeyedState<Vec<u8>, u64>);

impl Stateful for Windows {
    fn look(&mut self, event: &Event, _: &OriginId) -> Result<Row, Verdict> {
        Ok(Row { key: (event.position.0 % KEYS).to_be_bytes().to_vec(), time: event.time, ..Row::default() })
    }
    fn process(&mut self, event: &mut Event, row: Row, Times { watermark, .. }: Times, _: &mut Output) -> Verdict {
        let start = row.time.0.div_euclid(WINDOW) * WINDOW;
        assert!(start + WINDOW > watermark.0, "an event is late, and none should be");
        let key = [&start.to_be_bytes()[..], &row.key].concat();
        match self.0.get_mut(&key) {
            Some(count) => *count += 1,
            None => drop(self.0.insert(key, 1, Timestamp(start + WINDOW))),
        }
        panic_with_state(event.position.0);
        Verdict::Absorb
    }
    fn advance(&mut self, Times { watermark, .. }: Times, output: &mut Output) -> bool {
        let Some((key, count)) = self.0.pop_due(watermark) else { return true };
        let (start, key) = key.split_first_chunk().expect("eight bytes and eight");
        let body = Body::Raw(Bytes::from(format!("{count}")), Codec::Json);
        let key = u64::from_be_bytes(key.try_into().expect("eight bytes"));
        output.made.push(Event::new(body, Position(key), Timestamp(i64::from_be_bytes(*start))));
        false
    }
    fn state(&mut self) -> Vec<(&'static str, &mut dyn StatePart)> {
        vec![("counts", &mut self.0)]
    }
}

/// Holds events by key until none came for a while, by the clock; puts out one list at a time.
pub(super) struct Pauses(pub KeyedState<Vec<u8>, Vec<(u64, u64)>>);

impl Stateful for Pauses {
    fn look(&mut self, event: &Event, origin: &OriginId) -> Result<Row, Verdict> {
        let key = (event.position.0 % KEYS).to_be_bytes().to_vec();
        let values = vec![Value::Integer(origin.partition.into())];
        Ok(Row { key, time: event.time, values, ..Row::default() })
    }
    fn process(&mut self, event: &mut Event, row: Row, times: Times, _: &mut Output) -> Verdict {
        assert!(times.now > Timestamp::MIN, "it is told what time it is");
        let lane = row.values[0].as_integer().unwrap().cast_unsigned();
        let mut held = self.0.get_mut(&row.key).map(std::mem::take).unwrap_or_default();
        held.push((lane, event.position.0));
        self.0.insert(row.key, held, Timestamp(times.now.0 + PAUSE));
        panic_with_state(event.position.0);
        Verdict::Absorb
    }
    fn advance(&mut self, times: Times, output: &mut Output) -> bool {
        let Some((_, held)) = self.0.pop_due(times.now) else { return true };
        let body = Body::Raw(serde_json::to_vec(&held).unwrap().into(), Codec::Json);
        output.made.push(Event::new(body, Position(0), times.now));
        false
    }
    fn state(&mut self) -> Vec<(&'static str, &mut dyn StatePart)> {
        vec![("held", &mut self.0)]
    }
}
