//! What is remembered of keys for a span of event time.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::keyed::{KeyedState, StateLimits, StateValue};
use super::part::StatePart;
use crate::component::Row;
use crate::event::Timestamp;

/// A value per key that holds for a span of the key's own event time.
///
/// Keys of one lane may be hours apart: each is measured against its own events alone. So the events of a key decide alike
/// whatever other keys come in between. How long an entry that no event of its key ends stays in memory is another matter:
/// see [`KeyedState`].
#[derive(Debug)]
pub struct KeySpans<V> {
    entries: KeyedState<Vec<u8>, Spanned<V>>,
    /// The longest span, in milliseconds.
    longest: i64,
}

/// A value, and the event time until which it holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Spanned<V> {
    /// `None`: as long as the entry is kept; an earlier version wrote it.
    until: Option<i64>,
    value: V,
}

impl<V: Serialize + DeserializeOwned + Clone + Send> StateValue for Spanned<V> {
    const VERSION: u8 = 2;

    fn migrate(version: u8, bytes: &[u8]) -> Option<Self> {
        let value = rmp_serde::from_slice(bytes).ok().filter(|_| version == 1)?;
        Some(Spanned { until: None, value })
    }
}

impl<V: Serialize + DeserializeOwned + Copy + Send + 'static> KeySpans<V> {
    /// Spans of at most `longest` milliseconds.
    pub fn new(limits: StateLimits, longest: i64) -> Self {
        KeySpans { entries: KeyedState::new(limits), longest }
    }

    /// Notes that an event has come. Returns the time at which it counts, and the value that holds for its key then.
    ///
    /// An event ahead of the wall clock counts at the latest time of the lane, or as late as is known of its key.
    pub fn meet(&mut self, row: &Row) -> (Timestamp, Option<V>) {
        if !row.is_ahead {
            self.entries.at(row.time);
        }
        let latest = self.entries.now();
        // What holds for longer was noted while event time was ahead of the wall clock.
        let longest = latest.0.saturating_add(self.longest);
        let noted = self.entries.get_with_expiry(&row.key);
        let noted = noted.map(|(spanned, expires)| (spanned.until.unwrap_or(expires.0), spanned.value));
        let noted = noted.filter(|(until, _)| *until <= longest);
        let time = match noted {
            _ if !row.is_ahead => row.time.0,
            Some((until, _)) => latest.0.min(until),
            None => latest.0,
        };
        let holds = noted.filter(|(until, _)| time < *until).map(|(_, value)| value);
        (Timestamp(time), holds)
    }

    /// Puts a value under a key from `time` until `until`, both of the key's own event time.
    pub fn insert(&mut self, key: Vec<u8>, value: V, time: Timestamp, until: Timestamp) {
        // The event time of the lane has to go on by as much before it may make room.
        let expires = self.entries.now().0.saturating_add(until.0.saturating_sub(time.0));
        self.entries.insert(key, Spanned { until: Some(until.0), value }, Timestamp(expires));
    }

    /// Removes the value under a key, if there is one.
    pub fn remove(&mut self, key: &Vec<u8>) {
        self.entries.remove(key);
    }

    /// What the graph takes back, writes and restores.
    pub fn part(&mut self) -> &mut dyn StatePart {
        &mut self.entries
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const HOUR: i64 = 3_600_000;
    const SPAN: i64 = 1000;

    fn row(key: &str, time: i64) -> Row {
        Row { key: key.as_bytes().to_vec(), time: Timestamp(time), ..Row::default() }
    }

    /// Whether the event opens a span.
    fn opens(spans: &mut KeySpans<()>, row: &Row) -> bool {
        let (time, holds) = spans.meet(row);
        if holds.is_none() {
            spans.insert(row.key.clone(), (), time, Timestamp(time.0 + SPAN));
        }
        holds.is_none()
    }

    #[test]
    fn a_key_is_measured_against_its_own_events_however_far_it_lags_behind() {
        let mut spans = KeySpans::new(StateLimits::in_memory(100), SPAN);
        let mut alone = [(), ()].map(|()| KeySpans::new(StateLimits::in_memory(100), SPAN));
        for at in 0..500 {
            // The second key stands still for a while, falls behind further, and catches up.
            let behind = [0, HOUR, HOUR + 10 * at, HOUR / 2][usize::try_from(at / 125).unwrap()];
            for (key, time) in [("now", at * 90), ("behind", at * 90 - behind)] {
                let row = row(key, 2 * HOUR + time);
                let expected = opens(&mut alone[usize::from(key == "now")], &row);
                assert_eq!(opens(&mut spans, &row), expected, "{key} at {time}");
            }
        }
    }

    #[test]
    fn an_event_ahead_of_the_clock_holds_back_no_key_that_lags_behind() {
        let mut spans = KeySpans::new(StateLimits::in_memory(100), SPAN);
        assert!(opens(&mut spans, &row("now", 2 * HOUR)));
        assert!(opens(&mut spans, &row("behind", HOUR)));
        let ahead = |key| Row { is_ahead: true, ..row(key, 100 * HOUR) };
        assert!(!opens(&mut spans, &ahead("now")), "it counts at the latest time");
        assert!(opens(&mut spans, &ahead("behind")), "of this key it is not known how late it is");
        assert!(opens(&mut spans, &row("behind", HOUR + 2 * SPAN)));
        assert!(opens(&mut spans, &row("now", 2 * HOUR + SPAN)));
    }

    #[test]
    fn a_value_of_an_earlier_version_holds_as_long_as_it_was_kept() {
        let mut earlier: KeyedState<Vec<u8>, i64> = KeyedState::new(StateLimits::in_memory(100));
        earlier.insert(b"k".to_vec(), 7, Timestamp(2000));
        let mut spans: KeySpans<i64> = KeySpans::new(StateLimits::in_memory(100), SPAN);
        earlier.snapshot(&mut |key, bytes| spans.part().restore(key, &bytes.unwrap()).unwrap());
        assert_eq!(spans.meet(&row("k", 1999)), (Timestamp(1999), Some(7)));
        assert_eq!(spans.meet(&row("k", 2000)), (Timestamp(2000), None));
    }
}
