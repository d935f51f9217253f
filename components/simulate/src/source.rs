//! The `generate` source.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::Deserialize;
use weir::component::{BuildContext, Lanes, Origin, Problems, Read, ReadLimit, Source, SourceConfig, async_trait};
use weir::event::{Body, Codec, Event, OriginId, OriginKind, Position, Timestamp};
use weir::state::Clock;
use weir::{Error, ErrorKind, Result};

use crate::content::{Content, Writer};

/// Generates container logs and Kubernetes events; the same seed produces the same events.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Generate {
    /// Seed of the generated content. Default: 42.
    #[serde(default = "default_seed")]
    seed: u64,
    /// Events per second. Default: no limit.
    #[serde(default)]
    #[schemars(range(min = 1, max = 10_000_000))]
    rate: Option<NonZeroU32>,
    /// Number of events to generate; the source then ends. Default: no limit.
    #[serde(default)]
    count: Option<u64>,
    /// Content to generate: `logs_and_events`, `events` or `logs`. Default: `logs_and_events`.
    #[serde(default)]
    kind: Content,
    /// Time of the first event, RFC 3339; each further event is 10 ms later. Default: `2026-01-01T00:00:00Z`.
    #[serde(default)]
    start_time: Option<String>,
}

fn default_seed() -> u64 {
    42
}

/// 2026-01-01T00:00:00Z.
const START_MILLIS: i64 = 1_767_225_600_000;
/// Event time from one event to the next.
const STEP_MILLIS: i64 = 10;
/// The shortest wait; high rates make several events a tick.
const TICK: Duration = Duration::from_millis(1);

weir::register_source!("generate", Generate, "{type: generate, seed: 7, rate: 100, count: 1000}");

impl Generate {
    fn start(&self) -> Result<i64> {
        let Some(text) = &self.start_time else { return Ok(START_MILLIS) };
        let time = chrono::DateTime::parse_from_rfc3339(text);
        time.map(|time| time.timestamp_millis())
            .map_err(|error| Error::new(ErrorKind::Config, "read start_time", "not an RFC 3339 time").caused_by(error))
    }
}

#[typetag::deserialize(name = "generate")]
#[async_trait]
impl SourceConfig for Generate {
    fn check(&self, problems: &mut Problems) {
        if self.start().is_err() {
            let message = "is not a time";
            problems.error(
                "start_time",
                "bad_value",
                message,
                "write an RFC 3339 time, such as \"2026-01-01T00:00:00Z\"",
            );
        }
    }

    fn has_one_lane(&self) -> bool {
        true
    }

    fn is_deterministic(&self) -> bool {
        self.count.is_some()
    }

    fn explain(&self) -> String {
        match self.count {
            Some(count) => format!("one lane; {count} events, the same in every run"),
            None => "one lane; events without end".to_owned(),
        }
    }

    async fn build(&self, context: &BuildContext) -> Result<Box<dyn Source>> {
        let origin = Generated {
            id: Arc::new(OriginId {
                node: context.node.to_string(),
                log: context.node.to_string(),
                partition: 0,
                kind: OriginKind::Other,
            }),
            writer: Writer::new(self.seed, self.kind),
            start: self.start()?,
            next: 0,
            count: self.count.unwrap_or(u64::MAX),
            pace: self.rate.map(|rate| Pace::new(rate, context.clock.clone())),
        };
        Ok(Box::new(One(origin)))
    }
}

/// A source with one origin.
struct One(Generated);

#[async_trait]
impl Source for One {
    async fn run(self: Box<Self>, lanes: Lanes) -> Result<()> {
        lanes.run_one(Box::new(self.0)).await
    }
}

struct Generated {
    id: Arc<OriginId>,
    writer: Writer,
    start: i64,
    next: u64,
    count: u64,
    pace: Option<Pace>,
}

/// Lets so many events a second go, the first at once.
struct Pace {
    /// Events a second.
    rate: u128,
    clock: Arc<dyn Clock>,
    /// When which event went first.
    began: Option<(Duration, u64)>,
}

const NANOS: u128 = 1_000_000_000;

impl Pace {
    fn new(rate: NonZeroU32, clock: Arc<dyn Clock>) -> Pace {
        Pace { rate: rate.get().into(), clock, began: None }
    }

    /// Waits until event number `next` may go; says how many may go by now. Nothing is lost when it is dropped.
    async fn wait(&mut self, next: u64) -> u64 {
        let (began, first) = *self.began.get_or_insert((self.clock.uptime(), next));
        loop {
            let elapsed = self.clock.uptime().saturating_sub(began).as_nanos();
            let due = u128::from(first) + 1 + elapsed * self.rate / NANOS;
            // After a seek back `next` is below `first`: what was paced already goes at once.
            match due.checked_sub(next.into()) {
                Some(ready @ 1..) => return u64::try_from(ready).unwrap_or(u64::MAX),
                _ => {
                    let moment = (u128::from(next - first) * NANOS).div_ceil(self.rate);
                    let wait = u64::try_from(moment.saturating_sub(elapsed)).unwrap_or(u64::MAX);
                    self.clock.sleep(Duration::from_nanos(wait).max(TICK)).await;
                }
            }
        }
    }
}

#[async_trait]
impl Origin for Generated {
    fn id(&self) -> Arc<OriginId> {
        self.id.clone()
    }

    async fn read(&mut self, limit: ReadLimit) -> Result<Read> {
        if self.next >= self.count {
            return Ok(Read::End);
        }
        let due = match &mut self.pace {
            Some(pace) => pace.wait(self.next).await,
            None => u64::MAX,
        };
        let most = due.min(limit.events as u64).min(self.count - self.next);
        let mut bytes = Vec::with_capacity(limit.bytes.min(most as usize * 700));
        let mut ends = Vec::with_capacity(most as usize);
        let first = self.next;
        while (ends.len() as u64) < most && (ends.is_empty() || bytes.len() < limit.bytes) {
            let number = first + ends.len() as u64;
            let before = bytes.len();
            self.writer.write(number, self.time(number), &mut bytes);
            if bytes.len() > limit.bytes && before > 0 {
                bytes.truncate(before);
                break;
            }
            ends.push(bytes.len());
        }
        self.next += ends.len() as u64;
        let all = Bytes::from(bytes);
        let mut from = 0;
        let event = |(at, end): (usize, usize)| {
            let body = Body::Raw(all.slice(std::mem::replace(&mut from, end)..end), Codec::Json);
            let number = first + at as u64;
            Event::new(body, Position(number), Timestamp(self.time(number)))
        };
        Ok(Read::Events(ends.into_iter().enumerate().map(event).collect()))
    }

    async fn commit(&mut self, _: Position) -> Result<()> {
        Ok(())
    }

    async fn seek(&mut self, position: Position) -> Result<()> {
        self.next = position.0;
        Ok(())
    }

    fn lag(&self) -> Option<u64> {
        (self.count < u64::MAX).then(|| self.count.saturating_sub(self.next))
    }
}

impl Generated {
    fn time(&self, number: u64) -> i64 {
        self.start.saturating_add(i64::try_from(number).unwrap_or(i64::MAX).saturating_mul(STEP_MILLIS))
    }
}

#[cfg(test)]
mod tests;
