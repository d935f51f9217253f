//! The `dedupe` transform.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weir::Result;
use weir::component::{
    BuildContext, EventTime, KeepsState, Output, Problems, Row, Stateful, Times, Transform, TransformConfig,
};
use weir::config::{ByteSize, Span};
use weir::event::{Body, Codec, CodecError, Encoding, Event, Meta, Ordinal, OriginId, Timestamp, Verdict};
use weir::script::{Expression, Problem, hash};
use weir::state::{KeySpans, KeyedState, StateLimits, StatePart, StateValue};

use crate::look::Look;

/// Lets one event of a key pass in a span of event time; the others count as filtered. State survives restarts.
///
/// The first event of a key opens its span, which the times of the key's own events end. With `keep: first` it passes at
/// once; with `keep: last` the event of the span that came last passes when a later event of the key or the watermark is past
/// the span's end, or the sources end. Tombstones pass at once; with
/// `keep: last` an earlier event of the same key that is still held is dropped.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Dedupe {
    /// VRL expression for the key, such as `.metadata.uid`. Events whose key is null pass.
    key: String,
    /// VRL expression for the event's time: RFC 3339 text or Unix time. Default: the timestamp from the source.
    time: Option<String>,
    /// Maximum time by which an event may be ahead of the wall clock and still advance the watermark; `0s`: no maximum. Not
    /// applied with `--once`. Default: the graph's `max_ahead`.
    max_ahead: Option<Span>,
    /// Length of a span, in event time of the key. Default: `10m`.
    #[serde(default = "default_within")]
    within: Span,
    /// Which event of a window passes: `first` or `last`. Default: `first`.
    #[serde(default)]
    keep: Keep,
    /// Maximum keys in the state of a partition; beyond it, the key that expires first is evicted. With `keep: last`,
    /// its event then passes early. Default: 1000000.
    #[serde(default = "default_max_keys")]
    #[schemars(range(min = 1))]
    max_keys: usize,
    /// Approximate memory for the state of a partition; the rest is on disk. Minimum: 1MiB. Default: all state is in
    /// memory.
    cache: Option<ByteSize>,
}

/// Which event of a window passes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    /// The first event.
    #[default]
    First,
    /// The last event.
    Last,
}

fn default_within() -> Span {
    Span(Duration::from_secs(600))
}

pub(crate) fn default_max_keys() -> usize {
    1_000_000
}

weir::register_transform!("dedupe", Dedupe, "{type: dedupe, inputs: [in], key: .metadata.uid, within: 10m}");

#[typetag::deserialize(name = "dedupe")]
impl TransformConfig for Dedupe {
    fn check(&self, problems: &mut Problems) {
        Problem::report(Expression::compile(&self.key), "key", "invalid_key", problems);
        Look::check_time(self.time.as_deref(), problems);
        StateLimits::check_cache(self.cache, problems);
    }

    fn keeps_state(&self) -> KeepsState {
        KeepsState::ByKey(vec![self.key.trim().to_owned()])
    }

    fn event_time(&self) -> EventTime {
        match (self.keep, &self.time) {
            (Keep::First, _) => EventTime::Unused,
            (Keep::Last, None) => EventTime::OfEvent,
            (Keep::Last, Some(time)) => EventTime::By(time.clone()),
        }
    }

    fn takes_time_of_source(&self) -> bool {
        self.time.is_none()
    }

    fn lateness(&self) -> Duration {
        // The event that a span ends with may be as old as its beginning.
        if self.keep == Keep::Last { self.within.0 } else { Duration::ZERO }
    }

    fn max_ahead(&self) -> Option<Duration> {
        self.max_ahead.map(|span| span.0)
    }

    fn keeps_events(&self) -> bool {
        true
    }

    fn state_identity(&self) -> String {
        let keep = if self.keep == Keep::Last { "last" } else { "first" };
        let time = self.time.as_ref().map(|time| format!(", time {time}")).unwrap_or_default();
        format!("key {}, keep {keep}{time}", self.key)
    }

    fn explain(&self) -> String {
        format!("remembers up to {} keys, also over a restart", self.max_keys)
    }

    fn build(&self, _: &BuildContext) -> Result<Transform> {
        let look = Look::build(Some(&self.key), self.time.as_deref())?;
        let within = i64::try_from(self.within.0.as_millis()).unwrap_or(i64::MAX);
        let limits = StateLimits { max_keys: self.max_keys, cache: self.cache };
        Ok(match self.keep {
            Keep::First => Transform::stateful(First { look, within, seen: KeySpans::new(limits, within) }),
            Keep::Last => Transform::stateful(Last { look, within, held: KeyedState::new(limits) }),
        })
    }
}

/// Lets the first event of a span pass.
struct First {
    look: Look,
    within: i64,
    seen: KeySpans<()>,
}

impl Stateful for First {
    fn look(&mut self, event: &Event, origin: &OriginId) -> std::result::Result<Row, Verdict> {
        self.look.row(event, origin)
    }

    fn process(&mut self, event: &mut Event, row: Row, _: Times, _: &mut Output) -> Verdict {
        if row.key.is_empty() || event.is_tombstone() {
            return Verdict::Pass;
        }
        let (time, seen) = self.seen.meet(&row);
        if seen.is_some() {
            return Verdict::Filter;
        }
        self.seen.insert(row.key, (), time, Timestamp(time.0.saturating_add(self.within)));
        Verdict::Pass
    }

    fn state(&mut self) -> Vec<(&'static str, &mut dyn StatePart)> {
        vec![("seen", self.seen.part())]
    }
}

/// Lets the last event of a span pass.
struct Last {
    look: Look,
    within: i64,
    held: KeyedState<Vec<u8>, Held>,
}

/// An event that is held back.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Held {
    /// Its body as JSON.
    body: String,
    /// These are the bytes that came. Earlier versions did not store it.
    #[serde(default)]
    is_as_it_came: bool,
    time: i64,
    key: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
    /// The end of its span, by the times of its key. `None`: an earlier version wrote it, and its timer alone says.
    #[serde(default)]
    until: Option<i64>,
}

impl StateValue for Held {
    fn heap_size(&self) -> usize {
        let headers = self.headers.iter().map(|(name, value)| 48 + name.len() + value.as_ref().map_or(0, Vec::len));
        self.body.len() + self.key.as_ref().map_or(0, Vec::len) + headers.sum::<usize>()
    }
}

/// Events put out at once.
const AT_ONCE: usize = 1024;

impl Held {
    fn of(event: &Event, until: Timestamp) -> std::result::Result<Held, Verdict> {
        let mut body = Vec::new();
        Encoding::Json.encode(&event.body, "", &mut body)?;
        let not_text = |error: std::string::FromUtf8Error| CodecError::new("invalid_json", error.to_string());
        let body = String::from_utf8(body).map_err(not_text)?;
        let headers = event.headers().iter().map(|(name, value)| (name.clone(), value.as_ref().map(|v| v.to_vec())));
        let is_as_it_came = matches!(event.body, Body::Raw(_, Codec::Json));
        let key = event.key().map(|key| key.to_vec());
        let (time, headers) = (event.time.0, headers.collect());
        Ok(Held { body, is_as_it_came, time, key, headers, until: Some(until.0) })
    }

    /// The event, with an id of its key and the end of its span.
    fn into_event(self, key: &[u8]) -> Event {
        let Held { body, is_as_it_came, time, key: record_key, headers, .. } = self;
        let codec = if is_as_it_came { Codec::Json } else { Codec::Edited };
        let position = weir::event::Position(time.max(0).cast_unsigned());
        let mut event = Event::new(Body::Raw(body.into(), codec), position, Timestamp(time));
        event.ordinal = Ordinal(u128::from(hash([key])) << 64 | u128::from(hash([&b"low"[..], key])));
        if record_key.is_some() || !headers.is_empty() {
            let headers = headers.into_iter().map(|(name, value)| (name, value.map(Into::into))).collect();
            event.meta = Some(Box::new(Meta { key: record_key.map(Into::into), headers, ..Meta::default() }));
        }
        event
    }
}

impl Stateful for Last {
    fn look(&mut self, event: &Event, origin: &OriginId) -> std::result::Result<Row, Verdict> {
        self.look.row(event, origin)
    }

    fn process(&mut self, event: &mut Event, row: Row, Times { watermark, .. }: Times, output: &mut Output) -> Verdict {
        // A span that is over takes nothing more in, wherever batches end.
        while let Some((key, held)) = self.held.pop_due(watermark) {
            output.made.push(held.into_event(&key));
        }
        if row.key.is_empty() {
            return Verdict::Pass;
        }
        if event.is_tombstone() {
            // An earlier record that came out behind it would undo the deletion.
            self.held.remove(&row.key);
            return Verdict::Pass;
        }
        let begin = if row.is_ahead { watermark } else { row.time };
        let end = Timestamp(begin.0.saturating_add(self.within));
        let mut held = match Held::of(event, end) {
            Ok(held) => held,
            Err(rejected) => return rejected,
        };
        let is_behind = |until: Option<i64>| !row.is_ahead && until.is_some_and(|until| until <= row.time.0);
        match self.held.get_mut(&row.key) {
            // By the times of its key the span is over, though event time has not come there.
            Some(before) if is_behind(before.until) => {
                output.made.push(before.clone().into_event(&row.key));
                self.held.remove(&row.key);
            }
            Some(before) => {
                // One that is late itself does not make the span older.
                held.time = held.time.max(before.time);
                held.until = before.until;
                *before = held;
                return Verdict::Absorb;
            }
            None => {}
        }
        // Where event time is behind the end already, others of its key may come all the same.
        let end = if end > watermark { end } else { Timestamp(watermark.0.saturating_add(self.within)) };
        if let Some((key, held)) = self.held.insert(row.key, held, end) {
            output.made.push(held.into_event(&key));
        }
        Verdict::Absorb
    }

    fn advance(&mut self, Times { watermark, .. }: Times, output: &mut Output) -> bool {
        for _ in 0..AT_ONCE {
            let Some((key, held)) = self.held.pop_due(watermark) else { return true };
            output.made.push(held.into_event(&key));
        }
        false
    }

    fn state(&mut self) -> Vec<(&'static str, &mut dyn StatePart)> {
        vec![("held", &mut self.held)]
    }
}
