//! The `generate` source.

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

/// Makes up container logs and Kubernetes events, the same ones for the same seed.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Generate {
    /// What the content follows from. Default: 42.
    #[serde(default = "default_seed")]
    seed: u64,
    /// Events a second. Default: as many as are taken.
    #[serde(default)]
    #[schemars(range(min = 1, max = 10_000_000))]
    rate: Option<u32>,
    /// Events in all. Default: no end.
    #[serde(default)]
    count: Option<u64>,
    /// What is made. Default: `logs_and_events`.
    #[serde(default)]
    content: Content,
    /// Time of the first event, RFC 3339. Default: `2026-01-01T00:00:00Z`.
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
            writer: Writer::new(self.seed, self.content),
            start: self.start()?,
            next: 0,
            count: self.count.unwrap_or(u64::MAX),
            pace: self.rate.map(|rate| Pace { rate: u64::from(rate), clock: context.clock.clone(), began: None }),
        };
        Ok(Box::new(One(origin)))
    }
}

/// A source with one origin.
struct One(Generated);

#[async_trait]
impl Source for One {
    async fn run(self: Box<Self>, lanes: Lanes) -> Result<()> {
        lanes.open(Box::new(self.0)).await?.ended().await.map(drop)
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
    rate: u64,
    clock: Arc<dyn Clock>,
    /// When which event went.
    began: Option<(Duration, u64)>,
}

impl Pace {
    /// Waits until event number `next` may go; says how many may go by now.
    async fn wait(&mut self, next: u64) -> u64 {
        // A seek goes back: what was paced already goes at once.
        let (began, first) = *self.began.get_or_insert((self.clock.uptime(), next));
        loop {
            let elapsed = self.clock.uptime().saturating_sub(began);
            let due = first
                + 1
                + u64::try_from(elapsed.as_nanos() * u128::from(self.rate) / 1_000_000_000).unwrap_or(u64::MAX - 1);
            if due > next {
                return due - next;
            }
            let wait = Duration::from_nanos((next - first) * 1_000_000_000 / self.rate).saturating_sub(elapsed);
            self.clock.sleep(wait.max(Duration::from_millis(1))).await;
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
