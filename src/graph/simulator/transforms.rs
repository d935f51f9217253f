//! Transforms with state, as plain as can be, that panic on some events.

use bytes::Bytes;

use super::{KEYS, PAIR, PANICS_WITH_STATE, WINDOW};
use crate::component::{Output, Row, Stateful};
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
    fn process(&mut self, event: &mut Event, row: Row, _: Timestamp, _: &mut Output) -> Verdict {
        self.0.at(row.time);
        let key = (event.position.0 / PAIR).to_be_bytes().to_vec();
        let is_new = self.0.insert_new(key, (), Timestamp(row.time.0 + 20));
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
        Ok(Row { key: (event.position.0 % KEYS).to_be_bytes().to_vec(), time: event.time, values: Vec::new() })
    }
    fn process(&mut self, event: &mut Event, row: Row, watermark: Timestamp, _: &mut Output) -> Verdict {
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
    fn advance(&mut self, watermark: Timestamp, output: &mut Output) -> bool {
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
